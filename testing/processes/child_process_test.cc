// The tests of the samples stand on this.
#include "testing/processes/child_process.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace ipc_testing {
namespace {

using std::chrono_literals::operator""ms;

std::vector<std::string> Shell(const std::string& script) {
  return {"/bin/sh", "-c", script};
}

TEST(ChildProcess, TellsAStatusFromASignal) {
  EXPECT_EQ(ChildProcess(Shell("exit 0")).Wait(), Exited(0));
  EXPECT_EQ(ChildProcess(Shell("exit 137")).Wait(), Exited(137));
  EXPECT_EQ(ChildProcess(Shell("kill -9 $$")).Wait(), Killed(SIGKILL));
  EXPECT_EQ(ChildProcess({"/no/such/program"}).Wait(), Exited(127));
}

TEST(ChildProcess, KeepsOutputAndErrorApart) {
  ChildProcess process(Shell("echo out; echo err >&2"));
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_EQ(process.Out(), "out\n");
  EXPECT_EQ(process.Err(), "err\n");
  EXPECT_TRUE(process.HasEnded());
}

TEST(ChildProcess, MovesMoreThanPipesHold) {
  const std::string bytes = RandomBytes(5'000'000);
  ChildProcess process(Shell("tee /dev/stderr"), bytes);
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_TRUE(process.Out() == bytes);
  EXPECT_TRUE(process.Err() == bytes);
}

TEST(ChildProcess, NeedNotReadItsInput) {
  ChildProcess process(Shell("exec <&-; echo done"), RandomBytes(5'000'000));
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_EQ(process.Out(), "done\n");
}

TEST(ChildProcess, TakesInputByAndBy) {
  ChildProcess process({"/bin/cat"}, std::nullopt);
  process.Send("one");
  process.AwaitOut("one");
  process.Send("two");
  process.AwaitOut("onetwo");
  EXPECT_FALSE(process.HasEnded());
  process.CloseInput();
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_EQ(process.Out(), "onetwo");
}

TEST(ChildProcess, IsNotAwaitedAfterItsEnd) {
  ChildProcess process(Shell("echo out; echo err >&2"));
  process.AwaitOut("out");
  process.AwaitErr("err");
  EXPECT_THROW(process.AwaitOut("more"), std::runtime_error);
  EXPECT_THROW(process.AwaitErr("more"), std::runtime_error);
}

TEST(ChildProcess, IsNotAwaitedForEver) {
  ChildProcess process({"/bin/cat"}, std::nullopt);
  process.set_patience(10ms);
  EXPECT_THROW(process.AwaitOut("x"), std::runtime_error);
  EXPECT_THROW(process.AwaitErr("x"), std::runtime_error);
  EXPECT_THROW(process.Wait(), std::runtime_error);
}

TEST(ChildProcess, IsSentSignals) {
  // Also where the test itself, as under nohup, ignores them.
  const auto before = std::signal(SIGTERM, SIG_IGN);
  ChildProcess process({"/bin/cat"}, std::nullopt);
  std::signal(SIGTERM, before);
  process.Send("x");
  process.AwaitOut("x");
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), Killed(SIGTERM));
  process.Signal(SIGTERM);  // Nobody's, now.
}

TEST(ChildProcess, IsSentSignalsFromItsStartOn) {
  for (int i = 0; i < 50; ++i) {
    const auto before = std::signal(SIGTERM, SIG_IGN);
    ChildProcess process({"/bin/cat"}, std::nullopt);
    std::signal(SIGTERM, before);
    process.Signal(SIGTERM);
    EXPECT_EQ(process.Wait(), Killed(SIGTERM));
  }
}

TEST(ChildProcess, RunsWhatItIsToldBeforeTheProgram) {
  ChildProcess process(Shell("umask"), "", [] { ::umask(0123); });
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_EQ(process.Out(), "0123\n");
}

TEST(ChildProcess, UsesProcessorTimeOrNot) {
  const ChildProcess busy(Shell("while :; do :; done"));
  const ChildProcess idle({"/bin/cat"}, std::nullopt);
  while (busy.CpuTime() < 100ms) ::poll(nullptr, 0, 10);
  EXPECT_LT(idle.CpuTime(), 50ms);
}

TEST(ChildProcess, InheritsNothingOfOthers) {
  // Else the second would keep the first one's input open.
  ChildProcess first({"/bin/cat"}, std::nullopt);
  const ChildProcess second({"/bin/cat"}, std::nullopt);
  first.CloseInput();
  EXPECT_EQ(first.Wait(), Exited(0));
}

TEST(ChildProcess, EndsWithItsObject) {
  pid_t pid = -1;
  {
    const ChildProcess process(Shell("trap '' TERM; exec cat"), std::nullopt);
    pid = process.pid();
    EXPECT_EQ(::kill(pid, 0), 0);
  }
  EXPECT_EQ(::kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(ChildProcess, EndsWithItsTest) {
  // Its write end is closed when all who have it have ended.
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const pid_t test = ::fork();
  if (test == 0) {
    ChildProcess process({"/bin/cat"}, std::nullopt);
    process.Send("x");
    process.AwaitOut("x");
    ::raise(SIGKILL);
  }
  ::close(ends[1]);
  pollfd end{ends[0], POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 30'000), 1);
  EXPECT_EQ(end.revents, POLLHUP);
  ::close(ends[0]);
  int status = 0;
  ::waitpid(test, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST(WithFault, MakesCallsFailOrSignals) {
  ChildProcess failing(WithFault("write", "error=EIO", Shell("echo x")));
  EXPECT_NE(failing.Wait(), Exited(0));
  EXPECT_EQ(failing.Out(), "");
  ChildProcess killed(WithFault("write", "signal=KILL:when=2",
                                Shell("echo 1; echo 2; echo 3")));
  EXPECT_EQ(killed.Wait(), Killed(SIGKILL));
}

TEST(Program, IsNamedByAVariable) {
  ::setenv("A_PROGRAM", "bin/x", 1);
  EXPECT_EQ(Program("A_PROGRAM"), std::filesystem::current_path() / "bin/x");
  EXPECT_THROW(Program("NO_PROGRAM"), std::runtime_error);
}

TEST(UniqueName, IsAnotherEachTime) {
  const std::string name = UniqueName();
  EXPECT_EQ(name.rfind('/'), 0U);
  EXPECT_NE(name, UniqueName());
}

TEST(TemporaryDirectory, GoesWithAllThatIsInIt) {
  std::string path;
  {
    const TemporaryDirectory directory;
    path = directory.path();
    for (const char* name : {"b", "a"}) {
      const std::ofstream file(directory / name);
    }
    EXPECT_EQ(directory.Names(), (std::vector<std::string>{"a", "b"}));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST(RandomBytes, AreOfEveryValue) {
  const std::string bytes = RandomBytes(10000);
  EXPECT_EQ(bytes.size(), 10000U);
  for (int value = 0; value < 256; ++value) {
    EXPECT_NE(bytes.find(static_cast<char>(value)), bytes.npos) << value;
  }
  EXPECT_EQ(bytes, RandomBytes(10000));
  EXPECT_NE(bytes, RandomBytes(10001));
}

}  // namespace
}  // namespace ipc_testing
