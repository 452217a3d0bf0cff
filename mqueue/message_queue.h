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
  static MessageQueue Create(const std::string& name, posix::Timeout timeout,
                             long max_messages = 10, long max_bytes = 128) {
    auto open = [&](int flags) {
      mq_attr attributes{};
      attributes.mq_maxmsg = max_messages;
      attributes.mq_msgsize = max_bytes;
      // O_RDWR, though it only receives: its lock wants to write.
      const mqd_t queue = ::mq_open(name.c_str(), O_RDWR | O_NONBLOCK | flags,
                                    0600, &attributes);
      if (queue == -1) ThrowIfLimit(name);
      return queue;
    };
    auto adopt = [&](int fd) {
      // mq_open doesn't look at the attributes of a queue that exists.
      const mq_attr found = Attributes(fd, name);
      if (found.mq_maxmsg == max_messages && found.mq_msgsize == max_bytes) {
        return true;
      }
      throw posix::Error(EEXIST, "mq_open", name, posix::kNotOurs);
    };
    return {posix::Own("mq_open", name, ::mq_unlink, open, adopt), name,
            timeout};
  }
  // Waits for a message; the one of highest priority, and then the oldest, is
  // first. Throws ETIMEDOUT.
  std::string Receive() {
    for (;;) {
      if (auto message = TryReceive()) return *message;
      posix::PollFor("a message", fd(), POLLIN, name_, timeout_);
    }
  }
  // The same without the wait: empty where the queue is.
  std::optional<std::string> TryReceive() {
    std::string message(size_, '\0');
    const auto n = posix::Retry(::mq_receive, fd(), message.data(),
                                message.size(), nullptr);
    if (n == -1 && errno == EAGAIN) return {};
    if (n == -1) throw posix::Error(errno, "mq_receive", name_);
    message.resize(static_cast<std::size_t>(n));
    return message;
  }
  // No client may come any more, and those that are here see that the server
  // is leaving. What TryReceive finds after this is all that there will be.
  void Close() {
    object_.name.Remove();
    posix::Unlock(fd(), name_);
  }

  // The client's: waits for a server. Throws ETIMEDOUT.
  static MessageQueue Open(const std::string& name, posix::Timeout timeout) {
    auto look = [&](posix::Timeout pause) -> std::optional<MessageQueue> {
      posix::Pause(pause);
      auto fd = posix::OpenExisting("mq_open", name, [&] {
        return ::mq_open(name.c_str(), O_WRONLY | O_NONBLOCK);
      });
      // A queue without a server is one that a dead server left.
      if (!fd || !posix::IsLocked(fd.get(), name)) return {};
      return MessageQueue({std::move(fd), {}}, name, timeout);
    };
    return std::move(*posix::Await("a server", "mq_open", name, timeout, look));
  }
  // Sends a message of up to max_bytes, `priority` 0 to MQ_PRIO_MAX - 1, once
  // there is room. Throws EMSGSIZE, ETIMEDOUT, EPIPE where the server has gone.
  void Send(const std::string& message, unsigned priority) {
    const posix::Deadline deadline(timeout_);
    while (posix::Retry(::mq_send, fd(), message.data(), message.size(),
                        priority) == -1) {
      if (errno == EAGAIN && deadline.Passed()) errno = ETIMEDOUT;
      if (errno != EAGAIN) throw posix::Error(errno, "mq_send", name_);
      CheckServer();
      pollfd room{fd(), POLLOUT, 0};
      posix::Poll({&room, 1}, deadline.Left(posix::kLook));
    }
  }
  // Throws EPIPE where the server has gone.
  void CheckServer() {
    if (posix::IsLocked(fd(), name_)) return;
    throw posix::Error(EPIPE, "mq_send", name_, "the server has gone");
  }
  // Returns when what was sent can't be lost with the server's end: it has
  // begun no end, or has received all. Throws ETIMEDOUT a second after its end.
  void Flush() {
    auto look = [&](posix::Timeout pause) {
      posix::Pause(pause);
      return posix::IsLocked(fd(), name_) ||
             Attributes(fd(), name_).mq_curmsgs == 0;
    };
    posix::Await("the server to receive the rest", "mq_getattr", name_,
                 std::chrono::seconds(1), look);
  }

  // The largest message, in bytes.
  std::size_t max_bytes() const { return size_; }

 private:
  MessageQueue(posix::OwnedObject object, std::string name,
               posix::Timeout timeout)
      : object_(std::move(object)),
        name_(std::move(name)),
        timeout_(timeout),
        // A buffer of any other size would be EMSGSIZE, or an overflow.
        size_(static_cast<std::size_t>(Attributes(fd(), name_).mq_msgsize)) {}
  int fd() const { return object_.fd.get(); }

  static mq_attr Attributes(int fd, const std::string& name) {
    mq_attr attributes{};
    posix::Check("mq_getattr", name, ::mq_getattr, fd, &attributes);
    return attributes;
  }

  // Says which limit mq_open has met. mq_overview(7), getrlimit(2)
  static void ThrowIfLimit(const std::string& name) {
    const char* limit = nullptr;
    if (errno == EINVAL) limit = "see /proc/sys/fs/mqueue/msg_max, msgsize_max";
    if (errno == EMFILE)
      limit = "see `ulimit -q` (RLIMIT_MSGQUEUE), `ulimit -n`";
    if (errno == ENOSPC) limit = "see /proc/sys/fs/mqueue/queues_max";
    if (limit != nullptr) throw posix::Error(errno, "mq_open", name, limit);
  }

  posix::OwnedObject object_;
  std::string name_;
  posix::Timeout timeout_;  // Of every wait.
  std::size_t size_;
};

}  // namespace ipc

#endif  // MQUEUE_MESSAGE_QUEUE_H_
