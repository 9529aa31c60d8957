"""What was sent, what arrived and what was reported, and whether that is what Egret promises.

A message that got its 250 arrives for each recipient, or its sender gets a report; octet for octet; once. A second copy is
excusable only where nobody could know that the first one was taken: its answer was never given, or a kill came before the
record of it was on disk.
"""

import dataclasses
import hashlib
import threading

SYNC = 1.5  # seconds: the record of a delivery is on disk 50 ms after its answer, on an idle machine
CLOSE = 0.5


@dataclasses.dataclass(slots=True)
class Copy:
    arrived: float          # when the final dot was there
    answered: float = None  # when the 250 was on its way; None: it never was


@dataclasses.dataclass(slots=True)
class Entry:
    digest: bytes
    recipients: tuple
    passing: bool           # the client waited for the receivers
    state: str = "open"     # 250, refused, unknown
    ended: float = 0.0      # when that was heard
    id: str = None
    copies: dict = dataclasses.field(default_factory=dict)  # of each recipient
    reported: set = dataclasses.field(default_factory=set)

    def missing(self):
        return [r for r in self.recipients if r not in self.copies and r not in self.reported]


def digest_of(content):
    return hashlib.blake2b(content, digest_size=12).digest()


class Ledger:
    def __init__(self):
        self._lock = threading.Lock()
        self.entries = {}
        self.kills = []      # moments
        self.stops = []      # (SIGTERM, end of the process)
        self.strange = []    # what is wrong whatever comes after
        self.refusals = {}   # text: how often, of listeners that queue
        self.octets = self.accepted = 0

    # -- clients

    def sending(self, marker, content, recipients, passing):
        entry = Entry(digest_of(content), tuple(recipients), passing)
        with self._lock:
            self.entries[marker] = entry
            self.octets += len(content)
        return entry

    def refused(self, text):
        with self._lock:
            self.refusals[text] = self.refusals.get(text, 0) + 1

    # -- receivers

    def arrival(self, marker, content, recipients, time, where):
        """The copy, so that its answer can be noted; None for what should not be there."""
        entry = self.entries.get(marker)
        if entry is None:
            return self.wrong(f"{where} got a message that nobody sent: {content[:300]!r}")
        if digest_of(content) != entry.digest:
            return self.wrong(f"{where} got {marker} damaged: {len(content)} octets")
        copy = Copy(time)
        with self._lock:
            for recipient in recipients:
                if recipient in entry.recipients:
                    entry.copies.setdefault(recipient, []).append(copy)
                else:
                    self.strange.append(f"{where} got {marker} for {recipient}, who is no recipient of it")
        return copy

    def report(self, marker, recipients):
        entry = self.entries.get(marker)
        if entry is None:
            return self.wrong(f"a report about a message that nobody sent: {marker}")
        with self._lock:
            entry.reported.update(recipients)

    def wrong(self, text):
        with self._lock:
            self.strange.append(text)

    # -- the account

    def counts(self):
        with self._lock:
            entries = list(self.entries.values())
        taken = [entry for entry in entries if entry.state == "250"]
        return {"offered": len(entries), "accepted": len(taken), "passed": sum(entry.passing for entry in taken),
                "recipients": sum(len(entry.recipients) for entry in taken),
                "reported": sum(len(entry.reported) for entry in taken),
                "waiting": sum(bool(entry.missing()) for entry in taken)}

    def waiting(self):
        """Accepted, and neither arrived nor reported: marker, id, recipients."""
        return [(marker, entry.id, missing) for marker, entry in list(self.entries.items())
                if entry.state == "250" and (missing := entry.missing())]

    def excusable(self, copy):
        """Whether a second copy may follow this one."""
        if copy.answered is None:
            return True
        if any(copy.arrived < kill + CLOSE and copy.answered > kill - SYNC for kill in self.kills):
            return True
        # What is broken off when the time of a stop is over was not heard any more.
        return any(copy.arrived < end and copy.answered > end - SYNC for _, end in self.stops)

    def duplicates(self):
        """(all, those without an excuse) in texts."""
        count, bad = 0, []
        for marker, entry in list(self.entries.items()):
            for recipient, copies in entry.copies.items():
                count += len(copies) - 1
                ordered = sorted(copies, key=lambda copy: copy.arrived)
                bad += [f"{marker} ({entry.id}) arrived {len(copies)} times for {recipient}"
                        for copy in ordered[:-1] if not self.excusable(copy)]
        return count, bad

    def contradictions(self):
        """Delivered for sure, and the sender heard otherwise."""
        out = []
        for marker, entry in list(self.entries.items()):
            sure = {r for r, copies in entry.copies.items() if not all(map(self.excusable, copies))}
            out += [f"{marker} ({entry.id}) arrived for {r} and was reported" for r in sure & entry.reported]
            if entry.state == "refused" and sure and not self._near_stop(entry):
                out.append(f"{marker} was refused and arrived for {sorted(sure)}")
        return out

    def _near_stop(self, entry):
        return any(begin - CLOSE < entry.ended < end + CLOSE for begin, end in self.stops)

    def violations(self):
        out = list(self.strange)
        out += [f"lost: {marker} ({id}) for {missing}" for marker, id, missing in self.waiting()]
        return out + self.duplicates()[1] + self.contradictions()
