"""What strace sees of a relay: how often it syncs, and that it syncs a message before it takes it (durable.py)."""

import os
import shutil
import time

import durable
from load import SETTLE, WARM_UP_LIMIT, generate, load_client, smtp_source


def count_syncs(bed, scenario, subject):
    """fsync and fdatasync calls per message, with strace stopping at those two calls only."""
    count = max(2_000 if bed.options.count is None else bed.options.count, 10 * scenario.sessions)
    trace = os.path.join(bed.disk, "syncs.trace")
    with bed.relay(scenario, subject, trace=durable.strace_command(trace, durable.SYNCS)) as (relay, sink):
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


def prove_durable(bed, scenario, subject):
    count = max(500 if scenario.size > 16384 else 1_000, 5 * scenario.sessions)
    trace, tokens = os.path.join(bed.disk, "durable.trace"), os.path.join(bed.disk, "tokens")
    with bed.relay(scenario, subject, trace=durable.strace_command(trace)) as (relay, sink):
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
