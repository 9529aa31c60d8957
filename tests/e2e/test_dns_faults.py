"""No answer but a real listing ever takes a source out of service, and a DNS outage changes nothing at all."""

import time

import pytest

from support import dns_server, wait
from support.egret import A, B
from support.mail import Submitter, letter, send

# What the zone second.test does once it is broken. It lists everybody, nobody, or says something else altogether.
FAULTS = {
    "a dead list": dns_server.nxdomain,
    "a wildcard list": dns_server.always("127.0.0.2"),
    "a list that answers 127.255.255.254": dns_server.always("127.255.255.254"),
    "a list that answers 127.255.255.255 and a listing": dns_server.always("127.255.255.255", "127.0.0.2"),
    "a list that answers 127.0.0.1": dns_server.always("127.0.0.1"),
    "a parked zone that answers outside 127/8": dns_server.always("198.51.100.66"),
    "SERVFAIL": dns_server.servfail,
    "REFUSED": dns_server.refused,
    "a list that never answers": dns_server.silent,
}
TWO_LISTS = {"blocklists": {"second": {"zone": "second.test", "weight": 1.0}}}


def rounds(dns, zone, source_address="127.0.1.1"):
    """How often the list has been asked about the source."""
    return len(dns.log(f"{dns_server.reverse(source_address)}.{zone}", "A"))


def until_more_rounds(dns, count, zone="bl.test"):
    goal = rounds(dns, zone) + count
    wait.until(lambda: rounds(dns, zone) >= goal, 20, f"{zone} is asked {count} more times")


def both_sources_serve(instance, shop):
    assert [event for event in instance.events() if event["to"] in ("listed", "blocked", "misconfigured")] == []
    assert {instance.standing(name) for name in "ab"} & {"listed", "blocked", "misconfigured", "drained"} == set()
    before = dict(shop.peers())
    with Submitter() as submitter:
        for _ in range(24):
            submitter.send(letter())
    instance.until_queue_empty()
    assert all(shop.peers().get(peer, 0) > before.get(peer, 0) for peer in (A, B)), shop.peers()


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_list_that_breaks_while_in_service_goes_out_of_service_and_changes_nothing(egret, shop, dns, fault):
    instance = egret(reputation=TWO_LISTS)
    instance.until_blocklist("in-service", "second")
    until_more_rounds(dns, 1, "second.test")
    dns.behave("second.test", fault)
    instance.until_blocklist("out-of-service", "second")
    until_more_rounds(dns, 3)
    # An answer that came before the list was seen to be broken is not confirmed any more, and withdrawn after an interval.
    wait.until(lambda: instance.blocklists()["second"]["listed"] == [], 10, "it lists nobody")
    shown = instance.blocklists()
    assert shown["second"]["state"] == "out-of-service" and shown["second"]["reason"]
    assert shown["bl"]["state"] == "in-service"
    assert instance.events(blocklist="second"), "no event says that the list is down"
    both_sources_serve(instance, shop)
    dns.behave("second.test", None)
    instance.until_blocklist("in-service", "second", timeout=30)


@pytest.mark.parametrize("fault", [FAULTS["a dead list"], FAULTS["a wildcard list"],
                                   FAULTS["a list that never answers"]],
                         ids=["dead", "wildcard", "silent"])
def test_a_list_that_was_broken_from_the_start_never_enters_service(egret, shop, dns, fault):
    dns.behave("second.test", fault)
    instance = egret(reputation=TWO_LISTS)
    instance.until_blocklist("in-service", "bl")
    until_more_rounds(dns, 3)
    assert instance.blocklists()["second"]["state"] in ("out-of-service", "unknown")
    both_sources_serve(instance, shop)


def test_an_empty_zone_of_rbldnsd_is_a_dead_list(egret, shop, blocklist):
    blocklist.kill_zone("second.test")
    instance = egret(reputation=TWO_LISTS)
    instance.until_blocklist("out-of-service", "second")
    both_sources_serve(instance, shop)
    blocklist.revive_zone("second.test")
    instance.until_blocklist("in-service", "second", timeout=30)


def test_a_code_that_the_list_does_not_define_is_no_listing(egret, shop, blocklist, dns):
    instance = egret()
    blocklist.list(A, B, code="127.0.0.99")
    instance.until_blocklist("in-service")
    until_more_rounds(dns, 3)
    assert instance.blocklists()["bl"]["state"] == "in-service"
    both_sources_serve(instance, shop)


def test_old_listings_of_a_list_that_died_stop_counting(egret, blocklist, dns):
    instance = egret(reputation=TWO_LISTS)
    blocklist.list(A, zone="second.test")
    instance.until_listed("a")
    blocklist.kill_zone("second.test")
    instance.until_blocklist("out-of-service", "second")
    instance.until_not_listed("a")


def test_an_answer_that_is_truncated_over_udp_is_asked_again_over_tcp(egret, shop, blocklist, dns):
    for name in ("bl.test", "shop.test"):
        dns.behave(name, dns_server.truncated_over_udp)
    instance = egret()
    instance.until_blocklist("in-service")
    blocklist.list(A)
    instance.until_listed("a")
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert [question.transport for question in dns.log("shop.test", "MX")][:2] == ["udp", "tcp"]


def test_a_listed_source_stays_listed_and_a_clean_one_clean_during_a_dns_outage(egret, shop, blocklist, dns):
    instance = egret()
    blocklist.list(A)
    instance.until_listed("a")
    with dns.outage():
        since = time.monotonic()
        held = send(letter(marker="during"))
        # Many rounds without a single answer, well past every interval and cool-down.
        wait.until(lambda: len(dns.log("bl.test", since=since)) >= 12, 30, "the lists are asked in vain")
        wait.until(lambda: dns.log("shop.test", since=since), 10, "the destination is asked for in vain")
        assert instance.standing("a") == "listed"
        assert instance.standing("b") not in ("listed", "blocked", "misconfigured", "unknown")
        assert instance.message(held.id)["recipients"][0]["state"] not in ("delivered", "failed")
    wait.until(lambda: shop.with_marker("during"), 20, "the message arrives when DNS is back")
    assert {message.peer for message in shop.messages} == {B}
    assert instance.standing("a") == "listed"
    blocklist.delist(A)
    instance.until_not_listed("a")


def test_a_dns_outage_takes_no_source_out(egret, shop, dns):
    instance = egret()
    instance.until_blocklist("in-service")
    with dns.outage():
        since = time.monotonic()
        wait.until(lambda: len(dns.log("bl.test", since=since)) >= 12, 30, "the lists are asked in vain")
        assert {instance.standing(name) for name in "ab"} & {"listed", "blocked", "misconfigured"} == set()
    instance.until_blocklist("in-service", timeout=30)
    both_sources_serve(instance, shop)
