"""Measures Egret against Postfix and against no relay: see README.md, and run (the wrapper)."""

import argparse
import contextlib
import fcntl
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
import zlib

import goals
import markdown
import proof
import relays
import report
import sandbox
import scenarios
from bed import Bed
from runners import RUNNERS

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
DNS_ADDRESS = relays.LOOPBACK


def run_scenario(bed, scenario, subjects):
    """All of them in turn, then all again: what changes on the machine meanwhile hits each of them."""
    runs = {subject.label: [] for subject in subjects}
    for repeat in range(bed.options.repeat):
        for subject in subjects:
            count = max(bed.options.count or subject.count, 10 * scenario.sessions)
            report.progress(f"{scenario.name}: {subject.label}, run {repeat + 1} of {bed.options.repeat}, {count} messages")
            try:
                result = RUNNERS[scenario.kind](bed, scenario, subject, count)
                if result.get("surplus"):
                    report.progress(f"  the sink got {result['surplus']:+d} messages more than were sent: duplicates")
            except (relays.Failed, subprocess.SubprocessError, OSError) as e:
                report.progress(f"  FAILED: {e}")
                result = {"count": count, "error": str(e)}
            runs[subject.label].append(result)
    return runs


def traced(bed, scenario, subjects, option, function):
    """What --syncs and --prove-durable say of each relay."""
    found = {}
    for subject in (s for s in subjects if s.relay != "direct"):
        report.progress(f"{scenario.name}: {subject.label}, {option.replace('_', '-')}")
        try:
            found[subject.label] = function(bed, scenario, subject)
        except relays.Failed as e:
            report.progress(f"  FAILED: {e}")
            found[subject.label] = {"error": str(e)}
    return found


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
        yield Bed(options, disk, memory, options.work_dir, filesystem_of(disk), tag)


def inside(options):
    ok = True
    with prepared(options) as bed:
        if bed.filesystem in ("tmpfs", "ramfs"):
            report.progress(f"WARNING: the queues are on {bed.filesystem}, where a sync costs nothing; see --work-dir")
        facts = machine_facts(bed, {"postfix": first_line("postconf", "-dh", "mail_version"),
                                    "egret": first_line(options.egret, "--version") if "egret" in options.relays else None})
        for name in options.scenario:
            scenario = scenarios.ALL[name]
            subjects = chosen_subjects(scenario, options)
            if not subjects:
                report.progress(f"{name}: left out, nothing of {', '.join(options.relays)} is in it")
                continue
            began = time.time()
            runs = run_scenario(bed, scenario, subjects)
            entry = {
                "scenario": scenario.name, "title": scenario.title, "machine": facts, "repeat": options.repeat,
                "measured": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)), "took_s": round(time.time() - began),
                "quick": options.count is not None,
                "settings": {"sessions": scenario.sessions, "size": scenario.size, "reuse": scenario.reuse,
                             "egret_connections_per_site": options.connections, "egret_threads": options.threads,
                             "egret_log": options.egret_log, "postfix_destination_concurrency": 20},
                "relays": {s.label: {"settings": s.settings, "median": medians(runs[s.label]), "runs": runs[s.label]}
                           for s in subjects},
            }
            ok &= not any("error" in r for each in runs.values() for r in each)
            if options.syncs and scenario.provable:
                entry["syncs"] = traced(bed, scenario, subjects, "syncs", proof.count_syncs)
            proven = [s for s in subjects if options.prove_durable or (s.relay == "egret" and not options.no_proof)]
            if proven and scenario.provable:
                entry["prove_durable"] = traced(bed, scenario, proven, "prove_durable", proof.prove_durable)
            ok &= all(v.get("holds") and v["directories_synced"] == v["files"]
                      for k, v in entry.get("prove_durable", {}).items() if k.startswith("egret"))
            ok &= not any("error" in v for v in entry.get("syncs", {}).values())
            entry["cpu_method"] = sorted(bed.meter_methods)
            entry["ratios"] = report.ratios(entry)
            entry["goals"] = goals.judged(entry, scenario.goals)
            report.table(entry, scenario)
            report.write_json(options.json or os.path.join(options.work_dir, scenario.name + ".json"), [entry], ROOT)
    if options.table:
        markdown.write(options.table, options.json or options.work_dir, ROOT)
    return 0 if ok else 1


def chosen_subjects(scenario, options):
    return [s for s in scenario.subjects if s.relay in options.relays]


def arguments():
    width = max(map(len, scenarios.ALL))
    listing = "\n".join(f"  {s.name:<{width}}  {s.title}" for s in scenarios.ALL.values())
    listing += f"\n  {'all':<{width}}  all of these\n  {'classes':<{width}}  a program of its own, not in all: run classes --help"
    p = argparse.ArgumentParser(prog="tests/bench/run", formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
                                description="Speed of Egret on this machine.", epilog="scenarios:\n" + listing)
    p.add_argument("scenario", nargs="*", help="one or more of those below, or all")
    p.add_argument("--list", action="store_true", help="the scenarios, and nothing else")
    p.add_argument("--vs", choices=["postfix"], help="measure this one too, in the same run")
    p.add_argument("--relays", help="instead of egret, the --vs one and direct: a list, e.g. postfix,direct")
    p.add_argument("--count", type=int, help="messages per run, for a quick look (default: each scenario's own, by relay)")
    p.add_argument("--repeat", type=int, default=3,
                   help="runs per relay; the table has medians (default 3; 1 is a single round)")
    p.add_argument("--egret", default=os.path.join(ROOT, "build/release/egret"), help="default: build/release/egret")
    p.add_argument("--fill", default=os.path.join(ROOT, "build/release/tests/bench_spool_fill"),
                   help="what fills deep queues; default: build/release/tests/bench_spool_fill")
    p.add_argument("--slow-sync", default=os.path.join(ROOT, "build/release/tests/libbench_slow_sync.so"), metavar="LIBRARY",
                   help="what slows syncs; default: build/release/tests/libbench_slow_sync.so")
    p.add_argument("--connections", type=int, default=20,
                   help="egret's delivery.connections_per_site (default 20, its own default and Postfix's)")
    p.add_argument("--threads", type=int, default=0, help="egret's threads (default 0: one per core)")
    p.add_argument("--egret-log", default="warn", help="egret's log level (default warn)")
    p.add_argument("--syncs", action="store_true", help="also count syncs per message (a run of its own under strace)")
    p.add_argument("--prove-durable", action="store_true",
                   help="prove with strace for the other relays too that every 250 came after a sync of its message")
    p.add_argument("--no-proof", action="store_true", help="not even for egret (which makes the exit code 1 where it fails)")
    p.add_argument("--keep-trace", metavar="FILE", help="keep the trace of --prove-durable")
    p.add_argument("--json", metavar="FILE", help="default: build/bench/SCENARIO.json; what else is in FILE stays there")
    p.add_argument("--table", metavar="FILE.md",
                   help="write the figures of all JSON files as Markdown; alone it measures nothing")
    p.add_argument("--work-dir", default=os.path.join(ROOT, "build/bench"),
                   help="where the queues are (default: build/bench); must be a real disk to mean anything")
    p.add_argument("--run-limit", type=float, default=240.0, help="seconds after which a run is given up (default 240)")
    options = p.parse_args()
    options.blocklists = os.path.join(ROOT, "config/blocklists.yaml")

    if options.list:
        print(listing)
        sys.exit(0)
    if not options.scenario and not options.table:
        p.error("no scenario; there are:\n" + listing)
    if "all" in options.scenario:
        options.scenario = list(scenarios.ALL)
        report.progress(f"all: {', '.join(options.scenario)} (classes is a program of its own: tests/bench/run classes)")
    for name in options.scenario:
        if name not in scenarios.ALL:
            p.error(f"no scenario {name!r}; there are:\n{listing}")
    if options.relays:
        options.relays = list(dict.fromkeys(options.relays.split(",")))
        if bad := set(options.relays) - {"egret", "postfix", "direct"}:
            p.error(f"no relay {', '.join(sorted(bad))}; there are egret, postfix, direct")
    else:
        options.relays = ["egret", *([options.vs] if options.vs else []), "direct"]
    if options.repeat < 1 or (options.count is not None and options.count < 1):
        p.error("--repeat and --count must be at least 1")
    for name in ("egret", "fill", "slow_sync", "work_dir", "json", "keep_trace", "table"):
        if getattr(options, name):
            setattr(options, name, os.path.abspath(getattr(options, name)))
    if options.scenario and not any(chosen_subjects(scenarios.ALL[name], options) for name in options.scenario):
        p.error(f"nothing of {', '.join(options.relays)} is in {', '.join(options.scenario)}")
    try:
        report.read_json(options.json or "")
    except OSError as e:
        p.error(str(e))  # now, and not when all is measured
    if lacking := missing(options):
        p.error("missing: " + "; ".join(lacking))
    return options


def missing(options):
    """What the chosen scenarios need and is not here, for people."""
    chosen = [s for name in options.scenario if chosen_subjects(s := scenarios.ALL[name], options)]
    if not chosen:
        return []
    relays_used = {subject.relay for s in chosen for subject in chosen_subjects(s, options)}
    out = []
    if "egret" in relays_used and not os.access(options.egret, os.X_OK):
        out.append("an egret binary at the path given by --egret (build it first, or choose --relays postfix,direct)")
    for target, path in ((scenarios.FILL, options.fill), (scenarios.SLOW_SYNC_LAYER, options.slow_sync)):
        users = [s.name for s in chosen if target in s.needs]
        if users and not os.path.exists(path):
            out.append(f"{path}, which {', '.join(users)} need(s) (ninja -C build/release {target})")
    far_away = any(s.kind == scenarios.DISTANCE for s in chosen)  # its receiver is one
    needs = ["smtp-source", "smtp-sink", "ip", "mount"] + (["postfix"] if "postfix" in relays_used or far_away else [])
    traced = any(s.provable for s in chosen) and (options.syncs or options.prove_durable or not options.no_proof)
    needs += ["strace"] if traced else []
    return out + [f"{n} (Debian: {dict(ip='iproute2', mount='mount', strace='strace').get(n, 'postfix')})"
                  for n in needs if not shutil.which(n)]


def main():
    options = arguments()
    if not options.scenario:
        try:
            markdown.write(options.table, options.json or options.work_dir, ROOT)
        except OSError as e:
            sys.exit(f"bench: {e}")
        return 0
    return sandbox.run(lambda: inside(options))


if __name__ == "__main__":
    sys.exit(main())
