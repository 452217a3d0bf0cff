// The manners that every program has: what it says of its command line, and of
// a name that it can't have.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "testing/processes/child_process.h"

namespace ipc_testing {

inline constexpr char kInUse[] =
    "Device or resource busy; in use: choose another name";
inline constexpr char kAnotherPrograms[] =
    "File exists; another program's: choose another name";
inline constexpr char kAnotherUsers[] =
    "Permission denied; another user's: choose another name";

// Whether a program can be stopped, killed or lied to at a system call.
inline bool HasStrace() { return ::access("/usr/bin/strace", X_OK) == 0; }
inline constexpr char kNoStrace[] = "strace is not installed";

inline void ExpectWrongUsage(const std::vector<std::string>& command) {
  SCOPED_TRACE(testing::PrintToString(command));
  const std::string name = std::filesystem::path(command[0]).filename();
  ChildProcess process(command);
  EXPECT_EQ(process.Wait(), Exited(2));
  EXPECT_EQ(process.Out(), "");
  EXPECT_TRUE(process.Err().starts_with(name + ": ") &&
              process.Err().ends_with("; see --help\n"))
      << process.Err();
}

inline void ExpectHelp(const std::string& program) {
  SCOPED_TRACE(program);
  const std::string name = std::filesystem::path(program).filename();
  ChildProcess process({program, "--help"});
  EXPECT_EQ(process.Wait(), Exited(0));
  EXPECT_TRUE(process.Out().starts_with("Usage: " + name + " "))
      << process.Out();
  EXPECT_EQ(process.Err(), "");
}

}  // namespace ipc_testing
