"""A real rbldnsd: blocklists whose entries a test can add and remove, answering with the code that public lists use.

Several zones are served by one process; each has a file. A zone carries the test entries of RFC 5782 unless it is dead.
"""

import os
import signal
import socket
import subprocess
import threading

from dnslib import DNSRecord, QTYPE, RCODE

from . import wait
from .dns_server import reverse

TEST_POINT = "127.0.0.2"


class Rbldnsd:
    def __init__(self, directory, address="127.0.4.1", zones=("bl.test",)):
        self.directory = str(directory)
        self.address = address
        self.zones = list(zones)
        self._listed = {zone: {} for zone in zones}
        self._dead = set()
        self._generation = 1_000_000_000
        self._lock = threading.Lock()
        self._process = None

    def start(self):
        os.makedirs(self.directory, exist_ok=True)
        os.chmod(self.directory, 0o755)
        for zone in self.zones:
            self._write(zone)
        command = ["/usr/sbin/rbldnsd", "-n", "-u", "rbldns", "-w", self.directory, "-b", f"{self.address}/53",
                   "-t", "1", "-c", "1"]
        command += [f"{zone}:ip4set:{zone}" for zone in self.zones]
        self._log = open(os.path.join(self.directory, "log"), "wb")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log)
        for zone in self.zones:
            wait.until(lambda: self.codes(TEST_POINT, zone) == ["127.0.0.2"], 10, f"rbldnsd serves {zone}")
        return self

    def stop(self):
        if self._process:
            self._process.terminate()
            self._process.wait(5)
            self._log.close()
            self._process = None

    # -- entries

    def list(self, *addresses, zone="bl.test", code="127.0.0.2", text="Listed for testing"):
        with self._lock:
            for address in addresses:
                self._listed[zone][address] = (code, text)
            self._publish(zone)
        for address in addresses:
            wait.until(lambda: self.codes(address, zone) == [code], 5, f"{zone} lists {address}")

    def delist(self, *addresses, zone="bl.test"):
        with self._lock:
            for address in addresses:
                self._listed[zone].pop(address, None)
            self._publish(zone)
        for address in addresses:
            wait.until(lambda: self.codes(address, zone) == [], 5, f"{zone} no longer lists {address}")

    def kill_zone(self, zone="bl.test"):
        """An emptied zone, as abandoned lists leave behind: nothing is listed, not even the test point."""
        with self._lock:
            self._dead.add(zone)
            self._publish(zone)
        wait.until(lambda: self.codes(TEST_POINT, zone) == [], 5, f"{zone} is empty")

    def revive_zone(self, zone="bl.test"):
        with self._lock:
            self._dead.discard(zone)
            self._publish(zone)
        wait.until(lambda: self.codes(TEST_POINT, zone) == ["127.0.0.2"], 5, f"{zone} has its test point again")

    def reset(self):
        for zone in self.zones:
            if zone in self._dead:
                self.revive_zone(zone)
            if self._listed[zone]:
                self.delist(*list(self._listed[zone]), zone=zone)

    def codes(self, address, zone="bl.test"):
        """What the server itself answers now for this address."""
        question = DNSRecord.question(f"{reverse(address)}.{zone}", "A")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(1)
            sock.connect((self.address, 53))
            sock.send(question.pack())
            reply = DNSRecord.parse(sock.recv(4096))
        assert reply.header.rcode in (RCODE.NOERROR, RCODE.NXDOMAIN), RCODE.get(reply.header.rcode)
        return sorted(str(answer.rdata) for answer in reply.rr if answer.rtype == QTYPE.A)

    # -- the zone file

    def _publish(self, zone):
        self._write(zone)
        self._process.send_signal(signal.SIGHUP)

    def _write(self, zone):
        path = os.path.join(self.directory, zone)
        lines = ["$SOA 0 ns.test root.test 0 60 60 60 0", "$NS 0 ns.test"]
        if zone not in self._dead:
            lines.append(f"{TEST_POINT} :127.0.0.2:Test entry")
            lines += [f"{address} :{code}:{text}" for address, (code, text) in sorted(self._listed[zone].items())]
        with open(path + ".new", "w") as file:
            file.write("\n".join(lines) + "\n")
        # rbldnsd recognises a change by size and by the time in whole seconds: two changes within one second could be
        # missed, so every version gets a time of its own.
        self._generation += 10
        os.utime(path + ".new", (self._generation, self._generation))
        os.rename(path + ".new", path)
