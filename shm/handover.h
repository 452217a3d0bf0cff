// What memfd_writer.cc and memfd_reader.cc have to agree on: where they meet,
// the message in which the memory goes over, and what must be sealed.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "program.h"

namespace ipc {

// The address of an abstract socket. Its name is no file: the kernel drops it
// when its owner ends, so there is nothing to remove, and nothing to lock. It
// has no mode either: anybody may connect, and SO_PEERCRED tells who has. Linux
// only. unix(7)
struct AbstractAddress {
  explicit AbstractAddress(const std::string& name) {
    if (name.empty() || name.size() >= sizeof(storage.sun_path)) {
      throw UsageError("--name has 1 to 107 bytes");
    }
    // sun_path[0] stays 0, which makes the name abstract.
    std::memcpy(storage.sun_path + 1, name.data(), name.size());
    // Not sizeof(storage): all of that would be part of the name.
    length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 +
                                    name.size());
  }
  const sockaddr* get() const {
    return reinterpret_cast<const sockaddr*>(&storage);
  }

  sockaddr_un storage{AF_UNIX, {}};
  socklen_t length;
};

// The message: how many bytes the memory has and, beside that, its descriptor.
struct Handover {
  Handover& operator=(Handover&&) = delete;  // It points into itself.

  std::uint64_t size = 0;
  iovec data{&size, sizeof(size)};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  // Not CMSG_SPACE, which may have room for a second descriptor: the kernel
  // gives only those for which there is room. cmsg(3)
  msghdr header{nullptr, 0, &data, 1, control.data(), CMSG_LEN(sizeof(int)), 0};
};

// With these nobody, and not the writer either, can take the memory away or
// change it: without them a mapping may be SIGBUS. fcntl(2), "File Sealing"
inline constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

}  // namespace ipc
