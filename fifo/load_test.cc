// Many writers of records at once: none is torn, none is lost, and each
// writer's come in its order.
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <map>
#include <random>
#include <sstream>

#include "fifo/fifo.h"
#include "testing/child_process.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;

constexpr int kWriters = 16;
constexpr int kRecords = 500;

// A writer's, of any size up to PIPE_BUF.
std::vector<std::string> RecordsOf(int writer) {
  std::mt19937 random(static_cast<unsigned>(writer));
  std::vector<std::string> records;
  for (int i = 0; i < kRecords; ++i) {
    std::string record = std::to_string(writer) + " " + std::to_string(i) + " ";
    const auto size = record.size() + random() % (PIPE_BUF - record.size());
    // Each some are as long as can be.
    record.resize(i % 10 == 0 ? PIPE_BUF - 1 : size,
                  static_cast<char>('a' + writer));
    records.push_back(record + "\n");
  }
  return records;
}

// In a process of its own: the program writes one record only. `begun` ends
// when all have opened the FIFO: the reader must not see the end before that.
void Write(const std::string& path, int writer, int begun,
           os::UniqueFd not_begun) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ipc::FifoWriter fifo(path, ipc::FifoWriter::Sends::kRecords,
                       ChildProcess::kPatience);
  not_begun.Close();
  os::Block block;
  os::ReadSome(begun, block, "pipe");
  for (const std::string& record : RecordsOf(writer)) {
    fifo.Write(os::Bytes(record));
  }
}

TEST(FifoUnderLoad, NeitherTearsNorLosesRecordsOf16Writers) {
  const ipc_testing::TemporaryDirectory directory;
  const std::string path = directory / "fifo";
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const os::UniqueFd begun(ends[0]);
  os::UniqueFd not_begun(ends[1]);
  std::map<std::string, std::string> sent;  // By writer.
  std::vector<pid_t> writers;
  for (int i = 0; i < kWriters; ++i) {
    for (const auto& record : RecordsOf(i)) sent[std::to_string(i)] += record;
    writers.push_back(::fork());  // Here the test has no threads yet.
    if (writers.back() == 0) {
      ::_exit(os::ExitStatus(
          [&] { Write(path, i, begun.get(), std::move(not_begun)); }));
    }
  }
  not_begun.Close();
  ChildProcess reader({ipc_testing::Program("READER"), "--path", path});
  for (const pid_t writer : writers) {
    int status = -1;
    EXPECT_EQ(::waitpid(writer, &status, 0), writer);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  std::map<std::string, std::string> got;
  std::istringstream out(reader.Out());
  for (std::string line; std::getline(out, line);) {
    got[line.substr(0, line.find(' '))] += line + "\n";
  }
  EXPECT_TRUE(got == sent);
  EXPECT_EQ(directory.Names(), std::vector<std::string>());
}

}  // namespace
