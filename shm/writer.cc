// Shared memory, the writer: puts one message where the reader finds it.
//
// Terminal 1: bazel run //shm:writer    writer: waiting for a reader on ...
// Terminal 2: bazel run //shm:reader    Hello World
//
// Left out: more than one message, or one of any size: see ring_writer.cc.
// Copy: posix.h, shm/shared_memory.h, shm/mailbox.h, shm/writer.cc,
//   shm/reader.cc
// Read: shm_overview(7), shm_open(3), mmap(2), sem_overview(7)
#include "mailbox.h"

constexpr char kHelp[] =
    R"(Usage: writer [--name NAME] [--timeout SECONDS] [MESSAGE]
Puts MESSAGE, at most 100 bytes, into shared memory, and waits until a reader
has printed it.

  --name NAME        the object, /shared_memory unless given
  --timeout SECONDS  how long to wait for the reader, for ever unless given
)";

void Run(const os::CommandLine& line) {
  const std::string name = line.Option("name", "/shared_memory");
  const std::string message = line.Operand("Hello World");
  const os::Timeout timeout = line.TimeoutOption();
  if (message.size() > ipc::Mailbox::kCapacity) {
    throw os::UsageError("MESSAGE has more than 100 bytes");
  }

  auto mailbox = ipc::Mailbox::Create(name, timeout);
  mailbox.Put(message);  // Some synchronisation is required: Put says when it
  mailbox.AwaitDone();   // is there, and AwaitDone when the reader has used it.
}  // munmap, shm_unlink and close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"name", "timeout"}, Run);
}
