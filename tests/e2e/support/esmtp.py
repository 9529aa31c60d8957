"""Submitting with the parameters of MAIL and RCPT that smtplib does not have, and with octets that it would change."""

from .mail import SENDER, receipt
from .raw_smtp import RawSmtp, stuffed


def submit(content, *recipients, sender=SENDER, mail=""):
    """recipients: addresses, or (address, parameters) pairs; mail: the parameters of MAIL."""
    with RawSmtp() as client:
        client.hello()
        expect(client, f"MAIL FROM:<{sender}> {mail}".rstrip(), "250")
        for recipient in recipients:
            address, parameters = (recipient, "") if isinstance(recipient, str) else recipient
            expect(client, f"RCPT TO:<{address}> {parameters}".rstrip(), "250")
        expect(client, "DATA", "354")
        client.send(stuffed(content))
        return receipt(client.reply())


def expect(client, command, code):
    reply = client.ask(command)
    assert reply.startswith(code), f"{command}: {reply}"


def commands(receiver, verb):
    """What the receiver was told with this verb, in all of its sessions."""
    return [command for session in receiver.sessions for command in session.commands if command.upper().startswith(verb)]
