// What socket.h and posix.h cost on a connection, beside bare send and recv.
#include "socket.h"
#include "testing/benchmark.h"

namespace {

using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

// A listening server, the parent's, and where it is.
template <bool kTcp>
struct Server {
  explicit Server(const Setup& setup)
      : listener(kTcp ? ipc::Address::Tcp("127.0.0.1:0")
                      : ipc::Address::Unix("/tmp/" + setup.name)),
        address(kTcp ? ipc::Address::Of(listener.fd())
                     : ipc::Address::Unix("/tmp/" + setup.name)) {}
  ipc::Listener listener;
  ipc::Address address;
};

template <bool kTcp>
struct Header {
  using Shared = Server<kTcp>;
  Header(const Shared& server, Side side) : name(server.address.name) {
    if (side == Side::kChild) {
      fd = ipc::Connect(server.address, os::kForever);
    } else {
      os::PollFor("a client", server.listener.fd(), POLLIN, name, os::kForever);
      server.listener.Accept(fd);
    }
    // Who does nothing but wait for this one connection needs no poll.
    os::Check("fcntl", name, ::fcntl, fd.get(), F_SETFL, 0);
  }
  void Send(const Message& message) {
    os::WriteAll(fd.get(), os::Bytes(message), name);
  }
  void Receive(Message& message) {
    auto rest = std::as_writable_bytes(std::span(message));
    while (!rest.empty()) {
      const std::size_t n = os::ReadSome(fd.get(), rest, name);
      if (n == 0) throw os::Error(ECONNRESET, "read", name);
      rest = rest.subspan(n);
    }
  }
  std::string name;
  os::UniqueFd fd;
};

template <bool kTcp>
struct Floor : Header<kTcp> {
  using Header<kTcp>::Header;
  void Send(const Message& message) {
    ipc_benchmark::BareWrite(this->fd.get(), message);
  }
  void Receive(Message& message) {
    ipc_benchmark::BareRead(this->fd.get(), message);
  }
};

}  // namespace

int main(int argc, char** argv) {
  return ipc_benchmark::Main(argc, argv, [] {
    ipc_benchmark::Register<Header<false>, Floor<false>>("socket_unix");
    ipc_benchmark::Register<Header<true>, Floor<true>>("socket_tcp");
  });
}
