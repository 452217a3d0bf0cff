// POSIX shared memory: one message from a writer, which owns the object, to a
// reader. Each locks a byte of it as long as it lives. shm_overview(7), mmap(2)
#ifndef SHM_SHARED_MEMORY_H_
#define SHM_SHARED_MEMORY_H_

#include <semaphore.h>
#include <sys/mman.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "posix.h"

namespace ipc {

inline constexpr std::size_t kCapacity = 100;  // Bytes, as in the document.

// What lies in the object. New memory is zero, so `ready` is, until all is.
struct Layout {
  static constexpr std::uint32_t kReady = 0x53484d31;  // "SHM1"
  std::atomic<std::uint32_t> ready;
  std::atomic<std::uint32_t> reader_came;  // The message is that reader's.
  std::atomic<std::uint32_t> length;       // The message's, 0 to kCapacity.
  std::array<char, kCapacity> text;
  sem_t filled;   // Posted when the message is there,
  sem_t emptied;  // and when it has been used.
};
static_assert(std::is_standard_layout_v<Layout> && sizeof(Layout) == 176);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

class SharedMemory {
 public:
  // The writer's: makes the object `name`, "/" and up to 254 bytes other than
  // "/", in place of one that a dead writer left. Throws EBUSY where a writer
  // lives, EEXIST where the name is something else's.
  static SharedMemory Create(const std::string& name, os::Timeout timeout) {
    auto open = [&](int flags) {
      return ::shm_open(name.c_str(), O_RDWR | flags, 0600);
    };
    // Never cut and used again: SIGBUS for a reader that still maps it.
    auto adopt = [&](int fd) { return HasMemory(fd, name), false; };
    auto object = os::Own("shm_open", name, ::shm_unlink, open, adopt);
    // The object has no memory until it has a size.
    os::Check("ftruncate", name, ::ftruncate, object.fd.get(),
              off_t{sizeof(Layout)});
    SharedMemory memory(std::move(object), name, timeout);
    Layout& layout = *memory.layout_;
    // Shared (1), or a post would not reach the other process.
    os::Check("sem_init", name, ::sem_init, &layout.filled, 1, 0U);
    os::Check("sem_init", name, ::sem_init, &layout.emptied, 1, 0U);
    // Last, or a post could come before sem_init and be lost.
    layout.ready.store(Layout::kReady, std::memory_order_release);
    return memory;
  }
  // Puts the message. Throws EMSGSIZE above kCapacity bytes.
  void Put(std::string_view message) {
    if (message.size() > kCapacity) throw os::Error(EMSGSIZE, "mmap", name_);
    std::ranges::copy(message, layout_->text.begin());
    layout_->length = static_cast<std::uint32_t>(message.size());
    os::Check("sem_post", name_, ::sem_post, &layout_->filled);
  }
  // Waits for Done. Throws ETIMEDOUT, EOWNERDEAD where the reader has died.
  void AwaitDone() { Wait("a reader", &layout_->emptied, kReader); }

  // The reader's: waits for a writer. Throws ETIMEDOUT, EBUSY where another
  // reader came first, EEXIST where the name is something else's.
  static SharedMemory Open(const std::string& name, os::Timeout timeout) {
    auto look = [&](os::Timeout pause) -> std::optional<SharedMemory> {
      os::Pause(pause);
      auto fd = os::OpenExisting("shm_open", name, ::shm_open, name.c_str(),
                                 O_RDWR, 0U);
      if (!fd || !HasMemory(fd.get(), name)) return {};
      const int object = fd.get();
      SharedMemory memory({std::move(fd), {}}, name, timeout);
      // Not ready yet, or left by a writer that died: the next replaces it.
      if (memory.layout_->ready.load(std::memory_order_acquire) == 0 ||
          !os::IsLocked(object, name, kWriter)) {
        return {};
      }
      if (!os::TryLock(object, name, kReader)) {
        throw os::Error(EBUSY, "shm_open", name, "another reader has it");
      }
      // Another reader has come and gone: the writer is about to end.
      if (memory.layout_->reader_came.exchange(1) != 0) return {};
      return memory;
    };
    return *os::Await("a writer", "shm_open", name, timeout, look);
  }
  // Waits for the message. Throws ETIMEDOUT, EOWNERDEAD where the writer has
  // died, EBADMSG where what it put is no message.
  std::string Get() {
    Wait("a message", &layout_->filled, kWriter);
    const std::size_t length = layout_->length;  // Once: it may change again.
    if (length > kCapacity) throw os::Error(EBADMSG, "mmap", name_);
    return {layout_->text.data(), length};
  }
  // The message has been used: the writer may end.
  void Done() { os::Check("sem_post", name_, ::sem_post, &layout_->emptied); }

 private:
  enum Role : off_t { kWriter, kReader };  // The byte that each locks.
  struct Unmap {
    void operator()(Layout* layout) { ::munmap(layout, sizeof(Layout)); }
  };

  SharedMemory(os::OwnedObject object, std::string name, os::Timeout wait)
      : object_(std::move(object)), name_(std::move(name)), timeout_(wait) {
    void* memory = ::mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE,
                          MAP_SHARED, object_.fd.get(), 0);
    if (memory == MAP_FAILED) throw os::Error(errno, "mmap", name_);
    layout_.reset(static_cast<Layout*>(memory));
  }
  // False where it has no memory yet: to touch that would be SIGBUS.
  static bool HasMemory(int fd, const std::string& name) {
    std::uint32_t ready = 0;
    const off_t size = os::Stat(fd, name).st_size;
    os::Check("pread", name, ::pread, fd, &ready, sizeof(ready), 0);
    if ((size == 0 || size == sizeof(Layout)) &&
        (ready == 0 || ready == Layout::kReady)) {
      return size != 0;
    }
    throw os::Error(EEXIST, "shm_open", name, os::kNotOurs);
  }

  // Waits for a post by the peer, unless that has come and died.
  void Wait(const char* what, sem_t* semaphore, Role peer) {
    auto look = [&](os::Timeout pause) {
      // First: what it posts before it ends must still be found.
      const bool died = (peer == kWriter || layout_->reader_came != 0) &&
                        !os::IsLocked(object_.fd.get(), name_, peer);
      const timespec end = os::FromNow(pause);
      if (os::Retry(::sem_clockwait, semaphore, CLOCK_MONOTONIC, &end) == 0) {
        return true;
      }
      if (errno == ETIMEDOUT && !died) return false;
      throw os::Error(died ? EOWNERDEAD : errno, "sem_clockwait", name_);
    };
    os::Await(what, "sem_clockwait", name_, timeout_, look);
  }

  os::OwnedObject object_;
  std::string name_;
  os::Timeout timeout_;
  std::unique_ptr<Layout, Unmap> layout_;
};

}  // namespace ipc

#endif  // SHM_SHARED_MEMORY_H_
