// The ring in one process, with the calls that it makes watched: bytes over its
// end, sleep and wake-up, what the other side may put there, and two threads
// for ThreadSanitizer to look at.
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

#ifdef __x86_64__
#include "shm/test_accesses.h"
#endif
#include "testing/child_process.h"

namespace {

// What a test does in place of a system call, or before it; none: the call is
// made. `operation` is membarrier's command or futex's operation.
using OnCall = std::function<std::optional<int>(long call, long operation)>;
OnCall on_call;
std::function<void()> on_look;  // At the other side's lock.
std::atomic<int> calls = 0;     // syscall and fcntl.
// A futex wait that nobody ends, which the header ends after 100 ms, is a
// wake-up that was lost.
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
                    std::uint32_t value, const timespec* timeout,
                    std::nullptr_t, int) {
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
    if (command == F_OFD_GETLK && on_look) on_look();
    return ::fcntl(fd, command, arguments...);
  }
} WatchedFcntl;
void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset);
int WatchedMunmap(void* address, size_t size);

#define fcntl WatchedFcntl
#define syscall WatchedSyscall
#define mmap WatchedMmap
#define munmap WatchedMunmap
#include "shm/ring.h"
#undef fcntl
#undef syscall
#undef mmap
#undef munmap

namespace {

using ipc::RingReader;
using ipc::RingWriter;
using Layout = ipc::RingLayout;
using ipc::Sleeper;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
constexpr std::size_t kCapacity = ipc::RingSide::kCapacity;

// All mappings of the layout are one, and all of the data, as only then
// ThreadSanitizer, which goes by addresses, sees that two threads share them.
struct Mapping {
  std::byte* memory = nullptr;
  int users = 0;
};
std::mutex mutex;
Mapping header;
Mapping data;
bool separate = false;  // But not here: each side has its own, as in life.
int mappings = 0;
int mappings_left = -1;  // Until one fails; -1: none does.

Layout* layout() { return reinterpret_cast<Layout*>(header.memory); }

}  // namespace

void* WatchedMmap(void* address, size_t size, int protection, int flags, int fd,
                  off_t offset) {
  const std::lock_guard lock(mutex);
  if (mappings_left == 0) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  if (mappings_left > 0) --mappings_left;
  Mapping& mapping = offset == 0 ? header : data;
  const bool second = (flags & MAP_FIXED) != 0;  // Of the data, in a row.
  if (!second) ++mappings;
  if (separate) return ::mmap(address, size, protection, flags, fd, offset);
  if (second) {
    if (mapping.users > 1) return address;
  } else if (mapping.users++ > 0) {
    return mapping.memory;
  }
  void* memory = ::mmap(address, size, protection, flags, fd, offset);
  if (!second) mapping.memory = static_cast<std::byte*>(memory);
  return memory;
}

int WatchedMunmap(void* address, size_t size) {
  const std::lock_guard lock(mutex);
  --mappings;
  for (Mapping* mapping : {&header, &data}) {
    if (address != mapping->memory) continue;
    if (--mapping->users > 0) return 0;
    mapping->memory = nullptr;
  }
  return ::munmap(address, size);
}

namespace {

// Those whose registration for membarrier fails with ENOSYS.
enum Fenced { kNeither, kWriter, kReader, kBoth };
thread_local bool no_membarrier = false;

std::optional<int> RefuseMembarrier(long call, long command) {
  if (call == SYS_membarrier && no_membarrier) {
    EXPECT_EQ(command, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED)
        << "used after it was refused";
    return ENOSYS;
  }
  return {};
}

int ErrorOf(const std::function<void()>& body) {
  try {
    body();
  } catch (const os::Error& error) {
    return error.code().value();
  }
  return 0;
}

void Put(RingWriter& writer, std::string_view bytes) {
  std::ranges::copy(os::Bytes(bytes), writer.Reserve(bytes.size()).begin());
  writer.Commit(bytes.size());
}
std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
std::string Take(RingReader& reader, std::size_t size) {
  std::string text = Text(reader.Peek(size).first(size));
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
    on_look = nullptr;
    separate = false;
    must_be_woken = false;
    mappings_left = -1;
  }

  // Both sides, which have met.
  void Meet(os::Timeout timeout = os::kForever, Fenced fenced = kNeither) {
    if (fenced != kNeither) on_call = RefuseMembarrier;
    std::thread thread([&] {
      no_membarrier = (fenced & kWriter) != 0;
      writer_.emplace(name_, timeout);
    });
    no_membarrier = (fenced & kReader) != 0;
    reader_.emplace(name_, timeout);
    no_membarrier = false;
    thread.join();
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
    Meet(os::kForever, GetParam().fenced);
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
      std::ranges::copy(os::Bytes(rest.substr(0, n)), room.begin());
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
    const auto used = some.first(std::min(n, some.size()));
    copy += Text(used);
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
    ASSERT_EQ(Text(reader_->Peek(2)), "ab");
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
    const std::byte* begin = writer_->Reserve(kCapacity).data();
    const std::byte* read = nullptr;
    for (const std::size_t step : {std::size_t{1}, kCapacity - 2}) {
      ASSERT_EQ(writer_->Reserve(kCapacity).size(), kCapacity);
      writer_->Commit(step);
      const std::byte* peeked = reader_->Peek(step).data();
      if (read == nullptr) read = peeked;
      reader_->Release(step);
    }
    EXPECT_EQ(apart, begin != read);
    // From the last byte on.
    for (int i = 0; i < 3; ++i) {
      const auto room = writer_->Reserve(kCapacity);
      ASSERT_EQ(room.size(), kCapacity);
      std::ranges::copy(os::Bytes(bytes), room.begin());
      writer_->Commit(kCapacity);
      ASSERT_TRUE(Text(reader_->Peek(kCapacity)) == bytes);
      reader_->Release(kCapacity);
      EXPECT_EQ(room.data() - begin, kCapacity - 1);
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
  EXPECT_EQ(Text(reader_->Peek(4)), "abc");
  reader_->Release(2);
  EXPECT_EQ(Text(reader_->Peek(4)), "c");
  EXPECT_EQ(Text(reader_->Peek()), "c");
  reader_->Release(1);
  EXPECT_EQ(reader_->Peek().size(), 0U);
  writing.join();
}

TEST_F(RingTest, FinishReturnsWhenTheReaderHasSeenTheEnd) {
  Meet(500ms);
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
    Meet(os::kForever, fenced);
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
  EXPECT_EQ(Text(reader_->Peek(2)), "xx");
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

TEST_F(RingTest, EveryWaitHasATimeout) {
  EXPECT_EQ(ErrorOf([&] { RingWriter(name_, 0ms); }), ETIMEDOUT);
  EXPECT_EQ(ErrorOf([&] { RingReader(name_, 0ms); }), ETIMEDOUT);
  Meet(500ms);
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(); }), ETIMEDOUT);
  Put(*writer_, "x");
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(2); }), ETIMEDOUT);
  EXPECT_EQ(ErrorOf([&] { writer_->Reserve(kCapacity); }), ETIMEDOUT);
  EXPECT_EQ(Take(*reader_, 1), "x") << "it goes on";
}

// --- Death -------------------------------------------------------------------

TEST_F(RingTest, WhatADeadWriterCommittedComesFirst) {
  separate = true;  // A mapping keeps its file open, and so the writer's lock.
  Meet(10s);
  Put(*writer_, "abc");
  reader_->CheckPeer();
  writer_.reset();
  EXPECT_EQ(Take(*reader_, 2), "ab");
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(2); }), EOWNERDEAD);
  EXPECT_EQ(Take(*reader_, 1), "c");
  EXPECT_EQ(ErrorOf([&] { reader_->Peek(); }), EOWNERDEAD);
  EXPECT_EQ(ErrorOf([&] { reader_->CheckPeer(); }), EOWNERDEAD);
}

// It stores and dies after the reader has looked, and before that asks.
TEST_F(RingTest, LastBytesOfADeadWriterAreLookedForAgain) {
  separate = true;
  Meet(10s);
  on_look = [&] {
    if (!writer_) return;
    Put(*writer_, "abc");
    writer_.reset();
  };
  EXPECT_EQ(Take(*reader_, 3), "abc");
  EXPECT_FALSE(writer_);
}

TEST_F(RingTest, WriterNoticesThatTheReaderDied) {
  Meet(10s);
  Put(*writer_, "abc");
  writer_->CheckPeer();
  reader_.reset();
  EXPECT_EQ(ErrorOf([&] { writer_->CheckPeer(); }), EOWNERDEAD);
  EXPECT_EQ(ErrorOf([&] { writer_->Reserve(kCapacity); }), EOWNERDEAD);
  EXPECT_EQ(ErrorOf([&] { writer_->Finish(); }), EOWNERDEAD);
}

TEST_F(RingTest, WriterNoticesThatTheReaderDiedAsItCame) {
  std::thread writing(
      [&] { EXPECT_EQ(ErrorOf([&] { RingWriter(name_, 10s); }), EOWNERDEAD); });
  {
    // It takes the ring, and never says that it is there.
    const auto memory = ipc::SharedMemory<Layout>::Open(name_, os::kForever);
  }
  writing.join();
}

TEST_F(RingTest, MappingThatFailsIsAFailure) {
  for (const int whole : {0, 1, 2}) {
    mappings_left = whole;
    EXPECT_EQ(ErrorOf([&] { RingWriter(name_, os::kForever); }), ENOMEM);
    EXPECT_EQ(mappings, 0);
  }
}

// --- What the other side stores is input -------------------------------------

TEST_F(RingTest, ReaderChecksThePosition) {
  for (const std::uint64_t position :
       {kCapacity + 11, std::size_t{9}, std::size_t{0}, SIZE_MAX,
        SIZE_MAX - kCapacity}) {
    Meet(10s);
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
    Meet(10s);
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

TEST_F(RingTest, OtherWordsMayBeAnything) {
  for (const std::uint32_t word : {0U, 1U, 2U, 3U, 0x80000000U, UINT32_MAX}) {
    Meet();
    for (auto* side : {&layout()->writer, &layout()->reader}) {
      side->sleeper.mode = word;
      side->sleeper.asleep = word;
      side->sleeper.epoch = word;
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
  const Sleeper& sleeper = layout()->reader.sleeper;
  const auto raised = First(accesses, &sleeper.asleep);
  EXPECT_LT(First(accesses, &sleeper.epoch), raised);
  EXPECT_EQ(std::ranges::count(accesses.subspan(raised), &sleeper.epoch), 0);
}
#endif

}  // namespace
