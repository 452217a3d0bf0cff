// Pipes, and an input that a program shares with another process.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "posix.h"
#include "testing/processes/child_process.h"

namespace ipc_testing {

struct Pipe {
  explicit Pipe(int flags = 0) {
    int ends[2] = {};
    EXPECT_EQ(::pipe2(ends, flags | O_CLOEXEC), 0);
    read_end = ipc::UniqueFd(ends[0]);
    write_end = ipc::UniqueFd(ends[1]);
  }
  ipc::UniqueFd read_end;
  ipc::UniqueFd write_end;
};

// Runs a command that waits for input: another process takes what it has been
// told of, and then there comes "left". Returns what it prints.
inline std::string RunWhereAnotherTakesInput(
    const std::vector<std::string>& command) {
  Pipe input(O_NONBLOCK);
  ipc::WriteAll(input.write_end.get(), "taken", "input");
  ChildProcess process(
      WithFault("?poll,ppoll", "signal=STOP:when=1..2", command), "",
      [&] { ::dup2(input.read_end.get(), STDIN_FILENO); });
  process.AwaitStop();
  ipc::Block block;
  EXPECT_EQ(ipc::ReadSome(input.read_end.get(), block, "input"), "taken");
  process.Signal(SIGCONT);
  process.AwaitStop();  // It has found nothing, and waits again.
  process.Signal(SIGCONT);
  ipc::WriteAll(input.write_end.get(), "left", "input");
  input.write_end = ipc::UniqueFd();
  EXPECT_EQ(process.Wait(), Exited(0)) << process.Err();
  return process.Out();
}

}  // namespace ipc_testing
