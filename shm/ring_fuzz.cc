// A ring of any size and content, whose words change while it is used: what
// either side makes of it.
#include <cstring>
#include <thread>

#include "shm/ring.h"
#include "testing/fuzz.h"

namespace {

using ipc_testing::FuzzInput;
using ipc_testing::Require;
using Layout = ipc::RingLayout;
constexpr std::size_t kCapacity = ipc::RingSide::kCapacity;
constexpr os::Timeout kSoon{2};

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
    side.sleeper.mode = mode;
    side.sleeper.asleep = asleep;
    side.sleeper.epoch = epoch;
  }
  std::uint64_t position;
  std::uint32_t ended, mode, asleep, epoch;
};

// Throws os::Error, or what `body` returned is within the ring.
template <typename Body>
void Try(std::size_t least, Body body) {
  try {
    const auto bytes = body();
    Require(bytes.size() <= kCapacity, "a span has a limit");
    Require(bytes.size() >= least, "a span is as long as was asked for");
    if (bytes.empty()) return;
    // Mapped to the last byte: the compiler must not leave this out.
    const std::byte both = bytes.front() ^ bytes.back();
    asm volatile("" : : "r"(both));
  } catch (const os::Error&) {
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

// One side, while the other, which only stores its words, lives: all that it
// has are those of the input in turn, and, where it changes, at any time.
void Use(const char* name, bool reads, bool changes, FuzzInput& input) {
  std::optional<ipc::RingReader> reader;
  std::optional<ipc::RingWriter> writer;
  using Memory = ipc::SharedMemory<Layout>;
  std::optional<Memory> other;
  if (reads) {
    other.emplace(Memory::Create(name));
    (*other)->writer.sleeper.mode =
        (input.Byte() & 1) != 0 ? ipc::Sleeper::kExpedited : 0U;
    other->Publish();
    reader.emplace(name, os::Timeout(0));
  } else {
    // Without a pause: the writer waits no longer for it than for anything.
    std::jthread coming([&](const std::stop_token& stop) {
      while (!other && !stop.stop_requested()) {
        try {
          other.emplace(Memory::Open(name, os::Timeout(0)));
          (*other)->reader.sleeper.mode = ipc::Sleeper::kExpedited;
        } catch (const os::Error&) {
        }
      }
    });
    writer.emplace(name, kSoon);
    coming.join();
  }
  Layout::Side& its = reads ? (*other)->writer : (*other)->reader;
  Layout::Side& mine = reads ? (*other)->reader : (*other)->writer;
  const Words words(input);
  std::jthread change;
  if (changes) {
    change = std::jthread([&](const std::stop_token& stop) {
      const Words now(words);
      for (std::uint64_t i = 0; !stop.stop_requested(); ++i) {
        now.Store(its);
        its.position = i % (2 * kCapacity);
        its.ended = 0;
        mine.sleeper.epoch = static_cast<std::uint32_t>(i);
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
  } catch (const os::Error&) {
  }
}

// An object with that content, which a program finds under its name.
void Find(const char* name, bool reads, std::size_t size,
          const std::string& content) {
  const os::UniqueFd fd(::shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600));
  const os::OwnedName unlink(::shm_unlink, name);
  Require(static_cast<bool>(fd), "shm_open");
  os::WriteAll(fd.get(), os::Bytes(content), name);
  Require(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0, "ftruncate");
  if (!reads) {
    try {
      ipc::RingWriter(name, os::Timeout(0));
    } catch (const os::Error& error) {
      Require(
          error.code().value() == EEXIST || error.code().value() == ETIMEDOUT,
          "it is another's, or nobody reads");
    }
    return;
  }
  os::TryLock(fd.get(), name);  // As if the writer lived.
  ipc::RingReader ring(name, os::Timeout(0));
  Require(size == Layout::kSize, "an object of another size is refused");
  for (const std::size_t least : {std::size_t{1}, kCapacity}) {
    Read(ring, least);
  }
}

}  // namespace

// A byte that says what happens, two for how the size is off, and the object;
// or a side's words, again and again.
std::vector<std::string> ipc_testing::Seeds() {
  auto object = [](std::uint32_t ready, std::uint32_t came,
                   std::uint64_t position, std::uint32_t ended) {
    std::string content(sizeof(Layout), '\0');
    std::memcpy(content.data(), &ready, 4);
    std::memcpy(content.data() + 4, &came, 4);
    const std::size_t writer = offsetof(Layout, writer);
    std::memcpy(content.data() + writer, &position, 8);
    std::memcpy(content.data() + writer + 8, &ended, 4);
    return content;
  };
  auto words = [](std::uint32_t position, char flip, char ended) {
    std::string text(14, '\1');
    std::memcpy(text.data(), &position, 4);
    text[4] = flip;
    text[5] = ended;
    const std::uint32_t least = 99;
    return text + std::string(reinterpret_cast<const char*>(&least), 4);
  };
  const std::string same("\0\0", 2);
  const std::string some =
      words(5, 0, 0) + words(1 << 20, 0, 0) + words(5, 1, 1);
  return {
      "\x01" + same + object(Layout::kMagic, 0, 10, 0),
      "\x01" + same + object(Layout::kMagic, 0, 10, 1),
      "\x01" + same + object(Layout::kMagic, 0, ~0ULL, 0),
      "\x01" + same + object(Layout::kMagic, 0, kCapacity + 1, 1),
      "\x01" + same + object(Layout::kMagic, 1, 0, 0),
      "\x01\x01" + same + object(Layout::kMagic, 0, 0, 0),
      std::string("\0", 1) + same + object(0, 1, 0, 0),
      std::string("\0", 1) + same + object(Layout::kMagic, 1, 0, 0),
      "\x02" + some,
      "\x03\x01" + some,
      "\x06" + some,
      "\x07\x01" + some,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static const std::string name = "/ipc-fuzz-" + std::to_string(::getpid());
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
  } catch (const os::Error&) {
  }
  return 0;
}
