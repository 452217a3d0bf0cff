// The programs, end to end: the contract in this repository's README.md.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>

#include "testing/child_process.h"

namespace {

namespace fs = std::filesystem;
using ipc_testing::ChildProcess;
using ipc_testing::CpuTimeOfEnded;
using ipc_testing::Exited;
using ipc_testing::Killed;
using ipc_testing::RandomBytes;
using testing::AnyOf;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::StartsWith;

using Words = std::vector<std::string>;
using Input = std::optional<std::string>;
constexpr auto kOpenInput = std::nullopt;
constexpr auto kNothing = [] {};
constexpr int kCapacity = 65536;  // A pipe's, unless set otherwise.

// Looks until it is so: for what nothing announces.
void Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + ChildProcess::kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      throw std::runtime_error("waited in vain");
    }
    ::poll(nullptr, 0, 1);
  }
}

void AwaitBytes(int fd, int count) {
  Eventually([&] {
    int bytes = 0;
    return ::ioctl(fd, FIONREAD, &bytes) == 0 && bytes >= count;
  });
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) { EXPECT_NE(fd, -1); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { Close(); }
  int get() const { return fd_; }
  void Close() {
    if (fd_ != -1) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

class FifoProgramsTest : public testing::Test {
 protected:
  ChildProcess Run(const char* program, const Words& arguments,
                   const Input& input = "",
                   const std::function<void()>& in_child = kNothing) {
    Words argv{ipc_testing::Program(program), "--path", path_};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return ChildProcess(argv, input, in_child);
  }
  ChildProcess Reader(const Words& arguments = {},
                      const std::function<void()>& in_child = kNothing) {
    return Run("READER", arguments, "", in_child);
  }
  ChildProcess Writer(const Words& arguments = {}, const Input& input = "",
                      const std::function<void()>& in_child = kNothing) {
    return Run("WRITER", arguments, input, in_child);
  }
  // /bin/sh, with the path as $0.
  ChildProcess Shell(const std::string& script, const Input& input = "") {
    return ChildProcess({"/bin/sh", "-c", script, path_}, input);
  }

  // What the reader prints of what the writer sends.
  std::string Transfer(const Words& arguments, const Input& input = "") {
    ChildProcess reader = Reader();
    ChildProcess writer = Writer(arguments, input);
    EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    return reader.Out();
  }
  void ExpectPairWorks() {
    EXPECT_EQ(Transfer({}), "Hello World\n");
    EXPECT_THAT(directory_.Names(), IsEmpty());
  }
  // Makes the FIFO for strangers, and reads it when told to.
  int OpenToRead() {
    EXPECT_EQ(::mkfifo(path_.c_str(), 0644), 0);
    return ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  }
  int OpenToWrite() { return ::open(path_.c_str(), O_WRONLY | O_CLOEXEC); }

  std::string Waiting(const std::string& program, const std::string& peer) {
    return program + ": waiting for a " + peer + " on '" + path_ + "'\n";
  }
  std::string Error(const std::string& program, const std::string& call,
                    const std::string& reason) {
    return program + ": " + call + " '" + path_ + "': " + reason + "\n";
  }

  ipc_testing::TemporaryDirectory directory_;
  std::string path_ = directory_ / "fifo";
};

// --- Exact -------------------------------------------------------------------

TEST_F(FifoProgramsTest, SendsTheDocumentsTextUnlessTold) {
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
  const std::string bytes = RandomBytes(1'000'000);
  ChildProcess reader(ipc_testing::WithFault(
      "fcntl", "error=EPERM:when=4",  // Once 0, 1 and 2 have been looked at.
      {ipc_testing::Program("READER"), "--path", path_}));
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
  Fd open(OpenToWrite());  // Or the reader ends after the first.
  std::string expected;
  for (const std::string message : {"one", "two", "three"}) {
    EXPECT_EQ(Writer({message}).Wait(), Exited(0));
    expected += message + "\n";
  }
  open.Close();
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), expected);
}

TEST_F(FifoProgramsTest, RecordsOfManyWritersAreNeverTorn) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  Fd open(OpenToWrite());
  reader.Stop();
  // Holds one record: all other writers have to wait.
  ASSERT_EQ(::fcntl(open.get(), F_SETPIPE_SZ, PIPE_BUF), PIPE_BUF);
  Words records;
  std::vector<std::unique_ptr<ChildProcess>> writers;
  for (int i = 0; i < 16; ++i) {
    records.emplace_back(PIPE_BUF - 1, static_cast<char>('a' + i));
    const Words argv{ipc_testing::Program("WRITER"), "--path", path_,
                     records.back()};
    writers.push_back(std::make_unique<ChildProcess>(argv));
  }
  reader.Signal(SIGCONT);
  for (const auto& writer : writers) EXPECT_EQ(writer->Wait(), Exited(0));
  open.Close();
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

TEST_F(FifoProgramsTest, EchoMayWaitInAFifoOfItsOwn) {
  ASSERT_EQ(::mkfifo(path_.c_str(), 0644), 0);
  ChildProcess echo = Shell("echo Hello > \"$0\"");
  ChildProcess reader = Reader();
  EXPECT_EQ(echo.Wait(), Exited(0));
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
  ASSERT_EQ(::mkfifo(path_.c_str(), 0644), 0);
  ChildProcess cat = Shell("cat \"$0\"");
  EXPECT_EQ(Writer({"-"}, bytes).Wait(), Exited(0));
  EXPECT_EQ(cat.Wait(), Exited(0));
  EXPECT_TRUE(cat.Out() == bytes);
  EXPECT_TRUE(fs::is_fifo(path_));  // Not the writer's to remove.
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
  ChildProcess writer = Writer({"--timeout", "0.05"});
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(
      writer.Err(),
      Waiting("writer", "reader") +
          Error("writer", "open", "Connection timed out; waited for a reader"));
}

TEST_F(FifoProgramsTest, WriterWaitsNoLongerThanToldForRoom) {
  const Fd reader(OpenToRead());
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
  EXPECT_THAT(writer.Err(),
              testing::EndsWith(
                  Error("writer", "poll", "Broken pipe; its reader has gone")));
  ExpectPairWorks();
}

TEST_F(FifoProgramsTest, WriterNoticesThatItsReaderDiedWhileThePipeIsFull) {
  Fd reader(OpenToRead());
  ChildProcess writer = Writer({"-"}, RandomBytes(1'000'000));
  AwaitBytes(reader.get(), kCapacity);
  reader.Close();  // As the kernel does for one that was killed.
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(writer.Err(), AnyOf(Error("writer", "write", "Broken pipe"),
                                  Error("writer", "poll",
                                        "Broken pipe; its reader has gone")));
  ExpectPairWorks();
}

TEST_F(FifoProgramsTest, WriterNoticesThatItsReaderDiedWhileItPrints) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Fd out(ends[0]);
  Fd in(ends[1]);
  ChildProcess reader = Reader({}, [&] { ::dup2(ends[1], STDOUT_FILENO); });
  in.Close();
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
  const Fd reader(OpenToRead());
  ChildProcess writer = Writer({"-"}, RandomBytes(1'000'000));
  AwaitBytes(reader.get(), kCapacity);
  ExpectDiesOfIt(writer);
}

TEST_P(FifoSignalTest, ReaderWhoseOutputIsFull) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const Fd out(ends[0]);
  const Fd in(ends[1]);
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
  const Words reader{ipc_testing::Program("READER"), "--path", path_};
  for (const std::string call : {"mknodat", "flock", "write", "?poll,ppoll"}) {
    ChildProcess child(
        ipc_testing::WithFault(call, "signal=SIGTERM:when=1", reader));
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
  EXPECT_EQ(second.Err(),
            Error("reader", "mkfifo",
                  "Device or resource busy; choose another name"));
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

// It could be torn: so it is a stream, too.
TEST_F(FifoProgramsTest, AMessageAbovePipeBufHasTheFifoForItself) {
  const Fd reader(OpenToRead());
  ChildProcess writer = Writer({std::string(100'000, 'x')});
  AwaitBytes(reader.get(), kCapacity);
  EXPECT_EQ(Writer({"Hello"}).Wait(), Exited(1));
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
         const Fd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
         ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address),
                          sizeof(address)),
                   0);
       }},
  };
  const std::string reason =
      "File exists; it is something else, left as it was: remove it or choose "
      "another name";
  for (const auto& [name, make] : others) {
    make();
    struct stat before {};
    ::lstat(path_.c_str(), &before);
    ChildProcess reader = Reader();
    EXPECT_EQ(reader.Wait(), Exited(1)) << name;
    EXPECT_EQ(reader.Err(), Error("reader", "mkfifo", reason)) << name;
    ChildProcess writer = Writer();
    EXPECT_EQ(writer.Wait(), Exited(1)) << name;
    EXPECT_EQ(writer.Err(), Error("writer", "open", reason)) << name;
    struct stat after {};
    EXPECT_EQ(::lstat(path_.c_str(), &after), 0) << name;
    EXPECT_EQ(before.st_ino, after.st_ino) << name;
    EXPECT_EQ(before.st_mode, after.st_mode) << name;
    EXPECT_EQ(before.st_size, after.st_size) << name;
    fs::remove(path_);
  }
}

TEST_F(FifoProgramsTest, AFifoThatOthersMayWriteIsNotTakenOver) {
  for (const mode_t mode : {0666U, 0664U}) {
    ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
    ChildProcess reader = Reader();
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_THAT(reader.Err(),
                StartsWith("reader: mkfifo '" + path_ + "': File exists; "));
    struct stat status {};
    ASSERT_EQ(::lstat(path_.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, mode);
    fs::remove(path_);
  }
}

TEST_F(FifoProgramsTest, ModeIs0644WithoutTheUmask) {
  for (const auto& [mask, mode] :
       {std::pair(0U, 0644U), {022U, 0644U}, {027U, 0640U}, {077U, 0600U}}) {
    ChildProcess reader = Reader({}, [mask = mask] { ::umask(mask); });
    reader.AwaitErr("waiting for a writer");
    struct stat status {};
    ASSERT_EQ(::lstat(path_.c_str(), &status), 0);
    EXPECT_TRUE(S_ISFIFO(status.st_mode));
    EXPECT_EQ(status.st_mode & 07777U, mode);
    reader.Signal(SIGTERM);
    reader.Wait();
  }
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

TEST_F(FifoProgramsTest, ClosedInputIsReported) {
  ChildProcess reader = Reader();
  ChildProcess writer = Writer({"-"}, "", [] { ::close(STDIN_FILENO); });
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_THAT(writer.Err(),
              testing::EndsWith(
                  "writer: read 'standard input': Bad file descriptor\n"));
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
    ChildProcess child = Run(program, arguments);
    EXPECT_EQ(child.Wait(), Exited(2)) << arguments[0];
    EXPECT_EQ(child.Out(), "");
    EXPECT_THAT(child.Err(), testing::EndsWith("; see --help\n"));
  }
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoProgramsTest, HelpIsPrinted) {
  for (const auto& [program, name] :
       {std::pair("READER", "reader"), {"WRITER", "writer"}}) {
    ChildProcess child = Run(program, {"--help"});
    EXPECT_EQ(child.Wait(), Exited(0));
    EXPECT_THAT(child.Out(), StartsWith(std::string("Usage: ") + name + " "));
    EXPECT_EQ(child.Err(), "");
  }
}

}  // namespace
