// For any code that makes system calls: errors that name the call, owners of
// descriptors, waits that end, whole reads and writes.
//
// It and name.h print nothing, install no handler and read no command line.
// What they ask of the process that copies it:
// - Linux 5.3, glibc 2.30 and C++20, or newer.
// - SIGPIPE and SIGXFSZ are ignored: otherwise a write to a peer that has gone,
//   or to a file that may not grow, kills the process before it can clean up.
// - Who wants to be stopped by a signal has its handler set `stop_signal`, and
//   installs it without SA_RESTART. Waits then end: they throw EINTR. A signal
//   that comes just before a call blocks does not interrupt it: the handler has
//   to make it come again, as program.h does by alarm(2).
// - A child made by fork keeps the locks of its parent alive for as long as it
//   keeps the descriptors: it has to close them, or to call exec.
// - Threads may use all of this, but not one object at the same time.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <span>
#include <string>
#include <system_error>
#include <utility>

namespace ipc {

// --- Errors ------------------------------------------------------------------

// A failed call. what() is "CALL 'OBJECT': reason", then "; advice" if any.
// Nothing allocates memory for a parameter: that could change errno before it
// is read.
struct Error : std::system_error {
  Error(int error, std::string_view call, std::string_view object,
        std::string_view advice = "")
      : system_error(error, std::generic_category()), text(call) {
    text.append(" '").append(object).append("': " + code().message());
    if (!advice.empty()) text.append("; ").append(advice);
  }
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

// Passes on what a call has returned, or throws an Error if that is -1.
auto Check(auto result, const char* call, std::string_view object) {
  if (result == -1) throw Error(errno, call, object);
  return result;
}

// --- Interruption ------------------------------------------------------------

// The signal that has asked to stop, or 0.
inline std::atomic<int> stop_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free, "signal-safety(7)");

// Throws EINTR if a signal has asked to stop. For loops that may never wait.
inline void ThrowIfStopped() {
  if (stop_signal != 0) throw Error(EINTR, "signal", "process");
}

// For calls that wait: calls again after EINTR, unless a signal has asked to
// stop. signal(7)
auto Retry(auto call) {
  auto result = call();
  while (result == -1 && errno == EINTR && stop_signal == 0) result = call();
  return result;
}

// --- Descriptors -------------------------------------------------------------

// Owns a descriptor. `Close` is called once: even after EINTR another thread
// may already have been given this descriptor. close(2)
template <int (*Close)(int)>
class UniqueHandle {
 public:
  explicit UniqueHandle(int fd = -1) : fd_(fd) {}
  UniqueHandle(UniqueHandle&& other) noexcept { std::swap(fd_, other.fd_); }
  UniqueHandle& operator=(UniqueHandle other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueHandle() {
    if (fd_ != -1) Close(fd_);
  }
  explicit operator bool() const { return fd_ != -1; }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};
using UniqueFd = UniqueHandle<::close>;

// --- Waiting -----------------------------------------------------------------

using Seconds = std::chrono::duration<double>;
inline constexpr Seconds kForever{HUGE_VAL};

inline Seconds Now() {  // CLOCK_MONOTONIC, which nobody can set.
  return std::chrono::steady_clock::now().time_since_epoch();
}

// Waits until one of `fds` is ready or was hung up; false when the time is up.
// Eleven days are taken for ever. poll(2)
inline bool Poll(std::span<pollfd> fds, Seconds timeout) {
  ThrowIfStopped();
  const Seconds end = Now() + timeout;
  const auto poll = [&] {
    const double left = std::ceil((end - Now()) / std::chrono::milliseconds(1));
    const int most = left > 1e9 ? -1 : static_cast<int>(std::max(left, 0.0));
    return ::poll(fds.data(), fds.size(), most);
  };
  return Check(Retry(poll), "poll", "descriptors") != 0;
}

// Waits until `fd` is ready for `events`, which are `what` for the user. Throws
// ETIMEDOUT.
inline void PollFor(const char* what, int fd, short events, Seconds timeout,
                    std::string_view object) {
  pollfd ready{fd, events, 0};
  if (Poll({&ready, 1}, timeout)) return;
  throw Error(ETIMEDOUT, "poll", object, std::string("waited for ") + what);
}

// --- Bytes -------------------------------------------------------------------

// From file to file blocks of 4 KiB take twice the time, for their many calls;
// larger ones save no more.
using Block = std::array<char, 65536>;

// Reads what there is, at least one byte; nothing at the end. Where a
// descriptor that doesn't block has nothing yet, waits for it. Throws
// ETIMEDOUT. read(2)
inline std::string_view ReadSome(int fd, Block& block, std::string_view object,
                                 Seconds timeout = kForever) {
  for (;;) {
    ThrowIfStopped();
    const auto n = Retry([&] { return ::read(fd, &block, sizeof(block)); });
    if (n != -1) return {block.data(), static_cast<std::size_t>(n)};
    if (errno != EAGAIN) throw Error(errno, "read", object);
    PollFor("bytes", fd, POLLIN, timeout, object);
  }
}

// Writes all bytes. Where a descriptor that doesn't block has no room, waits
// for it. Throws ETIMEDOUT. A signal stops it only while it waits: bytes that
// were taken from elsewhere to be written would be lost. write(2)
inline void WriteAll(int fd, std::string_view bytes, std::string_view object,
                     Seconds timeout = kForever) {
  while (!bytes.empty()) {
    auto n = Retry([&] { return ::write(fd, bytes.data(), bytes.size()); });
    if (n == -1 && errno == EAGAIN) {
      PollFor("room", fd, POLLOUT, timeout, object);
    } else {
      bytes.remove_prefix(static_cast<std::size_t>(Check(n, "write", object)));
    }
  }
}

}  // namespace ipc
