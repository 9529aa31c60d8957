"""ESPs that post events: each signs as its maker documents, with keys made for the test."""

import base64
import datetime
import hashlib
import hmac
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
import uuid

EVENTS = "http://127.0.0.1:8443"
TOPIC = "arn:aws:sns:eu-west-1:123456789012:ses-events"
SNS_HOST = "sns.eu-west-1.amazonaws.com"


def post(name, body, headers=None, method="POST", base=EVENTS):
    """(status, text) of a request to /events/NAME."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{base}/events/{name}", data=data, headers=headers or {}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode("utf-8", "replace")


def rfc3339(moment):
    return datetime.datetime.fromtimestamp(moment, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Key:
    """A private key in a file; signs by openssl."""

    def __init__(self, directory, *algorithm):
        os.makedirs(directory, exist_ok=True)
        self.path = os.path.join(directory, uuid.uuid4().hex + ".key")
        _openssl("genpkey", *algorithm, "-out", self.path)

    def public(self):
        return base64.b64encode(_openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")).decode()

    def sign(self, data, digest="sha256"):
        return base64.b64encode(_openssl("dgst", f"-{digest}", "-sign", self.path, input=data)).decode()

    def certificate(self, name="sns.amazonaws.com"):
        path = self.path[:-4] + ".pem"
        _openssl("req", "-x509", "-new", "-key", self.path, "-days", "2", "-subj", f"/CN={name}", "-out", path)
        return path


class SendGrid:
    def __init__(self, directory):
        self.key = Key(directory, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")

    @property
    def settings(self):
        return {"format": "sendgrid", "public_key": self.key.public()}

    def post(self, name, events, age=0, body=None, key=None):
        data = json.dumps(events).encode()
        stamp = str(int(time.time() - age))
        headers = {"X-Twilio-Email-Event-Webhook-Signature": (key or self.key).sign(stamp.encode() + data),
                   "X-Twilio-Email-Event-Webhook-Timestamp": stamp}
        return post(name, data if body is None else body, headers)

    @staticmethod
    def event(kind, recipient="user@shop.test", **more):
        return {"event": kind, "email": recipient, "timestamp": int(time.time()), "sg_event_id": uuid.uuid4().hex, **more}


class Mailgun:
    secret = "mailgun-signing-key"
    settings = {"format": "mailgun", "signing_key": secret}

    @classmethod
    def post(cls, name, event, age=0, token=None, secret=None):
        stamp, token = str(int(time.time() - age)), token or uuid.uuid4().hex
        mac = hmac.new((secret or cls.secret).encode(), (stamp + token).encode(), hashlib.sha256).hexdigest()
        return post(name, {"signature": {"timestamp": stamp, "token": token, "signature": mac}, "event-data": event})

    @staticmethod
    def event(kind, recipient="user@shop.test", **more):
        return {"event": kind, "recipient": recipient, "id": uuid.uuid4().hex, "timestamp": time.time(), **more}


class Sns:
    """SES by way of SNS. `offline`: the configuration has the signing certificate; else it is fetched."""

    def __init__(self, directory, offline=True):
        self.key = Key(directory, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
        self.certificate = self.key.certificate()
        self._offline = offline

    @property
    def settings(self):
        settings = {"format": "ses", "topic": TOPIC}
        return {**settings, "certificate": self.certificate} if self._offline else settings

    def message(self, message, type="Notification", version="2", age=0, key=None, **more):
        fields = {"Type": type, "MessageId": str(uuid.uuid4()), "TopicArn": TOPIC, "Message": message,
                  "Timestamp": rfc3339(time.time() - age), "SignatureVersion": version,
                  "SigningCertURL": f"https://{SNS_HOST}/SimpleNotificationService-1.pem", **more}
        names = ["Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"]
        if type != "Notification":
            names = ["Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        text = "".join(f"{name}\n{fields[name]}\n" for name in names if name in fields)
        fields["Signature"] = (key or self.key).sign(text.encode(), "sha1" if version == "1" else "sha256")
        return fields

    def post(self, name, event, **more):
        return post(name, self.message(json.dumps(event), **more),
                    {"x-amz-sns-message-type": "Notification", "Content-Type": "text/plain; charset=UTF-8"})

    @staticmethod
    def bounce(esp_id, recipient="user@shop.test", type="Permanent", sub="General", tags=None):
        return {"eventType": "Bounce", "mail": {"messageId": esp_id, "destination": [recipient], "tags": tags or {}},
                "bounce": {"bounceType": type, "bounceSubType": sub, "feedbackId": uuid.uuid4().hex,
                           "timestamp": rfc3339(time.time()),
                           "bouncedRecipients": [{"emailAddress": recipient, "action": "failed", "status": "5.1.1",
                                                  "diagnosticCode": "smtp; 550 5.1.1 user unknown"}]}}


def _openssl(*arguments, input=None):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, input=input).stdout
