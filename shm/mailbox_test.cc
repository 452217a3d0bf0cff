// The header in one process, with the calls that it makes watched: what comes
// before what, what fails, and two threads for ThreadSanitizer to look at.
#include <gtest/gtest.h>
#include <semaphore.h>
#include <sys/mman.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <span>
#include <thread>

#ifdef __x86_64__
#include "shm/test_accesses.h"
#endif
#include "testing/child_process.h"

// What the header calls in their place.
int WatchedSemInit(sem_t* semaphore, int shared, unsigned value);
int WatchedSemPost(sem_t* semaphore);
void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset);
int WatchedMunmap(void* address, size_t size);

#define sem_init WatchedSemInit
#define sem_post WatchedSemPost
#define mmap WatchedMmap
#define munmap WatchedMunmap
#include "shm/mailbox.h"
#undef sem_init
#undef sem_post
#undef mmap
#undef munmap

namespace {

using Layout = ipc::Mailbox::Layout;
using ipc::Mailbox;

std::function<void(int shared)> on_sem_init;
std::function<void()> on_sem_post;

// All mappings are one, as only then ThreadSanitizer, which goes by addresses,
// sees that the two threads share it.
std::mutex mutex;
Layout* layout = nullptr;
int mappings = 0;
bool mmap_fails = false;

}  // namespace

int WatchedSemInit(sem_t* semaphore, int shared, unsigned value) {
  if (on_sem_init) on_sem_init(shared);
  return ::sem_init(semaphore, shared, value);
}

int WatchedSemPost(sem_t* semaphore) {
  if (on_sem_post) on_sem_post();
  return ::sem_post(semaphore);
}

void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset) {
  const std::lock_guard lock(mutex);
  if (mmap_fails) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (mappings++ == 0) {
    layout = static_cast<Layout*>(
        ::mmap(address, size, protection, flags, fd, offset));
  }
  return layout;
}

int WatchedMunmap(void* address, size_t size) {
  const std::lock_guard lock(mutex);
  return --mappings > 0 ? 0 : ::munmap(address, size);
}

namespace {

class MailboxTest : public testing::Test {
 protected:
  ~MailboxTest() override {
    EXPECT_EQ(::shm_open(name_.c_str(), O_RDWR, 0), -1) << "left behind";
    EXPECT_EQ(mappings, 0);
    on_sem_init = nullptr;
    on_sem_post = nullptr;
    mmap_fails = false;
  }

  const std::string name_ = ipc_testing::UniqueName();
};

TEST_F(MailboxTest, SemaphoresAreSharedAndComeBeforeReady) {
  int semaphores = 0;
  on_sem_init = [&](int shared) {
    ++semaphores;
    EXPECT_EQ(shared, 1) << "no post would wake another process";
    EXPECT_EQ(layout->header.ready, 0U) << "a post could be lost";
  };
  const auto memory = Mailbox::Create(name_, os::kForever);
  EXPECT_EQ(semaphores, 2);
  EXPECT_EQ(layout->header.ready, Layout::kMagic);
}

TEST_F(MailboxTest, MessageIsThereBeforeItIsPosted) {
  auto memory = Mailbox::Create(name_, os::kForever);
  std::vector<std::string> seen;
  on_sem_post = [&] { seen.emplace_back(layout->text.data(), layout->length); };
  memory.Put("message");
  EXPECT_EQ(seen, std::vector<std::string>{"message"});
}

TEST_F(MailboxTest, WriterAndReaderDoNotRace) {
  for (std::size_t size = 0; size <= ipc::Mailbox::kCapacity; ++size) {
    const std::string message = ipc_testing::RandomBytes(size);
    auto writer = Mailbox::Create(name_, os::kForever);
    std::thread reading([&] {
      auto reader = Mailbox::Open(name_, os::kForever);
      EXPECT_EQ(reader.Get(), message);
      reader.Done();
    });
    writer.Put(message);
    writer.AwaitDone();
    reading.join();
  }
}

#ifdef __x86_64__
template <typename Body>
std::ptrdiff_t ReadsOfLength(Body body) {
  const auto accesses = ipc_testing::Accesses::Of(
      std::as_writable_bytes(std::span(layout, 1)), body);
  return std::ranges::count(accesses, &layout->length);
}

// It could change between the check and the use.
TEST_F(MailboxTest, LengthIsReadOnce) {
  auto writer = Mailbox::Create(name_, os::kForever);
  auto reader = Mailbox::Open(name_, os::kForever);
  writer.Put("message");
  // One, but two with ThreadSanitizer.
  const auto once = ReadsOfLength([] { EXPECT_EQ(layout->length.load(), 7U); });
  EXPECT_GE(once, 1);
  EXPECT_EQ(ReadsOfLength([&] { EXPECT_EQ(reader.Get(), "message"); }), once);
}
#endif

TEST_F(MailboxTest, MessageThatDoesNotFitIsRefused) {
  auto memory = Mailbox::Create(name_, os::kForever);
  try {
    memory.Put(std::string(ipc::Mailbox::kCapacity + 1, 'x'));
    FAIL();
  } catch (const os::Error& error) {
    EXPECT_EQ(error.code().value(), EMSGSIZE);
  }
}

TEST_F(MailboxTest, MappingThatFailsIsAFailure) {
  mmap_fails = true;
  try {
    Mailbox::Create(name_, os::kForever);
    FAIL();
  } catch (const os::Error& error) {
    EXPECT_EQ(error.what(), "mmap '" + name_ + "': Cannot allocate memory");
  }
}

}  // namespace
