"""Receivers with moods, which write what arrives into the ledger. One mood at a time, for all of a receiver's connections."""

import contextlib
import random
import re
import threading
import time

from support.mail import below_trace, marker_of
from support.scripted_receiver import ScriptedReceiver, Session, _Ended

MOODS = ("defer", "refuse", "block", "throttle", "hang", "crawl", "cut", "down")
GENTLE = ("defer", "hang", "crawl", "down")  # nothing that would end a report of ours

DEFERRALS = {
    "connect": ["421 4.3.2 Too busy, try later", "450 4.3.2 Not now"],
    "mail": ["451 4.3.0 Local error in processing"],
    "rcpt": ["450 4.2.0 <{r}>: Recipient address rejected: Greylisted, come back in 1 minute", "452 4.2.2 Mailbox full",
             "451 4.3.0 Try again later"],
    "dot": ["451 4.3.0 Error: queue file write error", "452 4.3.1 Insufficient system storage"],
}
BLOCKS = ["554 5.7.1 Service unavailable; Client host [{ip}] blocked using bl.test; Listed for testing",
          "550 5.7.1 Rejecting mail, {ip} is blacklisted",
          "554 5.7.1 Service unavailable; Client host [{ip}] blocked using second.test; Listed for testing"]
THROTTLE = "421 4.7.0 Too many messages from your IP [{ip}], slow down"
LONGEST_HANG = 45  # seconds


class Mood:
    def __init__(self, kind, draw, sources=()):
        self.kind = kind
        self.sources = sources              # whom block and throttle mean
        self.phase = draw.choice(["connect", "mail", "rcpt", "data", "dot"])
        self.text = draw.choice(BLOCKS)
        self.over = threading.Event()


class SoakSession(Session):
    def _data(self, _):
        if self.sender is None or not self.recipients:
            return self.answer("554 5.5.1 Error: no valid recipients")
        scripted = self.ask_script("data", "")
        if scripted:
            self.sender = None
            return self.answer(scripted)
        self.answer("354 End data with <CR><LF>.<CR><LF>")
        mood = self.receiver.mood
        if mood.kind == "cut" and mood.phase == "data" and random.random() < 0.7:
            self._fill()
            raise _Ended
        data = self._read_data()
        sender, self.sender = self.sender, None
        self.receiver.at_dot(self, sender, data)

    _HANDLERS = {**Session._HANDLERS, "DATA": _data}


class SoakReceiver(ScriptedReceiver):
    """Takes mail of all domains; `reports`: only senders' reports arrive here."""

    SESSION = SoakSession

    def __init__(self, ledger, address, port=25, reports=False, **options):
        super().__init__(address, port, **options)
        self.ledger = ledger
        self.reports = reports
        self.draw = random.Random(address)
        self.mood = Mood("well", self.draw)
        self.forget_one = self.damage_one = False  # for the self-check
        for phase in ("connect", "mail", "rcpt", "data"):
            self.on(phase, lambda session, argument, phase=phase: self.judge(session, phase, argument))

    # -- moods

    def become(self, kind, sources=()):
        before, self.mood = self.mood, Mood(kind, self.draw, sources)
        before.over.set()
        if kind == "down" and self._listener:
            self.stop()
        elif kind != "down" and not self._listener:
            self.start()
        self.sweep()

    def sweep(self):
        """Sessions that are over need not be remembered."""
        self.sessions = [session for session in self.sessions if session.socket.fileno() >= 0]

    def judge(self, session, phase, argument=""):
        """A reply in place of the ordinary one, or None."""
        if phase == "rcpt" and argument.startswith("nobody"):
            return f"550 5.1.1 <{argument}>: Recipient address rejected: User unknown"
        mood = self.mood
        handler = getattr(self, "_" + mood.kind, None)
        return handler(mood, session, phase, argument) if handler else None

    def _defer(self, mood, session, phase, argument):
        if phase == mood.phase and phase in DEFERRALS and self.draw.random() < 0.8:
            return self.draw.choice(DEFERRALS[phase]).format(r=argument)
        return None

    def _refuse(self, mood, session, phase, argument):
        if phase == "rcpt" and self.draw.random() < 0.2:
            return f"550 5.1.1 <{argument}>: Recipient address rejected: User unknown"
        if phase == "dot" and self.draw.random() < 0.02:
            return "552 5.2.3 Message exceeds the size that this recipient takes"
        return None

    def _block(self, mood, session, phase, argument):
        at = "connect" if mood.phase == "connect" else "rcpt"
        return mood.text.format(ip=session.peer) if phase == at and session.peer in mood.sources else None

    def _throttle(self, mood, session, phase, argument):
        at = "connect" if mood.phase == "connect" else "mail"
        return THROTTLE.format(ip=session.peer) if phase == at and session.peer in mood.sources else None

    def _hang(self, mood, session, phase, argument):
        if phase == mood.phase and self.draw.random() < 0.7:
            mood.over.wait(LONGEST_HANG)
            raise _Ended
        return None

    def _crawl(self, mood, session, phase, argument):
        mood.over.wait(self.draw.uniform(0.05, 1.0))
        return None

    def _cut(self, mood, session, phase, argument):
        if phase == mood.phase and phase != "dot" and self.draw.random() < 0.5:
            raise _Ended
        return None

    # -- messages

    def at_dot(self, session, sender, data):
        time_there = time.monotonic()
        reply = self.judge(session, "dot")
        if reply:
            return session.answer(reply)
        if self.reports or not sender:  # the smarthost gets both
            self._report(data)
            return session.answer("250 2.0.0 Ok: taken")
        if self.forget_one:
            self.forget_one = False
            return session.answer("250 2.0.0 Ok: taken")
        if self.damage_one:
            self.damage_one, data = False, data[:-3] + b"?" + data[-2:]
        copy = self.ledger.arrival(marker_of(data), below_trace(data), session.recipients, time_there, self.name)
        if self.mood.kind == "cut" and self.mood.phase == "dot" and self.draw.random() < 0.3:
            raise _Ended  # it has the message, and the client cannot know
        session.answer("250 2.0.0 Ok: taken")
        if copy:
            copy.answered = time.monotonic()
        return None

    def _report(self, data):
        """Who was not reached, as the report says (RFC 3464)."""
        marker = marker_of(data)
        failed = []
        for group in re.split(rb"\r\n\r\n", data):
            recipient = re.search(rb"^Final-Recipient: rfc822; *(\S+)", group, re.M | re.I)
            if recipient and re.search(rb"^Action: failed", group, re.M | re.I):
                failed.append(recipient.group(1).decode())
        if marker and failed:
            self.ledger.report(marker, failed)
        else:
            self.ledger.wrong(f"a report that names no message or nobody: {data[:3000]!r}")

    def close(self):
        self.become("well")
        with contextlib.suppress(OSError):
            self.stop()
