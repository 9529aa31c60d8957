"""A power cut in the life of a spool with tiny segments (tests/faults/spool_life.cpp): segments are begun, carried forward and
unlinked all the time, which test_power_loss.py with a relay's segments of 64 MB never sees."""

import collections
import itertools
import os
import pathlib
import random
import subprocess
import types

import pytest

from support.disk import LAYER, after_power_cut, read_journal

CUTS = int(os.environ.get("EGRET_POWER_CUTS", "6")) * 10
CUTS_OF_A_LIFE = 60
SLACK = 0.5  # seconds after which what was handed in is surely on the disk (lazy_sync is 5 ms there)
PROGRAM = LAYER.parent / "spool_life"


class Refused(Exception):
    """The spool does not start."""


class Lives:
    """Three lives of one spool, the operations on its disk, and what was promised when."""

    def __init__(self, directory, seed):
        self.root, self.log, journal = directory / "data", directory / "log", directory / "journal"
        self.root.mkdir()
        layer = dict(os.environ, LD_PRELOAD=str(LAYER), FAULT_ROOT=str(self.root), FAULT_JOURNAL=str(journal))
        for number, end in enumerate(("kill", "stop", "kill")):
            subprocess.run([PROGRAM, "live", self.root / "spool", self.log, str(seed + number), "3", end], env=layer, check=True,
                           timeout=60)
        self.operations = read_journal(journal)
        self.promises = [(int(time) / 1e9, what, int(number), [int(index) for index in rest])
                         for time, what, number, *rest in map(str.split, self.log.read_text().splitlines())]

    def at(self, moment):
        """What had been said before it: begun, stored, done and served at all, and done and served for longer than SLACK."""
        said = types.SimpleNamespace(begun=set(), stored=set(), done=set(), long_done=set(), served=collections.defaultdict(set),
                                     long_served=collections.defaultdict(set))
        for time, what, number, rest in self.promises:
            if time >= moment:
                break
            if what in ("begun", "stored"):
                getattr(said, what).add(number)
                continue
            if what == "done":
                said.done.add(number)
            said.served[number].update(rest)
            if time < moment - SLACK:
                said.long_served[number].update(rest)
                if what == "done":
                    said.long_done.add(number)
        return said


@pytest.fixture(scope="module")
def lives(tmp_path_factory):
    """lives(seed): made when it is first asked for."""
    known = {}

    def get(seed):
        if seed not in known:
            known.clear()  # a journal takes some 20 MB
            known[seed] = Lives(tmp_path_factory.mktemp(f"lives-{seed}"), seed)
        return known[seed]
    return get


def after(operations, life, directory, draw, keep):
    """What a start finds on the disk that is left: {message: pending recipients}, and whose bodies are wrong."""
    after_power_cut(operations, str(life.root), directory, draw, keep)
    (directory / "spool").mkdir(parents=True, exist_ok=True)
    said = subprocess.run([PROGRAM, "check", directory / "spool"], capture_output=True, text=True, timeout=60)
    if said.returncode == 1:
        raise Refused(said.stderr)
    assert said.returncode == 0, said
    lines = [line.split() for line in said.stdout.splitlines()]
    found = {int(number): {int(index) for index in rest} for what, number, *rest in lines if what == "waits"}
    return found, [number for what, number, *_ in lines if what == "bad"]


def test_a_life_has_all_that_a_spool_does(lives):
    """Else the cuts would show nothing."""
    kinds = collections.Counter(operation.kind for operation in lives(1).operations)
    segments = {operation.path for operation in lives(1).operations if operation.kind == "O" and operation.path.endswith(".spool")}
    unlinked = [operation for operation in lives(1).operations if operation.kind == "U" and operation.path.endswith(".spool")]
    assert len(segments) > 20 and len(unlinked) > 10 and kinds["D"] > 20 and kinds["A"] > 100, (len(segments), len(unlinked), kinds)


def test_a_power_cut_at_any_moment_of_a_small_spool_loses_nothing(lives, tmp_path):
    draw = random.Random(5)
    for number, keep in zip(range(CUTS), itertools.cycle(["none", "some", "all"])):
        life = lives(1 + 10 * (number // CUTS_OF_A_LIFE))
        at = draw.randrange(1, len(life.operations))
        said = life.at(life.operations[at - 1].time)
        found, bad = after(life.operations[:at], life, tmp_path / str(number), draw, keep)
        where = f"cut {number} after operation {at}, of the unsynced: {keep}"
        assert not bad, f"{where}: damaged {bad}"
        assert set(found) <= said.begun, f"{where}: a message that nobody sent"
        lost = said.stored - said.done - set(found)
        assert not lost, f"{where}: {len(lost)} of {len(said.stored)} acknowledged messages are lost"
        assert not said.long_done & set(found), f"{where}: what ended long before waits again"
        for message, pending in found.items():
            recipients = set(range(1 + message % 3))
            assert not pending & said.long_served[message], f"{where}: {message} goes again to whom it was delivered long before"
            if message in said.stored:
                assert pending >= recipients - said.served[message], f"{where}: {message} forgets a recipient"


@pytest.mark.parametrize("kind", ["S", "D"])
def test_the_layer_shows_a_spool_that_does_not_sync(lives, tmp_path, kind):
    """The test above can fail: with the syncs of its files, or of its directory, taken out from the middle on, the same life loses
    mail, or the start says which segment is missing."""
    life, draw = lives(1), random.Random(9)
    spool, middle = str(life.root / "spool"), len(life.operations) // 2
    failures = 0
    for number in range(10):
        at = draw.randrange(middle + len(life.operations) // 4, len(life.operations))
        said = life.at(life.operations[at - 1].time)
        operations = [operation for index, operation in enumerate(life.operations[:at])
                      if index < middle or operation.kind != kind or (kind == "D" and operation.path != spool)]
        try:
            found, _ = after(operations, life, tmp_path / str(number), draw, "none")
            failures += bool(said.stored - said.done - set(found))
        except Refused as refused:
            assert "segment" in str(refused), refused
            failures += 1
    assert failures == 10
