"""Sources whose address is reached through a proxy: SOCKS5, or a hop that is told in a PROXY header."""

import pytest

from support import wait
from support.egret import B, source
from support.mail import letter, send
from support.proxies import ProxyHop, Socks5

FAR = "127.0.8.1"        # the address of the source, which is the proxy's
PROXY = "127.0.9.1"

# Replies of a SOCKS5 proxy (RFC 1928, section 6).
GENERAL_FAILURE, NOT_ALLOWED, NETWORK_UNREACHABLE, HOST_UNREACHABLE, REFUSED, TTL_EXPIRED = range(1, 7)


@pytest.fixture
def started():
    """started(proxy): runs until the test ends."""
    running = []

    def start(proxy):
        running.append(proxy)
        return proxy.start()

    yield start
    for proxy in running:
        proxy.stop()


def far(via, **more):
    return {"address": FAR, "ehlo": "far.egress.test", "via": via, **more}


def only(via):
    return {"sources": {"far": far(via)}}


def arrived(receiver, count=1):
    wait.until(lambda: len(receiver.messages) >= count, 15, f"{count} messages arrive")
    return receiver.messages[-1]


# -- SOCKS5


def test_mail_leaves_through_a_socks5_proxy(egret, shop, started):
    proxy = started(Socks5(PROXY, egress=FAR))
    egret(**only(f"socks5://{PROXY}:1080"))
    send(letter())
    message = arrived(shop)
    assert (message.peer, message.hello) == (FAR, "far.egress.test")
    (hop,) = proxy.hops
    assert (hop.destination, hop.port) == (shop.address, 25)


def test_a_socks5_proxy_is_told_user_and_password(egret, shop, started):
    proxy = started(Socks5(PROXY, egress=FAR, users={"out:1": "p@ss/word"}))
    egret(**only(f"socks5://out%3A1:p%40ss%2Fword@{PROXY}:1080"))
    send(letter())
    assert arrived(shop).peer == FAR and proxy.logins == [("out:1", "p@ss/word")]


def test_tls_runs_through_a_socks5_proxy(egret, receive_for, authority, started):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    started(Socks5(PROXY, egress=FAR))
    egret(**only(f"socks5://{PROXY}:1080"), delivery={"tls": "required"})
    send(letter())
    message = arrived(shop)
    assert message.tls and message.peer == FAR


def test_one_tunnel_serves_several_messages(egret, shop, started):
    proxy = started(Socks5(PROXY, egress=FAR))
    egret(**only(f"socks5://{PROXY}:1080"), delivery={"connections_per_site": 1})
    for _ in range(5):
        send(letter())
    arrived(shop, 5)
    assert len(proxy.hops) <= 2


# -- a hop that is told in a PROXY header


def test_mail_leaves_through_a_hop_that_is_told_the_address(egret, shop, started):
    hop = started(ProxyHop(PROXY))
    egret(**only(f"haproxy://{PROXY}:8125"))
    send(letter())
    message = arrived(shop)
    assert (message.peer, message.hello) == (FAR, "far.egress.test")
    assert [(one.source, one.destination, one.port) for one in hop.hops] == [(FAR, shop.address, 25)]
    assert hop.headers == [(0x21, 0x11)]


# -- whose fault it is


def fault_of_the_source(instance, reason):
    event = wait.until(lambda: instance.events(rule="source-fault", source="far"), 10, "the event")[0]
    assert reason in event["text"], event
    assert instance.standing("far") not in ("clean", "blocked", "listed"), instance.source("far")
    assert instance.standing("b") in ("clean", "unknown")


def failing_over(egret, via):
    """far is as good as always chosen: its weight is a million times b's."""
    return egret(sources={"far": far(via, weight=1000), "b": source("b", weight=0.001)}, delivery={"retry": ["1h"]})


def the_other_source_takes_it(instance, shop, reason):
    id = send(letter()).id
    assert arrived(shop).peer == B
    outcomes = [(attempt["egress"], attempt["outcome"]) for attempt in instance.until_state(id, "delivered")["attempts"]]
    assert outcomes == [("far", "failover"), ("b", "delivered")]
    fault_of_the_source(instance, reason)
    id = send(letter()).id
    arrived(shop, 2)
    assert [attempt["egress"] for attempt in instance.until_state(id, "delivered")["attempts"]] == ["b"]


@pytest.mark.parametrize("scheme", ["socks5", "haproxy"])
def test_a_proxy_that_is_down_is_the_sources_fault_and_the_other_source_takes_the_message(egret, shop, scheme):
    instance = failing_over(egret, f"{scheme}://{PROXY}:1080")
    the_other_source_takes_it(instance, shop, "proxy")


def test_a_proxy_that_refuses_the_log_in_is_the_sources_fault(egret, shop, started):
    started(Socks5(PROXY, egress=FAR, users={"out1": "right"}))
    the_other_source_takes_it(failing_over(egret, f"socks5://out1:wrong@{PROXY}:1080"), shop, "proxy")


def test_a_proxy_that_wants_a_log_in_that_nobody_gave_is_the_sources_fault(egret, shop, started):
    started(Socks5(PROXY, egress=FAR, users={"out1": "right"}))
    the_other_source_takes_it(failing_over(egret, f"socks5://{PROXY}:1080"), shop, "proxy")


def test_a_proxy_that_does_not_ask_for_the_log_in_is_the_sources_fault(egret, shop, started):
    """A proxy that picks the address by user would send from another one."""
    started(Socks5(PROXY, egress=FAR))
    the_other_source_takes_it(failing_over(egret, f"socks5://out1:right@{PROXY}:1080"), shop, "proxy")


@pytest.mark.parametrize("code", [GENERAL_FAILURE, NOT_ALLOWED])
def test_a_proxy_that_fails_by_its_own_word_is_the_sources_fault(egret, shop, started, code):
    proxy = started(Socks5(PROXY, egress=FAR))
    proxy.reply = code
    the_other_source_takes_it(failing_over(egret, f"socks5://{PROXY}:1080"), shop, "proxy")


def test_something_else_at_the_proxys_address_is_the_sources_fault(egret, shop, receive_for):
    mail_server = receive_for("other.test")
    the_other_source_takes_it(failing_over(egret, f"socks5://{mail_server.address}:25"), shop, "proxy")


def test_a_destination_that_the_proxy_cannot_reach_is_not_the_sources_fault(egret, shop, started):
    proxy = started(Socks5(PROXY, egress=FAR))
    proxy.reply = NETWORK_UNREACHABLE
    instance = egret(**only(f"socks5://{PROXY}:1080"), delivery={"retry": ["200ms"]})
    id = send(letter()).id
    for code in (NETWORK_UNREACHABLE, HOST_UNREACHABLE, REFUSED, TTL_EXPIRED):
        proxy.reply, before = code, len(proxy.hops)
        wait.until(lambda: len(proxy.hops) >= before + 2, 15, "two attempts")
    assert {attempt["outcome"] for attempt in instance.message(id)["attempts"]} == {"deferred"}
    assert instance.events(rule="source-fault") == []
    proxy.reply = None
    arrived(shop)


def test_a_host_that_the_proxy_cannot_reach_gives_way_to_the_next(egret, dns, receive_for, started):
    second = receive_for("next.test")
    dns.a("mx.dead.test", "127.0.2.222")
    dns.mx("shop.test", (10, "mx.dead.test"), (20, "mx.next.test"))
    proxy = started(Socks5(PROXY, egress=FAR))
    egret(**only(f"socks5://{PROXY}:1080"), delivery={"retry": ["1h"]})
    send(letter())
    assert arrived(second).peer == FAR
    assert [hop.destination for hop in proxy.hops] == ["127.0.2.222", second.address]


def test_a_source_whose_proxy_is_back_is_used_again(egret, shop, started):
    instance = egret(**only(f"socks5://{PROXY}:1080"), delivery={"retry": ["1s"]})
    send(letter())
    fault_of_the_source_alone = wait.until(lambda: instance.events(rule="source-fault", source="far"), 10, "the event")
    assert fault_of_the_source_alone and shop.messages == []
    started(Socks5(PROXY, egress=FAR))
    assert arrived(shop).peer == FAR


def test_the_lists_are_asked_about_the_address_behind_the_proxy(egret, shop, started, blocklist):
    started(Socks5(PROXY, egress=FAR))
    instance = egret(**only(f"socks5://{PROXY}:1080"))
    blocklist.list(FAR)
    instance.until_listed("far")


def test_a_via_that_cannot_be_is_refused_with_its_place(egret):
    instance = egret(start=False)
    for via in ("socks5://proxy.test:1080", "http://127.0.9.1:8080", "haproxy://user@127.0.9.1:8125", "socks5://127.0.9.1",
                "socks5://127.0.9.1:0", "socks5://:x@127.0.9.1:1080", "127.0.9.1:1080"):
        instance.configure(**only(via))
        done = instance.check()
        assert done.returncode == 1 and "via: expected socks5://" in done.stdout + done.stderr, via
