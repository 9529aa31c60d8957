"""A connection lost between the final dot and its reply may have delivered the message."""

from support import wait
from support.egret import A, B, source
from support.mail import letter, marker_of, send
from support.scripted_receiver import close

LOST = {"without a word": close(), "with 421": close("421 4.3.2 Shutting down")}


def with_fallback(authority):
    """One source, and a smarthost behind it."""
    return {"delivery": {"retry": ["500ms"]}, "sources": {"a": source("a")},
            "smarthosts": {"esp": {"address": "smtp.esp.test:587", "tls": "starttls", "username": "apikey",
                                   "password": "s3cret", "ca": authority.certificate}},
            "pools": {"transactional": {"sources": ["a"], "fallback": ["esp"], "when_exhausted": "fallback"}}}


def test_a_message_whose_outcome_is_unknown_is_retried_by_the_same_source_only(egret, shop):
    instance = egret(delivery={"retry": ["500ms"]})
    lost = set()

    def lose_the_first(session, message):
        (recipient,) = message.recipients
        if recipient not in lost:
            lost.add(recipient)
            return close()

    shop.on("dot", lose_the_first)
    ids = [send(letter(), f"user{number}@shop.test").id for number in range(10)]
    wait.until(lambda: len(shop.messages) == 10, 30, "all arrive in the end")
    instance.until_queue_empty()
    peers = {}
    for message in shop.offered:
        peers.setdefault(message.recipients[0], []).append(message.peer)
    assert all(len(tries) == 2 and len(set(tries)) == 1 for tries in peers.values()), peers
    assert {tries[0] for tries in peers.values()} == {A, B}
    for id in ids:
        first, second = instance.until_state(id, "delivered")["attempts"]
        assert (first["outcome"], first["egress"]) == ("ambiguous", second["egress"])


def test_a_message_whose_outcome_is_unknown_never_goes_to_a_smarthost(egret, shop, smarthost, authority, blocklist):
    """Even when its source is listed afterwards: a second copy is worse than a late one."""
    upstream = smarthost("esp")
    instance = egret(**with_fallback(authority))
    shop.on("dot", lambda session, message: close() if len(shop.offered) < 3 else None)
    send(letter())
    wait.until(lambda: shop.messages, 20, "the message arrives")
    instance.until_queue_empty()
    assert [message.peer for message in shop.offered] == [A] * 3
    assert upstream.sessions == []


def test_a_message_whose_outcome_is_unknown_stays_with_its_source_when_that_is_blocked(egret, shop, smarthost, authority):
    upstream = smarthost("esp")
    instance = egret(**with_fallback(authority))
    blocked = "554 5.7.1 Service unavailable; Client host [127.0.1.1] blocked using zen.spamhaus.org"
    shop.on("mail", lambda *_: blocked if shop.offered else None)
    shop.on("dot", lambda *_: close())
    id = send(letter(marker="unknown")).id
    wait.until(lambda: len(instance.message(id)["attempts"]) == 2, 20, "it is tried again, and refused")
    send(letter(marker="other"))
    wait.until(lambda: upstream.messages, 20, "other mail goes by the smarthost")
    assert [marker_of(message.data) for message in upstream.offered] == ["other"]
    wait.until(lambda: instance.queue()["total"] == 1, 5, "which is recorded")
    assert {attempt["egress"] for attempt in instance.message(id)["attempts"]} == {"a"}
