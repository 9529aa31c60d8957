"""What a submission listener mends in a message (RFC 6409 section 8), and that nobody mends anything else."""

import email
import email.policy
import email.utils
import re
import time

import pytest

from support import wait
from support.egret import source
from support.listeners import listener
from support.mail import below_trace, receipt
from support.raw_smtp import RawSmtp, stuffed

SUBMISSION, RELAY = 2587, 2525


@pytest.fixture
def both(egret, shop):
    """An Egret with a submission listener and one that leaves headers alone; both(port, content): what arrives."""
    instance = egret(listeners=[listener(SUBMISSION, submission=True), listener(RELAY)])

    def through(port, content):
        before = len(shop.messages)
        with RawSmtp(port=port) as client:
            client.hello()
            client.envelope("app@sender.test", "user@shop.test")
            client.send(stuffed(content))
            through.id = receipt(client.reply()).id
        wait.until(lambda: len(shop.messages) > before, 10, "it arrives")
        return below_trace(shop.messages[-1].data)

    through.instance = instance
    return through


def parsed(content):
    return email.message_from_bytes(content, policy=email.policy.SMTP)


FROM = b"From: App <app@sender.test>\r\nTo: user@shop.test\r\n"
DATE, ID = b"Date: Mon, 05 Jan 2026 10:00:00 +0100\r\n", b"Message-ID: <own@sender.test>\r\n"
COMPLETE = {
    "as most programs write it": FROM + DATE + ID + b"Subject: x\r\n\r\nBcc: not a header field\r\nDate:\r\n",
    "in other letters and with blanks": b"dATE : Mon, 05 Jan 2026 10:00:00 +0100\r\nMESSAGE-id:\r\n\t<own@sender.test>\r\n"
                                        + FROM + b"\r\n.\r\n..x\r\n",
    "with fields that only look alike": FROM + DATE + ID + b"X-Bcc: kept@shop.test\r\nBcc-To: kept\r\n"
                                        b"Resent-Date: Mon, 05 Jan 2026 10:00:00 +0100\r\nsUbJeCt:   blanks   kept  \r\n\r\n",
    "without a body": FROM + DATE + ID,
    "with eight bits": FROM + DATE + ID + b"\r\n\xff\xfe\x80\r\n",
}


def test_a_complete_message_passes_both_listeners_unchanged(both):
    for what, content in COMPLETE.items():
        assert both(SUBMISSION, content) == content, what
        assert both(RELAY, content) == content, what


def test_what_is_missing_is_added_and_all_else_stays_in_its_place(both):
    content = FROM + b"Subject: no date, no id\r\nX-Odd:  two  blanks \r\n\tfolded\r\n\r\nBody.\r\n"
    begun = time.time()
    arrived = both(SUBMISSION, content)
    message = parsed(arrived)
    assert abs(email.utils.parsedate_to_datetime(message["Date"]).timestamp() - begun) < 5
    assert re.fullmatch(r"<[^<>@\s]+@relay\.test>", message["Message-ID"])
    assert len(message.get_all("Date")) == len(message.get_all("Message-ID")) == 1
    without = re.sub(rb"(?m)^(Date|Message-ID): [^\r]*\r\n", b"", arrived)
    assert without == content
    assert parsed(both(SUBMISSION, content))["Message-ID"] != message["Message-ID"]


def test_only_the_one_that_is_missing_is_added(both):
    for has, lacks in ((DATE, "Message-ID"), (ID, "Date")):
        arrived = both(SUBMISSION, has + FROM + b"\r\nBody.\r\n")
        assert len(parsed(arrived).get_all(lacks)) == 1
        assert re.sub(b"(?m)^" + lacks.encode() + rb": [^\r]*\r\n", b"", arrived) == has + FROM + b"\r\nBody.\r\n"


BCC = {
    "one line": b"Bcc: secret@shop.test\r\n",
    "folded": b"Bcc: secret@shop.test,\r\n other@shop.test,\r\n\tthird@shop.test\r\n",
    "in small letters, with a blank": b"bcc : secret@shop.test\r\n",
    "empty": b"Bcc:\r\n",
    "twice": b"Bcc: secret@shop.test\r\nBCC: more@shop.test\r\n",
}


def test_bcc_is_removed_from_what_is_submitted_and_from_nothing_else(both):
    for what, bcc in BCC.items():
        assert both(SUBMISSION, FROM + bcc + DATE + ID + b"\r\nBody.\r\n") == FROM + DATE + ID + b"\r\nBody.\r\n", what
        assert both(SUBMISSION, bcc + FROM + DATE + ID) == FROM + DATE + ID, what
        assert both(RELAY, FROM + bcc + DATE + ID + b"\r\nBody.\r\n") == FROM + bcc + DATE + ID + b"\r\nBody.\r\n", what


def test_without_submission_nothing_is_added(both):
    for content in (FROM + b"\r\nBody.\r\n", b"\r\nonly a body\r\n", b"no header at all\r\n", FROM):
        assert both(RELAY, content) == content


def test_a_message_without_any_header_gets_one_that_ends_before_its_text(both):
    for content in (b"\r\nonly a body\r\n", b"no header at all\r\n", b" a blank first\r\n"):
        arrived = both(SUBMISSION, content)
        message = parsed(arrived)
        assert message["Date"] and message["Message-ID"], arrived
        assert arrived.endswith(b"\r\n\r\n" + content.removeprefix(b"\r\n")), arrived


def test_what_was_mended_survives_the_queue_and_a_restart(egret, receive_for):
    later = receive_for("later.test", start=False)
    instance = egret(listeners=[listener(SUBMISSION, submission=True)], sources={"a": source("a")})
    content = FROM + b"Bcc: secret@later.test\r\nSubject: mended\r\n\r\nBody.\r\n"
    with RawSmtp(port=SUBMISSION) as client:
        client.hello()
        client.envelope("app@sender.test", "user@later.test")
        client.send(stuffed(content))
        id = receipt(client.reply()).id
    wait.until(lambda: instance.message(id)["attempts"], 10, "a first attempt was made")
    instance.restart()
    later.start()
    wait.until(lambda: later.messages, 20, "it arrives")
    arrived = below_trace(later.messages[0].data)
    assert parsed(arrived)["Date"] and parsed(arrived)["Message-ID"] and b"secret" not in arrived
    assert re.sub(rb"(?m)^(Date|Message-ID): [^\r]*\r\n", b"", arrived) == FROM + b"Subject: mended\r\n\r\nBody.\r\n"


def test_a_large_message_is_mended_too(both):
    body = (b"x" * 997 + b"\r\n") * 3000  # in more than one piece on its way to the queue
    arrived = both(SUBMISSION, FROM + b"Bcc: secret@shop.test\r\n\r\n" + body)
    assert parsed(arrived[:2000])["Message-ID"] and b"secret" not in arrived[:2000]
    assert arrived.endswith(b"\r\n\r\n" + body)


# -- delivery status parameters (RFC 3461)


def test_dsn_parameters_are_offered_and_accepted(both):
    with RawSmtp(port=SUBMISSION) as client:
        assert re.search(r"^250[- ]DSN$", client.hello(), re.M)
        for ret in ("RET=FULL", "ret=hdrs ENVID=QQ+2B314159"):
            assert client.ask(f"MAIL FROM:<app@sender.test> {ret}").startswith("250")
            for notify in ("NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY", "notify=failure ORCPT=rfc822;Dana@Ivory.EDU"):
                assert client.ask(f"RCPT TO:<user@shop.test> {notify}").startswith("250")
            assert client.ask("RSET").startswith("250")


def test_malformed_dsn_parameters_are_refused(both):
    with RawSmtp(port=SUBMISSION) as client:
        client.hello()
        for wrong in ("RET=SOME", "ENVID=" + "x" * 101, "RET=FULL RET=FULL"):
            assert client.ask(f"MAIL FROM:<app@sender.test> {wrong}")[:3] in ("501", "555"), wrong
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        for wrong in ("NOTIFY=NEVER,FAILURE", "NOTIFY=", "ORCPT=nothing", "NOTIFY=DELAY NOTIFY=DELAY"):
            assert client.ask(f"RCPT TO:<user@shop.test> {wrong}")[:3] in ("501", "555"), wrong
        assert client.ask("RCPT TO:<user@shop.test>").startswith("250")
