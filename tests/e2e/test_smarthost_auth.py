"""Logging in to a smarthost: the mechanisms, what is proved to whom, and that no password leaves without verified TLS."""

import pytest

from support import wait
from support.esmtp import commands
from support.mail import letter, send

USERS = {"user,with=signs": "pass word, =, ü"}


def esp(authority, **more):
    user, password = next(iter(USERS.items()))
    return {"address": "smtp.esp.test:587", "tls": "starttls", "username": user, "password": password,
            "ca": authority.certificate, **more}


def by_smarthost(egret, authority, **more):
    return egret(smarthosts={"esp": esp(authority, **more)}, delivery={"retry": ["200ms"]},
                 pools={"transactional": {"sources": [], "fallback": ["esp"], "when_exhausted": "fallback"}})


def refused(instance, upstream, reason):
    """The smarthost got neither mail nor belief."""
    id = send(letter(marker="secret")).id
    wait.until(lambda: instance.smarthosts()["esp"]["reason"], 15, "the reason is shown")
    assert reason in instance.smarthosts()["esp"]["reason"]
    assert upstream.offered == [] and commands(upstream, "MAIL") == []
    assert instance.message(id)["recipients"][0]["state"] not in ("delivered", "failed")


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "SCRAM-SHA-256"])
def test_each_mechanism_logs_in(egret, smarthost, authority, mechanism):
    upstream = smarthost("esp", users=USERS, mechanisms=mechanism)
    by_smarthost(egret, authority)
    send(letter())
    wait.until(lambda: upstream.messages, 10, "the smarthost has the message")
    assert upstream.messages[0].login[0] == "user,with=signs" and upstream.messages[0].tls
    assert " AUTH=<>" in commands(upstream, "MAIL")[0]


def test_a_smarthost_with_no_mechanism_of_ours_is_passed_over(egret, smarthost, authority):
    upstream = smarthost("esp", users=USERS, mechanisms="XOAUTH2 GSSAPI")
    refused(by_smarthost(egret, authority), upstream, "mechanism")


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "SCRAM-SHA-256"])
def test_a_wrong_password_is_refused_in_every_mechanism(egret, smarthost, authority, mechanism):
    upstream = smarthost("esp", users={"user,with=signs": "another"}, mechanisms=mechanism)
    refused(by_smarthost(egret, authority), upstream, "535")


@pytest.mark.parametrize("last", ["", "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "v=", "e=other-error", "x"],
                         ids=["none", "wrong", "empty", "error", "nonsense"])
def test_a_scram_server_that_does_not_prove_itself_is_not_believed(egret, smarthost, authority, last):
    """Who does not know the password must not be given the mail, even when he says that all is well."""
    upstream = smarthost("esp", users=USERS, mechanisms="SCRAM-SHA-256")
    upstream.on("scram", lambda *_: last)
    refused(by_smarthost(egret, authority), upstream, "SCRAM" if last.startswith("v=") else "")
    assert commands(upstream, "AUTH SCRAM-SHA-256")


def test_a_smarthost_with_implicit_tls_is_spoken_to_in_tls_from_the_start(egret, smarthost, authority):
    upstream = smarthost("esp", users=USERS, implicit=True)
    by_smarthost(egret, authority, tls="implicit")
    send(letter())
    wait.until(lambda: upstream.messages, 10, "the smarthost has the message")
    assert upstream.messages[0].tls and commands(upstream, "STARTTLS") == []


def test_a_password_is_not_sent_over_implicit_tls_to_a_stranger(egret, smarthost, authority, foreign_authority):
    upstream = smarthost("esp", users=USERS, implicit=True, tls=foreign_authority.server("smtp.esp.test"))
    refused(by_smarthost(egret, authority, tls="implicit"), upstream, "certificate")
    assert upstream.logins == []


def test_mechanisms_that_were_offered_in_clear_do_not_count(egret, smarthost, authority):
    """RFC 3207, section 4.2: nothing that was said before the handshake is believed after it."""
    upstream = smarthost("esp", users=USERS, mechanisms="PLAIN")

    def ehlo(session, _):
        return "250-smtp.esp.test\n250-AUTH PLAIN LOGIN\n250 STARTTLS" if not session.tls else "250 smtp.esp.test"

    upstream.on("ehlo", ehlo)
    refused(by_smarthost(egret, authority), upstream, "mechanism")
    assert upstream.logins == [] and commands(upstream, "AUTH") == []


def test_a_password_without_tls_is_refused_in_the_configuration(egret, authority):
    instance = egret(start=False, smarthosts={"esp": esp(authority, tls="none")})
    done = instance.check()
    assert done.returncode == 1 and "no password is sent without TLS" in done.stdout + done.stderr


def test_a_smarthost_without_log_in_is_still_verified(egret, smarthost, authority, foreign_authority):
    upstream = smarthost("esp", tls=foreign_authority.server("smtp.esp.test"))
    upstream.users = {}
    instance = egret(smarthosts={"esp": {"address": "smtp.esp.test:587", "ca": authority.certificate}},
                     pools={"transactional": {"sources": [], "fallback": ["esp"], "when_exhausted": "fallback"}})
    refused(instance, upstream, "certificate")
