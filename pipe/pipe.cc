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

void ReadAndPrint(const posix::UniqueFd& read_end, pid_t parent) {
  posix::Block block;
  while (const std::size_t n = posix::ReadSome(read_end.get(), block, "pipe")) {
    posix::Print(std::span(block).first(n));
  }
  // A killed writer's end looks the same. But this one lives until we exit.
  if (::getppid() != parent) {
    throw posix::Error(EPIPE, "read", "pipe",
                       "its writer died: bytes may lack");
  }
}

void Write(const posix::UniqueFd& write_end, const std::string& message) {
  if (message != "-") {
    posix::WriteAll(write_end.get(), posix::Bytes(message + "\n"), "pipe");
    return;
  }
  posix::Block block;
  while (const std::size_t n =
             posix::ReadInput(block, write_end.get(), "pipe")) {
    posix::WriteAll(write_end.get(), std::span(block).first(n), "pipe");
  }
}

void Run(const posix::CommandLine& line) {
  const std::string message = line.Operand("Hello World!");
  ipc::Pipe pipe;
  const pid_t parent = ::getpid();
  ipc::Child child([&] {
    pipe.write_end.Close();  // Or the end would never come.
    ReadAndPrint(pipe.read_end, parent);
  });
  pipe.read_end.Close();  // Or a child that died would not be noticed.
  try {
    Write(pipe.write_end, message);
  } catch (const posix::Error& error) {
    // The child has gone: how it ended says more.
    if (error.code() != std::errc::broken_pipe) throw;
  }
  pipe.write_end.Close();  // The child sees the end.
  child.Wait();
}

int main(int argc, char** argv) {
  return posix::Main(argc, argv, kHelp, {}, Run);
}
