// The programs at the instants and with the errors that no timing brings about:
// strace(1) stops them there, or makes a call fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include "fifo/test_pair.h"
#include "name.h"
#include "testing/processes/shared_input.h"

namespace {

namespace fs = std::filesystem;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::kAnotherPrograms;
using ipc_testing::kAnotherUsers;
using ipc_testing::Killed;
using ipc_testing::kInUse;
using ipc_testing::RunWhereAnotherTakesInput;
using ipc_testing::TextOf;
using ipc_testing::WithFault;
using ipc_testing::Words;
using testing::EndsWith;
using testing::IsEmpty;

class FifoInstantsTest : public ipc_testing::FifoTest {
 protected:
  void SetUp() override {
    if (!ipc_testing::HasStrace()) GTEST_SKIP() << ipc_testing::kNoStrace;
  }

  // The program, stopped as it returns from the call of that number that is
  // about the FIFO.
  Words StoppedAfter(const std::string& call, int number, const char* program,
                     const Words& arguments = {}) const {
    return WithFault(call, "signal=STOP:when=" + std::to_string(number),
                     Command(program, arguments), path_);
  }
  // The same calls fail, or whatever `fault` says.
  Words Faulty(const std::string& call, const std::string& fault,
               const char* program, const Words& arguments = {}) const {
    return WithFault(call, fault, Command(program, arguments), path_);
  }
  // What a reader that was killed has left.
  void MakeLeftover() const { MakeFifo(0644 | ipc::kOurs); }
  void Write(const std::string& text) const {
    ipc::WriteAll(OpenTo(O_WRONLY).get(), text, path_);
  }
};

// --- The end -----------------------------------------------------------------

// Between the reader's end and its close.
TEST_F(FifoInstantsTest, AWriterThatComesAtTheEndLosesNothing) {
  ChildProcess reader(StoppedAfter("read", 2, "READER"));
  reader.AwaitErr("waiting for a writer");
  reader.Stop();
  Write("early ");
  reader.Signal(SIGCONT);
  reader.AwaitStop();  // It has read the end.
  Write("late");
  reader.Signal(SIGCONT);
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "early late");
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

// It has opened the FIFO, and before it writes the reader has seen the end.
TEST_F(FifoInstantsTest, AWriterThatComesAfterTheEndWaitsForTheNextReader) {
  MakeLeftover();
  const ipc::UniqueFd reader = OpenTo(O_RDONLY);
  ChildProcess writer(StoppedAfter("openat", 2, "WRITER"));
  writer.AwaitStop();
  fs::remove(path_);
  ChildProcess next = Reader();
  next.AwaitErr("waiting for a writer");
  writer.Signal(SIGCONT);
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  EXPECT_EQ(next.Wait(), Exited(0));
  EXPECT_EQ(next.Out(), "Hello World\n");
}

TEST_F(FifoInstantsTest, AnErrorIsNotTheEnd) {
  ChildProcess reader(Faulty("read", "error=EIO:when=1", "READER"));
  EXPECT_EQ(Writer().Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_THAT(reader.Err(),
              EndsWith(Error("reader", "read", "Input/output error")));
  EXPECT_EQ(reader.Out(), "");
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

TEST_F(FifoInstantsTest, NothingThereIsNotTheEnd) {
  ChildProcess reader(Faulty("read", "error=EAGAIN:when=1", "READER"));
  EXPECT_EQ(Writer().Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
}

// --- Names -------------------------------------------------------------------

// Of two at once, one has the name.
TEST_F(FifoInstantsTest, TheReaderThatLocksFirstHasTheName) {
  ChildProcess first(StoppedAfter("openat", 1, "READER"));
  first.AwaitStop();  // It has made the FIFO.
  ChildProcess second = Reader();
  second.AwaitErr("waiting for a writer");
  first.Signal(SIGCONT);
  EXPECT_EQ(first.Wait(), Exited(1));
  EXPECT_EQ(first.Err(), Error("reader", "mkfifo", kInUse));
  EXPECT_EQ(Writer({"--timeout", "20"}).Wait(), Exited(0));
  EXPECT_EQ(second.Wait(), Exited(0));
  EXPECT_EQ(second.Out(), "Hello World\n");
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

// Nor does an error take the name from who has it.
TEST_F(FifoInstantsTest, AReaderThatFailsToLockRemovesNobodyElsesName) {
  Words command = StoppedAfter("openat", 1, "READER");
  const auto program = std::ranges::find(command, Command("READER")[0]);
  command.insert(program,
                 {"--trace=openat,flock", "--inject=flock:error=ENOLCK"});
  ChildProcess first(command);
  first.AwaitStop();
  ChildProcess second = Reader();
  second.AwaitErr("waiting for a writer");
  first.Signal(SIGCONT);
  EXPECT_EQ(first.Wait(), Exited(1));
  EXPECT_EQ(first.Err(), Error("reader", "flock", "No locks available"));
  EXPECT_EQ(Writer({"--timeout", "20"}).Wait(), Exited(0));
  EXPECT_EQ(second.Wait(), Exited(0));
}

// The second has opened the FIFO, and the first removes it.
TEST_F(FifoInstantsTest, AReaderThatComesWhenAnotherLeavesIsRefused) {
  ChildProcess first = Reader();
  first.AwaitErr("waiting for a writer");
  ChildProcess second(StoppedAfter("openat", 2, "READER"));
  second.AwaitStop();
  first.Signal(SIGTERM);
  EXPECT_EQ(first.Wait(), Killed(SIGTERM));
  second.Signal(SIGCONT);
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(second.Err(), Error("reader", "mkfifo", kInUse));
  ExpectPairWorks();
}

TEST_F(FifoInstantsTest, ALinkThatComesAtTheLastInstantIsNotFollowed) {
  const std::string target = directory_ / "target";
  MakeLeftover();
  const ipc::UniqueFd peer = OpenTo(O_RDONLY);
  for (const auto& [variable, name] :
       {std::pair("READER", "reader"), {"WRITER", "writer"}}) {
    ChildProcess child(StoppedAfter("openat", 1, variable));
    child.AwaitStop();
    fs::rename(path_, target);
    fs::create_symlink(target, path_);
    child.Signal(SIGCONT);
    EXPECT_EQ(child.Wait(), Exited(1));
    EXPECT_EQ(child.Err(),
              Error(name, "open", "Too many levels of symbolic links"));
    EXPECT_TRUE(fs::is_symlink(path_));
    fs::rename(target, path_);
  }
}

// It would be removed by the reader, and written into by the writer.
TEST_F(FifoInstantsTest, AFileThatComesAtTheLastInstantIsLeft) {
  MakeLeftover();
  for (const auto& [variable, name, call] :
       {std::tuple("READER", "reader", "mkfifo"),
        {"WRITER", "writer", "open"}}) {
    ChildProcess child(StoppedAfter("openat", 1, variable));
    child.AwaitStop();
    fs::remove(path_);
    std::ofstream(path_) << "text";
    child.Signal(SIGCONT);
    EXPECT_EQ(child.Wait(), Exited(1));
    EXPECT_EQ(child.Err(), Error(name, call, kAnotherPrograms));
    EXPECT_EQ(TextOf(path_), "text");
    fs::remove(path_);
    MakeLeftover();
  }
}

TEST_F(FifoInstantsTest, AnotherUsersFifoIsLeftAlone) {
  MakeLeftover();
  const ipc::UniqueFd peer = OpenTo(O_RDONLY);
  for (const auto& [variable, name, call] :
       {std::tuple("READER", "reader", "mkfifo"),
        {"WRITER", "writer", "open"}}) {
    ChildProcess child(WithFault("geteuid", "retval=65533", Command(variable)));
    EXPECT_EQ(child.Wait(), Exited(1));
    EXPECT_EQ(child.Err(), Error(name, call, kAnotherUsers));
    EXPECT_TRUE(fs::is_fifo(path_));
  }
}

TEST_F(FifoInstantsTest, AnOpenThatFailsIsNamedAndLeavesNothing) {
  ChildProcess reader(Faulty("openat", "error=EMFILE:when=1", "READER"));
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Err(), Error("reader", "open", "Too many open files"));
  EXPECT_THAT(directory_.Names(), IsEmpty());
}

// --- Writers that share the FIFO ---------------------------------------------

TEST_F(FifoInstantsTest, AStreamDoesNotComeBetweenRecords) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  ChildProcess record(StoppedAfter("fcntl", 1, "WRITER"));
  record.AwaitStop();  // It has its lock.
  ChildProcess stream = Writer({"-"}, "stream");
  EXPECT_EQ(stream.Wait(), Exited(1));
  EXPECT_EQ(stream.Err(),
            Error("writer", "open",
                  "Device or resource busy; another writer has it"));
  record.Signal(SIGCONT);
  EXPECT_EQ(record.Wait(), Exited(0));
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "Hello World\n");
}

// --- Waits -------------------------------------------------------------------

// Whoever shares the input takes what this writer has been told of.
TEST_F(FifoInstantsTest, InputThatAnotherTakesIsWaitedForAgain) {
  ChildProcess reader = Reader();
  reader.AwaitErr("waiting for a writer");
  EXPECT_EQ(RunWhereAnotherTakesInput(Command("WRITER", {"-"})), "");
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "left");
}

TEST_F(FifoInstantsTest, InterruptedCallsAreMadeAgain) {
  const std::string input = directory_ / "input";
  std::ofstream(input) << "text";
  const auto from_file = [&] {
    ::dup2(::open(input.c_str(), O_RDONLY), STDIN_FILENO);
  };
  // Every second one.
  const std::string fault = "error=EINTR:when=1+2";
  const Words reader = Command("READER");
  const Words writer = Command("WRITER", {"-"});
  const std::pair<Words, Words> pairs[] = {
      {WithFault("read", fault, reader, path_), writer},
      {WithFault("?poll,ppoll", fault, reader), writer},
      {WithFault("write", fault, reader), writer},
      {reader, WithFault("read", fault, writer, input)},
      {reader, WithFault("?poll,ppoll", fault, writer)},
      {reader, WithFault("write", fault, writer, path_)},
  };
  for (const auto& [first, second] : pairs) {
    ChildProcess receiver(first);
    ChildProcess sender(second, "", from_file);
    EXPECT_EQ(sender.Wait(), Exited(0)) << sender.Err();
    EXPECT_EQ(receiver.Wait(), Exited(0)) << receiver.Err();
    EXPECT_EQ(receiver.Out(), "text");
  }
}

// A descriptor's number may be another's by then.
TEST_F(FifoInstantsTest, CloseIsNotCalledAgainWhenItIsInterrupted) {
  const std::string log = directory_ / "log";
  for (const char* program : {"READER", "WRITER"}) {
    // None is really closed, so that each number comes once.
    Words command = Faulty("close", "error=EINTR", program);
    std::ranges::replace(command, "--output=/dev/null", "--output=" + log);
    ChildProcess child(command);
    ChildProcess peer(
        Command(program == std::string("READER") ? "WRITER" : "READER"));
    EXPECT_EQ(child.Wait(), Exited(0)) << child.Err();
    EXPECT_EQ(peer.Wait(), Exited(0)) << peer.Err();
    std::istringstream lines(TextOf(log));
    std::set<std::string> closed;
    for (std::string line; std::getline(lines, line);) {
      EXPECT_TRUE(closed.insert(line).second) << line;
    }
    EXPECT_GT(closed.size(), 0U);
  }
}

}  // namespace
