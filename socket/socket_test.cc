// What nobody can see of the programs from outside. Both run in this process,
// where a call does what the test wants, and time passes at once.
#include <netdb.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmath>
#include <csignal>
#include <deque>
#include <functional>

// Before the names of hosts are asked for.
static std::function<int()> ask = [] { return 0; };
static int AskFor(const char* host, const char* port, const addrinfo* hints,
                  addrinfo** found) {
  const int error = ask();
  return error != 0 ? error : ::getaddrinfo(host, port, hints, found);
}
#define getaddrinfo AskFor
#include "socket/address.h"
#undef getaddrinfo
#include "socket/test_included_pair.h"
#include "socket/test_server.h"

namespace {

using ipc_testing::Accept;
using ipc_testing::Answers;
using ipc_testing::kPatience;
using ipc_testing::Place;
using ipc_testing::Receive;
using testing::KilledBySignal;

// --- In place of the C library's ---------------------------------------------

// What the next calls of connect do: fail with an errno, connect (0), or these.
constexpr int kMeetItself = -1;  // As TCP may, where nobody listens.
constexpr int kHang = -2;        // Neither be accepted nor refused.
std::deque<int> connects;
std::function<void()> when_connected = [] {};

// Of the connection that was last accepted, also in a child.
int& no_delay =
    *static_cast<int*>(::mmap(nullptr, sizeof(int), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0));

bool simulated = false;  // Time passes as soon as somebody waits for it.
double now = 1000;

int Fail(int error) {
  errno = error;
  return -1;
}

}  // namespace

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
extern "C" int connect(int fd, const sockaddr* address, socklen_t length) {
  int how = 0;
  if (!connects.empty()) {
    how = connects.front();
    connects.pop_front();
  }
  if (how == kHang) {  // What is read from a pipe never has room.
    static int ends[2] = {-1, -1};
    if (ends[0] == -1 && ::pipe(ends) == -1) return -1;
    ::dup2(ends[0], fd);
    return Fail(EINPROGRESS);
  }
  if (how == kMeetItself) {
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    EXPECT_EQ(::bind(fd, address, length), 0);
  }
  if (how > 0 && how != EINTR) return Fail(how);
  const long result = ::syscall(SYS_connect, fd, address, length);
  if (how == EINTR) return Fail(EINTR);  // The kernel goes on connecting.
  const int error = errno;
  when_connected();
  errno = error;
  return static_cast<int>(result);
}

extern "C" int accept4(int fd, sockaddr* address, socklen_t* length,
                       int flags) {
  const auto client =
      static_cast<int>(::syscall(SYS_accept4, fd, address, length, flags));
  const int error = errno;
  socklen_t size = sizeof(no_delay);
  ::getsockopt(client, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size);
  errno = error;
  return client;
}

extern "C" int clock_gettime(clockid_t clock, timespec* time) noexcept {
  if (!simulated) {
    return static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
  }
  *time = {static_cast<time_t>(now),
           static_cast<long>(std::fmod(now, 1) * 1e9)};
  return 0;
}

extern "C" int poll(pollfd* fds, nfds_t count, int timeout) {
  const int really = simulated ? 0 : timeout;
  const timespec time{really / 1000, really % 1000 * 1'000'000L};
  const long ready = ::syscall(SYS_ppoll, fds, count,
                               really < 0 ? nullptr : &time, nullptr, 0);
  if (simulated && ready == 0) now += timeout < 0 ? 1e9 : timeout / 1e3;
  return static_cast<int>(ready);
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)

namespace {

// --- The client: connecting --------------------------------------------------

ipc::UniqueFd TryConnect(const addrinfo* address) {
  return ipc::TryConnect(address, "test", ipc::Now() + kPatience);
}

// The error with which it fails, 0 where it waits.
int ErrorOf(const addrinfo* address) {
  try {
    EXPECT_FALSE(TryConnect(address));
    return 0;
  } catch (const ipc::Error& error) {
    return error.code().value();
  }
}

// Two addresses, one after the other, as a host may have them.
struct Two {
  Two(const Place& one, const Place& other)
      : addresses{one.Addresses(), other.Addresses()},
        first(*addresses[0]),
        second(*addresses[1]) {
    first.ai_next = &second;
  }
  const addrinfo* list() const { return &first; }
  ipc::Addresses addresses[2];
  addrinfo first;
  addrinfo second;
};

class Connecting : public ipc_testing::EitherDomain {};
INSTANTIATE_TEST_SUITE_P(, Connecting, ipc_testing::BothDomains(),
                         ipc_testing::NameOf);

TEST_P(Connecting, InterruptedIsTriedWithANewSocket) {
  const Place place(GetParam());
  const auto listener = place.Listen();
  const auto address = place.Addresses();
  connects = {EINTR};
  const auto connect = [&] {
    return ipc::TryConnect(address.get(), place.name, ipc::Now() + kPatience);
  };
  EXPECT_FALSE(connect());
  const auto fd = connect();
  EXPECT_TRUE(fd);
  EXPECT_EQ(Receive(Accept(listener).get()), "");  // The first is given up.
  const auto client = Accept(listener);
  EXPECT_EQ(::send(client.get(), "hello", 5, 0), 5);
  EXPECT_EQ(Receive(fd.get()), "hello");
}

TEST(ConnectingByTcp, NeverMeetsItself) {
  Place place("tcp");
  const std::string port = place.name.substr(place.name.rfind(':'));
  for (const std::string host : {"127.0.0.1", "0.0.0.0"}) {
    place.name = host + port;
    connects = {kMeetItself};
    EXPECT_EQ(ErrorOf(place.Addresses().get()), 0) << place.name;
    EXPECT_THAT(connects, testing::IsEmpty());
  }
}

TEST(ConnectingByTcp, TriesEachAddress) {
  const Place nobody("tcp");
  const Place somebody("tcp");
  const auto listener = somebody.Listen();
  EXPECT_TRUE(TryConnect(Two(nobody, somebody).list()));
  EXPECT_TRUE(TryConnect(Two(somebody, nobody).list()));
}

TEST(ConnectingByTcp, WaitsIfAServerMayComeAtAnyAddress) {
  const Place place("tcp");
  Two two(place, place);
  for (const int later : {ECONNREFUSED, EINTR}) {
    connects = {ENETUNREACH, later};
    EXPECT_EQ(ErrorOf(two.list()), 0);
    connects = {later, ENETUNREACH};
    EXPECT_EQ(ErrorOf(two.list()), 0);
  }
  connects = {ENETUNREACH, EACCES};
  EXPECT_EQ(ErrorOf(two.list()), EACCES);
}

TEST(ConnectingByTcp, PassesOverAddressesThatTheKernelDoesNotKnow) {
  const Place place("tcp");
  Two two(place, place);
  two.first.ai_family = AF_MAX;
  EXPECT_EQ(ErrorOf(two.list()), 0);
  two.second.ai_family = AF_MAX;
  EXPECT_EQ(ErrorOf(two.list()), EAFNOSUPPORT);
}

// Only what is not there yet is waited for.
TEST(ConnectingToAPath, WithoutADescriptorIsAnError) {
  const Place nobody("unix");
  const auto address = nobody.Addresses();
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const rlimit none{0, before.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  const int error = ErrorOf(address.get());
  ::setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(error, EMFILE);
}

ipc::Options OptionsOf(const Place& place, const std::string& timeout = "inf") {
  const bool tcp = place.option == "--tcp";
  return {{"unix", tcp ? ipc::kPath : place.name},
          {"tcp", tcp ? place.name : ipc::kNotGiven},
          {"timeout", timeout},
          {"MESSAGE", "Hello World"}};
}

// Attempts that are refused take a part of it, and one that hangs the rest.
TEST(ConnectingByTcp, HasOneDeadline) {
  const Place nobody("tcp");
  connects = std::deque<int>(10, ECONNREFUSED);
  connects.push_back(kHang);
  const double start = now;
  simulated = true;
  std::string what;
  try {
    ipc::RunClient(OptionsOf(nobody, "2"));
  } catch (const ipc::Error& error) {
    what = error.text;
  }
  simulated = false;
  EXPECT_EQ(what, "poll '" + nobody.name +
                      "': Connection timed out; waited for a server");
  EXPECT_THAT(connects, testing::IsEmpty());
  EXPECT_NEAR(now - start, 2, 0.01);
}

// A name server that is slow: glibc asks on, whatever signal comes.
TEST(ConnectingByTcpDeathTest, DiesOfASignalWhileTheHostIsAskedFor) {
  char program[] = "program";
  char tcp[] = "--tcp=localhost:1";
  char* argv[] = {program, tcp, nullptr};
  for (const int answer : {EAI_AGAIN, 0}) {
    ask = [answer] { return ::raise(SIGTERM) + answer; };
    EXPECT_EXIT(ClientMain(2, argv), KilledBySignal(SIGTERM), testing::Eq(""));
  }
  ask = [] { return ::raise(SIGTERM) + EAI_AGAIN; };
  EXPECT_EXIT(ServerMain(2, argv), KilledBySignal(SIGTERM), testing::Eq(""));
  ask = [] { return 0; };
}

// --- SIGPIPE -----------------------------------------------------------------
//
// A test, unlike a program, doesn't ignore it: MSG_NOSIGNAL has to do.

TEST(ConnectingToAPath, WhoseServerGoesIsAnErrorAndNoSignal) {
  const Place place("unix");
  auto listener = place.Listen();
  when_connected = [&] { listener = ipc::UniqueFd(); };
  EXPECT_THROW(ipc::RunClient(OptionsOf(place)), ipc::Error);
  when_connected = [] {};
}

// In a child.
class Serving : public testing::Test {
 protected:
  static ipc_testing::ChildProcess Start(const Place& place) {
    return ipc_testing::ChildProcess({"unused"}, "", [&] {
      ::_exit(ipc::ExitStatus([&] { ipc::RunServer(OptionsOf(place)); }));
    });
  }
};

TEST_F(Serving, AClientThatGoesIsNoSignal) {
  const Place place("unix");
  auto server = Start(place);
  server.AwaitErr("listening");
  auto going = place.Connect();
  const auto other = place.Connect();
  EXPECT_TRUE(Answers(going));
  EXPECT_TRUE(Answers(other));
  server.Stop();  // Until the one to whom it has to send has gone.
  EXPECT_EQ(::send(going.get(), "hello", 5, 0), 5);
  going = ipc::UniqueFd();
  server.Signal(SIGCONT);
  EXPECT_TRUE(Answers(other));
}

// Its time is the kernel's: what matters is that it is asked for.
TEST_F(Serving, HoldsNoSmallReplyBack) {
  const Place place("tcp");
  auto server = Start(place);
  server.AwaitErr("listening");
  EXPECT_TRUE(Answers(place.Connect()));
  EXPECT_EQ(no_delay, 1);
}

}  // namespace
