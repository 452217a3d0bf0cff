// What fifo.h costs, beside bare read and write on a FIFO.
#include "fifo.h"
#include "testing/benchmark.h"

namespace {

using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

// A FIFO each way. Both processes make what they read from first.
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

struct Header {
  using Shared = Paths;
  Header(const Paths& paths, Side side)
      : in(paths.In(side), os::kForever),
        out(paths.Out(side), ipc::FifoWriter::Sends::kStream, os::kForever) {}
  void Send(const Message& message) { out.Write(os::Bytes(message)); }
  void Receive(Message& message) {
    auto rest = std::as_writable_bytes(std::span(message));
    while (!rest.empty()) {
      const std::size_t n = in.Read(rest);
      if (n == 0) throw os::Error(EPIPE, "read", "fifo");
      rest = rest.subspan(n);
    }
  }
  ipc::FifoReader in;
  ipc::FifoWriter out;
};

struct Floor {
  struct Shared : Paths {
    explicit Shared(const Setup& setup) : Paths(setup) {
      for (const Side side : {Side::kParent, Side::kChild}) {
        os::Check("mkfifo", In(side), ::mkfifo, In(side).c_str(), 0600U);
        names.emplace_back(::unlink, In(side));
      }
    }
    std::vector<os::OwnedName> names;
  };
  Floor(const Shared& paths, Side side) {
    const auto open = [](const std::string& path, int flags) {
      return os::UniqueFd(os::Check("open", path, ::open, path.c_str(), flags));
    };
    // Open waits for the other end: the same one first on both sides.
    if (side == Side::kParent) out = open(paths.Out(side), O_WRONLY);
    in = open(paths.In(side), O_RDONLY);
    if (side == Side::kChild) out = open(paths.Out(side), O_WRONLY);
  }
  void Send(const Message& message) const {
    ipc_benchmark::BareWrite(out.get(), message);
  }
  void Receive(Message& message) const {
    ipc_benchmark::BareRead(in.get(), message);
  }
  os::UniqueFd in;
  os::UniqueFd out;
};

}  // namespace

int main(int argc, char** argv) {
  return ipc_benchmark::Main(
      argc, argv, [] { ipc_benchmark::Register<Header, Floor>("fifo"); });
}
