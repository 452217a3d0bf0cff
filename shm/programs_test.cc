// The writer and the reader, started as a user does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <string>
#include <vector>

#include "shm/mailbox.h"
#include "shm/test_pair.h"
#include "testing/child_process.h"

namespace {

using Layout = ipc::Mailbox::Layout;
using ipc_testing::Arguments;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;

// Bytes as an argument may have them: any but NUL.
std::string Message(std::size_t size) {
  std::string text = ipc_testing::RandomBytes(size);
  std::ranges::replace(text, '\0', '\n');
  return text;
}

// A writer that does what a test tells it to.
class FakeWriter {
 public:
  // With an object of this size, all zero.
  FakeWriter(const std::string& name, std::size_t size)
      : unlink_(::shm_unlink, name),
        object_(::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600)) {
    EXPECT_EQ(::ftruncate(object_.get(), static_cast<off_t>(size)), 0);
    EXPECT_TRUE(os::TryLock(object_.get(), name));
  }
  ~FakeWriter() { Die(); }

  void Publish() {
    EXPECT_EQ(::ftruncate(object_.get(), sizeof(Layout)), 0);
    layout_ = static_cast<Layout*>(::mmap(nullptr, sizeof(Layout),
                                          PROT_READ | PROT_WRITE, MAP_SHARED,
                                          object_.get(), 0));
    ::sem_init(&layout_->filled, 1, 0);
    ::sem_init(&layout_->emptied, 1, 0);
    layout_->header.ready = Layout::kMagic;
  }
  void Put(std::string_view text, std::uint32_t length) {
    std::ranges::copy(text, layout_->text.begin());
    layout_->length = length;
    ::sem_post(&layout_->filled);
  }
  // As the kernel does it to a process that was killed: the name stays.
  void Die() {
    if (layout_ != nullptr) ::munmap(layout_, sizeof(Layout));
    layout_ = nullptr;
    object_.Close();
  }
  void KeepName() { unlink_.Release(); }

 private:
  os::OwnedName unlink_;
  os::UniqueFd object_;
  Layout* layout_ = nullptr;
};

class ProgramsTest : public ipc_testing::PairTest {
 protected:
  ProgramsTest() : PairTest("WRITER", "READER", "\n") {}
  ChildProcess Sending(const std::string& text) const override {
    return ChildProcess(Writer({text}));
  }
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

TEST_F(ProgramsTest, DefaultMessageIsTheDocuments) {
  ChildProcess writer(Writer());
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(ProgramsTest, MessageThatDoesNotFitIsRefused) {
  ChildProcess writer(Writer({Message(101)}));
  EXPECT_EQ(writer.Wait(), Exited(2));
  EXPECT_EQ(writer.Err(),
            "writer: MESSAGE has more than 100 bytes; see --help\n");
}

TEST_F(ProgramsTest, ReaderPrintsNulBytes) {
  const std::string message = std::string("a\0b\0", 4);
  auto memory = ipc::Mailbox::Create(name_, os::kForever);
  memory.Put(message);
  ChildProcess reader(Reader());
  memory.AwaitDone();
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), message + "\n");
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

TEST_F(ProgramsTest, SignalEndsAReaderThatWaitsForTheMessage) {
  FakeWriter fake(name_, 0);
  fake.Publish();
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("reader", "a message"));
  reader.Signal(SIGTERM);
  EXPECT_EQ(reader.Wait(), Killed(SIGTERM));
}

TEST_F(ProgramsTest, SignalEndsAWriterWhoseMessageIsBeingRead) {
  ChildProcess writer(Writer());
  auto memory = ipc::Mailbox::Open(name_, os::kForever);
  writer.AwaitErr("waiting for");
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
                         testing::Values("openat", "fcntl",
                                         "?newfstatat,?fstat", "pread64",
                                         "ftruncate", "mmap",
                                         "?unlink,unlinkat", "close", "futex",
                                         "write"),
                         ipc_testing::CallName);

// --- Death -------------------------------------------------------------------

TEST_F(ProgramsTest, WriterNoticesThatTheReaderDied) {
  ChildProcess writer(Writer());
  writer.AwaitErr("waiting for");
  // As it prints.
  ChildProcess reader(ipc_testing::WithFault("write", "signal=KILL:when=1",
                                             Reader(), "/dev/null"),
                      "", [] { ::dup2(::open("/dev/null", O_WRONLY), 1); });
  EXPECT_EQ(reader.Wait(), Killed(SIGKILL));
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Waiting("writer", "a reader") +
                              Failure("writer: sem_clockwait", "Owner died"));
  ExpectPairWorks();
}

TEST_F(ProgramsTest, ReaderNoticesThatTheWriterDied) {
  FakeWriter fake(name_, 0);
  fake.Publish();
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("reader", "a message"));
  fake.Die();
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Waiting("reader", "a message") +
                              Failure("reader: sem_clockwait", "Owner died"));
  ExpectPairWorks();
}

TEST_F(ProgramsTest, ReaderGetsWhatADeadWriterHasPut) {
  ChildProcess writer(Writer());
  auto memory = ipc::Mailbox::Open(name_, os::kForever);
  writer.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Killed(SIGKILL));
  EXPECT_EQ(memory.Get(), "Hello World");
  ExpectPairWorks();
}

TEST_F(ProgramsTest, ReaderWaitsForTheNextAfterADeadWriter) {
  ExpectReaderWaitsForTheNextAfterADeadWriter();
}

// With O_EXCL alone the name would be taken for ever; without it the dead
// reader's mark would be inherited, and the next would wait for ever.
TEST_F(ProgramsTest, WhatADeadPairLeftIsMadeAnew) {
  ChildProcess writer(Writer());
  {
    auto memory = ipc::Mailbox::Open(name_, os::kForever);
    writer.Signal(SIGKILL);
    writer.Wait();
  }
  ASSERT_TRUE(Object());
  ExpectPairWorks();
}

TEST_F(ProgramsTest, UnfinishedObjectIsReclaimed) {
  ExpectUnfinishedObjectIsReclaimed(sizeof(Layout));
}

// --- The name is in use ------------------------------------------------------

TEST_F(ProgramsTest, SecondWriterIsRefused) {
  ChildProcess first(Writer({"first"}));
  first.AwaitErr("waiting for");
  ChildProcess second(Writer({"second"}));
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Err(),
            Failure("writer: shm_open",
                    "Device or resource busy; choose another name"));
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "first\n");
  EXPECT_EQ(first.Wait(), Exited(0));
}

TEST_F(ProgramsTest, SecondReaderIsRefused) {
  ChildProcess writer(Writer());
  auto first = ipc::Mailbox::Open(name_, os::kForever);
  ChildProcess second(Reader());
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Out(), "");
  EXPECT_EQ(second.Err(),
            Failure("reader: shm_open",
                    "Device or resource busy; another reader has it"));
  EXPECT_EQ(first.Get(), "Hello World");
  first.Done();
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

// --- Something else under the name -------------------------------------------

TEST_F(ProgramsTest, SomethingElseIsReportedAndLeft) {
  ExpectSomethingElseIsLeft({
      "x",
      std::string(sizeof(Layout) - 1, '\0'),
      std::string(sizeof(Layout) + 1, '\0'),
      std::string(1000000, '\0'),
      "2MHS" + std::string(sizeof(Layout) - 4, '\0'),  // Version 2.
      ipc_testing::RandomBytes(sizeof(Layout)),
  });
}

// Each program is told that it is another user than it is.
TEST_F(ProgramsTest, AnotherUsersObjectIsReportedAndLeft) {
  const auto object = MakeObject(std::string(sizeof(Layout), '\0'));
  ASSERT_EQ(::fchmod(object.get(), 0666), 0);
  for (const auto& [program, command] :
       {std::pair("writer", Writer()), std::pair("reader", Reader())}) {
    ChildProcess process(
        ipc_testing::WithFault("geteuid", "retval=12345", command));
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Err(), Failure(std::string(program) + ": shm_open",
                                     "Permission denied; it is another "
                                     "user's: choose another"));
  }
  EXPECT_EQ(os::Stat(object.get(), name_).st_nlink, 1);
  ::shm_unlink(name_.c_str());
}

TEST_F(ProgramsTest, ObjectIsTheOwnersAlone) { ExpectObjectIsTheOwnersAlone(); }

// --- What the other process puts is input ------------------------------------

TEST_F(ProgramsTest, ReaderWaitsUntilTheObjectIsReady) {
  // No memory: SIGBUS. Memory, but no semaphore yet: a post would be lost.
  for (const std::size_t size : {std::size_t{0}, sizeof(Layout)}) {
    FakeWriter fake(name_, size);
    ChildProcess reader(Reader());
    reader.AwaitErr("waiting for");
    ASSERT_EQ(reader.Err(), Waiting("reader", "a writer"));
    fake.Publish();
    fake.Put("message", 7);
    EXPECT_EQ(reader.Wait(), Exited(0));
    EXPECT_EQ(reader.Out(), "message\n");
  }
}

TEST_F(ProgramsTest, LengthThatDoesNotFitIsRefused) {
  for (const std::uint32_t length : {101U, 176U, 0x80000000U, 0xffffffffU}) {
    FakeWriter fake(name_, 0);
    fake.Publish();
    fake.Put("message", length);
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Out(), "");
    EXPECT_EQ(reader.Err(), Failure("reader: mmap", "Bad message"));
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
