"""Where a domain's mail goes."""

import pytest

from support import dns_server, dsn, wait
from support.egret import source
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


def test_a_null_mx_beside_others_is_a_mistake_of_the_zone_and_ignored(egret, dns, hosts):
    receiver = hosts("mx1.test")
    dns.mx("muddled.test", (0, "."), (10, "mx1.test"))
    egret()
    send(letter(), "user@muddled.test")
    wait.until(lambda: receiver.messages, 10, "the message arrives")


def test_a_domain_whose_exchangers_have_no_address_gets_nothing_at_its_own(egret, dns, hosts, senders):
    """The implicit MX is for domains without MX records, not for those with broken ones (RFC 5321, section 5.1)."""
    own = hosts("broken.test")
    dns.mx("broken.test", (10, "nowhere.test"))
    egret()
    send(letter(), "user@broken.test")
    assert failed_status(senders).startswith("5.")
    assert own.sessions == [] and dns.log("broken.test", "A") == []


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


def test_a_domain_that_is_an_alias_takes_the_mail_of_what_it_stands_for(egret, dns, shop):
    dns.cname("other-name.test", "shop.test")
    egret()
    send(letter(), "user@other-name.test")
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].recipients == ("user@other-name.test",)


def test_a_domain_that_is_an_alias_of_a_host_takes_mail_there(egret, dns, hosts):
    receiver = hosts("real.test")
    dns.cname("bare-alias.test", "real.test")
    egret()
    send(letter(), "user@bare-alias.test")
    wait.until(lambda: receiver.messages, 10, "the message arrives")


def test_aliases_in_a_ring_end(egret, dns, senders):
    dns.cname("ring1.test", "ring2.test")
    dns.cname("ring2.test", "ring1.test")
    instance = egret()
    id = send(letter(), "user@ring1.test").id
    wait.until(lambda: instance.message(id)["attempts"] or senders.messages, 15, "a verdict")


def test_a_host_whose_address_cannot_be_had_does_not_stop_the_others(egret, dns, hosts):
    second = hosts("mx2.test")
    dns.behave("mx1.test", dns_server.servfail)
    dns.mx("half.test", (10, "mx1.test"), (20, "mx2.test"))
    egret(delivery={"retry": ["1h"]})
    send(letter(), "user@half.test")
    wait.until(lambda: second.messages, 10, "the message arrives at the second host")


def test_several_addresses_of_a_host_are_tried_in_one_round(egret, dns, hosts):
    receiver = hosts("mx1.test")
    dns.a("mx1.test", "127.0.2.191", "127.0.2.192", "127.0.2.193", receiver.address)
    dns.mx("wide.test", (10, "mx1.test"))
    egret(delivery={"retry": ["1h"], "messages_per_connection": 1})
    with Submitter() as submitter:
        for _ in range(8):
            submitter.send(letter(), "user@wide.test")
    wait.until(lambda: len(receiver.messages) == 8, 15, "all arrive, whichever address was drawn first")


def test_several_addresses_of_a_host_share_the_mail(egret, dns, hosts):
    first, second = hosts("mx1.test", "mx2.test")
    dns.a("mx1.test", first.address, second.address)
    dns.mx("wide.test", (10, "mx1.test"))
    egret(delivery={"messages_per_connection": 1})
    with Submitter() as submitter:
        for _ in range(40):
            submitter.send(letter(), "user@wide.test")
    wait.until(lambda: len(first.messages) + len(second.messages) == 40, 20, "all arrive")
    assert first.messages and second.messages


def test_hundreds_of_exchangers_are_no_trouble(egret, dns, hosts):
    receiver = hosts("mx1.test")
    dns.mx("vast.test", (1, "mx1.test"), *((10 + number, f"mx{number}.vast.test") for number in range(300)))
    egret()
    send(letter(), "user@vast.test")
    wait.until(lambda: receiver.messages, 15, "the message arrives")
    assert len(dns.log("vast.test", "A")) < 50


# -- loops


def test_a_domain_whose_only_exchanger_is_this_host_is_a_loop(egret, dns, senders):
    dns.mx("loop.test", (10, "a.egress.test"))
    egret()
    send(letter(), "user@loop.test")
    assert failed_status(senders) == "5.4.6"


def test_exchangers_that_are_not_better_than_this_host_are_not_used(egret, dns, hosts, senders):
    worse = hosts("mx1.test", "mx2.test")
    dns.mx("loop.test", (10, "b.egress.test"), (10, "mx1.test"), (20, "mx2.test"))
    egret()
    send(letter(), "user@loop.test")
    assert failed_status(senders) == "5.4.6"
    assert [receiver.sessions for receiver in worse] == [[], []]


def test_exchangers_that_are_better_than_this_host_are_used_and_no_others(egret, dns, hosts):
    better, worse = hosts("mx1.test", start=False), hosts("mx2.test")
    dns.mx("backup.test", (5, "mx1.test"), (10, "a.egress.test"), (10, "mx2.test"))
    instance = egret(delivery={"retry": ["500ms"]})
    id = send(letter(), "user@backup.test").id
    wait.until(lambda: len(instance.message(id)["attempts"]) >= 2, 15, "two attempts in vain")
    better.start()
    wait.until(lambda: better.messages, 15, "the message arrives")
    assert worse.sessions == []


def test_the_address_that_the_world_sees_counts_as_ones_own(egret, dns, senders):
    dns.host("nat.test", "127.0.2.199")
    dns.mx("loop.test", (10, "nat.test"))
    egret(sources={"a": source("a", public="127.0.2.199")})
    send(letter(), "user@loop.test")
    assert failed_status(senders) == "5.4.6"


def test_an_address_that_is_listened_on_for_mail_counts_as_ones_own(egret, dns, senders):
    """Also where a listener takes every address of the host: the mail must not come back to be refused after 50 rounds."""
    dns.host("here.test", "127.0.0.1")
    dns.mx("loop.test", (10, "here.test"))
    instance = egret(listeners=[{"address": "127.0.0.1:2525", "class": "transactional", "allow": ["127.0.0.0/8"]},
                                {"address": "0.0.0.0:2626", "class": "transactional", "allow": ["127.0.0.0/8"]}],
                     delivery={"port": 2626}, routes=[{"domain": "sender.test", "to": f"{senders.address}:25"}])
    send(letter(), "user@loop.test")
    assert failed_status(senders) == "5.4.6"
    assert instance.log().count('"message":"accepted"') == 1


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


INSIDE = ["127.0.2.120", "10.0.0.1", "192.168.1.1", "172.16.5.5", "169.254.169.254", "0.0.0.0", "100.64.0.1"]


def test_a_private_address_is_refused_at_once(egret, dns):
    instance = egret(delivery={"allow_private": False})
    for number, address in enumerate(INSIDE):
        dns.mx(f"inside{number}.test", (10, f"mx.inside{number}.test"))
        dns.a(f"mx.inside{number}.test", address)
        id = send(letter(), f"user@inside{number}.test").id
        assert "5.4.4" in instance.until_state(id, "failed")["attempts"][-1]["reply"], address
    assert "private" in instance.route(to="user@inside0.test")["hold"]["reason"]


def test_the_private_address_of_a_host_is_left_out_beside_others(egret, dns):
    dns.mx("mixed.test", (10, "mx.mixed.test"))
    dns.a("mx.mixed.test", "127.0.2.120", "192.0.2.1")
    dns.mx("inside.test", (10, "mx.inside.test"), (20, "mx.mixed.test"))
    dns.a("mx.inside.test", "10.0.0.1")
    instance = egret(delivery={"allow_private": False})
    assert [rule["host"] for rule in instance.route(to="user@inside.test")["tls"]] == ["mx.mixed.test"]


def test_an_address_literal_is_taken_where_private_addresses_are(egret, hosts):
    receiver = hosts("mx1.test")
    egret()
    send(letter(), f"user@[{receiver.address}]")
    wait.until(lambda: receiver.messages, 10, "the message arrives")


def test_an_address_literal_of_the_inside_is_refused(egret):
    instance = egret(delivery={"allow_private": False})
    for literal in ("127.0.2.120", "169.254.169.254", "IPv6:::1", "IPv6:::ffff:127.0.0.1", "IPv6:fe80::1"):
        instance.until_state(send(letter(), f"user@[{literal}]").id, "failed")
