"""An SMTP client that keeps the time: how long from MAIL to the final 250, and from the dot to it.

  python3 loadclient.py --port P --sessions N --count M --size BYTES [--warm-up K] [--tokens FILE]

Closed loop: every session has one message under way, sends its commands one by one (as most clients do,
and as smtp-source does) and begins the next message when it has the 250. Prints one JSON object.

Written straight on epoll, with nothing but a system call or two and a few dictionary look-ups per
reply: the client's own share of the figures is what the bench prints for "direct". A time ends when
epoll reports the reply, before other sessions' replies are dealt with, so that the client's work
for one session is not booked as the relay's time for another.

With --sites the recipients' domains take turns.

With --tokens every message carries a token in its first header line and one in its last body line,
and FILE gets a line `number id` per message, the id being the one in `250 ... queued as ID`; the
durability check finds both tokens again in the trace of the relay's system calls.
"""

import argparse
import gc
import json
import re
import select
import socket
import sys
import time

QUEUED_AS = re.compile(rb"queued as ([^\s;,]+)")
GREETING, HELO, MAIL, RCPT, DATA, DOT, QUIT = range(7)


class Refused(Exception):
    pass


class Session:
    __slots__ = ("sock", "state", "inbox", "mail_at", "dot_at", "number")

    def __init__(self, sock):
        self.sock, self.state, self.inbox = sock, GREETING, b""
        self.mail_at = self.dot_at = self.number = 0


def make_message(args, number):
    head = (f"X-Bench-Token: benchtoken{number:07d}a\r\n" if args.tokens else "") + (
        f"From: <{args.sender}>\r\nTo: <{args.to}>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
        "Subject: bench\r\nMessage-Id: <%d@bench.test>\r\n\r\n" % number)
    line = "X" * 78 + "\r\n"
    body = line * (args.size // len(line))
    tail = f"benchtoken{number:07d}z\r\n" if args.tokens else ""
    return (head + body + tail + ".\r\n").encode()


def recipients(to, sites, total):
    """The RCPT of each message by its number: always the same, or one domain after the other, so that `total` messages are
    spread over all of the sites."""
    if not sites:
        always = b"RCPT TO:<%s>\r\n" % to.encode()
        return lambda number: always
    local, _, domain = to.encode().partition(b"@")
    step = max(1, sites // total)
    return lambda number: b"RCPT TO:<%s@s%d.%s>\r\n" % (local, number * step % sites, domain)


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def summary(nanoseconds):
    ordered = sorted(nanoseconds)
    return {"p50": percentile(ordered, 0.50) / 1e6, "p99": percentile(ordered, 0.99) / 1e6, "max": ordered[-1] / 1e6}


def run(args):
    mail = b"MAIL FROM:<%s>\r\n" % args.sender.encode()
    total = args.warm_up + args.count
    rcpt = recipients(args.to, args.sites, total)
    plain = None if args.tokens else make_message(args, 0)
    begun = ended = 0
    mail_times, dot_times, ids = [], [], []
    first_measured = last_end = 0
    now = time.perf_counter_ns
    deadline = time.monotonic() + args.time_limit

    poll = select.epoll()
    sessions = {}
    for _ in range(min(args.sessions, total)):
        sock = socket.create_connection(("127.0.0.1", args.port), timeout=10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Writes may wait for room (64 KB in one go), but never for longer than this.
        sock.settimeout(args.time_limit)
        sessions[sock.fileno()] = Session(sock)
        poll.register(sock.fileno(), select.EPOLLIN)

    gc.disable()  # a collection in the middle would be a pause in everybody's time
    while ended < total:
        events = poll.poll(1.0)
        arrived = now()
        if not events and time.monotonic() > deadline:
            raise Refused(f"time limit: {ended} of {total} messages accepted")
        for fd, _ in events:
            s = sessions[fd]
            data = s.sock.recv(65536)
            if not data:
                raise Refused(f"connection closed in state {s.state} after {ended} messages")
            s.inbox += data
            # The reply is whole when its last line ("250 ", not "250-") is.
            if s.inbox[-1] != 10:
                continue
            last = s.inbox[s.inbox.rfind(b"\n", 0, -1) + 1:]
            if last[3:4] == b"-":
                continue
            reply, s.inbox, state = s.inbox, b"", s.state
            if reply[:1] != (b"3" if state == DATA else b"2"):
                raise Refused(f"after {ended} messages: {reply.decode('latin-1').strip()}")
            if state == RCPT:
                s.state = DATA
                s.sock.send(b"DATA\r\n")
            elif state == MAIL:
                s.state = RCPT
                s.sock.send(rcpt(s.number))
            elif state == DATA:
                s.state = DOT
                message = plain or make_message(args, s.number)
                s.dot_at = now()
                s.sock.sendall(message)
            elif state == GREETING:
                s.state = HELO
                s.sock.send(b"EHLO client.bench.test\r\n")
            else:  # HELO or DOT: a message may begin
                if state == DOT:
                    ended += 1
                    if s.number >= args.warm_up:
                        mail_times.append(arrived - s.mail_at)
                        dot_times.append(arrived - s.dot_at)
                        last_end = arrived
                    if args.tokens:
                        found = QUEUED_AS.search(reply)
                        ids.append((s.number, found[1].decode() if found else "-"))
                if begun < total:
                    s.number, begun, s.state = begun, begun + 1, MAIL
                    s.mail_at = now()
                    if s.number == args.warm_up:
                        first_measured = s.mail_at
                    s.sock.send(mail)
                else:
                    s.state = QUIT
                    poll.unregister(fd)
                    s.sock.send(b"QUIT\r\n")
    for s in sessions.values():
        s.sock.close()
    if args.tokens:
        with open(args.tokens, "w") as f:
            f.writelines(f"{number} {name}\n" for number, name in ids)
    seconds = max(last_end - first_measured, 1) / 1e9
    return {"mail_ms": summary(mail_times), "dot_ms": summary(dot_times), "accepted_per_s": args.count / seconds,
            "seconds": seconds, "count": args.count}


def main():
    p = argparse.ArgumentParser(allow_abbrev=False)
    p.add_argument("--port", type=int, required=True)
    p.add_argument("--sessions", type=int, default=1)
    p.add_argument("--count", type=int, default=100)
    p.add_argument("--size", type=int, default=4096)
    p.add_argument("--warm-up", type=int, default=0)
    p.add_argument("--tokens")
    p.add_argument("--time-limit", type=float, default=120)
    p.add_argument("--sender", default="a@src.test")
    p.add_argument("--to", default="b@dst.test")
    p.add_argument("--sites", type=int, default=0, help="recipient domains: s0.D, s1.D and so on, D being that of --to")
    args = p.parse_args()
    try:
        print(json.dumps(run(args)))
    except (Refused, OSError) as e:
        sys.exit(f"loadclient: {e}")


if __name__ == "__main__":
    main()
