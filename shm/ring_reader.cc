// Shared memory as a stream, the reader: prints what the writer streams.
//
// Terminal 1: bazel run //shm:ring_reader >/tmp/copy
// Terminal 2: bazel run //shm:ring_writer </etc/services
// Then /tmp/copy is as /etc/services.
//
// Left out: see ring_writer.cc.
// Copy: posix.h, name.h, program.h, shm/ring.h, shm/ring_writer.cc,
//   shm/ring_reader.cc
// Read: shm_overview(7), mmap(2), futex(2), membarrier(2)
#include "program.h"
#include "ring.h"

constexpr char kHelp[] =
    R"(Usage: ring_reader [--name NAME] [--timeout SECONDS]
Prints what a writer streams through shared memory.

  --name NAME        the object, /ring unless given
  --timeout SECONDS  how long to wait for the writer, for ever unless given
)";

namespace ipc {

void Run(const Options& options) {
  const std::string name = options.at("name");
  const Seconds timeout(NumberOption(options, "timeout", HUGE_VAL));
  PeerWait wait{"a writer", "shm_open", name, Now() + timeout};
  auto ring = RingReader::TryOpen(name, timeout);
  for (; !ring; ring = RingReader::TryOpen(name, timeout)) wait.Pause();

  // Nothing comes at the end alone: where the writer has died, Peek throws.
  for (;;) {
    // Straight out of the ring; not all at once, so that there is room again.
    const std::string_view bytes = ring->Peek().substr(0, sizeof(Block));
    if (bytes.empty()) break;
    Print(bytes);
    ring->Release(bytes.size());
  }
}  // munmap and close, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp, {{"name", "/ring"}, {"timeout", "inf"}},
                   ipc::Run);
}
