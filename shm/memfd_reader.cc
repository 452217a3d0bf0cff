// Memory without a name, the reader: prints what is in the memory that a writer
// hands over, if nobody can change it any more.
//
// Terminal 1: bazel run //shm:memfd_reader
//             memfd_reader: waiting for a writer on ...
// Terminal 2: echo Hello | bazel run //shm:memfd_writer
// Terminal 1 then shows: Hello
//
// Left out: see memfd_writer.cc.
// Copy: posix.h, program.h, shm/handover.h, shm/memfd_writer.cc,
//       shm/memfd_reader.cc
// Read: memfd_create(2), fcntl(2), unix(7), cmsg(3), recvmsg(2), mmap(2)
#include <sys/mman.h>
#include <sys/stat.h>

#include <memory>

#include "handover.h"
#include "program.h"

constexpr char kHelp[] =
    R"(Usage: memfd_reader [--name NAME] [--timeout SECONDS]
Prints what is in the memory that a writer hands over.

  --name NAME        where they meet, ipc_memfd unless given
  --timeout SECONDS  how long to wait for the writer, for ever unless given
)";

namespace ipc {

// Waits for a writer of this user's.
UniqueFd AwaitWriter(const std::string& name, Seconds timeout) {
  const AbstractAddress address(name);
  const int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
  const UniqueFd listener(
      Check(::socket(AF_UNIX, SOCK_STREAM | flags, 0), "socket", name));
  // EADDRINUSE: another process has the name, and goes on undisturbed.
  Check(::bind(listener.get(), address.get(), address.length), "bind", name);
  // 0: a second writer waits for the next reader.
  Check(::listen(listener.get(), 0), "listen", name);
  pollfd writer{listener.get(), POLLIN, 0};
  if (!Poll({&writer, 1}, kGrace)) {
    Say("waiting for a writer on '" + name + "'");
  }
  for (const Seconds end = Now() + timeout;;) {
    PollFor("a writer", listener.get(), POLLIN, end - Now(), name);
    UniqueFd fd(Check(::accept4(listener.get(), nullptr, nullptr, flags),
                      "accept4", name));
    ucred peer{};  // Who called connect.
    socklen_t size = sizeof(peer);
    Check(::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size),
          "getsockopt", name);
    if (peer.uid == ::geteuid()) return fd;
    // Not a failure: else anybody could stop the reader.
    Say("accept4 '" + name + "': another user's writer was turned away");
  }
}  // close: nobody else can connect.

// Takes the memory that the writer sends, if that is what it sends, and sets
// `size` to how many bytes it has.
UniqueFd Receive(int fd, std::size_t& size, const std::string& name) {
  Handover handover;
  // MSG_CMSG_CLOEXEC: else a program started meanwhile would have it, too.
  const ssize_t n =
      Check(::recvmsg(fd, &handover.header, MSG_CMSG_CLOEXEC), "recvmsg", name);
  int descriptor = -1;
  const cmsghdr* rights = CMSG_FIRSTHDR(&handover.header);
  if (rights != nullptr && rights->cmsg_type == SCM_RIGHTS) {
    std::memcpy(&descriptor, CMSG_DATA(rights), sizeof(descriptor));
  }
  UniqueFd memory(descriptor);  // It closes what is refused.
  if (n == 0) throw Error(EPIPE, "recvmsg", name, "the writer has gone");
  if (!memory || (handover.header.msg_flags & MSG_CTRUNC) != 0) {
    throw Error(EBADMSG, "recvmsg", name, "it has to bring one descriptor");
  }
  // EINVAL: it is no memory at all.
  const int seals = Check(::fcntl(descriptor, F_GET_SEALS), "fcntl", name);
  if ((seals & kSealed) != kSealed) {
    throw Error(EPERM, "fcntl", name, "the memory is not sealed");
  }
  struct stat status {};
  Check(::fstat(descriptor, &status), "fstat", name);
  size = static_cast<std::size_t>(status.st_size);
  if (n == sizeof(handover.size) && handover.size == size) return memory;
  throw Error(EBADMSG, "recvmsg", name, "the memory has another size");
}

void Run(const Options& options) {
  const std::string name = options.at("name");
  const Seconds timeout(NumberOption(options, "timeout", HUGE_VAL));
  const UniqueFd fd = AwaitWriter(name, timeout);
  PollFor("the memory", fd.get(), POLLIN, timeout, name);
  std::size_t size = 0;
  const UniqueFd memory = Receive(fd.get(), size, name);

  if (size != 0) {  // To map nothing is EINVAL.
    // MAP_SHARED is refused before Linux 6.7, as the memory could be written
    // elsewhere. Nothing is copied: only a store would make a private page.
    void* mapped =
        ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, memory.get(), 0);
    if (mapped == MAP_FAILED) throw Error(errno, "mmap", name);
    auto unmap = [size](void* memory_mapped) { ::munmap(memory_mapped, size); };
    const std::unique_ptr<void, decltype(unmap)> owner(mapped, unmap);
    const std::string_view bytes(static_cast<const char*>(mapped), size);
    for (std::size_t i = 0; i < size; i += sizeof(Block)) {
      ThrowIfStopped();
      Print(bytes.substr(i, sizeof(Block)));
    }
  }
  // After the print: the writer's exit status says whether it succeeded.
  Check(::send(fd.get(), ".", 1, MSG_NOSIGNAL), "send", name);
}  // munmap and close, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"name", "ipc_memfd"}, {"timeout", "inf"}}, ipc::Run);
}
