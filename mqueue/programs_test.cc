// The programs, end to end: the contract in this repository's README.md.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <functional>

#include "testing/child_process.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::CpuTimeOfEnded;
using ipc_testing::Exited;
using ipc_testing::Killed;
using testing::EndsWith;
using testing::StartsWith;

using Words = std::vector<std::string>;
using Input = std::optional<std::string>;
constexpr auto kOpenInput = std::nullopt;
constexpr auto kNothing = [] {};
constexpr int kMessages = 10;  // What a queue holds.

std::string Lines(int count, const std::string& prefix = "") {
  std::string lines;
  for (int i = 0; i < count; ++i) lines += prefix + std::to_string(i) + "\n";
  return lines;
}

class QueueProgramsTest : public testing::Test {
 protected:
  ~QueueProgramsTest() override { ::mq_unlink(name_.c_str()); }

  ChildProcess Run(const char* program, const Words& arguments,
                   const Input& input = "",
                   const std::function<void()>& in_child = kNothing) {
    Words argv{ipc_testing::Program(program), "--name", name_};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return ChildProcess(argv, input, in_child);
  }
  ChildProcess Server(const Words& arguments = {},
                      const std::function<void()>& in_child = kNothing) {
    return Run("SERVER", arguments, "", in_child);
  }
  ChildProcess Client(const Words& arguments, const Input& input = "",
                      const std::function<void()>& in_child = kNothing) {
    return Run("CLIENT", arguments, input, in_child);
  }
  // Runs a client that has to succeed, and returns what it prints.
  std::string Send(const Words& arguments, const Input& input = "") {
    ChildProcess client = Client(arguments, input);
    EXPECT_EQ(client.Wait(), Exited(0)) << client.Err();
    return client.Out();
  }
  // Ends the server, and returns what it has printed.
  std::string Quit(ChildProcess& server) {
    EXPECT_EQ(Send({"quit"}), "quit\n");
    EXPECT_EQ(server.Wait(), Exited(0)) << server.Err();
    EXPECT_FALSE(Exists());
    return server.Out();
  }
  // What a server prints of what a client sends.
  std::string Transfer(const Words& arguments, const Input& input = "") {
    ChildProcess server = Server();
    Send(arguments, input);
    return Quit(server);
  }
  bool Exists() {
    const mqd_t queue = ::mq_open(name_.c_str(), O_RDONLY);
    if (queue != -1) ::mq_close(queue);
    return queue != -1;
  }

  std::string Waiting(const std::string& program, const std::string& what) {
    return program + ": waiting for " + what + " on '" + name_ + "'\n";
  }
  std::string ServerWaiting() { return Waiting("server", "messages"); }
  std::string Error(const std::string& program, const std::string& call,
                    const std::string& reason) {
    return program + ": " + call + " '" + name_ + "': " + reason + "\n";
  }

  const std::string name_ = ipc_testing::UniqueName();
};

// --- Exact -------------------------------------------------------------------

TEST_F(QueueProgramsTest, EachLineOfStandardInputIsAMessage) {
  std::string lines;
  for (std::size_t size = 0; size <= 128; ++size) {
    std::string line = ipc_testing::RandomBytes(size);  // NULs, too.
    std::ranges::replace(line, '\n', ' ');
    lines += line + "\n";
  }
  ChildProcess server = Server();
  EXPECT_EQ(Send({"-"}, lines), lines);
  EXPECT_EQ(Quit(server), lines);
}

TEST_F(QueueProgramsTest, SendsAMessage) {
  for (const std::size_t size : {0U, 1U, 100U, 127U, 128U}) {
    const std::string message(size, 'x');
    EXPECT_EQ(Transfer({message}), message + "\n");
  }
  EXPECT_EQ(Transfer({"--", "--help"}), "--help\n");
}

TEST_F(QueueProgramsTest, TheLastLineNeedsNoNewline) {
  EXPECT_EQ(Transfer({"-"}, "one\ntwo"), "one\ntwo\n");
  EXPECT_EQ(Transfer({"-"}, ""), "");
}

TEST_F(QueueProgramsTest, ThousandsOfLines) {
  const std::string lines = Lines(20'000);
  EXPECT_TRUE(Transfer({"-"}, lines) == lines);
}

TEST_F(QueueProgramsTest, ALineThatComesInPiecesIsOne) {
  ChildProcess server = Server();
  ChildProcess client = Client({"-"}, kOpenInput);
  client.Send("one\ntw");
  server.AwaitOut("one\n");
  client.Send("o\n");
  server.AwaitOut("two\n");
  client.CloseInput();
  EXPECT_EQ(client.Wait(), Exited(0));
  EXPECT_EQ(Quit(server), "one\ntwo\n");
}

TEST_F(QueueProgramsTest, ALongerMessageIsRefused) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  const std::string line(129, 'x');
  const std::pair<Words, std::string> messages[] = {
      {{line}, ""},
      {{"-"}, line},
      {{"-"}, line + "\nmore\n"},
      {{"-"}, std::string(1'000'000, 'x')},
  };
  for (const auto& [arguments, input] : messages) {
    ChildProcess client = Client(arguments, input);
    EXPECT_EQ(client.Wait(), Exited(1));
    EXPECT_EQ(client.Err(), Error("client", "mq_send",
                                  "Message too long; at most 128 bytes fit"));
    EXPECT_EQ(client.Out(), "");
  }
  EXPECT_EQ(Quit(server), "");
}

TEST_F(QueueProgramsTest, HigherPriorityIsFirst) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  server.Stop();
  Send({"--priority", "0", "last"});
  Send({"default"});
  Send({"--priority", "2", "second"});
  Send({"--priority", "32767", "-"}, "first\nfirst, too");
  server.Signal(SIGCONT);
  EXPECT_EQ(Quit(server), "first\nfirst, too\nsecond\ndefault\nlast\n");
}

TEST_F(QueueProgramsTest, WhatQuitOvertakesIsPrinted) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  server.Stop();
  Send({"-"}, "one\ntwo\nquit\nthree\n");
  Send({"--priority", "9", "quit"});
  server.Signal(SIGCONT);
  EXPECT_EQ(server.Wait(), Exited(0));
  EXPECT_EQ(server.Out(), "one\ntwo\nthree\n");
  EXPECT_FALSE(Exists());
}

// --- Any order ---------------------------------------------------------------

TEST_F(QueueProgramsTest, ServerMayBeFirst) {
  ChildProcess server = Server();
  server.AwaitErr("\n");
  EXPECT_EQ(server.Err(), ServerWaiting());
  EXPECT_EQ(Send({"Hello World"}), "Hello World\n");
  EXPECT_EQ(Quit(server), "Hello World\n");
}

TEST_F(QueueProgramsTest, ClientMayBeFirst) {
  ChildProcess client = Client({"Hello World"});
  client.AwaitErr("\n");
  EXPECT_EQ(client.Err(), Waiting("client", "a server"));
  ChildProcess server = Server();
  EXPECT_EQ(client.Wait(), Exited(0));
  EXPECT_EQ(client.Out(), "Hello World\n");
  EXPECT_EQ(Quit(server), "Hello World\n");
}

// --- Timeouts ----------------------------------------------------------------

TEST_F(QueueProgramsTest, ServerWaitsNoLongerThanTold) {
  ChildProcess server = Server({"--timeout", "0.05"});
  EXPECT_EQ(server.Wait(), Exited(1));
  EXPECT_EQ(
      server.Err(),
      ServerWaiting() + Error("server", "poll",
                              "Connection timed out; waited for a message"));
  EXPECT_FALSE(Exists());
}

TEST_F(QueueProgramsTest, ClientWaitsNoLongerThanToldForAServer) {
  ChildProcess client = Client({"--timeout", "0.05", "Hello"});
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_EQ(client.Err(),
            Waiting("client", "a server") +
                Error("client", "mq_open",
                      "Connection timed out; waited for a server"));
  EXPECT_EQ(client.Out(), "");
  EXPECT_FALSE(Exists());
}

TEST_F(QueueProgramsTest, ClientWaitsNoLongerThanToldForRoom) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  server.Stop();
  const auto before = CpuTimeOfEnded();
  ChildProcess client = Client({"--timeout", "0.5", "-"}, Lines(100));
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_LT(CpuTimeOfEnded() - before, std::chrono::milliseconds(250));
  EXPECT_EQ(client.Err(), Error("client", "mq_send", "Connection timed out"));
  EXPECT_EQ(client.Out(), Lines(kMessages));  // And no more.
  server.Signal(SIGCONT);
  EXPECT_EQ(Quit(server), Lines(kMessages));
}

// --- A peer that dies, and what it leaves ------------------------------------

TEST_F(QueueProgramsTest, ClientNoticesThatTheServerDiedWhileItsInputIsSilent) {
  ChildProcess server = Server();
  ChildProcess client = Client({"-"}, kOpenInput);
  client.Send("one\n");
  server.AwaitOut("one\n");
  server.Signal(SIGKILL);
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_THAT(
      client.Err(),
      EndsWith(Error("client", "mq_send", "Broken pipe; the server has gone")));
  EXPECT_EQ(Transfer({"Hello"}), "Hello\n");
}

TEST_F(QueueProgramsTest, ClientNoticesThatTheServerDiedWhileTheQueueIsFull) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  server.Stop();
  ChildProcess client = Client({"-"}, Lines(100));
  client.AwaitOut(Lines(kMessages));
  server.Signal(SIGKILL);
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_EQ(client.Err(),
            Error("client", "mq_send", "Broken pipe; the server has gone"));
  // What it has printed is what was sent: the next server delivers it.
  EXPECT_EQ(client.Out(), Lines(kMessages));
  EXPECT_EQ(Transfer({"Hello"}), Lines(kMessages) + "Hello\n");
}

// A message that no server will receive, in a queue that isn't full.
TEST_F(QueueProgramsTest, ClientNoticesThatTheServerEndedBeforeItsLastMessage) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  ChildProcess server = Server();
  ChildProcess client =
      Client({"-"}, "", [&] { ::dup2(ends[0], STDIN_FILENO); });
  ASSERT_EQ(::write(ends[1], "one\n", 4), 4);
  server.AwaitOut("one\n");
  client.Stop();  // In its wait for input.
  EXPECT_EQ(Quit(server), "one\n");
  ASSERT_EQ(::write(ends[1], "late\n", 5), 5);
  for (const int end : ends) ::close(end);
  client.Signal(SIGCONT);
  EXPECT_EQ(client.Wait(), Exited(1));
}

TEST_F(QueueProgramsTest, WhatAKilledServerLeavesIsDeliveredToTheNext) {
  {
    ChildProcess server = Server();
    server.AwaitErr("waiting for messages");
    server.Stop();
    Send({"--priority", "0", "kept"});
    Send({"kept, too"});
    server.Signal(SIGKILL);
    EXPECT_EQ(server.Wait(), Killed(SIGKILL));
  }
  ChildProcess client = Client({"--priority", "0", "new"});
  client.AwaitErr("waiting for a server");  // Not deceived by the name.
  ChildProcess server = Server();
  EXPECT_EQ(client.Wait(), Exited(0));
  EXPECT_EQ(Quit(server), "kept, too\nkept\nnew\n");
}

TEST_F(QueueProgramsTest, AClientThatDiesLeavesTheServerAsItWas) {
  ChildProcess server = Server();
  ChildProcess client = Client({"-"}, kOpenInput);
  client.Send("one\n");
  server.AwaitOut("one\n");
  client.Signal(SIGKILL);
  EXPECT_EQ(client.Wait(), Killed(SIGKILL));
  Send({"two"});
  EXPECT_EQ(Quit(server), "one\ntwo\n");
}

// --- Signals -----------------------------------------------------------------

class QueueSignalTest : public QueueProgramsTest,
                        public testing::WithParamInterface<int> {
 protected:
  void ExpectDiesOfIt(ChildProcess& child) {
    child.Signal(GetParam());
    EXPECT_EQ(child.Wait(), Killed(GetParam()));
  }
};
INSTANTIATE_TEST_SUITE_P(Each, QueueSignalTest,
                         testing::Values(SIGINT, SIGTERM, SIGHUP));

TEST_P(QueueSignalTest, ServerThatWaits) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  ExpectDiesOfIt(server);
  EXPECT_EQ(server.Err(), ServerWaiting());
  EXPECT_FALSE(Exists());
}

TEST_P(QueueSignalTest, ClientThatWaits) {
  ChildProcess client = Client({"Hello"});
  client.AwaitErr("waiting for a server");
  ExpectDiesOfIt(client);
  EXPECT_EQ(client.Err(), Waiting("client", "a server"));
  EXPECT_FALSE(Exists());
}

TEST_P(QueueSignalTest, ClientWhoseInputIsSilentAndThenTheServer) {
  ChildProcess server = Server();
  ChildProcess client = Client({"-"}, kOpenInput);
  client.Send("one\n");
  server.AwaitOut("one\n");
  ExpectDiesOfIt(client);
  EXPECT_TRUE(Exists());
  ExpectDiesOfIt(server);
  EXPECT_FALSE(Exists());
}

TEST_P(QueueSignalTest, ClientInAFullQueue) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  server.Stop();
  ChildProcess client = Client({"-"}, Lines(100));
  client.AwaitOut(Lines(kMessages));
  ExpectDiesOfIt(client);
  server.Signal(SIGCONT);
  EXPECT_EQ(Quit(server), Lines(kMessages));
}

TEST_P(QueueSignalTest, ServerWhoseOutputIsFull) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC | O_NONBLOCK), 0);
  while (::write(ends[1], "x", 1) == 1) continue;
  ::fcntl(ends[1], F_SETFL, 0);
  ChildProcess server = Server({}, [&] { ::dup2(ends[1], STDOUT_FILENO); });
  // It takes one more than the queue holds, to print it, and hangs.
  ChildProcess client = Client({"-"}, Lines(100));
  client.AwaitOut(Lines(kMessages + 1));
  ExpectDiesOfIt(server);
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_FALSE(Exists());
  for (const int end : ends) ::close(end);
}

TEST_P(QueueSignalTest, RightAfterTheStart) {
  for (int i = 0; i < 10; ++i) {
    ChildProcess server = Server();
    ExpectDiesOfIt(server);
    ChildProcess client = Client({"Hello"});
    ExpectDiesOfIt(client);
    EXPECT_FALSE(Exists());
  }
}

// It comes during the call: nothing waits in the call that is interrupted.
TEST_F(QueueProgramsTest, NoNameIsLeftWhicheverCallASignalMeets) {
  Words server{ipc_testing::Program("SERVER"), "--name", name_};
  for (const std::string call :
       {"mq_open", "fcntl", "write", "mq_timedreceive", "?poll,ppoll"}) {
    if (call == "?poll,ppoll") server.insert(server.end(), {"--timeout", "60"});
    ChildProcess child(
        ipc_testing::WithFault(call, "signal=SIGTERM:when=1", server));
    EXPECT_EQ(child.Wait(), Killed(SIGTERM)) << call;
    EXPECT_FALSE(Exists()) << call;
  }
}

// --- Names in use ------------------------------------------------------------

TEST_F(QueueProgramsTest, ASecondServerIsRefused) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  ChildProcess second = Server();
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Err(),
            Error("server", "mq_open",
                  "Device or resource busy; choose another name"));
  Send({"Hello"});
  EXPECT_EQ(Quit(server), "Hello\n");
}

TEST_F(QueueProgramsTest, AQueueWithOtherAttributesIsLeftAsItWas) {
  mq_attr attributes{};
  attributes.mq_maxmsg = 3;
  attributes.mq_msgsize = 64;
  const mqd_t queue =
      ::mq_open(name_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
  ASSERT_EQ(::mq_send(queue, "mine", 4, 0), 0);
  ChildProcess server = Server();
  EXPECT_EQ(server.Wait(), Exited(1));
  EXPECT_EQ(server.Err(),
            Error("server", "mq_open",
                  "File exists; it is something else, left as it was: remove "
                  "it or choose another name"));
  EXPECT_TRUE(Exists());
  EXPECT_EQ(::mq_getattr(queue, &attributes), 0);
  EXPECT_EQ(attributes.mq_curmsgs, 1);
  ::mq_close(queue);
}

TEST_F(QueueProgramsTest, ModeIs0600AndSizesAreTheDocuments) {
  ChildProcess server = Server({}, [] { ::umask(0); });
  server.AwaitErr("waiting for messages");
  const mqd_t queue = ::mq_open(name_.c_str(), O_RDONLY);
  struct stat status {};
  EXPECT_EQ(::fstat(queue, &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  mq_attr attributes{};
  EXPECT_EQ(::mq_getattr(queue, &attributes), 0);
  EXPECT_EQ(attributes.mq_maxmsg, 10);
  EXPECT_EQ(attributes.mq_msgsize, 128);
  ::mq_close(queue);
  Quit(server);
}

TEST_F(QueueProgramsTest, TooMuchForTheUserIsExplained) {
  ChildProcess server = Server({}, [] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_MSGQUEUE, &none);
  });
  EXPECT_EQ(server.Wait(), Exited(1));
  EXPECT_EQ(
      server.Err(),
      Error("server", "mq_open",
            "Too many open files; see `ulimit -q` (RLIMIT_MSGQUEUE), and -n"));
}

// --- Manners -----------------------------------------------------------------

TEST_F(QueueProgramsTest, OutputThatFailsIsReported) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    const std::string error =
        std::string(": write 'standard output': ") + reason + "\n";
    ChildProcess server = Server({}, in_child);
    server.AwaitErr("waiting for messages");
    ChildProcess client = Client({"Hello"}, "", in_child);
    EXPECT_EQ(client.Wait(), Exited(1));
    EXPECT_EQ(client.Err(), "client" + error);
    EXPECT_EQ(server.Wait(), Exited(1));
    EXPECT_EQ(server.Err(), ServerWaiting() + "server" + error);
    EXPECT_FALSE(Exists());
  }
}

TEST_F(QueueProgramsTest, ClosedInputIsReported) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  ChildProcess client = Client({"-"}, "", [] { ::close(STDIN_FILENO); });
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_EQ(client.Err(),
            "client: read 'standard input': Bad file descriptor\n");
}

TEST_F(QueueProgramsTest, WrongUsageIsRefused) {
  const std::pair<const char*, Words> usages[] = {
      {"SERVER", {"message"}},
      {"SERVER", {"--priority", "1"}},
      {"SERVER", {"--timeout", "soon"}},
      {"SERVER", {"--name"}},
      {"CLIENT", {}},
      {"CLIENT", {"one", "two"}},
      {"CLIENT", {"--unknown", "message"}},
      {"CLIENT", {"--timeout", "-1", "message"}},
      {"CLIENT", {"--priority", "-1", "message"}},
      {"CLIENT", {"--priority", "32768", "message"}},
      {"CLIENT", {"--priority", "high", "message"}},
      {"CLIENT", {"--priority", "1.5", "message"}},
  };
  for (const auto& [program, arguments] : usages) {
    ChildProcess child = Run(program, arguments);
    EXPECT_EQ(child.Wait(), Exited(2)) << testing::PrintToString(arguments);
    EXPECT_EQ(child.Out(), "");
    EXPECT_THAT(child.Err(), EndsWith("; see --help\n"));
  }
  EXPECT_FALSE(Exists());
}

TEST_F(QueueProgramsTest, HelpIsPrinted) {
  for (const auto& [program, name] :
       {std::pair("SERVER", "server"), {"CLIENT", "client"}}) {
    ChildProcess child = Run(program, {"--help"});
    EXPECT_EQ(child.Wait(), Exited(0));
    EXPECT_THAT(child.Out(), StartsWith(std::string("Usage: ") + name + " "));
    EXPECT_EQ(child.Err(), "");
  }
}

}  // namespace
