// The ring in one process, with the calls that it makes watched: bytes over its
// end, sleep and wake-up, what the other side may store there, and two threads
// for ThreadSanitizer to check.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <vector>

#ifdef __x86_64__
#include "shm/test_accesses.h"
#endif
#include "testing/processes/child_process.h"

namespace {

// What a test does in place of a system call, or before it; none: the call is
// made. `operation` is membarrier's command or futex's operation.
using OnCall = std::function<std::optional<int>(long call, long operation)>;
OnCall on_call;
std::function<void()> on_peer_check;  // Before the other side's lock is asked.
std::function<int()> on_fallocate;    // In its place.
std::atomic<int> calls = 0;           // syscall and fcntl.
// How long this thread has last asked to sleep, in seconds and nanoseconds.
thread_local std::array<long, 2> last_timeout{};
// A futex wait that nobody ends, and that the header would end after half a
// second, is a wake-up that was lost.
std::atomic<bool> must_be_woken = false;

long FutexWait(std::uint32_t* word, std::uint32_t value) {
  const timespec patience{10, 0};
  const long result =
      ::syscall(SYS_futex, word, FUTEX_WAIT, value, &patience, nullptr, 0);
  const int error = errno;
  EXPECT_FALSE(result == -1 && error == ETIMEDOUT) << "nobody woke it";
  errno = error;
  return result;
}

}  // namespace

// What the header calls in their place. An object, as syscall's arguments are
// of any types.
struct {
  template <typename... Arguments>
  long operator()(long call, Arguments... arguments) const {
    ++calls;
    if constexpr (sizeof...(arguments) == 3) {
      return Make(call, arguments...);
    } else {
      return Futex(arguments...);
    }
  }

 private:
  static long Make(long call, int command, int flags, int cpu) {
    if (on_call) {
      if (const auto error = on_call(call, command)) {
        errno = *error;
        return *error == 0 ? 0 : -1;
      }
    }
    return ::syscall(call, command, flags, cpu);
  }
  static long Futex(std::atomic<std::uint32_t>* word, int operation,
                    std::uint32_t value, const long* timeout, std::nullptr_t,
                    int) {
    if (operation == FUTEX_WAIT) last_timeout = {timeout[0], timeout[1]};
    EXPECT_EQ(operation & FUTEX_PRIVATE_FLAG, 0) << "wakes no other process";
    if (on_call) {
      if (const auto error = on_call(SYS_futex, operation)) {
        errno = *error;
        return *error == 0 ? 0 : -1;
      }
    }
    if (operation == FUTEX_WAIT && must_be_woken) {
      return FutexWait(reinterpret_cast<std::uint32_t*>(word), value);
    }
    return ::syscall(SYS_futex, word, operation, value, timeout, nullptr, 0);
  }
} WatchedSyscall;
struct {
  template <typename... Arguments>
  int operator()(int fd, int command, Arguments... arguments) const {
    ++calls;
    if (command == F_OFD_GETLK && on_peer_check) on_peer_check();
    return ::fcntl(fd, command, arguments...);
  }
} WatchedFcntl;
void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset);
int WatchedMunmap(void* address, size_t size);
int WatchedFallocate(int fd, int mode, off_t offset, off_t size) {
  if (on_fallocate) return on_fallocate();
  return ::fallocate(fd, mode, offset, size);
}

#define fcntl WatchedFcntl
#define fallocate WatchedFallocate
#define syscall WatchedSyscall
#define mmap WatchedMmap
#define munmap WatchedMunmap
#include "shm/ring.h"
#undef fcntl
#undef fallocate
#undef syscall
#undef mmap
#undef munmap

namespace {

using ipc::kForever;
using ipc::RingReader;
using ipc::RingWriter;
using ipc::Seconds;
using Layout = ipc::RingLayout;
constexpr std::size_t kCapacity = ipc::RingSide::kCapacity;

// All mappings of the object are one, as only then ThreadSanitizer, which goes
// by addresses, sees that two threads share them.
std::mutex mutex;
std::byte* memory = nullptr;
int users = 0;          // Of that memory.
bool separate = false;  // But not here: each side has its own, as in life.
int mappings = 0;
int mappings_left = -1;  // Until one fails; -1: none does.

Layout* layout() { return reinterpret_cast<Layout*>(memory); }

}  // namespace

void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset) {
  const std::lock_guard lock(mutex);
  if (mappings_left == 0) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (mappings_left > 0) --mappings_left;
  const bool second = (flags & MAP_FIXED) != 0;  // Of the data, in a row.
  if (!second) ++mappings;
  if (separate) return ::mmap(address, size, protection, flags, fd, offset);
  if (second && users > 1) return address;
  if (!second && users++ > 0) return memory;
  void* mapped = ::mmap(address, size, protection, flags, fd, offset);
  if (!second) memory = static_cast<std::byte*>(mapped);
  return mapped;
}

int WatchedMunmap(void* address, size_t size) {
  const std::lock_guard lock(mutex);
  --mappings;
  if (address == memory) {
    if (--users > 0) return 0;
    memory = nullptr;
  }
  return ::munmap(address, size);
}

namespace {

// Those whose registration for membarrier fails with ENOSYS.
enum Fenced { kNeither, kWriter, kReader, kBoth };
bool no_membarrier = false;

std::optional<int> RefuseMembarrier(long call, long command) {
  if (call != SYS_membarrier) return {};
  EXPECT_EQ(command, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
      << "used after it was refused";
  return no_membarrier ? std::optional(ENOSYS) : std::nullopt;
}

int ErrorOf(const std::function<void()>& body) {
  try {
    body();
  } catch (const ipc::Error& error) {
    return error.code().value();
  }
  return 0;
}

void Put(RingWriter& writer, std::string_view bytes) {
  std::ranges::copy(bytes, writer.Reserve(bytes.size()).begin());
  writer.Commit(bytes.size());
}
std::string Take(RingReader& reader, std::size_t size) {
  std::string text(reader.Peek(size).substr(0, size));
  reader.Release(size);
  return text;
}

class RingTest : public testing::Test {
 protected:
  ~RingTest() override {
    writer_.reset();
    reader_.reset();
    EXPECT_EQ(::shm_open(name_.c_str(), O_RDWR, 0), -1) << "left behind";
    EXPECT_EQ(mappings, 0);
    on_call = nullptr;
    on_peer_check = nullptr;
    on_fallocate = nullptr;
    separate = false;
    must_be_woken = false;
    mappings_left = -1;
  }

  // Both sides, which have met.
  void Meet(Seconds timeout = kForever, Fenced fenced = kNeither) {
    if (fenced != kNeither) on_call = RefuseMembarrier;
    no_membarrier = (fenced & kWriter) != 0;
    writer_.emplace(name_, timeout);
    no_membarrier = (fenced & kReader) != 0;
    reader_ = RingReader::TryOpen(name_, timeout);
    ASSERT_TRUE(reader_);
    EXPECT_TRUE(writer_->PeerArrived(Seconds(0)));
  }
  // Both, each with a mapping of its own: one that they share keeps the file
  // open of the side that made it, and with it that side's lock.
  void MeetApart(Seconds timeout) {
    separate = true;
    Meet(timeout);
  }
  // The object, as another process opens it.
  ipc::UniqueFd Open() const {
    return ipc::UniqueFd(::shm_open(name_.c_str(), O_RDWR, 0));
  }

  const std::string name_ = ipc_testing::UniqueName();
  std::optional<RingWriter> writer_;
  std::optional<RingReader> reader_;
};

// --- What comes out is what went in ------------------------------------------

struct Way {
  const char* name;
  Fenced fenced;
  bool separate;
};
class StreamTest : public RingTest, public testing::WithParamInterface<Way> {
 protected:
  // As Meet; a wake-up that is lost is then a failure.
  void MeetInThisWay() {
    separate = GetParam().separate;
    Meet(kForever, GetParam().fenced);
    must_be_woken = true;
  }
};

// Neither side ever waits for more than half of the ring, as both together
// would then wait for ever.
TEST_P(StreamTest, BytesComeOutInPiecesOfAnySize) {
  const std::string bytes = ipc_testing::RandomBytes(5'000'003);
  MeetInThisWay();
  auto sizes = [](unsigned seed) {
    return [random = std::mt19937(seed)]() mutable {
      const std::size_t most = random() % 4 == 0 ? kCapacity / 2 : 999;
      return 1 + random() % most;
    };
  };
  std::thread writing([&] {
    auto size = sizes(1);
    std::string_view rest = bytes;
    while (!rest.empty()) {
      const std::size_t n = std::min(size(), rest.size());
      const auto room = writer_->Reserve(n);
      ASSERT_GE(room.size(), n);
      ASSERT_LE(room.size(), kCapacity);
      std::ranges::copy(rest.substr(0, n), room.begin());
      writer_->Commit(n);
      rest.remove_prefix(n);
    }
    writer_->Finish();
  });
  auto size = sizes(2);
  std::string copy;
  for (;;) {
    const std::size_t n = size();
    const auto some = reader_->Peek(n);
    if (some.empty()) break;
    const auto used = some.substr(0, n);
    copy += used;
    reader_->Release(used.size());
  }
  writing.join();
  EXPECT_TRUE(copy == bytes);
}

// Each lets the other wait for some microseconds or none, so that it has fallen
// asleep, or is about to, or is not.
TEST_P(StreamTest, EachWakesTheOther) {
  MeetInThisWay();
  auto pause = [random = std::mt19937(3)]() mutable {
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::microseconds(random() % 20);
    while (std::chrono::steady_clock::now() < end) {
    }
  };
  constexpr int kTimes = 2000;
  std::thread writing([&, pause]() mutable {
    for (int i = 0; i < kTimes; ++i) {
      pause();
      Put(*writer_, "a");  // Not enough yet: the reader goes back to sleep.
      pause();
      Put(*writer_, "b");
      writer_->Reserve(kCapacity);
    }
    writer_->Finish();
  });
  for (int i = 0; i < kTimes; ++i) {
    ASSERT_EQ(reader_->Peek(2), "ab");
    pause();
    reader_->Release(1);
    reader_->Release(1);
  }
  EXPECT_EQ(reader_->Peek().size(), 0U);
  writing.join();
}

// The reader falls asleep before the writer stores.
TEST_P(StreamTest, SleeperIsWoken) {
  MeetInThisWay();
  std::atomic<int> sleeps = 0;
  const OnCall refuse = on_call;
  on_call = [&](long call, long operation) -> std::optional<int> {
    if (call == SYS_futex && operation == FUTEX_WAIT) {
      ++sleeps;
      sleeps.notify_one();
    }
    return refuse ? refuse(call, operation) : std::optional<int>();
  };
  std::thread reading([&] {
    EXPECT_EQ(Take(*reader_, 1), "x");
    EXPECT_EQ(reader_->Peek().size(), 0U);
  });
  sleeps.wait(0);
  Put(*writer_, "x");
  sleeps.wait(1);
  writer_->Finish();
  reading.join();
}

INSTANTIATE_TEST_SUITE_P(Ways, StreamTest,
                         testing::Values(Way{"Expedited", kNeither, false},
                                         Way{"WriterFenced", kWriter, false},
                                         Way{"ReaderFenced", kReader, false},
                                         Way{"BothFenced", kBoth, false},
                                         Way{"AtOtherAddresses", kNeither,
                                             true}),
                         [](const auto& way) { return way.param.name; });

TEST_F(RingTest, SpansGoOnOverTheEnd) {
  const std::string bytes = ipc_testing::RandomBytes(kCapacity);
  for (const bool apart : {false, true}) {
    separate = apart;
    Meet();
    const char* begin = writer_->Reserve(kCapacity).data();
    const char* read = nullptr;
    for (const std::size_t step : {std::size_t{1}, kCapacity - 2}) {
      ASSERT_EQ(writer_->Reserve(kCapacity).size(), kCapacity);
      writer_->Commit(step);
      const char* peeked = reader_->Peek(step).data();
      if (read == nullptr) read = peeked;
      reader_->Release(step);
    }
    EXPECT_EQ(apart, begin != read);
    // From the last byte on.
    for (int i = 0; i < 3; ++i) {
      const auto room = writer_->Reserve(kCapacity);
      ASSERT_EQ(room.size(), kCapacity);
      std::ranges::copy(bytes, room.begin());
      writer_->Commit(kCapacity);
      ASSERT_TRUE(reader_->Peek(kCapacity) == bytes);
      reader_->Release(kCapacity);
      EXPECT_EQ(room.data(), begin + kCapacity - 1);
    }
    writer_.reset();
    reader_.reset();
  }
}

TEST_F(RingTest, EmptyStreamHasAnEnd) {
  Meet();
  std::thread writing([&] { writer_->Finish(); });
  EXPECT_EQ(reader_->Peek(kCapacity).size(), 0U);
  writing.join();
  EXPECT_EQ(reader_->Peek().size(), 0U) << "and then again";
}

TEST_F(RingTest, FewerBytesThanAskedForAreTheEnd) {
  Meet();
  Put(*writer_, "abc");
  std::thread writing([&] { writer_->Finish(); });
  EXPECT_EQ(reader_->Peek(4), "abc");
  reader_->Release(2);
  EXPECT_EQ(reader_->Peek(4), "c");
  EXPECT_EQ(reader_->Peek(), "c");
  reader_->Release(1);
  EXPECT_EQ(reader_->Peek().size(), 0U);
  writing.join();
}

TEST_F(RingTest, FinishReturnsWhenTheReaderHasSeenTheEnd) {
  Meet(Seconds(0.05));
  Put(*writer_, "abc");
  EXPECT_EQ(ErrorOf([&] { writer_->Finish(); }), ETIMEDOUT);
  EXPECT_EQ(Take(*reader_, 3), "abc");
  EXPECT_EQ(ErrorOf([&] { writer_->Finish(); }), ETIMEDOUT) << "not yet seen";
  EXPECT_EQ(reader_->Peek().size(), 0U);
  writer_->Finish();
}

// --- Waiting -----------------------------------------------------------------

TEST_F(RingTest, NoCallIsMadeWhileBothHaveWork) {
  for (const Fenced fenced : {kNeither, kBoth}) {
    Meet(kForever, fenced);
    calls = 0;
    for (int i = 0; i < 10'000; ++i) {
      ASSERT_GT(writer_->Reserve(1000).size(), 0U);
      writer_->Commit(1000);
      ASSERT_EQ(reader_->Peek(1000).size(), 1000U);
      reader_->Release(1000);
    }
    EXPECT_EQ(calls, 0);
    writer_.reset();
    reader_.reset();
  }
}

// Woken by a store that is not yet what it waits for, before it is asleep: the
// flag is down by then, and only the epoch keeps it from falling asleep.
TEST_F(RingTest, WakeUpBeforeSleepIsNotLost) {
  Meet();
  must_be_woken = true;
  int waits = 0;
  on_call = [&](long call, long operation) -> std::optional<int> {
    if (call == SYS_futex && operation == FUTEX_WAIT && ++waits <= 2) {
      Put(*writer_, "x");
    }
    return {};
  };
  EXPECT_EQ(reader_->Peek(2), "xx");
  EXPECT_EQ(waits, 2);
}

TEST_F(RingTest, MembarrierThatFailsIsAFailure) {
  Meet();
  on_call = [&](long call, long) {
    return call == SYS_membarrier ? std::optional(EPERM) : std::nullopt;
  };
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(); }), EPERM);
}

TEST_F(RingTest, FutexThatFailsIsAFailure) {
  Meet();
  on_call = [&](long call, long) {
    return call == SYS_futex ? std::optional(EINVAL) : std::nullopt;
  };
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(); }), EINVAL);
  // It says that it sleeps still.
  EXPECT_EQ(ErrorOf([&] { writer_->Commit(1); }), EINVAL);
}

// By signals that ask for nothing.
TEST_F(RingTest, WaitThatIsInterruptedGoesOn) {
  Meet();
  int waits = 0;
  on_call = [&](long call, long operation) -> std::optional<int> {
    if (call != SYS_futex || operation != FUTEX_WAIT) return {};
    if (++waits < 3) return EINTR;
    Put(*writer_, "x");
    return {};
  };
  EXPECT_EQ(Take(*reader_, 1), "x");
  EXPECT_EQ(waits, 3);
}

TEST_F(RingTest, EveryWaitHasATimeout) {
  Meet(Seconds(0.05));
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(); }), ETIMEDOUT);
  Put(*writer_, "x");
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(2); }), ETIMEDOUT);
  EXPECT_EQ(ErrorOf([&] { writer_->Reserve(kCapacity); }), ETIMEDOUT);
  EXPECT_EQ(Take(*reader_, 1), "x") << "it goes on";
}

// --- Death -------------------------------------------------------------------

TEST_F(RingTest, WhatADeadWriterCommittedComesFirst) {
  MeetApart(Seconds(10));
  Put(*writer_, "abc");
  reader_->CheckPeer();
  writer_.reset();
  EXPECT_EQ(Take(*reader_, 2), "ab");
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(2); }), EOWNERDEAD);
  EXPECT_EQ(Take(*reader_, 1), "c");
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(); }), EOWNERDEAD);
  EXPECT_EQ(ErrorOf([&] { reader_->CheckPeer(); }), EOWNERDEAD);
}

// It stores and dies after the reader has found nothing, and before that asks
// whether it lives.
TEST_F(RingTest, LastBytesOfADeadWriterAreFound) {
  MeetApart(Seconds(10));
  on_peer_check = [&] {
    if (!writer_) return;
    Put(*writer_, "abc");
    writer_.reset();
  };
  EXPECT_EQ(Take(*reader_, 3), "abc");
  EXPECT_FALSE(writer_);
}

TEST_F(RingTest, WriterNoticesThatTheReaderDied) {
  MeetApart(Seconds(10));
  Put(*writer_, "abc");
  writer_->CheckPeer();
  reader_.reset();
  EXPECT_EQ(ErrorOf([&] { writer_->CheckPeer(); }), EOWNERDEAD);
  EXPECT_EQ(ErrorOf([&] { writer_->Reserve(kCapacity); }), EOWNERDEAD);
  EXPECT_EQ(ErrorOf([&] { writer_->Finish(); }), EOWNERDEAD);
}

// Half a second at most passes between two checks, also where a sleep could be
// longer.
TEST_F(RingTest, PeerIsCheckedWithinASecond) {
  MeetApart(Seconds(10));
  on_call = [&](long call, long operation) -> std::optional<int> {
    if (call == SYS_futex && operation == FUTEX_WAIT) {
      EXPECT_EQ(last_timeout[0], 0);
      EXPECT_LE(last_timeout[1], 500'000'000);
      return ETIMEDOUT;
    }
    return {};
  };
  int checks = 0;
  on_peer_check = [&] {
    if (++checks == 3) reader_.reset();
  };
  EXPECT_EQ(ErrorOf([&] { writer_->Finish(); }), EOWNERDEAD);
  EXPECT_EQ(checks, 3);
}

// --- The object --------------------------------------------------------------

TEST_F(RingTest, ReaderComesOnlyToALivingWriter) {
  EXPECT_FALSE(RingReader::TryOpen(name_, kForever)) << "there is no name";
  {
    // As a writer has it that is not ready yet, or was killed.
    const ipc::UniqueFd dead(::shm_open(
        name_.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600 | ipc::kOurs));
    ASSERT_EQ(::ftruncate(dead.get(), Layout::kSize), 0);
  }
  EXPECT_FALSE(RingReader::TryOpen(name_, kForever));
  writer_.emplace(name_, kForever);
  EXPECT_FALSE(writer_->PeerArrived(Seconds(0)));
  reader_ = RingReader::TryOpen(name_, kForever);
  EXPECT_TRUE(reader_);
  EXPECT_TRUE(writer_->PeerArrived(Seconds(0)));
}

// Before that it may have no memory, and its mode may not be known.
TEST_F(RingTest, ReaderComesOnlyToAWriterThatIsReady) {
  int attempts = 0;
  const auto come = [&] {
    ++attempts;
    EXPECT_FALSE(RingReader::TryOpen(name_, kForever));
  };
  on_fallocate = [&] {
    come();
    return ::ftruncate(Open().get(), Layout::kSize);
  };
  on_call = [&](long call, long) -> std::optional<int> {
    if (call == SYS_membarrier) come();  // It registers.
    return {};
  };
  writer_.emplace(name_, kForever);
  EXPECT_EQ(attempts, 2);
}

TEST_F(RingTest, SecondReaderIsRefused) {
  Meet();
  EXPECT_EQ(ErrorOf([&] { RingReader::TryOpen(name_, kForever); }), EBUSY);
  EXPECT_EQ(ErrorOf([&] { RingWriter(name_, kForever); }), EBUSY);
}

// What is in the ring is the first one's: the second would get what is left.
TEST_F(RingTest, ReaderThatComesLateGetsNothing) {
  MeetApart(kForever);
  Put(*writer_, "abc");
  reader_.reset();
  EXPECT_FALSE(RingReader::TryOpen(name_, kForever));
  EXPECT_EQ(ErrorOf([&] { writer_->Finish(); }), EOWNERDEAD);
}

// It took the ring, and died before it said that it is there.
TEST_F(RingTest, ReaderThatDiedAsItCameLeavesNoTrace) {
  writer_.emplace(name_, kForever);
  {
    const auto fd = Open();
    ASSERT_TRUE(ipc::SetLock(fd.get(), F_WRLCK, 1, 1, name_));
    EXPECT_EQ(ErrorOf([&] { RingReader::TryOpen(name_, kForever); }), EBUSY);
  }
  EXPECT_FALSE(writer_->PeerArrived(Seconds(0)));
  reader_ = RingReader::TryOpen(name_, kForever);
  EXPECT_TRUE(reader_);
}

// One side says so, the other waits asleep.
TEST_F(RingTest, ReaderWakesAWriterThatWaitsForIt) {
  must_be_woken = true;
  writer_.emplace(name_, kForever);
  on_call = [&](long call, long operation) -> std::optional<int> {
    if (call == SYS_futex && operation == FUTEX_WAIT) {
      reader_ = RingReader::TryOpen(name_, kForever);
    }
    return {};
  };
  EXPECT_TRUE(writer_->PeerArrived(kForever));
  EXPECT_TRUE(reader_);
}

// The kernel takes no billion nanoseconds, and not any number of seconds.
TEST_F(RingTest, AnyPauseWorks) {
  writer_.emplace(name_, kForever);
  on_call = [&](long call, long operation) {
    return call == SYS_futex && operation == FUTEX_WAIT
               ? std::optional(ETIMEDOUT)
               : std::nullopt;
  };
  for (const auto& [pause, seconds, nanoseconds] :
       {std::tuple(Seconds(0), 0L, 0L), std::tuple(Seconds(-1), 0L, 0L),
        std::tuple(Seconds(0.25), 0L, 250'000'000L),
        std::tuple(Seconds(1), 1L, 0L),
        std::tuple(Seconds(2.5), 2L, 500'000'000L),
        std::tuple(kForever, 1'000'000L, 0L)}) {
    SCOPED_TRACE(pause.count());
    EXPECT_FALSE(writer_->PeerArrived(pause));
    EXPECT_EQ(last_timeout[0], seconds);
    EXPECT_EQ(last_timeout[1], nanoseconds);
  }
}

// The kernel takes it, and a second is one.
TEST_F(RingTest, PauseOfASecondIsOne) {
  writer_.emplace(name_, kForever);
  const Seconds start = ipc::Now();
  EXPECT_FALSE(writer_->PeerArrived(Seconds(1.25)));
  EXPECT_GE(ipc::Now() - start, Seconds(1.25));
}

TEST_F(RingTest, ObjectIsNoRingWithoutItsSize) {
  writer_.emplace(name_, kForever);
  for (const off_t size : {off_t{0}, off_t{116}, off_t{Layout::kSize + 1}}) {
    ASSERT_EQ(::ftruncate(Open().get(), size), 0);
    EXPECT_EQ(ErrorOf([&] { RingReader::TryOpen(name_, kForever); }), EBADMSG);
  }
}

TEST_F(RingTest, ObjectHasAllItsMemory) {
  writer_.emplace(name_, kForever);
  struct stat status {};
  ASSERT_EQ(::fstat(Open().get(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, off_t{Layout::kSize});
}

TEST_F(RingTest, WithoutMemoryNothingIsLeft) {
  on_fallocate = [] { return errno = ENOSPC, -1; };
  EXPECT_EQ(ErrorOf([&] { RingWriter(name_, kForever); }), ENOSPC);
  EXPECT_FALSE(Open());
  int tries = 0;
  on_fallocate = [&] {
    return ++tries < 3 ? (errno = EINTR, -1)
                       : ::ftruncate(Open().get(), Layout::kSize);
  };
  writer_.emplace(name_, kForever);
  EXPECT_EQ(tries, 3) << "it goes on after an interruption";
}

TEST_F(RingTest, MappingThatFailsIsAFailure) {
  for (const int whole : {0, 1}) {
    mappings_left = whole;
    EXPECT_EQ(ErrorOf([&] { RingWriter(name_, kForever); }), ENOMEM);
    EXPECT_EQ(mappings, 0);
    EXPECT_FALSE(Open());
    mappings_left = -1;
    writer_.emplace(name_, kForever);
    mappings_left = whole;
    separate = true;
    EXPECT_EQ(ErrorOf([&] { RingReader::TryOpen(name_, kForever); }), ENOMEM);
    separate = false;
    mappings_left = -1;
    EXPECT_TRUE(RingReader::TryOpen(name_, kForever)) << "its lock has gone";
    writer_.reset();
  }
}

// --- What the other side stores is input -------------------------------------

TEST_F(RingTest, ReaderChecksThePosition) {
  for (const std::uint64_t position :
       {kCapacity + 11, std::size_t{9}, std::size_t{0}, SIZE_MAX,
        SIZE_MAX - kCapacity}) {
    Meet(Seconds(10));
    Put(*writer_, "0123456789");
    Take(*reader_, 10);
    layout()->writer.position = position;
    EXPECT_EQ(ErrorOf([&] { reader_->Peek(); }), EBADMSG) << position;
    layout()->writer.position = kCapacity + 10;
    EXPECT_EQ(reader_->Peek(kCapacity).size(), kCapacity);
    // Nor back to what the reader has not used, but seen.
    reader_->Release(kCapacity - 1);
    layout()->writer.position = kCapacity + 9;
    EXPECT_EQ(ErrorOf([&] { reader_->Peek(2); }), EBADMSG);
    writer_.reset();
    reader_.reset();
  }
}

TEST_F(RingTest, WriterChecksThePosition) {
  for (const std::uint64_t position :
       {kCapacity + 11, std::size_t{9}, std::size_t{0}, SIZE_MAX}) {
    Meet(Seconds(10));
    Put(*writer_, "0123456789");
    layout()->reader.position = 10;
    ASSERT_EQ(writer_->Reserve(kCapacity).size(), kCapacity);
    writer_->Commit(kCapacity);
    layout()->reader.position = position;
    EXPECT_EQ(ErrorOf([&] { writer_->Reserve(); }), EBADMSG) << position;
    layout()->reader.position = kCapacity + 10;
    EXPECT_EQ(writer_->Reserve(kCapacity).size(), kCapacity);
    writer_.reset();
    reader_.reset();
  }
}

// A reader that says it has had all: the writer's success would be a lie.
TEST_F(RingTest, WriterChecksThatAllWasReleased) {
  for (const std::uint64_t released : {0U, 2U, 4U}) {
    Meet(Seconds(10));
    Put(*writer_, "abc");
    layout()->reader.position = released;
    layout()->reader.ended = 1;
    EXPECT_EQ(ErrorOf([&] { writer_->Finish(); }), EBADMSG) << released;
    layout()->reader.position = 3;
    writer_->Finish();
    writer_.reset();
    reader_.reset();
  }
}

TEST_F(RingTest, MoreThanTheRingHoldsIsRefused) {
  Meet();
  EXPECT_EQ(ErrorOf([&] { writer_->Reserve(kCapacity + 1); }), EMSGSIZE);
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(kCapacity + 1); }), EMSGSIZE);
}

TEST_F(RingTest, OtherWordsMayBeAnything) {
  for (const std::uint32_t word : {0U, 1U, 2U, 3U, 0x80000000U, UINT32_MAX}) {
    Meet();
    for (auto* side : {&layout()->writer, &layout()->reader}) {
      side->mode = word;
      side->asleep = word;
      side->epoch = word;
    }
    Put(*writer_, "abc");
    EXPECT_EQ(Take(*reader_, 3), "abc");
    writer_.reset();
    reader_.reset();
  }
}

// --- What comes before what --------------------------------------------------

#ifdef __x86_64__
using Accessed = std::span<const void* const>;

template <typename Body>
Accessed AccessesOf(Body body) {
  return ipc_testing::Accesses::Of(
      std::as_writable_bytes(std::span(layout(), 1)), body);
}

// When that was first accessed.
std::size_t First(Accessed accesses, const void* word) {
  const auto place = std::ranges::find(accesses, word);
  EXPECT_NE(place, accesses.end()) << "not at all";
  return static_cast<std::size_t>(place - accesses.begin());
}

// It could change between the check and the use.
TEST_F(RingTest, PositionIsReadOnce) {
  Meet();
  Put(*writer_, "abc");
  const auto reads = [](const auto& position, const auto& body) {
    return std::ranges::count(AccessesOf(body), &position);
  };
  const auto& writers = layout()->writer.position;
  // One, but more with ThreadSanitizer.
  const auto once = reads(writers, [&] { EXPECT_EQ(writers.load(), 3U); });
  EXPECT_GE(once, 1);
  EXPECT_EQ(reads(writers, [&] { EXPECT_EQ(Take(*reader_, 3), "abc"); }), once);
  EXPECT_EQ(
      reads(layout()->reader.position,
            [&] { EXPECT_EQ(writer_->Reserve(kCapacity).size(), kCapacity); }),
      once);
}

// The other way round, the last bytes could come between the two.
TEST_F(RingTest, EndIsReadBeforeThePosition) {
  Meet();
  Put(*writer_, "abc");
  const auto accesses =
      AccessesOf([&] { EXPECT_EQ(reader_->Peek().size(), 3U); });
  EXPECT_LT(First(accesses, &layout()->writer.ended),
            First(accesses, &layout()->writer.position));
}

// Whoever saw the flag would have advanced the epoch before it was read.
TEST_F(RingTest, EpochIsReadBeforeTheFlagIsRaised) {
  Meet();
  on_call = [&](long call, long) -> std::optional<int> {
    if (call != SYS_futex) return {};
    layout()->writer.position = 1;  // Or it would try again for ever.
    return EAGAIN;
  };
  const auto accesses =
      AccessesOf([&] { EXPECT_EQ(reader_->Peek().size(), 1U); });
  const Layout::Side& reader = layout()->reader;
  const auto raised = First(accesses, &reader.asleep);
  EXPECT_LT(First(accesses, &reader.epoch), raised);
  EXPECT_EQ(std::ranges::count(accesses.subspan(raised), &reader.epoch), 0);
}
#endif

}  // namespace
