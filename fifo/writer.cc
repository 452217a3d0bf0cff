// A FIFO, the writer: sends a message, or standard input, to the reader.
//
// Terminal 1: bazel run //fifo:writer    writer: waiting for a reader on ...
// Terminal 2: bazel run //fifo:reader    Hello World
//
// Left out: see reader.cc.
// Copy: posix.h, fifo/fifo.h, fifo/reader.cc, fifo/writer.cc
// Read: fifo(7), open(2), pipe(7)
#include "fifo.h"

constexpr char kHelp[] =
    R"(Usage: writer [--path PATH] [--timeout SECONDS] [MESSAGE | -]
Sends MESSAGE and a newline, "Hello World" unless given, through a FIFO to a
reader. With -, sends standard input unchanged.

  --path PATH        the FIFO, /tmp/named_pipe unless given
  --timeout SECONDS  how long to wait for the reader, for ever unless given
)";

void Run(const os::CommandLine& line) {
  using Sends = ipc::FifoWriter::Sends;
  const std::string path = line.Option("path", "/tmp/named_pipe");
  const std::string message = line.Operand("Hello World");
  const os::Timeout timeout = line.TimeoutOption();
  if (message == "-") {
    ipc::FifoWriter writer(path, Sends::kStream, timeout);
    os::Block block;
    while (const std::size_t n = os::ReadInput(block, writer.fd(), path)) {
      writer.Write(std::span(block).first(n));
    }
  } else {
    const std::string text = message + "\n";
    ipc::FifoWriter writer(
        path, text.size() <= PIPE_BUF ? Sends::kRecords : Sends::kStream,
        timeout);
    writer.Write(os::Bytes(text));
  }
}  // close, however Run ends: the reader sees the end.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"path", "timeout"}, Run);
}
