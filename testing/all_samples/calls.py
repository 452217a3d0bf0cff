#!/usr/bin/env python3
"""//:calls: runs a pair of samples under strace and shows, side by side, the system calls that each process makes.

Run it by: bazel run //:calls -- fifo
"""

import argparse
import difflib
import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading

HELP = """Usage: calls PAIR [--first reader|writer] [--mermaid]
       calls --check README...
Runs a pair of samples under strace and shows, side by side and in the order of
time, the system calls that each process makes from main on.

  PAIR            shm, ring, memfd, pipe, filter, fifo, mqueue or socket
  --first SIDE    who starts; a server is a reader, and its client a writer
  --mermaid       prints a sequence diagram
  --check README  compares each diagram behind a line <!-- calls PAIR ... --> in
                  the files with what the processes really do

A call has the name of the C function that makes it: shm_open and not openat.
Left out: how a process handles signals, memory for malloc, and what it does
before main.
"""

WIDTH = 100
WAIT = 0.004  # Seconds: who takes longer in a call that may wait has waited.
PATIENCE = 30  # Seconds until a run is given up.


class Failed(Exception):
    """A run has failed, and this is why."""


class Pair:
    """Two programs, or one with a child, and what they are given. `{}` is the name on which they meet."""

    def __init__(self, roles, commands, name="", given=None, first=0, out="Hello World\n", stop=None):
        self.roles = roles  # Of the processes, for the columns; and of the one that reads: reader.
        self.commands = commands
        self.name = name  # That appears, in place of the one of this run.
        self.input = given or {}  # By the number of the command.
        self.first = first
        self.out = out  # What all together print.
        self.stop = stop  # The command that ends by SIGTERM, once the other has ended.


PAIRS = {
    "shm": Pair(["writer", "reader"], ["shm/writer --name {}", "shm/reader --name {}"], "/shared_memory"),
    "ring": Pair(["ring_writer", "ring_reader"], ["shm/ring_writer --name {}", "shm/ring_reader --name {}"], "/ring",
                 {0: "Hello World\n"}),
    "memfd": Pair(["memfd_writer", "memfd_reader"], ["shm/memfd_writer --name {}", "shm/memfd_reader --name {}"],
                  "ipc_memfd", {0: "Hello World\n"}, first=1),
    "pipe": Pair(["parent", "child"], ["pipe/pipe"], out="Hello World!\n"),
    "filter": Pair(["filter", "command"], ["pipe/filter sort"], given={0: "World\nHello\n"}, out="Hello\nWorld\n"),
    "fifo": Pair(["writer", "reader"], ["fifo/writer --path {}", "fifo/reader --path {}"], "/tmp/named_pipe", first=1),
    "mqueue": Pair(["client", "server"], ["mqueue/client --name {} -", "mqueue/server --name {}"], "/message_queue",
                   {0: "Hello World\nquit\n"}, first=1, out="Hello World\nquit\nHello World\n"),
    "socket": Pair(["client", "server"], ["socket/client --unix {}", "socket/server --unix {}"], "/tmp/ipc_socket",
                   first=1, stop=1),
}


# --- Running ---------------------------------------------------------------------------------------------------------

class Program:
    """A program under strace. -D: it is our own child, to be signalled, and strace is its grandchild."""

    def __init__(self, command, given, prefix):
        words = command.split()
        if not os.access(words[0], os.X_OK):
            raise Failed("%s is not here; run it by: bazel run //:calls" % words[0])
        self.prefix = prefix
        self.process = subprocess.Popen(
            ["strace", "-D", "-ff", "-q", "-ttt", "-T", "-y", "-s", "64", "-o", prefix, "./" + words[0]] + words[1:],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
            env=dict(os.environ, ASAN_OPTIONS="detect_leaks=0"))  # LeakSanitizer refuses to be traced.
        self.process.stdin.write(given)
        self.process.stdin.close()
        self.process.stdin = None
        self.output = {}
        self.says = threading.Event()
        self.threads = [threading.Thread(target=self.read, args=(stream,), daemon=True)
                        for stream in (self.process.stdout, self.process.stderr)]
        for thread in self.threads:
            thread.start()

    def read(self, stream):
        text = ""
        for line in stream:
            text += line
            if stream is self.process.stderr:
                self.says.set()
        self.output[stream] = text
        self.says.set()

    def finish(self, expected=0):
        """Waits for the end of the program, and of strace, which has its output open."""
        try:
            status = self.process.wait(timeout=PATIENCE)
            for thread in self.threads:
                thread.join(timeout=PATIENCE)
        except subprocess.TimeoutExpired as why:
            raise Failed("%s does not end" % self.process.args[-1]) from why
        if status != expected:
            raise Failed(self.err().strip() or "exit status %d" % status)

    def out(self):
        return self.output.get(self.process.stdout, "")

    def err(self):
        return self.output.get(self.process.stderr, "")


def run(pair, first, directory):
    """Runs the programs. Returns the files of strace, for each command, and what was printed."""
    if len(pair.commands) > 1:
        # A name of its own: this may run beside itself.
        name = os.path.join(directory, "name") if pair.name.startswith("/tmp/") else \
            pair.name[:pair.name.rfind("/") + 1] + os.path.basename(directory)
    else:
        name = ""
    order = [0] if len(pair.commands) == 1 else [first, 1 - first]
    programs = {}
    try:
        for number in order:
            program = Program(pair.commands[number].format(name), pair.input.get(number, ""),
                              os.path.join(directory, "trace%d" % number))
            programs[number] = program
            # The second starts when the first says that it waits.
            if len(programs) < len(order) and not program.says.wait(PATIENCE):
                raise Failed("%s does not wait" % program.process.args[-1])
        for number in sorted(order, key=lambda n: n == pair.stop):
            if number == pair.stop:
                programs[number].process.send_signal(signal.SIGTERM)
            programs[number].finish(-signal.SIGTERM if number == pair.stop else 0)
    finally:
        for program in programs.values():
            if program.process.poll() is None:
                program.process.terminate()
    out = "".join(programs[number].out() for number in sorted(programs))
    if out != pair.out:
        raise Failed("printed was %r instead of %r" % (out, pair.out))
    return programs, name


# --- Reading what strace has written ---------------------------------------------------------------------------------

def split(text):
    """The parts of "a, {b, c}, d" between the commas that are in no brackets and no string."""
    parts, depth, quoted, start, i = [], 0, False, 0, 0
    while i < len(text):
        c = text[i]
        if quoted:
            if c == "\\":
                i += 1
            elif c == '"':
                quoted = False
        elif c == '"':
            quoted = True
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
        i += 1
    parts.append(text[start:].strip())
    return [part for part in parts if part]


class Call:
    """A call, or another event: where `call` is empty, `text` is all."""

    def __init__(self, lane, start, end, call, result="", waits=False):
        self.lane, self.start, self.end = lane, start, end
        self.call, self.result = call, result
        self.waited = waits and end - start >= WAIT
        self.times = 1

    def name(self):
        return self.call.split("(")[0]

    def key(self):
        """What has to be the same where a call is repeated."""
        return (self.call, self.result)


# What may wait for somebody else, and where the order of time is therefore that of the returns.
WAITING = {"read", "write", "recv", "send", "recvmsg", "sendmsg", "poll", "epoll_wait", "futex", "waitpid", "accept4",
           "mq_receive", "mq_send", "open", "splice", "connect", "nanosleep"}
# What a process does for itself alone, whatever it is there for.
OWN = {"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigpending", "brk", "mprotect", "madvise", "alarm",
       "getrandom", "prlimit64", "set_robust_list", "gettid", "tgkill", "getpid", "sched_yield", "rseq", "sysinfo",
       "set_tid_address", "getcpu", "sched_getaffinity", "geteuid", "getuid"}
# Flags that are everywhere, and say nothing of what is done here.
FLAGS = {"O_CLOEXEC", "O_NOFOLLOW", "O_LARGEFILE", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "MFD_CLOEXEC", "EFD_CLOEXEC",
         "EFD_NONBLOCK"}


# How calls are shown: the C function, its parameters that matter, and what comes back. A number is that parameter;
# before it may stand what it is. `=` is for what is written as it is.
SHOWN = {
    "accept": "accept fd0", "accept4": "accept4 fd0", "access": "access path0", "clone": "fork", "clone3": "fork",
    "close": "close fd0", "dup2": "dup2 fd0 fd1", "dup3": "dup2 fd0 fd1", "epoll_create1": "epoll_create1",
    "epoll_pwait": "epoll_wait -> events1", "epoll_wait": "epoll_wait -> events1", "eventfd2": "eventfd 0 flags1",
    "execve": "execvp first1", "exit_group": "exit 0", "faccessat": "access path1", "faccessat2": "access path1",
    "fallocate": "fallocate fd0 3", "fchmod": "fchmod fd0 1", "flock": "flock fd0 flags1", "fork": "fork",
    "fstat": "fstat fd0", "ftruncate": "ftruncate fd0 1", "getpeername": "getpeername fd0",
    "getsockname": "getsockname fd0", "getsockopt": "getsockopt fd0 2", "kill": "kill =child 1",
    "listen": "listen fd0", "memfd_create": "memfd_create path0 flags1", "membarrier": "membarrier 0",
    "mmap": "mmap fd4 1 flags2 flags3", "mq_timedreceive": "mq_receive fd0 -> text1",
    "mq_timedsend": "mq_send fd0 text1 priority3", "mq_unlink": "mq_unlink queue0", "munmap": "munmap 1",
    "open": "open path0 flags1 2", "openat": "open path1 flags2 3", "pidfd_open": "pidfd_open =child",
    "pipe": "pipe -> ends0", "pipe2": "pipe2 -> ends0", "poll": "poll polled0 -> ready",
    "ppoll": "poll polled0 -> ready", "read": "read fd0 -> text1", "recvfrom": "recv fd0 -> text1",
    "recvmsg": "recvmsg fd0 -> rights1", "sendmsg": "sendmsg fd0 rights1", "sendto": "send fd0 text1",
    "setsockopt": "setsockopt fd0 2", "shutdown": "shutdown fd0 1", "socket": "socket 0 flags1",
    "splice": "splice fd0 fd2 -> got", "unlink": "unlink path0", "unlinkat": "unlink path1", "vfork": "fork",
    "write": "write fd0 text1",
}


class Reader:
    """Makes calls of the lines of one process."""

    def __init__(self, lane, name, shown, directory, labels):
        self.lane = lane
        self.name, self.shown, self.directory = name, shown, directory
        self.labels = labels  # Of pipes, by what strace calls them; the same in parent and child.
        self.listeners = set()

    def fd(self, text):
        """What a descriptor is: strace has written 3</dev/shm/name>."""
        match = re.match(r"(-?\d+)(?:<(.*)>)?(\(deleted\))?$", text)
        if match is None:
            return text
        number, path = match.group(1), match.group(2) or ""
        if number in ("0", "1", "2") or not path:
            return number
        if path.startswith("pipe:"):
            return self.labels.setdefault(path, "pipe" + (" %d" % (len(self.labels) + 1) if self.labels else ""))
        if path.startswith("socket:") or path.startswith("UNIX"):
            return "listener" if path in self.listeners else "socket"
        for pattern, label in ((r"eventpoll", "epoll"), (r"pidfd", "pidfd"), (r"signalfd", "signalfd"),
                               (r"timerfd", "timerfd"), (r"eventfd", "eventfd"), (r"^/memfd:", "memory"),
                               (r"^/dev/shm/", "memory"), (r"\.lock$", "lock")):
            if re.search(pattern, path):
                return label
        if self.name and path.rstrip(")").endswith(self.name):
            return {"/message_queue": "queue", "/tmp/named_pipe": "fifo"}.get(self.shown, "file")
        return os.path.basename(path)

    # What the words in SHOWN mean.

    def flags(self, text):
        return " | ".join(flag for flag in text.split("|") if flag not in FLAGS)

    def text(self, text):
        """A string of strace's, and no longer than a line."""
        text = self.path(text)
        return text if len(text) <= 62 else text[:59] + '..."'

    def path(self, text):
        """With the name as the user gives it."""
        if self.name:
            text = text.replace(self.name, self.shown)
        return text.replace(self.directory, "/tmp")

    def queue(self, text):
        return self.path('"/' + text.strip('"') + '"')

    def first(self, text):
        return text.strip("[]").split(",")[0]

    def ends(self, text):
        return self.fd("3<%s>" % re.search(r"<(pipe:[^>]*)>", text).group(1))

    def priority(self, text):
        return "priority " + text

    def rights(self, text):
        return "a descriptor" if "SCM_RIGHTS" in text else ""

    def polled(self, text):
        """The descriptors that are polled: [{fd=3<...>, events=POLLIN}, ...]. Those that are -1 are left out."""
        fds = re.findall(r"\{fd=([^,{}]*(?:<[^>]*>)?), events=([\w|]*)", text)
        return ", ".join(self.fd(fd) + (" " + self.flags(events) if events not in ("", "0") else "")
                         for fd, events in fds if not fd.startswith("-"))

    def events(self, text):
        return " and ".join(map(self.flags, re.findall(r"events=([\w|]+)", text)))

    def describe(self, name, args, result):
        """The call and its result as they are shown, or None."""
        error = re.match(r"-1 (\w+)|\? ERESTART", result)
        everything = ", ".join(args)

        def call(function, *parts, returns=""):
            failed = (error.group(1) or "interrupted") if error else ""
            return function + "(" + ", ".join(part for part in parts if part) + ")", failed or returns

        if name in OWN or name == "fcntl" and args[1] == "F_GETFD" or name == "mmap" and "MAP_ANONYMOUS" in args[3]:
            return None
        if name == "listen":
            self.listeners.add(re.sub(r"^\d+<(.*)>$", r"\1", args[0]))
        if name == "close" and self.fd(args[0]) == "queue":
            return call("mq_close", "queue")
        if name == "close_range":
            return call(name, args[0], args[1].replace("4294967295", "~0U"), args[2])
        if name == "fcntl":
            return call(name, self.fd(args[0]), args[1], self.range(everything), returns=self.found(everything, result))
        if name == "futex":
            return call("futex", re.match(r"FUTEX_([A-Z]+)", args[1]).group(1).lower())
        if name in ("newfstatat", "statx"):
            return call("fstat", self.fd(args[0])) if args[1] == '""' else call("stat", self.path(args[1]))
        if name in ("mknod", "mknodat"):
            return call("mkfifo", *[self.path(arg).replace("S_IFIFO|", "").replace("|", " | ") for arg in args[-2:]])
        if name == "epoll_ctl":
            return call("epoll_ctl", args[1], self.fd(args[2]), self.events(everything))
        if name in ("bind", "connect"):
            path = re.search(r'sun_path=(@?".*?")', args[1])
            return call(name, self.fd(args[0]), self.path(path.group(1)) if path else args[1])
        if name == "wait4":
            status = re.search(r"WEXITSTATUS\(s\) == (\d+)", everything)
            return call("waitpid", "child", returns="exited with " + status.group(1) if status else "")
        if name == "mq_open":
            sizes = re.search(r"mq_maxmsg=(\d+), mq_msgsize=(\d+)", everything)
            more = [args[2], "%s messages of %s bytes" % sizes.groups()] if sizes else []
            return call("mq_open", self.queue(args[0]), self.flags(args[1]), *more)
        if name == "mq_getsetattr":
            left = re.search(r"mq_curmsgs=(\d+)", everything)
            return call("mq_getattr", self.fd(args[0]), returns=left.group(1) + " queued" if left else "")
        if name not in SHOWN:
            return call(name, *[self.path(self.fd(arg)) for arg in args])
        shown, _, back = SHOWN[name].partition(" -> ")
        function, *parts = shown.split()
        parts = [self.part(part, args) for part in parts]
        if parts and parts[0].startswith('"/dev/shm/'):
            function, parts[0] = "shm_" + function, parts[0].replace("/dev/shm", "", 1)
        returns = ""
        if back == "got" or back.startswith("text") and result == "0":
            returns = result
        elif back == "ready":
            returns = "" if args[0] == "NULL" else "time is up" if result.startswith("0") else self.events(result)
        elif back and not error:
            returns = "time is up" if result == "0" and name.startswith("epoll") else self.part(back, args)
        return call(function, *parts, returns=returns)

    def part(self, part, args):
        """What a word in SHOWN stands for."""
        how, number = re.match(r"(=?[a-z]*)(\d?)$", part).groups()
        if how.startswith("="):
            return how[1:]
        if int(number) >= len(args):
            return ""
        return getattr(self, how)(args[int(number)]) if how else args[int(number)]

    def range(self, everything):
        """The bytes of a lock, or the other parameters of fcntl."""
        lock = re.search(r"l_type=(\w+), .*l_start=(\d+), l_len=(\d+)", everything)
        if lock is None:
            return self.flags(", ".join(split(everything)[2:]))
        kind, start, length = lock.groups()
        what = "all" if length == "0" else "byte " + start if length == "1" else "%s bytes from %s" % (length, start)
        # Which free byte one takes depends on the number of its process.
        if length == "1" and int(start) > 100:
            what = "a free byte"
        return "unlock " + what if "SETLK" in everything and kind == "F_UNLCK" else what

    def found(self, everything, result):
        """What fcntl has found: whether a lock is taken, or the seals."""
        if "F_OFD_GETLK" in everything:
            return "unlocked" if "F_UNLCK" in everything else "locked"
        seals = re.search(r"\(seals (.*)\)", result)
        return self.flags(seals.group(1)) if seals else ""

    def read(self, lines, from_main):
        """All calls, from the first that main makes."""
        calls, begun = [], not from_main
        for line in lines:
            at, _, rest = line.rstrip("\n").partition(" ")
            start = float(at)
            if rest.startswith("+++ killed by"):
                calls.append(Call(self.lane, start, start, "", "dies of " + rest.split()[3]))
            elif rest.startswith("---") and begun:
                if "SIGCHLD" not in rest:
                    calls.append(Call(self.lane, start, start, "", "receives " + rest.split()[1]))
            match = re.match(r"(\w+)\((.*)\)\s+= (.*?)(?: <([\d.]+)>)?$", rest)
            if match is None:
                # What a signal that kills has interrupted.
                match = re.match(r"(\w+)\((.*?)(?:\) += \?.*| <unfinished.*)?$", rest)
                if match is None:
                    continue
                name, args, result, took = match.group(1), match.group(2), "?", None
            else:
                name, args, result, took = match.groups()
            args = split(args)
            if not begun and name == "fcntl" and args[1:2] == ["F_GETFD"]:
                begun = True
            if not begun:
                continue
            described = self.describe(name, args, result)
            if described is None:
                continue
            text, returned = described
            end = start + float(took or 0)
            calls.append(Call(self.lane, start, end, text, returned, text.split("(")[0] in WAITING))
            if name == "execve":
                if len(calls) > 1 and calls[-2].call == text:
                    calls.pop(-2)  # execvp tries each directory in PATH.
                if not result.startswith("-1"):
                    break  # What follows are the calls of another program.
        return calls


def read_traces(pair, programs, name):
    """The calls of each process, in the order of its life, and when the first began."""
    lanes = [[] for _ in pair.roles]
    labels = {}
    for number, program in sorted(programs.items()):
        files = glob.glob(program.prefix + ".*")
        files.sort(key=lambda file: int(file.rsplit(".", 1)[1]) != program.process.pid)
        for child, file in enumerate(files):
            lane = number + child
            if lane >= len(lanes):
                raise Failed("%d processes instead of %d" % (lane + 1, len(lanes)))
            with open(file, errors="replace") as lines:
                reader = Reader(lane, name, pair.name, os.path.dirname(program.prefix), labels)
                lanes[lane] = reader.read(lines, from_main=child == 0)
    if not all(lanes):
        raise Failed("strace has seen nothing; can this user trace processes?")
    return [drop_foreign_unmaps(lane) for lane in lanes], min(lane[0].start for lane in lanes)


def drop_foreign_unmaps(calls):
    """Without those of the memory of malloc, of stdio and so on: as many are left as there were maps."""
    maps = sum(call.name() == "mmap" for call in calls)
    kept = []
    for call in calls:
        if call.name() == "munmap":
            size = call.call[len("munmap("):-1]
            if maps == 0 or not any(", %s, " % size in other.call for other in calls if other.name() == "mmap"):
                continue
        kept.append(call)
    return kept


def fold(calls, key):
    """Makes one of repetitions: a list of (calls, how many times), where the calls repeat as a whole."""
    folded, i = [], 0
    while i < len(calls):
        best, count = 1, 1
        for size in range(1, 9):
            pattern = [key(call) for call in calls[i:i + size]]
            times = 1
            while [key(call) for call in calls[i + times * size:i + (times + 1) * size]] == pattern:
                times += 1
            if times > 1 and times * size > best * count:
                best, count = size, times
        folded.append((calls[i:i + best], count, calls[i:i + best * count]))
        i += best * count
    return folded


# --- Showing ---------------------------------------------------------------------------------------------------------

def seconds(time):
    return "%.0f ms" % (time * 1e3) if time < 0.9995 else "%.1f s" % time


class Event:
    """A part of the time line."""

    def __init__(self, at, lane, text, kind=""):
        self.at, self.lane, self.text, self.kind = at, lane, text, kind


def plain(call):
    return call.call + (" = " + call.result if call.result and call.call else call.result)


def events_of(calls):
    """Those of one process: what waits has two, where it begins and where it returns."""
    events = []
    for block, times, all_calls in fold(calls, Call.key):
        if times > 1 and (len(block) > 1 or times > 2):
            took = all_calls[-1].end - all_calls[0].start
            for call in block:
                events.append(Event(call.start, call.lane, plain(call), kind_of(call)))
            what = "the same" if len(block) == 1 else "these %d" % len(block)
            events.append(Event(all_calls[-1].end, block[0].lane,
                                "... %s, %d times in %s" % (what, times, seconds(took)), "wait"))
            continue
        for call in all_calls:
            if not call.waited:
                events.append(Event(call.start, call.lane, plain(call), kind_of(call)))
                continue
            events.append(Event(call.start, call.lane, call.call + " ...", "wait"))
            events.append(Event(call.end, call.lane, "... " + call.name() + (" = " + call.result if call.result else "")
                                + " after " + seconds(call.end - call.start), "wait"))
    return events


def kind_of(call):
    if call.call.startswith("write(1,") or call.call.startswith("splice") and call.call.endswith(", 1)"):
        return "prints"
    if call.call.startswith("write(2,"):
        return "says"
    return "error" if re.fullmatch(r"E[A-Z0-9]+", call.result) else ""


COLOURS = {"wait": "33", "prints": "1;32", "says": "36", "error": "31"}


def time_line(pair, lanes, begin, colours):
    """The lines of the table, of at most 100 columns."""
    column = (WIDTH - 10) // len(lanes)
    yield "%8s  " % "ms" + "".join(role.ljust(column) for role in pair.roles).rstrip()
    events = sorted((event for lane in lanes for event in events_of(lane)), key=lambda event: event.at)
    last = None
    for event in events:
        # A blank line where nobody has done anything for a while.
        if last is not None and event.at - last > 0.05:
            yield ""
        last = event.at
        text = textwrap.wrap(event.text, column - 2, subsequent_indent="    ", break_on_hyphens=False)
        for number, line in enumerate(text):
            at = "%8.1f  " % ((event.at - begin) * 1e3) if number == 0 else " " * 10
            if colours and event.kind in COLOURS:
                line = "\033[%sm%s\033[0m" % (COLOURS[event.kind], line)
            yield at + " " * (column * event.lane) + line


def describe_output(pair, programs):
    for number, program in sorted(programs.items()):
        for line in program.out().splitlines():
            yield "%s printed: %s" % (pair.roles[number], line)


# --- Diagrams --------------------------------------------------------------------------------------------------------

LETTERS = {"writer": "W", "ring_writer": "W", "memfd_writer": "W", "reader": "R", "ring_reader": "R",
           "memfd_reader": "R", "parent": "P", "child": "C", "client": "C", "server": "S", "filter": "F",
           "command": "C"}
ARROW = re.compile(r"\s*(\w+)-+>>(\w+): (.*)$")


def arrow_events(calls):
    """(when, what) of one process: what is done many times is in a loop."""
    for block, times, all_calls in fold(calls, Call.key):
        for group in ([block] if times > 1 and (len(block) > 1 or times > 2) else [[call] for call in all_calls]):
            loop = group is block and times > 1 and (len(block) > 1 or times > 2)
            yield group[0].start, group, times if loop else 1


def mermaid(pair, lanes):
    """The lines of a sequence diagram. Each arrow to the kernel is calls of a process, in their order."""
    letters = [LETTERS[role] for role in pair.roles]
    yield "sequenceDiagram"
    for number, role in enumerate(pair.roles):
        yield "    participant %s as %s" % (letters[number], role)
        if number == 0:
            yield "    participant K as kernel"
    items = []  # (when, lane, calls, times), and (when, lane, return, 0)
    for number, calls in enumerate(lanes):
        for when, group, times in arrow_events(calls):
            items.append((when, number, group, times))
            if times == 1 and group[0].waited:
                items.append((group[0].end, number, group[0], 0))
    items.sort(key=lambda item: item[0])
    pending, owner = [], None

    def flush():
        if pending:
            yield "    %s->>K: %s" % (letters[owner], ", ".join(pending))

    for _, number, what, times in items:
        letter = letters[number]
        if times == 0:
            yield from flush()
            pending.clear()
            yield "    K-->>%s: %s" % (letter, plain(what) if what.result else what.call + " returns")
            continue
        if times > 1:
            yield from flush()
            pending.clear()
            yield "    loop until it succeeds"
            for call in what:
                yield "        %s->>K: %s" % (letter, plain(call))
            yield "    end"
            continue
        call = what[0]
        if not call.call:
            yield from flush()
            pending.clear()
            yield "    Note over %s: it %s" % (letter, call.result)
            continue
        text = call.call if call.waited else plain(call)
        # What belongs together has one arrow: closing and removing, and what is as short.
        if pending and owner == number and len(", ".join(pending)) + len(text) <= 64:
            pending.append(text)
        else:
            yield from flush()
            pending[:], owner = [text], number
        owner = number
        if call.waited or kind_of(call) in ("prints", "says"):
            yield from flush()
            pending.clear()
    yield from flush()


class Lane:
    """What one participant calls, in order and without repetitions, and what it waits in before each and at the end.

    How often a process is woken is a matter of time, and so is whether it has to say that it waits."""

    def __init__(self, texts):
        self.calls, self.waits = [], [set()]
        for text in texts:
            if text.startswith("write(2,"):
                continue
            if re.match(r"(poll|epoll_wait)\(|futex\(wait", text):
                self.waits[-1].add(text.split(" = ")[0])  # What comes of it is a matter of time, too.
            else:
                self.calls.append(text)
                self.waits.append(set())
        while True:
            folded = fold(list(range(len(self.calls))), lambda number: self.calls[number])
            calls, waits = [], [set()]
            for block, times, _ in folded:
                for number in block:
                    for repetition in range(times):
                        waits[-1] |= self.waits[number + repetition * len(block)]
                    calls.append(self.calls[number])
                    waits.append(set())
            waits[-1] |= self.waits[-1]
            if calls == self.calls:
                return
            self.calls, self.waits = calls, waits


def differences(want, runs, title):
    """The lines that say how a lane of a diagram differs from the same one of some runs."""
    same = [run for run in runs if run.calls == want.calls]
    if not same:
        return list(difflib.unified_diff(want.calls, runs[-1].calls, title, "as it happens", lineterm=""))
    lines = []
    for place, waits in enumerate(want.waits):
        there = [run.waits[place] for run in same]
        where = "%s: before %s: " % (title, (want.calls + ["the end"])[place])
        lines += [where + text + " does not happen" for text in waits - set().union(*there)]
        if not waits and all(there):
            lines.append(where + " or ".join(sorted(there[0])) + " is missing")
    return lines


def lanes_of(diagram):
    """The lane of each participant, by the lines of a diagram, and what is wrong with these."""
    texts, roles, faults = {}, {}, []
    for line in diagram:
        participant = re.match(r"\s*participant (\w+) as (.*?)\s*$", line)
        if participant:
            roles[participant.group(1)] = participant.group(2)
            continue
        note = re.match(r"\s*Note over (\w+): (.*?)\s*$", line)
        if note:
            texts.setdefault(roles.get(note.group(1), note.group(1)), []).append(note.group(2))
            continue
        arrow = ARROW.match(line)
        if arrow is None:
            if not re.match(r"\s*(sequenceDiagram|loop .*|end|)\s*$", line):
                faults.append("not understood: " + line.strip())
            continue
        sender, receiver, text = arrow.groups()
        if receiver == "K":
            texts.setdefault(roles.get(sender, sender), []).extend(split(text))
        elif sender == "K":
            # The call that was begun last, now with what comes back.
            calls = texts.get(roles.get(receiver, receiver), [""])
            call = text.partition(" returns")[0]
            if calls[-1] != call.partition(" = ")[0]:
                faults.append("it returns and was not begun: " + line.strip())
            calls[-1] = call
        else:
            faults.append("not understood: " + line.strip())
    return {role: Lane(calls) for role, calls in texts.items()}, faults


def lanes_of_run(arguments):
    lanes, faults = lanes_of(mermaid(PAIRS[arguments.pair], trace(arguments)[0]))
    if faults:
        raise Failed("of its own diagram: " + "; ".join(faults))
    return lanes


def check(path, traced):
    """Compares the diagrams of a README with what happens, and yields what is wrong.

    `traced` holds the runs by the words behind `calls`: diagrams of the same words are compared with the same runs."""
    with open(path) as file:
        text = file.read()
    found = re.findall(r"(?:<!-- calls ([^>]*?) ?-->\s*)?```mermaid\n(.*?)```", text, re.S)
    for words, diagram in found:
        if not words:
            yield "%s has a diagram without <!-- calls PAIR -->" % path
            continue
        arguments = parse(words.split())
        want, faults = lanes_of(diagram.splitlines())
        if faults:
            yield from ["%s: %s" % (path, fault) for fault in faults]
            continue
        runs = traced.setdefault(words, [])
        # Timing decides between some calls, too: each lane has to be as in one of ten runs.
        for number in range(10):
            if number == len(runs):
                runs.append(lanes_of_run(arguments))
            wrong = [line for role in sorted(set(want) | set(runs[-1]))
                     for line in differences(want.get(role, Lane([])), [run.get(role, Lane([])) for run in runs],
                                             "%s, %s" % (path, role))]
            if not wrong:
                break
        yield from wrong
    if not found:
        yield "%s has no diagram" % path


# --- The command line ------------------------------------------------------------------------------------------------

class UsageError(Exception):
    """What is wrong with the command line."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise UsageError(message)


def parse(words):
    parser = Parser(prog="calls", add_help=False, allow_abbrev=False)
    parser.add_argument("pair", nargs="?")
    parser.add_argument("--first", choices=["reader", "writer"])
    parser.add_argument("--mermaid", action="store_true")
    parser.add_argument("--help", action="store_true")
    parser.add_argument("--check", nargs="+", metavar="README")
    arguments = parser.parse_args(words)
    if arguments.pair is not None and arguments.pair not in PAIRS:
        raise UsageError("there is no pair '%s'; there are %s" % (arguments.pair, ", ".join(PAIRS)))
    if arguments.first and arguments.pair and len(PAIRS[arguments.pair].commands) == 1:
        raise UsageError("%s is one program" % arguments.pair)
    return arguments


def trace(arguments):
    """The calls of each process in one run, when the first began, and the programs."""
    pair = PAIRS[arguments.pair]
    first = pair.first if arguments.first is None else 0 if arguments.first == "writer" else 1
    # In /tmp: the path of a socket has to be short.
    with tempfile.TemporaryDirectory(prefix=os.environ.get("CALLS_NAME", "ipc-calls-"), dir="/tmp") as directory:
        programs, name = run(pair, first, directory)
        lanes, begin = read_traces(pair, programs, name)
    return lanes, begin, programs


def show(arguments):
    """The lines for one run; for a diagram, of that of five which is most like the others."""
    pair = PAIRS[arguments.pair]
    if arguments.mermaid:
        diagrams = [list(mermaid(pair, trace(arguments)[0])) for _ in range(5)]
        lanes = [lanes_of(diagram)[0] for diagram in diagrams]

        def likeness(one):
            return sum((lane.calls == other[role].calls) + (lane.waits == other[role].waits)
                       for other in lanes for role, lane in one.items())
        return diagrams[max(range(5), key=lambda number: likeness(lanes[number]))]
    lanes, begin, programs = trace(arguments)
    return [*time_line(pair, lanes, begin, sys.stdout.isatty()), "", *describe_output(pair, programs)]


def main():
    arguments = parse(sys.argv[1:])
    if arguments.help:
        print(HELP, end="")
        return 0
    if arguments.pair is None and arguments.check is None:
        print("Pairs: " + ", ".join(PAIRS))
        print("Show one by: bazel run //:calls -- fifo; see --help")
        return 0
    if shutil.which("strace") is None:
        raise Failed("strace is missing: apt-get install strace")
    if arguments.check is None:
        for line in show(arguments):
            print(line)
        return 0
    traced = {}
    wrong = [line for path in arguments.check for line in check(path, traced)]
    print("\n".join(wrong or ["%s: as it happens" % path for path in arguments.check]))
    return 1 if wrong else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except UsageError as error:
        print("calls: %s; see --help" % error, file=sys.stderr)
        sys.exit(2)
    except Failed as failure:
        sys.exit("calls: %s" % failure)
