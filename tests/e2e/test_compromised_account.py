"""The story that Egret was made for: one account is abused, the address gets listed, the mail that matters arrives all the
same, and everything comes back by evidence. What the operator reads afterwards says exactly that."""

import pytest

from support import wait
from support.egret import A, source
from support.listeners import listener
from support.mail import letter, send

from test_brakes import HASH, deliver, no_such_user, refusal, session, state_of
from test_smarthosts import BULK, CLASSIFY, esp

STEPS = {"slow": {"share": "20%", "hour": 3}, "suspend": {"share": "30%", "hour": 6}, "rate": "1000/m"}
TOLD = ("user-slowed", "user-suspended", "listed", "pool-exhausted", "delisted", "trial", "warming", "clean", "user-resumed")


@pytest.fixture
def relay(egret, authority, tmp_path):
    """One address for both classes, knowingly; an ESP for the mail that matters."""
    users = tmp_path / "users"
    users.write_text(f"mallory:{HASH}\nshop:{HASH}\n")
    return egret(
        users=str(users), listeners=[listener(auth="optional")], classify=CLASSIFY, brakes={"suspend": STEPS},
        sources={"a": source("a", shared=True)}, smarthosts={"esp": esp("esp", authority, cost="0.10/1000", budget="1 USD/d")},
        classes={"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}},
        pools={"transactional": {"sources": ["a"], "fallback": ["esp"]}, "bulk": {"sources": ["a"], "when_exhausted": "hold"}},
        delivery={"retry": ["1h"]})


def story(instance):
    """What was told of the user, the source and the pools, oldest first; steps of a warm-up count once."""
    told = []
    for event in reversed(instance.events()):
        if event["kind"] in TOLD and not event["provider"] and event["kind"] not in told[-1:]:
            told.append(event["kind"])
    return told


def test_an_account_is_abused_and_the_mail_that_matters_arrives(relay, shop, smarthost, blocklist, senders):
    sendgrid = smarthost("esp")
    wait.until(lambda: relay.standing("a") == "clean", 15, "the source was found clean")
    no_such_user(shop)

    # Somebody has mallory's password and a list of addresses.
    with session("mallory") as client:
        for n in range(3):
            deliver(client, f"nobody{n}@shop.test", sender="mallory@sender.test")
        wait.until(lambda: state_of(relay, "mallory") == "slowed", 10, "he is slowed")
        for n in range(3, 6):
            deliver(client, f"nobody{n}@shop.test", sender="mallory@sender.test")
        wait.until(lambda: state_of(relay, "mallory") == "suspended", 10, "he is suspended")
        assert "egret user resume mallory" in refusal(client)
    with session("shop") as client:
        deliver(client, "user@shop.test", marker="direct")
    wait.until(lambda: shop.with_marker("direct"), 10, "others' mail leaves by the source")

    # Too late for the address.
    blocklist.list(A)
    relay.until_listed("a")
    with session("shop") as client:
        deliver(client, "user@shop.test", marker="password-reset")
    send(letter(marker="newsletter", headers=BULK))
    wait.until(lambda: sendgrid.with_marker("password-reset"), 10, "what matters goes by the ESP")
    wait.until(lambda: relay.queue()["by_class"].get("bulk") == relay.queue()["held"] == 1, 10, "bulk is held")
    assert not shop.with_marker("newsletter") and not sendgrid.with_marker("newsletter")
    esp_now = relay.smarthosts()["esp"]
    assert esp_now["used"]["recipients"] == 1 and esp_now["used"]["cost"] > 0
    with session("mallory") as client:
        assert "is suspended" in refusal(client), "a listing lets nobody off"

    # The cause is gone, and so is the listing.
    blocklist.delist(A)
    relay.until_not_listed("a")
    wait.until(lambda: shop.with_marker("newsletter"), 20, "bulk is released")
    with session("shop") as client:
        def clean():
            deliver(client, "user@shop.test")
            return relay.standing("a") == "clean"
        wait.until(clean, 30, "the source carries everything again", interval=0.1)
    assert relay.command("user", "resume", "mallory").returncode == 0
    with session("mallory") as client:
        assert refusal(client) is None

    assert story(relay) == ["user-slowed", "user-suspended", "listed", "pool-exhausted", "delisted", "warming", "clean",
                            "user-resumed"]
    assert relay.events(kind="delisted")[0]["to"] == "trial"
    assert {event["action"] for event in relay.events(kind="pool-exhausted")} == {
        "its mail goes by its smarthosts", "its mail is held until a source is back"}
    (suspended,) = relay.events(kind="user-suspended")
    assert suspended["sender"] == "mallory" and "do not exist" in suspended["text"]
    relay.until_queue_empty()
