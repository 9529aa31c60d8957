"""Whole stories of a source's reputation, from the first sign to the full return, as events, API, log and receivers tell them."""

import datetime
import json
import re
import sqlite3
import statistics
import threading
import time

import pytest

from support import egret_log, wait
from support.dns_server import reverse
from support.egret import A, B, C, source
from support.mail import Submitter, letter, send
from support.scripted_receiver import ScriptedReceiver, close

NO_RETRY = {"retry": ["1h"]}
NAMES = {A: "a", B: "b", C: "c"}
ALONE = {"a": source("a")}
FIRST_A = {"a": source("a", weight=1000), "b": source("b", weight=0.001)}  # b only where a may not
ONLY_REPLIES = {"interval": "1h"}  # one look at the lists after the start, and then receivers only

NAMED_LIST = "554 5.7.1 Service unavailable; Client host [{ip}] blocked using bl.test; Listed for testing"
MICROSOFT_BLOCK = ("550 5.7.1 Unfortunately, messages from [{ip}] weren't sent. Please contact your Internet service provider "
                   "since part of their network is on our block list (S3140).")
TOO_FAST = "421 4.7.0 Too many messages from your IP [{ip}], slow down"


def refuse(address, text):
    return lambda session, _: text.format(ip=session.peer) if session.peer == address else None


def seconds(stamp):
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


def until_known(instance, *names):
    """The first look at the lists is over, so that from now on every change of a standing is of the story."""
    for name in names:
        wait.until(lambda: instance.standing(name) == "clean", 15, f"{name} was found clean")


def turns(instance, name, provider):
    """The standings that events told of one (source, provider), oldest first; steps of the same standing count once."""
    told = []
    for event in reversed(instance.events(source=name, provider=provider)):
        if event["to"] and event["to"] not in told[-1:]:
            told.append(event["to"])
    return told


def at(instance, name, provider):
    return instance.source(name)["providers"].get(provider, {"standing": None, "until": None})


def until_standing(instance, name, provider, *standings, timeout=15):
    wait.until(lambda: at(instance, name, provider)["standing"] in standings, timeout,
               f"{name} is {' or '.join(standings)} with {provider}")
    return at(instance, name, provider)


def sending_until(done, timeout, what, to="user@shop.test", interval=0.05):
    """A trickle of mail until something has come of it."""
    with Submitter() as submitter:
        def step():
            submitter.send(letter(), to)
            return done()
        wait.until(step, timeout, what, interval=interval)


# ---- one provider ---------------------------------------------------------------------------------------------------

@pytest.fixture
def microsoft(dns):
    """Two domains whose MX hosts are of Microsoft's consumer service, on one receiver."""
    for domain, host in (("outlook.test", "outlook-test"), ("hotmail.test", "hotmail-test")):
        dns.a(f"{host}.olc.protection.outlook.com", "127.0.6.1")
        dns.mx(domain, (10, f"{host}.olc.protection.outlook.com"))
    receiver = ScriptedReceiver("127.0.6.1", name="mx.olc.protection.outlook.com").start()
    yield receiver
    receiver.stop()


def test_a_block_by_microsoft_ejects_the_source_there_only_and_it_returns_step_by_step(egret, shop, microsoft):
    instance = egret(sources=FIRST_A, delivery=NO_RETRY,
                     reputation={**ONLY_REPLIES, "cooldown": {"first": "4s", "max": "1h"}, "warmup": ["30%", "60%", "100%"]})
    until_known(instance, "a", "b")
    microsoft.on("rcpt", refuse(A, MICROSOFT_BLOCK))
    send(letter(), "user@outlook.test")
    wait.until(lambda: microsoft.peers() == {B: 1}, 10, "b delivers in the same round")
    blocked = until_standing(instance, "a", "microsoft", "blocked")
    (event,) = instance.events(source="a", to="blocked")
    assert event["provider"] == "microsoft" and "S3140" in event["text"] and event["rule"]
    assert "https://sendersupport.olc.protection.outlook.com" in event["action"] and blocked["until"] in event["action"]
    refusals = sum(len(session.refused) for session in microsoft.sessions)
    with Submitter() as submitter:
        for _ in range(10):
            submitter.send(letter(), "user@hotmail.test")  # another domain, other hosts, the same provider
            submitter.send(letter(), "user@shop.test")
    wait.until(lambda: len(microsoft.messages) == 11 and len(shop.messages) == 10, 10, "all arrive")
    assert at(instance, "a", "microsoft")["standing"] == "blocked", "the machine is too slow for this test"
    assert microsoft.peers() == {B: 11} and A in shop.peers()
    assert sum(len(session.refused) for session in microsoft.sessions) == refusals, "the blocked source was tried again"
    assert "mx.shop.test" not in instance.source("a")["providers"] and instance.standing("a") == "clean"

    microsoft.on("rcpt", lambda *_: None)
    until_standing(instance, "a", "microsoft", "trial")
    sending_until(lambda: turns(instance, "a", "microsoft")[-1:] == ["clean"], 20, "a is clean with Microsoft again",
                  "user@outlook.test")
    assert turns(instance, "a", "microsoft") == ["blocked", "trial", "warming", "clean"]
    told = {event["to"]: event for event in instance.events(source="a", provider="microsoft")}
    assert 4.0 <= seconds(blocked["until"]) - seconds(told["blocked"]["time"]) <= 4.5, "the cool-down and up to a tenth more"
    assert 0 <= seconds(told["trial"]["time"]) - seconds(blocked["until"]) < 1.5
    instance.until_queue_empty()
    assert instance.events(source="b", to="blocked") == []


# ---- a receiver first, the list after -------------------------------------------------------------------------------

def test_a_listing_that_a_receiver_names_first_is_confirmed_within_two_seconds_and_holds_for_everybody(
        egret, shop, receive_for, blocklist, dns):
    refusing = receive_for("refusing.test")
    instance = egret(sources=FIRST_A, delivery=NO_RETRY, reputation={"interval": "10s", "cooldown": {"first": "1s", "max": "1s"}})
    until_known(instance, "a", "b")
    since = time.monotonic()
    instance.recheck()
    wait.until(lambda: dns.log(f"{reverse(A)}.bl.test", "A", since), 10, "the poll has just looked")
    blocklist.list(A, text="https://bl.test/why")
    refusing.on("rcpt", refuse(A, NAMED_LIST))
    send(letter(), "user@refusing.test")
    wait.until(lambda: refusing.peers() == {B: 1}, 10, "b delivers in the same round")
    instance.until_listed("a", timeout=5)
    (listed,) = instance.events(source="a", to="listed", provider="")
    (blocked,) = instance.events(source="a", to="blocked")
    assert blocked["provider"] == "mx.refusing.test" and "bl.test" in blocked["text"]
    assert listed["blocklist"] == "bl" and "https://bl.test/why" in listed["text"]
    assert 0 <= seconds(listed["time"]) - seconds(blocked["time"]) < 2
    with Submitter() as submitter:
        for _ in range(20):
            submitter.send(letter(), "user@shop.test")
    wait.until(lambda: len(shop.messages) == 20, 10, "all arrive")
    assert shop.peers() == {B: 20}, "the source is out for everybody"

    refusing.on("rcpt", lambda *_: None)
    blocklist.delist(A)
    instance.until_not_listed("a", timeout=30)
    (delisted,) = instance.events(source="a", kind="delisted", provider="")
    assert (delisted["from"], delisted["to"]) == ("listed", "trial") and delisted["blocklist"] == "bl"
    for receiver, to in ((shop, "user@shop.test"), (refusing, "user@refusing.test")):
        sending_until(lambda: A in receiver.peers(), 20, f"a sends to {to} again", to)
    sending_until(lambda: instance.standing("a") == "clean", 20, "a is clean")
    assert turns(instance, "a", "") == ["listed", "trial", "warming", "clean"]


# ---- relapse --------------------------------------------------------------------------------------------------------

def test_a_source_that_is_blocked_again_on_trial_rests_twice_as_long(egret, shop):
    """The message that waits all the while is what each trial is made with."""
    instance = egret(sources=ALONE, delivery={"retry": ["100ms"]},
                     reputation={**ONLY_REPLIES, "cooldown": {"first": "1s", "max": "1h"}})
    until_known(instance, "a")
    shop.on("rcpt", refuse(A, MICROSOFT_BLOCK))
    id = send(letter()).id
    wait.until(lambda: len(instance.events(source="a", to="blocked")) == 3, 20, "a is blocked for the third time")
    shown = at(instance, "a", "mx.shop.test")
    assert shown["standing"] == "blocked"
    blocks = instance.events(source="a", to="blocked")[::-1]
    rests = [seconds(re.search(r"until (\S+Z)", event["action"]).group(1)) - seconds(event["time"]) for event in blocks]
    for rest, meant in zip(rests, (1, 2, 4)):
        assert meant - 0.1 <= rest <= meant * 1.1 + 0.1, rests
    assert shown["until"] in blocks[-1]["action"], "events and API say the same"
    assert [event["from"] for event in blocks] == ["clean", "trial", "trial"]
    assert sum(len(session.refused) for session in shop.sessions) == 3, "one attempt in each trial, and none between"
    shop.on("rcpt", lambda *_: None)
    assert len(instance.until_state(id, "delivered")["attempts"]) == 4
    sending_until(lambda: turns(instance, "a", "mx.shop.test")[-1] == "clean", 20, "a is clean again")
    assert turns(instance, "a", "mx.shop.test") == ["blocked", "trial"] * 3 + ["warming", "clean"]


# ---- throttling -----------------------------------------------------------------------------------------------------

def burst(count, to="user@shop.test"):
    with Submitter() as submitter:
        return [submitter.send(letter(), to).id for _ in range(count)]


def test_throttling_lowers_rate_and_connections_and_deliveries_raise_them_again(egret, shop):
    """About ten messages a second are what a sent before; half of that, and two of four connections, are left of it."""
    instance = egret(sources=ALONE, delivery={"connections_per_site": 4, "retry": ["100ms"]}, reputation=ONLY_REPLIES,
                     classes={"transactional": {"pool": "transactional", "spill": False}})
    until_known(instance, "a")
    burst(600)
    wait.until(lambda: len(shop.messages) == 600, 60, "600 messages arrive unhindered")
    lock, refusals, open_now, most = threading.Lock(), [1], [0], []

    def rcpt(session, _):
        with lock:
            return close(TOO_FAST.format(ip=session.peer)) if refusals and refusals.pop() else None

    def dot(session, _):
        with lock:
            open_now[0] += 1
            most.append(open_now[0])
        time.sleep(0.8)  # so that connections are what there is too little of
        with lock:
            open_now[0] -= 1

    shop.on("rcpt", rcpt)
    first = send(letter()).id
    throttled = until_standing(instance, "a", "mx.shop.test", "throttled")
    assert "slow down" in throttled["reason"] and throttled["share"] == 1.0, "throttled, and in service"
    (event,) = instance.events(source="a", to="throttled")
    assert event["provider"] == "mx.shop.test" and event["kind"] == "throttled" and event["rule"]
    wait.until(lambda: len(shop.messages) == 601, 10, "the refused message arrives by a all the same")
    (refused, taken) = instance.until_state(first, "delivered")["attempts"]
    assert (refused["outcome"], refused["label"], taken["egress"]) == ("deferred", "ip_throttled", "a")

    wait.until(lambda: all("QUIT" in session.commands[-1:] or session.socket.fileno() == -1 for session in shop.sessions), 15,
               "the connections of before are closed")
    shop.on("dot", dot)
    started = time.monotonic()
    burst(30)
    wait.until(lambda: len(shop.messages) == 631, 60, "all arrive")
    took = time.monotonic() - started
    times = [message.time for message in shop.messages[601:]]
    print(f"30 messages took {took:.1f} s, at once {most}, in the first second {sum(t < times[0] + 1 for t in times)}")
    assert max(most[:10]) <= 2, "half of the connections"
    shop.on("dot", lambda *_: None)
    assert instance.events(source="a", to="blocked") == []
    sending_until(lambda: turns(instance, "a", "mx.shop.test")[-1] == "clean", 20, "deliveries have made up for it")
    assert turns(instance, "a", "mx.shop.test") == ["throttled", "clean"]


def test_the_rate_of_a_throttled_source_is_half_of_what_it_was(egret, shop):
    instance = egret(sources=ALONE, delivery={"retry": ["100ms"]}, reputation=ONLY_REPLIES)
    until_known(instance, "a")
    count = 300  # within moments: 5 messages a second on the average of a minute
    burst(count)
    wait.until(lambda: len(shop.messages) == count, 60, "they arrive unhindered")
    refusals = [1]
    shop.on("rcpt", lambda session, _: TOO_FAST.format(ip=session.peer) if refusals and refusals.pop() else None)
    send(letter())
    until_standing(instance, "a", "mx.shop.test", "throttled")
    burst(12)
    wait.until(lambda: len(shop.messages) == count + 13, 30, "all arrive")
    times = [message.time for message in shop.messages[count:]]
    # From half to three quarters of 5/s as deliveries go on, and a few at once to begin with.
    rate = 10 / (times[-1] - times[2])
    assert 1.5 < rate < 5, f"{rate:.1f} messages a second"
    held = [json.dumps(line) for line in egret_log.lines(instance, message="holding mail")]
    assert any(re.search("throttled: 5[0-9]% of its rate", line) for line in held), held


@pytest.mark.parametrize("spill", [False, True], ids=["no spill", "spill"])
def test_a_throttled_message_takes_another_source_only_where_its_class_spills(egret, shop, spill):
    instance = egret(sources=FIRST_A, delivery=NO_RETRY, reputation=ONLY_REPLIES,
                     classes={"transactional": {"pool": "transactional", "spill": spill}})
    until_known(instance, "a", "b")
    shop.on("rcpt", refuse(A, TOO_FAST))
    id = send(letter()).id
    until_standing(instance, "a", "mx.shop.test", "throttled")
    if spill:
        refused, taken = instance.until_state(id, "delivered")["attempts"]
        assert (refused["egress"], refused["label"], taken["egress"]) == ("a", "ip_throttled", "b")
        assert shop.peers() == {B: 1}
    else:
        wait.until(lambda: instance.message(id)["attempts"], 5, "the attempt is noted")
        shop.on("rcpt", lambda *_: None)
        burst(3)  # these would be the first to go by b, if anything did
        wait.until(lambda: shop.messages, 10, "one of them leaves, slowly")
        shown = instance.message(id)
        (attempt,) = shown["attempts"]
        assert (attempt["egress"], attempt["outcome"]) == ("a", "deferred")
        assert shown["recipients"][0]["state"] not in ("delivered", "failed")
        assert set(shop.peers()) == {A}
    assert instance.events(source="a", to="blocked") == []


# ---- the way back of several ----------------------------------------------------------------------------------------

def test_sources_that_are_blocked_together_return_one_at_a_time(egret, shop):
    instance = egret(delivery={"retry": ["100ms"]},
                     reputation={**ONLY_REPLIES, "cooldown": {"first": "1s", "max": "1h"}, "returning": 1})
    until_known(instance, "a", "b")
    shop.on("rcpt", lambda session, _: MICROSOFT_BLOCK.format(ip=session.peer))
    id = send(letter()).id
    until_standing(instance, "a", "mx.shop.test", "blocked")
    until_standing(instance, "b", "mx.shop.test", "blocked")
    assert instance.events(kind="pool-exhausted", provider="mx.shop.test")
    # Held back until both are on trial: the message that waits, and all that come, keep to the one whose turn it is.
    shop.on("rcpt", lambda *_: None)
    until_standing(instance, "a", "mx.shop.test", "trial", "warming")
    until_standing(instance, "b", "mx.shop.test", "trial", "warming")
    instance.until_state(id, "delivered")
    trials = instance.events(to="trial", provider="mx.shop.test")[::-1]
    first, second = trials[0]["source"], trials[1]["source"]
    route = instance.route()
    assert [candidate["egress"] for candidate in route["candidates"]] == [first]
    (waiting,) = [one for one in route["rejected"] if one["egress"] == second]
    assert "waits its turn" in waiting["reason"] and first in waiting["reason"]

    def both_are_through():
        return all("warming" in turns(instance, name, "mx.shop.test") for name in (first, second))

    sending_until(both_are_through, 20, "both are through their trials")
    instance.until_queue_empty()
    warming = {event["source"]: event for event in instance.events(kind="warming", provider="mx.shop.test")[::-1]}
    addresses = {name: address for address, name in NAMES.items()}
    of_second = [message for message in shop.messages if message.peer == addresses[second]]
    of_first = [message for message in shop.messages if message.peer == addresses[first]]
    assert seconds(warming[first]["time"]) < seconds(warming[second]["time"])
    assert all(message.time < of_second[0].time for message in of_first[:3]), "the second returned before the first was through"


# ---- restarts -------------------------------------------------------------------------------------------------------

def saved(instance, name):
    """What the database beside the spool says of a source."""
    with sqlite3.connect(f"file:{instance.data_dir}/state.db?mode=ro", uri=True) as database:
        rows = database.execute("SELECT name, value FROM state WHERE kind = 'source'").fetchall()
    database.close()
    return next((json.loads(value) for key, value in rows if key.startswith(name + "@")), {})


def restart(instance, how, on_disk):
    """Ends it as an operator or as a power cut does, which may come as soon as the state is on disk; the time of the start."""
    if how == "stop":
        instance.stop()
    else:
        wait.until(on_disk, 5, "the state is on disk", interval=0.05)
        instance.kill9()
    since = time.monotonic()
    instance.start()
    return since


HOW = pytest.mark.parametrize("how", ["stop", "kill"])


@HOW
def test_a_restart_in_the_middle_of_a_cooldown_changes_nothing(egret, shop, how):
    instance = egret(sources=ALONE, delivery={"retry": ["100ms"]},
                     reputation={**ONLY_REPLIES, "cooldown": {"first": "4s", "max": "1h"}})
    until_known(instance, "a")
    shop.on("rcpt", refuse(A, MICROSOFT_BLOCK))
    id = send(letter()).id
    before = until_standing(instance, "a", "mx.shop.test", "blocked")
    attempts = len(shop.sessions)
    restart(instance, how, lambda: saved(instance, "a")["providers"]["mx.shop.test"]["blocked_until"])
    assert at(instance, "a", "mx.shop.test") == before
    shop.on("rcpt", lambda *_: None)
    wait.until(lambda: shop.messages, 15, "the message that waited arrives")
    assert len(shop.sessions) == attempts + 1
    (trial,) = instance.events(source="a", to="trial")
    assert trial["from"] == "blocked" and seconds(trial["time"]) >= seconds(before["until"]), "not before its time"
    # The repetition is remembered too: the next block is twice as long.
    shop.on("rcpt", refuse(A, MICROSOFT_BLOCK))
    send(letter())
    again = until_standing(instance, "a", "mx.shop.test", "blocked")
    (event,) = instance.events(source="a", to="blocked")
    assert 7.9 <= seconds(again["until"]) - seconds(event["time"]) <= 8.9
    instance.until_state(id, "delivered")


@HOW
def test_a_restart_in_the_middle_of_a_listing_asks_once_and_changes_nothing(egret, shop, blocklist, dns, how):
    """The list has an interval of an hour; another, with one of a second, is the clock."""
    blocklist.list(A, text="https://bl.test/why")
    instance = egret(dns={"timeout": "5s"},  # so that a slow answer is not asked for twice
                     reputation={"blocklists": {"bl": {"interval": "1h"}, "second": {"zone": "second.test", "weight": 1.0}}})
    instance.until_listed("a")
    until_known(instance, "b")
    before = instance.source("a")
    since = restart(instance, how, lambda: saved(instance, "a")["listings"]["bl"]["confirmed"])
    after = instance.source("a")
    for entry in (before, after):
        del entry["dns"], entry["sent"], entry["blocked"]
        for listing in entry["listings"]:
            del listing["last_seen"]
    assert after == before
    burst(20)
    wait.until(lambda: len(shop.messages) == 20, 10, "all arrive")
    assert shop.peers() == {B: 20}
    wait.until(lambda: len(dns.log(f"{reverse(B)}.second.test", "A", since)) >= 4, 20, "the other list is asked four times")
    asked = [question.name for question in dns.log("bl.test", since=since)]
    assert sorted(asked)[:3] == ["1.0.0.127.bl.test", f"{reverse(A)}.bl.test", "2.0.0.127.bl.test"]
    assert asked.count(f"{reverse(B)}.bl.test") == 1 and len(asked) == 5, "each source, both test points and a random name, once"
    assert instance.standing("a") == "listed" and instance.events(source="a", to="listed") == []


@pytest.fixture
def wildcard(egret, dns):
    """wildcard(count): an Egret with so many unrelated sources and a list of which nothing but their share is suspicious."""
    zone = "scripted.test"
    dns.a(f"2.0.0.127.{zone}", "127.0.0.2")

    def make(count):
        sources = {f"s{n}": {"address": f"127.0.{20 + n}.1", "ehlo": f"s{n}.egress.test"} for n in range(count)}
        names = {name: f"{reverse(one['address'])}.{zone}" for name, one in sources.items()}
        instance = egret(sources=sources, reputation={"confirm": 4, "blocklists": {"scripted": {"zone": zone, "weight": 1.0}}})
        instance.until_blocklist("in-service", "scripted")
        until_known(instance, *sources)
        return instance, names
    return make


def is_quarantined(instance):
    shown = instance.blocklists()["scripted"]
    return shown["state"] == "out-of-service" and "quarantine" in shown["reason"]


@HOW
def test_a_restart_in_the_middle_of_a_quarantine_lists_nobody(wildcard, dns, how):
    instance, names = wildcard(6)
    for name in names.values():
        dns.a(name, "127.0.0.2")
    wait.until(lambda: is_quarantined(instance), 15, "the list is in quarantine")
    since = restart(instance, how, lambda: not any("scripted" in saved(instance, name)["listings"] for name in names))
    wait.until(lambda: all(len(dns.log(name, "A", since)) >= 4 for name in names.values()), 30, "all are asked about again")
    wait.until(lambda: is_quarantined(instance), 5, "it is found out again")
    assert {entry["standing"] for entry in instance.sources().values()} == {"clean"}
    assert instance.events(to="listed") == []


@pytest.mark.parametrize("how", ["none", "stop"])
def test_a_restart_while_a_list_becomes_a_wildcard_lists_nobody(wildcard, dns, how):
    """Two of four sources are seen to be listed before it, not yet confirmed, and all four after it."""
    instance, names = wildcard(4)
    for name in ("s0", "s1"):
        dns.a(names[name], "127.0.0.2")
    wait.until(lambda: all(instance.source(name)["listings"] for name in ("s0", "s1")), 10, "two listings are seen")
    if how == "stop":
        instance.restart()
    for name in names.values():
        dns.a(name, "127.0.0.2")
    wait.until(lambda: is_quarantined(instance), 15, "the list is in quarantine")
    wait.until(lambda: {entry["standing"] for entry in instance.sources().values()} == {"clean"}, 10, "no listing is left")
    assert instance.events(to="listed") == []


def test_a_reload_in_the_middle_of_a_quarantine_does_not_end_it(wildcard, dns):
    instance, names = wildcard(6)
    for name in names.values():
        dns.a(name, "127.0.0.2")
    wait.until(lambda: is_quarantined(instance), 15, "the list is in quarantine")
    since = time.monotonic()
    assert instance.command("reload").returncode == 0
    wait.until(lambda: all(len(dns.log(name, "A", since)) >= 4 for name in names.values()), 30, "all are asked about again")
    assert is_quarantined(instance)
    assert instance.events(kind="list-up") == [], "the share has not fallen"
    assert instance.events(to="listed") == []


@HOW
def test_a_restart_in_the_middle_of_a_trial_changes_nothing(egret, shop, how):
    instance = egret(sources=ALONE, delivery={"retry": ["100ms"]},
                     reputation={**ONLY_REPLIES, "cooldown": {"first": "1s", "max": "1h"}})
    until_known(instance, "a")
    shop.on("rcpt", refuse(A, MICROSOFT_BLOCK))
    send(letter())
    until_standing(instance, "a", "mx.shop.test", "blocked")
    shop.on("rcpt", lambda *_: None)
    wait.until(lambda: len(shop.messages) == 1, 10, "the message that waited arrives: one success of three")
    before = until_standing(instance, "a", "mx.shop.test", "trial")
    wait.until(lambda: instance.queue()["total"] == 0, 5, "it is off the queue")
    restart(instance, how, lambda: saved(instance, "a")["providers"]["mx.shop.test"]["ramp"]["successes"] == 1)
    assert at(instance, "a", "mx.shop.test") == before
    send(letter())
    wait.until(lambda: len(shop.messages) == 2, 10, "the second arrives")
    assert at(instance, "a", "mx.shop.test")["standing"] == "trial", "two are not enough"
    send(letter())
    until_standing(instance, "a", "mx.shop.test", "warming")
    assert len(shop.messages) == 3, "the success before the restart counts"


@HOW
def test_a_restart_in_the_middle_of_a_throttle_changes_nothing(egret, shop, how):
    instance = egret(sources=FIRST_A, delivery=NO_RETRY, reputation=ONLY_REPLIES)
    until_known(instance, "a", "b")
    shop.on("rcpt", refuse(A, TOO_FAST))
    send(letter())
    before = until_standing(instance, "a", "mx.shop.test", "throttled")
    wait.until(lambda: shop.peers() == {B: 1}, 10, "b delivers")
    restart(instance, how, lambda: saved(instance, "a")["providers"]["mx.shop.test"]["throttle"] == 0.5)
    assert at(instance, "a", "mx.shop.test") == before
    shop.on("rcpt", lambda *_: None)
    burst(10)
    wait.until(lambda: len(shop.messages) == 11, 10, "what a may not send now takes the other source")
    assert 1 <= shop.peers()[A] <= 5 and shop.peers()[B] >= 6
    assert instance.events(source="a", to="blocked") == []


# ---- how fast -------------------------------------------------------------------------------------------------------

def test_the_first_refusing_reply_is_followed_by_another_egress_within_50_ms(egret, dns):
    """Each message goes to a provider of its own, where nobody is out yet. The log's times, and the median of twenty."""
    receiver = ScriptedReceiver("127.0.6.2", name="mx.many.test").start()
    try:
        for number in range(20):
            dns.a(f"mx.d{number}.test", "127.0.6.2")
            dns.mx(f"d{number}.test", (10, f"mx.d{number}.test"))
        tried = {}
        receiver.on("rcpt", lambda session, to: NAMED_LIST.format(ip=session.peer)
                    if tried.setdefault(to, session.peer) == session.peer else None)
        instance = egret(delivery=NO_RETRY, reputation=ONLY_REPLIES)
        until_known(instance, "a", "b")
        ids = []
        for number in range(20):
            ids.append(send(letter(), f"user@d{number}.test").id)
            wait.until(lambda: len(receiver.messages) == number + 1, 10, "it arrives")
        wait.until(lambda: len(egret_log.lines(instance, message="delivered")) == 20, 5, "the log tells of all of them")
        gaps = []
        for id in ids:
            (refused,) = egret_log.lines(instance, message="failover", id=id)
            (taken,) = egret_log.lines(instance, message="delivered", id=id)
            assert refused["egress"] != taken["egress"] and refused["label"] == "ip_blocked"
            # To the end of the second attempt: an upper bound for its beginning.
            gaps.append(seconds(taken["time"]) - seconds(refused["time"]))
        median = statistics.median(gaps)
        print(f"from refusal to the other's delivery: median {median * 1000:.0f} ms, most {max(gaps) * 1000:.0f} ms")
        assert 0 <= median < 0.05
    finally:
        receiver.stop()


# ---- observing, and the operator's own rules ------------------------------------------------------------------------

def would_have(instance):
    """egret_would_have_total by rule."""
    found = re.findall(r'^egret_would_have_total\{rule="([^"]+)"\} (\d+)', instance.http("/metrics")[2], re.M)
    return {rule: int(count) for rule, count in found}


def both_serve(shop, before=0):
    burst(30)
    wait.until(lambda: len(shop.messages) >= before + 30, 20, "all arrive")
    assert {message.peer for message in shop.messages[before:]} == {A, B}


def test_a_list_that_only_observes_changes_nothing_and_says_what_it_would_have_done(egret, shop, blocklist):
    instance = egret(reputation={"blocklists": {"second": {"zone": "second.test", "weight": 1.0, "mode": "observe"}}})
    until_known(instance, "a", "b")
    blocklist.list(A, zone="second.test")
    event = wait.until(lambda: instance.events(source="a", blocklist="second"), 15, "an event tells of it")[0]
    assert "observed only" in event["action"] and event["rule"] == "blocklist-check"
    shown = instance.source("a")
    assert shown["standing"] == "clean" and shown["score"] == 0 and shown["listings"][0]["blocklist"] == "second"
    assert would_have(instance) == {"blocklist:second": 1}
    both_serve(shop)
    # The list that enforces goes on as ever.
    blocklist.list(A)
    instance.until_listed("a")
    assert would_have(instance) == {"blocklist:second": 1}


def test_in_observe_mode_a_receivers_block_is_told_and_changes_nothing(egret, shop, senders):
    instance = egret(delivery=NO_RETRY, reputation={**ONLY_REPLIES, "mode": "observe", "cooldown": {"first": "1h", "max": "1h"}})
    until_known(instance, "a", "b")
    shop.on("rcpt", lambda session, to: MICROSOFT_BLOCK.format(ip=session.peer) if to.startswith("refused") else None)
    id = send(letter(), "refused@shop.test").id
    wait.until(lambda: senders.messages, 10, "the reply is final, as any relay takes it")
    (attempt,) = instance.message(id)["attempts"]
    assert (attempt["outcome"], attempt["label"]) == ("failed", "ip_blocked")
    (event,) = instance.events(source=attempt["egress"], to="blocked")
    assert "observed only" in event["action"] and event["provider"] == "mx.shop.test"
    assert would_have(instance) == {event["rule"]: 1}
    both_serve(shop)


PARTNER = "550 5.7.1 gate 17 is closed to [{ip}]"  # no shipped rule knows what this means
RULE = {"name": "partner-gate", "match": "gate 17 is closed", "label": "ip_blocked",
        "matches": ["550 5.7.1 gate 17 is closed to [192.0.2.1]"]}


def test_a_rule_that_only_observes_changes_nothing_and_says_what_it_would_have_done(egret, shop, senders):
    instance = egret(delivery=NO_RETRY, reputation={**ONLY_REPLIES, "replies": [{**RULE, "mode": "observe"}]})
    until_known(instance, "a", "b")
    shop.on("rcpt", lambda session, to: PARTNER.format(ip=session.peer) if to.startswith("refused") else None)
    id = send(letter(), "refused@shop.test").id
    wait.until(lambda: senders.messages, 10, "the reply is final, as it would be without the rule")
    (attempt,) = instance.message(id)["attempts"]
    assert attempt["outcome"] == "failed" and attempt["rule"] != "partner-gate"
    event = wait.until(lambda: instance.events(rule="partner-gate"), 5, "an event tells of it")[0]
    assert "observed only" in event["action"] and (event["to"], event["provider"]) == ("blocked", "mx.shop.test")
    assert would_have(instance) == {"partner-gate": 1}
    (line,) = egret_log.lines(instance, message="observed only: a rule would have judged")
    assert (line["rule"], line["label"]) == ("partner-gate", "ip_blocked")
    assert {at(instance, name, "mx.shop.test")["standing"] for name in "ab"} <= {None, "clean"}
    both_serve(shop)


def test_a_rule_of_the_operators_own_judges_from_the_reload_on(egret, shop, senders):
    quiet = {**ONLY_REPLIES, "cooldown": {"first": "1h", "max": "1h"}}
    instance = egret(sources=FIRST_A, delivery=NO_RETRY, reputation=quiet)
    until_known(instance, "a", "b")
    shop.on("rcpt", refuse(A, PARTNER))
    send(letter(marker="before"))
    wait.until(lambda: senders.messages, 10, "without the rule the reply is final")
    assert shop.messages == [] and instance.events(source="a", to="blocked") == []

    instance.configure(sources=FIRST_A, delivery=NO_RETRY, reputation={**quiet, "replies": [{**RULE, "match": "gate ("}]})
    broken = instance.command("reload")
    assert broken.returncode == 1 and "partner-gate" in broken.stderr
    instance.configure(sources=FIRST_A, delivery=NO_RETRY, reputation={**quiet, "replies": [RULE]})
    done = instance.command("reload")
    assert done.returncode == 0, done.stderr
    id = send(letter(marker="after")).id
    wait.until(lambda: shop.with_marker("after"), 10, "it arrives")
    refused, taken = instance.until_state(id, "delivered")["attempts"]
    assert (refused["egress"], refused["label"], refused["rule"]) == ("a", "ip_blocked", "partner-gate")
    assert taken["egress"] == "b" and shop.peers() == {B: 1}
    until_standing(instance, "a", "mx.shop.test", "blocked")
    (event,) = instance.events(source="a", to="blocked")
    assert event["rule"] == "partner-gate" and event["provider"] == "mx.shop.test"
    assert len(senders.messages) == 1
