"""Egret and the mail servers and clients of other people understand each other, in both directions."""

import json
import pathlib
import subprocess

import pytest

from support import peers, wait
from support.dsn import address, parse
from support.egret import SMTP, source
from support.mail import SENDER, Submitter, below_trace, in_maildir_form, letter, marker_of, send, send_exactly
from support.smtp_tools import swaks

RECEIVERS = {"postfix": peers.PostfixPeer, "exim": peers.Exim, "opensmtpd": peers.OpenSmtpd,
             "sendmail": peers.Sendmail, "haraka": peers.Haraka, "aiosmtpd": peers.AioSmtpd}
FRONTS = {name: kind for name, kind in RECEIVERS.items() if name != "aiosmtpd"}

CONTENTS = {
    "a plain message": letter(body=b"One line.\r\nAnother.\r\n"),
    # Everybody passes on lines of this length; sendmail and Exim break or bounce what is much longer.
    "dots and long lines": letter(body=b".\r\n..\r\n.x\r\n. \r\ntrailing \t\r\n" + b"y" * 980 + b"\r\n."
                                  + b"z" * 979 + b"\r\n\r\n.\r\n"),
    "3 MB": letter(body=(b"." + b"0123456789abcdef" * 60 + b"\r\n") * 3260),
}


# -- Egret delivers to them


@pytest.fixture(scope="module")
def running():
    """The receivers that have been needed so far, by name."""
    found = {}
    yield found
    for peer in found.values():
        peer.stop()


@pytest.fixture
def receiving(work, dns, running):
    """receiving(name, kind): this peer as the only MX of NAME.test, with empty mailboxes."""
    def make(name, kind):
        host, address = f"mx.{name}.test", f"127.0.2.{70 + len(running)}"
        dns.host(host, running[name].address if name in running else address)
        dns.mx(f"{name}.test", (10, host))
        if name not in running:
            running[name] = kind(work / "peers" / name, host, address, domain=f"{name}.test").start()
        running[name].empty_mailboxes()
        return running[name]
    return make


@pytest.fixture(params=RECEIVERS)
def peer(request, receiving):
    return receiving(request.param, RECEIVERS[request.param])


def the_only_message_of(user, peer, instance):
    wait.until(lambda: peer.messages(user), 10, f"{user} has the message")
    instance.until_queue_empty()
    (arrived,) = peer.messages(user)
    return arrived


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_a_message_arrives_unchanged_and_under_tls_where_the_receiver_offers_it(egret, peer, content):
    instance = egret(delivery={"tls": "opportunistic"})
    send_exactly(content, f"user@{peer.domain}")
    arrived = the_only_message_of("user", peer, instance)
    assert below_trace(arrived) == in_maildir_form(content)
    assert (b"esmtps" in arrived[:500].lower()) == peer.starttls


def test_a_receiver_whose_starttls_fails_gets_the_message_in_clear(egret, receiving):
    instance = egret(delivery={"tls": "opportunistic"})
    peer = receiving("halfway", peers.OpenSmtpdWithTls)
    content = letter()
    send(content, "user@halfway.test")
    assert below_trace(the_only_message_of("user", peer, instance)) == in_maildir_form(content)
    assert "TLS failed" in instance.log() and "SSL" in peer.log()


def test_one_refused_recipient_of_five_is_reported_and_the_others_get_the_message(egret, peer, senders):
    instance = egret(delivery={"tls": "opportunistic"})
    content = letter()
    send(content, [f"{user}@{peer.domain}" for user in ("user", "user1", "stranger", "user2", "user3")])
    for user in ("user", "user1", "user2", "user3"):
        assert below_trace(the_only_message_of(user, peer, instance)) == in_maildir_form(content)
    wait.until(lambda: senders.messages, 10, "the sender has the report")
    (report,) = senders.messages
    (failed,) = parse(report.data).recipients
    assert report.sender == ""
    assert address(failed["final-recipient"]) == f"stranger@{peer.domain}"
    assert failed["action"] == "failed" and failed["diagnostic-code"].startswith("smtp; 550")
    # OpenSMTPD gives no enhanced code at RCPT; the report then claims nothing that it did not say.
    assert failed["status"] == ("5.1.1" if "550 5.1.1" in failed["diagnostic-code"] else "5.0.0")


def test_thirty_messages_share_connections(egret, peer):
    instance = egret(sources={"a": source("a")}, delivery={"tls": "opportunistic", "connections_per_site": 1})
    before = peer.connections()
    with Submitter() as submitter:
        for _ in range(30):
            submitter.send(letter(), f"user@{peer.domain}")
    wait.until(lambda: len(peer.messages("user")) == 30, 20, "all messages arrive")
    instance.until_queue_empty()
    assert len({marker_of(message) for message in peer.messages("user")}) == 30
    # One, unless the client is so slow that the queue runs dry in between.
    assert 1 <= peer.connections() - before <= 3


# -- they send through Egret


def behind(front):
    """A client that hands the messages to this front, which stands between it and Egret."""
    def client(contents, directory):
        with Submitter(front.address, front.port) as submitter:
            for content in contents:
                for answer in (submitter.smtp.mail(SENDER), submitter.smtp.rcpt("user@shop.test"),
                               submitter.smtp.data(content)):
                    assert answer[0] == 250, answer
    return client


def files(contents, directory):
    paths = [pathlib.Path(directory, f"message-{number}") for number in range(len(contents))]
    for path, content in zip(paths, contents):
        path.write_bytes(content)
    return [str(path) for path in paths]


def with_smtplib(contents, directory):
    with Submitter() as submitter:
        for content in contents:
            submitter.send(content)


def with_swaks(contents, directory):
    for content in contents:
        swaks(directory, content, SENDER, "user@shop.test")


def with_msmtp(contents, directory):
    for path in files(contents, directory):
        with open(path, "rb") as content:
            subprocess.run(["msmtp", f"--host={SMTP[0]}", f"--port={SMTP[1]}", f"--from={SENDER}",
                            "--domain=client.test", "--", "user@shop.test"], stdin=content, check=True, timeout=20)


def with_curl(contents, directory):
    for path in files(contents, directory):
        subprocess.run(["curl", "--disable", "--silent", "--show-error", "--mail-from", SENDER, "--mail-rcpt",
                        "user@shop.test", "--upload-file", path, f"smtp://{SMTP[0]}:{SMTP[1]}/client.test"],
                       check=True, timeout=20)


NODEMAILER = """
const [library, server, sender, ...paths] = process.argv.slice(1);
const [host, port] = JSON.parse(server);
const transport = require(library).createTransport(
    { host, port, pool: true, maxConnections: 3, name: 'client.test' });
const envelope = { from: sender, to: ['user@shop.test'] };
Promise.all(paths.map((path) => transport.sendMail({ envelope, raw: { path } }))).then(() => transport.close());
"""


def with_nodemailer(contents, directory):
    library = peers.program("npm", "node_modules/nodemailer")
    subprocess.run(["node", "-e", NODEMAILER, library, json.dumps(SMTP), SENDER, *files(contents, directory)],
                   check=True, timeout=30)


CLIENTS = {"smtplib": with_smtplib, "swaks": with_swaks, "msmtp": with_msmtp, "curl": with_curl,
           "nodemailer": with_nodemailer}


@pytest.fixture(params=[*CLIENTS, *(f"{name} in front" for name in FRONTS)])
def client(request, work, dns):
    """Each client in turn: client(contents, directory) sends all of them to user@shop.test."""
    if request.param in CLIENTS:
        yield CLIENTS[request.param]
        return
    name = request.param.split()[0]
    host, address = f"{name}.front.test", f"127.0.3.{20 + list(FRONTS).index(name)}"
    dns.host(host, address)
    front = FRONTS[name](work / "fronts" / name, host, address, relay=SMTP).start()
    yield behind(front)
    front.stop()


def test_twenty_messages_pass_from_a_client_through_egret_unchanged(egret, shop, client, tmp_path):
    egret()
    body = b".\r\n..x\r\ntrailing \t\r\n%b" + b"y" * 900 + b"\r\n\r\nend\r\n"
    contents = [letter(f"message-{number}", body % ("Grüße\r\n".encode() * 9 ** (number % 5)))
                for number in range(20)]
    client(contents, tmp_path)
    wait.until(lambda: len(shop.messages) >= 20, 20, "all messages arrive")
    arrived = {marker_of(message.data): message for message in shop.messages}
    assert len(shop.messages) == 20 and len(arrived) == 20
    for content in contents:
        message = arrived[marker_of(content)]
        assert (message.sender, message.recipients) == (SENDER, ("user@shop.test",))
        assert below_trace(message.data).endswith(content)
