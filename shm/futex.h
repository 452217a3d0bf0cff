// Waiting for what another process stores in shared memory: some microseconds
// awake, then asleep. Who stores makes a system call only where the other
// sleeps. Linux's alone. futex(2), membarrier(2)
#ifndef SHM_FUTEX_H_
#define SHM_FUTEX_H_

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>

#include <cstdint>

#include "posix.h"

namespace ipc {

// One side's, in shared memory; all zero until it is there.
struct alignas(64) Sleeper {
  enum Mode : std::uint32_t { kAbsent, kFenced, kExpedited };
  std::atomic<std::uint32_t> mode;
  std::atomic<std::uint32_t> asleep;
  std::atomic<std::uint32_t> epoch;      // How often it was woken.
  std::atomic<std::uint32_t> processor;  // Where it last waited, and 1.
};

// One of two sides that wait for each other's stores.
//
// Who goes to sleep raises its flag, and then looks again; who stores looks at
// the flag after that. Each has to see what the other did first, or the wake-up
// is lost: the store must come before the load on both sides. With seq_cst it
// does, and that costs more than all else on the way. Expedited, it costs who
// stores nothing: who goes to sleep has the kernel put a barrier into whatever
// the other process is doing.
class Futex {
 public:
  Futex(Sleeper& mine, Sleeper& its, std::string name)
      : mine_(mine), its_(its), name_(std::move(name)) {
    const bool expedited =
        Membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
    mine_.mode = expedited ? Sleeper::kExpedited : Sleeper::kFenced;
    if (its_.asleep != 0) Wake();
  }

  // Whether the other side is there. True before Store and Wait are used.
  bool Met() {
    expedited_ =
        mine_.mode == Sleeper::kExpedited && its_.mode == Sleeper::kExpedited;
    return its_.mode != Sleeper::kAbsent;
  }

  // Stores `value` for the other side, which sees all that was stored before.
  template <typename Value>
  void Store(std::atomic<Value>& word, Value value) {
    if (expedited_) {
      word.store(value, std::memory_order_release);
      // The processor may turn these round, the compiler may not.
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      word.store(value, std::memory_order_seq_cst);
    }
    if (its_.asleep.load(std::memory_order_seq_cst) != 0) Wake();
  }

  // Leaves the other side's cache lines to it for `pauses` times 10 to 50 ns.
  static void Relax(int pauses) {
    for (int i = 0; i < pauses; ++i) {
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("isb");
#endif
    }
  }
  // Looks for as long as a wake-up may take, without a system call; returns
  // ready(). Less and less often: each look takes a cache line from who is to
  // store there. Not where the other side waits for this very processor.
  template <typename Ready>
  bool Spin(Ready ready) {
    const auto here = static_cast<std::uint32_t>(::sched_getcpu() + 1);
    if (mine_.processor != here) mine_.processor = here;
    const int looks = its_.processor == here ? 1 : kLooks;
    for (int look = 0; look < looks; ++look) {
      if (ready()) return true;
      Relax(1 + look / 2);
    }
    return false;
  }

  // Sleeps until the other side has stored, or up to `pause`; returns ready(),
  // which has to load with seq_cst.
  template <typename Ready>
  bool Sleep(os::Timeout pause, Ready ready) {
    os::ThrowIfStopped();
    // Before the flag: who sees that advances the epoch, and futex returns.
    const std::uint32_t epoch = mine_.epoch;
    mine_.asleep = 1;
    if (expedited_ && Membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED) == -1) {
      throw os::Error(errno, "membarrier", name_);
    }
    if (!ready()) Call(mine_, FUTEX_WAIT, epoch, pause);
    mine_.asleep = 0;
    return ready();
  }

 private:
  static constexpr int kLooks = 48;  // 600 pauses, 6 to 30 microseconds.

  static long Membarrier(int command) {
    return ::syscall(SYS_membarrier, command, 0, 0);
  }
  void Wake() {
    // The flag first: once it is woken, the next one may be up.
    if (its_.asleep.exchange(0) == 0) return;
    ++its_.epoch;
    Call(its_, FUTEX_WAKE, 1, {});
  }
  // Not FUTEX_PRIVATE_FLAG, as std::atomic::wait has it: that wakes nobody in
  // another process.
  void Call(Sleeper& sleeper, int operation, std::uint32_t value,
            os::Timeout pause) const {
    const timespec timeout{0, std::chrono::nanoseconds(pause).count()};
    const auto result = os::Retry(::syscall, long{SYS_futex}, &sleeper.epoch,
                                  operation, value, &timeout, nullptr, 0);
    if (result == -1 && errno != EAGAIN && errno != ETIMEDOUT) {
      throw os::Error(errno, "futex", name_);
    }
  }

  Sleeper& mine_;
  Sleeper& its_;
  std::string name_;
  bool expedited_ = false;
};

}  // namespace ipc

#endif  // SHM_FUTEX_H_
