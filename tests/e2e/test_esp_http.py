"""Mail by ESPs' HTTP APIs: octet for octet, signed and logged in as they want it, what they answer understood, and an outcome
that nobody knows kept to the same ESP."""

import datetime
import json

import pytest

from support import wait
from support.esp_api import CLOSE, HANG, EspApi
from support.mail import below_trace, letter, send, send_exactly
from support.egret import B, source

PRESETS = {"ses": {"region": "eu-west-1", "username": "AKIAEXAMPLE", "secret_key": "s3cret/Key+", "poll_account": "0s"},
           "mailgun": {"domain": "mg.sender.test", "password": "s3cret/Key+"},
           "sparkpost": {"password": "s3cret/Key+"}}


@pytest.fixture
def api(dns, authority, shop):
    """api(name, kind): an ESP's API at https://api.NAME.test."""
    started = []

    def make(name="esp1", kind="ses", tls="trusted"):
        host, address = f"api.{name}.test", f"127.0.6.{1 + len(started)}"
        dns.a(host, address)
        server = EspApi(kind, address, authority.server(host) if tls == "trusted" else tls)
        started.append(server)
        return server.start()

    yield make
    for server in started:
        server.stop()


def esp(authority, name="esp1", kind="ses", **more):
    return {"provider": kind, "transport": "http", "endpoint": f"https://api.{name}.test", "ca": authority.certificate,
            **PRESETS[kind], **more}


def by_smarthosts(egret, delivery=None, **smarthosts):
    return egret(smarthosts=smarthosts, delivery=delivery or {"retry": ["200ms"]},
                 pools={"transactional": {"sources": [], "fallback": list(smarthosts), "when_exhausted": "fallback"}})


@pytest.mark.parametrize("kind, esp_id", [("ses", "0102018f-000001"), ("mailgun", "2024.1@mg.sender.test"),
                                          ("sparkpost", "11668787484950001")])
def test_a_message_goes_octet_for_octet_and_its_id_is_kept(egret, api, authority, kind, esp_id):
    server = api(kind=kind)
    instance = by_smarthosts(egret, esp1=esp(authority, kind=kind))
    content = letter(headers=["Bcc: hidden@shop.test"], body=b'.\r\n..two\r\n"quoted" \\ {{name}} \ttab\r\n.end\r\n\r\n')
    id = send_exactly(content).id
    (attempt,) = instance.until_state(id, "delivered")["attempts"]
    assert (attempt["egress"], attempt["esp_id"], attempt["outcome"]) == ("esp1", esp_id, "delivered")
    assert attempt["host"] == "api.esp1.test"
    (message,) = server.messages
    assert below_trace(message.data) == content
    assert message.recipients == ["user@shop.test"] and message.sender in ("app@sender.test", None)
    if kind == "sparkpost":
        assert message.orders == {"open_tracking": False, "click_tracking": False, "perform_substitutions": False}
    assert PRESETS[kind].get("secret_key", PRESETS[kind].get("password")) not in instance.log()
    assert instance.smarthosts()["esp1"]["transport"] == "http"


@pytest.mark.parametrize("kind", ["ses", "mailgun"])
def test_a_large_message_of_eight_bits_is_streamed_from_disk(egret, api, authority, kind):
    server = api(kind=kind)
    instance = by_smarthosts(egret, esp1=esp(authority, kind=kind))
    line = b"." + bytes(range(0x80, 0x100)) * 2 + b" plain\r\n"
    content = letter(headers=["Content-Transfer-Encoding: 8bit", "MIME-Version: 1.0"], body=line * 12000)
    instance.until_state(send_exactly(content).id, "delivered")
    assert below_trace(server.messages[0].data) == content and len(content) > 3_000_000


def test_what_json_cannot_hold_is_converted_for_sparkpost(egret, api, authority):
    server = api(kind="sparkpost")
    instance = by_smarthosts(egret, esp1=esp(authority, kind="sparkpost"))
    body = "grüße\r\n".encode("latin-1")
    instance.until_state(send_exactly(letter(headers=["MIME-Version: 1.0", "Content-Type: text/plain; charset=iso-8859-1",
                                                      "Content-Transfer-Encoding: 8bit"], body=body)).id, "delivered")
    assert b"gr=FC=DFe" in server.messages[0].data


def test_one_connection_serves_many_messages_and_a_closed_one_loses_none(egret, api, authority):
    server = api()
    instance = by_smarthosts(egret, esp1=esp(authority, connections=1))
    for _ in range(8):
        instance.until_state(send(letter()).id, "delivered")
    assert server.connections == 1
    server.close_after_answer = True
    for _ in range(4):
        instance.until_state(send(letter()).id, "delivered")
    assert len(server.messages) == 12 and not instance.events(kind="smarthost-rests")


def test_recipients_stand_in_requests_of_the_size_that_the_api_takes(egret, api, authority):
    ses, spark = api("esp1", "ses"), api("esp2", "sparkpost")
    recipients = [f"user{number}@shop.test" for number in range(120)]
    instance = by_smarthosts(egret, esp1=esp(authority, headers={"add": {"X-SES-CONFIGURATION-SET": "main"}}))
    send(letter(), to=recipients)
    wait.until(lambda: sum(len(m.recipients) for m in ses.messages) == 120, 20, "all have it")
    assert max(len(m.recipients) for m in ses.messages) == 50 and len(ses.messages) == 3
    assert sorted(r for m in ses.messages for r in m.recipients) == sorted(recipients)
    assert ses.messages[0].orders == {"ConfigurationSetName": "main"}
    instance.stop()
    by_smarthosts(egret, esp2=esp(authority, "esp2", "sparkpost"))
    send(letter(), to=recipients[:5])
    wait.until(lambda: len(spark.messages) == 5, 20, "each in a request of its own")


ERROR = "x-amzn-ErrorType"


@pytest.mark.parametrize("kind, answer, trouble", [
    ("ses", (429, {"message": "Maximum sending rate exceeded."}, {ERROR: "TooManyRequestsException:"}), "rate"),
    ("ses", (400, {"message": "paused"}, {ERROR: "SendingPausedException"}), "paused"),
    ("ses", (503, b"<html>unavailable</html>"), "none"),
    ("mailgun", (402, {"message": "Payment Required"}), "paused"),
    ("mailgun", (403, b"Forbidden"), "authentication"),
    ("sparkpost", (420, {"errors": [{"message": "Exceed Sending Limit (hourly)", "code": "2102"}]}), "hourly-quota"),
])
def test_what_is_about_the_account_lets_it_rest_and_the_next_smarthost_takes_the_mail(
        egret, api, authority, kind, answer, trouble):
    first, second = api("esp1", kind), api("esp2", "mailgun")
    first.answers = [answer] * 9
    instance = by_smarthosts(egret, esp1=esp(authority, kind=kind), esp2=esp(authority, "esp2", "mailgun"))
    id = send(letter()).id
    attempts = instance.until_state(id, "delivered")["attempts"]
    assert [attempt["egress"] for attempt in attempts] == ["esp1", "esp2"] and len(second.messages) == 1
    state = wait.until(lambda: [s for s in [instance.smarthosts()["esp1"]] if s["state"] == "resting"], 10, "it rests")[0]
    assert state["trouble"] == trouble


def test_a_wrong_secret_rests_the_smarthost_and_is_tried_once_however_much_waits(egret, api, authority):
    first, second = api("esp1", "ses"), api("esp2", "sparkpost")
    instance = by_smarthosts(egret, esp1=esp(authority, secret_key="forged"), esp2=esp(authority, "esp2", "sparkpost"))
    ids = [send(letter()).id for _ in range(10)]
    for id in ids:
        instance.until_state(id, "delivered")
    assert len(second.messages) == 10 and len(first.requests) <= 2 and first.messages == []
    (event,) = instance.events(kind="smarthost-login")
    assert event["smarthost"] == "esp1" and "SignatureDoesNotMatch" in event["text"]
    assert "forged" not in instance.log()


def test_retry_after_is_obeyed(egret, api, authority):
    server = api("esp1", "mailgun")
    server.answers = [(429, {"message": "Too many requests"}, {"Retry-After": "600"})]
    instance = by_smarthosts(egret, esp1=esp(authority, kind="mailgun"))
    send(letter())
    state = wait.until(lambda: [s for s in [instance.smarthosts()["esp1"]] if s["until"]], 10, "it rests")[0]
    (event,) = instance.events(kind="smarthost-rests")
    assert state["trouble"] == "rate" and state["until"] > event["time"]
    rest = datetime.datetime.fromisoformat(state["until"][:19]) - datetime.datetime.fromisoformat(event["time"][:19])
    assert 595 <= rest.total_seconds() <= 605


def test_an_unverified_sender_takes_the_next_smarthost_and_others_are_not_concerned(egret, api, authority):
    first, second = api("esp1", "ses"), api("esp2", "mailgun")
    first.answers = [(400, {"message": "Email address is not verified. The following identities failed the check in region "
                                       "EU-WEST-1: app@sender.test"}, {ERROR: "MessageRejected"})]
    instance = by_smarthosts(egret, esp1=esp(authority), esp2=esp(authority, "esp2", "mailgun"))
    instance.until_state(send(letter()).id, "delivered")
    wait.until(lambda: instance.smarthosts()["esp1"]["refused_senders"], 10, "it is remembered")
    instance.until_state(send(letter(), sender="app@verified.test").id, "delivered")
    assert len(second.messages) == 1 and first.messages[0].sender == "app@verified.test"


def test_a_refusal_of_the_message_is_final_and_nobodys_fault(egret, api, authority, senders):
    first, second = api("esp1", "ses"), api("esp2", "mailgun")
    first.answers = [(400, {"message": "Duplicate header 'Subject'."}, {ERROR: "BadRequestException"})]
    instance = by_smarthosts(egret, esp1=esp(authority), esp2=esp(authority, "esp2", "mailgun"))
    instance.until_state(send(letter()).id, "failed")
    assert not [m for m in second.messages if b"report-type" not in m.data] and instance.smarthosts()["esp1"]["state"] == "ready"


def test_a_request_that_is_too_large_is_refused_before_it_is_sent_wholly(egret, api, authority):
    server = api("esp1", "mailgun")
    server.read_limit = 1_000_000
    instance = by_smarthosts(egret, esp1=esp(authority, kind="mailgun"))
    id = send(letter(body=b"x" * 70 + b"\r\n" + (b"y" * 70 + b"\r\n") * 60000), sender="").id
    message = instance.until_state(id, "failed")
    assert "413" in message["recipients"][0]["reply"]


def test_one_bad_recipient_does_not_cost_the_others_their_mail(egret, api, authority):
    server = api("esp1", "mailgun")
    bad = (400, {"message": "to parameter is not a valid address. please check documentation"})
    server.answers = [bad]
    instance = by_smarthosts(egret, esp1=esp(authority, kind="mailgun"))
    id = send(letter(), to=["one@shop.test", "two@shop.test"]).id
    wait.until(lambda: len(server.messages) == 2, 10, "each has it")
    assert sorted(r for m in server.messages for r in m.recipients) == ["one@shop.test", "two@shop.test"]
    wait.until(lambda: {r["state"] for r in instance.message(id)["recipients"]} == {"delivered"}, 10, "both are done")


@pytest.mark.parametrize("answer", [CLOSE, HANG, (504, b"gateway timeout")])
def test_an_unknown_outcome_is_tried_again_there_and_nowhere_else(egret, api, authority, answer):
    first, second = api("esp1", "ses"), api("esp2", "mailgun")
    first.answers = [answer]
    instance = by_smarthosts(egret, esp1=esp(authority, api_timeout="1s"), esp2=esp(authority, "esp2", "mailgun"))
    attempts = instance.until_state(send(letter()).id, "delivered")["attempts"]
    assert [(a["egress"], a["outcome"]) for a in attempts] == [("esp1", "ambiguous"), ("esp1", "delivered")]
    assert second.requests == []


def test_a_certificate_that_nobody_vouches_for_gets_no_mail(egret, api, authority, foreign_authority):
    first, second = api("esp1", "ses", tls=foreign_authority.server("api.esp1.test")), api("esp2", "mailgun")
    instance = by_smarthosts(egret, esp1=esp(authority), esp2=esp(authority, "esp2", "mailgun"))
    attempts = instance.until_state(send(letter()).id, "delivered")["attempts"]
    assert [a["egress"] for a in attempts] == ["esp1", "esp2"] and "TLS" in attempts[0]["reply"]
    assert first.requests == []


@pytest.mark.parametrize("account, trouble", [
    ({"SendingEnabled": False}, "paused"),
    ({"EnforcementStatus": "SHUTDOWN"}, "paused"),
    ({"SendQuota": {"Max24HourSend": 200.0, "MaxSendRate": 1.0, "SentLast24Hours": 200.0}}, "quota"),
])
def test_an_account_that_may_not_send_rests_before_a_message_finds_out(egret, api, authority, account, trouble):
    first, second = api("esp1", "ses"), api("esp2", "mailgun")
    first.account.update(account)
    instance = by_smarthosts(egret, esp1=esp(authority, poll_account="1m"), esp2=esp(authority, "esp2", "mailgun"))
    wait.until(lambda: instance.smarthosts()["esp1"]["state"] == "resting", 10, "it rests")
    state = instance.smarthosts()["esp1"]
    assert state["trouble"] == trouble and state["account"]["production"] is True
    instance.until_state(send(letter()).id, "delivered")
    assert len(second.messages) == 1 and first.submissions == [] and len(first.requests) == 1
    assert instance.events(kind="smarthost-account")[0]["to"] == "limited"


def test_what_the_account_has_left_is_shown_and_a_sandbox_is_told(egret, api, authority):
    server = api()
    server.account["ProductionAccessEnabled"] = False
    instance = by_smarthosts(egret, esp1=esp(authority, poll_account="5m"))
    account = wait.until(lambda: [a for a in [instance.smarthosts()["esp1"]["account"]] if a["checked"]], 10, "it was asked")[0]
    assert (account["quota_24h"], account["sent_24h"], account["left_24h"], account["max_rate"]) == (50000, 1200, 48800, 14)
    assert account["production"] is False and account["sending"] is True and account["error"] == ""
    (event,) = instance.events(kind="smarthost-account")
    assert "sandbox" in event["text"]
    assert "1200/50000" in instance.command("smarthosts").stdout


def test_a_question_about_the_account_that_fails_stops_no_mail(egret, api, authority):
    server = api()
    server.account_status = 500
    instance = by_smarthosts(egret, esp1=esp(authority, poll_account="1m"))
    wait.until(lambda: instance.smarthosts()["esp1"]["account"]["error"], 10, "it failed")
    instance.until_state(send(letter()).id, "delivered")


def test_the_account_is_asked_about_for_mail_by_smtp_too(egret, api, smarthost, authority):
    server, upstream = api("esp1"), smarthost("mail")
    server.account["SendingEnabled"] = False
    settings = {key: value for key, value in PRESETS["ses"].items() if key != "poll_account"}
    instance = by_smarthosts(egret, esp1={"provider": "ses", "address": "smtp.mail.test:587", "ca": authority.certificate,
                                          "endpoint": "https://api.esp1.test", **settings})
    wait.until(lambda: instance.smarthosts()["esp1"]["state"] == "resting", 10, "it rests")
    assert instance.smarthosts()["esp1"]["transport"] == "smtp" and upstream.messages == []


@pytest.mark.parametrize("kind", ["ses", "mailgun", "sparkpost"])
def test_doctor_tries_the_login_and_sends_nothing(egret, api, authority, kind):
    server = api(kind=kind)
    good = esp(authority, kind=kind)
    wrong = {**good, "secret_key" if kind == "ses" else "password": "wrong"}
    instance = egret(start=False, smarthosts={"good": good, "wrong": wrong}, sources={"b": source("b")})
    checks = json.loads(instance.command("doctor", "--json").stdout)["checks"]
    found = {c["subject"]: c for c in checks if c["check"] == "smarthost"}
    assert found["smarthost good"]["result"] == "ok" and "login accepted" in found["smarthost good"]["text"]
    assert found["smarthost wrong"]["result"] == "fail" and "(HTTP 40" in found["smarthost wrong"]["text"]
    assert server.submissions == []
