"""The only DNS server that anything in the suite can reach: authoritative for every name, with behaviours to order.

A name without records is NXDOMAIN, a name with other records only is NODATA. TTLs are 0, so a change is seen at the
next question. The server stands on UDP and TCP; `log` holds every question in the order of arrival.
"""

import contextlib
import dataclasses
import socket
import socketserver
import struct
import threading
import time

from dnslib import (A, AAAA, CNAME, DNSHeader, DNSRecord, MX, PTR, QTYPE, RCODE, RR, SOA, TLSA, TXT)

SILENT = object()  # the behaviour of a server that never answers


@dataclasses.dataclass(frozen=True)
class Question:
    time: float
    name: str
    type: str
    transport: str
    answered: bool


def _normal(name):
    return str(name).rstrip(".").lower()


def reverse(address):
    """127.0.1.2 -> 2.1.0.127, the form in which blocklists and PTR zones are asked."""
    return ".".join(reversed(address.split(".")))


# Behaviours: functions of (server, request, transport) that return a reply, SILENT, or None for the ordinary answer.

def servfail(server, request, transport):
    return server.reply(request, rcode=RCODE.SERVFAIL)


def refused(server, request, transport):
    return server.reply(request, rcode=RCODE.REFUSED)


def nxdomain(server, request, transport):
    return server.reply(request, rcode=RCODE.NXDOMAIN)


def silent(server, request, transport):
    return SILENT


def truncated_over_udp(server, request, transport):
    """TC and no records over UDP; the ordinary answer over TCP."""
    if transport == "tcp":
        return None
    reply = server.reply(request)
    reply.header.tc = 1
    return reply


def always(*addresses):
    """Every A question gets these addresses, as a wildcarded zone would answer."""
    def behaviour(server, request, transport):
        reply = server.reply(request)
        if request.q.qtype == QTYPE.A:
            for address in addresses:
                reply.add_answer(RR(request.q.qname, QTYPE.A, ttl=0, rdata=A(address)))
        return reply
    return behaviour


def truth_over_tcp_only(*lies):
    """TC and these addresses over UDP, as if cut short; the ordinary answer over TCP."""
    def behaviour(server, request, transport):
        if transport == "tcp":
            return None
        reply = always(*lies)(server, request, transport)
        reply.header.tc = 1
        return reply
    return behaviour


def with_ttl(seconds):
    """The ordinary answer, good for so long: its records, and the SOA of a negative one."""
    def behaviour(server, request, transport):
        reply = server.ordinary_reply(request)
        for record in reply.rr:
            record.ttl = seconds
        for record in reply.auth:
            record.ttl = seconds
            if record.rtype == QTYPE.SOA:
                record.rdata.times = record.rdata.times[:4] + (seconds,)
        return reply
    return behaviour


def hostile_text(*addresses):
    """These A records; and a TXT of many kilobytes with line ends, terminal escapes and octets that are no UTF-8.

    It begins with the name that was asked for, as some lists' texts do.
    """
    def behaviour(server, request, transport):
        if request.q.qtype != QTYPE.TXT:
            return always(*addresses)(server, request, transport)
        if transport == "udp":
            reply = server.reply(request)
            reply.header.tc = 1
            return reply
        reply = server.reply(request)
        strings = [str(request.q.qname).encode() + b" \r\nInjected: yes\x1b[2J\xff\xfe"] + [b"x" * 255] * 230
        reply.add_answer(RR(request.q.qname, QTYPE.TXT, ttl=0, rdata=TXT(strings)))
        return reply
    return behaviour


def secure(server, request, transport):
    """The ordinary answer as a validating resolver gives it to a client that asks for its word (RFC 6840, section 5.7)."""
    reply = server.ordinary_reply(request)
    reply.header.ad = request.header.ad
    return reply


def insecure(server, request, transport):
    """The ordinary answer, where a zone above is secure."""
    return server.ordinary_reply(request)


class DnsServer:
    def __init__(self, address="127.0.0.53", port=53):
        self.address = address
        self.port = port
        self._lock = threading.Lock()
        self._records = {}
        self._behaviours = {}
        self._delegations = {}
        self._silenced = False
        self._log = []
        self._servers = []

    # -- life

    def start(self):
        owner = self

        class Udp(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                answer = owner._answer(data, "udp")
                if answer is not None:
                    sock.sendto(answer, self.client_address)

        class Tcp(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.settimeout(5)
                with contextlib.suppress(OSError, struct.error):
                    while True:
                        (length,) = struct.unpack("!H", _read_exactly(self.request, 2))
                        answer = owner._answer(_read_exactly(self.request, length), "tcp")
                        if answer is None:
                            return
                        self.request.sendall(struct.pack("!H", len(answer)) + answer)

        class UdpServer(socketserver.ThreadingUDPServer):
            daemon_threads = True
            allow_reuse_address = True

        class TcpServer(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

        for server in (UdpServer((self.address, self.port), Udp), TcpServer((self.address, self.port), Tcp)):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._servers.append(server)
        return self

    def stop(self):
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers.clear()

    def reset(self):
        with self._lock:
            self._records.clear()
            self._behaviours.clear()
            self._delegations.clear()
            self._silenced = False
            self._log.clear()

    # -- records

    def add(self, name, type, *rdatas):
        """Replaces the records of this type at this name."""
        with self._lock:
            self._records.setdefault(_normal(name), {})[type] = list(rdatas)

    def remove(self, name):
        with self._lock:
            self._records.pop(_normal(name), None)

    def a(self, name, *addresses):
        self.add(name, QTYPE.A, *[A(address) for address in addresses])

    def aaaa(self, name, *addresses):
        self.add(name, QTYPE.AAAA, *[AAAA(address) for address in addresses])

    def mx(self, domain, *hosts):
        """hosts: (preference, name) pairs; the name "." is a null MX."""
        self.add(domain, QTYPE.MX, *[MX(host, preference) for preference, host in hosts])

    def ptr(self, address, name):
        self.add(reverse(address) + ".in-addr.arpa", QTYPE.PTR, PTR(name))

    def txt(self, name, *texts):
        self.add(name, QTYPE.TXT, *[TXT(text) for text in texts])

    def tlsa(self, host, *records, port=25):
        """records: (usage, selector, matching, octets)."""
        self.add(f"_{port}._tcp.{host}", QTYPE.TLSA, *[TLSA(*record) for record in records])

    def cname(self, name, target):
        self.add(name, QTYPE.CNAME, CNAME(target))

    def host(self, name, address):
        """A name whose forward and reverse records agree."""
        self.a(name, address)
        self.ptr(address, name)

    # -- behaviours

    def behave(self, name, behaviour):
        """Applies to the name and everything below it; None ends it."""
        with self._lock:
            if behaviour is None:
                self._behaviours.pop(_normal(name), None)
            else:
                self._behaviours[_normal(name)] = behaviour

    def delegate(self, zone, address, port=53):
        """Questions in this zone are answered by another server, as a resolver would have it."""
        with self._lock:
            self._delegations[_normal(zone)] = (address, port)

    @contextlib.contextmanager
    def outage(self):
        """No answers at all while the block runs; questions are still logged."""
        self._silenced = True
        try:
            yield
        finally:
            self._silenced = False

    # -- the log

    def log(self, below="", type=None, since=0.0):
        """Questions for a name and everything below it."""
        suffix = _normal(below)
        with self._lock:
            questions = list(self._log)
        return [q for q in questions
                if q.time >= since
                and (type is None or q.type == type)
                and (not suffix or q.name == suffix or q.name.endswith("." + suffix))]

    def forget(self):
        """Empties the log, for runs of hours."""
        with self._lock:
            self._log.clear()

    # -- answering

    def reply(self, request, rcode=RCODE.NOERROR):
        reply = DNSRecord(DNSHeader(id=request.header.id, qr=1, aa=1, rd=request.header.rd, ra=1), q=request.q)
        reply.header.rcode = rcode
        return reply

    def _answer(self, data, transport):
        try:
            request = DNSRecord.parse(data)
        except Exception:  # dnslib raises several unrelated types for malformed packets; none deserves an answer
            return None
        name = _normal(request.q.qname)
        with self._lock:
            silenced = self._silenced
            behaviour = self._closest(self._behaviours, name)
            delegation = self._closest(self._delegations, name)
        answer = SILENT
        if not silenced:
            answer = behaviour(self, request, transport) if behaviour else None
            if answer is None and delegation:
                answer = self._forward(data, delegation)
            if answer is None:
                answer = self.ordinary_reply(request)
        type_name = QTYPE.get(request.q.qtype)
        with self._lock:
            self._log.append(Question(time.monotonic(), name, type_name, transport, answer is not SILENT))
        if answer is SILENT:
            return None
        if isinstance(answer, bytes):
            return answer
        packed = answer.pack()
        if transport == "udp" and len(packed) > 512:
            short = self.reply(request)
            short.header.tc = 1
            packed = short.pack()
        return packed

    @staticmethod
    def _closest(table, name):
        labels = name.split(".")
        for start in range(len(labels)):
            found = table.get(".".join(labels[start:]))
            if found is not None:
                return found
        return None

    def ordinary_reply(self, request):
        reply = self.reply(request)
        name, asked = _normal(request.q.qname), request.q.qtype
        for _ in range(8):  # a CNAME chain longer than this is a mistake of the test
            with self._lock:
                records = {kind: list(found) for kind, found in self._records.get(name, {}).items()}
                below = any(other.endswith("." + name) for other in self._records)
            if not records and not below:
                reply.header.rcode = RCODE.NXDOMAIN
            if QTYPE.CNAME in records and asked != QTYPE.CNAME:
                target = records[QTYPE.CNAME][0]
                reply.add_answer(RR(name, QTYPE.CNAME, ttl=0, rdata=target))
                name = _normal(target.label)
                continue
            for rdata in records.get(asked, []):
                reply.add_answer(RR(name, asked, ttl=0, rdata=rdata))
            break
        if not reply.rr or reply.header.rcode:
            # The SOA of a negative answer says how long it may be kept: not at all.
            reply.add_auth(RR("test", QTYPE.SOA, ttl=0, rdata=SOA("ns.test", "root.test", (1, 60, 60, 60, 0))))
        return reply

    def _forward(self, data, server):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
            upstream.settimeout(1)
            try:
                upstream.connect(server)
                upstream.send(data)
                return upstream.recv(4096)
            except OSError:
                return SILENT


def _read_exactly(sock, length):
    data = b""
    while len(data) < length:
        more = sock.recv(length - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data
