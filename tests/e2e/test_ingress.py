"""What a listener accepts, and what it refuses with which words."""

import pytest

from support import wait
from support.mail import Refused, below_trace, letter, receipt, send
from support.raw_smtp import RawSmtp, stuffed

CLOSED_LISTENER = [{"address": "127.0.0.1:2525", "accept": "queue", "tls": "none", "auth": "none",
                    "allow": ["127.0.0.1/32"], "class": "transactional"}]


def test_ehlo_offers_the_extensions_that_are_spoken(egret, shop):
    egret(limits={"message_size": "1M"})
    with RawSmtp() as client:
        words = {line[4:].split(" ")[0].upper(): line[4:] for line in client.hello().splitlines()[1:]}
        assert {"PIPELINING", "SIZE", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"} <= set(words)
        assert words["SIZE"] == "SIZE 1048576"
        assert "STARTTLS" not in words and "AUTH" not in words  # neither is configured


def test_a_client_outside_allow_may_not_relay(egret, shop):
    egret(listeners=CLOSED_LISTENER)
    with pytest.raises(Refused) as refusal:
        send(letter(), source="127.0.9.9")
    assert refusal.value.phase in ("mail", "rcpt")
    assert refusal.value.code == 550 and refusal.value.text.startswith("5.7.1 ")
    send(letter())
    wait.until(lambda: shop.messages, 10, "the allowed client's message arrives")
    assert len(shop.messages) == 1


def test_a_message_over_the_size_limit_is_refused_by_its_declaration_and_by_its_content(egret, shop):
    egret(limits={"message_size": "100K"})
    with RawSmtp() as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test> SIZE=200000").startswith("552 5.3.4")
        client.envelope("app@sender.test", "user@shop.test")
        client.send(stuffed(letter(body=b"x" * 70 + b"\r\n") + (b"y" * 98 + b"\r\n") * 1500))
        assert client.reply().startswith("552 5.3.4")
        # The refusal ended that transaction and nothing else.
        assert client.ask("RCPT TO:<user@shop.test>").startswith("503")
        client.envelope("app@sender.test", "user@shop.test")
        client.send(stuffed(letter(marker="small")))
        receipt(client.reply())
    wait.until(lambda: shop.messages, 10, "the small message arrives")
    assert len(shop.with_marker("small")) == len(shop.messages) == 1


def test_recipients_over_the_limit_are_put_off_and_the_others_get_the_message(egret, shop):
    egret(limits={"recipients": 3})
    with RawSmtp() as client:
        client.hello()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        for number in range(3):
            assert client.ask(f"RCPT TO:<user{number}@shop.test>").startswith("250")
        assert client.ask("RCPT TO:<user3@shop.test>").startswith("452 4.5.3")
        assert client.ask("DATA").startswith("354")
        client.send(stuffed(letter()))
        receipt(client.reply())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert sorted(shop.messages[0].recipients) == ["user0@shop.test", "user1@shop.test", "user2@shop.test"]


SMUGGLED = (b"MAIL FROM:<forged@sender.test>\r\nRCPT TO:<victim@shop.test>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nsmuggled\r\n")
FALSE_ENDS = {
    "LF . LF": b"\n.\n",
    "LF . CR": b"\n.\r",
    "LF . CRLF": b"\n.\r\n",
    "CR . LF": b"\r.\n",
    "CR . CR": b"\r.\r",
    "CR . CRLF": b"\r.\r\n",
    "CRLF . LF": b"\r\n.\n",
    "CRLF . CR": b"\r\n.\r",
    "CRLF . CR CRLF": b"\r\n.\r\r\n",
    "CR CRLF . CR CRLF": b"\r\r\n.\r\r\n",
    "CRLF NUL . CRLF": b"\r\n\0.\r\n",
    "CRLF . NUL CRLF": b"\r\n.\0\r\n",
}


@pytest.mark.parametrize("sequence", FALSE_ENDS.values(), ids=FALSE_ENDS.keys())
def test_only_crlf_dot_crlf_ends_the_data(egret, shop, sequence):
    """Everything up to the true end belongs to one message, which is refused as a whole."""
    instance = egret()
    with RawSmtp() as client:
        client.hello()
        client.envelope("app@sender.test", "user@shop.test")
        client.send(letter(body=b"before") + sequence + SMUGGLED + b".\r\n")
        assert client.reply().startswith("550 5.6.11")
        # Had the sequence ended the data, the smuggled commands would have been answered before this one.
        try:
            assert client.ask("NOOP").startswith("250")
        except (EOFError, ConnectionError):
            pass  # ending the connection is as good
    assert instance.queue()["total"] == 0 and shop.sessions == []


def test_a_line_of_a_dot_and_a_space_does_not_end_the_data_either(egret, shop):
    egret()
    with RawSmtp() as client:
        client.hello()
        client.envelope("app@sender.test", "user@shop.test")
        client.send(letter(body=b"before\r\n. \r\nafter\r\n.\r\n"))
        receipt(client.reply())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].data.endswith(b"before\r\n \r\nafter\r\n")  # the dot was transparency


def test_the_end_of_data_is_found_however_the_bytes_are_cut(egret, shop):
    egret()
    content = letter(marker="cut", body=b"a\r\n.b\r\n\r\n.\r\nc\r\n")
    wire = stuffed(content)
    with RawSmtp() as client:
        client.hello()
        for cut in range(len(wire) - 24, len(wire)):
            client.envelope("app@sender.test", "user@shop.test")
            client.send(wire[:cut])
            client.pause_until_read()
            client.send(wire[cut:])
            receipt(client.reply())
    wait.until(lambda: len(shop.messages) == 24, 20, "all arrive")
    assert all(below_trace(message.data) == content for message in shop.messages)


def test_a_message_with_more_than_fifty_received_headers_is_in_a_loop(egret, shop):
    egret()
    hops = [f"Received: from h{n}.test by h{n + 1}.test; Mon, 05 Jan 2026 10:00:00 +0100" for n in range(51)]
    with RawSmtp() as client:
        client.hello()
        client.envelope("app@sender.test", "user@shop.test")
        client.send(stuffed("\r\n".join(hops).encode() + b"\r\n" + letter()))
        assert client.reply().startswith("554 5.4.6")
        client.envelope("app@sender.test", "user@shop.test")
        client.send(stuffed("\r\n".join(hops[:50]).encode() + b"\r\n" + letter(marker="fifty")))
        receipt(client.reply())
    wait.until(lambda: shop.messages, 10, "the message with fifty arrives")


def test_pipelined_commands_are_all_answered_in_order(egret, shop):
    egret()
    with RawSmtp() as client:
        client.hello()
        client.send(b"MAIL FROM:<app@sender.test>\r\nRCPT TO:<user@shop.test>\r\nRCPT TO:<bad address\r\n"
                    b"NOOP\r\nDATA\r\n")
        assert [client.reply()[:3] for _ in range(5)] == ["250", "250", "501", "250", "354"]
        # The next transaction may follow the final dot in the same write.
        client.send(stuffed(letter(marker="first")) + b"MAIL FROM:<>\r\nRCPT TO:<user@shop.test>\r\nDATA\r\n")
        receipt(client.reply())
        assert [client.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        client.send(stuffed(letter(marker="second")) + b"QUIT\r\n")
        receipt(client.reply())
        assert client.reply().startswith("221")
        assert client.closed()
    wait.until(lambda: len(shop.messages) == 2, 10, "both arrive")


def test_commands_out_of_order_and_unknown_ones_get_their_codes(egret, shop):
    egret()
    with RawSmtp() as client:
        assert client.reply().startswith("220 relay.test ")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("503")
        assert client.ask("EHLO client.test").startswith("250")
        assert client.ask("RCPT TO:<user@shop.test>").startswith("503")
        assert client.ask("DATA").startswith(("503", "554"))
        assert client.ask("FROBNICATE now")[:3] in ("500", "502")
        assert client.ask("VRFY user").startswith("252")
        assert client.ask("MAIL FROM:<no-domain-and no bracket").startswith("501")
        assert client.ask("MAIL FROM:<app@sender.test> UNHEARD=of").startswith("555")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("503")
        assert client.ask("RSET").startswith("250")
        assert client.ask("RCPT TO:<user@shop.test>").startswith("503")
        assert client.ask("NOOP").startswith("250")
        assert client.ask("QUIT").startswith("221")


def test_a_command_line_without_end_is_refused_and_takes_no_memory(egret, shop):
    instance = egret()
    with RawSmtp() as client:
        client.hello()
        try:
            for _ in range(64):
                client.send(b"A" * 65536)
            client.send(b"\r\n")
            assert client.reply()[:3] in ("500", "421")
        except (EOFError, ConnectionError):
            pass  # the connection may also just end
    with RawSmtp() as client:
        assert client.hello().startswith("250")
    assert instance.running


def test_a_client_that_leaves_in_the_middle_of_data_leaves_no_message(egret, shop):
    instance = egret()
    with RawSmtp() as client:
        client.hello()
        client.envelope("app@sender.test", "user@shop.test")
        client.send(letter(body=b"half a message\r\n"))
    send(letter(marker="whole"))
    instance.until_queue_empty()
    assert [len(shop.with_marker("whole")), len(shop.messages)] == [1, 1]
