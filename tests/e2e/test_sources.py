"""Each source has its share, its address and its name."""

from support import wait
from support.egret import A, B, C, source
from support.mail import Submitter, letter, send
from support.scripted_receiver import close


def submit(count, to="user@shop.test"):
    with Submitter() as submitter:
        return [submitter.send(letter(), to).id for _ in range(count)]


def test_weights_are_respected(egret, shop):
    instance = egret(sources={"a": source("a", weight=1), "b": source("b", weight=3)})
    submit(400)
    wait.until(lambda: len(shop.messages) == 400, 60, "400 messages arrive")
    instance.until_queue_empty()
    # The standard deviation of a fair draw is 0.022: five of them, and no fair router ever fails this.
    assert 0.64 < shop.peers()[B] / 400 < 0.86, shop.peers()
    assert shop.peers()[A] + shop.peers()[B] == 400


def test_each_source_sends_from_its_own_address_with_its_own_name(egret, shop):
    egret(sources={letter_: source(letter_) for letter_ in "abc"})
    submit(60)
    wait.until(lambda: len(shop.messages) == 60, 30, "60 messages arrive")
    assert {(message.peer, message.hello) for message in shop.messages} == {
        (A, "a.egress.test"), (B, "b.egress.test"), (C, "c.egress.test")}


def test_connections_are_kept_for_the_next_message(egret, shop):
    egret(sources={"a": source("a")}, delivery={"connections_per_site": 1})
    submit(50)
    wait.until(lambda: len(shop.messages) == 50, 30, "50 messages arrive")
    assert len(shop.sessions) <= 3, [session.messages for session in shop.sessions]


def test_a_connection_carries_no_more_messages_than_configured(egret, shop):
    egret(sources={"a": source("a")}, delivery={"connections_per_site": 1, "messages_per_connection": 5})
    submit(20)
    wait.until(lambda: len(shop.messages) == 20, 30, "20 messages arrive")
    assert max(session.messages for session in shop.sessions) <= 5
    assert len(shop.sessions) >= 4


def test_no_more_connections_to_a_site_than_configured(egret, shop):
    egret(sources={"a": source("a")}, delivery={"connections_per_site": 3})
    open_at_once = []

    def dot(session, message):
        open_at_once.append(sum(1 for other in shop.sessions if other.socket.fileno() != -1))

    shop.on("dot", dot)
    submit(100)
    wait.until(lambda: len(shop.messages) == 100, 30, "100 messages arrive")
    assert max(open_at_once) <= 3


def test_a_receiver_that_ends_the_connection_after_each_message_costs_nothing(egret, shop):
    """421 in place of an answer to the next command: that message goes over a new connection, and nobody is blamed."""
    instance = egret(sources={"a": source("a")}, delivery={"connections_per_site": 1})
    shop.on("mail", lambda session, _:
            close("421 4.4.2 Too many messages in this session") if session.messages else None)
    submit(10)
    wait.until(lambda: len(shop.messages) == 10, 30, "10 messages arrive")
    assert instance.standing("a") not in ("blocked", "listed")
    assert instance.standing("a", "mx.shop.test") not in ("blocked", "listed")


def test_a_drained_source_sends_nothing_until_it_is_resumed(egret, shop):
    instance = egret()
    assert instance.command("source", "drain", "a").returncode == 0
    wait.until(lambda: instance.standing("a") == "drained", 5, "a is drained")
    submit(20)
    wait.until(lambda: len(shop.messages) == 20, 20, "20 messages arrive")
    assert shop.peers() == {B: 20}
    instance.api("/sources/a/resume", {})

    def returned():
        send(letter())
        return A in shop.peers()

    wait.until(returned, 15, "a sends again", interval=0.1)
