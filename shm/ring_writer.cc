// Shared memory as a stream, the writer: standard input comes out of the
// reader's standard output.
//
// Terminal 1: bazel run //shm:ring_reader >/tmp/copy
// Terminal 2: bazel run //shm:ring_writer </etc/services
// Then /tmp/copy is as /etc/services.
//
// Left out: more than one reader or writer.
// Copy: posix.h, name.h, program.h, shm/ring.h, shm/ring_writer.cc,
//   shm/ring_reader.cc
// Read: shm_overview(7), mmap(2), futex(2), membarrier(2)
#include "program.h"
#include "ring.h"

constexpr char kHelp[] =
    R"(Usage: ring_writer [--name NAME] [--timeout SECONDS]
Streams standard input through shared memory to a reader, which prints it.

  --name NAME        the object, /ring unless given
  --timeout SECONDS  how long to wait for the reader, for ever unless given
)";

namespace ipc {

void Run(const Options& options) {
  const std::string name = options.at("name");
  const Seconds timeout(NumberOption(options, "timeout", HUGE_VAL));
  RingWriter ring(name, timeout);
  PeerWait wait{"a reader", "futex", name, Now() + timeout};
  while (!ring.PeerArrived(wait.Next())) continue;

  for (;;) {
    const std::span<char> room = ring.Reserve();
    ThrowIfStopped();  // Nothing below has to wait.
    // Whenever there is nothing to read yet, the reader may have died
    // meanwhile.
    for (pollfd input{STDIN_FILENO, POLLIN, 0}; ::poll(&input, 1, 0) == 0;) {
      ring.CheckPeer();
      Poll({&input, 1}, Seconds(0.5));
    }
    // Straight into the ring; not all its room at once, so that the reader can
    // begin.
    const auto n = Retry([&] {
      return ::read(STDIN_FILENO, room.data(),
                    std::min(room.size(), sizeof(Block)));
    });
    if (n == -1 && errno == EAGAIN) continue;  // Another process has taken it.
    if (Check(n, "read", "standard input") == 0) break;
    ring.Commit(static_cast<std::size_t>(n));
  }
  ring.Finish();
}  // shm_unlink, munmap and close, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp, {{"name", "/ring"}, {"timeout", "inf"}},
                   ipc::Run);
}
