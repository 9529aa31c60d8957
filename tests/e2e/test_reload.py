"""A reload swaps the whole configuration while mail flows, or nothing."""

import os
import re
import signal
import socket
import threading

import pytest

from support import wait
from support.egret import A, B, C, source
from support.mail import Submitter, letter, send


def reload(instance, **sections):
    instance.configure(**sections)
    done = instance.command("reload")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_broken_file_keeps_the_old_configuration(egret, shop):
    instance = egret()
    good = open(instance.config_path, encoding="utf-8").read()
    instance.write(good.replace("interval:", "intervall:", 1))
    done = instance.command("reload")
    assert done.returncode == 1
    assert re.search(rf"^{re.escape(instance.config_path)}:\d+:\d+: .*intervall", done.stderr, re.M), done.stderr
    refused = instance.command("reload", "--admin", "http://127.0.0.1:8025")
    assert refused.returncode == 1 and "intervall" in refused.stderr
    assert instance.events(kind="reload-refused")
    send(letter())
    wait.until(lambda: len(shop.messages) == 1, 10, "mail still flows")


def test_new_sources_are_used_and_removed_ones_are_not(egret, shop):
    instance = egret(sources={"a": source("a")})
    send(letter())
    wait.until(lambda: shop.peers() == {A: 1}, 10, "the first message leaves by a")
    reload(instance, sources={"b": source("b"), "c": source("c")})
    assert set(instance.sources()) == {"b", "c"}
    for _ in range(20):
        send(letter())
    wait.until(lambda: len(shop.messages) == 21, 20, "the others leave")
    assert shop.peers()[A] == 1 and set(shop.peers()) == {A, B, C}
    metrics = instance.http("/metrics")[2]
    assert 'source="b"' in metrics and 'source="a"' not in metrics


def test_held_mail_takes_the_way_that_a_reload_opens(egret, shop, blocklist):
    instance = egret(sources={"a": source("a")})
    blocklist.list(A)
    instance.until_listed("a")
    id = send(letter()).id
    wait.until(lambda: instance.queue()["held"] == 1, 10, "the message is held")
    reload(instance, sources={"a": source("a"), "b": source("b")})
    wait.until(lambda: shop.peers() == {B: 1}, 10, "the message leaves by b")
    assert instance.standing("a") == "listed", "the standing outlives the reload"
    assert {e["egress"] for e in instance.message(id)["attempts"]} == {"b"}


def test_scheduled_mail_and_its_class_outlive_a_reload_that_drops_both(egret, shop):
    classes = {"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk", "max_age": "1h"}}
    listeners = [{"address": "127.0.0.1:2525", "allow": ["127.0.0.0/8"], "class": "bulk"}]
    instance = egret(classes=classes, listeners=listeners,
                     pools={"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"]}})
    shop.on("rcpt", lambda *_: "451 4.3.0 not now")
    id = send(letter()).id
    wait.until(lambda: instance.message(id)["attempts"], 10, "an attempt was made")
    reload(instance, sources={"a": source("a")})
    shop.on("rcpt", lambda *_: None)
    wait.until(lambda: shop.peers() == {A: 1}, 15, "the message leaves by the class that is left")
    instance.until_queue_empty()


def test_an_open_session_goes_on_and_its_message_is_delivered(egret, shop):
    instance = egret(sources={"a": source("a")})
    with Submitter() as submitter:
        submitter.send(letter())
        submitter.smtp.mail("app@sender.test")
        reload(instance, sources={"b": source("b")})
        submitter.smtp.rcpt("user@shop.test")
        assert submitter.smtp.data(letter())[0] == 250
        submitter.send(letter())
    wait.until(lambda: len(shop.messages) == 3, 10, "all three arrive")
    assert shop.peers() == {A: 1, B: 2}


def test_listeners_open_and_close_and_limits_change(egret, shop):
    instance = egret()
    first = {"address": "127.0.0.1:2525", "allow": ["127.0.0.0/8"]}
    second = {"address": "127.0.0.1:2526", "allow": ["127.0.0.0/8"]}
    reload(instance, listeners=[first, second], limits={"recipients": 1})
    with Submitter(port=2526) as submitter:
        submitter.send(letter())
        submitter.smtp.mail("app@sender.test")
        assert submitter.smtp.rcpt("user@shop.test")[0] == 250
        assert submitter.smtp.rcpt("other@shop.test")[0] == 452
        reload(instance, listeners=[second])
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", 2525), 5).close()
        submitter.smtp.rset()
        submitter.send(letter())
    wait.until(lambda: len(shop.messages) == 2, 10, "both arrive")


def test_a_port_in_use_refuses_the_whole_reload(egret, shop):
    instance = egret(sources={"a": source("a")})
    with socket.create_server(("127.0.0.1", 2526)):
        instance.configure(sources={"b": source("b")},
                           listeners=[{"address": "127.0.0.1:2525", "allow": ["127.0.0.0/8"]},
                                      {"address": "127.0.0.1:2526", "allow": ["127.0.0.0/8"]}])
        done = instance.command("reload")
    assert done.returncode == 1 and "127.0.0.1:2526" in done.stderr
    assert list(instance.sources()) == ["a"]
    send(letter())
    wait.until(lambda: shop.peers() == {A: 1}, 10, "mail leaves as before")


def test_sighup_reloads_as_the_command_does(egret, shop):
    instance = egret(sources={"a": source("a")})
    instance.configure(sources={"c": source("c")})
    os.kill(instance.pid, signal.SIGHUP)
    wait.until(lambda: list(instance.sources()) == ["c"], 10, "the source is another")
    send(letter())
    wait.until(lambda: shop.peers() == {C: 1}, 10, "mail leaves by c")


def test_drains_and_blocks_outlive_reload_and_a_source_that_comes_back_is_known(egret, shop):
    instance = egret()
    assert instance.command("source", "drain", "a").returncode == 0
    reload(instance, sources={"b": source("b")})
    reload(instance, sources={"b": source("b"), "a": source("a")})
    assert instance.standing("a") == "drained"
    for _ in range(10):
        send(letter())
    wait.until(lambda: len(shop.messages) == 10, 10, "all leave")
    assert shop.peers() == {B: 10}
    # What has its name but not its address is another source.
    reload(instance, sources={"b": source("b"), "a": {"address": C, "ehlo": "a.egress.test"}})
    assert instance.standing("a") != "drained"


def test_a_smarthost_with_another_password_is_used_from_the_next_connection_on(egret, smarthost, shop, authority):
    esp = smarthost("esp", users={"apikey": "second"})
    section = {"address": "smtp.esp.test:587", "username": "apikey", "password": "first", "ca": authority.certificate}
    instance = egret(sources={}, smarthosts={"esp": section},
                     pools={"transactional": {"fallback": ["esp"]}}, classes={"transactional": {"pool": "transactional"}})
    id = send(letter()).id
    wait.until(lambda: any("535" in a["reply"] for a in instance.message(id)["attempts"]), 10, "the login fails")
    reload(instance, sources={}, smarthosts={"esp": {**section, "password": "second"}},
           pools={"transactional": {"fallback": ["esp"]}}, classes={"transactional": {"pool": "transactional"}})
    send(letter())
    wait.until(lambda: esp.messages, 10, "the new password is tried at once, although the smarthost was resting")


def test_a_refusal_of_the_former_password_that_comes_after_the_reload_does_not_count(egret, smarthost, shop, authority):
    esp = smarthost("esp", users={"apikey": "second"})
    asked, go_on = threading.Event(), threading.Event()

    def slow(session, user):
        asked.set()
        go_on.wait(20)

    esp.on("auth", slow)
    rest = {"pools": {"transactional": {"fallback": ["esp"]}}, "classes": {"transactional": {"pool": "transactional"}}}
    section = {"address": "smtp.esp.test:587", "username": "apikey", "password": "first", "ca": authority.certificate}
    instance = egret(sources={}, smarthosts={"esp": section}, **rest)
    id = send(letter()).id
    assert asked.wait(10)
    reload(instance, sources={}, smarthosts={"esp": {**section, "password": "second"}}, **rest)
    go_on.set()
    wait.until(lambda: any("535" in a["reply"] for a in instance.message(id)["attempts"]), 10, "the login fails")
    send(letter())
    wait.until(lambda: len(esp.messages) == 2, 10, "both go with the new password")


def test_many_reloads_under_load_lose_nothing(egret, shop):
    instance = egret()
    sent = 0
    for turn in range(12):
        with Submitter() as submitter:
            for _ in range(20):
                submitter.send(letter())
                sent += 1
            names = ("a", "b", "c")[turn % 3:] + ("a", "b", "c")[:turn % 3]
            reload(instance, sources={name: source(name) for name in names[:2]})
    wait.until(lambda: len(shop.messages) == sent, 30, "every message arrives")
    instance.until_queue_empty()
    assert len({message.data for message in shop.messages}) == sent
    restart = reload(instance, threads=3)
    assert "threads" in restart


ESP = {"username": "apikey", "password": "s3cret"}


@pytest.mark.parametrize("kept", ["removed", "moved"])
def test_a_message_that_keeps_to_a_smarthost_that_is_gone_takes_another(egret, smarthost, shop, authority, kept):
    first, second = smarthost("one"), smarthost("two")
    hosts = {name: {"address": f"smtp.{name}.test:587", "ca": authority.certificate, **ESP} for name in ("one", "two")}
    first.on("rcpt", lambda *_: "450 4.2.0 Greylisted, try again later")
    instance = egret(sources={}, smarthosts=hosts, pools={"transactional": {"fallback": ["one"]}},
                     delivery={"retry": ["1s"]})
    id = send(letter()).id
    wait.until(lambda: instance.message(id)["attempts"], 10, "it was greylisted")
    left = {"two": hosts["two"]} if kept == "removed" else {"one": {**hosts["one"], "address": "smtp.two.test:587"}}
    reload(instance, sources={}, smarthosts=left, pools={"transactional": {"fallback": list(left)}},
           delivery={"retry": ["1s"]})
    wait.until(lambda: second.messages, 15, "it leaves by what is left")
    instance.until_queue_empty()


def test_a_message_that_keeps_to_a_source_that_is_gone_takes_another(egret, shop):
    instance = egret(sources={"a": source("a")}, delivery={"retry": ["1s"]})
    shop.on("rcpt", lambda *_: "450 4.2.0 Greylisted, try again later")
    id = send(letter()).id
    wait.until(lambda: instance.message(id)["attempts"], 10, "it was greylisted")
    reload(instance, sources={"b": source("b")}, delivery={"retry": ["1s"]})
    shop.on("rcpt", lambda *_: None)
    wait.until(lambda: shop.peers() == {B: 1}, 15, "it leaves by b")


def test_a_source_behind_nat_stays_the_same_with_another_local_address(egret, shop):
    instance = egret(sources={"a": {"address": A, "public": C}, "b": source("b")})
    assert instance.command("source", "drain", "a").returncode == 0
    reload(instance, sources={"a": {"address": "127.0.0.9", "public": C}, "b": source("b")})
    assert instance.standing("a") == "drained"
    instance.restart()
    assert instance.standing("a") == "drained"


def test_a_reload_without_sources_leaves_a_program_that_answers(egret, smarthost, shop, authority):
    esp = smarthost("esp")
    instance = egret()
    reload(instance, sources={}, pools={"transactional": {"fallback": ["esp"]}},
           smarthosts={"esp": {"address": "smtp.esp.test:587", "ca": authority.certificate, **ESP}})
    send(letter())
    wait.until(lambda: esp.messages, 10, "mail leaves by the smarthost")
    assert instance.sources() == {}
    assert instance.pools()


def test_alert_mail_is_not_lost_by_a_reload_of_its_target(egret, shop, blocklist):
    instance = egret(alerts=[{"mail": "ops@shop.test", "on": ["listed"]}])
    blocklist.list(A)
    instance.until_listed("a")
    reload(instance, alerts=[{"mail": "other@shop.test", "on": ["listed"]}])
    wait.until(lambda: any("ops@shop.test" in message.recipients for message in shop.messages), 15, "the alert arrives")
    instance.until_queue_empty()
