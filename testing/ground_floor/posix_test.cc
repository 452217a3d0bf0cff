// Unit tests of posix.h.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <new>
#include <span>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "testing/processes/child_process.h"
#include "testing/processes/in_child.h"

// What the header calls in their place.
int WatchedClose(int fd);
int WatchedPoll(pollfd* fds, nfds_t size, int milliseconds);
ssize_t WatchedRead(int fd, void* bytes, std::size_t size);
ssize_t WatchedWrite(int fd, const void* bytes, std::size_t size);

#define close WatchedClose
#define poll WatchedPoll
#define read WatchedRead
#define write WatchedWrite
#include "posix.h"
#undef close
#undef poll
#undef read
#undef write
#include "testing/processes/shared_input.h"

namespace {

int closed = 0;
// Instead of poll, if there is one.
std::function<int(int milliseconds)> on_poll;
// How often read and write, in turns, are interrupted.
int interruptions = 0;
// How many bytes one write takes at most.
std::size_t write_at_most = ~std::size_t{0};
bool new_changes_errno = false;

bool IsInterrupted() {
  if (interruptions == 0) return false;
  --interruptions;
  errno = EINTR;
  return true;
}

}  // namespace

// Closes, and says that a signal came meanwhile.
int WatchedClose(int fd) {
  ++closed;
  ::close(fd);
  errno = EINTR;
  return -1;
}

int WatchedPoll(pollfd* fds, nfds_t size, int milliseconds) {
  return on_poll ? on_poll(milliseconds) : ::poll(fds, size, milliseconds);
}

ssize_t WatchedRead(int fd, void* bytes, std::size_t size) {
  return IsInterrupted() ? -1 : ::read(fd, bytes, size);
}

ssize_t WatchedWrite(int fd, const void* bytes, std::size_t size) {
  if (IsInterrupted()) return -1;
  return ::write(fd, bytes, std::min(size, write_at_most));
}

// malloc may change errno though it succeeds. malloc(3)
// NOLINTBEGIN(cppcoreguidelines-no-malloc)
[[gnu::noinline]] void* operator new(std::size_t size) {
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  if (new_changes_errno) errno = ENOMEM;
  return memory;
}
// The standard library's calls the one above, but AddressSanitizer's does not,
// and then its memory is none of free's.
[[gnu::noinline]] void* operator new(std::size_t size,
                                     const std::nothrow_t& /*tag*/) noexcept {
  return std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory,
                                       std::size_t /*size*/) noexcept {
  std::free(memory);
}
// NOLINTEND(cppcoreguidelines-no-malloc)

namespace {

using ipc::Block;
using ipc::Seconds;
using ipc::UniqueFd;
using ipc_testing::ErrorOf;
using ipc_testing::Exited;
using ipc_testing::InChild;
using ipc_testing::Pipe;
using testing::Test;

// Undoes what a test has set.
class PosixTest : public Test {
 protected:
  ~PosixTest() override {
    closed = 0;
    on_poll = nullptr;
    interruptions = 0;
    write_at_most = ~std::size_t{0};
    new_changes_errno = false;
    ipc::stop_signal = 0;
  }
};

// --- Errors ------------------------------------------------------------------

TEST(ErrorTest, NamesCallObjectReasonAndAdvice) {
  EXPECT_STREQ(ipc::Error(ENOENT, "open", "name").what(),
               "open 'name': No such file or directory");
  EXPECT_STREQ(ipc::Error(EBUSY, "open", "name", "wait").what(),
               "open 'name': Device or resource busy; wait");
  EXPECT_EQ(ipc::Error(ENOENT, "open", "name").code(),
            std::errc::no_such_file_or_directory);
}

TEST(CheckTest, PassesOnWhatACallHasReturned) {
  EXPECT_EQ(ipc::Check(0, "call", "name"), 0);
  EXPECT_EQ(ipc::Check(ssize_t{1} << 40, "call", "name"), ssize_t{1} << 40);
}

TEST(CheckTest, ThrowsWhatErrnoSays) {
  const auto [number, text] = ErrorOf(
      [] { ipc::Check(::fcntl(-1, F_GETFD), "fcntl", std::string("name")); });
  EXPECT_EQ(number, EBADF);
  EXPECT_EQ(text, "fcntl 'name': Bad file descriptor");
}

TEST_F(PosixTest, MemoryForAnErrorLeavesErrnoAsItWas) {
  const std::string name(1000, 'x');
  new_changes_errno = true;
  const auto error = ErrorOf([&] {
    ipc::Check(::fcntl(-1, F_GETFD), "a call with a very long name", name);
  });
  const auto of_read = ErrorOf([&] {
    Block block;
    ipc::ReadSome(-1, block, name);
  });
  new_changes_errno = false;
  EXPECT_EQ(error.first, EBADF);
  EXPECT_EQ(of_read.first, EBADF);
}

// --- Interruption ------------------------------------------------------------

int handled_into = -1;
void WriteByte(int) { [[maybe_unused]] auto n = ::write(handled_into, "x", 1); }
void AskToStop(int signal) { ipc::stop_signal = signal; }

// The signal is pending, and ppoll alone lets it through: it interrupts that
// for sure.
int PollPending(int fd, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  ::sigaction(SIGUSR1, &action, nullptr);
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGUSR1);
  ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
  ::raise(SIGUSR1);
  sigset_t none;
  ::sigemptyset(&none);
  pollfd ready{fd, POLLIN, 0};
  return ipc::Retry([&] { return ::ppoll(&ready, 1, nullptr, &none); });
}

TEST(RetryTest, CallsAgainAfterASignal) {
  auto child = InChild([] {
    Pipe pipe;
    handled_into = pipe.write_end.get();
    return PollPending(pipe.read_end.get(), WriteByte) == 1 ? 0 : 1;
  });
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(RetryTest, ReturnsTheInterruptionWhenAskedToStop) {
  auto child = InChild([] {
    Pipe pipe;
    const int result = PollPending(pipe.read_end.get(), AskToStop);
    return result == -1 && errno == EINTR ? 0 : 1;
  });
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(RetryTest, ReturnsOtherErrors) {
  int calls = 0;
  const int result = ipc::Retry([&] {
    ++calls;
    return ::fcntl(-1, F_GETFD);
  });
  EXPECT_EQ(result, -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(calls, 1);
}

TEST_F(PosixTest, AskedToStopIsAnError) {
  ipc::ThrowIfStopped();
  ipc::stop_signal = SIGTERM;
  EXPECT_EQ(ErrorOf([] { ipc::ThrowIfStopped(); }).first, EINTR);
}

// --- Descriptors -------------------------------------------------------------

bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) != -1; }
int Open() { return ::open("/dev/null", O_RDONLY | O_CLOEXEC); }

TEST_F(PosixTest, DescriptorIsClosedOnceEvenIfInterrupted) {
  const int number = Open();
  {
    UniqueFd fd(number);
    fd = UniqueFd();
    EXPECT_FALSE(fd);
    EXPECT_EQ(closed, 1);
    ASSERT_EQ(Open(), number) << "another's descriptor gets the number";
  }
  EXPECT_EQ(closed, 1);
  EXPECT_TRUE(IsOpen(number));
  ::close(number);
}

TEST_F(PosixTest, DescriptorIsMovedWithoutClosing) {
  const int number = Open();
  {
    UniqueFd first(number);
    UniqueFd second(std::move(first));
    UniqueFd third;
    third = std::move(second);
    EXPECT_EQ(third.get(), number);
    EXPECT_TRUE(third);
    EXPECT_EQ(closed, 0);
  }
  EXPECT_EQ(closed, 1);
  EXPECT_FALSE(IsOpen(number));
}

TEST_F(PosixTest, DescriptorThatIsAssignedToIsClosed) {
  const int first = Open();
  const int second = Open();
  UniqueFd fd(first);
  fd = UniqueFd(second);
  EXPECT_FALSE(IsOpen(first));
  EXPECT_TRUE(IsOpen(second));
}

int handle_closed = -1;
int CloseHandle(int handle) {
  handle_closed = handle;
  return 0;
}

TEST(UniqueHandleTest, IsClosedByItsOwnCall) {
  { const ipc::UniqueHandle<CloseHandle> handle(0); }
  EXPECT_EQ(handle_closed, 0);
}

// --- Waiting -----------------------------------------------------------------

TEST_F(PosixTest, PollTakesEveryTimeout) {
  int waited = -2;
  on_poll = [&](int milliseconds) {
    waited = milliseconds;
    return 0;
  };
  const auto poll_for = [&](Seconds timeout) {
    ipc::Poll({}, timeout);
    return waited;
  };
  EXPECT_EQ(poll_for(Seconds(-1e12)), 0);
  EXPECT_EQ(poll_for(Seconds(0)), 0);
  EXPECT_EQ(poll_for(std::chrono::hours(24 * 365 * 300)), -1);
  EXPECT_EQ(poll_for(ipc::kForever), -1);
  // The time from the call to the clock's next tick is not known, but that a
  // second is longer, and that a minute is not over.
  EXPECT_GT(poll_for(Seconds(60)), 0);
  EXPECT_LE(waited, 60000);
  EXPECT_GT(poll_for(std::chrono::hours(24 * 11)), 86400000 * 10);
  EXPECT_LE(waited, 86400000 * 11);
}

// Down to 0 it would be a busy wait: poll returns at once, again and again.
TEST_F(PosixTest, PollRoundsUpToMilliseconds) {
  std::vector<int> waits;
  on_poll = [&](int milliseconds) {
    waits.push_back(milliseconds);
    errno = EINTR;
    return milliseconds == 0 ? 0 : -1;
  };
  // For as long as anything is left, it asks for another millisecond.
  const Seconds end = ipc::Now() + Seconds(0.0004);
  while (waits.empty() || waits.front() != 1) {
    waits.clear();
    ipc::Poll({}, Seconds(0.0004));
  }
  EXPECT_GE(ipc::Now(), end);
  for (const int wait : waits) EXPECT_TRUE(wait == 1 || wait == 0);
  EXPECT_EQ(std::ranges::count(waits, 0), 1);
}

TEST_F(PosixTest, PollWaitsForTheRestAfterASignal) {
  std::vector<int> waits;
  on_poll = [&](int milliseconds) {
    waits.push_back(milliseconds);
    if (waits.size() == 2) return 0;
    const Seconds start = ipc::Now();
    while (ipc::Now() - start < Seconds(0.002)) continue;
    errno = EINTR;
    return -1;
  };
  EXPECT_FALSE(ipc::Poll({}, Seconds(60)));
  ASSERT_EQ(waits.size(), 2U);
  EXPECT_LT(waits[1], waits[0]);
}

TEST_F(PosixTest, PollSaysWhetherOneIsReadyOrHungUp) {
  Pipe pipe;
  pollfd ready{pipe.read_end.get(), POLLIN, 0};
  EXPECT_FALSE(ipc::Poll({&ready, 1}, Seconds(0)));
  ipc::WriteAll(pipe.write_end.get(), "x", "pipe");
  EXPECT_TRUE(ipc::Poll({&ready, 1}, ipc::kForever));
  EXPECT_EQ(ready.revents, POLLIN);
  Pipe other;
  other.write_end = UniqueFd();
  ready.fd = other.read_end.get();
  EXPECT_TRUE(ipc::Poll({&ready, 1}, ipc::kForever));
  EXPECT_EQ(ready.revents, POLLHUP);
}

// A loop that always finds one ready has to end, too.
TEST_F(PosixTest, PollEndsWhenAskedToStop) {
  Pipe pipe;
  ipc::WriteAll(pipe.write_end.get(), "x", "pipe");
  pollfd ready{pipe.read_end.get(), POLLIN, 0};
  ipc::stop_signal = SIGTERM;
  EXPECT_EQ(ErrorOf([&] { ipc::Poll({&ready, 1}, Seconds(0)); }).first, EINTR);
}

TEST_F(PosixTest, PollEndsWhenAskedToStopMeanwhile) {
  on_poll = [](int) {
    ipc::stop_signal = SIGTERM;
    errno = EINTR;
    return -1;
  };
  EXPECT_EQ(ErrorOf([] { ipc::Poll({}, ipc::kForever); }).first, EINTR);
}

TEST_F(PosixTest, PollForThrowsAtTheTimeout) {
  const Pipe pipe;
  const auto error = ErrorOf([&] {
    ipc::PollFor("a byte", pipe.read_end.get(), POLLIN, Seconds(0.001), "pipe");
  });
  EXPECT_EQ(error.first, ETIMEDOUT);
  EXPECT_EQ(error.second,
            "poll 'pipe': Connection timed out; waited for a byte");
}

// --- Bytes -------------------------------------------------------------------

// Classic examples read one byte a call, and take -1 for the end.
TEST_F(PosixTest, ReadSomeReadsABlockTheEndAndErrors) {
  Pipe pipe;
  Block block{};
  const std::string sent = ipc_testing::RandomBytes(block.size());
  ipc::WriteAll(pipe.write_end.get(), sent, "pipe");
  EXPECT_TRUE(ipc::ReadSome(pipe.read_end.get(), block, "pipe") == sent);
  pipe.write_end = UniqueFd();
  EXPECT_TRUE(ipc::ReadSome(pipe.read_end.get(), block, "pipe").empty());
  EXPECT_EQ(ErrorOf([&] { ipc::ReadSome(-1, block, "name"); }).second,
            "read 'name': Bad file descriptor");
}

TEST_F(PosixTest, ReadSomeReadsWhatThereIs) {
  const Pipe pipe;
  Block block{};
  ipc::WriteAll(pipe.write_end.get(), std::string_view("a\0b", 3), "pipe");
  EXPECT_EQ(ipc::ReadSome(pipe.read_end.get(), block, "pipe"),
            std::string_view("a\0b", 3));
}

// Another process that shares the descriptor may have made it non-blocking.
TEST_F(PosixTest, ReadSomeWaitsWhereTheDescriptorDoesNotBlock) {
  const Pipe pipe(O_NONBLOCK);
  on_poll = [&](int milliseconds) {
    EXPECT_EQ(milliseconds, -1);
    EXPECT_EQ(::write(pipe.write_end.get(), "later", 5), 5);
    return 1;
  };
  Block block{};
  EXPECT_EQ(ipc::ReadSome(pipe.read_end.get(), block, "pipe"), "later");
}

TEST_F(PosixTest, ReadSomeEndsAtTheTimeout) {
  const Pipe pipe(O_NONBLOCK);
  Block block{};
  EXPECT_EQ(ErrorOf([&] {
              ipc::ReadSome(pipe.read_end.get(), block, "pipe", Seconds(0.001));
            }).second,
            "poll 'pipe': Connection timed out; waited for bytes");
}

TEST_F(PosixTest, ReadSomeReadsOnAfterASignal) {
  const Pipe pipe;
  ipc::WriteAll(pipe.write_end.get(), "x", "pipe");
  interruptions = 3;
  Block block{};
  EXPECT_EQ(ipc::ReadSome(pipe.read_end.get(), block, "pipe"), "x");
  EXPECT_EQ(interruptions, 0);
}

// Who copies a file never waits, and has to end nevertheless.
TEST_F(PosixTest, ReadSomeEndsWhenAskedToStop) {
  const Pipe pipe;
  ipc::WriteAll(pipe.write_end.get(), "x", "pipe");
  Block block{};
  ipc::stop_signal = SIGTERM;
  EXPECT_EQ(
      ErrorOf([&] { ipc::ReadSome(pipe.read_end.get(), block, "pipe"); }).first,
      EINTR);
  ipc::stop_signal = 0;
  EXPECT_EQ(ipc::ReadSome(pipe.read_end.get(), block, "pipe"), "x")
      << "nothing is taken that would be lost";
}

// More than fits: each write is short, or finds no room.
TEST_F(PosixTest, WriteAllWritesAllWithoutBlocking) {
  const Pipe pipe(O_NONBLOCK);
  const std::string sent = ipc_testing::RandomBytes(1000000);
  std::thread writing(
      [&] { ipc::WriteAll(pipe.write_end.get(), sent, "pipe"); });
  std::string received;
  Block block;
  while (received.size() < sent.size()) {
    received += ipc::ReadSome(pipe.read_end.get(), block, "pipe");
  }
  writing.join();
  EXPECT_TRUE(received == sent);
}

TEST_F(PosixTest, WriteAllWritesOnAfterSignalsAndShortWrites) {
  const Pipe pipe;
  const std::string sent = ipc_testing::RandomBytes(1000);
  interruptions = 3;
  write_at_most = 7;
  ipc::WriteAll(pipe.write_end.get(), sent, "pipe");
  EXPECT_EQ(interruptions, 0);
  Block block;
  EXPECT_TRUE(ipc::ReadSome(pipe.read_end.get(), block, "pipe") == sent);
}

TEST_F(PosixTest, WriteAllWritesNothingWhereThereIsNothing) {
  ipc::WriteAll(-1, "", "name");
}

TEST_F(PosixTest, WriteAllEndsAtTheTimeoutWhereNobodyReads) {
  const Pipe pipe(O_NONBLOCK);
  const std::string bytes(1000000, 'x');
  EXPECT_EQ(ErrorOf([&] {
              ipc::WriteAll(pipe.write_end.get(), bytes, "pipe",
                            Seconds(0.001));
            }).second,
            "poll 'pipe': Connection timed out; waited for room");
}

// They were taken from elsewhere, and would be lost.
TEST_F(PosixTest, WriteAllWritesWhatFitsThoughAskedToStop) {
  const Pipe pipe;
  ipc::stop_signal = SIGTERM;
  ipc::WriteAll(pipe.write_end.get(), "bytes", "pipe");
  ipc::stop_signal = 0;
  Block block;
  EXPECT_EQ(ipc::ReadSome(pipe.read_end.get(), block, "pipe"), "bytes");
}

TEST_F(PosixTest, WriteAllEndsWhenAskedToStopWhileItWaits) {
  const Pipe pipe(O_NONBLOCK);
  const std::string bytes(1000000, 'x');
  ipc::stop_signal = SIGTERM;
  EXPECT_EQ(ErrorOf([&] {
              ipc::WriteAll(pipe.write_end.get(), bytes, "pipe");
            }).first,
            EINTR);
}

TEST_F(PosixTest, WriteAllReportsErrors) {
  ::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  pipe.read_end = UniqueFd();
  EXPECT_EQ(
      ErrorOf([&] { ipc::WriteAll(pipe.write_end.get(), "x", "pipe"); }).second,
      "write 'pipe': Broken pipe");
  ::signal(SIGPIPE, SIG_DFL);
}

}  // namespace
