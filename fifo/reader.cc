// A FIFO, the reader: makes it, and prints what writers send until they end.
//
// Terminal 1: ./bazelw run //fifo:reader    reader: waiting for a writer on ...
// Terminal 2: ./bazelw run //fifo:writer    Terminal 1 then shows: Hello World
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

// Makes the FIFO and opens it, or one that a reader which was killed has left.
UniqueFd MakeFifo(const std::string& path, int oflag) {
  const mode_t permission = S_IRUSR | S_IWUSR | S_IRGRP | S_IROTH;  // 0644
  const bool made = ::mkfifo(path.c_str(), permission | kOurs) == 0;
  if (!made && errno != EEXIST) throw Error(errno, "mkfifo", path);
  if (!made) {
    // O_PATH: open would let a stranger's writer go on. Linux only.
    const UniqueFd found(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    CheckOurs(found.get(), S_IFIFO, "mkfifo", path);
  }
  // O_NONBLOCK: otherwise open waits for a writer, without an end.
  UniqueFd fd(
      ::open(path.c_str(), oflag | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC));
  const int error = errno;
  if (!fd && made) ::unlink(path.c_str());
  if (!fd) throw Error(error, "open", path);
  // Meanwhile the name may have become another object's.
  CheckOurs(fd.get(), S_IFIFO, "mkfifo", path);
  return fd;
}

void Run(const Options& options) {
  const std::string path = options.at("path");
  const Seconds timeout(NumberOption(options, "timeout", HUGE_VAL));
  const Seconds end = Now() + timeout;
  // With a write end of its own the reader never sees the end. Linux only.
  const int oflag = options.at("keep") == "yes" ? O_RDWR : O_RDONLY;

  const UniqueFd fd = MakeFifo(path, oflag);
  std::optional<OwnedName> owned(std::in_place, ::unlink, "mkfifo", path,
                                 fd.get());
  // Room for four blocks: the two wait less for each other. Linux only; where
  // the user's pipes have all their room it stays as it is. pipe(7)
  ::fcntl(fd.get(), F_SETPIPE_SZ, 4 * sizeof(Block));

  // Until the first writer comes, read would return 0 and not wait for it.
  pollfd writer{fd.get(), POLLIN, 0};
  if (!Poll({&writer, 1}, std::min(kGrace, timeout))) {
    Say("waiting for a writer on '" + path + "'");
  }
  PollFor("a writer", fd.get(), POLLIN, end - Now(), path);
  // Without a timeout read may wait itself: that is one call, and not three.
  if (timeout == kForever) Check(::fcntl(fd.get(), F_SETFL, 0), "fcntl", path);
  for (Block block;;) {
    const auto bytes = ReadSome(fd.get(), block, path, timeout);
    if (bytes.empty() && !owned) break;
    // The end. But a writer may have opened it just now, and would lose what it
    // writes: without a name no further one comes. Then it is read again.
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
