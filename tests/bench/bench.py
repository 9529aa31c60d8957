"""Measures Egret against Postfix and against no relay: see README.md, and run (the wrapper)."""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass, field

import durable
import meter
import relays
import report
import sandbox
import scenarios

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DNS_ADDRESS = relays.LOOPBACK

WARM_UP_LIMIT = 60  # seconds
SETTLE = 0.5        # after the last delivery: what the relay still does for these messages is part of their cost
POLL = 0.004


@dataclass
class Bed:
    """What one invocation shares: options, and the directories (disk for queues, memory for our own notes)."""

    options: argparse.Namespace
    disk: str
    memory: str
    filesystem: str
    tag: str
    meter_methods: set = field(default_factory=set)

    @contextlib.contextmanager
    def relay(self, name, scenario, trace=()):
        """A fresh relay and a fresh sink, both ready; both gone afterwards."""
        with contextlib.ExitStack() as stack:
            sink = relays.Sink(self.memory)
            stack.callback(sink.close)
            if name == "egret":
                relay = relays.Egret(self.disk, self.tag, self.options, scenario.accept)
            elif name == "postfix":
                relay = relays.Postfix(self.disk, self.tag)
            else:
                relay = relays.Direct()
            stack.callback(relay.stop)
            relay.start(trace)
            if relay.meter:
                self.meter_methods.add(relay.meter.method)
            yield relay, sink


def smtp_source(scenario, port, count):
    argv = ["smtp-source", "-s", str(min(scenario.sessions, count)), "-m", str(count), "-l", str(scenario.size),
            "-M", "vm.test", "-f", relays.SENDER, "-t", relays.RECIPIENT]
    if scenario.reuse:
        argv.append("-d")
    return [*argv, f"{relays.LOOPBACK}:{port}"]


def load_client(scenario, port, count, warm_up=0, tokens=None, time_limit=120.0):
    argv = [sys.executable, os.path.join(HERE, "loadclient.py"), "--port", str(port), "--sessions", str(scenario.sessions),
            "--size", str(scenario.size), "--count", str(count), "--warm-up", str(warm_up), "--time-limit", str(time_limit),
            "--sender", relays.SENDER, "--to", relays.RECIPIENT]
    return [*argv, "--tokens", tokens] if tokens else argv


def drain(sink, target, deadline, relay):
    """Waits until the sink has `target` messages; the moment when it had."""
    while (received := sink.received()) < target:
        if time.monotonic() > deadline:
            raise relays.Failed(f"{target - received} of the messages had not arrived at the time limit\n{relay.log_tail()}")
        time.sleep(POLL)
    return time.monotonic()


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


def measured(bed, relay, sink, argv, count):
    """One measured load: rates, and what it cost whom."""
    base = sink.received()
    cpu = relay.meter.cpu_us() if relay.meter else None
    sink_cpu, children, own, machine = (sink.cpu_us(), own_and_children_us(resource.RUSAGE_CHILDREN),
                                        own_and_children_us(resource.RUSAGE_SELF), meter.machine_busy_us())
    with meter.PeakMemory(relay.meter.pids) if relay.meter else contextlib.nullcontext() as memory:
        (begun, accepted, drained), output = generate(argv, sink, base + count, bed.options.run_limit, relay)
        time.sleep(SETTLE)
    machine = meter.machine_busy_us() - machine
    seconds = time.monotonic() - begun
    cpu = relay.meter.cpu_us() - cpu if relay.meter else None
    source_cpu = own_and_children_us(resource.RUSAGE_CHILDREN) - children
    sink_cpu = sink.cpu_us() - sink_cpu
    own = own_and_children_us(resource.RUSAGE_SELF) - own
    return {
        "count": count,
        "seconds": drained - begun,
        "drained_per_s": count / (drained - begun),
        "accepted_per_s": count / (accepted - begun),
        "cpu_us_per_msg": cpu / count if relay.meter else None,
        "peak_pss_mb": memory.peak_kb / 1024 if memory else None,
        "source_us_per_msg": source_cpu / count,
        "sink_us_per_msg": sink_cpu / count,
        # Cores that neither relay nor generator nor sink nor we had: somebody else's work on this machine.
        "others_cores": max(0.0, (machine - (cpu or 0) - source_cpu - sink_cpu - own) / 1e6 / seconds),
        "surplus": sink.received() - base - count,
    }, output


def run_throughput(bed, scenario, name, count):
    with bed.relay(name, scenario) as (relay, sink):
        # Processes are forked, connections opened, names looked up: none of that is a property of a message.
        warm_up = min(500, max(scenario.sessions, count // 10))
        generate(smtp_source(scenario, relay.port, warm_up), sink, warm_up, WARM_UP_LIMIT, relay)
        result, _ = measured(bed, relay, sink, smtp_source(scenario, relay.port, count), count)
        return result


def run_latency(bed, scenario, name, count):
    with bed.relay(name, scenario) as (relay, sink):
        warm_up = min(500, max(scenario.sessions * 5, count // 10))
        generate(load_client(scenario, relay.port, warm_up), sink, warm_up, WARM_UP_LIMIT, relay)
        few = 5 * scenario.sessions  # the client's own first messages: fresh connections
        argv = load_client(scenario, relay.port, count - few, few, time_limit=bed.options.run_limit)
        result, output = measured(bed, relay, sink, argv, count)
        figures = json.loads(output)
        return result | {key: figures[key] for key in ("mail_ms", "dot_ms", "accepted_per_s")}


RUNNERS = {scenarios.THROUGHPUT: run_throughput, scenarios.LATENCY: run_latency}


def run_scenario(bed, scenario):
    """All relays in turn, then all again: what changes on the machine meanwhile hits each of them."""
    runs = {name: [] for name in bed.options.relays}
    for repeat in range(bed.options.repeat):
        for name in bed.options.relays:
            count = max(bed.options.count or scenario.count(name), 10 * scenario.sessions)
            report.progress(f"{scenario.name}: {name}, run {repeat + 1} of {bed.options.repeat}, {count} messages")
            try:
                result = RUNNERS[scenario.kind](bed, scenario, name, count)
                if result["surplus"]:
                    report.progress(f"  the sink got {result['surplus']:+d} messages more than were sent: duplicates")
            except relays.Failed as e:
                report.progress(f"  FAILED: {e}")
                result = {"count": count, "error": str(e)}
            runs[name].append(result)
    return runs


def count_syncs(bed, scenario, name):
    """fsync and fdatasync calls per message, with strace stopping at those two calls only."""
    count = max(2_000 if bed.options.count is None else bed.options.count, 10 * scenario.sessions)
    trace = os.path.join(bed.disk, "syncs.trace")
    with bed.relay(name, scenario, durable.strace_command(trace, durable.SYNCS)) as (relay, sink):
        generate(smtp_source(scenario, relay.port, scenario.sessions), sink, scenario.sessions, WARM_UP_LIMIT, relay)
        time.sleep(SETTLE)
        start = os.path.getsize(trace)
        generate(smtp_source(scenario, relay.port, count), sink, scenario.sessions + count, bed.options.run_limit, relay)
        time.sleep(SETTLE)
        with open(trace, errors="replace") as f:
            f.seek(start)
            syncs = sum(call.ok for call in durable.calls(f))
    os.unlink(trace)
    return {"messages": count, "syncs": syncs, "syncs_per_msg": syncs / count}


def prove_durable(bed, scenario, name):
    count = max(500 if scenario.size > 16384 else 1_000, 5 * scenario.sessions)
    trace, tokens = os.path.join(bed.disk, "durable.trace"), os.path.join(bed.disk, "tokens")
    with bed.relay(name, scenario, durable.strace_command(trace)) as (relay, sink):
        generate(load_client(scenario, relay.port, count, tokens=tokens, time_limit=bed.options.run_limit), sink, count,
                 bed.options.run_limit, relay)
    with open(tokens) as f:
        ids = {int(number): name for number, name in map(str.split, f)}
    with open(trace, errors="replace") as f:
        verdict = durable.verify(f, ids)
    if bed.options.keep_trace:
        shutil.copy(trace, bed.options.keep_trace)
    os.unlink(trace)
    return {"holds": verdict.holds, "messages": verdict.messages, "proven": verdict.proven, "syncs": verdict.syncs,
            "io_uring": verdict.io_uring, "files": verdict.files, "directories_synced": verdict.directories_synced,
            "problems": verdict.problems[:5]}


def medians(runs):
    """Median, least and greatest of every figure over the runs that gave one; nested figures too."""
    good = [r for r in runs if "error" not in r]
    if not good:
        return {}
    out = {}
    for key, first in good[0].items():
        if isinstance(first, dict):
            out[key] = {k: statistics.median(r[key][k] for r in good) for k in first}
        elif first is not None:
            values = [r[key] for r in good]
            out[key] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return out


def machine_facts(bed, versions):
    with open("/proc/cpuinfo") as f:
        cpu = next((l.split(":", 1)[1].strip() for l in f if l.startswith("model name")), platform.machine())
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(), "queue_filesystem": bed.filesystem, **versions}


def first_line(*argv):
    try:
        out = subprocess.run(argv, capture_output=True, text=True, timeout=10)
        return (out.stdout.strip().splitlines() or ["?"])[0]
    except (OSError, subprocess.TimeoutExpired):
        return "?"


def filesystem_of(path):
    best = ("", "?")
    with open("/proc/self/mounts") as f:
        for line in f:
            _device, mount_point, kind, *_ = line.split()
            inside = path == mount_point or path.startswith(mount_point.rstrip("/") + "/")
            if inside and len(mount_point) >= len(best[0]):
                best = (mount_point, kind)
    return best[1]


@contextlib.contextmanager
def prepared(options):
    os.makedirs(options.work_dir, exist_ok=True)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(open(os.path.join(options.work_dir, "lock"), "w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError("another bench is running here, and two would measure each other") from None
        disk = os.path.join(options.work_dir, "scratch")  # what a killed bench left goes first
        shutil.rmtree(disk, ignore_errors=True)
        os.mkdir(disk, 0o755)
        stack.callback(shutil.rmtree, disk, ignore_errors=True)
        memory = os.path.join(disk, "memory")
        os.mkdir(memory)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", memory], check=True)
        stack.callback(subprocess.run, ["umount", "--lazy", memory])
        sandbox.use_resolver(memory, DNS_ADDRESS)
        names = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "nameserver.py"), DNS_ADDRESS, "53", relays.DOMAIN, relays.LOOPBACK],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
        stack.callback(lambda: (names.kill(), names.wait()))
        if names.stdout.readline() != b"ready\n":
            raise OSError("the name server did not start")
        tag = f"{zlib.crc32(os.path.abspath(options.work_dir).encode()):08x}"
        yield Bed(options, disk, memory, filesystem_of(disk), tag)


def inside(options):
    ok = True
    with prepared(options) as bed:
        if bed.filesystem in ("tmpfs", "ramfs"):
            report.progress(f"WARNING: the queues are on {bed.filesystem}, where a sync costs nothing; see --work-dir")
        facts = machine_facts(bed, {"postfix": first_line("postconf", "-dh", "mail_version"),
                                    "egret": first_line(options.egret, "--version") if "egret" in options.relays else None})
        done = []
        for name in options.scenario:
            scenario = scenarios.ALL[name]
            runs = run_scenario(bed, scenario)
            entry = {
                "scenario": scenario.name, "title": scenario.title, "machine": facts, "repeat": options.repeat,
                "settings": {"sessions": scenario.sessions, "size": scenario.size, "reuse": scenario.reuse,
                             "egret_connections_per_site": options.connections, "egret_threads": options.threads,
                             "egret_log": options.egret_log, "postfix_destination_concurrency": 20},
                "relays": {n: {"median": medians(r), "runs": r} for n, r in runs.items()},
            }
            ok &= not any("error" in r for each in runs.values() for r in each)
            for option, function in (("syncs", count_syncs), ("prove_durable", prove_durable)):
                if getattr(options, option):
                    entry[option] = {}
                    for relay in (n for n in options.relays if n != "direct"):
                        report.progress(f"{scenario.name}: {relay}, {option.replace('_', '-')}")
                        try:
                            entry[option][relay] = function(bed, scenario, relay)
                        except relays.Failed as e:
                            report.progress(f"  FAILED: {e}")
                            entry[option][relay] = {"error": str(e)}
            ok &= all(v.get("holds") for k, v in entry.get("prove_durable", {}).items() if k == "egret")
            ok &= not any("error" in v for v in entry.get("syncs", {}).values())
            entry["cpu_method"] = sorted(bed.meter_methods)
            entry["ratios"] = report.ratios(entry)
            report.table(entry, scenario.kind)
            done.append(entry)
            if not options.json:
                report.write_json(os.path.join(options.work_dir, scenario.name + ".json"), [entry], ROOT)
        if options.json:
            report.write_json(options.json, done, ROOT)
    return 0 if ok else 1


def arguments():
    width = max(map(len, scenarios.ALL))
    listing = "\n".join(f"  {s.name:<{width}}  {s.title}" for s in scenarios.ALL.values())
    p = argparse.ArgumentParser(prog="tests/bench/run", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
                                description="Speed of Egret on this machine.", epilog="scenarios:\n" + listing)
    p.add_argument("scenario", nargs="+", help="one or more of those below, or all")
    p.add_argument("--vs", choices=["postfix"], help="measure this one too, in the same run")
    p.add_argument("--relays", help="instead of egret, the --vs one and direct: a list, e.g. postfix,direct")
    p.add_argument("--count", type=int, help="messages per run (default: each scenario's own, by relay)")
    p.add_argument("--repeat", type=int, default=3, help="runs per relay; the table has medians (default 3)")
    p.add_argument("--egret", default=os.path.join(ROOT, "build/release/egret"), help="default: build/release/egret")
    p.add_argument("--connections", type=int, default=20,
                   help="egret's delivery.connections_per_site (default 20, its own default and Postfix's)")
    p.add_argument("--threads", type=int, default=0, help="egret's threads (default 0: one per core)")
    p.add_argument("--egret-log", default="warn", help="egret's log level (default warn)")
    p.add_argument("--syncs", action="store_true", help="also count syncs per message (a run of its own under strace)")
    p.add_argument("--prove-durable", action="store_true",
                   help="also prove with strace that every 250 came after a sync of its message; exit 1 if not")
    p.add_argument("--keep-trace", metavar="FILE", help="keep the trace of --prove-durable")
    p.add_argument("--json", metavar="FILE", help="default: build/bench/SCENARIO.json")
    p.add_argument("--work-dir", default=os.path.join(ROOT, "build/bench"),
                   help="where the queues are (default: build/bench); must be a real disk to mean anything")
    p.add_argument("--run-limit", type=float, default=120.0, help="seconds after which a run is given up (default 120)")
    options = p.parse_args()
    options.blocklists = os.path.join(ROOT, "config/blocklists.yaml")

    if "all" in options.scenario:
        options.scenario = list(scenarios.ALL)
    for name in options.scenario:
        if name not in scenarios.ALL:
            p.error(f"no scenario {name!r}; there are:\n{listing}\n  all")
    if options.relays:
        options.relays = list(dict.fromkeys(options.relays.split(",")))
        if bad := set(options.relays) - {"egret", "postfix", "direct"}:
            p.error(f"no relay {', '.join(sorted(bad))}; there are egret, postfix, direct")
    else:
        options.relays = ["egret", *([options.vs] if options.vs else []), "direct"]
    if options.repeat < 1 or (options.count is not None and options.count < 1):
        p.error("--repeat and --count must be at least 1")
    for name in ("egret", "work_dir", "json", "keep_trace"):
        if getattr(options, name):
            setattr(options, name, os.path.abspath(getattr(options, name)))

    missing = []
    if "egret" in options.relays and not os.access(options.egret, os.X_OK):
        missing.append("an egret binary at the path given by --egret (build it first, or choose --relays postfix,direct)")
    needs = ["smtp-source", "smtp-sink", "ip", "mount"] + (["postfix"] if "postfix" in options.relays else [])
    needs += ["strace"] if options.syncs or options.prove_durable else []
    missing += [f"{n} (Debian: {dict(ip='iproute2', mount='mount', strace='strace').get(n, 'postfix')})"
                for n in needs if not shutil.which(n)]
    if missing:
        p.error("missing: " + "; ".join(missing))
    return options


if __name__ == "__main__":
    chosen = arguments()
    sys.exit(sandbox.run(lambda: inside(chosen)))
