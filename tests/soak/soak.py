"""The run itself: cycles of storm and calm, first with restarts and kills, then in one long life; and the account at the end.

A cycle is some minutes of storm (everything of chaos.py happens) and then a calm: all receivers are well, nothing is listed, and
the queue gets empty. Only then is it measured what the program takes, so that like is compared with like: the calms of the long
life's second quarter with those of its last. In the first part there is a SIGTERM in each cycle and a kill -9 in each second.
"""

import argparse
import dataclasses
import gc
import json
import pathlib
import random
import sys
import threading
import time

from chaos import Chaos, Unanswered, Watcher
from clients import Load
from growth import compare
from ledger import Ledger
from support import wait
from world import DOMAINS, World

# A replaced configuration is kept for those who began under it, the last hundred of them for a day: 60 KB each.
RELOADS_KEPT = 100
DRAIN_WITHIN = 240
CALM_WITHIN = 120
SEGMENTS_LEFT = 1  # the active one


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Soak:
    def __init__(self, arguments):
        self.work = arguments.work
        self.seed = arguments.seed
        self.seconds = arguments.minutes * 60
        self.ledger = Ledger()
        self.world = World(arguments.work, arguments.egret, self.ledger, arguments.sanitizer_options)
        self.egret = self.world.egret
        self.load = Load(self.ledger, self.seed, arguments.rate, DOMAINS, self.world.client_tls)
        self.chaos = Chaos(self.world, self.load, self.seed)
        self.watcher = Watcher(self.world, self.load, self.seed)
        self.draw = random.Random(f"soak-{self.seed}")
        self.samples, self.problems = [], []
        self.restarts = self.kills = 0
        self.begin = time.monotonic()
        self._told = 0.0
        self._reported = set()

    # -- parts

    def calibrate(self, seconds=12):
        """Half of what it takes when all clients send as fast as they can."""
        self.load.pace.interval = 0
        before = len(self.ledger.entries)
        self.egret.start()
        self.load.start()
        time.sleep(seconds)
        rate = (len(self.ledger.entries) - before) / seconds / 2
        self.load.pace.interval = 1 / max(rate, 1)
        say(f"calibrated: {rate:.0f} messages a second are half of what it takes")

    def sample(self, calm=False):
        found = self.egret.sample(calm, self.ledger.accepted)
        if found:
            self.samples.append(found)

    def tick(self):
        """Ten seconds have gone."""
        self.sample()
        self.egret.read_log()
        self.world.forget()
        for text in self.egret.findings():
            if text not in self._reported:
                self._reported.add(text)
                say("SANITIZER: " + text[:2000])
        if time.monotonic() - self._told >= 60:
            self._told = time.monotonic()
            self.tell()

    def tell(self):
        counts, last = self.ledger.counts(), self.samples[-1] if self.samples else None
        figures = (f"rss {last.rss >> 10} MB, pss {last.pss >> 10} MB, {last.descriptors} descriptors, {last.threads} threads, "
                   f"{last.segments} segments, {last.hints} hints") if last else "not running"
        say(f"minute {(time.monotonic() - self.begin) / 60:.0f}: {counts['accepted']} accepted, {counts['waiting']} on their way, "
            f"{counts['reported']} reported, {self.restarts} restarts, {self.kills} kills, {self.chaos.counts.get('reloads', 0)} "
            f"reloads, {self.chaos.counts.get('listings', 0)} listings, {len(self._reported)} findings; {figures}")

    def storm(self, seconds, accident):
        """Chaos for so long; `accident` (or None) comes at some moment in it."""
        end = time.monotonic() + seconds
        moment = time.monotonic() + seconds * self.draw.uniform(0.3, 0.9)
        ticked = time.monotonic()
        while (now := time.monotonic()) < end:
            if accident and now > moment:
                accident()
                accident = None
            self.chaos.step()
            if now - ticked >= 10:
                ticked = now
                self.tick()
            time.sleep(self.draw.uniform(0.2, 2.0) if self.seconds > 300 else self.draw.uniform(0.1, 0.8))

    def calm(self, seconds):
        """All is well; the load goes on. Measured when hardly anything waits."""
        self.chaos.heal()
        end = time.monotonic() + CALM_WITHIN
        while self.egret.queue()["total"] > 60 and time.monotonic() < end:
            time.sleep(1)
            self.chaos.let_go()
        total = self.egret.queue()["total"]
        if total > 60:
            self.problems.append(f"{total} messages wait although all is well for {CALM_WITHIN} s")
        for _ in range(max(3, int(seconds / 4))):
            time.sleep(min(4, seconds / 3))
            self.sample(calm=True)
        self.tick()

    def fill_up(self):
        """At the beginning of the long life: as many reloads as are remembered, so that those to come are no growth."""
        for _ in range(RELOADS_KEPT):
            self.world.reconfigure()
            self.egret.api("/reload", {})

    def stop_egret(self):
        begin = time.monotonic()
        code = self.egret.stop()
        self.ledger.stops.append((begin, time.monotonic()))
        self.restarts += 1
        if code != 0:
            self.problems.append(f"SIGTERM: exit code {code}")

    def restart(self):
        self.stop_egret()
        self.egret.start()

    def kill(self):
        self.egret.kill9()
        self.ledger.kills.append(time.monotonic())
        self.kills += 1
        self.egret.start()

    # -- the whole

    def run(self, rate):
        gc.set_threshold(100_000, 50, 100)
        if not rate:
            self.calibrate()
        else:
            self.egret.start()
            self.load.start()
        self.watcher.start()
        self.begin = self._told = time.monotonic()
        cycle = max(30.0, min(180.0, self.seconds / 12))
        cycles = max(4, round(self.seconds / cycle))
        restarts_until = max(2, cycles * 45 // 100)
        for number in range(cycles):
            accident = None
            if number == restarts_until:
                self.fill_up()
            if number < restarts_until:
                accident = self.kill if number % 2 else self.restart
                if number % 2 and self.seconds > 300:
                    self.storm(cycle * 0.3, self.restart)
            self.storm(cycle * (0.4 if accident and self.seconds > 300 and number % 2 else 0.7), accident)
            self.calm(cycle * 0.3)
        self.finish()

    def finish(self):
        """Mail stops coming; one more kill, then everything that waits has to get through."""
        self.kill()
        self.load.stop()
        self.chaos.heal()
        wait.until(self._drained, DRAIN_WITHIN, "everything has arrived or been reported", interval=1)
        self.restart()  # nothing that is done may come back
        wait.until(lambda: self.egret.queue()["total"] == 0, DRAIN_WITHIN, "nothing waits", interval=1)
        wait.until(lambda: self.egret.sample(True).segments <= SEGMENTS_LEFT, 60, "the spool has shrunk", interval=1)
        self.sample(calm=True)
        self.watcher.stopping.set()
        self.stop_egret()
        self.egret.read_log()

    def _drained(self):
        try:
            self.chaos.let_go()
            return self.egret.queue()["total"] == 0
        except Unanswered:
            return False

    # -- the verdict

    def violations(self):
        found = list(self.problems) + self.chaos.problems + self.watcher.problems + self.ledger.violations()
        found += ["sanitizer: " + text[:4000] for text in self.egret.findings()]
        found += ["log: " + line for line in self.egret.bad_lines]
        found += [f"refused {count} times: {text}" for text, count in self.ledger.refusals.items()
                  if "shutting down" not in text and "not in service" not in text]
        return found

    def summary(self):
        lines, bad = compare(self.samples)
        self.work.joinpath("samples.json").write_text(json.dumps([dataclasses.asdict(s) for s in self.samples], indent=0))
        counts, (copies, _) = self.ledger.counts(), self.ledger.duplicates()
        violations = self.violations() + bad
        say(f"offered {counts['offered']} messages, accepted {counts['accepted']} ({counts['passed']} passed through) for "
            f"{counts['recipients']} recipients, {self.ledger.octets >> 20} MB; {counts['reported']} recipients were reported, "
            f"{copies} copies came twice")
        say(f"{self.restarts} restarts (the longest {max(self.egret.stops, default=0):.1f} s), {self.kills} kills; "
            + ", ".join(f"{count} {what}" for what, count in sorted(self.chaos.counts.items()))
            + f"; {self.watcher.looks} looks, {self.watcher.events} events followed; log {self.egret.counts}")
        for line in lines:
            say(line)
        for text in violations[:40]:
            say("VIOLATION: " + text)
        say(f"{len(violations)} violations, {len(self.egret.findings())} sanitizer reports")
        return violations


def one_run(arguments):
    soak = Soak(arguments)
    try:
        soak.run(arguments.rate)
    except (AssertionError, RuntimeError) as error:
        soak.problems.append(f"ended early: {error}")
        soak.load.stopping.set()
        soak.egret.discard()
        soak.egret.read_log()
    violations = soak.summary()
    soak.watcher.stopping.set()
    soak.world.close()
    return 1 if violations else 0


# -- whether it would notice

def self_check(arguments):
    """Half a minute without storms, in which one receiver says 250 and forgets, and another damages; both have to be found."""
    arguments.minutes = 0.3
    soak = Soak(arguments)
    soak.egret.start()
    soak.load.pace.interval = 0.03
    soak.load.start()
    soak.watcher.start()
    time.sleep(5)
    soak.world.receivers[0].forget_one = soak.world.receivers[1].damage_one = True
    time.sleep(5)
    soak.sample()
    soak.finish()
    found = soak.violations()
    soak.world.close()
    lost = [text for text in found if text.startswith("lost: ")]
    damaged = [text for text in found if " damaged: " in text]
    others = [text for text in found if text not in lost + damaged]
    # Both are missing: the damaged one does not count as arrived.
    right = 1 <= len(lost) <= 2 and len(damaged) == 1 and not others
    for text in found:
        say("found: " + text[:300])
    say("the self-check " + ("works" if right else f"FAILED: {len(lost)} lost, {len(damaged)} damaged, {len(others)} others"))
    return 0 if right else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--egret", default="build/release/egret", help="the program under test")
    parser.add_argument("--rate", type=float, default=0, help="messages a second; without it half of what the program takes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sanitizer-options", default="", help="more options for ASAN_OPTIONS and TSAN_OPTIONS")
    parser.add_argument("--self-check", action="store_true")
    parser.add_argument("--work", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    threading.excepthook = lambda args: say(f"a thread of the soak failed: {args.exc_type.__name__}: {args.exc_value}")
    return self_check(arguments) if arguments.self_check else one_run(arguments)


if __name__ == "__main__":
    sys.exit(main())
