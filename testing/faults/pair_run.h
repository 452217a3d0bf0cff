// One run of a pair of programs, and what has come of it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "testing/faults/mechanisms.h"
#include "testing/processes/child_process.h"

namespace ipc_testing {

// The contract says two seconds; a busy machine takes longer.
inline constexpr std::chrono::seconds kHang{15};

struct Ran {
  std::string program;  // "" where there is none.
  std::string command;
  std::optional<End> end;  // None: it hangs.
  std::string out;
  std::string err;
};

struct Outcome {
  Ran ran[2];                // By Role.
  std::optional<Ran> heir;   // Who took the target's place.
  std::optional<Ran> later;  // The next owner, for what was left to it.
  // How many messages were left; none where nothing has the name.
  std::optional<long> left;
  bool stopped[2] = {};  // By our SIGTERM,
  bool served = false;   // after it had served a fresh client.
  // The pair that used the name after it was taken away from the target.
  std::unique_ptr<Outcome> next;
  std::string spoiled;  // What the target did to others under its name, or "".
  std::chrono::duration<double> time{};

  // All that was printed where the message has to come out.
  std::string Printed(const Scenario& scenario) const;
};

std::vector<std::string> Command(const Scenario& scenario, Role role,
                                 const std::string& address,
                                 const std::vector<std::string>& operands,
                                 const std::string& timeout);

// The scenario without what is there before, and its owner first.
Scenario Plain(const Scenario& scenario);

class PairRun {
 public:
  // `strace` is what goes before the target's command, and may be nothing.
  PairRun(const Scenario& scenario, std::string address,
          std::vector<std::string> strace);
  Outcome Run();

 private:
  void LeaveLeftover();
  void RunPair();
  void RunBesideStranger();
  void RunWithNameTaken();
  void RunWithTracedChild();

  void Start(
      Role role, const std::string& timeout,
      const std::function<void()>& in_child = [] {});
  void AwaitReady(ChildProcess& child);
  void Finish(Role role);
  void FinishPeer();
  void Stop(Role role);
  void ServeAndStop();
  void TakeOver();
  std::string Ask(ChildProcess& server, const std::string& message);

  const Scenario& scenario_;
  const Mechanism& mechanism_;
  const std::string address_;
  std::vector<std::string> strace_;
  std::function<void()> between_;  // Once the first waits for the second.
  std::unique_ptr<ChildProcess> child_[2];
  std::unique_ptr<ChildProcess> strace_of_child_;
  Outcome outcome_;
};

}  // namespace ipc_testing
