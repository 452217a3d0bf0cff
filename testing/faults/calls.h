// The system calls of a program, and what can be made to happen at each.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ipc_testing {

inline bool Contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

struct Call {
  std::string name;
  int when;            // The how-many-eth of this name since the process began.
  std::string line;    // strace's.
  std::string shape;   // That without what varies from run to run.
  bool serving;        // Made by a server that has begun to listen.
  bool too_late;       // It has failed, and said so: it ends anyway.
  bool waits = false;  // If need be.
  bool last_close = false;      // The program ends after it.
  bool tells_who_owns = false;  // Asks whether the name is still our own.
};

struct Recording {
  std::vector<Call> calls;
  std::size_t made = 0;  // With the repeats that are left out.
};

// The calls in a trace, the first three of each shape: from the start of main
// on, or all if `from_start`.
Recording ParseTrace(const std::string& trace, bool from_start);

// What is done at a call.
struct Fault {
  const Call* call;
  std::string what;  // As strace takes it: "error=EIO", "signal=SIGKILL".

  bool Kills() const { return what == "signal=SIGKILL"; }
  bool Stops() const { return what == "signal=SIGTERM"; }
  // The program has to go on as if nothing had happened.
  bool GoesOn() const {
    return what == "error=EINTR" || what == "signal=SIGXFSZ";
  }
  // A name may stay, which the next owner then has to take over: it can't be
  // removed, or nobody knows whose it is.
  bool Leaves() const {
    return Kills() ||
           (!Stops() && !GoesOn() &&
            (Contains(call->name, "unlink") || call->tells_who_owns));
  }
  std::string Injection() const {
    return call->name + ":" + what + ":when=" + std::to_string(call->when);
  }
  // Whether it happened, by the trace.
  bool Happened(std::string_view trace) const;
};

// All that life has for this call.
std::vector<Fault> FaultsAt(const Call& call);

// Whether FaultsAt knows the call, if only as one that doesn't fail.
bool IsKnown(const Call& call);

// What the call is one of: those that don't fail are all alike.
std::string KindOf(const Call& call);

}  // namespace ipc_testing
