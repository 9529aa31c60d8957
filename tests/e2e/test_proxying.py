"""Clients behind somebody else: XCLIENT, XFORWARD and the PROXY protocol, and who is believed."""

import re
import socket
import struct
import subprocess
import time

import pytest

from support import wait
from support.listeners import CLASSES, POOLS, certificate, listener
from support.mail import letter, receipt, send, trace_field
from support.postfix import Postfix
from support.raw_smtp import RawSmtp, stuffed
from support.tls_client import TlsSmtp, trusting

FRONT, STRANGER = "127.0.7.1", "127.0.9.9"  # the front may speak for others, the stranger may not
NETWORK = ["127.0.7.0/24"]
ALLOWED = ["127.0.0.1/32", "192.0.2.0/24", "2001:db8::/32"]


def offered(reply):
    return {line[4:].split(" ")[0] for line in reply.splitlines()}


def submit(client, marker="m", to="user@shop.test"):
    client.envelope("app@sender.test", to)
    client.send(stuffed(letter(marker=marker)))
    return receipt(client.reply()).id


def may_relay(client):
    assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
    reply = client.ask("RCPT TO:<user@shop.test>")
    assert client.ask("RSET").startswith("250")
    return reply.startswith("250")


# -- XCLIENT


@pytest.fixture
def believing(egret):
    """believing(listener settings, sections): an Egret that believes XCLIENT and XFORWARD of the front."""
    def make(settings=None, **sections):
        return egret(listeners=[listener(**{"xclient": NETWORK, "allow": ALLOWED, **(settings or {})})], **sections)
    return make


def test_xclient_and_xforward_are_offered_to_listed_networks_and_refused_to_all_others(believing):
    believing()
    with RawSmtp(source=FRONT) as client:
        assert {"XCLIENT", "XFORWARD"} <= offered(client.hello())
    with RawSmtp() as client:
        assert not {"XCLIENT", "XFORWARD"} & offered(client.hello())
        assert client.ask("XCLIENT ADDR=192.0.2.1").startswith("550 5.7.0")
        assert client.ask("XFORWARD ADDR=192.0.2.1").startswith("550 5.7.0")
        assert client.ask("NOOP").startswith("250")


def test_xclient_replaces_the_client_for_access_log_and_trace(believing, shop):
    instance = believing()
    with RawSmtp(source=FRONT) as client:
        client.hello()
        assert not may_relay(client)
        assert client.ask("XCLIENT ADDR=192.0.2.1 NAME=real.test HELO=real.test").startswith("220 relay.test ")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("503")  # the session has begun anew
        assert client.ask("EHLO real.test").startswith("250")
        submit(client, "v4")
        # The same connection then serves another client.
        assert client.ask("XCLIENT ADDR=IPV6:2001:db8::7 NAME=[UNAVAILABLE]").startswith("220")
        assert client.ask("EHLO six.test").startswith("250")
        submit(client, "v6")
        assert client.ask("XCLIENT ADDR=198.51.100.1").startswith("220")
        assert client.ask("EHLO stranger.test").startswith("250")
        assert not may_relay(client)
    wait.until(lambda: len(shop.messages) == 2, 10, "both arrive")
    (v4,), (v6,) = shop.with_marker("v4"), shop.with_marker("v6")
    assert "from real.test ([192.0.2.1]) by relay.test" in trace_field(v4.data)
    assert "from six.test ([IPv6:2001:db8::7]) by relay.test" in trace_field(v6.data)
    assert re.search(r'"accepted".*"client":"192\.0\.2\.1"', instance.log())


def test_an_xclient_without_a_known_address_has_nobodys_rights(egret):
    egret(listeners=[listener(xclient=NETWORK, allow=["127.0.0.0/8"])])
    with RawSmtp(source=FRONT) as client:
        client.hello()
        assert client.ask("XCLIENT ADDR=[UNAVAILABLE] NAME=[UNAVAILABLE]").startswith("220")
        assert client.ask("EHLO unknown.test").startswith("250")
        assert not may_relay(client), "the front's own rights were lent to a client that nobody knows"


def test_an_xclient_login_counts_as_a_log_in(believing, tmp_path, shop):
    users = tmp_path / "users"
    users.write_text("app:$6$salt$" + "a" * 86 + ":class=bulk\n")
    instance = believing({"auth": "required"}, users=str(users), classes=CLASSES, pools=POOLS)
    with RawSmtp(source=FRONT) as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("530")
        assert client.ask("XCLIENT ADDR=198.51.100.1 LOGIN=app").startswith("220")
        assert client.ask("EHLO real.test").startswith("250")
        id = submit(client)
        assert instance.message(id)["class"] == "bulk"
        assert client.ask("XCLIENT ADDR=198.51.100.1 LOGIN=[UNAVAILABLE]").startswith("220")
        assert client.ask("EHLO real.test").startswith("250")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("530")
    wait.until(lambda: shop.messages, 10, "it arrives")
    assert " with ESMTPA id " in trace_field(shop.messages[0].data)


def test_attributes_that_are_not_what_they_should_be_are_refused_and_change_nothing(believing):
    believing()
    with RawSmtp(source=FRONT) as client:
        client.hello()
        for wrong in ("", " ADDR=192.0.2.300", " ADDR=", " UNHEARD=of", " PORT=70000", " NAME=a+0D+0Ab", " PROTO=HTTP"):
            assert client.ask("XCLIENT" + wrong).startswith("501"), wrong
        assert not may_relay(client)
    with RawSmtp(source=FRONT) as client:
        client.hello()
        for wrong in ("", " ADDR=nowhere", " IDENT=+00", " LOGIN=app"):
            assert client.ask("XFORWARD" + wrong).startswith("501"), wrong
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("XCLIENT ADDR=192.0.2.1").startswith("503")
        assert client.ask("XFORWARD ADDR=192.0.2.1").startswith("503")


def test_the_rate_of_a_client_is_that_of_the_one_who_is_spoken_for(believing):
    believing(limits={"rate_per_client": "1/h"})
    with RawSmtp(source=FRONT) as client:
        client.hello()
        for address, first in (("192.0.2.1", True), ("192.0.2.2", True), ("192.0.2.1", False)):
            assert client.ask(f"XCLIENT ADDR={address}").startswith("220")
            assert client.ask("EHLO real.test").startswith("250")
            reply = client.ask("MAIL FROM:<app@sender.test>")
            assert reply.startswith("250" if first else "450 4.7.1 client 192.0.2.1 ")
            if first:
                assert client.ask("RCPT TO:<user@shop.test>").startswith("250")
                client.ask("RSET")


def test_swaks_speaks_xclient(believing, shop):
    believing()
    done = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", "2525", "--local-interface", FRONT, "--from",
                           "app@sender.test", "--to", "user@shop.test", "--xclient-addr", "192.0.2.44", "--xclient-name",
                           "real.test", "--xclient-helo", "real.test"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    wait.until(lambda: shop.messages, 10, "it arrives")
    assert "([192.0.2.44])" in trace_field(shop.messages[0].data)


# -- XFORWARD


def test_xforward_names_the_origin_in_the_log_for_one_transaction_and_gives_no_rights(believing, shop):
    instance = believing()
    with RawSmtp(source=FRONT) as client:
        client.hello()
        assert client.ask("XFORWARD NAME=origin.test ADDR=192.0.2.1").startswith("250")
        assert not may_relay(client)
    with RawSmtp(source=FRONT) as client:
        client.hello()
        client.ask("XCLIENT ADDR=192.0.2.9")
        client.ask("EHLO front.test")
        # Postfix spreads its attributes over more than one command.
        assert client.ask("XFORWARD NAME=origin+2Etest ADDR=192.0.2.1 HELO=helo.test").startswith("250")
        assert client.ask("XFORWARD IDENT=4bXQZ71Wz9z1 SOURCE=REMOTE PROTO=ESMTP PORT=4711").startswith("250")
        first, second = submit(client, "first"), submit(client, "second")
        assert client.ask("XFORWARD IDENT=forgotten").startswith("250")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("RSET").startswith("250")
        third = submit(client, "third")
    wait.until(lambda: all(f'"id":"{id}"' in instance.log() for id in (first, second, third)), 10, "the log has all of them")
    log = {id: next(line for line in instance.log().splitlines() if '"accepted"' in line and id in line)
           for id in (first, second, third)}
    for field in ('"origin_id":"4bXQZ71Wz9z1"', '"origin_client":"192.0.2.1"', '"origin_name":"origin.test"',
                  '"origin_helo":"helo.test"'):
        assert field in log[first]
    assert '"client":"192.0.2.9"' in log[first]
    assert "origin" not in log[second]
    assert "origin" not in log[third], "RSET ends the transaction for which XFORWARD spoke"
    wait.until(lambda: len(shop.messages) == 3, 10, "all arrive")


@pytest.fixture
def postfix_in_front(work, dns_session):
    """A Postfix at the front's address that hands everything to Egret, with XFORWARD."""
    front = Postfix(work / "postfix-front", "front.test", {FRONT: {"smtpd_authorized_xforward_hosts": "127.0.0.0/8"}},
                    {"relayhost": "[127.0.0.1]:2525", "mynetworks": "127.0.0.0/8", "smtp_bind_address": FRONT,
                     "smtp_send_xforward_command": "yes"})
    front.start()
    yield front
    front.stop()


def test_postfix_in_front_names_its_own_queue_id_by_xforward(believing, postfix_in_front, shop):
    instance = believing({"allow": NETWORK})
    with RawSmtp(FRONT, 25) as client:
        client.hello("origin.test")
        client.envelope("app@sender.test", "user@shop.test")
        client.send(stuffed(letter(marker="forwarded")))
        queue_id = re.search(r"queued as (\S+)", client.reply())[1]
    wait.until(lambda: shop.with_marker("forwarded"), 15, "it arrives")
    accepted = next(line for line in instance.log().splitlines() if '"accepted"' in line)
    assert f'"origin_id":"{queue_id}"' in accepted and '"origin_client":"127.0.0.1"' in accepted
    assert '"origin_helo":"origin.test"' in accepted


# -- PROXY protocol


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v1(source, family="TCP4", destination="198.51.100.25"):
    return f"PROXY {family} {source} {destination} 4711 25\r\n".encode()


def v2(source=None, destination="198.51.100.25", extra=b""):
    """A PROXY v2 header; without a source that of a health check (LOCAL)."""
    if source is None:
        return SIGNATURE + b"\x20\x00" + struct.pack("!H", len(extra)) + extra
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    addresses = b"".join(socket.inet_pton(family, address) for address in (source, destination))
    body = addresses + struct.pack("!HH", 4711, 25) + extra
    return SIGNATURE + (b"\x21\x21" if ":" in source else b"\x21\x11") + struct.pack("!H", len(body)) + body


@pytest.fixture
def balanced(egret):
    def make(settings=None, **sections):
        return egret(listeners=[listener(proxy_protocol=NETWORK, allow=ALLOWED, **(settings or {}))], **sections)
    return make


def through(header, **more):
    client = RawSmtp(source=FRONT, **more)
    client.send(header)
    return client


HEADERS = {
    "192.0.2.1": [v1("192.0.2.1"), v2("192.0.2.1"), v2("192.0.2.1", extra=b"\x04\x00\x03abc")],
    "IPv6:2001:db8::7": [v1("2001:db8::7", "TCP6", "2001:db8::25"), v2("2001:db8::7", "2001:db8::25")],
    # A client over IPv4 that an IPv6 balancer names as it sees it.
    "192.0.2.2": [v2("::ffff:192.0.2.2", "2001:db8::25")],
}


def test_a_proxy_header_names_the_client(balanced, shop):
    balanced()
    for literal, headers in HEADERS.items():
        for number, header in enumerate(headers):
            with through(header) as client:
                client.hello("real.test")
                submit(client, f"{literal} {number}")
    with through(v1("198.51.100.1")) as client:
        client.hello()
        assert not may_relay(client)
    count = sum(map(len, HEADERS.values()))
    wait.until(lambda: len(shop.messages) == count, 10, "all arrive")
    for literal, headers in HEADERS.items():
        for number in range(len(headers)):
            (message,) = shop.with_marker(f"{literal} {number}")
            assert f"from real.test ([{literal}]) by relay.test" in trace_field(message.data)


def test_a_header_about_nobody_leaves_the_balancer_itself_as_the_client(balanced):
    balanced({"xclient": NETWORK})
    for header in (b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n", v2(), v2(extra=b"\x04\x00\x01x")):
        with through(header) as client:
            assert "XCLIENT" in offered(client.hello())  # its own network's right
            assert not may_relay(client)


def test_a_header_is_read_however_it_is_cut(balanced):
    balanced()
    for header in (v1("192.0.2.1"), v2("192.0.2.1")):
        with RawSmtp(source=FRONT) as client:
            for octet in header:
                client.send(bytes([octet]))
                client.pause_until_read()
            client.hello()
            assert may_relay(client)


WRONG = [b"EHLO client.test\r\n", b"PROXY TCP4 192.0.2.300 192.0.2.1 1 2\r\n", b"PROXY TCP4 192.0.2.1\r\n",
         b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 25\r\n", b"PROXY TCP4 " + b"1" * 200, b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
         b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", SIGNATURE + b"\x31\x11\0\x0c" + b"x" * 12,
         SIGNATURE + b"\x21\x11\0\x04abcd", SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 100, b"\r\n\r\n\0\r\nQUID\n"]


def test_a_listed_network_must_speak_it_and_correctly(balanced):
    instance = balanced()
    for wrong in WRONG:
        with through(wrong) as client:
            with pytest.raises((EOFError, ConnectionError)):
                assert not client.reply(), wrong
    wait.until(lambda: instance.log().count("no PROXY header") == len(WRONG), 5, "the log says so")
    with RawSmtp(source=FRONT) as client:  # says nothing
        begun = time.monotonic()
        assert client.closed() and time.monotonic() - begun < 6
    with through(v1("192.0.2.1")) as client:
        client.hello()


def test_others_are_not_believed(balanced, shop):
    balanced()
    send(letter(marker="direct"))  # and need no header
    for header in (v1("192.0.2.1"), v2("192.0.2.1")):
        with RawSmtp(source=STRANGER) as client:
            assert client.reply()[:3] in ("220", "554")
            client.send(header + b"EHLO client.test\r\n")
            try:
                assert client.reply()[:3] in ("500", "501", "421")
                assert not may_relay(client)
            except (EOFError, ConnectionError, AssertionError):
                pass  # the session may just end
    wait.until(lambda: shop.messages, 10, "the direct one arrives")
    assert len(shop.messages) == 1


def test_a_client_that_talks_behind_the_header_before_the_greeting_is_refused(balanced):
    balanced()
    with through(v1("192.0.2.1") + b"EHLO early.test\r\n") as client:
        assert client.reply().startswith("554 5.5.0")
        assert client.closed()


def test_implicit_tls_begins_behind_the_header(egret, authority, shop):
    egret(tls=certificate(authority),
          listeners=[listener(proxy_protocol=NETWORK, allow=ALLOWED, tls="implicit"),
                     listener(2587, proxy_protocol=NETWORK, allow=ALLOWED, tls="starttls")])
    for port, header in ((2525, v1("192.0.2.1")), (2525, v2("192.0.2.1")), (2587, v2("192.0.2.1"))):
        with TlsSmtp(trusting(authority), port=port, source=FRONT) as client:
            client.send(header)
            if port == 2587:
                client.secure_hello()
            else:
                client.wrap()
                client.hello()
            submit(client, "secret")
    wait.until(lambda: len(shop.messages) == 3, 10, "all arrive")
    assert all("([192.0.2.1]) by relay.test with ESMTPS" in trace_field(message.data) for message in shop.messages)


def test_connections_are_limited_for_each_client_behind_the_balancer_and_not_for_the_balancer(balanced):
    balanced(limits={"connections_per_client": 2})
    clients = []
    for number in range(6):
        clients.append(through(v1(f"192.0.2.{number // 2}")))
        assert clients[-1].hello().startswith("250"), number
    with through(v1("192.0.2.1")) as third:
        assert third.reply().startswith("421 4.7.0 too many connections from 192.0.2.1")
    clients.pop().close()
    wait.until(lambda: greeted(v1("192.0.2.2")), 5, "there is room again")
    for client in clients:
        client.close()


def greeted(header):
    with through(header) as client:
        return client.reply().startswith("220")


def test_swaks_speaks_both_versions_of_the_proxy_protocol(balanced, shop):
    balanced()
    for version, family in (("1", "TCP4"), ("2", "AF_INET")):
        done = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", "2525", "--local-interface", FRONT, "--from",
                               "app@sender.test", "--to", "user@shop.test", "--proxy-version", version, "--proxy-family",
                               family, "--proxy-source", f"192.0.2.{version}", "--proxy-source-port", "4711",
                               "--proxy-dest", "192.0.2.25", "--proxy-dest-port", "25"],
                              capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stdout + done.stderr
    wait.until(lambda: len(shop.messages) == 2, 10, "both arrive")
    clients = {re.search(r"\(\[(.*)\]\)", trace_field(message.data))[1] for message in shop.messages}
    assert clients == {"192.0.2.1", "192.0.2.2"}


def test_a_network_that_would_believe_half_of_the_internet_is_refused_by_check(egret):
    for key in ("xclient", "proxy_protocol"):
        done = egret(start=False, listeners=[listener(**{key: ["0.0.0.0/0"]})]).check()
        assert done.returncode == 1 and f"listeners[0].{key}" in done.stdout + done.stderr
