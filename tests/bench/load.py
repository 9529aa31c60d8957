"""One measured load: a generator, a relay, a sink, and what it cost whom."""

import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time

import meter
import relays

HERE = os.path.dirname(os.path.abspath(__file__))
WARM_UP_LIMIT = 60  # seconds
SETTLE = 0.5        # after the last delivery: what the relay still does for these messages is part of their cost
POLL = 0.004


def smtp_source(scenario, port, count):
    argv = ["smtp-source", "-s", str(min(scenario.sessions, count)), "-m", str(count), "-l", str(scenario.size),
            "-M", "vm.test", "-f", relays.SENDER, "-t", relays.RECIPIENT]
    if scenario.reuse:
        argv.append("-d")
    return [*argv, f"{relays.LOOPBACK}:{port}"]


def load_client(scenario, port, count, warm_up=0, tokens=None, time_limit=120.0, sites=0):
    argv = [sys.executable, os.path.join(HERE, "loadclient.py"), "--port", str(port), "--sessions", str(scenario.sessions),
            "--size", str(scenario.size), "--count", str(count), "--warm-up", str(warm_up), "--time-limit", str(time_limit),
            "--sender", relays.SENDER, "--to", relays.RECIPIENT, "--sites", str(sites)]
    return [*argv, "--tokens", tokens] if tokens else argv


def generate(argv, sink, target, limit, relay):
    """Runs the generator and waits for the last message. (begun, accepted, drained) and the generator's output."""
    begun = time.monotonic()
    deadline = begun + limit
    accepted = drained = None
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        try:
            while accepted is None or drained is None:
                if drained is None and sink.received() >= target:
                    drained = time.monotonic()
                if accepted is None and process.poll() is not None:
                    accepted = time.monotonic()
                    err.seek(0)
                    if process.returncode != 0:
                        raise relays.Failed(f"generator: {err.read().strip()[-500:]}\n{relay.log_tail()}")
                if time.monotonic() > deadline:
                    state = "accepted all" if accepted else "was still accepting"
                    raise relays.Failed(f"not done after {limit} s: the relay {state}, "
                                        f"{target - sink.received()} messages had not arrived\n{relay.log_tail()}")
                time.sleep(POLL)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        return (begun, accepted, drained), out.read()


def own_and_children_us(who):
    used = resource.getrusage(who)
    return int((used.ru_utime + used.ru_stime) * 1e6)


def measured(bed, relay, sink, argv, count, delivered=True, settle=lambda: time.sleep(SETTLE)):
    """One measured load: rates, and what it cost whom. Where nothing is `delivered`, it ends when all is accepted."""
    base = sink.received()
    expected = base + count if delivered else base
    cpu = relay.meter.cpu_us() if relay.meter else None
    sink_cpu, children, own, machine = (sink.cpu_us(), own_and_children_us(resource.RUSAGE_CHILDREN),
                                        own_and_children_us(resource.RUSAGE_SELF), meter.machine_busy_us())
    with meter.PeakMemory(relay.meter.pids) if relay.meter else contextlib.nullcontext() as memory:
        (begun, accepted, drained), output = generate(argv, sink, expected, bed.options.run_limit, relay)
        settle()
    machine = meter.machine_busy_us() - machine
    seconds = time.monotonic() - begun
    cpu = relay.meter.cpu_us() - cpu if relay.meter else None
    source_cpu = own_and_children_us(resource.RUSAGE_CHILDREN) - children
    sink_cpu = sink.cpu_us() - sink_cpu
    own = own_and_children_us(resource.RUSAGE_SELF) - own
    return {
        "count": count,
        "seconds": (drained if delivered else accepted) - begun,
        "drained_per_s": count / (drained - begun) if delivered else None,
        "accepted_per_s": count / (accepted - begun),
        "cpu_us_per_msg": cpu / count if relay.meter else None,
        "peak_pss_mb": memory.peak_kb / 1024 if memory else None,
        "source_us_per_msg": source_cpu / count,
        "sink_us_per_msg": sink_cpu / count,
        # Cores that neither relay nor generator nor sink nor we had: somebody else's work on this machine.
        "others_cores": max(0.0, (machine - (cpu or 0) - source_cpu - sink_cpu - own) / 1e6 / seconds),
        "surplus": sink.received() - expected,
    }, output
