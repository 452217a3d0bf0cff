#include "testing/faults/mechanisms.h"

#include <fcntl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace ipc_testing {
namespace {

using Words = std::vector<std::string>;

// --- Places ------------------------------------------------------------------

std::string FreshName(const TemporaryDirectory& /*directory*/) {
  return UniqueName();
}
std::string FreshPath(const TemporaryDirectory& directory) {
  return directory / "name";
}

Words IfOpen(int fd, const std::string& name) {
  if (fd == -1) return {};
  ::close(fd);
  return {name};
}

const Place kNowhere{[](const TemporaryDirectory&) { return std::string(); }};

const Place kSharedMemory{
    FreshName,
    [](const std::string& name) {
      return IfOpen(::shm_open(name.c_str(), O_RDONLY, 0), name);
    },
    ::shm_unlink,
    [](const std::string& name) {
      const int fd = ::shm_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600);
      ::close(::ftruncate(fd, 176) == 0 ? fd : -1);
    },
};

const Place kQueue{
    FreshName,
    [](const std::string& name) {
      return IfOpen(::mq_open(name.c_str(), O_RDONLY), name);
    },
    ::mq_unlink,
    [](const std::string& name) {
      mq_attr attributes{};
      attributes.mq_maxmsg = 10;
      attributes.mq_msgsize = 128;
      const mqd_t queue =
          ::mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600,
                    &attributes);
      ::mq_send(queue, "a stranger's", 12, 1);
      ::mq_close(queue);
    },
    [](const std::string& name) {
      mq_attr attributes{};
      const mqd_t queue = ::mq_open(name.c_str(), O_RDONLY);
      ::mq_getattr(queue, &attributes);
      ::mq_close(queue);
      return attributes.mq_curmsgs;
    },
};

Words PresentPaths(const std::string& path) {
  Words present;
  for (const std::string& name : {path, path + ".lock"}) {
    struct stat status {};
    if (::lstat(name.c_str(), &status) == 0) present.push_back(name);
  }
  return present;
}
const Place kFifoPath{
    FreshPath, PresentPaths, ::unlink,
    [](const std::string& path) { ::mkfifo(path.c_str(), 0600); }};

const Place kSocketPath{
    FreshPath, PresentPaths, ::unlink, [](const std::string& path) {
      sockaddr_un address{AF_UNIX, {}};
      path.copy(address.sun_path, sizeof(address.sun_path) - 1);
      const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      const auto* any = reinterpret_cast<const sockaddr*>(&address);
      ::close(::bind(fd, any, sizeof(address)) == 0 ? fd : -1);
    }};

// A socket's name that is no file: it goes with its process.
const Place kAbstract{FreshName};

// It has to be known before the server says it, which may be made to fail. It
// is below those that the kernel gives to clients.
std::string FreePort(const TemporaryDirectory& /*directory*/) {
  static std::atomic<unsigned> count = 0;
  for (;;) {
    const unsigned port =
        10'000 + (static_cast<unsigned>(::getpid()) * 977 + count++) % 20'000;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // Another thread's child may have it, too, until its exec: that must not
    // keep the server from binding.
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const int bound =
        ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address));
    ::close(fd);
    if (bound == 0) return "127.0.0.1:" + std::to_string(port);
  }
}
const Place kTcpPort{FreePort};

// --- The rows ----------------------------------------------------------------

Message Operand(const std::string& text) {
  return {"", {text}, "", text + "\n"};
}

std::vector<Mechanism> MakeMechanisms() {
  const std::string bytes = RandomBytes(100'000);
  const Message stream{"Stream", {"-"}, bytes, bytes};
  const Message input{"", {}, bytes, bytes};  // Where no operand says so.
  const Message lines{"Stream", {"-"}, "one\ntwo\n", "one\ntwo\n"};
  return {
      {.name = "Shm",
       .sides = {{"Reader", "SHM_READER"}, {"Writer", "SHM_WRITER"}},
       .naming = "--name",
       .place = kSharedMemory,
       .owner = kSender,
       .messages = {Operand("Hello World")}},
      {.name = "Ring",
       .sides = {{"Reader", "SHM_RING_READER"}, {"Writer", "SHM_RING_WRITER"}},
       .naming = "--name",
       .place = kSharedMemory,
       .owner = kSender,
       .messages = {input}},
      {.name = "Memfd",
       .sides = {{"Reader", "SHM_MEMFD_READER"},
                 {"Writer", "SHM_MEMFD_WRITER"}},
       .naming = "--name",
       .place = kAbstract,
       .messages = {input}},
      {.name = "Pipe",
       .sides = {{"Child", ""},
                 {.role = "Parent", .variable = "PIPE", .times_out = false}},
       .naming = "",
       .place = kNowhere,
       .prints = kSender,
       .messages = {Operand("Hello World!"), stream}},
      {.name = "Filter",
       .sides = {{.role = "", .variable = "", .is_target = false},
                 {.role = "", .variable = "PIPE_FILTER", .times_out = false}},
       .naming = "",
       .place = kNowhere,
       .prints = kSender,
       .messages = {{"", {"cat"}, bytes, bytes}}},
      {.name = "Fifo",
       .sides = {{"Reader", "FIFO_READER"}, {"Writer", "FIFO_WRITER"}},
       .naming = "--path",
       .place = kFifoPath,
       .messages = {Operand("Hello World"), stream},
       .receipt = Receipt::kNoFailure,
       .loses = true},
      {.name = "FifoKeep",
       .sides = {{"Reader", "FIFO_READER", {"--keep"}},
                 {.role = "Writer",
                  .variable = "FIFO_WRITER",
                  .is_target = false}},
       .naming = "--path",
       .place = kFifoPath,
       .ending = Ending::kSigterm,
       .messages = {Operand("Hello World")},
       .receipt = Receipt::kNoFailure,
       .loses = true},
      {.name = "Mqueue",
       .sides = {{"Server", "MQUEUE_SERVER"}, {"Client", "MQUEUE_CLIENT"}},
       .naming = "--name",
       .place = kQueue,
       .ending = Ending::kQuit,
       .messages = {Operand("Hello World"), lines},
       .receipt = Receipt::kNothing,
       .acknowledges = true},
      {.name = "Unix",
       .sides = {{.role = "Server",
                  .variable = "SOCKET_SERVER",
                  .times_out = false},
                 {"Client", "SOCKET_CLIENT"}},
       .naming = "--unix",
       .place = kSocketPath,
       .prints = kSender,
       .ending = Ending::kSigterm,
       .messages = {Operand("Hello World"), stream}},
      {.name = "Tcp",
       .sides = {{.role = "Server",
                  .variable = "SOCKET_SERVER",
                  .times_out = false},
                 {"Client", "SOCKET_CLIENT"}},
       .naming = "--tcp",
       .place = kTcpPort,
       .prints = kSender,
       .ending = Ending::kSigterm,
       .messages = {Operand("Hello World")}},
  };
}

}  // namespace

const std::vector<Mechanism>& Mechanisms() {
  static const std::vector<Mechanism> mechanisms = MakeMechanisms();
  return mechanisms;
}

// --- Scenarios ---------------------------------------------------------------

std::string Scenario::Expected() const {
  const bool left = before == Before::kLeftover && mechanism->Keeps();
  return (left ? std::string(kLeftMessage) + "\n" : "") + message->expected;
}

void PrintTo(const Scenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

std::vector<Scenario> Scenarios() {
  std::vector<Scenario> scenarios;
  for (const Mechanism& mechanism : Mechanisms()) {
    for (const Role target : {kReceiver, kSender}) {
      const Side& side = mechanism.sides[target];
      if (!side.is_target) continue;
      const std::string name = mechanism.name + side.role;
      for (const Message& message : mechanism.messages) {
        if (mechanism.IsOneProgram()) {
          scenarios.push_back(
              {name + message.suffix, &mechanism, &message, target, true});
          continue;
        }
        for (const bool first : {true, false}) {
          scenarios.push_back(
              {name + (first ? "First" : "Second") + message.suffix, &mechanism,
               &message, target, first});
        }
      }
      if (!mechanism.HasName()) continue;
      const Message* message = &mechanism.messages.front();
      const auto add = [&](const std::string& suffix, Before before) {
        scenarios.push_back(
            {name + suffix, &mechanism, message, target, true, before});
      };
      add("Stranger", Before::kStranger);
      if (target != mechanism.owner) continue;
      add("Leftover", Before::kLeftover);
      add("Taken", Before::kTaken);
    }
  }
  return scenarios;
}

}  // namespace ipc_testing
