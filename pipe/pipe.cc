// A pipe from a parent to its child: the parent writes, the child prints.
//
//   $ bazel run //pipe
//   Hello World!
//
// Left out: the way back (a second pipe), and running another program in the
// child (dup2 and exec after fork).
// Copy: posix.h, pipe/pipe.h, pipe/pipe.cc
// Read: pipe(7), pipe(2), fork(2), waitpid(2)
#include "pipe.h"

constexpr char kHelp[] =
    R"(Usage: pipe [MESSAGE | -]
Sends MESSAGE and a newline, "Hello World!" unless given, through a pipe to a
child process, which prints it. With -, sends standard input unchanged.
)";

void ReadAndPrint(const os::UniqueFd& read_end, const os::UniqueFd& complete) {
  os::Block block;
  while (const std::size_t n = os::ReadSome(read_end.get(), block, "pipe")) {
    os::Print(std::span(block).first(n));
  }
  // A killed writer's end looks the same, and comes before getppid() changes.
  if (os::ReadSome(complete.get(), block, "pipe") == 0) {
    throw os::Error(EPIPE, "read", "pipe", "its writer died: bytes may lack");
  }
}

void Write(const os::UniqueFd& write_end, const std::string& message) {
  if (message != "-") {
    os::WriteAll(write_end.get(), os::Bytes(message + "\n"), "pipe");
    return;
  }
  os::Block block;
  while (const std::size_t n = os::ReadInput(block, write_end.get(), "pipe")) {
    os::WriteAll(write_end.get(), std::span(block).first(n), "pipe");
  }
}

void Run(const os::CommandLine& line) {
  const std::string message = line.Operand("Hello World!");
  ipc::Pipe pipe;
  ipc::Pipe complete;  // One byte, once all has been written to the other.
  ipc::Child child([&] {
    pipe.write_end.Close();  // Or the end would never come.
    complete.write_end.Close();
    ReadAndPrint(pipe.read_end, complete.read_end);
  });
  pipe.read_end.Close();  // Or a child that died would not be noticed.
  complete.read_end.Close();
  try {
    Write(pipe.write_end, message);
    os::WriteAll(complete.write_end.get(), os::Bytes("."), "pipe");
  } catch (const os::Error& error) {
    if (error.code() != std::errc::broken_pipe) throw;
    pipe.write_end.Close();
    complete.write_end.Close();
    child.Wait();  // The child has gone: how it ended says more.
    throw;
  }
  pipe.write_end.Close();  // The child sees the end.
  child.Wait();
}

int main(int argc, char** argv) { return os::Main(argc, argv, kHelp, {}, Run); }
