"""Delivery status notifications: what the sender asked for (RFC 3461), and the reports that come of it (RFC 3464)."""

import pytest

from support import dsn, wait
from support.esmtp import commands, expect, submit
from support.mail import letter, send
from support.raw_smtp import RawSmtp
from support.scripted_receiver import ScriptedReceiver

WITH_DSN = (*ScriptedReceiver.KEYWORDS, "DSN")
UNKNOWN = "550 5.1.1 <user@shop.test>: Recipient address rejected: User unknown"


@pytest.fixture
def reporting_shop(receive_for):
    """Receives for shop.test and takes the DSN parameters."""
    return receive_for("shop.test", keywords=WITH_DSN)


def refuse(receiver, text=UNKNOWN):
    receiver.on("rcpt", lambda *_: text)
    return receiver


def reports(senders, count=1):
    wait.until(lambda: len(senders.messages) >= count, 15, f"{count} reports arrive")
    assert len(senders.messages) == count
    assert all(message.sender == "" for message in senders.messages), "a report has the null sender"
    return [dsn.parse(message.data) for message in senders.messages]


def no_report(instance, senders):
    instance.until_queue_empty()
    assert senders.messages == [] and senders.sessions == []


# -- passing on


def test_the_parameters_go_on_to_a_receiver_that_takes_them(egret, reporting_shop, senders):
    instance = egret()
    submit(letter(), ("user@shop.test", "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;first+2Bname@alias.test"),
           ("user1@shop.test", "NOTIFY=NEVER"), "user2@shop.test", mail="RET=HDRS ENVID=QQ+2B314159")
    wait.until(lambda: reporting_shop.messages, 10, "the message arrives")
    (mail,) = commands(reporting_shop, "MAIL")
    assert " RET=HDRS" in mail and " ENVID=QQ+2B314159" in mail
    first, second, third = commands(reporting_shop, "RCPT")
    assert first == "RCPT TO:<user@shop.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;first+2Bname@alias.test"
    assert second == "RCPT TO:<user1@shop.test> NOTIFY=NEVER"
    assert third == "RCPT TO:<user2@shop.test>"
    no_report(instance, senders)


def test_the_parameters_are_not_shown_to_a_receiver_without_dsn(egret, shop, senders):
    egret()
    submit(letter(), ("user@shop.test", "NOTIFY=SUCCESS ORCPT=rfc822;user@shop.test"), mail="RET=FULL ENVID=x1")
    wait.until(lambda: shop.messages, 10, "the message arrives")
    told = " ".join(commands(shop, "MAIL") + commands(shop, "RCPT")).upper()
    assert not any(keyword in told for keyword in ("NOTIFY", "ORCPT", "RET=", "ENVID"))


def test_postfix_takes_over_the_duty_to_report(egret, postfix, senders):
    instance = egret()
    submit(letter(), ("user@open.test", "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;alias+2Bx@elsewhere.test"),
           mail="RET=HDRS ENVID=order-4711")
    (report,) = reports(senders)
    assert report.about_message["reporting-mta"] == "dns; mx.strict.test"
    assert report.about_message["original-envelope-id"] == "order-4711"
    (recipient,) = report.recipients
    assert recipient["action"] == "delivered"
    assert recipient["original-recipient"].replace(" ", "") == "rfc822;alias+x@elsewhere.test"
    instance.until_queue_empty()
    assert len(senders.messages) == 1


def test_the_parameters_travel_through_a_smarthost_that_takes_them(egret, smarthost, authority, dns):
    upstream = smarthost("esp", keywords=WITH_DSN)
    egret(smarthosts={"esp": {"address": "smtp.esp.test:587", "username": "apikey", "password": "s3cret",
                              "ca": authority.certificate}},
          pools={"transactional": {"sources": [], "fallback": ["esp"], "when_exhausted": "fallback"}})
    submit(letter(), ("user@shop.test", "NOTIFY=FAILURE"), mail="ENVID=x1")
    wait.until(lambda: upstream.messages, 10, "the smarthost has the message")
    assert "ENVID=x1" in commands(upstream, "MAIL")[0]
    assert commands(upstream, "RCPT") == ["RCPT TO:<user@shop.test> NOTIFY=FAILURE"]


MALFORMED_MAIL = ["RET=SOME", "RET=FULL RET=FULL", "ENVID=+00", "ENVID=a=b", "ENVID=", "ENVID=" + "x" * 101]
MALFORMED_RCPT = ["NOTIFY=NEVER,SUCCESS", "NOTIFY=SOMETIMES", "NOTIFY=", "NOTIFY=NEVER NOTIFY=NEVER", "ORCPT=user@shop.test",
                  "ORCPT=rfc822;a+0Db", "ORCPT=rfc822;" + "x" * 500]


def test_parameters_that_are_malformed_are_refused(egret):
    egret()
    with RawSmtp() as client:
        greeting = client.hello()
        assert "250-DSN" in greeting or "250 DSN" in greeting
        for parameters in MALFORMED_MAIL:
            expect(client, f"MAIL FROM:<app@sender.test> {parameters}", "5")
        expect(client, "MAIL FROM:<app@sender.test>", "250")
        for parameters in MALFORMED_RCPT:
            expect(client, f"RCPT TO:<user@shop.test> {parameters}", "5")


# -- success


def test_success_asked_for_is_answered_by_relayed_where_the_trail_ends(egret, shop, senders):
    instance = egret()
    id = submit(letter(marker="told"), ("user@shop.test", "NOTIFY=SUCCESS ORCPT=rfc822;first@alias.test"), "user1@shop.test",
                mail="ENVID=QQ+2B314159").id
    (report,) = reports(senders)
    assert report.about_message["original-envelope-id"] == "QQ+314159"
    assert report.about_message["reporting-mta"] == "dns; relay.test"
    (recipient,) = report.recipients
    assert recipient["action"] == "relayed" and recipient["status"].startswith("2.")
    assert dsn.address(recipient["final-recipient"]) == "user@shop.test"
    assert dsn.address(recipient["original-recipient"]) == "first@alias.test"
    assert recipient["remote-mta"] == "dns; mx.shop.test"
    assert b"X-Marker: told" in report.original and b"Hello." not in report.original
    assert instance.until_state(id, "delivered")
    instance.until_queue_empty()
    assert len(shop.messages) == 1 and len(senders.messages) == 1


def test_no_success_is_reported_unasked(egret, shop, senders):
    instance = egret()
    submit(letter(), "user@shop.test", ("user1@shop.test", "NOTIFY=FAILURE"), ("user2@shop.test", "NOTIFY=NEVER"))
    wait.until(lambda: shop.messages, 10, "the message arrives")
    no_report(instance, senders)


def test_success_is_no_reason_for_a_report_of_failure(egret, shop, senders):
    refuse(shop)
    instance = egret()
    submit(letter(), ("user@shop.test", "NOTIFY=SUCCESS"))
    wait.until(lambda: shop.sessions, 10, "an attempt")
    no_report(instance, senders)


# -- failure


def test_a_failure_is_reported_with_what_the_sender_knows_it_by(egret, shop, senders):
    refuse(shop)
    egret()
    submit(letter(marker="gone"), ("user@shop.test", "NOTIFY=FAILURE ORCPT=rfc822;first+2Bname@alias.test"),
           mail="ENVID=order+3D4711")
    (report,) = reports(senders)
    assert report.about_message["original-envelope-id"] == "order=4711"
    (recipient,) = report.recipients
    assert (recipient["action"], recipient["status"]) == ("failed", "5.1.1")
    assert dsn.address(recipient["original-recipient"]) == "first+name@alias.test"
    assert recipient["diagnostic-code"] == "smtp; " + UNKNOWN
    assert report.message["Auto-Submitted"] == "auto-replied"
    assert b"X-Marker: gone" in report.original and b"Hello." not in report.original


def test_ret_full_returns_the_whole_message(egret, shop, senders):
    refuse(shop)
    egret()
    content = letter(body=b"First.\r\n.Second with a dot.\r\n--boundary\r\n\r\n..\r\nLast.\r\n")
    submit(content, "user@shop.test", mail="RET=FULL")
    (report,) = reports(senders)
    returned = report.message.get_payload()[2]
    assert returned.get_content_type() == "message/rfc822"
    assert content in senders.messages[0].data, "it comes back as it was sent, octet for octet"


def test_ret_full_labels_what_is_not_seven_bit(egret, shop, senders):
    """RFC 2045, section 6.2: 8-bit octets in a part that is not called 8bit are a fault of the report."""
    refuse(shop)
    egret()
    body = "Grüße.\r\n".encode()
    content = letter(body=body, headers=["MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8",
                                         "Content-Transfer-Encoding: 8bit"])
    submit(content, "user@shop.test", mail="RET=FULL BODY=8BITMIME")
    (report,) = reports(senders)
    assert content in senders.messages[0].data
    returned = report.message.get_payload()[2]
    assert returned["Content-Transfer-Encoding"] == "8bit"
    assert report.message["Content-Transfer-Encoding"] == "8bit"


def test_ret_hdrs_and_a_large_message_return_the_header(egret, shop, senders):
    refuse(shop)
    egret()
    large = letter(marker="large", body=b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 30_000)
    submit(letter(marker="small"), "user@shop.test", mail="RET=HDRS")
    submit(large, "user@shop.test", mail="RET=FULL")
    by_marker = {b"small": None, b"large": None}
    for report in reports(senders, 2):
        returned = report.message.get_payload()[2]
        assert returned.get_content_type() == "text/rfc822-headers"
        for marker in by_marker:
            if b"X-Marker: " + marker in report.original:
                by_marker[marker] = report
    assert all(by_marker.values())
    assert max(len(message.data) for message in senders.messages) < 10_000


def test_never_suppresses_every_report(egret, shop, senders):
    refuse(shop)
    instance = egret()
    submit(letter(), ("user@shop.test", "NOTIFY=NEVER"))
    wait.until(lambda: shop.sessions, 10, "an attempt")
    no_report(instance, senders)


def test_each_recipient_is_reported_as_it_was_asked_for(egret, shop, senders):
    refuse(shop)
    egret()
    submit(letter(), ("user1@shop.test", "NOTIFY=NEVER"), ("user2@shop.test", "NOTIFY=FAILURE"), "user3@shop.test",
           ("user4@shop.test", "NOTIFY=SUCCESS,DELAY"))
    (report,) = reports(senders)
    assert {dsn.address(recipient["final-recipient"]) for recipient in report.recipients} == {
        "user2@shop.test", "user3@shop.test"}


def test_the_null_sender_gets_no_report_whatever_was_asked(egret, shop, senders):
    refuse(shop)
    instance = egret()
    submit(letter(), ("user@shop.test", "NOTIFY=SUCCESS,FAILURE,DELAY"), sender="", mail="RET=FULL ENVID=x")
    wait.until(lambda: shop.sessions, 10, "an attempt")
    no_report(instance, senders)


def test_a_report_that_cannot_be_delivered_is_not_reported(egret, shop, senders):
    refuse(shop)
    refuse(senders, "550 5.1.1 <app@sender.test>: User unknown")
    instance = egret()
    submit(letter(), "user@shop.test")
    wait.until(lambda: senders.sessions, 10, "the report is offered")
    instance.until_queue_empty()
    assert senders.messages == [] and sum(len(commands(r, "RCPT")) for r in (shop, senders)) == 2


def test_the_end_of_its_time_is_reported_too(egret, shop, senders):
    refuse(shop, "451 4.3.0 Try again later")
    egret(classes={"transactional": {"pool": "transactional", "max_age": "1s", "spill": True}},
          delivery={"retry": ["300ms"]})
    submit(letter(), ("user@shop.test", "NOTIFY=FAILURE ORCPT=rfc822;first@alias.test"), mail="ENVID=late")
    (report,) = reports(senders)
    (recipient,) = report.recipients
    assert (recipient["action"], recipient["status"]) == ("failed", "5.4.7")
    assert recipient["diagnostic-code"] == "smtp; 451 4.3.0 Try again later"
    assert report.about_message["original-envelope-id"] == "late"


# -- delay


def test_a_delay_is_reported_once_unless_it_was_not_asked_for(egret, shop, senders):
    shop.on("rcpt", lambda *_: "451 4.3.0 Try again later")
    instance = egret(delivery={"retry": ["300ms"], "warn_after": "500ms"})
    submit(letter(marker="asked"), ("user1@shop.test", "NOTIFY=DELAY"), ("user2@shop.test", "NOTIFY=FAILURE"),
           ("user3@shop.test", "NOTIFY=NEVER"), "user4@shop.test", mail="ENVID=late")
    wait.until(lambda: len(commands(shop, "RCPT")) >= 16, 15, "several attempts")
    (report,) = reports(senders)
    assert {dsn.address(recipient["final-recipient"]) for recipient in report.recipients} == {
        "user1@shop.test", "user4@shop.test"}
    assert {recipient["action"] for recipient in report.recipients} == {"delayed"}
    assert all(recipient["status"].startswith("4.") and recipient["will-retry-until"] for recipient in report.recipients)
    shop.on("rcpt", None)
    instance.until_queue_empty()
    assert len(senders.messages) == 1


# -- over a crash


def test_what_was_asked_for_survives_a_crash(egret, receive_for, senders):
    shop = receive_for("shop.test", start=False)
    instance = egret(delivery={"retry": ["200ms"]})
    submit(letter(marker="crashed"), ("user@shop.test", "NOTIFY=SUCCESS ORCPT=rfc822;first@alias.test"),
           ("user1@shop.test", "NOTIFY=NEVER"), ("user2@shop.test", "NOTIFY=FAILURE"), mail="ENVID=order-1 RET=FULL")
    instance.kill9()
    shop.on("rcpt", lambda session, recipient: None if recipient == "user@shop.test" else UNKNOWN).start()
    instance.start()
    relayed, failed = sorted(reports(senders, 2), key=lambda report: report.recipients[0]["action"], reverse=True)
    assert relayed.about_message["original-envelope-id"] == failed.about_message["original-envelope-id"] == "order-1"
    assert [dsn.address(r["original-recipient"]) for r in relayed.recipients] == ["first@alias.test"]
    assert relayed.recipients[0]["action"] == "relayed"
    assert [dsn.address(r["final-recipient"]) for r in failed.recipients] == ["user2@shop.test"]
    assert failed.message.get_payload()[2].get_content_type() == "message/rfc822"
    instance.until_queue_empty()
    assert len(senders.messages) == 2 and len(shop.messages) == 1


def test_the_parameters_reach_the_receiver_after_a_crash(egret, receive_for, senders):
    shop = receive_for("shop.test", start=False, keywords=WITH_DSN)
    instance = egret(delivery={"retry": ["200ms"]})
    submit(letter(), ("user@shop.test", "NOTIFY=SUCCESS ORCPT=rfc822;first@alias.test"), mail="ENVID=order-1 RET=HDRS")
    instance.kill9()
    shop.start()
    instance.start()
    wait.until(lambda: shop.messages, 15, "the message arrives")
    assert " RET=HDRS ENVID=order-1" in commands(shop, "MAIL")[-1]
    assert commands(shop, "RCPT")[-1] == "RCPT TO:<user@shop.test> NOTIFY=SUCCESS ORCPT=rfc822;first@alias.test"


def test_a_report_waits_for_its_receiver_over_a_crash(egret, receive_for, shop):
    senders = receive_for("sender.test", start=False)
    refuse(shop)
    instance = egret(delivery={"retry": ["200ms"]})
    id = send(letter(marker="gone")).id
    wait.until(lambda: instance.message(id)["recipients"][0]["state"] == "failed", 10, "the message has failed")
    wait.until(lambda: instance.queue()["total"] == 1, 10, "only the report waits")
    instance.kill9()
    senders.start()
    instance.start()
    (report,) = reports(senders)
    assert b"X-Marker: gone" in report.original
    instance.until_queue_empty()
    assert len(senders.messages) == 1
