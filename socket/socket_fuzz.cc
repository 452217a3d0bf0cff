// What a client does to the server, and what a server answers the client.
#include <sys/epoll.h>

#include <filesystem>
#include <optional>

#include "socket/address.h"
#include "testing/fuzzing/fuzz.h"

// The samples themselves. Each time the server waits, its clients act; its
// sockets have room for little. The client is connected to a socket pair.
static int ActAndWait(int epoll, epoll_event* events, int most, int timeout);
static int AcceptSmall(int fd, sockaddr* address, socklen_t* size, int flags);
static int ConnectPair(int fd, const sockaddr* address, socklen_t size);
static int NamePeer(int fd, sockaddr* address, socklen_t* size);
namespace ipc {
static void SayNothing(std::string_view /*text*/) {}
}  // namespace ipc
#define accept4 AcceptSmall
#define connect ConnectPair
#define epoll_wait ActAndWait
#define getpeername NamePeer
#define Say SayNothing
#include "socket/test_included_pair.h"
#undef accept4
#undef connect
#undef epoll_wait
#undef getpeername
#undef Say

namespace {

using ipc_testing::FuzzInput;
using ipc_testing::Require;

// --- The server --------------------------------------------------------------

// Removed at the end.
struct Directory {
  Directory() { Require(::mkdtemp(path.data()) != nullptr, "mkdtemp"); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { std::filesystem::remove_all(path); }
  std::string path = "/tmp/ipc-fuzz-XXXXXX";
};

const std::string& Path() {
  static const Directory directory;
  static const std::string path = directory.path + "/socket";
  return path;
}

// A client of the server. Each byte of the input is what it does next: the high
// bits say how much of it.
class Customer {
 public:
  explicit Customer(FuzzInput input) : input_(input) {
    const auto address = ipc::PathAddress(Path(), "connect");
    fd_ = ipc::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    Require(::connect(fd_.get(), address->ai_addr, address->ai_addrlen) == 0,
            "the server listens");
  }

  // Until it is the server's turn. False at the end.
  bool Act() {
    while (!input_.empty()) {
      const std::uint8_t byte = input_.Byte();
      const std::size_t amount = (byte >> 3U) * 1024U + 1U;
      switch (byte & 7U) {
        case 0:
        case 1:
        case 2:
          Send(amount);
          break;
        case 3:
          Receive(amount);
          break;
        case 4:
          HalfClose();
          break;
        case 5:
          fd_ = ipc::UniqueFd();
          return true;
        default:
          return fd_ && !ended_;
      }
    }
    // Now it wants all.
    HalfClose();
    Receive(1 << 20);
    Require(++turns_ < 1000, "the server ends after the client");
    return fd_ && !ended_;
  }

 private:
  void Send(std::size_t amount) {
    if (!fd_ || half_closed_) return;
    std::string text(amount, '\0');
    for (std::size_t i = 0; i < amount; ++i) {
      text[i] = static_cast<char>(next_ + i);
    }
    const auto n = ::send(fd_.get(), text.data(), amount, MSG_NOSIGNAL);
    Require(n != -1 || errno == EAGAIN, "the server goes on receiving");
    if (n == -1) return;
    next_ += static_cast<std::size_t>(n);
    owed_.append(text, 0, static_cast<std::size_t>(n));
  }
  void Receive(std::size_t most) {
    if (!fd_ || ended_) return;
    std::string got(most, '\0');
    const auto n = ::recv(fd_.get(), got.data(), got.size(), 0);
    if (n == -1 && errno == EAGAIN) return;
    Require(n != -1, "there is no error");
    got.resize(static_cast<std::size_t>(n));
    Require(owed_.starts_with(got), "what comes back is what was sent");
    owed_.erase(0, got.size());
    ended_ = n == 0;
    Require(!ended_ || half_closed_, "the server doesn't end first");
    Require(!ended_ || owed_.empty(), "all comes back");
  }
  void HalfClose() {
    if (fd_) ::shutdown(fd_.get(), SHUT_WR);
    half_closed_ = true;
  }

  FuzzInput input_;
  ipc::UniqueFd fd_;
  std::string owed_;
  std::size_t next_ = 0;
  bool half_closed_ = false;
  bool ended_ = false;
  int turns_ = 0;
};

struct Done {};
std::optional<FuzzInput> input;  // Of the first client.
std::optional<Customer> customer;

// Whatever the first client did, there may be a second one.
void Serve(FuzzInput first_input) {
  input = first_input;
  const ipc::Options options{{"unix", Path()}, {"tcp", ipc::kNotGiven}};
  try {
    ipc::RunServer(options);
  } catch (const Done&) {
  }
  customer.reset();
  Require(::access(Path().c_str(), F_OK) == -1, "it has removed its path");
}

// --- The client --------------------------------------------------------------

int server_end = -1;  // One that has answered before it was asked.

// What to send, and what comes back: the same, or else.
void Ask(FuzzInput asked) {
  int ends[2];
  Require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
                       ends) == 0,
          "socketpair");
  const ipc::UniqueFd ours(ends[0]);
  const ipc::UniqueFd peer(ends[1]);
  server_end = ours.get();
  const bool ends_too = (asked.Byte() & 1) != 0;
  const std::string message = asked.Argument();
  if (message == "-") return;  // Standard input.
  const std::string reply = asked.Text(1 << 16);
  const auto n = ::send(peer.get(), reply.data(), reply.size(), 0);
  Require(n == static_cast<ssize_t>(reply.size()), "send");
  if (ends_too) ::shutdown(peer.get(), SHUT_WR);

  const ipc_testing::Output output;
  const ipc::Options options{{"unix", ipc::kPath},
                             {"tcp", "127.0.0.1:1"},
                             {"timeout", "0"},
                             {"MESSAGE", message}};
  bool good = true;
  try {
    ipc::RunClient(options);
  } catch (const ipc::Error&) {
    good = false;
  }
  Require(good == (ends_too && reply == message + "\n"),
          "the reply is what was sent");
  Require((message + "\n").starts_with(output.Text()),
          "nothing else is printed");
}

}  // namespace

int ActAndWait(int epoll, epoll_event* events, int most, int /*timeout*/) {
  if (!customer) {
    customer.emplace(*input);
  } else if (!customer->Act()) {
    if (!input.has_value()) throw Done();
    input.reset();
    static constexpr std::uint8_t kSendsOnce[] = {0x08, 6};
    customer.emplace(FuzzInput(kSendsOnce, sizeof(kSendsOnce)));
  }
  return ::epoll_wait(epoll, events, most, 0);
}

int AcceptSmall(int fd, sockaddr* address, socklen_t* size, int flags) {
  const int client = ::accept4(fd, address, size, flags);
  const int small = 1;
  ::setsockopt(client, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
  return client;
}

int ConnectPair(int fd, const sockaddr* /*address*/, socklen_t /*size*/) {
  return ::dup2(server_end, fd) == -1 ? -1 : 0;
}

int NamePeer(int /*fd*/, sockaddr* address, socklen_t* /*size*/) {
  reinterpret_cast<sockaddr_in6*>(address)->sin6_port = htons(1);
  return 0;
}

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
      // The server: it is sent to, has its turn and sees the end, or the reset.
      "s\xf8\xf8\xf8\xf8\6\6\6\xfb\6\xfb\6\xfb\4\6\xfb\6"s,
      "s\0\1\2\4\6\6\6"s,
      "s\xf8\xf8\xf8\xf8\6\6\6\5\6\6\6\6\6"s,
      "s\x80\6\3\5\6\6"s,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  FuzzInput bytes(data, size);
  if ((bytes.Byte() & 0x10) != 0) {
    Serve(bytes);
  } else {
    Ask(bytes);
  }
  return 0;
}
