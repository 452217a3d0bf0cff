// Programs that wait: they leave the processor to others. All wait at once, in
// every way that they can, and one second is looked at.
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <list>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "shm/ring.h"
#include "testing/processes/child_process.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::CpuTime;
using ipc_testing::Program;
using std::chrono::nanoseconds;
using Words = std::vector<std::string>;

constexpr char kStrace[] = "/usr/bin/strace";

// How often a side looks at what the kernel has nothing to wait on for.
constexpr int kNever = 0;  // It is woken.
constexpr int kPeer = 2;   // A second: whether a peer lives that it has met.
constexpr int kName = 10;  // A second: whether a peer has come, or makes room.

struct Look {
  int a_second;
  int calls;  // Of one, with the wait until the next.
};
constexpr Look kWoken{kNever, 0};

// A program, and the calls that it makes.
struct Waiting {
  Waiting(std::string state, Look how, const Words& argv, std::string says,
          std::string calls_file)
      : name(std::move(state)),
        look(how),
        until(std::move(says)),
        file(std::move(calls_file)),
        process(Traced(argv), std::nullopt) {}

  Words Traced(const Words& argv) const {
    if (::access(kStrace, X_OK) == -1) return argv;
    // -D: the child is the program. -f: the children of pipe, too.
    Words command{kStrace, "-Dfqqq", "--signal=none", "--output=" + file};
    command.insert(command.end(), argv.begin(), argv.end());
    return command;
  }
  // So far, of itself and its children: proc(5).
  nanoseconds TimeUsed() const {
    const std::string pid = std::to_string(process.pid());
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    nanoseconds sum = process.CpuTime();
    for (pid_t child = 0; children >> child;) sum += CpuTime(child);
    return sum;
  }
  long CallsMade() const {  // A line each.
    std::ifstream in(file);
    return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
  }

  std::string name;
  Look look;
  std::string until;  // What it says, if anything, when it waits.
  std::string file;
  ChildProcess process;
  long calls_before = 0;
  nanoseconds time_before{};
};

class WaitingTest : public testing::Test {
 protected:
  ~WaitingTest() override {
    for (const auto& [unlink, name] : names_) unlink(name.c_str());
  }

  ChildProcess& Wait(const std::string& state, Look look, const char* program,
                     const Words& arguments, const std::string& until = "") {
    Words argv{Program(program)};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    const std::string file = directory_ / std::to_string(all_.size());
    return all_.emplace_back(state, look, argv, until, file).process;
  }
  // A name at which the program has been killed while it waited.
  std::string Leftover(const char* program, const std::string& option,
                       const std::string& name, const std::string& waiting) {
    ChildProcess killed({Program(program), option, name});
    killed.AwaitErr(waiting);
    killed.Signal(SIGKILL);
    killed.Wait();
    return name;
  }
  // Removed at the end.
  std::string Name(int (*unlink)(const char*)) {
    names_.emplace_back(unlink, ipc_testing::UniqueName());
    return names_.back().second;
  }

  const ipc_testing::TemporaryDirectory directory_;
  std::vector<std::pair<int (*)(const char*), std::string>> names_;
  std::list<Waiting> all_;
};

TEST_F(WaitingTest, TakesNoProcessorTimeAndFewCalls) {
  // Shared memory.
  Wait("shm reader without a writer", {kName, 4}, "SHM_READER",
       {"--name", Name(::shm_unlink)}, "waiting");
  Wait("shm reader of a dead writer", {kName, 6}, "SHM_READER",
       {"--name",
        Leftover("SHM_WRITER", "--name", Name(::shm_unlink), "waiting")},
       "waiting");
  Wait("shm writer without a reader", {kName, 2}, "SHM_WRITER",
       {"--name", Name(::shm_unlink)}, "waiting");

  // A ring.
  Wait("ring reader without a writer", {kName, 4}, "SHM_RING_READER",
       {"--name", Name(::shm_unlink)}, "waiting");
  Wait("ring reader of a dead writer", {kName, 6}, "SHM_RING_READER",
       {"--name",
        Leftover("SHM_RING_WRITER", "--name", Name(::shm_unlink), "waiting")},
       "waiting");
  Wait("ring writer without a reader", {kName, 2}, "SHM_RING_WRITER",
       {"--name", Name(::shm_unlink)}, "waiting");
  const std::string idle = Name(::shm_unlink);
  auto& idle_writer = Wait("ring writer without input", {kPeer, 2},
                           "SHM_RING_WRITER", {"--name", idle});
  idle_writer.AwaitErr("waiting");
  auto& idle_reader = Wait("ring reader of an idle writer", {kPeer, 3},
                           "SHM_RING_READER", {"--name", idle});
  idle_writer.Send("x");
  idle_reader.AwaitOut("x");
  const std::string full_ring = Name(::shm_unlink);
  auto& full_writer = Wait("ring writer of a full ring", {kPeer, 3},
                           "SHM_RING_WRITER", {"--name", full_ring});
  full_writer.AwaitErr("waiting");
  auto lazy_reader = ipc::RingReader::TryOpen(full_ring, ipc::kForever);
  ASSERT_TRUE(lazy_reader);
  full_writer.Send(std::string(2 * ipc::RingSide::kCapacity, 'x'));
  lazy_reader->Peek(ipc::RingSide::kCapacity);

  // Memory without a name.
  Wait("memfd reader without a writer", kWoken, "SHM_MEMFD_READER",
       {"--name", ipc_testing::UniqueName()}, "waiting");
  Wait("memfd writer without a reader", {kName, 4}, "SHM_MEMFD_WRITER",
       {"--name", ipc_testing::UniqueName()}, "waiting")
      .CloseInput();
  const std::string memfd = ipc_testing::UniqueName();
  Wait("memfd writer without input", kWoken, "SHM_MEMFD_WRITER",
       {"--name", memfd})
      .Send("x");

  // Pipes.
  auto& pipe = Wait("pipe without input", kWoken, "PIPE", {"-"});
  pipe.Send("x");
  pipe.AwaitOut("x");
  auto& filter = Wait("filter without input", kWoken, "PIPE_FILTER", {"cat"});
  filter.Send("x");
  filter.AwaitOut("x");

  // FIFOs.
  Wait("fifo reader without a writer", kWoken, "FIFO_READER",
       {"--path", directory_ / "fifo1"}, "waiting");
  Wait("fifo writer without a reader", {kName, 4}, "FIFO_WRITER",
       {"--path", directory_ / "fifo2"}, "waiting");
  Wait("fifo writer of a dead reader", {kName, 6}, "FIFO_WRITER",
       {"--path",
        Leftover("FIFO_READER", "--path", directory_ / "fifo3", "waiting")},
       "waiting");
  auto& reader = Wait("fifo reader of a silent writer", kWoken, "FIFO_READER",
                      {"--path", directory_ / "fifo4"});
  auto& writer = Wait("fifo writer without input", kWoken, "FIFO_WRITER",
                      {"--path", directory_ / "fifo4", "-"});
  writer.Send("x");
  reader.AwaitOut("x");
  auto& keeping = Wait("fifo reader that keeps on", kWoken, "FIFO_READER",
                       {"--path", directory_ / "fifo5", "--keep"});
  ChildProcess({Program("FIFO_WRITER"), "--path", directory_ / "fifo5", "x"})
      .Wait();
  keeping.AwaitOut("x");

  // Message queues.
  const std::string queue = Name(::mq_unlink);
  auto& server = Wait("mqueue server without messages", kWoken, "MQUEUE_SERVER",
                      {"--name", queue});
  auto& client = Wait("mqueue client without input", {kPeer, 2},
                      "MQUEUE_CLIENT", {"--name", queue, "-"});
  client.Send("x\n");
  server.AwaitOut("x\n");
  Wait("mqueue client without a server", {kName, 4}, "MQUEUE_CLIENT",
       {"--name", Name(::mq_unlink), "x"}, "waiting");
  Wait("mqueue client of a dead server", {kName, 6}, "MQUEUE_CLIENT",
       {"--name",
        Leftover("MQUEUE_SERVER", "--name", Name(::mq_unlink), "waiting"), "x"},
       "waiting");
  const std::string full = Name(::mq_unlink);
  ChildProcess stopped({Program("MQUEUE_SERVER"), "--name", full});
  stopped.AwaitErr("waiting");
  stopped.Stop();
  auto& sender = Wait("mqueue client at a full queue", {kName, 3},
                      "MQUEUE_CLIENT", {"--name", full, "-"});
  sender.Send("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
  sender.AwaitOut("9\n");

  // Sockets.
  const std::string path = directory_ / "socket1";
  Wait("socket server of a silent client", kWoken, "SOCKET_SERVER",
       {"--unix", path}, "listening");
  auto& silent = Wait("socket client without input", kWoken, "SOCKET_CLIENT",
                      {"--unix", path, "-"});
  silent.Send("x");
  silent.AwaitOut("x");
  Wait("socket client without a server", {kName, 4}, "SOCKET_CLIENT",
       {"--unix", directory_ / "socket2"}, "waiting");
  Wait("socket client of a dead server", {kName, 8}, "SOCKET_CLIENT",
       {"--unix", Leftover("SOCKET_SERVER", "--unix", directory_ / "socket3",
                           "listening")},
       "waiting");

  for (Waiting& one : all_) one.process.AwaitErr(one.until);
  // What is measured, not a wait for it to happen.
  const auto begin = std::chrono::steady_clock::now();
  for (Waiting& one : all_) {
    one.calls_before = one.CallsMade();
    one.time_before = one.TimeUsed();
  }
  std::this_thread::sleep_for(std::chrono::seconds(1));
  struct Used {
    const Waiting& waiting;
    long calls;
    nanoseconds time;
  };
  std::vector<Used> used;
  for (const Waiting& one : all_) {
    used.push_back({one, one.CallsMade() - one.calls_before,
                    one.TimeUsed() - one.time_before});
  }
  // On a busy machine more than a second.
  const std::chrono::duration<double> passed =
      std::chrono::steady_clock::now() - begin;
  for (const Used& one : used) {
    const Look look = one.waiting.look;
    SCOPED_TRACE(one.waiting.name);
    // One look more, half before and half after that second. Some calls at its
    // beginning were still on the way to the wait.
    const double looks = look.a_second * passed.count() + 1;
    EXPECT_LE(static_cast<double>(one.calls), looks * look.calls + 4);
    EXPECT_LE(one.time, passed / 50);  // To look, and to be looked at.
    RecordProperty(one.waiting.name,
                   std::to_string(one.calls) + " calls, " +
                       std::to_string(one.time.count() / 1000) + " us");
  }
  for (Waiting& one : all_) one.process.Signal(SIGTERM);
  stopped.Signal(SIGTERM);
  stopped.Signal(SIGCONT);
  for (Waiting& one : all_) one.process.Wait();  // It removes its name.
  stopped.Wait();
  if (::access(kStrace, X_OK) == -1) {
    GTEST_SKIP() << "calls were not counted: there is no " << kStrace;
  }
}

}  // namespace
