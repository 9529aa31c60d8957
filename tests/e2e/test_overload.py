"""More mail than can go out, or be written: memory and disk stay within what is configured, and bulk gives way first."""

import functools
import mmap
import os
import re
import smtplib
import subprocess
import threading
import time

import pytest

from support import wait
from support.disk import Disk
from support.egret import source
from support.listeners import listener
from support.mail import Refused, Submitter, letter, marker_of, send
from support.raw_smtp import RawSmtp, stuffed
from support.scripted_receiver import SILENT, ScriptedReceiver

BULK = 2526
CLASSES = {"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}}
POOLS = {"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"]}}
TWO = {"listeners": [listener(), listener(BULK, **{"class": "bulk"})], "classes": CLASSES, "pools": POOLS}
MB = 1 << 20
LINE = b"x" * 76 + b"\r\n"


def filled(size, marker=None):
    return letter(marker, body=LINE * (size // len(LINE)))


def pss(instance):
    with open(f"/proc/{instance.pid}/smaps_rollup") as file:
        return int(re.search(r"^Pss: *(\d+)", file.read(), re.M)[1]) << 10


class Highest:
    """The most memory that was seen while the block ran."""

    def __init__(self, instance):
        self._instance, self.octets, self._over = instance, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self._over.wait(0.05):
            self.octets = max(self.octets, pss(self._instance))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()


def push(port, length, sessions, recipient="user@slow.test"):
    """Postfix's smtp-source, as fast as it can until it is killed; a refusal is no reason for it to stop."""
    return subprocess.Popen(["/usr/sbin/smtp-source", "-A", "-m", "1000000", "-s", str(sessions), "-l", str(length),
                             "-f", "app@sender.test", "-t", recipient, f"127.0.0.1:{port}"],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def refusal_of(port, content=None, to="user@slow.test"):
    """None when it was taken."""
    with Submitter(port=port) as client:
        try:
            client.send(content or letter(), to)
            return None
        except Refused as refusal:
            return refusal


# -- memory


@functools.cache
def sanitized(binary):
    with open(binary, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"__asan_init") >= 0 or content.find(b"__tsan_init") >= 0


def bound(instance, base, cache, connections, connections_out, messages):
    """The formula of docs/reliability.md, for two workers: octets. Sanitizers have shadow memory and quarantines besides."""
    bodies = cache * 3 // 2 + connections * 192 * 1024 + connections_out * MB
    remembered = min(messages, 2 * 10_000) * 2048
    return base + (bodies + remembered + messages * 1024) * (4 if sanitized(instance.binary) else 1)


def test_memory_is_bounded_while_receivers_hang_and_clients_push(egret, receive_for):
    slow = receive_for("slow.test")
    slow.on("mail", lambda *_: SILENT)
    cache, connections = 8 * MB, 120
    instance = egret(**TWO, spool={"cache": "8M", "reserve": "16M"}, limits={"connections": connections},
                     delivery={"connections_per_site": 4}, log={"level": "warn"})
    base = pss(instance)
    with Highest(instance) as highest:
        clients = [push(2525, 3000, 10), push(2525, 900_000, 50), push(BULK, 900_000, 40), push(BULK, 5_000_000, 20)]
        time.sleep(6)  # the load, not a wait for anything
        for client in clients:
            client.kill()
            client.wait()
    waiting = instance.queue()["total"]
    print(f"base {base / MB:.0f} MB, highest {highest.octets / MB:.0f} MB, {waiting} wait")
    assert waiting > 100
    assert highest.octets < bound(instance, base, cache, connections, 2 * 4, waiting)


def many_recipients(port, local, domain, count=1000):
    """One message to many, each with an ORCPT, all commands in one piece; what was said to the final dot or to RCPT."""
    with RawSmtp(port=port, timeout=30) as client:
        client.hello()
        recipients = [f"RCPT TO:<{local}{n}@{domain}> ORCPT=rfc822;{'o' * 300}{n}@{domain}" for n in range(count)]
        client.send("\r\n".join(["MAIL FROM:<app@sender.test>", *recipients, "DATA"]))
        said = [client.reply() for _ in range(count + 2)]
        if not said[-1].startswith("354"):
            return said[-1]
        client.send(stuffed(letter()))
        refused = [reply for reply in said[1:-1] if not reply.startswith("250")]
        return refused[0] if refused else client.reply()


def test_recipients_count_as_memory_and_rest_on_disk_like_bodies(egret, receive_for, dns):
    slow = receive_for("slow.test")
    slow.on("mail", lambda *_: SILENT)
    messages = 150
    for number in range(messages):  # each a destination of its own, whose turn is near
        dns.host(f"mx{number}.many.test", slow.address)
        dns.mx(f"d{number}.test", (10, f"mx{number}.many.test"))
    instance = egret(spool={"cache": "4M", "reserve": "16M"}, limits={"connections": 20, "connections_out": 4}, log={"level": "warn"})
    base = pss(instance)
    with Highest(instance) as highest:
        for number in range(messages):
            assert many_recipients(2525, f"m{number}-", f"d{number}.test").startswith("250")
    # Nearly 100 MB of recipients; each message waits as ten jobs, for a receiver is told of a hundred at a time.
    print(f"base {base / MB:.0f} MB, highest {highest.octets / MB:.0f} MB")
    assert highest.octets < bound(instance, base, 4 * MB, 20, 4, messages * 10)


def connections_to(port):
    """Established ones in this network namespace, by their own addresses. The kernel's list is not of one moment."""
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file.readlines()[1:]]
    return {line[1] for line in lines if line[2].endswith(f":{port:04X}") and line[3] == "01"}


def test_connections_out_are_bounded_over_all_destinations(egret, receive_for):
    """Twelve destinations and two connections: each has its turn, and none waits for another's connection to have rested."""
    sites = [receive_for(f"d{number}.test") for number in range(12)]
    instance = egret(threads=1, limits={"connections_out": 2}, sources={"a": source("a")})
    begun, most, over = time.monotonic(), [0], threading.Event()

    def watch():
        before = set()
        while not over.wait(0.001):
            now = connections_to(25)
            most[0] = max(most[0], len(now & before))  # those were there between the two looks
            before = now

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    with Submitter() as submitter:
        for turn in range(30):
            for number in range(len(sites)):
                submitter.send(letter(f"{number}-{turn}"), f"user@d{number}.test")
    instance.until_queue_empty()
    over.set()
    watching.join()
    assert time.monotonic() - begun < 20
    assert all(len(receiver.messages) == 30 for receiver in sites)
    assert 0 < most[0] <= 2
    assert "destinations wait for a connection" in instance.log()
    metrics = instance.http("/metrics")[2]
    assert "\negret_connections_out_waiting 0" in metrics


ONE_SOURCE = {"threads": 1, "sources": {"a": source("a")}, "pools": {"transactional": {"sources": ["a"]}}}


def test_a_long_queue_makes_room_for_another_destination_also_with_few_messages_a_connection(egret, receive_for):
    long, other = receive_for("long.test"), receive_for("other.test")
    instance = egret(**ONE_SOURCE, limits={"connections_out": 1}, delivery={"messages_per_connection": 5})
    instance.api("/sources/a/drain", {})
    wait.until(lambda: instance.standing("a") == "drained", 10, "all is held")
    with Submitter() as submitter:
        for _ in range(300):
            submitter.send(letter(), "user@long.test")
        submitter.send(letter(), "user@other.test")
    wait.until(lambda: instance.queue()["held"] == 301, 10, "all of it")
    instance.api("/sources/a/resume", {})
    instance.until_queue_empty(30)
    (late,) = other.messages
    assert sum(message.time < late.time for message in long.messages) < 150


def test_a_destination_whose_connection_hangs_has_another_when_there_is_room(egret, receive_for):
    hanging, busy = receive_for("hanging.test"), receive_for("busy.test")
    go_on = threading.Event()
    hanging.on("dot", lambda *_: SILENT if len(hanging.offered) == 1 else None)
    busy.on("dot", lambda *_: go_on.wait(20) and None)
    instance = egret(**ONE_SOURCE, limits={"connections_out": 2})
    send(letter("first"), "user@hanging.test")
    send(letter(), "user@busy.test")
    wait.until(lambda: hanging.offered and busy.offered, 10, "both connections are busy")
    send(letter("second"), "user@hanging.test")
    wait.until(lambda: instance.queue()["total"] == 3, 5, "it waits behind the first")
    go_on.set()
    wait.until(lambda: hanging.with_marker("second"), 15, "the other's connection is over, and this one has its place")


def test_a_smarthost_at_a_low_rate_keeps_no_connection_that_others_need(egret, shop):
    upstream = ScriptedReceiver("127.0.5.1", 587, name="smtp.esp.test").start()
    try:
        instance = egret(**ONE_SOURCE | {"pools": {"transactional": {"sources": ["a"]},
                                                   "bulk": {"sources": [], "fallback": ["esp"], "when_exhausted": "fallback"}}},
                         listeners=[listener(), listener(BULK, **{"class": "bulk"})],
                         classes={"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk", "spill": True}},
                         smarthosts={"esp": {"address": f"{upstream.address}:587", "tls": "none", "rate": "1/s", "connections": 2}},
                         limits={"connections_out": 2})
        with Submitter(port=BULK) as submitter:
            for _ in range(40):
                submitter.send(letter())
        wait.until(lambda: len(upstream.messages) >= 2, 10, "the smarthost's mail goes at its rate")
        send(letter("direct"))
        wait.until(lambda: shop.with_marker("direct"), 5, "the other destination does not wait for it")
        assert len(upstream.messages) < 20
    finally:
        upstream.stop()


def test_with_all_connections_hanging_a_stop_is_in_time_and_a_higher_limit_helps_at_once(egret, receive_for, shop):
    hanging = [receive_for(f"h{number}.test") for number in range(2)]
    for receiver in hanging:
        receiver.on("mail", lambda *_: SILENT)
    instance = egret(threads=1, limits={"connections_out": 2}, sources={"a": source("a")})
    for number in range(2):
        send(letter(), f"user@h{number}.test")
    wait.until(lambda: all(receiver.sessions for receiver in hanging), 10, "both connections are taken")
    send(letter("waits"))
    wait.until(lambda: "\negret_connections_out_waiting 1" in instance.http("/metrics")[2], 5, "it waits for a connection")
    assert instance.queue()["by_site"]["mx.shop.test"] == 1
    instance.configure(threads=1, limits={"connections_out": 3}, sources={"a": source("a")})
    assert instance.command("reload").returncode == 0
    wait.until(lambda: shop.with_marker("waits"), 10, "there is one more")
    send(letter("kept"), "user@h0.test")
    instance.terminate()
    assert instance.ended(within=10) == 0


def stalled(port):
    """A client that ceases to send before the final dot of a body that stays in memory: in a crowd that is 64 KB at most."""
    client = RawSmtp(port=port, timeout=20)
    client.hello()
    client.envelope("app@sender.test", "user@shop.test")
    client.send(stuffed(filled(61_000))[:-5])
    client.pause_until_read()
    return client


def test_bodies_on_their_way_in_are_bounded_and_bulk_waits_before_transactional(egret, shop):
    """Slow syncs: what is complete waits in memory for its 250, and new messages are put off."""
    instance = egret(start=False, **TWO, spool={"cache": "1M", "reserve": "16M"})
    disk = Disk(instance)
    instance.start()
    disk.fail("sync delay=1500 segment-")
    waiting = []
    try:
        for _ in range(7):
            waiting.append(stalled(BULK))
        refusal = wait.until(lambda: refusal_of(BULK), 5, "bulk is put off")
        assert refusal.phase == "rcpt" and (refusal.code, refusal.text[:5]) == (452, "4.3.1"), refusal
        assert refusal_of(2525, to="user@shop.test") is None, "transactional mail still has room"
        for _ in range(2):
            waiting.append(stalled(2525))
        refusal = wait.until(lambda: refusal_of(2525), 5, "now that has to wait, too")
        assert refusal.phase == "mail" and (refusal.code, refusal.text[:5]) == (452, "4.3.1"), refusal
        disk.work()
        for client in waiting:
            client.send(b"\r\n.\r\n")
            assert client.reply().startswith("250")
        assert refusal_of(BULK, to="user@shop.test") is None
    finally:
        for client in waiting:
            client.close()
    instance.until_queue_empty()
    assert len(shop.messages) == 11
    assert "too much is coming in" in instance.log()


def test_clients_that_stall_while_memory_runs_out_are_ended(egret, shop):
    """One refusal, of bulk, is enough for the sessions of all workers."""
    instance = egret(**TWO, spool={"cache": "1M"})
    clients = [stalled(BULK) for _ in range(7)]
    assert refusal_of(BULK).code == 452
    for client in clients:
        assert client.reply().startswith("421 4.4.2")
        client.close()
    wait.until(lambda: refusal_of(BULK, to="user@shop.test") is None, 5, "there is room again")
    instance.until_queue_empty()


def test_what_receivers_say_is_remembered_in_part(egret, shop):
    instance = egret(delivery={"retry": ["100ms"]}, log={"level": "warn"})
    shop.on("rcpt", lambda *_: "\n".join(["451 4.3.0 " + "Later, " * 60] * 100))
    sent = send(letter())
    wait.until(lambda: len(instance.message(sent.id)["attempts"]) > 10, 15, "many attempts")
    wait.until(lambda: sum(len(session.refused) for session in shop.sessions) > 20, 15, "more than are kept")
    attempts = instance.message(sent.id)["attempts"]
    assert all(a["reply"].startswith("451-4.3.0 Later,") and a["reply"].endswith(" ...") for a in attempts)
    assert len(attempts) < 20 and sum(len(a["reply"]) for a in attempts) < 20_000


# -- disk


@pytest.fixture
def small_disk(egret, work):
    """small_disk(megabytes, **sections): an Egret whose data is on a file system of this size, and that one's free octets."""
    mounted = []

    def make(megabytes, **sections):
        instance = egret(start=False, **sections)
        os.makedirs(instance.data_dir, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "tmpfs", instance.data_dir], check=True)
        mounted.append(instance)
        instance.start()

        def free():
            info = os.statvfs(instance.data_dir)
            return info.f_bavail * info.f_frsize
        return instance, free

    yield make
    for instance in mounted:
        if instance.running:
            instance.stop()
        subprocess.run(["umount", instance.data_dir], check=True)


def fill_until_refused(port, free, lowest, to="user@slow.test"):
    """Sends 4 MB after 4 MB; the refusal."""
    with Submitter(port=port) as client:
        for _ in range(200):
            try:
                client.send(filled(4 * MB), to)
            except Refused as refusal:
                return refusal
            except (OSError, smtplib.SMTPException):  # in the middle of a large message the connection is closed
                return refusal_of(port)
            lowest.append(free())
    return None


def test_a_disk_that_runs_full_refuses_bulk_first_then_all_and_recovers_by_itself(small_disk, receive_for):
    slow = receive_for("slow.test")
    slow.on("mail", lambda *_: "451 4.3.0 Later")
    reserve = 80 * MB
    instance, free = small_disk(240, **TWO, spool={"reserve": "80M"}, delivery={"retry": ["1h"]}, log={"level": "info"})
    lowest = []
    bulk = fill_until_refused(BULK, free, lowest)
    assert bulk and bulk.text.startswith("4.3.1"), bulk
    assert reserve < free() < 2 * reserve
    wait.until(lambda: instance.events(kind="spool-low"), 5, "an event says so")
    assert "\negret_spool_low 1" in instance.http("/metrics")[2]
    for _ in range(2):
        refusal = refusal_of(BULK)
        assert refusal and refusal.phase == "rcpt" and refusal.code == 452, refusal
        assert refusal_of(2525) is None, "transactional mail still has room"
    transactional = fill_until_refused(2525, free, lowest)
    assert transactional and transactional.text.startswith("4.3.1"), transactional
    assert min(lowest) > 0 and free() > 0, "the disk became full"
    wait.until(lambda: instance.events(kind="spool-full"), 5, "an event says so")
    assert refusal_of(2525).code == 452

    slow.script.clear()
    instance.api("/queue/retry", {})
    wait.until(lambda: instance.queue()["total"] == 0, 30, "everything goes out")
    wait.until(lambda: refusal_of(BULK) is None, 10, "bulk is accepted again")
    wait.until(lambda: instance.events(kind="spool-ok"), 5, "an event says that, too")


def test_a_start_on_a_full_disk_delivers_what_waits(small_disk, receive_for):
    """What fills it need not be Egret's, and nobody may be there to make room."""
    slow = receive_for("slow.test")
    slow.on("mail", lambda *_: "451 4.3.0 Later")
    instance, free = small_disk(40, spool={"reserve": "4M"}, delivery={"retry": ["1h"]})
    markers = {f"m{number}" for number in range(50)}
    with Submitter() as submitter:
        for marker in markers:
            submitter.send(filled(4000, marker), "user@slow.test")
    instance.stop()
    filler = os.path.join(instance.data_dir, "filler")
    with open(filler, "wb") as file:
        file.write(b"x" * (free() - 400 * 1024))
    instance.start(ready=False)  # /readyz says that it takes no mail
    wait.until(lambda: refusal_of(2525).code == 452, 15, "it listens")
    slow.script.clear()
    instance.api("/queue/retry", {})
    instance.until_queue_empty()
    assert {marker_of(message.data) for message in slow.messages} == markers
    os.unlink(filler)
    wait.until(lambda: refusal_of(2525) is None, 10, "accepted again")
    instance.restart()
    instance.until_queue_empty()
    assert len(slow.messages) == len(markers) + 1, "the ends were recorded on the full disk"


# -- slow syncs


def test_where_a_header_may_say_more_no_class_is_put_off_early(egret, shop):
    """It would be the listener's, which is not for sure the message's."""
    instance = egret(start=False, **TWO, classify=[{"header": "X-Kind", "matches": "^now$", "class": "transactional"}],
                     spool={"cache": "1M", "reserve": "16M"})
    disk = Disk(instance)
    instance.start()
    disk.fail("sync delay=1500 segment-")
    waiting = [stalled(BULK) for _ in range(7)]
    try:
        assert refusal_of(BULK, to="user@shop.test") is None, "three quarters are taken"
        waiting += [stalled(BULK) for _ in range(2)]
        refusal = wait.until(lambda: refusal_of(2525), 5, "all is taken")
        assert refusal.phase == "mail" and (refusal.code, refusal.text[:5]) == (452, "4.3.1"), refusal
        disk.work()
    finally:
        for client in waiting:
            client.close()
    instance.until_queue_empty()


def test_with_slow_syncs_accepting_slows_to_group_commits(egret, shop):
    instance = egret(start=False, spool={"cache": "8M", "reserve": "16M"}, log={"level": "warn"})
    disk = Disk(instance)
    instance.start()
    base = pss(instance)
    disk.fail("sync delay=200 segment-")
    taken, lock, over = [], threading.Lock(), time.monotonic() + 4

    def client():
        with Submitter() as submitter:
            while time.monotonic() < over:
                begun = time.monotonic()
                submitter.send(filled(8000))
                with lock:
                    taken.append(time.monotonic() - begun)

    threads = [threading.Thread(target=client) for _ in range(30)]
    with Highest(instance) as highest:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    disk.work()
    taken.sort()
    p99 = taken[int(len(taken) * 0.99)]
    print(f"{len(taken)} messages, p50 {taken[len(taken) // 2] * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
          f"{(highest.octets - base) / MB:.0f} MB more")
    # A message waits for the sync under way and for its own one; all that wait share it.
    assert len(taken) >= 30 * 4 / 0.5 / 2
    assert taken[len(taken) // 2] > 0.19 and p99 < 1.5
    assert highest.octets < bound(instance, base, 8 * MB, 30, 40, len(taken))
    wait.until(lambda: len(shop.messages) == len(taken), 20, "all arrive")


# -- pass-through


def test_clients_that_wait_for_slow_receivers_leave_room_for_those_that_need_not(egret, shop, receive_for):
    slow = receive_for("slow.test")
    slow.on("dot", lambda *_: SILENT)
    passing = listener(accept="pass-through")
    instance = egret(listeners=[passing, listener(BULK)], limits={"connections": 40, "connections_per_client": 100},
                     sources={"a": source("a")})
    waiting = []
    try:
        for _ in range(30):
            client = RawSmtp()
            client.hello()
            client.envelope("app@sender.test", "user@slow.test")
            client.send(stuffed(letter()))
            waiting.append(client)
        with RawSmtp() as late:
            assert late.reply().startswith("421 4.3.2")
        marker = "queued"
        with Submitter(port=BULK) as submitter:
            submitter.send(letter(marker))
        wait.until(lambda: [m for m in shop.messages if marker_of(m.data) == marker], 10, "the queued one arrives")
        wait.until(lambda: len(slow.offered) == 20, 10, "all of its connections are taken")
        slow.script.clear()
        slow.stop()
        slow.start()
        assert all(client.reply()[:1] in "24" for client in waiting)
    finally:
        for client in waiting:
            client.close()
    with Submitter() as submitter:
        assert submitter.smtp.docmd("MAIL FROM:<app@sender.test>")[0] == 250
    assert instance.running
