"""What ESPs say later: signed webhooks become the message's history, a DSN and a call of the operator's; what is forged, old
or repeated becomes a number."""

import base64
import email
import http.server
import json
import re
import socket
import ssl
import threading
import time
import urllib.request

import pytest

from support import dsn, wait
from support.esp_hooks import SNS_HOST, Mailgun, Key, SendGrid, Sns, post
from support.hook_receiver import HookReceiver
from support.mail import letter, send
from support.raw_smtp import RawSmtp

PLAIN = {"address": "127.0.0.1:8443"}


@pytest.fixture
def hook():
    receiver = HookReceiver().start()
    yield receiver
    receiver.stop()


@pytest.fixture
def by_esp(egret, smarthost, authority, senders):
    """by_esp(settings, provider, reply): an Egret whose mail goes by the smarthost `esp`, and that smarthost."""
    def make(settings, provider="generic", reply="250 2.0.0 Ok: queued as ESP1", listener=None, **sections):
        upstream = smarthost("esp")
        upstream.on("dot", lambda *_: reply)
        region = {"region": "eu-west-1"} if provider == "ses" else {}
        instance = egret(esp_events={**PLAIN, **(listener or {})},
                         smarthosts={"esp": {"provider": provider, "address": "smtp.esp.test:587", "username": "apikey",
                                             "password": "s3cret", "ca": authority.certificate, "events": settings, **region}},
                         pools={"transactional": {"sources": [], "fallback": ["esp"], "when_exhausted": "fallback"}},
                         **sections)
        return instance, upstream
    return make


def delivered(instance, **more):
    """The id of a message that the smarthost took."""
    id = send(letter(), **more).id
    wait.until(lambda: instance.message(id)["attempts"], 10, "the smarthost has it")
    instance.until_queue_empty()
    return id


def history(instance, id):
    return instance.message(id)["events"]


def counter(instance, name, **labels):
    total = 0
    for line in instance.http("/metrics")[2].splitlines():
        if line.startswith("egret_esp_" + name) and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rpartition(" ")[2])
    return total


def reports(upstream, sender="app@sender.test"):
    """The DSNs: they go by the smarthost too."""
    return [message for message in upstream.messages if message.sender == "" and sender in message.recipients]


def test_a_bounce_at_ses_is_shown_reported_and_sent_on_and_a_restart_keeps_the_tie(by_esp, hook, work):
    sns = Sns(work / "hooks")
    forward = {"forward": {"webhook": hook.url, "secret": "s3cret", "on": ["bounced", "delivered"]}}
    instance, upstream = by_esp(sns.settings, provider="ses", reply="250 Ok 0102018f-aa-000000", listener=forward)
    id = delivered(instance)
    tags = re.search(rb"^X-SES-MESSAGE-TAGS: egret=(\S+)\r$", upstream.messages[0].data, re.M)
    assert tags and tags.group(1).decode() == id
    instance.restart()
    assert instance.message(id)["attempts"][0]["esp_id"] == "0102018f-aa-000000", "the history in memory is gone"
    bounce = sns.bounce("0102018f-aa-000000")
    assert sns.post("esp", bounce)[0] == 200
    (event,) = history(instance, id)
    assert (event["kind"], event["permanent"], event["recipient"]) == ("bounced", True, "user@shop.test")
    assert event["diagnostic"] == "smtp; 550 5.1.1 user unknown" and event["esp_id"] == "0102018f-aa-000000"
    (message,) = wait.until(lambda: reports(upstream), 10, "the sender is told")
    parsed = email.message_from_bytes(message.data)
    assert parsed.get_content_type() == "multipart/report" and len(parsed.get_payload()) == 2
    fields = parsed.get_payload()[1].get_payload()
    assert dsn.address(fields[1]["Final-Recipient"]) == "user@shop.test" and fields[1]["Action"] == "failed"
    assert fields[1]["Status"] == "5.1.1" and fields[0]["X-Egret-Queue-ID"] == id
    wait.until(lambda: hook.requests, 10, "the operator is told")
    (request,) = hook.requests
    assert request.genuine and json.loads(request.body)["kind"] == "esp-events"
    (told,) = json.loads(request.body)["events"]
    assert (told["message"], told["sender"], told["kind"]) == (id, "app@sender.test", "bounced")
    # The same again, in both versions of the signature: known already.
    for version in ("1", "2"):
        assert sns.post("esp", bounce, version=version) == (200, "taken 0, repeated 1\n")
    again = sns.bounce("0102018f-aa-000000")
    assert sns.post("esp", again)[0] == 200
    wait.until(lambda: len(hook.requests) == 2, 10, "another event is sent on")
    instance.until_queue_empty()
    assert len(reports(upstream)) == 1, "one report for a message and recipient"
    assert counter(instance, "events_repeated_total") == 2 and counter(instance, "events_total", kind="bounced") == 2
    instance.restart()
    assert len(history(instance, id)) == 2 and len(hook.requests) == 2


def test_what_is_forged_old_or_odd_at_ses_is_refused_and_counted(by_esp, work):
    sns = Sns(work / "hooks")
    stranger = Key(work / "hooks", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
    instance, upstream = by_esp(sns.settings, provider="ses", reply="250 Ok 0102018f-aa-000000")
    id = delivered(instance)
    bounce = json.dumps(sns.bounce("0102018f-aa-000000"))
    for wanted, status, message in (
            ("signature", 403, sns.message(bounce, key=stranger)),
            ("signature", 403, {**sns.message(bounce), "Message": bounce + " "}),
            ("topic", 403, sns.message(bounce, TopicArn="arn:aws:sns:eu-west-1:999999999999:other")),
            ("old", 406, sns.message(bounce, age=2 * 3600)),
            ("old", 406, sns.message(bounce, age=-3600)),
            ("url", 403, sns.message(bounce, SigningCertURL="https://sns.eu-west-1.amazonaws.com.evil.test/x.pem")),
            ("url", 403, sns.message("", "SubscriptionConfirmation", Token="t", SubscribeURL="http://127.0.0.1:8025/")),
            ("malformed", 400, {"Type": "Notification"})):
        before = counter(instance, "requests_refused_total", reason=wanted)
        assert post("esp", message) == (status, f"refused: {wanted}\n")
        assert counter(instance, "requests_refused_total", reason=wanted) == before + 1
    assert history(instance, id) == [] and reports(upstream) == []
    told = {event["rule"] for event in instance.events(kind="esp-events-refused")}
    assert told == {"signature", "topic", "old", "url", "malformed"}
    assert len(instance.events(kind="esp-events-refused")) == 5, "once for each reason"


def test_the_certificate_and_the_confirmation_come_from_amazons_host_only(egret, work, dns, authority, smarthost):
    sns = Sns(work / "hooks", offline=False)
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            with open(sns.certificate, "rb") as file:
                body = file.read()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    dns.a(SNS_HOST, "127.0.6.9")
    amazon = http.server.ThreadingHTTPServer(("127.0.6.9", 443), Handler)
    amazon.socket = authority.server(SNS_HOST).wrap_socket(amazon.socket, server_side=True)
    threading.Thread(target=amazon.serve_forever, args=(0.05,), daemon=True).start()
    try:
        instance = egret(start=False, esp_events=PLAIN, smarthosts={
            "esp": {"address": "smtp.esp.test:587", "username": "u", "password": "p", "ca": authority.certificate,
                    "events": sns.settings}})
        instance.environment["SSL_CERT_FILE"] = authority.certificate
        instance.start()
        url = f"https://{SNS_HOST}/?Action=ConfirmSubscription&Token=t0"
        assert post("esp", sns.message("x", "SubscriptionConfirmation", Token="t0", SubscribeURL=url))[0] == 200
        wait.until(lambda: instance.events(kind="esp-events-subscribed"), 10, "the subscription is confirmed")
        assert sns.post("esp", sns.bounce("unknown")) == (200, "taken 1, repeated 0\n")
        assert asked == ["/SimpleNotificationService-1.pem", "/?Action=ConfirmSubscription&Token=t0"]
        assert counter(instance, "events_untied_total") == 1
    finally:
        amazon.shutdown()
        amazon.server_close()


def test_sendgrid_is_believed_by_its_key_and_ties_by_our_id(by_esp, work):
    sendgrid, stranger = SendGrid(work / "hooks"), SendGrid(work / "hooks")
    instance, upstream = by_esp(sendgrid.settings, provider="sendgrid")
    ids = [delivered(instance) for _ in range(2)]
    found = [re.search(rb'^X-SMTPAPI: (.*)\r$', message.data, re.M) for message in upstream.messages]
    assert [json.loads(match.group(1)) for match in found] == [{"unique_args": {"egret": id}} for id in ids]
    events = [sendgrid.event("delivered", egret=ids[0], response="250 2.0.0 OK"),
              sendgrid.event("deferred", sg_message_id="ESP1.filter1.0", egret=ids[1], response="451 later"),
              sendgrid.event("dropped", egret=ids[1], reason="Bounced Address"), sendgrid.event("open", egret=ids[1])]
    assert sendgrid.post("esp", events) == (200, "taken 3, repeated 0\n")
    assert [event["kind"] for event in history(instance, ids[0])] == ["delivered"]
    assert {event["kind"] for event in history(instance, ids[1])} == {"deferred", "suppressed"}
    (report,) = wait.until(lambda: reports(upstream), 10, "a suppressed recipient is reported as a bounce")
    assert b"Bounced Address" in report.data and ids[1].encode() in report.data
    assert sendgrid.post("esp", events) == (200, "taken 0, repeated 3\n")
    late = [sendgrid.event("bounce", egret=ids[0])]
    assert sendgrid.post("esp", late, key=stranger.key)[0] == 403
    assert sendgrid.post("esp", late, body=json.dumps(late).encode() + b" ")[0] == 403
    assert sendgrid.post("esp", late, age=400)[0] == 406
    assert post("esp", late)[0] == 403
    assert counter(instance, "requests_refused_total", reason="signature") == 3
    assert counter(instance, "requests_refused_total", reason="old") == 1
    assert len(history(instance, ids[0])) == 1


def test_a_token_of_mailgun_is_good_once_also_after_a_restart(by_esp):
    reply = "250 Great success <20261122.1@mg.sender.test>"
    instance, upstream = by_esp(Mailgun.settings, provider="mailgun", reply=reply)
    id = delivered(instance)
    headers = {"message": {"headers": {"message-id": "20261122.1@mg.sender.test"}}}
    assert b'X-Mailgun-Variables: {"egret":"' + id.encode() in upstream.messages[0].data
    complaint = Mailgun.event("complained", **headers)
    assert Mailgun.post("esp", complaint, token="t0") == (200, "taken 1, repeated 0\n")
    assert Mailgun.post("esp", Mailgun.event("delivered", **headers), token="t0") == (406, "refused: replayed\n")
    instance.restart()
    assert Mailgun.post("esp", Mailgun.event("delivered", **headers), token="t0") == (406, "refused: replayed\n")
    assert Mailgun.post("esp", complaint, token="t1") == (200, "taken 0, repeated 1\n")
    assert Mailgun.post("esp", complaint, secret="other")[0] == 403
    assert Mailgun.post("esp", complaint, age=400)[0] == 406
    assert [event["kind"] for event in history(instance, id)] == ["complained"]
    assert counter(instance, "requests_refused_total", reason="replayed") == 1
    assert reports(upstream) == [], "nobody bounces because of a complaint"


def test_a_complaint_is_an_event_that_names_the_sender(by_esp):
    instance, _ = by_esp(Mailgun.settings, provider="mailgun")
    ids = [delivered(instance) for _ in range(2)]
    for id in ids:
        assert Mailgun.post("esp", Mailgun.event("complained", **{"user-variables": {"egret": id}}))[0] == 200
    (event,) = wait.until(lambda: instance.events(kind="complaints"), 5, "the operator is told")
    assert event["sender"] == "app@sender.test" and event["smarthost"] == "esp" and event["message"] == ids[0]


def test_postmark_and_sparkpost_show_a_secret(egret, smarthost, authority):
    login = {"address": "smtp.esp.test:587", "username": "u", "password": "p", "ca": authority.certificate}
    instance = egret(esp_events=PLAIN, smarthosts={
        "pm": {**login, "events": {"format": "postmark", "username": "hook", "password": "p4ssw0rd"}},
        "sp": {**login, "address": "smtp.other.test:587",
               "events": {"format": "sparkpost", "header": "X-Hook", "secret": "s3cr3t-42"}},
        "far": {**login, "address": "smtp.third.test:587",
                "events": {"format": "sparkpost", "header": "X-Hook", "secret": "s3cr3t-42", "allow": ["192.0.2.0/24"]}}})
    bounce = {"RecordType": "Bounce", "ID": 1, "Type": "HardBounce", "Email": "user@shop.test", "MessageID": "m1"}
    basic = {"Authorization": "Basic " + base64.b64encode(b"hook:p4ssw0rd").decode()}
    assert post("pm", bounce, basic)[0] == 200
    assert post("pm", bounce)[0] == 401 and post("pm", bounce, {"Authorization": "Basic aG9vazp4"})[0] == 401
    batch = [{"msys": {"message_event": {"type": "delivery", "rcpt_to": "user@shop.test", "event_id": "1"}}}]
    assert post("sp", batch, {"X-Hook": "s3cr3t-42"}) == (200, "taken 1, repeated 0\n")
    assert post("sp", batch, {"X-Hook": "s3cr3t-43"})[0] == 401
    assert post("far", batch, {"X-Hook": "s3cr3t-42"}) == (403, "refused: address\n")
    assert counter(instance, "requests_refused_total", reason="credentials") == 3
    assert "s3cr3t-42" not in instance.log() and "p4ssw0rd" not in instance.log()


def test_wrong_paths_methods_and_sizes_end_early(by_esp):
    instance, _ = by_esp(Mailgun.settings)
    assert post("nobody", {})[0] == 404 and post("esp/x", {})[0] == 404 and post("", {})[0] == 404
    assert post("esp", None, method="GET")[0] == 405
    for number in (1, 2):
        assert post("esp", b" " * (1 << 20) + b"{}") == (413, "refused: too-large\n"), number
    assert post("esp", b"{}", {f"X-{number}": "x" * 1000 for number in range(40)})[0] == 413
    with socket.create_connection(("127.0.0.1", 8443)) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 404 ")
    with socket.create_connection(("127.0.0.1", 8443)) as slow:
        slow.settimeout(15)
        slow.sendall(b"POST /events/esp HTTP/1.1\r\n")
        begun = time.monotonic()
        with pytest.raises((ConnectionError, BrokenPipeError)):
            while slow.sendall(b"X: y\r\n") is None:
                assert time.monotonic() - begun < 14, "a slow client is cut"
                time.sleep(0.2)
    assert counter(instance, "requests_refused_total", reason="too-large") == 3
    assert counter(instance, "requests_refused_total", reason="path") >= 4


def test_a_sender_who_wants_no_report_gets_none(by_esp, work):
    sendgrid = SendGrid(work / "hooks")
    instance, upstream = by_esp(sendgrid.settings, provider="sendgrid")
    with RawSmtp() as client:
        client.hello()
        client.ask("MAIL FROM:<app@sender.test>")
        client.ask("RCPT TO:<user@shop.test> NOTIFY=NEVER")
        client.ask("DATA")
        quiet = re.search(r"queued as (\S+)", client.ask("Subject: x\r\n\r\nHello.\r\n.")).group(1)
    null = delivered(instance, sender="")
    loud = delivered(instance)
    instance.until_queue_empty()
    assert sendgrid.post("esp", [sendgrid.event("bounce", egret=id, reason="550 5.1.1 no")
                                 for id in (quiet, null, loud)]) == (200, "taken 3, repeated 0\n")
    wait.until(lambda: reports(upstream), 10, "the third sender is told")
    instance.until_queue_empty()
    assert len(reports(upstream)) == 1 and loud.encode() in reports(upstream)[0].data
    assert [event["kind"] for event in history(instance, quiet)] == ["bounced"]


def test_the_operators_webhook_is_tried_again_and_what_waits_outlives_a_restart(by_esp, hook):
    hook.answers = [503, 503]
    forward = {"forward": {"webhook": hook.url, "secret": "s3cret"}}
    instance, _ = by_esp(Mailgun.settings, listener=forward)
    id = delivered(instance)
    tag = {"user-variables": {"egret": id}}
    assert Mailgun.post("esp", Mailgun.event("delivered", **tag))[0] == 200
    assert Mailgun.post("esp", Mailgun.event("complained", **tag))[0] == 200
    wait.until(lambda: hook.requests, 10, "a first try")
    instance.restart()
    wait.until(lambda: len(hook.requests) >= 3, 10, "further tries")
    wait.until(lambda: counter(instance, "events_forwarded_total") == 1, 5, "it is taken")
    assert {request.body for request in hook.requests} == {hook.requests[0].body}
    assert [event["kind"] for event in json.loads(hook.requests[-1].body)["events"]] == ["complained"]


def test_a_reload_opens_moves_and_closes_the_address(by_esp, authority):
    instance, _ = by_esp(Mailgun.settings)
    id = delivered(instance)
    authority.server("relay.test")
    certificate, key = (f"{authority.directory}/relay.test.{end}" for end in ("pem", "key"))
    config = dict(instance.config)
    config["esp_events"] = {"address": "0.0.0.0:8444", "tls": {"certificate": certificate, "key": key}}
    instance.configure(**config)
    assert instance.command("reload").returncode == 0
    context = ssl.create_default_context(cafile=authority.certificate)
    context.check_hostname = False
    event = {"signature": {}, "event-data": Mailgun.event("delivered", **{"user-variables": {"egret": id}})}
    request = urllib.request.Request("https://127.0.0.1:8444/events/esp", data=json.dumps(event).encode())
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5, context=context)
    assert refused.value.code == 400
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 8443), 2).close()
    config["esp_events"]["tls"]["key"] = certificate
    instance.configure(**config)
    assert instance.command("reload").returncode == 1, "a key that does not fit"
    config["esp_events"] = None
    config["smarthosts"]["esp"].pop("events")
    instance.configure(**config)
    assert instance.command("reload").returncode == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", 8444), 2).close()
