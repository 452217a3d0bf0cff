// What the calls of server.cc and client.cc cost as they make them, beside bare
// mq_send and mq_receive, which wait in the kernel.
#include <fstream>

#include "name.h"
#include "program.h"
#include "queue.h"
#include "testing/benchmarks/benchmark.h"

namespace {

using ipc::UniqueQueue;
using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

// A queue each way, made before the fork.
struct Queues {
  explicit Queues(const Setup& setup)
      : name("/" + setup.name),
        queues{Make("-parent", setup.size), Make("-child", setup.size)},
        owned{ipc::OwnedName(::mq_unlink, "mq_open", name + "-parent",
                             queues[0].get()),
              ipc::OwnedName(::mq_unlink, "mq_open", name + "-child",
                             queues[1].get())} {}
  UniqueQueue Make(const char* side, std::size_t size) const {
    mq_attr attributes{};
    attributes.mq_maxmsg = 10;
    attributes.mq_msgsize = static_cast<long>(size);
    UniqueQueue queue(::mq_open((name + side).c_str(),
                                O_CREAT | O_EXCL | O_RDWR,
                                S_IRUSR | S_IWUSR | ipc::kOurs, &attributes));
    ipc::Check(queue.get(), "mq_open", name + side);
    return queue;
  }
  // That from which this side receives, and that of the other.
  std::string In(Side side) const {
    return name + (side == Side::kChild ? "-child" : "-parent");
  }
  std::string Out(Side side) const {
    return name + (side == Side::kChild ? "-parent" : "-child");
  }

  std::string name;
  std::array<UniqueQueue, 2> queues;
  std::array<ipc::OwnedName, 2> owned;
};

struct Link {
  using Shared = Queues;
  Link(const Queues& shared, Side side, int flags)
      : name(shared.Out(side)),
        in(::mq_open(shared.In(side).c_str(), O_RDWR | flags)),
        out(::mq_open(name.c_str(), O_WRONLY | flags)) {
    ipc::Check(in.get(), "mq_open", shared.In(side));
    ipc::Check(out.get(), "mq_open", name);
  }
  void Send(const Message& message) const {
    ipc::Check(::mq_send(out.get(), message.data(), message.size(), 1),
               "mq_send", name);
  }
  void Receive(Message& message) const {
    const ssize_t size =
        ::mq_receive(in.get(), message.data(), message.size(), nullptr);
    message.resize(
        static_cast<std::size_t>(ipc::Check(size, "mq_receive", name)));
  }
  std::string name;
  UniqueQueue in;
  UniqueQueue out;
};

struct Floor : Link {
  Floor(const Queues& shared, Side side) : Link(shared, side, 0) {}
};

struct Samples : Link {
  Samples(const Queues& shared, Side side) : Link(shared, side, O_NONBLOCK) {
    ipc::SetLock(in.get(), F_WRLCK, ipc::kServerAlive, 1, name);
    // As the client does, until the server at the other side lives.
    ipc::PeerWait wait{"a server", "mq_open", name, ipc::kForever};
    while (!ipc::IsLocked(out.get(), ipc::kServerAlive, name)) wait.Pause();
  }
  void Send(const Message& message) const {
    while (::mq_send(out.get(), message.data(), message.size(), 1) == -1) {
      if (errno != EAGAIN) throw ipc::Error(errno, "mq_send", name);
      ipc::PollFor("room", out.get(), POLLOUT, ipc::kForever, name);
    }
    // What the client asks before it says that the message is sent.
    if (ipc::IsLocked(out.get(), ipc::kServerAlive, name)) return;
    throw ipc::Error(EPIPE, "mq_send", name);
  }
  void Receive(Message& message) const {
    ipc::PollFor("a message", in.get(), POLLIN, ipc::kForever, name);
    ipc::PollFor("room", STDOUT_FILENO, POLLOUT, ipc::kForever, name);
    Link::Receive(message);
  }
};

// What the system lets a message have at most. mq_overview(7)
std::size_t MostBytes() {
  std::size_t most = 8192;
  std::ifstream("/proc/sys/fs/mqueue/msgsize_max") >> most;
  return most;
}

}  // namespace

int main(int argc, char** argv) {
  return ipc_benchmark::Main(argc, argv, [] {
    std::vector<std::size_t> sizes(ipc_benchmark::kSizes.begin(),
                                   ipc_benchmark::kSizes.end());
    std::erase_if(sizes, [](std::size_t size) { return size > MostBytes(); });
    ipc_benchmark::Register<Samples, Floor>("mqueue", sizes);
  });
}
