// A ring of any size and content, whose words change while it is used: what
// either side makes of it.
#include <cstring>
#include <thread>
#include <vector>

#include "shm/ring.h"
#include "testing/fuzzing/fuzz.h"

namespace {

using ipc_testing::FuzzInput;
using ipc_testing::Require;
using Layout = ipc::RingLayout;
constexpr std::size_t kCapacity = ipc::RingSide::kCapacity;
constexpr ipc::Seconds kSoon{0.002};

// The words of one side, as the input has them; positions are often near what
// they may be.
struct Words {
  explicit Words(FuzzInput& input) {
    position = Word(input) % (4 * kCapacity);
    if ((input.Byte() & 1) != 0) position = ~position;
    ended = input.Byte() & 1;
    mode = static_cast<std::uint32_t>(Word(input));
    asleep = input.Byte();
    epoch = static_cast<std::uint32_t>(Word(input));
  }
  static std::uint64_t Word(FuzzInput& input) {
    std::uint64_t word = 0;
    const std::string bytes = input.Text(4);
    std::memcpy(&word, bytes.data(), bytes.size());
    return word;
  }
  void Store(Layout::Side& side) const {
    side.position = position;
    side.ended = ended;
    side.mode = mode;
    side.asleep = asleep;
    side.epoch = epoch;
  }
  std::uint64_t position;
  std::uint32_t ended, mode, asleep, epoch;
};

// Throws ipc::Error, or what `body` returned is within the ring.
template <typename Body>
void Try(std::size_t least, Body body) {
  try {
    const auto bytes = body();
    Require(bytes.size() <= kCapacity, "a span has a limit");
    Require(bytes.size() >= least, "a span is as long as was asked for");
    if (bytes.empty()) return;
    // Mapped to the last byte: the compiler must not leave this out.
    const int both = bytes.front() ^ bytes.back();
    asm volatile("" : : "r"(both));
  } catch (const ipc::Error&) {
  }
}

void Read(ipc::RingReader& ring, std::size_t least) {
  Try(0, [&] {
    const auto bytes = ring.Peek(least);
    ring.Release(bytes.size() / 2);
    return bytes;
  });
}
void Write(ipc::RingWriter& ring, std::size_t least) {
  Try(least, [&] {
    const auto room = ring.Reserve(least);
    room.front() = room.back();
    ring.Commit(least);
    return room;
  });
}

// The object, as a process has it that knows how a side lives, and else stores
// what it likes.
class Other {
 public:
  Other(const char* name, int flags, std::size_t size)
      : fd_(::shm_open(name, flags | O_RDWR, 0600 | ipc::kOurs)) {
    Require(static_cast<bool>(fd_), "shm_open");
    if ((flags & O_CREAT) != 0) {
      Require(::ftruncate(fd_.get(), static_cast<off_t>(size)) == 0,
              "ftruncate");
    }
    memory_ = ::mmap(nullptr, sizeof(Layout), PROT_READ | PROT_WRITE,
                     MAP_SHARED, fd_.get(), 0);
    Require(memory_ != MAP_FAILED, "mmap");
  }
  Other(const Other&) = delete;
  Other& operator=(const Other&) = delete;
  ~Other() { ::munmap(memory_, sizeof(Layout)); }
  void Live(off_t byte) {
    Require(ipc::SetLock(fd_.get(), F_WRLCK, byte, 1, "object"), "a lock");
  }
  int fd() const { return fd_.get(); }
  Layout* operator->() const { return static_cast<Layout*>(memory_); }

 private:
  ipc::UniqueFd fd_;
  void* memory_;
};

// One side, while the other, which only stores its words, lives: all that it
// has are those of the input in turn, and, if it changes, at any time.
void Use(const char* name, bool reads, bool changes, FuzzInput& input) {
  std::optional<ipc::RingReader> reader;
  std::optional<ipc::RingWriter> writer;
  if (!reads) writer.emplace(name, kSoon);
  Other other(name, reads ? O_CREAT | O_EXCL : 0, Layout::kSize);
  std::optional<ipc::OwnedName> owned;
  if (reads) owned.emplace(::shm_unlink, "shm_open", name, other.fd());
  other.Live(reads ? 0 : 1);
  Layout::Side& its = reads ? other->writer : other->reader;
  Layout::Side& mine = reads ? other->reader : other->writer;
  its.mode = (input.Byte() & 1) != 0 ? Layout::kExpedited : Layout::kFenced;
  if (reads) {
    reader = ipc::RingReader::TryOpen(name, ipc::Seconds(0));
    Require(reader.has_value(), "a ring can be opened");
  } else {
    Require(writer->PeerArrived(ipc::Seconds(0)), "a reader has come");
  }
  const Words words(input);
  std::jthread change;
  if (changes) {
    change = std::jthread([&](const std::stop_token& stop) {
      const Words now(words);
      for (std::uint64_t i = 0; !stop.stop_requested(); ++i) {
        now.Store(its);
        its.position = i % (2 * kCapacity);
        its.ended = 0;
        mine.epoch = static_cast<std::uint32_t>(i);
      }
    });
  }
  for (int i = 0; i < 4 && !input.empty(); ++i) {
    if (!changes) Words(input).Store(its);
    const std::size_t least = 1 + Words::Word(input) % kCapacity;
    if (reader) Read(*reader, least);
    if (writer) Write(*writer, least);
  }
  change = {};
  if (!writer) return;
  try {
    writer->Finish();
    Require(its.position == mine.position, "the end is that of all bytes");
  } catch (const ipc::Error&) {
  }
}

// An object with that content, which a program finds under its name, or a
// reader as if its writer lived.
void Find(const char* name, bool reads, std::size_t size,
          const std::string& content) {
  if (!reads) {
    {
      const Other left(name, O_CREAT | O_EXCL, size);
      ipc::WriteAll(left.fd(), content, name);
    }
    const ipc::RingWriter anew(name, ipc::Seconds(0));
    const Other made(name, 0, 0);
    Require(made->writer.position == 0 && made->reader.mode == 0,
            "nothing is left of it");
    return;
  }
  Other other(name, O_CREAT | O_EXCL, size);
  const ipc::OwnedName owned(::shm_unlink, "shm_open", name, other.fd());
  ipc::WriteAll(other.fd(), content, name);
  other.Live(0);
  auto ring = ipc::RingReader::TryOpen(name, ipc::Seconds(0));
  Require(size == Layout::kSize, "an object of another size is refused");
  if (!ring) return;
  for (const std::size_t least : {std::size_t{1}, kCapacity}) {
    Read(*ring, least);
  }
}

}  // namespace

// A byte that says what happens, two for how the size is off, and the object;
// or a side's words, again and again.
std::vector<std::string> ipc_testing::Seeds() {
  auto object = [](std::uint32_t came, std::uint64_t position,
                   std::uint32_t ended) {
    std::string content(sizeof(Layout), '\0');
    std::memcpy(content.data() + offsetof(Layout, reader.mode), &came, 4);
    std::memcpy(content.data() + offsetof(Layout, writer.position), &position,
                8);
    std::memcpy(content.data() + offsetof(Layout, writer.ended), &ended, 4);
    return content;
  };
  auto words = [](std::uint32_t position, char flip, char ended) {
    std::string text(15, '\1');
    std::memcpy(text.data(), &position, 4);
    text[4] = flip;
    text[5] = ended;
    return text;
  };
  auto least = [](std::uint32_t bytes) {
    --bytes;
    return std::string(reinterpret_cast<const char*>(&bytes), 4);
  };
  const std::string same("\0\0", 2);
  // Of one that is expedited; then what it stores, and how much is asked for.
  const std::string some = "\1" + words(7, 0, 0) + words(5, 0, 0) + least(3) +
                           words(kCapacity, 0, 0) + least(kCapacity) +
                           words(5, 1, 1) + least(99);
  const std::string all = "\1" + words(0, 0, 0) + words(100, 0, 1) + least(100);
  const std::string full = "\1" + words(0, 0, 0) + words(0, 0, 0) +
                           least(kCapacity) + words(9, 0, 0) + least(9) +
                           words(kCapacity + 10, 0, 0) + least(9);
  return {
      "\x01" + same + object(0, 10, 0),
      "\x01" + same + object(0, 10, 1),
      "\x01" + same + object(0, ~0ULL, 0),
      "\x01" + same + object(0, kCapacity + 1, 1),
      "\x01" + same + object(1, 0, 0),
      "\x01\x01" + same + object(0, 0, 0),
      std::string("\0", 1) + same + object(1, 10, 1),
      "\x02" + some,
      "\x02" + all,
      "\x02" + full,
      "\x03" + some,
      "\x03" + all,
      "\x06" + some,
      "\x07" + some,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static const std::string name =
      "/ipc-fuzz-ring-" + std::to_string(::getpid());
  FuzzInput input(data, size);
  const std::uint8_t what = input.Byte();
  const bool reads = (what & 1) != 0;
  try {
    if ((what & 2) != 0) {
      Use(name.c_str(), reads, (what & 4) != 0, input);
    } else {
      const std::size_t more = input.Byte() + 256U * input.Byte();
      Find(name.c_str(), reads, Layout::kSize + more,
           input.Text(sizeof(Layout)));
    }
  } catch (const ipc::Error&) {
  }
  return 0;
}
