"""The peers work without Egret: what a story calls genuine is genuine."""

import re
import smtplib
import ssl

import pytest
from dnslib import DNSRecord

from conftest import EARLY, OPEN, STRICT
from support import dns_server, wait
from support.mail import in_maildir_form, letter
from support.postfix import Postfix
from support.raw_smtp import RawSmtp, stuffed
from support.scripted_receiver import ScriptedReceiver, close
from support.smtp_tools import SmtpSink, smtp_source, swaks


def ask(name, type="A", server="127.0.0.53", tcp=False):
    return DNSRecord.parse(DNSRecord.question(name, type).send(server, 53, tcp=tcp, timeout=0.5))


def answers(name, type="A", **more):
    return [str(answer.rdata) for answer in ask(name, type, **more).rr]


def test_the_dns_server_answers_records_and_denies_everything_else(dns):
    dns.cname("www.shop.test", "mx.open.test")
    assert answers("open.test", "MX") == ["10 mx.open.test."]
    assert answers("1.1.0.127.in-addr.arpa", "PTR") == ["a.egress.test."]
    assert answers("www.shop.test") == ["mx.open.test.", OPEN]
    assert ask("nothing.test").header.rcode == 3
    assert ask("mx.open.test", "AAAA").header.rcode == 0 and answers("mx.open.test", "AAAA") == []
    assert [q.name for q in dns.log("nothing.test")] == ["nothing.test"]


def test_the_dns_server_misbehaves_to_order(dns):
    dns.a("www.good.test", "127.0.0.9")
    dns.behave("broken.test", dns_server.servfail)
    dns.behave("wild.test", dns_server.always("127.0.0.2"))
    dns.behave("mute.test", dns_server.silent)
    dns.behave("good.test", dns_server.truncated_over_udp)
    assert ask("x.broken.test").header.rcode == 2
    assert answers("anything.wild.test") == ["127.0.0.2"]
    with pytest.raises(TimeoutError):
        ask("x.mute.test")
    assert ask("www.good.test").header.tc == 1
    assert answers("www.good.test", tcp=True) == ["127.0.0.9"]
    with dns.outage(), pytest.raises(TimeoutError):
        ask("mx.open.test")
    assert answers("mx.open.test") == [OPEN]


def test_rbldnsd_answers_through_the_dns_server_and_changes_at_once(blocklist):
    assert answers("2.0.0.127.bl.test") == ["127.0.0.2"]
    assert answers("1.0.0.127.bl.test") == []
    blocklist.list("127.0.1.1")
    assert answers("1.1.0.127.bl.test") == ["127.0.0.2"]
    assert answers("1.1.0.127.bl.test", "TXT") == ['"Listed for testing"']
    blocklist.delist("127.0.1.1")
    # As many entries and as many bytes, within the same second: still seen.
    blocklist.list("127.0.1.2")
    assert answers("1.1.0.127.bl.test") == [] and answers("2.1.0.127.bl.test") == ["127.0.0.2"]
    blocklist.kill_zone()
    assert answers("2.0.0.127.bl.test") == []


def test_the_receiving_postfix_delivers_and_knows_who_does_not_exist(postfix):
    content = letter(body=b"one\r\n\r\n.\r\nlast line  \r\n")
    with RawSmtp(OPEN, 25, source="127.0.1.1") as client:
        client.hello("a.egress.test")
        client.send("MAIL FROM:<app@sender.test>")
        assert client.reply().startswith("250")
        unknown = client.ask("RCPT TO:<nobody@open.test>")
        assert unknown.startswith("550 5.1.1 <nobody@open.test>: Recipient address rejected")
        assert client.ask("RCPT TO:<user@open.test>").startswith("250")
        assert client.ask("DATA").startswith("354")
        client.send(stuffed(content))
        assert client.reply().startswith("250")
    wait.until(lambda: postfix.messages("user@open.test"), 10, "the message is in the Maildir")
    (arrived,) = postfix.messages("user@open.test")
    assert arrived.endswith(in_maildir_form(content))
    added = arrived[:-len(in_maildir_form(content))]
    assert re.findall(rb"^[\w-]+:", added, re.M) == [b"Return-Path:", b"X-Original-To:", b"Delivered-To:", b"Received:"]
    assert b"from a.egress.test (a.egress.test [127.0.1.1])" in added


def test_the_receiving_postfix_refuses_a_listed_client_at_rcpt(postfix, blocklist):
    blocklist.list("127.0.1.1")
    with RawSmtp(STRICT, 25, source="127.0.1.1") as client:
        client.hello("a.egress.test")
        client.ask("MAIL FROM:<app@sender.test>")
        assert client.ask("RCPT TO:<user@strict.test>") == (
            "554 5.7.1 Service unavailable; Client host [127.0.1.1] blocked using bl.test; Listed for testing")
    with RawSmtp(STRICT, 25, source="127.0.1.2") as client:
        client.hello("b.egress.test")
        client.ask("MAIL FROM:<app@sender.test>")
        assert client.ask("RCPT TO:<user@strict.test>").startswith("250")


def test_the_receiving_postfix_refuses_a_listed_client_in_place_of_the_greeting(postfix, blocklist):
    blocklist.list("127.0.1.1")
    with RawSmtp(EARLY, 25, source="127.0.1.1") as client:
        assert client.reply().startswith("554 5.7.1 Service unavailable; Client host [127.0.1.1] blocked using bl.test")
    with RawSmtp(EARLY, 25, source="127.0.1.2") as client:
        assert client.reply().startswith("220")


def test_a_postfix_in_front_hands_its_mail_to_the_relayhost(work, dns, tmp_path):
    relay = ScriptedReceiver("127.0.2.99", 2525, name="relay.test").start()
    front = Postfix(work / "front-peer", "front.test", {"127.0.3.9": {}},
                    {"mynetworks": "127.0.0.0/8", "relayhost": "[127.0.2.99]:2525"}).start()
    try:
        front.sendmail("app@sender.test", ["user@shop.test"], b"Subject: x\n\nHello.\n")
        wait.until(lambda: relay.messages, 10, "the relay has the message")
        assert relay.messages[0].recipients == ("user@shop.test",)
        wait.until(lambda: front.queue() == [], 10, "the front's queue is empty")
    finally:
        front.stop()
        relay.stop()


def test_the_scripted_receiver_records_and_answers_as_told(shop):
    content = letter(body=b".dot\r\n..two\r\n\xff8bit\r\n")
    shop.on("rcpt", lambda session, to: "550 5.1.1 No such user" if to.startswith("no") else None)
    with RawSmtp(shop.address, 25, source="127.0.1.2") as client:
        client.hello("b.egress.test")
        # Pipelined, as a good client would.
        client.send(b"MAIL FROM:<app@sender.test> BODY=8BITMIME\r\nRCPT TO:<no@shop.test>\r\n"
                    b"RCPT TO:<yes@shop.test>\r\nDATA\r\n")
        assert [client.reply()[:3] for _ in range(4)] == ["250", "550", "250", "354"]
        client.send(stuffed(content))
        assert client.reply().startswith("250")
    (message,) = shop.messages
    assert (message.peer, message.hello, message.sender, message.recipients, message.data) == (
        "127.0.1.2", "b.egress.test", "app@sender.test", ("yes@shop.test",), content)


def test_the_scripted_receiver_can_end_the_connection_after_the_final_dot(shop):
    shop.on("dot", lambda session, message: close())
    with RawSmtp(shop.address, 25) as client:
        client.hello()
        client.envelope("app@sender.test", "user@shop.test")
        client.send(stuffed(letter()))
        with pytest.raises(EOFError):
            client.reply()
    assert len(shop.offered) == 1 and shop.messages == []


def test_the_smarthost_wants_starttls_and_auth(smarthost, authority, foreign_authority):
    esp = smarthost("esp")
    with smtplib.SMTP(esp.address, 587, timeout=5) as client:
        client._host = "smtp.esp.test"
        assert client.docmd("MAIL FROM:<app@sender.test>")[0] == 530
        client.starttls(context=ssl.create_default_context(cafile=authority.certificate))
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("apikey", "wrong")
        client.login("apikey", "s3cret")
        client.sendmail("app@sender.test", ["user@shop.test"], letter())
    assert esp.messages[0].tls and esp.messages[0].login == ("apikey", "s3cret")
    with smtplib.SMTP(esp.address, 587, timeout=5) as client:
        client._host = "smtp.esp.test"
        with pytest.raises(ssl.SSLCertVerificationError):
            client.starttls(context=ssl.create_default_context(cafile=foreign_authority.certificate))


def test_smtp_source_and_smtp_sink_count_the_same(work, dns):
    sink = SmtpSink(work / "sink-peer", "127.0.2.60").start()
    try:
        smtp_source(50, 5, 2000, "app@sender.test", "user@sink.test", server="127.0.2.60:25")
        wait.until(lambda: len(sink.messages()) == 50, 10, "50 messages in the sink")
    finally:
        sink.stop()


def test_swaks_sends_a_file_as_it_is(shop, tmp_path):
    content = letter(body=b".\r\n..\r\ntrailing \t\r\n\xe4\xf6\r\n" + b"x" * 998 + b"\r\n\r\n")
    swaks(tmp_path, content, "app@sender.test", "user@shop.test", shop.address, 25)
    assert shop.messages[0].data == content
