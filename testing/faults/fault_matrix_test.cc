// The fault matrix: whatever fails, at whichever system call of whichever
// program, nothing hangs, lies, or is left behind.
//
// Each scenario is a pair of programs, one of which is the target. Its system
// calls are recorded from the start of main on. Then, in a run of its own,
// strace makes each one fail with each error that life has for it, or kills or
// interrupts the program there: a cell of the matrix.
//
//   mechanisms.cc  the rows: what there is to know of each mechanism
//   calls.cc       the columns: what can happen at each call
//   pair_run.cc    one run of a pair
//   judge.cc       what has to hold
//
// Without more a part of all cells is run: see ChoosePart. FAULT_MATRIX=whole
// is all of them; a filter, or CELL=WORD, is all those of a scenario, or those
// whose injection contains the word. Few of them need the processor for long:
// FAULT_MATRIX_THREADS=32 run at once on two processors.
//
//   bazel test //testing/faults:fault_matrix_test --test_output=all
//   ... --test_filter='*ShmWriter*' --test_env=CELL=fallocate
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "testing/faults/calls.h"
#include "testing/faults/judge.h"
#include "testing/faults/mechanisms.h"
#include "testing/faults/pair_run.h"
#include "testing/processes/child_process.h"

namespace ipc_testing {
namespace {

constexpr char kStrace[] = "/usr/bin/strace";

std::string Variable(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// --- One cell ----------------------------------------------------------------

// Not -f: of a pair in one program one process is the target. -D: strace is the
// grandchild. -s: what a program says is to be read.
std::vector<std::string> Strace(const std::string& trace) {
  return {kStrace, "-Dq", "-s200", "-o", trace};
}

Recording Record(const Scenario& scenario, std::string& wrong) {
  const TemporaryDirectory directory;
  const TemporaryDirectory other;
  const std::string address = scenario.mechanism->place.fresh(directory);
  PairRun run(scenario, address, Strace(other / "trace"));
  wrong = Judge(scenario, nullptr, run.Run());
  // A child that its parent makes begins after the start of main.
  const bool child =
      scenario.mechanism->IsOneProgram() && scenario.target == kReceiver;
  return ParseTrace(ReadFile(other / "trace"), child);
}

struct Result {
  std::string wrong;
  bool hit = true;
  double seconds = 0;
};

// A descriptor is closed once, whatever close returned: another may be in its
// place by then.
bool ClosedTwice(const Fault& fault, const std::string& trace) {
  const auto failed = trace.find("(INJECTED)");
  if (fault.call->name != "close" || failed == std::string::npos) return false;
  // Its own line, not the recorded call's: with other attempts before it, it
  // may be of another descriptor.
  const std::string_view lines = trace;
  const auto line = lines.rfind('\n', failed) + 1;  // 0 after npos.
  const auto call = lines.substr(line, lines.find(')', line) + 1 - line);
  return Contains(lines.substr(failed), call);
}

// What is wrong with the next pair under the name of one that was killed.
std::string JudgeNext(const Scenario& scenario, const std::string& address) {
  const Scenario plain = Plain(scenario);
  const Outcome outcome = PairRun(plain, address, {}).Run();
  const std::string wrong = Judge(plain, nullptr, outcome);
  if (!wrong.empty()) return "the next pair: " + wrong;
  return outcome.time < kHang ? "" : "the next pair takes too long";
}

// What has happened, and the command that repeats it.
std::string Explain(const Scenario& scenario, const Fault& fault,
                    const Outcome& outcome) {
  std::ostringstream text;
  const Role first = scenario.target_first ? scenario.target : scenario.peer();
  text << "\n    at: " << fault.call->line << "\n    repeat:";
  for (const Role role : {first, Role(1 - first)}) {
    const Ran& ran = outcome.ran[role];
    if (ran.program.empty()) continue;
    text << (role == first ? " " : "& ") << ran.command;
  }
  if (scenario.mechanism->IsOneProgram() && scenario.target == kReceiver) {
    text << " and at its child: strace -p CHILD --inject=" << fault.Injection();
  }
  const auto say = [&](const std::string& who, const Ran& ran) {
    text << "\n    " << who << ": ";
    if (ran.end.has_value()) {
      text << *ran.end;
    } else {
      text << "hangs";
    }
    text << ", " << ran.out.size() << " bytes of output, says: " << ran.err;
  };
  for (const Ran& ran : outcome.ran) {
    if (!ran.program.empty()) say(ran.program, ran);
  }
  if (outcome.heir) say("the next one", *outcome.heir);
  if (outcome.later) say("the next owner", *outcome.later);
  if (outcome.next) {
    for (const Ran& ran : outcome.next->ran) say("then " + ran.program, ran);
  }
  return text.str();
}

Result RunCell(const Scenario& scenario, const Fault& fault) {
  const Place& place = scenario.mechanism->place;
  const TemporaryDirectory directory;
  const TemporaryDirectory other;
  const std::string address = place.fresh(directory);
  auto strace = Strace(other / "trace");
  strace.push_back("--trace=" + fault.call->name);  // The others cost time.
  strace.push_back("--inject=" + fault.Injection());
  PairRun run(scenario, address, strace);
  const Outcome outcome = run.Run();
  const std::string trace = ReadFile(other / "trace");
  Result result;
  result.seconds = outcome.time.count();
  result.hit = fault.Happened(trace);
  std::string& wrong = result.wrong;
  wrong = Judge(scenario, result.hit ? &fault : nullptr, outcome);
  // Who failed before it could take the name over leaves it to the next, too.
  if (wrong.empty() && result.hit &&
      (fault.Leaves() || scenario.before == Before::kLeftover)) {
    wrong = JudgeNext(scenario, address);
  }
  if (wrong.empty()) {
    auto left = directory.Names();
    if (place.present != nullptr && left.empty()) left = place.present(address);
    for (const std::string& name : left) wrong += "left behind: " + name + " ";
  }
  if (wrong.empty() && ClosedTwice(fault, trace)) {
    wrong = "close was called again";
  }
  if (!wrong.empty()) wrong += Explain(scenario, fault, outcome);
  if (place.unlink != nullptr) {  // Whatever failed.
    for (const std::string& name : place.present(address)) {
      place.unlink(name.c_str());
    }
  }
  return result;
}

// --- The matrix --------------------------------------------------------------

struct Cell {
  Fault fault;
  Result result;
};

// A scenario, and what has come of it.
struct Row {
  Scenario scenario;
  Recording recording;
  std::string wrong;  // With the recording.
  std::vector<Cell> all;
  std::vector<Cell> cells;  // Those that are run.
};

// Does `work` for each of `count` numbers, in threads: most of them wait.
void InThreads(std::size_t count,
               const std::function<void(std::size_t)>& work) {
  const auto usual =
      std::to_string(std::min(16 * std::thread::hardware_concurrency(), 64U));
  const auto threads = std::stoul(Variable("FAULT_MATRIX_THREADS", usual));
  std::atomic<std::size_t> next = 0;
  std::vector<std::thread> all;
  for (std::size_t i = 0; i < threads; ++i) {
    all.emplace_back([&] {
      for (std::size_t n; (n = next++) < count;) work(n);
    });
  }
  for (std::thread& thread : all) thread.join();
}

std::uint32_t Hash(const std::string& key) {
  std::uint32_t hash = 2166136261;  // FNV-1a: the same in any library.
  for (const char c : key) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619;
  }
  return hash;
}

// What there is to learn from a cell, each in a word that other cells may have,
// too.
std::vector<std::string> Lessons(const Scenario& scenario, const Fault& fault) {
  const Call& call = *fault.call;
  const std::string program =
      scenario.side().variable + " " + scenario.side().role + " ";
  std::string at_call;
  if (fault.GoesOn()) {
    at_call = call.name + " goes on";
  } else if (!fault.Kills() && !fault.Stops()) {
    at_call = KindOf(call) + " fails";
  } else if (std::ranges::any_of(FaultsAt(call), &Fault::GoesOn)) {
    at_call = call.name + " " + fault.what;
  } else {
    at_call = call.name + " ends";
  }
  return {scenario.name, fault.what, program + at_call};
}

// The part of the cells from which there is as much to learn as from all. In
// it each program
// - has each kind of its calls fail once,
// - is once interrupted, killed and stopped in each call that can be
//   interrupted, which is where it may wait for its peer,
// - and is killed or stopped at each of its other calls.
// Every error and signal that there is happens to some program, and every
// scenario has a cell.
//
// The cells are gone through in the order of a hash of their names, and one
// from which there is nothing new to learn is left out. So it is the same part
// for the same code, it is spread over scenarios and errors, and where a
// recording has a call more or less, little else changes. Scenarios in which
// the name is somebody else's before or after come last: there the next pair
// removes, or nobody misses, what the target has left.
void ChoosePart(std::vector<Row>& rows) {
  using Place = std::tuple<bool, std::uint32_t, std::string>;
  std::map<Place, std::pair<Row*, const Cell*>> in_order;
  for (Row& row : rows) {
    for (const Cell& cell : row.all) {
      const Call& call = *cell.fault.call;
      const std::string name = row.scenario.name + " " + KindOf(call) + " " +
                               std::to_string(call.when) + " " +
                               cell.fault.what;
      const bool last = row.scenario.before != Before::kNothing;
      in_order.try_emplace({last, Hash(name), name}, &row, &cell);
    }
  }
  std::set<std::string> learned;
  for (const auto& [place, found] : in_order) {
    const auto& [row, cell] = found;
    bool is_new = false;
    for (const std::string& lesson : Lessons(row->scenario, cell->fault)) {
      is_new = learned.insert(lesson).second || is_new;
    }
    if (is_new) row->cells.push_back(*cell);
  }
}

bool IsFiltered() { return GTEST_FLAG_GET(filter) != "*"; }

// All runs come before the first test, so that none of them waits for the
// slowest cell of another. Each test reports its row.
class Matrix : public testing::Environment {
 public:
  void SetUp() override;
  void TearDown() override;

  // Null where nothing can be done.
  const Row* Report(const std::string& name) {
    ++reported_;
    const auto row =
        std::find_if(rows_.begin(), rows_.end(),
                     [&](const Row& one) { return one.scenario.name == name; });
    return row == rows_.end() ? nullptr : &*row;
  }

 private:
  std::vector<Row> rows_;
  std::size_t reported_ = 0;
};

struct Total {
  std::size_t calls = 0, repeats = 0, faults = 0, failed = 0, missed = 0;
  double seconds = 0, slowest = 0;
  std::string slowest_cell;

  void Add(const Row& row) {
    calls += row.recording.made;
    repeats += row.recording.made - row.recording.calls.size();
    for (const auto& [fault, result] : row.cells) {
      ++faults;
      if (!result.wrong.empty()) ++failed;
      if (result.wrong.empty() && !result.hit) ++missed;
      seconds += result.seconds;
      if (result.seconds <= slowest) continue;
      slowest = result.seconds;
      slowest_cell = row.scenario.name + " " + fault.Injection();
    }
  }
  void Print(const std::string& name) const {
    std::cout << "MATRIX " << std::left << std::setw(24) << name << std::right
              << " calls " << std::setw(4) << calls << " (repeats left out "
              << std::setw(3) << repeats << ")  faults " << std::setw(4)
              << faults << "  passed " << std::setw(4)
              << faults - failed - missed << "  failed " << std::setw(3)
              << failed << "  not reached " << std::setw(2) << missed
              << "  seconds " << std::fixed << std::setprecision(1) << seconds
              << "  slowest " << slowest << " s " << slowest_cell << std::endl;
  }
};

void Matrix::SetUp() {
  rows_.clear();  // For --gtest_repeat.
  reported_ = 0;
  if (::access(kStrace, X_OK) != 0) return;
  std::set<std::string> chosen;  // By --gtest_filter.
  const auto& unit = *testing::UnitTest::GetInstance();
  for (int i = 0; i < unit.total_test_suite_count(); ++i) {
    const auto& suite = *unit.GetTestSuite(i);
    for (int k = 0; k < suite.total_test_count(); ++k) {
      const std::string name = suite.GetTestInfo(k)->name();
      if (!suite.GetTestInfo(k)->should_run()) continue;
      chosen.insert(name.substr(name.find('/') + 1));
    }
  }
  for (const Scenario& scenario : Scenarios()) {
    if (!chosen.contains(scenario.name)) continue;
    rows_.push_back({scenario, {}, "", {}, {}});
  }
  InThreads(rows_.size(), [&](std::size_t i) {
    Row& row = rows_[i];
    row.recording = Record(row.scenario, row.wrong);
    for (const Call& call : row.recording.calls) {
      for (const Fault& fault : FaultsAt(call)) row.all.push_back({fault, {}});
    }
  });
  const std::string only = Variable("CELL", "");
  const std::string extent = Variable("FAULT_MATRIX", "part");
  const bool part = extent != "whole" && only.empty() && !IsFiltered();
  for (Row& row : rows_) {
    for (const Cell& cell : row.all) {
      const bool asked = Contains(cell.fault.Injection(), only);
      if (!part && asked) row.cells.push_back(cell);
    }
  }
  if (part) ChoosePart(rows_);

  struct Todo {
    Row* row;
    Cell* cell;
  };
  std::vector<Todo> todo;
  std::map<const Row*, std::size_t> left;
  for (Row& row : rows_) {
    left[&row] = row.cells.size();
    for (Cell& cell : row.cells) todo.push_back({&row, &cell});
  }
  std::mutex mutex;
  InThreads(todo.size(), [&](std::size_t i) {
    const auto& [row, cell] = todo[i];
    // In a loop it may take fewer rounds than before, and not reach the call.
    for (int tries = 0; tries < 3; ++tries) {
      cell->result = RunCell(row->scenario, cell->fault);
      if (cell->result.hit || !cell->result.wrong.empty()) break;
    }
    const std::lock_guard lock(mutex);
    if (--left[row] != 0) return;
    Total total;
    total.Add(*row);
    total.Print(row->scenario.name);
  });
}

void Matrix::TearDown() {
  Total total;
  std::set<std::string> unknown;
  for (const Row& row : rows_) {
    total.Add(row);
    for (const Call& call : row.recording.calls) {
      if (!IsKnown(call)) unknown.insert(call.name);
    }
  }
  total.Print("total");
  for (const std::string& call : unknown) {
    std::cout << "MATRIX calls.cc doesn't know whether this may fail: " << call
              << std::endl;
  }
  // Part of them would pass for all: such as a shard of Bazel's, which the
  // environment can make of any run.
  if (!IsFiltered()) {
    EXPECT_EQ(reported_, Scenarios().size()) << "some scenarios were not run";
  }
}

Matrix* const matrix = new Matrix;  // GoogleTest deletes it.

class FaultMatrix : public testing::TestWithParam<Scenario> {};

TEST_P(FaultMatrix, NoHangNoLieNoTrace) {
  const Row* row = matrix->Report(GetParam().name);
  if (row == nullptr) {
    GTEST_SKIP() << "no " << kStrace << ", so nothing was tested";
  }
  EXPECT_EQ(row->wrong, "") << "where nothing was done to it";
  EXPECT_FALSE(row->recording.calls.empty());
  const bool asked = std::getenv("CELL") != nullptr;
  EXPECT_TRUE(asked || !row->cells.empty()) << "nothing was done to it";
  std::size_t missed = 0;
  for (const auto& [fault, result] : row->cells) {
    if (!result.wrong.empty()) {
      ADD_FAILURE() << row->scenario.name << " " << fault.Injection() << ": "
                    << result.wrong;
    } else if (!result.hit) {
      ++missed;
    }
  }
  // A few are a matter of luck; many would mean that little is tested.
  EXPECT_LE(missed, 2 + row->cells.size() / 5);
}

INSTANTIATE_TEST_SUITE_P(, FaultMatrix, testing::ValuesIn(Scenarios()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace ipc_testing

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(ipc_testing::matrix);
  return RUN_ALL_TESTS();
}
