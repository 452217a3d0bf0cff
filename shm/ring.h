// A stream of bytes through shared memory, from one writer to one reader. Both
// work in place: the reader uses the bytes where the writer has put them. While
// both are busy neither makes a system call.
//
// The writer:
//   RingWriter ring("/ring", kForever);
//   while (!ring.PeerArrived(Seconds(0.1))) continue;
//   std::ranges::copy(bytes, ring.Reserve(bytes.size()).begin());
//   ring.Commit(bytes.size());
//   ring.Finish();
// The reader, once there is a writer:
//   auto ring = RingReader::TryOpen("/ring", kForever);
//   for (std::string_view bytes; !(bytes = ring->Peek()).empty();) {
//     Use(bytes);
//     ring->Release(bytes.size());
//   }
//
// For any code, as posix.h is, which says what it asks of its process. A child
// made by fork has to call exec: the mapping alone keeps the locks, too.
// Linux only. shm_overview(7), mmap(2), futex(2), membarrier(2)
#pragma once

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "name.h"

namespace ipc {

// What lies in the object: the words of both sides, and from kData on the
// bytes. All words of a side are 0 until it is there.
struct RingLayout {
  enum Mode : std::uint32_t { kAbsent, kFenced, kExpedited };
  // Each side stores into cache lines of its own, or it would take the other
  // side's from it.
  // NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
  struct alignas(64) Side {
    std::atomic<std::uint64_t> position;  // How many bytes it has ever passed.
    std::atomic<std::uint32_t> ended;     // No more come, or it has seen that.
    alignas(64) std::atomic<std::uint32_t> mode;
    std::atomic<std::uint32_t> asleep;
    std::atomic<std::uint32_t> epoch;      // How often it was woken.
    std::atomic<std::uint32_t> processor;  // Where it last waited, plus 1.
  };
  static constexpr std::size_t kCapacity = 1 << 20;  // Fits into caches.
  static constexpr std::size_t kData = 1 << 16;  // A multiple of any page size.
  static constexpr std::size_t kSize = kData + kCapacity;
  Side writer;
  Side reader;
};
static_assert(std::is_standard_layout_v<RingLayout>);
static_assert(sizeof(RingLayout) == 256);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// What both sides have: the mapped object, and how they wait for each other's
// stores: for some microseconds awake, and then asleep. A side that stores
// makes a system call only if the other one is asleep.
//
// Before a side goes to sleep it raises its flag and then checks once more what
// it waits for; a side that stores checks that flag after the store. Each must
// see what the other did first, or the wake-up is lost: on both sides the store
// must come before the load. A store with seq_cst ensures that, and costs more
// than all else on the way. Where both sides are "expedited" it costs the
// storing side nothing: the one that goes to sleep has the kernel put a barrier
// into whatever the other process is doing.
class RingSide {
 public:
  static constexpr std::size_t kCapacity = RingLayout::kCapacity;

  // Throws EOWNERDEAD if the other side has died.
  void CheckPeer() const {
    if (PeerDied()) throw Error(EOWNERDEAD, "fcntl", name_);
  }

 protected:
  enum Role : off_t { kWriter, kReader };  // The byte that each keeps locked.
  static constexpr std::size_t kMapped = RingLayout::kSize + kCapacity;
  struct Unmap {
    void operator()(char* memory) const { ::munmap(memory, kMapped); }
  };

  RingSide(UniqueFd fd, std::string name, Role peer, Seconds timeout)
      : fd_(std::move(fd)),
        name_(std::move(name)),
        peer_(peer),
        timeout_(timeout) {}

  // Maps the object, and behind that its bytes once more: what goes on over the
  // ring's end is then in one piece, too.
  void Map() {
    void* memory = ::mmap(nullptr, kMapped, PROT_READ | PROT_WRITE, MAP_SHARED,
                          fd_.get(), 0);
    if (memory == MAP_FAILED) throw Error(errno, "mmap", name_);
    memory_.reset(static_cast<char*>(memory));
    memory = ::mmap(memory_.get() + RingLayout::kSize, kCapacity,
                    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_.get(),
                    RingLayout::kData);
    if (memory == MAP_FAILED) throw Error(errno, "mmap", name_);
    auto* layout = reinterpret_cast<RingLayout*>(memory_.get());
    mine_ = peer_ == kReader ? &layout->writer : &layout->reader;
    its_ = peer_ == kReader ? &layout->reader : &layout->writer;
  }

  // Tells the other side that this one is there.
  void Arrive() {
    const bool expedited =
        Membarrier(MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED) == 0;
    mine_->mode = expedited ? RingLayout::kExpedited : RingLayout::kFenced;
    if (its_->asleep != 0) Wake();
  }
  // Whether the other side is there; agrees with it on the mode.
  bool Meet() {
    expedited_ = mine_->mode == RingLayout::kExpedited &&
                 its_->mode == RingLayout::kExpedited;
    return its_->mode != RingLayout::kAbsent;
  }

  bool PeerDied() const { return !IsLocked(fd_.get(), peer_, name_); }

  char* At(std::uint64_t position) const {
    return memory_.get() + RingLayout::kData + position % kCapacity;
  }
  // The other side's position, which must lie between what was `seen` of it
  // before and `most`: it may be anything.
  std::uint64_t LoadPeerPosition(std::uint64_t seen, std::uint64_t most) const {
    const std::uint64_t position = its_->position;
    if (position - seen <= most - seen) return position;
    throw Error(EBADMSG, "load", name_, "a wrong position");
  }

  // Stores `value` for the other side, which then also sees all that was stored
  // before.
  template <typename Value>
  void Store(std::atomic<Value>& word, Value value) {
    if (expedited_) {
      word.store(value, std::memory_order_release);
      // The processor may swap this with the load below, the compiler must not.
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      word.store(value, std::memory_order_seq_cst);
    }
    if (its_->asleep.load(std::memory_order_seq_cst) != 0) Wake();
  }

  // Leaves the other side's cache lines to it for `pauses` times 10 to 50 ns.
  static void CpuPause(int pauses) {
    for (int i = 0; i < pauses; ++i) {
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("isb");
#endif
    }
  }

  // Waits until ready(), which needs `least` bytes. Throws EMSGSIZE if the ring
  // is smaller than that, ETIMEDOUT, and EOWNERDEAD if the other side has died.
  void Wait(const char* what, std::size_t least, auto ready) {
    if (least > kCapacity) throw Error(EMSGSIZE, "wait", name_);
    if (Spin(ready)) return;
    const Seconds end = Now() + timeout_;
    // After its death it is checked once more: it may have stored before that.
    for (bool died = false;; died = PeerDied()) {
      const Seconds left = died ? Seconds(0) : end - Now();
      if (Sleep(std::min(left, Seconds(0.5)), ready)) return;
      if (died) throw Error(EOWNERDEAD, "futex", name_);
      if (left > Seconds(0)) continue;
      throw Error(ETIMEDOUT, "futex", name_, std::string("waited for ") + what);
    }
  }

  // Sleeps until the other side has stored something, or up to `pause`; returns
  // ready(), which has to load with seq_cst.
  bool Sleep(Seconds pause, auto ready) {
    ThrowIfStopped();
    // Before the flag: a side that sees the flag advances the epoch, and futex
    // then returns at once.
    const std::uint32_t epoch = mine_->epoch;
    mine_->asleep = 1;
    if (expedited_) {
      Check(Membarrier(MEMBARRIER_CMD_GLOBAL_EXPEDITED), "membarrier", name_);
    }
    if (!ready()) Futex(*mine_, FUTEX_WAIT, epoch, pause);
    mine_->asleep = 0;
    return ready();
  }

  UniqueFd fd_;
  std::string name_;
  Role peer_;
  Seconds timeout_;  // Of every wait.
  std::unique_ptr<char, Unmap> memory_;
  RingLayout::Side* mine_ = nullptr;
  RingLayout::Side* its_ = nullptr;
  bool expedited_ = false;
  // The writer's position and the reader's: this side's own, and what was last
  // seen of the other's.
  std::uint64_t written_ = 0;
  std::uint64_t read_ = 0;

 private:
  // Checks for as long as a wake-up may take, without a system call, and
  // returns ready(). It does so less and less often, as each load takes a cache
  // line from the side that is to store there, and only once where the other
  // side waits for this very processor.
  bool Spin(auto ready) {
    const auto here = static_cast<std::uint32_t>(::sched_getcpu() + 1);
    if (mine_->processor != here) mine_->processor = here;
    // 48 have 600 pauses in between, 6 to 30 microseconds.
    const int checks = its_->processor == here ? 1 : 48;
    for (int check = 0; check < checks; ++check) {
      if (ready()) return true;
      CpuPause(1 + check / 2);
    }
    return false;
  }

  static long Membarrier(int command) {
    return ::syscall(SYS_membarrier, command, 0, 0);
  }
  void Wake() {
    // The flag first: once the other side is awake, it may raise the next one.
    if (its_->asleep.exchange(0) == 0) return;
    ++its_->epoch;
    Futex(*its_, FUTEX_WAKE, 1, Seconds(0));
  }
  // Not with FUTEX_PRIVATE_FLAG, as std::atomic::wait does it: that wakes
  // nobody in another process.
  void Futex(RingLayout::Side& side, int operation, std::uint32_t value,
             Seconds pause) const {
    const double seconds = std::clamp(pause.count(), 0.0, 1e6);
    // Not timespec: on 32-bit systems that may be of a type that only another
    // call takes.
    const std::array timeout{static_cast<long>(seconds),
                             static_cast<long>(std::fmod(seconds, 1) * 1e9)};
    const long result = Retry([&] {
      return ::syscall(SYS_futex, &side.epoch, operation, value, timeout.data(),
                       nullptr, 0);
    });
    if (result == -1 && errno != EAGAIN && errno != ETIMEDOUT) {
      throw Error(errno, "futex", name_);
    }
  }
};

class RingWriter : public RingSide {
 public:
  // Makes the ring `name`, in place of one that a dead writer left. Throws
  // EBUSY if a writer lives, EEXIST or EACCES if the name is somebody else's,
  // ENOSPC if /dev/shm is full. Each later wait ends after `timeout`.
  RingWriter(const std::string& name, Seconds timeout)
      : RingSide(Create(name), name, kReader, timeout),
        owned_(::shm_unlink, "shm_open", name, fd_.get()) {
    // Not ftruncate, which sets a size and allocates nothing: if /dev/shm is
    // full, a store into the memory would then kill the process by SIGBUS.
    const auto allocate = [&] {
      return ::fallocate(fd_.get(), 0, 0, RingLayout::kSize);
    };
    Check(Retry(allocate), "fallocate", name);
    Map();
    Arrive();
    // By this lock readers see that the writer lives. It comes last, as readers
    // take an object without it for one that is not ready yet.
    SetLock(fd_.get(), F_WRLCK, kWriter, 1, name);
  }

  // Waits for a reader, up to `pause`, and returns whether one has come. Only
  // after that may anything below be called.
  bool PeerArrived(Seconds pause) {
    return Sleep(pause, [&] { return Meet(); });
  }

  // Waits until there is room for `least` bytes, 1 to kCapacity, and returns
  // all the room that there is.
  std::span<char> Reserve(std::size_t least = 1) {
    const auto room = [&] {
      return static_cast<std::size_t>(kCapacity - (written_ - read_));
    };
    if (room() < least) {
      Wait("room", least, [&] {
        read_ = LoadPeerPosition(read_, written_);
        return room() >= least;
      });
    }
    return {At(written_), room()};
  }
  // Hands the first `size` bytes of that to the reader.
  void Commit(std::size_t size) { Store(mine_->position, written_ += size); }

  // No more bytes come. Returns once the reader has used them all; throws
  // EBADMSG if it says that it has, and has not.
  void Finish() {
    Store(mine_->ended, 1U);
    Wait("the reader's end", 0, [&] { return its_->ended != 0; });
    LoadPeerPosition(written_, written_);
  }

 private:
  static UniqueFd Create(const std::string& name) {
    // If a writer that was killed has left its object, `leftover` takes that
    // over and, at the end of the block, removes it. O_NONBLOCK: if a stranger
    // holds a lease on a file of this name, the call would wait for up to 45 s.
    // fcntl(2)
    if (const UniqueFd old(::shm_open(name.c_str(), O_RDWR | O_NONBLOCK, 0));
        old || errno != ENOENT) {
      CheckOurs(old.get(), S_IFREG, "shm_open", name);
      const OwnedName leftover(::shm_unlink, "shm_open", name, old.get());
    }
    return UniqueFd(Check(::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR,
                                     S_IRUSR | S_IWUSR | kOurs),
                          "shm_open", name));
  }

  OwnedName owned_;  // Goes first, and the locks with the mapping after it.
};

class RingReader : public RingSide {
 public:
  // Opens the ring if its writer lives. Throws EBUSY if another reader has it,
  // EEXIST or EACCES if the name is somebody else's, EBADMSG if it is no ring.
  // Each later wait ends after `timeout`.
  static std::optional<RingReader> TryOpen(const std::string& name,
                                           Seconds timeout) {
    UniqueFd fd(::shm_open(name.c_str(), O_RDWR | O_NONBLOCK, 0));
    if (!fd && errno == ENOENT) return {};
    CheckOurs(fd.get(), S_IFREG, "shm_open", name);
    // It is not ready yet, or its writer was killed.
    if (!IsLocked(fd.get(), kWriter, name)) return {};
    // Beyond its end an access would be SIGBUS.
    if (Status(fd.get(), name).st_size != RingLayout::kSize) {
      throw Error(EBADMSG, "fstat", name, "it holds something else");
    }
    if (!SetLock(fd.get(), F_WRLCK, kReader, 1, name)) {
      throw Error(EBUSY, "shm_open", name, "another reader has it");
    }
    RingReader reader(std::move(fd), name, timeout);
    // Another reader has come and died: the writer is about to end.
    if (reader.mine_->mode != RingLayout::kAbsent) return {};
    reader.Arrive();
    reader.Meet();
    return reader;
  }

  // Waits for `least` bytes, 1 to kCapacity, and returns all that there are:
  // fewer at the end, and then none. Throws EOWNERDEAD if the writer has died
  // before the end.
  std::string_view Peek(std::size_t least = 1) {
    if (written_ - read_ < least) LoadMore(least);
    return {At(read_), static_cast<std::size_t>(written_ - read_)};
  }
  // Hands the room of the first `size` bytes of that back to the writer.
  void Release(std::size_t size) {
    ++releases_;
    Store(mine_->position, read_ += size);
  }

 private:
  RingReader(UniqueFd fd, const std::string& name, Seconds timeout)
      : RingSide(std::move(fd), name, kWriter, timeout) {
    Map();
  }

  void LoadMore(std::size_t least) {
    // If it took several releases to use up what the last load found, then the
    // writer streams. To let it get ahead is faster for both.
    patience_ = releases_ > 1 ? std::min(2 * patience_ + 1, 31) : 0;
    releases_ = 0;
    CpuPause(patience_);
    bool ended = false;
    Wait("bytes", least, [&] {
      ended = its_->ended != 0;  // First: the last bytes come before it.
      written_ = LoadPeerPosition(written_, read_ + kCapacity);
      return ended || written_ - read_ >= least;
    });
    if (ended && written_ == read_) Store(mine_->ended, 1U);
  }

  int releases_ = 0;  // Since the last load.
  int patience_ = 0;  // Pauses before the next one.
};

}  // namespace ipc
