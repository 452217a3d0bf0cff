// What the calls of reader.cc and writer.cc cost as they make them, beside bare
// read and write on a FIFO.
#include <optional>

#include "name.h"
#include "program.h"
#include "testing/benchmarks/benchmark.h"

namespace {

using ipc::UniqueFd;
using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

// A FIFO each way.
struct Paths {
  explicit Paths(const Setup& setup) : path("/tmp/" + setup.name) {}
  std::string In(Side side) const {
    return path + (side == Side::kChild ? "-child" : "-parent");
  }
  std::string Out(Side side) const {
    return path + (side == Side::kChild ? "-parent" : "-child");
  }
  std::string path;
};

UniqueFd MakeFifo(const std::string& path, int oflag) {
  ipc::Check(::mkfifo(path.c_str(), 0600 | ipc::kOurs), "mkfifo", path);
  UniqueFd fd(::open(path.c_str(), oflag | O_NONBLOCK | O_CLOEXEC));
  ipc::Check(fd.get(), "open", path);
  return fd;
}

// Both processes make what they read from first.
struct Samples {
  using Shared = Paths;
  Samples(const Paths& paths, Side side)
      : in(MakeFifo(paths.In(side), O_RDONLY)),
        owned(::unlink, "mkfifo", paths.In(side), in.get()) {
    ::fcntl(in.get(), F_SETPIPE_SZ, 4 * sizeof(ipc::Block));
    const std::string name = paths.Out(side);
    ipc::PeerWait wait{"a reader", "open", name, ipc::kForever};
    while (!(out = UniqueFd(
                 ::open(name.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC)))) {
      wait.Pause();
    }
  }
  void Send(const Message& message) const {
    ipc::WriteAll(out.get(), message, "fifo");
  }
  void Receive(Message& message) {
    if (!met) {
      ipc::PollFor("a writer", in.get(), POLLIN, ipc::kForever, "fifo");
      ipc::Check(::fcntl(in.get(), F_SETFL, 0), "fcntl", "fifo");
      met = true;
    }
    for (std::size_t done = 0; done < message.size();) {
      ipc::ThrowIfStopped();
      const auto n = ipc::Retry([&] {
        return ::read(in.get(), &message[done], message.size() - done);
      });
      if (ipc::Check(n, "read", "fifo") == 0) {
        throw ipc::Error(EPIPE, "read", "fifo");
      }
      done += static_cast<std::size_t>(n);
    }
  }
  UniqueFd in;
  ipc::OwnedName owned;
  UniqueFd out;
  bool met = false;  // A writer has been there.
};

struct Floor {
  struct Shared : Paths {
    explicit Shared(const Setup& setup)
        : Paths(setup),
          fds{MakeFifo(In(Side::kParent), O_RDWR),
              MakeFifo(In(Side::kChild), O_RDWR)},
          owned{ipc::OwnedName(::unlink, "mkfifo", In(Side::kParent),
                               fds[0].get()),
                ipc::OwnedName(::unlink, "mkfifo", In(Side::kChild),
                               fds[1].get())} {}
    std::array<UniqueFd, 2> fds;
    std::array<ipc::OwnedName, 2> owned;
  };
  Floor(const Shared& paths, Side side) {
    const auto open = [](const std::string& path, int flags) {
      return UniqueFd(
          ipc::Check(::open(path.c_str(), flags | O_CLOEXEC), "open", path));
    };
    in = open(paths.In(side), O_RDONLY);
    out = open(paths.Out(side), O_WRONLY);
  }
  void Send(const Message& message) const {
    ipc_benchmark::BareWrite(out.get(), message);
  }
  void Receive(Message& message) const {
    ipc_benchmark::BareRead(in.get(), message);
  }
  UniqueFd in;
  UniqueFd out;
};

}  // namespace

int main(int argc, char** argv) {
  return ipc_benchmark::Main(
      argc, argv, [] { ipc_benchmark::Register<Samples, Floor>("fifo"); });
}
