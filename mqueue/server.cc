// A message queue, the server: prints each message until one says "quit".
//
// Terminal 1: bazel run //mqueue:server
// Terminal 2: bazel run //mqueue:client -- "Hello World"
//             bazel run //mqueue:client -- quit
// Both show: Hello World (and the client that ends the server shows: quit)
//
// Left out: replies (a queue for each client), being told of a message by a
// signal (mq_notify).
// Copy: posix.h, name.h, program.h, mqueue/queue.h, mqueue/server.cc,
//       mqueue/client.cc
// Read: mq_overview(7), mq_open(3), mq_receive(3), mq_send(3)
#include "name.h"
#include "program.h"
#include "queue.h"

constexpr char kHelp[] =
    R"(Usage: server [--name NAME] [--timeout SECONDS]
Makes a message queue, prints each message and a newline until one is "quit",
and removes the queue. Messages that are still queued then are printed, too;
when it is interrupted, or fails, they stay in the queue for the next server.

  --name NAME        the queue, / and a word, /message_queue unless given
  --timeout SECONDS  how long to wait for a message, for ever unless given
)";

namespace ipc {

void Run(const Options& options) {
  const std::string name = options.at("name");
  const Seconds timeout(NumberOption(options, "timeout", /*most=*/HUGE_VAL));

  mq_attr attributes{};
  attributes.mq_maxmsg = 10;  // Messages; usually the most. mq_overview(7)
  attributes.mq_msgsize = kMaxBytes;
  // Without O_EXCL this opens a queue that another server has left, too.
  // O_RDWR: a message that can't be printed is put back. kOurs is the bit in
  // the mode that marks what these programs have made.
  const UniqueQueue queue(::mq_open(name.c_str(), O_CREAT | O_RDWR | O_NONBLOCK,
                                    S_IRUSR | S_IWUSR | kOurs, &attributes));
  // What to do, if mq_open has failed.
  const char* advice = errno == EMFILE   ? "see `ulimit -q` and `ulimit -n`"
                       : errno == ENOSPC ? "see /proc/sys/fs/mqueue/queues_max"
                       : errno == EINVAL ? "begin with /; see mq_overview(7)"
                                         : "";
  if (!queue) throw Error(errno, "mq_open", name, advice);
  // Throws if the queue is another user's or another program's.
  CheckOurs(queue.get(), S_IFREG, "mq_open", name);
  // Locks the name, or throws if another server has it, and removes it in the
  // end, unless Keep is called.
  OwnedName owned(::mq_unlink, "mq_open", name, queue.get());

  std::string message;
  unsigned priority = 0;
  // The size of a message that is received and not yet printed, or -1.
  ssize_t size = -1;
  try {
    // A queue that was there has attributes of its own, not those above.
    Check(::mq_getattr(queue.get(), &attributes), "mq_getattr", name);
    // By this lock clients see that a server lives: until then they wait for
    // one. A queue has no bytes: the kernel only compares their numbers.
    SetLock(queue.get(), F_WRLCK, kServerAlive, 1, name);
    Say("waiting for messages on '" + name + "'");
    for (bool quit = false;;) {
      // Only Linux can poll a queue. mq_notify would say nothing of messages
      // that are there already.
      if (!quit) PollFor("a message", queue.get(), POLLIN, timeout, name);
      // Until a message can be printed it stays in the queue.
      PollFor("room", STDOUT_FILENO, POLLOUT, kForever, "standard output");
      // With a smaller buffer mq_receive would fail.
      message.resize(static_cast<std::size_t>(attributes.mq_msgsize));
      Retry([&] {
        return size = ::mq_receive(queue.get(), message.data(), message.size(),
                                   &priority);
      });
      // The queue is empty, which after "quit" is the end.
      if (size == -1 && errno == EAGAIN && quit) break;
      // Another process has taken the message since the poll.
      if (size == -1 && errno == EAGAIN) continue;
      message.resize(static_cast<std::size_t>(Check(size, "mq_receive", name)));
      if (message != "quit") Print(message + "\n");
      size = -1;
      quit = quit || message == "quit";
      // From here on clients take the server for gone.
      if (quit) SetLock(queue.get(), F_UNLCK, kServerAlive, 1, name);
    }
  } catch (...) {
    // The server has failed, or was interrupted. A message that it has received
    // and not printed is sent back, behind those of the same priority: its
    // client may have been told that it is sent.
    if (size != -1 && ::mq_send(queue.get(), message.data(), message.size(),
                                priority) == -1) {
      Say("lost, as '" + name + "' is full: " + message);
    }
    // The lock is released before the messages are counted. If there are none,
    // the queue is removed, and a message that comes after the count is lost;
    // but its client sees that the lock has gone, and doesn't call it sent.
    SetLock(queue.get(), F_UNLCK, kServerAlive, 1, name);
    Check(::mq_getattr(queue.get(), &attributes), "mq_getattr", name);
    if (attributes.mq_curmsgs != 0) {
      owned.Keep();
      Say("messages left in '" + name +
          "' for the next server: " + std::to_string(attributes.mq_curmsgs));
    }
    throw;
  }
}  // mq_unlink, unless messages are kept, and mq_close, after an error, too.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"name", "/message_queue"}, {"timeout", "inf"}}, ipc::Run);
}
