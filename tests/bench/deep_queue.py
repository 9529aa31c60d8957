"""A queue that is deep before Egret starts: how the start goes, and what a message costs beside it.

bench_spool_fill makes the queues. A million messages take a while to make, so they are kept between runs, in the work
directory, and made again when they are half a day old (their next attempts are a day away), when bench_spool_fill has changed,
or when a run on them did not end as it should.
"""

import contextlib
import json
import os
import shutil
import subprocess
import time

import load
import meter
import relays
import report
import waiting

BODY = 600  # octets
NEXT_ATTEMPT, FRESH = 86_400, 43_200  # seconds
SETTLE = 3
START_LIMIT = 120


@contextlib.contextmanager
def filled(bed, count):
    """The data directory of an Egret with `count` messages waiting."""
    place = os.path.join(bed.kept, f"filled-{count}")
    data, note = os.path.join(place, "data"), os.path.join(place, "note.json")
    maker = os.stat(bed.options.fill)
    wanted = {"count": count, "body": BODY, "maker": [maker.st_size, maker.st_mtime_ns]}
    if not still_good(note, wanted, time.time()):
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(data)
        report.progress(f"  filling a queue with {count} messages")
        wanted["filled_at"] = time.time()
        subprocess.run([bed.options.fill, os.path.join(data, "spool"), str(count), str(BODY), str(NEXT_ATTEMPT)], check=True)
        os.sync()  # or the disk would still be at it when the relay starts
    else:
        with open(note) as f:
            wanted = json.load(f)
        os.unlink(note)  # until it is left in order
    yield data
    with open(note, "w") as f:
        json.dump(wanted, f)


def still_good(note, wanted, now):
    try:
        with open(note) as f:
            found = json.load(f)
        return all(found.get(k) == v for k, v in wanted.items()) and 0 <= now - found["filled_at"] < FRESH
    except (OSError, ValueError, KeyError):
        return False


def until_complete(relay, count, begun):
    """All of it, and not only what was recovered so far."""
    return waiting.wait_until(relay.process, begun, lambda: relay.waiting() >= count, START_LIMIT)


def run_waiting(bed, scenario, subject, count):
    with filled(bed, count) as data, contextlib.ExitStack() as sampling:
        peak = []

        def watch(relay):
            peak.append(sampling.enter_context(meter.PeakMemory(relay.meter.pids)))

        with bed.relay(scenario, subject, data=data, before_start=watch) as (relay, _):
            begun = relay.started_at
            greeted = time.monotonic() - begun
            accepted = waiting.wait_until(relay.process, begun, lambda: waiting.accepted(relay.port, relays.RECIPIENT),
                                          START_LIMIT)
            complete = until_complete(relay, count, begun)
            time.sleep(SETTLE)
            cpu, settled = relay.meter.cpu_us(), meter.pss_kb(relay.meter.pids())
            sampling.close()
        return {"count": count, "seconds": SETTLE + complete, "greeting_s": greeted, "mail_accepted_s": accepted,
                "complete_s": complete, "settled_pss_mb": settled / 1024, "peak_pss_mb": max(peak[0].peak_kb, settled) / 1024,
                "cpu_s": cpu / 1e6}


def run_beside(bed, scenario, subject, count):
    depth = subject.settings["waiting"]
    if bed.options.count:
        depth = min(depth, 100 * bed.options.count)  # a quick look
    with filled(bed, depth) as data, bed.relay(scenario, subject, data=data) as (relay, sink):
        until_complete(relay, depth, time.monotonic())
        warm_up = min(500, max(scenario.sessions, count // 10))
        target = sink.received() + warm_up
        load.generate(load.smtp_source(scenario, relay.port, warm_up), sink, target, load.WARM_UP_LIMIT, relay)
        result, _ = load.measured(bed, relay, sink, load.smtp_source(scenario, relay.port, count), count)
        return result | {"waiting": depth}
