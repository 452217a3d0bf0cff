// Other users: what they can do to our objects, which is nothing, and what they
// can do by taking our names first, which is to be named in an error. In a
// directory like /tmp, where all may make names and none may remove another's.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <mqueue.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <optional>
#include <thread>
#include <tuple>

#include "testing/processes/child_process.h"

namespace {

namespace fs = std::filesystem;
using ipc_testing::ChildProcess;
using ipc_testing::Exited;
using ipc_testing::TemporaryDirectory;
using testing::MatchesRegex;

using Words = std::vector<std::string>;
constexpr uid_t kRoot = 0;
constexpr uid_t kUser = 65534;
constexpr uid_t kStranger = 65533;

// Makes the calling thread another user's. The system calls themselves: glibc's
// functions change all threads. credentials(7)
bool Become(uid_t user) {
  return ::syscall(SYS_setgroups, 0, nullptr) == 0 &&
         ::syscall(SYS_setresgid, user, user, user) == 0 &&
         ::syscall(SYS_setresuid, user, user, user) == 0 &&
         // Or it could neither look at itself nor, a child, die with its test.
         ::prctl(PR_SET_DUMPABLE, 1) == 0;
}

// What `call` does as the stranger: 0, or its errno.
int Error(const std::function<int()>& call) {
  int error = EPERM;
  std::thread([&] {
    if (Become(kStranger)) error = call() == -1 ? errno : 0;
  }).join();
  return error;
}

int Closed(int fd) { return fd == -1 ? -1 : ::close(fd); }

sockaddr_un AddressOf(const std::string& path) {
  sockaddr_un address{AF_UNIX, {}};
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  return address;
}

// bind or connect, with a socket of its own.
int WithSocket(int (*call)(int, const sockaddr*, socklen_t),
               const std::string& path) {
  const sockaddr_un address = AddressOf(path);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int result =
      call(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  const int error = errno;
  ::close(fd);
  errno = error;
  return result;
}

struct Mechanism {
  std::string name;
  std::string owner;  // The program that makes the object,
  std::string peer;   // and the other.
  std::string option;
  std::string waiting;  // What the owner says when the object is there.
  bool owner_prints;
  bool IsMemory() const { return name == "shm" || name == "ring"; }
};
const Mechanism kShm{"shm", "writer", "reader", "--name", "waiting for", false};
const Mechanism kRing{"ring",   "ring_writer", "ring_reader",
                      "--name", "waiting for", false};
const Mechanism kFifo{"fifo",   "reader",      "writer",
                      "--path", "waiting for", true};
const Mechanism kMqueue{"mqueue", "server",      "client",
                        "--name", "waiting for", true};
const Mechanism kSocket{"socket", "server",       "client",
                        "--unix", "listening on", false};
void PrintTo(const Mechanism& mechanism, std::ostream* out) {
  *out << mechanism.name;
}

using Parameter = std::tuple<Mechanism, uid_t>;

class Access : public testing::TestWithParam<Parameter> {
 protected:
  // The programs, where every user may run them.
  static void SetUpTestSuite() {
    ::umask(0);  // The objects' modes are the programs' alone.
    programs_.emplace();
    fs::permissions(programs_->path(), fs::perms(0755));
    for (const auto& mechanism : {kShm, kRing, kFifo, kMqueue, kSocket}) {
      fs::create_directory(*programs_ / mechanism.name);
      fs::permissions(*programs_ / mechanism.name, fs::perms(0755));
      for (const std::string& program : {mechanism.owner, mechanism.peer}) {
        std::string variable =
            (mechanism.IsMemory() ? "shm" : mechanism.name) + "_" + program;
        for (char& c : variable) c = static_cast<char>(std::toupper(c));
        const std::string copy = *programs_ / (mechanism.name + "/" + program);
        fs::copy_file(ipc_testing::Program(variable.c_str()), copy);
        fs::permissions(copy, fs::perms(0755));
      }
    }
  }
  static void TearDownTestSuite() { programs_.reset(); }

  void SetUp() override {
    if (::geteuid() != kRoot || Error([] { return 0; }) != 0) {
      GTEST_SKIP() << "only root, outside of a sandbox, can be other users";
    }
    // As /tmp is, and /dev/shm.
    fs::permissions(directory_.path(), fs::perms(01777));
    fs::permissions(victims_.path(), fs::perms(01777));
    if (m_.IsMemory() || m_.name == "mqueue") {
      name_ = ipc_testing::UniqueName();
    }
    path_ = m_.IsMemory() ? "/dev/shm" + name_ : name_;
  }
  void TearDown() override {
    // What a test that failed left.
    if (m_.IsMemory()) ::shm_unlink(name_.c_str());
    if (m_.name == "mqueue") ::mq_unlink(name_.c_str());
  }

  // The ring's writer is told its message on standard input.
  ChildProcess Run(uid_t user, const std::string& program,
                   const Words& more = {}) {
    Words argv{*programs_ / (m_.name + "/" + program), m_.option, name_};
    argv.insert(argv.end(), more.begin(), more.end());
    const bool streams = program == kRing.owner;
    return ChildProcess(argv, streams ? Message()[0] + "\n" : "", [user] {
      if (user != kRoot && !Become(user)) ::_exit(125);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // Another user's is lost.
    });
  }
  Words Message() const { return {m_.name == "mqueue" ? "quit" : "Hello"}; }
  ChildProcess Owner() {
    return Run(user_, m_.owner, m_.name == "shm" ? Message() : Words{});
  }
  Words PeerArguments() const { return m_.IsMemory() ? Words{} : Message(); }
  // The message arrives at its program, and nothing is left.
  void ExpectDelivery(ChildProcess& owner) {
    ChildProcess peer = Run(user_, m_.peer, PeerArguments());
    EXPECT_EQ(peer.Wait(), Exited(0)) << peer.Err();
    if (m_.name == "socket") {
      owner.Signal(SIGTERM);
      EXPECT_EQ(owner.Wait(), ipc_testing::Killed(SIGTERM));
    } else {
      EXPECT_EQ(owner.Wait(), Exited(0)) << owner.Err();
    }
    const std::string out = m_.name == "mqueue" ? "" : Message()[0] + "\n";
    EXPECT_EQ(m_.owner_prints ? owner.Out() : peer.Out(), out);
    EXPECT_THAT(directory_.Names(), testing::IsEmpty());
    EXPECT_EQ(Open(O_RDONLY), -1);
    EXPECT_EQ(errno, ENOENT);
  }

  int Open(int flags) const {
    if (m_.name != "mqueue") {
      return Closed(::open(path_.c_str(), flags | O_NONBLOCK, 0666));
    }
    const mqd_t queue = ::mq_open(name_.c_str(), flags, 0666, nullptr);
    return Closed(queue);
  }
  int Unlink() const {
    return m_.name == "mqueue" ? ::mq_unlink(name_.c_str())
                               : ::unlink(path_.c_str());
  }
  // One line of `program` about `object`.
  void ExpectRefused(ChildProcess& process, const std::string& program,
                     const std::string& object) {
    EXPECT_EQ(process.Wait(), Exited(1));
    EXPECT_EQ(process.Out(), "");
    EXPECT_THAT(
        process.Err(),
        MatchesRegex(
            program + ": [a-z_]+ '" + object +
            "': (Permission denied(; another user's: choose another name)?|"
            "Too many levels of symbolic links|Is a directory|"
            "No such device or address|Invalid argument|Resource temporarily "
            "unavailable)\n"));
  }

  static inline std::optional<TemporaryDirectory> programs_;
  const Mechanism m_ = std::get<0>(GetParam());
  const uid_t user_ = std::get<1>(GetParam());
  const TemporaryDirectory directory_;
  const TemporaryDirectory victims_;
  std::string name_ = directory_ / "name";
  std::string path_;  // Where it is in the file system; not a queue.
};
std::string NameOf(const testing::TestParamInfo<Parameter>& tested) {
  const auto& [mechanism, user] = tested.param;
  return mechanism.name + (user == kRoot ? "OfRoot" : "OfAUser");
}
auto Each(const std::vector<Mechanism>& mechanisms) {
  return testing::Combine(testing::ValuesIn(mechanisms),
                          testing::Values(kRoot, kUser));
}
INSTANTIATE_TEST_SUITE_P(, Access, Each({kShm, kRing, kFifo, kMqueue, kSocket}),
                         NameOf);

// --- Objects in use ----------------------------------------------------------

TEST_P(Access, StrangersCanDoNothingToAnObject) {
  ChildProcess owner = Owner();
  owner.AwaitErr(m_.waiting);
  // Any user may read the FIFO: its mode is 0644.
  EXPECT_EQ(Error([&] { return Open(O_RDONLY); }),
            m_.name == "fifo" ? 0 : EACCES);
  EXPECT_EQ(Error([&] { return Open(O_WRONLY); }), EACCES);
  EXPECT_EQ(Error([&] { return Open(O_RDWR); }), EACCES);
  EXPECT_EQ(Error([&] { return Open(O_CREAT | O_EXCL | O_RDWR); }), EEXIST);
  EXPECT_THAT(Error([&] { return Unlink(); }), testing::AnyOf(EPERM, EACCES));
  if (m_.name != "mqueue") {
    const std::string other = path_ + ".other";
    EXPECT_EQ(Error([&] { return ::chmod(path_.c_str(), 0666); }), EPERM);
    EXPECT_EQ(Error([&] { return ::rename(path_.c_str(), other.c_str()); }),
              EPERM);
  }
  if (m_.name == "socket") {
    const std::string lock = name_ + ".lock";
    EXPECT_EQ(Error([&] { return WithSocket(::connect, name_); }), EACCES);
    EXPECT_EQ(Error([&] { return WithSocket(::bind, name_); }), EADDRINUSE);
    for (const int flags : {O_RDONLY, O_WRONLY, O_RDWR}) {
      EXPECT_EQ(Error([&] { return ::open(lock.c_str(), flags); }), EACCES);
    }
    EXPECT_EQ(Error([&] { return ::unlink(lock.c_str()); }), EPERM);
  }
  ExpectDelivery(owner);
}

TEST_P(Access, StrangersProgramsAreRefused) {
  ChildProcess owner = Owner();
  owner.AwaitErr(m_.waiting);
  ChildProcess second = Run(kStranger, m_.owner);
  // Its first object is the lock.
  ExpectRefused(second, m_.owner,
                m_.name == "socket" ? name_ + ".lock" : name_);
  ChildProcess client = Run(kStranger, m_.peer, PeerArguments());
  ExpectRefused(client, m_.peer, name_);
  ExpectDelivery(owner);
}

// --- Names taken by a stranger -----------------------------------------------

// All that would tell of a change, but for the time of the last access.
auto StateOf(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::lstat(path.c_str(), &status), 0);
  return std::tuple(status.st_ino, status.st_mode, status.st_uid,
                    status.st_nlink, status.st_size, status.st_mtim.tv_sec,
                    status.st_mtim.tv_nsec, status.st_ctim.tv_sec,
                    status.st_ctim.tv_nsec);
}

// Whether a path is opened. inotify(7)
class Opens {
 public:
  explicit Opens(const std::string& path) {
    EXPECT_NE(::inotify_add_watch(fd_, path.c_str(), IN_OPEN | IN_DONT_FOLLOW),
              -1);
  }
  Opens(const Opens&) = delete;
  Opens& operator=(const Opens&) = delete;
  ~Opens() { ::close(fd_); }
  bool Any() {
    alignas(inotify_event) std::array<char, 4096> buffer;
    return ::read(fd_, buffer.data(), buffer.size()) > 0;
  }

 private:
  int fd_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
};

int MakeFile(const std::string& path, std::size_t size, mode_t mark = 0) {
  const int fd = ::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0666 | mark);
  const int result = ::ftruncate(fd, static_cast<off_t>(size));
  ::close(fd);
  return result;
}

// A queue's name can't be but a queue's.
class AccessPath : public Access {};
INSTANTIATE_TEST_SUITE_P(, AccessPath, Each({kShm, kRing, kFifo, kSocket}),
                         NameOf);

TEST_P(AccessPath, ThatAStrangerTookIsReportedAndLeft) {
  const std::string victim = victims_ / "file";
  ASSERT_EQ(MakeFile(victim, 0), 0);  // As a dead server's lock would be.
  ASSERT_EQ(::chown(victim.c_str(), user_, user_), 0);
  const std::string nothing = victims_ / "nothing";
  int leased = -1;
  using Make = std::function<int(const char*)>;
  const std::pair<const char*, Make> squats[] = {
      {"FIFO", [](auto path) { return ::mkfifo(path, 0666); }},
      {"FIFO with our mark",
       [](auto path) { return ::mkfifo(path, 0666 | S_ISVTX); }},
      {"empty file", [](auto path) { return MakeFile(path, 0); }},
      {"file with our mark",
       [](auto path) { return MakeFile(path, 176, S_ISVTX); }},
      {"file whose open may wait for 45 s: F_SETLEASE in fcntl(2)",
       [&](auto path) {
         leased = ::open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
         return ::fcntl(leased, F_SETLEASE, F_WRLCK);
       }},
      {"link to nothing",
       [&](auto path) { return ::symlink(nothing.c_str(), path); }},
      {"link to our file",
       [&](auto path) { return ::symlink(victim.c_str(), path); }},
      {"directory", [](auto path) { return ::mkdir(path, 0777); }},
      {"socket", [](auto path) { return WithSocket(::bind, path); }},
      {"socket with our mark",
       [](auto path) {
         return WithSocket(::bind, path) == -1 ? -1
                                               : ::chmod(path, 0666 | S_ISVTX);
       }},
  };
  Words paths{path_};
  if (m_.name == "socket") paths.push_back(path_ + ".lock");
  for (const std::string& path : paths) {
    const bool lock = path != path_;
    for (const auto& [what, make] : squats) {
      SCOPED_TRACE(path + " is a " + what);
      ASSERT_EQ(Error([&, &take = make] { return take(path.c_str()); }), 0);
      const auto state = StateOf(path);
      const auto victims_state = StateOf(victim);
      const auto names = directory_.Names();
      Opens opens(path);
      Opens victims_opens(victim);
      ChildProcess owner = Run(user_, m_.owner);
      owner.set_patience(std::chrono::seconds(10));
      ExpectRefused(owner, m_.owner, lock ? path : name_);
      ChildProcess peer = Run(user_, m_.peer, {"--timeout", "0"});
      if (lock) {  // Which is nothing to a client: no server has come.
        EXPECT_EQ(peer.Wait(), Exited(1));
        EXPECT_THAT(peer.Err(), testing::HasSubstr("Connection timed out"));
      } else {
        peer.set_patience(std::chrono::seconds(10));
        ExpectRefused(peer, m_.peer, name_);
      }
      EXPECT_TRUE(StateOf(path) == state);
      EXPECT_TRUE(StateOf(victim) == victims_state);
      EXPECT_EQ(directory_.Names(), names);
      EXPECT_FALSE(fs::exists(nothing));
      EXPECT_FALSE(victims_opens.Any());
      // To open a FIFO lets go a stranger that waits for its other end. Files
      // are opened, to see whose they are.
      if (m_.name == "fifo" || (m_.name == "socket" && !lock)) {
        EXPECT_FALSE(opens.Any());
      }
      fs::remove(path);
      if (leased != -1) ::close(std::exchange(leased, -1));
    }
  }
}

class AccessQueue : public Access {};
INSTANTIATE_TEST_SUITE_P(, AccessQueue, Each({kMqueue}), NameOf);

TEST_P(AccessQueue, ThatAStrangerMadeIsReportedAndLeft) {
  for (const mode_t mode : {0666U, 0666U | S_ISVTX}) {  // Or our mark.
    mq_attr attributes{};
    attributes.mq_maxmsg = 10;
    attributes.mq_msgsize = 128;
    ASSERT_EQ(Error([&] {
                return Closed(::mq_open(name_.c_str(), O_CREAT | O_RDWR, mode,
                                        &attributes));
              }),
              0);
    for (const std::string& program : {m_.owner, m_.peer}) {
      ChildProcess process =
          Run(user_, program, program == m_.peer ? Message() : Words{});
      ExpectRefused(process, program, name_);
    }
    const mqd_t queue = ::mq_open(name_.c_str(), O_RDONLY);
    ASSERT_NE(queue, -1);
    ::mq_getattr(queue, &attributes);
    EXPECT_EQ(attributes.mq_curmsgs, 0);
    ::mq_close(queue);
    EXPECT_EQ(::mq_unlink(name_.c_str()), 0);
  }
}

class AccessFifo : public Access {};
INSTANTIATE_TEST_SUITE_P(, AccessFifo, Each({kFifo}), NameOf);

TEST_P(AccessFifo, ThatAStrangerMadeAndReadsIsSentNothing) {
  int stranger = -1;
  ASSERT_EQ(Error([&] {
              if (::mkfifo(name_.c_str(), 0666) == -1) return -1;
              return stranger = ::open(name_.c_str(),
                                       O_RDONLY | O_NONBLOCK | O_CLOEXEC);
            }),
            0);
  ChildProcess writer = Run(user_, "writer", {"Hello"});
  ExpectRefused(writer, "writer", name_);
  char byte = 0;
  EXPECT_EQ(::read(stranger, &byte, 1), 0);
  ::close(stranger);
}

class AccessSocket : public Access {};
INSTANTIATE_TEST_SUITE_P(, AccessSocket, Each({kSocket}), NameOf);

TEST_P(AccessSocket, ThatAStrangerListensAtIsSentNothing) {
  const int stranger =
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const sockaddr_un address = AddressOf(name_);
  ASSERT_EQ(Error([&] {
              const int bound =
                  ::bind(stranger, reinterpret_cast<const sockaddr*>(&address),
                         sizeof(address));
              return bound == -1 ? -1 : ::listen(stranger, 1);
            }),
            0);
  ASSERT_EQ(::chmod(name_.c_str(), 0666), 0);
  for (const std::string& program : {m_.owner, m_.peer}) {
    ChildProcess process =
        Run(user_, program, program == m_.peer ? Message() : Words{});
    ExpectRefused(process, program, name_);
    EXPECT_THAT(process.Err(), testing::HasSubstr("another user's"));
  }
  EXPECT_EQ(::accept(stranger, nullptr, nullptr), -1);
  EXPECT_EQ(errno, EAGAIN);  // Nobody has connected.
  EXPECT_THAT(directory_.Names(), testing::ElementsAre("name"));
  ::close(stranger);
}

}  // namespace
