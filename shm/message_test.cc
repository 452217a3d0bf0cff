// Both samples in one process, with the calls that they make watched: what
// comes before what, and two threads for ThreadSanitizer to look at.
#include "shm/message.h"

#include <gtest/gtest.h>
#include <semaphore.h>
#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <span>
#include <thread>

#include "name.h"
#include "program.h"
#ifdef __x86_64__
#include "shm/test_accesses.h"
#endif
#include "testing/processes/child_process.h"

// What the samples call in their place.
int WatchedSemInit(sem_t* semaphore, int shared, unsigned value);
int WatchedSemPost(sem_t* semaphore);
void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset);
int WatchedMunmap(void* address, size_t size);
namespace ipc {
static bool WatchedSetLock(int fd, short type, off_t first, off_t length,
                           std::string_view name);
static void WatchedPrint(std::string_view bytes);
}  // namespace ipc

#define sem_init WatchedSemInit
#define sem_post WatchedSemPost
#define mmap WatchedMmap
#define munmap WatchedMunmap
#define SetLock WatchedSetLock
#define Print WatchedPrint
#include "shm/test_included_pair.h"
#undef sem_init
#undef sem_post
#undef mmap
#undef munmap
#undef SetLock
#undef Print

namespace {

using ipc::SharedMessage;

std::function<void(int shared)> on_sem_init;
std::function<void(sem_t* semaphore)> on_sem_post;
std::function<void(off_t byte)> on_lock;
std::string printed;

// All mappings are one, as only then ThreadSanitizer, which goes by addresses,
// sees that the two threads share it.
std::mutex mutex;
SharedMessage* object = nullptr;
int mappings = 0;

}  // namespace

int WatchedSemInit(sem_t* semaphore, int shared, unsigned value) {
  if (on_sem_init) on_sem_init(shared);
  return ::sem_init(semaphore, shared, value);
}

int WatchedSemPost(sem_t* semaphore) {
  if (on_sem_post) on_sem_post(semaphore);
  return ::sem_post(semaphore);
}

void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset) {
  const std::lock_guard lock(mutex);
  if (mappings++ == 0) {
    object = static_cast<SharedMessage*>(
        ::mmap(address, size, protection, flags, fd, offset));
  }
  return object;
}

int WatchedMunmap(void* address, size_t size) {
  const std::lock_guard lock(mutex);
  return --mappings > 0 ? 0 : ::munmap(address, size);
}

namespace ipc {
static bool WatchedSetLock(int fd, short type, off_t first, off_t length,
                           std::string_view name) {
  const bool locked = SetLock(fd, type, first, length, name);
  if (on_lock) on_lock(first);
  return locked;
}
static void WatchedPrint(std::string_view bytes) { printed = bytes; }
}  // namespace ipc

namespace {

class MessageTest : public testing::Test {
 protected:
  ~MessageTest() override {
    EXPECT_EQ(::shm_open(name_.c_str(), O_RDWR, 0), -1) << "left behind";
    EXPECT_EQ(mappings, 0);
    on_sem_init = nullptr;
    on_sem_post = nullptr;
    on_lock = nullptr;
    printed.clear();
  }

  void Write(const std::string& message, const char* timeout = "inf") const {
    ipc::RunWriter(
        {{"name", name_}, {"timeout", timeout}, {"MESSAGE", message}});
  }
  // A writer to which no reader comes.
  void WriteInVain(const std::string& message) const {
    try {
      Write(message, "0");
      FAIL() << "nobody has read it";
    } catch (const ipc::Error& error) {
      EXPECT_EQ(error.code().value(), ETIMEDOUT) << error.what();
    }
  }

  const std::string name_ = ipc_testing::UniqueName();
};

TEST_F(MessageTest, SemaphoresAreSharedAndComeBeforeTheLock) {
  std::vector<std::string> events;
  on_sem_init = [&](int shared) {
    EXPECT_EQ(shared, 1) << "no post would wake another process";
    events.emplace_back("sem_init");
  };
  on_lock = [&](off_t byte) {
    EXPECT_EQ(byte, ipc::kWriterAlive);
    events.emplace_back("lock");
  };
  WriteInVain("message");
  EXPECT_EQ(events, (std::vector<std::string>{"sem_init", "sem_init", "lock"}));
}

TEST_F(MessageTest, MessageIsThereBeforeItIsPosted) {
  std::vector<std::string> seen;
  on_sem_post = [&](sem_t* semaphore) {
    EXPECT_EQ(semaphore, &object->filled);
    seen.emplace_back(object->text.data(), object->length);
  };
  WriteInVain("message");
  EXPECT_EQ(seen, std::vector<std::string>{"message"});
}

// A reader that finds the lock finds the message, too.
TEST_F(MessageTest, LockIsTheLast) {
  int locks = 0;
  on_lock = [&](off_t) {
    ++locks;
    int value = 0;
    EXPECT_EQ(::sem_getvalue(&object->filled, &value), 0);
    EXPECT_EQ(value, 1);
  };
  WriteInVain("message");
  EXPECT_EQ(locks, 1);
}

// The writer's exit status says that it was printed.
TEST_F(MessageTest, MessageIsPrintedBeforeTheWriterMayEnd) {
  on_sem_post = [&](sem_t* semaphore) {
    EXPECT_EQ(printed, semaphore == &object->filled ? "" : "message\n");
  };
  std::thread reading([&] {
    ipc::RunReader({{"name", name_}, {"timeout", "inf"}});
  });
  Write("message");
  reading.join();
}

TEST_F(MessageTest, WriterAndReaderDoNotRace) {
  for (std::size_t size = 0; size <= sizeof(SharedMessage::text); ++size) {
    const std::string message = ipc_testing::RandomBytes(size);
    std::thread reading([&] {
      ipc::RunReader({{"name", name_}, {"timeout", "inf"}});
    });
    Write(message);
    reading.join();
    EXPECT_EQ(printed, message + "\n");
  }
}

#ifdef __x86_64__
template <typename Body>
std::ptrdiff_t ReadsOfLength(Body body) {
  const auto accesses = ipc_testing::Accesses::Of(
      std::as_writable_bytes(std::span(object, 1)), body);
  return std::ranges::count(accesses, &object->length);
}

// It could change between the check and the use.
TEST_F(MessageTest, LengthIsReadOnce) {
  std::ptrdiff_t once = 0;
  std::ptrdiff_t reads = 0;
  on_lock = [&](off_t byte) {
    if (byte != ipc::kWriterAlive) return;
    // One, but two with ThreadSanitizer.
    std::uint32_t length = 0;
    once = ReadsOfLength([&] { length = std::atomic_ref(object->length); });
    EXPECT_EQ(length, 7U);
    reads = ReadsOfLength([&] { EXPECT_TRUE(ipc::TryRead(name_)); });
  };
  Write("message");
  EXPECT_EQ(printed, "message\n");
  EXPECT_GE(once, 1);
  EXPECT_EQ(reads, once);
}
#endif

}  // namespace
