// A stream of bytes, or of messages, through shared memory, from one writer to
// one reader. Both work in place: where the one has written the other reads.
// While both are busy neither makes a system call.
#ifndef SHM_RING_H_
#define SHM_RING_H_

#include <cstring>

#include "ring_side.h"

namespace ipc {

class RingWriter : public RingSide {
 public:
  // Makes the ring `name`, and waits for a reader. Throws ETIMEDOUT, and as
  // SharedMemory::Create.
  RingWriter(const std::string& name, os::Timeout timeout)
      : RingSide(Memory::Create(name), &RingLayout::writer, &RingLayout::reader,
                 timeout) {
    memory_.Publish();
    auto look = [&](os::Timeout pause) {
      const bool died = memory_.PeerDied();  // As it came.
      const bool met = futex_.Sleep(pause, [&] { return futex_.Met(); });
      if (died && !met) throw os::Error(EOWNERDEAD, "futex", name);
      return met;
    };
    os::Await("a reader", "futex", name, timeout, look);
  }

  // Waits until there is room for `least` bytes, 1 to kCapacity, and returns
  // all that there is.
  std::span<std::byte> Reserve(std::size_t least = 1) {
    auto fits = [&] { return kCapacity - (written_ - read_) >= least; };
    if (!fits()) {
      Wait("room", least,
           [&] { return read_ = Look(read_, written_), fits(); });
    }
    return {At(written_), kCapacity - (written_ - read_)};
  }
  // Hands the first `size` bytes of that to the reader.
  void Commit(std::size_t size) {
    futex_.Store(mine_.position, written_ += size);
  }
  // The same for whole messages, of 0 to kMaxMessage bytes.
  std::span<std::byte> ReserveMessage(std::uint32_t size) {
    const auto room = Reserve(sizeof(size) + size);
    std::memcpy(room.data(), &size, sizeof(size));
    return room.subspan(sizeof(size), size);
  }
  void CommitMessage(std::uint32_t size) { Commit(sizeof(size) + size); }

  // No more bytes come. Returns once the reader has used them all.
  void Finish() {
    futex_.Store(mine_.ended, 1U);
    Wait("the reader's end", 0, [&] { return its_.ended != 0; });
  }
};

class RingReader : public RingSide {
 public:
  // Waits for a writer. Throws as SharedMemory::Open.
  RingReader(const std::string& name, os::Timeout timeout)
      : RingSide(Memory::Open(name, timeout), &RingLayout::reader,
                 &RingLayout::writer, timeout) {
    futex_.Met();
  }

  // Waits for `least` bytes, 1 to kCapacity, and returns all that there are:
  // fewer at the end, and then none. Throws EOWNERDEAD where the writer has
  // died before the end.
  std::span<const std::byte> Peek(std::size_t least = 1) {
    if (written_ - read_ < least) LookForMore(least);
    return {At(read_), written_ - read_};
  }
  // Hands the first `size` bytes of that back to the writer.
  void Release(std::size_t size) {
    ++releases_;
    futex_.Store(mine_.position, read_ += size);
  }
  // The same for whole messages; empty at the end. Throws EBADMSG where what
  // comes is none.
  std::optional<std::span<const std::byte>> PeekMessage() {
    std::uint32_t size = 0;
    auto bytes = Peek(sizeof(size));
    if (bytes.empty()) return {};
    if (bytes.size() >= sizeof(size)) {
      std::memcpy(&size, bytes.data(), sizeof(size));  // Once: it may change.
      if (size <= kMaxMessage) bytes = Peek(sizeof(size) + size);
    }
    if (bytes.size() >= sizeof(size) + size) {
      return bytes.subspan(sizeof(size), size);
    }
    throw os::Error(EBADMSG, "mmap", memory_.name());
  }
  void ReleaseMessage(std::size_t size) {
    Release(sizeof(std::uint32_t) + size);
  }

 private:
  void LookForMore(std::size_t least) {
    // It took several releases to use up what the last look found: the writer
    // streams. To let it get ahead is faster for both.
    patience_ = releases_ > 1 ? std::min(2 * patience_ + 1, 31) : 0;
    releases_ = 0;
    Futex::Relax(patience_);
    bool ended = false;
    Wait("bytes", least, [&] {
      ended = its_.ended != 0;  // First: the last bytes come before it.
      written_ = Look(written_, read_ + kCapacity);
      return ended || written_ - read_ >= least;
    });
    if (ended && written_ == read_) futex_.Store(mine_.ended, 1U);
  }

  int releases_ = 0;  // Since the last look for more.
  int patience_ = 0;  // Pauses before the next one.
};

}  // namespace ipc

#endif  // SHM_RING_H_
