// Any arguments of a program.
#include "posix.h"
#include "testing/fuzz.h"

std::vector<std::string> ipc_testing::Seeds() {
  using namespace std::string_literals;
  return {
      "--name\0/x\0--timeout=1.5\0text"s,
      "--timeout\0001e6\0--number\0-7"s,
      "--timeout=nan\0--timeout=-0\0--count=32767"s,
      "--number=99999999999\0--\0-operand"s,
      "-\0extra"s,
  };
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  using ipc_testing::Require;
  ipc_testing::FuzzInput input(data, size);
  std::vector<std::string> arguments{"program"};
  while (!input.empty()) {
    arguments.push_back(input.Argument());
    if (arguments.back().starts_with("--h")) return 0;  // --help would exit.
  }
  ipc_testing::Arguments main(arguments);
  try {
    const os::CommandLine line(main.argc(), main.argv(), "",
                               {"name", "timeout", "number", "count"});
    auto in_range = [&](const char* option, auto least, auto most) {
      try {
        const auto number = line.Option(option, least, least, most);
        Require(number >= least && number <= most, "a number is in its range");
        const std::string digits = line.Option(option, "0");
        Require(
            std::is_floating_point_v<decltype(number)> ||
                digits.find_first_not_of("-0123456789") == std::string::npos,
            "a number has nothing but digits");
      } catch (const os::UsageError&) {
      }
    };
    in_range("number", -100, 100);
    in_range("count", 0U, 32767U);
    in_range("name", 0.0, 1.0);
    auto is_argument = [&](const std::string& text) {
      return std::ranges::any_of(arguments, [&](const std::string& argument) {
        return argument.ends_with(text);
      });
    };
    Require(is_argument(line.Option("name", "")), "an option is as given");
    try {
      const os::Timeout timeout = line.TimeoutOption();
      Require(timeout >= os::Timeout(0), "no time is negative");
      const int left = os::Deadline(timeout).Left();
      Require(left >= (timeout == os::kForever ? -1 : 0), "a deadline holds");
    } catch (const os::UsageError&) {
    }
    Require(is_argument(line.Operand("")), "an operand is as given");
    line.NoOperand();
  } catch (const os::UsageError&) {
  }
  return 0;
}
