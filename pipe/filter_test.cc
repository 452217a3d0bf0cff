// The filter, started as a user does, with commands of all kinds.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "testing/processes/child_process.h"
#include "testing/processes/manners.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;
using ipc_testing::RandomBytes;
using ipc_testing::TemporaryDirectory;
using ipc_testing::WithFault;
using Arguments = std::vector<std::string>;

Arguments Filter(const Arguments& command) {
  Arguments filter{ipc_testing::Program("FILTER")};
  filter.insert(filter.end(), command.begin(), command.end());
  return filter;
}
Arguments FilterShell(const std::string& script,
                      const Arguments& arguments = {}) {
  Arguments filter = Filter({"sh", "-c", script, "sh"});
  filter.insert(filter.end(), arguments.begin(), arguments.end());
  return filter;
}

// From /proc/PID/stat, "PID (NAME) STATE PARENT ...": a zombie's state is Z,
// and that of a process which is no more is 0.
char State(pid_t pid, pid_t* parent = nullptr) {
  std::string line;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), line);
  const auto name_end = line.rfind(')');
  if (name_end == std::string::npos) return 0;
  if (parent != nullptr) *parent = std::stoi(line.substr(name_end + 4));
  return line[name_end + 2];
}

// How many bytes the command has not read yet.
int Unread(pid_t command) {
  const auto path = "/proc/" + std::to_string(command) + "/fd/0";
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  int bytes = 0;
  ::ioctl(fd, FIONREAD, &bytes);
  ::close(fd);
  return bytes;
}

// The command's process. It has been started when it has printed something.
pid_t Command(const ChildProcess& filter) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    const auto pid = static_cast<pid_t>(std::strtol(name.c_str(), nullptr, 10));
    pid_t parent = 0;
    if (State(pid, &parent) != 0 && parent == filter.pid()) return pid;
  }
  return -1;
}

std::string ContentOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// --- What comes out is what went in ------------------------------------------

class SizeTest : public testing::TestWithParam<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(, SizeTest,
                         testing::Values(0U, 1U, 4095U, 4096U, 4097U, 65536U,
                                         65537U, 262144U, 262145U, 5000000U));

TEST_P(SizeTest, FromAPipe) {
  ChildProcess filter(Filter({"cat"}), RandomBytes(GetParam()));
  EXPECT_EQ(filter.Wait(), Exited(0));
  EXPECT_TRUE(filter.Out() == RandomBytes(GetParam()));
  EXPECT_EQ(filter.Err(), "");
}

TEST_P(SizeTest, FromAFileIntoAFile) {
  const TemporaryDirectory directory;
  const std::string from = directory / "from";
  const std::string to = directory / "to";
  std::ofstream(from, std::ios::binary) << RandomBytes(GetParam());
  std::ofstream(to, std::ios::binary) << "kept ";
  for (const int flag : {O_TRUNC, O_APPEND}) {  // splice can't append.
    ChildProcess filter(Filter({"cat"}), "", [&] {
      ::dup2(::open(from.c_str(), O_RDONLY), STDIN_FILENO);
      ::dup2(::open(to.c_str(), O_WRONLY | flag), STDOUT_FILENO);
    });
    EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
    const std::string bytes = RandomBytes(GetParam());
    EXPECT_TRUE(ContentOf(to) == (flag == O_APPEND ? bytes + bytes : bytes));
  }
}

// All goes by read and write; or what was there another process has taken.
TEST_P(SizeTest, WithoutSplice) {
  for (const char* fault : {"error=EINVAL", "error=EAGAIN:when=1+3"}) {
    ChildProcess filter(WithFault("splice", fault, Filter({"cat"})),
                        RandomBytes(GetParam()),
                        [] { ::fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK); });
    EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
    EXPECT_TRUE(filter.Out() == RandomBytes(GetParam()));
  }
}

// 64 MiB, or as many bytes as FILTER_BYTES says: 1073741824 takes some seconds.
TEST(FilterTest, MuchInput) {
  const char* more = std::getenv("FILTER_BYTES");
  const std::string bytes = more != nullptr ? more : "67108864";
  const std::string data = "seq 1000000000 | head -c " + bytes;
  ChildProcess shell({"/bin/sh", "-c",
                      data + " | (" + data +
                          " | \"$0\" cat | cmp - /dev/fd/3)"
                          " 3<&0",
                      Filter({}).front()});
  shell.set_patience(std::chrono::minutes(5));
  EXPECT_EQ(shell.Wait(), Exited(0));
  EXPECT_EQ(shell.Out() + shell.Err(), "");
}

TEST(FilterTest, GoesOnAsInputComes) {
  ChildProcess filter(Filter({"cat"}), std::nullopt);
  for (const std::string word : {"one", "two", "three"}) {
    filter.Send(word);
    filter.AwaitOut(word);
  }
  filter.CloseInput();
  EXPECT_EQ(filter.Wait(), Exited(0));
}

// Somebody else has made the standard input that we share not block.
TEST(FilterTest, InputMayNotBlock) {
  ChildProcess filter(Filter({"cat"}), std::nullopt,
                      [] { ::fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK); });
  filter.Send("one");
  filter.AwaitOut("one");
  filter.Send("two");
  filter.CloseInput();
  EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
  EXPECT_EQ(filter.Out(), "onetwo");
}

// --- Both at the same time ---------------------------------------------------

// Commands that write much before they read, or after, or neither one: a filter
// that does one thing at a time would wait for one that waits for it.
TEST(FilterTest, NoOrderIsADeadlock) {
  const std::string much = "head -c 3000000 /dev/zero";
  const std::string input = RandomBytes(3000000);
  const std::string zeros(3000000, '\0');
  for (const std::string splice : {"", "error=EINVAL"}) {
    for (const auto& [script, expected] :
         {std::pair(much + "; cat", zeros + input),
          std::pair("cat; " + much, input + zeros),
          std::pair("wc -c; " + much, "3000000\n" + zeros),
          std::pair(much + "; wc -c", zeros + "3000000\n"),
          std::pair(std::string("dd bs=1000001 status=none"), input)}) {
      SCOPED_TRACE(script);
      ChildProcess filter(
          splice.empty() ? FilterShell(script)
                         : WithFault("splice", splice, FilterShell(script)),
          input);
      EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
      EXPECT_TRUE(filter.Out() == expected) << filter.Out().size();
    }
  }
}

// With one byte in the pipe blocks don't fill it: of the last some bytes would
// have to wait.
TEST(FilterTest, NoMoreIsWrittenThanThereIsRoomFor) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  ChildProcess filter(
      WithFault("splice", "error=EINVAL",
                FilterShell("echo x; read go <\"$1\"; head -c 3000000 "
                            "/dev/zero; exec cat",
                            {directory / "fifo"})),
      std::nullopt);
  filter.AwaitOut("x\n");
  const pid_t command = Command(filter);
  filter.Send("1");
  while (Unread(command) != 1) ASSERT_FALSE(filter.HasEnded());
  filter.Send(std::string(2999999, '2'));
  // What it writes from now on is read only by a filter that does not wait.
  while (Unread(command) < 900000) ASSERT_FALSE(filter.HasEnded());
  std::ofstream(directory / "fifo") << "go\n";
  filter.CloseInput();
  EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
  EXPECT_TRUE(filter.Out() == "x\n" + std::string(3000000, '\0') + "1" +
                                  std::string(2999999, '2'));
}

TEST(FilterTest, CommandThatReadsNoMoreEndsIt) {
  // The input is still open, and silent.
  ChildProcess filter(Filter({"head", "-n", "1"}), std::nullopt);
  filter.Send("first\nsecond\n");
  EXPECT_EQ(filter.Wait(), Exited(0));
  EXPECT_EQ(filter.Out(), "first\n");
  EXPECT_EQ(filter.Err(), "");
}

TEST(FilterTest, CommandThatReadsNothingIsNoFailure) {
  ChildProcess filter(Filter({"echo", "done"}), RandomBytes(3000000));
  EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
  EXPECT_EQ(filter.Out(), "done\n");
}

// It has closed its input, and goes on: the filter closes its end, too.
TEST(FilterTest, CommandMayCloseItsInput) {
  ChildProcess filter(
      FilterShell(
          "echo start; read go; exec <&-; echo closed; exec sleep 1000"),
      std::nullopt);
  const auto descriptors = [&] {
    const auto path = "/proc/" + std::to_string(filter.pid()) + "/fd";
    return std::distance(std::filesystem::directory_iterator(path), {});
  };
  filter.AwaitOut("start\n");
  const auto before = descriptors();
  filter.Send("go\n");
  filter.AwaitOut("closed\n");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (descriptors() == before && std::chrono::steady_clock::now() < end) {
    ::poll(nullptr, 0, 10);
  }
  EXPECT_EQ(descriptors(), before - 1);
  filter.Signal(SIGTERM);
  EXPECT_EQ(filter.Wait(), Killed(SIGTERM));
}

TEST(FilterTest, CommandMayCloseItsOutput) {
  const TemporaryDirectory directory;
  ChildProcess filter(
      FilterShell("exec >\"$1\"; wc -c; exit 5", {directory / "count"}),
      RandomBytes(3000000));
  EXPECT_EQ(filter.Wait(), Exited(5));
  EXPECT_EQ(ContentOf(directory / "count"), "3000000\n");
}

// A process that the command has left running has its output, too: what that
// prints is not lost.
TEST(FilterTest, WhatTheCommandLeavesRunningMayStillPrint) {
  const TemporaryDirectory directory;
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  ChildProcess filter(
      FilterShell("(read line <\"$1\"; echo late) & echo early; exit 4",
                  {directory / "fifo"}),
      std::nullopt);
  filter.AwaitOut("early\n");
  const pid_t command = Command(filter);
  while (State(command) != 'Z') ASSERT_FALSE(filter.HasEnded());
  std::ofstream(directory / "fifo") << "go on\n";
  EXPECT_EQ(filter.Wait(), Exited(4));
  EXPECT_EQ(filter.Out(), "early\nlate\n");
}

// Nothing but the pidfd tells: another process has the input open.
TEST(FilterTest, DeathOfTheCommandIsNoticedWithInputLeft) {
  ChildProcess filter(
      FilterShell(
          "exec 3<&0; sleep 1000 <&3 >/dev/null 2>&1 & echo $!; exit 4"),
      std::nullopt);
  EXPECT_EQ(filter.Wait(), Exited(4));
  ::kill(std::stoi(filter.Out()), SIGKILL);
}

TEST(FilterTest, WaitingTakesNoProcessorTime) {
  for (const auto& [script, input] :
       {std::pair("echo x; exec cat", 1),               // For input.
        std::pair("echo x; exec sleep 1000", 1000000),  // For room.
        std::pair("exec <&-; echo x; exec sleep 1000", 1000000)}) {
    SCOPED_TRACE(script);
    ChildProcess filter(FilterShell(script), std::nullopt);
    filter.Send(RandomBytes(static_cast<std::size_t>(input)));
    filter.AwaitOut("x\n");
    const auto before = filter.CpuTime();
    ::poll(nullptr, 0, 500);
    EXPECT_LT(filter.CpuTime() - before, std::chrono::milliseconds(100));
    filter.Signal(SIGTERM);  // And the command with it.
    EXPECT_EQ(filter.Wait(), Killed(SIGTERM));
  }
}

// --- How it ends -------------------------------------------------------------

TEST(FilterTest, ExitStatusIsTheCommands) {
  for (const int status : {0, 1, 2, 7, 126, 255}) {
    ChildProcess filter(FilterShell("exit $1", {std::to_string(status)}));
    EXPECT_EQ(filter.Wait(), Exited(status));
    EXPECT_EQ(filter.Err(), "");
  }
}

TEST(FilterTest, DiesOfTheCommandsSignal) {
  for (const int signal : {SIGKILL, SIGTERM, SIGSEGV, SIGPIPE, SIGUSR1}) {
    ChildProcess filter(FilterShell("kill -$1 $$", {std::to_string(signal)}),
                        std::nullopt);
    EXPECT_EQ(filter.Wait(), Killed(signal));
    EXPECT_EQ(filter.Err(), std::string("filter: waitpid 'sh': a signal: ") +
                                ::strsignal(signal) + "\n");
  }
}

TEST(FilterTest, CommandThatCannotBeRun) {
  const TemporaryDirectory directory;
  for (const auto& [command, status, reason] :
       {std::tuple(std::string("no-such-command"), 127,
                   "No such file or directory"),
        std::tuple(directory / "none", 127, "No such file or directory"),
        std::tuple(directory.path(), 126, "Permission denied"),
        std::tuple(std::string("/proc/self/status"), 126,
                   "Permission denied")}) {
    // It has taken no input: the next command has all.
    ChildProcess shell(
        {"/bin/sh", "-c", R"("$0" "$1"; status=$?; cat; exit $status)",
         Filter({}).front(), command},
        "input");
    EXPECT_EQ(shell.Wait(), Exited(status));
    EXPECT_EQ(shell.Out(), "input");
    EXPECT_EQ(shell.Err(),
              "filter: execvp '" + command + "': " + reason + "\n");
  }
}

// A parent that ignores SIGCHLD: its children leave no status.
TEST(FilterTest, SigchldMayHaveBeenIgnored) {
  ChildProcess filter(FilterShell("exit 7"), "",
                      [] { ::signal(SIGCHLD, SIG_IGN); });
  EXPECT_EQ(filter.Wait(), Exited(7)) << filter.Err();
}

TEST(FilterTest, SignalEndsBoth) {
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    ChildProcess filter(FilterShell("echo x; exec cat"), std::nullopt);
    filter.AwaitOut("x\n");
    const pid_t command = Command(filter);
    ASSERT_GT(command, 0);
    filter.Signal(signal);
    EXPECT_EQ(filter.Wait(), Killed(signal));
    EXPECT_EQ(State(command), 0);  // Not even a zombie.
    EXPECT_EQ(filter.Err(), "");
  }
}

// By a signal that asks for nothing.
TEST(FilterTest, InterruptedWaitIsMadeAgain) {
  ChildProcess filter(
      WithFault("wait4", "error=EINTR:when=1", FilterShell("exit 7")));
  EXPECT_EQ(filter.Wait(), Exited(7)) << filter.Err();
}

// Nor does it leave a zombie if it is itself about to end.
TEST(FilterTest, InterruptedWaitLeavesNoZombie) {
  ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
  ChildProcess filter(
      WithFault("wait4", "error=EINTR:when=1", FilterShell("echo x; exec cat")),
      std::nullopt);
  filter.AwaitOut("x\n");
  const pid_t command = Command(filter);
  filter.Signal(SIGTERM);
  EXPECT_EQ(filter.Wait(), Killed(SIGTERM));
  // An orphan would be the test's own child.
  EXPECT_EQ(::waitpid(command, nullptr, 0), -1);
  EXPECT_EQ(errno, ECHILD);
  ::prctl(PR_SET_CHILD_SUBREAPER, 0);
}

TEST(FilterTest, InterruptedCommandMayPutThingsAway) {
  ChildProcess filter(
      FilterShell("trap 'echo put away >&2; exit' TERM; echo x; "
                  "while :; do sleep 0.01; done"),
      std::nullopt);
  filter.AwaitOut("x\n");
  filter.Signal(SIGTERM);
  EXPECT_EQ(filter.Wait(), Killed(SIGTERM));
  EXPECT_EQ(filter.Err(), "put away\n");
}

TEST(FilterTest, CommandThatDoesNotEndIsKilled) {
  ChildProcess filter(
      FilterShell("trap '' TERM PIPE; echo x; while :; do sleep 0.01; done"),
      std::nullopt);
  filter.AwaitOut("x\n");
  const pid_t command = Command(filter);
  filter.Signal(SIGTERM);
  EXPECT_EQ(filter.Wait(), Killed(SIGTERM));
  EXPECT_EQ(State(command), 0);
}

// Its input ends, and what it writes is not read.
TEST(FilterTest, CommandOutlivesAKilledFilterNoLonger) {
  ChildProcess filter(FilterShell("echo x; cat; echo end >&2"), std::nullopt);
  filter.AwaitOut("x\n");
  filter.Signal(SIGKILL);
  EXPECT_EQ(filter.Wait(), Killed(SIGKILL));  // And of who has its error.
  EXPECT_EQ(filter.Err(), "end\n");
}

TEST(FilterTest, OutputThatFailsIsAFailure) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess filter(Filter({"yes"}), std::nullopt, in_child);
    EXPECT_EQ(filter.Wait(), Exited(1));
    EXPECT_EQ(filter.Err(),
              std::string("filter: write 'standard output': ") + reason + "\n");
  }
}

TEST(FilterTest, InputThatFailsIsAFailure) {
  const std::pair<void (*)(), const char*> inputs[] = {
      {[] { ::dup2(::open("/", O_RDONLY), 0); }, "Is a directory"},
      {[] { ::close(0); }, "Bad file descriptor"},
  };
  for (const auto& [in_child, reason] : inputs) {
    ChildProcess filter(Filter({"cat"}), "", in_child);
    EXPECT_EQ(filter.Wait(), Exited(1));
    EXPECT_EQ(filter.Out(), "");
    EXPECT_EQ(filter.Err(),
              std::string("filter: read 'standard input': ") + reason + "\n");
  }
}

TEST(FilterTest, CallThatFailsIsAFailure) {
  for (const auto& [call, object] :
       {std::pair("pipe2", "pipe"), std::pair("fork", "cat"),
        std::pair("pidfd_open", "cat")}) {
    const std::string name = call;
    // Once: UBSan tries memory with pipes.
    ChildProcess filter(WithFault(name == "fork" ? "?fork,clone" : name,
                                  "error=EMFILE:when=1", Filter({"cat"})),
                        std::nullopt);
    EXPECT_EQ(filter.Wait(), Exited(1));
    EXPECT_EQ(filter.Err(),
              "filter: " + name + " '" + object + "': Too many open files\n");
  }
}

// The user's other pipes may have all the room that there is.
TEST(FilterTest, PipesWithoutMoreRoomWillDo) {
  ChildProcess filter(WithFault("fcntl", "error=EPERM", Filter({"cat"})),
                      RandomBytes(1000000));
  EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
  EXPECT_TRUE(filter.Out() == RandomBytes(1000000));
}

// --- What the command is given -----------------------------------------------

TEST(FilterTest, CommandHasThreeDescriptors) {
  ChildProcess filter(FilterShell("ls /proc/$$/fd"), "", [] {
    for (const int fd : {3, 7, 100}) ::dup2(STDERR_FILENO, fd);
  });
  EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
  EXPECT_EQ(filter.Out(), "0\n1\n2\n");
}

// What we ignore, or were given blocked, would stay so in the command.
TEST(FilterTest, CommandHasItsSignals) {
  ChildProcess filter(
      Filter({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"}), "", [] {
        sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_SETMASK, &all, nullptr);
      });
  EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
  const std::string blocked = "SigBlk:\t0000000000000000\nSigIgn:\t";
  ASSERT_EQ(filter.Out().substr(0, blocked.size()), blocked);
  // Of signals from 32 on the test's own parent may have had one ignored.
  const auto ignored =
      std::stoull(filter.Out().substr(blocked.size()), nullptr, 16);
  EXPECT_EQ(ignored & 0x7fffffffU, 0U) << filter.Out();
}

// nohup: what it ignores the command has to ignore, too.
TEST(FilterTest, CommandIgnoresTheStopSignalsThatItShould) {
  ChildProcess filter(FilterShell("kill -HUP $$; echo alive"), "",
                      [] { ::signal(SIGHUP, SIG_IGN); });
  EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
  EXPECT_EQ(filter.Out(), "alive\n");
}

TEST(FilterTest, StandardErrorIsTheCommandsToo) {
  ChildProcess filter(FilterShell("echo error >&2"));
  EXPECT_EQ(filter.Wait(), Exited(0));
  EXPECT_EQ(filter.Err(), "error\n");
}

// --- Command lines -----------------------------------------------------------

TEST(FilterTest, OptionsBehindTheCommandAreTheCommands) {
  for (const Arguments& command :
       {Arguments{"printf", "%s.", "--help", "-x", "--", "a b", ""},
        Arguments{"--", "printf", "%s.", "--help", "-x", "--", "a b", ""}}) {
    ChildProcess filter(Filter(command));
    EXPECT_EQ(filter.Wait(), Exited(0)) << filter.Err();
    EXPECT_EQ(filter.Out(), "--help.-x.--.a b..");
  }
}

TEST(FilterTest, WrongUsageSaysSo) {
  for (const Arguments& arguments :
       {Arguments{}, Arguments{"--"}, Arguments{"--bogus"},
        Arguments{"-x", "cat"}}) {
    ipc_testing::ExpectWrongUsage(Filter(arguments));
  }
}

TEST(FilterTest, HelpIsOutput) {
  ipc_testing::ExpectHelp(ipc_testing::Program("FILTER"));
}

}  // namespace
