// Memory without a name, the writer: hands standard input over to the reader,
// in memory that nobody can change any more.
//
// Terminal 1: echo Hello | bazel run //shm:memfd_writer
//             memfd_writer: waiting for a reader on ...
// Terminal 2: bazel run //shm:memfd_reader    Hello
//
// Left out: more than one reader of the same memory; answers in memory.
// Copy: posix.h, program.h, shm/handover.h, shm/memfd_writer.cc,
//       shm/memfd_reader.cc
// Read: memfd_create(2), fcntl(2), unix(7), cmsg(3), sendmsg(2)
#include <sys/mman.h>

#include "handover.h"
#include "program.h"

constexpr char kHelp[] =
    R"(Usage: memfd_writer [--name NAME] [--timeout SECONDS]
Puts all of standard input into memory, hands it over to a reader, and waits
until that has printed it.

  --name NAME        where they meet, ipc_memfd unless given
  --timeout SECONDS  how long to wait for the reader, for ever unless given
)";

namespace ipc {

// Connects to the reader, if there is one.
UniqueFd TryConnect(const AbstractAddress& address, const std::string& name) {
  const int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  UniqueFd fd(Check(::socket(AF_UNIX, type, 0), "socket", name));
  if (::connect(fd.get(), address.get(), address.length) == -1) {
    // EAGAIN: the reader has not accepted another writer yet.
    if (errno == ECONNREFUSED || errno == EAGAIN) return UniqueFd();
    throw Error(errno, "connect", name);
  }
  ucred reader{};  // Who called listen.
  socklen_t size = sizeof(reader);
  Check(::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &reader, &size),
        "getsockopt", name);
  if (reader.uid == ::geteuid()) return fd;
  throw Error(EACCES, "connect", name, "another user's: choose another name");
}

void Run(const Options& options) {
  const std::string name = options.at("name");
  const AbstractAddress address(name);
  const Seconds timeout(NumberOption(options, "timeout", HUGE_VAL));

  // The name is for /proc/PID/fd and /proc/PID/maps: nobody can open it.
  const int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
  const UniqueFd memory(
      Check(::memfd_create(name.c_str(), flags), "memfd_create", name));
  Handover handover;
  for (Block block;;) {
    const auto bytes = ReadSome(STDIN_FILENO, block, "standard input");
    if (bytes.empty()) break;
    WriteAll(memory.get(), bytes, name);
    handover.size += bytes.size();
  }
  // F_SEAL_SEAL: there will be no other seals.
  Check(::fcntl(memory.get(), F_ADD_SEALS, kSealed | F_SEAL_SEAL), "fcntl",
        name);

  UniqueFd fd;
  PeerWait wait{"a reader", "connect", name, Now() + timeout};
  while (!(fd = TryConnect(address, name))) wait.Pause();

  cmsghdr* rights = CMSG_FIRSTHDR(&handover.header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof(int));
  const int descriptor = memory.get();
  std::memcpy(CMSG_DATA(rights), &descriptor, sizeof(descriptor));
  // MSG_NOSIGNAL: a reader that has gone must not kill the writer.
  Check(::sendmsg(fd.get(), &handover.header, MSG_NOSIGNAL), "sendmsg", name);

  // The reader answers once it has printed all.
  PollFor("the reader to print", fd.get(), POLLIN, timeout, name);
  char printed = 0;
  if (Check(::recv(fd.get(), &printed, 1, 0), "recv", name) == 1) return;
  throw Error(EPIPE, "recv", name, "the reader has gone");
}  // close, however this ends: memory that nobody has open is freed.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"name", "ipc_memfd"}, {"timeout", "inf"}}, ipc::Run);
}
