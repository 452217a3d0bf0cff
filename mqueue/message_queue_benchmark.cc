// What message_queue.h costs, beside bare mq_send and mq_receive.
#include <fstream>

#include "message_queue.h"
#include "testing/benchmark.h"

namespace {

using ipc_benchmark::Message;
using ipc_benchmark::Setup;
using ipc_benchmark::Side;

constexpr long kMessages = 10;  // In a queue.

// A queue each way. Both processes make what they receive from first.
struct Names {
  explicit Names(const Setup& setup)
      : name("/" + setup.name), size(static_cast<long>(setup.size)) {}
  std::string In(Side side) const {
    return name + (side == Side::kChild ? "-child" : "-parent");
  }
  std::string Out(Side side) const {
    return name + (side == Side::kChild ? "-parent" : "-child");
  }
  std::string name;
  long size;
};

struct Header {
  using Shared = Names;
  Header(const Names& names, Side side)
      : in(ipc::MessageQueue::Create(names.In(side), os::kForever, kMessages,
                                     names.size)),
        out(ipc::MessageQueue::Open(names.Out(side), os::kForever)) {}
  void Send(const Message& message) { out.Send(message, 1); }
  void Receive(Message& message) { message = in.Receive(); }
  ipc::MessageQueue in;
  ipc::MessageQueue out;
};

struct Floor {
  struct Shared : Names {
    explicit Shared(const Setup& setup) : Names(setup) {
      for (const Side side : {Side::kParent, Side::kChild}) {
        mq_attr attributes{};
        attributes.mq_maxmsg = kMessages;
        attributes.mq_msgsize = size;
        queues.emplace_back(os::Check("mq_open", In(side), ::mq_open,
                                      In(side).c_str(), O_CREAT | O_RDWR, 0600U,
                                      &attributes));
        names.emplace_back(::mq_unlink, In(side));
      }
    }
    std::vector<os::UniqueFd> queues;
    std::vector<os::OwnedName> names;
  };
  Floor(const Shared& shared, Side side)
      : in(shared.queues[side == Side::kChild ? 1 : 0].get()),
        out(shared.queues[side == Side::kChild ? 0 : 1].get()) {}
  void Send(const Message& message) const {
    if (::mq_send(out, message.data(), message.size(), 1) == -1) {
      throw os::Error(errno, "mq_send", "floor");
    }
  }
  void Receive(Message& message) const {
    const auto n = ::mq_receive(in, message.data(), message.size(), nullptr);
    if (n == -1) throw os::Error(errno, "mq_receive", "floor");
    message.resize(static_cast<std::size_t>(n));
  }
  mqd_t in;
  mqd_t out;
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
    ipc_benchmark::Register<Header, Floor>("mqueue", sizes);
  });
}
