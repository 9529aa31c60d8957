"""What an operator does with waiting mail: retry, hold, release, cancel, and the selectors that name it."""

import json
import threading

import pytest
from support import dsn, wait
from support.egret import A, B, source
from support.mail import letter, send

HELD = "held by the operator"
PATIENT = {"retry": ["1h"]}  # what was deferred is not tried again by itself
CLASSES = {"transactional": {"pool": "transactional"}, "bulk": {"pool": "transactional"}}
SHARED = {"a": source("a", shared=True), "b": source("b", shared=True)}


def later(session, _):
    return "451 4.3.0 Come back later"


@pytest.fixture
def busy_shop(shop):
    """shop, deferring everything until its script is cleared."""
    shop.on("rcpt", later)
    return shop


def rows(instance, id=None, **fields):
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    found = instance.api("/queue?" + query)["messages"]
    return [row for row in found if id in (None, row["id"])]


def until_scheduled(instance, *receipts):
    for receipt in receipts:
        wait.until(lambda: {row["state"] for row in rows(instance, receipt.id)} == {"scheduled"}, 10,
                   f"{receipt.id} waits for its next attempt")


def order(instance, action, selector, **more):
    return instance.api(f"/queue/{action}", {"selector": selector, **more})


def deferred(instance, *arguments, **named):
    receipt = send(letter(), *arguments, **named)
    until_scheduled(instance, receipt)
    return receipt


def test_a_hold_survives_a_restart_and_ends_with_a_release(egret, busy_shop):
    instance = egret(delivery=PATIENT)
    receipt = deferred(instance)
    answer = order(instance, "hold", f"id={receipt.id}")
    assert (answer["matched"], answer["changed"], answer["busy"], answer["ids"]) == (1, 1, 0, [receipt.id])
    (event,) = instance.events(kind="held")
    assert event["message"] == receipt.id and f"id={receipt.id}" in event["text"]
    busy_shop.script.clear()
    for _ in range(2):  # before the restart and after it
        (row,) = rows(instance, state="held")
        assert (row["id"], row["state"], row["reason"]) == (receipt.id, "held", HELD)
        assert instance.queue()["held"] == 1
        answer = order(instance, "retry", "all")
        assert (answer["matched"], answer["changed"]) == (1, 0), "a retry ended the hold"
        instance.restart()
    assert busy_shop.messages == []
    answer = order(instance, "release", f"id={receipt.id}")
    assert (answer["matched"], answer["changed"]) == (1, 1)
    instance.until_queue_empty()
    assert len(busy_shop.messages) == 1
    assert [event["message"] for event in instance.events(kind="released")] == [receipt.id]


def test_a_release_survives_a_restart_too(egret, busy_shop):
    instance = egret(delivery=PATIENT)
    receipt = deferred(instance)
    order(instance, "hold", "all")
    order(instance, "release", "all")
    until_scheduled(instance, receipt)  # it was tried, and deferred again
    instance.restart()
    assert [row["state"] for row in rows(instance)] == ["scheduled"]


def test_a_retry_makes_due_what_waits(egret, busy_shop):
    instance = egret(delivery=PATIENT)
    deferred(instance)
    busy_shop.script.clear()
    done = instance.command("queue", "retry")
    assert done.returncode == 0 and "1 made due now" in done.stdout, done.stdout + done.stderr
    instance.until_queue_empty()
    assert len(busy_shop.messages) == 1


def test_a_retry_concerns_only_what_the_selector_fits(egret, busy_shop):
    instance = egret(delivery=PATIENT)
    first, second = deferred(instance, sender="one@sender.test"), deferred(instance, sender="two@sender.test")
    busy_shop.script.clear()
    assert order(instance, "retry", "sender=one@sender.test")["ids"] == [first.id]
    instance.until_state(first.id, "delivered")
    assert [row["id"] for row in rows(instance)] == [second.id]


def test_mail_held_by_routing_can_be_held_by_the_operator_and_then_stays(egret, shop, blocklist):
    instance = egret()
    blocklist.list(A, B)
    instance.until_listed("a", "b")
    receipt = send(letter())
    wait.until(lambda: rows(instance, state="held"), 10, "routing holds it")
    assert rows(instance, receipt.id)[0]["reason"] != HELD
    assert order(instance, "hold", "state=held")["changed"] == 1
    blocklist.delist(A, B)
    instance.until_not_listed("a", "b")
    other = send(letter())
    instance.until_state(other.id, "delivered")
    assert [(row["id"], row["reason"]) for row in rows(instance, state="held")] == [(receipt.id, HELD)]
    order(instance, "release", "state=held")
    instance.until_queue_empty()
    assert len(shop.messages) == 2


def test_max_age_ends_a_hold(egret, busy_shop, senders):
    instance = egret(delivery=PATIENT, classes={"transactional": {"pool": "transactional", "max_age": "5s"}})
    deferred(instance)
    busy_shop.script.clear()
    assert order(instance, "hold", "all")["changed"] == 1
    wait.until(lambda: senders.messages, 20, "the sender is told")
    report = dsn.parse(senders.messages[0].data)
    assert [recipient["action"] for recipient in report.recipients] == ["failed"]
    assert report.recipients[0]["status"] == "5.4.7"
    instance.until_queue_empty()
    assert busy_shop.messages == []


def test_a_cancel_ends_a_message_without_a_report_unless_asked(egret, busy_shop, senders):
    instance = egret(delivery=PATIENT)
    silent, told = deferred(instance, sender="silent@sender.test"), deferred(instance, sender="told@sender.test")
    assert order(instance, "cancel", "sender=silent@sender.test")["changed"] == 1
    assert instance.until_state(silent.id, "cancelled")["state"] == "done"
    done = instance.command("queue", "cancel", f"id={told.id}", "--bounce", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ids"] == [told.id]
    instance.until_queue_empty()
    assert [message.recipients for message in senders.messages] == [("told@sender.test",)]
    report = dsn.parse(senders.messages[0].data)
    assert (report.recipients[0]["action"], report.recipients[0]["status"]) == ("failed", "5.7.0")
    assert [event["message"] for event in instance.events(kind="cancelled")] == [told.id, silent.id]
    assert instance.events(kind="cancelled")[1]["sender"] == "silent@sender.test"
    busy_shop.script.clear()
    instance.restart()
    assert instance.queue()["total"] == 0 and busy_shop.messages == []


def test_only_the_recipients_of_the_domain_are_cancelled(egret, busy_shop, receive_for):
    other = receive_for("other.test")
    other.on("rcpt", later)
    instance = egret(delivery=PATIENT)
    receipt = deferred(instance, to=["user@shop.test", "user@other.test"])
    instance.restart()  # from here on nothing but the disk knows the recipients
    assert len(rows(instance)) >= 1
    answer = order(instance, "cancel", "domain=OTHER.test")
    assert (answer["matched"], answer["changed"], answer["ids"]) == (1, 1, [receipt.id])
    busy_shop.script.clear()
    other.script.clear()
    order(instance, "retry", "all")
    instance.until_queue_empty()
    assert [message.recipients for message in busy_shop.messages] == [("user@shop.test",)]
    assert other.messages == []


def test_recipients_of_two_domains_at_one_site_are_told_apart(egret, busy_shop, dns):
    dns.mx("twin.test", (10, "mx.shop.test"))
    instance = egret(delivery=PATIENT)
    receipt = deferred(instance, to=["user@shop.test", "user@twin.test"])
    assert [row["recipients"] for row in rows(instance)] == [2], "they wait together"
    answer = order(instance, "hold", "domain=twin.test")
    assert (answer["matched"], answer["changed"], answer["ids"]) == (1, 1, [receipt.id])
    instance.restart()
    assert sorted((row["state"], row["recipients"]) for row in rows(instance)) == [("held", 1), ("scheduled", 1)]
    busy_shop.script.clear()
    order(instance, "retry", "all")
    wait.until(lambda: [message.recipients for message in busy_shop.messages] == [("user@shop.test",)], 10,
               "who is not held is delivered")
    order(instance, "release", f"id={receipt.id}")
    instance.until_queue_empty()
    assert busy_shop.messages[1].recipients == ("user@twin.test",)


def test_a_message_that_is_being_delivered_is_busy_and_not_touched(egret, shop):
    instance = egret(sources={"a": source("a")})
    at_the_dot, go_on = threading.Event(), threading.Event()

    def dot(session, message):
        at_the_dot.set()
        go_on.wait(20)

    shop.on("dot", dot)
    receipt = send(letter())
    assert at_the_dot.wait(10)
    try:
        for action in ("cancel", "hold", "retry"):
            answer = order(instance, action, "domain=shop.test")
            assert (answer["matched"], answer["changed"], answer["busy"]) == (1, 0, 1), action
        assert "being delivered right now" in instance.command("queue", "cancel", f"id={receipt.id}").stdout
    finally:
        go_on.set()
    instance.until_state(receipt.id, "delivered")
    instance.until_queue_empty()
    assert instance.events(kind="cancelled") == []


@pytest.mark.parametrize("restarted", [False, True])
def test_selectors_name_messages_by_what_is_known_of_them(egret, busy_shop, receive_for, restarted):
    other = receive_for("other.test")
    other.on("rcpt", later)
    instance = egret(delivery=PATIENT, classes=CLASSES, sources=SHARED, classify=[{"sender_domain": "news.test", "class": "bulk"}])
    app = deferred(instance)
    news = deferred(instance, sender="Weekly@news.test")
    both = deferred(instance, to=["user@other.test", "user2@shop.test"], sender="")
    order(instance, "hold", "all")
    if restarted:
        instance.restart()
    site = instance.route(to="user@other.test")["site"]
    expected = {
        "all": {app.id, news.id, both.id},
        "state=held": {app.id, news.id, both.id},
        "state=ready": set(),
        f"id={news.id}": {news.id},
        f"id={news.id},class=transactional": set(),
        "class=bulk": {news.id},
        "class=transactional,state=held": {app.id, both.id},
        "sender=app@SENDER.test": {app.id},
        "sender=APP@sender.test": set(),
        "sender=Weekly@news.test,domain=shop.test": {news.id},
        "sender=<>": {both.id},
        "domain=other.test": {both.id},
        "domain=SHOP.TEST": {app.id, news.id, both.id},
        "domain=nowhere.test": set(),
        f"site={site}": {both.id},
        f"site={site},domain=shop.test": set(),
        "egress=a": set(),  # held mail is no egress's
    }
    answers = {selector: order(instance, "hold", selector) for selector in expected}
    assert {selector: set(answer["ids"]) for selector, answer in answers.items()} == expected
    assert all(answer["changed"] == answer["busy"] == answer["undecided"] == 0 for answer in answers.values())


@pytest.mark.parametrize("selector, key", [
    ("colour=red", "colour"), ("class=nope", "class"), ("state=waiting", "state"), ("id=?", "id"), ("egress=zz", "egress"),
    ("sender=nobody", "sender"), ("domain=a..b", "domain"), ("class=transactional,site=", "site"), ("", "selector")])
def test_what_is_wrong_with_a_selector_is_said_by_its_key(egret, busy_shop, selector, key):
    instance = egret(delivery=PATIENT)
    deferred(instance)
    for action in ("hold", "cancel"):
        status, _, text = instance.http(f"/api/v1/queue/{action}", {"selector": selector})
        assert status == 400 and json.loads(text)["error"].startswith(key + ":"), text
        done = instance.command("queue", action, selector)
        assert done.returncode == 1 and key + ":" in done.stderr, done.stdout + done.stderr
    assert [row["state"] for row in rows(instance)] == ["scheduled"]


def test_other_mistakes_are_said_too(egret):
    instance = egret()
    assert instance.http("/api/v1/queue/forget", {"selector": "all"})[0] == 404
    for action, body in (("hold", {}), ("cancel", {}), ("hold", {"selector": "all", "bounce": True}),
                         ("hold", {"selector": 7}), ("retry", {"class": "bulk"})):
        assert instance.http(f"/api/v1/queue/{action}", body)[0] == 400, (action, body)
    assert instance.command("queue", "cancel").returncode != 0
    assert order(instance, "retry", "")["matched"] == 0  # an empty selector does no harm here


def test_many_messages_are_changed_by_one_command(egret, busy_shop):
    instance = egret(delivery=PATIENT)
    sent = {send(letter(), sender=f"n{n % 2}@sender.test").id for n in range(300)}
    wait.until(lambda: len(rows(instance, state="scheduled", limit=1000)) == 300, 60, "all wait")
    answer = order(instance, "hold", "sender=n1@sender.test")
    assert (answer["matched"], answer["changed"], len(answer["ids"])) == (150, 150, 100)
    assert set(answer["ids"]) < sent
    assert instance.queue()["held"] == 150 and instance.queue()["total"] == 300
    assert order(instance, "cancel", "all")["changed"] == 300
    instance.until_queue_empty()
    busy_shop.script.clear()
    instance.restart()
    assert instance.queue()["total"] == 0 and busy_shop.messages == []
