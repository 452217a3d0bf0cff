// Shared memory, the writer: puts one message where the reader finds it.
//
// Terminal 1: bazel run //shm:writer    writer: waiting for a reader on ...
// Terminal 2: bazel run //shm:reader    Hello World
//
// Left out: more than one message, or one of any size: see ring_writer.cc.
// Copy: posix.h, name.h, program.h, shm/message.h, shm/writer.cc, shm/reader.cc
// Read: shm_overview(7), shm_open(3), mmap(2), sem_overview(7)
#include <sys/mman.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "message.h"
#include "name.h"
#include "program.h"

constexpr char kHelp[] =
    R"(Usage: writer [--name NAME] [--timeout SECONDS] [MESSAGE]
Puts MESSAGE, at most 100 bytes and "Hello World" unless given, into shared
memory, and waits until a reader has printed it.

  --name NAME        the object, /shared_memory unless given
  --timeout SECONDS  how long to wait for the reader, for ever unless given
)";

namespace ipc {

void Run(const Options& options) {
  const std::string name = options.at("name");
  const std::string message = options.at("MESSAGE");
  const Seconds timeout(NumberOption(options, "timeout", /*most=*/HUGE_VAL));
  if (message.size() > kMaxBytes) throw UsageError("MESSAGE is too long");

  // If a writer that was killed has left its object, `leftover` takes that over
  // and, at the end of the block, removes it. CheckOurs throws if the call has
  // failed, or if the object is another user's or another program's, and
  // OwnedName if its writer still lives. O_NONBLOCK: if a stranger holds a
  // lease on a file of this name, the call would wait for up to 45 s. fcntl(2)
  if (const UniqueFd old(::shm_open(name.c_str(), O_RDWR | O_NONBLOCK, 0));
      old || errno != ENOENT) {
    CheckOurs(old.get(), S_IFREG, "shm_open", name);
    const OwnedName leftover(::shm_unlink, "shm_open", name, old.get());
  }
  // kOurs is the bit in the mode that marks what these programs have made.
  const UniqueFd fd(Check(::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR,
                                     S_IRUSR | S_IWUSR | kOurs),
                          "shm_open", name));
  // Locks the name, which keeps other writers away, and removes it in the end.
  const OwnedName owned(::shm_unlink, "shm_open", name, fd.get());

  // In the place of ftruncate, which sets a size and reserves no memory: if
  // /dev/shm is full, the first store would then kill the process by SIGBUS.
  const auto allocate = [&] {  // Linux only; see also posix_fallocate(3).
    return ::fallocate(fd.get(), 0, 0, sizeof(SharedMessage));
  };
  Check(Retry(allocate), "fallocate", name);
  void* memory = ::mmap(nullptr, sizeof(SharedMessage), PROT_READ | PROT_WRITE,
                        MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) throw Error(errno, "mmap", name);
  // What unique_ptr calls in the end, in the place of delete.
  auto unmap = [](auto* mapped) { ::munmap(mapped, sizeof(*mapped)); };
  const std::unique_ptr<SharedMessage, decltype(unmap)> shared(
      static_cast<SharedMessage*>(memory));

  // The 1 makes a semaphore one between processes: with 0 a post would not wake
  // a waiter in another process. The last 0 is the value that it begins with.
  Check(::sem_init(&shared->filled, 1, 0), "sem_init", name);
  Check(::sem_init(&shared->emptied, 1, 0), "sem_init", name);
  std::memcpy(shared->text.data(), message.data(), message.size());
  shared->length = static_cast<std::uint32_t>(message.size());
  Check(::sem_post(&shared->filled), "sem_post", name);
  // By this lock readers see that the writer lives: the kernel drops it when
  // the process ends, even if it is killed. It comes last, as readers take an
  // object without it for one that is not ready yet. The locked byte is a
  // number only: everybody may still read and write it.
  SetLock(fd.get(), F_WRLCK, kWriterAlive, 1, name);

  for (PeerWait wait{"a reader", "sem_clockwait", name, Now() + timeout};;) {
    // If `filled` is 0, a reader has taken the message; if then no reader holds
    // its lock, that one has ended. It may have posted before that, and then
    // all is well: so this is asked before the wait, and counts only if the
    // wait was in vain.
    int filled = 0;
    Check(::sem_getvalue(&shared->filled, &filled), "sem_getvalue", name);
    const bool gone = filled == 0 && !IsLocked(fd.get(), kReaderAlive, name);
    // Next says how long to wait before the next look, and throws when the time
    // is up. sem_clockwait takes an instant, and not a duration.
    const double end = (Now() + wait.Next()).count();
    const timespec until{static_cast<time_t>(end),
                         static_cast<long>(std::fmod(end, 1) * 1e9)};
    if (::sem_clockwait(&shared->emptied, CLOCK_MONOTONIC, &until) == 0) break;
    if (errno == EINTR) continue;  // If it was asked to stop, Next throws.
    if (errno != ETIMEDOUT) throw Error(errno, "sem_clockwait", name);
    if (gone) throw Error(EOWNERDEAD, "sem_clockwait", name);
  }
}  // munmap, shm_unlink and close, after an error, too.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"name", "/shared_memory"},
                    {"timeout", "inf"},
                    {"MESSAGE", "Hello World"}},
                   ipc::Run);
}
