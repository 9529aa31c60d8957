"""Whether sender domains are prepared at an ESP is known before they have to go there, and real mail shows that it works."""

import re

import pytest

from support import dns_server, wait
from support.egret import A, B, source
from support.esmtp import commands
from support.mail import letter, send
from test_doctor import Findings

KEY = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDX"
ESP_KEY = "{0}.domainkey.u1.wl1.sendgrid.net"
SOON = {"interval": "300ms", "retry": "200ms", "login": False}


def esp(authority, name="esp", **more):
    return {"address": f"smtp.{name}.test:587", "tls": "starttls", "username": "apikey", "password": "s3cret",
            "provider": "sendgrid", "ca": authority.certificate, **more}


def pool(**more):
    return {"transactional": {"sources": ["a", "b"], "fallback": ["esp"], "when_exhausted": "fallback", **more}}


@pytest.fixture
def zone(dns):
    """zone(domain, policy): a sender domain. zone.publish(domain): it gets SendGrid's aliases."""
    def make(domain, policy="reject"):
        dns.txt(domain, f"v=spf1 ip4:{A} ip4:{B} include:sendgrid.net -all")
        if policy:
            dns.txt(f"_dmarc.{domain}", f"v=DMARC1; p={policy}")

    def publish(domain):
        for selector in ("s1", "s2"):
            dns.cname(f"{selector}._domainkey.{domain}", ESP_KEY.format(selector))

    dns.txt("sendgrid.net", "v=spf1 ip4:127.0.5.0/24 -all")
    for selector in ("s1", "s2"):
        dns.txt(ESP_KEY.format(selector), KEY)
    make.publish = publish
    return make


def known(instance, domain, name="esp"):
    """What the running egret knows of the domain; None before it looked."""
    return next((entry for entry in instance.smarthosts()[name]["readiness"] if entry["domain"] == domain), None)


def until_known(instance, domain, ready, name="esp"):
    def seen():
        found = known(instance, domain, name)
        return found and found["ready"] is ready and found
    return wait.until(seen, 10, f"{domain} is {'ready' if ready else 'not ready'} at {name}")


def sources_out(instance, blocklist):
    blocklist.list(A, B)
    instance.until_listed("a", "b")


# ---- doctor --------------------------------------------------------------------------------------------------------

def examine(instance, *domains):
    named = [word for domain in domains for word in ("--domain", domain)]
    return Findings(instance.command("doctor", "--json", *named, timeout=60))


def about(found, domain):
    return {check: entry["result"] for check in ("esp-dkim", "esp-dmarc")
            for entry in found.about(check, f"domain {domain}")}


def test_doctor_tells_which_domains_are_ready(egret, dns, smarthost, authority, zone):
    smarthost("esp")
    zone("ready.test"), zone("bare.test"), zone("lax.test", "none"), zone("open.test", None)
    zone.publish("ready.test")
    found = examine(egret(start=False, smarthosts={"esp": esp(authority)}, pools=pool()),
                    "ready.test", "bare.test", "lax.test", "open.test", "bounces.ready.test")
    assert about(found, "ready.test") == {"esp-dkim": "ok", "esp-dmarc": "ok"}
    assert about(found, "bounces.ready.test") == {"esp-dkim": "ok", "esp-dmarc": "ok"}, "the organization's key serves it"
    assert about(found, "bare.test") == {"esp-dkim": "fail", "esp-dmarc": "fail"}
    assert about(found, "lax.test") == about(found, "open.test") == {"esp-dkim": "warn", "esp-dmarc": "warn"}
    (entry,) = found.about("esp-dmarc", "domain bare.test")
    assert "no DKIM record at s1._domainkey.bare.test and s2._domainkey.bare.test" in entry["text"]
    assert "CNAME into sendgrid.net" in entry["advice"]


def test_doctor_looks_for_told_selectors_and_return_paths_and_obeys_strict_alignment(
        egret, dns, smarthost, authority, zone):
    smarthost("esp")
    ses = esp(authority, provider="ses", region="eu-west-1", dkim_selectors={"ready.test": ["tok1", "tok2"]},
              return_path=["mail.{domain}"])
    zone("ready.test"), zone("path.test"), zone("strict.test"), zone("untold.test")
    for token in ("tok1", "tok2"):
        dns.cname(f"{token}._domainkey.ready.test", f"{token}.dkim.amazonses.com")
        dns.txt(f"{token}.dkim.amazonses.com", KEY)
    dns.txt("_dmarc.strict.test", "v=DMARC1; p=reject; aspf=s")
    for domain in ("path.test", "strict.test"):
        dns.txt(f"mail.{domain}", "v=spf1 include:amazonses.com -all")
    dns.txt("amazonses.com", "v=spf1 ip4:127.0.5.0/24 -all")
    found = examine(egret(start=False, smarthosts={"esp": ses}, pools=pool()),
                    "ready.test", "path.test", "strict.test", "untold.test")
    assert about(found, "ready.test") == {"esp-dkim": "ok", "esp-dmarc": "ok"}
    assert about(found, "path.test") == {"esp-dkim": "warn", "esp-dmarc": "ok"}
    # Nobody said which records strict.test should have, so nothing is known to be wrong.
    assert about(found, "strict.test") == about(found, "untold.test") == {"esp-dkim": "warn", "esp-dmarc": "warn"}
    assert "dkim_selectors" in found.about("esp-dkim", "domain untold.test")[0]["advice"]
    instance = egret(start=False, smarthosts={"esp": dict(ses, dkim_selectors=["tok1"])}, pools=pool())
    assert about(examine(instance, "strict.test"), "strict.test") == {"esp-dkim": "fail", "esp-dmarc": "fail"}


# ---- the running egret ---------------------------------------------------------------------------------------------

def test_a_domain_that_is_not_ready_waits_until_its_record_appears_and_others_go(
        egret, dns, shop, smarthost, authority, blocklist, zone):
    upstream = smarthost("esp")
    zone("bare.test"), zone("ready.test")
    zone.publish("ready.test")
    instance = egret(smarthosts={"esp": esp(authority, readiness={**SOON, "domains": ["bare.test", "ready.test"]})},
                     pools=pool())
    until_known(instance, "ready.test", True)
    until_known(instance, "bare.test", False)
    (event,) = instance.events(kind="smarthost-unready", sender="bare.test")
    assert event["smarthost"] == "esp" and "no DKIM record at s1._domainkey.bare.test" in event["text"]
    assert "publish s1._domainkey.bare.test" in event["action"]

    sources_out(instance, blocklist)
    held = send(letter(marker="bare"), sender="app@bare.test")
    send(letter(marker="ready"), sender="app@ready.test")
    wait.until(lambda: upstream.with_marker("ready"), 10, "mail of the domain that is ready goes by the smarthost")
    wait.until(lambda: instance.queue()["held"] == 1, 10, "the other is held")
    (row,) = instance.queue()["messages"]
    assert "bare.test is not ready at esp: no DKIM record at s1._domainkey.bare.test" in row["reason"]
    done = instance.command("explain", "--message", held.id)
    assert "not esp: bare.test is not ready at esp: no DKIM record at" in done.stdout, done.stdout
    done = instance.command("ready")
    assert re.search(r"esp +bare.test +false ", done.stdout) and re.search(r"esp +ready.test +true ", done.stdout)

    zone.publish("bare.test")
    wait.until(lambda: upstream.with_marker("bare"), 10, "the record was found, and the mail goes")
    assert instance.events(kind="smarthost-ready", sender="bare.test")
    assert upstream.with_marker("bare")[0].sender == "app@bare.test" and shop.messages == []


def test_a_recheck_looks_at_once(egret, smarthost, authority, zone):
    smarthost("esp")
    zone("bare.test")
    slow = {"interval": "1h", "retry": "1h", "login": False, "domains": ["bare.test"]}
    instance = egret(smarthosts={"esp": esp(authority, readiness={**slow, **SOON})}, pools=pool())
    until_known(instance, "bare.test", False)
    instance.config["smarthosts"]["esp"]["readiness"] = slow  # by itself it would not look soon any more
    instance.configure(**instance.config)
    instance.restart()
    assert known(instance, "bare.test")["ready"] is False
    zone.publish("bare.test")
    assert instance.recheck() == {"ok": True}
    until_known(instance, "bare.test", True)


def test_with_unready_allow_the_mail_goes_and_the_route_says_so(egret, shop, smarthost, authority, blocklist, zone):
    upstream = smarthost("esp")
    zone("bare.test")
    instance = egret(smarthosts={"esp": esp(authority, unready="allow", readiness={**SOON, "domains": ["bare.test"]})},
                     pools=pool())
    until_known(instance, "bare.test", False)
    sources_out(instance, blocklist)
    id = send(letter(), sender="app@bare.test").id
    wait.until(lambda: upstream.messages, 10, "it goes by the smarthost")
    (attempt,) = instance.until_state(id, "delivered")["attempts"]
    assert "bare.test is not ready at esp: no DKIM record at" in attempt["route"] and "unready: allow" in attempt["route"]
    done = instance.command("explain", "--from", "app@bare.test", "--to", "user@shop.test")
    assert "note: bare.test is not ready at esp" in done.stdout


def test_domains_that_send_are_looked_at_and_until_then_they_go(egret, shop, smarthost, authority, blocklist, zone):
    upstream = smarthost("esp")
    zone("bare.test")
    instance = egret(smarthosts={"esp": esp(authority, readiness={**SOON, "interval": "2s"})}, pools=pool())
    sources_out(instance, blocklist)
    send(letter(marker="first"), sender="app@bare.test")
    wait.until(lambda: upstream.with_marker("first"), 10, "nothing is known of the domain: it goes")
    until_known(instance, "bare.test", False)
    send(letter(marker="second"), sender="app@bare.test")
    wait.until(lambda: instance.queue()["held"] == 1, 10, "the next one is held")
    assert len(upstream.messages) == 1


def test_what_is_known_outlives_a_restart_and_a_dns_that_does_not_answer(
        egret, dns, shop, smarthost, authority, blocklist, zone):
    upstream = smarthost("esp")
    zone("bare.test")
    instance = egret(smarthosts={"esp": esp(authority, readiness={**SOON, "domains": ["bare.test"]})}, pools=pool())
    until_known(instance, "bare.test", False)
    zone.publish("bare.test")
    for name in ("_domainkey.bare.test", "_dmarc.bare.test"):
        dns.behave(name, dns_server.servfail)
    checked = known(instance, "bare.test")["checked"]
    instance.restart()
    assert known(instance, "bare.test")["ready"] is False
    sources_out(instance, blocklist)
    asked = len(dns.log("_dmarc.bare.test"))
    wait.until(lambda: len(dns.log("_dmarc.bare.test")) > asked + 2, 10, "DNS was asked, in vain")
    assert known(instance, "bare.test")["ready"] is False and known(instance, "bare.test")["checked"] >= checked
    send(letter(), sender="app@bare.test")
    wait.until(lambda: instance.queue()["held"] == 1, 10, "its mail is held")
    assert upstream.messages == [] and len(instance.events(kind="smarthost-unready")) == 0, "no news after the restart"
    for name in ("_domainkey.bare.test", "_dmarc.bare.test"):
        dns.behave(name, None)
    wait.until(lambda: upstream.messages, 10, "DNS answers: it goes")


def test_a_login_that_is_refused_is_known_beforehand_and_not_tried_again(egret, smarthost, authority):
    upstream = smarthost("esp", users={"apikey": "another"})
    instance = egret(smarthosts={"esp": esp(authority, readiness={"interval": "300ms", "retry": "200ms"})}, pools=pool())
    (event,) = wait.until(lambda: instance.events(kind="smarthost-login"), 10, "the event")
    assert "535" in event["text"] and "s3cret" not in str(instance.events())
    host = instance.smarthosts()["esp"]
    assert host["state"] == "resting" and host["trouble"] == "authentication"
    assert host["login"]["failed"] and host["login"]["worked"] is None
    wait.until(lambda: commands(upstream, "QUIT") or len(upstream.sessions) == 1, 5, "one session")
    assert instance.recheck() == {"ok": True}
    instance.restart()
    assert instance.smarthosts()["esp"]["login"]["failed"] == host["login"]["failed"]
    assert len(commands(upstream, "AUTH")) == 1 and commands(upstream, "MAIL") == []


def test_a_login_that_works_is_shown(egret, smarthost, authority):
    upstream = smarthost("esp")
    instance = egret(smarthosts={"esp": esp(authority, readiness={"interval": "300ms"})}, pools=pool())
    wait.until(lambda: instance.smarthosts()["esp"]["login"]["worked"], 10, "the login worked")
    assert "AUTH PLAIN accepted" in instance.smarthosts()["esp"]["login"]["text"]
    assert re.search(r"esp +\(login\) +true ", instance.command("ready").stdout)
    assert commands(upstream, "MAIL") == [] and instance.smarthosts()["esp"]["state"] == "ready"


# ---- canary --------------------------------------------------------------------------------------------------------

def many(count, **more):
    return [send(letter(marker=f"m{number}"), **more).id for number in range(count)]


def test_a_canary_takes_about_its_share(egret, shop, smarthost, authority):
    upstream = smarthost("esp")
    instance = egret(smarthosts={"esp": esp(authority, readiness={"check": False})}, pools=pool(canary="25%"))
    ids = many(80)
    wait.until(lambda: len(upstream.messages) + len(shop.messages) == 80, 20, "all are delivered")
    assert 6 <= len(upstream.messages) <= 36, len(upstream.messages)  # 20 +- 14: less than one run in 3000 is outside
    instance.until_queue_empty()
    canary = wait.until(lambda: instance.smarthosts()["esp"]["canary"]["worked"] and instance.smarthosts()["esp"]["canary"],
                        5, "its success is shown")
    assert canary["failed"] is None and not instance.events(kind="canary-failed")
    routes = [instance.message(id)["attempts"][0] for id in ids]
    for attempt in routes:
        assert ("canary: shows" in attempt["route"]) == (attempt["egress"] == "esp"), attempt
    assert instance.smarthosts()["esp"]["used"]["recipients"] == len(upstream.messages)


def test_a_canary_that_is_refused_takes_its_ordinary_way_and_nobody_is_bounced(
        egret, shop, smarthost, authority, senders):
    upstream = smarthost("esp")
    upstream.on("dot", lambda session, _: "550 5.7.1 Not this one")
    instance = egret(smarthosts={"esp": esp(authority, readiness={"check": False})}, pools=pool(canary="50%"))
    ids = many(12)
    wait.until(lambda: len(shop.messages) == 12, 20, "all went by the sources")
    instance.until_queue_empty()
    tried = [id for id in ids if instance.message(id)["attempts"][0]["egress"] == "esp"]
    assert tried and upstream.messages == [] and senders.messages == []
    for id in tried:
        first, second = instance.message(id)["attempts"]
        assert first["outcome"] == "failover" and second["egress"] in ("a", "b") and second["outcome"] == "delivered"
    event = wait.until(lambda: instance.events(kind="canary-failed"), 5, "the event")[0]
    assert event["smarthost"] == "esp" and "Not this one" in event["text"]
    assert instance.smarthosts()["esp"]["canary"]["failed"]


def test_no_canary_of_a_domain_that_is_not_ready_nor_without_a_budget(egret, shop, smarthost, authority, zone):
    upstream = smarthost("esp")
    zone("bare.test")
    instance = egret(pools=pool(canary="50%"), smarthosts={
        "esp": esp(authority, unready="allow", budget="2/d", readiness={**SOON, "domains": ["bare.test"]})})
    until_known(instance, "bare.test", False)
    many(10, sender="app@bare.test")
    wait.until(lambda: len(shop.messages) == 10, 15, "all went by the sources")
    assert upstream.messages == []
    many(20)
    wait.until(lambda: len(shop.messages) + len(upstream.messages) == 30, 15, "all are delivered")
    instance.until_queue_empty()
    assert len(upstream.messages) <= 2
