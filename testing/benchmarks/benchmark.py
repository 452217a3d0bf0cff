#!/usr/bin/env python3
"""//:benchmark: runs every benchmark, prints a table, and writes the figures and a chart.

It only starts, collects and shows: *_benchmark.cc measure. Run it by: bazel run -c opt //:benchmark
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

HELP = """Usage: benchmark [--quick]
Measures each mechanism, in at most three minutes, prints a table, and writes
ipc_benchmark.json and ipc_benchmark.svg into the directory it was called from.

  --quick  some seconds; shows that all works, and the figures mean nothing
"""

PROGRAMS = [
    "shm/ring_benchmark",
    "pipe/pipe_benchmark",
    "fifo/fifo_benchmark",
    "mqueue/message_queue_benchmark",
    "socket/socket_benchmark",
]
MECHANISMS = {
    "shm_ring": "shm ring",
    "shm_ring_in_place": "shm ring, in place",
    "pipe": "pipe",
    "fifo": "FIFO",
    "mqueue": "message queue",
    "socket_unix": "socket, Unix",
    "socket_tcp": "socket, TCP",
}
SIZES = {64: "64 B", 1024: "1 KiB", 4096: "4 KiB", 65536: "64 KiB"}
# Wong's, told apart without colour vision, and by their points; not the yellow, which white swallows.
COLOURS = ["#000000", "#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#0072b2", "#d55e00"]
PLACEMENTS = {"two_cores": "Across two cores", "one_core": "Both on one core"}
LIMIT = 175  # Seconds, of all.


class Failed(Exception):
    """A benchmark has failed, and this is what it said."""


def run(command, timeout):
    """The standard output of a program that has to succeed, and is asked to stop before it is killed: it has names."""
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as process:
        try:
            out, err = process.communicate(timeout=max(timeout, 0))
        except BaseException as why:
            process.terminate()
            try:
                process.communicate(timeout=5)
            finally:
                process.kill()
            if isinstance(why, subprocess.TimeoutExpired):
                raise Failed("it takes too long") from why
            raise
    if process.returncode != 0:
        raise Failed((err.strip().splitlines() or ["exit status %d" % process.returncode])[-1])
    return out


def progress(text):
    """On a terminal, one line that stays in its place."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + text)
        sys.stderr.flush()


def measure(deadline, flags):
    """All figures, as one document of Google Benchmark's, and what has failed."""
    cases = [(program, name) for program in PROGRAMS
             for name in run(["./" + program, "--benchmark_list_tests"] + flags, 10).splitlines()]
    document, failures = {"benchmarks": []}, []
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "out.json")
        for number, (program, name) in enumerate(cases, 1):
            mechanism, size, placement = name.split("/")[:3]
            progress("%2d of %d: %s, %s, %s" % (number, len(cases), MECHANISMS[mechanism], SIZES[int(size)],
                                                PLACEMENTS[placement].lower()))
            try:
                run(["./" + program, "--benchmark_filter=^%s$" % name, "--benchmark_out=" + out,
                     "--benchmark_out_format=json"] + flags, min(60, deadline - time.monotonic()))
                with open(out) as file:
                    part = json.load(file)
                for entry in part["benchmarks"]:
                    if "p50_us" not in entry:
                        raise Failed(entry.get("error_message", "no figures"))
                    entry.update(mechanism=mechanism, size=int(size), placement=placement)
                document["context"] = part["context"]
                document["benchmarks"] += part["benchmarks"]
            except Failed as why:
                failures.append("%s: %s" % (name, why))
    return document, failures


def finish(*processes):
    for process in processes:
        if process.wait(timeout=10) not in (0, -signal.SIGTERM):
            raise Failed("exit status %d" % process.returncode)


def start(command, **options):
    return subprocess.Popen(["./" + command[0]] + command[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                            **options)


def wait_until_ready(server, name):
    """Servers say at once that they wait; the others make a name, and say nothing of a wait so short."""
    if name is None:
        server.stderr.readline()
    while name and not os.path.exists(name) and server.poll() is None:
        time.sleep(0.0001)


def start_up(times):
    """How long each pair takes for its Hello World, all in all, and for nothing: --help. In milliseconds."""
    figures = []
    with tempfile.TemporaryDirectory(prefix="ipc-benchmark-") as directory:
        name, path = "/" + os.environ.get("BENCHMARK_NAME", os.path.basename(directory)), directory + "/name"
        # The one that makes the name first: the other looks for it only now and then.
        pairs = {
            "shm mailbox": ("/dev/shm" + name, ["shm/writer", "--name", name], ["shm/reader", "--name", name]),
            "pipe": (None, ["pipe/pipe"]),
            "FIFO": (path, ["fifo/reader", "--path", path], ["fifo/writer", "--path", path]),
            "message queue": (None, ["mqueue/server", "--name", name], ["mqueue/client", "--name", name, "quit"]),
            "socket, Unix": (None, ["socket/server", "--unix", path], ["socket/client", "--unix", path]),
        }
        for pair, (made, *commands) in pairs.items():
            progress("start-up: " + pair)
            hello, nothing = [], []
            for _ in range(times):
                before = time.monotonic()
                finish(*[start([command[0], "--help"]) for command in commands])
                nothing.append(time.monotonic() - before)
                before = time.monotonic()
                if len(commands) == 1:
                    finish(start(commands[0]))
                else:
                    with start(commands[0], stderr=subprocess.PIPE) as first:
                        try:
                            wait_until_ready(first, made)
                            finish(start(commands[1]))
                        except BaseException:
                            first.terminate()
                            raise
                        if commands[0][0] == "socket/server":
                            first.terminate()
                        finish(first)
                hello.append(time.monotonic() - before)
            figures.append({"pair": pair, "hello_ms": statistics.median(hello) * 1e3,
                            "nothing_ms": statistics.median(nothing) * 1e3})
    return figures


def table(document):
    """The lines, of at most 100 columns."""
    found = {(b["mechanism"], b["size"], b["placement"]): b for b in document["benchmarks"]}
    for placement, title in PLACEMENTS.items():
        yield "%-25s | %-33s | %s" % (title, "there and back, us", "one way")
        yield "%-18s %6s | %8s %9s %8s %5s | %10s %7s %8s %5s" % (
            "mechanism", "size", "p50", "p99", "x floor", "cores", "messages/s", "GB/s", "x floor", "cores")
        if not any(p == placement for _, _, p in found):
            yield "not measured: only one processor here"
            continue
        for mechanism, label in MECHANISMS.items():
            for size, text in SIZES.items():
                entry = found.get((mechanism, size, placement))
                if entry is None and mechanism == "shm_ring_in_place":
                    continue
                yield "%-18s %6s | " % (label, text) + (
                    "%8s %9s %8s %5s | %10s %7s %8s %5s" % tuple("-" * 8) if entry is None else
                    "%8.2f %9.2f %8.2f %5.1f | %10.0f %7.3f %8.2f %5.1f" % (
                        entry["p50_us"], entry["p99_us"], entry["round_trip_times_floor"], entry["round_trip_cores"],
                        entry["messages_per_s"], entry["bytes_per_s"] / 1e9, entry["one_way_times_floor"],
                        entry["one_way_cores"]))
        yield ""
    yield "%-25s | %16s | %s" % ("Start-up, ms", "Hello World", "two processes that do nothing (pipe: one)")
    for entry in document["start_up"]:
        yield "%-25s | %16.2f | %.2f" % (entry["pair"], entry["hello_ms"], entry["nothing_ms"])


def chart(document, path):
    """An SVG by gnuplot: rows are placements; round trips on the left, throughput on the right."""
    # A background of its own: it may be shown on a dark page.
    lines = ["set terminal svg size 1000,860 background 'white'", "set output '%s'" % path.replace("'", "''"),
             "set multiplot layout 2,2", "set logscale xy", "set grid", "set key outside below height 1",
             "set xtics (%s)" % ", ".join("'%s' %d" % (text, size) for size, text in SIZES.items()),
             "set xrange [48:90000]", "set format y '%g'", "set xlabel 'size of a message' offset 0,0.3"]
    lines += ["set linetype %d linecolor '%s' pointtype %d" % (n, colour, n)
              for n, colour in enumerate(COLOURS, start=1)]
    for placement, title in PLACEMENTS.items():
        for figure, unit, what, label in (("p50_us", 1, "there and back", "median, us"),
                                          ("bytes_per_s", 1e9, "one way", "GB/s")):
            series = []
            for number, (mechanism, name) in enumerate(MECHANISMS.items(), start=1):
                points = ["%d %g" % (b["size"], b[figure] / unit) for b in document["benchmarks"]
                          if (b["mechanism"], b["placement"]) == (mechanism, placement)]
                if len(points) > 1:
                    block = "$%s_%s_%s" % (mechanism, placement, figure)
                    lines += [block + " << END"] + points + ["END"]
                    series.append("%s using 1:2 with linespoints linetype %d linewidth 2 title '%s'"
                                  % (block, number, name))
            if series:
                lines += ["set title '%s: %s'" % (title, what), "set ylabel '%s'" % label, "plot " + ", ".join(series)]
    subprocess.run(["gnuplot"], input="\n".join(lines + ["unset multiplot", ""]), check=True, text=True)


def main():
    flags = sys.argv[1:]
    if flags == ["--help"]:
        print(HELP, end="")
        return 0
    if flags not in ([], ["--quick"]):
        print("benchmark: wrong usage; see --help", file=sys.stderr)
        return 2
    deadline = time.monotonic() + LIMIT
    directory = os.environ.get("BUILD_WORKING_DIRECTORY", os.getcwd())
    document, failures = measure(deadline, flags)
    try:
        document["start_up"] = start_up(1 if flags else 20)
    except (Failed, subprocess.TimeoutExpired) as why:
        document["start_up"] = []
        failures.append("start-up: %s" % why)
    progress("")
    for line in table(document):
        print(line)
    print()
    figures = os.path.join(directory, "ipc_benchmark.json")
    with open(figures, "w") as file:
        json.dump(document, file, indent=1)
    print("figures: " + figures)
    if shutil.which("gnuplot"):
        image = os.path.join(directory, "ipc_benchmark.svg")
        chart(document, image)
        print("chart: " + image)
    else:
        print("no chart: gnuplot is missing (apt-get install gnuplot-nox)")
    for failure in failures:
        print("FAILED: " + failure)
    return 1 if failures else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
    except Failed as failure:
        sys.exit("benchmark: %s" % failure)
