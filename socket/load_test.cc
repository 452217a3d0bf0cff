// The server under load: a thousand clients, clients that never read, and more
// clients than it may have descriptors for.
#include <linux/close_range.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <list>
#include <random>
#include <sstream>

#include "socket/test_server.h"

namespace {

using ipc_testing::Answers;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::kLittle;
using ipc_testing::Place;
using ipc_testing::Program;
using ipc_testing::Server;
using ipc_testing::TimeUsed;
using testing::HasSubstr;
using testing::StartsWith;

class ServerUnderLoad : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, ServerUnderLoad, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

// As many descriptors as this user may have, as the server does it by itself.
void RaiseDescriptors() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = std::min<rlim_t>(limit.rlim_max, 8192);
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// A client that sends messages and expects just their bytes back. Where in
// these random bytes its messages are, no other client's are.
class EchoClient {
 public:
  static constexpr int kMessages = 100;
  static constexpr std::size_t kLargest = 10000;

  EchoClient(ipc::UniqueFd fd, unsigned seed)
      : fd_(std::move(fd)), reads_late_(seed % 10 == 0) {
    static const std::string bytes = ipc_testing::RandomBytes(1 << 20);
    std::mt19937 random(seed);
    for (int i = 0; i < kMessages; ++i) {
      const std::size_t size = 1 + random() % kLargest;
      messages_.push_back(
          std::string_view(bytes).substr(random() % (1 << 19), size));
    }
  }
  int fd() const { return fd_.get(); }
  bool Sent() const { return send_.message == messages_.size(); }
  bool Ended() const { return ended_; }
  bool Right() const { return right_ && receive_.message == messages_.size(); }

  // Every tenth reads only where it has no room to send: the server's buffers
  // for it fill, and what it owes is left for later.
  void Step(std::uint32_t ready) {
    const bool may_send = (ready & EPOLLOUT) != 0 && !Sent();
    const bool may_receive = (ready & ~std::uint32_t{EPOLLOUT}) != 0;
    if (may_receive && !(may_send && reads_late_)) Receive();
    if (may_send && !Ended()) Send();
  }

 private:
  void Send() {
    const std::string_view rest = Rest(send_);
    const auto n = ::send(fd(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n > 0) Advance(send_, static_cast<std::size_t>(n));
    if (n == -1 && errno != EAGAIN) right_ = false, ended_ = true;
    if (Sent()) ::shutdown(fd(), SHUT_WR);
  }
  void Receive() {
    static std::array<char, 1 << 16> buffer;
    const auto n = ::recv(fd(), buffer.data(), buffer.size(), 0);
    if (n == -1 && errno == EAGAIN) return;
    ended_ = n <= 0;
    std::string_view got(buffer.data(),
                         n < 0 ? 0 : static_cast<std::size_t>(n));
    while (!got.empty() && right_) {
      const std::string_view rest = Rest(receive_).substr(0, got.size());
      right_ = !rest.empty() && got.starts_with(rest);
      got.remove_prefix(rest.size());
      Advance(receive_, rest.size());
    }
  }

  struct Position {
    std::size_t message = 0;
    std::size_t byte = 0;
  };
  std::string_view Rest(const Position& at) const {
    if (at.message == messages_.size()) return {};
    return messages_[at.message].substr(at.byte);
  }
  void Advance(Position& at, std::size_t n) {
    at.byte += n;
    if (at.message < messages_.size() &&
        at.byte == messages_[at.message].size()) {
      at = {at.message + 1, 0};
    }
  }

  ipc::UniqueFd fd_;
  std::vector<std::string_view> messages_;
  Position send_;
  Position receive_;
  bool reads_late_;
  bool right_ = true;
  bool ended_ = false;
};

TEST_P(ServerUnderLoad, SendsBackToEachOf1000WhatItSent) {
  RaiseDescriptors();
  const Server server(GetParam());
  const ipc::UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  std::vector<EchoClient> clients;
  for (unsigned i = 0; i < 1000; ++i) clients.emplace_back(server.Connect(), i);
  for (std::size_t i = 0; i < clients.size(); ++i) {  // All are there.
    epoll_event event{EPOLLIN | EPOLLOUT, {.u64 = i}};
    ASSERT_EQ(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, clients[i].fd(), &event),
              0);
  }
  for (std::size_t left = clients.size(); left > 0;) {
    std::array<epoll_event, 64> events;
    const int count =
        ::epoll_wait(epoll.get(), events.data(), 64,
                     static_cast<int>(ipc_testing::kPatience.count() * 1000));
    ASSERT_GT(count, 0) << left << " clients wait";
    for (int i = 0; i < count; ++i) {
      const auto [ready, data] = events[static_cast<std::size_t>(i)];
      EchoClient& client = clients[data.u64];
      client.Step(ready);
      // In particular no longer whether there is room for more.
      epoll_event event{client.Sent() ? EPOLLIN : EPOLLIN | EPOLLOUT, data};
      ::epoll_ctl(epoll.get(), client.Ended() ? EPOLL_CTL_DEL : EPOLL_CTL_MOD,
                  client.fd(), &event);
      if (client.Ended()) --left;
    }
  }
  for (const EchoClient& client : clients) ASSERT_TRUE(client.Right());
}

// The most memory that the process has ever used, in bytes. proc(5)
std::size_t MostMemory(const ipc_testing::ChildProcess& process) {
  std::ifstream status("/proc/" + std::to_string(process.pid()) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoul(line.substr(6)) * 1024;
  }
  throw std::runtime_error("no VmHWM");
}

// What clients send that never read stays in the kernel's buffers, and then in
// their own: the server takes 16 KiB of each.
TEST_P(ServerUnderLoad, KeepsLittleForThoseThatDoNotRead) {
  const Server server(GetParam());
  const auto other = server.Connect();
  // A TCP connection buffers many times as much.
  std::vector<ipc::UniqueFd> deaf(GetParam() == "tcp" ? 20 : 200);
  for (auto& fd : deaf) fd = server.Connect();
  EXPECT_TRUE(Answers(other));
  const std::size_t before = MostMemory(server.process);
  static const std::string bytes(1 << 18, 'x');
  std::size_t sent = 0;
  // Until none has room, ten of the server's turns long. It must not take all.
  constexpr std::size_t kFarTooMuch = 4'000'000'000;
  for (int turns = 0; turns < 10 && sent < kFarTooMuch; ++turns) {
    for (const auto& fd : deaf) {
      const auto n = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<std::size_t>(n), turns = 0;
    }
    ASSERT_TRUE(Answers(other));
  }
  const std::size_t used = MostMemory(server.process) - before;
  RecordProperty("sent", std::to_string(sent));
  RecordProperty("used", std::to_string(used));
  EXPECT_LT(sent, kFarTooMuch);
  EXPECT_LT(used, sent / 4) << "of " << sent;  // A sanitizer needs some, too.
}

constexpr bool kSanitized =
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    true;
#elif defined(__has_feature)
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
    false;
#endif

// Nor does it keep the memory that it needed, once they have read all.
TEST_P(ServerUnderLoad, KeepsNothingForThoseThatHaveReadAll) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer keeps what was freed";
  Server server(GetParam());
  const auto other = server.Connect();
  static const std::string bytes(1 << 18, 'x');
  const auto clog = [&](const ipc::UniqueFd& fd) {
    // Sends until the server has 16 KiB unsent,
    std::size_t unread = 0;
    for (int turns = 0; turns < 30; ++turns) {
      const auto n = ::send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n > 0) unread += static_cast<std::size_t>(n), turns = 0;
      ASSERT_TRUE(Answers(other));
    }
    // and then receives. Meanwhile it stops, so that all of it goes at once.
    server.process.Stop();
    pollfd ready{fd.get(), POLLIN, 0};
    while (unread > 0) {
      if (!ipc::Poll({&ready, 1}, ipc::Seconds(0))) {
        server.process.Signal(SIGCONT);
      }
      const std::string some = ipc_testing::Receive(fd.get());
      ASSERT_FALSE(some.empty());
      unread -= some.size();
    }
  };
  std::vector<ipc::UniqueFd> clients(GetParam() == "tcp" ? 50 : 200);
  for (auto& fd : clients) fd = server.Connect();
  clog(clients.back());
  const std::size_t before = MostMemory(server.process);
  for (const auto& fd : clients) clog(fd);
  EXPECT_LT(MostMemory(server.process) - before, clients.size() * 4096);
}

// The number that it says.
std::size_t MostClients(ipc_testing::ChildProcess& server) {
  server.AwaitErr(" clients\n");
  const std::string line = server.Err();
  return std::stoul(line.substr(line.find("for up to ") + 10));
}

TEST_P(ServerUnderLoad, WithoutDescriptorsLetsTheRestWait) {
  Server server(GetParam(), [] {
    const rlimit few{20, 64};  // It takes as many as it may.
    ::setrlimit(RLIMIT_NOFILE, &few);
    ::close_range(3, ~0U, 0);
  });
  const std::size_t most = MostClients(server.process);
  EXPECT_GT(most, 50U);
  EXPECT_LT(most, 61U);
  std::list<ipc::UniqueFd> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(server.Connect());
  auto client = clients.begin();
  for (std::size_t i = 0; i < most; ++i) EXPECT_TRUE(Answers(*client++));
  // The next one waits,
  const int waiting = client->get();
  EXPECT_EQ(::send(waiting, "hello", 5, MSG_NOSIGNAL), 5);
  pollfd answer{waiting, POLLIN, 0};
  EXPECT_FALSE(ipc::Poll({&answer, 1}, ipc::Seconds(0.1)));
  // is no work,
  EXPECT_LT(TimeUsed(server.process), kLittle);
  // and no harm to those that it has.
  client = clients.begin();
  for (std::size_t i = 0; i < most; ++i) EXPECT_TRUE(Answers(*client++));
  // Each that leaves makes room for one that waits.
  for (; !clients.empty(); clients.pop_front()) {
    if (clients.front().get() == waiting) {
      EXPECT_EQ(ipc_testing::Receive(waiting), "hello");
    }
    EXPECT_TRUE(Answers(clients.front()));
  }
}

// --- The benchmark -----------------------------------------------------------

ChildProcess Measure(const std::string& path, const std::string& clients) {
  return ChildProcess({Program("LOAD_BENCHMARK"), "--unix", path, "--clients",
                       clients, "--seconds", "0.1"});
}

TEST(LoadBenchmark, SaysWhatItHasMeasured) {
  const Server server("unix");
  auto process = Measure(server.name, "10");
  EXPECT_EQ(process.Wait(), Exited(0)) << process.Err();
  EXPECT_THAT(process.Out(), StartsWith("10 clients: "));
  EXPECT_THAT(process.Out(), HasSubstr(" messages/s, round trip p50 "));
}

TEST(LoadBenchmark, FailsWhereNothingCanBeMeasured) {
  const Place nobody("unix");
  auto process = Measure(nobody.name, "10");
  EXPECT_EQ(process.Wait(), Exited(1));
  EXPECT_THAT(process.Err(), HasSubstr("connect '" + nobody.name + "'"));
}

}  // namespace
