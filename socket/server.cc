// Sockets, the server: sends back what each of many clients sends (RFC 862).
//
// Terminal 1: bazel run //socket:server    server: listening on ...
// Terminal 2: bazel run //socket:client    Hello World
//
// Left out: limits on how many clients come, and on how long they are silent.
// Copy: posix.h, socket/address.h, socket/socket.h, socket/server.cc,
//       socket/client.cc
// Read: socket(7), unix(7), tcp(7), accept(2), epoll(7)
#include <sys/epoll.h>

#include <unordered_map>

#include "socket.h"

constexpr char kHelp[] =
    R"(Usage: server [--unix PATH | --tcp HOST:PORT]
Sends back what each client sends, until it is interrupted.

  --unix PATH      listens at a path, /tmp/ipc_socket unless given
  --tcp HOST:PORT  listens on TCP, for example at 127.0.0.1:7000
)";

void Run(const os::CommandLine& line) {
  line.NoOperand();
  const ipc::Listener listener(ipc::Address::FromOptions(line));
  const os::UniqueFd epoll(
      os::Check("epoll_create1", "epoll", ::epoll_create1, EPOLL_CLOEXEC));
  auto watch = [&](int operation, int fd, std::uint32_t events) {
    epoll_event event{events, {.fd = fd}};
    return os::Retry(::epoll_ctl, epoll.get(), operation, fd, &event) == 0;
  };
  auto listen = [&](int operation, std::uint32_t events) {
    if (watch(operation, listener.fd(), events)) return;
    throw os::Error(errno, "epoll_ctl", listener.name());
  };
  listen(EPOLL_CTL_ADD, EPOLLIN);
  os::Say("listening on '" + listener.name() + "'");

  std::unordered_map<int, ipc::Echo> clients;
  os::Deadline full(os::kForever);  // When to accept again.
  for (std::array<epoll_event, 64> events;;) {
    os::ThrowIfStopped();
    const int count = os::Check("epoll_wait", "epoll", ::epoll_wait,
                                epoll.get(), events.data(), 64, full.Left());
    if (full.Passed()) {
      listen(EPOLL_CTL_MOD, EPOLLIN);
      full = os::Deadline(os::kForever);
    }
    for (int i = 0; i < count; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd == listener.fd()) {
        os::UniqueFd client;
        if (!listener.Accept(client)) {
          // It stays ready: to be told so at once again would be a busy loop.
          listen(EPOLL_CTL_MOD, 0);
          full = os::Deadline(os::kLook);
        } else if (client && watch(EPOLL_CTL_ADD, client.get(), EPOLLIN)) {
          clients[client.get()].fd = std::move(client);
        }  // Else it is closed: no memory to watch it is no reason to end.
      } else {
        ipc::Echo& client = clients.at(fd);
        const bool read = client.unsent.empty();
        if (!client.Step() ||
            (client.unsent.empty() != read &&
             !watch(EPOLL_CTL_MOD, fd, read ? EPOLLOUT : EPOLLIN))) {
          clients.erase(fd);  // And from epoll: it is closed.
        }
      }
    }
  }
}  // unlink and close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"unix", "tcp"}, Run);
}
