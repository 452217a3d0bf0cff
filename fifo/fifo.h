// A FIFO: a pipe with a name in the file system, from writers to one reader,
// which owns the name. fifo(7), mkfifo(3)
#ifndef FIFO_FIFO_H_
#define FIFO_FIFO_H_

#include <sys/file.h>

#include "posix.h"

namespace ipc {

// Throws EEXIST where the path is something else's, be it a link, and EACCES
// where the FIFO is another user's: to open it would let its other end go on.
inline void CheckIsFifo(const char* call, const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == -1) return;
  const bool fifo = S_ISFIFO(status.st_mode);
  if (fifo && status.st_uid == ::geteuid()) return;
  throw os::Error(fifo ? EACCES : EEXIST, call, path,
                  fifo ? os::kAnothers : os::kNotOurs);
}

// Without a timeout read and write may wait themselves, without poll.
inline void LetBlock(int fd, const std::string& path, os::Timeout timeout) {
  if (timeout != os::kForever) return;
  os::Check("fcntl", path, ::fcntl, fd, F_SETFL, 0);
}

class FifoReader {
 public:
  // Makes the FIFO `path` and opens it, or one that a dead reader left. Throws
  // EBUSY where a reader lives, EEXIST where the path is something else's.
  FifoReader(const std::string& path, os::Timeout timeout)
      : path_(path), timeout_(timeout) {
    // O_NONBLOCK: open would wait for a writer, and nothing could end that.
    auto open = [&](int flags) {
      const bool create = (flags & O_CREAT) != 0;
      // 0644 & ~umask: others may listen, but only we may write.
      if (create && ::mkfifo(path.c_str(), 0644) == -1) return -1;
      CheckIsFifo("mkfifo", path);
      const int fd =
          ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
      if (create && fd == -1) {
        const int error = errno;
        ::unlink(path.c_str());
        errno = error;
      }
      return fd;
    };
    auto adopt = [&](int fd) {
      const mode_t mode = os::Stat(fd, path).st_mode;
      if (S_ISFIFO(mode) && (mode & (S_IWGRP | S_IWOTH)) == 0) return true;
      throw os::Error(EEXIST, "mkfifo", path, os::kNotOurs);
    };
    // flock, since a record lock wants a descriptor that may write.
    auto lock = [](int fd, const std::string& object) {
      if (os::Retry(::flock, fd, LOCK_EX | LOCK_NB) == 0) return true;
      if (errno == EWOULDBLOCK) return false;
      throw os::Error(errno, "flock", object);
    };
    object_ = os::Own("mkfifo", path, ::unlink, open, adopt, lock);
    os::Widen(fd());
    LetBlock(fd(), path, timeout);
    pollfd writer{fd(), POLLIN, 0};
    if (!os::Poll({&writer, 1}, 0)) {
      os::Say("waiting for a writer on '" + path + "'");
    }
  }

  // Reads what there is, at least one byte; 0 once all writers have closed.
  // Throws ETIMEDOUT. A writer that died has closed: see README.md.
  std::size_t Read(std::span<std::byte> buffer) {
    for (;;) {
      // Until the first writer comes read would return 0, not wait for it.
      if (!met_ || timeout_ != os::kForever) {
        os::PollFor("a writer", fd(), POLLIN, path_, timeout_);
        met_ = true;
      }
      os::ThrowIfStopped();
      const auto n = os::Retry(::read, fd(), buffer.data(), buffer.size());
      if (n == -1 && errno != EAGAIN) throw os::Error(errno, "read", path_);
      if (n > 0 || (n == 0 && !named_)) return static_cast<std::size_t>(n);
      if (n == 0) {
        // The end. But a writer may have opened it just now, and would lose
        // what it writes: without a name no further one comes. Look again.
        object_.name.Remove();
        named_ = false;
      }
    }
  }

 private:
  int fd() const { return object_.fd.get(); }
  std::string path_;
  os::Timeout timeout_;  // Of every wait.
  os::OwnedObject object_;
  bool met_ = false;  // A writer has been there.
  bool named_ = true;
};

class FifoWriter {
 public:
  // The bytes of a record, up to PIPE_BUF, stay together when others write. A
  // stream can't promise that: it takes the FIFO for itself.
  enum class Sends { kRecords, kStream };

  // Waits for a reader. Throws ETIMEDOUT, EBUSY where another writer's stream
  // (for a stream: another writer) is on its way, EEXIST where the path is
  // something else's.
  FifoWriter(const std::string& path, Sends sends, os::Timeout timeout)
      : path_(path), timeout_(timeout) {
    auto open = [&] {
      const int fd =
          ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
      if (fd == -1 && errno == ENXIO) errno = ENOENT;  // It has no reader.
      return fd;
    };
    auto look = [&](os::Timeout pause) {
      os::Pause(pause);
      CheckIsFifo("open", path);
      auto fd = os::OpenExisting("open", path, open);
      // Its reader has seen the end, and would not see what we write.
      if (fd && os::Stat(fd.get(), path).st_nlink == 0) fd.Close();
      return fd;
    };
    fd_ = os::Await("a reader", "open", path, timeout, look);
    const bool stream = sends == Sends::kStream;
    if (!os::TryLock(fd_.get(), path, stream ? 0 : ::getpid(),
                     stream ? 0 : 1)) {
      throw os::Error(EBUSY, "open", path, "another writer has it");
    }
    LetBlock(fd(), path, timeout);
  }

  int fd() const { return fd_.get(); }

  // Throws EPIPE where the reader has gone, ETIMEDOUT where it takes nothing.
  void Write(std::span<const std::byte> bytes) {
    os::WriteAll(fd(), bytes, path_, timeout_);
  }

 private:
  std::string path_;
  os::Timeout timeout_;  // Of every wait.
  os::UniqueFd fd_;
};

}  // namespace ipc

#endif  // FIFO_FIFO_H_
