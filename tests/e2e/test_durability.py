"""What got its 250 survives kill -9, SIGTERM and restarts."""

import hashlib
import os
import random
import socket
import threading
import time

from support import wait
from support.egret import source
from support.mail import below_trace, letter, marker_of, send
from support.scripted_receiver import SILENT
from support.traffic import Traffic

NOW = {"retry": ["300ms", "500ms"]}
KILLS = int(os.environ.get("EGRET_KILLS", "10"))
EXCUSABLE = 0.5  # seconds before a kill in which a delivery's record may not be written yet: 10 ms, and what a sync under way takes


def body_of(marker):
    """4 KB that only this marker has, so that a mixed-up or damaged body is seen."""
    return b"".join(hashlib.sha256(f"{marker}{line}".encode()).hexdigest().encode() + b"\r\n" for line in range(62))


def arrivals(receiver):
    found = {}
    for message in list(receiver.messages):
        found.setdefault(marker_of(message.data), []).append(message)
    return found


def nothing_lost(receiver, traffics, timeout=60):
    """Every acknowledged message arrives, whole, and nothing that nobody sent."""
    sent = {entry.marker: entry for traffic in traffics for entry in traffic.sent}
    acknowledged = {marker for marker, entry in sent.items() if entry.acknowledged}
    wait.until(lambda: not acknowledged - set(arrivals(receiver)), timeout, "every acknowledged message arrives")
    arrived = arrivals(receiver)
    assert set(arrived) <= set(sent), "a message that nobody sent"
    for marker, copies in arrived.items():
        assert all(below_trace(copy.data) == sent[marker].content for copy in copies), f"{marker} arrived damaged"
    return arrived


def listening():
    try:
        socket.create_connection(("127.0.0.1", 2525), timeout=1).close()
        return True
    except OSError:
        return False


def test_kill_9_under_load_loses_nothing(egret, shop):
    instance = egret(start=False, delivery=NOW)
    draw = random.Random(1)
    traffics, kills = [], []
    for _ in range(KILLS):
        instance.start()
        traffic = Traffic(threads=4, pause=0.001, body=body_of).start()
        traffics.append(traffic)
        traffic.until_acknowledged(20)
        time.sleep(draw.uniform(0.05, 1.5))  # not a wait for anything: the moment of the kill has to be arbitrary
        kills.append(time.monotonic())
        instance.kill9()
        traffic.stop()
    instance.start()
    arrived = nothing_lost(shop, traffics)
    instance.until_queue_empty(60 + KILLS)
    arrived = arrivals(shop)
    assert len(arrived) > 20 * KILLS
    # A second copy is excusable only where the first was on its way, or its record was, when the kill came. Most are not so near.
    def near(time):
        return any(kill - EXCUSABLE < time < kill + EXCUSABLE for kill in kills)

    assert sum(not near(copies[0].time) for copies in arrived.values()) > len(arrived) / 5
    twice = {marker: copies for marker, copies in arrived.items() if len(copies) > 1}
    print(f"{KILLS} kills, {len(arrived)} messages, of these {sum(len(t.acknowledged()) for t in traffics)} acknowledged, "
          f"{len(twice)} arrived twice")
    for marker, copies in twice.items():
        assert all(near(copy.time) for copy in copies[:-1]), f"{marker} was delivered twice"


def test_sigterm_under_load_ends_within_ten_seconds_and_nothing_is_lost_or_sent_twice(egret, shop):
    instance = egret(delivery=NOW)
    traffic = Traffic(threads=4, pause=0.001, body=body_of).start()
    traffic.until_acknowledged(100)
    instance.terminate()
    assert instance.ended(within=10) == 0
    traffic.stop()
    instance.start()
    nothing_lost(shop, [traffic])
    instance.until_queue_empty(60)
    assert all(len(copies) == 1 for copies in arrivals(shop).values())


def test_sigterm_waits_for_the_delivery_that_is_in_flight(egret, shop):
    instance = egret(sources={"a": source("a")})
    at_the_dot, go_on = threading.Event(), threading.Event()

    def dot(session, message):
        at_the_dot.set()
        go_on.wait(8)

    shop.on("dot", dot)
    send(letter())
    assert at_the_dot.wait(10)
    instance.terminate()
    # It no longer takes mail, which shows that it has noticed, and only then does the receiver answer.
    wait.until(lambda: not listening(), 8, "the listener is closed")
    assert instance.running
    go_on.set()
    assert instance.ended(within=10) == 0
    instance.start()
    instance.until_queue_empty()
    assert len(shop.offered) == len(shop.messages) == 1


def test_a_silent_receiver_does_not_hold_up_sigterm(egret, shop):
    instance = egret()
    shop.on("mail", lambda session, _: SILENT)
    send(letter())
    wait.until(lambda: any(command.upper().startswith("MAIL")
                           for session in shop.sessions for command in session.commands),
               10, "the receiver has been asked and says nothing")
    instance.terminate()
    assert instance.ended(within=10) == 0
    shop.script.clear()
    instance.start()
    wait.until(lambda: shop.messages, 20, "the message arrives after the restart")


def test_a_restart_delivers_what_was_queued(egret, receive_for):
    later = receive_for("later.test", start=False)
    instance = egret(delivery=NOW)
    contents = {f"m{number}": letter(f"m{number}", body_of(f"m{number}")) for number in range(50)}
    ids = {marker: send(content, "user@later.test").id for marker, content in contents.items()}
    wait.until(lambda: instance.queue()["total"] == 50, 10, "50 messages wait")
    instance.stop()
    later.start()
    instance.start()
    wait.until(lambda: len(later.messages) == 50, 30, "all 50 arrive")
    instance.until_queue_empty()
    assert {marker_of(message.data): below_trace(message.data) for message in later.messages} == contents
    for marker, id in ids.items():
        assert f"id {id}".encode() in later.with_marker(marker)[0].data, "the ID changed over the restart"


def test_recipients_already_served_are_not_served_again_after_a_restart(egret, receive_for):
    prompt, later = receive_for("prompt.test"), receive_for("later.test", start=False)
    instance = egret(delivery=NOW)
    send(letter(), ["user@prompt.test", "user@later.test"])
    wait.until(lambda: prompt.messages and instance.queue()["total"] == 1, 10, "one recipient is done")
    instance.restart()
    later.start()
    wait.until(lambda: later.messages, 20, "the other one is served")
    instance.until_queue_empty()
    assert len(prompt.messages) == len(later.messages) == 1


def test_a_kill_after_delivery_does_not_deliver_again(egret, shop):
    """Records are written in order, so what was done before a message got its 250 is on disk as surely as that one."""
    instance = egret(delivery=NOW)
    for number in range(30):
        send(letter(marker=f"m{number}"))
    instance.until_queue_empty()
    send(letter(marker="last"))
    instance.kill9()
    instance.start()
    wait.until(lambda: shop.with_marker("last"), 10, "the last message arrives")
    instance.until_queue_empty()
    assert [len(shop.with_marker(f"m{number}")) for number in range(30)] == [1] * 30
