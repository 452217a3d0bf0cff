// What two processes of a benchmark exchange messages through is a Link: made
// in each of them from a Link::Shared, which was made before the fork. Send and
// Receive move one message. Where Send holds some back, Flush sends them.
#pragma once

#include <sched.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "posix.h"

namespace ipc_benchmark {

using Message = std::string;
using Nanoseconds = std::int64_t;

enum class Side { kParent, kChild };

struct Setup {
  std::size_t size;  // Of each message.
  std::vector<int> cores;
  std::string name;  // Nobody else's.
  bool OneCore() const { return cores.front() == cores.back(); }
};

inline Nanoseconds Now(clockid_t clock = CLOCK_MONOTONIC) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return time.tv_sec * Nanoseconds{1'000'000'000} + time.tv_nsec;
}

inline void RunOn(int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<std::size_t>(core), &set);
  ipc::Check(::sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity",
             "self");
}

// Two processors that we may use: of two cores, where there are.
inline std::vector<int> TwoCores() {
  cpu_set_t set;
  ipc::Check(::sched_getaffinity(0, sizeof(set), &set), "sched_getaffinity",
             "self");
  std::vector<int> cores;
  std::vector<std::string> seen;
  for (int i = 0; i < CPU_SETSIZE && cores.size() < 2; ++i) {
    if (!CPU_ISSET(static_cast<std::size_t>(i), &set)) continue;
    std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(i) +
                       "/topology/thread_siblings_list");
    std::string siblings = std::to_string(i);  // Where nobody says.
    std::getline(file, siblings);
    if (std::ranges::count(seen, siblings) != 0) continue;
    seen.push_back(siblings);
    cores.push_back(i);
  }
  return cores;
}

// The floor of every stream: the simplest loops. They fail when interrupted.
inline void BareWrite(int fd, const Message& message) {
  for (std::size_t done = 0; done < message.size();) {
    const auto n = ::write(fd, message.data() + done, message.size() - done);
    if (n <= 0) throw ipc::Error(errno, "write", "floor");
    done += static_cast<std::size_t>(n);
  }
}
inline void BareRead(int fd, Message& message) {
  for (std::size_t done = 0; done < message.size();) {
    const auto n = ::read(fd, message.data() + done, message.size() - done);
    if (n <= 0) throw ipc::Error(n == 0 ? EPIPE : errno, "read", "floor");
    done += static_cast<std::size_t>(n);
  }
}

}  // namespace ipc_benchmark
