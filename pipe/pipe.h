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
    posix::Check("pipe2", "pipe", ::pipe2, ends, O_CLOEXEC);
    read_end = posix::UniqueFd(ends[0]);
    write_end = posix::UniqueFd(ends[1]);
  }

  posix::UniqueFd read_end;
  posix::UniqueFd write_end;
};

// A child process. It does not outlive this object.
class Child {
 public:
  // Runs `body` in the child, which exits with 0, or with 1 and a line on
  // stderr if `body` throws. posix::ExitStatus
  template <typename Body>
  explicit Child(Body body) {
    std::fflush(nullptr);  // Else both would write what stdio holds now.
    pid_ = posix::Check("fork", "child", ::fork);
    // _exit: what the parent has is not the child's to destroy or to flush.
    if (pid_ == 0) ::_exit(posix::ExitStatus(body));
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child() {
    if (pid_ == -1) return;
    ::kill(pid_, SIGTERM);
    while (::waitpid(pid_, nullptr, 0) == -1 && errno == EINTR) continue;
  }

  // Waits for its end. Throws Reported where it failed and has said why, and
  // EPIPE where a signal killed it.
  void Wait() {
    int status = 0;
    posix::Check("waitpid", "child", ::waitpid, pid_, &status, 0);
    pid_ = -1;
    if (WIFSIGNALED(status)) {
      throw posix::Error(
          EPIPE, "waitpid", "child",
          std::string("it died of a signal: ") + ::strsignal(WTERMSIG(status)));
    }
    if (WEXITSTATUS(status) != 0) throw posix::Reported{WEXITSTATUS(status)};
  }

 private:
  pid_t pid_ = -1;
};

}  // namespace ipc

#endif  // PIPE_PIPE_H_
