"""What is measured: one Scenario for each row of the speed table.

A new row is a new entry in ALL. A new *kind* of row (a deep queue, a slow disk) is a new value of
`kind` and one function in bench.py's RUNNERS that turns a Scenario and a relay into a result.
"""

from dataclasses import dataclass

THROUGHPUT = "throughput"  # messages as fast as they are taken; until the sink has the last one
LATENCY = "latency"        # how long a client waits for its 250


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    kind: str
    size: int            # bytes of body; the generator's headers come on top
    sessions: int        # client connections at a time
    reuse: bool = True   # False: a new connection for every message
    accept: str = "queue"  # the listener's `accept` in Egret
    # Messages per run. They differ because the relays do: each is meant to run for 3 to 10 s, which
    # is short enough to repeat and long enough that start-up and the last message weigh nothing.
    counts: tuple = ()

    def count(self, relay: str) -> int:
        return dict(self.counts)[relay]


def _counts(egret, postfix, direct):
    return (("egret", egret), ("postfix", postfix), ("direct", direct))


ALL = {
    s.name: s
    for s in (
        Scenario("queue-4k-100", "queue, durable, 4 KB, 100 sessions reused", THROUGHPUT,
                 size=4096, sessions=100, counts=_counts(40_000, 4_000, 80_000)),
        Scenario("queue-4k-20", "queue, durable, 4 KB, 20 sessions reused", THROUGHPUT,
                 size=4096, sessions=20, counts=_counts(40_000, 4_000, 80_000)),
        Scenario("queue-4k-20-new", "queue, durable, 4 KB, 20 sessions, a new connection per message",
                 THROUGHPUT, size=4096, sessions=20, reuse=False, counts=_counts(20_000, 3_000, 30_000)),
        Scenario("queue-64k-20", "queue, durable, 64 KB, 20 sessions reused", THROUGHPUT,
                 size=65536, sessions=20, counts=_counts(8_000, 2_000, 12_000)),
        Scenario("latency-1", "MAIL to 250 and final dot to 250, 4 KB, 1 session", LATENCY,
                 size=4096, sessions=1, counts=_counts(8_000, 3_000, 20_000)),
        Scenario("latency-20", "MAIL to 250 and final dot to 250, 4 KB, 20 sessions", LATENCY,
                 size=4096, sessions=20, counts=_counts(30_000, 5_000, 60_000)),
    )
}
