// Many clients at once, through a queue of ten messages: none is lost, and each
// client's come in its order.
#include <gtest/gtest.h>
#include <mqueue.h>

#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "testing/processes/child_process.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;

TEST(QueueUnderLoad, LosesNothingOf32ClientsAndKeepsTheirOrder) {
  constexpr int kClients = 32;
  constexpr int kMessages = 1000;
  const std::string name = ipc_testing::UniqueName();
  ChildProcess server({ipc_testing::Program("SERVER"), "--name", name});
  server.AwaitErr("waiting for messages");
  std::map<std::string, std::string> sent;  // By client.
  std::vector<std::unique_ptr<ChildProcess>> clients;
  for (int i = 0; i < kClients; ++i) {
    const std::string id = std::to_string(i);
    std::string& lines = sent[id];
    for (int j = 0; j < kMessages; ++j) {
      lines += id + " " + std::to_string(j) + "\n";
    }
    clients.push_back(std::make_unique<ChildProcess>(
        std::vector<std::string>{ipc_testing::Program("CLIENT"), "--name", name,
                                 "-"},
        lines));
    clients.back()->set_patience(std::chrono::seconds(120));
  }
  for (const auto& client : clients) {
    EXPECT_EQ(client->Wait(), Exited(0)) << client->Err();
  }
  ChildProcess last({ipc_testing::Program("CLIENT"), "--name", name, "quit"});
  EXPECT_EQ(last.Wait(), Exited(0)) << last.Err();
  EXPECT_EQ(server.Wait(), Exited(0)) << server.Err();
  std::map<std::string, std::string> got;
  std::istringstream out(server.Out());
  for (std::string line; std::getline(out, line);) {
    got[line.substr(0, line.find(' '))] += line + "\n";
  }
  EXPECT_TRUE(got == sent);
  EXPECT_EQ(::mq_unlink(name.c_str()), -1);  // It has removed its name.
}

}  // namespace
