// A POSIX message queue: messages with priorities, from clients to one server,
// which owns the queue and locks it for as long as it lives. What is in the
// queue outlives a server that dies: the next one receives it. mq_overview(7)
#ifndef MQUEUE_MESSAGE_QUEUE_H_
#define MQUEUE_MESSAGE_QUEUE_H_

#include <mqueue.h>

#include <optional>

#include "posix.h"

namespace ipc {

class MessageQueue {
 public:
  // The server's: makes the queue `name`, "/" and up to 254 bytes other than
  // "/", or takes over what a dead server left. Throws EBUSY where a server
  // lives, EEXIST where the queue has other attributes, and what mq_open does.
  static MessageQueue Create(const std::string& name, os::Timeout timeout,
                             long max_messages = 10, long max_bytes = 128) {
    auto open = [&](int flags) {
      mq_attr attributes{};
      attributes.mq_maxmsg = max_messages;
      attributes.mq_msgsize = max_bytes;
      // O_RDWR, though it only receives: its lock wants to write.
      const mqd_t queue =
          ::mq_open(name.c_str(), O_RDWR | flags, 0600, &attributes);
      if (queue == -1) ThrowIfLimit(name);
      return queue;
    };
    auto adopt = [&](int fd) {
      // mq_open doesn't look at the attributes of a queue that exists.
      const mq_attr found = Attributes(fd, name);
      const bool same =
          found.mq_maxmsg == max_messages && found.mq_msgsize == max_bytes;
      if (same && (os::Stat(fd, name).st_mode & 0077) == 0) return true;
      throw os::Error(EEXIST, "mq_open", name, os::kNotOurs);
    };
    return {os::Own("mq_open", name, ::mq_unlink, open, adopt), name, timeout};
  }
  // Waits for the oldest message of the highest priority, which lies in the
  // queue's own buffer until the next call. Throws ETIMEDOUT.
  std::string_view Receive() {
    for (;;) {
      if (const auto it = TryReceive(timeout_ == os::kForever)) return *it;
      os::PollFor("a message", fd(), POLLIN, name_, timeout_);
    }
  }
  // The same without the wait, or for ever: empty where the queue is. Not up to
  // a time: somebody may set the clock of mq_timedreceive.
  std::optional<std::string_view> TryReceive(bool wait = false) {
    const timespec past{};
    const auto n = os::Retry(::mq_timedreceive, fd(), message_.data(),
                             message_.size(), nullptr, wait ? nullptr : &past);
    if (n == -1 && errno == ETIMEDOUT) return {};
    if (n == -1) throw os::Error(errno, "mq_receive", name_);
    return std::string_view(message_).substr(0, static_cast<std::size_t>(n));
  }
  // No client may come any more, and those that are here see that the server
  // is leaving. What TryReceive finds after this is all that there will be.
  void Close() {
    object_.name.Remove();
    os::Unlock(fd(), name_);
  }

  // The client's: waits for a server. Throws ETIMEDOUT.
  static MessageQueue Open(const std::string& name, os::Timeout timeout) {
    auto look = [&](os::Timeout pause) -> std::optional<MessageQueue> {
      os::Pause(pause);
      auto fd = os::OpenExisting("mq_open", name, [&] {
        const mqd_t queue = ::mq_open(name.c_str(), O_WRONLY | O_NONBLOCK);
        if (queue == -1) ThrowIfLimit(name);
        return queue;
      });
      // A queue without a server is one that a dead server left.
      if (!fd || !os::IsLocked(fd.get(), name)) return {};
      return MessageQueue({std::move(fd), {}}, name, timeout);
    };
    return std::move(*os::Await("a server", "mq_open", name, timeout, look));
  }
  // Sends a message of up to max_bytes, `priority` 0 to MQ_PRIO_MAX - 1, once
  // there is room. Throws EMSGSIZE, ETIMEDOUT, EPIPE where the server has gone.
  void Send(const std::string& message, unsigned priority) {
    if (message.size() > max_bytes()) {
      throw os::Error(EMSGSIZE, "mq_send", name_,
                      "at most " + std::to_string(max_bytes()) + " bytes fit");
    }
    const os::Deadline deadline(timeout_);
    while (os::Retry(::mq_send, fd(), message.data(), message.size(),
                     priority) == -1) {
      if (errno == EAGAIN && deadline.Passed()) errno = ETIMEDOUT;
      if (errno != EAGAIN) throw os::Error(errno, "mq_send", name_);
      pollfd room{fd(), POLLOUT, 0};
      if (!os::Poll({&room, 1}, deadline.Left(os::kLook))) CheckServer();
    }
  }
  // Throws EPIPE where the server has gone.
  void CheckServer() {
    if (os::IsLocked(fd(), name_)) return;
    throw os::Error(EPIPE, "mq_send", name_, "the server has gone");
  }
  // Returns when what was sent can't be lost with the server's end: it has
  // begun no end, or has received all. Throws ETIMEDOUT a second after its end.
  void Flush() {
    auto look = [&](os::Timeout pause) {
      os::Pause(pause);
      return os::IsLocked(fd(), name_) ||
             Attributes(fd(), name_).mq_curmsgs == 0;
    };
    os::Await("the server to receive the rest", "mq_getattr", name_,
              std::chrono::seconds(1), look);
  }
  std::size_t max_bytes() const { return message_.size(); }  // Of a message.

 private:
  MessageQueue(os::OwnedObject object, std::string name, os::Timeout timeout)
      : object_(std::move(object)),
        name_(std::move(name)),
        timeout_(timeout),
        // A buffer of any other size would be EMSGSIZE, or an overflow.
        message_(static_cast<std::size_t>(Attributes(fd(), name_).mq_msgsize),
                 '\0') {}

  int fd() const { return object_.fd.get(); }
  static mq_attr Attributes(int fd, const std::string& name) {
    mq_attr attributes{};
    os::Check("mq_getattr", name, ::mq_getattr, fd, &attributes);
    return attributes;
  }

  // Says which limit mq_open has met. mq_overview(7), getrlimit(2)
  static void ThrowIfLimit(const std::string& name) {
    const char* see = nullptr;
    if (errno == EINVAL) see = "see /proc/sys/fs/mqueue/msg_max, msgsize_max";
    if (errno == EMFILE) see = "see `ulimit -q` (RLIMIT_MSGQUEUE), and -n";
    if (errno == ENOSPC) see = "see /proc/sys/fs/mqueue/queues_max";
    if (!name.starts_with('/')) see = "a name begins with /";
    if (see != nullptr) throw os::Error(errno, "mq_open", name, see);
  }

  os::OwnedObject object_;
  std::string name_;
  os::Timeout timeout_;  // Of every wait.
  std::string message_;  // The last that was received.
};

}  // namespace ipc

#endif  // MQUEUE_MESSAGE_QUEUE_H_
