// A message queue, the client: sends a message, or each line of its input, and
// prints what it has sent.
//
// Terminal 1: bazel run //mqueue:client -- "Hello World"
//             client: waiting for a server on ...
// Terminal 2: bazel run //mqueue:server
// Both show: Hello World
//
// Left out: see server.cc.
// Copy: posix.h, name.h, program.h, mqueue/queue.h, mqueue/server.cc,
//       mqueue/client.cc
// Read: mq_overview(7), mq_open(3), mq_send(3)
#include "name.h"
#include "program.h"
#include "queue.h"

constexpr char kHelp[] =
    R"(Usage: client [--name NAME] [--timeout SECONDS] [--priority N] MESSAGE | -
Sends MESSAGE, at most 128 bytes, to the server, and prints it. With -, sends
each line of standard input. "quit" ends the server.

  --name NAME        the queue, / and a word, /message_queue unless given
  --timeout SECONDS  how long to wait for server or room, for ever unless given
  --priority N       0 to 32767: higher is received earlier, 1 unless given
)";

namespace ipc {

// Stands for a missing MESSAGE: no argument can contain a NUL.
constexpr std::string_view kMissing("\0", 1);

// Opens the queue if a server has locked it. If none has, the server is not
// ready yet, is about to end, or was killed.
UniqueQueue TryOpen(const std::string& name) {
  UniqueQueue queue(::mq_open(name.c_str(), O_WRONLY | O_NONBLOCK));
  // "/" is never there: waiting for it would be in vain.
  if (!queue && errno == ENOENT && name != "/") return UniqueQueue();
  // Throws if the call has failed, or if the queue is another user's or another
  // program's.
  CheckOurs(queue.get(), S_IFREG, "mq_open", name);
  if (!IsLocked(queue.get(), kServerAlive, name)) return UniqueQueue();
  return queue;
}

void Run(const Options& options) {
  const std::string name = options.at("name");
  const std::string message = options.at("MESSAGE");
  const unsigned priority = NumberOption(options, "priority", MQ_PRIO_MAX - 1U);
  const Seconds timeout(NumberOption(options, "timeout", /*most=*/HUGE_VAL));
  if (message == kMissing) throw UsageError("missing operand");
  if (message.size() > kMaxBytes) throw UsageError("MESSAGE is too long");

  UniqueQueue queue;
  // Pause waits a little. After 150 ms it says for whom, and when the time is
  // up it throws.
  PeerWait wait{"a server", "mq_open", name, Now() + timeout};
  while (!(queue = TryOpen(name))) wait.Pause();

  const auto lives = [&] { return IsLocked(queue.get(), kServerAlive, name); };
  const auto check_server = [&] {
    if (!lives()) throw Error(EPIPE, "mq_send", name, "the server has gone");
  };
  // Sends a message as soon as there is room for it, and prints it as soon as
  // the server has it, or leaves it to the next one.
  const auto send = [&](const std::string& text) {
    // It begins with the longest pause, 0.1 s, and so says nothing of the wait,
    // which with a slow server each message would say again.
    PeerWait turn{"room", "mq_send", name, Now() + timeout, /*pause=*/0.1};
    while (::mq_send(queue.get(), text.data(), text.size(), priority) == -1) {
      if (errno == EINTR) continue;
      const char* advice = errno == EMSGSIZE ? "at most 128 bytes fit" : "";
      if (errno != EAGAIN) throw Error(errno, "mq_send", name, advice);
      check_server();
      pollfd room{queue.get(), POLLOUT, 0};  // Linux only.
      Poll({&room, 1}, turn.Next());
    }
    // If the server still has its lock, it receives the message, or leaves it
    // to the next one. If not, the message may have come too late, and this
    // waits until the queue is empty, or has a new server.
    PeerWait ack{"a server to take it", "mq_send", name, Now() + Seconds(0.5)};
    for (mq_attr queued{}; !lives(); ack.Pause()) {
      Check(::mq_getattr(queue.get(), &queued), "mq_getattr", name);
      if (queued.mq_curmsgs == 0) break;
    }
    Print(text + "\n");
  };

  // With "-" each line of standard input is a message.
  std::string line = message == "-" ? "" : message;
  for (Block block; message == "-";) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    while (!Poll({&input, 1}, Seconds(0.5))) check_server();
    const auto bytes = ReadSome(STDIN_FILENO, block, "standard input");
    // At the end the server need not live: the last line may have been "quit".
    if (bytes.empty()) break;
    check_server();
    for (const char c : bytes) {
      if (c != '\n') line += c;
      // A line that is too long is sent before its end: mq_send refuses it.
      if (c == '\n' || line.size() > kMaxBytes) send(std::exchange(line, ""));
    }
  }
  // The message, or a last line that no newline ends.
  if (message != "-" || !line.empty()) send(line);
}  // mq_close, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"name", "/message_queue"},
                    {"timeout", "inf"},
                    {"priority", "1"},
                    {"MESSAGE", std::string(ipc::kMissing)}},
                   ipc::Run);
}
