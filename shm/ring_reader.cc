// Shared memory as a stream, the reader: prints what the writer streams.
//
// Terminal 1: bazel run //shm:ring_reader >copy
// Terminal 2: bazel run //shm:ring_writer <file    copy is then as file.
//
// Left out: see ring_writer.cc.
// Copy: posix.h, shm/shared_memory.h, shm/futex.h, shm/ring_side.h, shm/ring.h,
//   shm/ring_writer.cc, shm/ring_reader.cc
// Read: shm_overview(7), mmap(2), futex(2), membarrier(2)
#include "ring.h"

constexpr char kHelp[] =
    R"(Usage: ring_reader [--name NAME] [--timeout SECONDS]
Prints what a writer streams through shared memory.

  --name NAME        the object, /ring unless given
  --timeout SECONDS  how long to wait for the writer, for ever unless given
)";

void Run(const os::CommandLine& line) {
  line.NoOperand();
  ipc::RingReader ring(line.Option("name", "/ring"), line.TimeoutOption());
  for (;;) {
    const auto bytes = ring.Peek();
    if (bytes.empty()) break;  // The end: a writer that died is an error.
    // Straight out of the ring; not all at once, so that there is room again.
    const auto some = bytes.first(std::min(bytes.size(), sizeof(os::Block)));
    os::Print(some);
    ring.Release(some.size());
  }
}  // munmap and close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"name", "timeout"}, Run);
}
