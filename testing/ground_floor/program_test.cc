// Unit tests of program.h.
#include "program.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "testing/processes/child_process.h"
#include "testing/processes/in_child.h"
#include "testing/processes/shared_input.h"

namespace {

using ipc::Options;
using ipc::PeerWait;
using ipc::Seconds;
using ipc::UniqueFd;
using ipc_testing::ChildProcess;
using ipc_testing::ErrorOf;
using ipc_testing::Exited;
using ipc_testing::InChild;
using ipc_testing::Killed;
using ipc_testing::Pipe;

// How what the program says begins.
std::string Self() { return program_invocation_short_name + std::string(": "); }

// A program with options; `run` is its body, and `before` what its parent does.
ChildProcess RunMain(
    std::vector<std::string> arguments, void (*run)(const Options&),
    const std::function<void()>& before = [] {},
    const std::optional<std::string>& input = "") {
  return InChild(
      [&] {
        arguments.insert(arguments.begin(), "/a/path/of/the/program");
        std::vector<char*> argv;
        argv.reserve(arguments.size() + 1);
        for (std::string& argument : arguments) argv.push_back(argument.data());
        argv.push_back(nullptr);
        before();
        return ipc::Main(static_cast<int>(arguments.size()), argv.data(),
                         "Usage: ...\n",
                         {{"name", "no name"},
                          {"timeout", "inf"},
                          {"count", "7"},
                          {"keep", "no"},
                          {"MESSAGE", "no message"}},
                         run);
      },
      input);
}

void DoNothing(const Options&) {}

// --- What is said ------------------------------------------------------------

TEST(SayTest, IsOneLineWhateverItContains) {
  auto child = InChild([] {
    ipc::Say("a\nb\r\x1b[1m\x7f \xc3\xa4");
    return 0;
  });
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Err(), Self() + "a?b??[1m? \xc3\xa4\n");
}

// Two programs may share a terminal. Each read of such a pipe returns what one
// write has written.
TEST(SayTest, IsOneWrite) {
  auto child = InChild([] {
    Pipe pipe(O_DIRECT);
    ::dup2(pipe.write_end.get(), STDERR_FILENO);
    ipc::Say("text");
    ipc::Block block;
    ipc::Print(ipc::ReadSome(pipe.read_end.get(), block, "pipe"));
    return 0;
  });
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Out(), Self() + "text\n");
}

TEST(SayTest, IsNoFailureWhereNobodyListens) {
  for (const char* output : {"/dev/full", "/dev/null"}) {
    auto child = RunMain(
        {}, [](const Options&) { ipc::Say("text"); },
        [&] { ::dup2(::open(output, O_WRONLY), 2); });
    EXPECT_EQ(child.Wait(), Exited(0));
  }
}

// --- Waiting for a peer ------------------------------------------------------

// A peer that is there comes within kGrace: until then nothing is said.
TEST(PeerWaitTest, SaysOnceThatItWaitsAndNotAtOnce) {
  auto child = InChild([] {
    PeerWait wait{"a peer", "open", "name", ipc::kForever};
    Seconds silent(0);
    for (const double pause : {0.01, 0.02, 0.04, 0.08}) {
      if (wait.Next() != Seconds(pause)) return 1;
      silent += Seconds(pause);
    }
    if (std::abs((silent - ipc::kGrace).count()) > 1e-9) return 2;
    ipc::Print("silent until here");
    if (::dup2(STDOUT_FILENO, STDERR_FILENO) == -1) return 3;
    for (int i = 0; i < 10; ++i) {
      if (wait.Next() != Seconds(0.1)) return 4;
    }
    return 0;
  });
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Err(), "");
  EXPECT_EQ(child.Out(),
            "silent until here" + Self() + "waiting for a peer on 'name'\n");
}

TEST(PeerWaitTest, PausesNoLongerThanItHasTime) {
  const Seconds end = ipc::Now() + Seconds(0.005);
  PeerWait wait{"a peer", "open", "name", end};
  const auto error = ErrorOf([&] {
    for (;;) {
      const Seconds pause = wait.Next();
      EXPECT_LE(pause, Seconds(0.005));
      ipc::Poll({}, pause);
    }
  });
  EXPECT_GT(ipc::Now(), end);
  EXPECT_EQ(error.second,
            "open 'name': Connection timed out; waited for a peer");
}

TEST(PeerWaitTest, WithoutTimeEndsAfterTheFirstAttempts) {
  PeerWait wait{"a peer", "open", "name", ipc::Now()};
  EXPECT_EQ(ErrorOf([&] {
              for (;;) wait.Pause();
            }).first,
            ETIMEDOUT);
}

// The pause is a wait: it lets time pass.
TEST(PeerWaitTest, PauseTakesItsTime) {
  const Seconds start = ipc::Now();
  PeerWait wait{"a peer", "open", "name", ipc::kForever};
  wait.Pause();
  EXPECT_GE(ipc::Now() - start, Seconds(0.01));
  wait.Pause();
  EXPECT_GE(ipc::Now() - start, Seconds(0.03));
}

TEST(PeerWaitTest, EndsWhenAskedToStop) {
  auto child = RunMain({}, [](const Options&) {
    PeerWait wait{"a peer", "open", "name", ipc::kForever};
    ::raise(SIGTERM);
    for (;;) wait.Pause();
  });
  EXPECT_EQ(child.Wait(), Killed(SIGTERM));
  EXPECT_EQ(child.Err(), "");
}

// For who waits otherwise than by Pause: on a semaphore, for example.
TEST(PeerWaitTest, NextThrowsWhenAskedToStop) {
  PeerWait wait{"a peer", "open", "name", ipc::kForever};
  ipc::stop_signal = SIGTERM;
  EXPECT_EQ(ErrorOf([&] { wait.Next(); }).first, EINTR);
  ipc::stop_signal = 0;
}

// --- The command line --------------------------------------------------------

void Show(const Options& options) {
  std::string text;
  for (const char* name : {"name", "timeout", "keep", "MESSAGE"}) {
    text += options.at(name) + ",";
  }
  ipc::Print(text);
}

TEST(CommandLineTest, IsRead) {
  const std::pair<std::vector<std::string>, std::string> lines[] = {
      {{}, "no name,inf,no,no message,"},
      {{"--name", "x", "--timeout", "1.5", "text"}, "x,1.5,no,text,"},
      {{"text", "--name=x", "--keep"}, "x,inf,yes,text,"},
      {{"--name", ""}, ",inf,no,no message,"},
      {{"--name", "no"}, "no,inf,no,no message,"},
      {{"--name", "x", "--name", "y"}, "y,inf,no,no message,"},
      {{"--na", "x"}, "x,inf,no,no message,"},
      {{""}, "no name,inf,no,,"},
      {{"-"}, "no name,inf,no,-,"},
      {{"--", "--name"}, "no name,inf,no,--name,"},
      {{"--name", "--keep"}, "--keep,inf,no,no message,"},
  };
  for (const auto& [arguments, read] : lines) {
    auto child = RunMain(arguments, Show);
    EXPECT_EQ(child.Wait(), Exited(0)) << child.Err();
    EXPECT_EQ(child.Out(), read);
  }
}

TEST(CommandLineTest, WrongUsageIsReported) {
  const std::string wrong_usage = Self() + "wrong usage; see --help\n";
  const std::pair<std::vector<std::string>, std::string> lines[] = {
      {{"--bogus"}, Self() + "unrecognized option '--bogus'\n" + wrong_usage},
      {{"-x"}, Self() + "invalid option -- 'x'\n" + wrong_usage},
      {{"--name"},
       Self() + "option '--name' requires an argument\n" + wrong_usage},
      {{"--keep=x"},
       Self() + "option '--keep' doesn't allow an argument\n" + wrong_usage},
      {{"--help=x"},
       Self() + "option '--help' doesn't allow an argument\n" + wrong_usage},
      {{"one", "two"}, Self() + "extra operand 'two'; see --help\n"},
      {{"one", "--", "--two"}, Self() + "extra operand '--two'; see --help\n"},
  };
  for (const auto& [arguments, error] : lines) {
    auto child = RunMain(arguments, Show);
    EXPECT_EQ(child.Wait(), Exited(2));
    EXPECT_EQ(child.Out(), "");
    EXPECT_EQ(child.Err(), error);
  }
}

TEST(CommandLineTest, OperandThatIsNotTakenIsReported) {
  auto child = InChild([] {
    char program[] = "program";
    char operand[] = "x";
    char* argv[] = {program, operand, nullptr};
    return ipc::Main(2, argv, "", {{"name", ""}}, DoNothing);
  });
  EXPECT_EQ(child.Wait(), Exited(2));
  EXPECT_EQ(child.Err(), Self() + "extra operand 'x'; see --help\n");
}

TEST(CommandLineTest, HelpIsOutputAndEndsTheProgram) {
  auto child = RunMain({"--name", "x", "--help"}, Show);
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Out(), "Usage: ...\n");
  EXPECT_EQ(child.Err(), "");
}

TEST(CommandLineTest, HelpThatCanNotBePrintedIsAFailure) {
  for (const auto& [fail, reason] : ipc_testing::FailingOutputs()) {
    auto child = RunMain({"--help"}, Show, fail);
    EXPECT_EQ(child.Wait(), Exited(1));
    EXPECT_EQ(child.Err(),
              Self() + "write 'standard output': " + reason + "\n");
  }
}

double Timeout(const std::string& text) {
  return ipc::NumberOption({{"timeout", text}}, "timeout", HUGE_VAL);
}

unsigned Count(const std::string& text) {
  return ipc::NumberOption({{"count", text}}, "count", 32767U);
}

TEST(NumberOptionTest, IsANumberFromZeroToTheMost) {
  EXPECT_EQ(Timeout("0"), 0);
  EXPECT_EQ(Timeout("1.5"), 1.5);
  EXPECT_EQ(Timeout("1e6"), 1e6);
  EXPECT_EQ(Timeout("1e300"), 1e300);
  EXPECT_EQ(Timeout(".25"), 0.25);
  EXPECT_EQ(Timeout("inf"), HUGE_VAL) << "for ever, as if it were not given";
  EXPECT_EQ(Count("0"), 0U);
  EXPECT_EQ(Count("007"), 7U);
  EXPECT_EQ(Count("32767"), 32767U);
}

TEST(NumberOptionTest, ThatIsNoneIsReported) {
  const auto says = [](const std::function<void()>& body) {
    try {
      body();
    } catch (const ipc::UsageError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  for (const std::string text :
       {"", " ", "x", "1x", " 1", "1 ", "-1", "+1", "nan", "-nan", "-inf",
        "1e400", "0x10", "1,5", "1e", "--"}) {
    EXPECT_EQ(says([&] { Timeout(text); }),
              "--timeout '" + text + "' is not from 0 to inf");
  }
  for (const std::string text : {"", "32768", "-1", "-0", "1.5", "1e2", "0x10",
                                 " 1", "4294967296", "99999999999999999999"}) {
    EXPECT_EQ(says([&] { Count(text); }),
              "--count '" + text + "' is not from 0 to 32767");
  }
}

TEST(NumberOptionTest, ThatIsWrongIsWrongUsage) {
  auto child = RunMain({"--timeout", "soon"}, [](const Options& options) {
    ipc::NumberOption(options, "timeout", HUGE_VAL);
  });
  EXPECT_EQ(child.Wait(), Exited(2));
  EXPECT_EQ(child.Out(), "");
  EXPECT_EQ(child.Err(),
            Self() + "--timeout 'soon' is not from 0 to inf; see --help\n");
}

// --- Signals -----------------------------------------------------------------

// Reads what never comes.
void WaitForEver(const Options&) {
  Pipe pipe;
  ipc::Block block;
  ipc::ReadSome(pipe.read_end.get(), block, "pipe");
}

// It comes between the last look at stop_signal and the call, which it then
// does not interrupt.
void StopJustBeforeACall(int signal) {
  Pipe pipe;
  char byte = 0;
  ::raise(signal);
  const auto n =
      ipc::Retry([&] { return ::read(pipe.read_end.get(), &byte, 1); });
  ipc::Check(n, "read", "pipe");
}

TEST(StopTest, EndsAWaitByTheSignal) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    auto child = RunMain({}, [](const Options& options) {
      ipc::Print("waits");
      WaitForEver(options);
    });
    child.AwaitOut("waits");
    child.Signal(signal);
    EXPECT_EQ(child.Wait(), Killed(signal));
    EXPECT_EQ(child.Err(), "");
  }
}

TEST(StopTest, EndsACallThatItCameJustBefore) {
  auto child =
      RunMain({}, [](const Options&) { StopJustBeforeACall(SIGTERM); });
  EXPECT_EQ(child.Wait(), Killed(SIGTERM));
  EXPECT_EQ(child.Err(), "");
}

// The parent may ignore the alarm that follows the signal, or block it.
TEST(StopTest, EndsACallWhateverTheParentDidWithTheAlarm) {
  for (void (*before)() : {+[] { ::signal(SIGALRM, SIG_IGN); },
                           +[] {
                             sigset_t all;
                             ::sigfillset(&all);
                             ::sigprocmask(SIG_BLOCK, &all, nullptr);
                           }}) {
    auto child = RunMain(
        {}, [](const Options&) { StopJustBeforeACall(SIGTERM); }, before);
    EXPECT_EQ(child.Wait(), Killed(SIGTERM));
  }
}

TEST(StopTest, EndsOneThatItsParentHasBlocked) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    auto child = RunMain({}, WaitForEver, [&] {
      sigset_t blocked;
      ::sigemptyset(&blocked);
      ::sigaddset(&blocked, signal);
      ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
      ::raise(signal);  // Pending, until it is unblocked.
    });
    EXPECT_EQ(child.Wait(), Killed(signal));
  }
}

TEST(StopTest, BySignalThatWasIgnoredIsNone) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    auto child = RunMain(
        {"--count", std::to_string(signal)},
        [](const Options& options) {
          ::raise(ipc::NumberOption(options, "count", 100));
          ipc::ThrowIfStopped();
        },
        [&] { ::signal(signal, SIG_IGN); });
    EXPECT_EQ(child.Wait(), Exited(0));
  }
}

TEST(StopTest, ByTheFirstSignal) {
  auto child = RunMain({}, [](const Options&) {
    for (const int signal : {SIGTERM, SIGINT, SIGALRM}) ::raise(signal);
    ipc::ThrowIfStopped();
  });
  EXPECT_EQ(child.Wait(), Killed(SIGTERM));
}

TEST(StopTest, OfAProcessThatHasJustFinishedIsNoFailure) {
  auto child = RunMain({}, [](const Options&) { ::raise(SIGTERM); });
  EXPECT_EQ(child.Wait(), Exited(0));
}

// SIGPIPE would kill it without a word.
TEST(SignalTest, OutputThatNobodyReadsIsAFailure) {
  auto child = RunMain({}, Show, [] {
    ::signal(SIGPIPE, SIG_DFL);
    Pipe pipe;
    ::dup2(pipe.write_end.get(), STDOUT_FILENO);
  });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(), Self() + "write 'standard output': Broken pipe\n");
}

// SIGXFSZ would, likewise.
TEST(SignalTest, OutputThatMayNotGrowIsAFailure) {
  const ipc_testing::TemporaryDirectory directory;
  const std::string path = directory / "output";
  auto child = RunMain({}, Show, [&] {
    const rlimit limit{3, 3};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::dup2(::open(path.c_str(), O_CREAT | O_WRONLY, 0600), STDOUT_FILENO);
  });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(), Self() + "write 'standard output': File too large\n");
}

// --- The end -----------------------------------------------------------------

TEST(ExitStatusTest, SaysHowItEnded) {
  struct Case {
    void (*body)();
    ipc_testing::End end;
    std::string said;
  };
  const Case cases[] = {
      {[] {}, Exited(0), ""},
      {[] { throw ipc::Error(EIO, "read", "name"); }, Exited(1),
       "read 'name': Input/output error"},
      {[] { throw ipc::Error(EIO, "read", "two\nlines", "advice"); }, Exited(1),
       "read 'two?lines': Input/output error; advice"},
      {[] { throw std::runtime_error("failure"); }, Exited(1), "failure"},
      {[] { throw ipc::UsageError("usage"); }, Exited(2), "usage; see --help"},
  };
  for (const Case& one : cases) {
    auto child = InChild([&] { return ipc::ExitStatus(one.body); });
    EXPECT_EQ(child.Wait(), one.end);
    EXPECT_EQ(child.Out(), "");
    EXPECT_EQ(child.Err(), one.said.empty() ? "" : Self() + one.said + "\n");
  }
}

// So that its parent, a shell for example, can tell. It says nothing, whatever
// has failed because of the signal.
TEST(ExitStatusTest, DiesOfTheSignalThatAskedToStop) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGALRM}) {
    auto child = InChild([&] {
      ::signal(signal, SIG_IGN);
      ipc::stop_signal = signal;
      return ipc::ExitStatus([] { throw ipc::Error(EIO, "read", "name"); });
    });
    EXPECT_EQ(child.Wait(), Killed(signal));
    EXPECT_EQ(child.Err(), "");
  }
}

// What has a name is removed before.
TEST(ExitStatusTest, DiesAfterAllWasDestroyed) {
  auto child = RunMain({}, [](const Options&) {
    struct Owner {
      ~Owner() { ipc::Say("destroyed"); }
    };
    const Owner owner;
    ::raise(SIGTERM);
    ipc::ThrowIfStopped();
  });
  EXPECT_EQ(child.Wait(), Killed(SIGTERM));
  EXPECT_EQ(child.Err(), Self() + "destroyed\n");
}

// Else the next object opened would be in its place, and be printed into.
TEST(MainTest, ClosedDescriptorsAreNotTaken) {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    auto child = RunMain(
        {},
        [](const Options&) {
          if (::open("/dev/null", O_RDWR) <= STDERR_FILENO) std::abort();
        },
        [&] { ::close(fd); });
    EXPECT_EQ(child.Wait(), Exited(0));
  }
}

TEST(MainTest, AllClosedDescriptorsAreNotTaken) {
  auto child = RunMain(
      {},
      [](const Options&) {
        if (::open("/dev/null", O_RDWR) <= STDERR_FILENO) std::abort();
      },
      [] {
        for (int fd = 0; fd <= STDERR_FILENO; ++fd) ::close(fd);
      });
  EXPECT_EQ(child.Wait(), Exited(0));
}

TEST(MainTest, ClosedOutputIsAFailure) {
  auto child = RunMain({}, Show, [] { ::close(STDOUT_FILENO); });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(),
            Self() + "write 'standard output': Bad file descriptor\n");
}

TEST(MainTest, ClosedInputIsAFailure) {
  auto child = RunMain(
      {},
      [](const Options&) {
        ipc::Block block;
        ipc::ReadSome(STDIN_FILENO, block, "standard input");
      },
      [] { ::close(STDIN_FILENO); });
  EXPECT_EQ(child.Wait(), Exited(1));
  EXPECT_EQ(child.Err(),
            Self() + "read 'standard input': Bad file descriptor\n");
}

// Whoever shares the descriptor may have made it so: a shell's other job, ssh.
TEST(MainTest, InputThatDoesNotBlockIsWaitedFor) {
  auto child = RunMain(
      {},
      [](const Options&) {
        ipc::Print("waits,");
        for (ipc::Block block;;) {
          const auto bytes =
              ipc::ReadSome(STDIN_FILENO, block, "standard input");
          if (bytes.empty()) break;
          ipc::Print(bytes);
        }
      },
      [] { ::fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK); }, std::nullopt);
  child.AwaitOut("waits,");
  child.Send("some,");
  child.AwaitOut("some,");
  child.Send("more");
  child.CloseInput();
  EXPECT_EQ(child.Wait(), Exited(0));
  EXPECT_EQ(child.Out(), "waits,some,more");
  EXPECT_EQ(child.Err(), "");
}

}  // namespace
