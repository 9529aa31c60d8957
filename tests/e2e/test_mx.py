"""Where a domain's mail goes."""

import pytest

from support import dns_server, dsn, wait
from support.mail import Submitter, letter, send
from support.scripted_receiver import ScriptedReceiver


@pytest.fixture
def hosts(dns):
    """hosts(name, ...): a receiver for each name, at an address of its own."""
    started = []

    def make(*names, start=True):
        made = []
        for name in names:
            receiver = ScriptedReceiver(f"127.0.2.{120 + len(started)}", name=name)
            dns.host(name, receiver.address)
            started.append(receiver)
            made.append(receiver.start() if start else receiver)
        return made[0] if len(made) == 1 else made

    yield make
    for receiver in started:
        receiver.stop()


def failed_status(senders):
    wait.until(lambda: senders.messages, 15, "a DSN arrives")
    (recipient,) = dsn.parse(senders.messages[0].data).recipients
    assert recipient["action"] == "failed"
    return recipient["status"]


def test_the_lowest_preference_is_used_while_it_works(egret, dns, hosts):
    first, second = hosts("mx1.test", "mx2.test")
    dns.mx("many.test", (20, "mx2.test"), (10, "mx1.test"))
    egret()
    with Submitter() as submitter:
        for _ in range(10):
            submitter.send(letter(), "user@many.test")
    wait.until(lambda: len(first.messages) == 10, 10, "all arrive")
    assert second.sessions == []


def test_hosts_of_equal_preference_share_the_mail(egret, dns, hosts):
    first, second = hosts("mx1.test", "mx2.test")
    dns.mx("many.test", (10, "mx1.test"), (10, "mx2.test"))
    # A new connection for each message: each is a new draw.
    egret(delivery={"messages_per_connection": 1})
    with Submitter() as submitter:
        for _ in range(40):
            submitter.send(letter(), "user@many.test")
    wait.until(lambda: len(first.messages) + len(second.messages) == 40, 20, "all arrive")
    assert first.messages and second.messages


def test_an_unreachable_first_host_gives_way_to_the_second(egret, dns, hosts):
    _, second = hosts("mx1.test", start=False), hosts("mx2.test")
    dns.mx("many.test", (10, "mx1.test"), (20, "mx2.test"))
    instance = egret(delivery={"retry": ["1h"]})
    send(letter(), "user@many.test")
    wait.until(lambda: second.messages, 15, "the message arrives at the second host")
    # Nobody answered: that is the destination's trouble and says nothing about the source.
    assert all(instance.standing(name) not in ("blocked", "listed", "misconfigured") for name in "ab")


def test_a_first_host_that_turns_everybody_away_gives_way_to_the_second(egret, dns, hosts):
    first, second = hosts("mx1.test", "mx2.test")
    first.on("connect", lambda session, _: "421 4.3.2 Service not available, closing transmission channel")
    dns.mx("many.test", (10, "mx1.test"), (20, "mx2.test"))
    egret(delivery={"retry": ["1h"]})
    send(letter(), "user@many.test")
    wait.until(lambda: second.messages, 15, "the message arrives at the second host")


def test_a_first_host_without_an_address_gives_way_to_the_second(egret, dns, hosts):
    second = hosts("mx2.test")
    dns.mx("many.test", (10, "nowhere.test"), (20, "mx2.test"))
    egret(delivery={"retry": ["1h"]})
    send(letter(), "user@many.test")
    wait.until(lambda: second.messages, 15, "the message arrives at the second host")


def test_a_null_mx_is_a_permanent_failure(egret, dns, senders):
    dns.mx("null.test", (0, "."))
    dns.a("null.test", "127.0.2.120")  # must not be used
    egret()
    send(letter(), "user@null.test")
    assert failed_status(senders) == "5.1.10"
    assert dns.log("null.test", "A") == []


def test_a_domain_without_mx_takes_mail_at_its_own_address(egret, dns, hosts):
    receiver = hosts("bare.test")
    egret()
    send(letter(), "user@bare.test")
    wait.until(lambda: receiver.messages, 10, "the message arrives")


def test_a_domain_that_does_not_exist_is_a_permanent_failure(egret, senders):
    egret()
    send(letter(), "user@missing.test")
    assert failed_status(senders) == "5.1.2"


def test_a_domain_with_neither_mx_nor_address_is_a_permanent_failure(egret, dns, senders):
    dns.txt("text-only.test", "v=spf1 -all")
    egret()
    send(letter(), "user@text-only.test")
    assert failed_status(senders).startswith("5.")


@pytest.mark.parametrize("fault", [dns_server.servfail, dns_server.refused, dns_server.silent],
                         ids=["SERVFAIL", "REFUSED", "silence"])
def test_a_lookup_that_fails_is_tried_again(egret, dns, shop, senders, fault):
    dns.behave("shop.test", fault)
    egret(delivery={"retry": ["500ms"]})
    send(letter())
    wait.until(lambda: len(dns.log("shop.test")) >= 3, 20, "the lookup is repeated")
    dns.behave("shop.test", None)
    wait.until(lambda: shop.messages, 15, "the message arrives")
    assert senders.messages == []


def test_an_mx_that_is_an_alias_still_works(egret, dns, hosts):
    receiver = hosts("real.test")
    dns.cname("alias.test", "real.test")
    dns.mx("aliased.test", (10, "alias.test"))
    egret()
    send(letter(), "user@aliased.test")
    wait.until(lambda: receiver.messages, 10, "the message arrives")


def test_all_hosts_down_keeps_the_message_until_one_is_up(egret, dns, hosts, senders):
    receiver = hosts("mx1.test", start=False)
    dns.mx("down.test", (10, "mx1.test"))
    instance = egret(delivery={"retry": ["500ms"]})
    id = send(letter(), "user@down.test").id
    wait.until(lambda: len(instance.message(id)["attempts"]) >= 2, 15, "two attempts in vain")
    assert all(instance.standing(name, "mx1.test") not in ("blocked", "listed") for name in "ab")
    receiver.start()
    wait.until(lambda: receiver.messages, 15, "the message arrives")
    assert senders.messages == []


def test_private_addresses_are_no_destination_unless_allowed(egret, dns, shop, senders):
    """A stranger's MX that points at the inside must not make Egret knock there."""
    instance = egret(delivery={"allow_private": False})
    # sender.test is at a loopback address as well, so no DSN can arrive: the attempt itself is what shows.
    id = send(letter()).id
    wait.until(lambda: instance.message(id)["attempts"] or instance.message(id)["recipients"][0]["state"] == "failed",
               10, "an attempt is over")
    assert dns.log("mx.shop.test", "A") and shop.sessions == []
