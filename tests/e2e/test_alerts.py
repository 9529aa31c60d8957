"""Operators are told: by webhooks that are signed and tried again, and by mail that takes the healthiest route."""

import email
import email.policy
import socket
import time

import pytest

from support import wait
from support.egret import A, B, STOP_WITHIN, source
from support.hook_receiver import HANG, HookReceiver
from support.mail import letter, send

SECRET = "s3cret"


@pytest.fixture
def hook_server():
    started = []

    def make(**options):
        receiver = HookReceiver(**options)
        started.append(receiver)
        return receiver.start()

    yield make
    for receiver in started:
        receiver.stop()


@pytest.fixture
def hook(hook_server):
    return hook_server()


def webhook(url, **more):
    return {"webhook": url, "secret": SECRET, **more}


def counter(instance, name):
    """The sum over all targets."""
    lines = [line for line in instance.http("/metrics")[2].splitlines() if line.startswith(f"egret_alerts_{name}_total")]
    assert lines, f"no counter of alerts {name}"
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def until_dropped(instance, count=1, timeout=15):
    wait.until(lambda: counter(instance, "dropped") == count, timeout, f"{count} alerts are dropped")


def test_a_listing_is_posted_signed_and_says_what_was_seen_and_done(egret, hook, blocklist):
    instance = egret(alerts=[webhook(hook.url + "?x=y")], reputation={
        "blocklists": {"bl": {"zone": "bl.test", "weight": 1.0, "delist": "https://bl.test/remove"}}})
    blocklist.list(A, text="https://bl.test/why")
    wait.until(lambda: hook.requests, 15, "the alert arrives")
    (request,) = hook.requests
    assert request.genuine and request.path == "/hook?x=y"
    assert request.headers["Content-Type"] == "application/json"
    alert = request.alert
    assert (alert["kind"], alert["phase"], alert["sequence"], alert["host"]) == ("listed", "new", 1, "relay.test")
    assert (alert["source"], alert["blocklist"], alert["to"]) == ("a", "bl", "listed")
    assert "https://bl.test/why" in alert["seen"] and alert["rule"] == "blocklist-check"
    assert "carries no mail" in alert["did"] and alert["delist"] == "https://bl.test/remove"
    assert alert["concerns"] == {"pools": ["transactional"], "classes": ["transactional"], "queue": {"transactional": 0}}
    blocklist.delist(A)
    wait.until(lambda: len(hook.requests) == 2, 20, "the delisting arrives")
    later = hook.requests[1].alert
    assert (later["kind"], later["phase"], later["alert"], later["sequence"]) == ("delisted", "changed", alert["alert"], 2)
    assert counter(instance, "sent") == 2


def test_only_the_kinds_asked_for_arrive(egret, hook, blocklist):
    instance = egret(alerts=[webhook(hook.url, on=["pool-exhausted"])])
    blocklist.list(A, B)
    instance.until_listed("a", "b")
    wait.until(lambda: hook.requests, 15, "the alert arrives")
    assert {alert["kind"] for alert in hook.taken} == {"pool-exhausted"}
    assert hook.taken[0]["concerns"]["pools"] == ["transactional"] and "held" in hook.taken[0]["did"]


def test_a_receiver_in_trouble_is_tried_again_and_nothing_overtakes(egret, hook, blocklist):
    hook.answers = [500, 503]
    instance = egret(alerts=[webhook(hook.url)])
    blocklist.list(A, B)
    wait.until(lambda: len(hook.requests) >= 5, 20, "three alerts, the first of them three times, arrive")
    assert all(request.genuine for request in hook.requests)
    first, second, third, *rest = hook.requests
    assert first.body == second.body == third.body
    assert third.time - second.time > second.time - first.time > 0.5, "the pauses do not grow"
    assert {request.alert["kind"] for request in rest} == {"listed", "pool-exhausted"}
    assert counter(instance, "retried") == 2 and counter(instance, "dropped") == 0


def test_what_is_never_taken_is_dropped_with_a_log_line_and_no_secret_in_it(egret, hook, blocklist):
    hook.otherwise = 500
    instance = egret(alerts=[webhook(hook.url + "/t0ken", max_age="2s", on=["listed"])])
    blocklist.list(A)
    until_dropped(instance)
    assert "alert dropped" in instance.log() and "HTTP status 500" in instance.log()
    text = instance.log() + instance.http("/metrics")[2]
    assert SECRET not in text and "t0ken" not in text


def test_a_redirect_is_not_followed(egret, hook_server, blocklist):
    elsewhere = hook_server(port=8081)
    hook = hook_server()
    hook.otherwise = (302, {"Location": elsewhere.url})
    instance = egret(alerts=[webhook(hook.url, on=["listed"])])
    blocklist.list(A)
    until_dropped(instance)
    assert len(hook.requests) == 1 and elsewhere.requests == []


def test_an_answer_without_end_ends(egret, hook, blocklist):
    hook.answers = [b"HTTP/1.1 200 OK\r\n" + b"X-Long: yes\r\n" * 10000]
    instance = egret(alerts=[webhook(hook.url, on=["listed"])])
    blocklist.list(A)
    wait.until(lambda: len(hook.requests) == 2, 15, "it is tried again")
    wait.until(lambda: counter(instance, "sent") == 1, 10, "it is taken")


def test_a_receiver_that_hangs_blocks_neither_mail_nor_the_other_target(egret, hook_server, shop, blocklist):
    hanging, well = hook_server(), hook_server(port=8081)
    hanging.otherwise = HANG
    instance = egret(alerts=[webhook(hanging.url, timeout="3s"), webhook(well.url)])
    blocklist.list(A)
    wait.until(lambda: hanging.requests and well.requests, 15, "both are told")
    begun = time.monotonic()
    for _ in range(20):
        send(letter())
    wait.until(lambda: len(shop.messages) == 20, 5, "the mail arrives")
    assert time.monotonic() - begun < 2 and set(shop.peers()) == {B}
    wait.until(lambda: len(hanging.requests) == 2, 10, "the hanging one is tried again")
    assert 3 <= hanging.requests[1].time - hanging.requests[0].time < 6


def test_a_stop_does_not_wait_for_a_receiver_that_hangs(egret, hook, blocklist):
    hook.otherwise = HANG
    instance = egret(alerts=[webhook(hook.url, timeout="1m")])
    blocklist.list(A, B)
    wait.until(lambda: hook.requests, 15, "the receiver hangs")
    begun = time.monotonic()
    instance.stop()
    assert time.monotonic() - begun < STOP_WITHIN - 4
    assert "alert dropped" in instance.log()


def test_what_waits_for_its_next_try_is_tried_once_more_before_a_stop(egret, hook, blocklist):
    hook.answers = [500, 500, 500]
    instance = egret(alerts=[webhook(hook.url, on=["listed"])])
    blocklist.list(A)
    wait.until(lambda: len(hook.requests) == 3, 15, "three tries")
    instance.stop()
    assert len(hook.requests) == 4 and "alert dropped" not in instance.log()


def test_https_wants_a_certificate_of_the_authority_and_for_the_name(egret, hook_server, dns, authority,
                                                                     foreign_authority, blocklist):
    for number, name in enumerate(("good", "foreign", "wrong"), 1):
        dns.a(f"{name}.hooks.test", f"127.0.6.{number}")
    good = hook_server(address="127.0.6.1", port=443, tls=authority.server("good.hooks.test"))
    foreign = hook_server(address="127.0.6.2", port=443, tls=foreign_authority.server("foreign.hooks.test"))
    wrong = hook_server(address="127.0.6.3", port=443, tls=authority.server("another.hooks.test"))
    targets = [webhook(f"https://{name}.hooks.test/x", ca=authority.certificate, max_age="1s", on=["listed"])
               for name in ("good", "foreign", "wrong")]
    instance = egret(alerts=targets)
    blocklist.list(A)
    wait.until(lambda: good.taken, 15, "the right one is told")
    until_dropped(instance, 2)
    assert good.requests[0].headers["Host"] == "good.hooks.test"
    assert foreign.requests == [] and wrong.requests == []
    assert instance.log().count("certificate verify failed") >= 2


def test_https_believes_the_systems_store_where_no_ca_is_named(egret, hook_server, dns, authority, blocklist):
    dns.a("good.hooks.test", "127.0.6.1")
    good = hook_server(address="127.0.6.1", port=443, tls=authority.server("good.hooks.test"))
    instance = egret(start=False, alerts=[webhook("https://good.hooks.test/x", on=["listed"])])
    instance.environment["SSL_CERT_FILE"] = authority.certificate
    instance.start()
    blocklist.list(A)
    wait.until(lambda: good.taken, 15, "the receiver is told")


def test_flapping_is_one_story_that_is_told_three_times(egret, hook, blocklist):
    instance = egret(alerts=[webhook(hook.url, on=["listed", "delisted"])])
    for _ in range(3):
        blocklist.list(A)
        instance.until_listed("a")
        blocklist.delist(A)
        instance.until_not_listed("a")
    wait.until(lambda: len(instance.events(kind="delisted")) == 3, 10, "the source was delisted three times")
    wait.until(lambda: len(hook.taken) == 3, 10, "three alerts arrive")
    assert [alert["phase"] for alert in hook.taken] == ["new", "changed", "flapping"]
    assert len({alert["alert"] for alert in hook.taken}) == 1
    assert hook.taken[2]["counts"] == {"listed": 2, "delisted": 1}
    assert counter(instance, "folded") >= 3


def test_mail_reaches_the_operator_by_the_source_that_is_not_listed(egret, shop, blocklist):
    instance = egret(alerts=[{"mail": "ops@shop.test", "on": ["listed"]}])
    blocklist.list(A)
    wait.until(lambda: shop.messages, 15, "the mail arrives")
    (message,) = shop.messages
    assert (message.peer, message.sender, message.recipients) == (B, "", ("ops@shop.test",))
    parsed = email.message_from_bytes(message.data, policy=email.policy.default)
    assert parsed["From"].addresses[0].addr_spec == "egret@relay.test" and parsed["To"].addresses[0].addr_spec == "ops@shop.test"
    assert parsed["Subject"] == "[relay.test] listed: source a, blocklist bl"
    assert parsed["Auto-Submitted"] == "auto-generated" and parsed["Message-ID"] and parsed["Date"]
    text = parsed.get_content()
    for part in ("Seen:", "Rule:", "blocklist-check", "carries no mail", "Pools:", "transactional", "Waiting:"):
        assert part in text
    instance.until_queue_empty()


def test_alerts_that_come_together_are_one_mail_from_the_address_configured(egret, shop, blocklist):
    egret(alerts=[{"mail": "ops@shop.test", "from": "egret@sender.test", "class": "transactional"}],
          sources={"a": source("a"), "b": source("b"), "c": source("c")})
    blocklist.list(A, B)
    wait.until(lambda: shop.messages, 15, "the mail arrives")
    (message,) = shop.messages
    assert message.sender == "egret@sender.test"
    assert b"listed: source a" in message.data and b"listed: source b" in message.data


def test_an_alert_that_cannot_be_delivered_leads_to_nothing_more(egret, receive_for, senders, hook, blocklist):
    ops = receive_for("ops.test")
    ops.script["rcpt"] = lambda session, argument: "550 5.1.1 No such user"
    instance = egret(alerts=[{"mail": "ops@ops.test", "from": "egret@sender.test"}, webhook(hook.url)])
    blocklist.list(A)
    wait.until(lambda: any("RCPT" in line for session in ops.sessions for line in session.commands), 15, "it is refused")
    instance.until_queue_empty()
    assert senders.messages == [], "a report of the alert"
    assert [alert["kind"] for alert in hook.taken] == ["listed"]
    assert counter(instance, "sent") == 2


def test_mail_that_waits_at_a_stop_arrives_once_before_the_end_or_after_the_next_start(egret, shop, blocklist):
    instance = egret(alerts=[{"mail": "ops@shop.test", "on": ["listed"]}])
    blocklist.list(A)
    instance.until_listed("a")
    instance.stop()
    instance.start()
    wait.until(lambda: shop.messages, 15, "the mail arrives")
    instance.until_queue_empty()
    assert len(shop.messages) == 1


def test_a_budget_that_runs_out_is_told_before_and_when_it_is_used_up(egret, hook, smarthost, shop, authority):
    smarthost("esp")
    instance = egret(alerts=[webhook(hook.url, on=["budget"])], smarthosts={
        "esp": {"address": "smtp.esp.test:587", "username": "apikey", "password": "s3cret", "ca": authority.certificate,
                "budget": "10/d"}}, pools={"transactional": {"fallback": ["esp"]}})
    for _ in range(8):
        send(letter())
    wait.until(lambda: len(hook.taken) == 2, 10, "nearly used up")
    for _ in range(2):
        send(letter())
    wait.until(lambda: len(hook.taken) == 3, 10, "used up")
    assert [(alert["smarthost"], alert["to"]) for alert in hook.taken] == [("esp", "half"), ("esp", "low"), ("esp", "used-up")]
    assert "10 of 10 recipients" in hook.taken[2]["seen"]
    instance.until_queue_empty()


def test_where_nobody_listens_the_start_is_the_same(egret, shop):
    egret(alerts=[webhook("http://127.0.0.1:9/")])
    send(letter())
    wait.until(lambda: shop.messages, 10, "the mail arrives")


def test_a_receiver_that_closes_without_an_answer_is_asked_again(egret, blocklist):
    with socket.create_server(("127.0.0.1", 8081)) as server:
        server.settimeout(15)
        instance = egret(alerts=[webhook("http://127.0.0.1:8081/", on=["listed"])])
        blocklist.list(A)
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                assert b"X-Egret-Signature" in connection.recv(65536)
        wait.until(lambda: "ended without a response" in instance.log(), 10, "the log says why")
