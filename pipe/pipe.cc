// A pipe from a parent to its child: the parent writes, the child prints.
//
//   $ ./bazelw run //pipe
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

// What is written into the write end comes out of the read end. The reader sees
// the end once every process has closed the write end.
struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
  // By this the parent says that it has written all. Otherwise the end that its
  // death makes would look like any other. Linux only.
  UniqueFd complete;
};

// Does not outlive its parent's failure, and is never left as a zombie.
struct Child {
  pid_t pid;
  ~Child() {
    if (pid == -1) return;
    ::kill(pid, SIGKILL);  // Not SIGTERM, which it may have inherited ignored.
    while (::waitpid(pid, nullptr, 0) == -1 && errno == EINTR) continue;
  }
};

void RunChild(Pipe& pipe) {
  pipe.write_end = UniqueFd();  // close, or the end would never come.
  Block block;
  std::string_view bytes;
  while (!(bytes = ReadSome(pipe.read_end.get(), block, "pipe")).empty()) {
    Print(bytes);
  }
  pollfd complete{pipe.complete.get(), POLLIN, 0};
  if (Poll({&complete, 1}, Seconds(0))) return;
  throw Error(EPIPE, "read", "pipe", "the writer died: bytes may be missing");
}

void RunParent(Pipe& pipe, const std::string& message) {
  pipe.read_end = UniqueFd();  // close, or the child's death goes unnoticed.
  if (message != "-") WriteAll(pipe.write_end.get(), message + "\n", "pipe");
  for (Block block; message == "-";) {
    // Meanwhile the child may die: the pipe then has no reader any more.
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
  // O_CLOEXEC: a program started from here would keep the write end open.
  Check(::pipe2(ends, O_CLOEXEC), "pipe2", "pipe");
  Pipe pipe{UniqueFd(ends[0]), UniqueFd(ends[1]), UniqueFd()};
  pipe.complete = UniqueFd(::eventfd(0, EFD_CLOEXEC));
  Check(pipe.complete.get(), "eventfd", "eventfd");
  // Room for four blocks: the two wait less for each other. Linux only; where
  // the user's pipes have all their room it stays as it is. pipe(7)
  ::fcntl(ends[1], F_SETPIPE_SZ, 4 * sizeof(Block));
  ::signal(SIGCHLD, SIG_DFL);  // Were it ignored, waitpid would find no child.
  std::fflush(nullptr);        // Or both would write what stdio still holds.
  Child child{Check(::fork(), "fork", "child")};
  // _exit: what the parent has is not the child's to destroy or to flush.
  if (child.pid == 0) ::_exit(ExitStatus([&] { RunChild(pipe); }));
  const auto wait = [&] {
    pipe.write_end = UniqueFd();  // close: the child sees the end.
    int status = 0;
    Check(Retry([&] { return ::waitpid(child.pid, &status, 0); }), "waitpid",
          "child");
    child.pid = -1;  // From here on it may be another process's.
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
    if (error.code() == std::errc::broken_pipe) wait();
    throw;
  }
  wait();
}

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp, {{"MESSAGE", "Hello World!"}}, ipc::Run);
}
