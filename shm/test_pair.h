// What the tests of both pairs of programs share: a writer and a reader on a
// name of their own, started as a user does.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <filesystem>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "name.h"
#include "testing/processes/child_process.h"
#include "testing/processes/manners.h"

namespace ipc_testing {

using Arguments = std::vector<std::string>;

class PairTest : public testing::Test {
 protected:
  // `writer` and `reader` are variables of the BUILD file's. The reader prints
  // `end` behind what it was sent.
  PairTest(const char* writer, const char* reader, std::string end)
      : writer_path_(Program(writer)),
        reader_path_(Program(reader)),
        end_(std::move(end)) {}
  ~PairTest() override {
    EXPECT_FALSE(Object()) << "left behind: " << name_;
    ::shm_unlink(name_.c_str());
  }

  Arguments Writer(const Arguments& arguments = {}) const {
    return Command(writer_path_, arguments);
  }
  Arguments Reader(const Arguments& arguments = {}) const {
    return Command(reader_path_, arguments);
  }
  // A writer that sends the text.
  virtual ChildProcess Sending(const std::string& text) const = 0;

  // The object under the name, if there is one.
  ipc::UniqueFd Object() const {
    return ipc::UniqueFd(::shm_open(name_.c_str(), O_RDWR, 0));
  }
  // One with these bytes: a left-over of ours, or with a `mark` of 0 another
  // program's.
  ipc::UniqueFd MakeObject(const std::string& bytes,
                           mode_t mark = ipc::kOurs) const {
    ipc::UniqueFd fd(
        ::shm_open(name_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600 | mark));
    ipc::WriteAll(fd.get(), bytes, name_);
    return fd;
  }
  std::string Content(const ipc::UniqueFd& object) const {
    const off_t size = ipc::Status(object.get(), name_).st_size;
    std::string content(static_cast<std::size_t>(size), '\0');
    EXPECT_EQ(::pread(object.get(), content.data(), content.size(), 0), size);
    return content;
  }

  // What the program says once it has waited a while,
  std::string Waiting(const std::string& program,
                      const std::string& what) const {
    return program + ": waiting for " + what + " on '" + name_ + "'\n";
  }
  // and of a failure.
  std::string Failure(const std::string& program_and_call,
                      const std::string& reason) const {
    return program_and_call + " '" + name_ + "': " + reason + "\n";
  }
  // What a program is called that this command starts.
  static std::string NameOf(const Arguments& command) {
    return std::filesystem::path(command.front()).filename();
  }

  // The next writer and reader on the name work, whatever happened to the last.
  void ExpectPairWorks() const {
    ChildProcess writer = Sending("next");
    ChildProcess reader(Reader());
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    EXPECT_EQ(reader.Out(), "next" + end_);
    EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  }

  // Each side waits no longer than it is told to. `call` is that in which the
  // writer waits.
  void ExpectTimeoutEndsTheWait(const std::string& call) const {
    for (const auto& [command, what, how] :
         {std::tuple(Reader({"--timeout", "1"}), "a writer",
                     std::string("shm_open")),
          std::tuple(Writer({"--timeout", "1"}), "a reader", call)}) {
      SCOPED_TRACE(NameOf(command));
      ChildProcess process(command);
      EXPECT_EQ(process.Wait(), Exited(1));
      // A machine that is very busy has no time to say that it waits.
      std::string err = process.Err();
      const std::string waiting = Waiting(NameOf(command), what);
      if (err.starts_with(waiting)) err.erase(0, waiting.size());
      EXPECT_EQ(err, Failure(NameOf(command) + ": " + how,
                             std::string("Connection timed out; waited for ") +
                                 what));
    }
  }

  void ExpectSignalEndsTheWait(int signal) const {
    for (const auto& [command, what] :
         {std::pair(Writer(), "a reader"), std::pair(Reader(), "a writer")}) {
      SCOPED_TRACE(NameOf(command));
      ChildProcess process(command);
      process.AwaitErr("waiting for");
      process.Signal(signal);
      EXPECT_EQ(process.Wait(), Killed(signal));
      EXPECT_EQ(process.Err(), Waiting(NameOf(command), what));
    }
  }

  // A pair is run again and again, and one of the two is sent a signal as it
  // makes the first of these calls, the second and so on, until it makes no
  // more. Of some calls only those on the object count: the dynamic linker
  // makes many.
  template <typename Run>
  void AtEachCall(const std::string& calls, const std::string& signal,
                  Run run) const {
    if (!HasStrace()) GTEST_SKIP() << kNoStrace;
    const bool any = calls == "futex" || calls == "write" ||
                     calls == "membarrier" || calls == "poll";
    for (int n = 1;; ++n) {
      SCOPED_TRACE("at call " + std::to_string(n));
      const auto when = "signal=" + signal + ":when=" + std::to_string(n);
      if (run([&](const Arguments& command) {
            return WithFault(calls, when, command,
                             any ? "" : "/dev/shm" + name_);
          }) == Exited(0)) {
        break;
      }
      ASSERT_FALSE(HasFailure());
    }
  }

  // A writer that was killed as it waited is not taken for a living one.
  void ExpectReaderWaitsForTheNextAfterADeadWriter() const {
    {
      ChildProcess writer(Writer());
      writer.AwaitErr("waiting for");
      writer.Signal(SIGKILL);
      writer.Wait();
    }
    ASSERT_TRUE(Object()) << "nothing was left: nothing is tested";
    ChildProcess reader(Reader());
    reader.AwaitErr(Waiting(NameOf(Reader()), "a writer"));
    ChildProcess writer = Sending("message");
    EXPECT_EQ(reader.Wait(), Exited(0));
    EXPECT_EQ(reader.Out(), "message" + end_);
    EXPECT_EQ(writer.Wait(), Exited(0));
  }

  // As a writer that was killed before all was initialised leaves it, and
  // whatever else has our mark: nothing in it is looked at.
  void ExpectUnfinishedObjectIsReclaimed(std::size_t whole) const {
    for (const std::string& content : {std::string(), std::string(whole, '\0'),
                                       RandomBytes(whole), std::string("x")}) {
      SCOPED_TRACE(content.size());
      MakeObject(content);
      ExpectPairWorks();
    }
  }

  // Objects without our mark, with these contents.
  void ExpectSomethingElseIsLeft(
      const std::vector<std::string>& contents) const {
    for (const std::string& content : contents) {
      SCOPED_TRACE(content.size());
      const auto object = MakeObject(content, 0);
      for (const auto& command : {Writer(), Reader()}) {
        SCOPED_TRACE(NameOf(command));
        ChildProcess process(command);
        EXPECT_EQ(process.Wait(), Exited(1));
        EXPECT_EQ(process.Out(), "");
        EXPECT_EQ(process.Err(),
                  Failure(NameOf(command) + ": shm_open", kAnotherPrograms));
      }
      EXPECT_TRUE(Content(object) == content);
      EXPECT_EQ(::shm_unlink(name_.c_str()), 0);
    }
  }

  // It comes after the writer has found that there is no left-over, and before
  // the writer makes its own: that must not take another's in its place.
  void ExpectObjectThatComesAtTheLastInstantIsLeft() const {
    if (!HasStrace()) GTEST_SKIP() << kNoStrace;
    ChildProcess writer(WithFault("openat", "signal=STOP:when=1", Writer(),
                                  "/dev/shm" + name_));
    writer.AwaitStop();
    const auto object = MakeObject("text", 0);
    writer.Signal(SIGCONT);
    EXPECT_EQ(writer.Wait(), Exited(1));
    EXPECT_EQ(writer.Err(),
              Failure(NameOf(Writer()) + ": shm_open", "File exists"));
    EXPECT_EQ(Content(object), "text");
    EXPECT_EQ(::shm_unlink(name_.c_str()), 0);
  }

  // With a size and no memory, or not enough, to store would be SIGBUS, or for
  // read(2) EFAULT. `size` is that of a /dev/shm of its own.
  void ExpectFullSharedMemoryIsAFailure(const std::string& size) const {
    Arguments command{"/usr/bin/unshare", "--mount"};
    if (::geteuid() != 0) command.emplace_back("--map-root-user");
    command.insert(command.end(),
                   {"sh", "-ec",
                    "mount -t tmpfs -o size=" + size + " tmpfs /dev/shm\n" +
                        "head -c 4096 /dev/zero >/dev/shm/filler\n"
                        "status=0\n"
                        "\"$@\" || status=$?\n"
                        "ls /dev/shm\n"
                        "exit $status",
                    "sh"});
    Arguments attempt = command;
    attempt.emplace_back("true");
    ChildProcess possible(attempt);
    if (possible.Wait() != Exited(0)) {
      GTEST_SKIP() << "no /dev/shm of its own: " << possible.Err();
    }
    for (const std::string& word : Writer()) command.push_back(word);
    ChildProcess writer(command, "bytes");
    EXPECT_EQ(writer.Wait(), Exited(1));
    EXPECT_EQ(writer.Err(), Failure(NameOf(Writer()) + ": fallocate",
                                    "No space left on device"));
    EXPECT_EQ(writer.Out(), "filler\n");
  }

  void ExpectObjectIsTheOwnersAlone() const {
    ChildProcess writer(Writer(), "", [] { ::umask(0); });
    writer.AwaitErr("waiting for");
    EXPECT_EQ(ipc::Status(Object().get(), name_).st_mode & 07777U,
              0600U | ipc::kOurs);
    writer.Signal(SIGTERM);
    writer.Wait();
  }

  // `more` is what neither takes.
  void ExpectWrongUsageSaysSo(const std::vector<Arguments>& more) const {
    std::vector<Arguments> commands{
        Writer({"--bogus"}),        Reader({"--bogus"}),
        Writer({"--name"}),         Reader({"--name"}),
        Writer({"--timeout", "x"}), Reader({"--timeout", "-1"}),
    };
    commands.insert(commands.end(), more.begin(), more.end());
    for (const Arguments& command : commands) ExpectWrongUsage(command);
  }

  void ExpectHelpIsOutput() const {
    ExpectHelp(writer_path_);
    ExpectHelp(reader_path_);
  }

  const std::string name_ = UniqueName();

 private:
  Arguments Command(const std::string& program,
                    const Arguments& arguments) const {
    Arguments command{program, "--name", name_};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
  }

  const std::string writer_path_;
  const std::string reader_path_;
  const std::string end_;
};

// For the tests' names: of a signal, and of the first of some calls.
inline std::string SignalName(const testing::TestParamInfo<int>& signal) {
  return ::sigabbrev_np(signal.param);
}
inline std::string CallName(const testing::TestParamInfo<const char*>& calls) {
  std::string name = calls.param;
  std::erase(name, '?');
  return name.substr(0, name.find(','));
}

}  // namespace ipc_testing
