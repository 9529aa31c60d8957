"""A real Postfix in a directory of its own: as the receiver whose 554 is genuine, or in front with Egret as relayhost.

Everything Postfix writes stays below the directory; its log goes through its own postlogd, so no syslog is needed.
"""

import json
import os
import pwd
import shutil
import signal
import smtplib
import subprocess

from . import wait

MAILDIR_OWNER = "nobody"


def _postconf_default(name):
    return subprocess.run(["postconf", "-dh", name], capture_output=True, text=True, check=True).stdout.strip()


class Postfix:
    """services: {address: {parameter: value}}: one smtpd on port 25 of each address, with its own parameters."""

    def __init__(self, directory, hostname, services, parameters=None, domains=()):
        self.directory = str(directory)
        self.hostname = hostname
        self.services = services
        self.parameters = dict(parameters or {})
        self.domains = list(domains)
        self.config = os.path.join(self.directory, "config")
        self.maildirs = os.path.join(self.directory, "maildirs")
        self.log_file = os.path.join(self.directory, "mail.log")
        self._process = None

    # -- life

    def start(self):
        owner, nobody = pwd.getpwnam("postfix"), pwd.getpwnam(MAILDIR_OWNER)
        for name in ("config", "queue", "data", "maildirs"):
            os.makedirs(os.path.join(self.directory, name), exist_ok=True)
        os.chown(os.path.join(self.directory, "data"), owner.pw_uid, owner.pw_gid)
        os.chown(self.maildirs, nobody.pw_uid, nobody.pw_gid)
        self._write_main(nobody)
        self._write_master()
        # In the foreground, in a process group of its own, so that the whole instance can be ended.
        self._output = open(os.path.join(self.directory, "start.log"), "wb")
        self._process = subprocess.Popen(["postfix", "-c", self.config, "start-fg"], stdout=self._output,
                                         stderr=self._output, start_new_session=True)
        for address in self.services:
            wait.until(lambda: self._answers(address), 20, f"Postfix answers on {address}")
        return self

    def stop(self):
        if not self._process:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(5)
        self._output.close()
        self._process = None

    def log(self):
        try:
            with open(self.log_file, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def _answers(self, address):
        assert self._process.poll() is None, f"Postfix ended: {open(self._output.name).read()}\n{self.log()}"
        with smtplib.SMTP(timeout=5) as client:
            # An immediate rejection of an unlisted client would be a fault of the set-up, so only 220 is an answer.
            return client.connect(address, 25)[0] == 220

    # -- receiving

    def messages(self, recipient):
        """The files delivered to this mailbox, as written by virtual(8): LF line ends, Postfix's headers on top."""
        found = []
        user, _, domain = recipient.partition("@")
        folder = os.path.join(self.maildirs, domain, user, "new")
        if os.path.isdir(folder):
            for name in sorted(os.listdir(folder)):
                with open(os.path.join(folder, name), "rb") as file:
                    found.append(file.read())
        return found

    def empty_mailboxes(self):
        for domain in os.listdir(self.maildirs):
            shutil.rmtree(os.path.join(self.maildirs, domain))

    # -- sending

    def sendmail(self, sender, recipients, content):
        subprocess.run(["/usr/sbin/sendmail", "-C", self.config, "-i", "-f", sender, "--", *recipients],
                       input=content, check=True, timeout=20)

    def queue(self):
        listing = subprocess.run(["postqueue", "-c", self.config, "-j"], capture_output=True, text=True, check=True)
        return [json.loads(line) for line in listing.stdout.splitlines()]

    # -- configuration files

    def _write_main(self, nobody):
        settings = {
            "compatibility_level": "3.6",
            "queue_directory": os.path.join(self.directory, "queue"),
            "data_directory": os.path.join(self.directory, "data"),
            "command_directory": _postconf_default("command_directory"),
            "daemon_directory": _postconf_default("daemon_directory"),
            "shlib_directory": _postconf_default("shlib_directory"),
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "maillog_file": self.log_file,
            "maillog_file_prefixes": self.directory,
            "myhostname": self.hostname,
            # The addresses that lo has by name; the services' own 127.x.y.z need not be among them.
            "inet_interfaces": "loopback-only",
            "inet_protocols": "ipv4",
            "mydestination": "",
            "local_recipient_maps": "",
            "alias_maps": "",
            "alias_database": "",
            # Loopback clients must be strangers here, or the blocklist would never be asked about them, and headers
            # of mail from them would be rewritten.
            "mynetworks": "192.0.2.255/32",
            "local_header_rewrite_clients": "",
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "virtual_mailbox_domains": " ".join(self.domains),
            "virtual_mailbox_base": self.maildirs,
            "virtual_mailbox_maps": f"texthash:{self.config}/mailboxes",
            "virtual_mailbox_limit": "0",
            "virtual_uid_maps": f"static:{nobody.pw_uid}",
            "virtual_gid_maps": f"static:{nobody.pw_gid}",
            "message_size_limit": "52428800",
            # The tests' clients share one machine: no throttling by client, no pauses after errors.
            "smtpd_client_event_limit_exceptions": "127.0.0.0/8",
            "smtpd_error_sleep_time": "0",
            "in_flow_delay": "0",
            "default_process_limit": "40",
            "notify_classes": "",
            "biff": "no",
        }
        settings.update(self.parameters)
        with open(os.path.join(self.config, "main.cf"), "w") as file:
            for name, value in settings.items():
                file.write(f"{name} = {value}\n")
        with open(os.path.join(self.config, "mailboxes"), "w") as file:
            # user and user1 to user9 exist in every domain; everybody else is unknown.
            for domain in self.domains:
                for user in ["user", *(f"user{number}" for number in range(1, 10))]:
                    file.write(f"{user}@{domain} {domain}/{user}/\n")

    def _write_master(self):
        lines = []
        for address, parameters in self.services.items():
            # One process for each connection: a process remembers what the blocklist said, for as long as it lives.
            lines += [f"{address}:25 inet n - n - - smtpd", "  -o max_use=1"]
            lines += [f"  -o {{{name}={value}}}" for name, value in parameters.items()]
        lines += [
            "pickup unix n - n 1 1 pickup",
            "cleanup unix n - n - 0 cleanup",
            "qmgr unix n - n 300 1 qmgr",
            "tlsmgr unix - - n 1000? 1 tlsmgr",
            "rewrite unix - - n - - trivial-rewrite",
            "bounce unix - - n - 0 bounce",
            "defer unix - - n - 0 bounce",
            "trace unix - - n - 0 bounce",
            "verify unix - - n - 1 verify",
            "flush unix n - n 1000? 0 flush",
            "proxymap unix - - n - - proxymap",
            "smtp unix - - n - - smtp",
            "relay unix - - n - - smtp",
            "showq unix n - n - - showq",
            "error unix - - n - - error",
            "retry unix - - n - - error",
            "discard unix - - n - - discard",
            "virtual unix - n n - - virtual",
            "anvil unix - - n - 1 anvil",
            "postlog unix-dgram n - n - 1 postlogd",
        ]
        with open(os.path.join(self.config, "master.cf"), "w") as file:
            file.write("\n".join(lines) + "\n")
