// The program, started as a user does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/close_range.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "posix.h"
#include "testing/processes/child_process.h"
#include "testing/processes/manners.h"
#include "testing/processes/shared_input.h"

namespace {

namespace fs = std::filesystem;
using ipc_testing::ChildProcess;
using ipc_testing::Eventually;
using ipc_testing::Exited;
using ipc_testing::ExpectHelp;
using ipc_testing::ExpectWrongUsage;
using ipc_testing::HasStrace;
using ipc_testing::Killed;
using ipc_testing::kNoStrace;
using ipc_testing::RandomBytes;
using ipc_testing::RunWhereAnotherTakesInput;
using ipc_testing::WithFault;
using testing::AnyOf;
using testing::Each;
using testing::ElementsAre;
using Arguments = std::vector<std::string>;

Arguments Pipe(const Arguments& arguments = {}) {
  Arguments command{ipc_testing::Program("PIPE")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

// What the test itself has inherited is not the program's.
void CloseOthers() { ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC); }

std::string TextOf(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The child of a process, from /proc/PID/stat: "PID (NAME) STATE PARENT".
pid_t ChildOf(pid_t parent) {
  for (const auto& entry : fs::directory_iterator("/proc")) {
    std::string line;
    std::getline(std::ifstream(entry.path() / "stat"), line);
    const auto name_end = line.rfind(')');
    if (name_end == std::string::npos) continue;
    if (std::stoi(line.substr(name_end + 4)) == parent) return std::stoi(line);
  }
  // Not -1: kill(2) would take that for every process that there is.
  throw std::runtime_error("there is no child");
}

// The lines of /proc/PID/`file` by their first word.
long Field(pid_t pid, const std::string& file, const std::string& name) {
  std::ifstream lines("/proc/" + std::to_string(pid) + "/" + file);
  std::string word;
  while (lines >> word && word != name) continue;
  long value = -1;
  lines >> value;
  return value;
}

// The descriptors that a process has, other than its standard input, output
// and error, and what each is.
std::vector<std::pair<std::string, std::string>> Descriptors(pid_t pid) {
  std::vector<std::pair<std::string, std::string>> descriptors;
  const auto directory = "/proc/" + std::to_string(pid) + "/fd";
  for (const auto& fd : fs::directory_iterator(directory)) {
    const std::string number = fd.path().filename();
    if (std::stoi(number) <= 2) continue;
    descriptors.emplace_back(number, fs::read_symlink(fd.path()));
  }
  return descriptors;
}

// The flags of open(2) that a descriptor has.
int Flags(pid_t pid, const std::string& number) {
  std::istringstream info(
      TextOf("/proc/" + std::to_string(pid) + "/fdinfo/" + number));
  std::string word;
  while (info >> word && word != "flags:") continue;
  int flags = 0;
  info >> std::oct >> flags;
  return flags;
}

// The access modes of the pipe ends among them: O_RDONLY or O_WRONLY.
std::vector<int> PipeEnds(pid_t pid) {
  std::vector<int> ends;
  for (const auto& [number, target] : Descriptors(pid)) {
    if (!target.starts_with("pipe:")) continue;
    ends.push_back(Flags(pid, number) & O_ACCMODE);
  }
  return ends;
}

// Started with "-", and in the middle of a transfer.
class TransferTest : public testing::Test {
 protected:
  TransferTest() {
    process_.Send("first ");
    process_.AwaitOut("first ");
  }

  pid_t Reader() const { return ChildOf(process_.pid()); }

  // Another descriptor of the write end.
  ipc::UniqueFd WriteEnd() const {
    const pid_t pid = process_.pid();
    for (const auto& [number, target] : Descriptors(pid)) {
      if (!target.starts_with("pipe:")) continue;
      const auto path = "/proc/" + std::to_string(pid) + "/fd/" + number;
      return ipc::UniqueFd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    }
    return ipc::UniqueFd();
  }

  ChildProcess process_{Pipe({"-"}), std::nullopt, CloseOthers};
};

// --- What comes out is what went in ------------------------------------------

TEST(ProgramTest, DefaultMessageIsHelloWorld) {
  ChildProcess process(Pipe());
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_EQ(process.Out(), "Hello World!\n");
  EXPECT_EQ(process.Err(), "");
}

TEST(ProgramTest, ArgumentComesOutWithANewline) {
  for (const std::size_t size : {0U, 1U, 99U, 100U, 101U, 4096U, 65537U}) {
    SCOPED_TRACE(size);
    std::string message = RandomBytes(size);
    std::ranges::replace(message, '\0', '\n');
    ChildProcess process(Pipe({"--", message}));
    EXPECT_EQ(process.Wait(), Exited(0));
    EXPECT_EQ(process.Out(), message + "\n");
  }
}

TEST(ProgramTest, StandardInputComesOutUnchanged) {
  for (const std::size_t size :
       {0U, 1U, 99U, 100U, 101U, 4096U, 65536U, 65537U, 5000000U}) {
    SCOPED_TRACE(size);
    ChildProcess process(Pipe({"-"}), RandomBytes(size));
    EXPECT_EQ(process.Wait(), Exited(0));
    EXPECT_TRUE(process.Out() == RandomBytes(size));
    EXPECT_EQ(process.Err(), "");
  }
}

TEST(ProgramTest, StandardInputAndErrorMayBeClosed) {
  ChildProcess process(Pipe({"message"}), "", [] {
    for (const int fd : {0, 2}) ::close(fd);
  });
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_EQ(process.Out(), "message\n");
}

TEST_F(TransferTest, GoesOnAsInputComes) {
  process_.Send("second");
  process_.AwaitOut("second");
  process_.CloseInput();
  EXPECT_EQ(process_.Wait(), Exited(0));
  EXPECT_EQ(process_.Out(), "first second");
}

// Else the reader would never see the end, nor the writer a dead reader. And
// with one writer, nothing is mixed.
TEST_F(TransferTest, EachProcessHasItsOwnEndsAlone) {
  EXPECT_THAT(PipeEnds(process_.pid()), ElementsAre(O_WRONLY));
  EXPECT_THAT(PipeEnds(Reader()), ElementsAre(O_RDONLY));
}

// Or a program started meanwhile would have the write end, and hide the end.
TEST_F(TransferTest, NothingIsInheritedByOtherPrograms) {
  for (const pid_t pid : {process_.pid(), Reader()}) {
    std::vector<int> flags;
    for (const auto& [number, target] : Descriptors(pid)) {
      flags.push_back(Flags(pid, number) & O_CLOEXEC);
    }
    EXPECT_THAT(flags, Each(O_CLOEXEC));
  }
}

// Or the user's pipes together have all that they may. pipe(7)
TEST_F(TransferTest, HasRoomForMoreThanOneBlock) {
  const ipc::UniqueFd end = WriteEnd();
  constexpr int kRoom = 4 * sizeof(ipc::Block);
  EXPECT_TRUE(::fcntl(end.get(), F_GETPIPE_SZ) == kRoom ||
              ::fcntl(end.get(), F_SETPIPE_SZ, kRoom) == -1);
}

// A million calls where it reads one byte at a time.
TEST_F(TransferTest, ReadsBlocks) {
  const std::string end = "end";
  process_.Send(std::string(1000000, 'x') + end);
  process_.AwaitOut(end);
  const long calls = Field(Reader(), "io", "syscr:");
  EXPECT_GE(calls, 16);
  EXPECT_LT(calls, 100000);
}

// --- Interruption ------------------------------------------------------------

TEST_F(TransferTest, SignalEndsBoth) {
  process_.Signal(SIGTERM);
  // The reader holds the output open: this waits for its end, too.
  EXPECT_EQ(process_.Wait(), Killed(SIGTERM));
  EXPECT_EQ(process_.Out(), "first ");
  EXPECT_EQ(process_.Err(), "");
}

// The reader must not take the parent's end for a death that it has to report,
// and is gone before its parent: nobody else's zombie.
TEST_F(TransferTest, SignalLeavesNoZombie) {
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  const pid_t reader = Reader();
  process_.Signal(SIGTERM);
  EXPECT_EQ(process_.Wait(), Killed(SIGTERM));
  // Orphans are the test's own children.
  EXPECT_EQ(::waitpid(reader, nullptr, 0), -1);
  EXPECT_EQ(errno, ECHILD);
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

// Nor if the parent is interrupted again while it waits for the reader's end.
TEST(ProgramTest, SignalsLeaveNoZombie) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  ChildProcess process(WithFault("wait4", "error=EINTR:when=1", Pipe({"-"})),
                       std::nullopt, CloseOthers);
  process.Send("some");
  process.AwaitOut("some");
  const pid_t reader = ChildOf(process.pid());
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), Killed(SIGTERM));
  EXPECT_EQ(::waitpid(reader, nullptr, 0), -1);
  EXPECT_EQ(errno, ECHILD);
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

// Else it would report the end that it sees as the writer's death.
TEST(ProgramTest, SignalEndsTheReaderBeforeItSeesAnEnd) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ChildProcess process(WithFault("kill", "signal=STOP:when=1", Pipe({"-"})),
                       std::nullopt, CloseOthers);
  process.Send("some");
  process.AwaitOut("some");
  process.Signal(SIGTERM);
  process.AwaitStop();  // It has killed the reader.
  EXPECT_THAT(PipeEnds(process.pid()), ElementsAre(O_WRONLY));
  process.Signal(SIGCONT);
  EXPECT_EQ(process.Wait(), Killed(SIGTERM));
  EXPECT_EQ(process.Err(), "");
}

// The reader has inherited this.
TEST(ProgramTest, SignalEndsBothWhateverIsIgnored) {
  ChildProcess process(Pipe({"-"}), std::nullopt,
                       [] { ::signal(SIGTERM, SIG_IGN); });
  process.Send("some");
  process.AwaitOut("some");
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), Killed(SIGINT));
  EXPECT_EQ(process.Err(), "");
}

// As a program may have that started it.
TEST(ProgramTest, SignalsBlockedFromTheStartAreTaken) {
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    ChildProcess process(Pipe({"-"}), std::nullopt, [] {
      sigset_t all;
      ::sigfillset(&all);
      ::sigprocmask(SIG_BLOCK, &all, nullptr);
    });
    process.Send("some");
    process.AwaitOut("some");
    process.Signal(signal);
    EXPECT_EQ(process.Wait(), Killed(signal));
    EXPECT_EQ(process.Err(), "");
  }
}

TEST(ProgramTest, InterruptedCallsAreMadeAgain) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const ipc_testing::TemporaryDirectory directory;
  const std::string input = directory / "input";
  std::ofstream(input) << "text";
  for (const std::string call : {"read", "?poll,ppoll", "write", "wait4"}) {
    ChildProcess process(
        WithFault(call, "error=EINTR:when=1+2", Pipe({"-"}),
                  call == "read" ? input : ""),
        "", [&] { ::dup2(::open(input.c_str(), O_RDONLY), STDIN_FILENO); });
    EXPECT_EQ(process.Wait(), Exited(0)) << call << process.Err();
    EXPECT_EQ(process.Out(), "text");
  }
}

// The calls of close that the parent makes, and before them that of pipe2.
std::vector<std::string> Closes(const std::string& fault) {
  const ipc_testing::TemporaryDirectory directory;
  const std::string log = directory / "log";
  Arguments command = WithFault("close", fault, Pipe({"message"}));
  std::ranges::replace(command, "--trace=close", "--trace=close,pipe2");
  std::ranges::replace(command, "--output=/dev/null", "--output=" + log);
  ChildProcess process(command);
  EXPECT_EQ(process.Wait(), Exited(0)) << process.Err();
  std::vector<std::string> lines;
  std::istringstream text(TextOf(log));
  for (std::string line; std::getline(text, line);) {
    lines.push_back(line.substr(0, line.find(' ')));
  }
  return lines;
}

// A descriptor's number may be another's by then.
TEST(ProgramTest, CloseIsNotCalledAgainWhenItIsInterrupted) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const auto usual = Closes("error=EINTR:when=60000");
  const auto pipe = std::ranges::find(usual, "pipe2([3,");
  ASSERT_NE(pipe, usual.end());
  // Its first, of the read end: without the others the child would not end.
  const auto first = pipe - usual.begin() + 1;
  const auto closes = Closes("error=EINTR:when=" + std::to_string(first));
  EXPECT_EQ(closes, usual);
}

TEST(ProgramTest, SignalRightAfterTheStart) {
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    ChildProcess process(Pipe({"-"}), std::nullopt);
    process.Signal(signal);
    EXPECT_EQ(process.Wait(), Killed(signal));
    EXPECT_EQ(process.Err(), "");
  }
}

// --- Death -------------------------------------------------------------------

TEST_F(TransferTest, DeathOfTheReaderIsNoticedWithoutInput) {
  ::kill(Reader(), SIGKILL);
  EXPECT_EQ(process_.Wait(), Exited(1));
  EXPECT_EQ(process_.Err(),
            "pipe: waitpid 'child': Broken pipe; a signal: Killed\n");
}

// SIGPIPE would kill the writer without a word.
TEST_F(TransferTest, DeathOfTheReaderIsNoticedInAFullPipe) {
  const pid_t reader = Reader();
  ::kill(reader, SIGSTOP);
  process_.Send(std::string(1'000'000, 'x'));
  process_.CloseInput();
  {
    const ipc::UniqueFd end = WriteEnd();
    const int room = ::fcntl(end.get(), F_GETPIPE_SZ);
    Eventually([&] {
      int bytes = 0;
      return ::ioctl(end.get(), FIONREAD, &bytes) == 0 &&
             bytes > room - int{sizeof(ipc::Block)};
    });
  }
  ::kill(reader, SIGKILL);
  EXPECT_EQ(process_.Wait(), Exited(1));
  EXPECT_EQ(process_.Err(),
            "pipe: waitpid 'child': Broken pipe; a signal: Killed\n");
}

TEST_F(TransferTest, DeathOfTheReaderIsNoticedAtTheEnd) {
  const pid_t reader = Reader();
  ::kill(reader, SIGSTOP);  // It doesn't die of the end.
  process_.CloseInput();
  ::kill(reader, SIGKILL);
  EXPECT_EQ(process_.Wait(), Exited(1));
}

TEST_F(TransferTest, DeathOfTheWriterIsNoEnd) {
  process_.Signal(SIGKILL);
  EXPECT_EQ(process_.Wait(), Killed(SIGKILL));
  EXPECT_EQ(process_.Err(),
            "pipe: read 'pipe': Broken pipe; the writer died: bytes may be "
            "missing\n");
}

// --- Input and output that fail ----------------------------------------------

// The user's other pipes may have all the room that there is.
TEST(ProgramTest, APipeWithoutMoreRoomWillDo) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const std::string bytes = RandomBytes(1000000);
  ChildProcess process(WithFault("fcntl", "error=EPERM", Pipe({"-"})), bytes);
  EXPECT_EQ(process.Wait(), Exited(0)) << process.Err();
  EXPECT_TRUE(process.Out() == bytes);
}

// In the child, so that its parent has to pass it on.
TEST(ProgramTest, OutputThatFailsIsAFailure) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    for (const char* message : {"message", "-"}) {
      ChildProcess process(Pipe({message}), RandomBytes(1000000), in_child);
      EXPECT_EQ(process.Wait(), Exited(1));
      EXPECT_EQ(process.Err(),
                std::string("pipe: write 'standard output': ") + reason + "\n");
    }
  }
}

// SIGXFSZ would kill the child.
TEST(ProgramTest, OutputThatMayNotGrowIsAFailure) {
  const ipc_testing::TemporaryDirectory directory;
  const std::string output = directory / "output";
  ChildProcess process(Pipe({"-"}), RandomBytes(1000000), [&] {
    const rlimit limit{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::dup2(::open(output.c_str(), O_CREAT | O_WRONLY, 0600), STDOUT_FILENO);
  });
  EXPECT_EQ(process.Wait(), Exited(1));
  EXPECT_EQ(process.Err(), "pipe: write 'standard output': File too large\n");
  EXPECT_EQ(fs::file_size(output), 4096U);
}

// Or the child's end would not wait for its parent to ask.
TEST(ProgramTest, SigchldMayBeIgnored) {
  const auto ignore = [] { ::signal(SIGCHLD, SIG_IGN); };
  ChildProcess process(Pipe(), "", ignore);
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_EQ(process.Out(), "Hello World!\n");
  EXPECT_EQ(process.Err(), "");
  ChildProcess failing(Pipe(), "", [&] {
    ignore();
    ::close(STDOUT_FILENO);
  });
  EXPECT_EQ(failing.Wait(), Exited(1));
  EXPECT_EQ(failing.Err(),
            "pipe: write 'standard output': Bad file descriptor\n");
}

// Whoever shares it may have made it so.
TEST(ProgramTest, StandardInputAndOutputNeedNotBlock) {
  const std::string bytes = RandomBytes(1000000);
  ChildProcess process(Pipe({"-"}), std::nullopt, [] {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) {
      ::fcntl(fd, F_SETFL, O_NONBLOCK);
    }
  });
  process.Send(bytes);
  process.AwaitOut(bytes.substr(bytes.size() - 100));
  process.Send("more");
  process.CloseInput();
  EXPECT_EQ(process.Wait(), Exited(0)) << process.Err();
  EXPECT_TRUE(process.Out() == bytes + "more");
}

// Whoever shares the input takes what the parent has been told of.
TEST(ProgramTest, InputThatAnotherTakesIsWaitedForAgain) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  EXPECT_EQ(RunWhereAnotherTakesInput(Pipe({"-"})), "left");
}

TEST(ProgramTest, InputThatFailsIsAFailure) {
  const std::pair<void (*)(), const char*> inputs[] = {
      {[] { ::dup2(::open("/", O_RDONLY), 0); }, "Is a directory"},
      {[] { ::close(0); }, "Bad file descriptor"},
  };
  for (const auto& [in_child, reason] : inputs) {
    ChildProcess process(Pipe({"-"}), "", in_child);
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Out(), "");
    EXPECT_EQ(process.Err(),
              std::string("pipe: read 'standard input': ") + reason + "\n");
  }
}

TEST(ProgramTest, CallThatFailsIsAFailure) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  for (const auto& [traced, error] : {std::pair("pipe2", "pipe2 'pipe'"),
                                      {"eventfd2", "eventfd 'eventfd'"},
                                      {"?fork,clone", "fork 'child'"}}) {
    // Once: UBSan tries memory with pipes.
    ChildProcess process(WithFault(traced, "error=EMFILE:when=1", Pipe()));
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Err(),
              std::string("pipe: ") + error + ": Too many open files\n");
  }
}

// --- Command lines -----------------------------------------------------------

TEST(ProgramTest, WrongUsageSaysSo) {
  for (const Arguments& arguments :
       {Arguments{"--bogus"}, Arguments{"-x"}, Arguments{"one", "two"}}) {
    ExpectWrongUsage(Pipe(arguments));
  }
}

TEST(ProgramTest, HelpIsOutput) { ExpectHelp(ipc_testing::Program("PIPE")); }

}  // namespace
