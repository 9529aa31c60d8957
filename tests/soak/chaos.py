"""What happens meanwhile, at moments drawn with a seed: moods of receivers, listings, reloads, an operator's commands."""

import random
import threading
import time
import urllib.error
import urllib.request

from support.egret import ADMIN, ApiError
from world import DOMAINS, ZONES

Unanswered = (OSError, urllib.error.URLError, ConnectionError, ValueError)  # Egret restarts just then


class Chaos:
    def __init__(self, world, load, seed):
        self.world, self.load = world, load
        self.draw = random.Random(f"chaos-{seed}")
        self.counts = {}
        self.problems = []
        self._end = {}   # mood of a receiver, listing: when it is over

    def note(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # -- one thing after the other

    def step(self):
        action = self.draw.choices(
            [self.mood, self.listing, self.reload, self.order, self.drain, self.recheck], [10, 4, 1.5, 3, 1, 1])[0]
        try:
            action()
        except Unanswered:
            self.note("unanswered")
        except ApiError as error:
            self.problems.append(f"{action.__name__}: {error}")
        except AssertionError as error:
            self.problems.append(f"{action.__name__}: {error}")
        self.expire()

    def expire(self):
        """Moods and listings whose time is over."""
        for end in [end for end, moment in self._end.items() if moment < time.monotonic()]:
            del self._end[end]
            end()

    def mood(self):
        receiver = self.draw.choice(self.world.everyone())
        kind = self.draw.choice(self.world.moods_of(receiver))
        addresses = self.world.addresses()
        receiver.become(kind, self.draw.sample(addresses, self.draw.randint(1, len(addresses) - 1)))
        mood = receiver.mood
        self._end[lambda: receiver.mood is mood and receiver.become("well")] = time.monotonic() + self.draw.uniform(2, 20)
        self.note("receivers " + kind)

    def listing(self):
        address, zone = self.draw.choice(self.world.addresses()), self.draw.choice(ZONES)
        self.world.rbl.list(address, zone=zone)
        self._end[lambda: self.world.rbl.delist(address, zone=zone)] = time.monotonic() + self.draw.uniform(2, 15)
        self.note("listings")

    def reload(self):
        if self.draw.random() < 0.5:
            self.world.with_source = not self.world.with_source
        else:
            self.world.with_listener = not self.world.with_listener
        self.world.reconfigure()
        self.world.egret.api("/reload", {})
        self.note("reloads")

    def order(self):
        egret = self.world.egret
        selector = self.draw.choice([f"domain={self.draw.choice(DOMAINS)}", "class=bulk", "state=scheduled", "state=held",
                                     f"sender=app{self.draw.randrange(20)}@sender0.test"])
        egret.api("/queue/hold", {"selector": selector})
        self._end[lambda: self._release(selector)] = time.monotonic() + self.draw.uniform(1, 10)
        egret.api("/queue/retry", {} if self.draw.random() < 0.3 else {"selector": "class=transactional"})
        self.note("holds")

    def _release(self, selector):
        # What was held as scheduled is held now.
        fitting = "state=held" if selector.startswith("state=") else selector
        try:
            self.world.egret.api("/queue/release", {"selector": fitting})
        except Unanswered:
            self.note("unanswered")

    def drain(self):
        name = self.draw.choice(["t1", "t2", "b1"])
        self.world.egret.api(f"/sources/{name}/drain", {})
        self._end[lambda: self._resume(name)] = time.monotonic() + self.draw.uniform(1, 10)
        self.note("drains")

    def _resume(self, name):
        try:
            self.world.egret.api(f"/sources/{name}/resume", {})
        except Unanswered:
            self.note("unanswered")

    def recheck(self):
        self.world.egret.recheck()
        self.note("rechecks")

    # -- all well

    def heal(self):
        """Nothing stands in the way of any message any more."""
        self._end.clear()
        self.world.heal()
        egret = self.world.egret
        for name in ("t1", "t2", "b1"):
            egret.api(f"/sources/{name}/resume", {})
        self.let_go()

    def let_go(self):
        """Senders and messages that are held, by whomever, go their way."""
        egret = self.world.egret
        for sender in egret.api("/senders"):
            try:
                egret.api("/senders/release", {"sender": sender["sender"]})
            except ApiError:
                pass  # just over
        egret.api("/queue/release", {})
        egret.api("/queue/retry", {})


class Watcher(threading.Thread):
    """Whoever looks: metrics, queue, messages, standings, and one who follows the events."""

    PATHS = ("/metrics", "/api/v1/queue", "/api/v1/queue?state=held", "/api/v1/sources", "/api/v1/blocklists", "/api/v1/events",
             "/api/v1/pools", "/api/v1/smarthosts", "/api/v1/senders", "/api/v1/senders/top?by=domain", "/api/v1/replies/unknown")

    def __init__(self, world, load, seed):
        super().__init__(daemon=True)
        self.world, self.load = world, load
        self.draw = random.Random(f"watch-{seed}")
        self.stopping = threading.Event()
        self.looks = self.events = 0
        self.problems = []
        self._follower = threading.Thread(target=self._follow, daemon=True)

    def run(self):
        self._follower.start()
        while not self.stopping.wait(self.draw.uniform(0.2, 1.2)):
            path = self.draw.choice(self.PATHS)
            if self.load.recent_ids and self.draw.random() < 0.5:
                path = "/api/v1/messages/" + self.draw.choice(self.load.recent_ids)
            try:
                status, _, text = self.world.egret.http(path)
                self.looks += 1
                if status not in (200, 404) or status == 404 and "/messages/" not in path:
                    self.problems.append(f"{path}: {status} {text[:300]}")
            except Unanswered:
                self.stopping.wait(0.5)

    def _follow(self):
        while not self.stopping.is_set():
            try:
                with urllib.request.urlopen(ADMIN + "/api/v1/events?follow=1", timeout=60) as stream:
                    for line in stream:
                        self.events += line.startswith(b"data:")
                        if self.stopping.is_set():
                            return
            except Unanswered:
                self.stopping.wait(0.5)
