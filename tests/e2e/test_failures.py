"""Mail that cannot be delivered ends in a DSN to its sender, and the egress that carried the news is not to blame."""

import time

import pytest

from support import dsn, wait
from support.egret import A, B, source
from support.mail import SENDER, letter, send
from support.scripted_receiver import close

BLAMED = {"listed", "blocked", "misconfigured", "throttled"}


def nobody_is_blamed(instance, provider):
    for name in instance.sources():
        assert instance.standing(name) not in BLAMED
        assert instance.standing(name, provider) not in BLAMED


def the_dsn(senders, timeout=15):
    wait.until(lambda: senders.messages, timeout, "a DSN arrives")
    message = senders.messages[0]
    assert (message.sender, message.recipients) == ("", (SENDER,))
    return dsn.parse(message.data)


def short_lived(max_age):
    return {"transactional": {"pool": "transactional", "max_age": max_age}}


def test_an_unknown_user_gives_the_sender_a_dsn_and_punishes_nobody(egret, postfix, senders):
    instance = egret()
    send(letter(marker="lost"), "nobody@strict.test")
    report = the_dsn(senders)
    assert report.about_message["reporting-mta"] == "dns; relay.test"
    (recipient,) = report.recipients
    assert dsn.address(recipient["final-recipient"]) == "nobody@strict.test"
    assert (recipient["action"], recipient["status"]) == ("failed", "5.1.1")
    assert recipient["diagnostic-code"].startswith("smtp; 550 5.1.1 <nobody@strict.test>: Recipient address rejected")
    assert "mx.strict.test" in recipient["remote-mta"]
    assert b"X-Marker: lost" in report.original
    assert "nobody@strict.test" in report.text
    assert report.message["To"] == SENDER and report.message["From"] and report.message["Date"]
    assert report.message["Message-ID"] and report.message["Subject"]
    assert report.message["Auto-Submitted"].startswith("auto-")
    instance.until_queue_empty()
    nobody_is_blamed(instance, "mx.strict.test")
    assert len(senders.messages) == 1


def test_an_unknown_user_is_not_offered_to_another_source(egret, shop, senders):
    egret()
    shop.on("rcpt", lambda session, to: f"550 5.1.1 <{to}>: Recipient address rejected: User unknown")
    send(letter())
    the_dsn(senders)
    assert sum(len(session.refused) for session in shop.sessions) == 1


def test_only_the_refused_recipients_are_in_the_dsn(egret, shop, senders):
    instance = egret()
    shop.on("rcpt", lambda session, to: "550 5.1.1 No such user" if to.startswith("no") else None)
    send(letter(), ["yes@shop.test", "no1@shop.test", "no2@shop.test"])
    report = the_dsn(senders)
    instance.until_queue_empty()
    assert sorted(dsn.address(block["final-recipient"]) for message in senders.messages
                  for block in dsn.parse(message.data).recipients) == ["no1@shop.test", "no2@shop.test"]
    assert [message.recipients for message in shop.messages] == [("yes@shop.test",)]
    assert b"yes@shop.test" not in b"".join(str(block).encode() for block in report.recipients)


def test_the_null_sender_gets_no_dsn(egret, shop):
    instance = egret()
    shop.on("rcpt", lambda session, to: "550 5.1.1 No such user")
    id = send(letter(), sender="").id
    instance.until_state(id, "failed")
    instance.until_queue_empty()
    assert shop.offered == []


def test_a_dsn_that_cannot_be_delivered_ends_there(egret, shop, senders):
    instance = egret()
    for receiver in (shop, senders):
        receiver.on("rcpt", lambda session, to: "550 5.1.1 No such user")
    send(letter())
    wait.until(lambda: any(session.refused for session in senders.sessions), 10, "the DSN is refused")
    instance.until_queue_empty()
    assert shop.offered == [] and senders.offered == []


def test_a_message_older_than_max_age_fails_with_the_last_reply_in_the_dsn(egret, shop, senders):
    instance = egret(classes=short_lived("2s"), delivery={"retry": ["500ms"]})
    shop.on("rcpt", lambda session, to: "451 4.3.0 Mailbox server is resting")
    send(letter())
    report = the_dsn(senders)
    (recipient,) = report.recipients
    assert recipient["action"] == "failed"
    assert recipient["status"] in ("4.3.0", "4.4.7", "5.4.7")
    assert "451 4.3.0 Mailbox server is resting" in recipient["diagnostic-code"]
    assert sum(len(session.refused) for session in shop.sessions) >= 2, "there was a second attempt"
    instance.until_queue_empty()
    nobody_is_blamed(instance, "mx.shop.test")


def test_a_temporary_failure_is_retried_until_it_succeeds(egret, shop, senders):
    instance = egret(delivery={"retry": ["300ms"]})
    replies = ["451 4.3.0 Try again later", "452 4.2.2 Mailbox full", "421 4.3.2 Shutting down"]
    shop.on("rcpt", lambda session, to: replies.pop(0) if replies else None)
    id = send(letter()).id
    wait.until(lambda: shop.messages, 15, "the message arrives")
    message = instance.until_state(id, "delivered")
    assert [attempt["reply"][:3] for attempt in message["attempts"]] == ["451", "452", "421", "250"]
    assert senders.messages == [] and len(shop.messages) == 1


def test_attempts_are_spaced_by_the_retry_schedule(egret, shop):
    instance = egret(delivery={"retry": ["500ms", "1500ms"]})
    times = []

    def rcpt(session, to):
        times.append(time.monotonic())
        return "451 4.3.0 Try again later" if len(times) < 3 else None

    shop.on("rcpt", rcpt)
    send(letter())
    wait.until(lambda: shop.messages, 15, "the message arrives")
    instance.until_queue_empty()
    # Jitter is added; how much is Egret's choice, but less than half either way.
    first, second = times[1] - times[0], times[2] - times[1]
    assert 0.25 < first < 1.5 and 0.75 < second < 3.5, (first, second)


def test_a_greylisted_message_is_retried_by_the_same_source(egret, shop):
    instance = egret(delivery={"retry": ["500ms"]})
    seen = {}

    def greylist(session, to):
        """The triplet of greylisting: another source would have to wait anew."""
        key = (session.peer, session.sender, to)
        seen.setdefault(to, []).append(session.peer)
        return None if seen[to].count(session.peer) > 1 else (
            f"450 4.2.0 <{to}>: Recipient address rejected: Greylisted, please try again later {key[0]}")

    shop.on("rcpt", greylist)
    for number in range(12):
        send(letter(), f"user{number}@shop.test")
    wait.until(lambda: len(shop.messages) == 12, 30, "all arrive")
    instance.until_queue_empty()
    assert all(len(peers) == 2 and len(set(peers)) == 1 for peers in seen.values()), seen
    assert {peers[0] for peers in seen.values()} == {A, B}
    nobody_is_blamed(instance, "mx.shop.test")


CONTENT_VERDICTS = {
    "spam": "554 5.7.1 Spam message rejected",
    "a virus": "554 5.7.1 Virus found: Eicar-Test-Signature",
    "amavis": "554 5.7.0 Reject, id=04291-03 - spam",
}


@pytest.mark.parametrize("reply", CONTENT_VERDICTS.values(), ids=CONTENT_VERDICTS.keys())
def test_a_content_verdict_is_final_and_not_offered_to_another_source(egret, shop, senders, reply):
    instance = egret()
    shop.on("dot", lambda session, message: reply)
    send(letter())
    report = the_dsn(senders)
    instance.until_queue_empty()
    assert report.recipients[0]["status"].startswith("5.7.")
    assert len(shop.offered) == 1, "spammers try another IP; Egret must not"
    nobody_is_blamed(instance, "mx.shop.test")


def test_a_delay_warning_goes_to_the_sender_once(egret, shop, senders):
    instance = egret(delivery={"retry": ["400ms"], "warn_after": "1s"})
    refusing = [True]
    shop.on("rcpt", lambda session, to: "451 4.3.0 Try again later" if refusing else None)
    send(letter())
    report = the_dsn(senders)
    assert report.recipients[0]["action"] == "delayed"

    def attempts():
        return sum(len(session.refused) for session in shop.sessions)

    goal = attempts() + 3
    wait.until(lambda: attempts() >= goal, 15, "three more attempts")
    refusing.clear()
    wait.until(lambda: shop.messages, 10, "the message arrives")
    instance.until_queue_empty()
    assert len(senders.messages) == 1


def test_a_receiver_that_falls_silent_is_given_up_only_for_now(egret, shop, senders):
    """The connection dies before the data is complete, so nothing is ambiguous: the message is simply tried again."""
    instance = egret(sources={"a": source("a")}, delivery={"retry": ["300ms"]})
    left = [close(), close("421 4.4.2 Timeout"), None]
    shop.on("data", lambda session, _: left.pop(0) if left else None)
    send(letter())
    wait.until(lambda: shop.messages, 15, "the message arrives")
    instance.until_queue_empty()
    assert len(shop.messages) == 1 and senders.messages == []
    nobody_is_blamed(instance, "mx.shop.test")


STRANGE_REPLIES = {
    "no digits": "hello there",
    "a code that does not exist": "999 9.9.9 What",
    "a line of 100 KB": "250 " + "x" * 100_000,
    "terminal escapes and a null byte": "451 4.3.0 \x1b[31mred\x00",
}


@pytest.mark.parametrize("reply", STRANGE_REPLIES.values(), ids=STRANGE_REPLIES.keys())
def test_a_malformed_reply_is_temporary_and_harmless(egret, shop, senders, reply):
    instance = egret(delivery={"retry": ["300ms"]})
    replies = [reply]
    shop.on("mail", lambda session, _: replies.pop() if replies else None)
    send(letter())
    wait.until(lambda: shop.messages, 15, "the message arrives")
    instance.until_queue_empty()
    assert len(shop.messages) == 1 and senders.messages == []
    assert "\x1b" not in instance.log() and "\x00" not in instance.log()
    nobody_is_blamed(instance, "mx.shop.test")
