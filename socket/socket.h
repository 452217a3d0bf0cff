// Stream sockets: a server that listens at an address, and clients that connect
// to it. socket(7), listen(2), connect(2)
#ifndef SOCKET_SOCKET_H_
#define SOCKET_SOCKET_H_

#include "address.h"

namespace ipc {

// The server's: listens at an address. A path is locked by a file PATH.lock,
// and both are removed when this goes. Does not block.
class Listener {
 public:
  // Throws EBUSY or EADDRINUSE where a server lives, EEXIST as HasSocket.
  explicit Listener(const Address& address) {
    const std::string& name = address.name;
    if (address.IsUnix()) TakePath(address);
    fd_ = address.Socket();
    // Or a port would stay in use for a minute after its server's end.
    const int on = 1;
    os::Check("setsockopt", name, ::setsockopt, fd(), SOL_SOCKET, SO_REUSEADDR,
              &on, socklen_t{sizeof(on)});
    // Before bind, that no stranger connects in between. Linux's alone.
    if (address.IsUnix()) os::Check("fchmod", name, ::fchmod, fd(), 0600U);
    os::Check("bind", name, ::bind, fd(), address.get(), address.length);
    if (address.IsUnix()) path_ = os::OwnedName(::unlink, name);
    os::Check("listen", name, ::listen, fd(), SOMAXCONN);
    name_ = address.IsUnix() ? name : Address::Of(fd()).name;
  }

  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }

  // Takes a client, where one still waits. False where it has to wait longer:
  // there is no descriptor, or no memory, for it. accept(2)
  bool Accept(os::UniqueFd& client) const {
    client = os::UniqueFd(os::Retry(::accept4, fd(), nullptr, nullptr,
                                    SOCK_NONBLOCK | SOCK_CLOEXEC));
    const int lacking[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    return client || std::ranges::count(lacking, errno) == 0;
  }

 private:
  // Locks the path, and removes the socket that a dead server left.
  void TakePath(const Address& address) {
    const std::string name = address.name + ".lock";
    auto open = [&](int flags) {
      // O_NONBLOCK: a stranger's file may have a lease, on which open would
      // wait for 45 s. fcntl(2)
      const int safe = O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC;
      return ::open(name.c_str(), O_RDWR | safe | flags, 0600);
    };
    auto adopt = [&](int fd) {
      const struct stat status = os::Stat(fd, name);
      if (S_ISREG(status.st_mode) && status.st_size == 0) return true;
      throw os::Error(EEXIST, "open", name, os::kNotOurs);
    };
    lock_ = os::Own("open", name, ::unlink, open, adopt);
    if (!address.HasSocket()) return;
    // Refused: nobody listens. A server of another kind might, without a lock.
    const os::UniqueFd probe = address.Socket();
    if (os::Retry(::connect, probe.get(), address.get(), address.length) !=
            -1 ||
        errno != ECONNREFUSED) {
      throw os::Error(EADDRINUSE, "bind", address.name, "choose another");
    }
    os::Check("unlink", address.name, ::unlink, address.name.c_str());
  }

  os::OwnedObject lock_;
  os::UniqueFd fd_;
  os::OwnedName path_;
  std::string name_;
};

// The server's: a client, to which it sends back what comes.
struct Echo {
  os::UniqueFd fd;
  std::array<std::byte, 16384> buffer;
  std::span<std::byte> unsent;  // Of the buffer.

  // Sends back what is unsent before it reads more: a client that sends and
  // doesn't read fills its own buffers and waits. False at the client's end.
  bool Step() {
    if (unsent.empty()) {
      const auto n = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
      if (n <= 0) return n == -1 && (errno == EAGAIN || errno == EINTR);
      unsent = std::span(buffer).first(static_cast<std::size_t>(n));
    }
    // MSG_NOSIGNAL: a client that has gone must not kill the server.
    const auto n = ::send(fd.get(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
    if (n == -1) return errno == EAGAIN || errno == EINTR;
    unsent = unsent.subspan(static_cast<std::size_t>(n));
    return true;
  }
};

// The client's: waits for a server and connects to it, without blocking. Throws
// ETIMEDOUT, EEXIST where the path is something else's.
inline os::UniqueFd Connect(const Address& address, os::Timeout timeout) {
  auto look = [&](os::Timeout pause) -> os::UniqueFd {
    os::Pause(pause);
    if (address.IsUnix() && !address.HasSocket()) return {};
    os::UniqueFd fd = address.Socket();
    int error = 0;
    // Once: a second connect of the same socket after EINTR would fail.
    if (::connect(fd.get(), address.get(), address.length) == -1) error = errno;
    if (error == EINPROGRESS) {
      os::PollFor("a server", fd.get(), POLLOUT, address.name, timeout);
      socklen_t size = sizeof(error);
      os::Check("getsockopt", address.name, ::getsockopt, fd.get(), SOL_SOCKET,
                SO_ERROR, &error, &size);
    }
    // Where nobody listens, TCP may choose the very port that it connects to as
    // its own: it would meet itself.
    if (error == 0 && Address::Of(fd.get()) == address) error = ECONNREFUSED;
    if (error == 0) return fd;
    const int later[] = {ENOENT, ECONNREFUSED, EAGAIN, EINTR};
    if (std::ranges::count(later, error) != 0) return {};
    throw os::Error(error, "connect", address.name);
  };
  return os::Await("a server", "connect", address.name, timeout, look);
}

}  // namespace ipc

#endif  // SOCKET_SOCKET_H_
