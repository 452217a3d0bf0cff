// For a command's main alone: options and --help, exit status, stop signals,
// and what is said on standard error.
#pragma once

#include <getopt.h>

#include <charconv>
#include <csignal>
#include <map>
#include <stdexcept>
#include <vector>

#include "posix.h"

namespace ipc {

// --- What is said ------------------------------------------------------------

// Says "PROGRAM: text" on standard error, on one line whatever a name in it
// contains, and in one write, as two programs may share a terminal.
inline void Say(std::string text) {
  text = program_invocation_short_name + (": " + text);
  std::ranges::replace_if(
      text, [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  text += '\n';
  [[maybe_unused]] auto n = ::write(STDERR_FILENO, text.data(), text.size());
}

inline void Print(std::string_view bytes) {
  WriteAll(STDOUT_FILENO, bytes, "standard output");
}

// A peer that is there comes sooner than this, and nothing is said of a wait.
inline constexpr Seconds kGrace{0.15};

// Attempts to meet a peer where the kernel has nothing to wait on. The pauses
// between them are 10, 20, 40, 80 ms, and then 100 ms.
struct PeerWait {
  // How long to pause before the next attempt. Says for what, but not at once:
  // a peer that is there comes within 150 ms. Throws ETIMEDOUT in `call`'s
  // name.
  Seconds Next() {
    ThrowIfStopped();
    if (Now() > end) throw Error(ETIMEDOUT, call, object, "waited for " + peer);
    if (pause == 0.08) Say("waiting for " + peer + " on '" + object + "'");
    pause = std::min(2 * pause, 0.1);
    return std::min(Seconds(pause), end - Now());
  }
  void Pause() { Poll({}, Next()); }

  const std::string peer;
  const std::string call;
  const std::string object;
  const Seconds end;
  double pause = 0.005;
};

// --- The command line --------------------------------------------------------

// The command line is wrong: Main says why, and returns 2.
using UsageError = std::invalid_argument;

// The value of each option, and of the operand MESSAGE, by name: the one given,
// or else the one that stood here before. A value of "no" belongs to a flag.
using Options = std::map<std::string, std::string>;

// Takes what the command line says into `options`. getopt_long(3)
inline void ReadCommandLine(int argc, char** argv, Options& options) {
  std::vector<option> table(1);  // The last one is all zeros.
  for (const auto& [key, val] : options) {
    table.insert(table.begin(), {key.c_str(), val == "no" ? 0 : 1, nullptr, 0});
  }
  argv[0] = program_invocation_short_name;  // What getopt_long complains as.
  int i = 0;
  for (int c; (c = ::getopt_long(argc, argv, "", table.data(), &i)) != -1;) {
    if (c == '?') throw UsageError("wrong usage");
    options[(table.begin() + i)->name] = ::optarg != nullptr ? ::optarg : "yes";
  }
  const bool operand = options.contains("MESSAGE") && ::optind < argc;
  if (operand) options["MESSAGE"] = argv[::optind++];
  if (::optind == argc) return;
  throw UsageError(std::string("extra operand '") + argv[::optind] + "'");
}

// The value as a number from 0 to `most`.
template <typename Number>
Number NumberOption(const Options& options, const char* name, Number most) {
  const std::string& text = options.at(name);
  const std::from_chars_result all{text.data() + text.size(), std::errc()};
  Number number{};
  const bool good = std::from_chars(text.data(), all.ptr, number) == all;
  if (good && number >= 0 && number <= most) return number;
  throw UsageError(std::string("--") + name + " '" + text +
                   "' is not from 0 to " + std::to_string(most));
}

// --- Signals -----------------------------------------------------------------

// A call that blocks just after the signal came is not interrupted by it: so
// SIGALRM follows, every second, until one is.
inline void OnStopSignal(int signal) {
  if (stop_signal == 0) stop_signal = signal;
  ::alarm(1);
}

// Prepares the process for what posix.h asks of it.
inline void CatchSignals() {
  // EPIPE and EFBIG are reported; these signals would kill without a word.
  for (const int signal : {SIGPIPE, SIGXFSZ}) ::signal(signal, SIG_IGN);
  struct sigaction before {};
  struct sigaction stop {};
  stop.sa_handler = OnStopSignal;  // No SA_RESTART: calls return.
  for (const int signal : {SIGALRM, SIGINT, SIGTERM, SIGHUP}) {
    ::sigaction(signal, nullptr, &before);
    // nohup, or a shell that starts a background job, has it ignored.
    if (before.sa_handler == SIG_IGN && signal != SIGALRM) continue;
    ::sigaction(signal, &stop, nullptr);
  }
  // The parent may have blocked any of them.
  ::sigprocmask(SIG_SETMASK, &stop.sa_mask, nullptr);
}

// --- The end -----------------------------------------------------------------

// Runs the body of a process and returns its exit status. If a signal has asked
// it to stop, it dies of that signal, so that its parent can tell.
int ExitStatus(auto body) {
  try {
    body();
    return 0;
  } catch (const UsageError& error) {
    Say(error.what() + std::string("; see --help"));
    return 2;
  } catch (const std::exception& error) {
    if (stop_signal == 0) Say(error.what());
  }
  ::signal(stop_signal, SIG_DFL);
  ::raise(stop_signal);  // 0 is no signal: nothing happens.
  return 1;
}

// What main returns: the status of `run` with the options of the command line.
inline int Main(int argc, char** argv, std::string_view help, Options options,
                void (*run)(const Options&)) {
  // Were one of these closed, the next object opened would be in its place, and
  // be printed into. What is opened here fails with EBADF, as a closed one
  // does.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) == -1) ::open("/dev/null", O_PATH);
  }
  CatchSignals();
  return ExitStatus([&] {
    options["help"] = "no";
    ReadCommandLine(argc, argv, options);
    if (options["help"] == "yes") return Print(help);
    run(options);
  });
}

}  // namespace ipc
