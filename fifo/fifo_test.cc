// The header alone, at the instants and with the errors that no timing brings
// about: a test steps into the system call where it matters.
#include "fifo/fifo.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>

#include <filesystem>
#include <functional>

#include "testing/child_process.h"

namespace {

// Each happens once, and then is gone.
std::function<void()> before_unlink;
std::function<void()> before_fstat;
std::function<void()> before_flock;
std::function<void()> after_lstat;
std::function<void()> before_poll;
std::function<void()> during_poll;  // And it fails with EINTR.
int read_error = 0;
uid_t stranger = 0;

bool Happen(std::function<void()>& event) {
  const auto once = std::exchange(event, nullptr);
  if (once) once();
  return once != nullptr;
}

}  // namespace

// In the place of the C library's: the header calls these.
extern "C" {
int unlink(const char* path) noexcept {
  Happen(before_unlink);
  return ::unlinkat(AT_FDCWD, path, 0);
}
int fstat(int fd, struct stat* status) noexcept {
  Happen(before_fstat);
  return ::fstatat(fd, "", status, AT_EMPTY_PATH);
}
int lstat(const char* path, struct stat* status) noexcept {
  const int result = ::fstatat(AT_FDCWD, path, status, AT_SYMLINK_NOFOLLOW);
  Happen(after_lstat);
  return result;
}
int flock(int fd, int operation) noexcept {
  Happen(before_flock);
  return static_cast<int>(::syscall(SYS_flock, fd, operation));
}
int poll(pollfd* fds, nfds_t count, int milliseconds) {
  Happen(before_poll);
  if (Happen(during_poll)) {
    errno = EINTR;
    return -1;
  }
  const timespec time{milliseconds / 1000, milliseconds % 1000 * 1000000L};
  return ::ppoll(fds, count, milliseconds < 0 ? nullptr : &time, nullptr);
}
ssize_t read(int fd, void* buffer, size_t size) {
  if (read_error != 0) {
    errno = std::exchange(read_error, 0);
    return -1;
  }
  return ::syscall(SYS_read, fd, buffer, size);
}
uid_t geteuid() noexcept {
  return static_cast<uid_t>(::syscall(SYS_geteuid)) + stranger;
}
}

namespace {

namespace fs = std::filesystem;
using ipc::FifoReader;
using ipc::FifoWriter;
using ipc_testing::TemporaryDirectory;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;
using Sends = FifoWriter::Sends;
using std::chrono::seconds;

constexpr seconds kPatience = ipc_testing::ChildProcess::kPatience;

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
std::string Starting(int error, const std::string& text) {
  return std::to_string(error) + ": " + text;
}

class FifoTest : public testing::Test {
 protected:
  FifoReader Reader(os::Timeout timeout = kPatience) {
    return {path_, timeout};
  }
  FifoWriter Writer(Sends sends = Sends::kRecords,
                    os::Timeout timeout = kPatience) {
    return {path_, sends, timeout};
  }
  static std::string ReadAll(FifoReader& reader) {
    std::string text;
    os::Block block;
    while (const std::size_t n = reader.Read(block)) {
      text.append(reinterpret_cast<const char*>(block.data()), n);
    }
    return text;
  }
  static std::string ReadSome(FifoReader& reader) {
    os::Block block;
    const std::size_t n = reader.Read(block);
    return {reinterpret_cast<const char*>(block.data()), n};
  }

  TemporaryDirectory directory_;
  std::string path_ = directory_ / "fifo";
};

TEST_F(FifoTest, WhatIsWrittenIsReadAndThenTheEnd) {
  FifoReader reader = Reader();
  Writer().Write(os::Bytes("Hello"));
  EXPECT_EQ(ReadAll(reader), "Hello");
}

// Or the user's pipes together have all that they may. pipe(7)
TEST_F(FifoTest, HasRoomForMoreThanOneBlock) {
  const FifoReader reader = Reader();
  const FifoWriter writer = Writer();
  constexpr int kRoom = 4 * sizeof(os::Block);
  EXPECT_TRUE(::fcntl(writer.fd(), F_GETPIPE_SZ) == kRoom ||
              ::fcntl(writer.fd(), F_SETPIPE_SZ, kRoom) == -1);
}

TEST_F(FifoTest, TheNameGoesWithItsReader) {
  { const FifoReader reader = Reader(); }
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoTest, NextWritersAreReadUntilAllHaveClosed) {
  FifoReader reader = Reader();
  {
    FifoWriter first = Writer(Sends::kStream);
    first.Write(os::Bytes("one "));
    EXPECT_EQ(ReadSome(reader), "one ");
    first.Write(os::Bytes("two"));
  }
  EXPECT_EQ(ReadAll(reader), "two");
}

// Between the reader's end-of-file and its close.
TEST_F(FifoTest, AWriterThatComesAtTheEndLosesNothing) {
  FifoReader reader = Reader();
  Writer().Write(os::Bytes("early "));
  before_unlink = [&] { Writer().Write(os::Bytes("late")); };
  EXPECT_EQ(ReadAll(reader), "early late");
}

// It has opened the FIFO, and before it writes the reader has seen the end.
TEST_F(FifoTest, AWriterThatComesAfterTheEndWaitsForTheNextReader) {
  FifoReader first = Reader();
  std::optional<FifoReader> next;
  before_fstat = [&] {
    ::unlinkat(AT_FDCWD, path_.c_str(), 0);
    next.emplace(path_, kPatience);
  };
  FifoWriter writer = Writer();
  writer.Write(os::Bytes("Hello"));
  EXPECT_EQ(ReadSome(*next), "Hello");
}

TEST_F(FifoTest, AStreamSharesTheFifoWithNobody) {
  const FifoReader reader = Reader();
  const FifoWriter stream = Writer(Sends::kStream);
  const std::string busy =
      Starting(EBUSY, "open '" + path_ + "': Device or resource busy");
  EXPECT_THAT(ErrorOf([&] { Writer(Sends::kStream); }), StartsWith(busy));
  EXPECT_THAT(ErrorOf([&] { Writer(Sends::kRecords); }), StartsWith(busy));
}

TEST_F(FifoTest, AStreamDoesNotComeBetweenRecords) {
  const FifoReader reader = Reader();
  const FifoWriter records = Writer(Sends::kRecords);
  EXPECT_THAT(ErrorOf([&] { Writer(Sends::kStream); }),
              StartsWith(Starting(EBUSY, "open")));
}

TEST_F(FifoTest, EachWaitEnds) {
  constexpr os::Timeout kNoTime{0};
  EXPECT_THAT(ErrorOf([&] { Writer(Sends::kRecords, kNoTime); }),
              Starting(ETIMEDOUT, "open '" + path_ +
                                      "': Connection timed out; waited for a "
                                      "reader"));
  FifoReader reader = Reader(kNoTime);
  EXPECT_THAT(ErrorOf([&] { ReadSome(reader); }),
              Starting(ETIMEDOUT, "poll '" + path_ +
                                      "': Connection timed out; waited for a "
                                      "writer"));
  FifoWriter writer = Writer(Sends::kStream, kNoTime);
  EXPECT_THAT(ErrorOf([&] { ReadSome(reader); }),
              StartsWith(Starting(ETIMEDOUT, "poll")));
  EXPECT_THAT(
      ErrorOf([&] { writer.Write(std::vector<std::byte>(1 << 20)); }),
      Starting(ETIMEDOUT,
               "poll '" + path_ + "': Connection timed out; waited for room"));
}

TEST_F(FifoTest, AnErrorIsNotTheEnd) {
  FifoReader reader = Reader();
  Writer().Write(os::Bytes("Hello"));
  read_error = EIO;
  EXPECT_EQ(ErrorOf([&] { ReadSome(reader); }),
            Starting(EIO, "read '" + path_ + "': Input/output error"));
}

TEST_F(FifoTest, NothingThereIsNotTheEnd) {
  FifoReader reader = Reader();
  Writer().Write(os::Bytes("Hello"));
  read_error = EAGAIN;
  EXPECT_EQ(ReadAll(reader), "Hello");
}

TEST_F(FifoTest, InterruptedCallsAreMadeAgain) {
  FifoReader reader = Reader();
  during_poll = [&] { Writer().Write(os::Bytes("Hello")); };
  read_error = EINTR;
  EXPECT_EQ(ReadAll(reader), "Hello");
}

TEST_F(FifoTest, AStopRequestEndsAWait) {
  FifoReader reader = Reader();
  during_poll = [] { os::stop_signal = SIGTERM; };
  EXPECT_THROW(ReadSome(reader), os::Interrupted);
  os::stop_signal = 0;
}

// It came after the last look at stop_signal, and interrupts no call.
TEST_F(FifoTest, AStopRequestJustBeforeAWaitEndsIt) {
  FifoReader reader = Reader();
  os::CatchStopSignals();
  before_poll = [] { ::raise(SIGTERM); };
  EXPECT_THROW(ReadSome(reader), os::Interrupted);
  ::alarm(0);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGALRM}) {
    ::signal(signal, SIG_DFL);
  }
  os::stop_signal = 0;
}

// Of two at once, one has the name.
TEST_F(FifoTest, TheReaderThatLocksFirstHasTheName) {
  std::optional<FifoReader> other;
  before_flock = [&] { other.emplace(path_, kPatience); };
  EXPECT_THAT(ErrorOf([&] { Reader(); }),
              StartsWith(Starting(EBUSY, "mkfifo")));
  Writer(Sends::kRecords, seconds(0)).Write(os::Bytes("Hello"));
  EXPECT_EQ(ReadAll(*other), "Hello");
}

// The second has opened the FIFO, and the first removes it.
TEST_F(FifoTest, AReaderThatComesWhenAnotherLeavesHasAName) {
  std::optional<FifoReader> first(Reader());
  before_fstat = [&] { first.reset(); };
  FifoReader second = Reader();
  Writer(Sends::kRecords, seconds(0)).Write(os::Bytes("Hello"));
  EXPECT_EQ(ReadAll(second), "Hello");
}

// Or a program started meanwhile would hold a write end, and hide the end.
TEST_F(FifoTest, ProgramsStartedMeanwhileDoNotInheritIt) {
  const FifoReader reader = Reader();
  const FifoWriter writer = Writer();
  int ends = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;  // The directory's own.
    if (fs::read_symlink(entry, gone) != path_) continue;
    ++ends;
    const int fd = std::stoi(entry.path().filename());
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_EQ(ends, 2);
}

TEST_F(FifoTest, ALinkThatComesAtTheLastInstantIsNotFollowed) {
  const std::string target = directory_ / "target";
  ASSERT_EQ(::mkfifo(path_.c_str(), 0644), 0);
  const os::UniqueFd peer(::open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  for (const std::function<void()>& open :
       {std::function<void()>([&] { Reader(); }), {[&] { Writer(); }}}) {
    after_lstat = [&] {
      fs::rename(path_, target);
      fs::create_symlink(target, path_);
    };
    EXPECT_THAT(ErrorOf(open), StartsWith(std::to_string(ELOOP)));
    EXPECT_TRUE(fs::is_symlink(path_));
    fs::rename(target, path_);
  }
}

TEST_F(FifoTest, AnotherUsersFifoIsLeftAlone) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0644), 0);
  const os::UniqueFd peer(::open(path_.c_str(), O_RDONLY | O_NONBLOCK));
  stranger = 1;
  const std::string reader_error = ErrorOf([&] { Reader(); });
  const std::string writer_error = ErrorOf([&] { Writer(); });
  stranger = 0;
  EXPECT_THAT(reader_error, StartsWith(Starting(EACCES, "mkfifo")));
  EXPECT_THAT(writer_error, StartsWith(Starting(EACCES, "open")));
  EXPECT_THAT(writer_error, HasSubstr("another user's"));
  EXPECT_TRUE(fs::is_fifo(path_));
}

}  // namespace
