// Messages of any length, content and priority, as an argument or as lines of
// standard input, in a queue of any attributes: what the client makes of them,
// and what the server prints.
#include <exception>
#include <functional>
#include <map>

#include "mqueue/queue.h"
#include "name.h"
#include "program.h"
#include "testing/fuzzing/fuzz.h"

// The programs themselves, saying nothing.
namespace ipc {
static void Hush(const std::string& /*text*/) {}
}  // namespace ipc
#define Say Hush
#define kHelp kServerHelp
#define Run RunServer
#define main ServerMain
#include "mqueue/server.cc"
#undef kHelp
#undef Run
#undef main
#define kHelp kClientHelp
#define Run RunClient
#define main ClientMain
#include "mqueue/client.cc"
#undef kHelp
#undef Run
#undef main
#undef Say

namespace {

using ipc::UniqueQueue;
using ipc_testing::Require;

using Messages = std::multimap<unsigned, std::string, std::greater<>>;

// What becomes standard input.
void SetInput(const std::string& bytes) {
  const int memory = ::memfd_create("input", MFD_CLOEXEC);
  Require(::write(memory, bytes.data(), bytes.size()) ==
                  static_cast<ssize_t>(bytes.size()) &&
              ::lseek(memory, 0, SEEK_SET) == 0 &&
              ::dup2(memory, STDIN_FILENO) != -1,
          "the input can be set");
  ::close(memory);
}

// The messages that a client has to send of this input.
std::vector<std::string> Split(const std::string& lines) {
  std::vector<std::string> messages(1);
  for (const char c : lines) {
    if (c == '\n') {
      messages.emplace_back();
    } else {
      messages.back() += c;
    }
  }
  if (messages.back().empty()) messages.pop_back();
  return messages;
}

// Runs a client on a queue whose server lives but receives nothing. Adds to
// `queued` what it has to send.
void Send(const std::string& name, unsigned priority, bool lines,
          const std::string& text, const mq_attr& attributes,
          Messages& queued) {
  std::string printed;
  bool good = priority < 32768U;  // MQ_PRIO_MAX
  if (!lines) good = good && text.size() <= ipc::kMaxBytes;
  for (const std::string& message :
       lines ? Split(text) : std::vector<std::string>{text}) {
    good = good && static_cast<long>(message.size()) <= attributes.mq_msgsize &&
           static_cast<long>(queued.size()) < attributes.mq_maxmsg;
    if (!good) break;
    queued.emplace(priority, message);
    printed += message + "\n";
  }
  if (lines) SetInput(text);
  const ipc_testing::Output output;
  bool sent = true;
  try {
    ipc::RunClient({{"name", name},
                    {"timeout", "0"},
                    {"priority", std::to_string(priority)},
                    {"MESSAGE", lines ? "-" : text}});
  } catch (const std::exception&) {
    sent = false;
  }
  Require(sent == good, "what fits is sent, and nothing else");
  Require(output.Text() == printed, "what is sent is printed");
}

}  // namespace

// Bytes that say whether the queue is ours, its attributes, and for each client
// its priority, whether it is given lines, how many bytes, and those.
std::vector<std::string> ipc_testing::Seeds() {
  using namespace std::string_literals;
  const std::string right = "\1\x0a\x80"s;
  return {
      right + "\1\0\5hello\1\0\0\1\0\4quit"s,
      right + "\1\1\x0bone\ntwo\n\nend"s,
      right + "\0\0\4quit\x7f\0\5first\1\1\5quit\n\0\1\6quit\n\0"s,
      right + "\1\0\x80"s + std::string(128, 'a') + "\1\1\x81" +
          std::string(129, 'b'),
      right + "\x80\0\1p"s,
      right + "\1\1\x16" + "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk"s,
      "\1\2\x04\1\1\x0e"
      "four\nfive5\nsix"s,
      "\0\x0a\x80\1\0\1m"s,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static const std::string name = "/ipc-fuzz-" + std::to_string(::getpid());
  ipc_testing::FuzzInput input(data, size);
  const bool ours = (input.Byte() & 1) != 0;
  mq_attr attributes{};
  attributes.mq_maxmsg = std::clamp<long>(input.Byte(), 1, 10);
  attributes.mq_msgsize = std::clamp<long>(input.Byte(), 1, 255);
  UniqueQueue left(::mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR,
                             0600U | ipc::kOurs, &attributes));
  Require(static_cast<bool>(left), "mq_open");
  Messages queued;
  {
    const UniqueQueue living(::mq_open(name.c_str(), O_RDWR));
    ipc::SetLock(living.get(), F_WRLCK, ipc::kServerAlive, 1, name);
    while (!input.empty()) {
      const unsigned priority = input.Byte() * 257U;
      const bool lines = (input.Byte() & 1) != 0;
      const std::size_t length = input.Byte();
      std::string text = input.Text(length);
      // An argument ends with its first NUL.
      if (!lines) text.resize(std::min(text.find('\0'), text.size()));
      if (!lines && text == "-") continue;
      Send(name, priority, lines, text, attributes, queued);
    }
  }  // The server has died.
  if (!ours) ::fchmod(left.get(), 0600);

  std::string expected;
  bool quit = false;
  for (const auto& [priority, message] : queued) {
    quit = quit || message == "quit";
    if (message != "quit") expected += message + "\n";
  }
  const ipc_testing::Output output;
  int error = 0;
  try {
    ipc::RunServer({{"name", name}, {"timeout", "0"}});
  } catch (const ipc::Error& thrown) {
    error = thrown.code().value();
  }
  if (ours) {
    Require(error == (quit ? 0 : ETIMEDOUT), "only \"quit\" ends it");
    Require(output.Text() == expected, "all is printed, in order");
    Require(::mq_open(name.c_str(), O_RDONLY) == -1, "the name goes");
  } else {
    Require(error == EEXIST, "another program's queue is refused");
    Require(output.Text().empty(), "and is not read");
    ::mq_getattr(left.get(), &attributes);
    Require(static_cast<std::size_t>(attributes.mq_curmsgs) == queued.size(),
            "and is left as it was");
    ::mq_unlink(name.c_str());
  }
  return 0;
}
