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

// What is written into the second comes out of the first.
std::pair<UniqueFd, UniqueFd> MakePipe() {
  int ends[2];
  // O_CLOEXEC: exec closes them; the command has the copies of dup2.
  Check(::pipe2(ends, O_CLOEXEC), "pipe2", "pipe");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Starts the command. If it can't be run, the child says why, and writes a byte
// into `failure`. These are the child's ends: the parent's copies of them are
// closed when this returns, as nobody would notice otherwise that the command
// reads no more, and what it writes would never end.
pid_t Start(UniqueFd input, UniqueFd output, UniqueFd failure) {
  const pid_t pid = Check(::fork(), "fork", *command);
  if (pid != 0) return pid;
  // What is ignored stays so after exec.
  for (const int ignored : {SIGPIPE, SIGXFSZ}) ::signal(ignored, SIG_DFL);
  // Whatever else this process has been given is not for the command.
  if (::dup2(input.get(), STDIN_FILENO) != -1 &&
      ::dup2(output.get(), STDOUT_FILENO) != -1 &&
      ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0) {
    ::execvp(*command, command);
  }
  const Error error(errno, "execvp", *command);
  Say(error.what());
  [[maybe_unused]] auto n = ::write(failure.get(), "!", 1);
  ::_exit(error.code() == std::errc::no_such_file_or_directory ? 127 : 126);
}

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

// Feeds the command and prints what it writes, both at the same time, until the
// input has ended or is not read any more, and nobody has the command's output
// open.
void Relay(UniqueFd to_command, UniqueFd from_command, int pidfd) {
  Block block;
  bool room = false;  // For PIPE_BUF bytes at least, in the command's input.
  while (to_command || from_command) {
    const short wanted = room ? 0 : POLLOUT;
    std::array fds{pollfd{to_command && room ? STDIN_FILENO : -1, POLLIN, 0},
                   pollfd{to_command.get(), wanted, 0},
                   pollfd{from_command.get(), POLLIN, 0},
                   pollfd{to_command ? pidfd : -1, POLLIN, 0}};
    Poll(fds, kForever);
    if ((fds[1].revents & POLLERR) != 0 || fds[3].revents != 0) {
      // The command has ended, or reads no more: the rest of the input stays.
      to_command = UniqueFd();
    } else if (fds[1].revents != 0) {
      room = true;
    } else if (fds[0].revents != 0) {
      room = false;
      // splice moves what there is, and for which there is room, and copies
      // nothing. Linux only.
      auto n = ::splice(STDIN_FILENO, nullptr, to_command.get(), nullptr, kRoom,
                        SPLICE_F_NONBLOCK);
      if (n == -1 && errno != EAGAIN) {
        // Not all files can be spliced. This takes no more than there is room
        // for: otherwise write would wait for the command, which may itself
        // wait until somebody reads what it has written.
        n = Check(::read(STDIN_FILENO, &block, PIPE_BUF), "read",
                  "standard input");
        [[maybe_unused]] auto written =
            ::write(to_command.get(), &block, static_cast<std::size_t>(n));
      }
      if (n == 0) to_command = UniqueFd();  // close: the command sees the end.
    }
    // This one waits where standard output has no room, as write does. A file
    // that is appended to can't be spliced to.
    if (fds[2].revents != 0 &&
        ::splice(from_command.get(), nullptr, STDOUT_FILENO, nullptr, kRoom,
                 0) <= 0) {
      const auto bytes = ReadSome(from_command.get(), block, "pipe");
      Print(bytes);
      if (bytes.empty()) from_command = UniqueFd();
    }
  }
}

void Run(const Options& /*options*/) {
  if (*command == nullptr) throw UsageError("missing operand");
  auto [input, to_command] = MakePipe();
  auto [from_command, output] = MakePipe();
  auto [failed, failure] = MakePipe();
  // With more room this process and the command wait less for each other. Linux
  // only. This may fail, as a user's pipes may have only so much memory in all:
  // then a pipe keeps the room that it has. pipe(7)
  ::fcntl(to_command.get(), F_SETPIPE_SZ, kRoom);
  ::fcntl(from_command.get(), F_SETPIPE_SZ, kRoom);
  // If SIGCHLD is ignored, a child that ends is gone at once, and waitpid
  // fails.
  ::signal(SIGCHLD, SIG_DFL);
  Child child{Start(std::move(input), std::move(output), std::move(failure))};
  // It is readable once the child has ended. Linux only; glibc 2.36 has it.
  child.pidfd = UniqueFd(static_cast<int>(
      Check(::syscall(SYS_pidfd_open, child.pid, 0), "pidfd_open", *command)));
  Block block;
  // If no byte comes before the end, exec has closed the child's end of it: the
  // command runs.
  if (ReadSome(failed.get(), block, "pipe").empty()) {
    Relay(std::move(to_command), std::move(from_command), child.pidfd.get());
  }
  int status = 0;
  Check(Retry([&] { return ::waitpid(child.pid, &status, 0); }), "waitpid",
        *command);
  child.pid = -1;  // From here on the number may be another process's.
  if (WIFEXITED(status)) std::exit(WEXITSTATUS(status));
  Say(std::string("waitpid '") + *command +
      "': a signal: " + ::strsignal(WTERMSIG(status)));
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
