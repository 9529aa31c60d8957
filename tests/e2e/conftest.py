"""The fixtures: a DNS server, rbldnsd, Postfix and authority for the session; an Egret and receivers for each test."""

import os
import pathlib
import shutil

import pytest

from support.certificates import Authority
from support.dns_server import DnsServer
from support.egret import Egret
from support.postfix import Postfix
from support.rbldnsd import Rbldnsd
from support.scripted_receiver import ScriptedReceiver

# Addresses of the receiving Postfix. strict asks the blocklist and refuses at RCPT, early refuses in place of the
# greeting, open asks nobody.
STRICT, EARLY, OPEN = "127.0.2.1", "127.0.2.2", "127.0.2.3"


def pytest_addoption(parser):
    parser.addoption("--job", type=int, default=0, help="one of several that divide the suite (tests/e2e/run)")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--job") % 2 == 0 and config.getoption("--job"):
        by_file = {}
        for item in items:
            by_file.setdefault(item.path, []).append(item)
        items[:] = [item for path in reversed(by_file) for item in by_file[path]]


def claimed(config, path):
    """Whether the tests of this file are this job's."""
    mine = config.__dict__.setdefault("egret_claims", {})
    if path not in mine:
        try:
            (pathlib.Path(os.environ["E2E_CLAIMS"]) / path.name).touch(exist_ok=False)
            mine[path] = True
        except FileExistsError:
            mine[path] = False
    return mine[path]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    return None if not item.config.getoption("--job") or claimed(item.config, item.path) else True


def pytest_runtest_logreport(report):
    if report.failed and "E2E_FAILED" in os.environ:
        with open(os.environ["E2E_FAILED"], "a") as out:
            out.write("tests/e2e/" + report.nodeid.removeprefix("tests/e2e/") + "\n")


@pytest.fixture(scope="session")
def work():
    """A directory that unprivileged daemons can reach; tests/e2e/run makes and removes it."""
    path = os.environ.get("E2E_DIRECTORY")
    assert path, "start the suite with tests/e2e/run: it needs a network namespace of its own"
    return pathlib.Path(path)


@pytest.fixture(scope="session")
def dns_session(work):
    server = DnsServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def rbldnsd_session(work):
    daemon = Rbldnsd(work / "rbldnsd", zones=("bl.test", "second.test")).start()
    yield daemon
    daemon.stop()


@pytest.fixture
def dns(dns_session, rbldnsd_session):
    """The DNS server with the records that every test may rely on."""
    dns_session.reset()
    for zone in rbldnsd_session.zones:
        dns_session.delegate(zone, rbldnsd_session.address)
    for letter, address in (("a", "127.0.1.1"), ("b", "127.0.1.2"), ("c", "127.0.1.3")):
        dns_session.host(f"{letter}.egress.test", address)
    dns_session.host("relay.test", "127.0.0.1")
    for name, address in (("strict", STRICT), ("early", EARLY), ("open", OPEN)):
        dns_session.host(f"mx.{name}.test", address)
        dns_session.mx(f"{name}.test", (10, f"mx.{name}.test"))
    yield dns_session
    dns_session.reset()


@pytest.fixture
def blocklist(dns, rbldnsd_session):
    """rbldnsd with the zones bl.test and second.test, both empty but for their test points."""
    rbldnsd_session.reset()
    yield rbldnsd_session
    rbldnsd_session.reset()


@pytest.fixture(scope="session")
def postfix_session(work, dns_session):
    rbl = {"smtpd_client_restrictions": "reject_rbl_client bl.test"}
    receiver = Postfix(
        work / "postfix", "mx.strict.test",
        services={
            STRICT: {**rbl},
            EARLY: {**rbl, "myhostname": "mx.early.test", "smtpd_delay_reject": "no"},
            OPEN: {"myhostname": "mx.open.test"},
        },
        domains=["strict.test", "early.test", "open.test"])
    receiver.start()
    yield receiver
    receiver.stop()


@pytest.fixture
def postfix(postfix_session, blocklist):
    """The receiving Postfix: user and user1 to user9 exist at strict.test, early.test and open.test."""
    postfix_session.empty_mailboxes()
    return postfix_session


@pytest.fixture(scope="session")
def authority(work):
    return Authority(work / "authority", "Egret test authority")


@pytest.fixture(scope="session")
def foreign_authority(work):
    """Signs certificates that no test trusts."""
    return Authority(work / "foreign-authority", "Nobody's authority")


@pytest.fixture
def receive_for(dns):
    """receive_for(domain): a scripted receiver that is the domain's only MX, at an address of its own."""
    started = []

    def make(domain, start=True, **options):
        address = f"127.0.2.{10 + len(started)}"
        name = f"mx.{domain}"
        dns.host(name, address)
        dns.mx(domain, (10, name))
        receiver = ScriptedReceiver(address, name=name, **options)
        started.append(receiver)
        return receiver.start() if start else receiver

    yield make
    for receiver in started:
        receiver.stop()


@pytest.fixture
def shop(receive_for):
    """The receiver of most tests: takes all mail for shop.test."""
    return receive_for("shop.test")


@pytest.fixture
def senders(receive_for):
    """Receives for sender.test, so it is where DSNs arrive."""
    return receive_for("sender.test")


@pytest.fixture
def smarthost(dns, authority, shop):
    """smarthost(name): an ESP that wants STARTTLS and AUTH, as smtp.NAME.test:587.

    With shop, because a smarthost too is chosen for a destination, which has to exist.
    """
    started = []

    def make(name, tls="trusted", users=None, **options):
        host, address = f"smtp.{name}.test", f"127.0.5.{1 + len(started)}"
        dns.a(host, address)
        context = authority.server(host) if tls == "trusted" else tls
        receiver = ScriptedReceiver(address, 587, name=host, tls=context, users=users or {"apikey": "s3cret"},
                                    **options)
        started.append(receiver)
        return receiver.start()

    yield make
    for receiver in started:
        receiver.stop()


@pytest.fixture
def egret(request, work, dns, blocklist):
    """egret(section=...): a running Egret with this configuration; start=False makes one that is not started yet.

    Each one still running at the end of the test must stop cleanly on SIGTERM.
    """
    made = []
    binary = os.environ["EGRET_BINARY"]
    request.node.egrets = made

    def make(start=True, **sections):
        instance = Egret(binary, work / "egrets" / f"{abs(hash(request.node.nodeid)):x}-{len(made)}", **sections)
        made.append(instance)
        return instance.start() if start else instance

    yield make
    failed = getattr(request.node, "failed", False)
    try:
        for instance in made:
            instance.discard() if failed else instance.stop()
    finally:
        for instance in made:
            instance.discard()
            if not failed and not os.environ.get("E2E_KEEP"):
                shutil.rmtree(instance.directory, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.failed = True
        for number, instance in enumerate(getattr(item, "egrets", [])):
            report.sections.append((f"egret {number}: the end of its log", instance.log()[-15000:]))
