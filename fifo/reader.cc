// A FIFO, the reader: makes it, and prints what writers send until they end.
//
// Terminal 1: bazel run //fifo:reader    reader: waiting for a writer on ...
// Terminal 2: bazel run //fifo:writer    Terminal 1 then shows: Hello World
//
// Left out: reading on after the last writer has closed (hold a write end).
// Copy: posix.h, fifo/fifo.h, fifo/reader.cc, fifo/writer.cc
// Read: fifo(7), mkfifo(3), open(2), pipe(7)
#include "fifo.h"

constexpr char kHelp[] =
    R"(Usage: reader [--path PATH] [--timeout SECONDS]
Makes a FIFO, prints what is written into it until all writers have closed it,
and removes it.

  --path PATH        the FIFO, /tmp/named_pipe unless given
  --timeout SECONDS  how long to wait for a writer, for ever unless given
)";

void Run(const os::CommandLine& line) {
  line.NoOperand();
  ipc::FifoReader reader(line.Option("path", "/tmp/named_pipe"),
                         line.TimeoutOption());
  os::Block block;
  while (const std::size_t n = reader.Read(block)) {
    os::Print(std::span(block).first(n));
  }
}  // unlink and close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"path", "timeout"}, Run);
}
