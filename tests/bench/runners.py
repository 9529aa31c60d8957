"""From a Scenario and a Subject to figures: one function for each kind of scenario. What a kind needs beside a load has a file
of its own."""

import json

import deep_queue
import far
import load
import refusing
import relays
import scenarios
from bed import SlowDisk

SYNC_DELAY_US = 3_000
ROUND_TRIP_MS = 40
MANY_SITES = 1_000  # from here on the first message to each is measured by itself


def _warm_up(scenario, count):
    # Processes are forked, connections opened, names looked up: none of that is a property of a message.
    return min(500, max(scenario.sessions, count // 10))


def _throughput(bed, scenario, count, relay, sink):
    warm_up = _warm_up(scenario, count)
    load.generate(load.smtp_source(scenario, relay.port, warm_up), sink, warm_up, load.WARM_UP_LIMIT, relay)
    return load.measured(bed, relay, sink, load.smtp_source(scenario, relay.port, count), count)[0]


def run_throughput(bed, scenario, subject, count):
    with bed.relay(scenario, subject) as (relay, sink):
        return _throughput(bed, scenario, count, relay, sink)


def run_latency(bed, scenario, subject, count):
    with bed.relay(scenario, subject) as (relay, sink):
        warm_up = min(500, max(scenario.sessions * 5, count // 10))
        load.generate(load.load_client(scenario, relay.port, warm_up), sink, warm_up, load.WARM_UP_LIMIT, relay)
        few = 5 * scenario.sessions  # the client's own first messages: fresh connections
        argv = load.load_client(scenario, relay.port, count - few, few, time_limit=bed.options.run_limit)
        result, output = load.measured(bed, relay, sink, argv, count)
        figures = json.loads(output)
        return result | {key: figures[key] for key in ("mail_ms", "dot_ms", "accepted_per_s")}


def run_slow_sync(bed, scenario, subject, count):
    disk = SlowDisk(bed, SYNC_DELAY_US)
    with bed.relay(scenario, subject, trace=disk.command(), postfix=disk.postfix()) as (relay, sink):
        before = disk.syncs()
        result = _throughput(bed, scenario, count, relay, sink)
        delayed = disk.syncs() - before
        if not delayed:
            raise relays.Failed("not one sync was delayed: the library is not in this relay's processes")
        return result | {"delayed_syncs_per_msg": delayed / (count + _warm_up(scenario, count))}


def run_distance(bed, scenario, subject, count):
    postfix = ["default_destination_concurrency_limit = 1"]
    if subject.settings.get("always_caching"):
        postfix.append("smtp_connection_cache_destinations = $relayhost")
    with bed.relay(scenario, subject, sink=lambda: far.Receiver(bed.disk, bed.tag, ROUND_TRIP_MS), postfix=postfix, threads=1,
                   connections=1) as (relay, sink):
        load.generate(load.smtp_source(scenario, relay.port, 5), sink, 5, load.WARM_UP_LIMIT, relay)
        before = sink.connections()
        result, _ = load.measured(bed, relay, sink, load.smtp_source(scenario, relay.port, count), count)
        return result | {"receiver_connections": sink.connections() - before}


def run_sites(bed, scenario, subject, count):
    sites = subject.settings["sites"]
    if bed.options.count:
        sites = min(sites, max(10, 5 * bed.options.count))  # a quick look
    client = lambda messages: load.load_client(scenario, relay.port, messages, time_limit=bed.options.run_limit, sites=sites)
    with bed.relay(scenario, subject, threads=1, messages_per_connection=1) as (relay, sink):
        first = {}
        if sites >= MANY_SITES:
            figures, _ = load.measured(bed, relay, sink, client(sites), sites)
            first = {"first_" + key: figures[key] for key in ("cpu_us_per_msg", "drained_per_s", "peak_pss_mb")}
        else:
            warm_up = _warm_up(scenario, count)
            load.generate(client(warm_up), sink, warm_up, load.WARM_UP_LIMIT, relay)
        result, _ = load.measured(bed, relay, sink, client(count), count)
        return result | first | {"sites": sites}


RUNNERS = {
    scenarios.THROUGHPUT: run_throughput,
    scenarios.LATENCY: run_latency,
    scenarios.REFUSING: refusing.run_refusing,
    scenarios.WAITING: deep_queue.run_waiting,
    scenarios.SLOW_SYNC: run_slow_sync,
    scenarios.DISTANCE: run_distance,
    scenarios.SITES: run_sites,
    scenarios.BESIDE: deep_queue.run_beside,
}
