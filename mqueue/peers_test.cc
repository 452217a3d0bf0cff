// One of the programs alone. At the other side are strangers, who know nothing
// of locks and marks, or the test itself, which does what a program would do,
// but at an instant that no timing brings about.
#include <csignal>

#include "mqueue/test_pair.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::HasStrace;
using ipc_testing::kAnotherPrograms;
using ipc_testing::Killed;
using ipc_testing::kNoStrace;
using ipc_testing::WithFault;
using testing::EndsWith;

class QueuePeersTest : public ipc_testing::QueueTest {
 protected:
  // Sends as any program would.
  void SendClassically(const std::string& message) const {
    const auto queue = Open(O_WRONLY);
    EXPECT_EQ(::mq_send(queue.get(), message.data(), message.size(), 0), 0);
  }
  void Lock(const ipc::UniqueQueue& queue, short type = F_WRLCK) const {
    EXPECT_TRUE(ipc::SetLock(queue.get(), type, ipc::kServerAlive, 1, name_));
  }
};

// --- Strangers ---------------------------------------------------------------

TEST_F(QueuePeersTest, AClassicServerIsLeftUndisturbed) {
  ChildProcess classic({ipc_testing::Program("CLASSIC_SERVER"), name_});
  classic.AwaitOut("waiting\n");
  ChildProcess server = Server();
  EXPECT_EQ(server.Wait(), Exited(1));
  EXPECT_EQ(server.Err(), Error("server", "mq_open", kAnotherPrograms));
  // Nor can a client tell whether that one lives.
  ChildProcess client = Client({"ours"});
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_EQ(client.Err(), Error("client", "mq_open", kAnotherPrograms));
  SendClassically("its own");
  EXPECT_EQ(classic.Wait(), Exited(0));
  EXPECT_EQ(classic.Out(), "waiting\nits own\n");
  EXPECT_FALSE(Exists());
}

TEST_F(QueuePeersTest, AnotherProgramsQueueIsLeftAsItWas) {
  for (const auto& [max_messages, max_bytes] :
       {std::pair(10, 128), {9, 128}, {10, 64}, {1, 1}}) {
    const auto queue = Make(0, max_messages, max_bytes);
    ASSERT_EQ(::mq_send(queue.get(), "x", 1, 0), 0);
    ChildProcess server = Server();
    EXPECT_EQ(server.Wait(), Exited(1));
    EXPECT_EQ(server.Err(), Error("server", "mq_open", kAnotherPrograms));
    EXPECT_EQ(server.Out(), "");
    EXPECT_EQ(Queued(queue), 1);
    EXPECT_EQ(::mq_unlink(name_.c_str()), 0);
  }
}

TEST_F(QueuePeersTest, AClassicClientIsServed) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  SendClassically("");
  SendClassically(std::string("NUL\0, too", 9));
  SendClassically("quit");
  EXPECT_EQ(server.Wait(), Exited(0));
  EXPECT_EQ(server.Out(), std::string("\nNUL\0, too\n", 11));
  EXPECT_FALSE(Exists());
}

// --- The server's end, as a client sees it -----------------------------------

class QueueEndTest : public QueuePeersTest {
 protected:
  // A client that has been stopped just after mq_send, the queue of which is
  // locked by the test.
  void SetUp() override {
    if (!HasStrace()) GTEST_SKIP() << kNoStrace;
    Lock(queue_);
    client_.emplace(WithFault("mq_timedsend", "signal=SIGSTOP",
                              Command("CLIENT", {"late"})));
    ipc::PollFor("a message", queue_.get(), POLLIN, ChildProcess::kPatience,
                 name_);
  }
  ChildProcess& Continued() {
    client_->Signal(SIGCONT);
    return *client_;
  }

  const ipc::UniqueQueue queue_ = Make();
  std::optional<ChildProcess> client_;
};

// If the server ends from here on, it leaves the message to the next.
TEST_F(QueueEndTest, WhatIsSentToALivingServerIsSent) {
  EXPECT_EQ(Continued().Wait(), Exited(0));
  EXPECT_EQ(client_->Out(), "late\n");
  EXPECT_EQ(Receive(queue_), "late");
}

// The server may have counted before it was sent, and remove the queue.
TEST_F(QueueEndTest, WhatIsSentAfterTheEndIsAFailure) {
  Lock(queue_, F_UNLCK);
  EXPECT_EQ(Continued().Wait(), Exited(1));
  EXPECT_EQ(client_->Out(), "");
  EXPECT_THAT(
      client_->Err(),
      EndsWith(Error("client", "mq_send",
                     "Connection timed out; waited for a server to take it")));
}

TEST_F(QueueEndTest, WhatIsReceivedAfterTheEndIsSent) {
  Lock(queue_, F_UNLCK);
  EXPECT_EQ(Receive(queue_), "late");
  EXPECT_EQ(Continued().Wait(), Exited(0));
  EXPECT_EQ(client_->Out(), "late\n");
}

TEST_F(QueueEndTest, WhatTheNextServerFindsIsSent) {
  Lock(queue_, F_UNLCK);
  const auto next = Open();
  Lock(next);
  EXPECT_EQ(Continued().Wait(), Exited(0));
  EXPECT_EQ(client_->Out(), "late\n");
}

// And as the server brings it about: it is stopped between the count and the
// removal, when what is sent is lost.
TEST_F(QueuePeersTest, AServerUnlocksBeforeItCounts) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ChildProcess server(
      WithFault("mq_getsetattr", "signal=SIGSTOP:when=2", Command("SERVER")));
  server.AwaitErr("waiting for messages");
  const auto queue = Open();
  EXPECT_TRUE(ipc::IsLocked(queue.get(), ipc::kServerAlive, name_));
  server.Signal(SIGTERM);
  const auto end = ipc::Now() + ChildProcess::kPatience;
  while (ipc::IsLocked(queue.get(), ipc::kServerAlive, name_) &&
         ipc::Now() < end) {
    ipc::Poll({}, ipc::Seconds(0.01));
  }
  EXPECT_FALSE(ipc::IsLocked(queue.get(), ipc::kServerAlive, name_));
  EXPECT_TRUE(Exists());
  server.Signal(SIGCONT);
  EXPECT_EQ(server.Wait(), Killed(SIGTERM));
  EXPECT_FALSE(Exists());
}

}  // namespace
