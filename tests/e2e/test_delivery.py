"""Mail goes in by the usual clients and arrives once, as it was."""

import random
import re
import smtplib
import threading

import pytest

from support import wait
from support.egret import A, B, source
from support.mail import SENDER, Submitter, below_trace, in_maildir_form, letter, send, send_exactly, trace_field
from support.postfix import Postfix
from support.raw_smtp import RawSmtp, stuffed
from support.scripted_receiver import ScriptedReceiver
from support.smtp_tools import SmtpSink, smtp_source, swaks


def dotted_lines():
    """Lines of all lengths, many beginning with dots: a buffer that ends anywhere cuts a line at its dots."""
    draw = random.Random(5321)
    lines = [b"." * draw.randrange(4) + b"x" * draw.randrange(120) for _ in range(5000)]
    return b"\r\n".join(lines) + b"\r\n"


CONTENTS = {
    "lines of dots": letter(body=b".\r\n..\r\n.x\r\n...\r\n. \r\n\r\n.\r\n"),
    "a line of 998 octets": letter(body=b"x" * 998 + b"\r\n"),
    "the longest line that RFC 5321 allows": letter(body=b"x" * 998 + b"\r\nshort\r\n"),
    "a header line of 998 octets": letter(headers=[b"X-Long: " + b"y" * 990]),
    "8-bit text": letter(body="Grüße, こんにちは\r\n".encode() + bytes(range(128, 256)) + b"\r\n"),
    "spaces and tabs at the ends of lines": letter(body=b"a \r\nb\t\r\n  \r\n\t\r\n\r\n\r\n"),
    "an empty body": letter(body=b""),
    "a header and no empty line": b"Subject: nothing else\r\n",
    "no header": b"\r\nonly a body\r\n",
    "folded, repeated and odd headers": letter(headers=["X-Folded: one\r\n\ttwo\r\n   three", "X-Twice: 1",
                                                       "X-Twice: 2", "x-CASE:  no change  ", "X-Empty:"]),
    "a line that starts with From": letter(body=b"From here on.\r\n>From there.\r\n"),
    "300 KB of dotted lines": letter(body=dotted_lines()),
    "3 MB": letter(body=b"0123456789abcdef" * 60 + b"\r\n") + (b"z" * 900 + b"\r\n") * 3400,
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_message_arrives_unchanged_below_the_trace_header(egret, shop, content):
    egret()
    send_exactly(content)
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert below_trace(shop.messages[0].data) == content


def test_a_message_sent_by_swaks_arrives_once_and_unchanged_in_a_maildir(egret, postfix, tmp_path):
    instance = egret()
    content = letter(body=b".\r\n..\r\ntrailing \t\r\n\xe4\xf6\xfc\r\n" + b"x" * 998 + b"\r\n\r\nend\r\n")
    transcript = swaks(tmp_path, content, SENDER, "user@open.test")
    assert re.search(r"^<.*250 .*queued as \S+$", transcript, re.M)
    wait.until(lambda: postfix.messages("user@open.test"), 10, "the message arrives")
    instance.until_queue_empty()
    (arrived,) = postfix.messages("user@open.test")
    assert below_trace(arrived) == in_maildir_form(content)
    assert arrived.startswith(b"Return-Path: <app@sender.test>\n")


def test_a_message_sent_by_smtplib_arrives_once(egret, shop):
    instance = egret()
    content = letter()
    with smtplib.SMTP("127.0.0.1", 2525, timeout=10) as client:
        assert client.sendmail(SENDER, ["user@shop.test"], content) == {}
    wait.until(lambda: shop.messages, 10, "the message arrives")
    instance.until_queue_empty()
    (message,) = shop.messages
    assert (message.sender, message.recipients) == (SENDER, ("user@shop.test",))
    assert below_trace(message.data) == content


def test_a_thousand_messages_of_smtp_source_all_reach_smtp_sink(egret, dns, work):
    instance = egret()
    dns.host("mx.sink.test", "127.0.2.60")
    dns.mx("sink.test", (10, "mx.sink.test"))
    sink = SmtpSink(work / "sink", "127.0.2.60").start()
    try:
        smtp_source(1000, 20, 4096, "app@sender.test", "user@sink.test")
        instance.until_queue_empty(60)
        ids = [re.search(rb"\bid (\S+?);?\s", message).group(1) for message in sink.messages()]
        assert len(ids) == 1000 and len(set(ids)) == 1000
    finally:
        sink.stop()


def test_every_recipient_of_several_domains_gets_the_message_once(egret, receive_for):
    instance = egret()
    receivers = [receive_for(domain) for domain in ("one.test", "two.test", "three.test")]
    everybody = [f"{user}@{domain}" for domain in ("one.test", "two.test", "three.test") for user in ("x", "y", "z")]
    content = letter()
    send(content, everybody)
    instance.until_queue_empty()
    arrived = [(recipient, message) for receiver in receivers for message in receiver.messages
               for recipient in message.recipients]
    assert sorted(recipient for recipient, _ in arrived) == sorted(everybody)
    assert all(below_trace(message.data) == content for _, message in arrived)


def test_recipients_of_one_site_share_a_transaction(egret, receive_for, dns):
    instance = egret()
    receiver = receive_for("one.test")
    dns.mx("sister.test", (10, "mx.one.test"))  # the same MX set: the same site
    send(letter(), ["x@one.test", "y@one.test", "z@sister.test"])
    instance.until_queue_empty()
    assert sorted(receiver.messages[0].recipients) == ["x@one.test", "y@one.test", "z@sister.test"]
    assert len(receiver.messages) == 1


def test_a_postfix_in_front_delivers_through_egret(egret, dns, postfix, work):
    instance = egret()
    front = Postfix(work / "front", "front.test", {"127.0.3.1": {}},
                    {"mynetworks": "127.0.0.0/8", "relayhost": "[127.0.0.1]:2525"}).start()
    try:
        front.sendmail(SENDER, ["user@open.test", "user1@strict.test"],
                       in_maildir_form(letter(body=b"From the front.\r\n")))
        wait.until(lambda: postfix.messages("user@open.test") and postfix.messages("user1@strict.test"), 15,
                   "both recipients have the message")
        wait.until(lambda: front.queue() == [], 10, "the front has nothing left")
        instance.until_queue_empty()
    finally:
        front.stop()
    (arrived,) = postfix.messages("user@open.test")
    # The way is in the trace: the front, then Egret, then the receiver.
    assert [re.search(rb"\bby (\S+)", line).group(1) for line in
            re.findall(rb"^Received: (?:.*\n)(?:[ \t].*\n)*", arrived, re.M)[:2]] == [b"mx.open.test", b"relay.test"]
    assert b"by front.test" in below_trace(arrived)
    assert arrived.endswith(b"\n\nFrom the front.\n")


def test_the_id_in_the_250_is_the_one_of_the_trace_header_and_of_the_message_history(egret, shop):
    instance = egret()
    receipt = send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    message = instance.until_state(receipt.id, "delivered")
    trace = trace_field(shop.messages[0].data)
    assert re.search(rf"\bid {re.escape(receipt.id)}\b", trace)
    assert "from client.test" in trace and "[127.0.0.1]" in trace and " with ESMTP" in trace
    assert message["id"] == receipt.id
    assert (message["class"], message["sender"]) == ("transactional", SENDER)
    assert message["recipients"][0]["address"] == "user@shop.test"
    assert message["recipients"][0]["reply"].startswith("250 2.0.0 Ok")
    (attempt,) = message["attempts"]
    assert {"a": A, "b": B}[attempt["egress"]] == shop.messages[0].peer
    assert attempt["host"].rstrip(".") == "mx.shop.test"
    assert attempt["reply"].startswith("250 2.0.0 Ok")
    assert attempt["route"]
    assert receipt.id in instance.log()


def test_case_of_local_parts_and_quoted_local_parts_are_kept(egret, shop):
    egret()
    recipients = ["MiXed.Case@shop.test", '"quoted local"@shop.test', "a+b=c@shop.test"]
    send_exactly(letter(), recipients)
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert sorted(shop.messages[0].recipients) == sorted(recipients)


def test_a_message_for_an_internationalised_mailbox_arrives_with_smtputf8(egret, shop):
    egret()
    content = letter(headers=["X-To: grüße@shop.test".encode()])
    with RawSmtp() as client:
        assert "SMTPUTF8" in client.hello()
        assert client.ask("MAIL FROM:<app@sender.test> BODY=8BITMIME SMTPUTF8").startswith("250")
        assert client.ask("RCPT TO:<grüße@shop.test>").startswith("250")
        assert client.ask("DATA").startswith("354")
        client.send(stuffed(content))
        assert client.reply().startswith("250")
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].recipients == ("grüße@shop.test",)
    assert any(re.match(r"(?i)MAIL FROM:\S+ .*SMTPUTF8", command) for command in shop.sessions[-1].commands)
    assert below_trace(shop.messages[0].data) == content


def test_orders_to_an_esp_and_the_class_header_do_not_leave(egret, shop):
    egret(headers={"strip": ["X-SES-*", "X-SMTPAPI"]},
          classes={"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}},
          sources={"a": source("a"), "b": source("b")},
          pools={"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"]}},
          classify=[{"header": "X-Egret-Class", "from_value": True}])
    content = letter(marker="m1", headers=["X-SMTPAPI: {}", "X-SES-CONFIGURATION-SET: folded\r\n value",
                                           "X-Egret-Class: bulk", "X-Kept: yes"])
    send_exactly(content)
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert below_trace(shop.messages[0].data) == letter(marker="m1", headers=["X-Kept: yes"])
    assert shop.messages[0].peer == B  # the class was obeyed


def test_starttls_is_used_where_it_is_offered_whoever_signed_the_certificate(egret, receive_for, foreign_authority):
    egret(delivery={"tls": "opportunistic"})
    receiver = receive_for("tls.test", tls=foreign_authority.server("somebody.else.test"))
    plain = receive_for("plain.test")
    send(letter(), ["user@tls.test", "user@plain.test"])
    wait.until(lambda: receiver.messages and plain.messages, 10, "both arrive")
    assert receiver.messages[0].tls and not plain.messages[0].tls


def test_a_route_goes_before_the_mx_lookup(egret, dns, shop):
    egret(routes=[{"domain": "internal.test", "to": "127.0.2.90:2590"}])
    inside = ScriptedReceiver("127.0.2.90", 2590, name="inside.test").start()
    try:
        send(letter(), "user@internal.test")
        wait.until(lambda: inside.messages, 10, "the message arrives")
        assert dns.log("internal.test", "MX") == []
    finally:
        inside.stop()


def test_a_receiver_that_puts_off_some_connections_gets_the_mail_over_the_others(egret, shop):
    instance = egret(delivery={"retry": ["1h"], "connections_per_site": 2}, sources={"a": source("a", shared=True)},
                     pools={"transactional": {"sources": ["a"]}})
    greeted, put_off = [], threading.Event()

    def first_only(*_):
        greeted.append(1)
        if len(greeted) == 1:
            return None
        put_off.set()
        return "421 4.3.2 mx.shop.test cannot take another connection now"

    shop.on("connect", first_only)
    shop.on("ehlo", lambda *_: put_off.wait(10) and None)  # the first is under way when the second is put off
    with Submitter() as submitter:
        ids = [submitter.send(letter()).id for _ in range(20)]
    wait.until(lambda: all(instance.message(id)["attempts"] for id in ids), 20, "all were attempted")
    replies = [instance.message(id)["attempts"][0]["reply"] for id in ids]
    assert put_off.is_set() and len(shop.messages) > 1
    assert not [reply for reply in replies if "connections are put off" in reply], "one connection does not speak for all"


def test_a_receiver_that_puts_off_every_connection_is_not_asked_for_each_message(egret, shop):
    instance = egret(delivery={"retry": ["2s"]})
    greeted = []
    shop.on("connect", lambda *_: greeted.append(1) or "421 4.3.2 mx.shop.test is going down for maintenance")
    with Submitter() as submitter:
        ids = [submitter.send(letter()).id for _ in range(300)]  # more than have their bodies in memory
    wait.until(lambda: all(instance.message(id)["attempts"] for id in ids), 20, "all know that it does not take mail now")
    assert all("421" in instance.message(id)["attempts"][0]["reply"] for id in ids)
    assert len(greeted) < 100, "the first burst at most, then one connection a second: not one for each message"
    shop.on("connect", lambda *_: None)
    wait.until(lambda: len(shop.messages) == 300, 30, "all arrive when it takes mail again")
