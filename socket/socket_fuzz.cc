// What a client does to the server's Echo, and what a server answers a client.
#include "socket/socket.h"
#include "testing/fuzz.h"

// The client itself, with a server that has answered before it was asked.
static os::UniqueFd server_end;
namespace ipc {
static os::UniqueFd Answered(const Address& /*server*/, os::Timeout /*wait*/) {
  return std::move(server_end);
}
}  // namespace ipc
#define Connect Answered
#define main ClientMain
#include "socket/client.cc"
#undef Connect
#undef main

namespace {

using ipc_testing::FuzzInput;
using ipc_testing::Require;

struct Pair {
  Pair() {
    int fds[2];
    Require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                         fds) == 0,
            "socketpair");
    ours = os::UniqueFd(fds[0]);
    peer = os::UniqueFd(fds[1]);
  }
  os::UniqueFd ours;
  os::UniqueFd peer;
};

// Each byte is what the client does next: its high bits say how much of it.
void Serve(FuzzInput input) {
  Pair pair;
  // Little, so that the server has to wait.
  const int small = 1;
  ::setsockopt(pair.ours.get(), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  ipc::Echo echo{std::move(pair.ours), {}, {}};
  std::string owed;
  char next = 0;
  bool open = true;   // The client may still send,
  bool there = true;  // and receive.
  auto receive = [&](std::size_t most) {
    std::string got(most, '\0');
    const auto n = ::recv(pair.peer.get(), got.data(), got.size(), 0);
    got.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    Require(owed.starts_with(got), "what comes back is what was sent");
    owed.erase(0, got.size());
  };
  while (!input.empty()) {
    const std::uint8_t byte = input.Byte();
    const std::size_t amount = (byte >> 3U) * 1024U + 1U;
    switch (byte & 7U) {
      case 0:
      case 1:
      case 2: {
        std::string text(amount, '\0');
        for (char& c : text) c = next++;
        if (!open) break;
        const auto n = ::send(pair.peer.get(), text.data(), text.size(), 0);
        const auto sent = static_cast<std::size_t>(std::max<ssize_t>(n, 0));
        next = static_cast<char>(next - static_cast<char>(amount - sent));
        owed.append(text, 0, sent);
        break;
      }
      case 3:
        if (there) receive(amount);
        break;
      case 4:
        ::shutdown(pair.peer.get(), SHUT_WR);
        open = false;
        break;
      case 5:
        pair.peer.Close();
        open = there = false;
        break;
      default:
        if (!echo.Step()) {
          Require(!open && (!there || echo.unsent.empty()),
                  "the server does not end before the client");
          input = FuzzInput(nullptr, 0);
        }
    }
  }
  if (!there) return;
  ::shutdown(pair.peer.get(), SHUT_WR);
  while (echo.Step()) receive(1 << 16);
  receive(1 << 16);
  Require(owed.empty(), "all comes back");
}

// What to send, and what comes back: the same, or else.
void Ask(FuzzInput input) {
  Pair pair;
  const bool ends = (input.Byte() & 1) != 0;
  std::string message = input.Argument();
  if (message == "-") return;  // Standard input.
  const std::string reply = input.Text(1 << 16);
  const auto n = ::send(pair.peer.get(), reply.data(), reply.size(), 0);
  Require(n == static_cast<ssize_t>(reply.size()), "send");
  if (ends) ::shutdown(pair.peer.get(), SHUT_WR);
  server_end = std::move(pair.ours);

  const ipc_testing::Output output;
  ipc_testing::Arguments main({"client", "--timeout", "0", "--", message});
  message += '\n';
  bool good = true;
  try {
    Run({main.argc(), main.argv(), "", {"unix", "tcp", "timeout"}});
  } catch (const os::Error&) {
    good = false;
  }
  Require(good == (ends && reply == message), "the reply is what was sent");
  Require(message.starts_with(output.Text()), "nothing else is printed");
}

}  // namespace

// Who is tested, and then what happens.
std::vector<std::string> ipc_testing::Seeds() {
  using namespace std::string_literals;
  return {
      // The client: whether the answer ends, the message, the answer.
      "c\1hello\0hello\n"s,
      "c\1hello\0hello\n more"s,
      "c\1hello\0hel"s,
      "c\0hello\0hello\n"s,
      "c\1\0\n"s,
      "c\1\0"s,
      // The server: it is sent to, steps and sees the end, or the reset.
      "s\xf8\xf8\xf8\xf8\6\6\6\xfb\6\xfb\6\xfb\4\6\xfb\6"s,
      "s\0\1\2\4\6\6\6"s,
      "s\xf8\xf8\xf8\xf8\6\6\6\5\6\6\6\6\6"s,
      "s\x80\6\3\5\6\6"s,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  FuzzInput input(data, size);
  if ((input.Byte() & 0x10) != 0) {
    Serve(input);
  } else {
    Ask(input);
  }
  return 0;
}
