// Sockets, the client: sends its message, and prints it when it comes back.
//
// Terminal 1: bazel run //socket:client    client: waiting for a server on ...
// Terminal 2: bazel run //socket:server    Terminal 1 then shows: Hello World
// Left out: see server.cc.
// Copy: posix.h, socket/address.h, socket/socket.h, socket/server.cc,
//       socket/client.cc
// Read: socket(7), unix(7), tcp(7), connect(2), shutdown(2)
#include "socket.h"

constexpr char kHelp[] =
    R"(Usage: client [--unix PATH | --tcp HOST:PORT] [--timeout SECONDS]
              [MESSAGE | -]
Sends MESSAGE and a newline, "Hello World" unless given, to the server, and
prints the reply. With -, sends standard input unchanged. Fails unless all of it
comes back.

  --unix PATH        the server's path, /tmp/ipc_socket unless given
  --tcp HOST:PORT    the server's host and port, for example 127.0.0.1:7000
  --timeout SECONDS  how long to wait for the server, for ever unless given
)";

constexpr std::size_t kWindow = 65536;  // Sent at most before some comes back.

void Run(const os::CommandLine& line) {
  const ipc::Address address = ipc::Address::FromOptions(line);
  const std::string& name = address.name;
  const std::string message = line.Operand("Hello World");
  const os::Timeout timeout = line.TimeoutOption();
  const os::UniqueFd server = ipc::Connect(address, timeout);

  bool more = message == "-";  // Standard input has not ended.
  std::string unsent = more ? "" : message + "\n";
  std::string owed;  // Sent, and not come back.
  for (bool open = true;;) {
    if (open && !more && unsent.empty()) {
      os::Check("shutdown", name, ::shutdown, server.get(), SHUT_WR);
      open = false;
    }
    // Whenever it may write it may read, too: else each side could wait for the
    // other to read. And it reads no input while much is owed.
    const bool idle = unsent.empty() && owed.size() < kWindow;
    const short events = unsent.empty() ? POLLIN : POLLIN | POLLOUT;
    std::array fds{pollfd{more && idle ? STDIN_FILENO : -1, POLLIN, 0},
                   pollfd{server.get(), events, 0}};
    const bool peer = !open || !owed.empty() || !unsent.empty();
    if (!os::Poll(fds, peer ? os::Deadline(timeout).Left() : -1)) {
      throw os::Error(ETIMEDOUT, "recv", name, "waited for the reply");
    }
    os::Block block;
    if (fds[0].revents != 0) {
      const auto n = os::ReadSome(STDIN_FILENO, block, "standard input");
      more = n != 0;
      unsent.assign(reinterpret_cast<const char*>(block.data()), n);
    }
    if ((fds[1].revents & POLLOUT) != 0) {
      const auto n = static_cast<std::size_t>(
          os::Check("send", name, ::send, server.get(), unsent.data(),
                    unsent.size(), MSG_NOSIGNAL));
      owed.append(unsent, 0, n);
      unsent.erase(0, n);
    }
    if ((fds[1].revents & ~POLLOUT) != 0) {
      const auto n = static_cast<std::size_t>(os::Check(
          "recv", name, ::recv, server.get(), block.data(), block.size(), 0));
      if (n == 0 && !open && owed.empty()) return;  // Its end, after ours.
      if (n == 0) throw os::Error(ECONNRESET, "recv", name);
      const std::string got(reinterpret_cast<const char*>(block.data()), n);
      if (!owed.starts_with(got)) {
        throw os::Error(EBADMSG, "recv", name, "it is not what was sent");
      }
      os::Print(os::Bytes(got));
      owed.erase(0, n);
    }
  }
}

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"unix", "tcp", "timeout"}, Run);
}
