// Two processes, on two cores or on one, that exchange numbered messages, look
// at what they get, and measure how long that takes.
#pragma once

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstring>
#include <numeric>
#include <optional>
#include <string>

#include "benchmark_link.h"
#include "program.h"

namespace ipc_benchmark {

// What is asked of the child, and what it answers.
struct Task {
  enum Kind : std::uint64_t { kRoundTrip, kOneWay } kind;
  std::uint64_t count;
};
struct Report {
  Nanoseconds end;        // When it had everything.
  Nanoseconds processor;  // How much of it this took.
};

struct Slice {
  Nanoseconds wall;
  Nanoseconds processor;  // Of both processes.
  std::vector<Nanoseconds> times;
};

template <typename Link>
class Pair {
 public:
  explicit Pair(const Setup& setup) : setup_(setup), shared_(setup) {
    int ends[2];
    ipc::Check(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends),
               "socketpair", "control");
    control_ = ipc::UniqueFd(ends[0]);
    ipc::UniqueFd child(ends[1]);
    ::signal(SIGCHLD, ipc::OnStopSignal);  // It should not end before us.
    pid_ = ipc::Check(::fork(), "fork", "child");
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);  // Not SIGKILL: it has names.
      ::signal(SIGCHLD, SIG_DFL);
      std::swap(control_, child);
      child = ipc::UniqueFd();
      ::_exit(ipc::ExitStatus([&] { Serve(); }));
    }
    RunOn(setup_.cores.front());
    link_.emplace(shared_, Side::kParent);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;
  ~Pair() {
    ::signal(SIGCHLD, SIG_DFL);
    ::kill(pid_, SIGTERM);
    while (::waitpid(pid_, nullptr, 0) == -1 && errno == EINTR) continue;
  }

  Slice Run(Task task) {
    Put(task);
    Ask(*link_);  // Both are awake, and the child is ready.
    Slice slice{Now(), -Now(CLOCK_PROCESS_CPUTIME_ID), {}};
    const Nanoseconds start = slice.wall;
    if (task.kind == Task::kRoundTrip) {
      slice.times.reserve(task.count);
      Nanoseconds last = start;
      while (slice.times.size() < task.count) {
        Ask(*link_);
        slice.times.push_back(Now() - last);
        last += slice.times.back();
      }
    } else {
      for (std::uint64_t i = 0; i < task.count; ++i) SendNext(*link_);
      Flush(*link_);
    }
    slice.processor += Now(CLOCK_PROCESS_CPUTIME_ID);
    const auto report = Get<Report>();
    slice.wall = report.end - start;
    slice.processor += report.processor;
    Verify(in_ == expected_);
    return slice;
  }

 private:
  void Serve() {
    RunOn(setup_.cores.back());
    Link link(shared_, Side::kChild);
    for (;;) {
      const auto task = Get<Task>();
      Answer(link);
      const Nanoseconds before = Now(CLOCK_PROCESS_CPUTIME_ID);
      for (std::uint64_t i = 0; i < task.count; ++i) {
        task.kind == Task::kRoundTrip ? Answer(link) : ReceiveNext(link);
      }
      const Report report{Now(), Now(CLOCK_PROCESS_CPUTIME_ID) - before};
      Verify(in_ == expected_);  // Of the last one every byte.
      Put(report);
    }
  }

  void Ask(Link& link) {
    SendNext(link);
    Flush(link);
    ReceiveNext(link);
  }
  void Answer(Link& link) {
    ReceiveNext(link);
    SendNext(link);
    Flush(link);
  }
  static void Flush(Link& link) {
    if constexpr (requires { link.Flush(); }) link.Flush();
  }

  // The number is in a message's first and last eight bytes.
  static void Number(Message& message, std::uint64_t number) {
    std::memcpy(message.data(), &number, kNumber);
    std::memcpy(&message[message.size() - kNumber], &number, kNumber);
  }
  void SendNext(Link& link) {
    Number(out_, ++sent_);
    link.Send(out_);
  }
  void ReceiveNext(Link& link) {
    link.Receive(in_);
    Number(expected_, ++received_);
    const std::size_t last = expected_.size() - kNumber;
    Verify(in_.size() == expected_.size() &&
           std::memcmp(in_.data(), expected_.data(), kNumber) == 0 &&
           std::memcmp(&in_[last], &expected_[last], kNumber) == 0);
  }
  void Verify(bool good) const {
    if (good) return;
    throw ipc::Error(EBADMSG, "message", std::to_string(received_),
                     "it is not what was sent");
  }

  template <typename Record>
  void Put(const Record& record) {
    const auto* bytes = reinterpret_cast<const char*>(&record);
    ipc::WriteAll(control_.get(), {bytes, sizeof(record)}, "control");
  }
  template <typename Record>
  Record Get() {
    ipc::Block block;
    const auto bytes = ipc::ReadSome(control_.get(), block, "control");
    Record record{};
    if (bytes.size() != sizeof(record)) {
      throw ipc::Error(EPIPE, "read", "control", "the other process has gone");
    }
    std::memcpy(&record, bytes.data(), sizeof(record));
    return record;
  }

  static constexpr std::size_t kNumber = sizeof(std::uint64_t);

  static Message Pattern(std::size_t size) {
    Message pattern(size, '\0');
    std::iota(pattern.begin(), pattern.end(), '\0');
    return pattern;
  }

  Setup setup_;
  typename Link::Shared shared_;
  ipc::UniqueFd control_;
  pid_t pid_ = -1;
  std::optional<Link> link_;
  Message out_ = Pattern(setup_.size);
  Message expected_ = out_;
  Message in_ = Message(setup_.size, '\0');
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

}  // namespace ipc_benchmark
