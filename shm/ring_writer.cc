// Shared memory as a stream, the writer: standard input comes out of the
// reader's standard output.
//
// Terminal 1: bazel run //shm:ring_reader >copy
// Terminal 2: bazel run //shm:ring_writer <file    copy is then as file.
//
// Left out: more than one reader or writer.
// Copy: posix.h, shm/shared_memory.h, shm/futex.h, shm/ring_side.h, shm/ring.h,
//   shm/ring_writer.cc, shm/ring_reader.cc
// Read: shm_overview(7), mmap(2), futex(2), membarrier(2)
#include "ring.h"

constexpr char kHelp[] =
    R"(Usage: ring_writer [--name NAME] [--timeout SECONDS]
Streams standard input through shared memory to a reader, which prints it.

  --name NAME        the object, /ring unless given
  --timeout SECONDS  how long to wait for the reader, for ever unless given
)";

void Run(const os::CommandLine& line) {
  line.NoOperand();
  ipc::RingWriter ring(line.Option("name", "/ring"), line.TimeoutOption());
  for (;;) {
    const auto room = ring.Reserve();
    // Straight into the ring; not all its room, to be read while we go on. It
    // may be long in coming: notice meanwhile if the reader goes.
    const std::size_t n =
        os::ReadInput(room.first(std::min(room.size(), sizeof(os::Block))),
                      [&] { ring.CheckPeer(); });
    if (n == 0) break;
    ring.Commit(n);
  }
  ring.Finish();
}  // munmap, shm_unlink and close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"name", "timeout"}, Run);
}
