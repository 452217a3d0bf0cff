// A FIFO, the writer: sends a message, or standard input, to the reader.
//
// Terminal 1: bazel run //fifo:writer    writer: waiting for a reader on ...
// Terminal 2: bazel run //fifo:reader    Hello World
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

// Opens the FIFO if somebody reads it. It may be any program's, such as one
// that mkfifo(1) has made and `cat` reads: so it needs no mark.
UniqueFd TryOpen(const std::string& path) {
  // O_PATH only finds the FIFO. To open another user's for writing would let
  // its reader go on, which waits in its own open for a writer. Linux only.
  const UniqueFd found(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!found && errno == ENOENT && !path.empty()) return UniqueFd();
  // Throws if the call has failed, or if the FIFO is another user's.
  CheckOurs(found.get(), S_IFIFO, "open", path, /*mark=*/0);
  // O_NONBLOCK: open fails with ENXIO where nobody reads, and does not wait.
  UniqueFd fd(
      ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && (errno == ENXIO || errno == ENOENT)) return UniqueFd();
  // Between the two calls the name may have become another object's.
  CheckOurs(fd.get(), S_IFIFO, "open", path, /*mark=*/0);
  // Without a link: its reader has seen the end and removed the name, and may
  // not read what is written now. The next reader is waited for.
  if (Status(fd.get(), path).st_nlink == 0) return UniqueFd();
  return fd;
}

void Run(const Options& options) {
  const std::string path = options.at("path");
  const std::string message = options.at("MESSAGE");
  const Seconds timeout(NumberOption(options, "timeout", /*most=*/HUGE_VAL));

  // A reader may still make the FIFO, but not if its directory is missing.
  const std::string directory = path.substr(0, path.rfind('/') + 1) + ".";
  Check(::access(directory.c_str(), F_OK), "access", directory);
  UniqueFd fd;
  // Pause waits a little. After 150 ms it says for whom, and when the time is
  // up it throws.
  PeerWait wait{"a reader", "open", path, Now() + timeout};
  while (!(fd = TryOpen(path))) wait.Pause();

  // A write of up to PIPE_BUF bytes is never mixed with other writers' bytes; a
  // longer one may be. So a writer of more keeps all others out: it locks all
  // bytes of the FIFO, and a writer of less locks one of them, any that is
  // free. The bytes are only numbers here: a lock does not touch what is in the
  // FIFO. pipe(7)
  const std::string text = message + "\n";
  const bool together = message != "-" && text.size() <= PIPE_BUF;
  bool locked = !together && SetLock(fd.get(), F_WRLCK, 0, 0, path);
  for (off_t i = 0; together && !locked && i < 100; ++i) {
    locked = SetLock(fd.get(), F_WRLCK, ::getpid() + i, 1, path);
  }
  if (!locked) throw Error(EBUSY, "open", path, "another writer has it");

  if (message != "-") WriteAll(fd.get(), text, path, timeout);
  // With "-" it sends standard input, block by block, until its end.
  for (Block block; message == "-";) {
    // Errors are reported though no events (0) are asked for: if the reader
    // dies while this waits for input, the FIFO has no reader any more.
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
