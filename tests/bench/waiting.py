#!/usr/bin/python3
"""A start on a deep queue: how long until mail is accepted, until the queue is complete, and at what memory.

    ninja -C build/release egret bench_spool_fill
    sudo unshare --net tests/bench/waiting.py --egret build/release/egret --fill build/release/tests/bench_spool_fill

Fills a spool in DIRECTORY/data (unless it is there already: then the next run measures the same one), starts Egret on
it and prints a line for each start. Nothing is due during a run. --no-hints removes the hint files first: the start
has to read every segment. --cold drops the page cache first. (The ordinary start is a scenario of the bench, waiting-1m:
deep_queue.py.)
"""

import argparse
import glob
import json
import os
import shutil
import smtplib
import socket
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import meter  # noqa: E402
import relays  # noqa: E402

SMTP, ADMIN = 12525, 18025


def configuration(directory, blocklists):
    lists = ", ".join(f"{name}: {{enabled: false}}" for name in relays.built_in_blocklists(blocklists))
    path = os.path.join(directory, "egret.yaml")
    with open(path, "w") as f:
        f.write(f"""\
hostname: bench.test
data_dir: {directory}/data
listeners:
  - {{address: "127.0.0.1:{SMTP}", allow: [127.0.0.0/8], class: transactional}}
sources:
  out1: {{address: 127.0.0.1, ehlo: out1.bench.test, shared: true}}
pools:
  transactional: {{sources: [out1], when_exhausted: hold}}
classes:
  transactional: {{pool: transactional, max_age: 5d}}
  bulk: {{pool: transactional, max_age: 5d}}
delivery: {{port: 12526, allow_private: true, tls: none}}
dns: {{servers: ["127.0.0.1:53"]}}
reputation:
  blocklists: {{{lists}}}
admin: {{address: "127.0.0.1:{ADMIN}"}}
spool: {{reserve: 64M}}
log: {{level: warn}}
""")
    return path


def wait_until(process, begun, probe, limit=120):
    while time.monotonic() - begun < limit:
        if process.poll() is not None:
            raise relays.Failed(f"egret ended with {process.returncode}")
        try:
            if probe():
                return round(time.monotonic() - begun, 3)
        except (OSError, smtplib.SMTPException):
            pass
        time.sleep(0.002)
    raise relays.Failed(f"not within {limit} s")


def greeted():
    with socket.create_connection(("127.0.0.1", SMTP), timeout=30) as s:
        return s.recv(3) == b"220"


def accepted(port=SMTP, to="b@fresh.test"):
    with smtplib.SMTP("127.0.0.1", port, "client.bench.test", timeout=30) as client:
        client.sendmail("a@sender.example", [to], b"Subject: x\r\n\r\nfresh\r\n")
    return True


def total():
    with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}/api/v1/queue?limit=0", timeout=60) as answer:
        return json.load(answer)["total"]


def measure(options, config):
    if options.no_hints:
        for path in glob.glob(os.path.join(options.directory, "data/spool/*.hint")):
            os.unlink(path)
    if options.cold:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
    begun = time.monotonic()
    process = subprocess.Popen([options.egret, "run", "-c", config])
    try:
        with meter.PeakMemory(lambda: [process.pid]) as memory:
            banner = wait_until(process, begun, greeted)
            mail = wait_until(process, begun, accepted)
            complete = wait_until(process, begun, lambda: total() >= options.count)
            cpu_us = meter.process_cpu_us(process.pid)
            time.sleep(3)
            settled = meter.pss_kb([process.pid])
        return {"banner_s": banner, "mail_accepted_s": mail, "complete_s": complete,
                "cpu_s": round(cpu_us / 1e6, 2), "waiting": total(),
                "pss_mb": round(settled / 1024, 1), "peak_pss_mb": round(memory.peak_kb / 1024, 1)}
    finally:
        process.terminate()
        process.wait(60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--egret", required=True)
    parser.add_argument("--fill", required=True, help="bench_spool_fill")
    parser.add_argument("--directory", default="/var/tmp/egret-waiting")
    parser.add_argument("--blocklists", default=os.path.join(here, "../../config/blocklists.yaml"))
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--body", type=int, default=600, help="octets")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-hints", action="store_true")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="fill again")
    options = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    if options.fresh:
        shutil.rmtree(options.directory, ignore_errors=True)
    spool = os.path.join(options.directory, "data/spool")
    if not os.path.isdir(spool):
        os.makedirs(os.path.dirname(spool))
        begun = time.monotonic()
        subprocess.run([options.fill, spool, str(options.count), str(options.body), "86400"], check=True)
        print(f"filled in {time.monotonic() - begun:.1f} s", flush=True)
    config = configuration(options.directory, options.blocklists)
    try:
        for _ in range(options.repeat):
            print(json.dumps(measure(options, config)), flush=True)
    except relays.Failed as e:
        sys.exit(f"waiting: {e}")


if __name__ == "__main__":
    main()
