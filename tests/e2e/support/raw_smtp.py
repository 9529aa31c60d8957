"""An SMTP client that sends exactly the bytes it is told to: what a well-behaved client library would not do."""

import fcntl
import socket
import struct
import termios

from . import wait


class RawSmtp:
    def __init__(self, address="127.0.0.1", port=2525, source=None, timeout=10):
        self.socket = socket.create_connection((address, port), timeout=timeout,
                                               source_address=(source, 0) if source else None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode() + b"\r\n")

    def reply(self):
        """One complete reply, its lines joined by newlines; EOFError when the server has closed."""
        lines = []
        while True:
            while b"\r\n" not in self._buffer:
                more = self.socket.recv(65536)
                if not more:
                    raise EOFError(b"\n".join(lines) + self._buffer)
                self._buffer += more
            line, self._buffer = self._buffer.split(b"\r\n", 1)
            lines.append(line)
            if line[3:4] != b"-":
                return b"\n".join(lines).decode("utf-8", "replace")

    def ask(self, command):
        self.send(command)
        return self.reply()

    def pause_until_read(self, timeout=5):
        """Returns when the peer's kernel has acknowledged every byte sent: what follows is a read of its own."""
        wait.until(lambda: struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, b"\0" * 4))[0] == 0, timeout,
                   "the peer has the bytes", interval=0.002)

    def closed(self):
        """Whether the server ends the connection, waiting for it; anything it still says is dropped."""
        try:
            while self.socket.recv(65536):
                pass
            return True
        except ConnectionResetError:
            return True
        except socket.timeout:
            return False

    def hello(self, name="client.test"):
        greeting = self.reply()
        assert greeting.startswith("220"), greeting
        return self.ask(f"EHLO {name}")

    def envelope(self, sender, *recipients):
        """MAIL, RCPT for each and DATA, every one of which must be accepted."""
        assert (reply := self.ask(f"MAIL FROM:<{sender}>")).startswith("250"), reply
        for recipient in recipients:
            assert (reply := self.ask(f"RCPT TO:<{recipient}>")).startswith("250"), reply
        assert (reply := self.ask("DATA")).startswith("354"), reply


def stuffed(content):
    """The wire form of a message whose lines end in CR LF: dots doubled, final dot added."""
    lines = content.replace(b"\r\n.", b"\r\n..")
    if lines.startswith(b"."):
        lines = b"." + lines
    if lines and not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return lines + b".\r\n"


def answers_220(address, port, timeout=2):
    with RawSmtp(address, port, timeout=timeout) as client:
        return client.reply().startswith("220")
