"""How lists are asked: pace, TTLs, TCP, keys, quarantine of wildcards; and what DNS says of the sources themselves."""

import collections
import json
import time

import pytest

from support import dns_server, wait
from support.dns_server import DnsServer, reverse
from support.egret import A, B, source
from support.mail import Submitter, letter

OWN_LIST = {"blocklists": {"scripted": {"zone": "scripted.test", "weight": 1.0}}}
KEY = "verysecretkey0123456789"


@pytest.fixture
def scripted(dns):
    """The zone scripted.test with its test point; entries are A records of the suite's own server."""
    dns.a("2.0.0.127.scripted.test", "127.0.0.2")

    def lists(*addresses, code="127.0.0.2"):
        for address in addresses:
            dns.a(f"{reverse(address)}.scripted.test", code)

    return lists


def asked(dns, address, zone="scripted.test", type="A", since=0.0):
    return dns.log(f"{reverse(address)}.{zone}", type, since)


# ---- transport ------------------------------------------------------------------------------------------------------

def test_a_truncated_answer_counts_for_nothing_and_the_truth_comes_by_tcp(egret, dns, scripted):
    """Over UDP everybody seems to be listed; only what TCP says is believed."""
    dns.behave("scripted.test", dns_server.truth_over_tcp_only("127.0.0.2"))
    scripted(A)
    instance = egret(reputation=OWN_LIST)
    instance.until_blocklist("in-service", "scripted")
    instance.until_listed("a")
    assert instance.source("b")["listings"] == []
    assert {question.transport for question in asked(dns, B)} == {"udp", "tcp"}


def test_its_own_servers_are_asked_and_not_those_of_the_system(egret, dns):
    other = DnsServer("127.0.0.54").start()
    try:
        other.a("2.0.0.127.scripted.test", "127.0.0.2")
        other.a(f"{reverse(A)}.scripted.test", "127.0.0.2")
        instance = egret(dns={"servers": ["127.0.0.54:53"]}, reputation=OWN_LIST)
        instance.until_listed("a")
        assert dns.log("scripted.test") == []
    finally:
        other.stop()


def test_a_server_that_is_dead_is_passed_over(egret, dns, scripted):
    scripted(A)
    instance = egret(dns={"servers": ["127.0.0.55:53", "127.0.0.53:53"], "timeout": "200ms"}, reputation=OWN_LIST)
    instance.until_listed("a", timeout=30)


# ---- pace -----------------------------------------------------------------------------------------------------------

def test_64_sources_and_30_lists_start_without_a_burst(egret, dns):
    """Every list and every address is asked, at no more than the configured rate at any time."""
    rate = 100
    lists, zones = {}, [f"l{number}.many.test" for number in range(30)]
    for number, zone in enumerate(zones):
        lists[f"l{number}"] = {"zone": zone}
        dns.a(f"2.0.0.127.{zone}", "127.0.0.2")
    sources = {f"s{n}": {"address": f"127.0.{10 + n}.1", "ehlo": f"s{n}.egress.test"} for n in range(64)}
    instance = egret(sources=sources, pools={"transactional": {"sources": list(sources)}},
                     dns={"timeout": "5s"},  # so that a slow answer is not asked for twice
                     reputation={"interval": "5m", "confirm_interval": "30s", "queries": f"{rate}/s",
                                 "blocklists": {**lists, "bl": {"enabled": False}}})
    names = {f"{reverse(one['address'])}.{zone}" for one in sources.values() for zone in zones}
    wait.until(lambda: names <= {question.name for question in dns.log("many.test")}, 90, "all have been asked",
               interval=0.5)
    times = [question.time for question in dns.log("many.test")]
    per_second = collections.Counter(int(at - times[0]) for at in times)
    print("queries per second after the start:", [per_second[n] for n in range(max(per_second) + 1)])
    most = max(sum(1 for other in times[first:first + 2 * rate] if other < times[first] + 1)
               for first in range(0, len(times), 10))
    # A probe of a list's health is three queries at once, and the clock of a busy machine is not exact.
    assert most <= rate * 1.2
    assert all(len(dns.log(name)) == 1 for name in names), "nothing is asked twice within the interval"
    assert instance.blocklists()["l0"]["queries"] >= 64 + 3
    assert instance.blocklists()["l0"]["every"] == "5m"


def test_a_query_budget_stretches_the_interval_and_says_so_once(egret, dns, scripted):
    instance = egret(reputation={"blocklists": {"scripted": {"zone": "scripted.test", "queries": "60/m"}}})
    instance.until_blocklist("in-service", "scripted")
    (event,) = instance.events(kind="list-budget")
    assert event["blocklist"] == "scripted"
    since = time.monotonic()
    wait.until(lambda: len(asked(dns, A, since=since)) >= 2, 60, "a is still asked about")
    questions = dns.log("scripted.test")
    assert all(sum(1 for other in questions if first.time <= other.time < first.time + 60) <= 62 for first in questions)
    assert len(instance.events(kind="list-budget")) == 1


def test_an_answer_is_not_asked_for_again_before_its_ttl(egret, dns, scripted):
    dns.behave("scripted.test", dns_server.with_ttl(4))
    scripted(A)
    instance = egret(reputation={"interval": "30s", "confirm_interval": "200ms", **OWN_LIST})
    instance.until_listed("a", timeout=25)
    first, second = asked(dns, A)[:2]
    assert 3.9 <= second.time - first.time < 8, "the confirmation waits for the TTL, and no longer"


def test_a_receivers_word_is_followed_within_two_seconds_whatever_the_ttl(egret, dns, scripted, receive_for):
    """The poll has just said "not listed, for an hour": a receiver that names the list knows better."""
    dns.behave("scripted.test", dns_server.with_ttl(3600))
    refusing = receive_for("refusing.test")
    instance = egret(delivery={"retry": ["1h"]}, sources={"a": source("a", weight=100), "b": source("b", weight=1)},
                     reputation={"interval": "1h", **OWN_LIST})
    wait.until(lambda: asked(dns, A) and asked(dns, B), 10, "both were asked about")
    scripted(A)
    refusing.on("rcpt", lambda session, argument: f"554 5.7.1 Service unavailable; Client host [{A}] blocked using "
                                                  "scripted.test" if session.peer == A else None)
    with Submitter() as submitter:
        for _ in range(5):
            submitter.send(letter(), "user@refusing.test")
    wait.until(lambda: instance.events(source="a", to="blocked") or instance.events(source="a", to="listed"), 10,
               "the refusal is seen")
    since = time.monotonic()
    instance.until_listed("a", timeout=2)
    assert time.monotonic() - since < 2
    assert len(asked(dns, A)) == 2, "the poll, and once because of the receiver"


# ---- quarantine -----------------------------------------------------------------------------------------------------

def unrelated_sources(count):
    return {f"s{n}": {"address": f"127.0.{20 + n}.1", "ehlo": f"s{n}.egress.test"} for n in range(count)}


def test_a_list_that_lists_unrelated_addresses_at_once_is_quarantined_until_the_share_falls(egret, dns, scripted):
    """Its test points and a random name are right all the time, so only the share gives it away."""
    sources = unrelated_sources(6)
    addresses = [one["address"] for one in sources.values()]
    instance = egret(sources=sources, pools={"transactional": {"sources": list(sources)}}, reputation=OWN_LIST)
    instance.until_blocklist("in-service", "scripted")
    wait.until(lambda: all(asked(dns, address) for address in addresses), 10, "all are known not to be listed")
    scripted(*addresses)
    instance.until_blocklist("out-of-service", "scripted")
    assert "unrelated" in instance.blocklists()["scripted"]["reason"]
    event = instance.events(kind="list-down", blocklist="scripted")[0]
    assert event["rule"] == "blocklist-wildcard" and "unrelated" in event["text"] and event["action"]
    goal = len(asked(dns, addresses[0])) + 4
    wait.until(lambda: len(asked(dns, addresses[0])) >= goal, 20, "it is asked about the sources all the same")
    assert all(entry["standing"] not in ("listed", "blocked") for entry in instance.sources().values())
    for address in addresses[1:]:
        dns.remove(f"{reverse(address)}.scripted.test")
    instance.until_blocklist("in-service", "scripted", timeout=30)
    instance.until_listed("s0")


def test_two_sources_that_are_listed_together_are_listed(egret, dns, scripted):
    sources = unrelated_sources(2)
    scripted(*[one["address"] for one in sources.values()])
    instance = egret(sources=sources, pools={"transactional": {"sources": list(sources)}}, reputation=OWN_LIST)
    instance.until_listed("s0", "s1")


def test_without_any_list_in_service_there_is_one_alarm_and_nothing_else_changes(egret, dns, shop):
    instance = egret(reputation={"blocklists": {"bl": {"enabled": False}, "scripted": {"zone": "scripted.test"}}})
    instance.until_blocklist("out-of-service", "scripted")
    wait.until(lambda: instance.events(kind="blocklists-down"), 10, "an event says so")
    with Submitter() as submitter:
        for _ in range(20):
            submitter.send(letter())
    instance.until_queue_empty()
    assert set(shop.peers()) == {A, B}
    assert len(instance.events(kind="blocklists-down")) == 1


# ---- hostile answers and secrets ------------------------------------------------------------------------------------

def test_a_hostile_text_is_cleaned_and_cut(egret, dns, scripted):
    scripted(A)
    dns.behave(f"{reverse(A)}.scripted.test", dns_server.hostile_text("127.0.0.2"))
    instance = egret(reputation=OWN_LIST)
    instance.until_listed("a")
    text = instance.source("a")["listings"][0]["text"]
    assert 0 < len(text.encode()) <= 300 and text.isprintable()
    assert "\x1b" not in instance.log() and "\nInjected" not in instance.log()
    assert asked(dns, B, type="TXT") == [], "the reason is asked for only where there is a listing"


@pytest.mark.parametrize("answers", [("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9"), ("127.0.0.4",)])
def test_all_codes_of_an_answer_are_kept(egret, dns, scripted, answers):
    codes = {code: "listed" for code in ("127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.9")}
    dns.a(f"{reverse(A)}.scripted.test", *answers)
    instance = egret(reputation={"blocklists": {"scripted": {"zone": "scripted.test", "codes": codes}}})
    instance.until_listed("a")
    assert sorted(instance.source("a")["listings"][0]["codes"]) == sorted(answers)


def test_an_alias_in_an_answer_is_followed(egret, dns, scripted):
    dns.cname(f"{reverse(A)}.scripted.test", "one.alias.test")
    dns.cname("one.alias.test", "two.alias.test")
    dns.a("two.alias.test", "127.0.0.2")
    instance = egret(reputation=OWN_LIST)
    instance.until_listed("a")


def test_a_key_is_in_the_questions_and_nowhere_else(egret, dns):
    """Even where the list's text quotes the name that was asked for, and when the list is down."""
    zone = f"{KEY}.zen.dq.spamhaus.net"
    dns.a(f"2.0.0.127.{zone}", "127.0.0.2")
    dns.behave(f"{reverse(A)}.{zone}", dns_server.hostile_text("127.0.0.2"))
    instance = egret(reputation={"blocklists": {"zen": {"enabled": True, "key": KEY}}})
    instance.until_listed("a")
    listing = instance.source("a")["listings"][0]
    assert "KEY.zen.dq.spamhaus.net" in listing["text"], "the text is shown, without the key"
    assert dns.log(zone), "the key is in the questions"
    dns.behave(zone, dns_server.servfail)
    instance.until_blocklist("out-of-service", "zen")
    shown = [instance.http(path)[2] for path in
             ("/metrics", "/api/v1/sources", "/api/v1/blocklists", "/api/v1/events", "/api/v1/pools", "/api/v1/queue", "/")]
    shown += [instance.command(*words).stdout for words in
              (("blocklists",), ("blocklists", "--json"), ("sources",), ("sources", "--json"), ("check",))]
    shown += [instance.explain()]
    instance.stop()
    shown.append(instance.log())
    assert all(KEY not in text.lower() for text in shown)
    assert any("KEY.zen.dq.spamhaus.net" in text for text in shown)


def test_a_key_in_a_broken_configuration_is_not_printed(egret):
    instance = egret(start=False, reputation={"blocklists": {"zen": {"enabled": True, "key": KEY + "!"},
                                                             "abusix": {"key": KEY + " x"}}})
    done = instance.check()
    assert done.returncode != 0
    assert KEY not in (done.stdout + done.stderr).lower()


# ---- what DNS says of a source --------------------------------------------------------------------------------------

def test_a_source_with_which_dns_agrees_is_shown_so(egret):
    instance = egret()
    found = wait.until(lambda: instance.source("a")["dns"], 10, "a was looked up")
    assert found == {"ptr": ["a.egress.test"], "forward": True, "ehlo": True, "problems": []}
    assert instance.events(kind="dns-mismatch") == []


def test_what_dns_says_against_a_source_is_told_and_changes_nothing(egret, dns, shop):
    dns.remove(f"{reverse(A)}.in-addr.arpa")
    dns.a("b.egress.test", "127.0.1.99")
    instance = egret()
    wait.until(lambda: {event["source"] for event in instance.events(kind="dns-mismatch")} == {"a", "b"}, 10, "both are told")
    seen = instance.sources()
    assert seen["a"]["dns"]["ptr"] == [] and seen["a"]["dns"]["forward"] is False
    assert "no PTR" in json.dumps(seen["a"]["dns"]["problems"])
    assert seen["b"]["dns"]["forward"] is False and seen["b"]["dns"]["ehlo"] is False
    with Submitter() as submitter:
        for _ in range(20):
            submitter.send(letter())
    instance.until_queue_empty()
    assert set(shop.peers()) == {A, B}
    assert "no PTR" in instance.command("sources").stdout


def test_behind_nat_dns_is_asked_about_the_public_address(egret, dns):
    dns.host("nat.egress.test", "127.0.7.7")
    instance = egret(sources={"a": source("a", public="127.0.7.7", ehlo="nat.egress.test"), "b": source("b")})
    found = wait.until(lambda: instance.source("a")["dns"], 10, "a was looked up")
    assert found["ptr"] == ["nat.egress.test"] and found["problems"] == []
    assert dns.log(f"{reverse(A)}.in-addr.arpa") == []


def test_no_answer_about_a_source_is_no_mismatch(egret, dns):
    dns.behave("in-addr.arpa", dns_server.servfail)
    dns.behave("egress.test", dns_server.servfail)
    instance = egret()
    found = wait.until(lambda: instance.source("b")["dns"], 20, "b was looked up")
    assert (found["forward"], found["ehlo"], found["problems"]) == (None, None, [])
    assert instance.events(kind="dns-mismatch") == []
