// The writer and the reader, started as a user does.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <optional>
#include <string>
#include <vector>

#include "shm/mailbox.h"
#include "testing/child_process.h"

namespace {

using Layout = ipc::Mailbox::Layout;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;
using ipc_testing::Program;
using Arguments = std::vector<std::string>;

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

class ProgramsTest : public testing::Test {
 protected:
  ~ProgramsTest() override {
    EXPECT_FALSE(Object()) << "left behind: " << name_;
    ::shm_unlink(name_.c_str());
  }

  Arguments Writer(const Arguments& arguments = {}) const {
    return Command("WRITER", arguments);
  }
  Arguments Reader(const Arguments& arguments = {}) const {
    return Command("READER", arguments);
  }

  // The next writer and reader on the name work, whatever happened to the last.
  void ExpectPairWorks() const {
    ChildProcess writer(Writer({"next"}));
    writer.AwaitErr("waiting for");  // Or the reader would look too early.
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    EXPECT_EQ(reader.Out(), "next\n");
    EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  }

  // The object under the name, if there is one.
  os::UniqueFd Object() const {
    return os::UniqueFd(::shm_open(name_.c_str(), O_RDWR, 0));
  }
  os::UniqueFd MakeObject(const std::string& bytes) const {
    os::UniqueFd fd(::shm_open(name_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600));
    os::WriteAll(fd.get(), os::Bytes(bytes), name_);
    return fd;
  }
  std::string Content(const os::UniqueFd& object) const {
    std::string content(
        static_cast<std::size_t>(os::Stat(object.get(), name_).st_size), 0);
    EXPECT_EQ(::pread(object.get(), content.data(), content.size(), 0),
              content.size());
    return content;
  }
  std::string Waiting(const std::string& program,
                      const std::string& what) const {
    return program + ": waiting for " + what + " on '" + name_ + "'\n";
  }
  // What the program says of a failure.
  std::string Failure(const std::string& program_and_call,
                      const std::string& reason) const {
    return program_and_call + " '" + name_ + "': " + reason + "\n";
  }

  const std::string name_ = ipc_testing::UniqueName();

 private:
  Arguments Command(const char* program, const Arguments& arguments) const {
    Arguments command{Program(program), "--name", name_};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
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
  ChildProcess reader(Reader({"--timeout", "0.1"}));
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Waiting("reader", "a writer") +
                              Failure("reader: shm_open",
                                      "Connection timed out; waited for a "
                                      "writer"));
  ChildProcess writer(Writer({"--timeout", "0.1"}));
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(writer.Err(), Waiting("writer", "a reader") +
                              Failure("writer: sem_clockwait",
                                      "Connection timed out; waited for a "
                                      "reader"));
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

TEST_P(SignalTest, EndsAWaitingWriter) {
  ChildProcess writer(Writer());
  writer.AwaitErr("waiting for");
  writer.Signal(GetParam());
  EXPECT_EQ(writer.Wait(), Killed(GetParam()));
  EXPECT_EQ(writer.Err(), Waiting("writer", "a reader"));
}

TEST_P(SignalTest, EndsAWaitingReader) {
  ChildProcess reader(Reader());
  reader.AwaitErr("waiting for");
  reader.Signal(GetParam());
  EXPECT_EQ(reader.Wait(), Killed(GetParam()));
}

TEST_P(SignalTest, EndsAWriterThatHasJustStarted) {
  ChildProcess writer(Writer());
  writer.Signal(GetParam());
  EXPECT_EQ(writer.Wait(), Killed(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Signals, SignalTest,
                         testing::Values(SIGHUP, SIGINT, SIGTERM),
                         [](const auto& signal) {
                           return std::string(::sigabbrev_np(signal.param));
                         });

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

// A pair is run again and again, and one of the two is sent a signal as it
// makes the first of these calls, the second and so on, until it makes no more.
class InstantTest : public ProgramsTest,
                    public testing::WithParamInterface<const char*> {
 protected:
  template <typename Run>
  void AtEachCall(const std::string& signal, Run run) {
    const std::string calls = GetParam();
    // Else only calls on the object count: the dynamic linker makes many.
    const bool any = calls == "futex" || calls == "write";
    for (int n = 1;; ++n) {
      SCOPED_TRACE("at call " + std::to_string(n));
      const auto when = "signal=" + signal + ":when=" + std::to_string(n);
      if (run([&](const Arguments& command) {
            return ipc_testing::WithFault(calls, when, command,
                                          any ? "" : "/dev/shm" + name_);
          }) == Exited(0)) {
        break;
      }
      ASSERT_FALSE(HasFailure());
    }
  }
};

TEST_P(InstantTest, StoppedWriterLeavesNoName) {
  AtEachCall("TERM", [&](auto stopped) {
    ChildProcess reader(Reader());
    ChildProcess writer(stopped(Writer({"message"})));
    const auto end = writer.Wait();
    EXPECT_TRUE(end == Exited(0) || end == Killed(SIGTERM)) << end;
    EXPECT_FALSE(Object());
    return end;
  });
}

TEST_P(InstantTest, KilledWriterIsNoObstacle) {
  AtEachCall("KILL", [&](auto killed) {
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
  AtEachCall("KILL", [&](auto killed) {
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
                         [](const auto& calls) {
                           std::string name = calls.param;
                           std::erase(name, '?');
                           return name.substr(0, name.find(','));
                         });

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
  {
    ChildProcess writer(Writer());
    writer.AwaitErr("waiting for");
    writer.Signal(SIGKILL);
    writer.Wait();
  }
  ASSERT_TRUE(Object()) << "nothing was left: nothing is tested";
  ChildProcess reader(Reader());
  reader.AwaitErr(Waiting("reader", "a writer"));
  ChildProcess writer(Writer({"message"}));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "message\n");
  EXPECT_EQ(writer.Wait(), Exited(0));
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

// As a writer that died before it published leaves it.
TEST_F(ProgramsTest, UnfinishedObjectIsReclaimed) {
  for (const std::size_t size : {std::size_t{0}, sizeof(Layout)}) {
    MakeObject(std::string(size, '\0'));
    ExpectPairWorks();
  }
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
  const std::string contents[] = {
      "x",
      std::string(sizeof(Layout) - 1, '\0'),
      std::string(sizeof(Layout) + 1, '\0'),
      std::string(1000000, '\0'),
      "2MHS" + std::string(sizeof(Layout) - 4, '\0'),  // Version 2.
      ipc_testing::RandomBytes(sizeof(Layout)),
  };
  for (const std::string& content : contents) {
    SCOPED_TRACE(content.size());
    const auto object = MakeObject(content);
    for (const auto& [program, command] :
         {std::pair("writer", Writer()), std::pair("reader", Reader())}) {
      ChildProcess process(command);
      EXPECT_EQ(process.Wait(), Exited(1));
      EXPECT_EQ(process.Out(), "");
      EXPECT_EQ(process.Err(),
                Failure(std::string(program) + ": shm_open",
                        std::string("File exists; ") + os::kNotOurs));
    }
    EXPECT_EQ(Content(object), content);
    EXPECT_EQ(::shm_unlink(name_.c_str()), 0);
  }
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

TEST_F(ProgramsTest, ObjectIsTheOwnersAlone) {
  ChildProcess writer(Writer(), "", [] { ::umask(0); });
  writer.AwaitErr("waiting for");
  EXPECT_EQ(os::Stat(Object().get(), name_).st_mode & 0777U, 0600);
  writer.Signal(SIGTERM);
  writer.Wait();
}

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
  const std::pair<void (*)(), const char*> outputs[] = {
      {[] { ::dup2(::open("/dev/full", O_WRONLY), 1); },
       "No space left on device"},
      {[] { ::close(1); }, "Bad file descriptor"},
      {[] {
         int ends[2] = {};
         if (::pipe(ends) == 0) ::dup2(ends[1], 1);
         ::close(ends[0]);
       },
       "Broken pipe"},
  };
  for (const auto& [in_child, reason] : outputs) {
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
  const Arguments commands[] = {
      Writer({"--bogus"}),        Reader({"--bogus"}),
      Writer({"--name"}),         Reader({"--name"}),
      Writer({"--timeout", "x"}), Reader({"--timeout", "-1"}),
      Writer({"one", "two"}),     Reader({"operand"}),
  };
  for (const Arguments& command : commands) {
    ChildProcess process(command);
    EXPECT_EQ(process.Wait(), Exited(2)) << command.back();
    EXPECT_EQ(process.Out(), "");
    EXPECT_TRUE(process.Err().ends_with("; see --help\n")) << process.Err();
  }
}

TEST_F(ProgramsTest, HelpIsOutput) {
  for (const Arguments& command : {Writer({"--help"}), Reader({"--help"})}) {
    ChildProcess process(command);
    EXPECT_EQ(process.Wait(), Exited(0));
    EXPECT_TRUE(process.Out().starts_with("Usage: ")) << process.Out();
    EXPECT_EQ(process.Err(), "");
  }
}

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
