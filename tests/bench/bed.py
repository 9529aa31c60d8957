"""What one invocation shares: the options, the directories, and how a relay and its sink are set up."""

import argparse
import contextlib
import os
import shutil
import struct
from dataclasses import dataclass, field

import relays

EGRET_SETTINGS = ("threads", "connections", "sources", "messages_per_connection", "data")


@dataclass
class Bed:
    """Disk for queues, memory for our own notes; `kept` outlives the invocation."""

    options: argparse.Namespace
    disk: str
    memory: str
    kept: str
    filesystem: str
    tag: str
    meter_methods: set = field(default_factory=set)

    @contextlib.contextmanager
    def relay(self, scenario, subject, trace=(), sink=None, postfix=(), before_start=None, **egret):
        """A fresh relay and a fresh sink, both ready; both gone afterwards. `sink`: what makes another one than smtp-sink.
        `postfix`: lines of main.cf; `before_start` is called with the relay; `egret`: arguments of relays.Egret, as in the
        subject's settings."""
        with contextlib.ExitStack() as stack:
            receiver = sink() if sink else relays.Sink(self.memory)
            stack.callback(receiver.close)
            if subject.relay == "egret":
                settings = {k: v for k, v in subject.settings.items() if k in EGRET_SETTINGS}
                relay = relays.Egret(self.disk, self.tag, self.options, scenario.accept, **(settings | egret))
            elif subject.relay == "postfix":
                relay = relays.Postfix(self.disk, self.tag, postfix)
            else:
                relay = relays.Direct()
            stack.callback(relay.stop)
            if before_start:
                before_start(relay)
            relay.start(trace)
            if relay.meter:
                self.meter_methods.add(relay.meter.method)
            yield relay, receiver


class SlowDisk:
    """slow_sync.cpp, preloaded into a relay: how it gets there, and how often it was asked."""

    def __init__(self, bed, delay_us):
        self.counter = os.path.join(bed.disk, "syncs")
        with open(self.counter, "wb") as f:
            f.write(bytes(8))
        os.chmod(self.counter, 0o666)  # Postfix's processes are not root's
        library = os.path.join(bed.disk, "slow_sync.so")  # where they may read it
        shutil.copyfile(bed.options.slow_sync, library)
        os.chmod(library, 0o755)
        self.environment = [f"LD_PRELOAD={library}", f"BENCH_SYNC_DELAY_US={delay_us}", f"BENCH_SYNC_COUNT={self.counter}"]

    def command(self):
        return ["env", *self.environment]

    def postfix(self):
        """Its daemons get this environment and no other: without the line they would know nothing of ours."""
        return ["import_environment = MAIL_CONFIG MAIL_DEBUG MAIL_LOGTAG TZ LANG=C POSTLOG_SERVICE POSTLOG_HOSTNAME "
                + " ".join(self.environment)]

    def syncs(self):
        with open(self.counter, "rb") as f:
            return struct.unpack("=Q", f.read(8))[0]
