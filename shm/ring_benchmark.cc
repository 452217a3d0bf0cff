// What ring.h costs, beside two bare words and memcpy.
#include "ring.h"
#include "testing/benchmarks/benchmark.h"

namespace {

using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

struct Names {
  explicit Names(const Setup& setup) : name("/" + setup.name) {}
  std::string Out(Side side) const {
    return name + (side == Side::kChild ? "-parent" : "-child");
  }
  std::string name;
};

// A ring each way.
struct Ends {
  using Shared = Names;
  Ends(const Names& names, Side side) : out(names.Out(side), ipc::kForever) {
    const std::string& in_name =
        names.Out(side == Side::kChild ? Side::kParent : Side::kChild);
    ipc::PeerWait wait{"a writer", "shm_open", in_name, ipc::kForever};
    while (!(in = ipc::RingReader::TryOpen(in_name, ipc::kForever))) {
      wait.Pause();
    }
    while (!out.PeerArrived(ipc::kForever)) continue;
  }
  std::optional<ipc::RingReader> in;
  ipc::RingWriter out;
};

struct Header : Ends {
  using Ends::Ends;
  void Send(const Message& message) {
    std::memcpy(out.Reserve(message.size()).data(), message.data(),
                message.size());
    out.Commit(message.size());
  }
  void Receive(Message& message) {
    std::memcpy(message.data(), in->Peek(message.size()).data(),
                message.size());
    in->Release(message.size());
  }
};

// Records where they lie: as many as there is room for, then as many as came,
// without a copy of either.
struct InPlace : Ends {
  using Ends::Ends;
  static constexpr std::size_t kRecord = 64;
  static constexpr std::size_t kBatch = 64;  // Records: not to fill the caches.
  void Send(const Message& message) {
    if (room.size() < kRecord) {
      Flush();
      room = out.Reserve(kRecord);
      room = room.first(std::min(room.size(), kBatch * kRecord));
    }
    std::memcpy(room.data(), message.data(), kRecord);
    room = room.subspan(kRecord);
    made += kRecord;
  }
  void Flush() {
    if (made != 0) out.Commit(std::exchange(made, 0));
    room = {};
  }
  void Receive(Message& message) {
    if (records.size() < kRecord) {
      if (used != 0) in->Release(std::exchange(used, 0));
      records = in->Peek(kRecord);
      records = records.substr(0, kBatch * kRecord);
    }
    std::memcpy(message.data(), records.data(), kRecord);
    records.remove_prefix(kRecord);
    used += kRecord;
  }
  std::span<char> room;
  std::size_t made = 0;
  std::string_view records;
  std::size_t used = 0;
};

// One way: slots, and how many were ever filled and emptied.
struct Slots {
  static constexpr std::size_t kBytes = std::size_t{1} << 20;
  alignas(64) std::atomic<std::uint32_t> filled;
  alignas(64) std::atomic<std::uint32_t> emptied;
  alignas(64) std::array<std::byte, kBytes> bytes;
};

// On two cores each looks until the other's word changes; on one it sleeps.
struct Floor {
  struct Shared {
    explicit Shared(Setup from)
        : setup(std::move(from)),
          memory(static_cast<Slots*>(
              ::mmap(nullptr, 2 * sizeof(Slots), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
    Shared(const Shared&) = delete;
    Shared& operator=(const Shared&) = delete;
    ~Shared() { ::munmap(memory, 2 * sizeof(Slots)); }
    Setup setup;
    Slots* memory;
  };
  Floor(const Shared& shared, Side side)
      : one_core(shared.setup.OneCore()),
        slots(static_cast<std::uint32_t>(Slots::kBytes / shared.setup.size)),
        in(shared.memory[side == Side::kChild ? 0 : 1]),
        out(shared.memory[side == Side::kChild ? 1 : 0]) {}
  void Send(const Message& message) {
    while (sent - emptied == slots) Await(out.emptied, emptied);
    std::memcpy(&out.bytes[sent % slots * message.size()], message.data(),
                message.size());
    Set(out.filled, ++sent);
  }
  void Receive(Message& message) {
    while (received == filled) Await(in.filled, filled);
    std::memcpy(message.data(), &in.bytes[received % slots * message.size()],
                message.size());
    Set(in.emptied, ++received);
  }
  // Until `word` is no longer `seen`.
  void Await(std::atomic<std::uint32_t>& word, std::uint32_t& seen) const {
    std::uint32_t now = 0;
    while ((now = word.load(std::memory_order_acquire)) == seen) {
      ipc::ThrowIfStopped();
      if (one_core) ::syscall(SYS_futex, &word, FUTEX_WAIT, seen, nullptr);
    }
    seen = now;
  }
  void Set(std::atomic<std::uint32_t>& word, std::uint32_t value) const {
    word.store(value, std::memory_order_release);
    if (one_core) ::syscall(SYS_futex, &word, FUTEX_WAKE, 1);
  }
  bool one_core;
  std::uint32_t slots;
  Slots& in;
  Slots& out;
  std::uint32_t sent = 0;
  std::uint32_t emptied = 0;
  std::uint32_t received = 0;
  std::uint32_t filled = 0;
};

}  // namespace

int main(int argc, char** argv) {
  return ipc_benchmark::Main(argc, argv, [] {
    ipc_benchmark::Register<Header, Floor>("shm_ring");
    ipc_benchmark::Register<InPlace, Floor>("shm_ring_in_place",
                                            std::array{InPlace::kRecord});
  });
}
