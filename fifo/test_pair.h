// The pair, on a path of its own, and what tests do to it.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "posix.h"
#include "testing/processes/child_process.h"
#include "testing/processes/manners.h"

namespace ipc_testing {

using Words = std::vector<std::string>;
using Input = std::optional<std::string>;
inline constexpr auto kOpenInput = std::nullopt;
inline constexpr auto kNothing = [] {};

inline void AwaitBytes(int fd, int count) {
  Eventually([&] {
    int bytes = 0;
    return ::ioctl(fd, FIONREAD, &bytes) == 0 && bytes >= count;
  });
}

inline std::string TextOf(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class FifoTest : public testing::Test {
 protected:
  Words Command(const char* program, const Words& arguments = {}) const {
    Words argv{Program(program), "--path", path_};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return argv;
  }
  ChildProcess Reader(const Words& arguments = {},
                      const std::function<void()>& in_child = kNothing) const {
    return ChildProcess(Command("READER", arguments), "", in_child);
  }
  ChildProcess Writer(const Words& arguments = {}, const Input& input = "",
                      const std::function<void()>& in_child = kNothing) const {
    return ChildProcess(Command("WRITER", arguments), input, in_child);
  }
  // /bin/sh, with the path as $0.
  ChildProcess Shell(const std::string& script, const Input& input = "") const {
    return ChildProcess({"/bin/sh", "-c", script, path_}, input);
  }

  // What the reader prints of what the writer sends.
  std::string Transfer(const Words& arguments, const Input& input = "") const {
    ChildProcess reader = Reader();
    ChildProcess writer = Writer(arguments, input);
    EXPECT_EQ(writer.Wait(), Exited(0)) << writer.Err();
    EXPECT_EQ(reader.Wait(), Exited(0)) << reader.Err();
    return reader.Out();
  }
  void ExpectPairWorks() const {
    EXPECT_EQ(Transfer({}), "Hello World\n");
    EXPECT_THAT(directory_.Names(), testing::IsEmpty());
  }

  // As a program does that knows nothing of ours. Opening waits for nobody.
  void MakeFifo(mode_t mode = 0644) const {
    ASSERT_EQ(::mkfifo(path_.c_str(), mode), 0);
  }
  ipc::UniqueFd OpenTo(int oflag) const {
    ipc::UniqueFd fd(::open(path_.c_str(), oflag | O_NONBLOCK | O_CLOEXEC));
    EXPECT_TRUE(fd);
    return fd;
  }
  ipc::UniqueFd MakeToRead() const {
    MakeFifo();
    return OpenTo(O_RDONLY);
  }

  std::string Waiting(const std::string& program,
                      const std::string& peer) const {
    return program + ": waiting for a " + peer + " on '" + path_ + "'\n";
  }
  std::string Error(const std::string& program, const std::string& call,
                    const std::string& reason) const {
    return program + ": " + call + " '" + path_ + "': " + reason + "\n";
  }

  TemporaryDirectory directory_;
  std::string path_ = directory_ / "fifo";
};

}  // namespace ipc_testing
