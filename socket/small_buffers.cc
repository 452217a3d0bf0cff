// Linked into tests in place of the C library's: sockets as the kernel may make
// them where it has little memory. They take a few KB, and then no more.
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace {

int WithSmallBuffer(long fd) {
  const int least = 1;
  ::setsockopt(static_cast<int>(fd), SOL_SOCKET, SO_SNDBUF, &least,
               sizeof(least));
  return static_cast<int>(fd);
}

}  // namespace

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
extern "C" int socket(int domain, int type, int protocol) {
  return WithSmallBuffer(::syscall(SYS_socket, domain, type, protocol));
}

extern "C" int accept4(int fd, sockaddr* address, socklen_t* length,
                       int flags) {
  return WithSmallBuffer(::syscall(SYS_accept4, fd, address, length, flags));
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)
