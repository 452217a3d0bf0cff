// What both sides of a ring have: its layout, and how they wait for each other.
// See ring.h.
#ifndef SHM_RING_SIDE_H_
#define SHM_RING_SIDE_H_

#include "futex.h"
#include "shared_memory.h"

namespace ipc {

// What lies in the object. Positions count all bytes that ever were. Each side
// stores into a cache line of its own, or it would take the other's from it.
struct RingLayout {
  struct alignas(64) Side {
    std::atomic<std::uint64_t> position;
    std::atomic<std::uint32_t> ended;  // No byte follows; or that was seen.
    Sleeper sleeper;
  };
  static constexpr std::uint32_t kMagic = 0x52494e31;  // "RIN1"
  static constexpr std::size_t kCapacity = 1 << 20;    // Fits into caches.
  static constexpr std::size_t kData = 1 << 16;        // Any page's multiple.
  static constexpr std::size_t kSize = kData + kCapacity;
  Header header;
  Side writer;
  Side reader;
};
static_assert(std::is_standard_layout_v<RingLayout>);
static_assert(sizeof(RingLayout) == 320);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

class RingSide {
 public:
  static constexpr std::size_t kCapacity = RingLayout::kCapacity;
  // Each has its length before it.
  static constexpr std::size_t kMaxMessage = kCapacity - sizeof(std::uint32_t);

  // Throws EOWNERDEAD where the other side has died.
  void CheckPeer() const {
    if (memory_.PeerDied()) {
      throw os::Error(EOWNERDEAD, "fcntl", memory_.name());
    }
  }

 protected:
  using Memory = SharedMemory<RingLayout>;
  using Side = RingLayout::Side;

  RingSide(Memory memory, Side RingLayout::*mine, Side RingLayout::*its,
           os::Timeout timeout)
      : memory_(std::move(memory)),
        mine_((*memory_).*mine),
        its_((*memory_).*its),
        data_(memory_.MapTwice(RingLayout::kData, kCapacity)),
        futex_(mine_.sleeper, its_.sleeper, memory_.name()),
        timeout_(timeout) {}

  std::byte* At(std::uint64_t position) const {
    return data_.get() + position % kCapacity;
  }
  // The other side's position, from what was `seen` before to `most`.
  std::uint64_t Look(std::uint64_t seen, std::uint64_t most) const {
    const std::uint64_t position = its_.position;
    if (position - seen <= most - seen) return position;
    throw os::Error(EBADMSG, "mmap", memory_.name());
  }
  // Waits until ready(), which needs `least` bytes. Throws EMSGSIZE where there
  // is no room for so many, ETIMEDOUT, EOWNERDEAD where the other side has
  // died.
  template <typename Ready>
  void Wait(const char* what, std::size_t least, Ready ready) {
    if (least > kCapacity) throw os::Error(EMSGSIZE, "mmap", memory_.name());
    if (futex_.Spin(ready)) return;
    const os::Deadline deadline(timeout_);
    bool died = false;
    while (!futex_.Sleep(os::Timeout(died ? 0 : deadline.Left(os::kLook)),
                         ready)) {
      if (died) throw os::Error(EOWNERDEAD, "futex", memory_.name());
      if (deadline.Passed()) {
        throw os::Error(ETIMEDOUT, "futex", memory_.name(),
                        std::string("waited for ") + what);
      }
      died = memory_.PeerDied();  // What it did before still counts: look.
    }
  }

  Memory memory_;
  Side& mine_;
  Side& its_;
  std::unique_ptr<std::byte, Memory::Unmap> data_;
  Futex futex_;
  os::Timeout timeout_;        // Of every wait.
  std::uint64_t written_ = 0;  // The writer's position, and the reader's: one's
  std::uint64_t read_ = 0;     // own, and what was last seen of the other's.
};

}  // namespace ipc

#endif  // SHM_RING_SIDE_H_
