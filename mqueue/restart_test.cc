// A server that is ended and started again, many times, while clients send
// without a pause: what they were told is sent arrives, whatever the end.
#include <atomic>
#include <cstdlib>
#include <iostream>
#include <set>
#include <sstream>
#include <thread>

#include "mqueue/test_pair.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;

constexpr std::size_t kClients = 4;

// So many by default, and as many as the variable RESTARTS says.
int Restarts() {
  const char* given = std::getenv("RESTARTS");
  return given != nullptr ? std::stoi(given) : 20;
}

class QueueRestartTest : public ipc_testing::QueueTest {
 protected:
  // Sends lines of its own until it is told to finish, in one client after the
  // other: one fails where no server comes soon enough. Returns how many were
  // sent: each client prints those.
  std::size_t SendMany(std::size_t number) {
    constexpr std::size_t kLines = 5000;
    std::size_t sent = 0;
    while (!finish_) {
      std::string lines;
      for (std::size_t i = sent; i < sent + kLines; ++i) {
        lines += std::to_string(number) + " " + std::to_string(i) + "\n";
      }
      ChildProcess client = Client({"-"}, lines);
      client.Wait();
      const std::string out = client.Out();
      EXPECT_TRUE(lines.starts_with(out));
      sent += static_cast<std::size_t>(std::ranges::count(out, '\n'));
    }
    return sent;
  }

  // Returns how many of the lines that were sent never came.
  std::size_t LostIn(int restarts, int signal) {
    std::array<std::size_t, kClients> sent{};
    std::vector<std::jthread> clients;
    for (std::size_t i = 0; i < kClients; ++i) {
      clients.emplace_back([&, i] { sent[i] = SendMany(i); });
    }
    std::multiset<std::string> got;
    int left = 0;
    const auto collect = [&](ChildProcess& server) {
      std::istringstream out(server.Out());
      for (std::string line; std::getline(out, line);) got.insert(line);
      if (server.Err().find("messages left") != std::string::npos) ++left;
    };
    for (int i = 0; i < restarts; ++i) {
      ChildProcess server = Server();
      server.AwaitOut("\n");
      server.Signal(signal);
      EXPECT_EQ(server.Wait(), Killed(signal)) << server.Err();
      collect(server);
    }
    ChildProcess last = Server();
    finish_ = true;
    clients.clear();
    Send({"quit"});
    EXPECT_EQ(last.Wait(), Exited(0)) << last.Err();
    collect(last);
    EXPECT_FALSE(Exists());

    std::size_t all = 0;
    std::size_t lost = 0;
    for (std::size_t number = 0; number < kClients; ++number) {
      for (std::size_t i = 0; i < sent[number]; ++i, ++all) {
        const auto line = std::to_string(number) + " " + std::to_string(i);
        if (!got.contains(line)) ++lost;
      }
    }
    std::cout << restarts << " restarts: " << all << " lines sent, "
              << got.size() << " printed, " << lost << " lost; " << left
              << " servers left messages\n";
    EXPECT_GT(all, 0U);
    return lost;
  }

  std::atomic<bool> finish_ = false;
};

TEST_F(QueueRestartTest, AnInterruptedServerLosesNothing) {
  EXPECT_EQ(LostIn(Restarts(), SIGTERM), 0U);
}

// A server that is killed has received one message at most, which it has not
// yet printed.
TEST_F(QueueRestartTest, AKilledServerLosesWhatItHasReceived) {
  EXPECT_LE(LostIn(Restarts(), SIGKILL), static_cast<std::size_t>(Restarts()));
}

}  // namespace
