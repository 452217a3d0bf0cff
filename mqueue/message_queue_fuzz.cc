// Messages of any length, content and priority, in a queue of any attributes:
// what a client makes of the queue, and what the server prints.
#include <functional>

#include "mqueue/message_queue.h"
#include "testing/fuzz.h"

// The server itself, saying nothing.
namespace os {
static void Hush(const std::string& /*text*/) {}
}  // namespace os
#define Say Hush
#define main ServerMain
#include "mqueue/server.cc"
#undef Say
#undef main

namespace {

using ipc_testing::Require;

using Messages = std::multimap<unsigned, std::string, std::greater<>>;

// What the server has to print, and whether one of them ends it.
std::pair<std::string, bool> Expected(const Messages& messages) {
  std::string text;
  bool quit = false;
  for (const auto& [priority, message] : messages) {
    if (message == "quit") {
      quit = true;
    } else {
      text += message + "\n";
    }
  }
  return {text, quit};
}

// The client, on a queue whose server lives but receives nothing.
Messages Send(const std::string& name, ipc_testing::FuzzInput& input,
              const mq_attr& attributes) {
  Messages sent;
  auto client = ipc::MessageQueue::Open(name, os::Timeout(0));
  const auto room = static_cast<std::size_t>(attributes.mq_maxmsg);
  const auto longest = static_cast<std::size_t>(attributes.mq_msgsize);
  Require(client.max_bytes() == longest, "the client knows the limit");
  while (!input.empty()) {
    const unsigned priority = input.Byte() * 257U;
    const std::string message = input.Text(input.Byte());
    const bool fits = message.size() <= longest && sent.size() < room &&
                      priority < 32768U;  // MQ_PRIO_MAX
    try {
      client.Send(message, priority);
      Require(fits, "what does not fit is refused");
      sent.emplace(priority, message);
    } catch (const os::Error&) {
      Require(!fits, "what fits is sent");
    }
  }
  return sent;
}

}  // namespace

// Bytes that say the mode and the attributes, and then for each message its
// priority, its length and itself.
std::vector<std::string> ipc_testing::Seeds() {
  using namespace std::string_literals;
  const std::string right = "\0\x0a\x80"s;
  return {
      right + "\1\5hello\1\0\1\4quit"s,
      right + "\0\4quit\x7f\5first\1\4quit\0\5quit\0"s,
      right + "\1\x80"s + std::string(128, 'a') + "\1\x81" +
          std::string(129, 'b'),
      right + "\x80\1p\1\1\1\1\1\2\1\1\3\1\1\4\1\1\5\1\1\6\1\1\7\1\1\b\1\1\t"s,
      right + "\1\1a\1\1b\1\1c\1\1d\1\1e\1\1f\1\1g\1\1h\1\1i\1\1j\1\1k"s,
      "\1\x0a\x80\1\1m"s,
      "\0\x0a\x7f\1\1m"s,
      "\0\x09\x80\1\1m"s,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static const std::string name = "/ipc-fuzz-" + std::to_string(::getpid());
  ipc_testing::FuzzInput input(data, size);
  const bool open_to_all = (input.Byte() & 1) != 0;
  mq_attr attributes{};
  attributes.mq_maxmsg = std::clamp<long>(input.Byte(), 1, 10);
  attributes.mq_msgsize = std::clamp<long>(input.Byte(), 1, 255);
  os::UniqueFd left(
      ::mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &attributes));
  Require(static_cast<bool>(left), "mq_open");
  const os::OwnedName remove(::mq_unlink, name);
  if (open_to_all) ::fchmod(left.get(), 0666);
  os::TryLock(left.get(), name);
  const Messages sent = Send(name, input, attributes);
  os::Unlock(left.get(), name);  // The server has died.

  const bool ours = !open_to_all && attributes.mq_maxmsg == 10 &&
                    attributes.mq_msgsize == 128;
  const auto [text, quit] = Expected(sent);
  const ipc_testing::Output output;
  ipc_testing::Arguments main({"server", "--name", name, "--timeout", "0"});
  try {
    Run({main.argc(), main.argv(), "", {"name", "timeout"}});
    Require(ours && quit, "only \"quit\" ends it");
  } catch (const os::Error& error) {
    const int expected = ours ? ETIMEDOUT : EEXIST;
    Require(error.code().value() == expected && !(ours && quit),
            "it says what is wrong");
  }
  if (ours) {
    Require(output.Text() == text, "all is printed, in order");
  } else {
    Require(output.Text().empty(), "a queue of others is not read");
    ::mq_getattr(left.get(), &attributes);
    Require(static_cast<std::size_t>(attributes.mq_curmsgs) == sent.size(),
            "a queue of others is left as it was");
  }
  return 0;
}
