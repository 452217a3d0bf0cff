// The programs, end to end: the contract in this repository's README.md.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <map>
#include <memory>
#include <numeric>
#include <sstream>

#include "fifo/test_pair.h"
#include "name.h"

namespace {

namespace fs = std::filesystem;
using ipc_testing::AwaitBytes;
using ipc_testing::ChildProcess;
using ipc_testing::CpuTimeOfEnded;
using ipc_testing::Eventually;
using ipc_testing::Exited;
using ipc_testing::ExpectHelp;
using ipc_testing::ExpectWrongUsage;
using ipc_testing::HasStrace;
using ipc_testing::kAnotherPrograms;
using ipc_testing::Killed;
using ipc_testing::kInUse;
using ipc_testing::kNoStrace;
using ipc_testing::kOpenInput;
using ipc_testing::Program;
using ipc_testing::RandomBytes;
using ipc_testing::TextOf;
using ipc_testing::WithFault;
using ipc_testing::Words;
using testing::AnyOf;
using testing::ElementsAre;
using testing::EndsWith;
using testing::IsEmpty;
using testing::StartsWith;

constexpr int kCapacity = 65536;  // A pipe's, unless set otherwise.

using FifoProgramsTest = ipc_testing::FifoTest;

// --- Exact -------------------------------------------------------------------

TEST_F(FifoProgramsTest, SendsHelloWorldUnlessTold) {
  EXPECT_EQ(Transfer({}), "Hello World\n");
}

TEST_F(FifoProgramsTest, SendsStandardInputUnchanged) {
  for (const std::size_t size :
       {0U, 1U, 99U, 100U, 101U, 4096U, 65536U, 65537U, 5'000'000U}) {
    const std::string bytes = RandomBytes(size);
    EXPECT_TRUE(Transfer({"-"}, bytes) == bytes) << size << " bytes";
  }
}

// The user's other pipes may have all the room that there is.
TEST_F(FifoProgramsTest, APipeWithoutMoreRoomWillDo) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const std::string bytes = RandomBytes(1'000'000);
  ChildProcess reader(WithFault(
      "fcntl", "error=EPERM:when=4",  // Once 0, 1 and 2 have been looked at.
      Command("READER")));
  ChildProcess writer = Writer({"-"}, bytes);
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_TRUE(reader.Out() == bytes);
}

TEST_F(FifoProgramsTest, SendsAMessageAndANewline) {
  for (const std::size_t size :
       {0U, 1U, PIPE_BUF - 1U, unsigned{PIPE_BUF}, 100'000U}) {
    const std::string message(size, 'x');
    EXPECT_TRUE(Transfer({message}) == message + "\n") << size << " bytes";
  }
  EXPECT_EQ(Transfer({"--", "--help"}), "--help\n");
}

TEST_F(FifoProgramsTest, WritersThatFollowEachOtherAreReadInOrder) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  ipc::UniqueFd open = OpenTo(O_WRONLY);  // Or it ends after the first.
  std::string expected;
  for (const std::string message : {"one", "two", "three"}) {
    EXPECT_EQ(Writer({message}).Wait(), Exited(0));
    expected += message + "\n";
  }
  open = ipc::UniqueFd();
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), expected);
}

TEST_F(FifoProgramsTest, RecordsOfManyWritersAreNeverTorn) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  ipc::UniqueFd open = OpenTo(O_WRONLY);
  reader.Stop();
  // Holds one record: all other writers have to wait.
  ASSERT_EQ(::fcntl(open.get(), F_SETPIPE_SZ, PIPE_BUF), PIPE_BUF);
  Words records;
  std::vector<std::unique_ptr<ChildProcess>> writers;
  for (int i = 0; i < 16; ++i) {
    records.emplace_back(PIPE_BUF - 1, static_cast<char>('a' + i));
    writers.push_back(
        std::make_unique<ChildProcess>(Command("WRITER", {records.back()})));
  }
  reader.Signal(SIGCONT);
  for (const auto& writer : writers) EXPECT_EQ(writer->Wait(), Exited(0));
  open = ipc::UniqueFd();
  EXPECT_EQ(reader.Wait(), Exited(0));
  Words lines;
  std::istringstream out(reader.Out());
  for (std::string line; std::getline(out, line);) lines.push_back(line);
  std::ranges::sort(lines);
  EXPECT_TRUE(lines == records);
}

// --- Any order, and strangers ------------------------------------------------

TEST_F(FifoProgramsTest, ReaderMayBeFirst) {
  ChildProcess reader = Reader();
  reader.AwaitErr("\n");
  EXPECT_EQ(reader.Err(), Waiting("reader", "writer"));
  EXPECT_EQ(Writer().Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
}

TEST_F(FifoProgramsTest, WriterMayBeFirst) {
  ChildProcess writer = Writer();
  writer.AwaitErr("\n");
  EXPECT_EQ(writer.Err(), Waiting("writer", "reader"));
  ChildProcess reader = Reader();
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
}

TEST_F(FifoProgramsTest, EchoMayWrite) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  EXPECT_EQ(Shell("echo Hello > \"$0\"").Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello\n");
}

TEST_F(FifoProgramsTest, CatMayWrite) {
  const std::string bytes = RandomBytes(1'000'000);
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  EXPECT_EQ(Shell("cat > \"$0\"", bytes).Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_TRUE(reader.Out() == bytes);
}

TEST_F(FifoProgramsTest, CatMayRead) {
  const std::string bytes = RandomBytes(1'000'000);
  MakeFifo();
  ChildProcess cat = Shell("cat \"$0\"");
  EXPECT_EQ(Writer({"-"}, bytes).Wait(), Exited(0));
  EXPECT_EQ(cat.Wait(), Exited(0));
  EXPECT_TRUE(cat.Out() == bytes);
  EXPECT_TRUE(fs::is_fifo(path_));  // Not the writer's to remove.
}

// --- A reader that stays, and loops that write -------------------------------

// What `seq` prints.
std::string NumbersUpTo(int last) {
  std::string text;
  for (int i = 1; i <= last; ++i) text += std::to_string(i) + "\n";
  return text;
}

TEST_F(FifoProgramsTest, KeptTheFifoTakesAllLinesOfALoop) {
  ChildProcess reader = Reader({"--keep"});
  reader.AwaitErr("waiting for a writer");
  ChildProcess loop = Shell(
      "i=0; while [ $i -lt 1000 ]; do i=$((i + 1)); echo $i >\"$0\"; done");
  EXPECT_EQ(loop.Wait(), Exited(0)) << loop.Err();
  reader.AwaitOut("\n1000\n");
  EXPECT_TRUE(fs::is_fifo(path_));  // And did not become a file.
  reader.Signal(SIGTERM);
  EXPECT_EQ(reader.Wait(), Killed(SIGTERM));
  EXPECT_EQ(reader.Out(), NumbersUpTo(1000));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoProgramsTest, ALoopThatHoldsTheFifoLosesNothing) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  ChildProcess loop = Shell(
      "exec 8>\"$0\"; i=0;"
      "while [ $i -lt 1000 ]; do i=$((i + 1)); echo $i >\"$0\"; done");
  EXPECT_EQ(loop.Wait(), Exited(0)) << loop.Err();
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), NumbersUpTo(1000));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoProgramsTest, KeptTheFifoIsPrintedAsLinesCome) {
  ChildProcess reader = Reader({"--keep"});
  reader.AwaitErr("waiting for a writer");
  EXPECT_EQ(Shell("echo one >\"$0\"").Wait(), Exited(0));
  reader.AwaitOut("one\n");
  EXPECT_EQ(Writer({"two"}).Wait(), Exited(0));
  reader.AwaitOut("one\ntwo\n");
  EXPECT_EQ(Writer({"-"}, "three").Wait(), Exited(0));
  reader.AwaitOut("one\ntwo\nthree");
  EXPECT_FALSE(reader.HasEnded());
}

TEST_F(FifoProgramsTest, KeptTheFifoOfAKilledReaderIsTakenOver) {
  for (const Words& next : {Words{"--keep"}, Words{}}) {
    ChildProcess reader = Reader({"--keep"});
    EXPECT_EQ(Writer({"one"}).Wait(), Exited(0));
    reader.AwaitOut("one\n");
    reader.Signal(SIGKILL);
    reader.Wait();
    ChildProcess another = Reader(next);
    EXPECT_EQ(Writer({"two"}).Wait(), Exited(0));
    another.AwaitOut("two\n");
    if (!next.empty()) another.Signal(SIGTERM);
    EXPECT_EQ(another.Wait(), next.empty() ? Exited(0) : Killed(SIGTERM));
    EXPECT_EQ(another.Out(), "two\n");
    EXPECT_THAT(directory_.Names(), IsEmpty());
  }
}

TEST_F(FifoProgramsTest, KeptTheFifoHasOneReader) {
  ChildProcess reader = Reader({"--keep"});
  reader.AwaitErr("waiting for a writer");
  for (const Words& arguments : {Words{"--keep"}, Words{}}) {
    ChildProcess second = Reader(arguments);
    EXPECT_EQ(second.Wait(), Exited(1));
    EXPECT_EQ(second.Err(), Error("reader", "mkfifo", kInUse));
  }
  EXPECT_EQ(Writer().Wait(), Exited(0));
  reader.AwaitOut("Hello World\n");
}

// --- Timeouts ----------------------------------------------------------------

TEST_F(FifoProgramsTest, ReaderWaitsNoLongerThanTold) {
  ChildProcess reader = Reader({"--timeout", "0.05"});
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(
      reader.Err(),
      Waiting("reader", "writer") +
          Error("reader", "poll", "Connection timed out; waited for a writer"));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoProgramsTest, WriterWaitsNoLongerThanToldForAReader) {
  const std::string error =
      Error("writer", "open", "Connection timed out; waited for a reader");
  ChildProcess writer = Writer({"--timeout", "0.3"});
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Waiting("writer", "reader") + error);
  // Of a wait that is over so soon nothing is said.
  ChildProcess hasty = Writer({"--timeout", "0"});
  EXPECT_EQ(hasty.Wait(), Exited(1));
  EXPECT_EQ(hasty.Err(), error);
}

TEST_F(FifoProgramsTest, KeepingReaderWaitsNoLongerThanToldForTheNextWriter) {
  ChildProcess reader = Reader({"--keep", "--timeout", "0.3"});
  EXPECT_EQ(Writer().Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Out(), "Hello World\n");
  EXPECT_THAT(reader.Err(),
              EndsWith(Error("reader", "poll",
                             "Connection timed out; waited for bytes")));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoProgramsTest, WriterWaitsNoLongerThanToldForRoom) {
  const ipc::UniqueFd reader = MakeToRead();
  const auto before = CpuTimeOfEnded();
  ChildProcess writer =
      Writer({"--timeout", "0.5", "-"}, RandomBytes(1'000'000));
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_LT(CpuTimeOfEnded() - before, std::chrono::milliseconds(250));
  EXPECT_EQ(writer.Err(),
            Error("writer", "poll", "Connection timed out; waited for room"));
}

// --- A peer that dies, and what it leaves ------------------------------------

TEST_F(FifoProgramsTest, WriterNoticesThatItsReaderDiedWhileItsInputIsSilent) {
  ChildProcess reader = Reader();
  ChildProcess writer = Writer({"-"}, kOpenInput);
  writer.Send("some");
  reader.AwaitOut("some");
  reader.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(writer.Err(), EndsWith(Error("writer", "poll", "Broken pipe")));
  ExpectPairWorks();
}

TEST_F(FifoProgramsTest, WriterNoticesThatItsReaderDiedWhileThePipeIsFull) {
  MakeFifo(0644 | ipc::kOurs);
  ipc::UniqueFd reader = OpenTo(O_RDONLY);
  ChildProcess writer = Writer({"-"}, RandomBytes(1'000'000));
  AwaitBytes(reader.get(), kCapacity);
  reader = ipc::UniqueFd();  // As the kernel does for one that was killed.
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(writer.Err(), AnyOf(Error("writer", "write", "Broken pipe"),
                                  Error("writer", "poll", "Broken pipe")));
  ExpectPairWorks();
}

TEST_F(FifoProgramsTest, WriterNoticesThatItsReaderDiedWhileItPrints) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const ipc::UniqueFd out(ends[0]);
  ipc::UniqueFd in(ends[1]);
  ChildProcess reader = Reader({}, [&] { ::dup2(ends[1], STDOUT_FILENO); });
  in = ipc::UniqueFd();
  ChildProcess writer = Writer({"-"}, RandomBytes(1'000'000));
  AwaitBytes(out.get(), kCapacity);
  reader.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(writer.Err(), testing::HasSubstr("Broken pipe"));
  ExpectPairWorks();
}

// It can't tell: see README.md. But it ends, and the name is free.
TEST_F(FifoProgramsTest, ReaderEndsWhenItsWriterDies) {
  ChildProcess reader = Reader();
  ChildProcess writer = Writer({"-"}, kOpenInput);
  writer.Send("some");
  reader.AwaitOut("some");
  writer.Signal(SIGKILL);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "some");
  ExpectPairWorks();
}

TEST_F(FifoProgramsTest, WhatAReaderThatDiedWaitingLeavesIsTakenOver) {
  {
    ChildProcess reader = Reader();
    reader.AwaitErr("waiting for a writer");
    reader.Signal(SIGKILL);
    reader.Wait();
  }
  ASSERT_THAT(directory_.Names(), ElementsAre("fifo"));
  ChildProcess writer = Writer();
  writer.AwaitErr("waiting for a reader");  // Not deceived by the name.
  ChildProcess reader = Reader();
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoProgramsTest, AWriterThatDiedWaitingLeavesNothing) {
  ChildProcess writer = Writer();
  writer.AwaitErr("waiting for a reader");
  writer.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Killed(SIGKILL));
  ExpectPairWorks();
}

// --- Signals -----------------------------------------------------------------

class FifoSignalTest : public FifoProgramsTest,
                       public testing::WithParamInterface<int> {
 protected:
  void ExpectDiesOfIt(ChildProcess& child) {
    child.Signal(GetParam());
    EXPECT_EQ(child.Wait(), Killed(GetParam()));
  }
};
INSTANTIATE_TEST_SUITE_P(Each, FifoSignalTest,
                         testing::Values(SIGINT, SIGTERM, SIGHUP));

TEST_P(FifoSignalTest, ReaderThatWaits) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  ExpectDiesOfIt(reader);
  EXPECT_EQ(reader.Err(), Waiting("reader", "writer"));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_P(FifoSignalTest, ReaderThatKeepsTheFifo) {
  ChildProcess reader = Reader({"--keep"});
  EXPECT_EQ(Writer().Wait(), Exited(0));
  reader.AwaitOut("Hello World\n");
  ExpectDiesOfIt(reader);
  EXPECT_EQ(reader.Out(), "Hello World\n");
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

// As a program may have that started them.
TEST_P(FifoSignalTest, BlockedFromTheStart) {
  const auto block = [] {
    sigset_t all;
    ::sigfillset(&all);
    ::sigprocmask(SIG_BLOCK, &all, nullptr);
  };
  ChildProcess reader = Reader({}, block);
  reader.AwaitErr("waiting for a writer");
  ExpectDiesOfIt(reader);
  EXPECT_THAT(directory_.Names(), IsEmpty());
  ChildProcess writer = Writer({}, "", block);
  writer.AwaitErr("waiting for a reader");
  ExpectDiesOfIt(writer);
}

TEST_P(FifoSignalTest, WriterThatWaits) {
  ChildProcess writer = Writer();
  writer.AwaitErr("waiting for a reader");
  ExpectDiesOfIt(writer);
  EXPECT_EQ(writer.Err(), Waiting("writer", "reader"));
}

TEST_P(FifoSignalTest, ReaderInTheMidst) {
  ChildProcess reader = Reader();
  ChildProcess writer = Writer({"-"}, kOpenInput);
  writer.Send("some");
  reader.AwaitOut("some");
  ExpectDiesOfIt(reader);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_P(FifoSignalTest, WriterWhoseInputIsSilent) {
  ChildProcess reader = Reader();
  ChildProcess writer = Writer({"-"}, kOpenInput);
  writer.Send("some");
  reader.AwaitOut("some");
  ExpectDiesOfIt(writer);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_P(FifoSignalTest, WriterInAFullPipe) {
  const ipc::UniqueFd reader = MakeToRead();
  ChildProcess writer = Writer({"-"}, RandomBytes(1'000'000));
  AwaitBytes(reader.get(), kCapacity);
  ExpectDiesOfIt(writer);
}

TEST_P(FifoSignalTest, ReaderWhoseOutputIsFull) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const ipc::UniqueFd out(ends[0]);
  const ipc::UniqueFd in(ends[1]);
  ChildProcess reader = Reader({}, [&] { ::dup2(ends[1], STDOUT_FILENO); });
  ChildProcess writer = Writer({"-"}, RandomBytes(1'000'000));
  AwaitBytes(out.get(), kCapacity);
  ExpectDiesOfIt(reader);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_P(FifoSignalTest, RightAfterTheStart) {
  for (int i = 0; i < 10; ++i) {
    ChildProcess reader = Reader();
    ExpectDiesOfIt(reader);
    ChildProcess writer = Writer();
    ExpectDiesOfIt(writer);
    EXPECT_THAT(directory_.Names(), IsEmpty());
  }
}

// It comes during the call: nothing waits in the call that is interrupted.
TEST_F(FifoProgramsTest, NoNameIsLeftWhicheverCallASignalMeets) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  for (const std::string call : {"mknodat", "flock", "write", "?poll,ppoll"}) {
    ChildProcess child(
        WithFault(call, "signal=SIGTERM:when=1", Command("READER")));
    EXPECT_EQ(child.Wait(), Killed(SIGTERM)) << call;
    EXPECT_THAT(directory_.Names(), IsEmpty()) << call;
  }
}

// --- Names in use ------------------------------------------------------------

TEST_F(FifoProgramsTest, ASecondReaderIsRefused) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  ChildProcess second = Reader();
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Err(), Error("reader", "mkfifo", kInUse));
  EXPECT_EQ(Writer().Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
}

TEST_F(FifoProgramsTest, ASecondWriterIsRefusedWhileAStreamIsOnItsWay) {
  ChildProcess reader = Reader();
  ChildProcess writer = Writer({"-"}, kOpenInput);
  writer.Send("some");
  reader.AwaitOut("some");
  for (const Words& arguments : {Words{"-"}, Words{"Hello"}}) {
    ChildProcess second = Writer(arguments);
    EXPECT_EQ(second.Wait(), Exited(1));
    EXPECT_EQ(second.Err(),
              Error("writer", "open",
                    "Device or resource busy; another writer has it"));
  }
  writer.Send(" more");
  writer.CloseInput();
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "some more");
}

// As two have that are in different containers.
TEST_F(FifoProgramsTest, WritersOfRecordsMayHaveTheSameNumber) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  // What another writer of this number would have locked. The descriptor stays
  // open beyond exec, and is not the one that the program itself opens.
  ChildProcess writer = Writer({}, "", [this] {
    const int fd = ::open(path_.c_str(), O_WRONLY);
    struct flock lock = {F_WRLCK, SEEK_SET, ::getpid(), 1, 0};
    if (::fcntl(fd, F_OFD_SETLK, &lock) == -1) ::_exit(126);
  });
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
}

// It could be torn: so it is a stream, too.
TEST_F(FifoProgramsTest, AMessageAbovePipeBufHasTheFifoForItself) {
  const ipc::UniqueFd reader = MakeToRead();
  ChildProcess writer = Writer({std::string(100'000, 'x')});
  AwaitBytes(reader.get(), kCapacity);
  EXPECT_EQ(Writer({"Hello"}).Wait(), Exited(1));
}

// The newline counts: with it the second of these is longer by one byte.
TEST_F(FifoProgramsTest, AMessageIsARecordUpToPipeBufBytes) {
  const ipc::UniqueFd reader = MakeToRead();
  const ipc::UniqueFd record = OpenTo(O_WRONLY);
  ASSERT_TRUE(ipc::SetLock(record.get(), F_WRLCK, 0, 1, path_));
  EXPECT_EQ(Writer({std::string(PIPE_BUF - 1, 'x')}).Wait(), Exited(0));
  EXPECT_EQ(Writer({std::string(PIPE_BUF, 'x')}).Wait(), Exited(1));
}

TEST_F(FifoProgramsTest, SomethingElseUnderTheNameIsLeftAsItWas) {
  const std::map<std::string, std::function<void()>> others{
      {"a file", [&] { std::ofstream(path_) << "text"; }},
      {"a directory", [&] { fs::create_directory(path_); }},
      {"a link to a FIFO",
       [&] {
         ASSERT_EQ(::mkfifo((directory_ / "other").c_str(), 0644), 0);
         fs::create_symlink(directory_ / "other", path_);
       }},
      {"a link to nothing",
       [&] { fs::create_symlink(directory_ / "nothing", path_); }},
      {"a socket",
       [&] {
         sockaddr_un address{AF_UNIX, {}};
         path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
         const ipc::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
         ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address),
                          sizeof(address)),
                   0);
       }},
  };
  for (const auto& [name, make] : others) {
    make();
    struct stat before {};
    ::lstat(path_.c_str(), &before);
    ChildProcess reader = Reader();
    EXPECT_EQ(reader.Wait(), Exited(1)) << name;
    EXPECT_EQ(reader.Err(), Error("reader", "mkfifo", kAnotherPrograms))
        << name;
    ChildProcess writer = Writer();
    EXPECT_EQ(writer.Wait(), Exited(1)) << name;
    EXPECT_EQ(writer.Err(), Error("writer", "open", kAnotherPrograms)) << name;
    struct stat after {};
    EXPECT_EQ(::lstat(path_.c_str(), &after), 0) << name;
    EXPECT_EQ(before.st_ino, after.st_ino) << name;
    EXPECT_EQ(before.st_mode, after.st_mode) << name;
    EXPECT_EQ(before.st_size, after.st_size) << name;
    fs::remove(path_);
  }
}

// It has no reader and no writer, and could be taken for a left-over.
TEST_F(FifoProgramsTest, AFifoWithoutOurMarkIsLeftAsItWas) {
  for (const mode_t mode : {0644U, 0600U, 0666U}) {
    MakeFifo();
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    for (const Words& arguments : {Words{}, Words{"--keep"}}) {
      ChildProcess reader = Reader(arguments);
      EXPECT_EQ(reader.Wait(), Exited(1));
      EXPECT_EQ(reader.Err(), Error("reader", "mkfifo", kAnotherPrograms));
    }
    struct stat status {};
    ASSERT_EQ(::lstat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, mode);
    fs::remove(path_);
  }
}

// A process that waits, or is about to, in the call that opens the FIFO.
void AwaitSleepOf(const ChildProcess& process, const std::string& program) {
  Eventually([&] {
    const auto stat =
        TextOf("/proc/" + std::to_string(process.pid()) + "/stat");
    return stat.find("(" + program + ") S ") != std::string::npos;
  });
}

TEST_F(FifoProgramsTest, AStrangersFifoStaysItsReaders) {
  MakeFifo();
  ChildProcess cat({"/bin/cat", path_});
  AwaitSleepOf(cat, "cat");
  ChildProcess reader = Reader();
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Error("reader", "mkfifo", kAnotherPrograms));
  EXPECT_EQ(Writer().Wait(), Exited(0));
  EXPECT_EQ(cat.Wait(), Exited(0));
  EXPECT_EQ(cat.Out(), "Hello World\n");
  EXPECT_TRUE(fs::is_fifo(path_));
}

TEST_F(FifoProgramsTest, AStrangersFifoStaysItsWriters) {
  MakeFifo();
  ChildProcess tee({"/usr/bin/tee", path_}, "Hello\n");
  AwaitSleepOf(tee, "tee");
  EXPECT_EQ(Reader().Wait(), Exited(1));
  EXPECT_FALSE(tee.HasEnded());  // It waits for a reader: we were none.
  ChildProcess cat({"/bin/cat", path_});
  EXPECT_EQ(cat.Wait(), Exited(0));
  EXPECT_EQ(cat.Out(), "Hello\n");
  EXPECT_EQ(tee.Wait(), Exited(0));
}

// The reader is unreachable then, but may still be stopped.
TEST_F(FifoProgramsTest, AReaderWhoseNameWasTakenRemovesNobodyElses) {
  for (const bool by_signal : {true, false}) {
    ChildProcess first = Reader();
    first.AwaitErr("waiting for a writer");
    ipc::UniqueFd writer = OpenTo(O_WRONLY);
    fs::remove(path_);
    ChildProcess second = Reader();
    second.AwaitErr("waiting for a writer");
    if (by_signal) first.Signal(SIGTERM);
    writer = ipc::UniqueFd();
    EXPECT_EQ(first.Wait(), by_signal ? Killed(SIGTERM) : Exited(0));
    ChildProcess sender = Writer({"--timeout", "20"});
    EXPECT_EQ(sender.Wait(), Exited(0)) << sender.Err();
    EXPECT_EQ(second.Wait(), Exited(0));
    EXPECT_EQ(second.Out(), "Hello World\n");
    EXPECT_THAT(directory_.Names(), IsEmpty());
  }
}

TEST_F(FifoProgramsTest, AReaderWhoseNameWasTakenRemovesNoFile) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  fs::remove(path_);
  std::ofstream(path_) << "text";
  reader.Signal(SIGTERM);
  EXPECT_EQ(reader.Wait(), Killed(SIGTERM));
  EXPECT_EQ(TextOf(path_), "text");
}

// Only for one that is not there yet it waits.
TEST_F(FifoProgramsTest, APathWhereNoFifoCanComeIsAnErrorAtOnce) {
  std::ofstream(directory_ / "file") << "text";
  fs::create_symlink("loop", directory_ / "loop");
  fs::create_symlink(directory_ / "nothing", directory_ / "link");
  fs::create_directory(directory_ / "closed");
  ::chmod((directory_ / "closed").c_str(), 0);
  const std::pair<std::string, const char*> paths[] = {
      {"", "No such file or directory"},
      {directory_ / "missing/fifo", "No such file or directory"},
      {directory_ / "link/", "No such file or directory"},
      {directory_ / "file/fifo", "Not a directory"},
      {directory_ / "loop/fifo", "Too many levels of symbolic links"},
      {directory_ / "closed/fifo", "Permission denied"},
      {directory_ / std::string(300, 'x'), "File name too long"},
  };
  // Root may search all directories, unless it gives this up.
  const auto in_child = [] {
    for (const unsigned long right : {1UL, 2UL}) {  // CAP_DAC_...
      ::prctl(PR_CAPBSET_DROP, right, 0, 0, 0);
    }
  };
  for (const auto& [path, reason] : paths) {
    path_ = path;
    for (const std::string program : {"reader", "writer"}) {
      ChildProcess child =
          program == "reader" ? Reader({}, in_child) : Writer({}, "", in_child);
      EXPECT_EQ(child.Wait(), Exited(1));
      const std::string directory = path.substr(0, path.rfind('/') + 1) + ".";
      EXPECT_THAT(child.Err(), AnyOf(Error(program, "open", reason),
                                     Error(program, "mkfifo", reason),
                                     "writer: access '" + directory +
                                         "': " + reason + "\n"));
    }
  }
  ::chmod((directory_ / "closed").c_str(), 0700);
}

// The name is there, and its object is without one: a bind mount.
TEST_F(FifoProgramsTest, ANameWhoseFifoIsRemovedDoesNotKeepOneBusy) {
  const std::string mount =
      "mkfifo \"$0.source\" && chmod 1644 \"$0.source\" && : >\"$0\" &&"
      "mount --bind \"$0.source\" \"$0\" && rm \"$0.source\" || exit 77;";
  const auto run = [&](const std::string& then, const Words& command) {
    Words argv{"/usr/bin/unshare", "--mount", "/bin/sh", "-c",
               mount + then,       path_};
    argv.insert(argv.end(), command.begin(), command.end());
    return argv;
  };
  ChildProcess reader(run("exec \"$@\"", Command("READER")));
  if (reader.Wait() != Exited(1) || !reader.Err().starts_with("reader: ")) {
    GTEST_SKIP() << "only root may mount: " << reader.Err();
  }
  EXPECT_EQ(reader.Err(), Error("reader", "mkfifo", kInUse));
  const auto before = CpuTimeOfEnded();
  ChildProcess writer(
      run("exec \"$@\"", Command("WRITER", {"--timeout", "0.5"})));
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_LT(CpuTimeOfEnded() - before, std::chrono::milliseconds(250));
  EXPECT_EQ(writer.Err(), Waiting("writer", "reader") +
                              Error("writer", "open",
                                    "Connection timed out; waited for a "
                                    "reader"));
}

TEST_F(FifoProgramsTest, ModeIs0644WithoutTheUmask) {
  for (const auto& [mask, mode] :
       {std::pair(0U, 0644U), {022U, 0644U}, {027U, 0640U}, {077U, 0600U}}) {
    ChildProcess reader = Reader({}, [bits = mask] { ::umask(bits); });
    reader.AwaitErr("waiting for a writer");
    struct stat status {};
    ASSERT_EQ(::lstat(path_.c_str(), &status), 0);
    EXPECT_TRUE(S_ISFIFO(status.st_mode));
    EXPECT_EQ(status.st_mode & 07777U, mode | ipc::kOurs);
    reader.Signal(SIGTERM);
    reader.Wait();
  }
}

// --- What others get of it ---------------------------------------------------

// The numbers of the descriptors that a process has of the FIFO.
std::vector<std::string> DescriptorsOf(const ChildProcess& process,
                                       const std::string& path) {
  std::vector<std::string> numbers;
  const auto directory = "/proc/" + std::to_string(process.pid()) + "/fd";
  for (const auto& fd : fs::directory_iterator(directory)) {
    std::error_code gone;
    if (fs::read_symlink(fd.path(), gone) != path) continue;
    numbers.push_back(fd.path().filename());
  }
  return numbers;
}

// Or a program started by it would hold a write end, and hide the end.
TEST_F(FifoProgramsTest, ProgramsStartedMeanwhileDoNotInheritIt) {
  for (const Words& arguments : {Words{}, Words{"--keep"}}) {
    ChildProcess reader = Reader(arguments);
    ChildProcess writer = Writer({"-"}, kOpenInput);
    writer.Send("some");
    reader.AwaitOut("some");
    for (const ChildProcess* process : {&reader, &writer}) {
      const auto numbers = DescriptorsOf(*process, path_);
      ASSERT_EQ(numbers.size(), 1U);
      std::istringstream info(TextOf("/proc/" + std::to_string(process->pid()) +
                                     "/fdinfo/" + numbers[0]));
      std::string word;
      while (info >> word && word != "flags:") continue;
      int flags = 0;
      info >> std::oct >> flags;
      EXPECT_NE(flags & O_CLOEXEC, 0);
    }
    reader.Signal(SIGKILL);
    reader.Wait();
  }
}

// Or the user's pipes together have all that they may. pipe(7)
TEST_F(FifoProgramsTest, HasRoomForMoreThanOneBlock) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  const ipc::UniqueFd writer = OpenTo(O_WRONLY);
  constexpr int kRoom = 4 * sizeof(ipc::Block);
  EXPECT_TRUE(::fcntl(writer.get(), F_GETPIPE_SZ) == kRoom ||
              ::fcntl(writer.get(), F_SETPIPE_SZ, kRoom) == -1);
}

// --- Manners -----------------------------------------------------------------

TEST_F(FifoProgramsTest, OutputThatFailsIsReported) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess reader = Reader({}, in_child);
    reader.AwaitErr("waiting for a writer");
    ChildProcess writer = Writer();
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Err(), Waiting("reader", "writer") +
                                "reader: write 'standard output': " + reason +
                                "\n");
    EXPECT_THAT(directory_.Names(), IsEmpty());
  }
}

// SIGXFSZ would kill it, and leave the name.
TEST_F(FifoProgramsTest, OutputThatMayNotGrowIsReported) {
  const std::string output = directory_ / "output";
  ChildProcess reader = Reader({}, [&] {
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::dup2(::open(output.c_str(), O_CREAT | O_WRONLY, 0600), STDOUT_FILENO);
  });
  ChildProcess writer = Writer({std::string(5000, 'x')});
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_THAT(reader.Err(),
              EndsWith("reader: write 'standard output': File too large\n"));
  EXPECT_EQ(fs::file_size(output), 4096U);
  EXPECT_THAT(directory_.Names(), ElementsAre("output"));
}

// Whoever shares it may have made it so.
TEST_F(FifoProgramsTest, StandardInputAndOutputNeedNotBlock) {
  const auto not_block = [] {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) {
      ::fcntl(fd, F_SETFL, O_NONBLOCK);
    }
  };
  const std::string bytes = RandomBytes(1'000'000);
  ChildProcess reader = Reader({}, not_block);
  ChildProcess writer = Writer({"-"}, kOpenInput, not_block);
  writer.Send(bytes);
  reader.AwaitOut(bytes.substr(bytes.size() - 100));
  writer.Send("more");
  writer.CloseInput();
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_TRUE(reader.Out() == bytes + "more");
}

TEST_F(FifoProgramsTest, ClosedInputIsReported) {
  ChildProcess reader = Reader();
  ChildProcess writer = Writer({"-"}, "", [] { ::close(STDIN_FILENO); });
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(writer.Err(),
              EndsWith("writer: read 'standard input': Bad file descriptor\n"));
}

TEST_F(FifoProgramsTest, WrongUsageIsRefused) {
  const std::pair<const char*, Words> usages[] = {
      {"READER", {"message"}},
      {"READER", {"--unknown"}},
      {"READER", {"--path"}},
      {"READER", {"--timeout", "soon"}},
      {"READER", {"--timeout", "-1"}},
      {"WRITER", {"one", "two"}},
      {"WRITER", {"--priority", "1", "message"}},
      {"WRITER", {"--timeout", "1s", "message"}},
      {"WRITER", {"--timeout", "nan", "message"}},
  };
  for (const auto& [program, arguments] : usages) {
    ExpectWrongUsage(Command(program, arguments));
  }
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoProgramsTest, HelpIsPrinted) {
  ExpectHelp(Program("READER"));
  ExpectHelp(Program("WRITER"));
}

}  // namespace
