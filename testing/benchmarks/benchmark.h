// What the benchmarks stand on: each measures a mechanism's header and, in
// turns with it, its floor, the same exchange with the bare system calls.
// Google Benchmark registers, runs and reports.
#pragma once

#include <benchmark/benchmark.h>

#include <random>

#include "benchmark_pair.h"

namespace ipc_benchmark {

// Does it work at all? The figures then mean nothing.
inline bool quick = false;
inline bool failed = false;

inline constexpr std::array<std::size_t, 4> kSizes{64, 1024, 4096, 65536};

// The value below which `part` of the values are.
template <typename Value>
double Quantile(std::vector<Value> values, double part) {
  const auto place = static_cast<std::ptrdiff_t>(
      part * static_cast<double>(values.size() - 1));
  std::ranges::nth_element(values, values.begin() + place);
  return static_cast<double>(values[static_cast<std::size_t>(place)]);
}

// Of one kind of task: the slices of the header and of its floor, in turns.
class Turns {
 public:
  explicit Turns(Task::Kind kind) : kind_(kind) {}

  template <typename Header, typename Floor>
  void WarmUp(Header& header, Floor& floor) {
    header_.task = FitTask(header);
    floor_.task = FitTask(floor);
  }

  template <typename Header, typename Floor>
  void Run(Header& header, Floor& floor, bool header_first) {
    if (!header_first) Add(floor_, floor);
    Add(header_, header);
    if (header_first) Add(floor_, floor);
    ratios_.push_back(header_.typical.back() / floor_.typical.back());
  }

  // The time that a message takes, in seconds.
  double Typical() const { return Quantile(header_.typical, 0.5) / 1e9; }

  void CountRoundTrips(benchmark::UserCounters& counters) const {
    counters["p50_us"] = Quantile(header_.times, 0.5) / 1e3;
    counters["p99_us"] = Quantile(header_.times, 0.99) / 1e3;
    counters["p999_us"] = Quantile(header_.times, 0.999) / 1e3;
    counters["floor_p50_us"] = Quantile(floor_.times, 0.5) / 1e3;
    counters["round_trip_times_floor"] = Quantile(ratios_, 0.5);
    counters["round_trip_cores"] = header_.processor / header_.wall;
  }
  void CountOneWay(benchmark::UserCounters& counters, double size) const {
    const double rate = 1e9 / Quantile(header_.typical, 0.5);
    counters["messages_per_s"] = rate;
    counters["bytes_per_s"] = rate * size;
    counters["floor_messages_per_s"] = 1e9 / Quantile(floor_.typical, 0.5);
    counters["one_way_times_floor"] = Quantile(ratios_, 0.5);
    counters["one_way_cores"] = header_.processor / header_.wall;
  }

 private:
  struct Sum {
    Task task;
    double wall = 0;
    double processor = 0;
    std::vector<double> typical;     // Of a message in each slice.
    std::vector<Nanoseconds> times;  // Of all round trips.
  };

  // So many messages that a slice takes 10 to 20 ms.
  template <typename Link>
  Task FitTask(Pair<Link>& pair) const {
    const Nanoseconds least = quick ? 50'000 : 5'000'000;
    Task task{kind_, 32};
    while (pair.Run(task).wall < least) task.count *= 2;
    task.count *= 2;
    return task;
  }
  template <typename Link>
  void Add(Sum& sum, Pair<Link>& pair) const {
    const Slice slice = pair.Run(sum.task);
    sum.wall += static_cast<double>(slice.wall);
    sum.processor += static_cast<double>(slice.processor);
    sum.typical.push_back(kind_ == Task::kRoundTrip
                              ? Quantile(slice.times, 0.5)
                              : static_cast<double>(slice.wall) /
                                    static_cast<double>(sum.task.count));
    sum.times.insert(sum.times.end(), slice.times.begin(), slice.times.end());
  }

  Task::Kind kind_;
  Sum header_;
  Sum floor_;
  std::vector<double> ratios_;
};

// Nobody else's. Not the process's number: in sandboxes several that share /tmp
// have the same.
inline std::string UniqueName() {
  const char* given = std::getenv("BENCHMARK_NAME");
  return given != nullptr
             ? given
             : "ipc-benchmark-" + std::to_string(std::random_device()());
}

template <typename Header, typename Floor>
void Measure(benchmark::State& state, Setup setup) {
  const std::string name = UniqueName();
  setup.name = name + "-header";
  ::alarm(60);  // As if asked to stop: many times what it takes.
  Pair<Header> header(setup);
  setup.name = name + "-floor";
  Pair<Floor> floor(setup);
  Turns round_trips(Task::kRoundTrip);
  Turns one_way(Task::kOneWay);
  round_trips.WarmUp(header, floor);
  one_way.WarmUp(header, floor);
  for (auto _ : state) {
    // However slow the machine is: all of them have three minutes.
    const Nanoseconds end = Now() + (quick ? 0 : 2'400'000'000);
    for (bool first = true; first || Now() < end; first = !first) {
      round_trips.Run(header, floor, first);
      one_way.Run(header, floor, first);
    }
    state.SetIterationTime(round_trips.Typical());
  }
  round_trips.CountRoundTrips(state.counters);
  one_way.CountOneWay(state.counters, static_cast<double>(setup.size));
}

// MECHANISM/SIZE/two_cores and MECHANISM/SIZE/one_core.
template <typename Header, typename Floor>
void Register(const std::string& mechanism,
              std::span<const std::size_t> sizes = kSizes) {
  const std::vector<int> cores = TwoCores();
  for (const std::size_t size : sizes) {
    for (const bool two : {true, false}) {
      if (two && cores.size() < 2) continue;
      const Setup setup{size, {cores.front(), cores[two ? 1 : 0]}, ""};
      const std::string name = mechanism + "/" + std::to_string(size) +
                               (two ? "/two_cores" : "/one_core");
      auto measure = [setup](benchmark::State& state) {
        if (ipc::ExitStatus([&] { Measure<Header, Floor>(state, setup); }) !=
            0) {
          state.SkipWithError("see above");
          failed = true;
        }
      };
      benchmark::RegisterBenchmark(name.c_str(), measure)
          ->UseManualTime()
          ->Unit(benchmark::kMicrosecond)
          ->Iterations(1);
    }
  }
}

// What main returns. [--quick] and Google Benchmark's own options.
inline int Main(int argc, char** argv, void (*register_all)()) {
  ipc::CatchSignals();
  quick = argc > 1 && std::string_view(argv[argc - 1]) == "--quick";
  argc -= quick ? 1 : 0;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  return failed ? 1 : 0;
}

}  // namespace ipc_benchmark
