"""egret spool verify, dump and salvage: a spool on disk, damaged and saved."""

import json
import os
import pathlib
import shutil

import pytest
from support import wait
from support.mail import letter, send

PATIENT = {"retry": ["1h"]}  # what was deferred is not tried again by itself
LINES = b"first\r\n.stuffed\r\n..twice\r\nlast\r\n"


@pytest.fixture
def stopped(egret, shop):
    """A stopped egret with three deferred messages, and their receipts."""
    shop.on("rcpt", lambda session, _: "451 4.3.0 Come back later")
    instance = egret(delivery=PATIENT)
    receipts = [send(letter(body=LINES)) for _ in range(3)]
    wait.until(lambda: {row["state"] for row in instance.api("/queue")["messages"]} == {"scheduled"}, 10, "all wait")
    instance.stop()
    shop.script.clear()
    return instance, receipts


def spool_of(instance):
    return pathlib.Path(instance.data_dir, "spool")


def first_segment(instance):
    return sorted(spool_of(instance).glob("segment-*.spool"))[0]


def flip(path, marker):
    """One bit of the record that holds `marker`."""
    octets = bytearray(path.read_bytes())
    at = octets.index(marker)
    octets[at] ^= 1
    path.write_bytes(octets)
    return at


def without_hints(instance):
    for hint in spool_of(instance).glob("*.hint"):
        hint.unlink()


def files_of(directory):
    return {path.name: path.read_bytes() for path in pathlib.Path(directory).iterdir() if path.name != "lock"}


def test_a_sound_spool_is_said_to_be_sound(stopped):
    instance, receipts = stopped
    done = instance.command("spool", "verify")
    assert done.returncode == 0 and "3 messages wait" in done.stdout and "sound" in done.stdout, done.stdout + done.stderr
    report = json.loads(instance.command("spool", "verify", "--json").stdout)
    assert report["sound"] and report["counts"]["waiting"] == 3 and report["counts"]["hints"] >= 1
    assert report["damage"] == report["lost"] == []


def test_dump_lists_what_waits_and_writes_a_message_as_it_was_sent(stopped):
    instance, receipts = stopped
    listed = [json.loads(line) for line in instance.command("spool", "dump", "--json").stdout.splitlines()]
    assert [row["id"] for row in listed] == [receipt.id for receipt in receipts]
    for row in listed:
        assert (row["state"], row["class"], row["attempts"]) == ("waiting", "transactional", 1)
        assert row["recipients"] and row["sender"] and row["size"] > 0
    assert receipts[0].id in instance.command("spool", "dump").stdout
    # As bytes: a person may feed it to another program.
    written = instance.command("spool", "dump", receipts[1].id).stdout
    assert written.replace("\r\n", "\n").endswith(LINES.decode().replace("\r\n", "\n")), "the dots of SMTP are off"
    unknown = instance.command("spool", "dump", "0000000000000")
    assert unknown.returncode == 1 and "no message" in unknown.stderr


def test_verify_names_the_damage_that_stops_the_start(stopped):
    instance, receipts = stopped
    without_hints(instance)
    flip(first_segment(instance), b".stuffed")
    code, said = instance.run_to_end()
    assert code == 2 and first_segment(instance).name + " at offset 32" in said and "nothing was changed" in said, said
    done = instance.command("spool", "verify")
    assert done.returncode == 1, done.stdout
    assert f"{first_segment(instance)} at offset 32" in done.stdout and f"LOST {receipts[0].id}" in done.stdout


def test_a_segment_that_was_removed_or_cut_is_missed(stopped):
    instance, _ = stopped
    segment = first_segment(instance)
    octets = segment.read_bytes()
    segment.unlink()
    code, said = instance.run_to_end()
    assert code == 2 and segment.name in said and "missing" in said
    segment.write_bytes(octets[:-8])
    code, said = instance.run_to_end()
    assert code == 2 and segment.name in said and "cut off" in said
    segment.write_bytes(octets)
    instance.start()
    assert instance.api("/queue")["total"] == 3


def test_salvage_saves_the_rest_into_a_new_spool_that_starts(stopped, shop):
    instance, receipts = stopped
    without_hints(instance)
    flip(first_segment(instance), b".stuffed")  # in the first message
    before = files_of(spool_of(instance))
    new = os.path.join(instance.directory, "saved")
    done = instance.command("spool", "salvage", new)
    assert done.returncode == 1 and "2 messages saved" in done.stdout, done.stdout + done.stderr
    assert f"LOST {receipts[0].id}" in done.stdout
    assert files_of(spool_of(instance)) == before, "the old one is not changed"
    assert instance.command("spool", "salvage", new).returncode == 1, "nothing is written over"
    shutil.move(spool_of(instance), os.path.join(instance.directory, "damaged"))
    shutil.move(new, spool_of(instance))
    instance.start()
    assert {row["id"] for row in instance.api("/queue")["messages"]} == {receipt.id for receipt in receipts[1:]}
    instance.api("/queue/retry", {"selector": "all"})
    wait.until(lambda: len(shop.messages) == 2, 15, "what was saved is delivered")


def test_hints_may_go_at_any_time(stopped):
    instance, _ = stopped
    hints = sorted(spool_of(instance).glob("*.hint"))
    assert hints
    hints[0].write_bytes(hints[0].read_bytes()[:-20])
    instance.start()
    assert instance.api("/queue")["total"] == 3
    instance.stop()
    without_hints(instance)
    instance.start()
    assert instance.api("/queue")["total"] == 3


def test_beside_a_running_egret_salvage_refuses_and_verify_warns(stopped):
    instance, _ = stopped
    instance.start()
    done = instance.command("spool", "verify")
    assert done.returncode == 0 and "running egret" in done.stderr, done.stdout + done.stderr
    assert "running egret" in instance.command("spool", "dump").stderr
    refused = instance.command("spool", "salvage", os.path.join(instance.directory, "saved"))
    assert refused.returncode == 1 and "in use" in refused.stderr
    assert instance.api("/queue")["total"] == 3
