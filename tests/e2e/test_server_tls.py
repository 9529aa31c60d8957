"""TLS on listeners: what is offered where, what is refused, and what must not survive the change from clear to TLS."""

import os
import shutil
import ssl
import subprocess
import time

import pytest

from support import wait
from support.listeners import certificate, listener
from support.mail import letter, receipt, send, trace_field
from support.raw_smtp import RawSmtp, stuffed
from support.tls_client import SplitTls, TlsSmtp, s_client, trusting

VERSIONS = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
each_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=VERSIONS.keys())


@pytest.fixture
def tls(authority):
    return certificate(authority)


@pytest.fixture
def starttls(egret, tls):
    """An Egret with STARTTLS on port 2525."""
    return egret(tls=tls, listeners=[listener(tls="starttls")])


def submit(client, marker):
    client.envelope("app@sender.test", "user@shop.test")
    client.send(stuffed(letter(marker=marker)))
    return receipt(client.reply())


def lines(reply):
    return {line[4:].split(" ")[0] for line in reply.splitlines()}


# -- what is offered


def test_listeners_in_clear_with_starttls_and_with_implicit_tls_work_at_once_on_both_families(egret, tls, authority, shop):
    egret(tls=tls, listeners=[listener(2525), listener(2587, tls="starttls"), listener(2465, tls="implicit"),
                              listener(2525, "::1"), listener(2587, "::1", tls="starttls"),
                              listener(2465, "::1", tls="implicit")])
    context = trusting(authority)
    for address in ("127.0.0.1", "::1"):
        with RawSmtp(address, 2525) as client:
            assert "STARTTLS" not in lines(client.hello())
            assert client.ask("STARTTLS").startswith("502 5.5.1")
            submit(client, f"clear {address}")
        with TlsSmtp(context, address, 2587) as client:
            assert "STARTTLS" in lines(client.hello())
            client.start_tls()
            assert "STARTTLS" not in lines(client.ask("EHLO client.test"))
            assert client.ask("STARTTLS").startswith("503 5.5.1")
            submit(client, f"starttls {address}")
        with TlsSmtp(context, address, 2465, implicit=True) as client:
            assert "STARTTLS" not in lines(client.hello())
            submit(client, f"implicit {address}")
    wait.until(lambda: len(shop.messages) == 6, 10, "all six arrive")
    for address, literal in (("127.0.0.1", "127.0.0.1"), ("::1", "IPv6:::1")):
        for way, protocol in (("clear", "ESMTP"), ("starttls", "ESMTPS"), ("implicit", "ESMTPS")):
            (message,) = shop.with_marker(f"{way} {address}")
            assert f"([{literal}]) by relay.test with {protocol} id " in trace_field(message.data)


def test_mail_in_clear_is_still_taken_where_starttls_is_only_offered(starttls, shop):
    send(letter(marker="clear"))
    wait.until(lambda: shop.with_marker("clear"), 10, "it arrives")


@pytest.mark.parametrize("url, more", [("smtp://relay.test:2587", ["--ssl-reqd"]), ("smtps://relay.test:2465", [])],
                         ids=["STARTTLS", "implicit"])
def test_curl_sends_under_tls_and_verifies_the_certificate(egret, tls, authority, shop, tmp_path, url, more):
    instance = egret(tls=tls, listeners=[listener(2587, tls="starttls"), listener(2465, tls="implicit")])
    path = tmp_path / "message"
    path.write_bytes(letter(marker="curl"))
    subprocess.run(["curl", "--silent", "--show-error", "--cacert", authority.certificate, "--connect-to",
                    "relay.test::127.0.0.1:", "--mail-from", "app@sender.test", "--mail-rcpt", "user@shop.test",
                    "--upload-file", path, *more, url], check=True, timeout=20)
    wait.until(lambda: shop.with_marker("curl"), 10, "it arrives")
    assert '"tls":"TLSv1.3 TLS_AES' in instance.log()  # in the line "accepted"


# -- what is refused


@pytest.mark.parametrize("arguments", [["-starttls", "smtp"], []], ids=["STARTTLS", "implicit"])
def test_only_tls_1_2_and_1_3_are_spoken(egret, tls, arguments):
    egret(tls=tls, listeners=[listener(2525, tls="starttls" if arguments else "implicit")])
    for version in ("-tls1_2", "-tls1_3"):
        said, _ = s_client("127.0.0.1:2525", version, *arguments)
        assert "\n221 2.0.0" in said, said
    for version in ("-tls1", "-tls1_1"):
        # Security level 0: the client at least would speak it.
        said, code = s_client("127.0.0.1:2525", version, "-cipher", "ALL:@SECLEVEL=0", *arguments)
        assert code != 0 and "Cipher is (NONE)" in said, said


def test_a_renegotiation_is_refused(starttls):
    said, code = s_client("127.0.0.1:2525", "-starttls", "smtp", "-tls1_2", commands="R\n", keys=True)
    assert "RENEGOTIATING" in said and code != 0, said
    assert "no renegotiation" in said, said
    with RawSmtp() as client:
        assert client.hello().startswith("250")


def test_bytes_in_clear_behind_starttls_are_never_commands(starttls, authority, shop):
    """The command injection of CVE-2011-0411."""
    with TlsSmtp(trusting(authority)) as client:
        client.hello()
        client.send(b"STARTTLS\r\nMAIL FROM:<injected@sender.test>\r\nRCPT TO:<user@shop.test>\r\n")
        reply = client.reply()
        if reply.startswith("220"):
            client.wrap()
            assert client.ask("NOOP").startswith("250")
        else:
            assert reply.startswith("503") and client.closed()


def test_bytes_in_clear_between_the_220_and_the_handshake_end_the_session(starttls):
    with RawSmtp() as client:
        client.hello()
        assert client.ask("STARTTLS").startswith("220")
        client.send(b"MAIL FROM:<injected@sender.test>\r\n")
        assert client.closed()
    wait.until(lambda: "TLS handshake with a client failed" in starttls.log(), 5, "the log says so")


def test_what_was_said_in_clear_is_forgotten_after_the_handshake(starttls, authority):
    with TlsSmtp(trusting(authority)) as client:
        client.hello()
        client.start_tls()
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("503")


def test_starttls_is_refused_within_a_transaction_and_with_an_argument(starttls):
    with RawSmtp() as client:
        client.hello()
        assert client.ask("STARTTLS now").startswith("501")
        assert client.ask("MAIL FROM:<app@sender.test>").startswith("250")
        assert client.ask("STARTTLS").startswith("503")
        assert client.ask("RCPT TO:<user@shop.test>").startswith("250")


@each_version
def test_bytes_in_clear_behind_the_end_of_tls_in_data_end_the_session(egret, tls, authority, shop, version):
    """What Exim went on to read as part of the message, into freed memory: CVE-2026-45185."""
    instance = egret(tls=tls, listeners=[listener(tls="starttls"), listener(2465, tls="implicit")])
    context = trusting(authority, version)
    for client in (SplitTls(context, starttls=True), SplitTls(context, port=2465)):
        with client:
            assert client.ask("EHLO client.test").startswith("250")
            for command, code in (("MAIL FROM:<app@sender.test>", "250"), ("RCPT TO:<user@shop.test>", "250"),
                                  ("DATA", "354")):
                assert client.ask(command).startswith(code)
            client.send(letter(body=b"under TLS\r\n"))
            client.close_notify()
            client.socket.sendall(b"in clear\r\n.\r\nMAIL FROM:<injected@sender.test>\r\n" + b"x" * 5000 + b"\r\n")
            answer = client.rest_in_clear()
            assert b"250" not in answer and b"queued" not in answer
    assert instance.queue()["total"] == 0 and shop.messages == [] and '"accepted"' not in instance.log()
    with RawSmtp() as client:
        assert client.hello().startswith("250")


def test_a_session_ends_with_the_end_of_tls_so_that_the_client_knows_that_nothing_is_cut_off(egret, tls, authority):
    egret(tls=tls, listeners=[listener(tls="implicit")])
    for version in VERSIONS.values():
        with SplitTls(trusting(authority, version), port=2525) as client:
            assert client.ask("QUIT").startswith("221")
            assert client.ended_by_close_notify(), version


def test_a_stop_says_421_under_tls_too_and_waits_for_nobody_who_is_idle(egret, tls, authority):
    instance = egret(tls=tls, listeners=[listener(tls="implicit"), listener(2587, tls="starttls")])
    with TlsSmtp(trusting(authority), implicit=True) as idle, TlsSmtp(trusting(authority), port=2587) as clear:
        idle.hello()
        clear.hello()
        begun = time.monotonic()
        instance.terminate()
        for client in (idle, clear):
            assert client.reply().startswith("421 4.3.2")
            assert client.closed()
        assert instance.ended() == 0 and time.monotonic() - begun < 2


def test_a_client_that_never_starts_its_handshake_is_dropped_and_disturbs_nobody(egret, tls, shop):
    egret(tls=tls, listeners=[listener(2465, tls="implicit"), listener(2525)])
    silent = [RawSmtp(port=2465) for _ in range(50)]
    send(letter(marker="meanwhile"))
    for client in silent:
        client.close()
    with RawSmtp(port=2465) as client:
        client.send(b"EHLO in.the.clear\r\n" * 20)
        assert client.closed()


# -- session tickets


@each_version
def test_a_session_is_resumed_by_its_own_listener_and_by_no_other(egret, tls, tmp_path, version):
    egret(tls=tls, listeners=[listener(2587, tls="starttls"), listener(2465, tls="implicit"),
                              listener(2466, tls="implicit")])
    flag = "-tls1_2" if version == ssl.TLSVersion.TLSv1_2 else "-tls1_3"
    a, b, c = ["127.0.0.1:2587", "-starttls", "smtp"], ["127.0.0.1:2465"], ["127.0.0.1:2466"]
    for number, mine in enumerate((a, b)):
        ticket = str(tmp_path / f"ticket{number}")
        said, _ = s_client(*mine, flag, "-sess_out", ticket)
        assert "\nNew, TLSv1" in said, said
        for other in (a, b, c):
            said, code = s_client(*other, flag, "-sess_in", ticket)
            assert ("\nReused, TLSv1" in said) == (other is mine), (mine, other, said)
            assert "250-" in said, said  # refused or not, the session goes on


# -- the certificate changes


def copied(tls, directory):
    os.makedirs(directory, exist_ok=True)
    copies = {name: os.path.join(directory, name) for name in tls}
    for name, path in copies.items():
        shutil.copy(tls[name], path)
    return copies


def serial(authority, port=2525):
    with TlsSmtp(trusting(authority), port=port, implicit=True) as client:
        assert client.reply().startswith("220")
        return client.socket.getpeercert()["serialNumber"]


def test_a_new_certificate_is_shown_without_a_restart_and_open_sessions_go_on(egret, tls, authority, tmp_path):
    mine = copied(tls, tmp_path)
    egret(tls=mine, listeners=[listener(tls="implicit")])
    before = serial(authority)
    with TlsSmtp(trusting(authority), implicit=True) as client:
        client.hello()
        copied(certificate(authority), tmp_path)
        wait.until(lambda: serial(authority) != before, 5, "the new certificate is shown", interval=0.1)
        submit(client, "an old session")
        with TlsSmtp(trusting(authority), implicit=True) as late:
            late.hello()
            submit(late, "a new session")


def test_a_broken_certificate_leaves_the_old_one_in_use_until_it_is_mended(egret, tls, authority, tmp_path):
    mine = copied(tls, tmp_path)
    instance = egret(tls=mine, listeners=[listener(tls="implicit")])
    before = serial(authority)
    fresh = certificate(authority)
    # Half of the new pair, then nonsense, then a missing file; none of them may take TLS away.
    for broken in (lambda: shutil.copy(fresh["key"], mine["key"]),
                   lambda: (tmp_path / "certificate").write_text("nonsense"), lambda: os.remove(mine["certificate"])):
        known = instance.log().count("the certificate stays as it was")
        broken()
        wait.until(lambda: instance.log().count("the certificate stays as it was") > known, 5, "the log says so")
        assert serial(authority) == before
    copied(fresh, tmp_path)
    wait.until(lambda: serial(authority) != before, 5, "the mended certificate is shown", interval=0.1)


def test_a_certificate_that_cannot_be_used_is_reported_by_check(egret, tls, authority, tmp_path):
    mine = copied(tls, tmp_path)
    (tmp_path / "key").write_text("nonsense")
    instance = egret(start=False, tls=mine, listeners=[listener(tls="implicit")])
    code, said = instance.run_to_end()
    assert code != 0 and "key" in said


def test_a_listener_with_tls_needs_a_certificate(egret):
    done = egret(start=False, listeners=[listener(tls="starttls")]).check()
    assert done.returncode == 1 and "listeners[0].tls: needs a certificate" in (done.stdout + done.stderr)
