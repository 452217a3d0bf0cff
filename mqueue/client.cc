// A message queue, the client: sends a message, or each line of its input, and
// prints what it has sent.
//
// Terminal 1: bazel run //mqueue:client -- "Hello World"
//             client: waiting for a server on ...
// Terminal 2: bazel run //mqueue:server
// Both show: Hello World
//
// Left out: see server.cc.
// Copy: posix.h, mqueue/message_queue.h, mqueue/server.cc, mqueue/client.cc
// Read: mq_overview(7), mq_open(3), mq_send(3)
#include "message_queue.h"

constexpr char kHelp[] =
    R"(Usage: client [--name NAME] [--timeout SECONDS] [--priority N] MESSAGE | -
Sends MESSAGE, at most 128 bytes, to the server, and prints it. With -, sends
each line of standard input. "quit" ends the server.

  --name NAME        the queue, /message_queue unless given
  --timeout SECONDS  how long to wait for a server, for ever unless given
  --priority N       0 to 32767: higher is received earlier, 1 unless given
)";

// The next line of standard input, without its newline; false at the end.
// Meanwhile notices if the server goes. `rest` is what has been read beyond it.
bool ReadLine(ipc::MessageQueue& queue, std::string& rest, std::string& line) {
  std::size_t end = 0;
  while ((end = rest.find('\n')) == std::string::npos) {
    // What is longer than any message is a line, too: Send will refuse it.
    if (rest.size() > queue.max_bytes()) break;
    os::Block block;
    const auto n = os::ReadInput(block, [&] { queue.CheckServer(); });
    if (n == 0) break;
    rest.append(reinterpret_cast<const char*>(block.data()), n);
  }
  if (rest.empty()) return false;
  line = rest.substr(0, end);
  rest.erase(0, end == std::string::npos ? end : end + 1);
  return true;
}

void Run(const os::CommandLine& line) {
  const std::string message = line.Operand(nullptr);
  const auto priority = line.Option("priority", 1U, 0U, MQ_PRIO_MAX - 1U);
  auto queue = ipc::MessageQueue::Open(line.Option("name", "/message_queue"),
                                       line.TimeoutOption());
  auto send = [&](const std::string& text) {
    queue.Send(text, priority);
    os::Print(os::Bytes(text + "\n"));
  };
  if (message == "-") {
    std::string rest;
    std::string text;
    while (ReadLine(queue, rest, text)) send(text);
  } else {
    send(message);
  }
  queue.Flush();
}  // mq_close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"name", "timeout", "priority"}, Run);
}
