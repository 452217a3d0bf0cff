// What server.cc and client.cc have to agree on.
#pragma once

#include <mqueue.h>

#include "posix.h"

namespace ipc {

inline constexpr std::size_t kMaxBytes = 128;  // Of a message.

// The byte of the queue that the server has locked while it receives.
inline constexpr off_t kServerAlive = 0;

// On Linux a message queue is a descriptor: it can be polled, locked, and asked
// for its status. mq_overview(7)
using UniqueQueue = UniqueHandle<::mq_close>;

}  // namespace ipc
