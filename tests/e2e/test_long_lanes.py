"""More mail for one destination than is kept at hand: it is listed, changed and delivered like any other."""

import threading

import pytest
from support import wait
from support.egret import source
from support.mail import Submitter, letter, marker_of, send

ONE_LANE = {"sources": {"a": source("a", shared=True)}, "pools": {"transactional": {"sources": ["a"]}}}
MANY = 2600  # relay/delivery/parking.cpp keeps 2 000 at hand


@pytest.fixture
def slow_shop(shop):
    """shop, which says nothing to MAIL until shop.gate is set."""
    shop.gate = threading.Event()

    def hesitate(*_):
        assert shop.gate.wait(60), "the gate was never opened"

    shop.on("mail", hesitate)
    yield shop
    shop.gate.set()


def submit(count):
    with Submitter() as submitter:
        return [submitter.send(letter(marker=f"m-{number}")).id for number in range(count)]


def until_waiting(instance, count):
    wait.until(lambda: instance.queue()["by_site"].get("mx.shop.test") == count, 20, f"{count} messages wait for shop.test")


def arrived(shop):
    return sorted(marker_of(message.data) for message in shop.messages)


def test_a_destination_with_more_mail_than_is_kept_at_hand_holds_up_nobody_and_gets_all_of_it(egret, slow_shop, receive_for):
    instance = egret(**ONE_LANE)
    other = receive_for("other.test")
    ids = submit(MANY)
    until_waiting(instance, MANY)
    assert instance.queue()["total"] == MANY
    (row,) = [row for row in instance.api(f"/queue?limit={MANY}")["messages"] if row["id"] == ids[-1]]
    assert (row["state"], row["site"], row["egress"]) == ("ready", "mx.shop.test", "a")
    send(letter(), "user@other.test")
    wait.until(lambda: other.messages, 10, "mail to others arrives meanwhile")
    answer = instance.api("/queue/cancel", {"selector": f"id={ids[-1]}"})
    assert (answer["matched"], answer["changed"]) == (1, 1)
    answer = instance.api("/queue/hold", {"selector": "egress=a"})
    assert (answer["matched"], answer["changed"] + answer["busy"]) == (MANY - 1, MANY - 1)
    assert instance.queue()["held"] == answer["changed"]
    instance.api("/queue/release", {"selector": "state=held"})
    slow_shop.gate.set()
    instance.until_queue_empty(60)
    assert arrived(slow_shop) == sorted(f"m-{number}" for number in range(MANY - 1))


def test_what_a_long_lane_put_away_outlives_a_restart(egret, slow_shop):
    instance = egret(**ONE_LANE)
    submit(MANY)
    until_waiting(instance, MANY)
    slow_shop.gate.set()
    instance.restart()
    instance.until_queue_empty(60)
    assert arrived(slow_shop) == sorted(f"m-{number}" for number in range(MANY))
