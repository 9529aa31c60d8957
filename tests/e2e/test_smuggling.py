"""One message in is one message out, whatever line ends it has: nothing inside becomes a message of its own behind Egret.

The Postfix behind Egret is of the lenient kind that takes more than CR LF . CR LF for the end of the data
(CVE-2023-51764), as many are; a test of its own makes sure that it is. aiosmtpd stands for the strict ones.
"""

import base64
import subprocess

import dkim
import pytest

from support import peers, wait
from support.mail import letter, marker_of
from support.pass_through import listener
from support.raw_smtp import RawSmtp

ENDS = {"LF . LF": b"\n.\n", "LF . CR": b"\n.\r", "CR . LF": b"\r.\n", "CR . CR": b"\r.\r", "LF . CR LF": b"\n.\r\n",
        "CR . CR LF": b"\r.\r\n", "CR LF . LF": b"\r\n.\n", "CR LF . CR": b"\r\n.\r", "CR LF . CR CR LF": b"\r\n.\r\r\n",
        "CR CR LF . CR CR LF": b"\r\r\n.\r\r\n", "LF LF . LF LF": b"\n\n.\n\n", "LF .. LF": b"\n..\n",
        "LF . LF . CR LF": b"\n.\n.\r\n"}
WITH_NUL = {"CR LF NUL . CR LF": b"\r\n\0.\r\n", "CR LF . NUL CR LF": b"\r\n.\0\r\n"}
HARMLESS = {"CR LF .. CR LF": b"\r\n..\r\n", "CR LF . SP CR LF": b"\r\n. \r\n", "CR LF . VT CR LF": b"\r\n.\v\r\n",
            "NEL . NEL": b"\xc2\x85.\xc2\x85"}

LISTENERS = {"queue": {"accept": "queue"}, "pass-through": {"accept": "pass-through"}}
STRICT, REPAIRING = 2525, 2526


def probe(name, end, domain, place="body"):
    """A message that hides a second transaction behind this end: in its body or at the end of its header."""
    head, body = letter(marker=name.replace(" ", "_"), headers=["X-Kind: outer"]).split(b"\r\n\r\n", 1)
    hidden = (b"MAIL FROM:<chief@sender.test>\r\nRCPT TO:<user2@" + domain.encode() + b">\r\nDATA\r\n"
              + letter(marker="smuggled"))
    return (head + b"\r\n\r\n" + body.removesuffix(b"\r\n") if place == "body" else head) + end + hidden + b"\r\n.\r\n"


def offer(data, domain, port=STRICT, address="127.0.0.1", pieces=None):
    """Everything that the server says from the final dot on: one reply, and 221."""
    with RawSmtp(address, port) as client:
        client.hello()
        client.envelope("app@sender.test", f"user@{domain}")
        for start in range(0, len(data), pieces or len(data)):
            client.send(data[start:start + (pieces or len(data))])
            if pieces:
                client.pause_until_read()
        client.send("QUIT")
        replies = []
        try:
            while True:
                replies.append(client.reply())
        except (EOFError, ConnectionResetError):
            return replies


# -- the receivers


RECEIVERS = {"postfix": peers.PostfixPeer, "aiosmtpd": peers.AioSmtpd}


@pytest.fixture(scope="module")
def receivers(work, dns_session):
    running = {}
    for number, (name, kind) in enumerate(RECEIVERS.items()):
        running[name] = kind(work / "lenient" / name, f"mx.{name}.test", f"127.0.2.{90 + number}",
                             domain=f"{name}.test").start()
    yield running
    for peer in running.values():
        peer.stop()


@pytest.fixture(params=RECEIVERS)
def receiver(request, dns, receivers):
    peer = receivers[request.param]
    dns.host(peer.host, peer.address)
    dns.mx(peer.domain, (10, peer.host))
    peer.empty_mailboxes()
    return peer


def mailboxes(receiver, expected):
    """(user's, user2's) messages when everything that the receiver has taken is in its mailboxes."""
    wait.until(lambda: len(receiver.messages("user")) >= expected, 10, f"{expected} messages arrive")
    if hasattr(receiver, "queue"):
        wait.until(lambda: receiver.queue() == [], 10, "the receiver's queue is empty")
    return receiver.messages("user"), receiver.messages("user2")


@pytest.fixture(scope="module")
def signing(work):
    """A key of sender.test, and what it publishes."""
    key = work / "dkim.pem"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    public = subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-outform", "DER"], check=True,
                            capture_output=True).stdout
    return str(key), b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def signature_holds(message, signing):
    """What a verifier says that gets the message with the line ends of the wire."""
    start = message.find(b"DKIM-Signature:")
    return start >= 0 and dkim.verify(message[start:].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"),
                                      dnsfunc=lambda name, timeout=5: signing[1])


@pytest.fixture(params=LISTENERS)
def chain(request, egret, signing):
    """Egret with a strict listener and one that repairs, both of one mode; what leaves it is signed."""
    return egret(
        listeners=[listener(**LISTENERS[request.param]),
                   listener(**LISTENERS[request.param], address=f"127.0.0.1:{REPAIRING}", normalize=["127.0.0.0/8"])],
        dkim=[{"domain": "sender.test", "selector": "s1", "key": signing[0]}])


def test_without_egret_a_second_message_can_be_smuggled_into_postfix(dns, receivers):
    postfix = receivers["postfix"]
    postfix.empty_mailboxes()
    for name in ("LF . LF", "LF . CR LF", "CR LF . LF"):
        replies = offer(probe(name, ENDS[name], postfix.domain), postfix.domain, 25, postfix.address)
        assert len(replies) > 2, (name, replies)
    wait.until(lambda: len(postfix.messages("user2")) == 3, 10, "the smuggled messages arrive")


@pytest.mark.parametrize("place", ["body", "header"])
def test_a_strict_listener_refuses_every_other_line_end(chain, receiver, place):
    for name, end in {**ENDS, **WITH_NUL}.items():
        first, *rest = offer(probe(name, end, receiver.domain, place), receiver.domain)
        assert first.startswith("550 5.6.11 "), (name, first)
        assert [reply[:3] for reply in rest] == ["221"], (name, rest)
    assert chain.queue()["total"] == 0
    assert mailboxes(receiver, 0) == ([], [])


@pytest.mark.parametrize("place, pieces", [("body", None), ("header", None), ("body", 11)],
                         ids=["in the body", "in the header", "in pieces"])
def test_a_repairing_listener_passes_on_exactly_one_message(chain, receiver, signing, place, pieces):
    probes = {**ENDS, **HARMLESS}
    for name, end in probes.items():
        first, *rest = offer(probe(name, end, receiver.domain, place), receiver.domain, REPAIRING, pieces=pieces)
        assert first.startswith("250 ") and [reply[:3] for reply in rest] == ["221"], (name, first, rest)
    chain.until_queue_empty()
    arrived, smuggled = mailboxes(receiver, len(probes))
    assert smuggled == []
    assert sorted(marker_of(message) for message in arrived) == sorted(name.replace(" ", "_") for name in probes)
    for message in arrived:
        assert b"X-Marker: smuggled\n" in message and b"\r" not in message
        # A header that no empty line ends cannot be signed so that all verifiers agree: that one goes unsigned.
        assert signature_holds(message, signing) or place == "header" and b"DKIM-Signature:" not in message, message


def test_nul_is_refused_even_where_line_ends_are_repaired(chain, receiver):
    for name, end in WITH_NUL.items():
        replies = offer(probe(name, end, receiver.domain), receiver.domain, REPAIRING)
        assert replies[0].startswith("550 5.6.11 ") and len(replies) == 2, (name, replies)
    assert mailboxes(receiver, 0) == ([], [])


def test_what_is_no_line_end_passes_a_strict_listener_unharmed(chain, receiver):
    for name, end in HARMLESS.items():
        first, *rest = offer(probe(name, end, receiver.domain), receiver.domain)
        assert first.startswith("250 ") and len(rest) == 1, (name, first)
    arrived, smuggled = mailboxes(receiver, len(HARMLESS))
    assert len(arrived) == len(HARMLESS) and smuggled == []


def test_a_message_that_is_converted_for_a_seven_bit_receiver_stays_one_message(chain, receive_for, signing):
    """The conversion writes new lines: dots at their beginning are content there too."""
    seven = receive_for("seven.test", keywords=("PIPELINING",))
    probes = {**ENDS, **HARMLESS}
    for name, end in probes.items():
        data = probe(name, "Grüße".encode() + end, "seven.test")
        assert offer(data, "seven.test", REPAIRING)[0].startswith("250 ")
    wait.until(lambda: len(seven.messages) == len(probes), 10, "all messages arrive")
    chain.until_queue_empty()
    assert [message.recipients for message in seven.messages] == [("user@seven.test",)] * len(probes)
    for message in seven.messages:
        assert message.data.isascii() and signature_holds(message.data, signing), message.data
    assert {command.split(":")[0] for session in seven.sessions for command in session.commands} <= {
        "EHLO a.egress.test", "EHLO b.egress.test", "MAIL FROM", "RCPT TO", "DATA", "QUIT"}


ENVELOPES = {
    "ENVID": ("MAIL FROM:<app@sender.test> RET=HDRS ENVID=x+0D+0ARSET", "RCPT TO:<user@plain.test>"),
    "ORCPT": ("MAIL FROM:<app@sender.test>", "RCPT TO:<user@plain.test> ORCPT=rfc822;x+0D+0ARSET"),
    "a quoted sender": (b'MAIL FROM:<"a\rRSET\r"@sender.test>\r\n', "RCPT TO:<user@plain.test>"),
    "a quoted recipient": ("MAIL FROM:<app@sender.test>", b'RCPT TO:<"a\nRSET\n"@plain.test>\r\n'),
    "XFORWARD": ("XFORWARD IDENT=x+0D+0ARSET HELO=y+0ARSET", "MAIL FROM:<app@sender.test>", "RCPT TO:<user@plain.test>"),
}


@pytest.mark.parametrize("commands", ENVELOPES.values(), ids=ENVELOPES.keys())
def test_no_command_of_the_envelope_becomes_two(egret, receive_for, commands):
    """Each is refused, or passed on as one command that means what it meant."""
    plain = receive_for("plain.test", keywords=("PIPELINING", "DSN", "8BITMIME"))
    instance = egret(listeners=[listener(xclient=["127.0.0.0/8"])])
    with RawSmtp() as client:
        client.hello()
        replies = []
        try:
            for command in commands:
                replies.append(client.ask(command))
            if all(reply.startswith("250") for reply in replies):
                client.ask("DATA")
                client.send(letter() + b".\r\n")
                replies.append(client.reply())
        except (EOFError, ConnectionResetError):
            pass
    assert replies[-1][:1] in "25", replies
    said = [command for session in plain.sessions for command in session.commands]
    assert not any(command.startswith("RSET") for command in said), said
    assert len(plain.messages) == replies[-1].startswith("250 2.0.0 Ok")
    assert not any(line.startswith("RSET") for line in instance.log().splitlines())
