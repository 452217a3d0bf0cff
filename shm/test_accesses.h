// In which order a body of code accesses some memory, on x86-64. Each access
// faults, is noted, is then done by itself, as the processor's trap flag has
// it, and the memory is closed again.
#pragma once

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <span>

namespace ipc_testing {

class Accesses {
 public:
  // The addresses within `memory` that `body` accesses, first to last, 10,000
  // at most, until the next call. `memory` has whole pages to itself.
  template <typename Body>
  static std::span<const void* const> Of(std::span<std::byte> memory,
                                         Body body) {
    struct sigaction old_fault {};
    struct sigaction old_step {};
    struct sigaction action {};
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = OnFault;
    ::sigaction(SIGSEGV, &action, &old_fault);
    action.sa_sigaction = OnStep;
    ::sigaction(SIGTRAP, &action, &old_step);
    count_ = 0;
    memory_ = memory;
    Protect(PROT_NONE);
    body();
    Protect(PROT_READ | PROT_WRITE);
    ::sigaction(SIGSEGV, &old_fault, nullptr);
    ::sigaction(SIGTRAP, &old_step, nullptr);
    return {noted_.data(), count_};
  }

 private:
  static constexpr long long kTrapFlag = 0x100;

  static void Protect(int protection) {
    if (::mprotect(memory_.data(), memory_.size(), protection) != 0) {
      std::abort();
    }
  }
  static void OnFault(int, siginfo_t* info, void* context) {
    const auto* address = static_cast<const std::byte*>(info->si_addr);
    const bool within =
        address >= memory_.data() && address < memory_.data() + memory_.size();
    if (!within || count_ == noted_.size()) std::abort();
    noted_[count_++] = address;
    Protect(PROT_READ | PROT_WRITE);
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] |= kTrapFlag;
  }
  static void OnStep(int, siginfo_t*, void* context) {
    Protect(PROT_NONE);
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
  }

  static inline std::span<std::byte> memory_;
  static inline std::array<const void*, 10'000> noted_;
  static inline std::size_t count_ = 0;
};

}  // namespace ipc_testing
