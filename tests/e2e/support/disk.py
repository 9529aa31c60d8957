"""A disk that fails on request, and disks as a power cut leaves them: what tests/faults/layer.cpp does and wrote down."""

import os
import pathlib
import struct

LAYER = pathlib.Path(os.environ.get("EGRET_FAULT_LAYER", pathlib.Path(os.environ.get("EGRET_BINARY", "")).parent / "tests" / "libfault_layer.so"))
SECTOR = 512
_HEAD = struct.Struct("<QQQIIc7x")


class Disk:
    """Stands between one Egret and its data directory from its next start on."""

    def __init__(self, instance, journal=False):
        assert LAYER.exists(), f"no library at {LAYER}: build it, or set EGRET_FAULT_LAYER"
        self.root = instance.data_dir
        self.rules = pathlib.Path(instance.directory) / "rules"
        self.journal = pathlib.Path(instance.directory) / "journal"
        self.work()
        instance.environment.update(LD_PRELOAD=str(LAYER), FAULT_ROOT=self.root, FAULT_RULES=str(self.rules))
        if journal:
            instance.environment["FAULT_JOURNAL"] = str(self.journal)

    def fail(self, *rules):
        """From now on these calls fail: "write ENOSPC", "sync delay=3000", "open EMFILE segment-"."""
        new = self.rules.with_suffix(".new")
        new.write_text("".join(rule + "\n" for rule in rules))
        new.rename(self.rules)

    def work(self):
        """Everything works again."""
        self.fail()

    def operations(self):
        return read_journal(self.journal)


def read_journal(path):
    return _read(pathlib.Path(path).read_bytes())


class Operation:
    __slots__ = ("time", "file", "offset", "kind", "first", "second")

    def __init__(self, time, file, offset, kind, first, second):
        self.time, self.file, self.offset, self.kind, self.first, self.second = time, file, offset, kind, first, second

    @property
    def path(self):
        return self.first.decode()


def _read(data):
    out, at = [], 0
    while at + _HEAD.size <= len(data):
        time, file, offset, first, second, kind = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if at + first + second > len(data):
            break
        out.append(Operation(time / 1e9, file, offset, kind.decode(), data[at:at + first], data[at + first:at + first + second]))
        at += first + second
    return _same_numbers(out)


def _same_numbers(operations):
    """Gives files that a later process opened again the number that they had."""
    live, same = {}, {}
    for operation in operations:
        operation.file = same.get(operation.file, operation.file)
        if operation.kind == "O":
            live[operation.path] = operation.file
        elif operation.kind == "U":
            live.pop(operation.path, None)
        elif operation.kind == "R" and operation.path in live:
            live[operation.second.decode()] = live.pop(operation.path)
        elif operation.kind == "E":
            assert operation.path in live, f"{operation.path} was there before the journal began"
            same[operation.file] = live[operation.path]
    return operations


class _File:
    def __init__(self):
        self.size = 0
        self.parts = []

    def apply(self, operation, sectors=None):
        """sectors: which of a write's sectors reach the disk; None: all."""
        if operation.kind == "T":
            self.size = operation.offset
            cut = [(offset, data[:max(0, self.size - offset)]) for offset, data in self.parts]
            self.parts = [(offset, data) for offset, data in cut if data]
        elif operation.kind == "A":
            self.size = max(self.size, operation.offset)
        elif operation.kind == "W":
            start, data = operation.offset, operation.first
            self.size = max(self.size, start + len(data))
            if sectors is None:
                self.parts.append((start, data))
                return
            at = 0
            while at < len(data):
                end = min(len(data), ((start + at) // SECTOR + 1) * SECTOR - start)
                if sectors():
                    self.parts.append((start + at, data[at:end]))
                at = end

    def store(self, path):
        with open(path, "wb") as out:
            out.truncate(self.size)
            for offset, data in self.parts:
                out.seek(offset)
                out.write(data)


def after_power_cut(operations, root, directory, draw, keep):
    """Builds in `directory` what is left of `root` when the power fails after these operations.

    keep says what of the unsynced is on the disk all the same: "none", "all" or "some" (drawn with `draw`, sector by
    sector). Names are kept in order, as journalling file systems do.
    """
    def stays():
        return keep == "all" or (keep == "some" and draw.random() < 0.5)

    synced, listed = {}, {}
    for at, operation in enumerate(operations):
        if operation.kind == "S":
            synced[operation.file] = at
        elif operation.kind == "D":
            listed[operation.path] = at
    files, names = {}, {}
    lost_names = set()  # directories whose later changes of names did not reach the disk
    gone = set()  # directories that are not there, nor what lies in them
    for at, operation in enumerate(operations):
        if operation.kind in "WTA":
            file = files.setdefault(operation.file, _File())
            if at < synced.get(operation.file, -1):
                file.apply(operation)
            elif keep == "some" and operation.kind == "W":
                if draw.random() < 0.7:
                    file.apply(operation, sectors=lambda: draw.random() < 0.7)
            elif stays():
                file.apply(operation)
        elif operation.kind in "ORUM":
            parent = os.path.dirname(operation.path)
            if at > listed.get(parent, -1) and (parent in lost_names or not stays()):
                lost_names.add(parent)
                if operation.kind == "M":
                    gone.add(operation.path)
                continue
            if operation.kind == "M":
                continue  # made below, for what lies in it
            if operation.kind == "O":
                names[operation.path] = operation.file
            elif operation.kind == "U":
                names.pop(operation.path, None)
            elif operation.path in names:
                names[operation.second.decode()] = names.pop(operation.path)
    for path, number in names.items():
        if path.endswith("-shm"):  # SQLite's shared memory is mapped, and made anew after a crash
            continue
        if any(str(parent) in gone for parent in pathlib.Path(path).parents):
            continue
        target = pathlib.Path(directory) / os.path.relpath(path, root)
        target.parent.mkdir(parents=True, exist_ok=True)
        files.get(number, _File()).store(target)
