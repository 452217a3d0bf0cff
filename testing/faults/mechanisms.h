// The rows of the fault matrix: all that it knows of each mechanism. Recording,
// running and judging know none of them by name, so that a new one needs its
// row here and nothing else.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "testing/processes/child_process.h"

namespace ipc_testing {

// Where an object has its name, and what anybody can do to it there.
struct Place {
  // A name that nobody has.
  std::string (*fresh)(const TemporaryDirectory& directory);
  // The rest is null where no name outlives its process.
  // Which of the object's names are there: a socket has its lock, too.
  std::vector<std::string> (*present)(const std::string& name) = nullptr;
  // Removes one of them, whoever has it.
  int (*unlink)(const char* name) = nullptr;
  // Makes the object as another program would, with nothing of ours.
  void (*make)(const std::string& name) = nullptr;
  // How many messages it holds for its next owner; null where it holds none.
  long (*messages)(const std::string& name) = nullptr;
};

enum Role { kReceiver, kSender };  // A server is a receiver.

struct Side {
  std::string role;      // As scenarios are called after it.
  std::string variable;  // Names its path, in the environment. "": a child that
                         // the sender makes.
  std::vector<std::string> arguments = {};  // Before all others.
  bool times_out = true;                    // It knows --timeout.
  bool is_target = true;                    // Faults are done to it.
};

// What ends the receiver.
enum class Ending { kByItself, kQuit, kSigterm };

// What the receiver's exit status 0 says.
enum class Receipt {
  kAll,        // All that the sender had to send has come.
  kNoFailure,  // The same, unless the sender failed: both look alike.
  kNothing,    // It ends when it is told to, whatever has come.
};

struct Message {
  std::string suffix;  // Of the scenario's name.
  std::vector<std::string> operands;
  std::string input;     // The sender's standard input.
  std::string expected;  // What is printed.
};

struct Mechanism {
  std::string name;
  Side sides[2];       // By Role.
  std::string naming;  // The option that gives both the name; "": none does.
  Place place;
  Role owner = kReceiver;  // Who makes the name, if it is a place's.
  Role prints = kReceiver;
  Ending ending = Ending::kByItself;
  std::vector<Message> messages = {};
  Receipt receipt = Receipt::kAll;
  // What was sent and not yet received is lost if the receiver fails.
  bool loses = false;
  // The sender prints each line once that can't be lost any more.
  bool acknowledges = false;

  // The receiver is a child that the sender makes.
  bool IsOneProgram() const { return sides[kReceiver].variable.empty(); }
  bool HasServer() const { return ending != Ending::kByItself; }
  bool HasName() const { return place.present != nullptr; }
  bool Keeps() const { return place.messages != nullptr; }
};

const std::vector<Mechanism>& Mechanisms();

// What there is under the name when the target starts.
enum class Before {
  kNothing,
  kLeftover,  // An owner was killed; where messages stay, it has left one.
  kStranger,  // Another program's object. The target is alone with it.
  kTaken,     // Nothing; but once the target has made it, somebody removes it.
};

struct Scenario {
  std::string name;
  const Mechanism* mechanism;
  const Message* message;
  Role target;
  bool target_first;
  Before before = Before::kNothing;

  Role peer() const { return Role(1 - target); }
  const Side& side() const { return mechanism->sides[target]; }
  std::string Expected() const;
};
inline constexpr char kLeftMessage[] = "left";

std::vector<Scenario> Scenarios();
void PrintTo(const Scenario& scenario, std::ostream* out);

}  // namespace ipc_testing
