// What send, recv and poll cost on a connection that doesn't block, as the
// samples use it, beside bare write and read.
#include <unistd.h>

#include <cerrno>

#include "address.h"
#include "testing/benchmarks/benchmark.h"

namespace {

using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

// A listening socket, the parent's, and where it is.
template <bool kTcp>
struct Server {
  explicit Server(const Setup& setup)
      : name("/tmp/" + setup.name),
        address(kTcp ? ipc::TcpAddresses("127.0.0.1:0", 0)
                     : ipc::PathAddress(name, "bind")),
        listener(Socket()) {
    ipc::Check(::bind(listener.get(), address->ai_addr, address->ai_addrlen),
               "bind", name);
    ipc::Check(::listen(listener.get(), 1), "listen", name);
    if (!kTcp) return;
    const int port = ipc::Port(listener.get(), ::getsockname);
    address = ipc::TcpAddresses("127.0.0.1:" + std::to_string(port), 1);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    if (!kTcp) ::unlink(name.c_str());
  }
  ipc::UniqueFd Socket() const {
    ipc::UniqueFd fd(
        ::socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;
    ::setsockopt(ipc::Check(fd.get(), "socket", name), IPPROTO_TCP, TCP_NODELAY,
                 &on, sizeof(on));
    return fd;
  }

  std::string name;
  ipc::Addresses address;
  ipc::UniqueFd listener;
};

// The bare calls.
template <bool kTcp>
struct Floor {
  using Shared = Server<kTcp>;
  Floor(const Shared& server, Side side) {
    if (side == Side::kParent) {
      fd = ipc::UniqueFd(
          ::accept4(server.listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
      ipc::Check(fd.get(), "accept4", server.name);
      return;
    }
    fd = server.Socket();
    ipc::Check(::connect(fd.get(), server.address->ai_addr,
                         server.address->ai_addrlen),
               "connect", server.name);
  }
  void Send(const Message& message) {
    ipc_benchmark::BareWrite(fd.get(), message);
  }
  void Receive(Message& message) { ipc_benchmark::BareRead(fd.get(), message); }

  ipc::UniqueFd fd;
};

template <bool kTcp>
struct Samples : Floor<kTcp> {
  using Shared = Server<kTcp>;
  Samples(const Shared& server, Side side) : Floor<kTcp>(server, side) {
    ipc::Check(::fcntl(this->fd.get(), F_SETFL, O_NONBLOCK), "fcntl",
               server.name);
  }
  // Whether bytes were sent or received; waits for `events` where none could
  // be.
  bool Moved(ssize_t n, short events) {
    if (n > 0) return true;
    if (n == 0) throw ipc::Error(ECONNRESET, "recv", "benchmark");
    if (errno != EAGAIN) throw ipc::Error(errno, "send", "benchmark");
    ipc::PollFor("it", this->fd.get(), events, ipc::kForever, "benchmark");
    return false;
  }
  void Send(const Message& message) {
    for (std::size_t done = 0; done < message.size();) {
      const auto n = ::send(this->fd.get(), message.data() + done,
                            message.size() - done, MSG_NOSIGNAL);
      if (Moved(n, POLLOUT)) done += static_cast<std::size_t>(n);
    }
  }
  void Receive(Message& message) {
    for (std::size_t done = 0; done < message.size();) {
      const auto n = ::recv(this->fd.get(), message.data() + done,
                            message.size() - done, 0);
      if (Moved(n, POLLIN)) done += static_cast<std::size_t>(n);
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  return ipc_benchmark::Main(argc, argv, [] {
    ipc_benchmark::Register<Samples<false>, Floor<false>>("socket_unix");
    ipc_benchmark::Register<Samples<true>, Floor<true>>("socket_tcp");
  });
}
