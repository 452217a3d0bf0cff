// A FIFO, the writer: sends a message, or standard input, to the reader.
//
// Terminal 1: ./bazelw run //fifo:writer    writer: waiting for a reader on ...
// Terminal 2: ./bazelw run //fifo:reader    Hello World
//
// Left out: see reader.cc.
// Copy: posix.h, name.h, program.h, fifo/reader.cc, fifo/writer.cc
// Read: fifo(7), open(2), pipe(7)
#include <climits>

#include "name.h"
#include "program.h"

constexpr char kHelp[] =
    R"(Usage: writer [--path PATH] [--timeout SECONDS] [MESSAGE | -]
Sends MESSAGE and a newline, "Hello World" unless given, through a FIFO to a
reader. With -, sends standard input unchanged.

  --path PATH        the FIFO, /tmp/named_pipe unless given
  --timeout SECONDS  how long to wait for the reader, for ever unless given
)";

namespace ipc {

// Opens the FIFO if somebody reads it, be it a `cat` in a FIFO of its own.
UniqueFd TryOpen(const std::string& path) {
  // O_PATH: open would let another user's reader go on. Linux only.
  const UniqueFd found(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!found && errno == ENOENT && !path.empty()) return UniqueFd();
  CheckOurs(found.get(), S_IFIFO, "open", path, /*mark=*/0);
  // O_NONBLOCK: open fails with ENXIO where nobody reads, and does not wait.
  UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && (errno == ENXIO || errno == ENOENT)) return UniqueFd();
  // Meanwhile the name may have become another object's.
  CheckOurs(fd.get(), S_IFIFO, "open", path, /*mark=*/0);
  // Without a name: its reader has seen the end, and won't see what we write.
  if (Status(fd.get(), path).st_nlink == 0) return UniqueFd();
  return fd;
}

void Run(const Options& options) {
  const std::string path = options.at("path");
  const std::string message = options.at("MESSAGE");
  const Seconds timeout(NumberOption(options, "timeout", HUGE_VAL));

  // A FIFO that is not there may still be made, but not without a directory.
  const std::string directory = path.substr(0, path.rfind('/') + 1) + ".";
  Check(::access(directory.c_str(), F_OK), "access", directory);
  UniqueFd fd;
  PeerWait wait{"a reader", "open", path, Now() + timeout};
  while (!(fd = TryOpen(path))) wait.Pause();

  // Up to PIPE_BUF bytes stay together beside those of other writers, who lock
  // any byte that is free. More bytes don't: they lock all. pipe(7)
  const std::string text = message + "\n";
  const bool together = message != "-" && text.size() <= PIPE_BUF;
  bool locked = !together && TryLock(fd.get(), F_WRLCK, 0, 0, path);
  for (off_t i = 0; together && !locked && i < 100; ++i) {
    locked = TryLock(fd.get(), F_WRLCK, ::getpid() + i, 1, path);
  }
  if (!locked) throw Error(EBUSY, "open", path, "another writer has it");

  if (message != "-") WriteAll(fd.get(), text, path, timeout);
  for (Block block; message == "-";) {
    // Meanwhile the reader may die: the FIFO then has none any more.
    std::array fds{pollfd{STDIN_FILENO, POLLIN, 0}, pollfd{fd.get(), 0, 0}};
    Poll(fds, kForever);
    if (fds[1].revents != 0) throw Error(EPIPE, "poll", path);
    const auto bytes = ReadSome(STDIN_FILENO, block, "standard input");
    if (bytes.empty()) break;
    WriteAll(fd.get(), bytes, path, timeout);
  }
}  // close, however this ends: the reader sees the end.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"path", "/tmp/named_pipe"},
                    {"timeout", "inf"},
                    {"MESSAGE", "Hello World"}},
                   ipc::Run);
}
