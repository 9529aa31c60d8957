"""Reading a delivery status notification as RFC 3464 defines it."""

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
    first, *others = [{name.lower(): str(value) for name, value in block.items()} for block in status.get_payload()]
    assert first.get("reporting-mta"), first
    return Dsn(message, human.get_content(), first, [block for block in others if block],
               original.as_bytes())


def address(field):
    """rfc822; user@shop.test -> user@shop.test"""
    kind, _, value = field.partition(";")
    assert kind.strip().lower() in ("rfc822", "utf-8"), field
    return value.strip()
