"""Mail that flows while something else happens, and the record of what was accepted."""

import dataclasses
import smtplib
import threading
import time
import uuid

from . import wait
from .mail import Refused, Submitter, letter


@dataclasses.dataclass
class Sent:
    marker: str
    content: bytes
    started: float               # when the first byte of the transaction was sent
    acknowledged: float = None   # when the 250 was there; None: it never came
    id: str = None


class Traffic:
    """Threads that send one message after the other until stopped, each with a marker of its own.

    pause keeps the rate low where a test wants a flow, not a load. A connection that breaks ends the thread: what
    was sent and not acknowledged stays in the record as in flight.
    """

    def __init__(self, to="user@shop.test", threads=2, pause=0.02, body=None):
        self.to = to
        self.pause = pause
        self.body = body or (lambda marker: f"Body of {marker}.\r\n".encode())
        self.sent = []
        self.refusals = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client is stuck"

    def acknowledged(self):
        return [sent for sent in list(self.sent) if sent.acknowledged is not None]

    def until_acknowledged(self, more, timeout=20):
        """Waits until this many more messages have been accepted from now on."""
        goal = len(self.acknowledged()) + more
        wait.until(lambda: len(self.acknowledged()) >= goal, timeout, f"{more} more messages are accepted")

    def _run(self):
        try:
            with Submitter() as submitter:
                while not self._stop.is_set():
                    marker = uuid.uuid4().hex
                    content = letter(marker, self.body(marker))
                    sent = Sent(marker, content, time.monotonic())
                    self.sent.append(sent)
                    try:
                        sent.id = submitter.send(content, self.to).id
                        sent.acknowledged = time.monotonic()
                    except Refused as refusal:
                        self.refusals.append(refusal)
                    self._stop.wait(self.pause)
        except (OSError, smtplib.SMTPException):
            pass
