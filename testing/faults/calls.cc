#include "testing/faults/calls.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>

namespace ipc_testing {
namespace {

using Words = std::vector<std::string>;

constexpr int kRepeats = 3;  // Of one shape, in loops.

// strace skips the call that it makes fail. So close isn't made to fail but at
// the end of a program: a descriptor would stay open that in truth is closed
// (close(2)). And where unlink fails the name stays, of course: the next pair
// has to cope with it, as it has after SIGKILL.
constexpr char kLastClose[] = "close";

// What waits where its descriptor does.
const std::set<std::string> kWaiting{
    "accept4",  "connect", "mq_timedsend", "mq_timedreceive", "read",
    "recvfrom", "recvmsg", "sendmsg",      "sendto",          "write"};

struct Rule {
  std::string call;
  std::string part;  // Of the line: the rule is for those calls alone.
  Words errors;
};

// The errors that a call's man page names and that happen in life; of a call
// that doesn't wait not EINTR, and of a lock not EAGAIN, which would be a lie.
// The first rule that fits holds.
const std::vector<Rule>& Rules() {
  // In life the signal comes with the error: setrlimit(2), RLIMIT_FSIZE.
  static const std::string kTooBig = "EFBIG:signal=SIGXFSZ";
  static const std::vector<Rule> rules{
      {"accept4",
       "",
       {"EINTR", "EAGAIN", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS",
        "ENOMEM", "EPERM", "EPROTO"}},
      {"access", "", {"EACCES", "ENOMEM"}},
      {"bind",
       "",
       {"EACCES", "EADDRINUSE", "EADDRNOTAVAIL", "ENOMEM", "EROFS"}},
      {"clone", "", {"EAGAIN", "ENOMEM"}},
      {"clone3", "", {"EAGAIN", "ENOMEM"}},
      {"connect",
       "",
       {"EINTR", "EACCES", "EADDRNOTAVAIL", "EAGAIN", "ECONNREFUSED",
        "ENETUNREACH", "EPERM", "ETIMEDOUT"}},
      {"dup2", "", {"EBUSY", "EINTR"}},
      {"dup3", "", {"EBUSY", "EINTR"}},
      {"epoll_create1", "", {"EMFILE", "ENFILE", "ENOMEM"}},
      {"epoll_ctl", "EPOLL_CTL_DEL", {}},
      {"epoll_ctl", "", {"ENOMEM", "ENOSPC"}},
      {"epoll_wait", "", {"EINTR"}},
      {"eventfd2", "", {"EMFILE", "ENFILE", "ENOMEM"}},
      {"execve", "", {"EACCES", "EAGAIN", "ENOENT", "ENOMEM"}},
      {"faccessat", "", {"EACCES", "ENOMEM"}},
      {"faccessat2", "", {"EACCES", "ENOMEM"}},
      {"fallocate", "", {"EINTR", kTooBig, "EIO", "ENOSPC", "EOPNOTSUPP"}},
      {"fchmod", "", {"EIO", "ENOMEM", "EPERM", "EROFS"}},
      {"fcntl", "F_OFD_SETLK, {l_type=F_UNLCK", {}},
      {"fcntl", "F_OFD_SETLK", {"ENOLCK"}},
      {"fcntl", "F_OFD_GETLK", {"ENOMEM"}},
      {"fcntl", "F_SETPIPE_SZ", {"EBUSY", "EPERM"}},
      {"fcntl", "F_ADD_SEALS", {"EBUSY", "EPERM"}},
      {"fcntl", "F_GET_SEALS", {"EINVAL"}},
      {"fcntl", "F_DUPFD", {"EMFILE"}},
      {"flock", "", {"ENOLCK"}},
      {"ftruncate", "", {"EINTR", kTooBig, "EIO", "EPERM"}},
      {"futex", "FUTEX_WAIT", {"EINTR", "EAGAIN", "ETIMEDOUT"}},
      {"getpeername", "", {"ENOBUFS", "ENOTCONN"}},
      {"getsockname", "", {"ENOBUFS"}},
      {"getsockopt", "", {"ENOBUFS", "ENOMEM"}},
      {"listen", "", {"EADDRINUSE"}},
      {"membarrier", "", {"EINVAL", "ENOSYS", "EPERM"}},
      {"memfd_create", "", {"EMFILE", "ENFILE", "ENOMEM"}},
      {"mknodat",
       "",
       {"EACCES", "EDQUOT", "EEXIST", "ENOMEM", "ENOSPC", "EROFS"}},
      // Other memory is malloc's or the loader's, and no sample's business.
      {"mmap", "MAP_ANONYMOUS", {}},
      {"mmap", "MAP_DENYWRITE", {}},
      {"mmap", "", {"EAGAIN", "ENFILE", "ENOMEM"}},
      {"mq_getsetattr", "", {"EBADF"}},
      {"mq_open",
       "O_CREAT",
       {"EACCES", "EEXIST", "EINVAL", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC"}},
      {"mq_open", "", {"EACCES", "EMFILE", "ENFILE", "ENOENT", "ENOMEM"}},
      {"mq_timedreceive", "", {"EINTR", "EAGAIN"}},
      {"mq_timedsend", "", {"EINTR", "EAGAIN", "ENOMEM"}},
      {"mq_unlink", "", {"EACCES", "ENOENT"}},
      {"openat",
       "O_CREAT",
       {"EACCES", "EDQUOT", "EEXIST", "EMFILE", "ENFILE", "ENOENT", "ENOMEM",
        "ENOSPC", "EROFS"}},
      {"openat", "O_PATH", {"EACCES", "ELOOP", "EMFILE", "ENFILE", "ENOENT"}},
      {"openat",
       "O_WRONLY",
       {"EACCES", "EMFILE", "ENFILE", "ENOENT", "ENOMEM", "ENXIO"}},
      {"openat", "", {"EACCES", "EMFILE", "ENFILE", "ENOENT", "ENOMEM"}},
      {"pidfd_open", "", {"EMFILE", "ENFILE", "ENOMEM"}},
      {"pipe2", "", {"EMFILE", "ENFILE"}},
      {"poll", "", {"EINTR", "ENOMEM"}},
      {"ppoll", "", {"EINTR", "ENOMEM"}},
      {"pread64", "", {"EINTR", "EIO"}},
      {"prlimit64", "", {"EPERM"}},
      // An eventfd's, which does not wait.
      {"read", R"("\1\0\0\0\0\0\0\0", 8))", {}},
      {"write", R"("\1\0\0\0\0\0\0\0", 8))", {}},
      {"read", "", {"EINTR", "EAGAIN", "EIO"}},
      {"recvfrom",
       "",
       {"EINTR", "EAGAIN", "ECONNREFUSED", "ECONNRESET", "ENOMEM",
        "ETIMEDOUT"}},
      {"recvmsg", "", {"EINTR", "ECONNRESET", "ENOMEM"}},
      {"sendmsg", "", {"EINTR", "ECONNRESET", "ENOBUFS", "ENOMEM", "EPIPE"}},
      {"sendto",
       "",
       {"EINTR", "EAGAIN", "ECONNRESET", "ENOBUFS", "ENOMEM", "EPIPE"}},
      {"setsockopt", "", {"ENOBUFS", "ENOMEM"}},
      {"shutdown", "", {"ENOBUFS", "ENOTCONN"}},
      {"socket", "", {"EACCES", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"}},
      {"splice", "", {"EAGAIN", "EINTR", "EINVAL", "ENOMEM"}},
      {"unlink", "", {"EACCES", "EBUSY", "EIO", "ENOMEM", "EPERM", "EROFS"}},
      {"wait4", "", {"EINTR", "ECHILD"}},
      {"waitid", "", {"EINTR", "ECHILD"}},
      {"write",
       "",
       {"EINTR", "EAGAIN", "EDQUOT", kTooBig, "EIO", "ENOSPC", "EPIPE"}},
      {"fstat", "", {"ENOMEM"}},
      {"newfstatat", "AT_FDCWD", {"EACCES", "ENOENT", "ENOMEM"}},
      {"newfstatat", "", {"ENOMEM"}},
      // These don't fail.
      {"alarm", "", {}},
      {"brk", "", {}},
      {"close", "", {}},
      {"exit_group", "", {}},
      {"fcntl", "", {}},
      {"futex", "", {}},
      {"getcpu", "", {}},
      {"geteuid", "", {}},
      {"getpid", "", {}},
      {"getrandom", "", {}},
      {"gettid", "", {}},
      {"kill", "", {}},
      {"lseek", "", {}},
      {"mprotect", "", {}},
      {"munmap", "", {}},
      {"rt_sigaction", "", {}},
      {"rt_sigprocmask", "", {}},
      {"rt_sigreturn", "", {}},
      {"set_robust_list", "", {}},
      {"tgkill", "", {}},
      {"uname", "", {}},
  };
  return rules;
}

const Rule* RuleFor(const Call& call) {
  for (const Rule& rule : Rules()) {
    if (rule.call == call.name && Contains(call.line, rule.part)) return &rule;
  }
  return nullptr;
}

}  // namespace

Recording ParseTrace(const std::string& trace, bool from_start) {
  static const std::regex kCall(R"((\w+)\((.*)\)\s+= .*)");
  // Texts and numbers, but for the standard descriptors.
  static const std::regex kVaries(
      R"("(\\.|[^"\\])*"(\.\.\.)?|0x[0-9a-f]+|\b([3-9]|\d\d+)\b|, [0-2]\b)");
  Recording recording;
  bool started = from_start;
  bool serving = false;
  bool failed = false;
  std::set<std::string> never_wait;  // Descriptors, as strace writes them.
  std::map<std::string, int> count;
  std::map<std::string, int> alike;
  std::vector<Call>& calls = recording.calls;
  Call last{};
  std::vector<std::size_t> asked;  // The stats since any other call.
  std::istringstream lines(trace);
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (!std::regex_match(line, match, kCall)) {
      // Without a result: exit_group, or a call in which it was stopped.
      static const std::regex kNoResult(R"((\w+)\((.*))");
      if (!std::regex_match(line, match, kNoResult)) continue;
    }
    const int when = ++count[match[1]];
    const std::string result = line.substr(line.rfind(" = ") + 3);
    const std::string descriptor =
        match[2].str().substr(0, match[2].str().find(','));
    if (match[1] == "close") never_wait.erase(descriptor);
    if (Contains(match[2].str(), "NONBLOCK")) never_wait.insert(result);
    started = started || line.starts_with("fcntl(0, F_GETFD");
    if (!started) continue;
    ++recording.made;
    Call call{match[1],
              when,
              line,
              match[1].str() + "(" +
                  std::regex_replace(match[2].str(), kVaries, "") + ")",
              serving,
              failed};
    call.waits =
        kWaiting.contains(call.name) && !never_wait.contains(descriptor);
    const bool stat = Contains(call.name, "fstat");
    // Or whose it is: it may have been there before.
    const bool found = last.name == "flock" || (last.name == "openat" &&
                                                Contains(last.line, "O_CREAT"));
    call.tells_who_owns = call.name == "flock" || (stat && found);
    // Those just before: they asked whether there is anything to remove.
    if (Contains(call.name, "unlink")) {
      for (const std::size_t i : asked) calls[i].tells_who_owns = true;
    }
    if (!stat && call.name != "geteuid") asked.clear();
    serving = serving || Contains(line, "listening on");
    failed = failed || (line.starts_with("write(2, ") &&
                        !Contains(line, ": waiting for ") &&
                        !Contains(line, ": listening on "));
    last = call;
    if (++alike[call.shape] > kRepeats) continue;
    if (stat) asked.push_back(calls.size());
    calls.push_back(std::move(call));
  }
  const auto end =
      std::find_if(calls.rbegin(), calls.rend(),
                   [](const Call& call) { return call.name != "exit_group"; });
  if (end != calls.rend()) end->last_close = end->name == kLastClose;
  return recording;
}

bool Fault::Happened(std::string_view trace) const {
  if (Kills()) return Contains(trace, "+++ killed by SIGKILL");
  if (what.starts_with("error=")) return Contains(trace, "(INJECTED)");
  // A signal that somebody has sent has another code.
  const std::string signal = what.substr(what.find("SIG"));
  return Contains(
      trace, "--- " + signal + " {si_signo=" + signal + ", si_code=SI_KERNEL");
}

bool IsKnown(const Call& call) { return RuleFor(call) != nullptr; }

std::string KindOf(const Call& call) {
  const Rule* rule = RuleFor(call);
  const bool fails = rule == nullptr || !rule->errors.empty();
  return fails || call.last_close ? call.shape : call.name;
}

std::vector<Fault> FaultsAt(const Call& call) {
  std::vector<Fault> faults{{&call, "signal=SIGKILL"}};
  // Once in exit_group, it is too late for a handler.
  if (call.name != "exit_group") faults.push_back({&call, "signal=SIGTERM"});
  if (call.last_close) {
    faults.push_back({&call, "error=EINTR"});
    faults.push_back({&call, "error=EIO"});
  }
  const Rule* rule = RuleFor(call);
  if (rule == nullptr) return faults;
  for (const std::string& error : rule->errors) {
    const bool lie = error == "EINTR" && kWaiting.contains(call.name);
    if (lie && !call.waits) continue;
    faults.push_back({&call, "error=" + error});
    // Some other write may have been too long.
    if (Contains(error, "SIGXFSZ")) faults.push_back({&call, "signal=SIGXFSZ"});
  }
  return faults;
}

}  // namespace ipc_testing
