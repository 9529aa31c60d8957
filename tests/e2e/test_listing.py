"""A listed source leaves service by itself, loses no mail, and comes back when it is delisted."""

import re
import time

from support import wait
from support.egret import A, B, source
from support.mail import Submitter, letter, marker_of, send
from support.traffic import Traffic

# A first wait so long that only failover within the round can deliver in time.
NO_RETRY = {"retry": ["1h"]}


def delivered_by(message):
    """The address from which a Maildir message reached Postfix, from the Received header that Postfix wrote."""
    return re.search(rb"^Received: from \S+ \(\S+ \[([\d.]+)\]\)\s+by mx\.", message, re.M).group(1).decode()


def polled_for_now(instance, dns):
    """With an interval of an hour, and everything just asked, no poll comes between a listing and the next mail."""
    instance.until_blocklist("in-service")
    since = time.monotonic()
    instance.recheck()
    for name in ("1.1.0.127.bl.test", "2.1.0.127.bl.test"):
        wait.until(lambda: dns.log(name, "A", since), 10, f"{name} is asked")


def in_service(instance, name):
    return instance.standing(name) not in ("listed", "blocked", "misconfigured", "drained")


def test_listing_a_source_while_mail_flows_moves_all_mail_to_the_other(egret, postfix, blocklist, senders):
    instance = egret()
    instance.until_blocklist("in-service")
    with Traffic("user@strict.test", pause=0.03) as traffic:
        traffic.until_acknowledged(30)
        blocklist.list(A)
        instance.until_listed("a")
        since = len(traffic.sent)
        traffic.until_acknowledged(40)
    instance.until_queue_empty()
    wait.until(lambda: len(postfix.messages("user@strict.test")) >= len(traffic.sent), 10, "Postfix has put all in the mailbox")
    arrived = {}
    for message in postfix.messages("user@strict.test"):
        arrived.setdefault(marker_of(message), []).append(delivered_by(message))
    assert {sent.marker for sent in traffic.sent} == set(arrived), "messages lost, or from nowhere"
    assert all(len(copies) == 1 for copies in arrived.values()), "messages arrived twice"
    assert traffic.refusals == [] and senders.messages == [], "messages refused or bounced"
    assert {arrived[sent.marker][0] for sent in traffic.sent[:since]} == {A, B}, "both were in use before"
    assert {arrived[sent.marker][0] for sent in traffic.sent[since:]} == {B}, "the listed source got new mail"


def test_polling_alone_moves_the_mail_where_no_receiver_ever_objects(egret, shop, blocklist):
    instance = egret()
    instance.until_blocklist("in-service")
    with Traffic() as traffic:
        wait.until(lambda: set(shop.peers()) == {A, B}, 10, "both sources send")
        blocklist.list(A)
        instance.until_listed("a")
        since = len(traffic.sent)
        traffic.until_acknowledged(50)
    instance.until_queue_empty()
    later = {sent.marker for sent in traffic.sent[since:]}
    assert {message.peer for message in shop.messages if marker_of(message.data) in later} == {B}
    assert len(shop.messages) == len(traffic.sent)


def test_a_listing_is_shown_with_its_list_its_text_and_an_event(egret, blocklist):
    instance = egret()
    blocklist.list(A, text="https://bl.test/why")
    instance.until_listed("a")
    shown = instance.source("a")
    (listing,) = shown["listings"]
    assert listing["blocklist"] == "bl" and listing["codes"] == ["127.0.0.2"]
    assert listing["text"] == "https://bl.test/why"
    assert listing["first_seen"] <= listing["last_seen"]
    assert (shown["score"], shown["share"], shown["address"]) == (1.0, 0, A)
    assert instance.source("b")["listings"] == [] and in_service(instance, "b")
    assert instance.blocklists()["bl"]["listed"] == ["a"]
    (event,) = instance.events(source="a", to="listed")
    assert event["blocklist"] == "bl" and event["rule"] and event["from"] != "listed"


def test_a_delisted_source_returns(egret, shop, blocklist):
    instance = egret()
    blocklist.list(A)
    instance.until_listed("a")
    blocklist.delist(A)
    instance.until_not_listed("a")

    def sends_again():
        send(letter())
        return A in shop.peers()

    wait.until(sends_again, 20, "the returned source sends", interval=0.1)
    # Successes are what ends trial and warming, so mail goes on.
    wait.until(lambda: sends_again() and instance.standing("a") == "clean", 20, "trial and warming are over",
               interval=0.1)
    assert [event["from"] for event in instance.events(source="a") if event["from"] == "listed"]


def test_postfixs_own_554_moves_the_same_message_to_the_other_source(egret, postfix, blocklist, senders, dns):
    """The listing has not been polled yet, and will not be for an hour: the receiver is the first to say so."""
    instance = egret(delivery=NO_RETRY, reputation={"interval": "1h"}, sources={
        "a": source("a", weight=100), "b": source("b", weight=1)})
    polled_for_now(instance, dns)
    blocklist.list(A)
    with Submitter() as submitter:
        ids = [submitter.send(letter(), "user@strict.test").id for _ in range(5)]
    instance.until_queue_empty()
    wait.until(lambda: len(postfix.messages("user@strict.test")) == 5, 10, "Postfix has put all in the mailbox")
    assert [delivered_by(message) for message in postfix.messages("user@strict.test")] == [B] * 5
    assert senders.messages == []
    failed_over = [message for message in map(instance.message, ids) if len(message["attempts"]) > 1]
    assert failed_over, "no message was tried by the listed source"
    refused, taken = failed_over[0]["attempts"]
    assert (refused["egress"], refused["label"]) == ("a", "ip_blocked")
    assert "blocked using bl.test" in refused["reply"] and refused["rule"]
    assert (taken["egress"], failed_over[0]["recipients"][0]["state"]) == ("b", "delivered")
    # The reply named a list that Egret knows, so that was asked at once.
    instance.until_listed("a")
    assert [event for event in instance.events(source="a") if event["to"] in ("blocked", "listed")]


def test_postfixs_554_in_place_of_the_greeting_moves_the_message_too(egret, postfix, blocklist, dns):
    instance = egret(delivery=NO_RETRY, reputation={"interval": "1h"}, sources={
        "a": source("a", weight=100), "b": source("b", weight=1)})
    polled_for_now(instance, dns)
    blocklist.list(A)
    with Submitter() as submitter:
        for _ in range(5):
            submitter.send(letter(), "user@early.test")
    instance.until_queue_empty()
    wait.until(lambda: len(postfix.messages("user@early.test")) == 5, 10, "Postfix has put all in the mailbox")
    assert [delivered_by(message) for message in postfix.messages("user@early.test")] == [B] * 5
    instance.until_listed("a")


def test_weights_of_lists_add_up_to_the_threshold(egret, blocklist, dns):
    instance = egret(reputation={"blocklists": {"bl": {"zone": "bl.test", "weight": 0.5},
                                                "second": {"zone": "second.test", "weight": 0.5}}})
    instance.until_blocklist("in-service", "second")
    blocklist.list(A)
    wait.until(lambda: instance.source("a")["score"] == 0.5, 10, "the first listing counts")
    assert in_service(instance, "a") and instance.source("a")["listings"]
    blocklist.list(A, zone="second.test")
    instance.until_listed("a")
    assert instance.source("a")["score"] == 1.0


def test_a_policy_listing_is_a_misconfiguration_of_the_source(egret, shop, blocklist):
    instance = egret(reputation={"blocklists": {"bl": {
        "zone": "bl.test", "weight": 1.0, "codes": {"127.0.0.2": "listed", "127.0.0.10": "policy"}}}})
    blocklist.list(A, code="127.0.0.10")
    wait.until(lambda: instance.standing("a") == "misconfigured", 15, "a is misconfigured")
    with Submitter() as submitter:
        for _ in range(10):
            submitter.send(letter())
    instance.until_queue_empty()
    assert shop.peers() == {B: 10}


def test_behind_nat_the_public_address_is_asked_about(egret, blocklist, dns):
    instance = egret(sources={"a": source("a", public="127.0.1.77"), "b": source("b")})
    blocklist.list("127.0.1.77")
    instance.until_listed("a")
    assert dns.log("1.1.0.127.bl.test") == []


def test_in_observe_mode_a_listing_is_reported_and_changes_nothing(egret, shop, blocklist):
    instance = egret(reputation={"mode": "observe"})
    blocklist.list(A, B)
    wait.until(lambda: {event["source"] for event in instance.events(blocklist="bl")} >= {"a", "b"}, 15,
               "both listings are reported")
    with Submitter() as submitter:
        for _ in range(30):
            submitter.send(letter())
    wait.until(lambda: len(shop.messages) == 30, 20, "30 messages arrive")
    assert set(shop.peers()) == {A, B}


def test_a_listed_source_is_still_listed_after_a_restart(egret, shop, blocklist, dns):
    instance = egret()
    blocklist.list(A)
    instance.until_listed("a")
    instance.stop()
    with dns.outage():  # so the restarted one cannot have learned it anew
        instance.start()
        assert instance.standing("a") == "listed"
