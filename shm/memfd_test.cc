// The writer and the reader of memory without a name, started as a user does,
// and peers that do what they must not.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "posix.h"
#include "testing/processes/child_process.h"
#include "testing/processes/manners.h"

namespace {

namespace fs = std::filesystem;
using ipc::UniqueFd;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::Killed;
using ipc_testing::RandomBytes;
using ipc_testing::WithFault;
using Arguments = std::vector<std::string>;

constexpr uid_t kStranger = 65533;
constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

// What processes have open under this label, by /proc/PID/fd.
std::vector<std::string> OpenMemory(const std::string& name) {
  std::vector<std::string> found;
  std::error_code gone;  // Processes end while this looks.
  for (const auto& process : fs::directory_iterator("/proc")) {
    fs::directory_iterator fd(process.path() / "fd", gone);
    for (; !gone && fd != fs::directory_iterator(); fd.increment(gone)) {
      const auto target = fs::read_symlink(fd->path(), gone);
      if (target.string().starts_with("/memfd:" + name + " ")) {
        found.push_back(fd->path());
      }
    }
  }
  return found;
}

// Whether somebody listens at the abstract name.
bool IsBound(const std::string& name) {
  std::ifstream sockets("/proc/net/unix");
  for (std::string line; std::getline(sockets, line);) {
    if (line.ends_with(" @" + name)) return true;
  }
  return false;
}

// Standard output that nobody reads until a test does: who prints more than a
// pipe holds waits.
class BlockedOutput {
 public:
  BlockedOutput() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    read_end_ = UniqueFd(ends[0]);
    write_end_ = UniqueFd(ends[1]);
  }
  std::function<void()> InChild() const {
    return [out = write_end_.get()] { ::dup2(out, STDOUT_FILENO); };
  }
  // What has come, at most 4096 bytes; nothing at the end.
  std::string Read() {
    write_end_ = UniqueFd();
    std::string bytes(4096, '\0');
    const auto n = ::read(read_end_.get(), bytes.data(), bytes.size());
    bytes.resize(static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    return bytes;
  }

 private:
  UniqueFd read_end_;
  UniqueFd write_end_;
};

// What it says, but that it waits: on a busy machine it may have to.
std::string Complaints(ChildProcess& process) {
  const std::string text = process.Err();
  const bool waits = text.find(": waiting for ") < text.find('\n');
  return waits ? text.substr(text.find('\n') + 1) : text;
}

class MemfdTest : public testing::Test {
 protected:
  ~MemfdTest() override {
    EXPECT_EQ(OpenMemory(name_), std::vector<std::string>{});
    EXPECT_FALSE(IsBound(name_));
  }

  Arguments Command(const char* program, const Arguments& arguments) const {
    Arguments command{ipc_testing::Program(program), "--name", name_};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return command;
  }
  Arguments Writer(const Arguments& arguments = {}) const {
    return Command("MEMFD_WRITER", arguments);
  }
  Arguments Reader(const Arguments& arguments = {}) const {
    return Command("MEMFD_READER", arguments);
  }
  std::string WaitingForWriter() const {
    return "memfd_reader: waiting for a writer on '" + name_ + "'\n";
  }
  std::string WaitingForReader() const {
    return "memfd_writer: waiting for a reader on '" + name_ + "'\n";
  }
  void ExpectPairWorks() const {
    ChildProcess reader(Reader());
    ChildProcess writer(Writer(), "next");
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
    EXPECT_EQ(reader.Out(), "next");
  }

  const std::string name_ = ipc_testing::UniqueName();
};

// --- What comes out is what went in ------------------------------------------

class SizeTest : public MemfdTest,
                 public testing::WithParamInterface<std::size_t> {};
INSTANTIATE_TEST_SUITE_P(, SizeTest,
                         testing::Values(0U, 1U, 4096U, 65535U, 65536U, 65537U,
                                         3000000U));

TEST_P(SizeTest, ReaderFirst) {
  ChildProcess reader(Reader());
  reader.AwaitErr(WaitingForWriter());
  ChildProcess writer(Writer(), RandomBytes(GetParam()));
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_TRUE(reader.Out() == RandomBytes(GetParam()));
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  EXPECT_EQ(writer.Out() + Complaints(writer), "");
}

TEST_P(SizeTest, WriterFirst) {
  ChildProcess writer(Writer(), RandomBytes(GetParam()));
  writer.AwaitErr(WaitingForReader());
  ChildProcess reader(Reader());
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_TRUE(reader.Out() == RandomBytes(GetParam()));
  EXPECT_EQ(Complaints(reader), "");
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
}

// 64 MiB, or as many bytes as MEMFD_BYTES says: 1073741824 takes some seconds.
TEST_F(MemfdTest, MuchMemory) {
  const char* more = std::getenv("MEMFD_BYTES");
  const std::string bytes = more != nullptr ? more : "67108864";
  const std::string data = "seq 1000000000 | head -c " + bytes;
  Arguments both{"/bin/sh",
                 "-c",
                 data + " | \"$0\" --name \"$2\" & " + data +
                     " | (\"$1\" --name \"$2\" | cmp - /dev/fd/3) 3<&0 && "
                     "wait $!",
                 Writer().front(),
                 Reader().front(),
                 name_};
  ChildProcess pair(both);
  pair.set_patience(std::chrono::minutes(5));
  EXPECT_EQ(pair.Wait(), Exited(0));
  EXPECT_EQ(pair.Out(), "");
}

TEST_F(MemfdTest, InputThatComesInPiecesArrives) {
  ChildProcess reader(Reader());
  ChildProcess writer(Writer(), std::nullopt);
  writer.Send("one ");
  reader.AwaitErr(WaitingForWriter());
  writer.Send("two");
  writer.CloseInput();
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_EQ(reader.Out(), "one two");
}

// A program that is started by one of the two would have the memory, too.
TEST_F(MemfdTest, DescriptorsAreNotInherited) {
  BlockedOutput output;
  ChildProcess reader(Reader(), "", output.InChild());
  ChildProcess writer(Writer(), RandomBytes(1000000));
  ASSERT_NE(output.Read(), "");
  const auto open = OpenMemory(name_);
  EXPECT_EQ(open.size(), 2U);
  for (const std::string& fd : open) {
    std::string path = fd;
    path.replace(path.find("/fd/"), 4, "/fdinfo/");
    std::ifstream info(path);
    std::string word;
    while (info >> word && word != "flags:") continue;
    int flags = 0;
    info >> std::oct >> flags;
    EXPECT_NE(flags & O_CLOEXEC, 0) << fd;
  }
}

// --- Peers that do what they must not ----------------------------------------

// A writer that sends what a test tells it to.
class FakeWriter {
 public:
  explicit FakeWriter(const std::string& name)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{AF_UNIX, {}};
    name.copy(address.sun_path + 1, name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) +
                                               1 + name.size());
    while (::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address),
                     length) == -1) {
      ::poll(nullptr, 0, 10);
    }
  }
  void Send(std::string bytes, const std::vector<int>& descriptors) {
    iovec data{bytes.data(), bytes.size()};
    alignas(cmsghdr) char control[256]{};
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
      const auto size = descriptors.size() * sizeof(int);
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(size);
      cmsghdr* rights = CMSG_FIRSTHDR(&message);
      rights->cmsg_level = SOL_SOCKET;
      rights->cmsg_type = SCM_RIGHTS;
      rights->cmsg_len = CMSG_LEN(size);
      std::memcpy(CMSG_DATA(rights), descriptors.data(), size);
    }
    EXPECT_EQ(::sendmsg(fd_.get(), &message, MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  // What the reader answers; nothing at its end.
  std::string Answer() {
    char answer[10];
    const auto n = ::recv(fd_.get(), answer, sizeof(answer), 0);
    return {answer, static_cast<std::size_t>(std::max<ssize_t>(n, 0))};
  }

 private:
  UniqueFd fd_;
};

std::string Size(std::uint64_t size) {
  return {reinterpret_cast<const char*>(&size), sizeof(size)};
}

UniqueFd Memory(std::string_view bytes, int seals) {
  UniqueFd fd(::memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(::write(fd.get(), bytes.data(), bytes.size()),
            static_cast<ssize_t>(bytes.size()));
  EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

class RefusalTest : public MemfdTest {
 protected:
  // What the reader says of the message after "memfd_reader: ".
  void ExpectRefused(std::string_view bytes,
                     const std::vector<int>& descriptors,
                     const std::string& call, const std::string& reason) {
    ChildProcess reader(Reader());
    FakeWriter writer(name_);
    writer.Send(std::string(bytes), descriptors);
    EXPECT_EQ(writer.Answer(), "");
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(reader.Out(), "");
    EXPECT_EQ(Complaints(reader),
              "memfd_reader: " + call + " '" + name_ + "': " + reason + "\n");
  }
};

TEST_F(RefusalTest, SealedMemoryIsPrinted) {
  ChildProcess reader(Reader());
  FakeWriter writer(name_);
  writer.Send(Size(4), {Memory("four", kSealed).get()});
  EXPECT_EQ(writer.Answer(), ".");
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "four");
}

TEST_F(RefusalTest, AnyOfTheSealsIsMissing) {
  for (const int missing : {F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE,
                            F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE}) {
    SCOPED_TRACE(missing);
    ExpectRefused(Size(4), {Memory("four", kSealed & ~missing).get()}, "fcntl",
                  "Operation not permitted; the memory is not sealed");
  }
}

TEST_F(RefusalTest, ItIsNoMemory) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ExpectRefused(Size(4), {ends[1]}, "fcntl", "Invalid argument");
  for (const int end : ends) ::close(end);
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  ExpectRefused(Size(4), {file.get()}, "fcntl", "Invalid argument");
}

TEST_F(RefusalTest, NotOneDescriptor) {
  const UniqueFd memory = Memory("four", kSealed);
  for (const std::size_t count : {0U, 2U, 3U, 20U}) {
    SCOPED_TRACE(count);
    ExpectRefused(Size(4), std::vector<int>(count, memory.get()), "recvmsg",
                  "Bad message; it has to bring one descriptor");
  }
}

TEST_F(RefusalTest, OtherDescriptorsAreClosed) {
  // It does all but end: where it would, it is stopped.
  ChildProcess reader(
      WithFault("exit_group", "error=EPERM:signal=STOP", Reader()));
  FakeWriter writer(name_);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  {
    const UniqueFd write_end(ends[1]);
    const UniqueFd memory = Memory("four", kSealed);
    writer.Send(Size(4), {memory.get(), ends[1], ends[1]});
  }
  reader.AwaitErr("it has to bring one descriptor");
  reader.AwaitStop();
  pollfd end{read_end.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&end, 1, 10000), 1) << "somebody has the write end";
  EXPECT_FALSE(reader.HasEnded());
}

TEST_F(RefusalTest, AnotherSize) {
  const UniqueFd memory = Memory("four", kSealed);
  for (const std::uint64_t size : {0UL, 3UL, 5UL, 1UL << 32U, ~0UL}) {
    SCOPED_TRACE(size);
    ExpectRefused(Size(size), {memory.get()}, "recvmsg",
                  "Bad message; the memory has another size");
  }
  ExpectRefused(Size(4).substr(0, 1), {memory.get()}, "recvmsg",
                "Bad message; the memory has another size");
}

TEST_F(MemfdTest, ReaderNoticesThatTheWriterDied) {
  ChildProcess reader(Reader());
  { FakeWriter writer(name_); }
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(Complaints(reader), "memfd_reader: recvmsg '" + name_ +
                                    "': Broken pipe; the writer has gone\n");
}

TEST_F(MemfdTest, ReaderDoesNotWaitForEverForASilentWriter) {
  ChildProcess reader(Reader({"--timeout", "0.2"}));
  FakeWriter writer(name_);
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(Complaints(reader), "memfd_reader: poll '" + name_ +
                                    "': Connection timed out; waited for the "
                                    "memory\n");
}

TEST_F(MemfdTest, WriterNoticesThatTheReaderDied) {
  BlockedOutput output;
  ChildProcess reader(Reader(), "", output.InChild());
  ChildProcess writer(Writer(), RandomBytes(1000000));
  ASSERT_NE(output.Read(), "");
  reader.Signal(SIGKILL);
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_TRUE(writer.Err().ends_with("memfd_writer: recv '" + name_ +
                                     "': Broken pipe; the reader has gone\n"))
      << writer.Err();
}

TEST_F(MemfdTest, OutputThatFailsIsAFailureOfBoth) {
  for (const auto& [in_child, reason] : ipc_testing::FailingOutputs()) {
    ChildProcess reader(Reader(), "", in_child);
    ChildProcess writer(Writer(), RandomBytes(1000000));
    EXPECT_EQ(reader.Wait(), Exited(1));
    EXPECT_EQ(Complaints(reader), std::string("memfd_reader: write 'standard "
                                              "output': ") +
                                      reason + "\n");
    EXPECT_EQ(writer.Wait(), Exited(1));
  }
}

TEST_F(MemfdTest, InputThatFailsIsAFailure) {
  ChildProcess writer(Writer(), "", [] { ::close(0); });
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(Complaints(writer),
            "memfd_writer: read 'standard input': Bad file descriptor\n");
}

// SIGXFSZ would kill.
TEST_F(MemfdTest, MemoryThatMayNotGrowIsAFailure) {
  ChildProcess writer(Writer(), RandomBytes(100000), [] {
    const rlimit limit{65536, 65536};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  });
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(Complaints(writer),
            "memfd_writer: write '" + name_ + "': File too large\n");
}

// --- Other users -------------------------------------------------------------

// geteuid says 12345: so each takes the other for another user's.
TEST_F(MemfdTest, AnotherUsersReaderIsRefused) {
  ChildProcess reader(Reader());
  reader.AwaitErr(WaitingForWriter());
  ChildProcess writer(WithFault("geteuid", "retval=12345", Writer()), "secret");
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(Complaints(writer),
            "memfd_writer: connect '" + name_ +
                "': Permission denied; another user's: choose another name\n");
  EXPECT_EQ(reader.Wait(), Exited(1));
  EXPECT_EQ(reader.Out(), "");
}

TEST_F(MemfdTest, AnotherUsersWriterIsTurnedAway) {
  ChildProcess reader(WithFault("geteuid", "retval=12345:when=1", Reader()));
  FakeWriter stranger(name_);
  stranger.Send(Size(6), {Memory("theirs", kSealed).get()});
  EXPECT_EQ(stranger.Answer(), "");
  ChildProcess writer(Writer(), "ours");
  EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
  EXPECT_EQ(reader.Out(), "ours");
  EXPECT_TRUE(
      reader.Err().ends_with("memfd_reader: accept4 '" + name_ +
                             "': another user's writer was turned away\n"))
      << reader.Err();
  EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
}

// As above, but by users that really are two.
TEST_F(MemfdTest, StrangersAreRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be other users";
  const ipc_testing::TemporaryDirectory directory;
  fs::permissions(directory.path(), fs::perms(0755));
  Arguments their_writer = Writer();
  Arguments their_reader = Reader();
  for (auto* command : {&their_writer, &their_reader}) {
    const std::string copy =
        directory / fs::path(command->front()).filename().string();
    fs::copy_file(command->front(), copy);
    fs::permissions(copy, fs::perms(0755));
    command->front() = copy;
  }
  const auto become_stranger = [] {
    if (::setresgid(kStranger, kStranger, kStranger) != 0 ||
        ::setresuid(kStranger, kStranger, kStranger) != 0) {
      ::_exit(125);
    }
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // Another user's is lost.
  };
  {
    ChildProcess reader(Reader());
    reader.AwaitErr(WaitingForWriter());
    ChildProcess stranger(their_writer, "theirs", become_stranger);
    EXPECT_EQ(stranger.Wait(), Exited(1));
    EXPECT_EQ(Complaints(stranger), "memfd_writer: connect '" + name_ +
                                        "': Permission denied; another user's: "
                                        "choose another name\n");
    reader.AwaitErr("turned away");
    ChildProcess writer(Writer(), "ours");
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    EXPECT_EQ(reader.Out(), "ours");
  }
  ChildProcess reader(their_reader, "", become_stranger);
  reader.AwaitErr(WaitingForWriter());
  ChildProcess writer(Writer(), "secret");
  EXPECT_EQ(writer.Wait(), Exited(1));
  EXPECT_EQ(Complaints(writer),
            "memfd_writer: connect '" + name_ +
                "': Permission denied; another user's: choose another name\n");
  reader.AwaitErr("turned away");
  reader.Signal(SIGTERM);
  EXPECT_EQ(reader.Wait(), Killed(SIGTERM));
}

// --- Names -------------------------------------------------------------------

TEST_F(MemfdTest, SecondReaderIsRefused) {
  ChildProcess reader(Reader());
  reader.AwaitErr(WaitingForWriter());
  ChildProcess second(Reader());
  EXPECT_EQ(second.Wait(), Exited(1));
  EXPECT_EQ(Complaints(second),
            "memfd_reader: bind '" + name_ + "': Address already in use\n");
  ChildProcess writer(Writer(), "message");
  EXPECT_EQ(reader.Wait(), Exited(0));
  EXPECT_EQ(reader.Out(), "message");
  EXPECT_EQ(writer.Wait(), Exited(0));
}

TEST_F(MemfdTest, SecondWriterWaitsForTheNextReader) {
  BlockedOutput output;
  ChildProcess reader(Reader(), "", output.InChild());
  ChildProcess writer(Writer(), RandomBytes(1000000));
  ASSERT_NE(output.Read(), "");
  ChildProcess second(Writer(), "second");
  second.AwaitErr(WaitingForReader());
  ChildProcess next(Reader());
  EXPECT_EQ(next.Wait(), Exited(0)) << next.Err();
  EXPECT_EQ(next.Out(), "second");
  EXPECT_EQ(second.Wait(), Exited(0)) << second.Err();
  EXPECT_FALSE(writer.HasEnded());
}

// All of sun_path, and one byte too many.
TEST_F(MemfdTest, LongestName) {
  std::string name = name_ + std::string(107 - name_.size(), 'x');
  Arguments writer = Writer();
  Arguments reader = Reader();
  writer.back() = reader.back() = name;
  {
    ChildProcess receiver(reader);
    ChildProcess sender(writer, "message");
    EXPECT_EQ(receiver.Wait(), Exited(0)) << receiver.Err();
    EXPECT_EQ(receiver.Out(), "message");
    EXPECT_EQ(sender.Wait(), Exited(0));
  }
  for (const std::string& bad : {name + "x", std::string()}) {
    writer.back() = reader.back() = bad;
    for (const Arguments& command : {writer, reader}) {
      ChildProcess process(command, std::nullopt);  // It reads no input.
      EXPECT_EQ(process.Wait(), Exited(2));
      EXPECT_TRUE(
          process.Err().ends_with(": --name has 1 to 107 bytes; see --help\n"))
          << process.Err();
    }
  }
}

// --- Ends --------------------------------------------------------------------

TEST_F(MemfdTest, TimeoutEndsTheWait) {
  for (const auto& [command, text] :
       {std::pair(Reader({"--timeout", "0.3"}),
                  WaitingForWriter() + "memfd_reader: poll '" + name_ +
                      "': Connection timed out; waited for a writer\n"),
        std::pair(Writer({"--timeout", "0.3"}),
                  WaitingForReader() + "memfd_writer: connect '" + name_ +
                      "': Connection timed out; waited for a reader\n")}) {
    ChildProcess process(command);
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Err(), text);
  }
}

TEST_F(MemfdTest, SignalEndsTheWait) {
  for (const int signal : {SIGHUP, SIGINT, SIGTERM}) {
    for (const auto& [command, waiting] :
         {std::pair(Reader(), WaitingForWriter()),
          std::pair(Writer(), WaitingForReader())}) {
      ChildProcess process(command);
      process.AwaitErr(waiting);
      process.Signal(signal);
      EXPECT_EQ(process.Wait(), Killed(signal));
      EXPECT_EQ(process.Err(), waiting);
    }
    ChildProcess writer(Writer(), std::nullopt);  // Its input is silent.
    writer.Send("x");
    while (OpenMemory(name_).empty()) ASSERT_FALSE(writer.HasEnded());
    writer.Signal(signal);
    EXPECT_EQ(writer.Wait(), Killed(signal));
  }
}

// However much there still is to print, and however slowly it is taken.
TEST_F(MemfdTest, SignalEndsThePrint) {
  BlockedOutput output;
  ChildProcess reader(Reader(), "", output.InChild());
  ChildProcess writer(Writer(), RandomBytes(30000000));
  ASSERT_NE(output.Read(), "");
  reader.Signal(SIGTERM);
  std::size_t size = 0;
  for (std::string bytes; !(bytes = output.Read()).empty();) {
    size += bytes.size();
    if (size > 15000000) break;  // It goes on: no test of it ends.
  }
  EXPECT_LT(size, 15000000U);
  EXPECT_EQ(reader.Wait(), Killed(SIGTERM));
  EXPECT_EQ(writer.Wait(), Exited(1));
}

// One of the two is killed at each call that it makes: the other ends, nothing
// is open or bound any more, and the next pair works at once.
class KilledTest : public MemfdTest {
 protected:
  void AtEachCall(bool writer_dies, const Arguments& calls) {
    // Who has met nobody would wait for the next one.
    const Arguments wait{"--timeout", "0.4"};
    for (const std::string& call : calls) {
      bool killed = true;
      for (int n = 1; killed; ++n) {
        SCOPED_TRACE(call + " " + std::to_string(n));
        const auto dying = [&](const Arguments& command) {
          return WithFault(call, "signal=KILL:when=" + std::to_string(n),
                           command);
        };
        ChildProcess reader(writer_dies ? Reader(wait) : dying(Reader(wait)));
        ChildProcess writer(writer_dies ? dying(Writer(wait)) : Writer(wait),
                            "message");
        killed = (writer_dies ? writer : reader).Wait() == Killed(SIGKILL);
        ChildProcess& other = writer_dies ? reader : writer;
        const ipc_testing::End end = other.Wait();
        // 0 is no lie: nothing but an answer says that all was printed.
        EXPECT_TRUE(end == Exited(0) ? reader.Out() == "message"
                                     : end == Exited(1) && !other.Err().empty())
            << end << other.Err();
        EXPECT_TRUE(killed || n > 1) << "it is never called";
        EXPECT_EQ(OpenMemory(name_), Arguments{});
        EXPECT_FALSE(IsBound(name_));
        ExpectPairWorks();
        ASSERT_FALSE(HasFailure());
      }
    }
  }
};

TEST_F(KilledTest, WriterLeavesNothing) {
  AtEachCall(true, {"memfd_create", "write", "fcntl", "socket", "connect",
                    "getsockopt", "sendmsg", "poll", "recvfrom", "exit_group"});
}

TEST_F(KilledTest, ReaderLeavesNothing) {
  AtEachCall(false,
             {"socket", "bind", "listen", "poll", "accept4", "getsockopt",
              "recvmsg", "fcntl", "write", "munmap", "sendto", "exit_group"});
}

// --- Command lines -----------------------------------------------------------

TEST_F(MemfdTest, WrongUsageSaysSo) {
  for (const Arguments& arguments :
       {Arguments{"--bogus"}, Arguments{"--timeout", "x"}, Arguments{"-"},
        Arguments{"operand"}}) {
    for (const Arguments& command : {Writer(arguments), Reader(arguments)}) {
      ipc_testing::ExpectWrongUsage(command);
    }
  }
}

TEST_F(MemfdTest, HelpIsOutput) {
  ipc_testing::ExpectHelp(Writer().front());
  ipc_testing::ExpectHelp(Reader().front());
}

}  // namespace
