// A message queue, the server: prints each message until one says "quit".
//
// Terminal 1: bazel run //mqueue:server
// Terminal 2: bazel run //mqueue:client -- "Hello World"
//             bazel run //mqueue:client -- quit
// Both show: Hello World
//
// Left out: replies (a queue for each client), being told of a message by a
// signal (mq_notify).
// Copy: posix.h, name.h, program.h, mqueue/queue.h, mqueue/server.cc,
//       mqueue/client.cc
// Read: mq_overview(7), mq_open(3), mq_receive(3), mq_send(3)
#include <exception>

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
  const Seconds timeout(NumberOption(options, "timeout", HUGE_VAL));

  mq_attr attributes{};
  attributes.mq_maxmsg = 10;  // More than 10 are not for every user.
  attributes.mq_msgsize = kMaxBytes;
  // Without O_EXCL it opens what another server has left, too. O_RDWR: it puts
  // back what it can't print.
  const UniqueQueue queue(::mq_open(name.c_str(), O_CREAT | O_RDWR | O_NONBLOCK,
                                    S_IRUSR | S_IWUSR | kOurs, &attributes));
  const char* advice = errno == EMFILE   ? "see `ulimit -q` and `ulimit -n`"
                       : errno == ENOSPC ? "see /proc/sys/fs/mqueue/queues_max"
                       : errno == EINVAL ? "begin with /; see mq_overview(7)"
                                         : "";
  if (!queue) throw Error(errno, "mq_open", name, advice);
  CheckOurs(queue.get(), S_IFREG, "mq_open", name);
  OwnedName owned(::mq_unlink, "mq_open", name, queue.get());

  std::string message;
  unsigned priority = 0;
  ssize_t size = -1;  // Of a message that is received and not yet printed.
  std::exception_ptr failure;
  try {
    // A queue that was there has attributes of its own, not those above.
    Check(::mq_getattr(queue.get(), &attributes), "mq_getattr", name);
    // Until this byte is locked clients wait for a server.
    TryLock(queue.get(), F_WRLCK, kServerAlive, 1, name);
    Say("waiting for messages on '" + name + "'");
    for (bool quit = false;;) {
      // Linux only. mq_notify would say nothing of messages that are there.
      if (!quit) PollFor("a message", queue.get(), POLLIN, timeout, name);
      // Until a message can be printed it stays in the queue.
      PollFor("room", STDOUT_FILENO, POLLOUT, kForever, "standard output");
      // A smaller buffer would be EMSGSIZE.
      message.resize(static_cast<std::size_t>(attributes.mq_msgsize));
      Retry([&] {
        return size = ::mq_receive(queue.get(), message.data(), message.size(),
                                   &priority);
      });
      if (size == -1 && errno == EAGAIN && quit) break;
      if (size == -1 && errno == EAGAIN) continue;
      message.resize(static_cast<std::size_t>(Check(size, "mq_receive", name)));
      if (message != "quit") Print(message + "\n");
      size = -1;
      quit = quit || message == "quit";
      if (quit) TryLock(queue.get(), F_UNLCK, kServerAlive, 1, name);
    }
  } catch (...) {
    failure = std::current_exception();
  }
  // The client was told that it is sent.
  if (size != -1 &&
      ::mq_send(queue.get(), message.data(), message.size(), priority) == -1) {
    Say("lost, as '" + name + "' is full: " + message);
  }
  // Before it counts: what clients send from here on may come too late, and
  // they can tell.
  TryLock(queue.get(), F_UNLCK, kServerAlive, 1, name);
  Check(::mq_getattr(queue.get(), &attributes), "mq_getattr", name);
  if (attributes.mq_curmsgs != 0) {
    owned.Keep();
    Say("messages left in '" + name +
        "' for the next server: " + std::to_string(attributes.mq_curmsgs));
  }
  if (failure) std::rethrow_exception(failure);
}  // mq_unlink and mq_close, however this ends.

}  // namespace ipc

int main(int argc, char** argv) {
  return ipc::Main(argc, argv, kHelp,
                   {{"name", "/message_queue"}, {"timeout", "inf"}}, ipc::Run);
}
