// The programs, end to end: the contract in this repository's README.md.
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>

#include "mqueue/test_pair.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::CpuTimeOfEnded;
using ipc_testing::Exited;
using ipc_testing::ExpectHelp;
using ipc_testing::ExpectWrongUsage;
using ipc_testing::HasStrace;
using ipc_testing::Killed;
using ipc_testing::kInUse;
using ipc_testing::kMessages;
using ipc_testing::kNoStrace;
using ipc_testing::kOpenInput;
using ipc_testing::Lines;
using ipc_testing::Program;
using ipc_testing::StuckOutput;
using ipc_testing::WithFault;
using ipc_testing::Words;
using testing::EndsWith;
using testing::StartsWith;

class QueueProgramsTest : public ipc_testing::QueueTest {};

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

// The client need not take the end of the server for a failure.
TEST_F(QueueProgramsTest, TheLastLineMayBeQuit) {
  ChildProcess server = Server();
  ChildProcess client = Client({"-"}, kOpenInput);
  client.Send("one\nquit\n");
  EXPECT_EQ(server.Wait(), Exited(0));
  client.CloseInput();
  EXPECT_EQ(client.Wait(), Exited(0)) << client.Err();
  EXPECT_EQ(client.Out(), "one\nquit\n");
  EXPECT_EQ(server.Out(), "one\n");
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

TEST_F(QueueProgramsTest, ALongerLineIsRefused) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  const std::string line(129, 'x');
  for (const std::string& input :
       {line, line + "\nmore\n", std::string(1'000'000, 'x')}) {
    ChildProcess client = Client({"-"}, input);
    EXPECT_EQ(client.Wait(), Exited(1));
    EXPECT_EQ(client.Err(), Error("client", "mq_send",
                                  "Message too long; at most 128 bytes fit"));
    EXPECT_EQ(client.Out(), "");
  }
  EXPECT_EQ(Quit(server), "");
}

TEST_F(QueueProgramsTest, HigherPriorityIsFirst) {
  ChildProcess server = Server();
  StopOnceItWaits(server);
  Send({"--priority", "0", "last"});
  Send({"default"});
  Send({"--priority", "2", "second"});
  Send({"--priority", "32767", "-"}, "first\nfirst, too");
  server.Signal(SIGCONT);
  EXPECT_EQ(Quit(server), "first\nfirst, too\nsecond\ndefault\nlast\n");
}

TEST_F(QueueProgramsTest, WhatQuitOvertakesIsPrinted) {
  ChildProcess server = Server();
  StopOnceItWaits(server);
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

// Whatever comes later: there is no server, and the wait would have no end.
TEST_F(QueueProgramsTest, WhatNoServerCanCureIsNotWaitedFor) {
  const std::tuple<Words, int, std::string> commands[] = {
      {{std::string(129, 'x')}, 2, "client: MESSAGE is too long; see --help\n"},
      {{"--name", "/", "Hello"},
       1,
       "client: mq_open '/': No such file or directory\n"},
      {{"--name", "name", "Hello"},
       1,
       "client: mq_open 'name': Invalid argument\n"},
      {{"--name", "/" + std::string(256, 'x'), "Hello"},
       1,
       "client: mq_open '/" + std::string(256, 'x') +
           "': File name too long\n"},
  };
  for (const auto& [arguments, status, error] : commands) {
    ChildProcess client = Client(arguments);
    EXPECT_EQ(client.Wait(), Exited(status));
    EXPECT_EQ(client.Err(), error);
    EXPECT_EQ(client.Out(), "");
  }
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
  // So short a wait need not be spoken of.
  EXPECT_THAT(client.Err(),
              EndsWith(Error("client", "mq_open",
                             "Connection timed out; waited for a server")));
  EXPECT_EQ(client.Out(), "");
  EXPECT_FALSE(Exists());
}

TEST_F(QueueProgramsTest, ClientWaitsNoLongerThanToldForRoom) {
  ChildProcess server = Server();
  StopOnceItWaits(server);
  const auto before = CpuTimeOfEnded();
  ChildProcess client = Client({"--timeout", "0.5", "-"}, Lines(100));
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_LT(CpuTimeOfEnded() - before, std::chrono::milliseconds(250));
  EXPECT_EQ(client.Err(), Error("client", "mq_send",
                                "Connection timed out; waited for room"));
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
  EXPECT_THAT(client.Err(), EndsWith(Error("client", "mq_send", kGone)));
  EXPECT_EQ(Transfer({"Hello"}), "Hello\n");
}

// Each byte comes before the client would have asked for want of one.
TEST_F(QueueProgramsTest, ClientNoticesThatTheServerDiedWhileItsInputTrickles) {
  ChildProcess server = Server();
  ChildProcess client = Client({"-"}, kOpenInput);
  client.Send("one\n");
  server.AwaitOut("one\n");
  server.Signal(SIGKILL);
  int bytes = 0;
  for (; !client.HasEnded() && bytes < 100; ++bytes) {
    client.Send("x");
    ipc::Poll({}, ipc::Seconds(0.2));
  }
  EXPECT_LT(bytes, 100);
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_EQ(client.Err(), Error("client", "mq_send", kGone));
}

TEST_F(QueueProgramsTest, ClientNoticesThatTheServerDiedWhileTheQueueIsFull) {
  ChildProcess server = Server();
  StopOnceItWaits(server);
  ChildProcess client = Client({"-"}, Lines(100));
  client.AwaitOut(Lines(kMessages));
  server.Signal(SIGKILL);
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_EQ(client.Err(), Error("client", "mq_send", kGone));
  // What it has printed is what was sent: the next server delivers it.
  EXPECT_EQ(client.Out(), Lines(kMessages));
  EXPECT_EQ(Transfer({"Hello"}), Lines(kMessages) + "Hello\n");
}

TEST_F(QueueProgramsTest, WhatAKilledServerLeavesIsDeliveredToTheNext) {
  {
    ChildProcess server = Server();
    StopOnceItWaits(server);
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

// --- What is in the queue when its server ends -------------------------------

// What clients were told is sent is not lost with a server that has not yet
// received it.
TEST_F(QueueProgramsTest, WhatAnInterruptedServerLeavesIsDeliveredToTheNext) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    ChildProcess server = Server();
    StopOnceItWaits(server);
    Send({"--priority", "0", "last"});
    Send({"one"});
    Send({"two"});
    server.Signal(signal);
    server.Signal(SIGCONT);
    EXPECT_EQ(server.Wait(), Killed(signal));
    EXPECT_EQ(server.Out(), "");
    EXPECT_EQ(server.Err(), ServerWaiting() + Left(3));
    EXPECT_TRUE(Exists());
    ChildProcess next = Server();
    EXPECT_EQ(Quit(next), "one\ntwo\nlast\n");
  }
}

TEST_F(QueueProgramsTest, AServerWhoseOutputIsStuckTakesNothing) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    const StuckOutput stuck;
    ChildProcess server = Server({}, stuck.Use());
    for (const char* message : {"one", "two", "three"}) Send({message});
    server.Signal(signal);
    EXPECT_EQ(server.Wait(), Killed(signal));
    EXPECT_EQ(server.Err(), ServerWaiting() + Left(3));
    ChildProcess next = Server();
    EXPECT_EQ(Quit(next), "one\ntwo\nthree\n");
  }
}

TEST_F(QueueProgramsTest, ASenderToAServerWhoseOutputIsStuckIsTold) {
  const StuckOutput stuck;
  ChildProcess server = Server({}, stuck.Use());
  ChildProcess client = Client({"-"}, Lines(100));
  client.AwaitOut(Lines(kMessages));
  server.Signal(SIGTERM);
  EXPECT_EQ(server.Wait(), Killed(SIGTERM));
  EXPECT_EQ(client.Wait(), Exited(1));
  EXPECT_EQ(client.Out(), Lines(kMessages));  // And no more.
  ChildProcess next = Server();
  EXPECT_EQ(Quit(next), Lines(kMessages));
}

TEST_F(QueueProgramsTest, WhatCanNotBePrintedIsDeliveredToTheNextServer) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess server = Server({}, in_child);
    StopOnceItWaits(server);
    Send({"--priority", "7", "Hello"});
    server.Signal(SIGCONT);
    EXPECT_EQ(server.Wait(), Exited(1));
    EXPECT_EQ(server.Err(), ServerWaiting() + Left(1) +
                                "server: write 'standard output': " + reason +
                                "\n");
    ChildProcess next = Server();
    next.AwaitOut("\n");
    EXPECT_EQ(Quit(next), "Hello\n");
  }
}

// The next server receives it in its turn.
TEST_F(QueueProgramsTest, WhatIsPutBackKeepsItsPriority) {
  ChildProcess server =
      Server({}, [] { ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO); });
  StopOnceItWaits(server);
  Send({"--priority", "7", "Hello"});
  server.Signal(SIGCONT);
  EXPECT_EQ(server.Wait(), Exited(1));
  std::string message(ipc::kMaxBytes, '\0');
  unsigned priority = 0;
  EXPECT_EQ(
      ::mq_receive(Open().get(), message.data(), message.size(), &priority), 5);
  EXPECT_EQ(priority, 7U);
}

// The signal comes while it prints, and nothing is printed.
TEST_F(QueueProgramsTest, WhatWasNotPrintedForASignalIsDeliveredToTheNext) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  // The first line that it writes is that it waits.
  ChildProcess server(WithFault("write", "error=EINTR:signal=SIGTERM:when=2",
                                Command("SERVER")));
  // It may find that the server has gone, and can't tell what becomes of it.
  Client({"Hello"}).Wait();
  EXPECT_EQ(server.Wait(), Killed(SIGTERM));
  EXPECT_EQ(server.Err(), ServerWaiting() + Left(1));
  ChildProcess next = Server();
  EXPECT_EQ(Quit(next), "Hello\n");
}

// "quit" has come, and the rest is being printed.
TEST_F(QueueProgramsTest, WhatIsNotPrintedAfterQuitIsDeliveredToTheNext) {
  ChildProcess server =
      Server({}, [] { ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO); });
  StopOnceItWaits(server);
  Send({"one"});
  Send({"two"});
  Send({"--priority", "9", "quit"});
  server.Signal(SIGCONT);
  EXPECT_EQ(server.Wait(), Exited(1));
  EXPECT_THAT(server.Err(), StartsWith(ServerWaiting() + Left(2)));
  ChildProcess next = Server();
  // One was put back behind the other.
  EXPECT_EQ(Quit(next), "two\none\n");
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
  StopOnceItWaits(server);
  ChildProcess client = Client({"-"}, Lines(100));
  client.AwaitOut(Lines(kMessages));
  ExpectDiesOfIt(client);
  server.Signal(SIGCONT);
  EXPECT_EQ(Quit(server), Lines(kMessages));
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
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  for (const std::string call : {"mq_open", "flock", "mq_getsetattr", "fcntl",
                                 "write", "mq_timedreceive", "?poll,ppoll"}) {
    ChildProcess server(
        WithFault(call, "signal=SIGTERM:when=1", Command("SERVER")));
    if (call == "mq_timedreceive") Send({"Hello"});
    EXPECT_EQ(server.Wait(), Killed(SIGTERM)) << call;
    EXPECT_FALSE(Exists()) << call;
  }
}

// By a signal that asks for nothing.
TEST_F(QueueProgramsTest, AnInterruptedCallIsMadeAgain) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  for (const std::string call : {"mq_timedreceive", "?poll,ppoll", "write"}) {
    ChildProcess server(
        WithFault(call, "error=EINTR:when=1", Command("SERVER")));
    EXPECT_EQ(Send({"Hello"}), "Hello\n") << call;
    EXPECT_EQ(Quit(server), "Hello\n") << call;
  }
  for (const std::string call : {"mq_timedsend", "?poll,ppoll", "write"}) {
    ChildProcess server = Server();
    ChildProcess client(
        WithFault(call, "error=EINTR:when=1", Command("CLIENT", {"-"})),
        Lines(kMessages));
    EXPECT_EQ(client.Wait(), Exited(0)) << call << ": " << client.Err();
    EXPECT_EQ(client.Out(), Lines(kMessages)) << call;
    EXPECT_EQ(Quit(server), Lines(kMessages)) << call;
  }
}

// The queue was readable, and by the time of the call it is empty.
TEST_F(QueueProgramsTest, AMessageThatAnotherTakesIsWaitedForAgain) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ChildProcess server(
      WithFault("mq_timedreceive", "error=EAGAIN:when=1", Command("SERVER")));
  Send({"Hello"});
  EXPECT_EQ(Quit(server), "Hello\n");
}

// --- Names in use ------------------------------------------------------------

TEST_F(QueueProgramsTest, ASecondServerIsRefused) {
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  ChildProcess second = Server();
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Err(), Error("server", "mq_open", kInUse));
  Send({"Hello"});
  EXPECT_EQ(Quit(server), "Hello\n");
}

// It can't tell whose the queue is: it is not the one to remove it.
TEST_F(QueueProgramsTest, AServerThatFailsLeavesTheFirstUndisturbed) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ChildProcess server = Server();
  server.AwaitErr("waiting for messages");
  ChildProcess second(WithFault("flock", "error=ENOLCK", Command("SERVER")));
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Err(), Error("server", "flock", "No locks available"));
  Send({"Hello"});
  EXPECT_EQ(Quit(server), "Hello\n");
}

TEST_F(QueueProgramsTest, ANameThatWasTakenAwayIsItsNewOwners) {
  for (const bool quit : {true, false}) {
    ChildProcess first = Server();
    ChildProcess client = Client({"-"}, kOpenInput);
    client.Send("one\n");
    first.AwaitOut("one\n");
    ASSERT_EQ(::mq_unlink(name_.c_str()), 0);
    ChildProcess second = Server();
    second.AwaitErr("waiting for messages");
    if (quit) {
      client.Send("quit\n");  // It still has the first one's queue.
    } else {
      first.Signal(SIGTERM);
    }
    EXPECT_EQ(first.Wait(), quit ? Exited(0) : Killed(SIGTERM));
    Send({"Hello"});
    EXPECT_EQ(Quit(second), "Hello\n");
  }
}

// mq_open says nothing of the attributes of a queue that exists.
TEST_F(QueueProgramsTest, ALeftQueueOfOtherAttributesIsServed) {
  for (const auto& [max_messages, max_bytes] :
       {std::pair(3, 300), {3, 64}, {1, 1}}) {
    const std::string message(static_cast<std::size_t>(max_bytes), 'x');
    const auto queue = Make(ipc::kOurs, max_messages, max_bytes);
    ASSERT_EQ(::mq_send(queue.get(), message.data(), message.size(), 0), 0);
    ChildProcess server = Server();
    server.AwaitOut(message + "\n");
    server.Signal(SIGTERM);
    EXPECT_EQ(server.Wait(), Killed(SIGTERM));
    EXPECT_FALSE(Exists());
  }
}

TEST_F(QueueProgramsTest, ModeIs0600AndSizesAreTheClassicOnes) {
  ChildProcess server = Server({}, [] { ::umask(0); });
  server.AwaitErr("waiting for messages");
  const auto queue = Open(O_RDONLY);
  EXPECT_EQ(ipc::Status(queue.get(), name_).st_mode & 07777U,
            0600U | ipc::kOurs);
  mq_attr attributes{};
  EXPECT_EQ(::mq_getattr(queue.get(), &attributes), 0);
  EXPECT_EQ(attributes.mq_maxmsg, 10);
  EXPECT_EQ(attributes.mq_msgsize, 128);
  Quit(server);
}

// --- Failures ----------------------------------------------------------------

TEST_F(QueueProgramsTest, TooMuchForTheUserIsExplained) {
  ChildProcess server = Server({}, [] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_MSGQUEUE, &none);
  });
  EXPECT_EQ(server.Wait(), Exited(1));
  EXPECT_EQ(server.Err(),
            Error("server", "mq_open",
                  "Too many open files; see `ulimit -q` and `ulimit -n`"));
}

TEST_F(QueueProgramsTest, AFailureNamesTheCallThatFailed) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const std::tuple<const char*, const char*, const char*, std::string>
      failures[] = {
          {"SERVER", "mq_open", "error=EINVAL",
           "mq_open 'NAME': Invalid argument; begin with /; see "
           "mq_overview(7)"},
          {"SERVER", "mq_open", "error=ENOSPC",
           "mq_open 'NAME': No space left on device; see "
           "/proc/sys/fs/mqueue/queues_max"},
          {"SERVER", "mq_open", "error=EACCES",
           "mq_open 'NAME': Permission denied"},
          {"SERVER", "flock", "error=ENOLCK",
           "flock 'NAME': No locks available"},
          {"SERVER", "mq_getsetattr", "error=EBADF:when=1",
           "mq_getattr 'NAME': Bad file descriptor"},
          {"SERVER", "?poll,ppoll", "error=ENOMEM",
           "poll 'descriptors': Cannot allocate memory"},
          {"SERVER", "mq_timedreceive", "error=EBADF",
           "mq_receive 'NAME': Bad file descriptor"},
          {"CLIENT", "mq_open", "error=EMFILE",
           "mq_open 'NAME': Too many open files"},
          {"CLIENT", "mq_timedsend", "error=EBADF",
           "mq_send 'NAME': Bad file descriptor"},
      };
  for (const auto& [program, call, fault, text] : failures) {
    SCOPED_TRACE(text);
    const auto queue = Make();  // A server has left it.
    ASSERT_EQ(::mq_send(queue.get(), "left", 4, 0), 0);
    const bool client = std::string(program) == "CLIENT";
    if (client) ipc::SetLock(queue.get(), F_WRLCK, ipc::kServerAlive, 1, name_);
    ChildProcess child(WithFault(
        call, fault, Command(program, client ? Words{"Hello"} : Words{})));
    EXPECT_EQ(child.Wait(), Exited(1));
    EXPECT_EQ(child.Out(), "");
    std::string error = text + "\n";
    const auto name = error.find("NAME");
    if (name != std::string::npos) error.replace(name, 4, name_);
    EXPECT_THAT(child.Err(),
                EndsWith((client ? "client: " : "server: ") + error));
    EXPECT_EQ(Queued(queue), 1);
    EXPECT_EQ(::mq_unlink(name_.c_str()), 0);
  }
}

// --- Manners -----------------------------------------------------------------

TEST_F(QueueProgramsTest, OutputThatFailsIsReported) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess server = Server();
    ChildProcess client = Client({"Hello"}, "", in_child);
    EXPECT_EQ(client.Wait(), Exited(1));
    EXPECT_EQ(client.Err(),
              std::string("client: write 'standard output': ") + reason + "\n");
    EXPECT_EQ(Quit(server), "Hello\n");
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
      {"CLIENT", {std::string(129, 'x')}},
      {"CLIENT", {"--unknown", "message"}},
      {"CLIENT", {"--timeout", "-1", "message"}},
      {"CLIENT", {"--priority", "-1", "message"}},
      {"CLIENT", {"--priority", "32768", "message"}},
      {"CLIENT", {"--priority", "high", "message"}},
      {"CLIENT", {"--priority", "1.5", "message"}},
  };
  for (const auto& [program, arguments] : usages) {
    ExpectWrongUsage(Command(program, arguments));
  }
  EXPECT_FALSE(Exists());
}

TEST_F(QueueProgramsTest, HelpIsPrinted) {
  ExpectHelp(Program("SERVER"));
  ExpectHelp(Program("CLIENT"));
}

}  // namespace
