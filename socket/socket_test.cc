// What the header promises beyond what the programs' tests see.
#include "socket/socket.h"

#include <sys/syscall.h>

#include <random>

#include "socket/test_server.h"

namespace {

using ipc::Address;
using ipc_testing::Accept;
using ipc_testing::kPatience;
using ipc_testing::Place;
using ipc_testing::Receive;

bool interrupt = false;
bool met_itself = false;

}  // namespace

// In place of the C library's: sees what the kernel does, and can act as if a
// signal had come while the kernel goes on connecting, as POSIX has it.
extern "C" int connect(int fd, const sockaddr* address,  // NOLINT
                       socklen_t length) {
  const long result = ::syscall(SYS_connect, fd, address, length);
  const int error = errno;
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size);
  const bool connecting = result == 0 || error == EINPROGRESS;
  if (connecting && size == length && std::memcmp(&own, address, size) == 0) {
    met_itself = true;
  }
  errno = error;
  if (!std::exchange(interrupt, false)) return static_cast<int>(result);
  errno = EINTR;
  return -1;
}

namespace {

class Connecting : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, Connecting, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(Connecting, InterruptedIsTriedWithANewSocket) {
  const Place place(GetParam());
  const ipc::Listener listener(place.Address());
  interrupt = true;
  const auto fd = ipc::Connect(place.Address(), kPatience);
  EXPECT_FALSE(interrupt);
  const auto abandoned = Accept(listener);
  EXPECT_EQ(Receive(abandoned.get()), "");
  const auto client = Accept(listener);
  EXPECT_EQ(::send(client.get(), "hello", 5, 0), 5);
  EXPECT_EQ(Receive(fd.get()), "hello");
}

TEST_P(Connecting, ToNobodyTimesOut) {
  EXPECT_THROW(ipc::Connect(Place(GetParam()).Address(), os::Timeout(0)),
               std::system_error);
}

class Echoing : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, Echoing, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(Echoing, ToAClientThatHasGoneIsItsEnd) {
  // Not of the process: a test, unlike a sample, does not ignore SIGPIPE.
  const Place place(GetParam());
  const ipc::Listener listener(place.Address());
  auto client = ipc::Connect(place.Address(), kPatience);
  std::byte byte{};
  ipc::Echo echo{Accept(listener), {}, {&byte, 1}};
  client.Close();
  while (echo.Step()) {
    echo.unsent = {&byte, 1};
    os::PollFor("the end", echo.fd.get(), POLLIN, "test", kPatience);
  }
}

TEST_P(Echoing, SendsTheRestOfAShortSend) {
  // More comes at once than goes out: small_buffers.cc.
  const Place place(GetParam());
  const ipc::Listener listener(place.Address());
  const auto client = ipc::Connect(place.Address(), kPatience);
  const int large = 100'000;
  ::setsockopt(client.get(), SOL_SOCKET, SO_SNDBUF, &large, sizeof(large));
  ipc::Echo echo{Accept(listener), {}, {}};
  const std::string bytes = ipc_testing::RandomBytes(50'000);
  std::string_view unsent = bytes;
  std::string got;
  while (got.size() < bytes.size()) {
    const short to_client = unsent.empty() ? POLLIN : POLLIN | POLLOUT;
    const short to_echo = echo.unsent.empty() ? POLLIN : POLLOUT;
    std::array fds{pollfd{client.get(), to_client, 0},
                   pollfd{echo.fd.get(), to_echo, 0}};
    ASSERT_TRUE(os::Poll(fds, os::Deadline(kPatience).Left()));
    const ssize_t n = ::send(client.get(), unsent.data(), unsent.size(), 0);
    if (n > 0) unsent.remove_prefix(static_cast<std::size_t>(n));
    if (fds[1].revents != 0) {
      ASSERT_TRUE(echo.Step());
    }
    if ((fds[0].revents & POLLIN) != 0) got += Receive(client.get());
  }
  EXPECT_TRUE(got == bytes);
}

// Its time is the kernel's: what matters is that both ends ask for it.
TEST(TcpConnecting, HoldsNoSmallMessageBack) {
  const ipc::Listener listener(Address::Tcp("127.0.0.1:0"));
  const auto fd = ipc::Connect(Address::Of(listener.fd()), kPatience);
  const auto client = Accept(listener);
  for (const int end : {fd.get(), client.get()}) {
    int on = 0;
    socklen_t size = sizeof(on);
    EXPECT_EQ(::getsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, &size), 0);
    EXPECT_EQ(on, 1);
  }
}

TEST(TcpConnecting, NeverMeetsItself) {
  // A free port of those that the kernel prefers at the connecting end, which
  // here are the even ones. It tries one after the other, in the end this.
  const auto nobody = [] {
    for (;;) {
      const auto port = 32768 + std::random_device()() % 14000 * 2;
      auto address = Address::Tcp("127.0.0.1:" + std::to_string(port));
      try {
        const ipc::Listener listener(address);
        return address;
      } catch (const os::Error&) {
        // In use.
      }
    }
  }();
  met_itself = false;
  for (int i = 0; i < 60000 && !met_itself; ++i) {
    EXPECT_THROW(ipc::Connect(nobody, os::Timeout(0)), os::Error);
  }
  if (!met_itself) GTEST_SKIP() << "here the kernel avoids it";
}

}  // namespace
