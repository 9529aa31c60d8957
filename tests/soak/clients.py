"""The load: clients that send messages of all sizes to one or many recipients, at a rate in common."""

import os
import random
import re
import threading
import time

from support.mail import letter
from support.raw_smtp import RawSmtp, stuffed
from support.tls_client import TlsSmtp

LINE = 78


def _filler(size=4 << 20):
    """Text that has every printable octet and lines that begin with dots, different at each place."""
    raw = os.urandom(size // LINE * 57)
    table = bytes(33 + value % 94 for value in range(256))
    text = raw.translate(table)
    lines = [(b"." if number % 9 == 0 else b"x") + text[at:at + 75] + b"\r\n"
             for number, at in enumerate(range(0, len(text) - 75, 57))]
    return b"".join(lines)


FILLER = _filler()


def body(draw):
    """Mostly small; one in 80 is over a megabyte, and goes to the spool in chunks."""
    kind = draw.random()
    if kind < 0.86:
        lines = draw.randint(1, 100)
    elif kind < 0.9875:
        lines = draw.randint(200, 2500)
    else:
        lines = draw.randint(14_000, 30_000)
    start = draw.randrange(len(FILLER) // LINE - lines)
    return FILLER[start * LINE:(start + lines) * LINE]


class Pace:
    """Moments at a steady rate for all clients together; late ones are not made up for."""

    def __init__(self, rate):
        self.interval = 1 / rate if rate else 0
        self._lock = threading.Lock()
        self._next = time.monotonic()

    def wait(self, stop):
        with self._lock:
            now = time.monotonic()
            self._next = max(self._next + self.interval, now - 1)
            delay = self._next - now
        if delay > 0:
            stop.wait(delay)


class Client(threading.Thread):
    """One client of one listener: new connections at random, reconnecting as long as it runs."""

    def __init__(self, load, number, port, passing=False, tls=None):
        super().__init__(daemon=True)
        self.load, self.port, self.passing, self.tls = load, port, passing, tls
        self.draw = random.Random(f"{load.seed}-{number}")

    def run(self):
        while not self.load.stopping.is_set():
            try:
                with self._connect() as connection:
                    for _ in range(self.draw.randint(1, 40)):
                        self.load.pace.wait(self.load.stopping)
                        if self.load.stopping.is_set():
                            break
                        self._one(connection)
                    connection.ask("QUIT")
            except (OSError, EOFError, AssertionError):
                self.load.stopping.wait(0.2)  # Egret restarts, or the listener is gone for now

    def _connect(self):
        # As long as a receiver may hang: who waits for its verdict has to wait that long.
        if self.tls:
            client = TlsSmtp(self.tls, port=self.port, timeout=90)
            client.secure_hello()
        else:
            client = RawSmtp(port=self.port, timeout=90)
            client.hello()
        return client

    def _one(self, connection):
        ledger, load = self.load.ledger, self.load
        marker = load.marker()
        recipients = load.recipients(self.draw, self.passing)
        content = letter(marker, body(self.draw))
        wire = stuffed(content)
        entry = ledger.sending(marker, content, recipients, self.passing)
        entry.state = "unknown"
        sender = f"app{self.draw.randrange(20)}@sender{self.draw.randrange(5)}.test"
        connection.send(b"MAIL FROM:<%s>\r\n" % sender.encode() + b"".join(b"RCPT TO:<%s>\r\n" % r.encode() for r in recipients) +
                        b"DATA\r\n")
        replies = [connection.reply() for _ in range(len(recipients) + 2)]
        refused = [reply for reply in replies[:-1] if not reply.startswith("250")]
        if refused or not replies[-1].startswith("354"):
            return self._refused(entry, (refused + replies[-1:])[0], connection, replies[-1].startswith("354"))
        connection.send(wire)
        reply = connection.reply()
        entry.ended = time.monotonic()
        if not reply.startswith("250"):
            return self._refused(entry, reply, connection)
        found = re.search(r"queued as (\S+)", reply)
        entry.id = found and found.group(1)
        entry.state = "250"
        load.accepted(entry)
        return None

    def _refused(self, entry, reply, connection, in_data=False):
        entry.ended, entry.state = time.monotonic(), "refused"
        if not self.passing:
            self.load.ledger.refused(reply)
        if reply.startswith("421") or in_data:
            raise EOFError
        connection.ask("RSET")


class Load:
    def __init__(self, ledger, seed, rate, domains, tls):
        self.ledger, self.seed, self.domains = ledger, seed, domains
        self.pace = Pace(rate)
        self.stopping = threading.Event()
        self.recent_ids = []
        self._serial = 0
        self._lock = threading.Lock()
        listeners = [(2525, False, None)] * 5 + [(2526, False, None)] * 4 + [(2530, True, None)] * 6
        listeners += [(2527, False, None), (2528, False, tls)]  # 2527 comes and goes with reloads
        self.clients = [Client(self, number, *listener) for number, listener in enumerate(listeners)]

    def start(self):
        for client in self.clients:
            client.start()
        return self

    def stop(self):
        self.stopping.set()
        for client in self.clients:
            client.join(100)
            assert not client.is_alive(), "a client is stuck"

    def marker(self):
        with self._lock:
            self._serial += 1
            return f"s{self.seed}-{self._serial}"

    def accepted(self, entry):
        self.ledger.accepted += 1  # nearly: threads may lose one
        if entry.id:
            self.recent_ids = (self.recent_ids + [entry.id])[-200:]

    def recipients(self, draw, passing):
        kind = draw.random()
        count = 1 if kind < 0.8 or passing and kind < 0.97 else draw.randint(2, 5) if kind < 0.96 else draw.randint(10, 40)
        found = set()
        for _ in range(count):
            name = "nobody" if draw.random() < 0.02 else "user"
            found.add(f"{name}{draw.randrange(1000)}@{draw.choice(self.domains)}")
        return sorted(found)

