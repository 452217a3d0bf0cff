// What pipe.h costs, beside bare read and write on a pipe.
#include "pipe.h"
#include "testing/benchmark.h"

namespace {

using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

// A pipe each way, of which each process keeps one end.
struct Ends {
  struct Shared {
    explicit Shared(const Setup& /*setup*/) {}
    ipc::Pipe to_child;
    ipc::Pipe to_parent;
  };
  Ends(Shared& shared, Side side) {
    const bool child = side == Side::kChild;
    in = std::move((child ? shared.to_child : shared.to_parent).read_end);
    out = std::move((child ? shared.to_parent : shared.to_child).write_end);
    // Or who is left would wait for ever for one that died.
    for (ipc::Pipe* pipe : {&shared.to_child, &shared.to_parent}) {
      pipe->read_end.Close();
      pipe->write_end.Close();
    }
  }
  os::UniqueFd in;
  os::UniqueFd out;
};

struct Header : Ends {
  using Ends::Ends;
  void Send(const Message& message) const {
    os::WriteAll(out.get(), os::Bytes(message), "pipe");
  }
  void Receive(Message& message) const {
    auto rest = std::as_writable_bytes(std::span(message));
    while (!rest.empty()) {
      const std::size_t n = os::ReadSome(in.get(), rest, "pipe");
      if (n == 0) throw os::Error(EPIPE, "read", "pipe");
      rest = rest.subspan(n);
    }
  }
};

struct Floor : Ends {
  struct Shared : Ends::Shared {
    explicit Shared(const Setup& setup) : Ends::Shared(setup) {
      for (const ipc::Pipe* pipe : {&to_child, &to_parent}) {
        ::fcntl(pipe->write_end.get(), F_SETPIPE_SZ, 65536);  // As pipe does.
      }
    }
  };
  using Ends::Ends;
  void Send(const Message& message) const {
    ipc_benchmark::BareWrite(out.get(), message);
  }
  void Receive(Message& message) const {
    ipc_benchmark::BareRead(in.get(), message);
  }
};

}  // namespace

int main(int argc, char** argv) {
  return ipc_benchmark::Main(
      argc, argv, [] { ipc_benchmark::Register<Header, Floor>("pipe"); });
}
