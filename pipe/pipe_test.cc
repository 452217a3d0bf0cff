// The header: a pipe, and a child process.
#include "pipe/pipe.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "testing/child_process.h"

namespace {

using ipc::Child;
using ipc::Pipe;

// All that comes until the end.
std::string ReadAll(const Pipe& pipe) {
  std::string all;
  os::Block block;
  while (const auto n = os::ReadSome(pipe.read_end.get(), block, "pipe")) {
    all.append(reinterpret_cast<const char*>(block.data()), n);
  }
  return all;
}

void Write(const Pipe& pipe, std::string_view text) {
  os::WriteAll(pipe.write_end.get(), os::Bytes(text), "pipe");
}

std::string Failure(Child& child) {
  try {
    child.Wait();
  } catch (const os::Error& error) {
    EXPECT_EQ(error.code().value(), EPIPE);
    return error.what();
  }
  return "";
}

TEST(PipeTest, IsNotInheritedByOtherPrograms) {
  const Pipe pipe;
  for (const auto* end : {&pipe.read_end, &pipe.write_end}) {
    EXPECT_EQ(::fcntl(end->get(), F_GETFD), FD_CLOEXEC);
  }
}

// Or the user's pipes together have all that they may. pipe(7)
TEST(PipeTest, HasRoomForMoreThanOneBlock) {
  const Pipe pipe;
  for (const auto* end : {&pipe.read_end, &pipe.write_end}) {
    constexpr int kRoom = 4 * sizeof(os::Block);
    EXPECT_TRUE(::fcntl(end->get(), F_GETPIPE_SZ) == kRoom ||
                ::fcntl(end->get(), F_SETPIPE_SZ, kRoom) == -1);
  }
}

TEST(PipeTest, EndsWhenItsWriteEndIsClosed) {
  Pipe pipe;
  Write(pipe, std::string("a\0b", 3));
  pipe.write_end.Close();
  EXPECT_EQ(ReadAll(pipe), std::string("a\0b", 3));
}

TEST(PipeTest, WithoutReaderIsAFailure) {
  ::signal(SIGPIPE, SIG_IGN);  // As os::Main does.
  Pipe pipe;
  pipe.read_end.Close();
  EXPECT_THROW(Write(pipe, "text"), os::Error);
}

TEST(ChildTest, RunsItsBody) {
  Pipe pipe;
  Child child([&] { Write(pipe, "from the child"); });
  pipe.write_end.Close();
  EXPECT_EQ(ReadAll(pipe), "from the child");
  child.Wait();
}

TEST(ChildTest, FailureIsPassedOn) {
  Child child([] { throw os::UsageError("(a failure that is expected)"); });
  try {
    child.Wait();
    FAIL();
  } catch (const os::Reported& reported) {
    EXPECT_EQ(reported.status, 2);
  }
}

TEST(ChildTest, DeathIsAFailure) {
  Child child([] { ::raise(SIGKILL); });
  EXPECT_EQ(Failure(child),
            "waitpid 'child': Broken pipe; it died of a signal: Killed");
}

TEST(ChildTest, DoesNotOutliveItsObject) {
  Pipe pipe;
  {
    const Child child([] { ::pause(); });
    pipe.write_end.Close();
  }
  EXPECT_EQ(ReadAll(pipe), "");  // The child had a write end, too.
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD) << "a zombie is left";
}

// A child that inherits that SIGTERM is ignored ends all the same.
TEST(ChildTest, EndsWithItsObjectWhateverIsIgnored) {
  ::signal(SIGTERM, SIG_IGN);
  {
    const Child child([] { ::pause(); });
  }
  ::signal(SIGTERM, SIG_DFL);
}

class StdioTest : public testing::Test {
 protected:
  std::string Written() {
    std::fclose(file_);
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }
  ipc_testing::TemporaryDirectory directory_;
  const std::string path_ = directory_ / "file";
  std::FILE* const file_ = std::fopen(path_.c_str(), "w");
};

// What the parent has not flushed is not the child's to flush.
TEST_F(StdioTest, IsWrittenOnceWhereTheChildFlushes) {
  std::fputs("parent\n", file_);
  Child child([&] {
    std::fputs("child\n", file_);
    std::fflush(file_);
  });
  child.Wait();
  EXPECT_EQ(Written(), "parent\nchild\n");
}

// Nor does it end as the parent does, which would flush and destroy.
TEST_F(StdioTest, IsNotFlushedAsTheChildEnds) {
  Child child([&] { std::fputs("child\n", file_); });
  child.Wait();
  EXPECT_EQ(Written(), "");
}

}  // namespace
