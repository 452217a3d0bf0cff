// A message queue, the server: prints each message until one says "quit".
//
// Terminal 1: bazel run //mqueue:server
// Terminal 2: bazel run //mqueue:client -- "Hello World"
//             bazel run //mqueue:client -- quit
// Both show: Hello World
//
// Left out: replies (a queue for each client), being told of a message by a
// signal (mq_notify).
// Copy: posix.h, mqueue/message_queue.h, mqueue/server.cc, mqueue/client.cc
// Read: mq_overview(7), mq_open(3), mq_receive(3), mq_send(3)
#include "message_queue.h"

constexpr char kHelp[] =
    R"(Usage: server [--name NAME] [--timeout SECONDS]
Makes a message queue, prints each message and a newline until one is "quit",
and removes the queue. What was sent before that has priority to be printed too.

  --name NAME        the queue, /message_queue unless given
  --timeout SECONDS  how long to wait for a message, for ever unless given
)";

void Print(std::string_view message) {
  os::Print(os::Bytes(std::string(message) + "\n"));
}

void Run(const os::CommandLine& line) {
  line.NoOperand();
  const std::string name = line.Option("name", "/message_queue");
  auto queue = ipc::MessageQueue::Create(name, line.TimeoutOption());
  os::Say("waiting for messages on '" + name + "'");
  for (std::string_view message; (message = queue.Receive()) != "quit";) {
    Print(message);
  }
  queue.Close();
  // What other clients sent meanwhile, or with less priority than "quit".
  while (const auto message = queue.TryReceive()) {
    if (*message != "quit") Print(*message);
  }
}  // mq_unlink and mq_close, however Run ends.

int main(int argc, char** argv) {
  return os::Main(argc, argv, kHelp, {"name", "timeout"}, Run);
}
