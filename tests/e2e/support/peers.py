"""Other people's mail servers, each in a directory of its own: as receivers behind Egret, or in front of it.

tests/peers/install fetches the programs without installing them. What they have built in (paths, user names) they find
in a mount namespace of their own, made of bind mounts, so nothing of the system is touched and they can stand beside an
installed Postfix. A receiver takes mail for one domain, in which KNOWN exist and nobody else, keeps each message in a
file and offers STARTTLS. A front takes mail for anybody and has Egret as its smarthost.
"""

import contextlib
import os
import pathlib
import platform
import pwd
import re
import shutil
import signal
import ssl
import subprocess
import textwrap

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP as AioSmtpServer

from . import wait
from .postfix import Postfix
from .raw_smtp import answers_220

KNOWN = ["user", *(f"user{number}" for number in range(1, 10))]
MESSAGE_SIZE = 50 * 1024 * 1024
_KEEPER = "nobody"  # who owns the mailboxes


def folder():
    """Where tests/peers/install has put the programs."""
    default = pathlib.Path(__file__).resolve().parents[3] / "build" / "peers"
    return pathlib.Path(os.environ.get("EGRET_PEERS", default)).resolve()


def program(package, path):
    found = folder() / package / path
    assert found.exists(), f"no {found}: run tests/peers/install, or set EGRET_PEERS to where it has put the peers"
    return str(found)


def with_libraries(package):
    """The environment in which a program of this package finds the libraries that came with it."""
    libraries = folder() / package / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries)}


def self_signed(directory, host):
    """The files of a certificate and its key."""
    certificate, key = f"{directory}/certificate.pem", f"{directory}/key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={host}",
                    "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


class _Daemon:
    """A process in a mount namespace, with directories that it may write.

    domain: it receives for this domain; relay: it hands everything to this (address, port). One of the two is given.
    """

    package = None
    accounts = ()           # users that the program expects to exist
    starttls = True         # as a receiver
    writable = ("mail",)    # directories of the unprivileged user

    def __init__(self, directory, host, address, domain=None, relay=None):
        self.directory = pathlib.Path(directory)
        self.host = host
        self.address, self.port = address, 25
        self.domain, self.relay = domain, relay
        self.certificate = None  # a receiver's files: (certificate, key)
        self.mail = self.directory / "mail"
        self.log_file = self.directory / "log"
        self._process = None

    def start(self):
        keeper = pwd.getpwnam(_KEEPER)
        shutil.rmtree(self.directory, ignore_errors=True)  # of a start that failed
        self.directory.mkdir(parents=True)
        for name in self.writable:
            (self.directory / name).mkdir()
            os.chown(self.directory / name, keeper.pw_uid, keeper.pw_gid)
        if self.domain and self.starttls:
            self.certificate = self_signed(self.directory, self.host)
        self._write_accounts(keeper)
        self.configure()
        with open(self.log_file, "ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-ec", self._mounts() + 'exec "$@"', "sh", *self.command()],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.directory,
                env=with_libraries(self.package))
        try:
            wait.until(self._answers, 20, f"{type(self).__name__} answers on {self.address}:{self.port}")
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self):
        if not self._process:
            return
        # Children that are busy with a message do not all listen to SIGTERM.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self._process.pid, number)
                self._process.wait(5)
        self._process = None

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def _answers(self):
        if self._process.poll() is not None:
            raise RuntimeError(f"{type(self).__name__} ended with {self._process.returncode}:\n{self.log()[-4000:]}")
        with contextlib.suppress(EOFError):
            return answers_220(self.address, self.port)

    # -- what arrived

    def messages(self, user):
        """The files kept for this user, with LF line ends and the peer's own trace on top."""
        return [path.read_bytes() for path in sorted((self.mail / user).glob("new/*"))]

    def empty_mailboxes(self):
        for path in self.mail.iterdir():
            shutil.rmtree(path)

    # -- what the kinds differ in

    def configure(self):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def mounts(self):
        """{what: where it is seen}, for paths that the program has built in."""
        return {}

    def write(self, name, text):
        (self.directory / name).write_text(textwrap.dedent(text).lstrip())

    def _write_accounts(self, keeper):
        """The owners of the mailboxes, the accounts of the program and those of the system."""
        accounts = "".join(f"{name}:x:{900 + number}:{900 + number}::/nonexistent:/bin/false\n"
                           for number, name in enumerate(self.accounts))
        groups = "".join(f"{name}:x:{900 + number}:\n" for number, name in enumerate(self.accounts))
        people = "".join(f"{name}:x:{keeper.pw_uid}:{keeper.pw_gid}::/nonexistent:/bin/sh\n" for name in KNOWN)
        self.write("passwd", people + accounts + pathlib.Path("/etc/passwd").read_text())
        self.write("group", groups + pathlib.Path("/etc/group").read_text())

    def _mounts(self):
        mounts = {"passwd": "/etc/passwd", "group": "/etc/group", **self.mounts()}
        return "".join(f"mount --bind '{self.directory / what}' '{where}'\n" for what, where in mounts.items())


class Exim(_Daemon):
    package = "exim"
    accounts = ("Debian-exim",)
    writable = ("mail", "spool", "logs")

    def configure(self):
        if self.relay:
            acl = "accept hosts = 127.0.0.0/8"
            route = f"""\
                driver = manualroute
                route_list = * {self.relay[0]} byname
                self = send
                transport = out"""
        else:
            acl = f"accept domains = {self.domain}\n       verify = recipient"
            route = f"""\
                driver = accept
                domains = {self.domain}
                local_parts = {" : ".join(KNOWN)}
                transport = keep"""
        tls = ""
        if self.certificate:
            shutil.chown(self.certificate[1], _KEEPER)
            tls = "tls_advertise_hosts = *\ntls_certificate = {}\ntls_privatekey = {}".format(*self.certificate)
        relay_port = self.relay[1] if self.relay else 25
        self.write("exim.conf", f"""
primary_hostname = {self.host}
local_interfaces = {self.address}
daemon_smtp_ports = {self.port}
spool_directory = {self.directory}/spool
log_file_path = {self.directory}/logs/%slog
log_selector = +smtp_connection
pid_file_path = {self.directory}/spool/pid
exim_user = {_KEEPER}
exim_group = {pwd.getpwnam(_KEEPER).pw_gid}
# Nothing here needs root after the ports are open, and without it no part has to be set-uid.
deliver_drop_privilege
never_users =
keep_environment =
message_size_limit = {MESSAGE_SIZE}
acl_smtp_rcpt = rcpt
rfc1413_query_timeout = 0s
# All mail of a connection is delivered at once, none is left to the queue runner.
smtp_accept_queue_per_connection = 0
smtp_accept_max = 0
{tls or "tls_advertise_hosts ="}

begin acl
rcpt:
  {acl}
  deny message = 5.1.1 Unrouteable address

begin routers
only:
{textwrap.dedent(route)}

begin transports
keep:
  driver = appendfile
  directory = {self.mail}/$local_part_data
  maildir_format
  create_directory
  message_prefix =
  message_suffix =
out:
  driver = smtp
  port = {relay_port}
  allow_localhost

begin retry
* * F,1h,1s
""")

    def command(self):
        return [program("exim", "usr/sbin/exim4"), "-C", str(self.directory / "exim.conf"), "-bdf", "-q2s"]

    def connections(self):
        return sum("SMTP connection from" in line and "TCP/IP connection count" in line
                   for line in self.log().splitlines())

    def log(self):
        main = self.directory / "logs" / "mainlog"
        return super().log() + (main.read_text(errors="replace") if main.exists() else "")


class OpenSmtpd(_Daemon):
    package = "opensmtpd"
    accounts = ("opensmtpd", "opensmtpq")
    # Debian 12 builds it with OpenSSL 3, under which its handshakes end in "internal error": OpenSMTPD issue 1171.
    starttls = False

    def configure(self):
        for name in ("var-spool/smtpd", "var-lib/opensmtpd/empty", "run"):
            (self.directory / name).mkdir(parents=True, mode=0o711)
        options, head = "", ""
        if self.certificate:
            head = 'pki here cert "{}"\npki here key "{}"\n'.format(*self.certificate)
            options = "tls pki here"
        if self.relay:
            rules = (f'action "out" relay host "smtp://{self.relay[0]}:{self.relay[1]}"\n'
                     'match from any for any action "out"\n')
        else:
            rules = (f'action "keep" maildir "{self.mail}/%{{dest.user}}"\n'
                     f'match from any for domain "{self.domain}" action "keep"\n')
        self.write("smtpd.conf", head + f"smtp max-message-size {MESSAGE_SIZE}\n"
                   f"listen on {self.address} port {self.port} hostname {self.host} {options}\n" + rules)

    def mounts(self):
        return {"var-spool": "/var/spool", "var-lib": "/var/lib", "run": "/run",
                program("opensmtpd", "usr/libexec"): "/usr/libexec"}

    def command(self):
        return [program("opensmtpd", "usr/sbin/smtpd"), "-d", "-f", str(self.directory / "smtpd.conf")]

    def connections(self):
        return sum("smtp connected" in line for line in self.log().splitlines())


class Sendmail(_Daemon):
    package = "sendmail"
    accounts = ("smmta", "smmsp")

    def configure(self):
        (self.directory / "queue").mkdir(mode=0o700)
        self.write("keep", f"""\
            #!/bin/sh
            # Called with the user's name; a message is there when it is there completely.
            mkdir -p "{self.mail}/$1/tmp" "{self.mail}/$1/new"
            cat > "{self.mail}/$1/tmp/$$" && mv "{self.mail}/$1/tmp/$$" "{self.mail}/$1/new/$$"
            """)
        os.chmod(self.directory / "keep", 0o755)
        tls = ""
        if self.certificate:
            tls = "".join(f"define(`{name}', `{path}')dnl\n" for name, path in
                          zip(("confSERVER_CERT", "confSERVER_KEY", "confCACERT", "confCACERT_PATH"),
                              (*self.certificate, self.certificate[0], self.directory)))
        relay = ""
        if self.relay:
            relay = (f"define(`SMART_HOST', `relay:[{self.relay[0]}]')dnl\n"
                     f"define(`RELAY_MAILER_ARGS', `TCP $h {self.relay[1]}')dnl\nFEATURE(`promiscuous_relay')dnl\n")
        # Without the flag A nobody is looked up in an alias file: there is none.
        (self.directory / "sendmail.mc").write_text(f"""divert(0)dnl
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `{self.host}')dnl
define(`confPID_FILE', `{self.directory}/pid')dnl
define(`QUEUE_DIR', `{self.directory}/queue')dnl
define(`STATUS_FILE', `')dnl
define(`confFORWARD_PATH', `')dnl
define(`confDEF_USER_ID', `{_KEEPER}')dnl
define(`confTO_IDENT', `0')dnl
define(`confMAX_MESSAGE_SIZE', `{MESSAGE_SIZE}')dnl
define(`confDONT_BLAME_SENDMAIL', `TrustStickyBit')dnl
define(`confLOG_LEVEL', `14')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confDELAY_LA', `1000')dnl
define(`LOCAL_MAILER_PATH', `{self.directory}/keep')dnl
define(`LOCAL_MAILER_ARGS', `keep $u')dnl
define(`LOCAL_MAILER_FLAGS', `n9')dnl
MODIFY_MAILER_FLAGS(`LOCAL', `-A')dnl
{tls}{relay}FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`nocanonify')dnl
FEATURE(`no_default_msa')dnl
DAEMON_OPTIONS(`Addr={self.address}, Port={self.port}, Name=MTA')dnl
{f"LOCAL_DOMAIN(`{self.domain}')dnl" if self.domain else ""}
MAILER(`local')dnl
MAILER(`smtp')dnl
""")
        rules = program("sendmail", "usr/share/sendmail/cf")
        m4 = folder() / "sendmail" / "usr" / "bin" / "m4"
        with open(self.directory / "sendmail.cf", "wb") as output:
            subprocess.run([str(m4) if m4.exists() else "m4", f"-D_CF_DIR_={rules}/", f"{rules}/m4/cf.m4",
                            self.directory / "sendmail.mc"], stdout=output, check=True, env=with_libraries("sendmail"))

    def command(self):
        return [program("sendmail", "usr/libexec/sendmail/sendmail"), "-C", str(self.directory / "sendmail.cf"),
                "-bD", "-q2s", "-X", str(self.directory / "traffic")]

    def connections(self):
        traffic = (self.directory / "traffic").read_text(errors="replace")
        return len(re.findall(rf"^\d+ >>> 220 {self.host}", traffic, re.M))


class Haraka(_Daemon):
    package = "npm"

    def configure(self):
        # As haraka -i does: all that it ships, of which a few files are then this instance's own.
        shutil.copytree(program("npm", "node_modules/Haraka/config"), self.directory / "config")
        for name in ("plugins", "queue"):
            (self.directory / name).mkdir()
        known = ", ".join(f"'{user}'" for user in KNOWN)
        self.write("config/me", self.host + "\n")
        self.write("config/smtp.ini", f"listen={self.address}:{self.port}\nnodes=0\n")
        self.write("config/log.ini", "[main]\nlevel=NOTICE\n")
        limits = (self.directory / "config" / "connection.ini").read_text()
        for name, value in (("bytes", MESSAGE_SIZE), ("data_line_length", 1000)):
            limits = re.sub(f"^{name}=.*$", f"{name}={value}", limits, flags=re.M)
        self.write("config/connection.ini", limits)
        plugins = []
        if self.certificate:
            self.write("config/tls.ini", "key={1}\ncert={0}\n".format(*self.certificate))
            plugins.append("tls")
        if self.relay:
            self.write("config/smtp_forward.ini", "host={}\nport={}\n".format(*self.relay))
            plugins += ["front", "queue/smtp_forward"]
        else:
            plugins.append("keep")
        self.write("config/plugins", "\n".join(plugins) + "\n")
        self.write("plugins/front.js", """\
            'use strict';
            exports.hook_rcpt = (next) => next(OK);
            """)
        self.write("plugins/keep.js", f"""\
            'use strict';
            const fs = require('node:fs');
            const dsn = require('haraka-dsn');
            const known = [{known}];
            exports.hook_rcpt = (next, connection, [recipient]) => known.includes(recipient.user)
                ? next(OK) : next(DENY, dsn.no_such_user());
            exports.hook_queue = (next, connection) => {{
                const {{ uuid, rcpt_to, message_stream }} = connection.transaction;
                const whole = `${{__dirname}}/../queue/${{uuid}}`;
                const file = fs.createWriteStream(whole);
                file.once('close', () => {{
                    for (const {{ user }} of rcpt_to) {{
                        fs.mkdirSync(`{self.mail}/${{user}}/new`, {{ recursive: true }});
                        fs.linkSync(whole, `{self.mail}/${{user}}/new/${{uuid}}`);
                    }}
                    next(OK);
                }});
                message_stream.pipe(file, {{ line_endings: '\\n' }});
            }};
            """)

    def command(self):
        return ["node", program("npm", "node_modules/Haraka/bin/haraka"), "-c", str(self.directory)]

    def connections(self):
        return self.log().count(" connect ip=")


class OpenSmtpdWithTls(OpenSmtpd):
    """The same with a certificate: it says STARTTLS and cannot keep the promise."""

    starttls = True


class PostfixPeer(Postfix):
    """Postfix with what the others have: STARTTLS, and a count of its connections."""

    starttls = True

    def __init__(self, directory, host, address, domain=None, relay=None):
        parameters = {}
        if domain:
            os.makedirs(directory, exist_ok=True)
            certificate = self_signed(directory, host)
            parameters = {"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": certificate[0],
                          "smtpd_tls_key_file": certificate[1]}
        if relay:
            parameters |= {"mynetworks": "127.0.0.0/8", "relayhost": "[{}]:{}".format(*relay)}
        super().__init__(directory, host, {address: {}}, parameters, [domain] if domain else [])
        self.host, self.address, self.port, self.domain = host, address, 25, domain

    def messages(self, user):
        return super().messages(f"{user}@{self.domain}")

    def connections(self):
        return len(re.findall(r": connect from ", self.log()))


class AioSmtpd:
    """The library that Python programs test with, as a receiver: it refuses whom it does not know, as the others do."""

    starttls = True

    def __init__(self, directory, host, address, domain):
        self.host, self.address, self.port, self.domain = host, address, 25, domain
        self._directory = directory
        self._arrived = {}
        self._connections = 0
        self._controller = None

    def start(self):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        os.makedirs(self._directory, exist_ok=True)
        context.load_cert_chain(*self_signed(self._directory, self.host))
        peer = self

        class Here(Controller):
            def factory(self):
                peer._connections += 1
                return AioSmtpServer(peer, hostname=peer.host, tls_context=context, data_size_limit=MESSAGE_SIZE)

        self._controller = Here(self, hostname=self.address, port=self.port)
        self._controller.start()
        return self

    def stop(self):
        if self._controller:
            self._controller.stop()
            self._controller = None

    def log(self):
        return ""

    def messages(self, user):
        return self._arrived.get(user, [])

    def empty_mailboxes(self):
        self._arrived = {}

    def connections(self):
        return self._connections

    async def handle_RCPT(self, server, session, envelope, address, options):
        user, _, domain = address.partition("@")
        if domain != self.domain or user not in KNOWN:
            return f"550 5.1.1 <{address}>: no such user"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server, session, envelope):
        # The library adds no trace of its own, so the protocol is noted as the others note it.
        protocol = b"ESMTPS" if session.ssl else b"ESMTP"
        trace = b"Received: from " + session.host_name.encode() + b" by " + self.host.encode() + b" with " + protocol
        for address in envelope.rcpt_tos:
            kept = (trace + b"\r\n" + envelope.original_content).replace(b"\r\n", b"\n")
            self._arrived.setdefault(address.partition("@")[0], []).append(kept)
        return "250 2.0.0 Ok: taken"
