// The ring's writer and reader, started as a user does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "shm/ring.h"
#include "shm/test_pair.h"
#include "testing/processes/child_process.h"

namespace {

using Layout = ipc::RingLayout;
using ipc_testing::Arguments;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::HasStrace;
using ipc_testing::Killed;
using ipc_testing::kInUse;
using ipc_testing::kNoStrace;
using ipc_testing::Program;
using ipc_testing::WithFault;

class RingProgramsTest : public ipc_testing::PairTest {
 protected:
  RingProgramsTest() : PairTest("RING_WRITER", "RING_READER", "") {}
  ChildProcess Sending(const std::string& text) const override {
    return ChildProcess(Writer(), text);
  }

  static constexpr char kHoldsElse[] = "Bad message; it holds something else";
  static constexpr char kWrongPosition[] = "Bad message; a wrong position";

  // The end of a process whose peer has died: soon, even on a busy machine.
  static ipc_testing::End SoonEnd(ChildProcess& process) {
    process.set_patience(std::chrono::seconds(5));
    return process.Wait();
  }
  // A reader here, as soon as there is a writer, that does what a test tells it
  // to.
  ipc::RingReader Open() const {
    for (;;) {
      auto reader = ipc::RingReader::TryOpen(name_, ipc::kForever);
      if (reader) return std::move(*reader);
      ipc::Poll({}, ipc::Seconds(0.01));
    }
  }
  // Stores bytes at that offset of the object, as either side could.
  void Store(std::size_t offset, const std::string& bytes) const {
    EXPECT_EQ(::pwrite(Object().get(), bytes.data(), bytes.size(),
                       static_cast<off_t>(offset)),
              bytes.size());
  }
  void Unlink() const { EXPECT_EQ(::shm_unlink(name_.c_str()), 0); }
  std::string Path() const { return "/dev/shm" + name_; }
  // How the reader's, or the writer's, last line ends when the other died.
  static void ExpectSaysOwnerDied(const std::string& err) {
    EXPECT_TRUE(err.ends_with("': Owner died\n")) << err;
    EXPECT_EQ(std::ranges::count(err, '\n'),
              err.find("waiting for") == std::string::npos ? 1 : 2)
        << err;
  }
};

// --- What comes out is what went in ------------------------------------------

class PayloadTest : public RingProgramsTest,
                    public testing::WithParamInterface<std::size_t> {
 protected:
  const std::string bytes_ = ipc_testing::RandomBytes(GetParam());
};

TEST_P(PayloadTest, ComesOutWithWriterFirst) {
  ChildProcess writer(Writer(), bytes_);
  writer.AwaitErr(Waiting("ring_writer", "a reader"));
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_TRUE(reader.Out() == bytes_);
  EXPECT_EQ(reader.Err(), "");
  EXPECT_EQ(writer.Out(), "");
  EXPECT_EQ(writer.Err(), Waiting("ring_writer", "a reader"));
}

TEST_P(PayloadTest, ComesOutWithReaderFirst) {
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("ring_reader", "a writer"));
  ChildProcess writer(Writer(), bytes_);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_TRUE(reader.Out() == bytes_);
}

INSTANTIATE_TEST_SUITE_P(Bytes, PayloadTest,
                         testing::Values(0, 1, 99, 100, 101, 4096, 65536, 65537,
                                         5'000'000),
                         testing::PrintToStringParamName());

TEST_F(RingProgramsTest, NulBytesComeOut) {
  const std::string bytes("\0a\0\0b\0", 6);
  ChildProcess writer(Writer(), bytes);
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), bytes);
  EXPECT_EQ(writer.Wait(), Exited(0));
}

// Each byte as it comes, not when the ring or a buffer is full.
TEST_F(RingProgramsTest, InputIsPassedOnAtOnce) {
  ChildProcess writer(Writer(), std::nullopt);
  ChildProcess reader(Reader());
  std::string sent;
  for (const char c : std::string("stream")) {
    writer.Send({c});
    reader.AwaitOut(sent += c);
  }
  writer.CloseInput();
  EXPECT_EQ(writer.Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
}

// In either of the two ways to wake the other, and where they differ.
TEST_F(RingProgramsTest, WorkWithoutMembarrier) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const std::string bytes = ipc_testing::RandomBytes(3'000'000);
  for (const int without : {1, 2, 3}) {
    auto command = [&](int side, const Arguments& argv) {
      return (without & side) == 0
                 ? argv
                 : WithFault("membarrier", "error=ENOSYS", argv);
    };
    ChildProcess writer(command(1, Writer()), bytes);
    ChildProcess reader(command(2, Reader()));
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
    EXPECT_TRUE(reader.Out() == bytes);
  }
}

// --- Waiting -----------------------------------------------------------------

TEST_F(RingProgramsTest, TimeoutEndsTheWait) {
  ExpectTimeoutEndsTheWait("futex");
}

TEST_F(RingProgramsTest, TimeoutEndsTheWaitForBytesAndRoom) {
  {
    ChildProcess writer(Writer(), std::nullopt);
    writer.AwaitErr("waiting for");
    ChildProcess reader(Reader({"--timeout", "0.1"}));
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Err(), Failure("ring_reader: futex",
                                    "Connection timed out; waited for bytes"));
    EXPECT_EQ(SoonEnd(writer), Exited(1));
  }
  // The writer waits for the reader as long as for room. On a busy machine the
  // reader may come too late, and the next time has more.
  bool met = false;
  for (int timeout = 1; !met; timeout *= 2) {
    ChildProcess writer(Writer({"--timeout", std::to_string(timeout)}),
                        std::string(2 * Layout::kCapacity, 'x'));
    std::optional<ipc::RingReader> reader;
    for (const ipc::Seconds end = ipc::Now() + ipc::Seconds(timeout);
         !reader && ipc::Now() < end;) {
      ipc::Poll({}, ipc::Seconds(0.01));
      reader = ipc::RingReader::TryOpen(name_, ipc::kForever);
    }
    EXPECT_EQ(writer.Wait(), Exited(1));
    const std::string err = writer.Err();
    met = err.find("waited for a reader") == std::string::npos;
    if (!met) continue;
    EXPECT_TRUE(err.ends_with(
        Failure("ring_writer: futex", "Connection timed out; waited for room")))
        << err;
  }
}

TEST_F(RingProgramsTest, TimeoutZeroDoesNotWait) {
  for (const auto& command :
       {Reader({"--timeout", "0"}), Writer({"--timeout", "0"})}) {
    ChildProcess process(command);
    EXPECT_EQ(process.Wait(), Exited(1));
    const std::string err = process.Err();
    EXPECT_EQ(std::ranges::count(err, '\n'), 1) << err;
  }
}

// --- Interruption ------------------------------------------------------------

class RingSignalTest : public RingProgramsTest,
                       public testing::WithParamInterface<int> {};

TEST_P(RingSignalTest, EndsTheWaitOfEither) {
  ExpectSignalEndsTheWait(GetParam());
}

TEST_P(RingSignalTest, EndsAWriterThatHasNoInput) {
  ChildProcess writer(Writer(), std::nullopt);
  ChildProcess reader(Reader());
  writer.Send("x");
  reader.AwaitOut("x");
  writer.Signal(GetParam());
  EXPECT_EQ(writer.Wait(), Killed(GetParam()));
  EXPECT_EQ(SoonEnd(reader), Exited(1));
  ExpectSaysOwnerDied(reader.Err());
}

TEST_P(RingSignalTest, EndsAReaderThatHasNoBytes) {
  ChildProcess writer(Writer(), std::nullopt);
  ChildProcess reader(Reader());
  writer.Send("x");
  reader.AwaitOut("x");
  reader.Signal(GetParam());
  EXPECT_EQ(reader.Wait(), Killed(GetParam()));
  EXPECT_EQ(SoonEnd(writer), Exited(1));
  ExpectSaysOwnerDied(writer.Err());
}

TEST_P(RingSignalTest, EndsAWriterThatHasNoRoom) {
  ChildProcess writer(Writer(), std::string(2 * Layout::kCapacity, 'x'));
  auto reader = Open();
  reader.Peek(Layout::kCapacity);
  writer.Signal(GetParam());
  EXPECT_EQ(writer.Wait(), Killed(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Signals, RingSignalTest,
                         testing::Values(SIGHUP, SIGINT, SIGTERM),
                         ipc_testing::SignalName);

// --- Any instant -------------------------------------------------------------

class RingInstantTest : public RingProgramsTest,
                        public testing::WithParamInterface<const char*> {
 protected:
  // Blocks, no two of which are alike.
  const std::string bytes_ = ipc_testing::RandomBytes(200'000);
};

TEST_P(RingInstantTest, StoppedWriterLeavesNoName) {
  AtEachCall(GetParam(), "TERM", [&](auto stopped) {
    ChildProcess reader(Reader());
    ChildProcess writer(stopped(Writer()), bytes_);
    const auto end = writer.Wait();
    EXPECT_TRUE(end == Exited(0) || end == Killed(SIGTERM)) << end;
    EXPECT_FALSE(Object());
    return end;
  });
}

TEST_P(RingInstantTest, KilledWriterIsNoObstacle) {
  AtEachCall(GetParam(), "KILL", [&](auto killed) {
    ChildProcess reader(Reader());
    ChildProcess writer(killed(Writer()), bytes_);
    const auto end = writer.Wait();
    EXPECT_TRUE(end == Exited(0) || end == Killed(SIGKILL)) << end;
    // It is told of the death, or it has had all, or it waits for a writer: the
    // next one's bytes it gets then.
    ChildProcess next(Writer(), "next");
    if (reader.Wait() == Exited(0)) {
      EXPECT_TRUE(reader.Out() == bytes_ || reader.Out() == "next");
    } else {
      EXPECT_EQ(reader.Wait(), Exited(1));
      ExpectSaysOwnerDied(reader.Err());
      EXPECT_TRUE(bytes_.starts_with(reader.Out()));
    }
    next.Signal(SIGTERM);
    next.Wait();
    ExpectPairWorks();
    return end;
  });
}

TEST_P(RingInstantTest, KilledReaderIsNoObstacle) {
  AtEachCall(GetParam(), "KILL", [&](auto killed) {
    ChildProcess writer(Writer(), bytes_);
    ChildProcess reader(killed(Reader()));
    const auto end = reader.Wait();
    EXPECT_TRUE(end == Exited(0) || end == Killed(SIGKILL)) << end;
    EXPECT_TRUE(bytes_.starts_with(reader.Out()));
    // It is told of the death, or it waits for another reader, which now comes;
    // that may come too early or late, and is stopped.
    ChildProcess next(Reader());
    if (writer.Wait() == Exited(0)) {
      EXPECT_TRUE(reader.Out() == bytes_ || next.Wait() == Exited(0));
    } else {
      EXPECT_EQ(writer.Wait(), Exited(1));
      ExpectSaysOwnerDied(writer.Err());
    }
    next.Signal(SIGTERM);
    next.Wait();
    ExpectPairWorks();
    return end;
  });
}

INSTANTIATE_TEST_SUITE_P(Calls, RingInstantTest,
                         testing::Values("openat", "flock", "fallocate",
                                         "fcntl", "?fstat,?newfstatat", "mmap",
                                         "membarrier", "poll",
                                         "?unlink,unlinkat", "close", "futex",
                                         "write"),
                         ipc_testing::CallName);

// --- Death -------------------------------------------------------------------

TEST_F(RingProgramsTest, ReaderPrintsWhatADeadWriterHasSent) {
  const std::string bytes = ipc_testing::RandomBytes(300'000);
  ChildProcess writer(Writer(), std::nullopt);
  ChildProcess reader(Reader());
  writer.Send(bytes);
  reader.AwaitOut(bytes);
  writer.Signal(SIGKILL);
  EXPECT_EQ(SoonEnd(reader), Exited(1));
  EXPECT_TRUE(reader.Out() == bytes);
  ExpectSaysOwnerDied(reader.Err());
  ExpectPairWorks();
}

// It died while the reader was stopped: what it had sent lies in the ring.
TEST_F(RingProgramsTest, ReaderFindsWhatADeadWriterHasSent) {
  const std::string bytes = ipc_testing::RandomBytes(Layout::kCapacity);
  ChildProcess writer(Writer(), std::nullopt);
  auto reader = Open();
  writer.Send(bytes);
  reader.Peek(bytes.size());
  writer.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Killed(SIGKILL));
  EXPECT_TRUE(reader.Peek(bytes.size()) == bytes);
  reader.Release(bytes.size());
  EXPECT_THROW(reader.Peek(), ipc::Error);
  ExpectPairWorks();
}

TEST_F(RingProgramsTest, WriterWithoutInputNoticesThatTheReaderDied) {
  ChildProcess writer(Writer(), std::nullopt);
  ChildProcess reader(Reader());
  writer.Send("x");
  reader.AwaitOut("x");
  reader.Signal(SIGKILL);
  EXPECT_EQ(SoonEnd(writer), Exited(1));
  ExpectSaysOwnerDied(writer.Err());
  ExpectPairWorks();
}

// A byte now and then keeps it from noticing nothing but silence.
TEST_F(RingProgramsTest, WriterWithLittleInputNoticesThatTheReaderDied) {
  ChildProcess writer(Writer(), std::nullopt);
  ChildProcess reader(Reader());
  writer.Send("x");
  reader.AwaitOut("x");
  reader.Signal(SIGKILL);
  EXPECT_EQ(reader.Wait(), Killed(SIGKILL));
  const ipc::Seconds end = ipc::Now() + ipc::Seconds(10);
  while (!writer.HasEnded() && ipc::Now() < end) {
    writer.Send("x");
    ipc::Poll({}, ipc::Seconds(0.1));
  }
  ASSERT_TRUE(writer.HasEnded());
  EXPECT_EQ(writer.Wait(), Exited(1));
  ExpectSaysOwnerDied(writer.Err());
}

TEST_F(RingProgramsTest, WriterWithoutRoomNoticesThatTheReaderDied) {
  ChildProcess writer(Writer(), std::string(2 * Layout::kCapacity, 'x'));
  {
    auto reader = Open();
    reader.Peek(Layout::kCapacity);
  }
  EXPECT_EQ(SoonEnd(writer), Exited(1));
  ExpectSaysOwnerDied(writer.Err());
  ExpectPairWorks();
}

TEST_F(RingProgramsTest, WriterAtItsEndNoticesThatTheReaderDied) {
  ChildProcess writer(Writer(), "bytes");
  {
    auto reader = Open();
    EXPECT_EQ(reader.Peek(100).size(), 5U) << "the end has come";
  }
  EXPECT_EQ(SoonEnd(writer), Exited(1));
  ExpectSaysOwnerDied(writer.Err());
}

TEST_F(RingProgramsTest, ReaderWaitsForTheNextAfterADeadWriter) {
  ExpectReaderWaitsForTheNextAfterADeadWriter();
}

TEST_F(RingProgramsTest, UnfinishedObjectIsReclaimed) {
  ExpectUnfinishedObjectIsReclaimed(Layout::kSize);
}

// --- The name is in use ------------------------------------------------------

TEST_F(RingProgramsTest, SecondWriterAndSecondReaderAreRefused) {
  ChildProcess writer(Writer(), std::nullopt);
  writer.AwaitErr("waiting for");
  ChildProcess reader(Reader());
  writer.Send("first");
  reader.AwaitOut("first");
  ChildProcess second_writer(Writer(), "second");
  EXPECT_EQ(second_writer.Wait(), Exited(1));
  EXPECT_EQ(second_writer.Err(), Failure("ring_writer: shm_open", kInUse));
  ChildProcess second_reader(Reader());
  EXPECT_EQ(second_reader.Wait(), Exited(1));
  EXPECT_EQ(second_reader.Out(), "");
  EXPECT_EQ(second_reader.Err(),
            Failure("ring_reader: shm_open",
                    "Device or resource busy; another reader has it"));
  writer.Send(" and on");
  writer.CloseInput();
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "first and on");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(RingProgramsTest, OnlyOneOfTwoWaitingReadersGetsTheStream) {
  const std::string bytes = ipc_testing::RandomBytes(3'000'000);
  ChildProcess one(Reader());
  ChildProcess other(Reader());
  for (ChildProcess* reader : {&one, &other}) reader->AwaitErr("waiting for");
  ChildProcess writer(Writer(), bytes);
  EXPECT_EQ(writer.Wait(), Exited(0));
  for (ChildProcess* reader : {&one, &other}) reader->Signal(SIGTERM);
  one.Wait();
  other.Wait();
  EXPECT_TRUE(one.Out() + other.Out() == bytes);
}

// A writer that was stopped as it had just claimed what a dead one has left is
// not taken for that one, nor is what it is about to remove read.
TEST_F(RingProgramsTest, ReaderDoesNotReadWhatIsBeingTakenOver) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  {
    ChildProcess dead(Writer(), "old");
    dead.AwaitErr("waiting for");
    dead.Signal(SIGKILL);
    dead.Wait();
  }
  ChildProcess writer(
      WithFault("flock", "signal=STOP:when=1", Writer(), Path()), "new");
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(writer.pid()), &info,
                     WSTOPPED | WEXITED | WNOWAIT),
            0);
  ASSERT_EQ(info.si_code, CLD_STOPPED) << "it has ended";
  ASSERT_TRUE(Object()) << "it has been removed: nothing is tested";
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("ring_reader", "a writer"));
  writer.Signal(SIGCONT);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "new");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(RingProgramsTest, WriterWhoseNameWasTakenAwayLeavesItsSuccessors) {
  for (const int signal : {SIGTERM, SIGKILL}) {
    ChildProcess first(Writer(), "first");
    first.AwaitErr("waiting for");
    Unlink();
    ChildProcess second(Writer(), "second");
    second.AwaitErr("waiting for");
    first.Signal(signal);
    EXPECT_EQ(first.Wait(), Killed(signal));
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(0));
    EXPECT_EQ(reader.Out(), "second");
    EXPECT_EQ(second.Wait(), Exited(0));
  }
}

// --- Something else under the name -------------------------------------------

TEST_F(RingProgramsTest, SomethingElseIsReportedAndLeft) {
  ExpectSomethingElseIsLeft({
      "",
      "x",
      std::string(Layout::kSize, '\0'),
      std::string(Layout::kSize + 1, '\0'),
      ipc_testing::RandomBytes(Layout::kSize),
  });
}

TEST_F(RingProgramsTest, ObjectThatComesAtTheLastInstantIsLeft) {
  ExpectObjectThatComesAtTheLastInstantIsLeft();
}

// The writer of the one lives, and goes on: to open the name is no error then,
// but its content is another's.
TEST_F(RingProgramsTest, MessageIsNoRing) {
  ChildProcess writer({Program("WRITER"), "--name", name_, "message"});
  writer.AwaitErr("waiting for");
  ChildProcess ring_reader(Reader());
  EXPECT_EQ(ring_reader.Wait(), Exited(1));
  EXPECT_EQ(ring_reader.Err(), Failure("ring_reader: fstat", kHoldsElse));
  ChildProcess ring_writer(Writer());
  EXPECT_EQ(ring_writer.Wait(), Exited(1));
  EXPECT_EQ(ring_writer.Err(), Failure("ring_writer: shm_open", kInUse));
  ChildProcess reader({Program("READER"), "--name", name_});
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "message\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(RingProgramsTest, RingIsNoMessage) {
  ChildProcess ring_writer(Writer(), "bytes");
  ring_writer.AwaitErr("waiting for");
  ChildProcess reader({Program("READER"), "--name", name_});
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Failure("reader: fstat", kHoldsElse));
  ChildProcess writer({Program("WRITER"), "--name", name_});
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Failure("writer: shm_open", kInUse));
  ChildProcess ring_reader(Reader());
  EXPECT_EQ(ring_reader.Wait(), Exited(0));
  EXPECT_EQ(ring_reader.Out(), "bytes");
  EXPECT_EQ(ring_writer.Wait(), Exited(0));
}

TEST_F(RingProgramsTest, ObjectIsTheOwnersAlone) {
  ExpectObjectIsTheOwnersAlone();
}

// --- Memory that can't be had ------------------------------------------------

TEST_F(RingProgramsTest, FullSharedMemoryIsAFailure) {
  for (const std::string size : {"4k", "256k"}) {
    SCOPED_TRACE(size);
    ExpectFullSharedMemoryIsAFailure(size);
  }
}

// SIGXFSZ would kill the writer before it removes the name.
TEST_F(RingProgramsTest, LimitOfFilesSizesIsAFailure) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "SKIPPED: TSan's runtime dies of the limit before main";
#endif
  ChildProcess writer(Writer(), "", [] {
    const rlimit less{100'000, 100'000};
    ::setrlimit(RLIMIT_FSIZE, &less);
  });
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Failure("ring_writer: fallocate", "File too large"));
}

// --- What the other process stores is input ----------------------------------

TEST_F(RingProgramsTest, PositionThatCannotBeIsRefused) {
  const std::string much = "\xff\xff\xff\xff\xff\xff\xff\x7f";
  {
    ChildProcess writer(Writer(), std::nullopt);
    ChildProcess reader(Reader());
    writer.Send("x");
    reader.AwaitOut("x");
    Store(offsetof(Layout, writer.position), much);
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_TRUE(
        reader.Err().ends_with(Failure("ring_reader: load", kWrongPosition)))
        << reader.Err();
    EXPECT_EQ(reader.Out(), "x");
    EXPECT_EQ(SoonEnd(writer), Exited(1));
  }
  ChildProcess writer(Writer(), std::string(3 * Layout::kCapacity, 'x'));
  auto reader = Open();
  reader.Peek(Layout::kCapacity);
  Store(offsetof(Layout, reader.position), much);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_TRUE(
      writer.Err().ends_with(Failure("ring_writer: load", kWrongPosition)))
      << writer.Err();
}

// A reader that says it has seen the end, and has released nothing, or not all:
// nobody knows what it has done with the rest.
TEST_F(RingProgramsTest, WriterFailsUnlessAllWasReleased) {
  for (const std::size_t released : {0U, 4U}) {
    ChildProcess writer(Writer(), "bytes");
    auto reader = Open();
    EXPECT_EQ(reader.Peek(100), "bytes") << "the end has come";
    reader.Release(released);
    Store(offsetof(Layout, reader.ended), "\1");
    EXPECT_EQ(SoonEnd(writer), Exited(1));
    EXPECT_TRUE(
        writer.Err().ends_with(Failure("ring_writer: load", kWrongPosition)))
        << writer.Err();
  }
}

// --- Input and output --------------------------------------------------------

TEST_F(RingProgramsTest, OutputThatFailsIsAFailureOfBoth) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess writer(Writer(), "bytes");
    writer.AwaitErr("waiting for");
    ChildProcess reader(Reader(), "", in_child);
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(
        reader.Err(),
        std::string("ring_reader: write 'standard output': ") + reason + "\n");
    EXPECT_EQ(SoonEnd(writer), Exited(1));
    ExpectSaysOwnerDied(writer.Err());
  }
}

TEST_F(RingProgramsTest, InputThatFailsIsAFailureOfBoth) {
  const std::pair<void (*)(), const char*> inputs[] = {
      {[] { ::dup2(::open("/", O_RDONLY), 0); }, "Is a directory"},
      {[] { ::close(0); }, "Bad file descriptor"},
  };
  for (const auto& [in_child, reason] : inputs) {
    ChildProcess writer(Writer(), "", in_child);
    ChildProcess reader(Reader());
    EXPECT_EQ(writer.Wait(), Exited(1));
    EXPECT_TRUE(writer.Err().ends_with(
        std::string("ring_writer: read 'standard input': ") + reason + "\n"))
        << writer.Err();
    EXPECT_EQ(SoonEnd(reader), Exited(1));
    ExpectSaysOwnerDied(reader.Err());
    EXPECT_EQ(reader.Out(), "");
  }
}

// By signals that ask for nothing.
TEST_F(RingProgramsTest, InterruptedInputIsReadAgain) {
  if (!HasStrace()) GTEST_SKIP() << kNoStrace;
  const ipc_testing::TemporaryDirectory directory;
  const std::string input = directory / "input";
  std::ofstream(input) << "text";
  ChildProcess writer(
      WithFault("read", "error=EINTR:when=1+2", Writer(), input), "",
      [&] { ::dup2(::open(input.c_str(), O_RDONLY), STDIN_FILENO); });
  ChildProcess reader(Reader());
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_EQ(reader.Out(), "text");
}

// --- Command lines -----------------------------------------------------------

TEST_F(RingProgramsTest, WrongUsageSaysSo) {
  ExpectWrongUsageSaysSo({Writer({"operand"}), Reader({"operand"})});
}

TEST_F(RingProgramsTest, HelpIsOutput) { ExpectHelpIsOutput(); }

}  // namespace
