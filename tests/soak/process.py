"""The program under test with a log that is read as it grows, reports of sanitizers, and what it takes of the machine."""

import dataclasses
import glob
import json
import os
import re
import subprocess
import threading
import time

from support import wait
from support.egret import Egret

SUPPRESSIONS = os.path.join(os.path.dirname(__file__), "tsan.supp")
START_WITHIN = 90   # seconds; sanitizers on a busy machine
STOP_WITHIN = 10    # what is promised; the sanitizers' own end (leak check, symbols) comes on top
REPORTING = 50


@dataclasses.dataclass(frozen=True)
class Sample:
    time: float
    life: int        # how often it was started before
    calm: bool       # everything well, the queue empty
    rss: int         # KB
    pss: int
    descriptors: int
    threads: int
    segments: int
    hints: int
    spool: int       # KB on disk
    state: int       # KB of all other files in data_dir
    accepted: int    # messages, since the soak began


class SoakEgret(Egret):
    def __init__(self, binary, directory, sanitizer_options="", **sections):
        super().__init__(binary, directory, **sections)
        self.reports = os.path.join(self.directory, "sanitizer")
        common = f"log_path={self.reports}:exitcode=86:{sanitizer_options}"
        self.environment.update(
            # What was freed stays in quarantine: 16 MB of it are full within seconds, so that they are no growth.
            ASAN_OPTIONS=f"{common}:quarantine_size_mb=16:thread_local_quarantine_size_kb=64:detect_leaks=1",
            LSAN_OPTIONS=f"log_path={self.reports}:report_objects=1",
            UBSAN_OPTIONS=f"log_path={self.reports}:print_stacktrace=1",
            TSAN_OPTIONS=f"{common}:halt_on_error=0:second_deadlock_stack=1"
                         + (f":suppressions={SUPPRESSIONS}" if os.path.exists(SUPPRESSIONS) else ""))
        self.life = -1
        self.stops = []          # how long each took, seconds
        self.bad_lines = []
        self.counts = {"info": 0, "warn": 0, "error": 0}
        self._read = 0
        self._partial = b""
        self._lock = threading.Lock()

    # -- life

    def start(self, ready=True):
        super().start(ready=False)
        self.life += 1
        if ready:
            wait.until(self._is_ready, START_WITHIN, "egret is ready", interval=0.1)
        return self

    def stop(self):
        begin = time.monotonic()
        self.terminate()
        code = self.ended(within=STOP_WITHIN + REPORTING)
        self.stops.append(time.monotonic() - begin)
        return code

    # -- what it says

    def read_log(self):
        """Follows the log; lines of level error, and those that are no log lines, are bad."""
        with self._lock, open(self.log_path, "rb") as file:
            file.seek(self._read)
            data = self._partial + file.read()
            self._read = file.tell()
            *lines, self._partial = data.split(b"\n")
        for line in lines:
            if b'"level":"info"' in line:
                self.counts["info"] += 1
                continue
            try:
                level = json.loads(line)["level"]
                self.counts[level] = self.counts.get(level, 0) + 1
                bad = level == "error"
            except (ValueError, LookupError, TypeError):
                bad = bool(line.strip())
            if bad:
                self.bad_lines.append(line.decode("utf-8", "replace"))

    def findings(self):
        """What sanitizers wrote: one text for each file."""
        found = []
        for path in sorted(glob.glob(self.reports + ".*")):
            with open(path, encoding="utf-8", errors="replace") as file:
                found.append(file.read())
        return [text for text in found if text.strip()]

    # -- what it takes

    def sample(self, calm, accepted=0):
        """None while it is not running."""
        try:
            status = open(f"/proc/{self.pid}/status").read()
            pss = re.search(r"^Pss: *(\d+)", open(f"/proc/{self.pid}/smaps_rollup").read(), re.M)
            descriptors = len(os.listdir(f"/proc/{self.pid}/fd"))
        except (OSError, AttributeError):
            return None
        rss, threads = (re.search(rf"^{key}:\s+(\d+)", status, re.M) for key in ("VmRSS", "Threads"))
        if not (pss and rss and threads):
            return None
        spool = os.path.join(self.data_dir, "spool")
        segments, hints = (len(glob.glob(os.path.join(spool, f"segment-*.{end}"))) for end in ("spool", "hint"))
        return Sample(time.monotonic(), self.life, calm, int(rss[1]), int(pss[1]), descriptors, int(threads[1]), segments, hints,
                      _kilobytes(spool), sum(_kilobytes(os.path.join(self.data_dir, name)) for name in os.listdir(self.data_dir)
                                             if name != "spool"), accepted)

    def quick_command(self, *arguments):
        """A command of the program itself: exit code and output."""
        done = subprocess.run([self.binary, *arguments, "-c", self.config_path], capture_output=True, text=True,
                              errors="replace", timeout=60, env=self.environment)
        return done.returncode, done.stdout + done.stderr


def _kilobytes(path):
    if os.path.isfile(path):
        return os.stat(path).st_blocks // 2
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks // 2
            except OSError:
                pass  # unlinked meanwhile
    return total
