// Sockets, the server: sends back what each of many clients sends (RFC 862).
//
// Terminal 1: bazel run //socket:server    server: listening on ...
// Terminal 2: bazel run //socket:client    Hello World
//
// Left out: limits on how many clients come, and on how long they are silent.
// Copy: posix.h, name.h, program.h, socket/address.h, socket/server.cc,
//       socket/client.cc
// Read: socket(7), unix(7), tcp(7), accept(2), epoll(7)
#include <sys/epoll.h>
#include <sys/resource.h>

#include <optional>
#include <unordered_map>

#include "address.h"

constexpr char kHelp[] =
    R"(Usage: server [--unix PATH | --tcp HOST:PORT]
Sends back what each client sends, until it is interrupted.

  --unix PATH      listens at a path, /tmp/ipc_socket unless given
  --tcp HOST:PORT  listens on TCP, for example at 127.0.0.1:7000
)";

namespace ipc {

// NOLINTNEXTLINE(readability-function-cognitive-complexity): its loop is one.
void Run(const Options& options) {
  auto [name, address] = PlaceOption(options, "bind", 0);
  // A socket can't be locked: who owns the file PATH.lock owns PATH, too.
  UniqueFd lock;
  std::optional<OwnedName> owned;
  if (address->ai_family == AF_UNIX) {
    lock = OpenLock(name + ".lock");
    owned.emplace(UnlinkBoth, "open", name + ".lock", lock.get());
    if (HasSocket(name, kOurs)) ::unlink(name.c_str());
  }

  const int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const UniqueFd fd(Check(::socket(address->ai_family, SOCK_STREAM | flags, 0),
                          "socket", name));
  // Before bind, so that no stranger connects in between. Linux only.
  Check(::fchmod(fd.get(), S_IRUSR | S_IWUSR | kOurs), "fchmod", name);
  // Otherwise a port would stay in use for a minute after its server's end, and
  // TCP would keep a reply back until the one before has been acknowledged.
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  Check(::bind(fd.get(), address->ai_addr, address->ai_addrlen), "bind", name);
  Check(::listen(fd.get(), SOMAXCONN), "listen", name);
  const int port = Port(fd.get(), ::getsockname);  // 0 meant any that is free.
  if (!owned) name.erase(name.rfind(':') + 1) += std::to_string(port);

  // Each client takes a descriptor, and usually only 1024 are allowed at first.
  rlimit files{};
  Check(::getrlimit(RLIMIT_NOFILE, &files), "getrlimit", name);
  files.rlim_cur = files.rlim_max;
  Check(::setrlimit(RLIMIT_NOFILE, &files), "setrlimit", name);
  const UniqueFd epoll(
      Check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1", name));
  const auto most = files.rlim_cur - static_cast<rlim_t>(epoll.get()) - 1;
  Say("listening on '" + name + "', for up to " + std::to_string(most) +
      " clients");

  // Each client's socket, and what is unsent to it.
  std::unordered_map<int, std::pair<UniqueFd, std::string>> clients;
  std::array<epoll_event, 256> events;
  for (bool full = false;;) {
    ThrowIfStopped();
    // A client for whom there is no descriptor, or no memory, goes on waiting.
    // If poll did not leave it out for half a second, this would never sleep.
    std::array fds{pollfd{full ? -1 : fd.get(), POLLIN, 0},
                   pollfd{epoll.get(), POLLIN, 0}};
    ::poll(fds.data(), fds.size(), full ? 500 : -1);
    full = false;
    if (fds[0].revents != 0) {
      UniqueFd client(::accept4(fd.get(), nullptr, nullptr, flags));
      full = !client;
      const int peer = client.get();
      epoll_event event{EPOLLIN, {.fd = peer}};
      const int added = ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, peer, &event);
      if (added == 0) clients[peer].first = std::move(client);
    }
    const int count = ::epoll_wait(epoll.get(), events.data(), 256, 0);
    for (int i = 0; i < count; ++i) {
      epoll_event& event = events[static_cast<std::size_t>(i)];
      const int peer = event.data.fd;
      std::string& unsent = clients.at(peer).second;
      const bool idle = unsent.empty();
      std::string_view bytes = unsent;
      std::array<char, 16384> buffer;
      // While anything is unsent nothing more is received: a client that sends
      // and doesn't read fills its own buffers, not ours.
      ssize_t n = 1;
      if (idle) n = ::recv(peer, buffer.data(), buffer.size(), 0);
      if (idle && n > 0) bytes = {buffer.data(), static_cast<std::size_t>(n)};
      // MSG_NOSIGNAL: a client that has gone must not kill the server.
      if (n > 0) n = ::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
      bool open = n > 0 || (n == -1 && errno == EAGAIN);
      event.events = bytes.empty() ? EPOLLIN : EPOLLOUT;
      if (open && bytes.empty() != idle) {
        open = ::epoll_ctl(epoll.get(), EPOLL_CTL_MOD, peer, &event) == 0;
      }
      std::string(bytes).swap(unsent);  // Assigned, it would keep its memory.
      if (!open) clients.erase(peer);   // And from epoll, as it is closed.
    }
  }
}  // close and unlink, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"unix", ipc::kPath}, {"tcp", ipc::kNotGiven}}, ipc::Run);
}
