// What the calls of pipe.cc cost as it makes them, beside bare read and write
// on a pipe.
#include "posix.h"
#include "testing/benchmarks/benchmark.h"

namespace {

using ipc::UniqueFd;
using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

struct Pipe {
  explicit Pipe(int room) {
    int ends[2];
    ipc::Check(::pipe2(ends, O_CLOEXEC), "pipe2", "pipe");
    read_end = UniqueFd(ends[0]);
    write_end = UniqueFd(ends[1]);
    ::fcntl(ends[1], F_SETPIPE_SZ, room);
  }
  UniqueFd read_end;
  UniqueFd write_end;
};

// A pipe each way, of which each process keeps one end.
template <int kRoom>
struct Ends {
  struct Shared {
    explicit Shared(const Setup& /*setup*/) {}
    Pipe to_child{kRoom};
    Pipe to_parent{kRoom};
  };
  Ends(Shared& shared, Side side) {
    const bool child = side == Side::kChild;
    in = std::move((child ? shared.to_child : shared.to_parent).read_end);
    out = std::move((child ? shared.to_parent : shared.to_child).write_end);
    // Or who is left would wait for ever for one that died.
    for (Pipe* pipe : {&shared.to_child, &shared.to_parent}) {
      pipe->read_end = UniqueFd();
      pipe->write_end = UniqueFd();
    }
  }
  UniqueFd in;
  UniqueFd out;
};

struct Sample : Ends<4 * sizeof(ipc::Block)> {
  using Ends::Ends;
  void Send(const Message& message) const {
    ipc::WriteAll(out.get(), message, "pipe");
  }
  void Receive(Message& message) const {
    for (std::size_t done = 0; done < message.size();) {
      ipc::ThrowIfStopped();
      const auto n = ipc::Retry([&] {
        return ::read(in.get(), &message[done], message.size() - done);
      });
      if (ipc::Check(n, "read", "pipe") == 0) {
        throw ipc::Error(EPIPE, "read", "pipe");
      }
      done += static_cast<std::size_t>(n);
    }
  }
};

struct Floor : Ends<65536> {  // As pipe makes it.
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
      argc, argv, [] { ipc_benchmark::Register<Sample, Floor>("pipe"); });
}
