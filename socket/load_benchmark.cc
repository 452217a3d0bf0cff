// How many messages a second a server echoes to many clients, and how long each
// of them waits: a client sends 64 bytes, and the next 64 as soon as they have
// come back.
//
// Run it beside a server, each on a core of its own (taskset).
#include <sys/epoll.h>
#include <sys/resource.h>

#include <cstdint>
#include <cstdio>

#include "address.h"

constexpr char kHelp[] =
    R"(Usage: load_benchmark [--unix PATH] [--clients N] [--seconds SECONDS]
Measures a server that sends back what each of its clients sends.

  --unix PATH        the server's path, /tmp/ipc_socket unless given
  --clients N        how many connections, 1000 unless given
  --seconds SECONDS  how long to measure once all are served, 5 unless given
)";

namespace ipc {

using Message = std::array<std::uint64_t, 8>;
constexpr Message kMessage{1, 2, 3, 4, 5, 6, 7, 8};

struct Client {
  UniqueFd fd;
  Seconds sent{};  // When its last message was.
};

void Send(int fd, const std::string& name) {
  const auto n = ::send(fd, &kMessage, sizeof(kMessage), MSG_NOSIGNAL);
  Check(n, "send", name);  // It has room for one.
}

// Waits until the message has come back.
void Receive(int fd, const std::string& name) {
  Message got;
  const auto receive = [&] {
    return ::recv(fd, &got, sizeof(got), MSG_WAITALL);
  };
  const auto n = Check(Retry(receive), "recv", name);
  if (n == sizeof(got) && got == kMessage) return;
  throw Error(n == 0 ? ECONNRESET : EBADMSG, "recv", name);
}

// Connects all, and lets the server serve each once.
std::vector<Client> Connect(std::size_t count, const std::string& name) {
  rlimit files{};
  Check(::getrlimit(RLIMIT_NOFILE, &files), "getrlimit", name);
  files.rlim_cur = files.rlim_max;
  Check(::setrlimit(RLIMIT_NOFILE, &files), "setrlimit", name);
  const Addresses address = PathAddress(name, "connect");
  std::vector<Client> clients(count);
  for (auto& [fd, sent] : clients) {
    fd = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    Check(fd.get(), "socket", name);
    Check(::connect(fd.get(), address->ai_addr, address->ai_addrlen), "connect",
          name);
    Send(fd.get(), name);
    Receive(fd.get(), name);
  }
  return clients;
}

// The times of the round trips that end within so many seconds.
std::vector<Seconds> Measure(std::vector<Client> clients, Seconds seconds,
                             const std::string& name) {
  const UniqueFd epoll(
      Check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1", name));
  const Seconds start = Now();
  for (std::size_t i = 0; i < clients.size(); ++i) {
    auto& [fd, sent] = clients[i];
    // EPOLLET: all is received at once, so there is no need to look again.
    epoll_event event{EPOLLIN | EPOLLET, {.u64 = i}};
    Check(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, fd.get(), &event),
          "epoll_ctl", name);
    sent = Now();
    Send(fd.get(), name);
  }
  std::vector<Seconds> times;
  epoll_event events[256];
  Seconds now{};
  do {
    ThrowIfStopped();
    const auto wait = [&] {
      return ::epoll_wait(epoll.get(), events, 256, 1000);
    };
    const int count = Check(Retry(wait), "epoll_wait", name);
    if (count == 0) throw Error(ETIMEDOUT, "epoll_wait", name);
    for (int i = 0; i < count; ++i) {
      auto& [fd, sent] = clients[events[i].data.u64];
      Receive(fd.get(), name);
      now = Now();
      times.push_back(now - sent);
      sent = now;
      Send(fd.get(), name);
    }
  } while (now < start + seconds);
  return times;
}

void Run(const Options& options) {
  const std::string& name = options.at("unix");
  const auto count = NumberOption(options, "clients", std::size_t{1'000'000});
  const Seconds seconds(NumberOption(options, "seconds", 3600.0));
  auto times = Measure(Connect(count, name), seconds, name);
  std::ranges::sort(times);
  const auto percentile = [&](std::size_t percent) {
    return times[(times.size() - 1) * percent / 100].count() * 1e6;
  };
  std::printf(
      "%zu clients: %.0f messages/s, round trip p50 %.0f us, p99 %.0f us\n",
      count, static_cast<double>(times.size()) / seconds.count(),
      percentile(50), percentile(99));
}

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(
      argc, argv, kHelp,
      {{"unix", ipc::kPath}, {"clients", "1000"}, {"seconds", "5"}}, ipc::Run);
}
