// A shared memory object of any size and content, which may change while it is
// read: what a writer makes of it that finds it, and what a reader does.
#include <cstring>
#include <thread>

#include "shm/mailbox.h"
#include "testing/fuzz.h"

namespace {

using ipc::Mailbox;
using ipc_testing::Require;
using Layout = Mailbox::Layout;

// The word at that offset of the content.
std::uint32_t WordAt(std::size_t offset, const std::string& content) {
  std::uint32_t word = 0;
  std::memcpy(&word, content.data() + offset, sizeof(word));
  return word;
}

// An object as large as its content.
class Object {
 public:
  Object(const char* name, std::string content)
      : fd_(::shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600)),
        name_(::shm_unlink, name),
        content_(std::move(content)) {
    Require(static_cast<bool>(fd_), "shm_open");
    Require(::ftruncate(fd_.get(), static_cast<off_t>(content_.size())) == 0,
            "ftruncate");
    os::WriteAll(fd_.get(), os::Bytes(content_), name);
  }
  int fd() const { return fd_.get(); }
  bool Unchanged() const {
    std::string now(content_.size() + 1, '\0');
    const auto n = ::pread(fd(), now.data(), now.size(), 0);
    return n >= 0 && now.substr(0, static_cast<std::size_t>(n)) == content_;
  }

 private:
  os::UniqueFd fd_;
  os::OwnedName name_;
  std::string content_;
};

// What the other process sees of it.
class Mapping {
 public:
  explicit Mapping(int fd)
      : layout_(static_cast<Layout*>(::mmap(nullptr, sizeof(Layout),
                                            PROT_READ | PROT_WRITE, MAP_SHARED,
                                            fd, 0))) {
    Require(layout_ != MAP_FAILED, "mmap");
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { ::munmap(layout_, sizeof(Layout)); }
  Layout* operator->() const { return layout_; }

  // Writes the content, except for the semaphores: those are the C library's,
  // which aborts where one is broken. They get a value from the content.
  void SetSemaphores(const std::string& content) const {
    auto set = [&](std::size_t offset, sem_t* semaphore) {
      const unsigned value = WordAt(offset, content);
      ::sem_init(semaphore, 1, value & unsigned{INT_MAX});  // SEM_VALUE_MAX
    };
    set(offsetof(Layout, filled), &layout_->filled);
    set(offsetof(Layout, emptied), &layout_->emptied);
  }

 private:
  Layout* layout_;
};

// The reader, while a writer lives. Where the content changes, the length is
// now that of the content and now another.
void Read(const char* name, const std::string& content, bool changes,
          std::uint32_t other) {
  Object object(name, content);
  os::TryLock(object.fd(), name);
  if (content.size() != sizeof(Layout)) {
    Mailbox::Open(name, os::Timeout(0));
    Require(false, "an object of another size is refused");
  }
  const Mapping writer(object.fd());
  writer.SetSemaphores(content);
  auto mailbox = Mailbox::Open(name, os::Timeout(0));
  Require(WordAt(offsetof(Layout, header.ready), content) == Layout::kMagic,
          "an object that is not ready is refused");
  const std::uint32_t length = WordAt(offsetof(Layout, length), content);
  if (!changes) {
    Require(mailbox.Get() ==
                content.substr(offsetof(Layout, text), std::size_t{length}),
            "the message is as it lies there");
    return mailbox.Done();
  }
  ::sem_init(&writer->filled, 1, 200);
  std::jthread change([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      writer->length = length;
      writer->length = other;
    }
  });
  for (int i = 0; i < 200; ++i) {
    try {
      Require(mailbox.Get().size() <= Mailbox::kCapacity,
              "a message has a limit");
    } catch (const os::Error&) {
    }
  }
}

// The writer: finds the object, and then a reader that writes into its own.
void Write(const char* name, const std::string& content) {
  const Object object(name, content);
  try {
    auto mailbox = Mailbox::Create(name, os::Timeout(0));
    const os::UniqueFd reader(::shm_open(name, O_RDWR, 0));
    const Mapping mapping(reader.get());
    auto other = Mailbox::Open(name, os::Timeout(0));
    mailbox.Put("Hello World");
    Require(other.Get() == "Hello World", "what is made is sound");
    if (content.size() == sizeof(Layout)) {
      mapping->header.reader_came =
          WordAt(offsetof(Layout, header.reader_came), content);
      mapping.SetSemaphores(content);
    }
    mailbox.AwaitDone();
  } catch (const os::Error&) {
    Require(object.Unchanged(), "what is not ours is left as it was");
  }
}

}  // namespace

// A byte that says what happens, one for the other length, and the object.
std::vector<std::string> ipc_testing::Seeds() {
  auto object = [](std::uint32_t ready, std::uint32_t came,
                   std::uint32_t length, char posts) {
    std::string content(sizeof(Layout), '\0');
    std::memcpy(content.data(), &ready, 4);
    std::memcpy(content.data() + 4, &came, 4);
    std::memcpy(content.data() + 8, &length, 4);
    content.replace(12, 11, "Hello World");
    content[offsetof(Layout, filled)] = posts;
    content[offsetof(Layout, emptied)] = posts;
    return content;
  };
  const std::string good = object(Layout::kMagic, 0, 11, 1);
  return {
      "R\x64" + good,
      "r\x65" + good,
      "R\x65" + object(Layout::kMagic, 0, 101, 1),
      "R\x01" + object(Layout::kMagic, 0, 0x7fffffff, 1),
      "R\x01" + object(Layout::kMagic, 0, 100, 0),
      "R\x01" + object(Layout::kMagic, 1, 11, 1),
      "W\x01" + object(0, 1, 11, 1),
      "W\x01" + good,
      "W\x01" + good + "more",
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  static const std::string name = "/ipc-fuzz-" + std::to_string(::getpid());
  ipc_testing::FuzzInput input(data, size);
  const std::uint8_t what = input.Byte();
  const std::uint32_t other = input.Byte();
  const std::string content = input.Text(2 * sizeof(Layout));
  try {
    if ((what & 1) != 0) {
      Write(name.c_str(), content);
    } else {
      Read(name.c_str(), content, (what & 0x20) != 0, other);
    }
  } catch (const os::Error&) {
  }
  return 0;
}
