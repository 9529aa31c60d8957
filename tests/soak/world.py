"""The world around Egret: DNS, two blocklists, receivers for a dozen domains, a smarthost, and Egret's configuration in it."""

import copy
import os

from process import SoakEgret
from receivers import GENTLE, MOODS, SoakReceiver
from support.certificates import Authority
from support.dns_server import DnsServer
from support.rbldnsd import Rbldnsd
from support.tls_client import trusting

ZONES = ("bl.test", "second.test")
SOURCES = {"t1": "127.0.1.1", "t2": "127.0.1.2", "t3": "127.0.1.3", "b1": "127.0.1.11", "b2": "127.0.1.12"}
EXTRA = {"t4": "127.0.1.4"}  # comes and goes with reloads
SITES = 6
DOMAINS = [f"d{number}.test" for number in range(12)]


def _source(name, address):
    return {"address": address, "ehlo": f"{name}.egress.test"}


def _listener(port, message_class, **more):
    return {"address": f"127.0.0.1:{port}", "accept": "queue", "tls": "none", "auth": "none", "allow": ["127.0.0.0/8"],
            "class": message_class, **more}


class World:
    def __init__(self, work, binary, ledger, sanitizer_options=""):
        work = str(work)
        self.dns = DnsServer().start()
        self.rbl = Rbldnsd(os.path.join(work, "rbldnsd"), zones=ZONES).start()
        for zone in ZONES:
            self.dns.delegate(zone, self.rbl.address)
        authority = Authority(os.path.join(work, "authority"), "Soak authority")
        self.client_tls = trusting(authority)
        self._receivers(ledger)
        self._smarthost(ledger, authority)
        authority.server("relay.test")
        self.tls = {end: os.path.join(authority.directory, f"relay.test.{suffix}")
                    for end, suffix in (("certificate", "pem"), ("key", "key"))}
        self.authority = authority
        self.with_source = self.with_listener = False
        self.version = 0
        self.egret = SoakEgret(binary, os.path.join(work, "egret"), sanitizer_options, **self.sections())

    def _receivers(self, ledger):
        self.receivers = []
        for number in range(SITES):
            host, address = f"mx{number}.hosts.test", f"127.0.2.{10 + number}"
            self.dns.host(host, address)
            self.receivers.append(SoakReceiver(ledger, address, name=host).start())
        for number, domain in enumerate(DOMAINS):
            self.dns.mx(domain, (10, f"mx{number % SITES}.hosts.test"))
        self.reports = SoakReceiver(ledger, "127.0.2.100", name="mx.senders.test", reports=True).start()
        self.dns.host("mx.senders.test", "127.0.2.100")
        for number in range(5):
            self.dns.mx(f"sender{number}.test", (10, "mx.senders.test"))
        for name, address in {**SOURCES, **EXTRA}.items():
            self.dns.host(f"{name}.egress.test", address)
        self.dns.host("relay.test", "127.0.0.1")

    def _smarthost(self, ledger, authority):
        self.dns.a("smtp.esp.test", "127.0.5.1")
        self.smarthost = SoakReceiver(ledger, "127.0.5.1", 587, name="smtp.esp.test", tls=authority.server("smtp.esp.test"),
                                      users={"apikey": "s3cret"}).start()

    def everyone(self):
        return [*self.receivers, self.smarthost, self.reports]

    def moods_of(self, receiver):
        if receiver is self.reports:
            return GENTLE
        return tuple(m for m in MOODS if m != "block") if receiver is self.smarthost else MOODS

    # -- Egret's configuration

    def addresses(self):
        return list({**SOURCES, **(EXTRA if self.with_source else {})}.values())

    def sections(self):
        sources = {**SOURCES, **(EXTRA if self.with_source else {})}
        listeners = [_listener(2525, "transactional"), _listener(2526, "bulk"), _listener(2530, "transactional", accept="pass-through"),
                     _listener(2528, "transactional", tls="starttls")]
        if self.with_listener:
            listeners.append(_listener(2527, "bulk"))
        return copy.deepcopy({
            "listeners": listeners, "tls": self.tls,
            "classes": {"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk", "spill": self.version % 2 == 0}},
            "sources": {name: _source(name, address) for name, address in sources.items()},
            "smarthosts": {"esp": {"address": "smtp.esp.test:587", "tls": "starttls", "username": "apikey", "password": "s3cret",
                                   "ca": self.authority.certificate, "connections": 4, "unready": "allow"}},
            "pools": {"transactional": {"sources": [name for name in sources if name[0] == "t"], "fallback": ["esp"],
                                        "when_exhausted": "fallback"},
                      "bulk": {"sources": [name for name in sources if name[0] == "b"], "when_exhausted": "hold"}},
            "delivery": {"retry": ["1s", "2s", "5s", "10s"]},
            "spool": {"reserve": "64M", "cache": "32M"},
            "reputation": {"warmup_step": "2s", "blocklists": {
                "bl": {"zone": "bl.test", "weight": 1.0}, "second": {"zone": "second.test", "weight": 0.6}}},
            "log": {"level": "info", "format": "json"},
        })

    def reconfigure(self):
        self.version += 1
        self.egret.configure(**self.sections())

    # -- well again

    def heal(self):
        for receiver in self.everyone():
            receiver.become("well")
        self.rbl.reset()

    def forget(self):
        """Questions and sessions that are over: an hour of them would be the soak's own growth."""
        self.dns.forget()
        for receiver in self.everyone():
            receiver.sweep()

    def close(self):
        for receiver in self.everyone():
            receiver.close()
        self.rbl.stop()
        self.dns.stop()
