// A shared memory object of any size and content, which may change while it is
// read: what a writer makes of it that finds it, and what a reader does.
#include <semaphore.h>
#include <sys/mman.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

#include "name.h"
#include "program.h"
#include "shm/message.h"
#include "testing/fuzzing/fuzz.h"

// The samples themselves; this is the other side while the writer waits, and
// takes what the reader prints.
static int WatchedSemClockwait(sem_t* semaphore, clockid_t clock,
                               const timespec* until);
namespace ipc {
static void WatchedPrint(std::string_view bytes);
}  // namespace ipc
#define sem_clockwait WatchedSemClockwait
#define Print WatchedPrint
#include "shm/test_included_pair.h"
#undef sem_clockwait
#undef Print

namespace {

using ipc::SharedMessage;
using ipc_testing::Require;

constexpr std::size_t kCapacity = sizeof(SharedMessage::text);

std::string printed;
std::function<void()> on_wait;

}  // namespace

// Doesn't wait: nobody else would post. Fails where it is called again and
// again, which ends the writer's wait for a reader.
int WatchedSemClockwait(sem_t* semaphore, clockid_t /*clock*/,
                        const timespec* /*until*/) {
  static int waits = 0;
  if (on_wait) {
    waits = 0;
    std::exchange(on_wait, nullptr)();
  }
  if (::sem_trywait(semaphore) == 0) return 0;
  errno = ++waits < 3 ? ETIMEDOUT : EINVAL;
  return -1;
}

namespace ipc {
static void WatchedPrint(std::string_view bytes) { printed = bytes; }
}  // namespace ipc

namespace {

// The word at that offset of the content.
std::uint32_t WordAt(std::size_t offset, const std::string& content) {
  std::uint32_t word = 0;
  std::memcpy(&word, content.data() + offset, sizeof(word));
  return word;
}
std::uint32_t SemaphoreAt(std::size_t offset, const std::string& content) {
  return WordAt(offset, content) & std::uint32_t{INT_MAX};  // SEM_VALUE_MAX
}

// An object as large as its content.
class Object {
 public:
  Object(const char* name, mode_t mark, std::string content)
      : fd_(::shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600 | mark)),
        name_(name),
        content_(std::move(content)) {
    Require(static_cast<bool>(fd_), "shm_open");
    ipc::WriteAll(fd_.get(), content_, name);
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;
  ~Object() { ::shm_unlink(name_); }
  int fd() const { return fd_.get(); }
  bool Unchanged() const {
    std::string now(content_.size() + 1, '\0');
    const auto n = ::pread(fd(), now.data(), now.size(), 0);
    return n >= 0 && now.substr(0, static_cast<std::size_t>(n)) == content_ &&
           ipc::Status(fd(), name_).st_nlink == 1;
  }

 private:
  ipc::UniqueFd fd_;
  const char* name_;
  std::string content_;
};

// What the other process sees of it.
class Mapping {
 public:
  explicit Mapping(int fd)
      : shared_(static_cast<SharedMessage*>(
            ::mmap(nullptr, sizeof(SharedMessage), PROT_READ | PROT_WRITE,
                   MAP_SHARED, fd, 0))) {
    Require(shared_ != MAP_FAILED, "mmap");
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(shared_, sizeof(*shared_)); }
  SharedMessage* operator->() const { return shared_; }

  // The semaphores are the C library's, which aborts where one is broken: they
  // get a value from the content.
  void SetSemaphores(const std::string& content) const {
    ::sem_init(&shared_->filled, 1,
               SemaphoreAt(offsetof(SharedMessage, filled), content));
    ::sem_init(&shared_->emptied, 1,
               SemaphoreAt(offsetof(SharedMessage, emptied), content));
  }

 private:
  SharedMessage* shared_;
};

// The reader, while a writer lives. Where the content changes, the length is
// now that of the content and now another.
void Read(const char* name, const std::string& content, bool changes,
          std::uint32_t other) {
  const Object object(name, ipc::kOurs, content);
  Require(!ipc::TryRead(name), "a dead writer's object is not read");
  Require(ipc::SetLock(object.fd(), F_WRLCK, ipc::kWriterAlive, 1, name),
          "the writer lives");
  if (content.size() != sizeof(SharedMessage)) {
    ipc::TryRead(name);
    Require(false, "an object of another size is refused");
  }
  const Mapping writer(object.fd());
  writer.SetSemaphores(content);
  if (!changes) {
    const std::uint32_t length =
        WordAt(offsetof(SharedMessage, length), content);
    const std::uint32_t filled =
        SemaphoreAt(offsetof(SharedMessage, filled), content);
    Require(ipc::TryRead(name) == (filled != 0), "there is a message, or not");
    if (filled == 0) return;
    Require(length <= kCapacity, "a message that is too long is refused");
    Require(printed == content.substr(0, std::size_t{length}) + "\n",
            "the message is as it lies there");
    return;
  }
  constexpr int kReads = 50;
  ::sem_init(&writer->filled, 1, kReads);
  ::sem_init(&writer->emptied, 1, 0);
  std::atomic<bool> started = false;
  std::jthread change([&](const std::stop_token& stop) {
    const std::atomic_ref length(writer->length);
    started = true;
    started.notify_one();
    while (!stop.stop_requested()) {
      length = WordAt(offsetof(SharedMessage, length), content);
      length = other;
    }
  });
  started.wait(false);
  for (int i = 0; i < kReads; ++i) {
    try {
      ipc::TryRead(name);
    } catch (const ipc::Error&) {
    }
    Require(printed.size() <= kCapacity + 1, "a message has a limit");
  }
}

// The writer: finds the object, and then a reader that writes into its own.
void Write(const char* name, const std::string& content, bool marked,
           bool locked) {
  const Object object(name, marked ? ipc::kOurs : 0, content);
  if (locked) ::flock(object.fd(), LOCK_EX);
  bool made = false;
  on_wait = [&] {
    made = true;
    Require(marked && !locked, "only a dead writer's object is taken over");
    const ipc::UniqueFd reader(::shm_open(name, O_RDWR, 0));
    const Mapping mapping(reader.get());
    Require(ipc::TryRead(name) && printed == "Hello World\n",
            "what is made is sound");
    if (content.size() == sizeof(SharedMessage)) mapping.SetSemaphores(content);
  };
  try {
    ipc::RunWriter(
        {{"name", name}, {"timeout", "inf"}, {"MESSAGE", "Hello World"}});
  } catch (const ipc::Error&) {
    Require(made || object.Unchanged(), "what is not ours is left as it was");
  }
  Require(made == (ipc::Status(object.fd(), name).st_nlink == 0),
          "it has removed what it replaced, and nothing else");
  if (made) Require(::shm_unlink(name) == -1, "its own is removed, too");
  on_wait = nullptr;
}

}  // namespace

// A byte that says what happens, one for the other length, and the object.
std::vector<std::string> ipc_testing::Seeds() {
  auto object = [](std::uint32_t length, char filled, char emptied) {
    std::string content(sizeof(SharedMessage), '\0');
    content.replace(0, 11, "Hello World");
    std::memcpy(&content[offsetof(SharedMessage, length)], &length, 4);
    content[offsetof(SharedMessage, filled)] = filled;
    content[offsetof(SharedMessage, emptied)] = emptied;
    return content;
  };
  const std::string good = object(11, 1, 0);
  const std::string taken = object(11, 0, 0);
  return {
      "R\x01" + good,
      "r\x65" + good,
      "R\x01" + object(101, 1, 0),
      "R\x01" + object(0x7fffffff, 1, 0),
      "R\x01" + object(100, 1, 1),
      "R\x01" + taken,
      "W\x01" + good,
      "W\x01" + taken + "more",
      "w\x01" + taken,
      "U\x01" + good,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static const std::string name = "/ipc-fuzz-" + std::to_string(::getpid());
  ipc_testing::FuzzInput input(data, size);
  const std::uint8_t what = input.Byte();
  const std::uint32_t other = input.Byte();
  const std::string content = input.Text(2 * sizeof(SharedMessage));
  printed.clear();
  try {
    if ((what & 1) != 0) {
      Write(name.c_str(), content, (what & 2) != 0, (what & 0x20) != 0);
    } else {
      Read(name.c_str(), content, (what & 0x20) != 0, other);
    }
  } catch (const ipc::Error&) {
  }
  return 0;
}
