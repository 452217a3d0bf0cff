// The program, started as a user does.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "posix.h"
#include "testing/child_process.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;
using ipc_testing::RandomBytes;
using Arguments = std::vector<std::string>;

Arguments Pipe(const Arguments& arguments = {}) {
  Arguments command{ipc_testing::Program("PIPE")};
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

// Started with "-", and in the middle of a transfer.
class TransferTest : public testing::Test {
 protected:
  TransferTest() {
    process_.Send("first ");
    process_.AwaitOut("first ");
  }

  // The process that reads, from /proc/PID/stat: "PID (NAME) STATE PARENT".
  pid_t Reader() const {
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      std::string line;
      std::getline(std::ifstream(entry.path() / "stat"), line);
      const auto name_end = line.rfind(')');
      if (name_end == std::string::npos) continue;
      if (std::stoi(line.substr(name_end + 4)) == process_.pid()) {
        return std::stoi(line);
      }
    }
    ADD_FAILURE() << "there is no child";
    return -1;
  }

  ChildProcess process_{Pipe({"-"}), std::nullopt};
};

// The lines of /proc/PID/`file` by their first word.
long Field(pid_t pid, const std::string& file, const std::string& name) {
  std::ifstream lines("/proc/" + std::to_string(pid) + "/" + file);
  std::string word;
  while (lines >> word && word != name) continue;
  long value = -1;
  lines >> value;
  return value;
}

// The access modes of the pipe ends that a process has, other than its standard
// input, output and error: O_RDONLY or O_WRONLY.
std::vector<int> PipeEnds(pid_t pid) {
  std::vector<int> ends;
  const auto directory = "/proc/" + std::to_string(pid);
  for (const auto& fd :
       std::filesystem::directory_iterator(directory + "/fd")) {
    const std::string number = fd.path().filename();
    const std::string target = std::filesystem::read_symlink(fd.path());
    if (std::stoi(number) <= 2 || !target.starts_with("pipe:")) continue;
    std::ifstream info(directory + "/fdinfo/" + number);
    std::string word;
    while (info >> word && word != "flags:") continue;
    int flags = 0;
    info >> std::oct >> flags;
    ends.push_back(flags & O_ACCMODE);
  }
  return ends;
}

// --- What comes out is what went in ------------------------------------------

TEST(ProgramTest, DefaultMessageIsTheDocuments) {
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
  EXPECT_EQ(PipeEnds(process_.pid()), (std::vector{O_WRONLY, O_WRONLY}));
  EXPECT_EQ(PipeEnds(Reader()), (std::vector{O_RDONLY, O_RDONLY}));
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
            "pipe: waitpid 'child': Broken pipe; it died of a signal: "
            "Killed\n");
}

TEST_F(TransferTest, DeathOfTheReaderIsNoticedAtTheEnd) {
  ::kill(Reader(), SIGSTOP);  // It doesn't die of the end.
  process_.CloseInput();
  ::kill(Reader(), SIGKILL);
  EXPECT_EQ(process_.Wait(), Exited(1));
}

TEST_F(TransferTest, DeathOfTheWriterIsNoEnd) {
  process_.Signal(SIGKILL);
  EXPECT_EQ(process_.Wait(), Killed(SIGKILL));
  EXPECT_EQ(process_.Err(),
            "pipe: read 'pipe': Broken pipe; its writer died: bytes may "
            "lack\n");
}

// --- Input and output that fail ----------------------------------------------

// The user's other pipes may have all the room that there is.
TEST(ProgramTest, APipeWithoutMoreRoomWillDo) {
  const std::string bytes = RandomBytes(1000000);
  ChildProcess process(
      ipc_testing::WithFault("fcntl", "error=EPERM", Pipe({"-"})), bytes);
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
  for (const auto& [call, object] :
       {std::pair("pipe2", "pipe"), std::pair("fork", "child")}) {
    const std::string name = call;
    // Once: UBSan tries memory with pipes.
    ChildProcess process(ipc_testing::WithFault(
        name == "fork" ? "?fork,clone" : name, "error=EMFILE:when=1", Pipe()));
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Err(),
              "pipe: " + name + " '" + object + "': Too many open files\n");
  }
}

// --- Command lines -----------------------------------------------------------

TEST(ProgramTest, WrongUsageSaysSo) {
  for (const Arguments& arguments :
       {Arguments{"--bogus"}, Arguments{"-x"}, Arguments{"one", "two"}}) {
    ChildProcess process(Pipe(arguments));
    EXPECT_EQ(process.Wait(), Exited(2));
    EXPECT_EQ(process.Out(), "");
    EXPECT_TRUE(process.Err().ends_with("; see --help\n")) << process.Err();
  }
}

TEST(ProgramTest, HelpIsOutput) {
  ChildProcess process(Pipe({"--help"}));
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_TRUE(process.Out().starts_with("Usage: pipe")) << process.Out();
  EXPECT_EQ(process.Err(), "");
}

}  // namespace
