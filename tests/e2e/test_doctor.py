"""egret doctor: the outside world looked at once, without a running egret, and every fault named."""

import json
import re
import time

import pytest
from dnslib import PTR, QTYPE

from support import dns_server, wait
from support.dkim_check import Keys
from support.egret import A, B, source
from support.esmtp import commands
from support.scripted_receiver import SILENT

PASSWORD = "s3cret"


def esp(authority, **more):
    return {"address": "smtp.esp.test:587", "tls": "starttls", "username": "apikey", "password": PASSWORD,
            "ca": authority.certificate, **more}


@pytest.fixture
def keys(work, dns):
    return Keys(work / "dkim", dns)


@pytest.fixture
def patient(egret, dns, keys, smarthost, authority):
    """patient(section=...): a configuration with which all is well, and an egret that is not started."""
    def make(users=None, tls="trusted", smarthosts=None, **sections):
        make.upstream = smarthost("esp", users=users, tls=tls)
        dns.txt("sender.test", f"v=spf1 ip4:{A} ip4:{B} -all")
        dns.txt("_dmarc.sender.test", "v=DMARC1; p=reject")
        key = keys.make("sender.test", "s1")
        return egret(start=False, dkim=[key], smarthosts=smarthosts or {"esp": esp(authority)}, **sections)
    return make


class Findings(list):
    def __init__(self, done):
        assert done.stdout, done.stderr
        super().__init__(json.loads(done.stdout)["checks"])
        self.code = done.returncode
        self.text = done.stdout

    def about(self, check, subject="", result=None):
        return [found for found in self if found["check"] == check and found["subject"].startswith(subject)
                and result in (None, found["result"])]

    def failed(self):
        return [(found["check"], found["subject"]) for found in self if found["result"] == "fail"]

    def only_failure(self):
        """The one thing that fails; nothing else may."""
        assert self.code == 1
        (found,) = [found for found in self if found["result"] == "fail"]
        assert found["advice"], found
        return found


def examine(instance, *more):
    return Findings(instance.command("doctor", "--json", *more, timeout=60))


def test_all_is_well(patient, dns):
    instance = patient()
    found = examine(instance)
    assert found.code == 0, found.text
    assert {entry["result"] for entry in found} == {"ok"}, found.text
    kinds = {entry["check"] for entry in found}
    assert kinds == {"dns", "source-address", "source-ptr", "source-ehlo", "blocklist", "smarthost", "spf", "dkim", "dmarc"}
    (host,) = found.about("smarthost")
    for part in ("[127.0.5.1]:587", "TLSv1.3", "verified", "AUTH PLAIN accepted", "SIZE 52428800"):
        assert part in host["text"], host
    assert "reject" in found.about("dmarc")[0]["text"]
    # Nothing but DNS and a login that ends politely.
    wait.until(lambda: commands(patient.upstream, "QUIT"), 5, "QUIT")
    assert commands(patient.upstream, "MAIL") == [] and patient.upstream.offered == []
    assert PASSWORD not in found.text


def test_the_lines_for_people_say_the_same(patient):
    instance = patient()
    done = instance.command("doctor")
    assert done.returncode == 0, done.stdout
    for line in done.stdout.splitlines():
        assert re.match(r"(ok    |warn  |fail  )[^:]+.*: .+", line), line
    assert "ok    source a (127.0.1.1): PTR a.egress.test leads back to 127.0.1.1\n" in done.stdout


def test_it_works_beside_the_running_daemon(patient):
    instance = patient()
    instance.start()
    assert examine(instance).code == 0
    instance.stop()


def test_a_configuration_with_errors_is_named_and_nothing_is_asked(patient, dns):
    instance = patient()
    instance.write("hostname: relay.test\nnonsense: 1\n")
    done = instance.command("doctor")
    assert done.returncode == 1 and "nonsense" in done.stderr and not done.stdout


# ---- sources -------------------------------------------------------------------------------------------------------

def test_a_missing_ptr_is_named(patient, dns):
    instance = patient()
    dns.remove(dns_server.reverse(A) + ".in-addr.arpa")
    found = examine(instance).only_failure()
    assert found["check"] == "source-ptr" and found["subject"] == f"source a ({A})" and "no PTR" in found["text"]


def test_a_ptr_that_leads_elsewhere_is_named(patient, dns):
    instance = patient()
    dns.ptr(A, "other.egress.test")
    dns.a("other.egress.test", B)
    found = examine(instance).only_failure()
    assert found["check"] == "source-ptr" and "does not lead back" in found["text"]


def test_a_generic_ptr_is_a_warning(patient, dns):
    instance = patient()
    dns.host("host-127-0-1-1.dynamic.isp.test", A)
    dns.a("a.egress.test", A)
    found = examine(instance)
    assert found.code == 0
    (entry,) = found.about("source-ptr", result="warn")
    assert "host-127-0-1-1.dynamic.isp.test" in entry["text"]


def test_an_ehlo_name_without_an_address_is_named(patient):
    instance = patient(sources={"a": source("a", ehlo="nowhere.egress.test"), "b": source("b")})
    found = examine(instance).only_failure()
    assert found["check"] == "source-ehlo" and "nowhere.egress.test has no IPv4 address" in found["text"]


def test_an_address_that_is_not_here_is_named(patient, dns):
    dns.host("far.egress.test", "192.0.2.99")
    instance = patient(sources={"b": source("b"), "far": {"address": "192.0.2.99", "ehlo": "far.egress.test"}})
    dns.txt("sender.test", f"v=spf1 ip4:{B} ip4:192.0.2.99 -all")
    found = examine(instance).only_failure()
    assert found["check"] == "source-address" and "192.0.2.99 cannot be used on this host" in found["text"]


def test_an_ipv6_source_is_checked_like_the_others(patient, dns):
    dns.aaaa("six.egress.test", "::1")
    dns.add("1" + ".0" * 31 + ".ip6.arpa", QTYPE.PTR, PTR("six.egress.test"))
    instance = patient(sources={"b": source("b"), "six": {"address": "::1", "ehlo": "six.egress.test"}})
    dns.txt("sender.test", f"v=spf1 ip4:{B} ip6:::1 -all")
    found = examine(instance)
    assert found.code == 0, found.text
    assert "leads back to ::1" in found.about("source-ptr", "source six")[0]["text"]


def test_a_proxy_that_is_not_there_is_named(patient, dns):
    instance = patient(sources={"b": source("b"), "a": source("a", via="socks5://127.0.6.1:1080")})
    found = examine(instance).only_failure()
    assert found["check"] == "source-address" and "127.0.6.1:1080" in found["text"]


# ---- blocklists ----------------------------------------------------------------------------------------------------

def test_a_listed_source_is_named_with_list_code_and_text(patient, blocklist):
    blocklist.list(B, text="Spam seen at 12:00")
    instance = patient(reputation={"blocklists": {"bl": {"zone": "bl.test", "weight": 1.0, "delist": "https://bl.test/out"}}})
    findings = examine(instance)
    found = findings.only_failure()
    assert found["check"] == "listing" and found["subject"] == f"source b ({B})"
    for part in ("listed by bl", "127.0.0.2", "Spam seen at 12:00"):
        assert part in found["text"]
    assert "https://bl.test/out" in found["advice"]
    assert "1 of 2 addresses not listed" in findings.about("blocklist", "blocklist bl")[0]["text"]


def test_a_policy_listing_fails_with_advice_of_its_own(patient, blocklist):
    blocklist.list(A, code="127.0.0.10", text="Policy")
    codes = {"127.0.0.2": "listed", "127.0.0.10": "policy"}
    instance = patient(reputation={"blocklists": {"bl": {"zone": "bl.test", "weight": 1.0, "codes": codes}}})
    found = examine(instance).only_failure()
    assert "policy listing" in found["text"] and "owner of the range" in found["advice"]


def test_a_list_that_only_informs_is_a_warning(patient, blocklist):
    blocklist.list(A, zone="second.test")
    lists = {"bl": {"zone": "bl.test", "weight": 1.0}, "second": {"zone": "second.test", "role": "inform"}}
    found = examine(patient(reputation={"blocklists": lists}))
    assert found.code == 0
    assert len(found.about("listing", result="warn")) == 1


def test_a_dead_list_is_a_warning_and_all_of_them_dead_a_failure(patient, blocklist):
    lists = {"bl": {"zone": "bl.test", "weight": 1.0}, "second": {"zone": "second.test", "weight": 1.0}}
    instance = patient(reputation={"blocklists": lists})
    blocklist.kill_zone()
    found = examine(instance)
    assert found.code == 0
    assert "test point 127.0.0.2 is not listed" in found.about("blocklist", "blocklist bl", "warn")[0]["text"]
    blocklist.kill_zone("second.test")
    assert examine(instance).only_failure()["check"] == "blocklists"


def test_the_key_of_a_list_is_never_shown(patient, dns):
    key = "abcdefghijklmnopqrstuvwx26"
    dns.behave(f"{key}.zen.dq.spamhaus.net", dns_server.hostile_text("127.0.0.2"))
    lists = {"bl": {"zone": "bl.test", "weight": 1.0}, "zen": {"key": key, "enabled": True}}
    found = examine(patient(reputation={"blocklists": lists}))
    assert found.about("blocklist", "blocklist zen", "warn"), found.text
    assert key not in found.text.lower()


# ---- smarthosts ----------------------------------------------------------------------------------------------------

def test_a_wrong_password_is_named_and_not_shown(patient):
    instance = patient(users={"apikey": "another"})
    patient.upstream.on("auth", lambda session, argument: f"535 5.7.8 you said {argument} {PASSWORD}")
    findings = examine(instance)
    found = findings.only_failure()
    assert found["check"] == "smarthost" and "login refused: 535" in found["text"] and "password" in found["advice"]
    encoded = commands(patient.upstream, "AUTH")[0].split()[-1]
    assert PASSWORD not in findings.text and encoded not in findings.text


def test_a_certificate_that_nobody_trusts_is_named(patient, foreign_authority):
    instance = patient(tls=foreign_authority.server("smtp.esp.test"))
    found = examine(instance).only_failure()
    assert found["check"] == "smarthost" and "certificate verify failed" in found["text"] and "ca" in found["advice"]
    assert patient.upstream.logins == []


def test_no_starttls_is_named(patient):
    instance = patient(tls=None)
    found = examine(instance).only_failure()
    assert "STARTTLS" in found["text"]
    assert commands(patient.upstream, "AUTH") == []


def test_a_name_that_does_not_resolve_is_named(patient, authority):
    instance = patient(smarthosts={"esp": esp(authority, address="missing.test:587")})
    found = examine(instance).only_failure()
    assert "missing.test has no address" in found["text"]


def test_a_closed_port_is_named(patient):
    instance = patient()
    patient.upstream.stop()
    found = examine(instance).only_failure()
    assert "[127.0.5.1]:587" in found["text"] and "refused" in found["text"].lower()


def test_a_server_that_says_nothing_is_given_ten_seconds(patient):
    instance = patient()
    patient.upstream.on("connect", lambda *_: SILENT)
    started = time.monotonic()
    found = examine(instance).only_failure()
    assert "timed out" in found["text"]
    assert time.monotonic() - started < 15


def test_hostile_words_are_cleaned_and_bounded(patient):
    instance = patient()
    patient.upstream.on("ehlo", lambda *_: "550 \x1b[2J\x07" + "x" * 1500)
    done = instance.command("doctor")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout and "\x07" not in done.stdout
    assert all(len(line) < 2000 for line in done.stdout.splitlines())


# ---- sender domains ------------------------------------------------------------------------------------------------

def test_a_source_that_the_spf_record_leaves_out_is_named(patient, dns):
    instance = patient()
    dns.txt("sender.test", f"v=spf1 ip4:{A} -all")
    findings = examine(instance)
    found = findings.only_failure()
    assert found["check"] == "spf" and found["subject"] == "domain sender.test"
    assert found["text"] == "from b: SPF fail by -all of sender.test" and f"ip4:{B}" in found["advice"]
    assert findings.about("spf", result="ok")[0]["text"].startswith("from a: SPF pass by ip4:")


def test_a_softfail_is_a_warning(patient, dns):
    instance = patient()
    dns.txt("sender.test", f"v=spf1 ip4:{A} ~all")
    found = examine(instance)
    assert found.code == 0 and "softfail" in found.about("spf", result="warn")[0]["text"]


def test_spf_is_followed_through_includes_mx_and_exists(patient, dns):
    instance = patient()
    dns.txt("sender.test", "v=spf1 include:_spf.sender.test exists:%{ir}.ok.%{d2} -all")
    dns.txt("_spf.sender.test", "v=spf1 mx:pool.sender.test -all")
    dns.mx("pool.sender.test", (10, "a.egress.test"))
    dns.a(f"{dns_server.reverse(B)}.ok.sender.test", "127.0.0.2")
    found = examine(instance)
    assert found.code == 0, found.text
    texts = [entry["text"] for entry in found.about("spf", result="ok")]
    assert any("include:_spf.sender.test" in text for text in texts) and any("exists:" in text for text in texts)


@pytest.mark.parametrize("record, reason", [("v=spf1 ip4:1.2.3 -all", "ip4:1.2.3"), ("v=spf1" + " a" * 11 + " -all", "lookups"),
                                            ("v=spf1 include:missing.test -all", "missing.test")])
def test_a_broken_spf_record_is_named(patient, dns, record, reason):
    instance = patient()
    dns.txt("sender.test", record)
    found = examine(instance).only_failure()
    assert "permerror" in found["text"] and reason in found["text"]


def test_hostile_records_are_cleaned(patient, dns):
    instance = patient()
    dns.txt("sender.test", "v=spf1 \x1b[2J\r\nfail:everything -all")
    done = instance.command("doctor")
    assert done.returncode == 1 and "\x1b" not in done.stdout
    assert all(line[:6] in ("ok    ", "warn  ", "fail  ") for line in done.stdout.splitlines())


def test_a_dkim_key_that_is_not_ours_is_named_with_the_record_to_publish(patient, dns):
    instance = patient()
    dns.txt("s1._domainkey.sender.test", "v=DKIM1; k=rsa; p=AAAA")
    found = examine(instance).only_failure()
    assert found["check"] == "dkim" and "s1._domainkey.sender.test is not our key" in found["text"]
    assert "v=DKIM1; k=rsa; p=MII" in found["advice"] and "PRIVATE" not in found["advice"]


def test_a_missing_dkim_key_is_named(patient, dns):
    instance = patient()
    dns.remove("s1._domainkey.sender.test")
    assert "has no key record" in examine(instance).only_failure()["text"]


def test_other_domains_are_checked_on_demand(patient, dns):
    dns.txt("other.test", f"v=spf1 ip4:{A} -all")
    found = examine(patient(), "--domain", "Other.test", "--domain", "bare.test")
    assert found.failed() == [("spf", "domain other.test")]
    assert "no SPF record" in found.about("spf", "domain bare.test", "warn")[0]["text"]
    assert "no DMARC record" in found.about("dmarc", "domain bare.test", "warn")[0]["text"]


def test_a_word_that_is_no_domain_is_refused(patient):
    done = patient().command("doctor", "--domain", "a b")
    assert done.returncode == 1 and "not a domain" in done.stderr


def test_dmarc_of_the_organizational_domain_counts(patient, dns):
    dns.txt("_dmarc.org.test", "v=DMARC1; p=none; sp=quarantine")
    dns.txt("mail.org.test", f"v=spf1 ip4:{A} ip4:{B} -all")
    found = examine(patient(), "--domain", "mail.org.test")
    assert "p=quarantine (_dmarc.org.test)" in found.about("dmarc", "domain mail.org.test", "ok")[0]["text"]


def test_an_esp_that_the_record_does_not_include_is_a_warning(patient, dns, authority):
    instance = patient(smarthosts={"esp": esp(authority, provider="sendgrid")})
    dns.txt("_dmarc.sender.test", "v=DMARC1; p=none")
    found = examine(instance)
    assert found.code == 0
    (entry,) = found.about("spf-esp")
    assert entry["result"] == "warn" and "sendgrid.net" in entry["text"]
    dns.txt("sender.test", f"v=spf1 ip4:{A} ip4:{B} include:sendgrid.net -all")
    dns.txt("sendgrid.net", "v=spf1 ip4:127.0.5.0/24 -all")
    assert examine(instance).about("spf-esp")[0]["result"] == "ok"


# ---- DNS -----------------------------------------------------------------------------------------------------------

def test_a_dead_dns_server_is_a_warning_beside_a_good_one_and_else_a_failure(patient):
    good, dead = "127.0.0.53:53", "127.0.0.54:53"
    instance = patient(dns={"servers": [good, dead], "timeout": "200ms"})
    found = examine(instance)
    assert found.about("dns", f"dns {good}", "ok") and found.about("dns", f"dns {dead}", "warn")
    assert found.code == 0
    instance.config["dns"]["servers"] = [dead]
    instance.write(json.dumps(instance.config))
    found = examine(instance)
    assert found.code == 1 and found.about("dns", f"dns {dead}", "fail")
    # What DNS did not answer is unknown, and nobody's fault.
    assert {check for check, _ in found.failed()} <= {"dns", "blocklists", "smarthost"}, found.text


def test_whether_a_server_validates_is_seen_at_its_ad_bit(patient, dns):
    instance = patient(dns={"dnssec": True})
    (entry,) = examine(instance).about("dnssec")
    assert entry["result"] == "warn" and "unknown" in entry["text"]
    dns.behave("relay.test", dns_server.secure)
    (entry,) = examine(instance).about("dnssec")
    assert entry["result"] == "ok" and "relay.test" in entry["text"]
