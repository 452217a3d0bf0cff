// Shared memory, the reader: prints the message that the writer has put there.
//
// Terminal 1: bazel run //shm:reader    reader: waiting for a writer on ...
// Terminal 2: bazel run //shm:writer    Terminal 1 then shows: Hello World
//
// Left out: see writer.cc.
// Copy: posix.h, shm/shared_memory.h, shm/mailbox.h, shm/writer.cc,
//   shm/reader.cc
// Read: shm_overview(7), shm_open(3), mmap(2), sem_overview(7)
#include "mailbox.h"

constexpr char kHelp[] =
    R"(Usage: reader [--name NAME] [--timeout SECONDS]
Prints the message that a writer has put into shared memory, and a newline.

  --name NAME        the object, /shared_memory unless given
  --timeout SECONDS  how long to wait for the writer, for ever unless given
)";

void Run(const os::CommandLine& line) {
  line.NoOperand();
  auto mailbox = ipc::Mailbox::Open(line.Option("name", "/shared_memory"),
                                    line.TimeoutOption());
  const std::string message = mailbox.Get();
  os::Print(os::Bytes(message + "\n"));
  // Where the document is done with the memory before it prints, this prints
  // first: the writer's exit status says whether the message has arrived.
  mailbox.Done();
}  // munmap and close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"name", "timeout"}, Run);
}
