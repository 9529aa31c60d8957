"""What may be spent at smarthosts: in recipients and money, per smarthost and per class, over crashes; and how fast."""

import threading
import time

import pytest

from support import wait
from support.egret import source
from support.hook_receiver import HookReceiver
from support.mail import letter, send

CLASSES = {"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk", "budget": "0.30 USD/d"}}
CLASSIFY = [{"header": "Precedence", "matches": "bulk", "class": "bulk"}]
BULK = ["Precedence: bulk"]


@pytest.fixture
def hook():
    receiver = HookReceiver().start()
    yield receiver
    receiver.stop()


def esp(name, authority, **more):
    return {"address": f"smtp.{name}.test:587", "tls": "starttls", "username": "apikey", "password": "s3cret",
            "ca": authority.certificate, **more}


def through(*names, **more):
    """All mail goes by these smarthosts."""
    return {"sources": {"a": source("a")}, "pools": {"transactional": {"fallback": list(names)}}, **more}


def taken(receiver):
    return sum(len(message.recipients) for message in receiver.messages)


def reasons(instance):
    """Why mail is held."""
    return [row["reason"] for row in instance.api("/queue?state=held")["messages"]]


def stages(instance, **fields):
    return [event["to"] for event in reversed(instance.events(kind="budget", **fields))]


def test_a_budget_in_money_is_never_exceeded_over_crashes_under_load(egret, smarthost, authority):
    upstream = smarthost("esp")
    upstream.on("dot", lambda session, _: time.sleep(0.15))
    instance = egret(**through("esp"), smarthosts={
        "esp": esp("esp", authority, cost="0.10 EUR/1", budget=["12 EUR/d", "5000/h"], connections=4)})
    pay_for = 120
    for number in range(100):
        send(letter(), [f"x{number}@shop.test", f"y{number}@shop.test"][:1 + number % 2])
    for kill_at in (10, 30, 50, 70):
        wait.until(lambda: taken(upstream) >= kill_at, 20, f"the smarthost has {kill_at} recipients")
        instance.kill9()
        instance.start()
    wait.until(lambda: instance.queue()["held"] == instance.queue()["total"] > 0, 30, "the rest is held")
    assert 80 <= taken(upstream) <= pay_for
    host = instance.smarthosts()["esp"]
    assert host["used"]["currency"] == "EUR" and taken(upstream) * 0.10 <= host["used"]["cost"] + 1e-9 <= 12 + 2e-9
    assert [limit["budget"] for limit in host["limits"]] == ["12 EUR/d", "5000/h"]
    before = taken(upstream)
    instance.kill9()
    instance.start()
    send(letter())
    wait.until(lambda: instance.queue()["held"] == instance.queue()["total"] > 0, 30, "all is held")
    assert before <= taken(upstream) <= pay_for


def test_half_four_fifths_and_all_are_told_once_and_then_the_next_smarthost_serves(egret, smarthost, authority, hook):
    first, second = smarthost("esp1"), smarthost("esp2")
    instance = egret(alerts=[{"webhook": hook.url, "secret": "s3cret", "on": ["budget"]}], **through("esp1", "esp2"),
                     smarthosts={"esp1": esp("esp1", authority, cost="0.50/1", budget="5 USD/d"),
                                 "esp2": esp("esp2", authority, budget="4/d")})
    for recipients in (5, 3, 2):
        send(letter(), [f"user{number}@shop.test" for number in range(recipients)])
    wait.until(lambda: len(hook.taken) == 3, 15, "three alerts")
    assert stages(instance) == ["half", "low", "used-up"]
    assert taken(first) == 10
    last = instance.events(kind="budget")[0]
    assert last["smarthost"] == "esp1" and "5 USD of 5 USD" in last["text"] and "next smarthost" in last["action"]
    route = instance.route()
    assert [candidate["egress"] for candidate in route["candidates"]] == ["esp2"]
    (refused,) = [entry for entry in route["rejected"] if entry["egress"] == "esp1"]
    assert refused["reason"] == "budget used up: 5 USD/d" and refused["until"].endswith("T00:00:00.000Z")

    instance.kill9()
    instance.start()
    send(letter(marker="eleventh"))
    send(letter())
    wait.until(lambda: stages(instance, smarthost="esp2") == ["half"], 15, "the other is used to half")
    assert second.with_marker("eleventh") and taken(first) == 10
    assert stages(instance, smarthost="esp1") == [], "it was told before the crash"


def test_without_a_next_smarthost_mail_is_held_until_the_budget_renews(egret, smarthost, authority):
    period = 5
    upstream, times = smarthost("esp"), []
    upstream.on("dot", lambda session, _: times.append(time.time()))
    instance = egret(**through("esp"), smarthosts={"esp": esp("esp", authority, budget=f"2/{period}s")})
    wait.until(lambda: 0.3 < time.time() % period < 3, 2 * period, "the middle of a period")
    for _ in range(5):
        send(letter())
    wait.until(lambda: instance.queue()["held"] == 3, 3, "three are held")
    wait.until(lambda: all("esp budget used up: 2/5s" in reason for reason in reasons(instance)), 3, "the queue says why")
    assert stages(instance) in (["half", "used-up"], ["half"], [])
    instance.until_queue_empty(3 * period)
    assert len(times) == 5
    periods = [int(moment // period) for moment in times]
    assert all(periods.count(one) <= 2 for one in periods), times


def test_mail_that_no_smarthost_takes_keeps_none_behind_it_from_a_budget_that_renews(egret, smarthost, authority):
    """Nine messages are too large for it, and are the first of those that are offered again."""
    period = 3
    upstream = smarthost("esp")
    instance = egret(**through("esp"), smarthosts={"esp": esp("esp", authority, provider="postmark", budget=f"5/{period}s")})
    large = b"x" * 76 + b"\r\n"
    for _ in range(9):
        send(letter(marker="large", body=large * (10_600_000 // len(large))))
    wait.until(lambda: instance.queue()["held"] == 9, 20, "nine are held")
    for number in range(12):
        send(letter(marker=f"m-{number}"))
    wait.until(lambda: len(upstream.messages) == 12, 10 * period, "the others arrive")
    assert instance.queue()["held"] == 9


def test_a_class_with_a_budget_is_held_while_others_go_on(egret, smarthost, authority):
    upstream = smarthost("esp")
    instance = egret(sources={"a": source("a")}, classes=CLASSES,
                     classify=CLASSIFY, pools={"transactional": {"fallback": ["esp"]}, "bulk": {"fallback": ["esp"]}},
                     smarthosts={"esp": esp("esp", authority, cost="0.10/1", rate="200/s")})
    for number in range(5):
        send(letter(marker=f"news{number}", headers=BULK))
    wait.until(lambda: instance.queue()["held"] == 2, 15, "two of five newsletters are held")
    wait.until(lambda: all("budget used up of class bulk: 0.3 USD/d" in reason for reason in reasons(instance)), 5,
               "the queue says whose budget it is")
    for _ in range(4):
        send(letter(marker="urgent"))
    wait.until(lambda: len(upstream.with_marker("urgent")) == 4, 15, "transactional mail goes on")
    assert len(upstream.messages) == 7
    wait.until(lambda: "used-up" in stages(instance), 5, "it is told")
    event = instance.events(kind="budget")[0]
    assert event["text"].startswith("class bulk at all smarthosts: 0.3 USD of 0.3 USD")
    assert "budget used up of class bulk" in instance.explain("app@sender.test", "user@shop.test", "--class", "bulk")
    assert "budget used up" not in instance.explain("app@sender.test", "user@shop.test", "--class", "transactional")

    host = instance.smarthosts()["esp"]
    assert host["used"] == {"messages": 7, "recipients": 7, "cost": 0.7, "currency": "USD"}
    assert host["budget"] is None and host["left"] is None and host["limits"] == []
    assert (host["cost"], host["rate"]) == ("100 USD/1000", "200/s")
    assert host["today"]["by_class"] == {"bulk": {"recipients": 3, "cost": {"USD": 0.3}},
                                         "transactional": {"recipients": 4, "cost": {"USD": 0.4}}}
    pools = {pool["name"]: pool for pool in instance.pools()}
    today = pools["bulk"]["failover_today"]
    assert (today["recipients"], today["cost"]) == (3, {"USD": 0.3})
    assert today["by_smarthost"]["esp"]["recipients"] == 3
    (budget,) = pools["bulk"]["class_budgets"]["bulk"]
    assert (budget["used"], budget["left"], budget["stage"]) == (0.3, 0, "used-up")
    shown = instance.command("pools").stdout
    assert "today's failover cost: 3 recipients, 0.3 USD" in shown and "budget of class bulk: 0.3 USD/d" in shown
    assert "100 USD/1000" in instance.command("smarthosts").stdout
    metrics = instance.http("/metrics")[2]
    assert 'egret_smarthost_cost_today{smarthost="esp",class="bulk",currency="USD"} 0.3' in metrics
    assert 'egret_budget_limit{of="class",name="bulk",unit="USD",per="1d"} 0.3' in metrics

    instance.config["classes"]["bulk"]["budget"] = "1 USD/d"
    instance.configure(**{key: value for key, value in instance.config.items() if key != "data_dir"})
    assert instance.command("reload").returncode == 0
    wait.until(lambda: len(upstream.messages) == 9, 15, "a larger budget releases what is held")
    instance.until_queue_empty()


def test_only_what_was_surely_not_sent_is_given_back(egret, smarthost, authority):
    upstream = smarthost("esp")
    upstream.on("rcpt", lambda session, argument: "550 5.1.1 no such user" if "nobody" in argument else None)
    instance = egret(**through("esp"), smarthosts={"esp": esp("esp", authority, budget="10/d")})
    send(letter(), ["user@shop.test", "nobody@shop.test", "nobody2@shop.test"], sender="")
    instance.until_queue_empty()
    assert instance.smarthosts()["esp"]["used"]["recipients"] == 1
    assert instance.smarthosts()["esp"]["left"]["recipients"] == 9


def test_a_rate_is_kept_and_what_would_wait_long_takes_the_next_smarthost(egret, smarthost, authority):
    first, second, times = smarthost("esp1"), smarthost("esp2"), []
    first.on("mail", lambda session, _: times.append(time.monotonic()))
    instance = egret(**through("esp1", "esp2"), smarthosts={"esp1": esp("esp1", authority, rate="2/s"),
                                                            "esp2": esp("esp2", authority)})
    threads = [threading.Thread(target=send, args=(letter(),)) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait.until(lambda: len(second.messages) >= 15, 10, "what would wait for more than ten seconds goes by the second")
    wait.until(lambda: len(times) >= 6, 10, "six have gone by the first")
    steps = [after - before for before, after in zip(times, times[1:])]
    assert sum(steps) >= 0.5 * len(steps) - 0.3, f"faster than two a second: {steps}"
    instance.until_queue_empty()
    assert len(first.messages) + len(second.messages) == 40
