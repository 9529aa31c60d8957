"""SMTP clients that speak TLS: byte for byte as a test wants it, and openssl s_client."""

import socket
import ssl
import subprocess

from .raw_smtp import RawSmtp


def trusting(authority, version=None):
    """The context of a client that knows this authority, for one version of TLS or for all."""
    context = ssl.create_default_context(cafile=authority.certificate)
    if version:
        context.minimum_version = context.maximum_version = version
    return context


class TlsSmtp(RawSmtp):
    """RawSmtp under TLS: from the first byte where `implicit`, else after start_tls()."""

    def __init__(self, context, address="127.0.0.1", port=2525, implicit=False, host="relay.test", session=None, **more):
        super().__init__(address, port, **more)
        self._context, self._host, self._session = context, host, session
        if implicit:
            self.wrap()

    def start_tls(self):
        assert (reply := self.ask("STARTTLS")).startswith("220 2.0.0"), reply
        self.wrap()

    def wrap(self):
        self.socket = self._context.wrap_socket(self.socket, server_hostname=self._host, session=self._session)

    def secure_hello(self, name="client.test"):
        """Greeting, EHLO, STARTTLS, EHLO; the last one's reply."""
        self.hello(name)
        self.start_tls()
        return self.ask(f"EHLO {name}")


class SplitTls:
    """TLS whose bytes are in the test's hands, so that it can also write to the socket beneath. After the greeting."""

    def __init__(self, context, address="127.0.0.1", port=2525, host="relay.test", starttls=False):
        if starttls:
            clear = RawSmtp(address, port)
            clear.hello()
            assert clear.ask("STARTTLS").startswith("220")
            self.socket = clear.socket
        else:
            self.socket = socket.create_connection((address, port), timeout=10)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        self._step(self._tls.do_handshake)
        if not starttls:
            assert self.ask("").startswith("220")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _step(self, operation, *arguments):
        while True:
            try:
                return operation(*arguments)
            except ssl.SSLWantReadError:
                self._flush()
                received = self.socket.recv(65536)
                if not received:
                    raise EOFError
                self._in.write(received)
            finally:
                self._flush()

    def _flush(self):
        if pending := self._out.read():
            self.socket.sendall(pending)

    def ask(self, command):
        """One line out (none for ""), one reply in."""
        if command:
            self._step(self._tls.write, command.encode() + b"\r\n")
        reply = b""
        while not reply.endswith(b"\r\n") or reply.splitlines()[-1][3:4] == b"-":
            reply += self._step(self._tls.read, 65536)
        return reply.decode()

    def send(self, data):
        self._step(self._tls.write, data)

    def close_notify(self):
        """The end of TLS as the client says it, without waiting for the server's."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            pass
        self._flush()

    def ended_by_close_notify(self):
        """Waits for the end: whether TLS was ended before the connection (RFC 8446 section 6.1)."""
        try:
            return self._step(self._tls.read, 65536) == b""
        except ssl.SSLZeroReturnError:
            return True
        except (EOFError, ConnectionError):
            return False

    def rest_in_clear(self):
        """What the server sends on the socket until it closes, TLS records or not."""
        received = b""
        try:
            while more := self.socket.recv(65536):
                received += more
        except ConnectionError:
            pass
        return received


def s_client(address, *arguments, commands="EHLO client.test\nQUIT\n", keys=False, timeout=10):
    """Everything that openssl s_client says in a session with these SMTP commands, and its exit code.

    With `keys` a line that begins with R or Q is an order to s_client itself, e.g. to renegotiate.
    """
    done = subprocess.run(["openssl", "s_client", "-connect", address, "-crlf", *([] if keys else ["-ign_eof"]),
                           *arguments], input=commands, capture_output=True, text=True, errors="replace",
                          timeout=timeout)
    return done.stdout + done.stderr, done.returncode
