"""The brakes: rates, unusual rises, users whose mail is refused, and who sends what."""

import base64
import contextlib
import ctypes
import json
import re

import pytest

from support import wait
from support.listeners import listener
from support.mail import letter, receipt, send
from support.raw_smtp import RawSmtp, stuffed

PASSWORD = "correct horse"


def crypt(setting):
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    return library.crypt(PASSWORD.encode(), setting.encode()).decode()


HASH = crypt("$6$rounds=1000$saltsaltsaltsalt$")


@pytest.fixture
def relay(egret, tmp_path):
    """relay(brakes, sections): users joe, ann and big (who has a rate of his own) may log in; nobody has to."""
    users = tmp_path / "users"
    users.write_text(f"joe:{HASH}\nann:{HASH}\nbig:{HASH}:rate=50/h\n")

    def make(brakes, **sections):
        return egret(users=str(users), listeners=[listener(auth="optional")], brakes=brakes, **sections)
    return make


@contextlib.contextmanager
def session(user=None, source=None):
    with RawSmtp(source=source) as client:
        client.hello()
        if user:
            login = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
            assert client.ask("AUTH PLAIN " + login).startswith("235")
        yield client


def deliver(client, *recipients, sender="app@sender.test", marker=None):
    """The id of the message that all recipients were accepted for."""
    for command in (f"MAIL FROM:<{sender}>", *(f"RCPT TO:<{to}>" for to in recipients)):
        assert (reply := client.ask(command)).startswith("250"), reply
    assert client.ask("DATA").startswith("354")
    client.send(stuffed(letter(marker)))
    return receipt(client.reply()).id


def refusal(client, sender="app@sender.test", to="user@shop.test"):
    """What MAIL or RCPT is refused with; None when both are taken."""
    for command in (f"MAIL FROM:<{sender}>", f"RCPT TO:<{to}>"):
        reply = client.ask(command)
        if not reply.startswith("250"):
            client.ask("RSET")
            return reply
    client.ask("RSET")
    return None


def held(instance):
    return {row["id"]: row["reason"] for row in instance.api("/queue?state=held")["messages"]}


def state_of(instance, user):
    return {row["user"]: row["state"] for row in instance.api("/users")}.get(user)


def no_such_user(receiver):
    receiver.on("rcpt", lambda _, argument: "550 5.1.1 No such user" if "nobody" in argument
                else "450 4.2.0 Try again later" if "later" in argument else None)


STEPS = {"slow": {"hour": 3, "share": "20%"}, "suspend": {"hour": 6, "share": "40%"}, "rate": "100/m"}


# -- rates


def test_a_users_messages_and_recipients_have_a_rate(relay, shop):
    instance = relay({"user": {"messages": "2/h", "recipients": ["5/h", "100/d"]}})
    with session("joe") as client:
        deliver(client, "a@shop.test", "b@shop.test")
        deliver(client, "c@shop.test")
        reply = refusal(client)
        assert re.fullmatch(r"450 4\.7\.1 user joe may send 2 messages in 1h, used up until 20\S+Z: try again in 3\d+ s", reply), reply
        assert "user joe may send 2 messages" in refusal(client)
    with session("ann") as client:
        deliver(client, *(f"{n}@shop.test" for n in range(4)))
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("RCPT TO:<5@shop.test>").startswith("250")
        assert client.ask("RCPT TO:<6@shop.test>").startswith("450 4.7.1 user ann may send to 5 recipients in 1h, ")
    with session("big") as client:
        deliver(client, *(f"{n}@shop.test" for n in range(20)))  # the users file has the last word
    events = wait.until(lambda: len(found := instance.events(kind="rate-exceeded")) == 2 and found, 5, "each is told once")
    assert {event["sender"]: event["rule"] for event in events} == {"joe": "rate-per-user", "ann": "rate-per-user"}
    assert all("450 until 20" in event["action"] and "may send" in event["text"] for event in events)
    wait.until(lambda: len(shop.messages) == 4, 10, "what was accepted is delivered")


def test_networks_and_sender_domains_have_rates_of_their_own(relay, shop):
    instance = relay({"network": {"messages": "2/h"}, "sender_domain": {"recipients": "3/h"}})
    with session(source="127.0.7.1") as client:
        deliver(client, "a@shop.test", "b@shop.test", sender="x@one.test")
    with session(source="127.0.7.2") as client:
        deliver(client, "a@shop.test", sender="y@ONE.test")
    with session(source="127.0.7.3") as client:
        assert refusal(client).startswith("450 4.7.1 client network 127.0.7.0/24 may send 2 messages in 1h, ")
    with session(source="127.0.8.1") as client:
        assert refusal(client, "z@one.test").startswith("450 4.7.1 sender domain one.test may send to 3 recipients in 1h, ")
        assert refusal(client, "z@two.test") is None
    rules = {"127.0.7.0/24": "rate-per-network", "one.test": "rate-per-sender-domain"}
    wait.until(lambda: {e["sender"]: e["rule"] for e in instance.events(kind="rate-exceeded")} == rules, 5, "both are told")


def test_observing_tells_of_a_rate_and_refuses_nothing(relay, shop):
    instance = relay({"mode": "observe", "user": {"messages": "1/h"}})
    with session("joe") as client:
        for _ in range(3):
            deliver(client, "a@shop.test")
    (event,) = wait.until(lambda: instance.events(kind="rate-exceeded"), 5, "it is told")
    assert event["action"] == "observed only, not enforced"
    wait.until(lambda: len(shop.messages) == 3, 10, "all is delivered")


def test_a_reload_changes_the_rates(relay, shop):
    instance = relay({"user": {"messages": "1/h"}})
    with session("joe") as client:
        deliver(client, "a@shop.test")
        assert refusal(client)
    instance.configure(**{**instance.config, "brakes": {"user": {"messages": "5/h"}}})
    assert instance.command("reload").returncode == 0
    with session("joe") as client:
        assert refusal(client) is None


# -- what is unusual


def test_a_sudden_rise_is_told_once(relay, shop):
    instance = relay({"baseline": {"recipients": 6, "learn": "0s"}})
    with session("joe") as client:
        deliver(client, *(f"{n}@shop.test" for n in range(5)))
        assert not instance.events(kind="unusual-sender")
        for _ in range(3):
            deliver(client, "a@shop.test", "b@shop.test")
    (event,) = wait.until(lambda: instance.events(kind="unusual-sender"), 5, "the rise is told")
    assert event["sender"] == "joe" and event["text"].startswith("user joe sends to ") and "egret user suspend joe" in event["action"]
    assert state_of(instance, "joe") == "free"
    with session(source="127.0.9.1") as client:
        deliver(client, *(f"{n}@shop.test" for n in range(8)), sender="x@new.test")
    wait.until(lambda: {e["sender"] for e in instance.events(kind="unusual-sender")} == {"joe", "127.0.9.0/24", "new.test"}, 5,
               "who does not log in is known by network and domain")


def test_a_sudden_rise_may_suspend(relay, shop):
    instance = relay({"baseline": {"recipients": 6, "learn": "0s", "action": "suspend"}})
    with session("joe") as client:
        deliver(client, *(f"{n}@shop.test" for n in range(6)))
        wait.until(lambda: state_of(instance, "joe") == "suspended", 5, "he is suspended")
        assert refusal(client).startswith("450 4.7.1 user joe is suspended: 6 recipients in an hour are unusual")
    assert instance.events(kind="user-suspended")[0]["rule"] == "baseline"


# -- whose mail is refused


def test_a_compromised_user_is_slowed_then_suspended_and_nobody_else(relay, shop, senders):
    instance = relay({"suspend": STEPS}, delivery={"retry": ["30s"]})
    no_such_user(shop)
    with session("ann") as client:
        deliver(client, *(f"good{n}@shop.test" for n in range(5)), "nobody@shop.test")
    with session("joe") as client:
        waiting = deliver(client, "later@shop.test", marker="waiting")
        wait.until(lambda: instance.message(waiting)["attempts"], 10, "it was tried")
        for n in range(3):
            deliver(client, f"nobody{n}@shop.test")
        (event,) = wait.until(lambda: instance.events(kind="user-slowed"), 10, "he is slowed")
        assert event["sender"] == "joe" and "3 of 3 recipients within an hour were refused: 3 do not exist" in event["text"]
        for n in range(3):
            deliver(client, f"nobody{n}@shop.test")
        (event,) = wait.until(lambda: instance.events(kind="user-suspended"), 10, "he is suspended")
        assert (event["sender"], event["from"], event["to"]) == ("joe", "slowed", "suspended")
        assert "egret user resume joe" in event["action"]
        reply = refusal(client)
        assert reply.startswith("450 4.7.1 user joe is suspended: 6 of 6 recipients") and "egret user resume joe" in reply
    reason = wait.until(lambda: held(instance).get(waiting), 10, "what waits is held")
    assert reason.startswith("user joe is suspended: ")
    with session("ann") as client:
        deliver(client, "fine@shop.test", marker="fine")
    wait.until(lambda: shop.with_marker("fine"), 10, "other users' mail flows")
    shown = instance.command("users").stdout
    assert "joe" in shown and "suspended" in shown and "ann" in shown

    instance.restart()
    assert state_of(instance, "joe") == "suspended" and held(instance)[waiting] == reason
    with session("joe") as client:
        assert refusal(client).startswith("450 4.7.1 user joe is suspended")
    shop.on("rcpt", lambda *_: None)
    assert instance.command("user", "resume", "joe").returncode == 0
    wait.until(lambda: shop.with_marker("waiting"), 10, "his mail leaves")
    with session("joe") as client:
        deliver(client, "user@shop.test", marker="again")
    wait.until(lambda: shop.with_marker("again"), 10, "he may send again")
    assert instance.events(kind="user-resumed")[0]["sender"] == "joe"
    again = instance.command("user", "resume", "joe")
    assert again.returncode == 1 and "neither slowed nor suspended" in again.stderr


def test_a_slowed_user_sends_at_his_rate_and_hears_why(relay, shop, senders):
    instance = relay({"suspend": {**STEPS, "suspend": {"hour": 0, "day": 0}, "rate": "1/h"}})
    no_such_user(shop)
    with session("joe") as client:
        for n in range(3):
            deliver(client, f"nobody{n}@shop.test")
        wait.until(lambda: state_of(instance, "joe") == "slowed", 10, "he is slowed")
        deliver(client, "user@shop.test")
        reply = refusal(client)
        assert reply.startswith("450 4.7.1 slowed user joe may send 1 messages in 1h, because 3 of 3 recipients within an hour")
    assert not instance.events(kind="rate-exceeded")
    assert instance.command("user", "resume", "joe").returncode == 0
    with session("joe") as client:
        assert refusal(client) is None


def test_an_operator_suspends_and_whatever_waits_of_a_user_is_held(relay, shop):
    """The receiver takes no connection, so all his mail waits."""
    instance = relay({}, delivery={"retry": ["1s"]})
    shop.stop()
    with session("joe") as client:
        ids = [deliver(client, f"{n}@shop.test") for n in range(5)]
    with session("ann") as client:
        other = deliver(client, "user@shop.test")
    assert instance.command("user", "suspend", "joe").returncode == 0
    wait.until(lambda: set(held(instance)) == set(ids), 10, "his messages are held, and no other")
    assert "suspended by the operator" in held(instance)[ids[0]]
    again = instance.command("user", "suspend", "joe")
    assert again.returncode == 1 and "suspended already" in again.stderr
    assert other not in held(instance)


def test_observing_suspends_nobody_but_an_operators_order_counts(relay, shop, senders):
    instance = relay({"mode": "observe", "suspend": STEPS})
    no_such_user(shop)
    with session("joe") as client:
        for n in range(8):
            deliver(client, f"nobody{n}@shop.test")
        (event,) = wait.until(lambda: instance.events(kind="user-suspended"), 10, "it is told")
        assert event["action"] == "observed only, not enforced"
        (row,) = [row for row in instance.api("/users") if row["user"] == "joe"]
        assert (row["state"], row["observed"]) == ("suspended", True)
        assert refusal(client) is None
    assert instance.command("user", "suspend", "ann").returncode == 0
    with session("ann") as client:
        assert refusal(client).startswith("450 4.7.1 user ann is suspended: suspended by the operator")


# -- who sends what


def test_senders_shows_who_sends_what(relay, shop, senders):
    instance = relay({})
    no_such_user(shop)
    with session("joe") as client:
        deliver(client, "a@shop.test", "b@shop.test", "nobody@shop.test", sender="news@One.test")
        deliver(client, "a@shop.test", sender="news@one.test")
    with session(source="127.0.7.9") as client:
        deliver(client, "a@shop.test", sender="x@two.test")

    def figures(by):
        answer = instance.api(f"/senders/top?by={by}&hours=2&limit=10")
        return {row["name"]: row for row in answer["senders"]}

    row = wait.until(lambda: (r := figures("user").get("joe")) and r["delivered"] == 3 and r["bounced"] == 1 and r, 10, "counted")
    assert (row["messages"], row["recipients"], row["rejects"]) == (2, 4, {"recipient": 1})
    assert sum(hour["recipients"] for hour in row["hourly"]) == 4
    assert figures("user")[""]["recipients"] == 1
    assert figures("sender")["news@one.test"]["recipients"] == 4
    assert figures("domain")["two.test"]["delivered"] == 1
    assert figures("network")["127.0.7.0/24"]["messages"] == 1
    shown = instance.command("senders", "--by", "domain").stdout
    assert "one.test" in shown and "recipient 1" in shown and "(all)" in shown
    assert json.loads(instance.command("senders", "--json", "--top", "1").stdout)["others"]["recipients"] == 1
    assert instance.http("/api/v1/senders/top?by=shoe")[0] == 400
    instance.restart()
    assert figures("user")["joe"]["recipients"] == 4


def test_mail_without_log_in_is_never_suspended(relay, shop, senders):
    instance = relay({"suspend": STEPS})
    no_such_user(shop)
    for n in range(8):
        send(letter(), to=f"nobody{n}@shop.test")
    wait.until(lambda: instance.api("/senders/top?by=domain")["all"]["bounced"] == 8, 10, "all are counted")
    assert instance.api("/users") == [] and not instance.events(kind="user-slowed")
