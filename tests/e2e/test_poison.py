"""One bad message must not burn every IP: what every source is refused for is itself the suspect."""

import pytest

from support import wait
from support.egret import A, B, C, source
from support.mail import letter, send

THREE = {letter_: source(letter_) for letter_ in "abc"}
QUIET = {"interval": "1h", "cooldown": {"first": "1h", "max": "1h"}}
BLOCK = "554 5.7.1 Service unavailable; Client host [{ip}] blocked using bl.test; Listed for testing"


def bad(receiver, marker="poison"):
    """The receiver blames the IP for every message with the marker, and takes the rest."""
    receiver.on("dot", lambda session, message: BLOCK.format(ip=session.peer)
                if f"X-Marker: {marker}".encode() in message.data else None)


def held(instance):
    return {row["id"]: row["reason"] for row in instance.api("/queue?state=held")["messages"]}


def test_a_message_blocked_through_three_sources_is_held_and_the_sources_are_cleared(egret, shop):
    instance = egret(sources=THREE, reputation=QUIET)
    bad(shop)
    id = send(letter("poison"), sender="bad@sender.test").id
    reason = wait.until(lambda: held(instance).get(id), 10, "the message is held")
    assert reason == "poison: blocked through a, b, c"
    (event,) = instance.events(kind="poison")
    assert (event["message"], event["sender"]) == (id, "bad@sender.test") and id in event["action"]
    assert {attempt["egress"] for attempt in instance.message(id)["attempts"]} == {"a", "b", "c"}
    wait.until(lambda: {instance.standing(name, "mx.shop.test") for name in "abc"} <= {"clean", "unknown"}, 10,
               "the evidence is taken back")
    for _ in range(15):
        send(letter())
    wait.until(lambda: len(shop.messages) == 15, 10, "other mail flows")
    assert set(shop.peers()) <= {A, B, C} and instance.queue()["held"] == 1


def test_at_the_second_poison_message_the_senders_mail_is_held_until_released(egret, shop):
    instance = egret(sources=THREE, reputation=QUIET)
    bad(shop)
    for _ in range(2):
        id = send(letter("poison"), sender="bad@sender.test").id
        wait.until(lambda: id in held(instance), 10, "the message is held")
    assert instance.events(kind="sender-held")[0]["sender"] == "bad@sender.test"
    good = send(letter("good"), sender="bad@sender.test").id
    assert "sender bad@sender.test is held" in wait.until(lambda: held(instance).get(good), 10, "his good mail is held too")
    send(letter(), sender="other@sender.test")
    wait.until(lambda: len(shop.messages) == 1, 10, "other senders' mail flows")
    instance.restart()
    assert good in wait.until(lambda: held(instance), 5, "a restart forgets nothing")
    later = send(letter(), sender="bad@SENDER.test").id
    wait.until(lambda: later in held(instance), 10, "nor who is held")
    shown = instance.command("senders").stdout
    assert "bad@sender.test" in shown and "held" in shown
    assert instance.command("sender", "release", "bad@sender.test").returncode == 0
    wait.until(lambda: shop.with_marker("good"), 10, "his mail leaves")
    wait.until(lambda: len(held(instance)) == 2, 5, "but for the two messages themselves")
    again = instance.command("sender", "release", "bad@sender.test")
    assert again.returncode == 1 and "not held" in again.stderr


def test_a_released_message_is_tried_again(egret, shop):
    instance = egret(sources=THREE, reputation=QUIET)
    bad(shop)
    id = send(letter("poison")).id
    wait.until(lambda: id in held(instance), 10, "the message is held")
    shop.on("dot", lambda *_: None)
    assert instance.command("queue", "release", f"id={id}").returncode == 0
    wait.until(lambda: shop.with_marker("poison"), 10, "it arrives")
    instance.until_queue_empty()


@pytest.mark.parametrize("phase", ["connect", "mail", "rcpt"])
def test_what_is_refused_before_it_is_seen_is_never_the_suspect(egret, shop, smarthost, authority, phase):
    """A receiver that blocks a whole range refuses every message through every source: that is no message's fault."""
    esp = smarthost("esp")
    instance = egret(sources=THREE, reputation=QUIET,
                     smarthosts={"esp": {"address": "smtp.esp.test:587", "username": "apikey", "password": "s3cret",
                                         "ca": authority.certificate}},
                     pools={"transactional": {"sources": ["a", "b", "c"], "fallback": ["esp"]}})
    shop.on(phase, lambda session, _: BLOCK.format(ip=session.peer))
    for _ in range(3):
        send(letter())
    wait.until(lambda: len(esp.messages) == 3, 10, "all leave by the smarthost")
    assert not instance.events(kind="poison")


def test_a_pool_of_fewer_sources_never_triggers_it(egret, shop):
    instance = egret(reputation=QUIET)
    bad(shop)
    id = send(letter("poison")).id
    wait.until(lambda: instance.queue()["held"] + len(instance.message(id)["attempts"]) >= 2, 10, "both sources were tried")
    assert not instance.events(kind="poison")
    assert {instance.standing(name, "mx.shop.test") for name in "ab"} == {"blocked"}


def test_observing_tells_and_holds_nothing(egret, shop):
    instance = egret(sources=THREE, reputation={**QUIET, "mode": "observe"}, delivery={"retry": ["100ms"]})
    shop.on("dot", lambda session, message: "4" + BLOCK.format(ip=session.peer)[1:])
    id = send(letter("poison")).id
    event = wait.until(lambda: instance.events(kind="poison"), 20, "the guard would have held it")[0]
    assert event["message"] == id and "observed only" in event["action"]
    shop.on("dot", lambda *_: None)
    wait.until(lambda: shop.with_marker("poison"), 10, "it is delivered all the same")
