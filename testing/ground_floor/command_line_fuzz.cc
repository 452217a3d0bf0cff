// Any arguments of a program.
#include <cmath>

#include "program.h"
#include "testing/fuzzing/fuzz.h"

std::vector<std::string> ipc_testing::Seeds() {
  using namespace std::string_literals;
  return {
      "--name\0/x\0--timeout=1.5\0text"s,
      "--timeout\0001e6\0--count\00032767\0--keep"s,
      "--timeout=nan\0--timeout=-0\0--count=32768"s,
      "--count=99999999999\0--\0-operand"s,
      "-\0extra"s,
      "--keep=yes\0--name="s,
  };
}

namespace {

using ipc_testing::Require;

// Reads a number, if the text is one from 0 to `most`.
template <typename Number>
void ReadNumber(const ipc::Options& options, const char* name, Number most) {
  try {
    const Number number = ipc::NumberOption(options, name, most);
    Require(number >= 0 && number <= most, "a number is in its range");
    const bool plain =
        options.at(name).find_first_not_of("0123456789") == std::string::npos;
    Require(plain || std::is_floating_point_v<Number>,
            "a whole number has nothing but digits");
  } catch (const ipc::UsageError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data,
                                      std::size_t size) {
  ipc_testing::FuzzInput input(data, size);
  std::vector<std::string> arguments{"program"};
  while (!input.empty()) arguments.push_back(input.Argument());
  ipc_testing::Arguments main(arguments);
  const ipc::Options defaults{{"name", "no name"},
                              {"timeout", "inf"},
                              {"count", "1"},
                              {"keep", "no"},
                              {"MESSAGE", "no message"}};
  ipc::Options options = defaults;
  try {
    ipc::ReadCommandLine(main.argc(), main.argv(), options);
  } catch (const ipc::UsageError&) {
    return 0;
  }
  Require(options.size() == defaults.size(), "no option is made up");
  for (const auto& [name, value] : options) {
    const bool given = std::ranges::any_of(
        arguments,
        [&text = value](const auto& it) { return it.ends_with(text); });
    Require(given || value == defaults.at(name) || name == "keep",
            "a value is as given");
  }
  const std::string& keep = options.at("keep");
  Require(keep == "yes" || keep == "no", "a flag is given or not");
  ReadNumber(options, "timeout", HUGE_VAL);
  ReadNumber(options, "count", 32767U);
  return 0;
}
