#include "testing/processes/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <system_error>
#include <utility>

extern "C" {
#include <sys/pidfd.h>  // glibc 2.36 forgets to say that these are C.
}

namespace ipc_testing {
namespace {

int Check(int result, const char* call) {
  if (result == -1) {
    throw std::system_error(errno, std::generic_category(), call);
  }
  return result;
}

std::array<int, 2> Pipe() {
  std::array<int, 2> ends{};
  Check(::pipe2(ends.data(), O_CLOEXEC), "pipe2");
  return ends;
}

void Close(int& fd) {
  if (fd != -1) ::close(std::exchange(fd, -1));
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const End& end) {
  if (end.signal != 0) return out << "killed by signal " << end.signal;
  return out << "exited with " << end.status;
}

std::chrono::nanoseconds CpuTime(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  // Returns the error; of one that has been waited for the clock would be 0,
  // the wall's.
  errno = ::clock_getcpuclockid(pid, &clock);
  Check(errno == 0 ? 0 : -1, "clock_getcpuclockid");
  Check(::clock_gettime(clock, &time), "clock_gettime");
  return std::chrono::seconds(time.tv_sec) +
         std::chrono::nanoseconds(time.tv_nsec);
}

std::chrono::nanoseconds CpuTimeOfEnded() {
  rusage usage{};
  Check(::getrusage(RUSAGE_CHILDREN, &usage), "getrusage");
  const auto time = [](const timeval& value) {
    return std::chrono::seconds(value.tv_sec) +
           std::chrono::microseconds(value.tv_usec);
  };
  return time(usage.ru_utime) + time(usage.ru_stime);
}

ChildProcess::ChildProcess(std::vector<std::string> argv,
                           const std::optional<std::string>& input,
                           const std::function<void()>& in_child)
    : input_(input.value_or("")), input_ends_(input.has_value()) {
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (std::string& argument : argv) arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  const auto in = Pipe();
  const auto out = Pipe();
  const auto err = Pipe();
  const pid_t parent = ::getpid();
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(126);  // It died before the line above.
    // Whatever runs the test may ignore these (nohup, "&"): exec would keep it.
    // A signal that Signal sends meanwhile is blocked, and so isn't lost.
    for (const int signal : {SIGHUP, SIGINT, SIGPIPE, SIGTERM}) {
      ::signal(signal, SIG_DFL);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::dup2(in[0], STDIN_FILENO);
    ::dup2(out[1], STDOUT_FILENO);
    ::dup2(err[1], STDERR_FILENO);
    in_child();
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  Check(pid_, "fork");
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  in_ = in[1];
  out_ = out[0];
  err_ = err[0];
  ::fcntl(in_, F_SETFL, O_NONBLOCK);
  pidfd_ = Check(::pidfd_open(pid_, 0), "pidfd_open");
  wake_ = Check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
  thread_ = std::thread([this] { Serve(); });
}

ChildProcess::~ChildProcess() {
  ::pidfd_send_signal(pidfd_, SIGKILL, nullptr, 0);
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  ::eventfd_write(wake_, 1);
  thread_.join();
  // Where the thread stopped before that. Else the number may be another's.
  if (!end_.has_value()) ::waitpid(pid_, nullptr, 0);
  for (int* fd : {&in_, &out_, &err_, &wake_, &pidfd_}) Close(*fd);
}

void ChildProcess::Send(const std::string& input) {
  {
    const std::lock_guard lock(mutex_);
    input_ += input;
  }
  ::eventfd_write(wake_, 1);
}

void ChildProcess::CloseInput() {
  {
    const std::lock_guard lock(mutex_);
    input_ends_ = true;
  }
  ::eventfd_write(wake_, 1);
}

// Through the pidfd: a number could be another process's by now.
void ChildProcess::Signal(int signal) {
  ::pidfd_send_signal(pidfd_, signal, nullptr, 0);
}

std::string ChildProcess::Out() {
  const std::lock_guard lock(mutex_);
  return output_;
}

std::string ChildProcess::Err() {
  const std::lock_guard lock(mutex_);
  return error_;
}

bool ChildProcess::HasEnded() {
  const std::lock_guard lock(mutex_);
  return end_.has_value();
}

void ChildProcess::AwaitStop() {
  siginfo_t info{};
  Eventually([&] {
    Check(::waitid(P_PIDFD, static_cast<id_t>(pidfd_), &info,
                   WSTOPPED | WEXITED | WNOWAIT | WNOHANG),
          "waitid");
    return info.si_pid != 0;
  });
  if (info.si_code == CLD_STOPPED) return;
  throw std::runtime_error("it has ended, and not stopped");
}

void ChildProcess::Stop() {
  Signal(SIGSTOP);
  AwaitStop();
}

void ChildProcess::Await(const std::string& what,
                         const std::function<bool()>& condition) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience_, [&] { return condition() || done_; });
  if (!condition()) {
    throw std::runtime_error("waited in vain for " + what + "; output: \"" +
                             output_.substr(0, 1000) + "\", error: \"" +
                             error_.substr(0, 1000) + "\"");
  }
}

void ChildProcess::AwaitOut(const std::string& text) {
  Await("'" + text + "' on standard output",
        [&] { return output_.find(text) != std::string::npos; });
}

void ChildProcess::AwaitErr(const std::string& text) {
  Await("'" + text + "' on standard error",
        [&] { return error_.find(text) != std::string::npos; });
}

End ChildProcess::Wait() {
  Await("its end", [&] { return done_; });
  const std::lock_guard lock(mutex_);
  return *end_;
}

void ChildProcess::Serve() {
  // The test outlives a program that doesn't read its input: EPIPE, below.
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  std::array<char, 65536> buffer;
  for (;;) {
    bool sending = false;
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      if (input_.empty() && input_ends_) Close(in_);
      sending = !input_.empty();
      done_ = end_.has_value() && out_ == -1 && err_ == -1;
      changed_.notify_all();
      if (done_) return;
    }
    // A descriptor of -1 is passed over.
    std::array fds{pollfd{sending ? in_ : -1, POLLOUT, 0},
                   pollfd{out_, POLLIN, 0}, pollfd{err_, POLLIN, 0},
                   pollfd{wake_, POLLIN, 0},
                   pollfd{end_.has_value() ? -1 : pidfd_, POLLIN, 0}};
    ::poll(fds.data(), fds.size(), -1);
    std::uint64_t count = 0;
    if (fds[3].revents != 0) ::eventfd_read(wake_, &count);
    const std::lock_guard lock(mutex_);
    if (fds[0].revents != 0) {
      const ssize_t n = ::write(in_, input_.data(), input_.size());
      if (n > 0) input_.erase(0, static_cast<std::size_t>(n));
      if (n == -1 && errno != EAGAIN) {  // It doesn't read any more.
        input_.clear();
        Close(in_);
      }
    }
    for (auto [ready, fd, text] : {std::tuple(&fds[1], &out_, &output_),
                                   std::tuple(&fds[2], &err_, &error_)}) {
      if (ready->revents == 0) continue;
      const ssize_t n = ::read(*fd, buffer.data(), buffer.size());
      if (n > 0) text->append(buffer.data(), static_cast<std::size_t>(n));
      if (n == 0) Close(*fd);
    }
    if (fds[4].revents != 0) {
      int status = 0;
      ::waitpid(pid_, &status, 0);
      end_ = WIFSIGNALED(status) ? Killed(WTERMSIG(status))
                                 : Exited(WEXITSTATUS(status));
    }
  }
}

std::string Program(const char* variable) {
  const char* path = std::getenv(variable);
  if (path == nullptr) {
    throw std::runtime_error(std::string(variable) + " is not set");
  }
  return std::filesystem::absolute(path);
}

std::vector<std::string> WithFault(const std::string& calls,
                                   const std::string& fault,
                                   const std::vector<std::string>& argv,
                                   const std::string& path) {
  // -D: the child is the program, and strace its grandchild. LeakSanitizer
  // refuses to be traced.
  std::vector<std::string> command{
      "/usr/bin/strace",    "-Dqqq",
      "--output=/dev/null", "--env=ASAN_OPTIONS=detect_leaks=0",
      "--trace=" + calls,   "--inject=" + calls + ":" + fault};
  if (!path.empty()) command.push_back("--trace-path=" + path);
  command.insert(command.end(), argv.begin(), argv.end());
  return command;
}

void Eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + ChildProcess::kPatience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      throw std::runtime_error("waited in vain");
    }
    ::poll(nullptr, 0, 1);
  }
}

std::vector<std::pair<void (*)(), const char*>> FailingOutputs() {
  return {
      {[] { ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO); },
       "No space left on device"},
      {[] { ::close(STDOUT_FILENO); }, "Bad file descriptor"},
      {[] {
         int ends[2] = {};
         if (::pipe(ends) == 0) ::dup2(ends[1], STDOUT_FILENO);
         ::close(ends[0]);
       },
       "Broken pipe"},
  };
}

std::string UniqueName() {
  static std::atomic<unsigned> count = 0;
  static const auto kSeed = std::random_device()();
  return "/ipc-test-" + std::to_string(::getpid()) + "-" +
         std::to_string(kSeed) + "-" + std::to_string(count++);
}

TemporaryDirectory::TemporaryDirectory() : path_("/tmp/ipc-test-XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) Check(-1, "mkdtemp");
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::vector<std::string> TemporaryDirectory::Names() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path_)) {
    names.push_back(entry.path().filename());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string RandomBytes(std::size_t size) {
  std::mt19937 random(static_cast<unsigned>(size) + 1);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

}  // namespace ipc_testing
