// For owners of names in /dev/shm, /dev/mqueue or a file system, which outlive
// a process that is killed: who owns a name, what a killed owner has left, and
// whether the process at the other side lives.
//
// What has a name is one of these:
// - another program's: it has not the mark kOurs, and is left as it was;
// - in use: its owner holds the lock of flock(2), which the kernel drops when
//   the owner ends, however it ends;
// - a left-over: it has the mark, and nobody holds the lock.
#pragma once

#include <sys/file.h>
#include <sys/stat.h>

#include "posix.h"

namespace ipc {

inline struct stat Status(int fd, std::string_view object) {
  struct stat status {};
  Check(::fstat(fd, &status), "fstat", object);
  return status;
}

// Goes into the mode with which an object is created. Nobody else sets this bit
// for objects that are no directories, where it has no meaning. Linux only.
inline constexpr mode_t kOurs = S_ISVTX;

// Throws EACCES for another user's object: anybody may make names in /tmp and
// /dev/shm. Throws EEXIST for one of another type, or without our mark; with a
// `mark` of 0 it may be any program's. `fd` is what the call that opens it has
// returned.
inline void CheckOurs(int fd, mode_t type, const char* call,
                      const std::string& name, mode_t mark = kOurs) {
  const struct stat status = Status(Check(fd, call, name), name);
  if (status.st_uid != ::geteuid()) {
    throw Error(EACCES, call, name, "another user's: choose another name");
  }
  if ((status.st_mode & (S_IFMT | mark)) == (type | mark)) return;
  throw Error(EEXIST, call, name, "another program's: choose another name");
}

// Owns a name: holds the lock, and in the end removes the name if it is still
// that of the object which `fd` has open.
class OwnedName {
 public:
  // Throws EBUSY where another process has the lock, or has just removed the
  // object. If this throws, the name stays, as it may be somebody else's.
  OwnedName(int (*unlink)(const char*), const char* call, std::string name,
            int fd)
      : unlink_(unlink), name_(std::move(name)), fd_(fd) {
    const bool locked = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (!locked && errno != EWOULDBLOCK) throw Error(errno, "flock", name_);
    if (locked && Status(fd, name_).st_nlink != 0) return;
    throw Error(EBUSY, call, name_, "in use: choose another name");
  }
  OwnedName(OwnedName&&) = delete;  // Nor can it be copied, or assigned.
  ~OwnedName() {
    struct stat status {};
    const bool linked = ::fstat(fd_, &status) == 0 && status.st_nlink != 0;
    if (linked && unlink_ != nullptr) unlink_(name_.c_str());
  }
  void Keep() { unlink_ = nullptr; }  // The next owner takes it over.

 private:
  int (*unlink_)(const char*);
  std::string name_;
  int fd_;
};

// --- Locks -------------------------------------------------------------------
//
// By locks of bytes the two sides tell each other that they live: the kernel
// drops them, too, when their process ends. They are not the lock of a name:
// who removes a left-over has that, and must not look like a living owner.

// Locks the bytes [first, first + length), or all from `first` on where
// `length` is 0. `type` is F_WRLCK, or F_UNLCK to unlock. False where another
// process has locked some of them. fcntl(2), "Open file description locks"
inline bool SetLock(int fd, short type, off_t first, off_t length,
                    std::string_view object) {
  struct flock lock = {type, SEEK_SET, first, length, 0};
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  throw Error(errno, "fcntl", object);
}

// Whether another process has locked that byte.
inline bool IsLocked(int fd, off_t byte, std::string_view object) {
  struct flock lock = {F_WRLCK, SEEK_SET, byte, 1, 0};
  Check(::fcntl(fd, F_OFD_GETLK, &lock), "fcntl", object);
  return lock.l_type != F_UNLCK;
}

}  // namespace ipc
