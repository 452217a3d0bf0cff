// The addresses of sockets: a path in the Unix domain, or a host and port for
// TCP. unix(7), tcp(7), getaddrinfo(3)
#ifndef SOCKET_ADDRESS_H_
#define SOCKET_ADDRESS_H_

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <cstring>

#include "posix.h"

namespace ipc {

// What bind and connect take.
struct Address {
  // A path of 1 to 107 bytes. Throws EINVAL, ENAMETOOLONG.
  static Address Unix(const std::string& path) {
    sockaddr_un address{};
    // "" and "\0..." would be names without a file, and so without a mode.
    const bool fits = path.size() < sizeof(address.sun_path);
    if (!fits || path.empty() || path.front() == '\0') {
      throw os::Error(fits ? EINVAL : ENAMETOOLONG, "bind", path,
                      "a path has 1 to 107 bytes");
    }
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, path.size());
    // Not sizeof(address): all of that would be part of a name without a file.
    return {path, &address, offsetof(sockaddr_un, sun_path) + path.size() + 1};
  }

  // HOST:PORT or [HOST]:PORT, PORT being 0 to 65535. Throws UsageError,
  // EADDRNOTAVAIL for no host.
  static Address Tcp(const std::string& name) {
    const std::size_t colon = std::min(name.rfind(':'), name.size());
    std::string host = name.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) {
      host = host.substr(1, host.size() - 2);
    }
    // getaddrinfo would take 70000 for 4464, and nothing for 0.
    const std::string port = name.substr(std::min(colon + 1, name.size()));
    const char* end = port.data() + port.size();
    std::uint16_t number = 0;
    const auto [rest, bad] = std::from_chars(port.data(), end, number);
    if (bad != std::errc() || rest != end) {
      throw os::UsageError("--tcp '" + name + "' is not HOST:PORT");
    }
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
    if (error != 0) {
      throw os::Error(EADDRNOTAVAIL, "getaddrinfo", name,
                      ::gai_strerror(error));
    }
    Address address(name, found->ai_addr, found->ai_addrlen);
    ::freeaddrinfo(found);
    return address;
  }

  // What --unix and --tcp say.
  static Address FromOptions(const os::CommandLine& line) {
    if (!line.Has("tcp")) return Unix(line.Option("unix", "/tmp/ipc_socket"));
    if (line.Has("unix")) throw os::UsageError("--unix or --tcp, not both");
    return Tcp(line.Option("tcp", ""));
  }

  Address(std::string text, const void* address, std::size_t size)
      : name(std::move(text)), length(static_cast<socklen_t>(size)) {
    std::memcpy(&storage, address, size);
  }
  bool operator==(const Address& other) const {
    return length == other.length &&
           std::memcmp(&storage, &other.storage, length) == 0;
  }
  bool IsUnix() const { return storage.ss_family == AF_UNIX; }
  const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&storage);
  }
  os::UniqueFd Socket() const {
    os::UniqueFd fd(os::Check("socket", name, ::socket, int{storage.ss_family},
                              SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    // Else a second small message waits until the first one was acknowledged,
    // which may take 40 ms. Sockets that it accepts have this from it. tcp(7)
    const int on = 1;
    if (!IsUnix()) {
      os::Check("setsockopt", name, ::setsockopt, fd.get(), IPPROTO_TCP,
                TCP_NODELAY, &on, socklen_t{sizeof(on)});
    }
    return fd;
  }
  // What `fd` is bound to; it says which port 0 has become.
  static Address Of(int fd) {
    sockaddr_storage bound{};
    socklen_t size = sizeof(bound);
    auto* address = reinterpret_cast<sockaddr*>(&bound);
    os::Check("getsockname", "socket", ::getsockname, fd, address, &size);
    std::array<char, NI_MAXHOST> host{};
    std::array<char, NI_MAXSERV> port{};
    ::getnameinfo(address, size, host.data(), host.size(), port.data(),
                  port.size(), NI_NUMERICHOST | NI_NUMERICSERV);
    // In brackets where it has colons itself: what Tcp takes.
    const bool colons = std::strchr(host.data(), ':') != nullptr;
    const std::string name = (colons ? "[" : "") + std::string(host.data()) +
                             (colons ? "]:" : ":") + port.data();
    return {name, address, size};
  }

  // Whether a socket of ours is at the path. Throws EEXIST for anything else.
  bool HasSocket() const {
    struct stat status {};
    if (::lstat(name.c_str(), &status) == -1) return false;
    if (S_ISSOCK(status.st_mode) && status.st_uid == ::geteuid()) return true;
    throw os::Error(EEXIST, "connect", name, os::kNotOurs);
  }

  std::string name;
  socklen_t length;  // Of what is in use of `storage`.
  sockaddr_storage storage{};
};

}  // namespace ipc

#endif  // SOCKET_ADDRESS_H_
