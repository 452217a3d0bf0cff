// Runs a fuzz target without a fuzzer: on each seed, on its beginnings, and on
// the seed with one byte changed. With a directory as its argument, writes the
// seeds there instead, for libFuzzer to begin with.
#include <fstream>

#include "testing/fuzzing/fuzz.h"

namespace {

void Run(const std::string& input) {
  // A copy that is no longer than the input, for AddressSanitizer to watch.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  int number = 0;
  for (const std::string& seed : ipc_testing::Seeds()) {
    if (argc > 1) {
      std::ofstream(argv[1] + ("/seed" + std::to_string(number++))) << seed;
      continue;
    }
    Run(seed);
    for (std::size_t i = 0; i < seed.size(); ++i) {
      Run(seed.substr(0, i));
      for (const int flip : {0x01, 0x80, 0xff}) {
        std::string changed = seed;
        changed[i] = static_cast<char>(changed[i] ^ flip);
        Run(changed);
      }
    }
  }
}
