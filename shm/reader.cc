// Shared memory, the reader: prints the message that the writer has put there.
//
// Terminal 1: bazel run //shm:reader    reader: waiting for a writer on ...
// Terminal 2: bazel run //shm:writer    Terminal 1 then shows: Hello World
//
// Left out: see writer.cc.
// Copy: posix.h, name.h, program.h, shm/message.h, shm/writer.cc, shm/reader.cc
// Read: shm_overview(7), shm_open(3), mmap(2), sem_overview(7)
#include <sys/mman.h>

#include <cstring>
#include <memory>

#include "message.h"
#include "name.h"
#include "program.h"

constexpr char kHelp[] =
    R"(Usage: reader [--name NAME] [--timeout SECONDS]
Prints the message that a writer has put into shared memory, and a newline.

  --name NAME        the object, /shared_memory unless given
  --timeout SECONDS  how long to wait for the writer, for ever unless given
)";

namespace ipc {

// Prints the message, and returns whether there was one.
bool TryRead(const std::string& name) {
  // O_NONBLOCK: see writer.cc.
  const UniqueFd fd(::shm_open(name.c_str(), O_RDWR | O_NONBLOCK, 0));
  if (!fd && errno == ENOENT) return false;
  // Throws if the call has failed, or if the object is another user's or
  // another program's.
  CheckOurs(fd.get(), S_IFREG, "shm_open", name);
  // A writer holds this lock from when its object is ready until it ends.
  // Without it the object is not ready yet, or its writer was killed.
  if (!IsLocked(fd.get(), kWriterAlive, name)) return false;
  // An access beyond the object's end would kill the process by SIGBUS.
  if (Status(fd.get(), name).st_size != sizeof(SharedMessage)) {
    throw Error(EBADMSG, "fstat", name, "it holds something else");
  }
  // Shows the writer that a reader lives, until `fd` is closed.
  if (!SetLock(fd.get(), F_WRLCK, kReaderAlive, 1, name)) {
    throw Error(EBUSY, "shm_open", name, "another reader has it");
  }
  void* memory = ::mmap(nullptr, sizeof(SharedMessage), PROT_READ | PROT_WRITE,
                        MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) throw Error(errno, "mmap", name);
  // What unique_ptr calls in the end, in the place of delete.
  auto unmap = [](auto* mapped) { ::munmap(mapped, sizeof(*mapped)); };
  const std::unique_ptr<SharedMessage, decltype(unmap)> shared(
      static_cast<SharedMessage*>(memory));

  // The writer posts once. If another reader was first, Run goes on trying
  // until there is a new writer.
  if (::sem_trywait(&shared->filled) == -1) return false;
  // The length is read only once, which atomic_ref makes sure of: otherwise the
  // other process could change it between the check and its use.
  const std::uint32_t length = std::atomic_ref(shared->length);
  if (length > kMaxBytes) throw Error(EBADMSG, "memcpy", name, "too long");
  std::string message(length, '\0');
  std::memcpy(message.data(), shared->text.data(), length);
  // The message is printed before the post, so that the writer succeeds only if
  // that has succeeded.
  Print(message + "\n");
  Check(::sem_post(&shared->emptied), "sem_post", name);
  return true;
}  // munmap and close, however this ends.

void Run(const Options& options) {
  const std::string name = options.at("name");
  const Seconds timeout(NumberOption(options, "timeout", /*most=*/HUGE_VAL));
  // Pause waits a little. After 150 ms it says for whom, and when the time is
  // up it throws.
  PeerWait wait{"a writer", "shm_open", name, Now() + timeout};
  while (!TryRead(name)) wait.Pause();
}

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"name", "/shared_memory"}, {"timeout", "inf"}}, ipc::Run);
}
