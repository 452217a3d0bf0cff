// A FIFO, the reader: makes it, and prints what writers send until they end.
//
// Terminal 1: bazel run //fifo:reader    reader: waiting for a writer on ...
// Terminal 2: bazel run //fifo:writer    Terminal 1 then shows: Hello World
//
// Left out: telling a writer that was killed from one that has finished.
// Copy: posix.h, name.h, program.h, fifo/reader.cc, fifo/writer.cc
// Read: fifo(7), mkfifo(3), open(2), pipe(7)
#include <optional>

#include "name.h"
#include "program.h"

constexpr char kHelp[] =
    R"(Usage: reader [--path PATH] [--timeout SECONDS] [--keep]
Makes a FIFO, prints what is written into it until all writers have closed it,
and removes it.

  --path PATH        the FIFO, /tmp/named_pipe unless given
  --timeout SECONDS  how long to wait for a writer, for ever unless given
  --keep             reads on after all writers have closed, until interrupted
)";

namespace ipc {

// Makes the FIFO, or takes over one that a reader which was killed has left,
// and opens it.
UniqueFd MakeFifo(const std::string& path, int oflag) {
  const mode_t permission = S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH;  // 0644
  // kOurs is the bit in the mode that marks what these programs have made.
  const bool made = ::mkfifo(path.c_str(), permission | kOurs) == 0;
  if (!made && errno != EEXIST) throw Error(errno, "mkfifo", path);
  if (!made) {
    // O_PATH only finds the FIFO. To open a stranger's for reading would let
    // its writer go on, which waits in its own open for a reader. Linux only.
    const UniqueFd found(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    // Throws if the call has failed, or if the FIFO is another user's or
    // another program's.
    CheckOurs(found.get(), S_IFIFO, "mkfifo", path);
  }
  // O_NONBLOCK: otherwise open waits for a writer, without an end.
  UniqueFd fd(
      ::open(path.c_str(), oflag | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  const int error = errno;
  if (!fd && made) ::unlink(path.c_str());
  if (!fd) throw Error(error, "open", path);
  // Between the two calls the name may have become another object's.
  CheckOurs(fd.get(), S_IFIFO, "mkfifo", path);
  return fd;
}

void Run(const Options& options) {
  const std::string path = options.at("path");
  const Seconds timeout(NumberOption(options, "timeout", /*most=*/HUGE_VAL));
  const Seconds end = Now() + timeout;
  // O_RDWR gives the reader a write end of its own, and so the end never comes.
  // For a FIFO only Linux has it.
  const int oflag = options.at("keep") == "yes" ? O_RDWR : O_RDONLY;

  const UniqueFd fd = MakeFifo(path, oflag);
  // Locks the name, which says that it is in use, and removes it in the end, or
  // earlier: hence optional.
  std::optional<OwnedName> owned(std::in_place, ::unlink, "mkfifo", path,
                                 fd.get());
  // With room for four blocks reader and writer wait less for each other. Linux
  // only. This may fail, as a user's pipes may have only so much memory in all:
  // then the FIFO keeps the room that it has. pipe(7)
  ::fcntl(fd.get(), F_SETPIPE_SZ, 4 * sizeof(Block));

  // Until the first writer comes, read would return 0 and not wait for it. So
  // poll waits, at first only for the moment in which nothing is said of it.
  pollfd writer{fd.get(), POLLIN, 0};
  if (!Poll({&writer, 1}, std::min(kGrace, timeout))) {
    Say("waiting for a writer on '" + path + "'");
  }
  PollFor("a writer", fd.get(), POLLIN, end - Now(), path);
  // Without a timeout read itself may wait, once O_NONBLOCK is cleared: that is
  // one call for each block, in the place of read, poll and read again.
  if (timeout == kForever) Check(::fcntl(fd.get(), F_SETFL, 0), "fcntl", path);
  for (Block block;;) {
    const auto bytes = ReadSome(fd.get(), block, path, timeout);
    if (bytes.empty() && !owned) break;
    // All writers have closed. But another one may have opened the FIFO just
    // now, and what it writes would be lost. So the name is removed first,
    // after which no further writer can come, and then the FIFO is read to its
    // end once more.
    if (bytes.empty()) owned.reset();
    Print(bytes);
  }
}  // unlink and close, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(
      argc, argv, kHelp,
      {{"path", "/tmp/named_pipe"}, {"timeout", "inf"}, {"keep", "no"}},
      ipc::Run);
}
