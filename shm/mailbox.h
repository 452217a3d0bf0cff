// One message in shared memory, from the writer to the reader, which take turns
// by two semaphores. sem_overview(7)
#ifndef SHM_MAILBOX_H_
#define SHM_MAILBOX_H_

#include <semaphore.h>

#include "shared_memory.h"

namespace ipc {

class Mailbox {
 public:
  static constexpr std::size_t kCapacity = 100;  // Bytes, as in the document.

  // What lies in the object.
  struct Layout {
    static constexpr std::uint32_t kMagic = 0x53484d31;  // "SHM1"
    static constexpr std::size_t kSize = 176;
    Header header;
    std::atomic<std::uint32_t> length;  // The message's, 0 to kCapacity.
    std::array<char, kCapacity> text;
    sem_t filled;   // Posted when the message is there,
    sem_t emptied;  // and when it has been used.
  };

  // The writer's. Throws as SharedMemory::Create.
  static Mailbox Create(const std::string& name, os::Timeout timeout) {
    Mailbox mailbox(SharedMemory<Layout>::Create(name), timeout);
    auto& memory = mailbox.memory_;
    // Shared (1), or a post would not reach the other process.
    os::Check("sem_init", name, ::sem_init, &memory->filled, 1, 0U);
    os::Check("sem_init", name, ::sem_init, &memory->emptied, 1, 0U);
    memory.Publish();  // A post that came before sem_init would be lost.
    return mailbox;
  }
  // Puts the message. Throws EMSGSIZE above kCapacity bytes.
  void Put(std::string_view message) {
    if (message.size() > kCapacity) {
      throw os::Error(EMSGSIZE, "mmap", memory_.name());
    }
    std::ranges::copy(message, memory_->text.begin());
    memory_->length = static_cast<std::uint32_t>(message.size());
    os::Check("sem_post", memory_.name(), ::sem_post, &memory_->filled);
  }
  // Waits for Done. Throws ETIMEDOUT, EOWNERDEAD where the reader has died.
  void AwaitDone() { Wait("a reader", &memory_->emptied); }

  // The reader's: waits for a writer. Throws as SharedMemory::Open.
  static Mailbox Open(const std::string& name, os::Timeout timeout) {
    return {SharedMemory<Layout>::Open(name, timeout), timeout};
  }
  // Waits for the message. Throws ETIMEDOUT, EOWNERDEAD where the writer has
  // died, EBADMSG where what it put is no message.
  std::string Get() {
    Wait("a message", &memory_->filled);
    const std::size_t length = memory_->length;  // Once: it may change again.
    if (length > kCapacity) throw os::Error(EBADMSG, "mmap", memory_.name());
    return {memory_->text.data(), length};
  }
  // The message has been used: the writer may end.
  void Done() {
    os::Check("sem_post", memory_.name(), ::sem_post, &memory_->emptied);
  }

 private:
  Mailbox(SharedMemory<Layout> memory, os::Timeout timeout)
      : memory_(std::move(memory)), timeout_(timeout) {}

  // Waits for a post by the peer, unless that has come and died.
  void Wait(const char* what, sem_t* semaphore) {
    auto look = [&](os::Timeout pause) {
      // First: what it posts before it ends must still be found.
      const bool died = memory_.PeerDied();
      const timespec end = os::FromNow(pause);
      if (os::Retry(::sem_clockwait, semaphore, CLOCK_MONOTONIC, &end) == 0) {
        return true;
      }
      if (errno == ETIMEDOUT && !died) return false;
      throw os::Error(died ? EOWNERDEAD : errno, "sem_clockwait",
                      memory_.name());
    };
    os::Await(what, "sem_clockwait", memory_.name(), timeout_, look);
  }

  SharedMemory<Layout> memory_;
  os::Timeout timeout_;
};
static_assert(std::is_standard_layout_v<Mailbox::Layout>);
static_assert(sizeof(Mailbox::Layout) == Mailbox::Layout::kSize);

}  // namespace ipc

#endif  // SHM_MAILBOX_H_
