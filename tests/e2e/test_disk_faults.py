"""Disks that are full, fail or crawl, a process without descriptors or memory: the right answer, an alert, nothing lost."""

import resource
import smtplib
import threading
import time
import uuid

import pytest

from support import wait
from support.disk import Disk
from support.egret import source
from support.esmtp import submit
from support.mail import Refused, Submitter, below_trace, letter, marker_of, send
from support.scripted_receiver import ScriptedReceiver, close
from support.traffic import Sent, Traffic


@pytest.fixture
def relay(egret):
    """relay(**sections): an Egret between which and its data stands a Disk, and that."""
    def make(**sections):
        instance = egret(start=False, **sections)
        disk = Disk(instance)
        instance.start()
        return instance, disk
    return make


@pytest.fixture
def upstream():
    """A smarthost that wants neither TLS nor a login."""
    receiver = ScriptedReceiver("127.0.5.1", 587, name="smtp.esp.test").start()
    yield receiver
    receiver.stop()


def refused(content=None):
    with pytest.raises(Refused) as refusal:
        send(content or letter())
    return refusal.value


def kinds(instance):
    return [event["kind"] for event in instance.events()]


def all_arrive(receiver, traffic, timeout=30):
    sent = {entry.marker: entry for entry in traffic.sent}
    acknowledged = {marker for marker, entry in sent.items() if entry.acknowledged is not None}
    wait.until(lambda: acknowledged <= {marker_of(message.data) for message in list(receiver.messages)}, timeout,
               "everything acknowledged arrives")
    for message in list(receiver.messages):
        assert below_trace(message.data) == sent[marker_of(message.data)].content


BIG = b"x" * 76 + b"\r\n"


def fill_a_segment(times=15, taken=None):
    """More than a segment's worth of mail; None, or the refusal that it met. The markers of what was accepted go into `taken`."""
    with Submitter() as submitter:
        for _ in range(times):
            marker = uuid.uuid4().hex
            try:
                submitter.send(letter(marker, large_body(marker)))
            except Refused as refusal:
                return refusal
            except smtplib.SMTPServerDisconnected:  # in the middle of a message, and the answer lost behind the rest of it
                return fill_a_segment(1, taken)
            if taken is not None:
                taken.append(marker)
    return None


def large_body(marker):
    """5 MB that only this marker has."""
    line = (marker * 2).encode() + b"\r\n"
    return line * ((5 << 20) // len(line))


def these_arrived(receiver, markers):
    """Each of them, whole, and nothing else that is large."""
    assert {marker_of(message.data) for message in receiver.messages} >= set(markers)
    for message in receiver.messages:
        marker = marker_of(message.data)
        assert below_trace(message.data) == letter(marker, large_body(marker)), f"{marker} arrived damaged"


@pytest.mark.parametrize("rule", ["allocate ENOSPC", "allocate EDQUOT", "open EMFILE segment-", "open ENFILE segment-",
                                  "open ENFILE segments.new"])
def test_a_new_segment_that_cannot_be_made_is_452_until_it_can(relay, shop, rule):
    instance, disk = relay()
    disk.fail(rule)
    taken = []
    refusal = fill_a_segment(taken=taken)  # in the middle of a large message the connection is closed: no use in taking the rest
    assert refusal and refusal.code in (421, 452) and refusal.text.startswith("4.3.1"), refusal
    refusal = fill_a_segment(5, taken)
    assert refusal and refusal.code in (421, 452) and refusal.text.startswith("4.3.1"), refusal
    wait.until(lambda: "spool-full" in kinds(instance), 15, "an event says so")
    disk.work()
    wait.until(lambda: fill_a_segment(1, taken) is None, 30, "accepting again without a restart")
    wait.until(lambda: "spool-ok" in kinds(instance), 15, "an event says that, too")
    instance.until_queue_empty()
    these_arrived(shop, taken)


@pytest.mark.parametrize("rule", ["open EROFS segment-", "sync EIO /spool/segment-", "allocate EIO"])
def test_a_segment_that_cannot_be_made_for_the_disk_is_bad_is_421_and_a_restart_loses_nothing(relay, shop, rule):
    """No room can be waited for; a file system that the kernel made read-only cannot."""
    instance, disk = relay()
    shop.on("mail", lambda *_: "451 4.3.0 later")
    taken = []
    assert fill_a_segment(8, taken) is None
    disk.fail(rule)
    refusal = fill_a_segment(taken=taken)
    assert refusal and refusal.code == 421 and refusal.text.startswith("4.3.0"), refusal
    wait.until(lambda: "spool-broken" in kinds(instance), 5, "an event says so")
    assert instance.http("/readyz")[0] == 503
    disk.work()
    shop.script.clear()
    instance.restart()
    instance.api("/queue/retry", {})
    instance.until_queue_empty()
    these_arrived(shop, taken)


@pytest.mark.parametrize("rule", ["write ENOSPC segment-", "write EDQUOT segment-"])
@pytest.mark.parametrize("stops", [False, True])
def test_a_write_that_finds_no_room_is_made_when_there_is_some(relay, shop, rule, stops):
    """As on file systems that write elsewhere each time. Who was about to get his 250 waits; whoever comes later gets 452."""
    instance, disk = relay()
    with Traffic() as traffic:
        traffic.until_acknowledged(20)
        disk.fail(rule)
        wait.until(lambda: "spool-full" in kinds(instance), 10, "an event says so")
        refusal = refused()
        assert (refusal.phase, refusal.code, refusal.text[:5]) == ("mail", 452, "4.3.1"), refusal
        assert "no new ones begin" in instance.log()
        if stops:  # what could not be written is as if it had not been sent
            instance.stop()
        disk.work()
        if not stops:
            wait.until(lambda: "spool-ok" in kinds(instance), 10, "an event says that, too")
            traffic.until_acknowledged(20)
    if stops:
        instance.start()
    all_arrive(shop, traffic)
    instance.until_queue_empty()
    if not stops:
        assert all(refusal.code == 452 for refusal in traffic.refusals)
        assert len(traffic.acknowledged()) == len(traffic.sent) - len(traffic.refusals), "who had sent his dot got his 250"
        assert len(shop.messages) == len(traffic.acknowledged()), "a message was sent twice"


@pytest.mark.parametrize("restart", [False, True])
def test_on_a_full_disk_each_delivery_ends_once_and_its_report_is_kept(relay, shop, senders, restart):
    """The ends of deliveries, and bounces larger than all the room that is left, wait for the disk: also in front of a stop."""
    instance, disk = relay()
    answer = threading.Event()
    shop.on("dot", lambda *_: answer.wait(30) and "550 5.7.1 not wanted")
    disk.fail("allocate ENOSPC")
    markers = []
    with pytest.raises((AssertionError, Refused, OSError)):  # refused: the disk that was taken is used up
        for _ in range(20):
            marker = uuid.uuid4().hex
            submit(letter(marker, BIG * 12_000), "user@shop.test", mail="RET=FULL")
            markers.append(marker)
    assert len(markers) >= 4
    wait.until(lambda: "spool-full" in kinds(instance), 15, "an event says so")
    answer.set()
    wait.until(lambda: "cannot be recorded yet" in instance.log(), 15, "there is no room for the bounces")
    disk.work()
    if restart:
        instance.restart()
    wait.until(lambda: len(senders.messages) >= len(markers), 20, "each bounce arrives")
    instance.until_queue_empty()
    instance.restart()
    instance.until_queue_empty()
    assert sorted(marker_of(message.data) for message in shop.offered) == sorted(markers), "nothing was delivered again"
    returned = [marker_of(message.data[message.data.index(b"Content-Type: message/rfc822"):]) for message in senders.messages]
    assert sorted(returned) == sorted(markers)
    assert "could not be recorded" not in instance.log()


@pytest.mark.parametrize("rule", ["sync EIO segment-", "write EIO segment-"])
def test_a_failed_write_or_sync_is_421_and_a_restart_loses_nothing(relay, shop, rule):
    instance, disk = relay(delivery={"retry": ["300ms"]})
    with Traffic() as traffic:
        traffic.until_acknowledged(20)
        disk.fail(rule)
        wait.until(lambda: instance.http("/readyz")[0] == 503, 10, "not ready any more")
    refusal = refused()
    assert refusal.code == 421 and refusal.text.startswith("4.3.0"), refusal
    wait.until(lambda: "spool-broken" in kinds(instance), 5, "an event says so")
    disk.work()
    assert refused().code == 421, "a disk that failed a sync is not believed again"
    instance.restart()
    all_arrive(shop, traffic)


def test_nothing_is_delivered_whose_end_cannot_be_recorded(relay, shop):
    """With hundreds of messages ready, only those under way at the failure come again after the restart."""
    instance, disk = relay()
    gate = threading.Event()
    shop.on("dot", lambda *_: gate.wait(30) and None)
    markers = [f"m-{number}" for number in range(400)]
    with Submitter() as submitter:
        for marker in markers:
            submitter.send(letter(marker=marker))
    wait.until(lambda: instance.queue()["by_site"].get("mx.shop.test") == len(markers), 10, "all are ready")
    disk.fail("sync EIO segment-")
    assert refused().code == 421
    wait.until(lambda: "spool-broken" in kinds(instance), 5, "an event says so")
    gate.set()
    wait.until(lambda: not instance.api("/queue?state=active")["messages"], 10, "what was under way has ended")
    under_way = len(shop.offered)
    assert 0 < under_way <= 100  # two sources, twenty connections each, two messages on each
    disk.work()
    instance.restart()
    instance.until_queue_empty(30)
    assert {marker_of(message.data) for message in shop.offered} >= set(markers)
    assert len(shop.offered) <= len(markers) + 1 + under_way


@pytest.mark.parametrize("rule", ["rename EIO segments", "write ENOSPC segments.new", "sync EIO segments.new"])
def test_a_list_of_segments_that_cannot_be_replaced_stops_no_mail_and_is_said(relay, shop, rule):
    instance, disk = relay()
    disk.fail(rule)
    taken = []
    with Traffic() as traffic:
        traffic.until_acknowledged(20)
        assert fill_a_segment(taken=taken) is None
        wait.until(lambda: "the list of segments cannot be written" in instance.log(), 5, "it is said")
        assert instance.log().count("the list of segments cannot be written") == 1
        disk.work()
        wait.until(lambda: "the list of segments is written again" in instance.log(), 10, "without a restart")
    instance.until_queue_empty()
    instance.restart()
    send(letter())
    instance.until_queue_empty()
    arrived = {marker_of(message.data) for message in shop.messages}
    assert {e.marker for e in traffic.sent if e.acknowledged} | set(taken) <= arrived


def test_a_segment_that_cannot_be_read_stops_the_start_and_a_hint_that_cannot_does_not(relay, shop):
    instance, disk = relay()
    send(letter())
    instance.until_queue_empty()
    instance.stop()
    disk.fail("read EIO .spool")
    code, said = instance.run_to_end()
    assert code == 2 and "segment-" in said and "at offset 0: cannot be read" in said, (code, said)
    disk.fail("read EIO .hint")
    instance.start()
    send(letter())
    instance.until_queue_empty()


def test_short_writes_are_finished(relay, shop):
    instance, disk = relay()
    disk.fail("write short segment-")
    with Traffic() as traffic:
        traffic.until_acknowledged(50)
    all_arrive(shop, traffic)
    disk.work()
    instance.restart()
    instance.until_queue_empty()


def test_a_sync_of_five_seconds_delays_its_250_and_nothing_else(relay, shop):
    instance, disk = relay()
    disk.fail("sync delay=5000 segment-")
    with Traffic(threads=4, pause=0.5) as traffic:
        wait.until(lambda: traffic.sent, 5, "something is on its way")
        wait.until(lambda: "spool-slow" in kinds(instance), 5, "an event says so while the sync is still under way")
        assert not traffic.acknowledged(), "a 250 came before its sync was over"
        disk.work()
        traffic.until_acknowledged(8)
        assert instance.http("/healthz")[0] == 200
        assert 'egret_spool_sync_seconds_bucket{le="+Inf"}' in instance.http("/metrics")[2]
    longest = max(entry.acknowledged - entry.started for entry in traffic.acknowledged())
    assert 4.5 < longest < 8
    all_arrive(shop, traffic)


def test_without_descriptors_for_clients_egret_goes_on_when_there_are_some(relay, shop):
    instance, disk = relay()
    disk.fail("accept EMFILE")
    with pytest.raises(OSError):
        with Submitter(timeout=1) as submitter:
            submitter.send(letter())
    disk.work()
    wait.until(lambda: send(letter()) is not None, 10, "accepted again")


def test_without_descriptors_for_connections_out_mail_waits_and_blames_nobody(relay, shop):
    instance, disk = relay(delivery={"retry": ["300ms"]})
    disk.fail("socket EMFILE")
    sent = send(letter())
    wait.until(lambda: instance.message(sent.id)["attempts"], 10, "an attempt fails")
    assert not shop.messages and instance.standing("a") == instance.standing("b")
    assert "blocked" not in kinds(instance) and "misconfigured" not in kinds(instance)
    disk.work()
    instance.until_queue_empty()
    assert len(shop.messages) == 1


def test_without_descriptors_for_connections_out_no_smarthost_rests(relay, shop, upstream):
    upstream.on("dot", lambda *_: close("250 2.0.0 taken"))
    instance, disk = relay(delivery={"retry": ["300ms"]}, sources={"a": source("a")},
                           smarthosts={"esp": {"address": f"{upstream.address}:587", "tls": "none"}},
                           pools={"transactional": {"fallback": ["esp"]}})
    send(letter())  # after which the destination is known, and no connection is left
    instance.until_queue_empty()
    disk.fail("socket EMFILE")
    ids = [send(letter()).id for _ in range(3)]
    wait.until(lambda: all(instance.message(id)["attempts"] for id in ids), 10, "an attempt fails for each")
    assert "smarthost-rests" not in kinds(instance)
    assert {attempt["outcome"] for id in ids for attempt in instance.message(id)["attempts"]} == {"deferred"}
    disk.work()
    instance.until_queue_empty()
    assert len(upstream.offered) == 4


def test_a_message_that_cannot_be_read_waits_and_no_smarthost_rests(relay, shop, upstream):
    instance, disk = relay(delivery={"retry": ["300ms"]}, sources={"a": source("a")},
                           smarthosts={"esp": {"address": f"{upstream.address}:587", "tls": "none"}},
                           pools={"transactional": {"fallback": ["esp"]}})
    disk.fail("read EIO segment-")
    large = letter(body=BIG * 40_000)
    id = send(large).id
    wait.until(lambda: instance.message(id)["attempts"], 10, "it is tried in vain")
    assert {attempt["outcome"] for attempt in instance.message(id)["attempts"]} == {"deferred"}
    assert "smarthost-rests" not in kinds(instance)
    disk.work()
    wait.until(lambda: instance.api("/queue/retry", {"selector": f"id={id}"})["changed"], 10, "it waits for minutes, and need not")
    instance.until_queue_empty()
    (message,) = upstream.messages
    assert below_trace(message.data) == large


def test_out_of_memory_ends_the_program_and_a_restart_loses_nothing(egret, shop):
    instance = egret(delivery={"retry": ["300ms"]})
    with Traffic() as traffic:
        traffic.until_acknowledged(20)
        status = dict(line.split(":", 1) for line in open(f"/proc/{instance.pid}/status") if ":" in line)
        limit = int(status["VmSize"].split()[0]) * 1024 + (1 << 20)
        resource.prlimit(instance.pid, resource.RLIMIT_AS, (limit, limit))

        def push():
            marker = uuid.uuid4().hex
            entry = Sent(marker, letter(marker, BIG * 12_000), time.monotonic())
            traffic.sent.append(entry)
            try:
                with Submitter() as submitter:
                    submitter.send(entry.content)
                entry.acknowledged = time.monotonic()
            except (OSError, smtplib.SMTPException, Refused):
                pass

        pushing = [threading.Thread(target=push) for _ in range(60)]
        for thread in pushing:
            thread.start()
        for thread in pushing:
            thread.join(30)
        assert instance.ended() == 3
    assert "out of memory" in instance.log()
    instance.start()
    all_arrive(shop, traffic)


def test_a_state_file_that_cannot_be_written_stops_no_mail(relay, shop):
    instance, disk = relay()
    disk.fail("write EIO state.db", "sync EIO state.db")
    with Traffic() as traffic:
        traffic.until_acknowledged(20)
    all_arrive(shop, traffic)
    instance.until_queue_empty()
    disk.work()
    instance.restart()
    send(letter())
    instance.until_queue_empty()
