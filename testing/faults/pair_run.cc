#include "testing/faults/pair_run.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "testing/faults/calls.h"

namespace ipc_testing {
namespace {

using std::chrono_literals::operator""ms;  // NOLINT(misc-unused-using-decls):
                                           // it sees no literals.
using std::chrono_literals::operator""s;  // NOLINT(misc-unused-using-decls): it
                                          // sees no literals.
using Clock = std::chrono::steady_clock;
using Words = std::vector<std::string>;

// The programs' own, for their peers. Longer than all waits here: the end of a
// wait for a peer that has died has to come from its death.
constexpr char kTimeout[] = "90";
constexpr char kReady[] = "ing ";  // "listening on", "waiting for".

std::string Joined(const Words& words) {
  std::string joined;
  for (const std::string& word : words) joined += word + " ";
  return joined;
}

bool EndsWithin(ChildProcess& child, std::chrono::milliseconds time) {
  child.set_patience(time);
  bool ended = true;
  try {
    child.Wait();
  } catch (const std::runtime_error&) {
    ended = false;
  }
  child.set_patience(kHang);
  return ended;
}

// All that would tell of a change but for the time of the last access.
auto StateOf(const std::string& path) {
  struct stat status {};
  const int result = ::lstat(path.c_str(), &status);
  return std::tuple(result, status.st_ino, status.st_mode, status.st_nlink,
                    status.st_size, status.st_mtim.tv_sec,
                    status.st_mtim.tv_nsec, status.st_ctim.tv_sec,
                    status.st_ctim.tv_nsec);
}

}  // namespace

std::string Outcome::Printed(const Scenario& scenario) const {
  const Role prints = scenario.mechanism->prints;
  if (scenario.mechanism->Keeps()) {
    return ran[prints].out +
           (heir && prints == scenario.target ? heir->out : "") +
           (later ? later->out : "");
  }
  return heir && prints == scenario.target ? heir->out : ran[prints].out;
}

std::vector<std::string> Command(const Scenario& scenario, Role role,
                                 const std::string& address,
                                 const std::vector<std::string>& operands,
                                 const std::string& timeout) {
  const Mechanism& mechanism = *scenario.mechanism;
  const Side& side = mechanism.sides[role];
  Words command{ipc_testing::Program(side.variable.c_str())};
  command.insert(command.end(), side.arguments.begin(), side.arguments.end());
  if (!mechanism.naming.empty()) {
    command.insert(command.end(), {mechanism.naming, address});
  }
  if (side.times_out) command.insert(command.end(), {"--timeout", timeout});
  command.insert(command.end(), operands.begin(), operands.end());
  return command;
}

Scenario Plain(const Scenario& scenario) {
  Scenario plain = scenario;
  plain.before = Before::kNothing;
  if (scenario.mechanism->HasName()) {
    plain.target = scenario.mechanism->owner;
    plain.target_first = true;
  }
  return plain;
}

PairRun::PairRun(const Scenario& scenario, std::string address,
                 std::vector<std::string> strace)
    : scenario_(scenario),
      mechanism_(*scenario.mechanism),
      address_(std::move(address)),
      strace_(std::move(strace)) {}

Outcome PairRun::Run() {
  if (scenario_.before == Before::kLeftover) LeaveLeftover();
  const auto start = Clock::now();
  switch (scenario_.before) {
    case Before::kStranger:
      RunBesideStranger();
      break;
    case Before::kTaken:
      RunWithNameTaken();
      break;
    default:
      RunPair();
  }
  outcome_.time = Clock::now() - start;
  return std::move(outcome_);
}

// --- The runs ----------------------------------------------------------------

void PairRun::RunPair() {
  if (mechanism_.IsOneProgram()) {
    if (scenario_.target == kReceiver && !strace_.empty()) {
      RunWithTracedChild();
    } else {
      Start(kSender, kTimeout);
    }
    return Finish(kSender);
  }
  const Role peer = scenario_.peer();
  const Role first = scenario_.target_first ? scenario_.target : peer;
  Start(first, kTimeout);
  AwaitReady(*child_[first]);
  if (between_) between_();
  Start(Role(1 - first), kTimeout);
  if (!mechanism_.HasServer() || peer == kSender) FinishPeer();
  Finish(kSender);
  if (mechanism_.ending == Ending::kQuit) Ask(*child_[kReceiver], "quit");
  if (mechanism_.ending == Ending::kSigterm) ServeAndStop();
  Finish(kReceiver);
  if (mechanism_.Keeps()) TakeOver();
}

// An owner that was killed while it waited. A message that it was sent, but had
// not received, stays.
void PairRun::LeaveLeftover() {
  ChildProcess owner(Command(
      scenario_, mechanism_.owner, address_,
      mechanism_.owner == kSender ? scenario_.message->operands : Words{},
      kTimeout));
  owner.set_patience(kHang);
  AwaitReady(owner);
  if (mechanism_.Keeps()) {
    owner.Stop();
    Ask(owner, kLeftMessage);
  }
  owner.Signal(SIGKILL);
  owner.Wait();
}

void PairRun::RunBesideStranger() {
  mechanism_.place.make(address_);
  // A queue has no path: of that there is to see that it still has its name.
  const auto& present = mechanism_.place.present;
  const auto state = StateOf(address_);
  const auto messages =
      mechanism_.Keeps() ? mechanism_.place.messages(address_) : 0;
  Start(scenario_.target, "0");
  Finish(scenario_.target);
  if (present(address_).empty() || StateOf(address_) != state ||
      (mechanism_.Keeps() && mechanism_.place.messages(address_) != messages)) {
    outcome_.spoiled = "the stranger's object is not as it was";
  }
  mechanism_.place.unlink(address_.c_str());
}

// The target has made its name, and waits. Somebody removes it, and another
// owner makes it again. Then the target ends.
void PairRun::RunWithNameTaken() {
  const Role target = scenario_.target;
  Start(target, kTimeout);
  AwaitReady(*child_[target]);
  const auto start = Clock::now();
  while (mechanism_.place.present(address_).empty() &&
         !EndsWithin(*child_[target], 10ms) && Clock::now() - start < kHang) {
  }
  // One that is just ending has asked whose the name is, and removes it: that
  // can't be done at once.
  EndsWithin(*child_[target], 100ms);
  for (const std::string& name : mechanism_.place.present(address_)) {
    mechanism_.place.unlink(name.c_str());
  }
  const Scenario plain = Plain(scenario_);
  PairRun next(plain, address_, {});
  next.between_ = [&] {
    const auto present = mechanism_.place.present(address_);
    Stop(target);
    Finish(target);
    const auto left = mechanism_.place.present(address_);
    for (const std::string& name : present) {
      if (std::ranges::count(left, name) != 0) continue;
      outcome_.spoiled = "it removed its successor's name";
    }
  };
  next.RunPair();
  outcome_.next = std::make_unique<Outcome>(std::move(next.outcome_));
}

// Which child of a traced program to follow can't be said to strace: so the new
// child is held until strace is attached to it. ptrace(2)
void PairRun::RunWithTracedChild() {
  Start(kSender, kTimeout,
        [] { ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); });
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
  Words command;
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

// --- Their parts -------------------------------------------------------------

void PairRun::Start(Role role, const std::string& timeout,
                    const std::function<void()>& in_child) {
  const Message& message = *scenario_.message;
  const bool sends = role == kSender;
  Words command = Command(scenario_, role, address_,
                          sends ? message.operands : Words{}, timeout);
  Ran& ran = outcome_.ran[role];
  ran.program = std::filesystem::path(command.front()).filename();
  const bool child = mechanism_.IsOneProgram() && scenario_.target == kReceiver;
  if (role == scenario_.target && !child) {
    command.insert(command.begin(), strace_.begin(), strace_.end());
  }
  ran.command = Joined(command);
  child_[role] = std::make_unique<ChildProcess>(
      command, sends ? message.input : "", in_child);
  child_[role]->set_patience(kHang);
}

// Until the program waits for its peer, or has ended. Where what it says of
// that may be just what is made to fail, not for long.
void PairRun::AwaitReady(ChildProcess& child) {
  const bool silent = Contains(Joined(strace_), "--inject=write:error");
  if (silent) child.set_patience(500ms);
  try {
    child.AwaitErr(kReady);
  } catch (const std::runtime_error&) {
  }
  child.set_patience(kHang);
}

void PairRun::Finish(Role role) {
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

// Waits for the peer, and for its death where the target died. But if that was
// before they met, the peer rightly waits for the next one, and gets it.
void PairRun::FinishPeer() {
  ChildProcess& target = *child_[scenario_.target];
  ChildProcess& peer = *child_[scenario_.peer()];
  const auto start = Clock::now();
  while (!EndsWithin(peer, 50ms) && !target.HasEnded() &&
         Clock::now() - start < kHang) {
  }
  if (target.HasEnded() && !EndsWithin(peer, 1s)) {
    const bool sends = scenario_.target == kSender;
    Ran& heir = outcome_.heir.emplace();
    ChildProcess child(
        Command(scenario_, scenario_.target, address_,
                sends ? scenario_.message->operands : Words{}, kTimeout),
        sends ? scenario_.message->input : "");
    child.set_patience(kHang);
    const bool met = EndsWithin(peer, kHang) && peer.Wait() == Exited(0);
    const bool serves = mechanism_.HasServer() && !sends;
    if (met && serves && mechanism_.ending == Ending::kQuit) Ask(child, "quit");
    if (met && serves && mechanism_.prints == kReceiver) {
      try {  // What lies in a FIFO when its reader is stopped is lost.
        if (mechanism_.loses) child.AwaitOut(scenario_.Expected());
      } catch (const std::runtime_error&) {
      }
    }
    // One that nobody needed must not leave its own name either.
    if (!met || (serves && mechanism_.ending == Ending::kSigterm)) {
      child.Signal(SIGTERM);
    }
    if (EndsWithin(child, kHang)) heir.end = child.Wait();
    heir.out = child.Out();
    heir.err = child.Err();
  }
  Finish(scenario_.peer());
}

void PairRun::Stop(Role role) {
  outcome_.stopped[role] = !child_[role]->HasEnded();
  child_[role]->Signal(SIGTERM);
}

void PairRun::ServeAndStop() {
  ChildProcess& server = *child_[kReceiver];
  // Twice: the fault may have hit the first one's connection.
  for (int i = 0; i < 2 && !outcome_.served && !server.HasEnded(); ++i) {
    const std::string reply = Ask(server, "fresh");
    try {
      if (mechanism_.prints == kReceiver) server.AwaitOut("fresh\n");
      outcome_.served = mechanism_.prints == kReceiver || reply == "fresh\n";
    } catch (const std::runtime_error&) {
    }
  }
  Stop(kReceiver);
}

// What an untraced sender of that message prints; "" where it fails, or the
// receiver ends first.
std::string PairRun::Ask(ChildProcess& server, const std::string& message) {
  ChildProcess client(Command(scenario_, kSender, address_, {message}, "5"));
  const auto start = Clock::now();
  while (!server.HasEnded() && Clock::now() - start < kHang) {
    if (!EndsWithin(client, 50ms)) continue;
    return client.Wait() == Exited(0) ? client.Out() : "";
  }
  return "";
}

// What an owner has left, the next one prints; it waits for nothing more.
void PairRun::TakeOver() {
  if (mechanism_.place.present(address_).empty()) return;
  outcome_.left = mechanism_.place.messages(address_);
  Ran& later = outcome_.later.emplace();
  ChildProcess next(Command(scenario_, mechanism_.owner, address_, {}, "0"));
  if (EndsWithin(next, kHang)) later.end = next.Wait();
  later.out = next.Out();
  later.err = next.Err();
}

}  // namespace ipc_testing
