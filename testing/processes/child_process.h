// Programs under test, as child processes that don't outlive their test.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <ostream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ipc_testing {

// How a process ended: by exit with a status from 0 to 255, or of a signal.
struct End {
  int status = -1;
  int signal = 0;
  bool operator==(const End&) const = default;
};
inline End Exited(int status) { return {status, 0}; }
inline End Killed(int signal) { return {-1, signal}; }
std::ostream& operator<<(std::ostream& out, const End& end);

// How much processor time a process has used, and how much all children that
// have ended.
std::chrono::nanoseconds CpuTime(pid_t pid);
std::chrono::nanoseconds CpuTimeOfEnded();

// A program with pipes on its standard input, output and error, all of which
// are served in the background, so that none ever fills up. The destructor
// kills it, and so does the end of the thread that made it.
class ChildProcess {
 public:
  // Starts argv[0]. `input` is its standard input; without one, that stays open
  // for Send. `in_child` runs before exec, to close descriptors, set limits and
  // so on; after fork in a process with threads, it may make system calls only.
  explicit ChildProcess(
      std::vector<std::string> argv,
      const std::optional<std::string>& input = "",
      const std::function<void()>& in_child = [] {});
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  void Send(const std::string& input);
  void CloseInput();
  void Signal(int signal);
  pid_t pid() const { return pid_; }

  // What has come so far.
  std::string Out();
  std::string Err();
  // Waits until standard output, or error, contains `text`, or throws
  // std::runtime_error with what there is: when it has ended, or the time is
  // up.
  void AwaitOut(const std::string& text);
  void AwaitErr(const std::string& text);
  // Waits for its end, and for the end of its output and error. Throws
  // std::runtime_error when the time is up.
  End Wait();
  bool HasEnded();
  // Returns once it has stopped. Throws std::runtime_error when it has ended,
  // or the time is up.
  void AwaitStop();
  // SIGSTOP, and AwaitStop.
  void Stop();
  std::chrono::nanoseconds CpuTime() const {
    return ipc_testing::CpuTime(pid_);
  }

  // How long to wait at most, here: far longer than anything should take, and
  // shorter than Bazel waits, which would say less about it.
  static constexpr std::chrono::seconds kPatience{30};
  void set_patience(std::chrono::milliseconds patience) {
    patience_ = patience;
  }

 private:
  void Serve();  // The thread: moves input and output.
  void Await(const std::string& what, const std::function<bool()>& condition);

  pid_t pid_ = -1;
  int in_ = -1;
  int out_ = -1;
  int err_ = -1;
  int wake_ = -1;  // An eventfd: tells the thread of more to send.
  int pidfd_ = -1;
  std::chrono::milliseconds patience_ = kPatience;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string input_;  // All below guarded by mutex_.
  bool input_ends_ = false;
  bool stop_ = false;
  std::string output_;
  std::string error_;
  std::optional<End> end_;
  bool done_ = false;  // Ended, and output and error, too.
  std::thread thread_;
};

// Looks until it is so: for what nothing announces. Throws std::runtime_error
// when the time is up.
void Eventually(const std::function<bool()>& condition);

// What makes of a child's standard output one that fails, and how: it is full,
// closed, or a pipe that nobody reads.
std::vector<std::pair<void (*)(), const char*>> FailingOutputs();

// The path of a program that the BUILD file names in the environment variable.
std::string Program(const char* variable);

// The command that runs `argv` while strace does to it what `fault` says at
// each of these system calls, or only at those on `path`: "signal=KILL:when=3",
// "error=EIO", and so on. strace(1)
std::vector<std::string> WithFault(const std::string& calls,
                                   const std::string& fault,
                                   const std::vector<std::string>& argv,
                                   const std::string& path = "");

// "/ipc-test-..." and so on: no two tests, nor two runs of one, share it.
std::string UniqueName();

// A directory under /tmp with a short path, removed with all that is in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const {
    return path_ + "/" + name;
  }
  // The names in it, sorted.
  std::vector<std::string> Names() const;

 private:
  std::string path_;
};

// `size` bytes of every value, NUL included; the same for the same size.
std::string RandomBytes(std::size_t size);

}  // namespace ipc_testing
