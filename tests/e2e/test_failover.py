"""A reply that blames the egress moves the same message to another one, in the same round; no other reply does."""

import pytest

from support import wait
from support.egret import A, B, source
from support.mail import Submitter, letter, send

NO_RETRY = {"retry": ["1h"]}  # whatever arrives, arrived within the first round
NAMES = {A: "a", B: "b"}
QUIET = {"interval": "1h", "cooldown": {"first": "1h", "max": "1h"}}

NAMED_LIST = "554 5.7.1 Service unavailable; Client host [{ip}] blocked using bl.test; Listed for testing"
OWN_LIST = ("550 5.7.1 Unfortunately, messages from [{ip}] weren't sent. Please contact your Internet service provider "
            "since part of their network is on our block list (S3140).")


def blame_the_first(receiver, text):
    """The first source to arrive is the one that this receiver does not like, which leaves nothing to chance."""
    return lambda session, _: text.format(ip=session.peer) if session.peer == receiver.sessions[0].peer else None


def first_and_other(receiver):
    first = receiver.sessions[0].peer
    return first, {A: B, B: A}[first]


PHASES = {"the greeting": "connect", "EHLO": "ehlo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data",
          "the final dot": "dot"}


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES.keys())
def test_a_block_at_any_phase_moves_the_message_within_the_round(egret, shop, phase):
    instance = egret(delivery=NO_RETRY, reputation=QUIET)
    shop.on(phase, blame_the_first(shop, NAMED_LIST))
    id = send(letter()).id
    wait.until(lambda: shop.messages, 10, "the message arrives")
    instance.until_queue_empty()
    first, other = first_and_other(shop)
    assert [message.peer for message in shop.messages] == [other]
    refused, taken = instance.until_state(id, "delivered")["attempts"]
    assert (refused["egress"], refused["label"]) == (NAMES[first], "ip_blocked")
    assert first in refused["reply"] and refused["rule"] and refused["route"]
    assert taken["egress"] == NAMES[other] and taken["route"]
    assert instance.standing(NAMES[first], "mx.shop.test") == "blocked"


TEMPORARY = {
    "421 at the greeting": ("connect", "421 4.7.1 Service unavailable; Client host [{ip}] blocked using bl.test"),
    "450 at RCPT": ("rcpt", "450 4.7.1 Service unavailable; Client host [{ip}] blocked using bl.test; Listed"),
}


@pytest.mark.parametrize("phase, text", TEMPORARY.values(), ids=TEMPORARY.keys())
def test_a_temporary_refusal_that_blames_the_ip_moves_the_message_too(egret, shop, phase, text):
    egret(delivery=NO_RETRY, reputation=QUIET)
    shop.on(phase, blame_the_first(shop, text))
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].peer == first_and_other(shop)[1]


def test_recipients_that_were_taken_are_not_sent_again_by_the_next_source(egret, shop):
    """One recipient is accepted, the other is refused because of the IP, in one transaction."""
    instance = egret(delivery=NO_RETRY, reputation=QUIET)
    blame = blame_the_first(shop, NAMED_LIST)
    shop.on("rcpt", lambda session, to: blame(session, to) if to.startswith("y") else None)
    send(letter(), ["x@shop.test", "y@shop.test"])
    instance.until_queue_empty()
    first, other = first_and_other(shop)
    assert sorted((to, message.peer) for message in shop.messages for to in message.recipients) == [
        ("x@shop.test", first), ("y@shop.test", other)]


@pytest.mark.parametrize("text", [NAMED_LIST, OWN_LIST], ids=["naming a list", "without a list's name"])
def test_a_receivers_own_verdict_ejects_the_source_for_that_provider_only(egret, receive_for, text):
    """The named list, asked at once, does not list the source: so it is this receiver's opinion and nobody else's."""
    instance = egret(delivery=NO_RETRY, reputation=QUIET)
    harsh, mild = receive_for("harsh.test"), receive_for("mild.test")
    harsh.on("rcpt", blame_the_first(harsh, text))
    with Submitter() as submitter:
        submitter.send(letter(), "user@harsh.test")
        wait.until(lambda: harsh.messages, 10, "the message arrives")
        first, other = first_and_other(harsh)
        wait.until(lambda: instance.standing(NAMES[first], "mx.harsh.test") == "blocked", 5, "the verdict is noted")
        refusals = sum(len(session.refused) for session in harsh.sessions)
        for _ in range(24):
            submitter.send(letter(), "user@harsh.test")
            submitter.send(letter(), "user@mild.test")
    instance.until_queue_empty()
    assert harsh.peers() == {other: 25}
    assert sum(len(session.refused) for session in harsh.sessions) == refusals, "the blocked source was tried again"
    assert set(mild.peers()) == {A, B}
    assert instance.standing(NAMES[first]) not in ("listed", "blocked")
    (event,) = instance.events(source=NAMES[first], to="blocked")
    assert event["provider"] == "mx.harsh.test" and event["rule"] and first in event["text"]


def test_a_blocked_source_returns_when_its_cooldown_is_over(egret, shop):
    instance = egret(reputation={"cooldown": {"first": "1s", "max": "2s"}})
    blame = blame_the_first(shop, OWN_LIST)
    shop.on("rcpt", lambda session, to: blame(session, to) if not shop.messages else None)
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives by the other source")
    first, _ = first_and_other(shop)

    def sends_again():
        send(letter())
        return first in shop.peers()

    wait.until(sends_again, 20, "the source is back", interval=0.1)
    instance.until_queue_empty()


def test_a_source_on_trial_gets_one_message_at_a_time(egret, shop):
    """Only the blocked source's return is watched: its pool has no other, so all mail waits for it."""
    instance = egret(sources={"a": source("a")}, reputation={"cooldown": {"first": "1s", "max": "1s"}})
    blocking, others_at_work = [True], []
    shop.on("rcpt", lambda session, to: OWN_LIST.format(ip=session.peer) if blocking else None)
    first = send(letter()).id
    wait.until(lambda: instance.standing("a", "mx.shop.test") == "blocked", 10, "a is blocked")

    def dot(session, message):
        # The standing is asked while this message's verdict is still out.
        if instance.standing("a", "mx.shop.test") == "trial":
            others_at_work.append([other for other in shop.sessions
                                   if other.socket.fileno() != -1 and other.sender is not None])

    blocking.clear()
    shop.on("dot", dot)
    with Submitter() as submitter:
        for _ in range(20):
            submitter.send(letter())
    instance.until_queue_empty(40)
    assert len(shop.messages) == 21 and others_at_work, "no message was sent on trial"
    assert not any(others_at_work)
    assert instance.message(first)["recipients"][0]["state"] == "delivered"


def test_with_all_sources_blocked_the_message_waits_and_nobody_gets_a_dsn(egret, shop, senders):
    instance = egret(reputation={"cooldown": {"first": "2s", "max": "2s"}})
    blocking = [True]
    shop.on("rcpt", lambda session, _: NAMED_LIST.format(ip=session.peer) if blocking else None)
    id = send(letter()).id
    wait.until(lambda: {session.peer for session in shop.sessions} == {A, B}, 10, "both sources were refused")
    assert instance.queue()["total"] == 1
    assert instance.message(id)["recipients"][0]["state"] not in ("delivered", "failed")
    blocking.clear()
    wait.until(lambda: shop.messages, 20, "a source is back and delivers")
    instance.until_queue_empty()
    assert senders.messages == [] and len(shop.messages) == 1
