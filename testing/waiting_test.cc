// Programs that wait: they leave the processor to others. All wait at once, in
// every way that they can, and one second is looked at.
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <list>

#include "posix.h"
#include "shm/ring.h"
#include "testing/child_process.h"

namespace {

using ipc_testing::ChildProcess;
using ipc_testing::CpuTime;
using std::chrono::nanoseconds;
using Words = std::vector<std::string>;

constexpr char kStrace[] = "/usr/bin/strace";

// A program, and the calls that it makes.
struct Waiting {
  // Where the kernel wakes it, none; else those of one look for a name, or
  // after a peer, and of the pause that follows.
  Waiting(std::string state, int calls_a_look, const Words& argv,
          std::string calls_file)
      : name(std::move(state)),
        calls(calls_a_look),
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
  int calls;
  std::string file;
  ChildProcess process;
  long calls_before = 0;
  nanoseconds time_before{};
};

class WaitingTest : public testing::Test {
 protected:
  ChildProcess& Wait(const std::string& state, int calls_a_look,
                     const char* program, const Words& arguments) {
    Words argv{ipc_testing::Program(program)};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    const std::string file = directory_ / std::to_string(all_.size());
    return all_.emplace_back(state, calls_a_look, argv, file).process;
  }
  // A name at which the program has been killed while it waited.
  std::string Stale(const char* program, const std::string& option,
                    const std::string& name, const std::string& waiting) {
    ChildProcess killed({ipc_testing::Program(program), option, name});
    killed.AwaitErr(waiting);
    killed.Signal(SIGKILL);
    killed.Wait();
    return name;
  }
  // Removed at the end.
  std::string Name(os::OwnedName::Unlink unlink) {
    std::string name = ipc_testing::UniqueName();
    names_.emplace_back(unlink, name);
    return name;
  }

  const ipc_testing::TemporaryDirectory directory_;
  std::list<os::OwnedName> names_;
  std::list<Waiting> all_;
};

TEST_F(WaitingTest, TakesNoProcessorTimeAndFewCalls) {
  // Shared memory.
  Wait("shm reader without a writer", 2, "SHM_READER",
       {"--name", Name(::shm_unlink)})
      .AwaitErr("waiting");
  Wait("shm reader of a dead writer", 10, "SHM_READER",
       {"--name", Stale("SHM_WRITER", "--name", Name(::shm_unlink), "waiting")})
      .AwaitErr("waiting");
  Wait("shm writer without a reader", 1, "SHM_WRITER",
       {"--name", Name(::shm_unlink)})
      .AwaitErr("waiting");

  // A ring.
  Wait("ring reader without a writer", 2, "SHM_RING_READER",
       {"--name", Name(::shm_unlink)})
      .AwaitErr("waiting");
  Wait("ring writer without a reader", 1, "SHM_RING_WRITER",
       {"--name", Name(::shm_unlink)})
      .AwaitErr("waiting");
  const std::string idle = Name(::shm_unlink);
  auto& idle_writer =
      Wait("ring writer without input", 2, "SHM_RING_WRITER", {"--name", idle});
  idle_writer.AwaitErr("waiting");
  auto& idle_reader = Wait("ring reader of an idle writer", 3,
                           "SHM_RING_READER", {"--name", idle});
  idle_writer.Send("x");
  idle_reader.AwaitOut("x");
  const std::string full_ring = Name(::shm_unlink);
  auto& full_writer = Wait("ring writer of a full ring", 3, "SHM_RING_WRITER",
                           {"--name", full_ring});
  ipc::RingReader lazy_reader(full_ring, os::kForever);
  full_writer.Send(std::string(2 * ipc::RingSide::kCapacity, 'x'));
  lazy_reader.Peek(ipc::RingSide::kCapacity);

  // Pipes.
  auto& pipe = Wait("pipe without input", 0, "PIPE", {"-"});
  pipe.Send("x");
  pipe.AwaitOut("x");

  // FIFOs.
  Wait("fifo reader without a writer", 0, "FIFO_READER",
       {"--path", directory_ / "fifo1"})
      .AwaitErr("waiting");
  Wait("fifo writer without a reader", 3, "FIFO_WRITER",
       {"--path", directory_ / "fifo2"})
      .AwaitErr("waiting");
  Wait("fifo writer of a dead reader", 4, "FIFO_WRITER",
       {"--path",
        Stale("FIFO_READER", "--path", directory_ / "fifo3", "waiting")})
      .AwaitErr("waiting");
  auto& reader = Wait("fifo reader of a silent writer", 0, "FIFO_READER",
                      {"--path", directory_ / "fifo4"});
  auto& writer = Wait("fifo writer without input", 0, "FIFO_WRITER",
                      {"--path", directory_ / "fifo4", "-"});
  writer.Send("x");
  reader.AwaitOut("x");

  // Message queues.
  const std::string queue = Name(::mq_unlink);
  auto& server = Wait("mqueue server without messages", 0, "MQUEUE_SERVER",
                      {"--name", queue});
  auto& client = Wait("mqueue client without input", 2, "MQUEUE_CLIENT",
                      {"--name", queue, "-"});
  client.Send("x\n");
  server.AwaitOut("x\n");
  Wait("mqueue client without a server", 2, "MQUEUE_CLIENT",
       {"--name", Name(::mq_unlink), "x"})
      .AwaitErr("waiting");
  Wait("mqueue client of a dead server", 6, "MQUEUE_CLIENT",
       {"--name",
        Stale("MQUEUE_SERVER", "--name", Name(::mq_unlink), "waiting"), "x"})
      .AwaitErr("waiting");
  const std::string full = Name(::mq_unlink);
  ChildProcess stopped({ipc_testing::Program("MQUEUE_SERVER"), "--name", full});
  stopped.AwaitErr("waiting");
  stopped.Stop();
  auto& sender = Wait("mqueue client at a full queue", 3, "MQUEUE_CLIENT",
                      {"--name", full, "-"});
  sender.Send("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
  sender.AwaitOut("9\n");

  // Sockets.
  const std::string path = directory_ / "socket1";
  Wait("socket server of a silent client", 0, "SOCKET_SERVER", {"--unix", path})
      .AwaitErr("listening");
  auto& silent = Wait("socket client without input", 0, "SOCKET_CLIENT",
                      {"--unix", path, "-"});
  silent.Send("x");
  silent.AwaitOut("x");
  Wait("socket client without a server", 2, "SOCKET_CLIENT",
       {"--unix", directory_ / "socket2"})
      .AwaitErr("waiting");
  Wait("socket client of a dead server", 6, "SOCKET_CLIENT",
       {"--unix",
        Stale("SOCKET_SERVER", "--unix", directory_ / "socket3", "listening")})
      .AwaitErr("waiting");

  // First they look more often.
  os::Pause(3 * os::kLook);
  const auto begin = std::chrono::steady_clock::now();
  for (Waiting& one : all_) {
    one.calls_before = one.CallsMade();
    one.time_before = one.TimeUsed();
  }
  os::Pause(std::chrono::seconds(1));  // What is measured, not a wait.
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
  for (const auto& [waiting, calls, time] : used) {
    SCOPED_TRACE(waiting.name);
    // Two looks a second, and one more, half before and half after it. Some
    // calls at its beginning were still on the way to the wait.
    const double looks = passed / os::kLook + 1;
    EXPECT_LE(static_cast<double>(calls), looks * waiting.calls + 2);
    EXPECT_LE(waiting.calls, 10) << "more than 20 a second";
    EXPECT_LE(time, passed / 50);  // To look, and to be looked at, takes some.
    RecordProperty(waiting.name, std::to_string(calls) + " calls, " +
                                     std::to_string(time.count() / 1000) +
                                     " us");
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
