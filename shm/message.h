// What writer.cc and reader.cc have to agree on: what lies in the shared
// memory, and how each of the two tells that it lives.
#pragma once

#include <semaphore.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <type_traits>

namespace ipc {

inline constexpr std::size_t kMaxBytes = 100;  // Of a message.

struct SharedMessage {
  std::array<char, kMaxBytes> text;
  std::uint32_t length;  // Of the text, from 0 to kMaxBytes.
  sem_t filled;          // The writer posts it: the text may be taken, once.
  sem_t emptied;         // The reader posts it: the text has been printed.
};
static_assert(std::is_standard_layout_v<SharedMessage>);

// The byte of the object that each side has locked while it lives. The writer
// locks its own last, so that it also says: all is initialised.
inline constexpr off_t kWriterAlive = 0;
inline constexpr off_t kReaderAlive = 1;

}  // namespace ipc
