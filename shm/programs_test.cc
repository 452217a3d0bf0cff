// The writer and the reader, started as a user does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "name.h"
#include "shm/message.h"
#include "shm/test_pair.h"
#include "testing/processes/child_process.h"

namespace {

using ipc::SharedMessage;
using ipc_testing::Arguments;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::HasStrace;
using ipc_testing::kAnotherPrograms;
using ipc_testing::Killed;
using ipc_testing::kInUse;
using ipc_testing::kNoStrace;
using ipc_testing::Program;
using ipc_testing::WithFault;

// Bytes as an argument may have them: any but NUL.
std::string Message(std::size_t size) {
  std::string text = ipc_testing::RandomBytes(size);
  std::ranges::replace(text, '\0', '\n');
  return text;
}

// A side of the pair that does what a test tells it to.
class Peer {
 public:
  // Has opened the object.
  explicit Peer(ipc::UniqueFd object) : object_(std::move(object)) {
    EXPECT_TRUE(object_);
  }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;
  ~Peer() { Die(); }

  void SetSize(off_t size) { EXPECT_EQ(::ftruncate(object_.get(), size), 0); }
  void Map() {
    shared_ = static_cast<SharedMessage*>(::mmap(nullptr, sizeof(SharedMessage),
                                                 PROT_READ | PROT_WRITE,
                                                 MAP_SHARED, object_.get(), 0));
    ASSERT_NE(shared_, MAP_FAILED);
  }
  void Live(off_t byte) {
    EXPECT_TRUE(ipc::SetLock(object_.get(), F_WRLCK, byte, 1, "object"));
  }
  // As the kernel does it to a process that was killed: the name stays.
  void Die() {
    if (shared_ != nullptr) ::munmap(shared_, sizeof(*shared_));
    shared_ = nullptr;
    object_ = ipc::UniqueFd();
  }
  SharedMessage* operator->() const { return shared_; }

 private:
  ipc::UniqueFd object_;
  SharedMessage* shared_ = nullptr;
};

class ProgramsTest : public ipc_testing::PairTest {
 protected:
  ProgramsTest() : PairTest("WRITER", "READER", "\n") {}
  ChildProcess Sending(const std::string& text) const override {
    return ChildProcess(Writer({text}));
  }

  // A writer that has done all of its own work, except to live.
  void Put(Peer& writer, std::string_view text, std::uint32_t length) const {
    writer.SetSize(sizeof(SharedMessage));
    writer.Map();
    ::sem_init(&writer->filled, 1, 1);
    ::sem_init(&writer->emptied, 1, 0);
    std::ranges::copy(text, writer->text.begin());
    writer->length = length;
  }
  // A reader that has taken the message.
  void Take(Peer& reader) const {
    reader.Map();
    reader.Live(ipc::kReaderAlive);
    EXPECT_EQ(::sem_trywait(&reader->filled), 0);
  }
  void Unlink() const { EXPECT_EQ(::shm_unlink(name_.c_str()), 0); }

  // Stops a program as it returns from the call of that number on the object.
  Arguments StoppedAfter(const std::string& call, int number,
                         const Arguments& command) const {
    return WithFault(call, "signal=STOP:when=" + std::to_string(number),
                     command, Path());
  }
  std::string Path() const { return "/dev/shm" + name_; }
};

// --- What comes out is what went in ------------------------------------------

class MessageTest : public ProgramsTest,
                    public testing::WithParamInterface<std::size_t> {};

TEST_P(MessageTest, ComesOutWithWriterFirst) {
  ChildProcess writer(Writer({"--", Message(GetParam())}));
  writer.AwaitErr(Waiting("writer", "a reader"));
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), Message(GetParam()) + "\n");
  EXPECT_EQ(reader.Err(), "");
  EXPECT_EQ(writer.Out(), "");
  EXPECT_EQ(writer.Err(), Waiting("writer", "a reader"));
}

TEST_P(MessageTest, ComesOutWithReaderFirst) {
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("reader", "a writer"));
  ChildProcess writer(Writer({"--", Message(GetParam())}));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), Message(GetParam()) + "\n");
}

INSTANTIATE_TEST_SUITE_P(Bytes, MessageTest, testing::Values(0, 1, 99, 100),
                         testing::PrintToStringParamName());

TEST_F(ProgramsTest, DefaultMessageIsHelloWorld) {
  ChildProcess writer(Writer());
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(ProgramsTest, MessageThatDoesNotFitIsRefused) {
  ChildProcess writer(Writer({Message(101)}));
  EXPECT_EQ(writer.Wait(), Exited(2));
  EXPECT_EQ(writer.Err(), "writer: MESSAGE is too long; see --help\n");
}

TEST_F(ProgramsTest, ReaderPrintsNulBytes) {
  const std::string message = std::string("a\0b\0", 4);
  Peer writer(MakeObject(""));
  Put(writer, message, 4);
  writer.Live(ipc::kWriterAlive);
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), message + "\n");
  EXPECT_EQ(::sem_trywait(&writer->emptied), 0);
  Unlink();
}

TEST_F(ProgramsTest, StandardInputAndErrorMayBeClosed) {
  ChildProcess writer(Writer({"message"}), "", [] {
    for (const int fd : {0, 1, 2}) ::close(fd);
  });
  ChildProcess reader(Reader(), "", [] {
    for (const int fd : {0, 2}) ::close(fd);
  });
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "message\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

// --- Waiting -----------------------------------------------------------------

TEST_F(ProgramsTest, TimeoutEndsTheWait) {
  ExpectTimeoutEndsTheWait("sem_clockwait");
}

TEST_F(ProgramsTest, TimeoutZeroDoesNotWait) {
  ChildProcess reader(Reader({"--timeout", "0"}));
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Failure("reader: shm_open",
                                  "Connection timed out; waited for a writer"));
  ChildProcess writer(Writer({"--timeout", "0"}));
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Failure("writer: sem_clockwait",
                                  "Connection timed out; waited for a reader"));
}

// --- Interruption ------------------------------------------------------------

class SignalTest : public ProgramsTest,
                   public testing::WithParamInterface<int> {};

TEST_P(SignalTest, EndsTheWaitOfEither) { ExpectSignalEndsTheWait(GetParam()); }

TEST_P(SignalTest, EndsAWriterThatHasJustStarted) {
  ChildProcess writer(Writer());
  writer.Signal(GetParam());
  EXPECT_EQ(writer.Wait(), Killed(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Signals, SignalTest,
                         testing::Values(SIGHUP, SIGINT, SIGTERM),
                         ipc_testing::SignalName);

TEST_F(ProgramsTest, SignalThatWasIgnoredStaysIgnored) {
  ChildProcess writer(Writer({"message"}), "",
                      [] { ::signal(SIGHUP, SIG_IGN); });
  writer.AwaitErr("waiting for");
  writer.Signal(SIGHUP);
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(ProgramsTest, SignalEndsAWriterWhoseMessageIsBeingRead) {
  ChildProcess writer(Writer());
  writer.AwaitErr("waiting for");
  Peer reader(Object());
  Take(reader);
  writer.Signal(SIGTERM);
  EXPECT_EQ(writer.Wait(), Killed(SIGTERM));
}

// --- Any instant -------------------------------------------------------------

class InstantTest : public ProgramsTest,
                    public testing::WithParamInterface<const char*> {};

TEST_P(InstantTest, StoppedWriterLeavesNoName) {
  AtEachCall(GetParam(), "TERM", [&](auto stopped) {
    ChildProcess reader(Reader());
    ChildProcess writer(stopped(Writer({"message"})));
    const auto end = writer.Wait();
    EXPECT_TRUE(end == Exited(0) || end == Killed(SIGTERM)) << end;
    EXPECT_FALSE(Object());
    return end;
  });
}

// Where no reader comes the signal is never overtaken by an ordinary end.
TEST_P(InstantTest, StoppedWriterWithoutReaderLeavesNoName) {
  AtEachCall(GetParam(), "TERM", [&](auto stopped) {
    ChildProcess writer(stopped(Writer({"--timeout", "0.05"})));
    const auto end = writer.Wait();
    EXPECT_FALSE(Object());
    if (end == Exited(1)) return Exited(0);  // It makes no more such calls.
    EXPECT_EQ(end, Killed(SIGTERM));
    return end;
  });
}

TEST_P(InstantTest, KilledWriterIsNoObstacle) {
  AtEachCall(GetParam(), "KILL", [&](auto killed) {
    ipc_testing::End end;
    {
      ChildProcess reader(Reader());
      ChildProcess writer(killed(Writer({"message"})));
      end = writer.Wait();
      EXPECT_TRUE(end == Exited(0) || end == Killed(SIGKILL)) << end;
    }
    ExpectPairWorks();
    return end;
  });
}

TEST_P(InstantTest, KilledReaderIsNoObstacle) {
  AtEachCall(GetParam(), "KILL", [&](auto killed) {
    ChildProcess writer(Writer({"message"}));
    ChildProcess reader(killed(Reader()));
    const auto end = reader.Wait();
    EXPECT_TRUE(end == Exited(0) || end == Killed(SIGKILL)) << end;
    // It may be waiting for another reader.
    writer.Signal(SIGTERM);
    if (writer.Wait() == Exited(0)) {
      EXPECT_EQ(reader.Out(), "message\n");
    }
    ExpectPairWorks();
    return end;
  });
}

INSTANTIATE_TEST_SUITE_P(Calls, InstantTest,
                         testing::Values("openat", "flock", "fcntl",
                                         "?newfstatat,?fstat", "fallocate",
                                         "mmap", "?unlink,unlinkat", "close",
                                         "futex", "write"),
                         ipc_testing::CallName);

// By signals that ask for nothing. Before main the libraries may call futex,
// too, to wake, which is never interrupted: so its fourth call is the first.
TEST_F(ProgramsTest, InterruptedCallsAreMadeAgain) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  for (const std::string call : {"fallocate", "futex"}) {
    SCOPED_TRACE(call);
    const std::string when = call == "futex" ? "4" : "1";
    ChildProcess writer(
        WithFault(call, "error=EINTR:when=" + when + "+2", Writer()));
    writer.AwaitErr("waiting for");
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  }
}

// --- Death -------------------------------------------------------------------

TEST_F(ProgramsTest, WriterNoticesThatTheReaderDied) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ChildProcess writer(Writer());
  writer.AwaitErr("waiting for");
  // As it prints.
  ChildProcess reader(
      WithFault("write", "signal=KILL:when=1", Reader(), "/dev/null"), "",
      [] { ::dup2(::open("/dev/null", O_WRONLY), 1); });
  EXPECT_EQ(reader.Wait(), Killed(SIGKILL));
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Waiting("writer", "a reader") +
                              Failure("writer: sem_clockwait", "Owner died"));
  ExpectPairWorks();
}

// It was there when the writer last looked, and has gone when the writer's wait
// is over: that is no death if it has printed the message.
TEST_F(ProgramsTest, WriterDoesNotTakeAReaderThatHasPrintedForADeadOne) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  // Each time as it has waited in vain; not in what may call futex before main.
  ChildProcess writer(
      WithFault("futex", "error=ETIMEDOUT:signal=STOP:when=4+1", Writer()));
  writer.AwaitStop();
  Peer reader(Object());
  Take(reader);
  writer.Signal(SIGCONT);
  writer.AwaitStop();
  EXPECT_EQ(::sem_post(&reader->emptied), 0);
  reader.Die();
  writer.Signal(SIGCONT);
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
}

// It died after the reader had found it alive: the message is whole.
TEST_F(ProgramsTest, ReaderGetsWhatADeadWriterHasPut) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ChildProcess writer(Writer());
  writer.AwaitErr("waiting for");
  ChildProcess reader(StoppedAfter("fcntl", 2, Reader()));
  reader.AwaitStop();
  writer.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Killed(SIGKILL));
  reader.Signal(SIGCONT);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
  ExpectPairWorks();
}

TEST_F(ProgramsTest, ReaderWaitsForTheNextAfterADeadWriter) {
  ExpectReaderWaitsForTheNextAfterADeadWriter();
}

// A reader that finds the message taken waits for the next writer, too.
TEST_F(ProgramsTest, ReaderWaitsForTheNextAfterAWriterThatWasServed) {
  Peer served(MakeObject(""));
  Put(served, "first", 5);
  EXPECT_EQ(::sem_trywait(&served->filled), 0);
  served.Live(ipc::kWriterAlive);
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("reader", "a writer"));
  Unlink();
  served.Die();
  ChildProcess writer(Writer({"second"}));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "second\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

// With O_EXCL alone the name would be taken for ever; without it what was in
// the old object would be inherited, and the next reader find it taken.
TEST_F(ProgramsTest, WhatADeadPairLeftIsMadeAnew) {
  ChildProcess writer(Writer());
  writer.AwaitErr("waiting for");
  {
    Peer reader(Object());
    Take(reader);
    writer.Signal(SIGKILL);
    writer.Wait();
  }
  ASSERT_TRUE(Object());
  ExpectPairWorks();
}

TEST_F(ProgramsTest, UnfinishedObjectIsReclaimed) {
  ExpectUnfinishedObjectIsReclaimed(sizeof(SharedMessage));
}

// --- The name is in use ------------------------------------------------------

TEST_F(ProgramsTest, SecondWriterIsRefused) {
  ChildProcess first(Writer({"first"}));
  first.AwaitErr("waiting for");
  ChildProcess second(Writer({"second"}));
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Err(), Failure("writer: shm_open", kInUse));
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "first\n");
  EXPECT_EQ(first.Wait(), Exited(0));
}

TEST_F(ProgramsTest, SecondReaderIsRefused) {
  ChildProcess writer(Writer());
  writer.AwaitErr("waiting for");
  Peer first(Object());
  Take(first);
  ChildProcess second(Reader());
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Out(), "");
  EXPECT_EQ(second.Err(),
            Failure("reader: shm_open",
                    "Device or resource busy; another reader has it"));
  ::sem_post(&first->emptied);
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(ProgramsTest, OnlyOneOfTwoWaitingReadersGetsTheMessage) {
  ChildProcess one(Reader());
  ChildProcess other(Reader());
  for (ChildProcess* reader : {&one, &other}) reader->AwaitErr("waiting for");
  ChildProcess writer(Writer({"message"}));
  EXPECT_EQ(writer.Wait(), Exited(0));
  for (ChildProcess* reader : {&one, &other}) reader->Signal(SIGTERM);
  one.Wait();
  other.Wait();
  EXPECT_EQ(one.Out() + other.Out(), "message\n");
}

// Who was stopped as it had just claimed what a dead writer has left is not
// taken for that writer, nor is what it is about to remove read.
TEST_F(ProgramsTest, ReaderDoesNotReadWhatIsBeingTakenOver) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  {
    Peer dead(MakeObject(""));
    Put(dead, "old", 3);
    dead.Live(ipc::kWriterAlive);
  }
  ChildProcess writer(StoppedAfter("flock", 1, Writer({"new"})));
  writer.AwaitStop();
  ASSERT_TRUE(Object()) << "it has been removed: nothing is tested";
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("reader", "a writer"));
  writer.Signal(SIGCONT);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "new\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

// A writer that has created the object, and not yet its lock, can't be told
// from a dead one. Who loses the name that way leaves it to the other.
TEST_F(ProgramsTest, WriterThatWasTakenForDeadLeavesTheNameToTheNext) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  Arguments lock_fails = StoppedAfter("openat", 2, Writer({"first"}));
  const auto trace = std::ranges::find(lock_fails, "--trace=openat");
  ASSERT_NE(trace, lock_fails.end());
  *trace = "--trace=openat,flock";
  lock_fails.insert(trace, "--inject=flock:error=ENOLCK");
  for (const auto& [command, failure] :
       {std::pair(StoppedAfter("openat", 2, Writer({"first"})),
                  Failure("writer: shm_open", kInUse)),
        std::pair(lock_fails,
                  Failure("writer: flock", "No locks available"))}) {
    ChildProcess first(command);
    first.AwaitStop();
    ChildProcess second(Writer({"second"}));
    second.AwaitErr("waiting for");
    first.Signal(SIGCONT);
    EXPECT_EQ(first.Wait(), Exited(1));
    EXPECT_EQ(first.Err(), failure);
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(0));
    EXPECT_EQ(reader.Out(), "second\n");
    EXPECT_EQ(second.Wait(), Exited(0));
  }
}

TEST_F(ProgramsTest, WriterWhoseNameWasTakenAwayLeavesItsSuccessors) {
  for (const auto& [signal, end] : {std::pair(SIGTERM, Killed(SIGTERM)),
                                    std::pair(SIGKILL, Killed(SIGKILL))}) {
    ChildProcess first(Writer({"first"}));
    first.AwaitErr("waiting for");
    Unlink();
    ChildProcess second(Writer({"second"}));
    second.AwaitErr("waiting for");
    first.Signal(signal);
    EXPECT_EQ(first.Wait(), end);
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(0));
    EXPECT_EQ(reader.Out(), "second\n");
    EXPECT_EQ(second.Wait(), Exited(0));
  }
}

// --- Something else under the name -------------------------------------------

TEST_F(ProgramsTest, SomethingElseIsReportedAndLeft) {
  constexpr std::size_t kSize = sizeof(SharedMessage);
  ExpectSomethingElseIsLeft({
      "",
      "x",
      std::string(kSize, '\0'),
      std::string(kSize + 1, '\0'),
      std::string(1000000, '\0'),
      ipc_testing::RandomBytes(kSize),
  });
}

TEST_F(ProgramsTest, ObjectThatComesAtTheLastInstantIsLeft) {
  ExpectObjectThatComesAtTheLastInstantIsLeft();
}

// The sticky bit of a FIFO, say, means nothing, either.
TEST_F(ProgramsTest, AnotherTypeOfFileIsReportedAndLeft) {
  ASSERT_EQ(::mkfifo(Path().c_str(), 0600 | ipc::kOurs), 0);
  for (const auto& command : {Writer(), Reader()}) {
    ChildProcess process(command);
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Err(),
              Failure(NameOf(command) + ": shm_open", kAnotherPrograms));
  }
  Unlink();
}

// Programs that know of no mark and no lock.
class ClassicTest : public ProgramsTest {
 protected:
  ChildProcess ClassicReader() const {
    return ChildProcess({Program("CLASSIC_READER"), name_});
  }
};

TEST_F(ClassicTest, WriterThatLivesIsLeftAlone) {
  ChildProcess classic({Program("CLASSIC_WRITER"), name_}, std::nullopt);
  classic.AwaitOut("written");
  for (const auto& command : {Writer(), Reader()}) {
    ChildProcess process(command);
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Out(), "");
    EXPECT_EQ(process.Err(),
              Failure(NameOf(command) + ": shm_open", kAnotherPrograms));
  }
  ChildProcess reader = ClassicReader();
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "classic\n");
  classic.CloseInput();
  EXPECT_EQ(classic.Wait(), Exited(0));
}

// The text comes first in the object.
TEST_F(ClassicTest, ReaderPrintsWhatOurWriterHasPut) {
  ChildProcess writer(Writer({"message"}));
  writer.AwaitErr("waiting for");
  ChildProcess classic = ClassicReader();
  EXPECT_EQ(classic.Wait(), Exited(0));
  EXPECT_EQ(classic.Out(), "message\n");
  // It has told nobody that it took the message.
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "message\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(ClassicTest, WriterIsToldThatTheNameIsInUse) {
  ChildProcess writer(Writer({"message"}));
  writer.AwaitErr("waiting for");
  ChildProcess classic({Program("CLASSIC_WRITER"), name_});
  EXPECT_EQ(classic.Wait(), Exited(1));
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "message\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

// Each program is told that it is another user than it is.
TEST_F(ProgramsTest, AnotherUsersObjectIsReportedAndLeft) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const auto object = MakeObject(std::string(sizeof(SharedMessage), '\0'));
  ASSERT_EQ(::fchmod(object.get(), 0666 | ipc::kOurs), 0);
  for (const auto& command : {Writer(), Reader()}) {
    ChildProcess process(WithFault("geteuid", "retval=12345", command));
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Err(), Failure(NameOf(command) + ": shm_open",
                                     "Permission denied; another user's: "
                                     "choose another name"));
  }
  EXPECT_EQ(ipc::Status(object.get(), name_).st_nlink, 1U);
  Unlink();
}

TEST_F(ProgramsTest, ObjectIsTheOwnersAlone) { ExpectObjectIsTheOwnersAlone(); }

// --- Memory that can't be had ------------------------------------------------

TEST_F(ProgramsTest, FullSharedMemoryIsAFailure) {
  ExpectFullSharedMemoryIsAFailure("4k");
}

TEST_F(ProgramsTest, MemoryThatIsRefusedIsAFailure) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  for (const auto& [call, error, reason] :
       {std::tuple("fallocate", "ENOSPC", "No space left on device"),
        std::tuple("mmap", "ENOMEM", "Cannot allocate memory")}) {
    ChildProcess writer(
        WithFault(call, std::string("error=") + error, Writer(), Path()));
    EXPECT_EQ(writer.Wait(), Exited(1));
    EXPECT_EQ(writer.Err(), Failure(std::string("writer: ") + call, reason));
    EXPECT_FALSE(Object());
  }
  ChildProcess writer(Writer());
  ChildProcess reader(WithFault("mmap", "error=ENOMEM", Reader(), Path()));
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Failure("reader: mmap", "Cannot allocate memory"));
  ChildProcess next(Reader());
  EXPECT_EQ(next.Wait(), Exited(0));
  EXPECT_EQ(writer.Wait(), Exited(0));
}

// SIGXFSZ would kill the writer before it removes the name.
TEST_F(ProgramsTest, LimitOfFilesSizesIsAFailure) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "SKIPPED: TSan's runtime dies of the limit before main";
#endif
  ChildProcess writer(Writer(), "", [] {
    const rlimit none{0, 0};
    ::setrlimit(RLIMIT_FSIZE, &none);
  });
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Failure("writer: fallocate", "File too large"));
}

// --- What the other process puts is input ------------------------------------

// Before it has memory an access would be SIGBUS; before the semaphores are
// initialised a post would be lost.
TEST_F(ProgramsTest, ReaderWaitsUntilTheObjectIsReady) {
  Peer writer(MakeObject(""));
  auto expect_not_ready = [&] {
    ChildProcess reader(Reader({"--timeout", "0.05"}));
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Out(), "");
    EXPECT_TRUE(reader.Err().ends_with("waited for a writer\n"))
        << reader.Err();
  };
  expect_not_ready();
  writer.SetSize(sizeof(SharedMessage));
  expect_not_ready();
  Put(writer, "message", 7);
  expect_not_ready();
  ChildProcess reader(Reader());
  reader.AwaitErr("waiting for");
  writer.Live(ipc::kWriterAlive);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "message\n");
  Unlink();
}

// The writer lives only once all of this is done.
TEST_F(ProgramsTest, WriterIsNotReadyBeforeItsEnd) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  for (const auto& [call, number] :
       {std::pair("openat", 2), std::pair("flock", 1),
        std::pair("fallocate", 1), std::pair("mmap", 1)}) {
    SCOPED_TRACE(call);
    ChildProcess writer(StoppedAfter(call, number, Writer()));
    writer.AwaitStop();
    ChildProcess reader(Reader());
    reader.AwaitErr(Waiting("reader", "a writer"));
    writer.Signal(SIGCONT);
    EXPECT_EQ(reader.Wait(), Exited(0));
    EXPECT_EQ(reader.Out(), "Hello World\n");
    EXPECT_EQ(writer.Wait(), Exited(0));
  }
}

// To be alive is the last that it does: the reader needs nothing more of it.
TEST_F(ProgramsTest, WriterThatIsAliveIsReady) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  ChildProcess writer(StoppedAfter("fcntl", 1, Writer()));
  writer.AwaitStop();
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_EQ(reader.Out(), "Hello World\n");
  writer.Signal(SIGCONT);
  EXPECT_EQ(writer.Wait(), Exited(0));
}

// Beyond its end an access would be SIGBUS.
TEST_F(ProgramsTest, SizeThatDoesNotFitIsRefused) {
  for (const off_t size : {0, 1, 4096, 1 << 20}) {
    Peer writer(MakeObject(""));
    writer.SetSize(size);
    writer.Live(ipc::kWriterAlive);
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Err(),
              Failure("reader: fstat", "Bad message; it holds something else"));
    Unlink();
  }
}

TEST_F(ProgramsTest, LengthThatDoesNotFitIsRefused) {
  for (const std::uint32_t length : {101U, 176U, 0x80000000U, 0xffffffffU}) {
    Peer writer(MakeObject(""));
    Put(writer, "message", length);
    writer.Live(ipc::kWriterAlive);
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Out(), "");
    EXPECT_EQ(reader.Err(), Failure("reader: memcpy", "Bad message; too long"));
    Unlink();
  }
}

// --- Output ------------------------------------------------------------------

TEST_F(ProgramsTest, OutputThatFailsIsAFailureOfBoth) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess writer(Writer());
    writer.AwaitErr("waiting for");
    ChildProcess reader(Reader(), "", in_child);
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Err(),
              std::string("reader: write 'standard output': ") + reason + "\n");
    EXPECT_EQ(writer.Wait(), Exited(1));
    EXPECT_EQ(writer.Err(), Waiting("writer", "a reader") +
                                Failure("writer: sem_clockwait", "Owner died"));
  }
}

// --- Command lines -----------------------------------------------------------

TEST_F(ProgramsTest, WrongUsageSaysSo) {
  ExpectWrongUsageSaysSo({Writer({"one", "two"}), Reader({"operand"})});
}

TEST_F(ProgramsTest, HelpIsOutput) { ExpectHelpIsOutput(); }

TEST_F(ProgramsTest, NameThatCannotBeIsAFailure) {
  const std::string too_long = "/" + std::string(256, 'n');
  const std::pair<std::string, std::string> names[] = {
      {"", "Invalid argument"},
      {"/", "Invalid argument"},
      {"/a/b", "Invalid argument"},
      {too_long, "File name too long"},
  };
  for (const auto& [name, reason] : names) {
    for (const auto& [program, command] :
         {std::pair("writer", Writer({"--name", name})),
          std::pair("reader", Reader({"--name", name}))}) {
      ChildProcess process(command);
      EXPECT_EQ(process.Wait(), Exited(1));
      EXPECT_EQ(process.Err(), std::string(program) + ": shm_open '" + name +
                                   "': " + reason + "\n");
    }
  }
}

}  // namespace
