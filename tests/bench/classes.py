#!/usr/bin/python3
"""How long transactional mail takes while a great backlog of bulk mail is there.

    tests/bench/run classes [--backlog N] [--probes N] [--only a,b,c,d] [--egret PATH] [--json FILE]

Sends single transactional messages at a steady pace, first with nothing else to do, then beside a backlog of bulk mail:

  a  deferred    the backlog's destination refuses connections; all of it is tried again every few seconds
  b  delivering  the backlog is being delivered through its own pool to a receiver that takes 20 ms for each message
  c  smarthost   both classes leave by one smarthost with four connections, which takes 5 ms for each message
  d  wave        the backlog becomes due all at once, and its receiver takes it as fast as it can

and prints how long after its 250 (accept-to-delivery), and after its final dot was sent (dot-to-delivery), a message had
arrived, at the median and the 99th percentile, and the ratio of those under the backlog to those without. Exit code 1: the
p99 of accept-to-delivery under a backlog is more than twice the idle one (plus half a millisecond, what clocks and Python
are good for).

Needs what README.md names. Everything runs on the same cores: see there.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import meter
import relays
import report
import sandbox

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BULK_PORT, BULK_SINK, PROBE_SINK = 2504, 2510, 2511  # Egret's listener for bulk, and the receivers
GRAIN_MS = 0.5
WARM_UP = 50  # messages

CASES = {
    "a": ("deferred", "destination refuses connections"),
    "b": ("delivering", "own pool, receiver takes 20 ms a message"),
    "c": ("smarthost", "one smarthost, four connections, 5 ms a message"),
    "d": ("wave", "all due at once, full speed"),
}


class Egret(relays.Egret):
    """Two listeners, two classes; the destinations are given by `routes`."""

    def __init__(self, directory, options, case):
        super().__init__(directory, f"classes-{os.getpid()}", options, "queue")
        if case == "c":
            egresses = f"""\
smarthosts:
  esp: {{address: "{relays.LOOPBACK}:{PROBE_SINK}", tls: none, connections: 4}}
pools:
  transactional: {{fallback: [esp]}}
  bulk: {{fallback: [esp]}}
"""
        else:
            egresses = f"""\
sources:
  out1: {{address: {relays.LOOPBACK}, ehlo: out1.bench.test}}
  out2: {{address: 127.0.0.2, ehlo: out2.bench.test}}
pools:
  transactional: {{sources: [out1], when_exhausted: hold}}
  bulk: {{sources: [out2], when_exhausted: hold}}
"""
        lists = ", ".join(f"{name}: {{enabled: false}}" for name in relays.built_in_blocklists(options.blocklists))
        with open(self.config, "w") as f:
            f.write(f"""\
hostname: bench.test
data_dir: {self.directory}/data
threads: {options.threads}
listeners:
  - {{address: "{relays.LOOPBACK}:{relays.EGRET_PORT}", allow: [127.0.0.0/8], class: transactional}}
  - {{address: "{relays.LOOPBACK}:{BULK_PORT}", allow: [127.0.0.0/8], class: bulk}}
classes: {{transactional: {{pool: transactional}}, bulk: {{pool: bulk}}}}
{egresses}
routes:
  - {{domain: bulk.test, to: "{relays.LOOPBACK}:{BULK_SINK}"}}
  - {{domain: dst.test, to: "{relays.LOOPBACK}:{PROBE_SINK}"}}
delivery: {{allow_private: true, tls: none, retry: [{"5s" if case == "a" else "1h"}]}}
dns: {{servers: ["{relays.LOOPBACK}:53"]}}
reputation:
  blocklists: {{{lists}}}
admin: {{address: "{relays.LOOPBACK}:{relays.ADMIN_PORT}"}}
log: {{level: {options.egret_log}}}
""")

    def api(self, path, body=None):
        request = urllib.request.Request(f"http://{relays.LOOPBACK}:{relays.ADMIN_PORT}{path}",
                                         data=None if body is None else json.dumps(body).encode(),
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def waiting(self):
        return self.api("/api/v1/queue?limit=0")["by_class"].get("bulk", 0)


class Receiver:
    def __init__(self, port, delay=0, times=None):
        argv = [sys.executable, os.path.join(HERE, "receiver.py"), str(port), "--delay", str(delay)]
        self.process = subprocess.Popen(argv + (["--times", times] if times else []), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, start_new_session=True)
        if self.process.stdout.readline() != b"ready\n":
            raise relays.Failed("the receiver did not start")

    def close(self):
        self.process.kill()
        self.process.wait()


class FastSink:
    def __init__(self):
        self.process = subprocess.Popen(["smtp-sink", "-u", "root", "-m", "2000", f"{relays.LOOPBACK}:{BULK_SINK}", "1000"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        start_new_session=True)
        relays.wait_for_greeting(BULK_SINK, lambda: self.process.poll() is None)

    def close(self):
        self.process.kill()
        self.process.wait()


class Probe:
    """Sends one message at a time over one connection and finds out when each arrived."""

    def __init__(self, times):
        self.times, self.next = times, 0
        self.sock = socket.create_connection((relays.LOOPBACK, relays.EGRET_PORT), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reply()
        self.ask(b"EHLO probe.bench.test\r\n")

    def reply(self):
        got = b""
        while not got.endswith(b"\n") or got.splitlines()[-1][3:4] == b"-":
            more = self.sock.recv(4096)
            if not more:
                raise relays.Failed(f"connection closed, after {got!r}")
            got += more
        if got[:1] not in (b"2", b"3"):
            raise relays.Failed(got.decode("latin-1").strip())

    def ask(self, command):
        self.sock.sendall(command)
        self.reply()

    def send(self):
        token = f"t{self.next}"
        self.next += 1
        for command in (b"MAIL FROM:<a@src.test>\r\n", b"RCPT TO:<b@dst.test>\r\n", b"DATA\r\n"):
            self.ask(command)
        body = (f"X-Bench-Token: {token}\r\nFrom: <a@src.test>\r\nTo: <b@dst.test>\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n"
                f"Message-Id: <{token}@bench.test>\r\nSubject: code\r\n\r\n" + ("X" * 78 + "\r\n") * 25 + ".\r\n").encode()
        sent = time.monotonic_ns()
        self.ask(body)
        return token, sent, time.monotonic_ns()

    def arrivals(self):
        with open(self.times) as f:
            return {token: int(at) for token, at in map(str.split, f)}

    def measure(self, count, pace, enough=lambda: True):
        """`count` messages, about `pace` a second. `enough`: still something else to do for the relay, asked at the end."""
        sent = []
        begun = time.monotonic()
        for number in range(count):
            pause = begun + (number + random.random()) / pace - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            sent.append(self.send())
        loaded = enough()
        deadline = time.monotonic() + 60
        while not all(token in (arrived := self.arrivals()) for token, _, _ in sent):
            if time.monotonic() > deadline:
                raise relays.Failed(f"{sum(t not in arrived for t, _, _ in sent)} transactional messages never arrived")
            time.sleep(0.05)
        accept = sorted(max(0, arrived[t] - done) / 1e6 for t, _, done in sent)
        dot = sorted((arrived[t] - at) / 1e6 for t, at, _ in sent)
        return {"accept_ms": figures(accept), "dot_ms": figures(dot), "count": count, "loaded_to_the_end": loaded}


def figures(ordered):
    at = lambda share: ordered[min(len(ordered) - 1, int(len(ordered) * share))]
    return {"p50": at(0.5), "p99": at(0.99), "max": ordered[-1]}


def fill(relay, count):
    done = subprocess.run(["smtp-source", "-d", "-s", "20", "-m", str(count), "-l", "2048", "-M", "vm.test", "-f",
                           "news@src.test", "-t", "b@bulk.test", f"{relays.LOOPBACK}:{BULK_PORT}"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise relays.Failed(f"smtp-source: {done.stderr.strip()[-500:]}\n{relay.log_tail()}")


def run_case(options, disk, case):
    times = os.path.join(disk, f"times-{case}")
    open(times, "w").close()
    with contextlib.ExitStack() as stack:
        probed = Receiver(PROBE_SINK, 5 if case == "c" else 0, times)
        stack.callback(probed.close)
        if case == "b":
            stack.callback(Receiver(BULK_SINK, 20).close)
        relay = Egret(disk, options, case)
        stack.callback(relay.stop)
        relay.start()
        probe = Probe(times)
        probe.measure(WARM_UP, options.pace)
        idle = probe.measure(options.probes, options.pace)
        begun = time.monotonic()
        fill(relay, options.backlog)
        filled = time.monotonic() - begun
        waiting = relay.waiting()
        if case == "d":
            stack.callback(FastSink().close)
            relay.api("/api/v1/queue/retry", {"selector": "class=bulk"})
        cpu = relay.meter.cpu_us()
        begun = time.monotonic()
        # The wave is over when it is over: then the figures are those of the messages that met it.
        count = options.probes
        loaded = probe.measure(count, options.pace, lambda: relay.waiting() > 0)
        busy = (relay.meter.cpu_us() - cpu) / (time.monotonic() - begun) / 1e6
        left = relay.waiting()
        return {"case": case, "title": " - ".join(CASES[case]), "idle": idle, "backlog": loaded, "waiting": waiting, "left": left,
                "fill_s": filled, "cores": busy, "peak_kb": meter.pss_kb(relay.meter.pids()),
                "ratio_p99": loaded["accept_ms"]["p99"] / max(idle["accept_ms"]["p99"], 0.001),
                "holds": loaded["accept_ms"]["p99"] <= 2 * idle["accept_ms"]["p99"] + GRAIN_MS}


def show(result):
    print(f"\n{result['case']}: {result['title']}; {result['waiting']} bulk messages waited, {result['left']} at the end; "
          f"{result['cores']:.2f} cores, {result['peak_kb'] / 1024:.0f} MB")
    for key, label in (("accept_ms", "accept-to-delivery"), ("dot_ms", "dot-to-delivery")):
        idle, full = result["idle"][key], result["backlog"][key]
        print(f"  {label:<19} idle p50 {idle['p50']:6.2f} p99 {idle['p99']:6.2f} ms   backlog p50 {full['p50']:6.2f} "
              f"p99 {full['p99']:6.2f} max {full['max']:7.2f} ms   ratio p50 {full['p50'] / max(idle['p50'], 0.001):5.2f} "
              f"p99 {full['p99'] / max(idle['p99'], 0.001):5.2f}")
    if not result["backlog"]["loaded_to_the_end"]:
        print("  the backlog was gone before the last of them: take more with --backlog, or fewer --probes")
    sys.stdout.flush()


def inside(options):
    with contextlib.ExitStack() as stack:
        disk = tempfile.mkdtemp(prefix="classes-", dir=options.work_dir)
        stack.callback(shutil.rmtree, disk, ignore_errors=True)
        sandbox.use_resolver(disk, relays.LOOPBACK)
        names = subprocess.Popen([sys.executable, os.path.join(HERE, "nameserver.py"), relays.LOOPBACK, "53", relays.DOMAIN,
                                  relays.LOOPBACK], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        stack.callback(lambda: (names.kill(), names.wait()))
        names.stdout.readline()
        results = []
        try:
            for case in options.only:
                report.progress(f"classes {case}: {CASES[case][1]}")
                results.append(run_case(options, disk, case))
                show(results[-1])
        except (relays.Failed, OSError, subprocess.SubprocessError) as e:
            print(f"FAILED: {e}", file=sys.stderr)
            return 1
        report.write_json(options.json, results, ROOT)
        return 0 if all(r["holds"] for r in results) else 1


def main():
    p = argparse.ArgumentParser(prog="tests/bench/run classes", allow_abbrev=False,
                                description="What a backlog of bulk mail costs transactional mail.")
    p.add_argument("--backlog", type=int, default=100_000, help="bulk messages (%(default)s)")
    p.add_argument("--probes", type=int, default=600, help="transactional messages, in each of two rounds (%(default)s)")
    p.add_argument("--pace", type=float, default=40, help="of them a second (%(default)s)")
    p.add_argument("--only", default=",".join(CASES), help="cases, e.g. a,d (all)")
    p.add_argument("--egret", default=os.path.join(ROOT, "build/release/egret"))
    p.add_argument("--egret-log", default="warn")
    p.add_argument("--threads", type=int, default=0)
    p.add_argument("--connections", type=int, default=20)
    p.add_argument("--blocklists", default=os.path.join(ROOT, "config/blocklists.yaml"))
    p.add_argument("--work-dir", default=os.path.join(ROOT, "build/bench"))
    p.add_argument("--json", default="")
    options = p.parse_args()
    options.only = options.only.split(",")
    if set(options.only) - set(CASES):
        p.error(f"cases are {', '.join(CASES)}")
    for name in ("egret", "work_dir"):
        setattr(options, name, os.path.abspath(getattr(options, name)))
    options.json = os.path.abspath(options.json or os.path.join(options.work_dir, "classes.json"))
    os.makedirs(options.work_dir, exist_ok=True)
    return sandbox.run(lambda: inside(options))


if __name__ == "__main__":
    sys.exit(main())
