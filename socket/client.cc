// Sockets, the client: sends its message, and prints it when it comes back.
//
// Terminal 1: bazel run //socket:client    client: waiting for a server on ...
// Terminal 2: bazel run //socket:server    Terminal 1 then shows: Hello World
//
// Left out: more than 64 KiB to a server that answers only after the end.
// Copy: posix.h, name.h, program.h, socket/address.h, socket/server.cc,
//       socket/client.cc
// Read: socket(7), unix(7), tcp(7), connect(2), shutdown(2)
#include "address.h"

constexpr char kHelp[] =
    R"(Usage: client [--unix PATH | --tcp HOST:PORT] [--timeout SECONDS]
              [MESSAGE | -]
Sends MESSAGE, "Hello World" unless given, and a newline to a server, or with -
standard input unchanged. Prints the reply, and fails unless all comes back.

  --unix PATH        the server's path, /tmp/ipc_socket unless given
  --tcp HOST:PORT    the server's host and port, for example 127.0.0.1:7000
  --timeout SECONDS  how long to wait for the server, for ever unless given
)";

namespace ipc {

// Connects to the first address at which a server listens, if there is one.
UniqueFd TryConnect(const addrinfo* it, const std::string& name, Seconds end) {
  // Any program may be the server, so its socket needs no mark (0).
  if (it->ai_family == AF_UNIX && !HasSocket(name, 0)) return UniqueFd();
  int error = EAFNOSUPPORT;
  bool later = false;  // Whether a later attempt may succeed.
  for (; it != nullptr; it = it->ai_next) {
    UniqueFd fd(
        ::socket(it->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd && errno == EAFNOSUPPORT) continue;
    Check(fd.get(), "socket", name);
    // connect is not called again after EINTR: the attempt goes on, and another
    // one needs another socket. connect(2)
    error = ::connect(fd.get(), it->ai_addr, it->ai_addrlen) == 0 ? 0 : errno;
    // After these another attempt may succeed: also after the first two, as the
    // connection may turn out below to be none.
    const int waits[] = {0, EINPROGRESS, ECONNREFUSED, ENOENT, EAGAIN, EINTR};
    later = later || std::ranges::count(waits, error) != 0;
    if (error != 0 && error != EINPROGRESS) continue;
    // It is ready for output once it is connected, or was refused.
    PollFor("a server", fd.get(), POLLOUT, end - Now(), name);
    // If it was refused it has no peer, and so no port. And where nobody
    // listens TCP may choose the very port that it connects to as its own, and
    // meet itself.
    const int peer = Port(fd.get(), ::getpeername);
    if (peer != 0 && peer != Port(fd.get(), ::getsockname)) return fd;
  }
  if (!later) throw Error(error, "connect", name);
  return UniqueFd();
}

void Run(const Options& options) {
  const Seconds timeout(NumberOption(options, "timeout", /*most=*/HUGE_VAL));
  const Seconds end = Now() + timeout;
  const auto [name, addresses] = PlaceOption(options, "connect", 1);
  UniqueFd fd;
  // Pause waits a little. After 150 ms it says for whom, and when the time is
  // up it throws.
  PeerWait wait{"a server", "connect", name, end};
  while (!(fd = TryConnect(addresses.get(), name, end))) wait.Pause();

  // Standard input until its end, or -1.
  int input = options.at("MESSAGE") == "-" ? STDIN_FILENO : -1;
  // What the server has not sent back yet. It was sent the first `sent` bytes
  // of that, and not yet the others.
  std::string owed = input == -1 ? options.at("MESSAGE") + "\n" : "";
  std::size_t sent = 0;
  for (bool open = true;;) {
    // It waits for room only together with bytes to read: otherwise each side
    // could wait for the other to read. And it reads no input (-1) while much
    // is owed.
    const short events = sent == owed.size() ? POLLIN : POLLIN | POLLOUT;
    std::array fds{pollfd{owed.size() < sizeof(Block) ? input : -1, POLLIN, 0},
                   pollfd{fd.get(), events, 0}};
    if (!Poll(fds, input != -1 && owed.empty() ? kForever : timeout)) {
      throw Error(ETIMEDOUT, "poll", name, "waited for the reply");
    }
    Block block;
    if (fds[0].revents != 0) {
      const auto bytes = ReadSome(input, block, "standard input");
      owed += bytes;
      if (bytes.empty()) input = -1;
    }
    if ((fds[1].revents & POLLOUT) != 0) {
      const auto n =
          ::send(fd.get(), &owed[sent], owed.size() - sent, MSG_NOSIGNAL);
      sent += static_cast<std::size_t>(Check(n, "send", name));
    }
    // Once all is sent, shutdown shows the server the end.
    const bool done = input == -1 && sent == owed.size();
    if (done && open) Check(::shutdown(fd.get(), SHUT_WR), "shutdown", name);
    open = !done;
    // Bytes, the end, or an error, which recv reports.
    if ((fds[1].revents & ~POLLOUT) == 0) continue;
    const auto n = ::recv(fd.get(), block.data(), block.size(), 0);
    const std::string_view got(
        block.data(), static_cast<std::size_t>(Check(n, "recv", name)));
    if (n == 0 && done && owed.empty()) return;  // All came back.
    if (n == 0) throw Error(ECONNRESET, "recv", name);
    if (got.size() > sent || !owed.starts_with(got)) {
      throw Error(EBADMSG, "recv", name, "it is not what was sent");
    }
    Print(got);
    owed.erase(0, got.size());
    sent -= got.size();
  }
}  // close, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"unix", ipc::kPath},
                    {"tcp", ipc::kNotGiven},
                    {"timeout", "inf"},
                    {"MESSAGE", "Hello World"}},
                   ipc::Run);
}
