// Where server.cc and client.cc meet: at a path in the Unix domain, or at a
// host and port of TCP. unix(7), tcp(7), getaddrinfo(3)
#pragma once

#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <memory>

#include "name.h"
#include "program.h"

namespace ipc {

// --- Addresses ---------------------------------------------------------------

// A list such as getaddrinfo makes: all addresses of a host, or one of a path.
using Addresses = std::shared_ptr<const addrinfo>;

// Throws EINVAL, as `call` would, where the path is too long.
inline Addresses PathAddress(const std::string& path, const char* call) {
  struct Entry : addrinfo {
    sockaddr_un address{AF_UNIX, {}};
  };
  const auto entry = std::make_shared<Entry>();
  // A name that begins with NUL is in no directory, and so has no mode.
  const bool fits =
      path[0] != '\0' && path.size() < sizeof(entry->address.sun_path);
  if (!fits) throw Error(EINVAL, call, path, "a path has 1 to 107 bytes");
  // A socket that is not there may still come, but not without a directory.
  const std::string directory = path.substr(0, path.rfind('/') + 1) + ".";
  Check(::access(directory.c_str(), F_OK), "access", directory);
  path.copy(entry->address.sun_path, path.size());
  entry->ai_family = AF_UNIX;
  entry->ai_addr = reinterpret_cast<sockaddr*>(&entry->address);
  entry->ai_addrlen = sizeof(entry->address);
  return entry;
}

// HOST:PORT, or [HOST]:PORT where the host has colons itself. Throws
// UsageError, and EADDRNOTAVAIL for an unknown host.
inline Addresses TcpAddresses(const std::string& name, unsigned least_port) {
  const std::string port = name.substr(name.rfind(':') + 1);
  // getaddrinfo would take 70000 for 4464, and nothing for 0.
  const unsigned number = NumberOption(Options{{"tcp", port}}, "tcp", 65535U);
  const bool good = number >= least_port && port != name;  // There is a colon.
  if (!good) throw UsageError("--tcp '" + name + "' is not HOST:PORT");
  std::string host = name.substr(0, name.size() - port.size() - 1);
  const bool in_brackets = host.starts_with('[') && host.ends_with(']');
  if (in_brackets) host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error == 0) return {found, ::freeaddrinfo};
  throw Error(EADDRNOTAVAIL, "getaddrinfo", name, ::gai_strerror(error));
}

// What --unix and --tcp are by default.
inline constexpr char kPath[] = "/tmp/ipc_socket";
inline const std::string kNotGiven(1, '\0');  // No argument can be this.

// What --unix or --tcp says, and the addresses of that for `call`.
inline std::pair<std::string, Addresses> PlaceOption(const Options& options,
                                                     const char* call,
                                                     unsigned least_port) {
  const std::string& path = options.at("unix");
  const std::string& name = options.at("tcp");
  if (name == kNotGiven) return {path, PathAddress(path, call)};
  if (path == kPath) return {name, TcpAddresses(name, least_port)};
  throw UsageError("--unix or --tcp, not both");
}

// The port at a TCP socket's own `end`, which is ::getsockname, or at its
// peer's, ::getpeername; 0 where there is none. In the Unix domain a number
// that is 0 only where there is no peer, or at an end without a path.
inline int Port(int fd, int (*end)(int, sockaddr*, socklen_t*)) {
  sockaddr_in6 address{};  // In a sockaddr_in the port is at the same place.
  socklen_t size = sizeof(address);
  end(fd, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin6_port);
}

// --- Paths -------------------------------------------------------------------

// Whether there is a socket at the path. Throws as CheckOurs.
inline bool HasSocket(const std::string& path, mode_t mark) {
  const UniqueFd fd(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd && errno == ENOENT) return false;
  CheckOurs(fd.get(), S_IFSOCK, "open", path, mark);
  return true;
}

// The server's: opens the file which it locks, as a socket can't be locked.
inline UniqueFd OpenLock(const std::string& name) {
  // O_NONBLOCK: a stranger's file could hold up open for 45 s, by a lease.
  const int oflag = O_CREAT | O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC;
  UniqueFd fd(::open(name.c_str(), oflag, S_IRUSR | S_IWUSR | kOurs));
  CheckOurs(fd.get(), S_IFREG, "open", name);
  return fd;
}

// The server's: removes PATH.lock, and before that the socket at PATH, unless a
// stranger has put something else there.
inline int UnlinkBoth(const char* lock) {
  const std::string path(lock, std::string_view(lock).rfind('.'));
  struct stat status {};
  ::lstat(path.c_str(), &status);
  const bool ours = (status.st_mode & (S_IFMT | kOurs)) == (S_IFSOCK | kOurs);
  if (ours && status.st_uid == ::geteuid()) ::unlink(path.c_str());
  return ::unlink(lock);
}

}  // namespace ipc
