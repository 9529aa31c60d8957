"""With all sources of a pool out, transactional mail goes by an ESP and bulk waits."""

from support import wait
from support.egret import A, B, C, source
from support.mail import below_trace, letter, send
from support.scripted_receiver import SILENT, close

CLASSES = {"transactional": {"pool": "transactional", "max_age": "1d"}, "bulk": {"pool": "bulk", "max_age": "3d"}}
CLASSIFY = [{"header": "Precedence", "matches": "(?i)^(bulk|list|junk)$", "class": "bulk"}]
BULK = ["Precedence: bulk"]


def esp(name, authority, **more):
    return {"address": f"smtp.{name}.test:587", "tls": "starttls", "username": "apikey", "password": "s3cret",
            "ca": authority.certificate, **more}


def only_smarthosts(**smarthosts):
    """One source, which the test lists, and these smarthosts in this order."""
    return {"sources": {"a": source("a")}, "smarthosts": smarthosts,
            "pools": {"transactional": {"sources": ["a"], "fallback": list(smarthosts), "when_exhausted": "fallback"}}}


def test_with_all_sources_listed_transactional_mail_goes_by_the_smarthost_and_bulk_is_held_until_delisted(
        egret, shop, smarthost, authority, blocklist, senders):
    sendgrid = smarthost("esp")
    instance = egret(
        classes=CLASSES, classify=CLASSIFY, sources={name: source(name) for name in "abc"},
        smarthosts={"esp": esp("esp", authority)},
        pools={"transactional": {"sources": ["a", "b"], "fallback": ["esp"], "when_exhausted": "fallback"},
               "bulk": {"sources": ["c"], "when_exhausted": "hold"}})
    blocklist.list(A, B, C)
    instance.until_listed("a", "b", "c")

    content = letter(marker="urgent")
    urgent = send(content)
    bulk = send(letter(marker="newsletter", headers=BULK))
    wait.until(lambda: sendgrid.messages, 10, "the smarthost has the transactional message")
    (message,) = sendgrid.messages
    assert message.tls and message.login == ("apikey", "s3cret")
    assert (message.sender, message.recipients) == ("app@sender.test", ("user@shop.test",))
    assert below_trace(message.data) == content
    assert instance.until_state(urgent.id, "delivered")["attempts"][-1]["egress"] == "esp"
    wait.until(lambda: instance.queue()["held"] == 1, 10, "the bulk message is held")
    queue = instance.queue()
    assert queue["total"] == 1 and queue["by_class"]["bulk"] == 1
    assert shop.sessions == [], "a listed source was used"
    used = instance.smarthosts()["esp"]["used"]
    assert (used["messages"], used["recipients"]) == (1, 1)

    blocklist.delist(A, B, C)
    instance.until_not_listed("a", "b", "c")
    wait.until(lambda: shop.with_marker("newsletter"), 20, "the bulk message is released")
    assert [message.peer for message in shop.with_marker("newsletter")] == [C]
    assert instance.until_state(bulk.id, "delivered")["attempts"][-1]["egress"] == "c"
    send(letter(marker="direct"))
    wait.until(lambda: shop.with_marker("direct"), 20, "transactional mail goes direct again")
    assert shop.with_marker("direct")[0].peer in (A, B)
    instance.until_queue_empty()
    assert len(sendgrid.messages) == 1 and senders.messages == []


def test_a_block_of_the_last_source_sends_the_same_message_to_the_smarthost_in_the_same_round(
        egret, shop, smarthost, authority):
    """No list knows anything yet; the receiver is the first to object."""
    upstream = smarthost("esp")
    egret(delivery={"retry": ["1h"]}, reputation={"interval": "1h"}, **only_smarthosts(esp=esp("esp", authority)))
    shop.on("dot", lambda session, _:
            f"554 5.7.1 Service unavailable; Client host [{session.peer}] blocked using bl.test")
    send(letter())
    wait.until(lambda: upstream.messages, 10, "the smarthost has the message")
    assert len(shop.offered) == 1 and shop.messages == []


def test_auth_login_serves_where_plain_is_not_offered(egret, smarthost, authority, blocklist):
    upstream = smarthost("esp", mechanisms="LOGIN")
    instance = egret(**only_smarthosts(esp=esp("esp", authority)))
    blocklist.list(A)
    instance.until_listed("a")
    send(letter())
    wait.until(lambda: upstream.messages, 10, "the smarthost has the message")
    assert upstream.messages[0].login == ("apikey", "s3cret")


def unsafe_smarthost_gets_nothing(instance, blocklist, upstream):
    blocklist.list(A)
    instance.until_listed("a")
    id = send(letter(marker="secret")).id
    wait.until(lambda: upstream.sessions, 15, "the smarthost is tried")
    wait.until(lambda: instance.smarthosts()["esp"]["reason"], 15, "the reason is shown")
    assert upstream.logins == [], "the password was sent"
    assert upstream.offered == [] and not any(session.sender for session in upstream.sessions)
    assert not any(command.upper().startswith(("MAIL", "AUTH")) for session in upstream.sessions
                   for command in session.commands)
    assert instance.queue()["total"] == 1
    assert instance.message(id)["recipients"][0]["state"] not in ("delivered", "failed")


def test_a_smarthost_whose_certificate_is_not_trusted_gets_neither_password_nor_mail(
        egret, smarthost, authority, foreign_authority, blocklist):
    upstream = smarthost("esp", tls=foreign_authority.server("smtp.esp.test"))
    unsafe_smarthost_gets_nothing(egret(**only_smarthosts(esp=esp("esp", authority))), blocklist, upstream)


def test_a_smarthost_whose_certificate_names_another_host_gets_neither_password_nor_mail(
        egret, smarthost, authority, blocklist):
    upstream = smarthost("esp", tls=authority.server("smtp.other.test"))
    unsafe_smarthost_gets_nothing(egret(**only_smarthosts(esp=esp("esp", authority))), blocklist, upstream)


def test_a_smarthost_that_offers_no_starttls_gets_neither_password_nor_mail(egret, smarthost, authority, blocklist):
    upstream = smarthost("esp", tls=None)
    unsafe_smarthost_gets_nothing(egret(**only_smarthosts(esp=esp("esp", authority))), blocklist, upstream)


def next_smarthost_takes_it(egret, smarthost, authority, blocklist, phase, text):
    first, second = smarthost("esp1"), smarthost("esp2")
    instance = egret(delivery={"retry": ["1h"]},
                     **only_smarthosts(esp1=esp("esp1", authority), esp2=esp("esp2", authority)))
    blocklist.list(A)
    instance.until_listed("a")
    first.on(phase, lambda session, _: text)
    id = send(letter()).id
    wait.until(lambda: second.messages, 10, "the second smarthost has the message")
    assert [attempt["egress"] for attempt in instance.until_state(id, "delivered")["attempts"]] == ["esp1", "esp2"]
    wait.until(lambda: instance.smarthosts()["esp1"]["until"], 5, "the first one rests")
    tried = len(first.sessions)
    send(letter())
    wait.until(lambda: len(second.messages) == 2, 10, "the next message goes straight to the second")
    assert len(first.sessions) == tried and first.messages == []


def test_a_smarthost_whose_quota_is_used_up_is_passed_over(egret, smarthost, authority, blocklist):
    next_smarthost_takes_it(egret, smarthost, authority, blocklist, "dot",
                            "454 Throttling failure: Daily message quota exceeded.")


def test_a_smarthost_that_refuses_the_login_is_passed_over(egret, smarthost, authority, blocklist):
    next_smarthost_takes_it(egret, smarthost, authority, blocklist, "auth",
                            "535 5.7.8 Authentication credentials invalid")


def test_a_smarthost_that_is_down_is_passed_over(egret, smarthost, authority, blocklist):
    next_smarthost_takes_it(egret, smarthost, authority, blocklist, "connect", close())


def test_with_all_smarthosts_out_the_mail_is_held_and_none_is_bounced(
        egret, smarthost, authority, blocklist, shop, senders):
    upstream = smarthost("esp")
    upstream.on("dot", lambda session, _: "454 Throttling failure: Daily message quota exceeded.")
    instance = egret(**only_smarthosts(esp=esp("esp", authority)))
    blocklist.list(A)
    instance.until_listed("a")
    send(letter())
    wait.until(lambda: upstream.offered, 10, "the smarthost is tried")
    wait.until(lambda: instance.queue()["held"] == 1, 10, "the message is held")
    blocklist.delist(A)
    wait.until(lambda: shop.messages, 20, "the source is back and delivers")
    assert senders.messages == []


def test_a_smarthosts_budget_counts_recipients(egret, smarthost, authority, blocklist):
    first, second = smarthost("esp1"), smarthost("esp2")
    instance = egret(**only_smarthosts(esp1=esp("esp1", authority, budget="3/d"), esp2=esp("esp2", authority)))
    blocklist.list(A)
    instance.until_listed("a")
    send(letter(marker="three"), ["x@shop.test", "y@shop.test", "z@shop.test"])
    wait.until(lambda: first.messages, 10, "the first smarthost takes three recipients")
    assert instance.smarthosts()["esp1"]["used"]["recipients"] == 3
    send(letter(marker="fourth"))
    wait.until(lambda: second.with_marker("fourth"), 10, "the fourth goes by the second")
    instance.restart()  # budgets survive it
    send(letter(marker="fifth"))
    wait.until(lambda: second.with_marker("fifth"), 15, "the fifth too, after a restart")
    assert len(first.messages) == 1


def test_a_smarthost_gets_no_more_recipients_in_a_transaction_than_it_takes(egret, smarthost, authority, blocklist):
    ses = smarthost("esp")
    instance = egret(**only_smarthosts(ses=esp("esp", authority, provider="ses", region="eu-west-1")))
    blocklist.list(A)
    instance.until_listed("a")
    send(letter(), [f"user{number}@shop.test" for number in range(120)])
    instance.until_queue_empty()
    assert sum(len(message.recipients) for message in ses.messages) == 120
    assert max(len(message.recipients) for message in ses.messages) <= 50


def test_a_message_that_is_too_large_for_the_smarthost_holds_up_no_other(egret, smarthost, shop, authority):
    esp = smarthost("esp", users={"u": "p"})
    instance = egret(smarthosts={"esp": {"provider": "mailgun", "address": "smtp.esp.test:587", "username": "u", "password": "p",
                                         "ca": authority.certificate}},
                     pools={"transactional": {"sources": ["a", "b"], "fallback": ["esp"]}})
    for name in "ab":
        assert instance.command("source", "drain", name).returncode == 0
    large = send(letter("large", body=(b"x" * 76 + b"\r\n") * 350_000)).id
    wait.until(lambda: instance.queue()["held"] == 1, 20, "the large one is held")
    esp.on("mail", lambda *_: "454 4.7.0 Temporary authentication failure")
    small = send(letter("small")).id
    wait.until(lambda: instance.queue()["held"] == 2, 20, "the smarthost rests, and the small one is held with it")
    esp.on("mail", lambda *_: None)
    wait.until(lambda: esp.with_marker("small"), 90, "the small one leaves when the rest is over")
    assert instance.message(large)["recipients"][0]["state"] != "delivered" and small


def test_a_stop_that_breaks_off_a_delivery_blames_no_smarthost(egret, smarthost, authority, blocklist):
    upstream = smarthost("esp")
    instance = egret(**only_smarthosts(esp=esp("esp", authority)))
    blocklist.list(A)
    instance.until_listed("a")
    upstream.on("mail", lambda *_: SILENT)
    sent = send(letter())
    wait.until(lambda: any(c.startswith("MAIL") for session in upstream.sessions for c in session.commands), 10, "it hangs")
    instance.stop()
    assert "smarthost-rests" not in instance.log()
    upstream.script.clear()
    instance.start()
    wait.until(lambda: upstream.messages, 10, "it is sent at once after the start")
    assert not instance.smarthosts()["esp"]["until"]
    assert [attempt["outcome"] for attempt in instance.until_state(sent.id, "delivered")["attempts"]] == ["delivered"]
