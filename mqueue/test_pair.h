// What the tests of the programs share: a server and clients on a queue of
// their own, started as a user does.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "mqueue/queue.h"
#include "name.h"
#include "testing/processes/child_process.h"
#include "testing/processes/manners.h"

namespace ipc_testing {

using Words = std::vector<std::string>;
using Input = std::optional<std::string>;
inline constexpr auto kOpenInput = std::nullopt;
inline constexpr int kMessages = 10;  // What a queue holds.

inline std::string Lines(int count, const std::string& prefix = "") {
  std::string lines;
  for (int i = 0; i < count; ++i) lines += prefix + std::to_string(i) + "\n";
  return lines;
}

// An output that has no room for a byte, until somebody reads from it.
class StuckOutput {
 public:
  StuckOutput() {
    ipc::Check(::pipe2(ends_.data(), O_CLOEXEC | O_NONBLOCK), "pipe2", "stuck");
    while (::write(ends_[1], "x", 1) == 1) continue;
    ::fcntl(ends_[1], F_SETFL, 0);
  }
  StuckOutput(const StuckOutput&) = delete;
  StuckOutput& operator=(const StuckOutput&) = delete;
  ~StuckOutput() {
    for (const int end : ends_) ::close(end);
  }
  // For a child: makes it its standard output.
  std::function<void()> Use() const {
    return [end = ends_[1]] { ::dup2(end, STDOUT_FILENO); };
  }

 private:
  std::array<int, 2> ends_{};
};

class QueueTest : public testing::Test {
 protected:
  ~QueueTest() override { ::mq_unlink(name_.c_str()); }

  Words Command(const char* program, const Words& arguments = {}) const {
    Words command{Program(program), "--name", name_};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
  }
  ChildProcess Server(
      const Words& arguments = {},
      const std::function<void()>& in_child = [] {}) const {
    return ChildProcess(Command("SERVER", arguments), "", in_child);
  }
  ChildProcess Client(
      const Words& arguments, const Input& input = "",
      const std::function<void()>& in_child = [] {}) const {
    return ChildProcess(Command("CLIENT", arguments), input, in_child);
  }
  // A server that receives nothing until it is sent SIGCONT.
  void StopOnceItWaits(ChildProcess& server) const {
    server.AwaitErr("waiting for messages");
    server.Stop();
  }
  // Runs a client that has to succeed, and returns what it prints.
  std::string Send(const Words& arguments, const Input& input = "") const {
    ChildProcess client = Client(arguments, input);
    EXPECT_EQ(client.Wait(), Exited(0)) << client.Err();
    return client.Out();
  }
  // Ends the server, and returns what it has printed.
  std::string Quit(ChildProcess& server) const {
    EXPECT_EQ(Send({"quit"}), "quit\n");
    EXPECT_EQ(server.Wait(), Exited(0)) << server.Err();
    EXPECT_FALSE(Exists());
    return server.Out();
  }
  // What a server prints of what a client sends.
  std::string Transfer(const Words& arguments, const Input& input = "") const {
    ChildProcess server = Server();
    Send(arguments, input);
    return Quit(server);
  }

  // The queue under the name, if there is one.
  ipc::UniqueQueue Open(int flags = O_RDWR) const {
    return ipc::UniqueQueue(::mq_open(name_.c_str(), flags | O_NONBLOCK));
  }
  bool Exists() const { return static_cast<bool>(Open(O_RDONLY)); }
  // Makes one: as a server does, or with a `mark` of 0 as another program.
  ipc::UniqueQueue Make(mode_t mark = ipc::kOurs, long max_messages = kMessages,
                        long max_bytes = ipc::kMaxBytes) const {
    mq_attr attributes{};
    attributes.mq_maxmsg = max_messages;
    attributes.mq_msgsize = max_bytes;
    ipc::UniqueQueue queue(::mq_open(name_.c_str(),
                                     O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK,
                                     0600 | mark, &attributes));
    EXPECT_TRUE(queue);
    return queue;
  }
  static long Queued(const ipc::UniqueQueue& queue) {
    mq_attr attributes{};
    EXPECT_EQ(::mq_getattr(queue.get(), &attributes), 0);
    return attributes.mq_curmsgs;
  }
  // The next message, "none" where there is none.
  static std::string Receive(const ipc::UniqueQueue& queue) {
    std::string message(8192, '\0');
    const auto n =
        ::mq_receive(queue.get(), message.data(), message.size(), nullptr);
    return n == -1 ? "none" : message.substr(0, static_cast<std::size_t>(n));
  }

  // What a program says once it has waited a while, the server at once,
  std::string Waiting(const std::string& program,
                      const std::string& what) const {
    return program + ": waiting for " + what + " on '" + name_ + "'\n";
  }
  std::string ServerWaiting() const { return Waiting("server", "messages"); }
  // at its end, if messages are in the queue,
  std::string Left(int messages) const {
    return "server: messages left in '" + name_ +
           "' for the next server: " + std::to_string(messages) + "\n";
  }
  // and of a failure.
  std::string Error(const std::string& program, const std::string& call,
                    const std::string& reason) const {
    return program + ": " + call + " '" + name_ + "': " + reason + "\n";
  }
  static constexpr char kGone[] = "Broken pipe; the server has gone";

  const std::string name_ = UniqueName();
};

}  // namespace ipc_testing
