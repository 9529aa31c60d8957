"""A receiver far away: Postfix, which discards what it gets, behind a wire that takes its time.

  python3 far.py LISTEN_PORT TARGET_PORT ONE_WAY_MS

netem is the tool for this, but not every kernel has it. So the wire is a program: every octet, in either direction, arrives the
given time after it came, in order, and as many of them as come may be under way. A new connection reaches the receiver when three
packets would have crossed the wire. What it does not know is TCP's congestion window and lost packets.
"""

import contextlib
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections import deque

import meter
import relays

POSTFIX_PORT = 2520
MOST = 1 << 20  # octets at a time
GRAIN = 0.001   # seconds


class End:
    """One direction: from a socket, later, to another."""

    def __init__(self, source, target):
        self.source, self.target, self.later, self.ended = source, target, deque(), False


def wire(listen_port, target_port, one_way):
    poll = select.epoll()
    listener = socket.create_server((relays.LOOPBACK, listen_port), backlog=512)
    poll.register(listener.fileno(), select.EPOLLIN)
    ends, opening = {}, deque()

    def connect(near):
        far = socket.create_connection((relays.LOOPBACK, target_port), timeout=10)
        for s in (near, far):
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            s.settimeout(10)
            poll.register(s.fileno(), select.EPOLLIN)
        ends[near.fileno()], ends[far.fileno()] = End(near, far), End(far, near)

    def drop(end):
        for s in (end.source, end.target):
            if ends.pop(s.fileno(), None) is not None:
                with contextlib.suppress(OSError, KeyError):
                    poll.unregister(s.fileno())
        end.source.close()
        end.target.close()

    print("ready", flush=True)
    while True:
        due = min((at[0][0] for at in (opening, *(end.later for end in ends.values())) if at), default=None)
        # epoll waits for whole milliseconds, rounded up: the last one is slept below.
        wait = -1 if due is None else max(0.0, due - time.monotonic() - GRAIN)
        for fd, _ in poll.poll(wait):
            if fd == listener.fileno():
                opening.append((time.monotonic() + 3 * one_way, listener.accept()[0]))
            elif (end := ends.get(fd)) is not None:
                try:
                    data = end.source.recv(MOST)
                except OSError:
                    data = b""  # lost, as good as ended: what is sent there fails
                end.later.append((time.monotonic() + one_way, data))
                if not data:
                    poll.unregister(fd)  # no more from here; what is under way still arrives
        left = 0 if due is None else due - time.monotonic()
        if 0 < left <= GRAIN:
            time.sleep(left)
        while opening and opening[0][0] <= time.monotonic():
            connect(opening.popleft()[1])
        for end in list(ends.values()):
            while end.later and end.later[0][0] <= time.monotonic() and end.source.fileno() >= 0:
                _, data = end.later.popleft()
                try:
                    if data:
                        end.target.sendall(data)
                    else:  # the end of one direction; the other may go on
                        end.ended = True
                        end.target.shutdown(socket.SHUT_WR)
                except OSError:
                    drop(end)
                    break
            if end.ended and end.source.fileno() >= 0 and ends[end.target.fileno()].ended:
                drop(end)


class Postfix(relays.Postfix):
    name, port = "receiver", POSTFIX_PORT


class Receiver:
    """As relays.Sink is used, but far away."""

    def __init__(self, directory, tag, round_trip_ms):
        # It takes everything, and names itself as it is: a relay may know what this server can do.
        self.postfix = Postfix(directory, tag, ["relayhost =", "default_transport = discard", "relay_transport = discard"])
        self.log, self.seen, self.count, self.wire = os.path.join(self.postfix.directory, "maillog"), 0, 0, None
        try:
            self.postfix.start()
            self.wire = subprocess.Popen([sys.executable, os.path.abspath(__file__), str(relays.SINK_PORT), str(POSTFIX_PORT),
                                          str(round_trip_ms / 2)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         start_new_session=True)
            if self.wire.stdout.readline() != b"ready\n":
                raise relays.Failed("the wire to the far receiver did not start")
        except relays.Failed:
            self.close()
            raise

    def received(self):
        with open(self.log, "rb") as f:
            f.seek(self.seen)
            text = f.read()
        whole = text[:text.rfind(b"\n") + 1]
        self.seen += len(whole)
        self.count += len(re.findall(rb"status=sent \(", whole))
        return self.count

    def connections(self):
        """How many were made so far."""
        with open(self.log, "rb") as f:
            return len(re.findall(rb"/smtpd\[\d+\]: connect from", f.read())) - 1  # the first was ours: is it there?

    def cpu_us(self):
        return self.postfix.meter.cpu_us() + meter.process_cpu_us(self.wire.pid)

    def close(self):
        if self.wire is not None:
            self.wire.kill()
            self.wire.wait()
        self.postfix.stop()


if __name__ == "__main__":
    wire(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) / 1000)
