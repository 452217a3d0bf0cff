// The server: what it owes to its clients, to other servers, and to the names
// that it uses.
#include <sys/resource.h>
#include <sys/stat.h>

#include <filesystem>
#include <tuple>

#include "socket/test_server.h"

namespace {

namespace fs = std::filesystem;
using ipc_testing::Answers;
using ipc_testing::ChildProcess;
using ipc_testing::Exchange;
using ipc_testing::Exited;
using ipc_testing::ExpectError;
using ipc_testing::kAnotherPrograms;
using ipc_testing::kAnotherUsers;
using ipc_testing::Killed;
using ipc_testing::kInUse;
using ipc_testing::kLittle;
using ipc_testing::Place;
using ipc_testing::Program;
using ipc_testing::RandomBytes;
using ipc_testing::Receive;
using ipc_testing::Server;
using ipc_testing::TimeUsed;
using ipc_testing::Words;
using testing::ElementsAre;
using testing::IsEmpty;

// Sends what fits in without waiting, and returns how much that was.
std::size_t Fill(int fd) {
  const std::string bytes(1 << 16, 'x');
  std::size_t sent = 0;
  ssize_t n = 0;
  while ((n = ::send(fd, bytes.data(), bytes.size(),
                     MSG_NOSIGNAL | MSG_DONTWAIT)) > 0) {
    sent += static_cast<std::size_t>(n);
  }
  return sent;
}

// --- Clients -----------------------------------------------------------------

class ServerOfMany : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, ServerOfMany, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(ServerOfMany, Answers100AtOnce) {
  const Server server(GetParam());
  std::vector<ipc::UniqueFd> clients(100);
  for (auto& client : clients) client = server.Connect();
  for (const auto& client : clients) {
    const std::string bytes = RandomBytes(1000);
    EXPECT_EQ(::send(client.get(), bytes.data(), bytes.size(), 0), 1000);
  }
  // From the last to the first: none has to wait for another.
  for (std::size_t i = clients.size(); i-- > 0;) {
    EXPECT_EQ(Exchange(clients[i].get(), "").size(), 0U);
    std::string got;
    while (got.size() < 1000) got += Receive(clients[i].get());
    EXPECT_EQ(got, RandomBytes(1000));
  }
}

TEST_P(ServerOfMany, WaitsForNone) {
  const Server server(GetParam());
  const auto silent = server.Connect();
  const auto slow = server.Connect();
  const auto deaf = server.Connect();  // Sends, and never reads.
  Fill(deaf.get());
  for (const char byte : std::string("slow")) {
    EXPECT_EQ(Exchange(slow.get(), {&byte, 1}), std::string(1, byte));
    EXPECT_TRUE(Answers(server.Connect()));
    Fill(deaf.get());
  }
  EXPECT_TRUE(Answers(silent));
}

TEST_P(ServerOfMany, TakesNoMoreFromOneThatDoesNotRead) {
  const Server server(GetParam());
  const auto deaf = server.Connect();
  const auto other = server.Connect();
  std::size_t sent = 0;
  // Full for good: not even after the server has had ten turns is there room.
  constexpr std::size_t kFarTooMuch = 100'000'000;
  for (int turns = 0; turns < 10 && sent < kFarTooMuch; ++turns) {
    const std::size_t more = Fill(deaf.get());
    sent += more;
    if (more != 0) turns = 0;
    EXPECT_TRUE(Answers(other));
  }
  EXPECT_GT(sent, 0U);
  EXPECT_LT(sent, kFarTooMuch);
  // And all of it comes back, once it does read.
  std::size_t got = 0;
  while (got < sent) got += Receive(deaf.get()).size();
  EXPECT_EQ(got, sent);
}

TEST_P(ServerOfMany, OutlivesThoseThatVanish) {
  const Server server(GetParam());
  const auto other = server.Connect();
  for (int i = 0; i < 10; ++i) {
    auto vanishing = server.Connect();
    Fill(vanishing.get());
    const linger reset{1, 0};  // RST in place of FIN.
    ::setsockopt(vanishing.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    vanishing = ipc::UniqueFd();
    EXPECT_TRUE(Answers(other));
  }
}

TEST_P(ServerOfMany, SendsBackWhatCameBeforeTheHalfClose) {
  const Server server(GetParam());
  const auto client = server.Connect();
  const std::string bytes = RandomBytes(50000);
  ASSERT_EQ(::send(client.get(), bytes.data(), bytes.size(), 0), 50000);
  ::shutdown(client.get(), SHUT_WR);
  std::string got;
  for (std::string some; !(some = Receive(client.get())).empty();) got += some;
  EXPECT_TRUE(got == bytes);
}

// What has come all at once, while the server stood still.
class ServerThatStood : public ServerOfMany {
 protected:
  void SendAtOnce(const std::string& bytes, bool end) {
    ASSERT_TRUE(Answers(client_));
    server_.process.Stop();
    ASSERT_EQ(::send(client_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    if (end) ::shutdown(client_.get(), SHUT_WR);
    server_.process.Signal(SIGCONT);
  }

  Server server_{GetParam()};
  const ipc::UniqueFd client_ = server_.Connect();
};
INSTANTIATE_TEST_SUITE_P(, ServerThatStood, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(ServerThatStood, SeesTheEndBehindAMessage) {
  SendAtOnce("hello", true);
  EXPECT_EQ(Receive(client_.get()), "hello");
  EXPECT_EQ(Receive(client_.get()), "");
}

TEST_P(ServerThatStood, SendsBackMoreThanItReceivesAtOnce) {
  const std::string bytes = RandomBytes(50000);
  SendAtOnce(bytes, false);
  std::string got;
  while (got.size() < bytes.size()) {
    const std::string some = Receive(client_.get());
    ASSERT_NE(some, "");
    got += some;
  }
  EXPECT_TRUE(got == bytes);
}

TEST_P(ServerOfMany, ForgetsThoseThatLeave) {
  // Else it would soon have no descriptors left.
  const Server server(GetParam(), [] {
    const rlimit few{20, 20};
    ::setrlimit(RLIMIT_NOFILE, &few);
  });
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(Answers(server.Connect()));
}

TEST_P(ServerOfMany, UsesNoProcessorWhileTheyAreSilent) {
  const Server server(GetParam());
  const auto silent = server.Connect();
  const auto deaf = server.Connect();
  EXPECT_TRUE(Answers(silent));
  while (Fill(deaf.get()) != 0) EXPECT_TRUE(Answers(silent));
  EXPECT_LT(TimeUsed(server.process), kLittle);
}

TEST_P(ServerOfMany, TakesOneThatCouldNotBeTakenWithoutAFurtherEvent) {
  if (!ipc_testing::HasStrace()) GTEST_SKIP() << ipc_testing::kNoStrace;
  const Place place(GetParam());
  ChildProcess server(ipc_testing::WithFault("accept4", "error=ENFILE:when=1",
                                             place.Command("SERVER")));
  server.AwaitErr("listening");
  EXPECT_TRUE(Answers(place.Connect()));
}

TEST_P(ServerOfMany, ReceivesWhatWasNotThereAtFirstWithoutAFurtherEvent) {
  if (!ipc_testing::HasStrace()) GTEST_SKIP() << ipc_testing::kNoStrace;
  const Place place(GetParam());
  ChildProcess server(ipc_testing::WithFault("recvfrom", "error=EAGAIN:when=1",
                                             place.Command("SERVER")));
  server.AwaitErr("listening");
  EXPECT_TRUE(Answers(place.Connect()));
}

TEST_P(ServerThatStood, SendsBackWhatFollowsUrgentData) {
  if (GetParam() == "unix") GTEST_SKIP() << "not every kernel has it";
  ASSERT_TRUE(Answers(client_));
  server_.process.Stop();
  // recv stops before the urgent byte, which isn't a part of the stream.
  EXPECT_EQ(::send(client_.get(), "a", 1, 0), 1);
  EXPECT_EQ(::send(client_.get(), "b", 1, MSG_OOB), 1);
  EXPECT_EQ(::send(client_.get(), "c", 1, 0), 1);
  server_.process.Signal(SIGCONT);
  std::string got;
  while (got.size() < 2) got += Receive(client_.get());
  EXPECT_EQ(got, "ac");
}

// --- Other programs as clients -----------------------------------------------

// Runs the program with the input, if it is installed, and expects it back.
void ExpectEcho(const std::string& program, const Words& arguments) {
  Words command{"/usr/bin/" + program};
  if (!fs::exists(command[0])) GTEST_SKIP() << command[0] << " is not there";
  command.insert(command.end(), arguments.begin(), arguments.end());
  const std::string input = RandomBytes(10000);
  ChildProcess process(command, input);
  EXPECT_EQ(process.Wait(), Exited(0)) << process.Err();
  EXPECT_TRUE(process.Out() == input) << process.Err();
}

TEST(ServerOfOthers, AnswersNetcat) {
  const Server unix("unix");
  ExpectEcho("nc", {"-N", "-U", unix.name});
  const Server tcp("tcp");
  const std::size_t colon = tcp.name.find(':');
  ExpectEcho("nc",
             {"-N", tcp.name.substr(0, colon), tcp.name.substr(colon + 1)});
}

TEST(ServerOfOthers, AnswersSocat) {
  const Server unix("unix");
  ExpectEcho("socat", {"-t60", "-", "UNIX-CONNECT:" + unix.name});
  const Server tcp("tcp");
  ExpectEcho("socat", {"-t60", "-", "TCP:" + tcp.name});
}

// --- Ends --------------------------------------------------------------------

class ServerEnd : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, ServerEnd, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

// At each of its system calls: //testing/faults:fault_matrix_test.
TEST_P(ServerEnd, BySignalLeavesNothing) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    Server server(GetParam());
    const auto silent = server.Connect();
    const auto deaf = server.Connect();
    Fill(deaf.get());
    EXPECT_TRUE(Answers(silent));
    server.process.Signal(signal);
    EXPECT_EQ(server.process.Wait(), Killed(signal));
    EXPECT_THAT(server.directory.Names(), IsEmpty());
    EXPECT_EQ(Receive(silent.get()), "");
  }
}

TEST_P(ServerEnd, ByKillIsNoObstacleToTheNext) {
  Server server(GetParam());
  const auto client = server.Connect();  // Its address stays in use.
  EXPECT_TRUE(Answers(client));
  server.process.Signal(SIGKILL);
  EXPECT_EQ(server.process.Wait(), Killed(SIGKILL));
  ChildProcess next(server.Command("SERVER"));
  next.AwaitErr("listening on '" + server.name + "'");
  EXPECT_TRUE(Answers(server.Connect()));
  next.Signal(SIGTERM);
  EXPECT_EQ(next.Wait(), Killed(SIGTERM));
  EXPECT_THAT(server.directory.Names(), IsEmpty());
}

// --- Names -------------------------------------------------------------------

// Runs a server there, and expects that it fails so.
void ExpectRefused(const Place& place, const std::string& error) {
  ChildProcess process(place.Command("SERVER"));
  ExpectError(process, "server: " + error);
}

class ServerName : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, ServerName, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(ServerName, IsOneServersAtATime) {
  const Server first(GetParam());
  const auto client = first.Connect();
  EXPECT_TRUE(Answers(client));
  ExpectRefused(first, GetParam() == "unix"
                           ? "open '" + first.name + ".lock': " + kInUse + "\n"
                           : "bind '" + first.name + "': Address already");
  EXPECT_TRUE(Answers(client));
  EXPECT_TRUE(Answers(first.Connect()));
}

// Everything about what has that name.
struct State {
  explicit State(const std::string& path) { ::lstat(path.c_str(), &status); }
  bool operator==(const State& other) const {
    const auto& [a, b] = std::tie(status, other.status);
    return a.st_ino == b.st_ino && a.st_mode == b.st_mode &&
           a.st_size == b.st_size && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
  }
  struct stat status {};
};

// A server is refused there, and all is as it was.
void ExpectLeft(const Place& place, const std::string& path,
                const std::string& error) {
  const State before(path);
  const auto names = place.directory.Names();
  ExpectRefused(place, error + "\n");
  EXPECT_TRUE(State(path) == before);
  EXPECT_EQ(place.directory.Names(), names);
}

void Write(const std::string& path, const std::string& text) {
  const ipc::UniqueFd fd(
      ::open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ipc::WriteAll(fd.get(), text, path);
}

class ServerPath : public testing::Test {
 protected:
  void ExpectServerLeavesIt(const std::string& reason = kAnotherPrograms) {
    ExpectLeft(place_, place_.name, "open '" + place_.name + "': " + reason);
  }
  // A client doesn't wait for it either.
  void ExpectBothLeaveIt(const std::string& reason = kAnotherPrograms) {
    ExpectServerLeavesIt(reason);
    ChildProcess client(place_.Command("CLIENT"));
    ExpectError(client, "client: open '" + place_.name + "': " + reason + "\n");
  }
  void ExpectLockLeft(const std::string& reason) {
    ExpectLeft(place_, lock_, "open '" + lock_ + "': " + reason);
  }

  Place place_{"unix"};
  std::string lock_ = place_.name + ".lock";
};

TEST_F(ServerPath, OfAFileIsLeft) {
  Write(place_.name, "mine");
  ExpectBothLeaveIt();
}

TEST_F(ServerPath, OfAnEmptyFileIsLeft) {
  Write(place_.name, "");
  ExpectBothLeaveIt();
}

TEST_F(ServerPath, OfADirectoryIsLeft) {
  fs::create_directory(place_.name);
  ExpectBothLeaveIt();
}

TEST_F(ServerPath, OfAnotherServersLockIsLeft) {
  const Server other("unix");
  place_.name = other.name + ".lock";
  const State before(place_.name);
  ExpectRefused(place_,
                "open '" + place_.name + "': " + kAnotherPrograms + "\n");
  EXPECT_TRUE(State(place_.name) == before);
  EXPECT_THAT(other.directory.Names(), ElementsAre("socket", "socket.lock"));
}

TEST_F(ServerPath, OfALinkIsLeft) {
  fs::create_symlink("nothing", place_.name);
  ExpectBothLeaveIt();
}

TEST_F(ServerPath, OfALinkToASocketIsLeft) {
  const Server other("unix");
  fs::create_symlink(other.name, place_.name);
  ExpectBothLeaveIt();
}

TEST_F(ServerPath, OfAFifoIsLeft) {
  ASSERT_EQ(::mkfifo(place_.name.c_str(), 0600), 0);
  ExpectBothLeaveIt();
}

// One that knows of no lock and no mark.
TEST_F(ServerPath, OfAForeignServerIsLeft) {
  const auto listener = place_.Listen(1);
  ExpectServerLeavesIt();
  // Also when it has no room for one more.
  const auto full = [this] {
    std::vector<ipc::UniqueFd> clients;
    const auto address = place_.Addresses();
    do {
      clients.push_back(place_.Socket());
    } while (::connect(clients.back().get(), address->ai_addr,
                       address->ai_addrlen) == 0);
    return clients;
  }();
  ExpectServerLeavesIt();
}

TEST_F(ServerPath, ThatADeadForeignServerLeftIsLeft) {
  place_.Listen();
  ExpectServerLeavesIt();
}

TEST_F(ServerPath, OfAnotherUsersSocketIsLeft) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a socket away";
  const auto listener = place_.Listen();
  ASSERT_EQ(::lchown(place_.name.c_str(), 65534, 65534), 0);
  ExpectBothLeaveIt(kAnotherUsers);
  // With the mark it would be ours, were it not another's.
  ASSERT_EQ(::chmod(place_.name.c_str(), 01600), 0);
  ExpectBothLeaveIt(kAnotherUsers);
}

TEST_F(ServerPath, WithSomethingElseAsItsLockIsRefused) {
  Write(lock_, "mine");
  ExpectLockLeft(kAnotherPrograms);
  fs::remove(lock_);
  Write(lock_, "");
  ExpectLockLeft(kAnotherPrograms);
  fs::remove(lock_);
  fs::create_symlink("nothing", lock_);
  ExpectLockLeft("Too many levels of symbolic links");
  fs::remove(lock_);
  fs::create_directory(lock_);
  ExpectLockLeft("Is a directory");
  fs::remove(lock_);
  ASSERT_EQ(::mkfifo(lock_.c_str(), 0600), 0);
  ExpectLockLeft(kAnotherPrograms);
}

// It makes the file, and has a lock on it that looks like ours.
TEST_F(ServerPath, WithALockOfFlocksIsRefused) {
  const std::string flock = "/usr/bin/flock";
  if (!fs::exists(flock)) GTEST_SKIP() << flock << " is not there";
  ChildProcess process(
      {flock, lock_, "/bin/sh", "-c", "echo locked; cat; echo unlocked"},
      std::nullopt);
  process.AwaitOut("locked");
  ExpectLockLeft(kAnotherPrograms);
  process.CloseInput();
  EXPECT_EQ(process.Wait(), Exited(0));
  ExpectLockLeft(kAnotherPrograms);
}

// Only the lock tells that a server lives: its path is as one that was left.
TEST_F(ServerPath, RemovedByHandStaysItsServers) {
  Server first("unix");
  fs::remove(first.name);
  ExpectRefused(first, "open '" + first.name + ".lock': " + kInUse + "\n");
  first.process.Signal(SIGTERM);
  EXPECT_EQ(first.process.Wait(), Killed(SIGTERM));
  EXPECT_THAT(first.directory.Names(), IsEmpty());
}

TEST_F(ServerPath, RemovedByHandWithItsLockIsTheNextServers) {
  Server first("unix");
  fs::remove(first.name);
  fs::remove(first.name + ".lock");
  ChildProcess second(first.Command("SERVER"));
  second.AwaitErr("listening");
  first.process.Signal(SIGTERM);
  EXPECT_EQ(first.process.Wait(), Killed(SIGTERM));
  EXPECT_THAT(first.directory.Names(), ElementsAre("socket", "socket.lock"));
  EXPECT_TRUE(Answers(first.Connect()));
  second.Signal(SIGTERM);
  EXPECT_EQ(second.Wait(), Killed(SIGTERM));
  EXPECT_THAT(first.directory.Names(), IsEmpty());
}

TEST_F(ServerPath, ThatAStrangerHasTakenIsLeftInTheEnd) {
  Server server("unix");
  fs::remove(server.name);
  const auto stranger = server.Listen();
  server.process.Signal(SIGTERM);
  EXPECT_EQ(server.process.Wait(), Killed(SIGTERM));
  EXPECT_THAT(server.directory.Names(), ElementsAre("socket"));
  server.Connect();
}

TEST_F(ServerPath, IsOnlyItsUsers) {
  for (const mode_t mask : {0U, 022U, 077U}) {
    const Server server("unix", [mask] { ::umask(mask); });
    for (const auto& path : {server.name, server.name + ".lock"}) {
      EXPECT_EQ(State(path).status.st_mode & 07777U, 0600U | ipc::kOurs)
          << path;
    }
  }
}

TEST_F(ServerPath, HasUpTo107Bytes) {
  place_.name += std::string(107 - place_.name.size(), 'x');
  ChildProcess process(place_.Command("SERVER"));
  process.AwaitErr("listening on '" + place_.name + "'");
  EXPECT_TRUE(Answers(place_.Connect()));
}

TEST_F(ServerPath, OfMoreBytesIsRefused) {
  place_.name += std::string(108 - place_.name.size(), 'x');
  ExpectRefused(place_, "bind '" + place_.name +
                            "': Invalid argument; a path has 1 to 107 byte");
  EXPECT_THAT(place_.directory.Names(), IsEmpty());
}

TEST_F(ServerPath, IsNotEmpty) {
  place_.name = "";
  ExpectRefused(place_, "bind '': Invalid argument; a path has 1 to 107 byte");
}

TEST_F(ServerPath, WithControlCharactersIsStillOneLine) {
  place_.name += "/no\nsuch\x1b[31m/socket";
  ExpectRefused(place_, "access '" + place_.directory.path() +
                            "/socket/no?such?[31m/.': No such file or");
}

// A server at port 0 of the host says where that is.
void ExpectAnyPort(const std::string& host) {
  Place place("tcp");
  place.name = host + ":0";
  ChildProcess process(place.Command("SERVER"));
  process.AwaitErr("listening on '" + host + ":");
  const std::string said = process.Err();
  const std::size_t start = said.find('\'') + 1;
  place.name = said.substr(start, said.rfind('\'') - start);
  EXPECT_TRUE(Answers(place.Connect()));
}

TEST(ServerPort, MayBeAny) { ExpectAnyPort("127.0.0.1"); }

TEST(ServerPort, OfAnUnknownHostIsRefused) {
  Place place("tcp");
  place.name = "a..b:1";
  ExpectRefused(place, "getaddrinfo 'a..b:1': Cannot assign");
}

TEST(ServerPort, MayBeOfVersion6) {
  if (!fs::exists("/proc/net/if_inet6")) GTEST_SKIP() << "no IPv6 here";
  ExpectAnyPort("[::1]");
}

// --- Usage -------------------------------------------------------------------

TEST(ServerUsage, WrongIsStatus2) {
  for (const Words& arguments :
       std::vector<Words>{{"operand"},
                          {"--timeout", "1"},
                          {"--unix"},
                          {"--unix", "/x", "--tcp", "h:1"},
                          {"--tcp", ""},
                          {"--tcp", "none"},
                          {"--tcp", "127.0.0.1"},
                          {"--tcp", "127.0.0.1:70000"}}) {
    Words command{Program("SERVER")};
    command.insert(command.end(), arguments.begin(), arguments.end());
    ipc_testing::ExpectWrongUsage(command);
  }
}

TEST(ServerUsage, HelpIsStatus0) { ipc_testing::ExpectHelp(Program("SERVER")); }

}  // namespace
