// Unit tests of posix.h. What a process can do only once (end, have a signal,
// parse its command line) is done by a child of the test.
#include <gtest/gtest.h>
#include <linux/close_range.h>
#include <unistd.h>

#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "testing/child_process.h"

// What the header calls in their place.
int WatchedClose(int fd);
uid_t WatchedGeteuid();

#define close WatchedClose
#define geteuid WatchedGeteuid
#include "posix.h"
#undef close
#undef geteuid

namespace {

int closed = 0;
uid_t added_to_uid = 0;

}  // namespace

// Closes, and says that a signal came meanwhile.
int WatchedClose(int fd) {
  ++closed;
  ::close(fd);
  errno = EINTR;
  return -1;
}

uid_t WatchedGeteuid() { return ::geteuid() + added_to_uid; }

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;
using os::Timeout;
using os::UniqueFd;
using testing::Test;

// The error that the body throws, as its number and text.
std::pair<int, std::string> ErrorOf(const std::function<void()>& body) {
  try {
    body();
  } catch (const os::Error& error) {
    return {error.code().value(), error.what()};
  }
  return {0, "no error"};
}

// One at a time: each has a thread here, and what is forked must have none.
ChildProcess InChild(const std::function<int()>& body,
                     const std::optional<std::string>& input = "") {
  return ChildProcess({"unused"}, input, [&] {
    // Or its own copy of the other end would keep the end of input from it.
    ::close_range(3, ~0U, 0);
    ::_exit(body());
  });
}

struct Pipe {
  explicit Pipe(int flags = 0) {
    int ends[2] = {};
    EXPECT_EQ(::pipe2(ends, flags | O_CLOEXEC), 0);
    read_end = UniqueFd(ends[0]);
    write_end = UniqueFd(ends[1]);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

class FileTest : public Test {
 protected:
  UniqueFd Open(int flags = O_CREAT) const {
    return UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC | flags, 0600));
  }
  bool Exists() const { return ::access(path_.c_str(), F_OK) == 0; }

  const ipc_testing::TemporaryDirectory directory_;
  const std::string path_ = directory_ / "file";
};

// --- Errors ------------------------------------------------------------------

TEST(ErrorTest, NamesCallObjectReasonAndAdvice) {
  EXPECT_STREQ(os::Error(ENOENT, "open", "name").what(),
               "open 'name': No such file or directory");
  EXPECT_STREQ(os::Error(EBUSY, "open", "name", "wait").what(),
               "open 'name': Device or resource busy; wait");
  EXPECT_EQ(os::Error(ENOENT, "open", "name").code(),
            std::errc::no_such_file_or_directory);
}

TEST(SayTest, IsOneLineWhateverItContains) {
  auto child = InChild([] {
    os::Say("a\nb\r\x1b[1m\x7f c");
    return 0;
  });
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Err(), "posix_test: a?b??[1m? c\n");
}

// --- Interruption ------------------------------------------------------------

int handled_into = -1;
void WriteByte(int) { [[maybe_unused]] auto n = ::write(handled_into, "x", 1); }

// The signal is pending, and ppoll alone lets it through: it interrupts that
// for sure.
int PollPending(int fd, int signal) {
  struct Blocked {
    explicit Blocked(int number) {
      ::sigemptyset(&signals);
      ::sigaddset(&signals, number);
      ::sigprocmask(SIG_BLOCK, &signals, nullptr);
    }
    ~Blocked() { ::sigprocmask(SIG_UNBLOCK, &signals, nullptr); }
    sigset_t signals{};
  };
  const Blocked blocked(signal);
  ::raise(signal);
  sigset_t none;
  ::sigemptyset(&none);
  pollfd ready{fd, POLLIN, 0};
  return os::Retry(::ppoll, &ready, 1UL, static_cast<timespec*>(nullptr),
                   &none);
}

TEST(RetryTest, CallsAgainAfterASignal) {
  auto child = InChild([] {
    Pipe pipe;
    handled_into = pipe.write_end.get();
    struct sigaction action {};
    action.sa_handler = WriteByte;
    ::sigaction(SIGUSR1, &action, nullptr);
    return PollPending(pipe.read_end.get(), SIGUSR1) == 1 ? 0 : 1;
  });
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(RetryTest, EndsWhenAskedToStop) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    auto child = InChild([&] {
      os::CatchStopSignals();
      return os::ExitStatus([&] {
        Pipe pipe;
        PollPending(pipe.read_end.get(), signal);
      });
    });
    EXPECT_EQ(child.Wait(), Killed(signal));
    EXPECT_EQ(child.Err(), "");
  }
}

// Between the last look at stop_signal and the call.
TEST(RetryTest, EndsWhenAskedToStopJustBefore) {
  auto child = InChild([] {
    os::CatchStopSignals();
    return os::ExitStatus([] {
      Pipe pipe;
      char byte = 0;
      ::raise(SIGTERM);
      os::Retry(::read, pipe.read_end.get(), &byte, 1UL);
    });
  });
  EXPECT_EQ(child.Wait(), Killed(SIGTERM));
}

TEST(RetryTest, ReturnsOtherErrors) {
  char byte = 0;
  EXPECT_EQ(os::Retry(::read, -1, &byte, 1UL), -1);
  EXPECT_EQ(errno, EBADF);
  EXPECT_EQ(ErrorOf([&] {
              os::Check("read", "name", ::read, -1, &byte, 1UL);
            }).second,
            "read 'name': Bad file descriptor");
}

TEST(StopTest, SignalThatWasIgnoredStaysIgnored) {
  auto child = InChild([] {
    ::signal(SIGHUP, SIG_IGN);
    os::CatchStopSignals();
    return os::ExitStatus([] {
      ::raise(SIGHUP);
      os::ThrowIfStopped();
    });
  });
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(StopTest, FirstSignalCounts) {
  auto child = InChild([] {
    os::CatchStopSignals();
    return os::ExitStatus([] {
      for (const int signal : {SIGTERM, SIGINT, SIGALRM}) ::raise(signal);
      os::ThrowIfStopped();
    });
  });
  EXPECT_EQ(child.Wait(), Killed(SIGTERM));
}

// --- Descriptors and locks ---------------------------------------------------

bool IsOpen(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

TEST(UniqueFdTest, ClosesOnceEvenIfInterrupted) {
  closed = 0;
  const int number = ::open("/dev/null", O_RDONLY);
  {
    UniqueFd fd(number);
    fd.Close();
    EXPECT_FALSE(fd);
    EXPECT_EQ(closed, 1);
    // Another's descriptor gets the number.
    ASSERT_EQ(::open("/dev/null", O_RDONLY), number);
    fd.Close();
  }
  EXPECT_EQ(closed, 1);
  EXPECT_TRUE(IsOpen(number));
  ::close(number);
}

TEST(UniqueFdTest, MovesWithoutClosing) {
  const int number = ::open("/dev/null", O_RDONLY);
  {
    UniqueFd first(number);
    UniqueFd second(std::move(first));
    UniqueFd third;
    third = std::move(second);
    EXPECT_EQ(third.get(), number);
    EXPECT_TRUE(IsOpen(number));
  }
  EXPECT_FALSE(IsOpen(number));
}

TEST_F(FileTest, LockIsSeenByOthersUntilItsDescriptorIsClosed) {
  UniqueFd one = Open();
  const UniqueFd other = Open();
  EXPECT_FALSE(os::IsLocked(other.get(), path_));
  EXPECT_TRUE(os::TryLock(one.get(), path_));
  EXPECT_TRUE(os::TryLock(one.get(), path_)) << "its own is no obstacle";
  EXPECT_FALSE(os::IsLocked(one.get(), path_));
  EXPECT_TRUE(os::IsLocked(other.get(), path_));
  EXPECT_FALSE(os::TryLock(other.get(), path_));
  one.Close();
  EXPECT_FALSE(os::IsLocked(other.get(), path_));
  EXPECT_TRUE(os::TryLock(other.get(), path_));
}

TEST_F(FileTest, LocksAreOfBytes) {
  const UniqueFd one = Open();
  const UniqueFd other = Open();
  EXPECT_TRUE(os::TryLock(one.get(), path_, 1));
  EXPECT_FALSE(os::IsLocked(other.get(), path_, 0));
  EXPECT_TRUE(os::IsLocked(other.get(), path_, 1));
  EXPECT_TRUE(os::TryLock(other.get(), path_, 0));
  EXPECT_TRUE(os::TryLock(other.get(), path_, 2, 0)) << "all after it";
  EXPECT_TRUE(os::IsLocked(one.get(), path_, 1000000));
  os::Unlock(other.get(), path_);
  EXPECT_FALSE(os::IsLocked(one.get(), path_, 0));
  EXPECT_FALSE(os::IsLocked(one.get(), path_, 1000000));
}

TEST(LockTest, ThatFailsIsAFailure) {
  EXPECT_EQ(ErrorOf([] { os::TryLock(-1, "name"); }).second,
            "fcntl 'name': Bad file descriptor");
}

// --- Names -------------------------------------------------------------------

TEST_F(FileTest, OpenExistingIsEmptyWhereNothingIs) {
  const auto open = [&](const std::string& path) {
    return os::OpenExisting("open", path, ::open, path.c_str(), O_RDONLY);
  };
  EXPECT_FALSE(open(path_));
  Open();
  EXPECT_TRUE(open(path_));
  EXPECT_EQ(ErrorOf([&] { open(path_ + "/x"); }).first, ENOTDIR);
  added_to_uid = 1;
  EXPECT_EQ(ErrorOf([&] { open(path_); }).second,
            "open '" + path_ +
                "': Permission denied; it is another user's: choose another");
  added_to_uid = 0;
}

TEST_F(FileTest, OwnedNameIsRemovedOnce) {
  Open();
  {
    os::OwnedName first(::unlink, path_);
    os::OwnedName name(std::move(first));
    name.Remove();
    EXPECT_FALSE(Exists());
    Open();  // Another's.
  }
  EXPECT_TRUE(Exists());
  { const os::OwnedName name(::unlink, path_); }
  EXPECT_FALSE(Exists());
}

TEST_F(FileTest, OwnedNameThatIsReleasedStays) {
  Open();
  os::OwnedName(::unlink, path_).Release();
  EXPECT_TRUE(Exists());
}

class OwnTest : public FileTest {
 protected:
  using Adopt = std::function<bool(int)>;
  static bool Use(int) { return true; }
  static bool MakeAnew(int) { return false; }
  static bool MustNotBeAsked(int) {
    ADD_FAILURE() << "asked to adopt";
    return false;
  }

  os::OwnedObject Own(const Adopt& adopt) {
    return os::Own(
        "open", path_, ::unlink,
        [&](int flags) {
          if (before_open_) before_open_(flags);
          const int fd =
              ::open(path_.c_str(), O_RDWR | O_CLOEXEC | flags, 0600);
          if (after_open_) after_open_(flags);
          return fd;
        },
        adopt);
  }
  ino_t Inode() const { return os::Stat(Open(0).get(), path_).st_ino; }

  // What others do meanwhile.
  std::function<void(int)> before_open_;
  std::function<void(int)> after_open_;
};

TEST_F(OwnTest, NewObjectIsLockedAndRemovedWithItsOwner) {
  {
    const auto owned = Own(MustNotBeAsked);
    EXPECT_TRUE(os::IsLocked(Open(0).get(), path_));
  }
  EXPECT_FALSE(Exists());
}

TEST_F(OwnTest, LiveOwnerIsLeftAlone) {
  const auto owned = Own(MustNotBeAsked);
  EXPECT_EQ(
      ErrorOf([&] { Own(MustNotBeAsked); }).second,
      "open '" + path_ + "': Device or resource busy; choose another name");
  EXPECT_TRUE(Exists());
}

TEST_F(OwnTest, DeadOwnersObjectIsUsed) {
  Open();
  const ino_t inode = Inode();
  {
    const auto owned = Own(Use);
    EXPECT_EQ(os::Stat(owned.fd.get(), path_).st_ino, inode);
    EXPECT_TRUE(os::IsLocked(Open(0).get(), path_));
  }
  EXPECT_FALSE(Exists());
}

TEST_F(OwnTest, DeadOwnersObjectIsMadeAnew) {
  const UniqueFd old = Open();
  const auto owned = Own(MakeAnew);
  EXPECT_EQ(os::Stat(old.get(), path_).st_nlink, 0);
  EXPECT_EQ(os::Stat(owned.fd.get(), path_).st_ino, Inode());
}

TEST_F(OwnTest, SomethingElseIsLeft) {
  Open();
  EXPECT_EQ(ErrorOf([&] {
              Own([&](int) -> bool { throw os::Error(EEXIST, "open", path_); });
            }).first,
            EEXIST);
  EXPECT_TRUE(Exists());
  EXPECT_FALSE(os::IsLocked(Open(0).get(), path_));
}

TEST_F(OwnTest, ObjectThatIsRemovedBeforeItIsOpenedIsMadeAnew) {
  Open();
  before_open_ = [&](int flags) {
    if (flags == 0) ::unlink(path_.c_str());
  };
  const auto owned = Own(MustNotBeAsked);
  EXPECT_EQ(os::Stat(owned.fd.get(), path_).st_ino, Inode());
}

TEST_F(OwnTest, ObjectThatIsRemovedBeforeItIsLockedIsMadeAnew) {
  Open();
  after_open_ = [&](int flags) {
    if (flags == 0) ::unlink(path_.c_str());
  };
  const auto owned = Own(MustNotBeAsked);
  EXPECT_EQ(os::Stat(owned.fd.get(), path_).st_ino, Inode());
}

// Another took it for a dead owner's, and put its own in its place.
TEST_F(OwnTest, NewObjectThatIsReplacedBeforeItIsLockedIsNotOurs) {
  UniqueFd others;
  after_open_ = [&](int flags) {
    if (flags == 0 || others) return;
    ::unlink(path_.c_str());
    others = Open();
    os::TryLock(others.get(), path_);
  };
  EXPECT_EQ(ErrorOf([&] { Own(MustNotBeAsked); }).first, EBUSY);
  EXPECT_EQ(os::Stat(others.get(), path_).st_nlink, 1);
}

TEST_F(OwnTest, NewObjectThatIsLockedByAnotherIsNotOurs) {
  UniqueFd others;
  after_open_ = [&](int) {
    others = Open(0);
    os::TryLock(others.get(), path_);
  };
  EXPECT_EQ(ErrorOf([&] { Own(MustNotBeAsked); }).first, EBUSY);
  EXPECT_TRUE(Exists());
}

TEST_F(OwnTest, AnotherUsersObjectIsLeft) {
  Open();
  added_to_uid = 1;
  EXPECT_EQ(ErrorOf([&] { Own(MustNotBeAsked); }).first, EACCES);
  added_to_uid = 0;
  EXPECT_TRUE(Exists());
}

TEST_F(OwnTest, CallThatFailsIsAFailure) {
  const auto open = [](int) {
    errno = EMFILE;
    return -1;
  };
  EXPECT_EQ(ErrorOf([&] {
              os::Own("open", "name", ::unlink, open, MustNotBeAsked);
            }).second,
            "open 'name': Too many open files");
}

// --- Waiting -----------------------------------------------------------------

TEST(DeadlineTest, SaysWhatIsLeft) {
  const os::Deadline forever(os::kForever);
  EXPECT_FALSE(forever.Passed());
  EXPECT_EQ(forever.Left(), -1);
  EXPECT_EQ(forever.Left(Timeout(7)), 7);
  const os::Deadline passed(Timeout(0));
  EXPECT_TRUE(passed.Passed());
  EXPECT_EQ(passed.Left(), 0);
  const os::Deadline hour(std::chrono::hours(1));
  EXPECT_FALSE(hour.Passed());
  EXPECT_GT(hour.Left(), 0);
  EXPECT_LE(hour.Left(), 3600000);
  EXPECT_EQ(hour.Left(Timeout(7)), 7);
  EXPECT_EQ(os::Deadline(std::chrono::hours(1000000)).Left(), INT_MAX);
}

TEST(FromNowTest, IsATimeOfTheMonotonicClock) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const timespec then = os::FromNow(Timeout(999));
  EXPECT_GE(then.tv_sec * 1000000000 + then.tv_nsec,
            now.tv_sec * 1000000000 + now.tv_nsec + 999000000);
  EXPECT_GE(then.tv_nsec, 0);
  EXPECT_LT(then.tv_nsec, 1000000000);
}

TEST(PollTest, EndsAtTheTimeout) {
  const Pipe pipe;
  EXPECT_EQ(ErrorOf([&] {
              os::PollFor("a byte", pipe.read_end.get(), POLLIN, "pipe",
                          Timeout(1));
            }).second,
            "poll 'pipe': Connection timed out; waited for a byte");
}

TEST(AwaitTest, SaysThatItWaitsOnlyWhereItDoes) {
  auto child = InChild([] {
    return os::ExitStatus([] {
      const auto at_once = [](Timeout pause) { return pause == Timeout(0); };
      os::Await("a peer", "open", "one", os::kForever, at_once);
      const auto later = [n = 0](Timeout) mutable { return ++n == 5; };
      os::Await("a peer", "open", "other", os::kForever, later);
    });
  });
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Err(), "posix_test: waiting for a peer on 'other'\n");
}

TEST(AwaitTest, LooksAtLeastOnceAndEndsAtTheTimeout) {
  for (const int milliseconds : {0, 1}) {
    std::vector<Timeout> pauses;
    const auto look = [&](Timeout pause) {
      pauses.push_back(pause);
      os::Pause(pause);
      return false;
    };
    EXPECT_EQ(ErrorOf([&] {
                os::Await("a peer", "open", "name", Timeout(milliseconds),
                          look);
              }).second,
              "open 'name': Connection timed out; waited for a peer");
    ASSERT_FALSE(pauses.empty());
    EXPECT_EQ(pauses[0], Timeout(0));
  }
}

TEST(AwaitTest, EndsWhenAskedToStop) {
  auto child = InChild([] {
    os::CatchStopSignals();
    return os::ExitStatus([] {
      os::Await("a peer", "open", "name", os::kForever,
                [](Timeout) { return ::raise(SIGTERM) != 0; });
    });
  });
  EXPECT_EQ(child.Wait(), Killed(SIGTERM));
}

// --- Bytes -------------------------------------------------------------------

// The documents' examples read one byte a call, and take -1 for the end.
TEST(ReadSomeTest, ReadsABlockTheEndAndErrors) {
  Pipe pipe;
  os::Block block{};
  os::WriteAll(pipe.write_end.get(), block, "pipe");
  EXPECT_EQ(os::ReadSome(pipe.read_end.get(), block, "pipe"), block.size());
  pipe.write_end.Close();
  EXPECT_EQ(os::ReadSome(pipe.read_end.get(), block, "pipe"), 0U);
  EXPECT_EQ(ErrorOf([&] { os::ReadSome(-1, block, "name"); }).second,
            "read 'name': Bad file descriptor");
}

int CopyInput() {
  Pipe pipe;
  return os::ExitStatus([&] {
    os::Block block;
    while (const auto n = os::ReadInput(block, pipe.write_end.get(), "peer")) {
      os::Print(std::span(block).first(n));
      if (block[0] == std::byte{'x'}) pipe.read_end.Close();
    }
  });
}

TEST(ReadInputTest, ReadsUntilTheEnd) {
  auto child = InChild(CopyInput, "input");
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Out(), "input");
}

TEST(ReadInputTest, NoticesThatItsPeerHasGoneWithoutInput) {
  auto child = InChild(CopyInput, std::nullopt);
  child.Send("x");
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(),
            "posix_test: poll 'peer': Broken pipe; its reader has gone\n");
}

int AskAboutPeer() {
  return os::ExitStatus([] {
    os::Block block;
    const auto gone = [] { throw os::Error(EPIPE, "look", "peer"); };
    while (const auto n = os::ReadInput(block, gone)) {
      os::Print(std::span(block).first(n));
    }
  });
}

TEST(ReadInputTest, LooksForItsPeerWithoutInput) {
  auto child = InChild(AskAboutPeer, std::nullopt);
  child.Send("input");
  child.AwaitOut("input");
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(), "posix_test: look 'peer': Broken pipe\n");
}

// More than fits: each write is short, or finds no room.
TEST(WriteAllTest, WritesAllWithoutBlocking) {
  const Pipe pipe(O_NONBLOCK);
  const std::string sent = ipc_testing::RandomBytes(1000000);
  std::thread writing(
      [&] { os::WriteAll(pipe.write_end.get(), os::Bytes(sent), "x"); });
  std::string received;
  os::Block block;
  while (received.size() < sent.size()) {
    os::PollFor("bytes", pipe.read_end.get(), POLLIN, "pipe", os::kForever);
    const auto n = os::ReadSome(pipe.read_end.get(), block, "pipe");
    received.append(reinterpret_cast<const char*>(block.data()), n);
  }
  writing.join();
  EXPECT_TRUE(received == sent);
}

TEST(WriteAllTest, EndsAtTheTimeoutWhereNobodyReads) {
  const Pipe pipe(O_NONBLOCK);
  const std::string bytes(1000000, 'x');
  EXPECT_EQ(ErrorOf([&] {
              os::WriteAll(pipe.write_end.get(), os::Bytes(bytes), "pipe",
                           Timeout(1));
            }).second,
            "poll 'pipe': Connection timed out; waited for room");
}

TEST(WriteAllTest, ReportsErrors) {
  ::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  pipe.read_end.Close();
  EXPECT_EQ(ErrorOf([&] {
              os::WriteAll(pipe.write_end.get(), os::Bytes("x"), "pipe");
            }).second,
            "write 'pipe': Broken pipe");
  ::signal(SIGPIPE, SIG_DFL);
}

// --- Programs ----------------------------------------------------------------

// A program with two options; `run` does what its main would.
ChildProcess RunMain(
    std::vector<std::string> arguments, void (*run)(const os::CommandLine&),
    const std::function<void()>& before = [] {}) {
  return InChild([&] {
    arguments.insert(arguments.begin(), "/a/path/of/the/program");
    std::vector<char*> argv;
    argv.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    before();
    return os::Main(static_cast<int>(arguments.size()), argv.data(),
                    "Usage: ...\n", {"name", "timeout"}, run);
  });
}

void Show(const os::CommandLine& line) {
  os::Print(os::Bytes(line.Option("name", "no name") + "," +
                      std::to_string(line.TimeoutOption().count()) + "," +
                      line.Operand("no operand")));
}

TEST(CommandLineTest, IsParsed) {
  const std::string forever = std::to_string(os::kForever.count());
  const std::pair<std::vector<std::string>, std::string> lines[] = {
      {{}, "no name," + forever + ",no operand"},
      {{"--name", "x", "--timeout", "1.5", "operand"}, "x,1500,operand"},
      {{"operand", "--name=x", "--timeout=0"}, "x,0,operand"},
      {{"--timeout", "0.0001", ""}, "no name,1,"},
      {{"--name", ""}, "," + forever + ",no operand"},
      {{"--name", "x", "--name", "y"}, "y," + forever + ",no operand"},
      {{"-"}, "no name," + forever + ",-"},
      {{"--", "--name"}, "no name," + forever + ",--name"},
  };
  for (const auto& [arguments, parsed] : lines) {
    auto child = RunMain(arguments, Show);
    EXPECT_EQ(child.Wait(), Exited(0)) << child.Err();
    EXPECT_EQ(child.Out(), parsed);
  }
}

TEST(CommandLineTest, WrongUsageIsReported) {
  const std::string wrong_usage = "posix_test: wrong usage; see --help\n";
  const std::pair<std::vector<std::string>, std::string> lines[] = {
      {{"--bogus"},
       "posix_test: unrecognized option '--bogus'\n" + wrong_usage},
      {{"-x"}, "posix_test: invalid option -- 'x'\n" + wrong_usage},
      {{"--name"},
       "posix_test: option '--name' requires an argument\n" + wrong_usage},
      {{"--help=x"},
       "posix_test: option '--help' doesn't allow an argument\n" + wrong_usage},
      {{"one", "two"}, "posix_test: extra operand 'two'; see --help\n"},
  };
  for (const auto& [arguments, error] : lines) {
    auto child = RunMain(arguments, Show);
    EXPECT_EQ(child.Wait(), Exited(2));
    EXPECT_EQ(child.Out(), "");
    EXPECT_EQ(child.Err(), error);
  }
}

TEST(CommandLineTest, TimeoutThatIsNoNumberIsReported) {
  for (const std::string text :
       {"", "x", "1x", " 1", "-1", "nan", "inf", "1e7", "0x1"}) {
    auto child = RunMain({"--timeout=" + text}, Show);
    EXPECT_EQ(child.Wait(), Exited(2));
    EXPECT_EQ(child.Out(), "");
    EXPECT_TRUE(child.Err().starts_with("posix_test: --timeout '" + text +
                                        "' is not from 0."))
        << child.Err();
  }
}

TEST(CommandLineTest, OperandThatLacksIsReported) {
  auto child =
      RunMain({}, [](const os::CommandLine& line) { line.Operand(nullptr); });
  EXPECT_EQ(child.Wait(), Exited(2));
  EXPECT_EQ(child.Err(), "posix_test: missing operand; see --help\n");
}

TEST(CommandLineTest, OperandThatIsNotTakenIsReported) {
  auto child =
      RunMain({"x"}, [](const os::CommandLine& line) { line.NoOperand(); });
  EXPECT_EQ(child.Wait(), Exited(2));
  EXPECT_EQ(child.Err(), "posix_test: extra operand 'x'; see --help\n");
}

TEST(CommandLineTest, HelpIsOutputAndEndsTheProgram) {
  auto child = RunMain({"--name", "x", "--help"}, Show);
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Out(), "Usage: ...\n");
  EXPECT_EQ(child.Err(), "");
}

TEST(CommandLineTest, HelpThatCannotBePrintedIsAFailure) {
  auto child = RunMain({"--help"}, Show,
                       [] { ::dup2(::open("/dev/full", O_WRONLY), 1); });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(),
            "posix_test: write 'standard output': No space left on device\n");
}

TEST(ExitStatusTest, SaysHowItEnded) {
  const std::pair<void (*)(), ipc_testing::End> bodies[] = {
      {[] {}, Exited(0)},
      {[] { throw os::Error(EIO, "read", "name"); }, Exited(1)},
      {[] { throw std::runtime_error("failure"); }, Exited(1)},
      {[] { throw os::UsageError("usage"); }, Exited(2)},
      {[] { throw os::Reported{3}; }, Exited(3)},
      {[] { throw os::Interrupted{SIGINT}; }, Killed(SIGINT)},
  };
  for (const auto& [body, end] : bodies) {
    EXPECT_EQ(InChild([run = body] { return os::ExitStatus(run); }).Wait(),
              end);
  }
}

TEST(MainTest, FailureIsOneLine) {
  auto child = RunMain({}, [](const os::CommandLine&) {
    throw os::Error(EIO, "read", "two\nlines");
  });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Out(), "");
  EXPECT_EQ(child.Err(), "posix_test: read 'two?lines': Input/output error\n");
}

// SIGPIPE would kill it without a word.
TEST(MainTest, OutputThatNobodyReadsIsAFailure) {
  auto child = RunMain({}, Show, [] {
    Pipe pipe;
    ::dup2(pipe.write_end.get(), STDOUT_FILENO);
  });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(), "posix_test: write 'standard output': Broken pipe\n");
}

// Else the next object opened would be in its place, and be printed into.
TEST(MainTest, ClosedDescriptorsAreNotTaken) {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    auto child = RunMain(
        {},
        [](const os::CommandLine&) {
          if (::open("/dev/null", O_RDWR) <= STDERR_FILENO) std::abort();
        },
        [&] { ::close(fd); });
    EXPECT_EQ(child.Wait(), Exited(0));
  }
}

TEST(MainTest, ClosedOutputIsAFailure) {
  auto child = RunMain({}, Show, [] { ::close(STDOUT_FILENO); });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(),
            "posix_test: write 'standard output': Bad file descriptor\n");
}

TEST(MainTest, ClosedInputIsAFailure) {
  auto child = RunMain(
      {},
      [](const os::CommandLine&) {
        os::Block block;
        os::ReadSome(STDIN_FILENO, block, "standard input");
      },
      [] { ::close(STDIN_FILENO); });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(),
            "posix_test: read 'standard input': Bad file descriptor\n");
}

}  // namespace
