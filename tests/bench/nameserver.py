"""The only name server of the bench: python3 nameserver.py ADDRESS PORT DOMAIN SINK_ADDRESS

X, being DOMAIN or any name below it, has the MX mx.X; every mx.X has the A record SINK_ADDRESS. All
else is NXDOMAIN (blocklists and PTR records among it) or, for names that exist, NODATA. Answers are
made at once and from nothing, so no figure contains a wait for DNS. UDP and TCP.
"""

import socket
import socketserver
import struct
import sys
import threading

A, SOA, MX = 1, 6, 15
NXDOMAIN, NOTIMP = 3, 4
TTL = 3600


def encode(name: str) -> bytes:
    return b"".join(bytes([len(l)]) + l.encode() for l in name.split(".") if l) + b"\0"


def question(packet: bytes):
    """(name, type, end of the question); ValueError where there is none to answer."""
    if len(packet) < 17 or struct.unpack_from("!H", packet, 4)[0] != 1:
        raise ValueError("not one question")
    labels, at = [], 12
    while packet[at]:
        if packet[at] & 0xC0:
            raise ValueError("compressed question")
        labels.append(packet[at + 1:at + 1 + packet[at]].decode("ascii", "replace").lower())
        at += 1 + packet[at]
    return ".".join(labels), struct.unpack_from("!H", packet, at + 1)[0], at + 5


def answer(packet: bytes, domain: str, sink: str) -> bytes | None:
    if len(packet) < 12 or packet[2] & 0x80:
        return None  # not a query; answering could make two servers talk for ever
    header, flags = packet[:2], 0x8480 | (packet[2] & 0x01) << 8  # QR, AA, RA; RD as it came
    try:
        name, kind, end = question(packet)
    except (ValueError, IndexError, struct.error):
        return header + struct.pack("!HHHHH", flags | NOTIMP, 0, 0, 0, 0)

    ours = name == domain or name.endswith("." + domain)
    exists = ours and not name.startswith("_")  # no TLSA, no _mta-sts, no DKIM keys
    record = b""
    if exists and kind == MX and not name.startswith("mx."):
        target = encode("mx." + name)
        record = struct.pack("!HHHIHH", 0xC00C, MX, 1, TTL, 2 + len(target), 10) + target
    elif exists and kind == A and name.startswith("mx."):
        record = struct.pack("!HHHIH", 0xC00C, A, 1, TTL, 4) + socket.inet_aton(sink)

    # A negative answer without a SOA may not be cached (RFC 2308), and would be asked again each time.
    authority = b""
    if not record:
        zone = encode(domain if ours else "")
        soa = encode("ns." + domain) + encode("hostmaster." + domain) + struct.pack("!IIIII", 1, TTL, TTL, TTL, TTL)
        authority = zone + struct.pack("!HHIH", SOA, 1, TTL, len(soa)) + soa
    code = 0 if exists else NXDOMAIN
    counts = struct.pack("!HHHHH", flags | code, 1, 1 if record else 0, 1 if authority else 0, 0)
    return header + counts + packet[12:end] + record + authority


def main():
    address, port, domain, sink = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]

    class Tcp(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.settimeout(10)
            with self.request.makefile("rwb") as stream:
                while len(size := stream.read(2)) == 2:
                    reply = answer(stream.read(struct.unpack("!H", size)[0]), domain, sink)
                    if reply is None:
                        return
                    stream.write(struct.pack("!H", len(reply)) + reply)
                    stream.flush()

    class TcpServer(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, port))
    tcp = TcpServer((address, port), Tcp)
    threading.Thread(target=tcp.serve_forever, daemon=True).start()
    print("ready", flush=True)
    while True:
        packet, peer = udp.recvfrom(4096)
        reply = answer(packet, domain, sink)
        if reply is not None:
            udp.sendto(reply, peer)


if __name__ == "__main__":
    main()
