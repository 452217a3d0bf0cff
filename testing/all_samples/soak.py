#!/usr/bin/env python3
"""Runs the samples in random mixtures for as long as it is told, and judges each round by what every sample promises.

    ./bazelw run -c opt //testing/all_samples:soak -- [--seconds 60] [--jobs 4] [--seed N] [--only ROUND]

A round takes names of its own, so rounds run side by side. Its random numbers come from the seed and the round's number
alone: --seed repeats what was done, though not the instants at which it happened. Exit status 1 after a failure.
"""

import argparse
import concurrent.futures
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HANG = 30  # Seconds that nothing here takes, on the busiest machine.
LIBC = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """What a round found that must not be."""


class Process:
    """A sample that was started; its input comes from memory, and its output goes to files."""

    def __init__(self, directory, argv, stdin=b""):
        self.argv = argv
        self.out = tempfile.TemporaryFile(dir=directory)
        self.err = tempfile.TemporaryFile(dir=directory)
        source = tempfile.TemporaryFile(dir=directory)
        source.write(stdin)
        source.seek(0)
        self.process = subprocess.Popen(argv, stdin=source, stdout=self.out, stderr=self.err)
        source.close()

    def send(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, seconds=HANG):
        """Its exit status, or minus the signal of which it died."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"hangs: {self}") from None

    def ends_within(self, seconds):
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def text(self, file):
        file.seek(0)
        return file.read()

    def output(self):
        return self.text(self.out)

    def says(self):
        return self.text(self.err).decode(errors="replace")

    def await_says(self, part):
        """Returns once it has said that, or has ended."""
        end = time.monotonic() + HANG
        while part not in self.says() and self.process.poll() is None:
            if time.monotonic() > end:
                raise Failure(f"does not say '{part}': {self}")
            time.sleep(0.002)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.out.close()
        self.err.close()

    def __str__(self):
        return f"{' '.join(self.argv)} -> {self.process.poll()}, says {self.says()!r}"


class Kind:
    """A mechanism: what its two programs are, which of them owns the name, and what is under it."""

    def __init__(self, receiver, sender, option, owner, exists, unlink):
        self.receiver, self.sender, self.option, self.owner = receiver, sender, option, owner
        self.exists, self.unlink = exists, unlink


def queue_exists(name):
    queue = LIBC.mq_open(name.encode(), os.O_RDONLY)
    if queue != -1:
        os.close(queue)
    return queue != -1


def in_memory(name):
    return "/dev/shm" + name


KINDS = {
    "shm": Kind("shm/reader", "shm/writer", "--name", "sender", lambda name: os.path.exists(in_memory(name)),
                lambda name: os.unlink(in_memory(name))),
    "ring": Kind("shm/ring_reader", "shm/ring_writer", "--name", "sender", lambda name: os.path.exists(in_memory(name)),
                 lambda name: os.unlink(in_memory(name))),
    "fifo": Kind("fifo/reader", "fifo/writer", "--path", "receiver", os.path.lexists, os.unlink),
    "mqueue": Kind("mqueue/server", "mqueue/client", "--name", "receiver", queue_exists,
                   lambda name: LIBC.mq_unlink(name.encode())),
    "socket": Kind("socket/server", "socket/client", "--unix", "receiver", os.path.lexists, os.unlink),
}


class Round:
    """One round: its random numbers, its names, and its processes."""

    def __init__(self, binaries, seed, number):
        self.binaries = binaries
        self.random = random.Random(f"{seed} {number}")
        self.directory = tempfile.mkdtemp(prefix="ipc-soak-", dir="/tmp")
        self.name = "/ipc-soak-" + os.path.basename(self.directory)[9:]
        self.processes = []
        self.kills = 0
        self.bytes = 0
        self.kind = None
        self.what = ""

    def choose_kind(self, kinds):
        self.what = self.random.choice(kinds)
        self.kind = KINDS[self.what]
        if self.kind.option != "--name":
            self.name = os.path.join(self.directory, "name")

    def start(self, program, *arguments, stdin=b""):
        argv = [os.path.join(self.binaries, program), *arguments]
        self.processes.append(Process(self.directory, argv, stdin))
        return self.processes[-1]

    def payload(self):
        """What is sent: (operands, standard input, what has to come out)."""
        size = self.random.choice([0, 1, 99, 100, 4095, 4096, 65536, 1_000_003, self.random.randrange(3_000_000)])
        if self.what == "shm":
            text = "".join(self.random.choices("abcdefgh", k=min(size, 100)))
            return [text], b"", text.encode() + b"\n"
        if self.what == "mqueue":
            lines = b"".join(b"%d %s\n" % (i, b"x" * self.random.randrange(100)) for i in range(size % 500))
            return ["-"], lines, lines
        data = self.random.randbytes(size)
        return ([] if self.what == "ring" else ["-"]), data, data

    def receiver(self, *more):
        return self.start(self.kind.receiver, self.kind.option, self.name, *more)

    def sender(self, payload):
        operands, stdin, _ = payload
        return self.start(self.kind.sender, self.kind.option, self.name, *operands, stdin=stdin)

    def pair(self, payload):
        """Both sides, started in either order, sometimes with a pause in between."""
        makers = [self.receiver, lambda: self.sender(payload)]
        first = self.random.randrange(2)
        one = makers[first]()
        if self.random.random() < 0.5:
            time.sleep(self.random.random() * 0.2)
        other = makers[1 - first]()
        return (one, other) if first == 0 else (other, one)

    def end_server(self, receiver):
        """Ends one that serves until it is told otherwise, and returns what its exit status has to be."""
        if self.what == "mqueue":
            self.expect(self.sender((["quit"], b"", b"")), 0)
        if self.what == "socket":
            receiver.send(signal.SIGTERM)
            return -signal.SIGTERM
        return 0

    def expect(self, process, status):
        found = process.wait()
        if found != status:
            raise Failure(f"status {found}, not {status}: {process}")

    def expect_pair_works(self, before=b""):
        """Whatever happened before under the name, the next pair transfers all, and leaves nothing."""
        payload = self.payload()
        receiver, sender = self.pair(payload)
        self.expect(sender, 0)
        self.expect(receiver, self.end_server(receiver))
        printed = sender.output() if self.what == "socket" else receiver.output()
        if printed not in (payload[2], before + payload[2]):
            raise Failure(f"{len(printed)} bytes came out, and {len(payload[2])} went in: {receiver}; {sender}")
        self.bytes += len(printed)
        self.expect_no_name()

    def expect_no_name(self):
        if self.kind.exists(self.name):
            raise Failure(f"left behind: {self.name}")
        others = [entry for entry in os.listdir(self.directory) if not entry.startswith("tmp")]
        if others:
            raise Failure(f"left behind: {others}")

    def close(self):
        for process in self.processes:
            process.stop()
        if self.kind is not None and self.kind.exists(self.name):
            self.kind.unlink(self.name)
        shutil.rmtree(self.directory, ignore_errors=True)


def plain(run):
    """Nothing happens to the two."""
    run.choose_kind(list(KINDS))
    run.expect_pair_works()


def through_a_pipe(run):
    """The pipe's program alone."""
    data = run.random.randbytes(run.random.randrange(2_000_000))
    process = run.start("pipe/pipe", "-", stdin=data)
    number = run.random.choice([0, 0, signal.SIGTERM, signal.SIGINT])
    if number:
        time.sleep(run.random.random() * 0.02)
        process.send(number)
    status = process.wait()
    printed = process.output()
    if status not in (0, -number) or (status == 0 and printed != data) or not data.startswith(printed):
        raise Failure(f"{len(printed)} of {len(data)} bytes: {process}")
    run.bytes += len(printed)


def signalled(run):
    """One of the two is killed, interrupted, or held up for a while."""
    run.choose_kind(list(KINDS))
    payload = run.payload()
    receiver, sender = run.pair(payload)
    target = run.random.choice([receiver, sender])
    number = run.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGSTOP])
    time.sleep(run.random.choice([0, 0.001, 0.01, 0.1]) * run.random.random() * 3)
    target.send(number)
    if number == signal.SIGSTOP:
        time.sleep(run.random.random() * 0.3)
        target.send(signal.SIGCONT)
    elif target.process.poll() is None or target.process.returncode != 0:
        run.kills += 1
    peer = sender if target is receiver else receiver
    if number != signal.SIGSTOP:
        status = target.wait()
        if status not in (0, -number):
            # A program that fails as it is told to stop may say so, but only if its peer has failed, too.
            raise Failure(f"status {status} after signal {number}: {target}")
    # The peer ends by itself within a second, or waits for the next one. A server goes on.
    serves = run.what in ("mqueue", "socket")
    if not (serves and peer is receiver) and not peer.ends_within(3):
        peer.send(signal.SIGTERM)
    if serves and receiver.process.poll() is None:
        sender.wait()
        run.end_server(receiver)
    receiver.wait()
    sender.wait()
    printed = sender.output() if run.what == "socket" else receiver.output()
    if run.what not in ("mqueue",) and not payload[2].startswith(printed):
        raise Failure(f"what came out is no beginning of what went in: {receiver}; {sender}")
    if sender.process.returncode == 0 and printed != payload[2]:
        # What a killed receiver had taken, or a FIFO had in it, is lost; what lies in a queue is the next server's.
        if run.what not in ("fifo", "mqueue") or target is not receiver:
            raise Failure(f"the sender's exit status 0 is a lie: {receiver}; {sender}")
    if receiver.process.returncode == 0 and printed != payload[2] and run.what not in ("fifo", "mqueue"):
        raise Failure(f"the receiver's exit status 0 is a lie: {receiver}; {sender}")
    if run.what == "mqueue":
        drain(run)
    elif number != signal.SIGKILL:
        run.expect_no_name()
    run.expect_pair_works()


def drain(run):
    """What is left in a queue is printed by the next server, which then removes it."""
    server = run.receiver("--timeout", "0")
    server.wait()
    if run.kind.exists(run.name):
        raise Failure(f"left behind: {run.name} by {server}")
    return server.output()


def administrator(run):
    """Somebody removes a name in use; another owner takes it; the first one ends, and must leave it alone."""
    run.choose_kind(list(KINDS))
    payload = run.payload()
    owns = run.kind.owner == "sender"
    first = run.sender(payload) if owns else run.receiver()
    first.await_says("ing ")
    for name in [run.name, run.name + ".lock"]:
        if run.what == "socket" or name == run.name:
            run.kind.unlink(name)
    second = run.sender(payload) if owns else run.receiver()
    second.await_says("ing ")
    first.send(run.random.choice([signal.SIGTERM, signal.SIGINT]))
    first.wait()
    run.kills += 1
    if not run.kind.exists(run.name):
        raise Failure(f"{first} removed the name of {second}")
    peer = run.receiver() if owns else run.sender(payload)
    receiver, sender = (peer, second) if owns else (second, peer)
    run.expect(sender, 0)
    run.expect(receiver, run.end_server(receiver))
    printed = sender.output() if run.what == "socket" else receiver.output()
    if printed != payload[2]:
        raise Failure(f"not what went in: {receiver}; {sender}")
    run.bytes += len(printed)
    run.expect_no_name()


def heir(run):
    """A writer was killed; the next one takes its name over while readers come. None may get the old message."""
    run.choose_kind(["shm"])
    old = run.sender((["old"], b"", b""))
    old.await_says("waiting for")
    old.send(signal.SIGKILL)
    old.wait()
    run.kills += 1
    readers = [run.receiver() for _ in range(3)]
    time.sleep(run.random.random() * 0.15)
    writer = run.sender((["new"], b"", b""))
    run.expect(writer, 0)
    for reader in readers:
        reader.send(signal.SIGTERM)
        reader.wait()
    printed = b"".join(reader.output() for reader in readers)
    if printed != b"new\n":
        raise Failure(f"readers printed {printed!r}")
    run.expect_no_name()


def restarts(run):
    """A queue's server is restarted again and again under four clients: what a client has acknowledged gets printed."""
    run.choose_kind(["mqueue"])
    fatal = run.random.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
    clients, servers = [], []
    for _ in range(6):
        server = run.receiver()
        servers.append(server)
        for i in range(4):
            lines = b"".join(b"%d.%d.%d\n" % (len(servers), i, line) for line in range(60))
            clients.append(run.sender((["-"], lines, lines)))
        time.sleep(run.random.random() * 0.05)
        server.send(fatal)
        server.wait()
        run.kills += 1
    # Clients that still wait for a server get one.
    last = run.receiver()
    for client in clients:
        client.wait()
    run.expect(run.sender((["quit"], b"", b"")), 0)
    run.expect(last, 0)
    printed = set(b"".join(server.output() for server in [*servers, last]).split(b"\n"))
    acknowledged = [line for client in clients for line in client.output().split(b"\n")]
    lost = [line for line in acknowledged if line not in printed]
    # A server that is killed has taken at most one message that it has not printed.
    allowed = len(servers) if fatal == signal.SIGKILL else 0
    if len(lost) > allowed:
        raise Failure(f"{len(lost)} of {len(acknowledged)} acknowledged messages are lost: {lost[:5]}")
    run.bytes += sum(map(len, printed))
    run.expect_no_name()


ROUNDS = {round.__name__: round for round in [plain, through_a_pipe, signalled, administrator, heir, restarts]}
WEIGHTS = {"signalled": 4, "administrator": 2}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**9))
    parser.add_argument("--only", choices=ROUNDS)
    parser.add_argument("--binaries", default=".", help="where shm/writer and the others are")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}, {arguments.seconds:.0f} s, {arguments.jobs} side by side", flush=True)

    # A sample leaves a signal ignored that its parent ignores, as nohup and CI do: told to stop, it would never end.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)

    end = time.monotonic() + arguments.seconds
    lock = threading.Lock()
    total = {"rounds": 0, "kills": 0, "bytes": 0, "failures": 0}
    numbers = iter(range(10**12))

    def work():
        while time.monotonic() < end:
            with lock:
                number = next(numbers)
            run = Round(arguments.binaries, arguments.seed, number)
            names = [arguments.only] if arguments.only else list(ROUNDS)
            name = run.random.choices(names, [WEIGHTS.get(name, 1) for name in names])[0]
            failure = None
            try:
                ROUNDS[name](run)
            except Failure as error:
                failure = error
            finally:
                run.close()
            with lock:
                total["rounds"] += 1
                total["kills"] += run.kills
                total["bytes"] += run.bytes
                if failure is not None:
                    total["failures"] += 1
                    print(f"FAILED: round {number}, {name} {run.what}: {failure}", flush=True)

    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for job in [pool.submit(work) for _ in range(arguments.jobs)]:
            job.result()
    print(", ".join(f"{count} {what}" for what, count in total.items()))
    return 1 if total["failures"] or not total["rounds"] else 0


if __name__ == "__main__":
    sys.exit(main())
