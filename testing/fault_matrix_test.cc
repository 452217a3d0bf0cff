// The fault matrix: whatever fails, at whichever system call of whichever
// program, nothing hangs, lies, or is left behind.
//
// Each scenario is a pair of programs, one of which is the target. Its system
// calls are recorded from the start of main on. Then, in a run of its own,
// strace makes each one fail with each error that its man page names and that
// life has, or kills or interrupts the program there. Judge() says what has to
// hold. A repeated call is taken the first three times.
//
// strace skips the call that it makes fail. So close isn't made to fail but at
// the end of a program: a descriptor would stay open that in truth is closed
// (close(2)). And where unlink fails the name stays, of course: the next pair
// has to cope with it, as it has after SIGKILL.
//
//   bazel test //testing:fault_matrix_test --test_output=all
//   ... --test_filter='*ShmWriter*' --test_env=CELL=ftruncate   (some of it)
#include <fcntl.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "testing/child_process.h"

namespace ipc_testing {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using Clock = std::chrono::steady_clock;

constexpr char kStrace[] = "/usr/bin/strace";
// The contract says two seconds; a busy machine takes longer.
constexpr auto kHang = 15s;
// The programs' own, for their peers. Longer than all waits here: the end of a
// wait for a peer that has died has to come from its death.
constexpr char kTimeout[] = "90";
constexpr char kReady[] = "ing ";  // "listening on", "waiting for".
constexpr int kThreads = 8;  // Cells mostly wait: more than there are CPUs.
constexpr int kRepeats = 3;  // Of one call, in loops.

enum class Mechanism { kShm, kRing, kPipe, kFifo, kMqueue, kUnix, kTcp };
enum Role { kReceiver, kSender };  // A server is a receiver.

struct Scenario {
  std::string name;
  Mechanism mechanism;
  Role target;
  bool target_first;
  std::string message;   // The sender's operand.
  std::string input;     // The sender's standard input.
  std::string expected;  // What is printed.
  bool stale = false;    // An owner was killed before, and left its name.

  bool IsSocket() const {
    return mechanism == Mechanism::kUnix || mechanism == Mechanism::kTcp;
  }
  bool IsMemory() const {
    return mechanism == Mechanism::kShm || mechanism == Mechanism::kRing;
  }
  bool HasName() const {
    return mechanism != Mechanism::kPipe && mechanism != Mechanism::kTcp;
  }
  Role Owner() const { return IsMemory() ? kSender : kReceiver; }
  bool HasServer() const {
    return IsSocket() || mechanism == Mechanism::kMqueue;
  }
  bool HasPath() const {
    return mechanism == Mechanism::kFifo || mechanism == Mechanism::kUnix;
  }
};

void PrintTo(const Scenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

std::vector<Scenario> Scenarios() {
  struct Kind {
    Mechanism mechanism;
    std::string name, receiver, sender, message;
  };
  const std::string bytes = RandomBytes(100'000);
  std::vector<Scenario> scenarios;
  for (const auto& [mechanism, name, receiver, sender, message] :
       {Kind{Mechanism::kShm, "Shm", "Reader", "Writer", "Hello World"},
        Kind{Mechanism::kRing, "Ring", "Reader", "Writer", "-"},
        Kind{Mechanism::kPipe, "Pipe", "Child", "Parent", "Hello World!"},
        Kind{Mechanism::kPipe, "Pipe", "Child", "Parent", "-"},
        Kind{Mechanism::kFifo, "Fifo", "Reader", "Writer", "Hello World"},
        Kind{Mechanism::kFifo, "Fifo", "Reader", "Writer", "-"},
        Kind{Mechanism::kMqueue, "Mqueue", "Server", "Client", "Hello World"},
        Kind{Mechanism::kMqueue, "Mqueue", "Server", "Client", "-"},
        Kind{Mechanism::kUnix, "Unix", "Server", "Client", "Hello World"},
        Kind{Mechanism::kUnix, "Unix", "Server", "Client", "-"},
        Kind{Mechanism::kTcp, "Tcp", "Server", "Client", "Hello World"}}) {
    const bool stream = message == "-";
    const bool lines = mechanism == Mechanism::kMqueue;
    const std::string input = !stream ? "" : lines ? "one\ntwo\n" : bytes;
    for (const Role target : {kReceiver, kSender}) {
      for (const bool first : {true, false}) {
        if (mechanism == Mechanism::kPipe && !first) continue;
        scenarios.push_back({name + (target == kReceiver ? receiver : sender) +
                                 (mechanism == Mechanism::kPipe ? ""
                                  : first                       ? "First"
                                                                : "Second") +
                                 (stream ? "Stream" : ""),
                             mechanism, target, first, message, input,
                             stream ? input : message + "\n"});
      }
    }
  }
  return scenarios;
}

// Those again in which the owner of a name takes over what a dead one has left.
std::vector<Scenario> WithStaleNames(std::vector<Scenario> scenarios) {
  for (std::size_t i = scenarios.size(); i-- > 0;) {
    Scenario heir = scenarios[i];
    if (heir.target == heir.Owner() && heir.target_first && heir.HasName() &&
        (heir.message != "-" || heir.mechanism == Mechanism::kRing)) {
      heir.name += "Stale";
      heir.stale = true;
      scenarios.push_back(heir);
    }
  }
  return scenarios;
}

// --- Faults ------------------------------------------------------------------

struct Call {
  std::string name;
  int when;          // The how-many-eth of this name since the process began.
  std::string line;  // strace's.
  bool serving;      // Made by a server that has begun to listen.
  bool last_close;   // The program ends after it.
};

bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The errors that the call's man page names and that happen in life. A call
// that is not here is only killed and interrupted at.
std::vector<std::string> Errors(const Call& call) {
  using Names = std::vector<std::string>;
  static const std::map<std::string, Names> kErrors{
      {"accept4",
       {"EINTR", "EAGAIN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS",
        "ENOMEM", "EPERM", "EPROTO"}},
      {"bind", {"EACCES", "EADDRINUSE", "EADDRNOTAVAIL", "ENOMEM", "EROFS"}},
      {"clone", {"EAGAIN", "ENOMEM"}},
      {"clone3", {"EAGAIN", "ENOMEM"}},
      {"connect",
       {"EINTR", "EACCES", "EADDRNOTAVAIL", "EAGAIN", "ECONNREFUSED",
        "ENETUNREACH", "EPERM", "ETIMEDOUT"}},
      {"epoll_create1", {"EMFILE", "ENFILE", "ENOMEM"}},
      {"epoll_ctl", {"ENOMEM", "ENOSPC"}},
      {"epoll_wait", {"EINTR"}},
      {"fchmod", {"EIO", "ENOMEM", "EPERM", "EROFS"}},
      {"flock", {"EINTR", "ENOLCK"}},
      {"ftruncate", {"EINTR", "EFBIG", "EIO", "EPERM"}},
      {"getsockname", {"ENOBUFS"}},
      {"getsockopt", {"ENOBUFS", "ENOMEM"}},
      {"listen", {"EADDRINUSE"}},
      {"membarrier", {"EINVAL", "ENOSYS", "EPERM"}},
      {"mknodat", {"EACCES", "EDQUOT", "EEXIST", "ENOMEM", "ENOSPC", "EROFS"}},
      {"mq_open",
       {"EACCES", "EEXIST", "EINVAL", "EMFILE", "ENFILE", "ENOENT", "ENOMEM",
        "ENOSPC"}},
      {"mq_timedreceive", {"EINTR", "EAGAIN"}},
      {"mq_timedsend", {"EINTR", "EAGAIN"}},
      {"mq_unlink", {"EACCES", "ENOENT"}},
      {"openat",
       {"EINTR", "EACCES", "EDQUOT", "EEXIST", "EMFILE", "ENFILE", "ENOENT",
        "ENOMEM", "ENOSPC", "ENXIO", "EROFS"}},
      {"pipe2", {"EMFILE", "ENFILE"}},
      {"poll", {"EINTR", "ENOMEM"}},
      {"pread64", {"EINTR", "EIO"}},
      {"read", {"EINTR", "EAGAIN", "EIO"}},
      {"recvfrom",
       {"EINTR", "EAGAIN", "ECONNREFUSED", "ECONNRESET", "ENOMEM",
        "ETIMEDOUT"}},
      {"sendto",
       {"EINTR", "EAGAIN", "ECONNRESET", "ENOBUFS", "ENOMEM", "EPIPE"}},
      {"setsockopt", {"ENOBUFS", "ENOMEM"}},
      {"shutdown", {"ENOBUFS", "ENOTCONN"}},
      {"socket", {"EACCES", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"}},
      {"unlink", {"EACCES", "EBUSY", "EIO", "ENOMEM", "EPERM", "EROFS"}},
      {"wait4", {"EINTR", "ECHILD"}},
      {"write",
       {"EINTR", "EAGAIN", "EDQUOT", "EFBIG", "EIO", "ENOSPC", "EPIPE"}}};
  static const Names kStatus{"ENOMEM"};
  static const Names kPathStatus{"EACCES", "ENOENT", "ENOMEM"};
  // Not EAGAIN: "another process has the lock" would be a lie.
  static const Names kLock{"EINTR", "ENOLCK"};
  static const Names kMap{"EAGAIN", "ENFILE", "ENOMEM"};
  static const Names kWait{"EINTR", "EAGAIN", "ETIMEDOUT"};
  static const Names kWake{"EFAULT", "EINVAL"};
  if (call.name == "newfstatat" || call.name == "fstat") {
    return Contains(call.line, "AT_FDCWD") ? kPathStatus : kStatus;
  }
  if (call.name == "fcntl" && Contains(call.line, "F_OFD_")) return kLock;
  if (Contains(call.line, "F_SETPIPE_SZ")) return {"EPERM"};
  // Other memory is malloc's, and no sample's business.
  if (call.name == "mmap" && Contains(call.line, "MAP_SHARED")) return kMap;
  if (call.name == "futex" && Contains(call.line, "FUTEX_WAIT")) return kWait;
  if (call.name == "futex" && Contains(call.line, "FUTEX_WAKE")) return kWake;
  if (call.name == "close" && call.last_close) return {"EINTR", "EIO"};
  const auto found = kErrors.find(call.name);
  return found == kErrors.end() ? Names{} : found->second;
}

struct Cell {
  Call call;
  std::string fault;  // As strace takes it: "error=EIO", "signal=SIGKILL".

  bool Kills() const { return fault == "signal=SIGKILL"; }
  bool Stops() const { return fault == "signal=SIGTERM"; }
  bool Interrupts() const { return fault == "error=EINTR"; }
  // A name may stay.
  bool Leaves() const {
    return Kills() || (Contains(call.name, "unlink") && !Stops());
  }
  std::string Injection() const {
    return call.name + ":" + fault + ":when=" + std::to_string(call.when);
  }
};

// --- One run of a pair -------------------------------------------------------

struct Ran {
  std::string program;  // "" where there is none: a pipe is one program.
  std::string command;
  std::optional<End> end;  // None: it hangs.
  std::string out;
  std::string err;
};

struct Outcome {
  Ran ran[2];               // By Role.
  std::optional<Ran> heir;  // Who took the target's place.
  bool stopped = false;     // The socket server, by our SIGTERM,
  bool served = false;      // after it had served a fresh client.
  std::string address;
  std::chrono::duration<double> time{};

  std::string Printed(const Scenario& scenario) const {
    const Role prints =
        scenario.IsSocket() || scenario.mechanism == Mechanism::kPipe
            ? kSender
            : kReceiver;
    return heir && prints == scenario.target ? heir->out : ran[prints].out;
  }
};

std::string Binary(Mechanism mechanism, Role role) {
  switch (mechanism) {
    case Mechanism::kShm:
      return Program(role == kReceiver ? "SHM_READER" : "SHM_WRITER");
    case Mechanism::kRing:
      return Program(role == kReceiver ? "SHM_RING_READER" : "SHM_RING_WRITER");
    case Mechanism::kPipe:
      return Program("PIPE");
    case Mechanism::kFifo:
      return Program(role == kReceiver ? "FIFO_READER" : "FIFO_WRITER");
    case Mechanism::kMqueue:
      return Program(role == kReceiver ? "MQUEUE_SERVER" : "MQUEUE_CLIENT");
    default:
      return Program(role == kReceiver ? "SOCKET_SERVER" : "SOCKET_CLIENT");
  }
}

std::vector<std::string> Command(const Scenario& scenario, Role role,
                                 const std::string& address,
                                 const std::string& timeout = kTimeout) {
  std::vector<std::string> command{Binary(scenario.mechanism, role)};
  if (scenario.mechanism != Mechanism::kPipe) {
    command.emplace_back(scenario.mechanism == Mechanism::kFifo   ? "--path"
                         : scenario.mechanism == Mechanism::kUnix ? "--unix"
                         : scenario.mechanism == Mechanism::kTcp  ? "--tcp"
                                                                  : "--name");
    command.push_back(address);
    if (!scenario.IsSocket() || role == kSender) {
      command.insert(command.end(), {"--timeout", timeout});
    }
  }
  // All that the ring streams is standard input: no operand says so.
  if (role == kSender && scenario.mechanism != Mechanism::kRing) {
    command.push_back(scenario.message);
  }
  return command;
}

// `strace` is what goes before the target's command, and may be nothing.
class PairRun {
 public:
  PairRun(const Scenario& scenario, std::string address,
          std::vector<std::string> strace)
      : scenario_(scenario), strace_(std::move(strace)) {
    outcome_.address = std::move(address);
  }

  Outcome Run() {
    if (scenario_.stale && !strace_.empty()) LeaveStale();
    const auto start = Clock::now();
    if (scenario_.mechanism == Mechanism::kPipe) {
      if (scenario_.target == kReceiver && !strace_.empty()) {
        RunWithTracedChild();
      } else {
        Start(kSender);
      }
    } else {
      const Role peer = Role(1 - scenario_.target);
      const Role first = scenario_.target_first ? scenario_.target : peer;
      Start(first);
      AwaitWaiting(first);
      Start(Role(1 - first));
      const bool serves = scenario_.HasServer() && peer == kReceiver;
      if (!serves) FinishPeer(peer);
    }
    Finish(kSender);
    if (scenario_.mechanism == Mechanism::kMqueue) {
      AskServer(*child_[kReceiver], "quit");
    }
    if (scenario_.IsSocket()) ServeAndStop();
    Finish(kReceiver);
    outcome_.time = Clock::now() - start;
    return std::move(outcome_);
  }

 private:
  void Start(
      Role role, const std::function<void()>& in_child = [] {}) {
    auto command = Command(scenario_, role, outcome_.address);
    outcome_.ran[role].program =
        std::filesystem::path(command.front()).filename();
    const bool child = scenario_.mechanism == Mechanism::kPipe &&
                       scenario_.target == kReceiver;
    if (role == scenario_.target && !child) {
      command.insert(command.begin(), strace_.begin(), strace_.end());
    }
    for (const std::string& word : command) {
      outcome_.ran[role].command += "'" + word + "' ";
    }
    child_[role] = std::make_unique<ChildProcess>(
        command, role == kSender ? scenario_.input : "", in_child);
    child_[role]->set_patience(kHang);
  }

  void LeaveStale() {
    ChildProcess owner(Command(scenario_, scenario_.Owner(), outcome_.address));
    owner.AwaitErr(kReady);
    owner.Signal(SIGKILL);
    owner.Wait();
  }

  // Until the first program waits for the second, or has ended. Not for long:
  // what it says of that may be just what is made to fail.
  void AwaitWaiting(Role role) {
    ChildProcess& first = *child_[role];
    first.set_patience(500ms);
    try {
      first.AwaitErr(kReady);
    } catch (const std::runtime_error&) {
    }
    first.set_patience(kHang);
  }

  // Which child of a traced program to follow can't be said to strace: so the
  // new child is held until strace is attached to it. ptrace(2)
  void RunWithTracedChild() {
    Start(kSender, [] { ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); });
    const pid_t parent = child_[kSender]->pid();
    int status = 0;
    ::waitpid(parent, &status, 0);  // At exec.
    ::ptrace(PTRACE_SETOPTIONS, parent, nullptr, PTRACE_O_TRACEFORK);
    ::ptrace(PTRACE_CONT, parent, nullptr, nullptr);
    ::waitpid(parent, &status, 0);  // At fork.
    unsigned long child = 0;
    ::ptrace(PTRACE_GETEVENTMSG, parent, nullptr, &child);
    const auto pid = static_cast<pid_t>(child);
    ::waitpid(pid, &status, __WALL);
    ::ptrace(PTRACE_DETACH, pid, nullptr, SIGSTOP);
    // Without -D and -q, which would not say when it is attached.
    std::vector<std::string> command;
    for (const std::string& word : strace_) {
      if (word != "-Dq") command.push_back(word);
    }
    command.push_back("--attach=" + std::to_string(pid));
    strace_of_child_ = std::make_unique<ChildProcess>(command);
    try {
      strace_of_child_->AwaitErr("attached");
    } catch (const std::runtime_error&) {
    }
    ::ptrace(PTRACE_DETACH, parent, nullptr, nullptr);
    ::kill(pid, SIGCONT);
  }

  void Finish(Role role) {
    Ran& ran = outcome_.ran[role];
    if (child_[role] == nullptr) return;
    try {
      ran.end = child_[role]->Wait();
      if (strace_of_child_ != nullptr) strace_of_child_->Wait();
    } catch (const std::runtime_error&) {
    }
    ran.out = child_[role]->Out();
    ran.err = child_[role]->Err();
  }

  static bool EndsWithin(ChildProcess& child, std::chrono::milliseconds time) {
    child.set_patience(time);
    try {
      child.Wait();
    } catch (const std::runtime_error&) {
      child.set_patience(kHang);
      return false;
    }
    return true;
  }

  // Waits for the peer, and for its death where the target died. But if that
  // was before they met, the peer rightly waits for the next one, and gets it.
  void FinishPeer(Role role) {
    ChildProcess& target = *child_[scenario_.target];
    ChildProcess& peer = *child_[role];
    const auto start = Clock::now();
    while (!EndsWithin(peer, 50ms) && !target.HasEnded() &&
           Clock::now() - start < kHang) {
    }
    if (target.HasEnded() && !EndsWithin(peer, 1s)) {
      Ran& heir = outcome_.heir.emplace();
      ChildProcess child(Command(scenario_, scenario_.target, outcome_.address),
                         scenario_.target == kSender ? scenario_.input : "");
      child.set_patience(kHang);
      const bool met = EndsWithin(peer, kHang) && peer.Wait() == Exited(0);
      if (met && scenario_.mechanism == Mechanism::kMqueue) {
        AskServer(child, "quit");
      }
      // One that nobody needed must not leave its own name either.
      if (!met || scenario_.IsSocket()) child.Signal(SIGTERM);
      if (EndsWithin(child, kHang)) heir.end = child.Wait();
      heir.out = child.Out();
      heir.err = child.Err();
    }
    Finish(role);
  }

  // What an untraced client with that message prints; "" where it fails, or the
  // server ends first.
  std::string AskServer(ChildProcess& server, const std::string& message) {
    auto command = Command(scenario_, kSender, outcome_.address, "5");
    command.back() = message;
    ChildProcess client(command);
    const auto start = Clock::now();
    while (!server.HasEnded() && Clock::now() - start < kHang) {
      if (!EndsWithin(client, 50ms)) continue;
      return client.Wait() == Exited(0) ? client.Out() : "";
    }
    return "";
  }

  void ServeAndStop() {
    ChildProcess& server = *child_[kReceiver];
    // Twice: the fault may have hit the first one's connection.
    for (int i = 0; i < 2 && !outcome_.served && !server.HasEnded(); ++i) {
      outcome_.served = AskServer(server, "fresh") == "fresh\n";
    }
    outcome_.stopped = !server.HasEnded();
    server.Signal(SIGTERM);
  }

  const Scenario& scenario_;
  std::vector<std::string> strace_;
  std::unique_ptr<ChildProcess> child_[2];
  std::unique_ptr<ChildProcess> strace_of_child_;
  Outcome outcome_;
};

// --- The oracle --------------------------------------------------------------

// What a program says beyond that it waits.
std::vector<std::string> Complaints(const std::string& err) {
  std::vector<std::string> complaints;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    if (!Contains(line, ": waiting for ") &&
        !Contains(line, ": listening on ")) {
      complaints.push_back(line);
    }
  }
  return complaints;
}

// What is wrong with how this program ended, or "". `cell` is null for a pair
// to which nothing is done.
std::string JudgeEnd(const Scenario& scenario, const Cell* cell, Role role,
                     const Outcome& outcome) {
  static const std::regex kFormat(R"(\w+: [a-z_0-9]+ '[^']*': .+)");
  const Ran& ran = outcome.ran[role];
  if (ran.program.empty()) return "";
  if (!ran.end.has_value()) return ran.program + " hangs";
  const auto complaints = Complaints(ran.err);
  std::ostringstream wrong;
  wrong << ran.program << " " << *ran.end;
  if (ran.end->signal != 0) {
    const bool target = role == scenario.target && cell != nullptr;
    const bool stopped =
        outcome.stopped && role == kReceiver && *ran.end == Killed(SIGTERM);
    if (!stopped && !(target && cell->Kills() && *ran.end == Killed(SIGKILL)) &&
        !(target && cell->Stops() && *ran.end == Killed(SIGTERM))) {
      return wrong.str();
    }
    // The child of a killed parent may well say what it has lost.
    if (complaints.size() >
        (scenario.mechanism == Mechanism::kPipe && cell->Kills() ? 1 : 0)) {
      wrong << " and says: " << ran.err;
      return wrong.str();
    }
    return "";
  }
  if (ran.end->status == 0) {
    if (complaints.empty()) return "";
    wrong << " but says: " << ran.err;
    return wrong.str();
  }
  const bool child = scenario.mechanism == Mechanism::kPipe;
  if (cell == nullptr) return wrong.str() + ", saying: " + ran.err;
  if (cell->Stops() && role == scenario.target && !child) {
    return wrong.str() + " where it had to die of SIGTERM";
  }
  if (ran.end->status == 1 && complaints.size() == 1 &&
      std::regex_match(complaints[0], kFormat)) {
    return "";
  }
  return wrong.str() + ", not in one line that names the call: " + ran.err;
}

// What is wrong with a run in which `cell` was done to the target, or "".
std::string Judge(const Scenario& scenario, const Cell* cell,
                  const Outcome& outcome) {
  for (const Role role : {kReceiver, kSender}) {
    std::string wrong = JudgeEnd(scenario, cell, role, outcome);
    if (!wrong.empty()) return wrong;
  }
  const auto mechanism = scenario.mechanism;
  const Ran& peer = outcome.ran[1 - scenario.target];
  if (outcome.heir && peer.end == Exited(0) &&
      outcome.heir->end !=
          (scenario.IsSocket() ? Killed(SIGTERM) : Exited(0))) {
    return "the next " + outcome.ran[scenario.target].program +
           " fails: " + outcome.heir->err;
  }
  const bool sent = *outcome.ran[kSender].end == Exited(0);
  const bool received = outcome.ran[kReceiver].end == Exited(0);
  const bool whole = outcome.Printed(scenario) == scenario.expected;
  const bool healthy =
      sent && whole &&
      (mechanism == Mechanism::kPipe ||
       (scenario.IsSocket() ? outcome.stopped && outcome.served : received));
  if (cell == nullptr || cell->Interrupts()) {
    return healthy ? ""
                   : "the transfer is not whole, or the server didn't live";
  }
  // What is written into a FIFO or a queue may be lost with its receiver, and a
  // FIFO's end is the same whether its writer finished or died: README.md.
  const bool loses =
      (mechanism == Mechanism::kFifo || mechanism == Mechanism::kMqueue) &&
      scenario.target == kReceiver && !received;
  if (sent && !whole && !loses) return "the sender's exit status 0 is a lie";
  // A message queue's server ends when we say "quit", whatever was sent.
  const bool cannot_tell =
      mechanism == Mechanism::kMqueue ||
      (mechanism == Mechanism::kFifo && scenario.target == kSender);
  if (received && !whole && !(cannot_tell && !sent)) {
    return "the receiver's exit status 0 is a lie";
  }
  const bool fatal = cell->Kills() || cell->Stops();
  const bool serving = scenario.target == kSender || cell->call.serving;
  if (scenario.IsSocket() && serving &&
      !(fatal && scenario.target == kReceiver) &&
      !(outcome.stopped && outcome.served)) {
    return "the server doesn't serve any more";
  }
  return "";
}

// What is left under the name, or "".
std::string Leftover(const Scenario& scenario, const std::string& name,
                     const TemporaryDirectory& directory) {
  std::string left;
  for (const std::string& file : directory.Names()) left += file + " ";
  if (scenario.IsMemory() && ::shm_open(name.c_str(), O_RDONLY, 0) != -1) {
    ::shm_unlink(name.c_str());
    left = name;
  }
  if (scenario.mechanism == Mechanism::kMqueue &&
      ::mq_open(name.c_str(), O_RDONLY) != -1) {
    ::mq_unlink(name.c_str());
    left = name;
  }
  return left;
}

// What is wrong with the next pair under the name of one that was killed.
std::string JudgeNext(const Scenario& scenario, const Outcome& outcome) {
  if (scenario.mechanism == Mechanism::kMqueue) {
    // What was sent to a dead server, "quit" too, is the next one's: it says so
    // or finds nothing and gives up at once.
    ChildProcess heir(Command(scenario, kReceiver, outcome.address, "0"));
    heir.set_patience(kHang);
    const End end = heir.Wait();
    if (end != Exited(0) && !Contains(heir.Err(), "waited for a message")) {
      return "the next server: " + heir.Err();
    }
  }
  PairRun next(scenario, outcome.address, {});
  const Outcome ran = next.Run();
  const std::string wrong = Judge(scenario, nullptr, ran);
  if (!wrong.empty()) return "the next pair: " + wrong;
  return ran.time < kHang ? "" : "the next pair takes too long";
}

// --- The matrix --------------------------------------------------------------

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<std::string> Strace(const std::string& trace,
                                const std::string& inject) {
  // Not -f: only a pipe's program forks. -D: strace is the grandchild.
  std::vector<std::string> strace{kStrace, "-Dq", "-s200", "-o", trace};
  if (!inject.empty()) strace.push_back("--inject=" + inject);
  return strace;
}

struct Result {
  std::string wrong;
  bool hit = true;
  double seconds = 0;
  std::string repeat;  // The command line that repeats it.
};

struct Total {
  std::size_t calls = 0, repeats = 0, faults = 0, passed = 0, failed = 0,
              missed = 0;
  double slowest = 0;
  std::string slowest_cell;
};
Total grand_total;

// Known before the server says it, which may be made to fail. Below those that
// the kernel gives to clients.
std::string FreePort() {
  static std::atomic<unsigned> count = 0;
  for (;;) {
    const unsigned port =
        10'000 + (static_cast<unsigned>(::getpid()) * 977 + count++) % 20'000;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // Another thread's child may have it, too, until its exec: that must not
    // keep the server from binding.
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const int bound =
        ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    ::close(fd);
    if (bound == 0) return "127.0.0.1:" + std::to_string(port);
  }
}

std::string NewAddress(const Scenario& scenario, const std::string& name,
                       const TemporaryDirectory& directory) {
  if (scenario.mechanism == Mechanism::kTcp) return FreePort();
  return scenario.HasPath() ? directory / "name" : name;
}

class FaultMatrix : public testing::TestWithParam<Scenario> {
 protected:
  // The calls of the target where nothing is done to it.
  std::vector<Call> Record(Total& total) {
    const TemporaryDirectory directory;
    const TemporaryDirectory other;
    const Scenario& scenario = GetParam();
    const std::string address = NewAddress(scenario, UniqueName(), directory);
    PairRun run(scenario, address, Strace(other / "trace", ""));
    const Outcome outcome = run.Run();
    EXPECT_EQ(Judge(scenario, nullptr, outcome), "");
    // os::Main begins with it. A pipe's child begins after that.
    bool recording =
        scenario.mechanism == Mechanism::kPipe && scenario.target == kReceiver;
    bool serving = false;
    std::map<std::string, int> count;
    std::map<std::string, int> alike;
    std::vector<Call> calls;
    static const std::regex kCall(R"((\w+)\(.*)");
    static const std::regex kVaries(R"("[^"]*"|0x[0-9a-f]+|\d+)");
    std::istringstream lines(ReadFile(other / "trace"));
    for (std::string line; std::getline(lines, line);) {
      std::smatch match;
      if (!std::regex_match(line, match, kCall)) continue;
      const int when = ++count[match[1]];
      recording = recording || line.starts_with("fcntl(0, F_GETFD");
      if (!recording) continue;
      ++total.calls;
      if (++alike[std::regex_replace(line, kVaries, "")] > kRepeats) {
        ++total.repeats;
      } else {
        calls.push_back({match[1], when, line, serving, false});
      }
      serving = serving || Contains(line, "listening on");
    }
    const auto last = std::find_if(
        calls.rbegin(), calls.rend(),
        [](const Call& call) { return call.name != "exit_group"; });
    if (last != calls.rend()) last->last_close = last->name == "close";
    EXPECT_FALSE(calls.empty());
    return calls;
  }

  static Result RunCell(const Scenario& scenario, const Cell& cell) {
    const std::string name = UniqueName();
    const TemporaryDirectory directory;
    const TemporaryDirectory other;
    const std::string trace = other / "trace";
    PairRun run(scenario, NewAddress(scenario, name, directory),
                Strace(trace, cell.Injection()));
    const Outcome outcome = run.Run();
    Result result;
    result.seconds = outcome.time.count();
    result.hit = Hit(scenario, cell, outcome, ReadFile(trace));
    result.wrong = Judge(scenario, result.hit ? &cell : nullptr, outcome);
    // Who failed before it could take the name over leaves it to the next, too.
    if (result.wrong.empty() && result.hit &&
        (cell.Leaves() || scenario.stale)) {
      result.wrong = JudgeNext(scenario, outcome);
    }
    if (result.wrong.empty()) {
      const std::string left = Leftover(scenario, name, directory);
      if (!left.empty()) result.wrong = "left behind: " + left;
    }
    if (result.wrong.empty() && ClosedTwice(cell, ReadFile(trace))) {
      result.wrong = "close was called again";
    }
    if (!result.wrong.empty()) Explain(scenario, cell, outcome, result);
    Leftover(scenario, name, directory);  // Whatever failed.
    return result;
  }

 private:
  static bool Hit(const Scenario& scenario, const Cell& cell,
                  const Outcome& outcome, const std::string& trace) {
    if (cell.Kills()) return Contains(trace, "+++ killed by SIGKILL");
    if (!cell.Stops()) return Contains(trace, "(INJECTED)");
    // We send one too, to a socket server in the end.
    const bool ours = outcome.stopped && scenario.target == kReceiver;
    const auto first = trace.find("--- SIGTERM");
    return first != std::string::npos &&
           (!ours || trace.find("--- SIGTERM", first + 1) != std::string::npos);
  }

  // A descriptor is closed once, whatever close returned: another may be in its
  // place by then.
  static bool ClosedTwice(const Cell& cell, const std::string& trace) {
    const auto failed = trace.find("(INJECTED)");
    if (cell.call.name != "close" || failed == std::string::npos) return false;
    const std::string& line = cell.call.line;
    return Contains(std::string_view(trace).substr(failed),
                    line.substr(0, line.find(')') + 1));
  }

  static void Explain(const Scenario& scenario, const Cell& cell,
                      const Outcome& outcome, Result& result) {
    std::ostringstream text;
    const Role first =
        scenario.target_first ? scenario.target : Role(1 - scenario.target);
    if (scenario.mechanism == Mechanism::kPipe) {
      text << "    repeat: " << outcome.ran[kSender].command;
      if (scenario.target == kReceiver) {
        text << " and at its child: strace -p CHILD --inject="
             << cell.Injection();
      }
    } else {
      text << "    repeat: " << outcome.ran[first].command << "& "
           << outcome.ran[1 - first].command;
    }
    for (const Ran& ran : outcome.ran) {
      if (ran.program.empty()) continue;
      text << "\n    " << ran.program << ": ";
      if (ran.end.has_value()) {
        text << *ran.end;
      } else {
        text << "hangs";
      }
      text << ", " << ran.out.size() << " bytes of output, says: " << ran.err;
    }
    result.repeat = text.str();
  }
};

std::size_t Hash(const std::string& key) {
  std::uint32_t hash = 2166136261;  // FNV-1a: the same in any library.
  for (const char c : key) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619;
  }
  return hash >> 8;
}

// --runs_per_test numbers the runs: 0 without it.
std::size_t RunNumber() {
  const char* run = std::getenv("TEST_RANDOM_SEED");
  return run == nullptr ? 0 : std::stoul(run);
}

// Whether this run has the scenario and the cell. Fifty runs have all: each one
// a tenth of the scenarios, of which a fifth of the cells.
bool IsOurs(const Scenario& scenario) {
  return RunNumber() == 0 || Hash(scenario.name) % 10 == RunNumber() % 10;
}
bool IsOurs(const std::string& cell) {
  return RunNumber() == 0 || Hash(cell) / 64 % 5 == RunNumber() / 10 % 5;
}

// Whether this shard has the cell: the same whatever each has recorded.
bool IsOfThisShard(const std::string& cell) {
  const char* index = std::getenv("FAULT_MATRIX_SHARD_INDEX");
  const char* count = std::getenv("FAULT_MATRIX_TOTAL_SHARDS");
  return index == nullptr || count == nullptr ||
         Hash(cell) % std::stoul(count) == std::stoul(index);
}

void PrintRow(const std::string& name, const Total& total) {
  std::cout << "MATRIX " << std::left << std::setw(26) << name << std::right
            << " calls " << std::setw(4) << total.calls << " (repeats left out "
            << std::setw(3) << total.repeats << ")  faults " << std::setw(4)
            << total.faults << "  passed " << std::setw(4) << total.passed
            << "  failed " << std::setw(3) << total.failed << "  not reached "
            << std::setw(2) << total.missed << "  slowest " << std::fixed
            << std::setprecision(1) << total.slowest << " s "
            << total.slowest_cell << std::endl;
}

TEST_P(FaultMatrix, NoHangNoLieNoTrace) {
  if (::access(kStrace, X_OK) != 0) {
    GTEST_SKIP() << "SKIPPED: no " << kStrace << ", so nothing was tested";
  }
  const Scenario& scenario = GetParam();
  if (!IsOurs(scenario)) GTEST_SKIP() << "another of the runs has it";
  Total total;
  std::vector<Cell> cells;
  const char* only = std::getenv("CELL");
  for (const Call& call : Record(total)) {
    std::vector<std::string> faults{"signal=SIGKILL"};
    // Once in exit_group, it is too late for a handler.
    if (call.name != "exit_group") faults.emplace_back("signal=SIGTERM");
    for (const std::string& error : Errors(call)) {
      faults.push_back("error=" + error);
    }
    for (const std::string& fault : faults) {
      const Cell cell{call, fault};
      if (only != nullptr && !Contains(cell.Injection(), only)) continue;
      const std::string key = scenario.name + cell.Injection();
      if (IsOurs(key) && IsOfThisShard(key)) cells.push_back(cell);
    }
  }

  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  auto work = [&] {
    for (std::size_t i; (i = next++) < cells.size();) {
      const Cell& cell = cells[i];
      Result result = FaultMatrix::RunCell(scenario, cell);
      // In a loop, it took fewer rounds than before.
      for (int again = 0; again < 2 && !result.hit && result.wrong.empty();
           ++again) {
        result = FaultMatrix::RunCell(scenario, cell);
      }
      const std::lock_guard lock(mutex);
      ++total.faults;
      if (!result.wrong.empty()) {
        ++total.failed;
        ADD_FAILURE() << scenario.name << " " << cell.Injection() << ": "
                      << result.wrong << "\n    at: " << cell.call.line << "\n"
                      << result.repeat;
      } else if (!result.hit) {
        ++total.missed;
      } else {
        ++total.passed;
      }
      if (result.seconds > total.slowest) {
        total.slowest = result.seconds;
        total.slowest_cell = cell.Injection();
      }
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();

  PrintRow(scenario.name, total);
  grand_total.calls += total.calls;
  grand_total.repeats += total.repeats;
  grand_total.faults += total.faults;
  grand_total.passed += total.passed;
  grand_total.failed += total.failed;
  grand_total.missed += total.missed;
  if (total.slowest > grand_total.slowest) {
    grand_total.slowest = total.slowest;
    grand_total.slowest_cell = scenario.name + " " + total.slowest_cell;
  }
  // A few are a matter of luck; many would mean that little is tested.
  EXPECT_LE(total.missed, 2 + total.faults / 5);
}

INSTANTIATE_TEST_SUITE_P(Pairs, FaultMatrix,
                         testing::ValuesIn(WithStaleNames(Scenarios())),
                         [](const auto& test) { return test.param.name; });

class Environment : public testing::Environment {
  void TearDown() override { PrintRow("total of this shard", grand_total); }
};

}  // namespace
}  // namespace ipc_testing

int main(int argc, char** argv) {
  // GoogleTest would give each shard some of the scenarios, of which some take
  // far longer than others: each gets some cells of all instead.
  for (const std::string part : {"SHARD_INDEX", "TOTAL_SHARDS"}) {
    const char* value = std::getenv(("TEST_" + part).c_str());
    if (value == nullptr) continue;
    ::setenv(("FAULT_MATRIX_" + part).c_str(), value, 1);
    ::unsetenv(("TEST_" + part).c_str());
    ::unsetenv(("GTEST_" + part).c_str());
  }
  // What tells Bazel that the test divides itself.
  if (const char* file = std::getenv("TEST_SHARD_STATUS_FILE")) {
    std::ofstream touch(file);
  }
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new ipc_testing::Environment);
  return RUN_ALL_TESTS();
}
