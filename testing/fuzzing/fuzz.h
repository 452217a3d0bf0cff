// What the fuzz targets share. Each defines LLVMFuzzerTestOneInput and Seeds;
// libFuzzer, or corpus_main.cc, calls it.
#pragma once

#include <getopt.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size);

namespace ipc_testing {

// Inputs that get far into the code, to be changed here and there.
std::vector<std::string> Seeds();

// Ends the process where what has to hold does not.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "Not so: %s\n", what);
  std::abort();
}

// The bytes of an input, from the first to the last; 0 and "" after that.
class FuzzInput {
 public:
  FuzzInput(const std::uint8_t* data, std::size_t size)
      : rest_(reinterpret_cast<const char*>(data), size) {}
  bool empty() const { return rest_.empty(); }
  std::uint8_t Byte() {
    const std::string byte = Text(1);
    return byte.empty() ? std::uint8_t{0}
                        : static_cast<std::uint8_t>(byte.front());
  }
  // The next bytes, at most `size`.
  std::string Text(std::size_t size) {
    std::string text(rest_.substr(0, size));
    rest_.remove_prefix(text.size());
    return text;
  }
  // The next bytes up to a NUL: what can be an argument of a program.
  std::string Argument() {
    std::string text = Text(std::min(rest_.find('\0'), rest_.size()));
    Byte();
    return text;
  }

 private:
  std::string_view rest_;
};

// The arguments of a main, which getopt_long sets out to read.
class Arguments {
 public:
  explicit Arguments(std::vector<std::string> arguments)
      : arguments_(std::move(arguments)) {
    for (std::string& argument : arguments_) argv_.push_back(argument.data());
    argv_.push_back(nullptr);
    ::optind = 0;  // From the start again. getopt(3)
    ::opterr = 0;  // It need not complain.
  }
  int argc() const { return static_cast<int>(arguments_.size()); }
  char** argv() { return argv_.data(); }

 private:
  std::vector<std::string> arguments_;
  std::vector<char*> argv_;
};

// What goes to standard output since this was made.
class Output {
 public:
  Output() {
    Require(::ftruncate(fd_, 0) == 0 && ::lseek(fd_, 0, SEEK_SET) == 0,
            "the output is empty");
  }
  std::string Text() const {
    const off_t size = ::lseek(fd_, 0, SEEK_END);
    std::string text(static_cast<std::size_t>(size), '\0');
    const auto n = ::pread(fd_, text.data(), text.size(), 0);
    Require(n == size, "the output can be read");
    return text;
  }

 private:
  static int Fd() {
    static const int kFd = [] {
      const int memory = ::memfd_create("output", MFD_CLOEXEC);
      Require(::dup2(memory, STDOUT_FILENO) != -1, "dup2");
      return memory;
    }();
    return kFd;
  }

  const int fd_ = Fd();
};

}  // namespace ipc_testing
