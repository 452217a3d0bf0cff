// Many writers of records at once: none is torn, none is lost, and each
// writer's come in its order.
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <array>
#include <climits>
#include <csignal>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "fifo/test_pair.h"
#include "name.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;

constexpr int kWriters = 16;

using FifoUnderLoad = ipc_testing::FifoTest;

// A writer's, of any size up to PIPE_BUF, each a line.
std::vector<std::string> RecordsOf(int writer, int count) {
  std::mt19937 random(static_cast<unsigned>(writer));
  std::vector<std::string> records;
  for (int i = 0; i < count; ++i) {
    std::string record = std::to_string(writer) + " " + std::to_string(i) + " ";
    const auto size = record.size() + random() % (PIPE_BUF - record.size());
    // Each some are as long as can be.
    record.resize(i % 10 == 0 ? PIPE_BUF - 1 : size,
                  static_cast<char>('a' + writer));
    records.push_back(record + "\n");
  }
  return records;
}

// By writer.
using Lines = std::map<std::string, std::string>;

Lines AllRecords(int count) {
  Lines lines;
  for (int i = 0; i < kWriters; ++i) {
    for (const auto& record : RecordsOf(i, count)) {
      lines[std::to_string(i)] += record;
    }
  }
  return lines;
}

Lines ByWriter(const std::string& output) {
  Lines lines;
  std::istringstream out(output);
  for (std::string line; std::getline(out, line);) {
    lines[line.substr(0, line.find(' '))] += line + "\n";
  }
  return lines;
}

// What writes without a pause, in a process of its own. `begun` ends when all
// have opened the FIFO: the reader must not see the end before that.
int Write(const std::string& path, int writer, int count, int begun,
          ipc::UniqueFd not_begun) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const ipc::UniqueFd fifo(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  not_begun = ipc::UniqueFd();
  char none = 0;
  if (!fifo || ::read(begun, &none, 1) != 0) return 1;
  for (const std::string& record : RecordsOf(writer, count)) {
    const auto written = ::write(fifo.get(), record.data(), record.size());
    if (written != static_cast<ssize_t>(record.size())) return 2;
  }
  return 0;
}

TEST_F(FifoUnderLoad, TheReaderLosesNoRecordsOf16Writers) {
  constexpr int kRecords = 500;
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const ipc::UniqueFd begun(ends[0]);
  ipc::UniqueFd not_begun(ends[1]);
  std::vector<pid_t> writers;
  // They can't make it: this is what a reader that was killed has left.
  MakeFifo(0644 | ipc::kOurs);
  for (int i = 0; i < kWriters; ++i) {
    writers.push_back(::fork());  // Here the test has no threads yet.
    if (writers.back() == 0) {
      ::_exit(Write(path_, i, kRecords, begun.get(), std::move(not_begun)));
    }
  }
  not_begun = ipc::UniqueFd();
  ChildProcess reader = Reader();
  for (const pid_t writer : writers) {
    int status = -1;
    EXPECT_EQ(::waitpid(writer, &status, 0), writer);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_TRUE(ByWriter(reader.Out()) == AllRecords(kRecords));
  EXPECT_TRUE(directory_.Names().empty());
}

// The program writes one record only. The reader stays in between.
TEST_F(FifoUnderLoad, ProgramsNeitherTearNorLoseRecords) {
  constexpr int kRecords = 25;
  ChildProcess reader = Reader({"--keep"});
  std::vector<std::unique_ptr<ChildProcess>> writers;
  const std::string loop =
      "while IFS= read -r record; do"
      "  \"$0\" --path \"$1\" \"$record\" || exit;"
      "done";
  for (int i = 0; i < kWriters; ++i) {
    std::string records;
    for (const auto& record : RecordsOf(i, kRecords)) records += record;
    writers.push_back(std::make_unique<ChildProcess>(
        std::vector<std::string>{"/bin/sh", "-c", loop,
                                 ipc_testing::Program("WRITER"), path_},
        records));
  }
  for (const auto& writer : writers) {
    EXPECT_EQ(writer->Wait(), Exited(0)) << writer->Err();
  }
  EXPECT_EQ(ChildProcess(Command("WRITER", {"end"})).Wait(), Exited(0));
  reader.AwaitOut("end\n");
  reader.Signal(SIGTERM);
  EXPECT_EQ(reader.Wait(), Killed(SIGTERM));
  Lines sent = AllRecords(kRecords);
  sent["end"] = "end\n";
  EXPECT_TRUE(ByWriter(reader.Out()) == sent);
  EXPECT_TRUE(directory_.Names().empty());
}

}  // namespace
