// A pipe, and a child process at its other end. pipe(7), fork(2), waitpid(2)
#ifndef PIPE_PIPE_H_
#define PIPE_PIPE_H_

#include <sys/wait.h>

#include <cstdio>
#include <cstring>

#include "posix.h"

namespace ipc {

// What is written into one end is read from the other, in order. The reader
// sees the end once every write end is closed, in every process: so each
// process closes at once the end that it doesn't use.
struct Pipe {
  Pipe() {
    int ends[2];
    // Close-on-exec from the start: a write end that another program had
    // inherited would keep the end from the reader.
    os::Check("pipe2", "pipe", ::pipe2, ends, O_CLOEXEC);
    read_end = os::UniqueFd(ends[0]);
    write_end = os::UniqueFd(ends[1]);
    os::Widen(write_end.get());
  }

  os::UniqueFd read_end;
  os::UniqueFd write_end;
};

// A child process. It does not outlive this object.
class Child {
 public:
  // Runs `body` in the child, which exits with 0, or with 1 and a line on
  // stderr if `body` throws. os::ExitStatus
  template <typename Body>
  explicit Child(Body body) {
    std::fflush(nullptr);  // Else both would write what stdio holds now.
    pid_ = os::Check("fork", "child", ::fork);
    // _exit: what the parent has is not the child's to destroy or to flush.
    if (pid_ == 0) ::_exit(os::ExitStatus(body));
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ == -1) return;
    // Not SIGTERM: the child may have inherited that this is ignored.
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) == -1 && errno == EINTR) continue;
  }

  // Waits for its end. Throws Reported where it failed and has said why, and
  // EPIPE where a signal killed it.
  void Wait() {
    int status = 0;
    os::Check("waitpid", "child", ::waitpid, pid_, &status, 0);
    pid_ = -1;
    if (WIFSIGNALED(status)) {
      throw os::Error(
          EPIPE, "waitpid", "child",
          std::string("it died of a signal: ") + ::strsignal(WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) != 0) throw os::Reported{WEXITSTATUS(status)};
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace ipc

#endif  // PIPE_PIPE_H_
