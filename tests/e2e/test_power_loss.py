"""A power cut at any moment: what was not synced is gone, whole or in parts, and every 250 is kept all the same."""

import itertools
import os
import random

import pytest

from support.disk import Disk, after_power_cut
from support.mail import below_trace, marker_of
from support.traffic import Traffic

from test_durability import body_of

CUTS = int(os.environ.get("EGRET_POWER_CUTS", "6"))
SLACK = 1.0  # seconds after which a delivery is surely on the disk (spool::Options::lazy_sync is 50 ms)


@pytest.fixture
def history(egret, receive_for, dns):
    """Half a minute's life of a relay, written down: mail that is delivered, mail that waits, and a restart."""
    instance = egret(start=False, delivery={"retry": ["1h"]}, spool={"reserve": "16M"})
    disk = Disk(instance, journal=True)
    first = receive_for("shop.test")
    draw = random.Random(7)
    first.on("rcpt", lambda session, _: "450 4.2.1 later" if draw.random() < 0.4 else None)
    traffics = []
    for end in (instance.kill9, instance.stop):
        instance.start()
        with Traffic(threads=4, pause=0.002, body=body_of) as traffic:
            traffics.append(traffic)
            traffic.until_acknowledged(150)
        end()
    first.stop()
    return instance, disk.operations(), {s.marker: s for t in traffics for s in t.sent}, first


def delivered_before(receiver, moment):
    return {marker_of(message.data) for message in list(receiver.messages) if message.time < moment}


def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(egret, history, receive_for):
    recorded, operations, sent, first = history
    draw = random.Random(11)
    assert any(operation.kind == "S" for operation in operations)
    after = receive_for("shop.test")
    for number, keep in zip(range(CUTS), itertools.cycle(["none", "some", "all"])):
        at = draw.randrange(len(operations) // 20, len(operations))
        moment = operations[at - 1].time
        acknowledged = {m for m, s in sent.items() if s.acknowledged is not None and s.acknowledged < moment}
        instance = egret(start=False)
        os.makedirs(instance.data_dir)
        after_power_cut(operations[:at], recorded.data_dir, instance.data_dir, draw, keep)
        after.messages.clear()
        instance.start()
        instance.api("/queue/retry", {"selector": "class=transactional"})
        instance.until_queue_empty()
        instance.stop()
        arrived = {marker_of(m.data): m for m in after.messages}
        where = f"cut {number} after operation {at}, of the unsynced: {keep}"
        assert set(arrived) <= set(sent), f"{where}: a message that nobody sent"
        assert all(below_trace(m.data) == sent[k].content for k, m in arrived.items()), f"{where}: damaged"
        lost = acknowledged - set(arrived) - delivered_before(first, moment)
        assert not lost, f"{where}: {len(lost)} of {len(acknowledged)} acknowledged messages are lost"
        twice = set(arrived) & delivered_before(first, moment - SLACK)
        assert not twice, f"{where}: {len(twice)} messages delivered long before come again"
        assert len(arrived) == len(after.messages), f"{where}: one message twice"


def test_the_layer_shows_a_relay_that_does_not_sync(egret, history, receive_for):
    """The test above can fail: with its syncs taken out of the journal, the same history loses mail."""
    recorded, operations, sent, _ = history
    operations = [operation for operation in operations if operation.kind != "S" or operation.time < operations[0].time + 0.2]
    instance = egret(start=False)
    os.makedirs(instance.data_dir)
    after_power_cut(operations, recorded.data_dir, instance.data_dir, random.Random(3), "none")
    after = receive_for("shop.test")
    instance.start()
    instance.api("/queue/retry", {"selector": "class=transactional"})
    instance.until_queue_empty()
    waiting = {m for m, s in sent.items() if s.acknowledged is not None}
    assert len({marker_of(m.data) for m in after.messages}) < len(waiting) / 4
