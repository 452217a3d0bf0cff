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

// NOLINTNEXTLINE(readability-function-cognitive-complexity): one loop.
void Run(const Options& options) {
  auto [name, address] = PlaceOption(options, "bind", /*least_port=*/0);
  // A socket can't be locked: who owns the file PATH.lock owns PATH, too.
  UniqueFd lock;
  std::optional<OwnedName> owned;
  if (address->ai_family == AF_UNIX) {
    lock = OpenLock(name + ".lock");
    owned.emplace(UnlinkBoth, "open", name + ".lock", lock.get());
    // As the lock was free, this is what a server that was killed has left.
    if (HasSocket(name, kOurs)) ::unlink(name.c_str());
  }

  const int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const UniqueFd fd(Check(::socket(address->ai_family, SOCK_STREAM | flags, 0),
                          "socket", name));
  // The mode is set before bind, when nobody can connect yet. Linux only. kOurs
  // is the bit in it that marks what these programs have made.
  Check(::fchmod(fd.get(), S_IRUSR | S_IWUSR | kOurs), "fchmod", name);
  // Without SO_REUSEADDR a port would stay in use for a minute after the end of
  // its server. Without TCP_NODELAY TCP would keep a reply back until the one
  // before has been acknowledged. A path needs neither.
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  Check(::bind(fd.get(), address->ai_addr, address->ai_addrlen), "bind", name);
  Check(::listen(fd.get(), SOMAXCONN), "listen", name);
  // Port 0 has asked TCP for any that is free: its name becomes the real one.
  const int port = Port(fd.get(), ::getsockname);
  if (!owned) name.erase(name.rfind(':') + 1) += std::to_string(port);

  // Each client takes a descriptor, and usually only 1024 are allowed at first.
  rlimit files{};
  Check(::getrlimit(RLIMIT_NOFILE, &files), "getrlimit", name);
  files.rlim_cur = files.rlim_max;
  Check(::setrlimit(RLIMIT_NOFILE, &files), "setrlimit", name);
  const UniqueFd epoll(
      Check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1", name));
  const auto watch = [&](int action, int socket, std::uint32_t what) {
    epoll_event event{what, {.fd = socket}};
    return ::epoll_ctl(epoll.get(), action, socket, &event);
  };
  Check(watch(EPOLL_CTL_ADD, fd.get(), EPOLLIN), "epoll_ctl", name);
  // Descriptors are given in order: those after epoll's are still free.
  const auto most = files.rlim_cur - static_cast<rlim_t>(epoll.get()) - 1;
  Say("listening on '" + name + "', for up to " + std::to_string(most) +
      " clients");

  // Each client's socket, and what is unsent to it.
  std::unordered_map<int, std::pair<UniqueFd, std::string>> clients;
  epoll_event events[256];
  for (bool full = false;;) {
    ThrowIfStopped();
    const int count = ::epoll_wait(epoll.get(), events, 256, full ? 500 : -1);
    if (std::exchange(full, false)) watch(EPOLL_CTL_MOD, fd.get(), EPOLLIN);
    for (int i = 0; i < count; ++i) {
      const int peer = events[i].data.fd;
      if (peer == fd.get()) {
        const int client = ::accept4(fd.get(), nullptr, nullptr, flags);
        clients[client].first = UniqueFd(client);
        if (watch(EPOLL_CTL_ADD, client, EPOLLIN) == -1) clients.erase(client);
        // Without a descriptor, or memory, for it (-1) a client goes on
        // waiting, and the listening socket stays ready. It is ignored for half
        // a second: otherwise epoll_wait would return at once, again and again.
        full = client == -1 && watch(EPOLL_CTL_MOD, fd.get(), 0) == 0;
        continue;
      }
      std::string& unsent = clients.at(peer).second;
      const bool idle = unsent.empty();
      std::string_view bytes = unsent;
      std::array<char, 16384> buffer;
      // While anything is unsent nothing more is received: a client that sends
      // and doesn't read fills its own buffers, not ours. `n` is the result of
      // the last call, or 1 where recv is left out. 0 is the client's end.
      auto n = idle ? ::recv(peer, buffer.data(), buffer.size(), 0) : 1;
      if (idle && n > 0) bytes = {buffer.data(), static_cast<std::size_t>(n)};
      // MSG_NOSIGNAL: a client that has gone must not kill the server.
      if (n > 0) n = ::send(peer, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
      bool open = n > 0 || (n == -1 && errno == EAGAIN);
      const std::uint32_t next = bytes.empty() ? EPOLLIN : EPOLLOUT;
      if (bytes.empty() != idle) open &= watch(EPOLL_CTL_MOD, peer, next) == 0;
      // If this were assigned, `unsent` would keep the memory of longer ones.
      std::string(bytes).swap(unsent);
      // Its socket is closed, too, which epoll then forgets.
      if (!open) clients.erase(peer);
    }
  }
}  // close and unlink, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"unix", ipc::kPath}, {"tcp", ipc::kNotGiven}}, ipc::Run);
}
