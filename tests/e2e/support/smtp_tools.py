"""Postfix's smtp-sink and smtp-source, for volume, and swaks, the client that postmasters test with."""

import glob
import os
import re
import subprocess

from . import wait
from .raw_smtp import answers_220


class SmtpSink:
    """Takes any mail at full speed and keeps each message in a file."""

    def __init__(self, directory, address, port=25):
        self.directory = str(directory)
        self.address = address
        self.port = port
        self._process = None

    def start(self):
        os.makedirs(self.directory)
        # smtp-sink refuses to keep root's rights.
        os.chmod(self.directory, 0o777)
        self._process = subprocess.Popen(
            ["/usr/sbin/smtp-sink", "-u", "nobody", "-h", "sink.test", "-d", os.path.join(self.directory, "m."),
             f"{self.address}:{self.port}", "1024"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait.until(lambda: answers_220(self.address, self.port), 10, "smtp-sink answers")
        return self

    def stop(self):
        if self._process:
            self._process.terminate()
            self._process.wait(5)
            self._process = None

    def messages(self):
        """The complete messages; a file is there from MAIL on, so one without its end is left out."""
        found = []
        for path in glob.glob(os.path.join(self.directory, "m.*")):
            with open(path, "rb") as file:
                content = file.read()
            if re.search(rb"^X-Rcpt-Args: ", content, re.M) and b"\n\n" in content:
                found.append(content)
        return found


def smtp_source(count, sessions, length, sender, recipient, server="127.0.0.1:2525", timeout=60):
    """Sends count messages of the given length over this many parallel sessions; fails unless every one is accepted."""
    return subprocess.run(["/usr/sbin/smtp-source", "-m", str(count), "-s", str(sessions), "-l", str(length),
                           "-f", sender, "-t", recipient, server],
                          capture_output=True, text=True, timeout=timeout, check=True)


def swaks(directory, content, sender, recipient, server="127.0.0.1", port=2525):
    """Sends the content as it is; returns swaks's transcript."""
    path = os.path.join(str(directory), "swaks-message")
    with open(path, "wb") as file:
        # swaks ends the data with a line end of its own.
        file.write(content.removesuffix(b"\r\n"))
    done = subprocess.run(["swaks", "--server", server, "--port", str(port), "--helo", "client.test",
                           "--from", sender, "--to", recipient, "--data", f"@{path}"],
                          capture_output=True, text=True, errors="replace", timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
