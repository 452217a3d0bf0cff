// What all samples stand on: errors that name the call, interruption that
// cleans up, descriptors and names with an owner, waits that end, whole reads
// and writes, and the manners of a command.
//
// Failures are thrown where the call failed, as os::Error, and become one
// line on stderr in os::Main alone.
#ifndef POSIX_H_
#define POSIX_H_

#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <climits>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace os {

// --- Errors ------------------------------------------------------------------

// A failed call. what() is "CALL 'OBJECT': reason", and "; advice" where it
// helps.
class Error : public std::system_error {
 public:
  Error(int error, const std::string& call, const std::string& object,
        const std::string& advice = "")
      : std::system_error(error, std::generic_category()),
        text_(call + " '" + object + "': " + code().message() +
              (advice.empty() ? "" : "; " + advice)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  std::string text_;
};

// The command line is wrong: Main says why and returns 2.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Thrown where another process has reported the failure: Main returns the
// status.
struct Reported {
  int status;
};

// Says "PROGRAM: text" on stderr, on one line whatever a name in it contains.
inline void Say(std::string text) {
  text = program_invocation_short_name + (": " + text);
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  text += '\n';
  // One write: two programs may share a terminal. If it fails, who to tell?
  [[maybe_unused]] auto n = ::write(STDERR_FILENO, text.data(), text.size());
}

// --- Interruption ------------------------------------------------------------

// Thrown when a signal asks to stop, so that destructors remove what has a
// name.
struct Interrupted {
  int signal;
};

inline std::atomic<int> stop_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free, "signal-safety(7)");

// A call that blocks just after the signal came would not be interrupted by it.
// So SIGALRM follows, every second, until one is.
inline void OnStopSignal(int signal) {
  int none = 0;
  stop_signal.compare_exchange_strong(none, signal);
  ::alarm(1);
}

inline void CatchStopSignals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGALRM}) {
    struct sigaction action {};
    ::sigaction(signal, nullptr, &action);
    // Ignored by nohup, or by a shell that put it into the background.
    if (action.sa_handler == SIG_IGN && signal != SIGALRM) continue;
    action = {};  // No SA_RESTART: calls return.
    action.sa_handler = OnStopSignal;
    ::sigaction(signal, &action, nullptr);
  }
}

inline void ThrowIfStopped() {
  if (const int signal = stop_signal; signal != 0) throw Interrupted{signal};
}

// Calls again for as long as the call is interrupted and nobody asked to stop.
// Returns what the call returned; errno is the call's. signal(7)
template <typename Call, typename... Arguments>
auto Retry(Call call, Arguments... arguments) {
  for (;;) {
    const auto result = call(arguments...);
    if (result != -1 || errno != EINTR) return result;
    ThrowIfStopped();
  }
}

// Retry, and where the call fails an Error in its name.
template <typename Call, typename... Arguments>
auto Check(const char* name, const std::string& object, Call call,
           Arguments... arguments) {
  const auto result = Retry(call, arguments...);
  if (result == -1) throw Error(errno, name, object);
  return result;
}

// --- Descriptors and locks ---------------------------------------------------

// Owns a descriptor; on Linux a message queue is one too.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() { Close(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ != -1; }
  void Close() {
    // Never again, even after EINTR: the number may be another's. close(2)
    if (fd_ != -1) ::close(std::exchange(fd_, -1));
  }

 private:
  int fd_ = -1;
};

inline struct stat Stat(int fd, const std::string& object) {
  struct stat status {};
  Check("fstat", object, ::fstat, fd, &status);
  return status;
}

// A lock tells the others that its process lives: the kernel drops it, however
// the process ends. It needs a descriptor that may write. fcntl(2)
inline struct flock LockOf(short type, off_t first, off_t length) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = first;
  lock.l_len = length;
  return lock;
}

// Locks [first, first + length), length 0 being all from `first` on. False
// where another has locked some of it.
inline bool TryLock(int fd, const std::string& object, off_t first = 0,
                    off_t length = 1) {
  struct flock lock = LockOf(F_WRLCK, first, length);
  if (Retry(::fcntl, fd, F_OFD_SETLK, &lock) == 0) return true;
  if (errno == EAGAIN || errno == EACCES) return false;
  throw Error(errno, "fcntl", object);
}

inline void Unlock(int fd, const std::string& object) {
  struct flock lock = LockOf(F_UNLCK, 0, 0);
  Check("fcntl", object, ::fcntl, fd, F_OFD_SETLK, &lock);
}

// Whether another has locked that byte.
inline bool IsLocked(int fd, const std::string& object, off_t byte = 0) {
  struct flock lock = LockOf(F_WRLCK, byte, 1);
  Check("fcntl", object, ::fcntl, fd, F_OFD_GETLK, &lock);
  return lock.l_type != F_UNLCK;
}

// --- Names -------------------------------------------------------------------

// The advice with EEXIST.
inline constexpr char kNotOurs[] =
    "it is something else, left as it was: remove it or choose another name";
// And with EACCES.
inline constexpr char kAnothers[] = "it is another user's: choose another";

// Opens an object that should exist; empty where none does. Throws EACCES where
// it is another user's: anybody may make names in /tmp and /dev/shm.
template <typename Open, typename... Arguments>
UniqueFd OpenExisting(const char* call, const std::string& object, Open open,
                      Arguments... arguments) {
  UniqueFd fd(Retry(open, arguments...));
  if (!fd && errno != ENOENT) throw Error(errno, call, object);
  if (fd && Stat(fd.get(), object).st_uid != ::geteuid()) {
    throw Error(EACCES, call, object, kAnothers);
  }
  return fd;
}

// A name, and the call that removes it when this goes: unlink, shm_unlink or
// mq_unlink.
class OwnedName {
 public:
  using Unlink = int (*)(const char*);
  OwnedName() = default;
  OwnedName(Unlink unlink, std::string name)
      : unlink_(unlink), name_(std::move(name)) {}
  OwnedName(OwnedName&& other) noexcept { *this = std::move(other); }
  OwnedName& operator=(OwnedName&& other) noexcept {
    std::swap(unlink_, other.unlink_);
    std::swap(name_, other.name_);
    return *this;
  }
  ~OwnedName() { Remove(); }

  void Release() { unlink_ = nullptr; }
  void Remove() {
    if (unlink_ != nullptr) std::exchange(unlink_, nullptr)(name_.c_str());
  }

 private:
  Unlink unlink_ = nullptr;
  std::string name_;
};

struct OwnedObject {
  UniqueFd fd;
  OwnedName name;  // Destroyed first: removed while the lock is still held.
};

inline bool LockFirstByte(int fd, const std::string& object) {
  return TryLock(fd, object);
}

// Makes an object that one process at a time owns, or takes over what a dead
// owner left; EBUSY where the owner lives. `open(flags)` is one call of
// shm_open, mq_open or open. `adopt(fd)` looks at what was left: it throws
// where that is something else, and returns whether to use it, or to remove it
// and begin anew. `lock` is false where another has the lock.
template <typename Open, typename Adopt>
OwnedObject Own(const char* call, const std::string& object,
                OwnedName::Unlink unlink, Open open, Adopt adopt,
                bool (*lock)(int, const std::string&) = LockFirstByte) {
  for (;;) {
    OwnedObject owned{UniqueFd(Retry(open, O_CREAT | O_EXCL)), {}};
    const bool created = static_cast<bool>(owned.fd);
    if (created) {
      owned.name = OwnedName(unlink, object);  // An error here removes it.
    } else if (errno != EEXIST) {
      throw Error(errno, call, object);
    } else {
      owned.fd = OpenExisting(call, object, open, 0);
      if (!owned.fd) continue;  // Its owner has just removed it.
    }
    const bool locked = lock(owned.fd.get(), object);
    const bool linked = Stat(owned.fd.get(), object).st_nlink != 0;
    // A live owner has it, or it was removed before our lock: not our name.
    if (!locked || !linked) owned.name.Release();
    if (!locked) throw Error(EBUSY, call, object, "choose another name");
    if (!linked) continue;
    if (created) return owned;
    const bool use = adopt(owned.fd.get());
    owned.name = OwnedName(unlink, object);
    if (use) return owned;
  }
}

// --- Waiting -----------------------------------------------------------------

using Timeout = std::chrono::milliseconds;
inline constexpr Timeout kForever = Timeout::max();
// How long to wait at most before the next look where the kernel has nothing to
// wait on: for a name that is not there yet, for a peer that died.
inline constexpr Timeout kLook{500};

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;  // CLOCK_MONOTONIC: nobody sets it.
  explicit Deadline(Timeout timeout)
      : end_(timeout == kForever ? Clock::time_point::max()
                                 : Clock::now() + timeout) {}
  bool Passed() const { return Clock::now() >= end_; }
  // The milliseconds left, but at most `limit`; -1 for ever. poll(2)
  int Left(Timeout limit = kForever) const {
    if (end_ != Clock::time_point::max()) {
      limit = std::min({limit, Timeout(INT_MAX),
                        std::chrono::ceil<Timeout>(end_ - Clock::now())});
    }
    return limit == kForever ? -1
                             : std::max(0, static_cast<int>(limit.count()));
  }

 private:
  Clock::time_point end_;
};

// Waits until one of `fds` is ready or was hung up; false when `milliseconds`
// have passed (-1: never). poll(2)
inline bool Poll(std::span<pollfd> fds, int milliseconds) {
  ThrowIfStopped();
  return Check("poll", "descriptors", ::poll, fds.data(), fds.size(),
               milliseconds) != 0;
}

// Waits up to `timeout` until `fd` is ready for `events` or was hung up; else
// throws ETIMEDOUT.
inline void PollFor(const char* what, int fd, short events,
                    const std::string& object, Timeout timeout) {
  pollfd ready{fd, events, 0};
  if (!Poll({&ready, 1}, Deadline(timeout).Left())) {
    throw Error(ETIMEDOUT, "poll", object, std::string("waited for ") + what);
  }
}

inline void Pause(Timeout timeout) {
  Poll({}, static_cast<int>(timeout.count()));
}

// The time `pause` from now on CLOCK_MONOTONIC. sem_clockwait(3)
inline timespec FromNow(Timeout pause) {
  const auto time = (Deadline::Clock::now() + pause).time_since_epoch();
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  return {seconds.count(), std::chrono::nanoseconds(time - seconds).count()};
}

// Waits for a peer and says so. `look(pause)` waits up to `pause` (0 the first
// time, then longer and longer) and returns something that is true when it has
// found what it looked for. Throws ETIMEDOUT in the name of `call`.
template <typename Look>
auto Await(const std::string& what, const char* call, const std::string& object,
           Timeout timeout, Look look) {
  const Deadline deadline(timeout);
  Timeout pause{0};
  for (;;) {
    ThrowIfStopped();
    if (auto found = look(pause)) return found;
    if (deadline.Passed()) {
      throw Error(ETIMEDOUT, call, object, "waited for " + what);
    }
    if (pause == Timeout(0)) {
      Say("waiting for " + what + " on '" + object + "'");
    }
    const Timeout longer = std::min(2 * pause + kLook / 25, kLook);
    pause = Timeout(deadline.Left(longer));
  }
}

// --- Bytes -------------------------------------------------------------------

// From file to file blocks of 4 KiB take twice the time, for their many calls;
// larger ones save no more.
using Block = std::array<std::byte, 65536>;

// Gives a pipe room for four blocks. A default pipe is full after one, so that
// each end waits for the other: twice the time. Where the user's pipes have all
// their room it stays as it is. Linux. pipe(7), "Pipe capacity"
inline void Widen(int pipe) { ::fcntl(pipe, F_SETPIPE_SZ, 4 * sizeof(Block)); }

inline std::span<const std::byte> Bytes(std::string_view text) {
  return std::as_bytes(std::span(text));
}

// Reads what there is, at least one byte, 0 at the end. read(2)
inline std::size_t ReadSome(int fd, std::span<std::byte> buffer,
                            const std::string& object) {
  ThrowIfStopped();
  return static_cast<std::size_t>(
      Check("read", object, ::read, fd, buffer.data(), buffer.size()));
}

// Reads standard input, and throws EPIPE if meanwhile `peer`, to which it is
// copied, loses its reader.
inline std::size_t ReadInput(std::span<std::byte> buffer, int peer,
                             const std::string& object) {
  std::array fds{pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{peer, 0, 0}};
  Poll(fds, -1);
  if ((fds[1].revents & POLLERR) != 0) {
    throw Error(EPIPE, "poll", object, "its reader has gone");
  }
  return ReadSome(STDIN_FILENO, buffer, "standard input");
}

// The same where no descriptor tells that the peer has gone: meanwhile `look`
// is called now and then, and throws if it has.
template <typename Look>
std::size_t ReadInput(std::span<std::byte> buffer, Look look) {
  pollfd input{STDIN_FILENO, POLLIN, 0};
  while (!Poll({&input, 1}, int{kLook.count()})) look();
  return ReadSome(STDIN_FILENO, buffer, "standard input");
}

// Writes all bytes; where a non-blocking descriptor has no room for them, waits
// up to `timeout` for some, or throws ETIMEDOUT. write(2)
inline void WriteAll(int fd, std::span<const std::byte> bytes,
                     const std::string& object, Timeout timeout = kForever) {
  while (!bytes.empty()) {
    ThrowIfStopped();
    const auto n = Retry(::write, fd, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    } else if (errno == EAGAIN) {
      PollFor("room", fd, POLLOUT, object, timeout);
    } else {
      throw Error(errno, "write", object);
    }
  }
}

inline void Print(std::span<const std::byte> bytes) {
  WriteAll(STDOUT_FILENO, bytes, "standard output");
}

// --- Programs ----------------------------------------------------------------

// A program's options, each with a value, and its operands. getopt_long(3)
class CommandLine {
 public:
  // Takes the options of these names. Answers --help itself.
  CommandLine(int argc, char** argv, std::string_view help,
              std::initializer_list<const char*> options) {
    std::vector<option> table;
    for (const char* name : options) {
      table.push_back({name, required_argument, nullptr, 'o'});
    }
    table.push_back({"help", no_argument, nullptr, 'h'});
    table.push_back({});
    argv[0] = program_invocation_short_name;  // What getopt_long complains as.
    int index = 0;
    for (int c;
         (c = ::getopt_long(argc, argv, "", table.data(), &index)) != -1;) {
      if (c == '?') throw UsageError("wrong usage");
      if (c == 'h') {
        Print(Bytes(help));
        std::exit(0);
      }
      options_[table[static_cast<std::size_t>(index)].name] = ::optarg;
    }
    operands_.assign(argv + ::optind, argv + argc);
  }

  bool Has(const std::string& option) const {
    return options_.contains(option);
  }
  std::string Option(const std::string& option, const char* fallback) const {
    return Has(option) ? options_.at(option) : fallback;
  }
  // A number in [least, most].
  template <typename Number>
  Number Option(const std::string& option, Number fallback, Number least,
                Number most) const {
    if (!Has(option)) return fallback;
    const std::string& text = options_.at(option);
    const char* end = text.data() + text.size();
    Number number{};
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    if (error == std::errc() && rest == end && number >= least &&
        number <= most) {
      return number;
    }
    throw UsageError("--" + option + " '" + text + "' is not from " +
                     std::to_string(least) + " to " + std::to_string(most));
  }
  // --timeout, in seconds.
  Timeout TimeoutOption() const {
    if (!Has("timeout")) return kForever;
    return std::chrono::ceil<Timeout>(
        std::chrono::duration<double>(Option("timeout", 0.0, 0.0, 1e6)));
  }
  // The only operand; without one the fallback, or an error where that is null.
  std::string Operand(const char* fallback) const {
    if (operands_.size() > 1) ThrowExtra(operands_[1]);
    if (!operands_.empty()) return operands_[0];
    if (fallback == nullptr) throw UsageError("missing operand");
    return fallback;
  }
  void NoOperand() const {
    if (!operands_.empty()) ThrowExtra(operands_[0]);
  }

 private:
  [[noreturn]] static void ThrowExtra(const std::string& operand) {
    throw UsageError("extra operand '" + operand + "'");
  }

  std::map<std::string, std::string> options_;
  std::vector<std::string> operands_;
};

// Runs the body of a process and returns its exit status. One that was asked to
// stop dies of that signal, once all is cleaned up, so that its parent can
// tell.
template <typename Body>
int ExitStatus(Body body) {
  try {
    body();
    return 0;
  } catch (const Interrupted& interrupted) {
    ::signal(interrupted.signal, SIG_DFL);
    ::raise(interrupted.signal);
  } catch (const Reported& reported) {
    return reported.status;
  } catch (const UsageError& error) {
    Say(error.what() + std::string("; see --help"));
    return 2;
  } catch (const std::exception& error) {
    Say(error.what());
  }
  return 1;
}

// What main returns: the status of `run` on the command line.
inline int Main(int argc, char** argv, std::string_view help,
                std::initializer_list<const char*> options,
                void (*run)(const CommandLine&)) {
  // Were one of these closed, the next object opened would be in its place, and
  // be printed into. What is opened here fails with EBADF, as a closed one
  // does.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) == -1) {
      ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
    }
  }
  ::signal(SIGPIPE,
           SIG_IGN);  // EPIPE is reported; SIGPIPE would kill silently.
  CatchStopSignals();
  return ExitStatus([&] { run(CommandLine(argc, argv, help, options)); });
}

}  // namespace os

#endif  // POSIX_H_
