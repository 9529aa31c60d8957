"""The client waits for the receivers and hears what they say; only what they leave over becomes Egret's."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import wait
from support.dsn import address, parse
from support.egret import A, B, source
from support.mail import SENDER, Submitter, below_trace, letter
from support.pass_through import begin, listener, spool_state, verdict
from support.postfix import Postfix
from support.raw_smtp import RawSmtp, stuffed
from support.scripted_receiver import SILENT, close

PASSING = {"listeners": [listener()], "reputation": {"interval": "1h", "cooldown": {"first": "1h", "max": "1h"}}}
NO_RETRY = {"retry": ["1h"]}
NAMED_LIST = "554 5.7.1 Service unavailable; Client host [{ip}] blocked using bl.test; Listed for testing"
# 5 MB; every line begins with a dot that the wire doubles.
LARGE = letter(marker="large", body=(b"." + b"0123456789abcdef" * 60 + b"\r\n") * 5400)
BY_PHASE = {"the greeting": "connect", "EHLO": "ehlo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data",
            "the final dot": "dot"}


@pytest.fixture
def passing(egret):
    """passing(section=...): a running Egret that passes through."""
    return lambda **sections: egret(**{**PASSING, **sections})


def esp(name, authority):
    return {"address": f"smtp.{name}.test:587", "tls": "starttls", "username": "apikey", "password": "s3cret",
            "ca": authority.certificate}


def with_fallback(authority):
    return {"smarthosts": {"esp": esp("esp", authority)},
            "pools": {"transactional": {"sources": ["a", "b"], "fallback": ["esp"], "when_exhausted": "fallback"}}}


def by_recipient(**replies):
    """A callback for RCPT: the reply to each local part, None for everybody else."""
    return lambda session, recipient: replies.get(recipient.partition("@")[0])


def arrived(*receivers):
    """(recipient, peer) of every message that was accepted."""
    return sorted((recipient, message.peer) for receiver in receivers for message in receiver.messages
                  for recipient in message.recipients)


# -- the receiver's own words

WORDS = {
    "one line": ("dot", "250 2.6.0 <1@shop.test> Queued mail for delivery", None),
    "several lines": ("dot", "250 2.0.0 Taken\n250 2.0.0 by node 7\n250 2.0.0 as 4711", None),
    "a 2yz without an enhanced code": ("dot", "250 OK id=1vXyZ-0001", None),
    "no room": ("dot", "452 4.3.1 Insufficient system storage", None),
    "temporary, several lines": ("dot", "451 4.3.0 Try again\n451 4.3.0 in a while (17)", None),
    "refused content": ("dot", "550 5.7.1 Message rejected as spam, reference 0815", None),
    "permanent, several lines": ("dot", "554 5.6.0 The attachment\n554 5.6.0 is not wanted here", None),
    "unknown user": ("rcpt", "550 5.1.1 <user@shop.test>: Recipient address rejected: User unknown", None),
    "mailbox full": ("rcpt", "452 4.2.2 Mailbox full", None),
    "greylisted": ("rcpt", "450 4.2.0 <user@shop.test>: Recipient address rejected: Greylisted, come back in 5 minutes",
                   None),
    "sender refused": ("mail", "550 5.1.8 Sender address rejected: Domain not found", None),
    "no DATA": ("data", "554 5.5.1 Error: no valid recipients", None),
    "421 at RCPT is not the end of our session": ("rcpt", "421 4.3.2 Going down", "451 4.3.2 Going down"),
    "421 in place of the greeting": ("connect", "421 4.3.2 Too busy", "451 4.3.2 Too busy"),
    "refused in place of the greeting": ("connect", "554 5.7.1 Partners only", None),
}


def test_the_receivers_own_words_reach_the_client_and_the_spool_is_left_alone(passing, shop):
    instance = passing(sources={"a": source("a")})
    before = spool_state(instance)
    for name, (phase, said, heard) in WORDS.items():
        shop.script = {phase: lambda session, argument: said}
        reply = verdict(letter())
        lines = (heard or said).split("\n")
        assert reply == "\n".join([f"{line[:3]}-{line[4:]}" for line in lines[:-1]] + lines[-1:]), name
        assert instance.queue()["total"] == 0, name
    assert spool_state(instance) == before
    assert {message.peer for message in shop.offered} == {A}


ODD_WORDS = {
    "no text": ("550", "550 "),
    "no text, temporary": ("450", "450 "),
    "control characters": ("550 5.1.1 no\x1b[31m such\tuser", "550 5.1.1 no"),
    "a bare CR": ("550 5.1.1 no\r250 2.0.0 such user", "550 5.1.1 no"),
    "NUL": ("550 5.1.1 no\0such user", "451 4.4.1 "),
    "not ASCII": ("550 5.1.1 Empfänger unbekannt", "550 5.1.1 Empf"),
    "a very long line": ("550 5.1.1 " + "x" * 2000, "550 5.1.1 xxx"),
    "very many lines": ("\n".join(["550 5.1.1 no such user"] * 90), "550-5.1.1 no such user\n"),
}


@pytest.mark.parametrize("said, start", ODD_WORDS.values(), ids=ODD_WORDS.keys())
def test_whatever_a_receiver_says_the_client_gets_a_reply_that_keeps_to_the_rules(passing, shop, said, start):
    passing()
    shop.on("rcpt", lambda session, recipient: said)
    with begin(letter()) as client:
        reply = client.reply()
        assert reply.startswith(start), reply
        for line in reply.split("\n"):
            assert line[:3] == reply[:3] and len(line.encode()) <= 510 and line.isprintable(), line
            assert not line[4:].startswith("2."), line
        assert client.ask("NOOP").startswith("250"), "client and server disagree on where the reply ends"


# -- failover inside the transaction


@pytest.mark.parametrize("phase", BY_PHASE.values(), ids=BY_PHASE.keys())
def test_a_blocked_source_is_invisible_to_the_client(passing, shop, phase):
    instance = passing()
    shop.on(phase, lambda session, argument:
            NAMED_LIST.format(ip=session.peer) if session.peer == shop.sessions[0].peer else None)
    content = letter()
    assert verdict(content) == "250 2.0.0 Ok: taken"
    (message,) = shop.messages
    assert {shop.sessions[0].peer, message.peer} == {A, B}
    assert below_trace(message.data) == content
    assert instance.queue()["total"] == 0


def test_a_listed_source_is_not_tried_at_all(passing, shop, blocklist):
    instance = passing(reputation={"interval": "200ms"})
    blocklist.list(A)
    instance.until_listed("a")
    for _ in range(10):
        assert verdict(letter()).startswith("250")
    assert {session.peer for session in shop.sessions} == {B}


FALLBACKS = {"takes it": ("250 Ok 0100019", "250 Ok 0100019"),
             "refuses the message": ("554 5.6.1 Message body is not accepted", "554 5.6.1 Message body is not accepted"),
             "is in trouble": ("451 4.3.0 Try again later", "451 4.3.0 Try again later")}


@pytest.mark.parametrize("said, heard", FALLBACKS.values(), ids=FALLBACKS.keys())
def test_with_all_sources_blocked_the_smarthosts_reply_is_the_clients(passing, shop, smarthost, authority, said, heard):
    upstream = smarthost("esp").on("dot", lambda session, message: said)
    instance = passing(**with_fallback(authority))
    shop.on("rcpt", lambda session, recipient: NAMED_LIST.format(ip=session.peer))
    assert verdict(letter()) == heard
    assert {session.peer for session in shop.sessions} == {A, B} and len(upstream.offered) == 1
    assert instance.queue()["total"] == 0


def test_with_no_way_out_left_the_client_keeps_the_message(passing, shop, senders):
    """First while both sources are found out in the transaction, then with both out before it."""
    instance = passing()
    before = spool_state(instance)
    shop.on("rcpt", lambda session, recipient: NAMED_LIST.format(ip=session.peer))
    reply = verdict(letter())
    assert reply.startswith("451 4.7.1 ") and "blocked using bl.test" in reply
    assert {session.peer for session in shop.sessions} == {A, B}
    reply = verdict(letter())
    assert reply.startswith("451 4.7.1 ") and "pool transactional" in reply
    assert len(shop.sessions) == 2 and instance.queue()["total"] == 0 and instance.queue()["held"] == 0
    assert spool_state(instance) == before and senders.sessions == []


def test_with_all_sources_listed_the_client_hears_that_and_the_mail_flows_again_after_the_delisting(
        passing, shop, blocklist):
    instance = passing(reputation={"interval": "200ms"})
    blocklist.list(A, B)
    instance.until_listed("a", "b")
    assert verdict(letter()).startswith("451 4.7.1 ")
    assert shop.sessions == []
    blocklist.delist(A, B)
    wait.until(lambda: verdict(letter()).startswith("250"), 15, "a source is back")


def test_a_destination_that_cannot_be_reached_is_temporary_and_one_that_does_not_exist_is_not(passing, shop, dns):
    instance = passing()
    shop.stop()
    assert verdict(letter()).startswith("451 4.4.1 ")
    assert verdict(letter(), "user@nowhere.test")[:5] == "550 5"
    dns.behave("broken.test", lambda server, request, transport: server.reply(request, rcode=2))
    assert verdict(letter(), "user@broken.test")[:5] == "451 4"
    assert instance.queue()["total"] == 0


# -- recipients that end differently



@pytest.mark.parametrize("crash", [False, True], ids=["", "kill -9 behind the 250"])
@pytest.mark.parametrize("spread", [False, True], ids=["one domain", "three domains"])
def test_one_delivered_makes_it_250_and_the_rest_is_egrets(passing, receive_for, senders, spread, crash):
    domains = ["one.test", "two.test", "three.test"] if spread else ["one.test"]
    receivers = [receive_for(domain) for domain in domains]
    good, later, never = [f"{user}@{domains[place % len(domains)]}"
                          for place, user in enumerate(("good", "later", "never"))]
    full = [True]
    for receiver in receivers:
        receiver.on("rcpt", lambda session, recipient:
                    "550 5.1.1 No such user here" if recipient == never else
                    "452 4.2.2 Mailbox full" if recipient == later and full else None)
    instance = passing(delivery={"retry": ["700ms"]})
    content = letter()
    with begin(content, [never, later, good]) as client:
        reply = client.reply()
        if crash:
            instance.kill9()
    assert reply.startswith("250 "), reply
    (id,) = [word for word in reply.split() if len(word) == 13]
    if crash:
        instance.start()
    wait.until(lambda: senders.messages, 10, "the sender has the report")
    wait.until(lambda: instance.queue()["total"] == 1, 10, "one recipient waits")
    full.clear()
    wait.until(lambda: len(arrived(*receivers)) == 2, 10, "the other recipient gets the message")
    instance.until_queue_empty()
    assert [recipient for recipient, _ in arrived(*receivers)] == sorted([good, later])
    assert all(below_trace(message.data) == content for receiver in receivers for message in receiver.messages)
    for report in senders.messages:
        (failed,) = parse(report.data).recipients
        assert address(failed["final-recipient"]) == never and "No such user here" in failed["diagnostic-code"]
    assert len(senders.messages) == 1 or crash
    if not crash:
        assert instance.message(id)["id"] == id


NONE_DELIVERED = {
    "one temporary": ({"x": "550 5.1.1 No x", "y": "450 4.2.1 Not now"}, "450 4.2.1 Not now"),
    "all permanent": ({"x": "550 5.1.1 No x", "y": "551 5.1.6 y has moved"}, "550 5.1.1 No x"),
    "one temporary, said first": ({"x": "450 4.2.1 Not now", "y": "550 5.1.1 No y"}, "450 4.2.1 Not now"),
    "all temporary": ({"x": "450 4.2.1 x not now", "y": "452 4.2.2 y is full"}, "450 4.2.1 x not now"),
}


@pytest.mark.parametrize("replies, heard", NONE_DELIVERED.values(), ids=NONE_DELIVERED.keys())
@pytest.mark.parametrize("spread", [False, True], ids=["one domain", "two domains"])
def test_with_none_delivered_the_client_keeps_all_or_loses_all(passing, receive_for, senders, replies, heard, spread):
    one = receive_for("one.test").on("rcpt", by_recipient(**replies))
    receive_for("two.test").on("rcpt", by_recipient(**replies))
    instance = passing()
    before = spool_state(instance)
    assert verdict(letter(), ["x@one.test", "y@two.test" if spread else "y@one.test"]) == heard
    assert one.messages == [] and senders.sessions == []
    assert instance.queue()["total"] == 0 and spool_state(instance) == before


def test_a_refusal_in_part_is_not_reported_to_the_null_sender(passing, shop, senders):
    instance = passing()
    shop.on("rcpt", by_recipient(never="550 5.1.1 No such user"))
    assert verdict(letter(), ["user@shop.test", "never@shop.test"], sender="").startswith("250 ")
    instance.until_queue_empty()
    assert senders.sessions == []


def peers_by_recipient(tries):
    """{recipient: the source of each try, in order}"""
    found = {}
    for recipient, peer in tries:
        found.setdefault(recipient, []).append(peer)
    return found


LEFT_OVER = {"lost behind the final dot": ("dot", close()), "greylisted": ("rcpt", "450 4.2.0 Greylisted, come back soon"),
             "doubtful content": ("dot", "451 4.7.1 Message looks like spam, try again later")}


@pytest.mark.parametrize("phase, first_answer", LEFT_OVER.values(), ids=LEFT_OVER.keys())
def test_what_is_left_over_keeps_its_source_where_it_must(passing, receive_for, phase, first_answer):
    """Uncertain, greylisted or judged by its content: the next attempt is never another source's."""
    good, other = receive_for("good.test"), receive_for("other.test")
    tries = []

    def answer(session, argument):
        recipient = argument.recipients[0] if phase == "dot" else argument
        tries.append((recipient, session.peer))
        return first_answer if len(peers_by_recipient(tries)[recipient]) == 1 else None

    other.on(phase, answer)
    instance = passing(delivery={"retry": ["300ms"]}, reputation={"content": {"slow_after": 0, "hold_after": 0}})
    for number in range(12):
        assert verdict(letter(), ["user@good.test", f"user{number}@other.test"]).startswith("250 ")
    instance.until_queue_empty()
    assert len(good.messages) == 12
    # Twelve fair draws for the second attempt agree with the first once in four thousand times.
    assert all(len(peers) == 2 and len(set(peers)) == 1 for peers in peers_by_recipient(tries).values()), tries


def test_reports_are_given_and_left_as_the_client_asked(passing, receive_for, senders):
    """NOTIFY (RFC 3461): success is reported where the trail ends, a refusal in part that nobody wants to hear is not."""
    plain = receive_for("plain.test", keywords=("PIPELINING",))
    plain.on("rcpt", by_recipient(never="550 5.1.1 No such user"))
    instance = passing()
    with RawSmtp() as client:
        client.hello()
        for command in (f"MAIL FROM:<{SENDER}>", "RCPT TO:<user@plain.test> NOTIFY=SUCCESS",
                        "RCPT TO:<never@plain.test> NOTIFY=NEVER"):
            assert client.ask(command).startswith("250")
        assert client.ask("DATA").startswith("354")
        client.send(stuffed(letter()))
        assert client.reply().startswith("250 ")
    wait.until(lambda: senders.messages, 10, "the report of success arrives")
    instance.until_queue_empty()
    (report,) = senders.messages
    (told,) = parse(report.data).recipients
    assert (address(told["final-recipient"]), told["action"]) == ("user@plain.test", "relayed")


def test_more_recipients_than_fit_one_transaction(passing, shop):
    instance = passing()
    recipients = [f"user{number}@shop.test" for number in range(250)]
    assert verdict(letter(), recipients).startswith("250 ")
    assert sorted(recipient for recipient, _ in arrived(shop)) == sorted(recipients)
    assert instance.queue()["total"] == 0


# -- size, waiting and ends


def test_five_megabytes_leave_no_trace_on_the_disk(passing, shop):
    instance = passing()
    before = spool_state(instance)
    assert verdict(LARGE) == "250 2.0.0 Ok: taken"
    assert below_trace(shop.messages[0].data) == LARGE
    assert spool_state(instance) == before


def resident(instance):
    """Megabytes of memory in use."""
    with open(f"/proc/{instance.pid}/status") as file:
        return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024


def test_messages_on_their_way_in_do_not_fill_the_memory(passing):
    """spool.cache bounds the memory for bodies, whoever is to deliver them."""
    instance = passing(spool={"cache": "8M"})
    before = resident(instance)
    clients = []
    for _ in range(12):
        clients.append(RawSmtp())
        clients[-1].hello()
        clients[-1].envelope(SENDER, "user@shop.test")
        clients[-1].send(2 * LARGE)
        clients[-1].pause_until_read()
    after = resident(instance)
    for client in clients:
        client.close()
    assert after - before < 60, f"{before:.0f} MB, and {after:.0f} MB with 12 times 10 MB in DATA"


@pytest.mark.parametrize("end", ["delivered", "temporary", "in part, then kill -9"])
def test_with_the_memory_for_bodies_used_up_a_large_message_goes_over_the_disk_and_leaves_nothing_there(
        passing, shop, end):
    instance = passing(spool={"cache": "1M"}, delivery={"retry": ["500ms"]})
    go_on, full = [], [True]
    shop.on("dot", lambda session, message:
            wait.until(lambda: go_on, 10, "the test goes on") and None if message.recipients == ("first@shop.test",)
            else "451 4.3.0 Try again" if end == "temporary" else None)
    shop.on("rcpt", lambda session, recipient: "452 4.2.2 Full" if recipient == "later@shop.test" and full else None)
    content = letter(marker="second", body=LARGE)
    in_part = end.startswith("in part")
    with begin(LARGE, "first@shop.test") as first:
        wait.until(lambda: shop.offered, 5, "the first fills the memory")
        before = spool_state(instance)
        reply = verdict(content, ["user@shop.test", "later@shop.test"] if in_part else "user@shop.test")
        assert spool_state(instance) != before, "the disk was not needed: this test tests nothing"
        assert reply[:3] == ("451" if end == "temporary" else "250")
        go_on.append(True)
        assert first.reply().startswith("250")
    if in_part:
        instance.kill9()
        instance.start()
    full.clear()
    instance.until_queue_empty()
    instance.restart()
    assert instance.queue()["total"] == 0
    recipients = {"delivered": ["user@shop.test"], "temporary": []}.get(end, ["later@shop.test", "user@shop.test"])
    seconds = shop.with_marker("second")
    assert sorted(to for message in seconds for to in message.recipients) == recipients
    assert all(below_trace(message.data) == content for message in seconds)


def test_two_clients_wait_beside_each_other(passing, shop):
    """Both are waiting when the receiver answers the first of them; each gets the answer for its own message."""
    passing()
    shop.on("dot", lambda session, message: wait.until(lambda: len(shop.offered) == 2, 10, "both are at the dot") and
            f"250 2.0.0 {message.recipients[0]}")
    with begin(letter(), "x@shop.test") as x, begin(letter(), "y@shop.test") as y:
        assert (y.reply(), x.reply()) == ("250 2.0.0 y@shop.test", "250 2.0.0 x@shop.test")


def test_waiting_clients_share_connections_that_stay_open(passing, shop):
    """Eight at a time need eight connections of each source at most, however many messages they send."""
    passing()

    def some(_):
        with RawSmtp() as client:
            client.hello()
            for _ in range(20):
                client.envelope(SENDER, "user@shop.test")
                client.send(stuffed(letter()))
                assert client.reply() == "250 2.0.0 Ok: taken"

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(some, range(8)))
    assert len(shop.messages) == 160
    assert len(shop.sessions) <= 16, sorted(session.messages for session in shop.sessions)


@pytest.mark.parametrize("end", [close(), close("421 4.3.2 Shutting down")], ids=["without a word", "with 421"])
def test_a_reply_that_was_lost_behind_the_dot_is_temporary_and_nobody_tries_again(
        passing, shop, smarthost, authority, end):
    upstream = smarthost("esp")
    instance = passing(**with_fallback(authority))
    shop.on("dot", lambda session, message: end)
    assert verdict(letter())[:1] == "4"
    assert len(shop.offered) == 1 and upstream.sessions == [] and instance.queue()["total"] == 0


def test_a_client_that_disappears_does_no_harm(passing, shop):
    instance = passing()
    go_on = []
    shop.on("dot", lambda session, message: wait.until(lambda: go_on, 10, "the test goes on") and None)
    client = begin(letter(marker="orphan"))
    wait.until(lambda: shop.offered, 5, "the receiver has the message")
    client.close()
    go_on.append(True)
    wait.until(lambda: shop.with_marker("orphan"), 5, "it is delivered all the same")
    assert verdict(letter()).startswith("250 ")
    assert instance.queue()["total"] == 0


def test_a_stop_while_a_client_waits_gives_the_message_back_in_time(passing, shop):
    instance = passing()
    shop.on("dot", lambda session, message: SILENT)
    with begin(letter()) as client:
        wait.until(lambda: shop.offered, 5, "the receiver has the message")
        instance.terminate()
        reply = client.reply()
        assert reply.startswith(("451 4.3.2 ", "421 4.3.2 ")), reply
    assert instance.ended() == 0
    assert len(shop.offered) == 1


def test_what_a_stop_cuts_off_is_not_sent_by_another_source_afterwards(passing, receive_for):
    """Delivered to one domain, at the dot of the other: the rest is spooled, and nobody knows whether it arrived."""
    good, slow = receive_for("good.test"), receive_for("slow.test")
    slow.on("dot", lambda session, message: SILENT if len(slow.offered) <= 12 else None)
    instance = passing(delivery={"retry": ["100ms"]})
    clients = [begin(letter(), ["user@good.test", f"user{number}@slow.test"]) for number in range(12)]
    wait.until(lambda: len(slow.offered) == len(good.messages) == 12, 5, "one has them all, the other is at their dots")
    instance.terminate()
    for client in clients:
        assert client.reply().startswith("250 ")
        client.close()
    assert instance.ended() == 0
    instance.start()
    wait.until(lambda: len(slow.messages) == 12, 10, "they are sent again")
    instance.until_queue_empty()
    assert len(good.messages) == 12
    peers = peers_by_recipient((message.recipients[0], message.peer) for message in slow.offered)
    assert all(len(set(tries)) == 1 for tries in peers.values()), peers


# -- behind Postfix

FRONT = "127.0.3.40"


@pytest.fixture(scope="module")
def front_session(work, dns_session):
    postfix = Postfix(work / "pass-through-front", "front.test", {FRONT: {}}, {
        "mynetworks": "127.0.0.0/8", "relayhost": "[127.0.0.1]:2525", "smtp_send_xforward_command": "yes",
        # single.test gets each recipient in a transaction of its own.
        "transport_maps": "inline:{single.test=relay:[127.0.0.1]:2525}", "relay_destination_recipient_limit": "1",
        "queue_run_delay": "1s", "minimal_backoff_time": "1s",
        # As before 3.7.10: later ones make a space of a bare CR.
        "cleanup_replace_stray_cr_lf": "no"})
    postfix.start()
    yield postfix
    postfix.stop()


@pytest.fixture
def front(front_session, dns):
    dns.host("front.test", FRONT)
    yield front_session
    subprocess.run(["postsuper", "-c", front_session.config, "-d", "ALL"], check=True, capture_output=True)


def from_here_on(postfix):
    """log(): what this Postfix has said since."""
    start = len(postfix.log())
    return lambda: postfix.log()[start:]


def through_front(contents, recipients):
    """Each content to its recipients, over four connections."""
    def some(first):
        with Submitter(FRONT, 25) as submitter:
            for place in range(first, len(contents), 4):
                submitter.smtp.sendmail(SENDER, recipients[place], contents[place])
    with ThreadPoolExecutor(4) as clients:
        list(clients.map(some, range(4)))


def test_two_hundred_messages_of_a_postfix_and_a_block_that_it_never_hears_of(passing, shop, senders, front):
    instance = passing(listeners=[listener(xclient=["127.0.0.0/8"])])
    before, log = spool_state(instance), from_here_on(front)

    def rcpt(session, recipient):
        if len(shop.messages) > 60 and session.peer == A:
            return NAMED_LIST.format(ip=A)
        return "550 5.1.1 Nobody of this name lives here" if recipient.startswith("never") else None

    shop.on("rcpt", rcpt)
    refused = {f"never{number}@shop.test" for number in range(0, 200, 10)}
    recipients = [f"{'user' if number % 10 else 'never'}{number}@shop.test" for number in range(200)]
    contents = [letter(f"number-{number}") for number in range(200)]
    through_front(contents, recipients)
    wait.until(lambda: len(shop.messages) >= 180 and len(senders.messages) >= 20, 40, "all messages have ended")
    wait.until(lambda: front.queue() == [], 10, "Postfix has nothing left")
    assert sorted(recipient for recipient, _ in arrived(shop)) == sorted(set(recipients) - refused)
    assert {message.peer for message in shop.messages[-50:]} == {B} and len(shop.peers()) == 2
    for report in map(parse, (message.data for message in senders.messages)):
        assert report.about_message["reporting-mta"] == "dns; front.test"
        (failed,) = report.recipients
        refused.remove(address(failed["final-recipient"]))
        assert "550 5.1.1 Nobody of this name lives here" in failed["diagnostic-code"]
    assert not refused and "status=deferred" not in log()
    assert spool_state(instance) == before
    # Postfix's queue ids, by which its log and Egret's are read together.
    ids = set(re.findall(r": ([0-9A-F]{6,}): client=", log()))
    told = set(re.findall(r'"origin_id":"([0-9A-F]+)"', instance.log()))
    assert len(ids) == 200 and ids <= told


def test_who_reports_a_refused_recipient_depends_on_postfixs_recipient_limit(passing, receive_for, senders, front):
    """One transaction for all: Postfix hears 250 and Egret reports. One for each: the refusal is Postfix's to report."""
    never = by_recipient(never="550 5.1.1 Nobody of this name lives here")
    many, single = receive_for("many.test").on("rcpt", never), receive_for("single.test").on("rcpt", never)
    instance = passing()
    for domain, receiver, reporter in (("many.test", many, "relay.test"), ("single.test", single, "front.test")):
        through_front([letter()], [[f"{user}@{domain}" for user in ("user", "never", "user1")]])
        wait.until(lambda: senders.messages, 10, "the sender has the report")
        instance.until_queue_empty()
        report = parse(senders.messages.pop().data)
        assert report.about_message["reporting-mta"] == f"dns; {reporter}"
        assert [address(failed["final-recipient"]) for failed in report.recipients] == [f"never@{domain}"]
        assert sorted(to for to, _ in arrived(receiver)) == [f"user1@{domain}", f"user@{domain}"]


def test_postfix_keeps_what_no_source_may_send_and_sends_it_when_one_is_back(passing, shop, front, blocklist):
    instance = passing(reputation={"interval": "200ms"})
    log = from_here_on(front)
    blocklist.list(A, B)
    instance.until_listed("a", "b")
    through_front([letter(), letter()], ["user@shop.test", "user1@shop.test"])
    wait.until(lambda: log().count("status=deferred") >= 2, 10, "Postfix keeps both")
    assert "451 4.7.1" in log() and instance.queue()["total"] == 0 and len(front.queue()) == 2
    blocklist.delist(A, B)
    wait.until(lambda: len(shop.messages) == 2, 20, "both arrive")
    assert shop.messages[0].recipients != shop.messages[1].recipients


def test_a_bare_cr_that_postfix_lets_pass_is_refused_for_ever_unless_egret_is_told_to_repair_it(passing, shop, front):
    """Postfix's report quotes the message, bare CR included: refused as well, so nobody hears of it."""
    content, log = letter(body=b"one\rtwo\r\n"), from_here_on(front)

    def through_postfix():
        with RawSmtp(FRONT, 25) as client:
            client.hello()
            client.envelope(SENDER, "user@shop.test")
            client.send(stuffed(content))
            assert client.reply().startswith("250")

    instance = passing()
    through_postfix()
    wait.until(lambda: log().count("said: 550 5.6.11") == 2, 10, "the message and the report are refused")
    instance.stop()
    passing(listeners=[listener(normalize=[f"{FRONT}/32", "127.0.0.1/32"])])
    through_postfix()
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].data.endswith(b"\r\n\r\none\r\ntwo\r\n")
