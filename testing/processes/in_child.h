// For tests of what a process can do only once (end, have a signal, parse its
// command line): a child of the test does it.
#pragma once

#include <linux/close_range.h>
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "testing/processes/child_process.h"

namespace ipc_testing {

// Runs the body in a child, which ends with the status that it returns. Only
// one child at a time: each has a thread in the test, and what is forked must
// have none.
inline ChildProcess InChild(const std::function<int()>& body,
                            const std::optional<std::string>& input = "") {
  std::fflush(nullptr);  // Or the child may write what stdio still holds, too.
  return ChildProcess({"unused"}, input, [&] {
    // Or its own copy of the other end would keep the end of input from it.
    ::close_range(3, ~0U, 0);
    ::_exit(body());
  });
}

// The error that the body throws, as its number and text.
inline std::pair<int, std::string> ErrorOf(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::system_error& error) {
    return {error.code().value(), error.what()};
  }
  return {0, "no error"};
}

}  // namespace ipc_testing
