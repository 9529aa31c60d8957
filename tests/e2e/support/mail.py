"""Messages with a marker to recognise them by, sending them, and comparing what arrived with what was sent."""

import dataclasses
import re
import smtplib
import uuid

from .raw_smtp import RawSmtp, stuffed

SENDER = "app@sender.test"


def letter(marker=None, body=b"Hello.\r\n", headers=()):
    """A message as the wire carries it (CR LF), with an X-Marker header of its own."""
    lines = [b"From: App <app@sender.test>", b"To: User <user@shop.test>", b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=",
             b"Date: Mon, 05 Jan 2026 10:00:00 +0100", b"Message-ID: <fixed@sender.test>",
             b"X-Marker: " + (marker or uuid.uuid4().hex).encode()]
    lines += [header if isinstance(header, bytes) else header.encode() for header in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def marker_of(content):
    found = re.search(rb"^X-Marker: (\S+)", content, re.M)
    return found.group(1).decode() if found else None


@dataclasses.dataclass(frozen=True)
class Receipt:
    id: str
    reply: str


class Refused(Exception):
    """The server's refusal: code, text and the phase in which it came."""

    def __init__(self, phase, code, text):
        super().__init__(f"{phase}: {code} {text}")
        self.phase, self.code, self.text = phase, code, text


class Submitter:
    """One connection of smtplib to Egret, for many messages."""

    def __init__(self, address="127.0.0.1", port=2525, source="", timeout=20):
        self.smtp = smtplib.SMTP(timeout=timeout, local_hostname="client.test",
                                 source_address=(source, 0) if source else None)
        self.smtp.connect(address, port)
        self.smtp.ehlo()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.smtp.close()

    def send(self, content, to="user@shop.test", sender=SENDER):
        recipients = [to] if isinstance(to, str) else to
        self._step("mail", self.smtp.mail(sender))
        for recipient in recipients:
            self._step("rcpt", self.smtp.rcpt(recipient))
        code, text = self._step("data", self.smtp.data(content))
        return receipt(f"{code} {text.decode('utf-8', 'replace')}")

    @staticmethod
    def _step(phase, answer):
        if answer[0] // 100 != 2:
            raise Refused(phase, answer[0], answer[1].decode("utf-8", "replace"))
        return answer


def receipt(reply):
    """The ID of an accepted message, from the reply to its final dot."""
    found = re.fullmatch(r"250[ -].*queued as (\S+)", reply, re.S)
    assert found, f"the reply does not end in 'queued as ID': {reply!r}"
    return Receipt(found.group(1), reply)


def send(content, to="user@shop.test", sender=SENDER, source=""):
    with Submitter(source=source) as submitter:
        return submitter.send(content, to, sender)


def send_exactly(content, to="user@shop.test", sender=SENDER):
    """Like send, with no library between the content and the wire."""
    with RawSmtp() as client:
        client.hello()
        client.envelope(sender, *([to] if isinstance(to, str) else to))
        client.send(stuffed(content))
        return receipt(client.reply())


def below_trace(received, hostname="relay.test"):
    """What stands below the Received field that Egret added; works on CR LF (wire) and LF (Maildir) content."""
    fields = re.compile(rb"[^\s:]+:[^\n]*\n(?:[ \t][^\n]*\n)*")
    position = 0
    while True:
        field = fields.match(received, position)
        assert field, f"no Received field by {hostname} at the top of {received[:600]!r}"
        position = field.end()
        unfolded = re.sub(rb"\r?\n[ \t]+", b" ", field.group())
        if unfolded.lower().startswith(b"received:") and b" by " + hostname.encode() + b" " in unfolded + b" ":
            return received[position:]


def trace_field(received, hostname="relay.test"):
    """The Received field that Egret added, unfolded."""
    top = received[:len(received) - len(below_trace(received, hostname))]
    unfolded = re.sub(rb"\r?\n[ \t]+", b" ", top)
    return unfolded.splitlines()[-1].decode()


def in_maildir_form(content):
    return content.replace(b"\r\n", b"\n")
