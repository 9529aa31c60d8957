"""Where classes of mail meet: transactional mail goes before a backlog of bulk, and bulk is not starved."""

import threading
import time

import pytest
from support import dns_server, wait
from support.egret import source
from support.mail import Submitter, letter, marker_of, send
from support.scripted_receiver import ScriptedReceiver
from support.smtp_tools import smtp_source

LISTENERS = [{"address": f"127.0.0.1:{port}", "auth": "none", "allow": ["127.0.0.0/8"], "class": name}
             for port, name in ((2525, "transactional"), (2526, "bulk"))]
CLASSES = {"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}}
QUIET = {"level": "warn"}


class Gate:
    """A receiver's script: nothing is taken until open(), and then one message at a time takes `pause`."""

    def __init__(self, pause=0.0):
        self.pause, self.opened, self.waiting = pause, threading.Event(), threading.Event()

    def __call__(self, session, message):
        self.waiting.set()
        assert self.opened.wait(30), "the gate was never opened"
        time.sleep(self.pause)

    def open(self):
        self.opened.set()


def send_many(count, name, to="user@shop.test", port=2526):
    with Submitter(port=port) as submitter:
        for number in range(count):
            submitter.send(letter(marker=f"{name}-{number}"), to)


def until_waiting(instance, count, egress):
    """Waits until so many have a connection to wait for, or to be on."""
    wait.until(lambda: instance.queue()["by_egress"].get(egress) == count, 15, f"{count} messages wait for {egress}")


def markers(receiver):
    return [marker_of(message.data) for message in receiver.messages]


def one_smarthost(connections):
    return {"smarthosts": {"esp": {"address": "127.0.5.9:587", "tls": "none", "connections": connections}},
            "pools": {"transactional": {"fallback": ["esp"]}, "bulk": {"fallback": ["esp"]}}}


def one_shared_source(connections):
    return {"sources": {"a": source("a", shared=True)}, "delivery": {"connections_per_site": connections},
            "pools": {"transactional": {"sources": ["a"]}, "bulk": {"sources": ["a"]}}}


@pytest.fixture
def meeting(egret, shop, request):
    """meeting(how, connections, **more): an Egret whose classes leave the same way, and what receives there."""
    receivers = []

    def make(how, connections, **more):
        receiver = shop
        if how is one_smarthost:
            receiver = ScriptedReceiver("127.0.5.9", 587, name="smtp.esp.test").start()
            receivers.append(receiver)
        sections = {"classes": CLASSES, "listeners": LISTENERS, "log": QUIET, **how(connections), **more}
        return egret(**sections), receiver

    yield make
    for receiver in receivers:
        receiver.stop()


@pytest.mark.parametrize("how, egress", [(one_smarthost, "esp"), (one_shared_source, "a")])
def test_over_one_connection_transactional_mail_passes_in_front_of_waiting_bulk(meeting, how, egress):
    instance, receiver = meeting(how, connections=1)
    gate = Gate(pause=0.005)
    receiver.on("dot", gate)
    send_many(200, "bulk")
    until_waiting(instance, 200, egress)
    assert gate.waiting.wait(10)
    for number in range(3):
        before = len(receiver.messages) if gate.opened.is_set() else 0
        send(letter(marker=f"code-{number}"))
        gate.open()
        wait.until(lambda: receiver.with_marker(f"code-{number}"), 10, "the transactional message arrived")
        # What was under way while it came, and no more: the connection takes it next.
        place = markers(receiver).index(f"code-{number}")
        assert place - before <= 12, f"{place - before} bulk messages went first"
        if number == 0:
            assert place <= 2, "nothing of bulk was sent yet but what was under way"
    instance.until_queue_empty()
    assert sorted(markers(receiver)) == sorted([f"bulk-{n}" for n in range(200)] + [f"code-{n}" for n in range(3)])


def test_classes_that_both_wait_are_served_by_weight_and_none_starves(meeting):
    classes = {"transactional": {"pool": "transactional", "weight": 3}, "bulk": {"pool": "bulk", "weight": 1}}
    instance, receiver = meeting(one_shared_source, connections=1, classes=classes)
    gate = Gate()
    receiver.on("dot", gate)
    send_many(80, "bulk")
    send_many(80, "code", port=2525)
    until_waiting(instance, 160, "a")
    gate.open()
    instance.until_queue_empty()
    first = markers(receiver)[2:62]
    assert 43 <= sum(m.startswith("code-") for m in first) <= 47, first


def test_of_several_connections_bulk_leaves_one_for_transactional_mail(meeting):
    instance, receiver = meeting(one_smarthost, connections=3)
    # Whoever sends a long message keeps its connection for long.
    bulk = threading.Event()
    receiver.on("dot", lambda session, message: bulk.wait(30) and None if b"X-Marker: bulk" in message.data else None)
    send_many(30, "bulk")
    wait.until(lambda: len(receiver.offered) >= 2, 10, "bulk has the connections that it may have")
    send(letter(marker="code"))
    wait.until(lambda: receiver.with_marker("code"), 5, "the transactional message did not wait for them")
    assert len([m for m in receiver.offered if m.data.find(b"X-Marker: bulk") >= 0]) == 2
    bulk.set()
    instance.until_queue_empty()
    assert len(receiver.messages) == 31


def test_names_that_are_slow_to_look_up_for_bulk_do_not_hold_up_transactional_mail(egret, shop, dns):
    dns.behave("slow.test", dns_server.silent)
    instance = egret(classes=CLASSES, listeners=LISTENERS, log=QUIET, sources={"a": source("a"), "b": source("b")},
                     pools={"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"]}},
                     dns={"timeout": "4s", "tries": 1})
    with Submitter(port=2526) as submitter:
        for number in range(300):
            submitter.send(letter(), f"user@d{number}.slow.test")
    begun = time.monotonic()
    send(letter(marker="code"))
    wait.until(lambda: shop.with_marker("code"), 10, "the transactional message arrived")
    assert time.monotonic() - begun < 2, "it waited for the look-ups of bulk"
    assert instance.queue()["by_class"]["bulk"] == 300


def test_releasing_a_great_backlog_holds_up_neither_the_api_nor_other_mail(egret, shop):
    instance = egret(classes=CLASSES, listeners=LISTENERS, log=QUIET, sources={"a": source("a"), "b": source("b")},
                     pools={"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"], "when_exhausted": "hold"}})
    shop.on("dot", lambda session, message: time.sleep(0.02) if b"X-Marker: code" not in message.data else None)
    instance.api("/sources/b/drain", {})
    wait.until(lambda: instance.standing("b") == "drained", 10, "b is drained")
    smtp_source(10_000, 20, 1000, "news@sender.test", "user@shop.test", server="127.0.0.1:2526")
    wait.until(lambda: instance.queue()["held"] == 10_000, 20, "all of it is held")
    instance.api("/sources/b/resume", {})
    worst = arrived = 0
    with Submitter() as submitter:
        for number in range(40):
            begun = time.monotonic()
            submitter.send(letter(marker=f"code-{number}"))
            instance.api("/queue?limit=1")
            worst = max(worst, time.monotonic() - begun)
            wait.until(lambda: shop.with_marker(f"code-{number}"), 10, "the transactional message arrived")
            arrived = max(arrived, time.monotonic() - begun)
    assert worst < 0.5 and arrived < 0.7, f"a session and the API took {worst:.3f} s, a delivery {arrived:.3f} s"
    wait.until(lambda: instance.queue()["held"] == 0, 20, "all of it was offered again")
    assert len(shop.messages) > 40, "bulk is on its way too"
