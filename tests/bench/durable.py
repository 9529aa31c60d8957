"""Is a message on the disk before its client is told so? Asked of the system calls, not of the relay.

The relay runs under strace. Every message carries a token in its first header line and another in its last
body line, and the client notes which `queued as ID` answered which message. For each message the trace
must show, in this order:

  1. a write to a file (not a socket) whose data contain the first token, and one with the last token,
     both *finished*;
  2. an fsync or fdatasync of that same file *begun* after both and *finished* with 0
     (a write to a file opened with O_DSYNC or O_SYNC, or made with RWF_DSYNC or RWF_SYNC, is its own sync);
  3. only then the *beginning* of the first write to a socket that contains `queued as ID`.

strace stops a thread at the beginning and at the end of each call and writes both down in the order in
which it saw them, so a line's place in the trace is its time.

What it cannot see counts as not proven, never as proven: data that reach the disk by mmap or io_uring
have no write in the trace, and the message is reported. Two things are beyond it. A commit record that is
written *after* the last body byte carries no token, so a sync between the two would pass. And what the
disk does with a finished sync is the disk's word.
"""

import re
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass, field

WRITES = ("write", "writev", "pwrite64", "pwritev", "pwritev2")
SENDS = WRITES + ("sendto", "sendmsg", "sendmmsg")
SYNCS = ("fsync", "fdatasync")
TRACED = (*SENDS, *SYNCS, "openat", "open", "io_uring_setup")

_ENTRY = re.compile(r"(\d+)\s+(\w+)\(")
_RESUMED = re.compile(r"(\d+)\s+<\.\.\. (\w+) resumed>")
_RESULT = re.compile(r"\)?\s+= (-?\d+)(?:<[^>]*>)?(?: \w+ \([^)]*\))?\s*$")
_TARGET = re.compile(r"(\d+)<((?:\\.|[^>\\])*)>")
_TOKEN = re.compile(r"benchtoken(\d+)([az])")
_QUEUED = re.compile(r"queued as ([^\s;,\\\"]+)")
UNFINISHED = "<unfinished ...>"


@dataclass
class Call:
    name: str
    args: str
    entry: int
    exit: int
    ok: bool


def strace_command(output, calls=TRACED):
    # -s: whole buffers, or a token in the middle of a big batch would be lost. --seccomp-bpf: all
    # other calls run at full speed.
    return ["strace", "-f", "--seccomp-bpf", "-y", "-s", "16777216", "-e", "trace=" + ",".join(calls),
            "-e", "signal=none", "-o", output]


def calls(lines):
    """System calls of a trace; those that never finished have ok = False and exit = infinity."""
    pending = {}
    for at, line in enumerate(lines):
        line = line.rstrip("\n")
        if m := _RESUMED.match(line):
            begun = pending.pop(m[1], None)
            if begun:
                result = _RESULT.search(line[-400:])
                yield Call(begun[0], begun[1] + line[m.end():], begun[2], at, bool(result) and int(result[1]) >= 0)
        elif m := _ENTRY.match(line):
            if line.endswith(UNFINISHED):
                pending[m[1]] = (m[2], line[m.end():-len(UNFINISHED)], at)
            else:
                result = _RESULT.search(line[-400:])
                yield Call(m[2], line[m.end():], at, at, bool(result) and int(result[1]) >= 0)
    for name, args, at in pending.values():
        yield Call(name, args, at, 1 << 62, False)


@dataclass
class Verdict:
    messages: int = 0
    proven: int = 0
    syncs: int = 0
    problems: list = field(default_factory=list)
    io_uring: bool = False
    # Of the files that were made during the trace and carry messages: is the directory entry synced too
    # before the first reply that relies on it? (A file without its name is lost as well.)
    files: int = 0
    directories_synced: int = 0

    @property
    def holds(self):
        return self.messages > 0 and self.proven == self.messages


def verify(lines, ids):
    """ids: {message number: the ID of its 250}."""
    verdict = Verdict(messages=len(ids))
    written = defaultdict(dict)   # message -> {file: {"a": exit, "z": exit}}
    syncs = defaultdict(list)     # file -> [(entry, exit)]
    replied = {}                  # ID -> entry of the first reply that contains it
    created, synchronous = {}, set()

    for call in calls(lines):
        if call.name in ("openat", "open"):
            path = re.search(r'"((?:\\.|[^"\\])*)"', call.args)
            if path and call.ok:
                opened = re.search(r"= \d+<([^>]*)>\s*$", call.args[-2000:])
                name = opened[1] if opened else path[1]
                if "O_CREAT" in call.args:
                    created.setdefault(name, call.exit)
                if "O_DSYNC" in call.args or "O_SYNC" in call.args:
                    synchronous.add(name)
            continue
        if call.name == "io_uring_setup":
            verdict.io_uring = True
            continue
        target = _TARGET.match(call.args)
        if not target:
            continue
        path = target[2]
        on_file = path.startswith("/")
        if call.name in SYNCS:
            if call.ok:
                verdict.syncs += 1
                syncs[path].append((call.entry, call.exit))
        elif on_file and call.name in WRITES:
            if not call.ok:
                continue
            for number, end in _TOKEN.findall(call.args):
                written[int(number)].setdefault(path, {})[end] = call.exit
            if path in synchronous or "RWF_DSYNC" in call.args or "RWF_SYNC" in call.args:
                # Its data are on the disk when it ends, so it is a sync that begins after itself.
                verdict.syncs += 1
                syncs[path].append((call.exit + 0.1, call.exit + 0.2))
        elif not on_file:
            for name in _QUEUED.findall(call.args):
                replied.setdefault(name, call.entry)

    for each in syncs.values():
        each.sort()

    first_reply = {}  # file -> the first reply that relies on it
    for number, name in sorted(ids.items()):
        answer = replied.get(name)
        whole = {p: max(w["a"], w["z"]) for p, w in written[number].items() if {"a", "z"} <= w.keys()}
        if answer is None:
            verdict.problems.append(f"message {number}: its reply (queued as {name}) is not in the trace")
        elif not whole:
            verdict.problems.append(f"message {number} ({name}): no file was written with its data")
        else:
            # The first sync that began after the data were written decides; later ones end later still
            # or belong to somebody else, but one of them may have overtaken it, so look at all.
            holder = next((p for p, at in whole.items()
                           if any(end < answer for _, end in syncs[p][bisect_left(syncs[p], (at, 0)):])), None)
            if holder is None:
                verdict.problems.append(f"message {number} ({name}): replied before a sync of {', '.join(whole)}")
            else:
                verdict.proven += 1
                first_reply[holder] = min(first_reply.get(holder, answer), answer)

    for path, answer in first_reply.items():
        if path in created:
            verdict.files += 1
            directory = path.rsplit("/", 1)[0]
            verdict.directories_synced += any(b > created[path] and e < answer for b, e in syncs[directory])
    return verdict
