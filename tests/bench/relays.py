"""The relays under test, and the sink behind them.

Each starts in a directory of its own, is ready when it greets, and is gone after stop().
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import meter

LOOPBACK = "127.0.0.1"
SOURCE = "127.0.0.2"  # egret sends from here: the sink at its own address would be a loop
SINK_PORT, EGRET_PORT, POSTFIX_PORT, ADMIN_PORT = 2500, 2501, 2502, 2503  # in a network of our own: always free
SENDER, RECIPIENT, DOMAIN = "a@src.test", "b@dst.test", "dst.test"

START_LIMIT, STOP_LIMIT = 30, 15  # seconds


class Failed(Exception):
    """A run that gives no figure, with what the operator needs to see why."""


def tail(path, lines=12):
    try:
        with open(path, errors="replace") as f:
            return "".join(f.readlines()[-lines:]).rstrip()
    except OSError:
        return ""


def wait_for_greeting(port, alive):
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=2) as s:
            if s.recv(512).startswith(b"220"):
                s.sendall(b"QUIT\r\n")
                return
        if not alive():
            raise Failed("it ended while starting")
        time.sleep(0.05)
    raise Failed(f"no greeting within {START_LIMIT} s")


class Sink:
    """smtp-sink; its running counter goes to a file in memory, whose end we read now and then. (A pipe
    would wake the bench for each message and take the CPU that is being measured.)"""

    def __init__(self, memory_dir):
        self.path = os.path.join(memory_dir, "sink")
        self._output = open(self.path, "wb")
        # -m: connections at a time. Egret's and Postfix's limits are lower; the sink must not be the one that decides.
        self.process = subprocess.Popen(
            ["smtp-sink", "-c", "-u", "root", "-m", "2000", f"{LOOPBACK}:{SINK_PORT}", "1000"],
            stdin=subprocess.DEVNULL, stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_for_greeting(SINK_PORT, lambda: self.process.poll() is None)
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

    def command(self):
        raise NotImplementedError

    def start(self, trace=()):
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


class Egret(Relay):
    name, port = "egret", EGRET_PORT

    def __init__(self, directory, tag, options, accept):
        super().__init__(directory, tag)
        self.binary = options.egret
        self.config = os.path.join(self.directory, "egret.yaml")
        # Only our own name server answers here, and it knows no blocklist: with the built-in lists on, the
        # relay would spend the run finding out that none of them works.
        lists = ", ".join(f"{name}: {{enabled: false}}" for name in built_in_blocklists(options.blocklists))
        os.mkdir(os.path.join(self.directory, "data"))
        with open(self.config, "w") as f:
            f.write(f"""\
hostname: bench.test
data_dir: {self.directory}/data
threads: {options.threads}
listeners:
  - {{address: "{LOOPBACK}:{EGRET_PORT}", accept: {accept}, allow: [127.0.0.0/8], class: transactional}}
sources:
  out1: {{address: {SOURCE}, ehlo: out1.bench.test}}
pools:
  transactional: {{sources: [out1], when_exhausted: hold}}
classes:
  transactional: {{pool: transactional, max_age: 1d}}
delivery:
  port: {SINK_PORT}
  allow_private: true
  tls: none
  connections_per_site: {options.connections}
dns: {{servers: ["{LOOPBACK}:53"]}}
reputation:
  blocklists: {{{lists}}}
admin: {{address: "{LOOPBACK}:{ADMIN_PORT}"}}
log: {{level: {options.egret_log}}}
""")

    def command(self):
        return [self.binary, "run", "-c", self.config]


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

    def __init__(self, directory, tag):
        super().__init__(directory, tag)
        self.config = os.path.join(self.directory, "etc")
        for name in ("etc", "queue", "data"):
            os.mkdir(os.path.join(self.directory, name), 0o755)
        shutil.chown(os.path.join(self.directory, "data"), "postfix")
        with open(os.path.join(self.config, "main.cf"), "w") as f:
            f.write(self.MAIN.format(directory=self.directory, LOOPBACK=LOOPBACK, SINK_PORT=SINK_PORT))
        with open(os.path.join(self.config, "master.cf"), "w") as f:
            f.write(self._services())

    @staticmethod
    def _services():
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
                    field[0] = f"{LOOPBACK}:{POSTFIX_PORT}"
                field[4] = "n"
                out.append(" ".join(field))
        if not any(line.startswith("postlog ") for line in out):
            out.append("postlog unix-dgram n - n - 1 postlogd")
        return "\n".join(out) + "\n"

    def command(self):
        return ["postfix", "-c", self.config, "start-fg"]

    def log_tail(self):
        return "\n".join(filter(None, (tail(self.log), tail(os.path.join(self.directory, "maillog")))))
