// A pipe from a parent to its child: the parent writes, the child prints.
//
//   $ bazel run //pipe
//   Hello World!
//
// Left out: the way back (a second pipe), and running another program in the
// child (dup2 and exec after fork).
// Copy: posix.h, program.h, pipe/pipe.cc
// Read: pipe(7), pipe(2), fork(2), waitpid(2), eventfd(2)
#include <sys/eventfd.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstring>

#include "program.h"

constexpr char kHelp[] =
    R"(Usage: pipe [MESSAGE | -]
Sends MESSAGE and a newline, "Hello World!" unless given, through a pipe to a
child process, which prints it. With -, sends standard input unchanged.
)";

namespace ipc {

// The calls begin in Run, below: pipe2, fork, waitpid. ReadSome and Print are
// the child's read and write, WriteAll is the parent's write, and to assign
// UniqueFd() to an end is to close it.

// What is written into the write end comes out of the read end. The reader sees
// the end once every process has closed the write end.
struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
  // An eventfd, into which the parent writes once it has written all. The
  // pipe's end does not say so: it comes as well when the parent dies. Linux
  // only.
  UniqueFd complete;
};

// The child process. If the parent fails, it is killed; in any case it is
// waited for, as it would stay a zombie otherwise. -1: that has been done.
struct Child {
  pid_t pid;
  ~Child() {
    if (pid == -1) return;
    ::kill(pid, SIGKILL);  // Not SIGTERM, which it may have inherited ignored.
    while (::waitpid(pid, nullptr, 0) == -1 && errno == EINTR) continue;
  }
};

void RunChild(Pipe& pipe) {
  // close: otherwise the end would never come.
  pipe.write_end = UniqueFd();
  Block block;
  std::string_view bytes;
  while (!(bytes = ReadSome(pipe.read_end.get(), block, "pipe")).empty()) {
    Print(bytes);
  }
  // The pipe has ended: has the parent said that this was all?
  pollfd complete{pipe.complete.get(), POLLIN, 0};
  if (Poll({&complete, 1}, Seconds(0))) return;
  throw Error(EPIPE, "read", "pipe", "the writer died: bytes may be missing");
}

void RunParent(Pipe& pipe, const std::string& message) {
  // close: otherwise writing would go on after the child's death.
  pipe.read_end = UniqueFd();
  if (message != "-") WriteAll(pipe.write_end.get(), message + "\n", "pipe");
  // With "-" it sends standard input, block by block, until its end.
  for (Block block; message == "-";) {
    // Errors are reported though no events (0) are asked for: if the child dies
    // while this waits for input, the pipe has no reader any more.
    std::array fds{pollfd{STDIN_FILENO, POLLIN, 0},
                   pollfd{pipe.write_end.get(), 0, 0}};
    Poll(fds, kForever);
    if (fds[1].revents != 0) throw Error(EPIPE, "poll", "pipe");
    const auto bytes = ReadSome(STDIN_FILENO, block, "standard input");
    if (bytes.empty()) break;
    WriteAll(pipe.write_end.get(), bytes, "pipe");
  }
  // An eventfd takes eight bytes: any number but 0 will do.
  WriteAll(pipe.complete.get(), std::string(8, '\1'), "eventfd");
}

void Run(const Options& options) {
  int ends[2];
  // O_CLOEXEC: otherwise a program that is started from here would keep the
  // write end open.
  Check(::pipe2(ends, O_CLOEXEC), "pipe2", "pipe");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1]), UniqueFd()};
  pipe.complete = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  Check(pipe.complete.get(), "eventfd", "eventfd");
  // With room for four blocks parent and child wait less for each other. Linux
  // only. This may fail, as a user's pipes may have only so much memory in all:
  // then the pipe keeps the room that it has. pipe(7)
  ::fcntl(ends[1], F_SETPIPE_SZ, 4 * sizeof(Block));
  // If SIGCHLD is ignored, a child that ends is gone at once, and waitpid
  // fails.
  ::signal(SIGCHLD, SIG_DFL);
  // Otherwise both processes would write what stdio still holds.
  std::fflush(nullptr);
  Child child{Check(::fork(), "fork", "child")};
  // _exit runs no destructor and flushes nothing: that is for the parent to do.
  if (child.pid == 0) ::_exit(ExitStatus([&] { RunChild(pipe); }));
  const auto wait_for_child = [&] {
    // close: the child sees the end.
    pipe.write_end = UniqueFd();
    int status = 0;
    Check(Retry([&] { return ::waitpid(child.pid, &status, 0); }), "waitpid",
          "child");
    child.pid = -1;  // From here on the number may be another process's.
    if (WIFSIGNALED(status)) {
      throw Error(EPIPE, "waitpid", "child",
                  std::string("a signal: ") + ::strsignal(WTERMSIG(status)));
    }
    // The child has said why it failed.
    if (WEXITSTATUS(status) != 0) std::exit(WEXITSTATUS(status));
  };
  try {
    RunParent(pipe, options.at("MESSAGE"));
  } catch (const Error& error) {
    // After EPIPE the child has gone: how it ended says more.
    if (error.code() == std::errc::broken_pipe) wait_for_child();
    throw;
  }
  wait_for_child();
}

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp, {{"MESSAGE", "Hello World!"}}, ipc::Run);
}
