"""What ESPs say to their customers, each documented refusal end to end: who rests and for how long, who is not concerned,
and that no mail bounces because of the account."""

import base64
import datetime
import hashlib
import hmac

import pytest

from support import wait
from support.esmtp import commands
from support.mail import letter, send

UNVERIFIED = {
    "ses": "554 Message rejected: Email address is not verified. The following identities failed the check in region "
           "EU-WEST-1: app@sender.test",
    "sendgrid": "550 The from address does not match a verified Sender Identity. Mail cannot be sent until this error is "
                "resolved.",
    "postmark": "550 The 'From' address you supplied (app@sender.test) is not a Sender Signature on your account.",
    "sparkpost": "550 5.7.1 relaying denied: Unconfigured Sending Domain <sender.test>",
    "brevo": "550 5.7.1 Sending has been rejected because the sender you used app@sender.test is not valid. Validate your "
             "sender or authenticate your domain",
    "mailjet": "550 5.7.1 The sender address app@sender.test is not validated",
}


def esp(name, authority, provider="generic", **more):
    preset = {"region": "eu-west-1"} if provider == "ses" else {}
    return {"provider": provider, "address": f"smtp.{name}.test:587", "username": "apikey", "password": "s3cret",
            "ca": authority.certificate, **preset, **more}


def by_smarthosts(egret, delivery=None, **smarthosts):
    """No source at all: everything goes by these, in this order."""
    return egret(smarthosts=smarthosts, delivery=delivery or {"retry": ["200ms"]},
                 pools={"transactional": {"sources": [], "fallback": list(smarthosts), "when_exhausted": "fallback"}})


def rest(instance, name="esp1"):
    """How long the smarthost rests from now, in seconds."""
    until = wait.until(lambda: instance.smarthosts()[name]["until"], 10, "it rests")
    end = datetime.datetime.fromisoformat(until.replace("Z", "+00:00"))
    return (end - datetime.datetime.now(datetime.timezone.utc)).total_seconds()


def to_midnight():
    now = datetime.datetime.now(datetime.timezone.utc)
    return 86400 - (now - now.replace(hour=0, minute=0, second=0, microsecond=0)).total_seconds()


def events(instance, kind):
    return [event for event in instance.events() if event["kind"] == kind]


@pytest.mark.parametrize("provider, phase, text, trouble, seconds", [
    ("ses", "dot", "454 Throttling failure: Maximum sending rate exceeded.", "rate", 5),
    ("ses", "dot", "454 Throttling failure: Daily message quota exceeded.", "quota", 3600),
    ("ses", "auth", "454 Temporary authentication failure", "authentication-temporary", 60),
    ("ses", "auth", "535 Authentication Credentials Invalid", "authentication", 300),
    ("ses", "mail", "530 Authentication required", "authentication", 300),
    ("ses", "dot", "554 Message rejected: Sending paused for this account.", "paused", 3600),
    ("sendgrid", "auth", "451 Authentication failed: Maximum credits exceeded", "quota", None),
    ("sendgrid", "auth", "535 Authentication failed: Bad username / password", "authentication", 300),
    ("mailgun", "dot", "550 5.7.1 Domain mg.sender.test is not allowed to send", "paused", 3600),
    ("mailgun", "dot", "550 Account is disabled", "paused", 3600),
    ("mailgun", "dot", "420 Message quota exceeded", "quota", None),
    ("postmark", "dot", "550 405 Not allowed to send: your account ran out of credits", "quota", None),
    ("sparkpost", "dot", "420 Exceed Sending Limit (daily)", "quota", None),
    ("brevo", "auth", "525 5.7.1 Unauthorized IP address", "authentication", 300),
    ("brevo", "dot", "452 You have reached your daily sending limit", "quota", None),
    ("mailjet", "mail", "550 5.7.1 Your account is temporarily blocked", "paused", 3600),
])
def test_what_is_about_the_account_lets_it_rest_and_the_next_smarthost_takes_the_mail(
        egret, smarthost, authority, senders, provider, phase, text, trouble, seconds):
    first, second = smarthost("esp1"), smarthost("esp2")
    first.on(phase, lambda *_: text)
    instance = by_smarthosts(egret, esp1=esp("esp1", authority, provider), esp2=esp("esp2", authority))
    id = send(letter()).id
    wait.until(lambda: second.messages, 10, "the second smarthost has the message")
    attempts = instance.until_state(id, "delivered")["attempts"]
    assert [attempt["egress"] for attempt in attempts] == ["esp1", "esp2"]
    left = rest(instance)
    wanted = max(to_midnight(), 60) if seconds is None else seconds
    assert wanted - 10 < left <= wanted + 10
    assert instance.smarthosts()["esp1"]["trouble"] == trouble
    kind = "smarthost-login" if trouble == "authentication" else "smarthost-rests"
    (event,) = events(instance, kind)
    assert event["smarthost"] == "esp1" and instance.smarthosts()["esp1"]["until"] in event["action"]
    assert first.messages == [] and senders.messages == []


def test_a_refused_login_is_tried_once_however_much_waits_and_bounces_nothing(egret, smarthost, authority, senders):
    upstream = smarthost("esp1")
    upstream.on("auth", lambda *_: "535 5.7.8 Authentication credentials invalid")
    instance = by_smarthosts(egret, esp1=esp("esp1", authority))
    for number in range(30):
        send(letter(marker=str(number)))
    wait.until(lambda: instance.queue()["held"] == 30, 15, "all mail is held")
    assert len(upstream.logins) <= 2, "the account would be locked"
    assert senders.messages == [] and len(events(instance, "smarthost-login")) == 1


@pytest.mark.parametrize("provider", list(UNVERIFIED))
def test_an_unverified_sender_takes_the_next_smarthost_and_others_are_not_concerned(
        egret, smarthost, authority, senders, provider):
    first, second = smarthost("esp1"), smarthost("esp2")
    first.on("dot", lambda _, message: UNVERIFIED[provider] if message.sender == "app@sender.test" else None)
    instance = by_smarthosts(egret, esp1=esp("esp1", authority, provider), esp2=esp("esp2", authority))
    send(letter(marker="one"))
    wait.until(lambda: second.with_marker("one"), 10, "the second smarthost has it")
    wait.until(lambda: instance.smarthosts()["esp1"]["refused_senders"], 10, "the refusal is remembered")
    (refused,) = instance.smarthosts()["esp1"]["refused_senders"]
    assert refused["domain"] == "sender.test"
    send(letter(marker="two"))
    wait.until(lambda: second.with_marker("two"), 10, "the sender's next message goes there at once")
    send(letter(marker="other"), sender="app@verified.test")
    wait.until(lambda: first.with_marker("other"), 10, "another sender goes by the first")
    assert len(first.offered) == 2 and senders.messages == []
    assert instance.smarthosts()["esp1"]["state"] == "ready"
    (event,) = events(instance, "smarthost-sender")
    assert (event["smarthost"], event["sender"]) == ("esp1", "sender.test")
    instance.restart()
    send(letter(marker="three"))
    wait.until(lambda: second.with_marker("three"), 10, "it is remembered over a restart")
    assert len(first.offered) == 2


def test_an_unverified_sender_is_held_and_not_bounced_where_no_smarthost_takes_it(egret, smarthost, authority, senders):
    upstream = smarthost("esp1")
    upstream.on("dot", lambda _, message: UNVERIFIED["ses"] if message.sender == "app@sender.test" else None)
    instance = by_smarthosts(egret, esp1=esp("esp1", authority, "ses"))
    send(letter(marker="held"))
    wait.until(lambda: instance.queue()["held"] == 1, 10, "it is held")
    send(letter(marker="other"), sender="app@verified.test")
    wait.until(lambda: upstream.with_marker("other"), 10, "others are not kept waiting behind it")
    assert len(upstream.offered) == 2 and senders.messages == []
    assert "does not take this sender" in instance.explain()


@pytest.mark.parametrize("provider, text", [
    ("ses", "554 Message rejected: Address is on the suppression list for your account"),
    ("postmark", "550 406 Inactive recipient"),
    ("sparkpost", "554 5.7.1 recipient address suppressed due to customer policy"),
])
def test_a_suppressed_recipient_is_final_and_nobodys_fault(egret, smarthost, authority, senders, provider, text):
    first, second = smarthost("esp1"), smarthost("esp2")
    first.on("dot", lambda *_: text)
    instance = by_smarthosts(egret, esp1=esp("esp1", authority, provider), esp2=esp("esp2", authority))
    id = send(letter()).id
    instance.until_state(id, "failed")
    assert second.offered == [] and instance.smarthosts()["esp1"]["state"] == "ready"


def test_mail_goes_on_by_a_smarthost_that_slowed_down(egret, smarthost, authority):
    upstream = smarthost("esp1")
    answers = ["454 Throttling failure: Maximum sending rate exceeded."]
    upstream.on("dot", lambda *_: answers.pop() if answers else None)
    by_smarthosts(egret, esp1=esp("esp1", authority, "ses"))
    send(letter())
    wait.until(lambda: upstream.messages, 20, "it is sent after a short rest")
    assert len(upstream.offered) == 2


def test_the_password_of_ses_is_made_of_the_secret_key(egret, smarthost, authority):
    secret, region = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "eu-west-1"
    signature = ("AWS4" + secret).encode()
    for part in ("11111111", region, "ses", "aws4_request", "SendRawEmail"):
        signature = hmac.new(signature, part.encode(), hashlib.sha256).digest()
    password = base64.b64encode(b"\x04" + signature).decode()
    upstream = smarthost("esp1", users={"AKIAEXAMPLE": password})
    settings = esp("esp1", authority, "ses", username="AKIAEXAMPLE", secret_key=secret)
    del settings["password"]
    instance = by_smarthosts(egret, esp1=settings)
    upstream.on("dot", lambda *_: "250 Ok 0102018f3c2a1b4d-7e1f-000000")
    id = send(letter()).id
    wait.until(lambda: upstream.messages, 10, "the message is taken")
    (attempt,) = instance.until_state(id, "delivered")["attempts"]
    assert attempt["esp_id"] == "0102018f3c2a1b4d-7e1f-000000"
    assert secret not in instance.log() and password not in instance.log()


def test_header_fields_are_added_for_a_smarthost_and_kept_where_it_may_see_them(egret, smarthost, authority):
    first, second = smarthost("esp1"), smarthost("esp2")
    first.on("dot", lambda _, message: "451 Maximum credits exceeded" if b"X-Marker: second" in message.data else None)
    by_smarthosts(egret, esp1=esp("esp1", authority, headers={"add": {"X-SES-CONFIGURATION-SET": "main"},
                                                              "keep": ["X-SES-MESSAGE-TAGS"]}),
                  esp2=esp("esp2", authority))
    orders = ["X-SES-Message-Tags: a=b,\r\n c=d", "X-SES-CONFIGURATION-SET: forged", "X-SES-Source-ARN: forged"]
    send(letter(marker="first", headers=orders))
    (message,) = wait.until(lambda: first.with_marker("first"), 10, "the first has it")
    head = message.data.split(b"\r\n\r\n")[0]
    assert head.startswith(b"X-SES-CONFIGURATION-SET: main\r\n") and head.lower().count(b"x-ses-configuration-set") == 1
    assert b"X-SES-Message-Tags: a=b,\r\n c=d\r\n" in head and b"forged" not in head
    send(letter(marker="second", headers=orders))
    (message,) = wait.until(lambda: second.with_marker("second"), 10, "the second has it")
    assert b"x-ses" not in message.data.lower()


@pytest.mark.parametrize("settings, problem", [
    ({"provider": "ses", "region": "eu-west-1", "username": "a", "password": "b", "secret_key": "c"}, "exclude each other"),
    ({"provider": "ses", "username": "a", "secret_key": "c"}, "is required for ses"),
    ({"provider": "sendgrid", "secret_key": "c", "password": "b"}, "for the provider ses only"),
    ({"provider": "sendgrid", "password": "b", "headers": {"add": {"From": "me"}}}, "expected a field such as"),
    ({"provider": "sendgrid", "password": "b", "headers": {"add": {"X-A": "a\nb"}}}, "printable"),
    ({"provider": "sendgrid", "password": "b", "headers": {"keep": ["Bcc"]}}, "expected fields such as"),
])
def test_a_configuration_that_cannot_be_meant_is_refused(egret, settings, problem):
    done = egret(start=False, smarthosts={"esp": settings}).check()
    assert done.returncode == 1 and problem in done.stdout + done.stderr
