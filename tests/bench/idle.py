#!/usr/bin/python3
"""What idle and slow clients cost, and whether anybody else notices them.

Opens many connections to Egret that say EHLO and then nothing, and more that send one octet in a second, half of them
within a command and half within a message. While they stand, ordinary messages are sent one after the other, each over a
connection of its own. Prints the memory before and after (PSS), and how long the messages took from connect to 250.

    tests/bench/idle.py [--idle N] [--slow N] [--messages N] [--egret PATH]

Needs root and what README.md here names. Exit code 1: a message took longer than 100 ms at the 99th percentile, a
message was refused, or a connection was lost that had done nothing wrong.
"""

import argparse
import contextlib
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import meter
import relays
import sandbox

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
GOAL_MS = 100
PER_ADDRESS = 2000  # connections from one client address
MESSAGE = (b"From: <a@src.test>\r\nTo: <b@dst.test>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-Id: <%d@bench.test>\r\n"
           b"Subject: bench\r\n\r\n" + (b"X" * 78 + b"\r\n") * 50 + b".\r\n")


class Crowd:
    """Connections that stay. `step` is one second in the life of the slow ones."""

    IN_COMMAND = [b"EHLO slow.bench.test\r\n"]
    IN_DATA = [b"EHLO slow.bench.test\r\n", b"MAIL FROM:<a@src.test>\r\n", b"RCPT TO:<b@dst.test>\r\n", b"DATA\r\n"]

    def __init__(self):
        self.sockets = []
        self.slow = []

    def enter(self, count, commands=(), slow=False):
        """`count` more, each after the replies to `commands`. Connections of one batch go through them together."""
        for begun in range(0, count, 500):
            batch = [self._connect() for _ in range(min(500, count - begun))]
            for sock in batch:
                _replied(sock)
            for command in commands:
                for sock in batch:
                    sock.sendall(command)
                for sock in batch:
                    _replied(sock)
            self.sockets += batch
            if slow:
                self.slow += batch

    def _connect(self):
        number = len(self.sockets) + 1
        # Addresses in turn, so that no client has more connections than the kernel has ports for it.
        source = f"127.{1 + number % 7}.{number // PER_ADDRESS}.{1 + number % 11}"
        sock = socket.create_connection((relays.LOOPBACK, relays.EGRET_PORT), timeout=20, source_address=(source, 0))
        sock.settimeout(20)
        return sock

    def step(self):
        for sock in self.slow:
            with contextlib.suppress(OSError):
                sock.send(b"x")

    def lost(self):
        """How many have been ended by the relay, with what it said to the first of them."""
        poll = select.poll()
        by_number = {sock.fileno(): sock for sock in self.sockets}
        for number in by_number:
            poll.register(number, select.POLLIN)
        gone, said = 0, b""
        for number, _ in poll.poll(0):
            try:
                heard = by_number[number].recv(1000)
            except OSError as e:
                heard = str(e).encode()
            said = said or heard
            gone += 1
        return gone, said.decode("latin-1").strip()

    def close(self):
        for sock in self.sockets:
            sock.close()


def _replied(sock):
    reply = b""
    while not reply.endswith(b"\n") or reply.splitlines()[-1][3:4] == b"-":
        more = sock.recv(4096)
        if not more:
            raise relays.Failed(f"connection closed, after {reply!r}")
        reply += more
    if reply[:1] not in (b"2", b"3"):
        raise relays.Failed(reply.decode("latin-1").strip())


def send_one(number):
    """Milliseconds from connect to the 250 of one message over a connection of its own."""
    begun = time.perf_counter()
    with socket.create_connection((relays.LOOPBACK, relays.EGRET_PORT), timeout=20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _replied(sock)
        for command in (b"EHLO client.bench.test\r\n", b"MAIL FROM:<a@src.test>\r\n", b"RCPT TO:<b@dst.test>\r\n", b"DATA\r\n",
                        MESSAGE % number):
            sock.sendall(command)
            _replied(sock)
        took = (time.perf_counter() - begun) * 1000
        sock.sendall(b"QUIT\r\n")
    return took


def send_all(count):
    times = sorted(send_one(number) for number in range(count))
    return {"p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)], "max": times[-1]}


class Egret(relays.Egret):
    """With limits that let the crowd in, without being in stress (nine tenths of the limit)."""

    def __init__(self, directory, options):
        super().__init__(directory, f"idle-{os.getpid()}", options, "queue")
        limit = (options.idle + options.slow) * 2 + 1000
        with open(self.config, "a") as f:
            f.write(f"limits: {{connections: {limit}, connections_per_client: {limit}}}\n")

    def memory(self):
        return meter.pss_kb(self.meter.pids()) / 1024


def shown(label, times):
    return f"{label:<26}p50 {times['p50']:6.1f} ms   p99 {times['p99']:6.1f} ms   max {times['max']:6.1f} ms"


def measure(options, relay, crowd):
    send_all(options.messages)  # the first ones also pay for memory that stays
    alone = send_all(options.messages)
    before = relay.memory()
    begun = time.monotonic()
    crowd.enter(options.idle, commands=[b"EHLO idle.bench.test\r\n"])
    crowd.enter(options.slow // 2, commands=crowd.IN_COMMAND, slow=True)
    crowd.enter(options.slow - options.slow // 2, commands=crowd.IN_DATA, slow=True)
    print(f"{len(crowd.sockets)} connections stand after {time.monotonic() - begun:.1f} s")

    done = threading.Event()

    def octets():
        while not done.wait(1):
            crowd.step()

    writer = threading.Thread(target=octets)
    writer.start()
    time.sleep(3)
    cpu, begun = relay.meter.cpu_us(), time.monotonic()
    time.sleep(2)
    busy = (relay.meter.cpu_us() - cpu) / (time.monotonic() - begun) / 1e6
    among = send_all(options.messages)
    during = relay.memory()
    time.sleep(max(0, options.hold - 5))
    late = send_all(options.messages)
    lost, said = crowd.lost()
    done.set()
    writer.join()
    at_end = relay.memory()
    crowd.close()
    time.sleep(2)
    after = relay.memory()

    count = len(crowd.sockets)
    print(shown("messages, nobody else:", alone))
    print(shown("messages, in the crowd:", among))
    print(shown(f"the same, {options.hold} s later:", late))
    print(f"memory (PSS): {before:.1f} MB before, {during:.1f} MB with {count} connections "
          f"({(during - before) * 1024 / count:.1f} KB each), {at_end:.1f} MB at the end, {after:.1f} MB when they have left")
    print(f"CPU of the relay for the crowd alone: {busy * 100:.1f} % of one core")
    if lost:
        print(f"LOST: {lost} connections: {said}")
    return not lost and max(among["p99"], late["p99"]) <= GOAL_MS


def inside(options):
    wanted = options.idle + options.slow + 1000  # for us and, inherited, for the relay
    most = max(wanted, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as stack:
        disk = tempfile.mkdtemp(prefix="idle-", dir=options.work_dir)
        stack.callback(shutil.rmtree, disk, ignore_errors=True)
        sandbox.use_resolver(disk, relays.LOOPBACK)
        names = subprocess.Popen([sys.executable, os.path.join(HERE, "nameserver.py"), relays.LOOPBACK, "53", relays.DOMAIN,
                                  relays.LOOPBACK], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        stack.callback(lambda: (names.kill(), names.wait()))
        names.stdout.readline()
        sink = relays.Sink(disk)
        stack.callback(sink.close)
        relay = Egret(disk, options)
        stack.callback(relay.stop)
        crowd = Crowd()
        stack.callback(crowd.close)
        try:
            relay.start()
            ok = measure(options, relay, crowd)
        except (relays.Failed, OSError) as e:
            print(f"FAILED: {e}\n{relay.log_tail()}", file=sys.stderr)
            return 1
        return 0 if ok else 1


def main():
    p = argparse.ArgumentParser(description="What idle and slow clients cost Egret.", allow_abbrev=False)
    p.add_argument("--idle", type=int, default=10000, help="connections that say EHLO and then nothing (%(default)s)")
    p.add_argument("--slow", type=int, default=2000, help="connections that send an octet in a second (%(default)s)")
    p.add_argument("--messages", type=int, default=200, help="ordinary messages, in each of three rounds (%(default)s)")
    p.add_argument("--hold", type=int, default=20, help="seconds that the crowd stays (%(default)s)")
    p.add_argument("--egret", default=os.path.join(ROOT, "build/release/egret"))
    p.add_argument("--egret-log", default="warn")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--connections", type=int, default=20, help="of Egret to the sink")
    p.add_argument("--blocklists", default=os.path.join(ROOT, "config/blocklists.yaml"))
    p.add_argument("--work-dir", default=os.path.join(ROOT, "build/bench"))
    options = p.parse_args()
    os.makedirs(options.work_dir, exist_ok=True)
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    return sandbox.run(lambda: inside(options))


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    sys.exit(main())
