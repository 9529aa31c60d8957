"""Proxies through which a source's address is reached: SOCKS5 (RFC 1928, 1929), and a hop that is told in a PROXY header
(version 2) from where it is to connect."""

import contextlib
import dataclasses
import ipaddress
import socket
import struct
import threading


class _Refused(Exception):
    pass


@dataclasses.dataclass(frozen=True)
class Hop:
    """One connection as the proxy was asked for it."""
    source: str      # from which it went out
    destination: str
    port: int
    user: str = ""


class _Proxy:
    def __init__(self, address, port):
        self.address, self.port = address, port
        self.connections = 0
        self.hops = []
        self._listener = None
        self._open = []

    def start(self):
        self._listener = socket.create_server((self.address, self.port), backlog=64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self):
        if not self._listener:
            return
        for sock in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = None

    def _accept(self, listener):
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError, EOFError, _Refused, struct.error):
            with self._tunnel(client) as server:
                self._open.append(server)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join(5)

    def _tunnel(self, client):
        """Talks to the client until the connection stands, and returns the far end."""
        raise NotImplementedError

    def _connect(self, source, destination, port, user=""):
        self.hops.append(Hop(source, destination, port, user))
        return socket.create_connection((destination, port), timeout=5, source_address=(source, 0))


def _pump(one, other):
    with contextlib.suppress(OSError):
        one.settimeout(None)
        while data := one.recv(65536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def _exactly(sock, length):
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


class Socks5(_Proxy):
    """Sends from `egress`. users: {name: password}, required when there are any; reply: a code in place of connecting."""

    def __init__(self, address, egress, port=1080, users=None):
        super().__init__(address, port)
        self.egress = egress
        self.users = users or {}
        self.reply = None
        self.logins = []

    def _tunnel(self, client):
        user = self._method(client)
        version, command, _, kind = _exactly(client, 4)
        if (version, command) != (5, 1):
            raise _Refused
        if kind == 1:
            destination = str(ipaddress.IPv4Address(_exactly(client, 4)))
        elif kind == 4:
            destination = str(ipaddress.IPv6Address(_exactly(client, 16)))
        else:
            destination = _exactly(client, _exactly(client, 1)[0]).decode()
        (port,) = struct.unpack("!H", _exactly(client, 2))
        if self.reply is not None:
            self.hops.append(Hop(self.egress, destination, port, user))
            self._answer(client, self.reply)
        try:
            server = self._connect(self.egress, destination, port, user)
        except ConnectionRefusedError:
            self._answer(client, 5)
        except OSError:
            self._answer(client, 4)
        self._answer(client, 0)
        return server

    def _method(self, client):
        version, count = _exactly(client, 2)
        offered = _exactly(client, count)
        wanted = 2 if self.users else 0
        if version != 5 or wanted not in offered:
            client.sendall(b"\x05\xff")
            raise _Refused
        client.sendall(bytes([5, wanted]))
        if not self.users:
            return ""
        _exactly(client, 1)
        user = _exactly(client, _exactly(client, 1)[0]).decode()
        password = _exactly(client, _exactly(client, 1)[0]).decode()
        self.logins.append((user, password))
        right = self.users.get(user) == password
        client.sendall(b"\x01\x00" if right else b"\x01\x01")
        if not right:
            raise _Refused
        return user

    @staticmethod
    def _answer(client, code):
        client.sendall(bytes([5, code, 0, 1, 0, 0, 0, 0, 0, 0]))
        if code:
            raise _Refused


class ProxyHop(_Proxy):
    """What `haproxy://` names: it takes a PROXY header of version 2 and connects as that says."""

    SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

    def __init__(self, address, port=8125):
        super().__init__(address, port)
        self.headers = []  # each as (version and command, family and protocol)

    def _tunnel(self, client):
        assert _exactly(client, 12) == self.SIGNATURE, "no PROXY header of version 2"
        command, family, length = struct.unpack("!BBH", _exactly(client, 4))
        addresses = _exactly(client, length)
        self.headers.append((command, family))
        assert (command, family) == (0x21, 0x11), "not PROXY over TCP and IPv4"
        source, destination, _, port = struct.unpack("!4s4sHH", addresses[:12])
        return self._connect(socket.inet_ntoa(source), socket.inet_ntoa(destination), port)
