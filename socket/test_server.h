// What the tests of sockets share.
#ifndef SOCKET_TEST_SERVER_H_
#define SOCKET_TEST_SERVER_H_

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "socket/socket.h"
#include "testing/child_process.h"

namespace ipc_testing {

inline constexpr os::Timeout kPatience = ChildProcess::kPatience;

// A test of both domains, "unix" and "tcp":
//   class Suite : public EitherDomain {};
//   INSTANTIATE_TEST_SUITE_P(, Suite, BothDomains(), NameOf);
using EitherDomain = testing::TestWithParam<std::string>;
inline auto BothDomains() { return testing::Values("unix", "tcp"); }
inline std::string NameOf(const testing::TestParamInfo<std::string>& tested) {
  return tested.param;
}

// How much processor time the process uses while half a second passes, and how
// much is next to nothing.
inline std::chrono::nanoseconds TimeUsed(const ChildProcess& process) {
  const auto before = process.CpuTime();
  os::Pause(os::Timeout(500));
  return process.CpuTime() - before;
}
inline constexpr os::Timeout kLittle{50};

// A path, or a port of 127.0.0.1, that nobody else uses.
class Place {
 public:
  explicit Place(const std::string& domain)
      : option("--" + domain), name(directory / "socket") {
    if (domain == "unix") return;
    // Bound, it is given to nobody who asks for any port; but with SO_REUSEADDR
    // one may still listen there.
    const auto any = ipc::Address::Tcp("127.0.0.1:0");
    reserved_ = any.Socket();
    const int on = 1;
    ::setsockopt(reserved_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    EXPECT_EQ(::bind(reserved_.get(), any.get(), any.length), 0);
    name = ipc::Address::Of(reserved_.get()).name;
  }
  ipc::Address Address() const {
    return option == "--tcp" ? ipc::Address::Tcp(name)
                             : ipc::Address::Unix(name);
  }
  // What runs a program there.
  std::vector<std::string> Command(
      const char* variable, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> command{Program(variable), option, name};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  TemporaryDirectory directory;
  std::string option;
  std::string name;

 private:
  os::UniqueFd reserved_;
};

// The program, listening.
class Server : public Place {
 public:
  explicit Server(
      const std::string& domain, const std::function<void()>& in_child = [] {})
      : Place(domain), process(Command("SERVER"), "", in_child) {
    process.AwaitErr("server: listening on '" + name + "'\n");
  }
  os::UniqueFd Connect() const { return ipc::Connect(Address(), kPatience); }

  ChildProcess process;
};

// One line "PROGRAM: CALL 'OBJECT': reason", of which that is the beginning.
inline void ExpectError(ChildProcess& process, const std::string& beginning) {
  EXPECT_EQ(process.Wait(), Exited(1));
  const std::string error = process.Err();
  EXPECT_NE(error.find(beginning), error.npos) << error;
  // Before it, it may have said that it waits.
  const auto last = error.rfind('\n', error.size() - 2) + 1;
  EXPECT_EQ(error.substr(last, beginning.size()), beginning);
  EXPECT_TRUE(last == 0 || error.substr(0, last - 1).find('\n') == error.npos);
}

// Receives what there is, "" at the end or where the peer has reset.
inline std::string Receive(int fd) {
  os::PollFor("bytes", fd, POLLIN, "test", kPatience);
  std::string bytes(1 << 16, '\0');
  const ssize_t n = ::recv(fd, bytes.data(), bytes.size(), MSG_DONTWAIT);
  bytes.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
  return bytes;
}

// Sends all, and meanwhile receives until as much has come back, or the end.
inline std::string Exchange(int fd, std::string_view unsent) {
  const std::size_t size = unsent.size();
  std::string got;
  while (got.size() < size) {
    const short sending = unsent.empty() ? 0 : POLLOUT;
    os::PollFor("room", fd, static_cast<short>(POLLIN | sending), "test",
                kPatience);
    const ssize_t n =
        ::send(fd, unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) unsent.remove_prefix(static_cast<std::size_t>(n));
    pollfd ready{fd, POLLIN, 0};
    if (!os::Poll({&ready, 1}, 0)) continue;
    const std::string some = Receive(fd);
    if (some.empty()) break;
    got += some;
  }
  return got;
}

// Whether the server at the other end answers.
inline bool Answers(const os::UniqueFd& fd) {
  return Exchange(fd.get(), "hello") == "hello";
}

// Waits until one has connected to it.
inline os::UniqueFd Accept(const ipc::Listener& listener) {
  os::UniqueFd client;
  while (!client) {
    os::PollFor("a client", listener.fd(), POLLIN, "test", kPatience);
    EXPECT_TRUE(listener.Accept(client));
  }
  return client;
}

}  // namespace ipc_testing

#endif  // SOCKET_TEST_SERVER_H_
