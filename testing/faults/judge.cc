#include "testing/faults/judge.h"

#include <signal.h>

#include <algorithm>
#include <regex>
#include <sstream>
#include <vector>

namespace ipc_testing {
namespace {

using Words = std::vector<std::string>;

Words Lines(const std::string& text) {
  Words lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

Words SortedLines(const std::string& text) {
  Words lines = Lines(text);
  std::sort(lines.begin(), lines.end());
  return lines;
}

// What a program says beyond that it waits, or has left messages.
Words Complaints(const std::string& err) {
  Words complaints = Lines(err);
  std::erase_if(complaints, [](const std::string& line) {
    return Contains(line, ": waiting for ") ||
           Contains(line, ": listening on ") ||
           (Contains(line, "left in '") && Contains(line, "' for the next "));
  });
  return complaints;
}

// What is wrong with how this program ended, or "".
std::string JudgeEnd(const Scenario& scenario, const Fault* fault, Role role,
                     const Outcome& outcome) {
  static const std::regex kFormat(R"(\w+: [a-z_0-9]+ '[^']*': .+)");
  const Ran& ran = outcome.ran[role];
  if (ran.program.empty()) return "";
  if (!ran.end.has_value()) return ran.program + " hangs";
  const Words complaints = Complaints(ran.err);
  std::ostringstream wrong;
  wrong << ran.program << " " << *ran.end;
  const bool target = role == scenario.target && fault != nullptr;
  if (ran.end->signal != 0) {
    const bool stopped = outcome.stopped[role] && *ran.end == Killed(SIGTERM);
    if (!stopped &&
        !(target && fault->Kills() && *ran.end == Killed(SIGKILL)) &&
        !(target && fault->Stops() && *ran.end == Killed(SIGTERM))) {
      return wrong.str();
    }
    // The child of a killed parent may well say what it has lost. And the
    // signal may come when an error is being said, or has been.
    const bool child = scenario.mechanism->IsOneProgram();
    const bool failed = scenario.before == Before::kStranger;
    const bool said =
        target && (fault->Kills() ? child || failed
                                  : failed && (fault->call->too_late ||
                                               fault->call->name == "write"));
    if (complaints.size() > (said ? 1 : 0)) {
      return wrong.str() + " and says: " + ran.err;
    }
    return "";
  }
  if (ran.end->status == 0) {
    if (complaints.empty()) return "";
    return wrong.str() + " but says: " + ran.err;
  }
  if (fault == nullptr && scenario.before != Before::kStranger) {
    return wrong.str() + ", saying: " + ran.err;
  }
  if (target && fault->Stops() && !fault->call->too_late) {
    return wrong.str() + " where it had to die of SIGTERM";
  }
  const bool silenced = target && fault->call->line.starts_with("write(2, ");
  if (ran.end->status == 1 &&
      (complaints.size() == 1 ? std::regex_match(complaints[0], kFormat)
                              : complaints.empty() && silenced)) {
    return "";
  }
  return wrong.str() + ", not in one line that names the call: " + ran.err;
}

// Of the messages of owners that keep them: what was acknowledged is printed by
// one of them. Only one that is killed may lose the one that it had received.
std::string JudgeKept(const Scenario& scenario, const Fault* fault,
                      const Outcome& outcome) {
  if (outcome.left.has_value()) {
    const bool may_stay = fault != nullptr && fault->Leaves();
    if (*outcome.left == 0 && !may_stay) return "left behind without a message";
    const Ran& owner = outcome.ran[scenario.mechanism->owner];
    const bool said = Contains(owner.err, "left in '");
    // A later one may have left it.
    if (*outcome.left != 0 && !may_stay && !outcome.heir && !said &&
        scenario.before != Before::kLeftover) {
      return "messages were left without a word";
    }
    if (!outcome.later->end.has_value()) return "the next owner hangs";
    if (*outcome.later->end != Exited(0) &&
        !Contains(outcome.later->err, "waited for a message")) {
      return "the next owner fails: " + outcome.later->err;
    }
  }
  Words safe;
  if (scenario.mechanism->acknowledges) {
    safe = SortedLines(outcome.ran[kSender].out);
  }
  if (scenario.before == Before::kLeftover) {
    safe.insert(std::lower_bound(safe.begin(), safe.end(), kLeftMessage),
                kLeftMessage);
  }
  const Words printed = SortedLines(outcome.Printed(scenario));
  Words lost;
  std::set_difference(safe.begin(), safe.end(), printed.begin(), printed.end(),
                      std::back_inserter(lost));
  const bool killed = fault != nullptr && fault->Kills() &&
                      scenario.target == scenario.mechanism->owner;
  if (lost.size() > (killed ? 1 : 0)) {
    return "lost, though acknowledged: " + lost[0];
  }
  const Words expected = SortedLines(scenario.Expected());
  Words more;
  std::set_difference(printed.begin(), printed.end(), expected.begin(),
                      expected.end(), std::back_inserter(more));
  return more.empty() ? "" : "printed, but never sent: " + more[0];
}

// What is wrong with what was handed over, or "".
std::string JudgeTransfer(const Scenario& scenario, const Fault* fault,
                          const Outcome& outcome) {
  const Mechanism& mechanism = *scenario.mechanism;
  const Ran& peer = outcome.ran[scenario.peer()];
  const bool until_stopped = mechanism.ending == Ending::kSigterm;
  if (outcome.heir && peer.end == Exited(0)) {
    const bool serves = scenario.target == kReceiver && until_stopped;
    if (outcome.heir->end != (serves ? Killed(SIGTERM) : Exited(0))) {
      return "the next " + outcome.ran[scenario.target].program +
             " fails: " + outcome.heir->err;
    }
  }
  const bool sent = outcome.ran[kSender].end == Exited(0);
  const bool received = outcome.ran[kReceiver].end == Exited(0);
  const bool serves = outcome.stopped[kReceiver] && outcome.served;
  const std::string expected = scenario.Expected();
  std::string printed = outcome.Printed(scenario);
  const bool fresh = mechanism.prints == kReceiver && outcome.served &&
                     printed.ends_with("fresh\n");
  if (fresh) printed.resize(printed.size() - std::string("fresh\n").size());
  // A message that could not be printed is put back, behind the others.
  const bool whole = mechanism.Keeps()
                         ? SortedLines(printed) == SortedLines(expected)
                         : printed == expected;
  if (mechanism.Keeps()) {
    std::string wrong = JudgeKept(scenario, fault, outcome);
    if (!wrong.empty()) return wrong;
  }
  if (fault == nullptr || fault->GoesOn()) {
    const bool ended =
        mechanism.IsOneProgram() || (until_stopped ? serves : received);
    return sent && whole && ended && !outcome.left
               ? ""
               : "the transfer is not whole, or the receiver didn't live";
  }
  const bool failed = scenario.target == kReceiver && !received;
  const bool killed = failed && fault->Kills();
  if (sent && !whole && !(mechanism.loses && failed) &&
      !(mechanism.Keeps() && killed)) {
    return "the sender's exit status 0 is a lie";
  }
  const bool cannot_tell =
      mechanism.receipt == Receipt::kNothing ||
      (mechanism.receipt == Receipt::kNoFailure && scenario.target == kSender);
  if (received && !whole && !(cannot_tell && !sent)) {
    return "the receiver's exit status 0 is a lie";
  }
  const bool fatal = fault->Kills() || fault->Stops();
  const bool serving = scenario.target == kSender || fault->call->serving;
  if (until_stopped && serving && !(fatal && scenario.target == kReceiver) &&
      !serves) {
    return "the server doesn't serve any more";
  }
  return "";
}

std::string JudgeEnds(const Scenario& scenario, const Fault* fault,
                      const Outcome& outcome) {
  std::string wrong = JudgeEnd(scenario, fault, kReceiver, outcome);
  return wrong.empty() ? JudgeEnd(scenario, fault, kSender, outcome) : wrong;
}

// What is wrong with the owner whose name was taken away, and with the pair
// that then used it.
std::string JudgeTaken(const Scenario& scenario, const Fault* fault,
                       const Outcome& outcome) {
  const Ran& target = outcome.ran[scenario.target];
  if (!target.out.empty()) return target.program + " prints: " + target.out;
  if ((fault == nullptr || fault->GoesOn()) && target.end != Killed(SIGTERM)) {
    return target.program + " doesn't wait until it is stopped";
  }
  const Scenario plain = Plain(scenario);
  std::string wrong = JudgeEnds(plain, nullptr, *outcome.next);
  if (wrong.empty()) wrong = JudgeTransfer(plain, nullptr, *outcome.next);
  return wrong.empty() ? "" : "the next pair: " + wrong;
}

}  // namespace

std::string Judge(const Scenario& scenario, const Fault* fault,
                  const Outcome& outcome) {
  const std::string wrong = JudgeEnds(scenario, fault, outcome);
  if (!wrong.empty() || !outcome.spoiled.empty()) {
    return wrong + outcome.spoiled;
  }
  const Ran& target = outcome.ran[scenario.target];
  switch (scenario.before) {
    case Before::kStranger:
      if (target.end != Exited(0) && target.out.empty()) return "";
      return target.program + " takes a stranger's object for its own";
    case Before::kTaken:
      return JudgeTaken(scenario, fault, outcome);
    default:
      return JudgeTransfer(scenario, fault, outcome);
  }
}

}  // namespace ipc_testing
