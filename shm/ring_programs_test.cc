// The ring's writer and reader, started as a user does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <string>
#include <vector>

#include "shm/mailbox.h"
#include "shm/ring.h"
#include "shm/test_pair.h"
#include "testing/child_process.h"

namespace {

using Layout = ipc::RingLayout;
using ipc_testing::Arguments;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;
using ipc_testing::Program;

class RingProgramsTest : public ipc_testing::PairTest {
 protected:
  RingProgramsTest() : PairTest("RING_WRITER", "RING_READER", "") {}
  ChildProcess Sending(const std::string& text) const override {
    return ChildProcess(Writer(), text);
  }

  // The end of a process whose peer has died: soon, even on a busy machine.
  static ipc_testing::End SoonEnd(ChildProcess& process) {
    process.set_patience(std::chrono::seconds(5));
    return process.Wait();
  }
  // To write at that offset.
  os::UniqueFd OpenAt(std::size_t offset) const {
    os::UniqueFd fd = Object();
    EXPECT_NE(::lseek(fd.get(), static_cast<off_t>(offset), SEEK_SET), -1);
    return fd;
  }
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
  const std::string bytes = ipc_testing::RandomBytes(3'000'000);
  for (const int without : {1, 2, 3}) {
    auto command = [&](int side, const Arguments& argv) {
      return (without & side) == 0
                 ? argv
                 : ipc_testing::WithFault("membarrier", "error=ENOSYS", argv);
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
  ChildProcess writer(Writer({"--timeout", "1"}),
                      std::string(2 * Layout::kCapacity, 'x'));
  const ipc::RingReader reader(name_, os::kForever);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_TRUE(writer.Err().ends_with(
      Failure("ring_writer: futex", "Connection timed out; waited for room")))
      << writer.Err();
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
  ipc::RingReader reader(name_, os::kForever);
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
                         testing::Values("openat", "fcntl", "pread64",
                                         "ftruncate", "mmap", "membarrier",
                                         "poll", "?unlink,unlinkat", "close",
                                         "futex", "write"),
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
  ipc::RingReader reader(name_, os::kForever);
  writer.Send(bytes);
  reader.Peek(bytes.size());
  writer.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Killed(SIGKILL));
  const auto rest = std::as_bytes(std::span(bytes));
  EXPECT_TRUE(std::ranges::equal(reader.Peek(bytes.size()), rest));
  reader.Release(bytes.size());
  EXPECT_THROW(reader.Peek(), os::Error);
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

TEST_F(RingProgramsTest, WriterWithoutRoomNoticesThatTheReaderDied) {
  ChildProcess writer(Writer(), std::string(2 * Layout::kCapacity, 'x'));
  {
    ipc::RingReader reader(name_, os::kForever);
    reader.Peek(Layout::kCapacity);
  }
  EXPECT_EQ(SoonEnd(writer), Exited(1));
  ExpectSaysOwnerDied(writer.Err());
  ExpectPairWorks();
}

TEST_F(RingProgramsTest, WriterAtItsEndNoticesThatTheReaderDied) {
  ChildProcess writer(Writer(), "bytes");
  {
    ipc::RingReader reader(name_, os::kForever);
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
  EXPECT_EQ(second_writer.Err(),
            Failure("ring_writer: shm_open",
                    "Device or resource busy; choose another name"));
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

// --- Something else under the name -------------------------------------------

TEST_F(RingProgramsTest, SomethingElseIsReportedAndLeft) {
  ExpectSomethingElseIsLeft({
      "x",
      std::string(Layout::kSize - 1, '\0'),
      std::string(Layout::kSize + 1, '\0'),
      "2NIR" + std::string(Layout::kSize - 4, '\0'),  // Version 2.
      "1MHS" + std::string(Layout::kSize - 4, '\0'),  // A mailbox's word.
      ipc_testing::RandomBytes(Layout::kSize),
  });
}

// The writer of either lives, and goes on: to open the name is no error then,
// but its content is another's.
TEST_F(RingProgramsTest, MailboxIsNoRing) {
  auto mailbox = ipc::Mailbox::Create(name_, os::kForever);
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Failure("ring_reader: shm_open",
                                  std::string("File exists; ") + os::kNotOurs));
  ChildProcess writer(Writer());
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(),
            Failure("ring_writer: shm_open",
                    "Device or resource busy; choose another name"));
  mailbox.Put("message");
  EXPECT_EQ(ipc::Mailbox::Open(name_, os::kForever).Get(), "message");
}

TEST_F(RingProgramsTest, RingIsNoMailbox) {
  ChildProcess writer(Writer(), "bytes");
  writer.AwaitErr("waiting for");
  for (const auto& [program, reason] :
       {std::pair("WRITER", "Device or resource busy; choose another name"),
        std::pair("READER",
                  "File exists; it is something else, left as it "
                  "was: remove it or choose another name")}) {
    ChildProcess process({Program(program), "--name", name_});
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_TRUE(process.Err().ends_with(Failure(": shm_open", reason)))
        << process.Err();
  }
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "bytes");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(RingProgramsTest, ObjectIsTheOwnersAlone) {
  ExpectObjectIsTheOwnersAlone();
}

// --- What the other process stores is input ----------------------------------

TEST_F(RingProgramsTest, PositionThatCannotBeIsRefused) {
  {
    ChildProcess writer(Writer(), std::nullopt);
    ChildProcess reader(Reader());
    writer.Send("x");
    reader.AwaitOut("x");
    os::WriteAll(OpenAt(offsetof(Layout, writer.position)).get(),
                 os::Bytes("\xff\xff\xff\xff\xff\xff\xff\x7f"), name_);
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_TRUE(
        reader.Err().ends_with(Failure("ring_reader: mmap", "Bad message")));
    EXPECT_EQ(reader.Out(), "x");
    EXPECT_EQ(SoonEnd(writer), Exited(1));
  }
  ChildProcess writer(Writer(), std::string(3 * Layout::kCapacity, 'x'));
  ipc::RingReader reader(name_, os::kForever);
  reader.Peek(Layout::kCapacity);
  os::WriteAll(OpenAt(offsetof(Layout, reader.position)).get(),
               os::Bytes("\xff\xff\xff\xff\xff\xff\xff\x7f"), name_);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_TRUE(
      writer.Err().ends_with(Failure("ring_writer: mmap", "Bad message")));
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

// --- Command lines -----------------------------------------------------------

TEST_F(RingProgramsTest, WrongUsageSaysSo) {
  ExpectWrongUsageSaysSo({Writer({"operand"}), Reader({"operand"})});
}

TEST_F(RingProgramsTest, HelpIsOutput) { ExpectHelpIsOutput(); }

}  // namespace
