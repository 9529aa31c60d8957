"""What a client can ask for, and where it ends: every limit with the reply that says which one it was."""

import contextlib
import os
import re
import signal
import time

from support import wait
from support.listeners import certificate, listener
from support.mail import letter, receipt, send
from support.raw_smtp import RawSmtp, stuffed
from support.tls_client import TlsSmtp, trusting


def offer(client, content):
    """The reply to the final dot."""
    client.envelope("app@sender.test", "user@shop.test")
    client.send(stuffed(content))
    return client.reply()


def sized(size, marker="sized"):
    """A message of exactly this many octets."""
    head = letter(marker=marker, body=b"")
    lines, rest = divmod(size - len(head), 80)
    if rest < 2:
        lines, rest = lines - 1, rest + 80
    return head + (b"x" * 78 + b"\r\n") * lines + b"y" * (rest - 2) + b"\r\n"


# -- a message


def test_a_message_may_be_as_large_as_the_limit_and_not_an_octet_larger(egret, shop):
    egret(limits={"message_size": "64K"})
    with RawSmtp() as client:
        assert "SIZE 65536" in client.hello()
        assert client.ask("MAIL FROM:<app@sender.test> SIZE=65537").startswith("552 5.3.4")
        assert client.ask("MAIL FROM:<app@sender.test> SIZE=65536").startswith("250")
        assert client.ask("RSET").startswith("250")
        assert offer(client, sized(65536)).startswith("250")
        assert offer(client, sized(65537)).startswith("552 5.3.4")
        assert offer(client, sized(3_000_000)).startswith("552 5.3.4")
    wait.until(lambda: shop.messages, 10, "the one of the right size arrives")
    assert len(shop.messages) == 1


def test_a_line_may_have_998_octets_without_its_dot_and_its_end(egret, shop):
    egret()
    with RawSmtp() as client:
        client.hello()
        for line in (b"x" * 998, b"." + b"x" * 997):
            assert offer(client, letter(body=line + b"\r\n")).startswith("250")
        for line in (b"x" * 999, b"." + b"x" * 998, b"x" * 500_000):
            assert offer(client, letter(body=b"before\r\n" + line + b"\r\nafter\r\n")).startswith("550 5.6.0")
        assert offer(client, letter(headers=["X-Long: " + "x" * 991])).startswith("550 5.6.0")
        receipt(offer(client, letter()))
    wait.until(lambda: len(shop.messages) == 3, 10, "the others arrive")


def test_a_header_section_that_is_too_large_is_refused(egret, shop):
    egret()
    field = "X-Filler: " + "x" * 900
    with RawSmtp() as client:
        client.hello()
        assert offer(client, letter(headers=[field] * 250)).startswith("250")
        assert offer(client, letter(headers=[field] * 300)).startswith("552 5.3.4 header")
        # One field, folded over and over, is a header section as well.
        assert offer(client, letter(headers=["X-Folded: a" + "\r\n\t" + "\r\n\t".join(["x" * 900] * 300)])).startswith("552")
    wait.until(lambda: len(shop.messages) == 1, 10, "the smaller one arrives")


def test_fifty_received_fields_are_a_long_way_and_fifty_one_a_loop(egret, shop):
    egret()
    hop = "RECEIVED : from a.test by b.test; Mon, 05 Jan 2026 10:00:00 +0100"
    with RawSmtp() as client:
        client.hello()
        assert offer(client, letter(headers=[hop] * 51)).startswith("554 5.4.6")
        assert offer(client, letter(headers=[hop] * 50)).startswith("250")
        assert offer(client, letter(headers=[hop] * 40, body=(hop + "\r\n").encode() * 40)).startswith("250")
    wait.until(lambda: len(shop.messages) == 2, 10, "the others arrive")


def test_the_recipient_over_the_limit_is_put_off_in_each_transaction_anew(egret, shop):
    egret(limits={"recipients": 2})
    with RawSmtp() as client:
        client.hello()
        for _ in range(2):
            client.send(b"MAIL FROM:<app@sender.test>\r\n" + b"".join(b"RCPT TO:<u%d@shop.test>\r\n" % n for n in range(4)))
            replies = [client.reply()[:9] for _ in range(5)]
            assert replies == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "452 4.5.3", "452 4.5.3"]
            assert client.ask("DATA").startswith("354")
            client.send(stuffed(letter()))
            receipt(client.reply())
    wait.until(lambda: len(shop.messages) == 2, 10, "both arrive")
    assert all(sorted(message.recipients) == ["u0@shop.test", "u1@shop.test"] for message in shop.messages)


def test_a_clients_rate_is_counted_in_recipients_over_connections_and_says_how_long_to_wait(egret):
    egret(limits={"rate_per_client": "3/h"})
    for recipients in (2, 1):
        with RawSmtp() as client:
            client.hello()
            assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
            for number in range(recipients):
                assert client.ask(f"RCPT TO:<u{number}@shop.test>").startswith("250")
            last = client.ask("RCPT TO:<one.more@shop.test>") if recipients == 1 else ""
    with RawSmtp() as client:
        client.hello()
        for reply in (last, client.ask("MAIL FROM:<app@sender.test>")):
            found = re.fullmatch(r"450 4\.7\.1 client 127\.0\.0\.1 .*3 recipients in .*: try again in (\d+) s", reply)
            assert found and 3500 < int(found[1]) <= 3600, reply
    with RawSmtp(source="127.0.0.2") as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")


# -- a session


def test_a_command_line_may_be_long_and_not_too_long(egret):
    egret()
    with RawSmtp() as client:
        client.hello()
        assert client.ask("NOOP " + "x" * 2041).startswith("250")  # 2048 octets with CR LF
        assert client.ask("NOOP " + "x" * 2043)[:3] in ("500", "421")
        assert client.closed()
    with RawSmtp() as client:  # no end in sight
        client.hello()
        client.send(b"x" * 2100)
        assert client.reply().startswith("500 5.5.2")
        assert client.closed()


def test_bare_line_ends_and_nul_in_commands_end_the_session(egret):
    egret()
    for command in (b"NOOP\n", b"NOOP\rNOOP\r\n", b"NOOP \0\r\n"):
        with RawSmtp() as client:
            client.hello()
            client.send(command)
            assert client.reply().startswith("501 5.5.2")
            assert client.closed()


def test_after_twenty_errors_the_session_ends_with_421(egret):
    instance = egret()
    with RawSmtp() as client:
        client.hello()
        client.send(b"FROBNICATE\r\n" * 30)
        for _ in range(20):
            assert client.reply().startswith("500 5.5.1")
        assert client.reply().startswith("421 4.7.0 too many errors")
        assert client.closed()
    assert instance.running


def test_after_ten_errors_each_reply_takes_a_second_and_a_message_makes_up_for_them(egret, shop):
    egret()
    with RawSmtp() as client:
        client.hello()
        times = []
        for _ in range(11):
            begun = time.monotonic()
            assert client.ask("FROBNICATE").startswith("500")
            times.append(time.monotonic() - begun)
        assert max(times[:9]) < 0.5 and 0.9 < times[10] < 3, times
        client.send(b"MAIL FROM:<app@sender.test>\r\nRCPT TO:<user@shop.test>\r\nDATA\r\n")
        assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        client.send(stuffed(letter()))
        receipt(client.reply())
        begun = time.monotonic()
        assert client.ask("FROBNICATE").startswith("500") and time.monotonic() - begun < 0.5


def test_commands_that_do_nothing_are_not_taken_for_ever(egret):
    egret()
    with RawSmtp() as client:
        client.hello()
        client.send(b"NOOP\r\nRSET\r\n" * 150)
        replies = []
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                replies.append(client.reply())
        assert replies[-1].startswith("421 4.7.0") and 150 < len(replies) < 300


def test_who_talks_before_the_greeting_is_refused(egret):
    instance = egret()
    os.kill(instance.pid, signal.SIGSTOP)  # so that the words are there when the connection is seen
    try:
        client = RawSmtp()
        client.send(b"EHLO early.test\r\nMAIL FROM:<app@sender.test>\r\n")
        client.pause_until_read()
    finally:
        os.kill(instance.pid, signal.SIGCONT)
    assert client.reply().startswith("554 5.5.0")
    assert client.closed()
    client.close()


def test_who_does_not_wait_for_the_354_is_refused(egret, shop):
    instance = egret()
    with RawSmtp() as client:
        client.hello()
        client.send(b"MAIL FROM:<app@sender.test>\r\nRCPT TO:<user@shop.test>\r\nDATA\r\nSubject: too early\r\n\r\n.\r\n")
        assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "503"]
        assert client.closed()
    assert instance.queue()["total"] == 0


# -- connections


def greeted(**more):
    with RawSmtp(**more) as client:
        return client.reply().startswith("220")


def test_a_client_has_so_many_connections_and_others_have_their_own(egret):
    egret(limits={"connections_per_client": 3})
    open_ones = [RawSmtp() for _ in range(3)]
    assert all(client.hello().startswith("250") for client in open_ones)
    with RawSmtp() as client:
        assert client.reply() == "421 4.7.0 too many connections from 127.0.0.1"
        assert client.closed()
    assert greeted(source="127.0.0.2")
    open_ones.pop().close()
    wait.until(greeted, 5, "there is room again")
    for client in open_ones:
        client.close()


def test_all_connections_together_have_a_limit(egret):
    egret(limits={"connections": 8, "connections_per_client": 4})
    # In less than the time in which idle ones are dropped.
    open_ones = [RawSmtp(source=f"127.0.8.{1 + number // 2}") for number in range(8)]
    assert all(client.hello().startswith("250") for client in open_ones)
    with RawSmtp() as client:
        assert client.reply().startswith("421 4.3.2 too many connections")
    open_ones.pop().close()
    wait.until(greeted, 5, "there is room again")
    for client in open_ones:
        client.close()


def test_when_connections_run_out_idle_ones_make_room_for_new_clients(egret, authority, shop):
    """Whatever the idle ones are in the middle of, under TLS too."""
    egret(limits={"connections": 20, "connections_per_client": 20}, tls=certificate(authority),
          listeners=[listener(tls="starttls")])
    begun = time.monotonic()
    idle = []
    for number in range(19):
        client = TlsSmtp(trusting(authority), source=f"127.0.8.{1 + number}", timeout=25)
        idle.append(client)
        if number % 4:
            client.secure_hello() if number % 3 == 0 else client.hello()
        if number % 4 > 1:
            assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        if number % 4 > 2:
            assert client.ask("RCPT TO:<user@shop.test>").startswith("250")
            assert client.ask("DATA").startswith("354")
    dropped = {}
    delivered = 0
    while time.monotonic() - begun < 14 and len(dropped) < 19:
        # New clients arrive all the time; each may find the relay full, and the next one in.
        with contextlib.suppress(Exception):
            send(letter(marker=f"new {delivered}"))
            delivered += 1
        for client in idle:
            if client not in dropped:
                client.socket.settimeout(0.01)
                with contextlib.suppress(TimeoutError):
                    try:
                        reply = client.reply()
                        while not reply.startswith("421"):
                            reply = client.reply()
                        dropped[client] = (time.monotonic() - begun, reply)
                    except (EOFError, ConnectionError) as error:
                        dropped[client] = (time.monotonic() - begun, repr(error))
        time.sleep(0.2)
    for client in idle:
        client.close()
    assert delivered >= 5
    assert len(dropped) == 19, f"{19 - len(dropped)} of 19 idle connections outlived 14 s of stress"
    assert all(reply.startswith("421 4.4.2") for _, reply in dropped.values()), set(dropped.values())
    assert 5 < min(took for took, _ in dropped.values()) and max(took for took, _ in dropped.values()) < 14
    wait.until(lambda: len(shop.messages) == delivered, 10, "everything that was accepted arrives")


def test_a_client_that_only_connects_and_resets_leaves_nothing_behind(egret):
    egret(limits={"connections": 50, "connections_per_client": 10})
    for _ in range(100):
        client = RawSmtp()
        client.send(b"EHLO")
        client.close()
    wait.until(lambda: all(greeted() for _ in range(10)), 5, "all places are free again")
