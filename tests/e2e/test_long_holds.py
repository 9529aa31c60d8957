"""More held mail than is kept at hand (relay/delivery/held_jobs.hpp): listed, changed, released and given up like any other."""

import re

import pytest
from support import wait
from support.egret import source
from support.listeners import listener
from support.mail import Submitter, letter, marker_of, send

HOLDING = {"sources": {"a": source("a")}, "pools": {"transactional": {"sources": ["a"], "when_exhausted": "hold"}}}
MANY = 2600  # 2 000 of a class are at hand
ON_TWO = 4400  # more than that on each of two workers, among which a start divides what waited


@pytest.fixture
def drained(egret):
    """An Egret whose only source is drained: all mail is held."""
    instance = egret(**HOLDING)
    instance.api("/sources/a/drain", {})
    wait.until(lambda: instance.standing("a") == "drained", 10, "a is drained")
    return instance


def submit(count):
    with Submitter() as submitter:
        return [submitter.send(letter(marker=f"m-{number}")).id for number in range(count)]


def until_held(instance, count):
    wait.until(lambda: instance.queue()["held"] == count, 30, f"{count} are held")


def all_but(*missing):
    return sorted(f"m-{number}" for number in range(MANY) if number not in missing)


def arrived(shop):
    return sorted(marker_of(message.data) for message in shop.messages)


def test_a_long_hold_is_listed_and_changed_as_a_whole_and_all_of_it_goes_when_the_source_is_back(drained, shop):
    ids = submit(MANY)
    until_held(drained, MANY)
    assert drained.queue()["total"] == MANY
    rows = {row["id"]: row for row in drained.api(f"/queue?limit={MANY}&state=held")["messages"]}
    assert sorted(rows) == sorted(ids)
    assert rows[ids[0]]["reason"] and {row["reason"] for row in rows.values()} == {rows[ids[0]]["reason"]}
    assert "held" in drained.command("explain", "--message", ids[-1]).stdout
    answer = drained.api("/queue/cancel", {"selector": f"id={ids[-1]}"})
    assert (answer["matched"], answer["changed"]) == (1, 1)
    answer = drained.api("/queue/retry", {"selector": "state=held"})
    assert (answer["matched"], answer["changed"]) == (MANY - 1, MANY - 1)
    until_held(drained, MANY - 1)
    drained.api("/sources/a/resume", {})
    drained.until_queue_empty(60)
    assert arrived(shop) == all_but(MANY - 1)


def test_a_long_hold_outlives_reloads_and_a_restart(drained, shop):
    submit(MANY)
    until_held(drained, MANY)
    for _ in range(2):
        drained.api("/reload", {})
        until_held(drained, MANY)
    drained.restart()
    until_held(drained, MANY)
    drained.api("/sources/a/resume", {})
    drained.until_queue_empty(60)
    assert arrived(shop) == all_but()


def test_what_the_operator_holds_in_great_number_is_held_after_a_restart_and_all_released(drained, shop):
    ids = submit(ON_TWO)
    until_held(drained, ON_TWO)
    answer = drained.api("/queue/hold", {"selector": "state=held"})
    assert answer["changed"] == ON_TWO
    drained.api("/sources/a/resume", {})
    drained.restart()
    send(letter(marker="other"))
    wait.until(lambda: arrived(shop) == ["other"], 10, "other mail goes")
    assert drained.queue()["held"] == ON_TWO
    answer = drained.api("/queue/release", {"selector": f"id={ids[-1]}"})
    assert answer["changed"] == 1
    wait.until(lambda: len(shop.messages) == 2, 10, "one is released")
    answer = drained.api("/queue/release", {"selector": "state=held"})
    assert answer["changed"] == ON_TWO - 1
    drained.until_queue_empty(60)
    assert arrived(shop) == sorted([*(f"m-{number}" for number in range(ON_TWO)), "other"])


def test_mail_that_is_held_in_great_number_is_given_up_when_its_time_is_over(egret, shop):
    instance = egret(**HOLDING, classes={"transactional": {"pool": "transactional", "max_age": "25s"}})
    instance.api("/sources/a/drain", {})
    ids = submit(MANY)
    until_held(instance, MANY)
    wait.until(lambda: len(re.findall(r'"message":"report to the sender"', instance.log())) == MANY, 60, "each has its report")
    instance.until_queue_empty(60)
    given_up = set(re.findall(r'"message":"failed","id":"([^"]+)".*"rule":"max-age"', instance.log()))
    assert given_up == set(ids)
    assert shop.messages == []


def test_a_long_hold_goes_fast_also_among_thousands_of_others(egret, shop, dns):
    """One destination's mail is put away; three thousand others have a message each, for a pool that stays out."""
    others, many = 3000, 4000
    for number in range(others):
        dns.host(f"mx{number}.many.test", shop.address)
        dns.mx(f"d{number}.test", (10, f"mx{number}.many.test"))
    instance = egret(threads=1, sources={"a": source("a"), "b": source("b")}, listeners=[listener(), listener(2526, **{"class": "bulk"})],
                     classes={"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}},
                     pools={"transactional": {"sources": ["a"], "when_exhausted": "hold"},
                            "bulk": {"sources": ["b"], "when_exhausted": "hold"}})
    for name in "ab":
        instance.api(f"/sources/{name}/drain", {})
        wait.until(lambda: instance.standing(name) == "drained", 10, f"{name} is drained")
    with Submitter() as submitter:
        for number in range(others):
            submitter.send(letter(), f"user@d{number}.test")
    with Submitter(port=2526) as submitter:
        for number in range(many):
            submitter.send(letter(marker=f"m-{number}"))
    until_held(instance, others + many)
    instance.api("/sources/b/resume", {})
    wait.until(lambda: len(shop.messages) == many, 30, "all of the long hold has gone")
    assert arrived(shop) == sorted(f"m-{number}" for number in range(many))
    assert instance.queue()["held"] == others
