// What the tests of sockets share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "socket/address.h"
#include "testing/processes/child_process.h"
#include "testing/processes/manners.h"

namespace ipc_testing {

using Words = std::vector<std::string>;

inline constexpr ipc::Seconds kPatience = ChildProcess::kPatience;

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
  ipc::Poll({}, ipc::Seconds(0.5));
  return process.CpuTime() - before;
}
inline constexpr std::chrono::milliseconds kLittle{50};

// A path, or a port of 127.0.0.1, that nobody else uses. Listens and connects
// there as any program does that knows nothing of ours.
class Place {
 public:
  explicit Place(const std::string& domain)
      : option("--" + domain), name(directory / "socket") {
    if (domain == "unix") return;
    // Bound, it is given to nobody who asks for any port; but with SO_REUSEADDR
    // one may still listen there.
    name = "127.0.0.1:0";
    reserved_ = Bind();
    name = "127.0.0.1:" +
           std::to_string(ipc::Port(reserved_.get(), ::getsockname));
  }
  ipc::Addresses Addresses() const {
    return option == "--tcp" ? ipc::TcpAddresses(name, 0)
                             : ipc::PathAddress(name, "test");
  }
  ipc::UniqueFd Socket() const {
    return ipc::UniqueFd(::socket(
        Addresses()->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  }
  ipc::UniqueFd Bind() const {
    ipc::UniqueFd fd = Socket();
    const int on = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const auto address = Addresses();
    EXPECT_EQ(::bind(fd.get(), address->ai_addr, address->ai_addrlen), 0);
    return fd;
  }
  ipc::UniqueFd Listen(int backlog = 100) const {
    ipc::UniqueFd fd = Bind();
    EXPECT_EQ(::listen(fd.get(), backlog), 0);
    return fd;
  }
  // Connects to who listens there. Then it does not block.
  ipc::UniqueFd Connect() const {
    ipc::UniqueFd fd = Socket();
    ::fcntl(fd.get(), F_SETFL, 0);
    const auto address = Addresses();
    EXPECT_EQ(::connect(fd.get(), address->ai_addr, address->ai_addrlen), 0)
        << name << ", errno " << errno;
    ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
    return fd;
  }
  // What runs a program there.
  Words Command(const char* variable, const Words& more = {}) const {
    Words command{Program(variable), option, name};
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }

  TemporaryDirectory directory;
  std::string option;
  std::string name;

 private:
  ipc::UniqueFd reserved_;
};

// The program, listening.
class Server : public Place {
 public:
  explicit Server(
      const std::string& domain, const std::function<void()>& in_child = [] {})
      : Place(domain), process(Command("SERVER"), "", in_child) {
    process.AwaitErr("server: listening on '" + name + "'");
  }

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
  ipc::PollFor("bytes", fd, POLLIN, kPatience, "test");
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
    ipc::PollFor("room", fd, static_cast<short>(POLLIN | sending), kPatience,
                 "test");
    const ssize_t n =
        ::send(fd, unsent.data(), unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) unsent.remove_prefix(static_cast<std::size_t>(n));
    pollfd ready{fd, POLLIN, 0};
    if (!ipc::Poll({&ready, 1}, ipc::Seconds(0))) continue;
    const std::string some = Receive(fd);
    if (some.empty()) break;
    got += some;
  }
  return got;
}

// Whether the server at the other end answers.
inline bool Answers(const ipc::UniqueFd& fd) {
  return Exchange(fd.get(), "hello") == "hello";
}

// Waits until one has connected to the listener.
inline ipc::UniqueFd Accept(const ipc::UniqueFd& listener) {
  ipc::PollFor("a client", listener.get(), POLLIN, kPatience, "test");
  ipc::UniqueFd client(::accept4(listener.get(), nullptr, nullptr,
                                 SOCK_NONBLOCK | SOCK_CLOEXEC));
  EXPECT_TRUE(client);
  return client;
}

}  // namespace ipc_testing
