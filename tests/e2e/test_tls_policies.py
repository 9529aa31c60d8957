"""How the connection to a receiver is secured: by configuration, by DANE (RFC 7672) and by MTA-STS (RFC 8461)."""

import os

import pytest

from support import egret_log, wait
from support.certificates import broken_server
from support.dns_server import insecure, secure, servfail
from support.mail import Submitter, letter, send
from support.policy_host import PolicyHost, policy
from support.scripted_receiver import ScriptedReceiver

POLICY_HOST = "127.0.7.1"
MESSAGES_ALONE = {"messages_per_connection": 1, "retry": ["200ms"]}
OPPORTUNISTIC = {"tls": "opportunistic", **MESSAGES_ALONE}


def how(instance, to="user@shop.test"):
    """What the log says about the TLS of the last delivery to this recipient."""
    return wait.until(lambda: egret_log.lines(instance, message="delivered", to=to), 10, "it is delivered")[-1]["tls"]


def never_sent(instance, id, *receivers, attempts=2):
    """After some attempts no envelope was shown to anybody, and the message is still there."""
    wait.until(lambda: len(instance.message(id)["attempts"]) >= attempts, 15, f"{attempts} attempts")
    for receiver in receivers:
        assert receiver.offered == []
        assert not any(command.upper().startswith(("MAIL", "RCPT", "DATA"))
                       for session in receiver.sessions for command in session.commands)
    assert instance.queue()["total"] == 1
    (recipient,) = instance.message(id)["recipients"]
    assert recipient["state"] not in ("delivered", "failed")
    return instance.message(id)["attempts"][-1]["reply"]


def always_wanted_tls(receiver):
    """In every session but the last, which may not have come to it."""
    return all("STARTTLS" in session.commands for session in receiver.sessions[:-1])


def nobody_is_blamed(instance):
    """The destination's trouble says nothing about the sources."""
    assert not any(instance.standing(name) in ("blocked", "listed", "misconfigured") for name in "ab")


# -- delivery.tls


def test_opportunistic_tls_takes_any_certificate(egret, receive_for, foreign_authority):
    shop = receive_for("shop.test", tls=foreign_authority.server("elsewhere.test"))
    instance = egret(delivery=OPPORTUNISTIC)
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].tls
    assert how(instance).startswith("TLSv1.3 ") and how(instance).endswith(" (opportunistic)")


def test_opportunistic_tls_goes_in_clear_where_nothing_is_offered(egret, shop):
    instance = egret(delivery=OPPORTUNISTIC)
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert how(instance) == "none (opportunistic)"


def test_opportunistic_tls_goes_on_in_clear_where_starttls_is_refused(egret, receive_for, authority):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    shop.on("starttls", lambda *_: "454 4.7.0 TLS not available due to temporary reason")
    egret(delivery=OPPORTUNISTIC)
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert not shop.messages[0].tls and len(shop.sessions) == 1


def test_a_handshake_that_fails_is_followed_by_clear_text_and_remembered(egret, receive_for):
    shop = receive_for("shop.test", tls=broken_server())
    instance = egret(delivery=OPPORTUNISTIC)
    with Submitter() as submitter:
        for number in (1, 2, 3):
            submitter.send(letter())
            wait.until(lambda: len(shop.messages) == number, 10, "the message arrives")
    assert not any(message.tls for message in shop.messages)
    handshakes = [session for session in shop.sessions if "STARTTLS" in session.commands]
    assert len(handshakes) == 1 and len(shop.sessions) == 4
    nobody_is_blamed(instance)
    assert egret_log.lines(instance, message="TLS failed, sending in clear", host="mx.shop.test")


def test_octets_injected_behind_the_answer_to_starttls_are_not_believed(egret, receive_for, authority):
    """CVE-2021-38371: what comes in clear behind the 220 must not be read as if it came under TLS."""
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    shop.on("starttls", lambda session, _: session.socket.sendall(
        b"220 2.0.0 Ready to start TLS\r\n250-mx.shop.test\r\n250 AUTH PLAIN\r\n"))
    egret(delivery={"tls": "required", **MESSAGES_ALONE})
    send(letter())
    wait.until(lambda: len(shop.sessions) >= 2, 10, "two attempts")
    assert shop.offered == []


def test_required_tls_is_not_given_up(egret, receive_for):
    shop = receive_for("shop.test")
    broken = receive_for("broken.test", tls=broken_server())
    instance = egret(delivery={"tls": "required", **MESSAGES_ALONE})
    reply = never_sent(instance, send(letter()).id, shop)
    assert reply.startswith("454 4.7") and "STARTTLS" in reply
    send(letter(), "user@broken.test")
    wait.until(lambda: len(broken.sessions) >= 3, 15, "three attempts")
    assert broken.offered == [] and always_wanted_tls(broken)


def test_required_tls_without_a_policy_asks_for_no_name(egret, receive_for, foreign_authority):
    shop = receive_for("shop.test", tls=foreign_authority.server("elsewhere.test"))
    instance = egret(delivery={"tls": "required", **MESSAGES_ALONE})
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].tls and how(instance).endswith("(required)")


def test_tls_none_leaves_an_offer_alone(egret, receive_for, authority):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    instance = egret(delivery={"tls": "none", **MESSAGES_ALONE})
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert not shop.messages[0].tls and "STARTTLS" not in shop.sessions[0].commands
    assert how(instance) == "none (none)"


# -- DANE

MATCHES = (3, 1, 1)


@pytest.fixture
def vault(receive_for, dns, authority):
    """Receives for vault.test, a zone that is signed, with a certificate that no authority we trust has made."""
    dns.behave("vault.test", secure)
    return receive_for("vault.test", tls=authority.server("mx.vault.test"))


def dane_egret(egret, **more):
    return egret(dns={"dnssec": True}, delivery={**OPPORTUNISTIC, **more})


def test_dane_delivers_to_the_key_of_the_record(egret, dns, vault, authority):
    dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32), (*MATCHES, authority.key_digest("mx.vault.test")))
    instance = dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert vault.messages[0].tls and how(instance, "user@vault.test").endswith(" (dane)")
    assert instance.route(to="user@vault.test")["tls"][0]["policy"] == "dane"
    assert "tls to mx.vault.test: dane" in instance.explain(to="user@vault.test")


def test_dane_raises_a_configuration_without_tls(egret, dns, vault, authority):
    dns.tlsa("mx.vault.test", (*MATCHES, authority.key_digest("mx.vault.test")))
    dane_egret(egret, tls="none")
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert vault.messages[0].tls


def test_dane_asks_for_no_name_where_the_key_is_given(egret, dns, receive_for, authority):
    """RFC 7672, section 3.1.1: for DANE-EE neither names nor dates of the certificate count."""
    dns.behave("vault.test", secure)
    vault = receive_for("vault.test", tls=authority.server("elsewhere.test"))
    dns.tlsa("mx.vault.test", (*MATCHES, authority.key_digest("elsewhere.test")))
    dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")


def test_dane_with_another_key_delivers_neither_under_tls_nor_in_clear(egret, dns, vault, senders):
    dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32))
    instance = dane_egret(egret)
    never_sent(instance, send(letter(), "user@vault.test").id, vault, attempts=3)
    assert always_wanted_tls(vault)
    assert senders.messages == []
    nobody_is_blamed(instance)


def test_dane_is_not_given_up_where_no_tls_is_offered(egret, dns, receive_for):
    dns.behave("vault.test", secure)
    vault = receive_for("vault.test")
    dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32))
    never_sent(dane_egret(egret), send(letter(), "user@vault.test").id, vault)


def test_dane_with_another_key_at_the_first_host_uses_the_second(egret, dns, vault, authority):
    second = ScriptedReceiver("127.0.2.200", name="mx2.vault.test", tls=authority.server("mx2.vault.test")).start()
    try:
        dns.a("mx2.vault.test", "127.0.2.200")
        dns.mx("vault.test", (10, "mx.vault.test"), (20, "mx2.vault.test"))
        dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32))
        dns.tlsa("mx2.vault.test", (*MATCHES, authority.key_digest("mx2.vault.test")))
        dane_egret(egret, retry=["1h"])
        send(letter(), "user@vault.test")
        wait.until(lambda: second.messages, 10, "the message arrives at the second host")
        assert vault.offered == [] and second.messages[0].tls
    finally:
        second.stop()


@pytest.mark.parametrize("name, arrives", [("mx.vault.test", True), ("elsewhere.test", False)])
def test_dane_ta_asks_for_the_authority_and_the_name(egret, dns, receive_for, authority, name, arrives):
    dns.behave("vault.test", secure)
    vault = receive_for("vault.test", tls=authority.server(name, chain=True))
    dns.tlsa("mx.vault.test", (2, 1, 1, authority.own_key_digest()))
    instance = dane_egret(egret)
    id = send(letter(), "user@vault.test").id
    if arrives:
        wait.until(lambda: vault.messages, 10, "the message arrives")
        assert how(instance, "user@vault.test").endswith(" (dane)")
    else:
        never_sent(instance, id, vault)


def test_dane_ta_takes_the_name_of_the_domain_as_well(egret, dns, receive_for, authority):
    """RFC 7672, section 3.2.2: behind a secure MX the domain that was looked up is a reference name, too."""
    dns.behave("vault.test", secure)
    vault = receive_for("vault.test", tls=authority.server("vault.test", chain=True))
    dns.tlsa("mx.vault.test", (2, 1, 1, authority.own_key_digest()))
    dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")


UNUSABLE = [(0, 1, 1, b"\1" * 32), (1, 1, 1, b"\1" * 32), (3, 1, 1, b"short"), (3, 7, 1, b"\1" * 32), (3, 1, 9, b"\1" * 32)]


def test_records_that_nobody_can_use_make_tls_mandatory_and_unauthenticated(egret, dns, vault):
    dns.tlsa("mx.vault.test", *UNUSABLE)
    instance = dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert vault.messages[0].tls and how(instance, "user@vault.test").endswith(" (dane (unauthenticated))")


def test_records_that_nobody_can_use_still_forbid_clear_text(egret, dns, receive_for):
    dns.behave("vault.test", secure)
    vault = receive_for("vault.test", tls=broken_server())
    dns.tlsa("mx.vault.test", *UNUSABLE)
    never_sent(dane_egret(egret), send(letter(), "user@vault.test").id, vault)


def test_a_record_that_nobody_can_use_beside_a_good_one_changes_nothing(egret, dns, vault):
    dns.tlsa("mx.vault.test", *UNUSABLE, (*MATCHES, b"\1" * 32))
    never_sent(dane_egret(egret), send(letter(), "user@vault.test").id, vault)


def test_a_host_whose_records_cannot_be_had_is_not_spoken_to(egret, dns, vault):
    dns.behave("_25._tcp.mx.vault.test", servfail)
    instance = dane_egret(egret)
    id = send(letter(), "user@vault.test").id
    assert "TLSA" in never_sent(instance, id, vault)
    assert vault.sessions == []
    assert instance.route(to="user@vault.test")["tls"][0]["policy"] == "unusable"
    dns.behave("_25._tcp.mx.vault.test", None)
    wait.until(lambda: vault.messages, 15, "the message arrives when they are back")


def test_a_host_whose_records_cannot_be_had_gives_way_to_the_next(egret, dns, vault):
    second = ScriptedReceiver("127.0.2.200", name="mx2.vault.test").start()
    try:
        dns.a("mx2.vault.test", "127.0.2.200")
        dns.mx("vault.test", (10, "mx.vault.test"), (20, "mx2.vault.test"))
        dns.behave("_25._tcp.mx.vault.test", servfail)
        dane_egret(egret, retry=["1h"])
        send(letter(), "user@vault.test")
        wait.until(lambda: second.messages, 10, "the message arrives at the second host")
        assert vault.sessions == []
    finally:
        second.stop()


def test_records_that_are_not_vouched_for_are_ignored(egret, dns, vault):
    dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32))
    dns.behave("mx.vault.test", insecure)
    instance = dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert how(instance, "user@vault.test").endswith(" (opportunistic)")
    assert dns.log("_25._tcp.mx.vault.test") == [], "they need not even be asked for"


def test_a_secure_host_of_an_insecure_mx_is_no_dane_host(egret, dns, vault):
    """Who can change the MX can name a host of his own; nothing is gained by checking that one."""
    dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32))
    dns.behave("mx.vault.test", secure)
    dns.behave("_25._tcp.mx.vault.test", secure)
    dns.behave("vault.test", insecure)
    dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")


def test_without_dnssec_in_the_configuration_records_are_ignored(egret, dns, vault):
    dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32))
    egret(delivery=OPPORTUNISTIC)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert dns.log("_25._tcp.mx.vault.test") == []


def test_a_host_without_records_is_spoken_to_as_configured(egret, dns, vault):
    instance = dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert how(instance, "user@vault.test").endswith(" (opportunistic)")


def test_records_of_an_alias_are_looked_for_at_its_end_and_that_name_is_shown(egret, dns, receive_for, authority):
    """RFC 7672, section 2.2.2; the server learns the TLSA base domain by SNI (section 8.1)."""
    dns.behave("vault.test", secure)
    context = authority.server("real.vault.test")
    shown = []
    context.sni_callback = lambda connection, name, _: shown.append(name)
    vault = receive_for("vault.test", tls=context)
    dns.a("real.vault.test", vault.address)
    dns.remove("mx.vault.test")
    dns.cname("mx.vault.test", "real.vault.test")
    dns.tlsa("real.vault.test", (*MATCHES, authority.key_digest("real.vault.test")))
    dns.tlsa("mx.vault.test", (*MATCHES, b"\1" * 32))
    instance = dane_egret(egret)
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert how(instance, "user@vault.test").endswith(" (dane)") and shown == ["real.vault.test"]


# -- MTA-STS


@pytest.fixture
def sts(dns, authority):
    """sts(domain, policy): the domain has an MTA-STS policy; sts.host is what serves them all."""
    contexts = {}
    context = authority.server("mta-sts.unknown.test")

    def choose(connection, name, _):
        connection.context = contexts.setdefault(name, authority.server(name))

    context.sni_callback = choose
    host = PolicyHost(POLICY_HOST, context).start()

    def publish(domain, text, id="1"):
        dns.txt(f"_mta-sts.{domain}", f"v=STSv1; id={id};")
        dns.a(f"mta-sts.{domain}", POLICY_HOST)
        host.policies[domain] = text

    publish.host = host
    publish.contexts = contexts
    yield publish
    host.stop()


@pytest.fixture
def trusting(egret, authority):
    """trusting(...): an Egret to which the suite's authority is one of the system's."""
    def make(**sections):
        sections.setdefault("delivery", OPPORTUNISTIC)
        instance = egret(start=False, **sections)
        instance.environment["SSL_CERT_FILE"] = authority.certificate
        return instance.start()
    return make


def test_an_enforced_policy_that_is_met_delivers(trusting, sts, receive_for, authority):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    sts("shop.test", policy("enforce", "*.shop.test"))
    instance = trusting()
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].tls and how(instance).endswith(" (mta-sts)")
    (rule,) = instance.route()["tls"]
    assert (rule["host"], rule["policy"], rule["reason"]) == ("mx.shop.test", "mta-sts", "MTA-STS of shop.test")
    assert "tls to mx.shop.test: mta-sts, MTA-STS of shop.test" in instance.explain()
    assert sts.host.requests == ["shop.test"]


def test_an_enforced_policy_raises_a_configuration_without_tls(trusting, sts, receive_for, authority):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    sts("shop.test", policy("enforce", "mx.shop.test"))
    trusting(delivery={"tls": "none", **MESSAGES_ALONE})
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert shop.messages[0].tls


def test_a_host_that_the_policy_does_not_name_gets_nothing(trusting, sts, receive_for, authority, senders):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    sts("shop.test", policy("enforce", "other.shop.test", "shop.test", "*.mx.shop.test"))
    instance = trusting()
    reply = never_sent(instance, send(letter()).id, shop)
    assert reply.startswith("4") and "MTA-STS" in reply
    assert shop.sessions == [] and senders.messages == []


@pytest.mark.parametrize("fault", ["self-signed", "other name", "no STARTTLS", "broken"])
def test_a_host_that_cannot_prove_its_name_gets_nothing(trusting, sts, receive_for, authority, foreign_authority, fault):
    context = {"self-signed": lambda: foreign_authority.server("mx.shop.test"),
               "other name": lambda: authority.server("elsewhere.test"),
               "no STARTTLS": lambda: None, "broken": broken_server}[fault]()
    shop = receive_for("shop.test", tls=context)
    sts("shop.test", policy("enforce", "mx.shop.test"))
    instance = trusting()
    never_sent(instance, send(letter()).id, shop)
    nobody_is_blamed(instance)


def test_starttls_refused_is_no_way_round_a_policy(trusting, sts, receive_for, authority):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    shop.on("starttls", lambda *_: "502 5.5.1 Error: command not implemented")
    sts("shop.test", policy("enforce", "mx.shop.test"))
    # A permanent reply may end the message or not, but it must not open it.
    trusting()
    send(letter())
    wait.until(lambda: shop.sessions, 10, "an attempt")
    wait.until(lambda: shop.sessions[0].socket.fileno() == -1, 5, "the attempt is over")
    assert shop.offered == []


def test_of_several_hosts_only_those_in_the_policy_are_used(trusting, sts, dns, receive_for, authority):
    shop = receive_for("shop.test", tls=authority.server("mx.shop.test"))
    stranger = ScriptedReceiver("127.0.2.200", name="mx.stranger.test", tls=authority.server("mx.stranger.test")).start()
    try:
        dns.a("mx.stranger.test", "127.0.2.200")
        dns.mx("shop.test", (5, "mx.stranger.test"), (10, "mx.shop.test"))
        sts("shop.test", policy("enforce", "mx.shop.test"))
        trusting()
        send(letter())
        wait.until(lambda: shop.messages, 10, "the message arrives")
        assert stranger.sessions == []
    finally:
        stranger.stop()


def test_a_policy_that_is_not_enforced_delivers_anyhow(trusting, sts, dns, receive_for, foreign_authority):
    shop = receive_for("shop.test", tls=foreign_authority.server("mx.shop.test"))
    instance = trusting()
    for mode in ("testing", "none"):
        dns.mx(f"{mode}.test", (10, "mx.shop.test"))
        sts(f"{mode}.test", policy(mode, "other.test"))
        send(letter(marker=mode), f"user@{mode}.test")
        wait.until(lambda: shop.with_marker(mode), 10, "the message arrives")
        assert how(instance, f"user@{mode}.test").endswith(" (opportunistic)")


def test_a_policy_that_cannot_be_had_is_none(trusting, sts, dns, receive_for, foreign_authority):
    """RFC 8461, section 3.3: without one in memory mail goes as to a domain without a policy."""
    shop = receive_for("shop.test", tls=foreign_authority.server("mx.shop.test"))
    for fault in ("certificate", "missing", "redirect", "malformed"):
        dns.mx(f"{fault}.test", (10, "mx.shop.test"))
        sts(f"{fault}.test", policy("enforce", "other.test"))
    sts.contexts["mta-sts.certificate.test"] = foreign_authority.server("mta-sts.certificate.test")
    sts.host.policies["missing.test"] = None
    sts.host.redirects["redirect.test"] = "https://mta-sts.certificate.test/.well-known/mta-sts.txt"
    sts.host.policies["malformed.test"] = "version: STSv2\r\nmode: enforce\r\nmx: other.test\r\nmax_age: 86400\r\n"
    instance = trusting()
    for fault in ("certificate", "missing", "redirect", "malformed"):
        send(letter(marker=fault), f"user@{fault}.test")
        wait.until(lambda: shop.with_marker(fault), 10, "the message arrives")
        assert egret_log.lines(instance, message="MTA-STS policy could not be fetched", domain=f"{fault}.test")


def test_messages_that_come_while_the_policy_is_fetched_wait_for_it(trusting, sts, receive_for, foreign_authority):
    """The first message asks for it; those behind must not slip through as if there were none."""
    shop = receive_for("shop.test", tls=foreign_authority.server("mx.shop.test"))
    sts("shop.test", policy("enforce", "mx.shop.test"))
    sts.host.delay = 1
    instance = trusting()
    ids = [send(letter()).id for _ in range(3)]
    for id in ids:
        wait.until(lambda: instance.message(id)["attempts"], 15, "an attempt")
    assert shop.offered == []


def test_a_policy_outlives_a_restart_and_its_host(trusting, sts, receive_for, foreign_authority):
    shop = receive_for("shop.test", tls=foreign_authority.server("mx.shop.test"))
    sts("shop.test", policy("enforce", "mx.shop.test"))
    instance = trusting(delivery={**OPPORTUNISTIC, "retry": ["200ms"]})
    id = send(letter()).id
    never_sent(instance, id, shop)
    sts.host.stop()
    instance.stop()
    assert os.path.exists(os.path.join(instance.data_dir, "mta-sts.json"))
    before = len(shop.sessions)
    instance.start()
    wait.until(lambda: len(shop.sessions) >= before + 2, 15, "two more attempts")
    assert shop.offered == [] and instance.route()["tls"][0]["policy"] == "mta-sts"
    assert always_wanted_tls(shop)


def test_a_policy_outlives_its_record(trusting, sts, dns, receive_for, foreign_authority):
    """RFC 8461, section 5.1: whoever can take the record out of an answer must not get round the policy."""
    shop = receive_for("shop.test", tls=foreign_authority.server("mx.shop.test"))
    sts("shop.test", policy("enforce", "mx.shop.test"))
    instance = trusting()
    never_sent(instance, send(letter()).id, shop)
    instance.stop()
    dns.remove("_mta-sts.shop.test")
    dns.remove("mta-sts.shop.test")
    before = len(shop.sessions)
    instance.start()
    wait.until(lambda: len(shop.sessions) >= before + 2, 15, "two more attempts")
    assert shop.offered == []


def test_mta_sts_can_be_switched_off(trusting, sts, dns, receive_for, foreign_authority):
    shop = receive_for("shop.test", tls=foreign_authority.server("mx.shop.test"))
    sts("shop.test", policy("enforce", "other.test"))
    trusting(delivery={**OPPORTUNISTIC, "mta_sts": False})
    send(letter())
    wait.until(lambda: shop.messages, 10, "the message arrives")
    assert dns.log("_mta-sts.shop.test") == []


def test_domains_on_the_same_host_each_keep_to_their_own_policy(trusting, sts, dns, receive_for, foreign_authority):
    """One connection for both would give the strict domain's mail to a host that has proved nothing."""
    lax = receive_for("lax.test", tls=foreign_authority.server("mx.lax.test"))
    dns.mx("strict-sts.test", (10, "mx.lax.test"))
    sts("strict-sts.test", policy("enforce", "mx.lax.test"))
    instance = trusting(delivery={**OPPORTUNISTIC, "messages_per_connection": 100})
    send(letter(marker="both"), ["user@lax.test", "user@strict-sts.test"])
    wait.until(lambda: lax.messages, 10, "the lax domain has the message")
    id = send(letter(marker="strict"), "user@strict-sts.test").id
    wait.until(lambda: len(instance.message(id)["attempts"]) >= 2, 15, "two attempts")
    assert [message.recipients for message in lax.messages] == [("user@lax.test",)]


@pytest.mark.parametrize("together", [True, False], ids=["one message", "one after the other"])
def test_domains_on_the_same_hosts_may_each_name_another_of_them(trusting, sts, dns, receive_for, authority, together):
    """Both policies are enforced, and each excludes the host that the other one allows."""
    one = receive_for("one.test", tls=authority.server("mx.one.test"))
    two = receive_for("two.test", tls=authority.server("mx.two.test"))
    for domain in ("one.test", "two.test"):
        dns.mx(domain, (10, "mx.one.test"), (10, "mx.two.test"))
        sts(domain, policy("enforce", f"mx.{domain}"))
    instance = trusting(delivery={**OPPORTUNISTIC, "messages_per_connection": 100}, sources={"a": {
        "address": "127.0.1.1", "ehlo": "a.egress.test"}})
    recipients = ["user@one.test", "user@two.test"]
    for number in range(5):
        for to in [recipients] if together else recipients:
            send(letter(), to)
    instance.until_queue_empty()
    assert {recipient for message in one.messages for recipient in message.recipients} == {"user@one.test"}
    assert {recipient for message in two.messages for recipient in message.recipients} == {"user@two.test"}


def test_dane_beats_mta_sts(trusting, sts, dns, receive_for, foreign_authority):
    """RFC 8461, section 2: a host with DANE is judged by that, and a certificate of nobody's is good enough."""
    dns.behave("vault.test", secure)
    vault = receive_for("vault.test", tls=foreign_authority.server("mx.vault.test"))
    dns.tlsa("mx.vault.test", (*MATCHES, foreign_authority.key_digest("mx.vault.test")))
    sts("vault.test", policy("enforce", "mx.vault.test"))
    instance = trusting(dns={"dnssec": True})
    send(letter(), "user@vault.test")
    wait.until(lambda: vault.messages, 10, "the message arrives")
    assert how(instance, "user@vault.test").endswith(" (dane)")
