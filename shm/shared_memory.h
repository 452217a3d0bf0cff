// POSIX shared memory between a writer, which owns the object, and a reader.
// Each locks a byte of it as long as it lives. What lies in the memory, and how
// they take turns there, is mailbox.h's or ring.h's. shm_overview(7), mmap(2)
#ifndef SHM_SHARED_MEMORY_H_
#define SHM_SHARED_MEMORY_H_

#include <sys/mman.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "posix.h"

namespace ipc {

// O_NONBLOCK: under that name a stranger may have put a file with a lease, on
// which open would wait for 45 s. fcntl(2)
inline constexpr int kOpenFlags = O_RDWR | O_NONBLOCK;

// What every object begins with. New memory is zero, so `ready` is, until all
// is. Then it is the magic word, which tells one layout from the other.
struct Header {
  std::atomic<std::uint32_t> ready;
  std::atomic<std::uint32_t> reader_came;  // What is in it is that reader's.
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

// `Layout`, what the object begins with, begins with a Header `header`, and
// says its magic word kMagic and the object's size kSize, in bytes.
template <typename Layout>
class SharedMemory {
 public:
  // The writer's: makes the object `name`, "/" and up to 254 bytes other than
  // "/", in place of one that a dead writer left. Throws EBUSY where a writer
  // lives, EEXIST where the name is something else's.
  static SharedMemory Create(const std::string& name) {
    auto open = [&](int flags) {
      return ::shm_open(name.c_str(), kOpenFlags | flags, 0600);
    };
    // Never cut and used again: SIGBUS for a reader that still maps it.
    auto adopt = [&](int fd) { return HasMemory(fd, name), false; };
    auto object = os::Own("shm_open", name, ::shm_unlink, open, adopt);
    // The object has no memory until it has a size.
    os::Check("ftruncate", name, ::ftruncate, object.fd.get(),
              off_t{Layout::kSize});
    return SharedMemory(std::move(object), name, kReader);
  }
  // Readers may come. Last, or they would find what is not finished.
  void Publish() {
    layout_->header.ready.store(Layout::kMagic, std::memory_order_release);
  }

  // The reader's: waits for a writer. Throws ETIMEDOUT, EBUSY where another
  // reader came first, EEXIST where the name is something else's.
  static SharedMemory Open(const std::string& name, os::Timeout timeout) {
    auto look = [&](os::Timeout pause) -> std::optional<SharedMemory> {
      os::Pause(pause);
      auto fd = os::OpenExisting("shm_open", name, ::shm_open, name.c_str(),
                                 kOpenFlags, 0U);
      if (!fd || !HasMemory(fd.get(), name)) return {};
      SharedMemory memory({std::move(fd), {}}, name, kWriter);
      // Not ready yet, or left by a writer that died: the next replaces it.
      Header& header = memory->header;
      if (header.ready.load(std::memory_order_acquire) == 0 ||
          memory.PeerDied()) {
        return {};
      }
      if (!os::TryLock(memory.fd(), name, kReader)) {
        throw os::Error(EBUSY, "shm_open", name, "another reader has it");
      }
      // Another reader has come and gone: the writer is about to end.
      if (header.reader_came.exchange(1) != 0) return {};
      return memory;
    };
    return std::move(*os::Await("a writer", "shm_open", name, timeout, look));
  }

  Layout& operator*() const { return *layout_; }
  Layout* operator->() const { return layout_.get(); }
  const std::string& name() const { return name_; }

  // Whether the other side has been there, and is no more. What it has stored
  // before is seen by who asks first, and then looks for it.
  bool PeerDied() const {
    return (peer_ == kWriter || layout_->header.reader_came != 0) &&
           !os::IsLocked(fd(), name_, peer_);
  }

  struct Unmap {
    std::size_t size;
    void operator()(void* memory) { ::munmap(memory, size); }
  };
  // Maps `size` bytes from `offset` on, both whole pages, twice in a row: what
  // begins anywhere in the first is in one piece, even over its end.
  std::unique_ptr<std::byte, Unmap> MapTwice(off_t offset,
                                             std::size_t size) const {
    auto* memory = static_cast<std::byte*>(Map(nullptr, 2 * size, 0, offset));
    std::unique_ptr<std::byte, Unmap> twice(memory, {2 * size});
    Map(memory + size, size, MAP_FIXED, offset);
    return twice;
  }

 private:
  enum Role : off_t { kWriter, kReader };  // The byte that each locks.

  SharedMemory(os::OwnedObject object, std::string name, Role peer)
      : object_(std::move(object)),
        name_(std::move(name)),
        peer_(peer),
        layout_(static_cast<Layout*>(Map(nullptr, sizeof(Layout), 0, 0)),
                {sizeof(Layout)}) {}
  int fd() const { return object_.fd.get(); }

  void* Map(void* address, std::size_t size, int flags, off_t offset) const {
    void* memory = ::mmap(address, size, PROT_READ | PROT_WRITE,
                          MAP_SHARED | flags, fd(), offset);
    if (memory == MAP_FAILED) throw os::Error(errno, "mmap", name_);
    return memory;
  }

  // False where it has no memory yet: to touch that would be SIGBUS.
  static bool HasMemory(int fd, const std::string& name) {
    std::uint32_t ready = 0;
    const off_t size = os::Stat(fd, name).st_size;
    os::Check("pread", name, ::pread, fd, &ready, sizeof(ready), 0);
    if ((size == 0 || size == Layout::kSize) &&
        (ready == 0 || ready == Layout::kMagic)) {
      return size != 0;
    }
    throw os::Error(EEXIST, "shm_open", name, os::kNotOurs);
  }

  os::OwnedObject object_;
  std::string name_;
  Role peer_;
  std::unique_ptr<Layout, Unmap> layout_;
};

}  // namespace ipc

#endif  // SHM_SHARED_MEMORY_H_
