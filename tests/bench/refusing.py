"""Messages whose destination takes none: how fast they are accepted, and what keeping them costs in memory and on disk.

The receiver answers each connection with 421: after some of those nothing is tried there for a while. Or it answers RCPT with
450, and every message is attempted once, judged and put off while others are accepted, which is slower than accepting: then the
queue is one of messages that wait for their turn. Counted is until the relay has nothing more to do, or some seconds after the
last 250: later attempts are another matter.
"""

import os
import socket
import subprocess
import threading
import time

import load
import relays

QUIET = 0.05      # cores: the relay has nothing more to do
QUIET_LIMIT = 6   # seconds


def run_refusing(bed, scenario, subject, count):
    octets = octets_of_one(scenario)
    with bed.relay(scenario, subject, sink=lambda: relays.Sink(bed.memory, subject.settings["refuse"])) as (relay, sink):
        warm_up = min(500, max(scenario.sessions, count // 10))
        load.generate(load.smtp_source(scenario, relay.port, warm_up), sink, 0, load.WARM_UP_LIMIT, relay)
        time.sleep(1)
        result, _ = load.measured(bed, relay, sink, load.smtp_source(scenario, relay.port, count), count, delivered=False,
                                  settle=lambda: wait_for_quiet(relay))
        disk = allocated(relay.queue_directory())
        return result | {"disk_mb": disk / 2**20, "octets_per_msg": octets, "disk_per_octet": disk / ((count + warm_up) * octets)}


def wait_for_quiet(relay):
    deadline = time.monotonic() + QUIET_LIMIT
    before, used = time.monotonic(), relay.meter.cpu_us()
    while time.monotonic() < deadline:
        time.sleep(0.5)
        now, cpu = time.monotonic(), relay.meter.cpu_us()
        if (cpu - used) / 1e6 / (now - before) < QUIET:
            return
        before, used = now, cpu


def allocated(directory):
    """Octets of disk that a directory and all in it take: blocks, not sizes."""
    total = os.lstat(directory).st_blocks
    for place, directories, files in os.walk(directory):
        for name in directories + files:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks
            except FileNotFoundError:
                continue  # a queue lives
    return total * 512


def octets_of_one(scenario):
    """How long the generator's messages are, as they go over the wire up to the final dot: it knows only the body's length."""
    received = []
    with socket.create_server((relays.LOOPBACK, 0)) as listener:
        listener.settimeout(10)
        taker = threading.Thread(target=_take_one, args=(listener, received))
        taker.start()
        done = subprocess.run(load.smtp_source(scenario, listener.getsockname()[1], 1), stdin=subprocess.DEVNULL, timeout=30)
        taker.join()
    if done.returncode != 0 or not received:
        raise relays.Failed("the generator's message could not be measured")
    return received[0]


def _take_one(listener, received):
    connection, _ = listener.accept()
    with connection, connection.makefile("rwb") as stream:
        stream.write(b"220 size.bench.test\r\n")
        stream.flush()
        for line in stream:
            reply, verb = b"250 ok\r\n", line[:4].upper()
            if verb == b"QUIT":
                reply = b"221 bye\r\n"
            elif verb == b"DATA":
                stream.write(b"354 go on\r\n")
                stream.flush()
                size = 0
                while (line := stream.readline()) not in (b".\r\n", b""):
                    size += len(line)
                received.append(size)
            stream.write(reply)
            stream.flush()
            if verb == b"QUIT":
                return
