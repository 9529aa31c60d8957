"""Reading a delivery status notification as RFC 3464 defines it."""

import base64
import dataclasses
import email
import email.policy


@dataclasses.dataclass(frozen=True)
class Dsn:
    message: email.message.EmailMessage
    text: str                 # for people
    about_message: dict       # per-message fields, names in lower case
    recipients: list          # one dict of fields for each recipient
    original: bytes           # the returned message or its headers


def parse(data):
    message = email.message_from_bytes(data, policy=email.policy.SMTP)
    assert message.get_content_type() == "multipart/report", message.get_content_type()
    assert message.get_param("report-type") == "delivery-status"
    human, status, original = message.get_payload()
    assert human.get_content_type() == "text/plain"
    assert status.get_content_type() in ("message/delivery-status", "message/global-delivery-status")
    assert original.get_content_type() in ("message/rfc822", "text/rfc822-headers", "message/global",
                                           "message/global-headers")
    first, *others = [{name.lower(): str(value) for name, value in block.items()} for block in _blocks(status)]
    assert first.get("reporting-mta"), first
    return Dsn(message, human.get_content(), first, [block for block in others if block],
               original.as_bytes())


def _blocks(status):
    """The groups of fields. The library knows those of message/delivery-status, but not the international form."""
    if status.get_content_type() == "message/delivery-status":
        return status.get_payload()
    _, _, body = status.as_bytes(policy=email.policy.SMTPUTF8).partition(b"\r\n\r\n")
    if status["Content-Transfer-Encoding"] == "base64":
        body = base64.b64decode(body)
    return [email.message_from_bytes(block, policy=email.policy.SMTPUTF8) for block in body.strip().split(b"\r\n\r\n")]


def address(field):
    """rfc822; user@shop.test -> user@shop.test"""
    kind, _, value = field.partition(";")
    assert kind.strip().lower() in ("rfc822", "utf-8"), field
    return value.strip()
