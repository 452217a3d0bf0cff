// A stream of bytes through shared memory, from one writer to one reader. Both
// work in place: where the one has written the other reads. While both are busy
// neither makes a system call.
#ifndef SHM_RING_H_
#define SHM_RING_H_

#include <cstring>

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

// What both sides do.
class Ring {
 public:
  static constexpr std::size_t kCapacity = RingLayout::kCapacity;

  // Throws EOWNERDEAD where the other side has died.
  void CheckPeer() const {
    if (memory_.PeerDied()) throw os::Error(EOWNERDEAD, "fcntl", name_);
  }

 protected:
  using Memory = SharedMemory<RingLayout>;
  using Side = RingLayout::Side;

  Ring(Memory memory, Side RingLayout::*mine, Side RingLayout::*its,
       os::Timeout timeout)
      : memory_(std::move(memory)),
        name_(memory_.name()),
        timeout_(timeout),
        data_(memory_.MapTwice(RingLayout::kData, kCapacity)),
        mine_((*memory_).*mine),
        its_((*memory_).*its),
        futex_(mine_.sleeper, its_.sleeper, name_) {}

  std::byte* At(std::uint64_t position) const {
    return data_.get() + position % kCapacity;
  }
  // The other side's position, from what was `seen` before to `most`.
  std::uint64_t Look(std::uint64_t seen, std::uint64_t most) const {
    const std::uint64_t position = its_.position;
    if (position - seen <= most - seen) return position;
    throw os::Error(EBADMSG, "mmap", name_);
  }
  // Waits until ready(). Throws ETIMEDOUT, EOWNERDEAD where the other side has
  // died before that.
  template <typename Ready>
  void Wait(const char* what, Ready ready) {
    if (Futex::Spin(ready)) return;
    const os::Deadline deadline(timeout_);
    bool died = false;
    while (!futex_.Sleep(os::Timeout(died ? 0 : deadline.Left(os::kLook)),
                         ready)) {
      if (died) throw os::Error(EOWNERDEAD, "futex", name_);
      if (deadline.Passed()) {
        throw os::Error(ETIMEDOUT, "futex", name_,
                        std::string("waited for ") + what);
      }
      died = memory_.PeerDied();  // What it did before still counts: look.
    }
  }

  Memory memory_;
  std::string name_;
  os::Timeout timeout_;  // Of every wait.
  std::unique_ptr<std::byte, Memory::Unmap> data_;
  Side& mine_;
  Side& its_;
  Futex futex_;
  std::uint64_t written_ = 0;  // The writer's position, and the reader's: one's
  std::uint64_t read_ = 0;     // own, and what was last seen of the other's.
};

class RingWriter : public Ring {
 public:
  // Makes the ring `name`, and waits for a reader. Throws ETIMEDOUT, and as
  // SharedMemory::Create.
  RingWriter(const std::string& name, os::Timeout timeout)
      : Ring(Memory::Create(name), &RingLayout::writer, &RingLayout::reader,
             timeout) {
    memory_.Publish();
    auto look = [&](os::Timeout pause) {
      return futex_.Sleep(pause, [&] { return futex_.Met(); });
    };
    os::Await("a reader", "futex", name, timeout, look);
  }

  // Waits until there is room for `least` bytes, 1 to kCapacity, and returns
  // all that there is.
  std::span<std::byte> Reserve(std::size_t least = 1) {
    auto fits = [&] { return kCapacity - (written_ - read_) >= least; };
    if (!fits()) {
      Wait("room", [&] { return read_ = Look(read_, written_), fits(); });
    }
    return {At(written_), kCapacity - (written_ - read_)};
  }
  // Hands the first `size` bytes of that to the reader.
  void Commit(std::size_t size) {
    futex_.Store(mine_.position, written_ += size);
  }
  // No more bytes come. Returns once the reader has used them all.
  void Finish() {
    futex_.Store(mine_.ended, 1U);
    Wait("the reader's end", [&] { return its_.ended != 0; });
  }
};

class RingReader : public Ring {
 public:
  // Waits for a writer. Throws as SharedMemory::Open.
  RingReader(const std::string& name, os::Timeout timeout)
      : Ring(Memory::Open(name, timeout), &RingLayout::reader,
             &RingLayout::writer, timeout) {
    futex_.Met();
  }

  // Waits for `least` bytes, 1 to kCapacity, and returns all that there are:
  // fewer at the end, and then none. Throws EOWNERDEAD where the writer has
  // died before the end.
  std::span<const std::byte> Peek(std::size_t least = 1) {
    if (written_ - read_ < least) {
      bool ended = false;
      Wait("bytes", [&] {
        ended = its_.ended != 0;  // First: the last bytes come before it.
        written_ = Look(written_, read_ + kCapacity);
        return ended || written_ - read_ >= least;
      });
      if (ended && written_ == read_) futex_.Store(mine_.ended, 1U);
    }
    return {At(read_), written_ - read_};
  }
  // Hands the first `size` bytes of that back to the writer.
  void Release(std::size_t size) {
    futex_.Store(mine_.position, read_ += size);
  }
};

}  // namespace ipc

#endif  // SHM_RING_H_
