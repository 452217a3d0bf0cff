// The header alone, at the instants and with the errors that no timing brings
// about: a test steps into the system call where it matters.
#include "mqueue/message_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <functional>

#include "testing/child_process.h"

namespace {

int polls = 0;  // How many so far.
// Each happens once, and then is gone.
std::function<void()> before_fstat;
std::function<void()> during_poll;  // And it fails with EINTR.
uid_t stranger = 0;

}  // namespace

// In the place of the C library's: the header calls these.
extern "C" {
int fstat(int fd, struct stat* status) noexcept {
  if (auto once = std::exchange(before_fstat, nullptr)) once();
  return ::fstatat(fd, "", status, AT_EMPTY_PATH);
}
int poll(pollfd* fds, nfds_t count, int milliseconds) {
  ++polls;
  if (auto once = std::exchange(during_poll, nullptr)) {
    once();
    errno = EINTR;
    return -1;
  }
  const timespec time{milliseconds / 1000, milliseconds % 1000 * 1000000L};
  return ::ppoll(fds, count, milliseconds < 0 ? nullptr : &time, nullptr);
}
uid_t geteuid() noexcept {
  return static_cast<uid_t>(::syscall(SYS_geteuid)) + stranger;
}
}

namespace {

using ipc::MessageQueue;
using testing::HasSubstr;
using testing::StartsWith;

constexpr os::Timeout kPatience = ipc_testing::ChildProcess::kPatience;
constexpr os::Timeout kNoTime{0};

// The error that `call` throws, as "errno: text".
template <typename Call>
std::string ErrorOf(Call call) {
  try {
    call();
  } catch (const os::Error& error) {
    return std::to_string(error.code().value()) + ": " + error.what();
  }
  return "none";
}

class MessageQueueTest : public testing::Test {
 protected:
  ~MessageQueueTest() override { ::mq_unlink(name_.c_str()); }

  MessageQueue Create(os::Timeout timeout = kPatience) {
    return MessageQueue::Create(name_, timeout);
  }
  MessageQueue Open(os::Timeout timeout = kPatience) {
    return MessageQueue::Open(name_, timeout);
  }
  bool Exists() {
    return static_cast<bool>(os::UniqueFd(::mq_open(name_.c_str(), O_RDONLY)));
  }
  // A queue that no server has locked.
  os::UniqueFd Leave(long max_messages, long max_bytes, mode_t mode = 0600) {
    mq_attr attributes{};
    attributes.mq_maxmsg = max_messages;
    attributes.mq_msgsize = max_bytes;
    os::UniqueFd queue(::mq_open(name_.c_str(),
                                 O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600,
                                 &attributes));
    EXPECT_EQ(::fchmod(queue.get(), mode), 0);
    EXPECT_EQ(::mq_send(queue.get(), "left", 4, 0), 0);
    return queue;
  }
  std::string Error(int error, const std::string& call,
                    const std::string& reason) {
    return std::to_string(error) + ": " + call + " '" + name_ + "': " + reason;
  }

  const std::string name_ = ipc_testing::UniqueName();
};

TEST_F(MessageQueueTest, MessagesComeWhole) {
  MessageQueue server = Create();
  MessageQueue client = Open();
  for (const std::size_t size : {0U, 1U, 64U, 65U, 127U, 128U}) {
    const std::string message = ipc_testing::RandomBytes(size);
    client.Send(message, 1);
    EXPECT_EQ(server.Receive(), message);
  }
  EXPECT_EQ(
      ErrorOf([&] { client.Send(std::string(129, 'x'), 1); }),
      Error(EMSGSIZE, "mq_send", "Message too long; at most 128 bytes fit"));
  EXPECT_EQ(server.TryReceive(), std::nullopt);
}

TEST_F(MessageQueueTest, HigherPriorityIsFirstAndEqualsAreInOrder) {
  MessageQueue server = Create();
  MessageQueue client = Open();
  client.Send("c", 0);
  client.Send("a", MQ_PRIO_MAX - 1);
  client.Send("b1", 1);
  client.Send("b2", 1);
  for (const char* message : {"a", "b1", "b2", "c"}) {
    EXPECT_EQ(server.Receive(), message);
  }
}

TEST_F(MessageQueueTest, AnyAttributesWithinTheLimits) {
  MessageQueue server = MessageQueue::Create(name_, kPatience, 1, 8192);
  MessageQueue client = Open();
  EXPECT_EQ(client.max_bytes(), 8192U);
  const std::string message(8192, 'x');
  client.Send(message, 1);
  EXPECT_EQ(server.Receive(), message);
}

TEST_F(MessageQueueTest, TheNameGoesWithItsServer) {
  { const MessageQueue server = Create(); }
  EXPECT_FALSE(Exists());
}

TEST_F(MessageQueueTest, EachWaitEnds) {
  EXPECT_EQ(
      ErrorOf([&] { Open(kNoTime); }),
      Error(ETIMEDOUT, "mq_open", "Connection timed out; waited for a server"));
  MessageQueue server = Create(kNoTime);
  EXPECT_EQ(
      ErrorOf([&] { server.Receive(); }),
      Error(ETIMEDOUT, "poll", "Connection timed out; waited for a message"));
  MessageQueue client = Open(kNoTime);
  for (int i = 0; i < 10; ++i) client.Send("x", 1);
  EXPECT_EQ(ErrorOf([&] { client.Send("x", 1); }),
            Error(ETIMEDOUT, "mq_send", "Connection timed out"));
}

// It looks for the server at most every half second.
TEST_F(MessageQueueTest, AWaitForRoomIsNotBusy) {
  const MessageQueue server = Create();
  MessageQueue client = Open(std::chrono::milliseconds(300));
  for (int i = 0; i < 10; ++i) client.Send("x", 1);
  polls = 0;
  EXPECT_NE(ErrorOf([&] { client.Send("x", 1); }), "none");
  EXPECT_LE(polls, 2);
}

TEST_F(MessageQueueTest, AnInterruptedWaitGoesOn) {
  MessageQueue server = Create();
  MessageQueue client = Open();
  during_poll = [&] { client.Send("Hello", 1); };
  EXPECT_EQ(server.Receive(), "Hello");
}

TEST_F(MessageQueueTest, AStopRequestEndsAWait) {
  MessageQueue server = Create();
  during_poll = [] { os::stop_signal = SIGTERM; };
  EXPECT_THROW(server.Receive(), os::Interrupted);
  os::stop_signal = 0;
}

// --- Who has the name --------------------------------------------------------

TEST_F(MessageQueueTest, ASecondServerIsRefused) {
  MessageQueue first = Create();
  EXPECT_EQ(
      ErrorOf([&] { Create(); }),
      Error(EBUSY, "mq_open", "Device or resource busy; choose another name"));
  Open().Send("Hello", 1);
  EXPECT_EQ(first.Receive(), "Hello");
}

TEST_F(MessageQueueTest, WhatADeadServerLeftIsDelivered) {
  Leave(10, 128);
  EXPECT_THAT(ErrorOf([&] { Open(kNoTime); }),  // Nobody would receive.
              StartsWith(std::to_string(ETIMEDOUT)));
  EXPECT_EQ(Create().Receive(), "left");
  EXPECT_FALSE(Exists());
}

TEST_F(MessageQueueTest, AnotherQueueIsLeftAsItWas) {
  for (const auto& [count, size, mode] :
       {std::tuple(9L, 128L, 0600U), {10L, 127L, 0600U}, {10L, 128L, 0620U}}) {
    const os::UniqueFd queue = Leave(count, size, mode);
    EXPECT_EQ(ErrorOf([&] { Create(); }),
              Error(EEXIST, "mq_open",
                    "File exists; it is something else, left as it was: remove "
                    "it or choose another name"));
    mq_attr attributes{};
    ASSERT_EQ(::mq_getattr(queue.get(), &attributes), 0);
    EXPECT_EQ(attributes.mq_curmsgs, 1);
    EXPECT_EQ(::mq_unlink(name_.c_str()), 0);
  }
}

TEST_F(MessageQueueTest, AnotherUsersQueueIsLeftAlone) {
  Leave(10, 128);
  stranger = 1;
  const std::string server_error = ErrorOf([&] { Create(); });
  const std::string client_error = ErrorOf([&] { Open(); });
  stranger = 0;
  EXPECT_THAT(server_error, StartsWith(std::to_string(EACCES)));
  EXPECT_THAT(client_error, HasSubstr("another user's"));
  EXPECT_TRUE(Exists());
}

// The second has opened the queue, and the first removes it.
TEST_F(MessageQueueTest, AServerThatComesWhenAnotherLeavesHasAQueueWithAName) {
  std::optional<MessageQueue> first(Create());
  before_fstat = [&] { first.reset(); };
  MessageQueue second = Create();
  Open(kNoTime).Send("Hello", 1);
  EXPECT_EQ(second.Receive(), "Hello");
}

// --- The server's end --------------------------------------------------------

TEST_F(MessageQueueTest, NoClientComesToAServerThatLeaves) {
  MessageQueue server = Create();
  server.Close();
  EXPECT_THAT(ErrorOf([&] { Open(kNoTime); }),
              StartsWith(std::to_string(ETIMEDOUT)));
}

// Or it would share the queue, and lose its name with the first.
TEST_F(MessageQueueTest, TheNextServerNeedNotWaitForOneThatLeaves) {
  std::optional<MessageQueue> server(Create());
  server->Close();
  MessageQueue next = Create();
  server.reset();
  Open(kNoTime).Send("Hello", 1);
  EXPECT_EQ(next.Receive(), "Hello");
}

TEST_F(MessageQueueTest, WhatWasSentBeforeTheEndIsReceived) {
  MessageQueue server = Create();
  MessageQueue client = Open();
  client.Send("early", 1);
  client.Flush();  // Lives: it will receive it.
  server.Close();
  EXPECT_EQ(server.TryReceive(), "early");
  client.Flush();
}

// Nothing receives it: no client may think so.
TEST_F(MessageQueueTest, WhatIsSentAfterTheEndIsAFailure) {
  MessageQueue server = Create();
  MessageQueue client = Open();
  server.Close();
  EXPECT_EQ(server.TryReceive(), std::nullopt);
  client.Send("late", 1);
  EXPECT_EQ(ErrorOf([&] { client.Flush(); }),
            Error(ETIMEDOUT, "mq_getattr",
                  "Connection timed out; waited for the server to receive the "
                  "rest"));
}

TEST_F(MessageQueueTest, AClientSeesThatTheServerHasGone) {
  std::optional<MessageQueue> server(Create());
  MessageQueue client = Open();
  for (int i = 0; i < 10; ++i) client.Send("x", 1);
  server.reset();
  EXPECT_EQ(ErrorOf([&] { client.Send("x", 1); }),
            Error(EPIPE, "mq_send", "Broken pipe; the server has gone"));
  EXPECT_THAT(ErrorOf([&] { client.CheckServer(); }),
              StartsWith(std::to_string(EPIPE)));
}

// --- Limits ------------------------------------------------------------------

// These are above even root's limits.
TEST_F(MessageQueueTest, AttributesAboveTheLimitsAreExplained) {
  const std::string error =
      Error(EINVAL, "mq_open",
            "Invalid argument; see /proc/sys/fs/mqueue/msg_max, msgsize_max");
  EXPECT_EQ(
      ErrorOf([&] { MessageQueue::Create(name_, kNoTime, 1 << 17, 128); }),
      error);
  EXPECT_EQ(ErrorOf([&] { MessageQueue::Create(name_, kNoTime, 10, 1 << 25); }),
            error);
}

TEST_F(MessageQueueTest, TooMuchForTheUserIsExplained) {
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_MSGQUEUE, &limit), 0);
  const rlimit none{0, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_MSGQUEUE, &none), 0);
  const std::string error = ErrorOf([&] { Create(); });
  ASSERT_EQ(::setrlimit(RLIMIT_MSGQUEUE, &limit), 0);
  EXPECT_EQ(
      error,
      Error(EMFILE, "mq_open",
            "Too many open files; see `ulimit -q` (RLIMIT_MSGQUEUE), and -n"));
}

TEST_F(MessageQueueTest, ANameWithoutASlashIsExplained) {
  for (const bool server : {true, false}) {
    EXPECT_EQ(ErrorOf([&] {
                server ? MessageQueue::Create("name", kNoTime)
                       : MessageQueue::Open("name", kNoTime);
              }),
              std::to_string(EINVAL) +
                  ": mq_open 'name': Invalid argument; a name begins with /");
  }
}

}  // namespace
