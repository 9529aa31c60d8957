"""The relays under test, and the sink behind them.

Each starts in a directory of its own, is ready when it greets, and is gone after stop().
"""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request

import meter

LOOPBACK = "127.0.0.1"
SOURCE = "127.0.0.2"  # egret sends from here: the sink at its own address would be a loop
SINK_PORT, EGRET_PORT, POSTFIX_PORT, ADMIN_PORT = 2500, 2501, 2502, 2503  # in a network of our own: always free
SENDER, RECIPIENT, DOMAIN = "a@src.test", "b@dst.test", "dst.test"

START_LIMIT, STOP_LIMIT = 60, 15  # seconds


class Failed(Exception):
    """A run that gives no figure, with what the operator needs to see why."""


def tail(path, lines=12):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:]).rstrip()
    except OSError:
        return ""


def wait_for_greeting(port, alive, code=b"220"):
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=2) as s:
            if s.recv(512).startswith(code):
                s.sendall(b"QUIT\r\n")
                return
        if not alive():
            raise Failed("it ended while starting")
        time.sleep(0.01)
    raise Failed(f"no greeting within {START_LIMIT} s")


class Sink:
    """smtp-sink; its running counter goes to a file in memory, whose end we read now and then. (A pipe
    would wake the bench for each message and take the CPU that is being measured.)"""

    def __init__(self, memory_dir, refuse=""):
        """`refuse`: "connect", which is answered with 421 and the end, or a command that is answered with 450."""
        self.path = os.path.join(memory_dir, "sink")
        self._output = open(self.path, "wb")
        options = ["-Q" if refuse == "connect" else "-r", refuse] if refuse else []
        # -m: connections at a time. Egret's and Postfix's limits are lower (256 sources: 20 connections
        # each); the sink must not be the one that decides.
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'ulimit -n 16384 && exec "$@"', "sh",
             "smtp-sink", "-c", "-u", "root", "-m", "8000", *options, f"{LOOPBACK}:{SINK_PORT}", "1000"],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_for_greeting(SINK_PORT, lambda: self.process.poll() is None, b"421" if refuse == "connect" else b"220")
        except Failed as e:
            self.close()
            raise Failed(f"smtp-sink: {e}\n{tail(self.path)}") from None

    def received(self):
        with open(self.path, "rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - 200))
            counts = re.findall(rb"mesg=(\d+)[^\d]", f.read())
        return int(counts[-1]) if counts else 0

    def cpu_us(self):
        return meter.process_cpu_us(self.process.pid)

    def close(self):
        self.process.kill()
        self.process.wait()
        self._output.close()


class Direct:
    """No relay: the generator talks to the sink. The ceiling for everything else."""

    name, port, meter = "direct", SINK_PORT, None

    def start(self, trace=()):
        pass

    def stop(self):
        pass

    def log_tail(self):
        return ""


class Relay:
    """A relay that is a tree of processes."""

    name, port = "", 0

    def __init__(self, directory, tag):
        self.directory = os.path.join(directory, self.name)
        shutil.rmtree(self.directory, ignore_errors=True)
        os.mkdir(self.directory, 0o755)
        self.log = os.path.join(self.directory, "log")
        self.meter = meter.make(f"egret-bench-{tag}-{self.name}")
        self.process = None
        self.started_at = 0.0  # monotonic

    def command(self):
        raise NotImplementedError

    def start(self, trace=()):
        self.started_at = time.monotonic()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.meter.command([*trace, *self.command()]), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, cwd=self.directory)
        self.meter.started(self.process.pid)
        try:
            wait_for_greeting(self.port, lambda: self.process.poll() is None)
        except Failed as e:
            raise Failed(f"{self.name}: {e}\n{self.log_tail()}") from None

    def stop(self):
        if self.process is not None:
            # To the whole group: under strace the relay is not the process that we started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_LIMIT)
        self.meter.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log_tail(self):
        return tail(self.log)


def built_in_blocklists(path):
    """The names under `blocklists:` in config/blocklists.yaml: its keys of the first indentation. That is
    all of YAML that is needed here, and the standard library has none."""
    try:
        with open(path) as f:
            lines = f.readlines()
    except OSError:
        return []
    keys, inside = [], False
    for line in lines:
        if m := re.match(r"( *)[\"']?([\w.-]+)[\"']?:(?:\s|$)", line):
            if not m[1]:
                inside = m[2] == "blocklists"
            elif inside:
                keys.append((len(m[1]), m[2]))
    indent = min((i for i, _ in keys), default=0)
    return [key for i, key in keys if i == indent]


def source_addresses(count):
    """Addresses of loopback, none of which is the sink's; at most 128 of one /24, as a provider would hand them out."""
    return [f"127.0.{2 + i // 128}.{1 + i % 128}" for i in range(count)] if count > 1 else [SOURCE]


class Egret(Relay):
    """`sources`: how many there are; `data`: where its data are, if not in a directory that is made anew."""

    name, port = "egret", EGRET_PORT

    def __init__(self, directory, tag, options, accept, threads=None, connections=None, sources=1, messages_per_connection=100,
                 data=None):
        super().__init__(directory, tag)
        self.data = data or os.path.join(self.directory, "data")
        threads = options.threads if threads is None else threads
        connections = options.connections if connections is None else connections
        self.binary = options.egret
        self.config = os.path.join(self.directory, "egret.yaml")
        # Only our own name server answers here, and it knows no blocklist: with the built-in lists on, the
        # relay would spend the run finding out that none of them works.
        lists = ", ".join(f"{name}: {{enabled: false}}" for name in built_in_blocklists(options.blocklists))
        os.makedirs(self.data, exist_ok=True)
        sources = {f"out{i + 1}": address for i, address in enumerate(source_addresses(sources))}
        source_lines = "\n".join(f"  {name}: {{address: {address}, ehlo: {name}.bench.test}}"
                                 for name, address in sources.items())
        with open(self.config, "w") as f:
            f.write(f"""\
hostname: bench.test
data_dir: {self.data}
threads: {threads}
listeners:
  - {{address: "{LOOPBACK}:{EGRET_PORT}", accept: {accept}, allow: [127.0.0.0/8], class: transactional}}
sources:
{source_lines}
pools:
  transactional: {{sources: [{", ".join(sources)}], when_exhausted: hold}}
classes:
  transactional: {{pool: transactional, max_age: 5d}}
delivery:
  port: {SINK_PORT}
  allow_private: true
  tls: none
  connections_per_site: {connections}
  messages_per_connection: {messages_per_connection}
dns: {{servers: ["{LOOPBACK}:53"]}}
reputation:
  blocklists: {{{lists}}}
admin: {{address: "{LOOPBACK}:{ADMIN_PORT}"}}
log: {{level: {options.egret_log}}}
""")

    def command(self):
        return [self.binary, "run", "-c", self.config]

    def queue_directory(self):
        return os.path.join(self.data, "spool")

    def waiting(self):
        with urllib.request.urlopen(f"http://{LOOPBACK}:{ADMIN_PORT}/api/v1/queue?limit=0", timeout=60) as answer:
            return json.load(answer)["total"]


class Postfix(Relay):
    """Postfix as Debian installs it, with a configuration, queue and log of its own. What differs from
    the package: the smarthost, the port, and no chroot (a chroot would have to be furnished with the
    C library's resolver files first, and costs or saves nothing per message)."""

    name, port = "postfix", POSTFIX_PORT

    MAIN = """\
compatibility_level = 3.6
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no
append_dot_mydomain = no
readme_directory = no
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
myhostname = bench.test
mydestination = $myhostname, localhost.localdomain, localhost
relayhost = [{LOOPBACK}]:{SINK_PORT}
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
alias_maps =
alias_database =
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file_prefixes = {directory}
maillog_file = {directory}/maillog
"""

    def __init__(self, directory, tag, settings=()):
        """`settings`: further lines of main.cf."""
        super().__init__(directory, tag)
        self.config = os.path.join(self.directory, "etc")
        for name in ("etc", "queue", "data"):
            os.mkdir(os.path.join(self.directory, name), 0o755)
        shutil.chown(os.path.join(self.directory, "data"), "postfix")
        with open(os.path.join(self.config, "main.cf"), "w") as f:
            f.write(self.MAIN.format(directory=self.directory, LOOPBACK=LOOPBACK, SINK_PORT=SINK_PORT))
            f.writelines(line + "\n" for line in settings)
        with open(os.path.join(self.config, "master.cf"), "w") as f:
            f.write(self._services())

    def _services(self):
        for source in ("/usr/share/postfix/master.cf.dist", "/etc/postfix/master.cf"):
            if os.path.exists(source):
                break
        out = []
        with open(source) as f:
            for line in f:
                field = line.split()
                if line[:1].isspace() or line.startswith("#") or len(field) < 8:
                    out.append(line.rstrip())
                    continue
                if field[:2] == ["smtp", "inet"]:
                    field[0] = f"{LOOPBACK}:{self.port}"
                field[4] = "n"
                out.append(" ".join(field))
        if not any(line.startswith("postlog ") for line in out):
            out.append("postlog unix-dgram n - n - 1 postlogd")
        return "\n".join(out) + "\n"

    def command(self):
        return ["postfix", "-c", self.config, "start-fg"]

    def queue_directory(self):
        return os.path.join(self.directory, "queue")

    def log_tail(self):
        return "\n".join(filter(None, (tail(self.log), tail(os.path.join(self.directory, "maillog")))))
