"""An SMTP receiver that notes when it got what: python3 receiver.py PORT [--delay MS] [--times FILE]

Each final dot is answered after the delay, however many connections there are. With --times every message whose header
section has a line `X-Bench-Token: TOKEN` leaves a line `TOKEN NANOSECONDS` in FILE, by the monotonic clock, taken when
the end of the message was read. Written on epoll, so that its own share of what is measured stays small.
"""

import argparse
import heapq
import re
import select
import socket
import time

TOKEN = re.compile(rb"^X-Bench-Token: (\S+)\r\n", re.M)
END = b"\r\n.\r\n"


class Session:
    __slots__ = ("sock", "inbox", "in_data", "busy")

    def __init__(self, sock):
        self.sock, self.inbox, self.in_data, self.busy = sock, b"", False, False


class Receiver:
    def __init__(self, options):
        self.delay, self.times = options.delay / 1000, options.times and open(options.times, "ab", buffering=0)
        self.later, self.sessions, self.number = [], {}, 0
        self.poll = select.epoll()
        self.listener = socket.create_server(("127.0.0.1", options.port), backlog=512)
        self.poll.register(self.listener.fileno(), select.EPOLLIN)

    def run(self):
        print("ready", flush=True)
        while True:
            wait = max(0.0, self.later[0][0] - time.monotonic()) if self.later else -1
            for fd, _ in self.poll.poll(wait):
                if fd == self.listener.fileno():
                    self.enter()
                else:
                    self.read(self.sessions[fd])
            while self.later and self.later[0][0] <= time.monotonic():
                _, _, session = heapq.heappop(self.later)
                session.busy = False
                self.say(session, b"250 2.0.0 taken\r\n")
                self.go_on(session)

    def enter(self):
        sock, _ = self.listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        session = self.sessions[sock.fileno()] = Session(sock)
        self.poll.register(sock.fileno(), select.EPOLLIN)
        self.say(session, b"220 receiver.bench.test ESMTP\r\n")

    def leave(self, session):
        if session.sock.fileno() in self.sessions:
            del self.sessions[session.sock.fileno()]
            self.poll.unregister(session.sock.fileno())
            session.sock.close()

    def say(self, session, text):
        try:
            session.sock.send(text)
        except OSError:
            self.leave(session)

    def read(self, session):
        try:
            data = session.sock.recv(262144)
        except OSError:
            data = b""
        if not data:
            return self.leave(session)
        session.inbox += data
        self.go_on(session)

    def go_on(self, session):
        while not session.busy and session.sock.fileno() >= 0:
            if session.in_data:
                end = session.inbox.find(END)
                if end < 0:
                    return
                arrived = time.monotonic_ns()
                message, session.inbox, session.in_data = session.inbox[:end + 2], session.inbox[end + len(END):], False
                if self.times and (found := TOKEN.search(message[:4096])):
                    self.times.write(found[1] + b" %d\n" % arrived)
                if not self.delay:
                    self.say(session, b"250 2.0.0 taken\r\n")
                    continue
                session.busy = True
                self.number += 1
                heapq.heappush(self.later, (time.monotonic() + self.delay, self.number, session))
                return
            line, separator, rest = session.inbox.partition(b"\r\n")
            if not separator:
                return
            session.inbox, verb = rest, line[:4].upper()
            if verb == b"DATA":
                session.in_data = True
                self.say(session, b"354 go on\r\n")
            elif verb == b"QUIT":
                self.say(session, b"221 2.0.0 bye\r\n")
                return self.leave(session)
            elif verb == b"EHLO":
                self.say(session, b"250-receiver.bench.test\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            else:
                self.say(session, b"250 2.0.0 ok\r\n")


def main():
    p = argparse.ArgumentParser(allow_abbrev=False)
    p.add_argument("port", type=int)
    p.add_argument("--delay", type=float, default=0, help="milliseconds")
    p.add_argument("--times", default="")
    Receiver(p.parse_args()).run()


if __name__ == "__main__":
    main()
