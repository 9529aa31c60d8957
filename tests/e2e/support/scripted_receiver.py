"""An SMTP receiver that answers as the test tells it to, and remembers everything it was told.

The script is a table of callbacks by phase: connect, ehlo, starttls, scram, auth, mail, rcpt, data, dot. A callback gets
the session (with the peer's address and what it has said so far) and the command's argument, and returns
  None            the ordinary answer,
  a text          this answer ("550 5.1.1 No such user"), several lines joined by newlines,
  close(text)     this answer, or none, and then the end of the connection,
  SILENT          nothing, ever: the receiver waits until the client gives up.
In the dot phase the message is recorded before the callback is asked, because a receiver that loses the connection
there has the message.
"""

import base64
import contextlib
import dataclasses
import socket
import ssl
import threading
import time

from . import sasl_server

SILENT = object()


@dataclasses.dataclass(frozen=True)
class _Close:
    text: str = ""


def close(text=""):
    return _Close(text)


@dataclasses.dataclass(frozen=True)
class Message:
    time: float
    peer: str
    hello: str
    tls: bool
    login: tuple
    sender: str
    recipients: tuple
    data: bytes          # unstuffed, with CR LF
    session: object = dataclasses.field(repr=False, default=None)
    accepted: bool = True


class _Ended(Exception):
    pass


class Session:
    """One connection: what it has said so far, for scripts, and afterwards for the tests."""

    def __init__(self, receiver, sock, peer):
        self.receiver = receiver
        self.socket = sock
        self.peer = peer
        self.hello = None
        self.tls = False
        self.server_name = None
        self.login = None
        self.sender = None
        self.recipients = []
        self.refused = []
        self.messages = 0
        self.commands = []
        self._buffer = b""

    # -- bytes

    def read_line(self):
        while b"\r\n" not in self._buffer:
            self._fill()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line

    def _read_data(self):
        while not (self._buffer.startswith(b".\r\n") or b"\r\n.\r\n" in self._buffer):
            self._fill()
        if self._buffer.startswith(b".\r\n"):
            data, self._buffer = b"", self._buffer[3:]
        else:
            data, self._buffer = self._buffer.split(b"\r\n.\r\n", 1)
            data += b"\r\n"
        return data[1:].replace(b"\r\n.", b"\r\n") if data.startswith(b".") else data.replace(b"\r\n.", b"\r\n")

    def _fill(self):
        more = self.socket.recv(262144)
        if not more:
            raise _Ended
        self._buffer += more

    def answer(self, text):
        lines = text.split("\n")
        wire = [f"{line[:3]}-{line[4:]}" for line in lines[:-1]] + [lines[-1]]
        self.socket.sendall("".join(line + "\r\n" for line in wire).encode())

    # -- phases

    def ask_script(self, phase, argument):
        """The scripted text, or None; raises _Ended where the script ends the session."""
        callback = self.receiver.script.get(phase)
        scripted = callback(self, argument) if callback else None
        if scripted is SILENT:
            self.socket.settimeout(None)
            while self.socket.recv(65536):
                pass
            raise _Ended
        if isinstance(scripted, _Close):
            if scripted.text:
                self.answer(scripted.text)
            raise _Ended
        return scripted

    def run(self):
        if self.receiver.implicit:
            self.socket, self.tls = self.receiver.tls.wrap_socket(self.socket, server_side=True), True
        greeting = self.ask_script("connect", "")
        self.answer(greeting or f"220 {self.receiver.name} ESMTP")
        # After a refusal in place of the greeting a server says 503 to everything but QUIT (RFC 5321, 3.1).
        turned_away = bool(greeting) and not greeting.startswith("220")
        while True:
            line = self.read_line()
            text = line.decode("utf-8", "replace")
            self.commands.append(text)
            verb, _, argument = text.partition(" ")
            verb = verb.upper()
            if verb == "QUIT":
                self.answer("221 2.0.0 Bye")
                raise _Ended
            if turned_away:
                self.answer("503 5.5.1 Error: access denied")
                continue
            handler = self._HANDLERS.get(verb)
            if handler:
                handler(self, argument)
            else:
                self.answer("500 5.5.2 Error: command not recognized")

    def _ehlo(self, argument):
        self.hello, self.sender = argument, None
        scripted = self.ask_script("ehlo", argument)
        if scripted:
            return self.answer(scripted)
        keywords = list(self.receiver.keywords)
        if self.receiver.tls and not self.tls:
            keywords.append("STARTTLS")
        if self.receiver.users and (self.tls or not self.receiver.tls):
            keywords.append("AUTH " + self.receiver.mechanisms)
        self.answer("\n".join("250 " + word for word in [self.receiver.name, *keywords]))

    def _helo(self, argument):
        self.hello, self.sender = argument, None
        self.answer(self.ask_script("ehlo", argument) or f"250 {self.receiver.name}")

    def _starttls(self, _):
        if not self.receiver.tls or self.tls:
            return self.answer("502 5.5.1 Error: command not implemented")
        scripted = self.ask_script("starttls", "")
        if scripted:
            return self.answer(scripted)
        self.answer("220 2.0.0 Ready to start TLS")
        # What was pipelined behind STARTTLS was said in clear and must not be read as if it were protected.
        self._buffer = b""
        self.socket = self.receiver.tls.wrap_socket(self.socket, server_side=True)
        self.tls, self.hello = True, None

    def _auth(self, argument):
        if not self.receiver.users:
            return self.answer("503 5.5.1 Error: authentication not enabled")
        if self.receiver.tls and not self.tls:
            # Recorded all the same: a test must see that a password was sent in clear.
            self.receiver.logins.append((self.peer, argument, "in clear"))
            return self.answer("530 5.7.0 Must issue a STARTTLS command first")
        mechanism, _, initial = argument.partition(" ")
        if mechanism.upper() == "PLAIN":
            token = base64.b64decode(initial or self.ask(b""))
            _, user, password = token.decode().split("\0")
        elif mechanism.upper() == "LOGIN":
            user = base64.b64decode(initial or self.ask(b"Username:")).decode()
            password = base64.b64decode(self.ask(b"Password:")).decode()
        elif mechanism.upper() in ("CRAM-MD5", "SCRAM-SHA-256"):
            return self._auth_by_proof(mechanism.upper(), initial)
        else:
            return self.answer("504 5.5.4 Mechanism not supported")
        self.receiver.logins.append((self.peer, user, password))
        scripted = self.ask_script("auth", user)
        if scripted:
            return self.answer(scripted)
        if self.receiver.users.get(user) != password:
            return self.answer("535 5.7.8 Error: authentication failed")
        self.login = (user, password)
        self.answer("235 2.7.0 Authentication successful")

    def _auth_by_proof(self, mechanism, initial):
        users = self.receiver.users
        try:
            user = (sasl_server.cram_md5(self, users) if mechanism == "CRAM-MD5" else
                    sasl_server.scram_sha_256(self, users, initial))
        except (sasl_server.Failed, ValueError, LookupError):
            return self.answer("535 5.7.8 Error: authentication failed")
        self.receiver.logins.append((self.peer, user, mechanism))
        self.login = (user, mechanism)
        self.answer("235 2.7.0 Authentication successful")

    def ask(self, prompt):
        """The client's answer to a challenge of AUTH, as it is on the wire."""
        self.answer("334 " + base64.b64encode(prompt).decode())
        return self.read_line()

    def _mail(self, argument):
        if self.receiver.users and not self.login:
            return self.answer("530 5.7.0 Authentication required")
        sender = _path(argument)
        scripted = self.ask_script("mail", sender)
        if scripted and not scripted.startswith("2"):
            return self.answer(scripted)
        self.sender, self.recipients = sender, []
        self.answer(scripted or "250 2.1.0 Ok")

    def _rcpt(self, argument):
        if self.sender is None:
            return self.answer("503 5.5.1 Error: need MAIL command")
        recipient = _path(argument)
        scripted = self.ask_script("rcpt", recipient)
        if scripted and not scripted.startswith("2"):
            self.refused.append(recipient)
            return self.answer(scripted)
        self.recipients.append(recipient)
        self.answer(scripted or "250 2.1.5 Ok")

    def _data(self, _):
        if self.sender is None or not self.recipients:
            return self.answer("554 5.5.1 Error: no valid recipients")
        scripted = self.ask_script("data", "")
        if scripted and not scripted.startswith("3"):
            self.sender = None
            return self.answer(scripted)
        self.answer(scripted or "354 End data with <CR><LF>.<CR><LF>")
        data = self._read_data()
        message = Message(time.monotonic(), self.peer, self.hello, self.tls, self.login, self.sender,
                          tuple(self.recipients), data, self)
        self.sender = None
        self.messages += 1
        self.receiver.offered.append(message)
        scripted = self.ask_script("dot", message)
        if scripted and not scripted.startswith("2"):
            return self.answer(scripted)
        self.receiver.messages.append(message)
        self.answer(scripted or "250 2.0.0 Ok: taken")

    def _rset(self, _):
        self.sender = None
        self.answer("250 2.0.0 Ok")

    def _noop(self, _):
        self.answer("250 2.0.0 Ok")

    _HANDLERS = {"EHLO": _ehlo, "HELO": _helo, "STARTTLS": _starttls, "AUTH": _auth, "MAIL": _mail, "RCPT": _rcpt,
                 "DATA": _data, "RSET": _rset, "NOOP": _noop}


def _path(argument):
    """The address in MAIL FROM:<...> or RCPT TO:<...>."""
    return argument.partition("<")[2].partition(">")[0]


class ScriptedReceiver:
    """offered: every message whose final dot arrived; messages: those that got 250."""

    SESSION = Session
    KEYWORDS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")

    def __init__(self, address, port=25, name="mx.test", tls=None, users=None, mechanisms="PLAIN LOGIN",
                 keywords=KEYWORDS, implicit=False):
        self.address = address
        self.port = port
        self.name = name
        self.tls = tls                  # an ssl.SSLContext: STARTTLS is offered
        self.implicit = implicit        # TLS from the first octet on, in place of STARTTLS
        self.users = users or {}        # {user: password}: AUTH is required, after STARTTLS where that is offered
        self.mechanisms = mechanisms
        self.keywords = keywords
        self.script = {}
        self.sessions = []
        self.messages = []
        self.offered = []
        self.logins = []
        self._listener = None

    def start(self):
        self._listener = socket.create_server((self.address, self.port), backlog=512)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self):
        if self._listener:
            # shutdown wakes the accepting thread; close alone would leave it with the descriptor.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for session in list(self.sessions):
            with contextlib.suppress(OSError):
                session.socket.shutdown(socket.SHUT_RDWR)

    def on(self, phase, callback):
        self.script[phase] = callback
        return self

    def _accept(self, listener):
        while True:
            try:
                sock, peer = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = self.SESSION(self, sock, peer[0])
            self.sessions.append(session)
            threading.Thread(target=self._serve, args=(session,), daemon=True).start()

    @staticmethod
    def _serve(session):
        try:
            session.run()
        except (_Ended, OSError, ssl.SSLError, ValueError):
            pass
        finally:
            with contextlib.suppress(OSError):
                session.socket.close()

    # -- what arrived

    def peers(self):
        """Which source delivered how many messages."""
        counts = {}
        for message in self.messages:
            counts[message.peer] = counts.get(message.peer, 0) + 1
        return counts

    def with_marker(self, marker):
        line = f"X-Marker: {marker}\r\n".encode()
        return [message for message in self.messages if line in message.data]

    def for_recipient(self, recipient):
        return [message for message in self.messages if recipient in message.recipients]
