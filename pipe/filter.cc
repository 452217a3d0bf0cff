// A child with both ends: runs a command, feeds it, and prints what it writes.
//
//   $ seq 3 | bazel run //pipe:filter -- sort -r
//   3
//   2
//   1
//
// Left out: what the command says on standard error (it has ours); a terminal
// for it (openpty).
// Copy: posix.h, program.h, pipe/filter.cc
// Read: pipe(7), fork(2), dup(2), execve(2), pidfd_open(2), waitpid(2)
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <climits>
#include <cstring>

#include "program.h"

constexpr char kHelp[] =
    R"(Usage: filter COMMAND [ARGUMENT...]
Runs COMMAND, sends it standard input, prints what it writes, and ends as it
does: with its exit status, or of the signal that it died of. The status is 127
where there is no such command, and 126 where it can't be run.
)";

namespace ipc {

char** command;  // With its arguments and, at the end, a null pointer.
constexpr int kRoom = 1 << 20;  // As much as any user may give a pipe.

struct Pipe {
  Pipe() {
    int ends[2];
    // O_CLOEXEC: exec closes them; the command has the copies of dup2.
    Check(::pipe2(ends, O_CLOEXEC), "pipe2", "pipe");
    read_end = UniqueFd(ends[0]);
    write_end = UniqueFd(ends[1]);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

// The child process. If the parent fails, it is ended; in any case it is waited
// for, as it would stay a zombie otherwise. -1: that has been done.
struct Child {
  pid_t pid;
  UniqueFd pidfd{};
  ~Child() {
    if (pid == -1) return;
    ::kill(pid, SIGTERM);  // It may have something to put away,
    pollfd ended{pidfd.get(), POLLIN, 0};
    ::poll(&ended, 1, 1000);  // and has a second for it.
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) == -1 && errno == EINTR) continue;
  }
};

// The child's: becomes the command, or writes into `failure` why it can't.
[[noreturn]] void Exec(int input, int output, int failure) {
  // What is ignored stays so after exec.
  for (const int ignored : {SIGPIPE, SIGXFSZ}) ::signal(ignored, SIG_DFL);
  // Whatever else this process has been given is not for the command.
  if (::dup2(input, STDIN_FILENO) != -1 &&
      ::dup2(output, STDOUT_FILENO) != -1 &&
      ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0) {
    ::execvp(*command, command);
  }
  const Error error(errno, "execvp", *command);
  [[maybe_unused]] auto n = ::write(failure, error.what(), error.text.size());
  ::_exit(error.code() == std::errc::no_such_file_or_directory ? 127 : 126);
}

// Moves what there is, and for which there is room, and copies nothing. Linux
// only.
ssize_t Splice(int from, int to) {
  return ::splice(from, nullptr, to, nullptr, kRoom, SPLICE_F_NONBLOCK);
}

// Feeds the command and prints what it writes, both at the same time, until it
// has ended and nobody has its output open.
void Relay(UniqueFd input, UniqueFd output, int pidfd) {
  Block block;
  bool room = false;  // For PIPE_BUF bytes at least, in the command's input.
  for (bool running = true; running || output;) {
    const short wanted = room ? 0 : POLLOUT;
    std::array fds{pollfd{input && room ? STDIN_FILENO : -1, POLLIN, 0},
                   pollfd{input.get(), wanted, 0},
                   pollfd{output.get(), POLLIN, 0},
                   pollfd{running ? pidfd : -1, POLLIN, 0}};
    Poll(fds, kForever);
    room = (room && fds[0].revents == 0) || fds[1].revents == POLLOUT;
    if (fds[0].revents != 0) {
      ssize_t n = Splice(STDIN_FILENO, input.get());
      if (n == -1 && errno != EAGAIN) {
        // Not all files can do it. No more than there is room for: else write
        // would wait for the command, which may wait until it is read from.
        n = Check(::read(STDIN_FILENO, &block, PIPE_BUF), "read",
                  "standard input");
        [[maybe_unused]] auto written =
            ::write(input.get(), &block, static_cast<std::size_t>(n));
      }
      if (n == 0) input = UniqueFd();  // close: the command sees the end.
    }
    // A file that is appended to can't do it either.
    if (fds[2].revents != 0 && Splice(output.get(), STDOUT_FILENO) <= 0) {
      const auto bytes = ReadSome(output.get(), block, "pipe");
      Print(bytes);
      if (bytes.empty()) output = UniqueFd();
    }
    // Nobody reads any more: what input is left is not for the command.
    if ((fds[1].revents & POLLERR) != 0) input = UniqueFd();
    running = running && fds[3].revents == 0;
  }
}

void Run(const Options& /*options*/) {
  if (*command == nullptr) throw UsageError("missing operand");
  Pipe input;
  Pipe output;
  Pipe failure;
  // With more room this process and the command wait less for each other. Linux
  // only. This may fail, as a user's pipes may have only so much memory in all:
  // then a pipe keeps the room that it has. pipe(7)
  ::fcntl(input.write_end.get(), F_SETPIPE_SZ, kRoom);
  ::fcntl(output.read_end.get(), F_SETPIPE_SZ, kRoom);
  // If SIGCHLD is ignored, a child that ends is gone at once, and waitpid
  // fails.
  ::signal(SIGCHLD, SIG_DFL);
  Child child{Check(::fork(), "fork", *command)};
  if (child.pid == 0) {
    Exec(input.read_end.get(), output.write_end.get(), failure.write_end.get());
  }
  // It is readable once the child has ended. Linux only; glibc 2.36 has it.
  child.pidfd = UniqueFd(static_cast<int>(
      Check(::syscall(SYS_pidfd_open, child.pid, 0), "pidfd_open", *command)));
  input.read_end = UniqueFd();     // close, or nobody would notice that the
  output.write_end = UniqueFd();   // command reads no more, and no end of what
  failure.write_end = UniqueFd();  // it writes would ever come.

  Block reason;
  const auto text = ReadSome(failure.read_end.get(), reason, "pipe");
  if (text.empty()) {  // exec has closed it: the command runs.
    Relay(std::move(input.write_end), std::move(output.read_end),
          child.pidfd.get());
  } else {
    Say(std::string(text));
  }
  int status = 0;
  Check(Retry([&] { return ::waitpid(child.pid, &status, 0); }), "waitpid",
        *command);
  child.pid = -1;  // From here on the number may be another process's.
  if (WIFEXITED(status)) std::exit(WEXITSTATUS(status));
  Say(std::string("waitpid '") + *command +
      "': a signal: " + ::strsignal(WTERMSIG(status)));
  ::prctl(PR_SET_DUMPABLE, 0);     // One core dump, the command's, is enough.
  stop_signal = WTERMSIG(status);  // So this process dies of it, too.
  ThrowIfStopped();
}

}  // namespace ipc

int main(int argc, char** argv) {
  // What follows the command's name is the command's, options too.
  const int first = argc > 1 && argv[1] == std::string_view("--") ? 2 : 1;
  ipc::command = argv + first;
  return ipc::Main(std::min(argc, first + 1), argv, kHelp, {{"MESSAGE", ""}},
                   ipc::Run);
}
