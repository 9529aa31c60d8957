"""Receivers without 8BITMIME (RFC 6152) or SMTPUTF8 (RFC 6531), and messages that start in unusual ways."""

import email
import email.policy

import pytest

from support import dsn, wait
from support.esmtp import commands, submit
from support.mail import below_trace, letter, send_exactly
from support.scripted_receiver import ScriptedReceiver

SEVEN_BIT = ("PIPELINING", "SIZE 52428800", "ENHANCEDSTATUSCODES")
NO_UTF8 = (*SEVEN_BIT, "8BITMIME")
GREETING = "Grüße aus Köln.\r\n.Zeile mit Punkt\r\nund noch eine" + " lange" * 40 + " Zeile.  \r\n"


def mime(content_type, body, *headers, encoding="8bit"):
    fields = ["MIME-Version: 1.0", f"Content-Type: {content_type}", f"Content-Transfer-Encoding: {encoding}", *headers]
    return letter(body=body if isinstance(body, bytes) else body.encode(), headers=fields)


def parse(data):
    return email.message_from_bytes(data, policy=email.policy.SMTP)


def leaves(message):
    """(type, decoded octets) of every part that has no parts."""
    return [(part.get_content_type(), part.get_payload(decode=True)) for part in message.walk() if not part.is_multipart()]


def arrived(receiver, count=1):
    wait.until(lambda: len(receiver.messages) >= count, 15, f"{count} messages arrive")
    return receiver.messages[-1].data


def only_report(senders):
    wait.until(lambda: senders.messages, 15, "a report arrives")
    (recipient,) = dsn.parse(senders.messages[0].data).recipients
    return recipient


@pytest.fixture
def old_shop(receive_for):
    """Receives for shop.test and takes 7-bit mail only."""
    return receive_for("shop.test", keywords=SEVEN_BIT)


# -- 8BITMIME


def test_an_eight_bit_message_is_announced_where_it_can_be(egret, shop):
    egret()
    content = mime("text/plain; charset=utf-8", GREETING)
    submit(content, "user@shop.test", mail="BODY=8BITMIME")
    assert below_trace(arrived(shop)) == content
    assert " BODY=8BITMIME" in commands(shop, "MAIL")[0]


def test_a_seven_bit_message_is_not_announced_as_more(egret, shop):
    egret()
    submit(letter(), "user@shop.test", mail="BODY=8BITMIME")
    arrived(shop)
    assert "BODY=" not in commands(shop, "MAIL")[0]


def test_a_seven_bit_message_goes_unchanged_to_a_receiver_without_it(egret, old_shop):
    egret()
    content = mime("text/plain; charset=us-ascii", b"Plain.\r\n.\r\n=20 stays\r\n")
    submit(content, "user@shop.test", mail="BODY=8BITMIME")
    assert below_trace(arrived(old_shop)) == content


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_text_is_converted_and_equal_after_decoding(egret, old_shop, large):
    egret()
    text = GREETING * (30_000 if large else 1)
    content = mime("text/plain; charset=utf-8", text)
    submit(content, "user@shop.test", mail="BODY=8BITMIME")
    data = arrived(old_shop)
    assert max(data) < 128 and max(map(len, data.split(b"\r\n"))) <= 998
    message = parse(data)
    assert message["Content-Transfer-Encoding"] == "quoted-printable"
    assert message.get_payload(decode=True) == text.encode()
    assert "BODY=" not in commands(old_shop, "MAIL")[0]
    assert message["X-Marker"] == parse(content)["X-Marker"]


@pytest.mark.parametrize("body, charset", [(GREETING.encode(), "utf-8"), (b"Gr\xfc\xdfe.\r\n", "unknown-8bit")],
                         ids=["UTF-8", "Latin-1"])
def test_text_without_any_label_is_labelled(egret, old_shop, body, charset):
    """RFC 1428: what the octets are is said only where it can be known."""
    egret()
    send_exactly(letter(body=body))
    message = parse(arrived(old_shop))
    assert message["MIME-Version"] == "1.0" and message.get_content_charset() == charset
    assert message.get_payload(decode=True) == body


def test_the_parts_of_a_multipart_are_converted_each_in_its_way(egret, old_shop):
    egret()
    attached = bytes(range(1, 256)).replace(b"\r", b"").replace(b"\n", b"") + b"\r\n"
    seven = b"Plain text that must not change.\r\n"
    inner = "Von: drüben\r\n"
    body = b"".join([
        "Vorspann für niemanden\r\n".encode(),
        b"--x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", GREETING.encode(),
        b"\r\n--x\r\nContent-Type: text/plain\r\n\r\n", seven,
        b"\r\n--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", attached,
        b"\r\n--x\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
        b"Subject: inner\r\nMIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n",
        b"Content-Transfer-Encoding: 8bit\r\n\r\n", inner.encode(),
        b"\r\n--x--\r\n"])
    submit(mime("multipart/mixed; boundary=x", body), "user@shop.test", mail="BODY=8BITMIME")
    data = arrived(old_shop)
    assert max(data) < 128
    assert leaves(parse(data)) == [("text/plain", GREETING.encode()), ("text/plain", seven),
                                   ("application/octet-stream", attached), ("text/html", inner.encode())]
    assert b"Content-Type: text/plain\r\n\r\n" + seven in data
    assert not parse(data).defects


def test_what_must_not_be_changed_comes_back(egret, old_shop, senders):
    egret()
    body = (b"--x\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + GREETING.encode()
            + b"\r\n--x\r\nContent-Type: application/pgp-signature\r\n\r\nabc\r\n--x--\r\n")
    submit(mime("multipart/signed; boundary=x; protocol=\"application/pgp-signature\"", body), "user@shop.test",
           mail="BODY=8BITMIME")
    recipient = only_report(senders)
    assert recipient["status"] == "5.6.3" and "signed" in recipient["diagnostic-code"]
    assert old_shop.offered == []


def test_a_signed_part_without_eight_bit_octets_survives_the_conversion_beside_it(egret, old_shop):
    egret()
    signed = (b"Content-Type: multipart/signed; boundary=y\r\n\r\n--y\r\nContent-Type: text/plain\r\n\r\n"
              b"trailing blanks   \r\n\r\n--y\r\nContent-Type: application/pgp-signature\r\n\r\nabc\r\n--y--\r\n")
    body = (b"--x\r\n" + signed + b"\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + GREETING.encode()
            + b"\r\n--x--\r\n")
    submit(mime("multipart/mixed; boundary=x", body), "user@shop.test", mail="BODY=8BITMIME")
    data = arrived(old_shop)
    assert signed in data and leaves(parse(data))[-1] == ("text/plain", GREETING.encode())


def test_the_next_receiver_of_the_same_message_gets_it_as_it_was(egret, old_shop, receive_for):
    new = receive_for("new.test")
    egret()
    content = mime("text/plain; charset=utf-8", GREETING)
    submit(content, "user@shop.test", "user@new.test", mail="BODY=8BITMIME")
    assert below_trace(arrived(new)) == content
    assert parse(arrived(old_shop)).get_payload(decode=True) == GREETING.encode()


def test_a_report_with_eight_bit_octets_is_converted_too(egret, shop, receive_for):
    senders = receive_for("sender.test", keywords=SEVEN_BIT)
    shop.on("rcpt", lambda *_: "550 5.1.1 No such user")
    egret()
    submit(mime("text/plain; charset=utf-8", GREETING), "user@shop.test", mail="RET=FULL BODY=8BITMIME")
    wait.until(lambda: senders.messages, 15, "a report arrives")
    data = senders.messages[0].data
    assert max(data) < 128
    report = dsn.parse(data)
    assert report.recipients[0]["status"] == "5.1.1"
    (original,) = report.message.get_payload()[2].get_payload()
    assert original.get_payload(decode=True) == GREETING.encode()


def test_what_is_stripped_and_added_is_so_in_a_converted_message_too(egret, old_shop):
    egret(listeners=[{"address": "127.0.0.1:2525", "submission": True, "allow": ["127.0.0.0/8"], "class": "transactional"}])
    header = "X-SES-Tag: secret\r\n\tfolded\r\nFrom: app@sender.test\r\nBcc: hidden@shop.test\r\nSubject: x\r\n\r\n"
    submit((header + GREETING).encode(), "user@shop.test", mail="BODY=8BITMIME")
    message = parse(arrived(old_shop))
    assert message.get_payload(decode=True) == GREETING.encode()
    assert message["Date"] and message["Message-ID"] and message["Subject"] == "x"
    assert not message["X-SES-Tag"] and not message["Bcc"]


def test_a_message_without_a_header_is_all_body_after_conversion(egret, old_shop):
    egret()
    content = f" looks like a folded line\r\nSubject: not a field\r\n\r\n{GREETING}".encode()
    send_exactly(content)
    message = parse(arrived(old_shop))
    assert message.get_payload(decode=True) == content and not message["Subject"]


def test_a_converted_message_is_stuffed_and_counted_anew(egret, old_shop):
    """SIZE is that of what is sent, and a line of dots that the conversion makes is content."""
    egret()
    text = "." * 75 + "ü\r\n.\r\n..\r\n" + "ü" * 400 + "\r\n"
    submit(mime("text/plain; charset=utf-8", text), "user@shop.test", mail="BODY=8BITMIME")
    data = arrived(old_shop)
    assert parse(data).get_payload(decode=True) == text.encode()
    size = int(commands(old_shop, "MAIL")[0].split("SIZE=")[1].split()[0])
    assert len(data) <= size <= len(data) + 50


# -- SMTPUTF8


UTF8_LETTER = "From: Jörg <app@sender.test>\r\nTo: user@shop.test\r\nSubject: Grüße\r\n\r\nText.\r\n".encode()


def test_a_header_in_utf8_needs_smtputf8(egret, shop):
    egret()
    submit(UTF8_LETTER, "user@shop.test", mail="BODY=8BITMIME SMTPUTF8")
    assert below_trace(arrived(shop)) == UTF8_LETTER
    mail = commands(shop, "MAIL")[0]
    assert " SMTPUTF8" in mail and " BODY=8BITMIME" in mail


def test_what_needs_no_smtputf8_is_sent_without_it(egret, shop):
    egret()
    submit(mime("text/plain; charset=utf-8", GREETING), "user@shop.test", mail="BODY=8BITMIME SMTPUTF8")
    arrived(shop)
    assert "SMTPUTF8" not in commands(shop, "MAIL")[0]


def test_what_needs_no_smtputf8_goes_to_a_receiver_without_it(egret, receive_for):
    shop = receive_for("shop.test", keywords=NO_UTF8)
    egret()
    content = mime("text/plain; charset=utf-8", GREETING)
    submit(content, "user@shop.test", mail="BODY=8BITMIME SMTPUTF8")
    assert below_trace(arrived(shop)) == content


@pytest.mark.parametrize("keywords", [NO_UTF8, SEVEN_BIT], ids=["8BITMIME", "7-bit"])
def test_a_header_in_utf8_cannot_go_to_a_receiver_without_smtputf8(egret, receive_for, senders, keywords):
    shop = receive_for("shop.test", keywords=keywords)
    egret()
    submit(UTF8_LETTER, "user@shop.test", mail="BODY=8BITMIME SMTPUTF8")
    assert only_report(senders)["status"] in ("5.6.3", "5.6.7", "5.6.9")
    assert shop.offered == []


def test_a_local_part_in_utf8_cannot_go_to_a_receiver_without_smtputf8(egret, receive_for, senders):
    shop = receive_for("shop.test", keywords=NO_UTF8)
    egret()
    submit(letter(), "jörg@shop.test", "user@shop.test", mail="SMTPUTF8")
    recipient = only_report(senders)
    assert recipient["status"] == "5.6.7" and dsn.address(recipient["final-recipient"]) == "jörg@shop.test"
    arrived(shop)
    assert [message.recipients for message in shop.messages] == [("user@shop.test",)], "the other one has it"


def test_a_report_to_a_sender_in_utf8_is_international(egret, shop, senders):
    shop.on("rcpt", lambda *_: "550 5.1.1 No such user: jörg")
    egret()
    submit(UTF8_LETTER, "jörg@shop.test", sender="grüße@sender.test", mail="BODY=8BITMIME SMTPUTF8")
    wait.until(lambda: senders.messages, 15, "a report arrives")
    (message,) = senders.messages
    assert message.recipients == ("grüße@sender.test",) and " SMTPUTF8" in commands(senders, "MAIL")[0]
    report = dsn.parse(message.data)
    kinds = [part.get_content_type() for part in report.message.get_payload()]
    assert kinds == ["text/plain", "message/global-delivery-status", "message/global-headers"]
    assert dsn.address(report.recipients[0]["final-recipient"]) == "jörg@shop.test"


@pytest.fixture
def idn(dns):
    """idn(keywords): receives for bücher.test, which the DNS knows as xn--bcher-kva.test."""
    started = []

    def make(keywords=ScriptedReceiver.KEYWORDS):
        receiver = ScriptedReceiver("127.0.2.210", name="mx.bücher.test", keywords=keywords)
        dns.host("mx.xn--bcher-kva.test", receiver.address)
        dns.mx("xn--bcher-kva.test", (10, "mx.xn--bcher-kva.test"))
        started.append(receiver)
        return receiver.start()

    yield make
    for receiver in started:
        receiver.stop()


def test_a_domain_in_utf8_is_asked_for_in_ascii_and_sent_as_it_is(egret, dns, idn):
    receiver = idn()
    egret()
    submit(letter(), "user@bücher.test", mail="SMTPUTF8")
    arrived(receiver)
    assert receiver.messages[0].recipients == ("user@bücher.test",)
    assert " SMTPUTF8" in commands(receiver, "MAIL")[0]
    assert dns.log("xn--bcher-kva.test", "MX")


def test_a_domain_in_utf8_goes_in_ascii_to_a_receiver_without_smtputf8(egret, idn, senders):
    receiver = idn(NO_UTF8)
    egret()
    submit(letter(), "user@bücher.test", "jörg@bücher.test", sender="app@bücher.test", mail="SMTPUTF8")
    arrived(receiver)
    assert receiver.messages[0].recipients == ("user@xn--bcher-kva.test",)
    assert receiver.messages[0].sender == "app@xn--bcher-kva.test"
    assert "SMTPUTF8" not in commands(receiver, "MAIL")[0]


def test_both_spellings_of_a_domain_are_one_site(egret, idn):
    receiver = idn()
    egret()
    submit(letter(), "user@bücher.test", "user@xn--bcher-kva.test", "user@BÜCHER.test", mail="SMTPUTF8")
    arrived(receiver)
    assert len(receiver.messages) == 1 and len(receiver.messages[0].recipients) == 3


def test_a_route_for_a_domain_holds_for_both_of_its_spellings(egret, idn, shop):
    """What is compared is the A-label in lower case."""
    receiver = idn()
    egret(routes=[{"domain": "xn--bcher-kva.test", "to": f"{shop.address}:25"}])
    submit(letter(), "user@xn--bcher-kva.test")
    arrived(shop)
    submit(letter(), "user@bücher.test", mail="SMTPUTF8")
    wait.until(lambda: len(shop.messages) == 2 or receiver.messages, 15, "it arrives somewhere")
    assert receiver.messages == []


def test_a_domain_that_has_no_form_in_ascii_fails(egret, dns, senders):
    egret()
    submit(letter(), "user@a\u0378.test", mail="SMTPUTF8")  # a code point that Unicode has not assigned
    assert only_report(senders)["status"] == "5.1.2"


# -- messages that start in unusual ways


UNUSUAL = [
    b" looks like a folded line\r\nSubject: not a field\r\n\r\nBody.\r\n",
    b"\t\r\nBody.\r\n",
    b"just text, no field\r\nSubject: not a field\r\n\r\nBody.\r\n",
    b"\r\nBody.\r\n",
    b"",
    b".\r\n. \r\n..\r\n",
    b"Subject: one\r\nno field here\r\nX-After: y\r\n\r\nBody.\r\n",
]


def test_a_message_that_starts_unusually_keeps_its_octets(egret, shop):
    """Where our trace field would run into the content, an empty line keeps them apart."""
    egret()
    for number, content in enumerate(UNUSUAL, 1):
        send_exactly(content)
        data = arrived(shop, number)
        below = below_trace(data)
        assert below == (b"\r\n" if content[:1] in (b" ", b"\t") else b"") + content
        assert parse(data).get_all("Received")[0].rstrip().endswith("+0000"), "something became part of our field"


def test_so_does_one_that_is_large_and_one_that_waits_over_a_crash(egret, receive_for):
    shop = receive_for("shop.test", start=False)
    instance = egret(delivery={"retry": ["200ms"]})
    content = b" looks like a folded line\r\nX-Marker: large\r\n" + b"y" * 78 + b"\r\n" + (b"x" * 78 + b"\r\n") * 30_000
    send_exactly(content)
    instance.kill9()
    shop.start()
    instance.start()
    assert below_trace(arrived(shop)) == b"\r\n" + content
