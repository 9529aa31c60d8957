"""Signatures in the name of the sender's domain (RFC 6376, 8301, 8463), checked by other people's verifiers."""

import dkim
import pytest

from support import wait
from support.dkim_check import Keys, holds, opendkim_agrees, signatures, verified
from support.egret import A, source
from support.esmtp import submit
from support.mail import below_trace, letter, send, send_exactly
from support.scripted_receiver import close

BOTH = [("sender.test", "s1", "rsa-sha256"), ("sender.test", "e1", "ed25519-sha256")]


@pytest.fixture
def keys(work, dns):
    return Keys(work / "dkim", dns)


@pytest.fixture
def signing(egret, keys):
    """signing(...): an Egret that signs for sender.test with both algorithms."""
    def make(**sections):
        return egret(dkim=[keys.make("sender.test", "s1"), keys.make("sender.test", "e1", "ed25519")], **sections)
    return make


def unsigned(message):
    """The message below its DKIM-Signature fields and the trace field."""
    return below_trace(message)


def arrived(receiver, count=1):
    wait.until(lambda: len(receiver.messages) >= count, 20, f"{count} messages arrive")
    return receiver.messages[-1].data


def test_both_algorithms_hold(signing, shop):
    signing()
    content = letter()
    send(content)
    message = arrived(shop)
    assert sorted(verified(message)) == sorted(BOTH)
    assert message.startswith(b"DKIM-Signature:") and unsigned(message) == content
    for signature in signatures(message):
        assert signature["c"] == "relaxed/relaxed" and "l" not in signature and "x" not in signature
        assert signature["h"].count("from") == 2 and signature["h"].count("cc") == 1


def test_opendkim_agrees(egret, keys, shop):
    egret(dkim=[keys.make("sender.test", "s1")])
    send(letter())
    message = arrived(shop)
    good, said = opendkim_agrees(message)
    assert good, said
    good, _ = opendkim_agrees(message.replace(b"Hello.", b"Hallo."))
    assert not good, "opendkim-testmsg tells good from bad"


CHANGES = [(b"Hello.", b"Hallo."), (b"Subject: ", b"Subject: Re: "), (b"From: App", b"From: boss@bank.test\r\nFrom: App"),
           (b"To: User", b"Cc: x@y.test\r\nTo: User"), (b"To: User", b"Reply-To: x@y.test\r\nTo: User")]


def test_what_is_changed_or_added_later_breaks_them(signing, shop):
    signing()
    send(letter())
    message = arrived(shop)
    assert holds(message, 0) and holds(message, 1)
    for old, new in CHANGES:
        changed = message.replace(old, new)
        assert changed != message and not holds(changed, 0) and not holds(changed, 1), new


BODIES = [b"", b"\r\n\r\n\r\n", b" \t \r\n a  b\t c  \r\n\r\n   \r\n\r\n", b".\r\n..\r\n.a\r\n...\r\n", b"one line\r\n",
          "Grüße\r\n".encode() * 100]


def test_bodies_of_every_shape_hold(signing, shop):
    signing()
    for number, body in enumerate(BODIES, 1):
        content = letter(body=body)
        send_exactly(content)
        message = arrived(shop, number)
        assert len(verified(message)) == 2 and unsigned(message) == content


def test_headers_of_every_shape_hold(signing, shop):
    signing()
    content = (b"Subject: folded\r\n\t over   three\r\n lines  \r\n"
               b"to:   user@shop.test,\r\n  Other <other@shop.test>\r\nCC:\r\n"
               b"FROM: \"App, the\" <app@sender.test>\r\n"
               b"References: <a@b>\r\nReferences: <c@d>\r\nX-Empty:\r\nReceived: from x by y; Mon, 05 Jan 2026 10:00:00 +0100\r\n"
               b"List-Unsubscribe: <https://sender.test/u>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
               b"\r\nBody.\r\n")
    send_exactly(content)
    message = arrived(shop)
    assert len(verified(message)) == 2 and unsigned(message) == content
    assert all("list-unsubscribe-post" in signature["h"] for signature in signatures(message))


def test_a_large_message_that_lies_on_disk_in_pieces_holds(signing, shop):
    signing()
    line = b"0123456789 abcdefghij  klmnopqrst\tuvwxyz .\r\n"
    content = letter(body=b".starts with a dot\r\n" + line * 80_000 + b"\r\n\r\n", headers=["X-SES-Tag: secret"])
    send_exactly(content)
    message = arrived(shop)
    assert len(content) > 3_000_000 and len(verified(message)) == 2
    assert unsigned(message) == content.replace(b"X-SES-Tag: secret\r\n", b"")


def test_a_large_message_holds_after_a_restart(egret, keys, receive_for):
    shop = receive_for("shop.test", start=False)
    instance = egret(dkim=[keys.make("sender.test", "s1")], delivery={"retry": ["200ms"]})
    content = letter(body=b"0123456789 abcdefghij  klmnopqrst\tuvwxyz .\r\n" * 60_000)
    send_exactly(content)
    instance.kill9()
    shop.start()
    instance.start()
    message = arrived(shop)
    assert len(verified(message)) == 1 and unsigned(message) == content


def test_fields_that_are_stripped_are_gone_before_it_is_signed(signing, shop):
    signing(headers={"strip": ["X-Secret*", "List-Id", "Reply-To"]})
    send(letter(headers=["X-Secret-Order: 1\r\n\tfolded", "List-Id: <x.sender.test>", "Reply-To: y@sender.test",
                         "X-Egret-Class: transactional"]))
    message = arrived(shop)
    assert len(verified(message)) == 2
    assert not any(name in message.lower() for name in (b"\nx-secret", b"\nlist-id", b"\nreply-to", b"\nx-egret", b"folded"))


def test_fields_that_submission_adds_are_signed(signing, shop):
    signing(listeners=[{"address": "127.0.0.1:2525", "accept": "queue", "tls": "none", "auth": "none", "submission": True,
                        "allow": ["127.0.0.0/8"], "class": "transactional"}])
    send(b"From: app@sender.test\r\nTo: user@shop.test\r\nBcc: hidden@shop.test\r\nSubject: x\r\n\r\nBody.\r\n")
    message = arrived(shop)
    assert len(verified(message)) == 2
    assert message.count(b"\r\nDate: ") == 1 and message.count(b"\r\nMessage-ID: ") == 1 and b"Bcc" not in message
    assert all(name in signature["h"] for signature in signatures(message) for name in ("date", "message-id"))


def test_a_message_that_was_converted_is_signed_afterwards(signing, receive_for):
    shop = receive_for("shop.test", keywords=("PIPELINING", "SIZE 52428800"))
    signing()
    submit(letter(body="Grüße\r\n".encode(), headers=["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
                                                     "Content-Transfer-Encoding: 8bit"]), "user@shop.test", mail="BODY=8BITMIME")
    message = arrived(shop)
    assert b"quoted-printable" in message and max(message) < 128 and len(verified(message)) == 2


def test_reports_are_signed_in_the_name_of_this_host(egret, keys, shop, senders):
    shop.on("rcpt", lambda *_: "550 5.1.1 No such user")
    egret(dkim=[keys.make("relay.test", "r1"), keys.make("sender.test", "s1")])
    send(letter(body="Grüße\r\n".encode()))
    assert verified(arrived(senders)) == [("relay.test", "r1", "rsa-sha256")]


def test_a_signature_that_is_there_already_still_holds(egret, keys, shop):
    """What comes signed keeps its signature, and ours comes on top."""
    mine = keys.make("sender.test", "s1")
    keys_of_the_author = keys.make("sender.test", "author")
    egret(dkim=[mine])
    content = letter()
    with open(keys_of_the_author["key"], "rb") as file:
        field = dkim.sign(content, b"author", b"sender.test", file.read())
    send_exactly(field + content)
    message = arrived(shop)
    assert [selector for _, selector, _ in verified(message)] == ["s1", "author"]


# -- whose name


AUTHORS = {
    b"app@sender.test": "sender.test", b"app@news.sender.test": "news.sender.test",
    b"app@deep.news.sender.test": "news.sender.test", b"App <APP@Other.SENDER.Test>": "sender.test",
    b"app@notsender.test": None, b"app@stranger.test": None, b"\"app@sender.test\" <app@stranger.test>": None}


def test_the_nearest_domain_of_the_author_signs(egret, keys, shop):
    egret(dkim=[keys.make("sender.test", "s1"), keys.make("news.sender.test", "n1")])
    for number, (author, signed_by) in enumerate(AUTHORS.items(), 1):
        send(letter().replace(b"App <app@sender.test>", author))
        assert [domain for domain, _, _ in verified(arrived(shop, number))] == ([signed_by] if signed_by else []), author


def test_a_message_without_one_author_goes_as_it_is(signing, shop):
    signing()
    for number, headers in enumerate([b"From: app@sender.test\r\nFrom: boss@sender.test\r\n", b"Subject: nobody's\r\n"], 1):
        content = headers + b"To: user@shop.test\r\n\r\nBody.\r\n"
        send_exactly(content)
        message = arrived(shop, number)
        assert signatures(message) == [] and unsigned(message) == content


# -- by smarthosts


def esp(authority, **more):
    return {"address": "smtp.esp.test:587", "tls": "starttls", "username": "apikey", "password": "s3cret",
            "ca": authority.certificate, **more}


def by_smarthost(signing, authority, **more):
    return signing(smarthosts={"esp": esp(authority, **more)},
                   pools={"transactional": {"sources": [], "fallback": ["esp"], "when_exhausted": "fallback"}})


def test_a_smarthost_that_rewrites_fields_gets_a_signature_without_them(signing, smarthost, authority):
    upstream = smarthost("esp")
    by_smarthost(signing, authority, provider="ses", region="eu-west-1")
    send(letter())
    message = arrived(upstream)
    assert len(verified(message)) == 2
    for signature in signatures(message):
        assert not {"date", "message-id"} & set(signature["h"]) and {"from", "to", "subject"} < set(signature["h"])
    rewritten = message.replace(b"Mon, 05 Jan 2026 10:00:00 +0100", b"Tue, 06 Jan 2026 11:00:00 +0000")
    rewritten = rewritten.replace(b"<fixed@sender.test>", b"<0102@eu-west-1.amazonses.com>")
    assert rewritten != message and len(verified(rewritten)) == 2


def theirs(content):
    return (b"DKIM-Signature: v=1; a=rsa-sha256; d=sender.test; s=old; h=from:to;\r\n\tbh=AAAA; b=BBBB\r\n"
            b"dkim-signature: v=1; a=rsa-sha256; d=other.test; s=old; h=from; bh=AAAA; b=BBBB\r\n") + content


def test_keep_leaves_signatures_as_they_are(signing, smarthost, authority):
    upstream = smarthost("esp")
    by_smarthost(signing, authority, dkim="keep")
    content = theirs(letter())
    send_exactly(content)
    message = arrived(upstream)
    assert below_trace(message) == content and message.startswith(b"Received:")


def test_strip_takes_all_signatures_away(signing, smarthost, authority):
    upstream = smarthost("esp")
    by_smarthost(signing, authority, dkim="strip")
    content = letter(body=b"DKIM-Signature: in the body\r\n.\r\n")
    send_exactly(theirs(content).replace(b"dkim-signature:", b"DKIM-SIGNATURE :"))
    assert below_trace(arrived(upstream)) == content


def test_strip_takes_them_from_a_large_message_too(signing, smarthost, authority):
    upstream = smarthost("esp")
    by_smarthost(signing, authority, dkim="strip")
    content = letter(body=b"." + b"0123456789" * 8 + b"\r\n" + (b"x" * 80 + b"\r\n") * 40_000)
    send_exactly(theirs(content))
    assert below_trace(arrived(upstream)) == content


def test_sign_adds_ours_to_theirs(signing, smarthost, authority):
    upstream = smarthost("esp")
    by_smarthost(signing, authority, dkim="sign")
    content = letter()
    send_exactly(theirs(content))
    message = arrived(upstream)
    assert len(signatures(message)) == 4 and holds(message, 0) and holds(message, 1)


def test_a_message_that_fails_over_to_a_smarthost_is_signed_for_it(signing, shop, smarthost, authority):
    """The direct way signs Date, the smarthost's must not: the same message, twice in one round."""
    upstream = smarthost("esp")
    signing(sources={"a": source("a")}, smarthosts={"esp": esp(authority, provider="ses", region="eu-west-1")},
            pools={"transactional": {"sources": ["a"], "fallback": ["esp"], "when_exhausted": "fallback"}},
            delivery={"retry": ["1h"]}, reputation={"interval": "1h"})
    shop.on("dot", lambda session, _: f"554 5.7.1 Service unavailable; Client host [{A}] blocked using bl.test")
    content = letter()
    send(content)
    message = arrived(upstream)
    (direct,) = shop.offered
    assert len(verified(direct.data)) == len(verified(message)) == 2
    assert all("date" in signature["h"] for signature in signatures(direct.data))
    assert not any("date" in signature["h"] for signature in signatures(message))
    assert unsigned(message) == unsigned(direct.data) == content


def test_a_connection_lost_in_the_message_is_signed_anew(signing, receive_for):
    shop = receive_for("shop.test")
    signing(delivery={"retry": ["300ms"]})
    seen = []
    shop.on("data", lambda session, _: seen.append(session) or (close() if len(seen) == 1 else None))
    send(letter())
    assert len(verified(arrived(shop))) == 2
