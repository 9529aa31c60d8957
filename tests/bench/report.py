"""Figures for people (a table) and for programs (JSON)."""

import json
import os
import sys

import scenarios

NOISE = 0.25  # cores; above this the table says that the machine was not ours


def progress(text):
    print(text, file=sys.stderr, flush=True)


def _value(entry, relay, key, inner=None):
    found = entry["relays"].get(relay, {}).get("median", {}).get(key)
    return found.get(inner or "median") if found else None


def _quotient(a, b):
    return a / b if a and b else None


def ratios(entry):
    """Of every relay to Postfix and to the ceiling; greater is better for rates, less is for the rest."""
    out = {}
    for relay in entry["relays"]:
        if relay == "direct":
            continue
        mine = {}
        for other, label in (("postfix", "postfix"), ("direct", "ceiling")):
            if other == relay or other not in entry["relays"]:
                continue
            mine[f"drained_to_{label}"] = _quotient(_value(entry, relay, "drained_per_s"), _value(entry, other, "drained_per_s"))
            if other == "postfix":
                for key, name in (("cpu_us_per_msg", "cpu"), ("peak_pss_mb", "memory")):
                    mine[f"{name}_to_{label}"] = _quotient(_value(entry, relay, key), _value(entry, other, key))
            for key in ("mail_ms", "dot_ms"):
                if (value := _quotient(_value(entry, relay, key, "p50"), _value(entry, other, key, "p50"))) is not None:
                    mine[f"{key}_p50_to_{label}"] = value
        out[relay] = mine
    return out


def _number(value):
    if value is None:
        return "-"
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _spread(entry, relay, key):
    found = entry["relays"][relay]["median"].get(key)
    if not found:
        return "-"
    text = _number(found["median"])
    return text if found["min"] == found["max"] else f"{text} ({_number(found['min'])}-{_number(found['max'])})"


def _times(value):
    return "-" if value is None else f"{value:.2f}x"


def _print_rows(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for at, row in enumerate(rows):
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip())
        if at == 0:
            print("  ".join("-" * w for w in widths))


def table(entry, kind):
    settings = entry["settings"]
    print(f"\n{entry['scenario']}: {entry['title']}; medians of {entry['repeat']} runs (least-greatest)")
    with_postfix = "postfix" in entry["relays"]
    with_direct = "direct" in entry["relays"]

    head = ["relay", "messages"]
    if kind == scenarios.LATENCY:
        head += ["MAIL-250 ms p50", "p99", "dot-250 ms p50", "p99", "accepted/s"]
    else:
        head += ["drained msg/s", "accepted msg/s"]
    head += ["CPU us/msg", "peak PSS MB"]
    what = "MAIL p50" if kind == scenarios.LATENCY else "drained"
    head += [f"{what} to postfix"] * with_postfix + [f"{what} to ceiling"] * with_direct + ["CPU to postfix"] * with_postfix
    key = "mail_ms_p50" if kind == scenarios.LATENCY else "drained"

    rows = [head]
    for relay, data in entry["relays"].items():
        failed = sum("error" in r for r in data["runs"])
        row = [relay + (f" ({failed} FAILED)" if failed else ""), str(data["runs"][0]["count"])]
        if kind == scenarios.LATENCY:
            for times in ("mail_ms", "dot_ms"):
                row += [_number(_value(entry, relay, times, p)) for p in ("p50", "p99")]
            row.append(_spread(entry, relay, "accepted_per_s"))
        else:
            row += [_spread(entry, relay, "drained_per_s"), _spread(entry, relay, "accepted_per_s")]
        row += [_spread(entry, relay, "cpu_us_per_msg"), _spread(entry, relay, "peak_pss_mb")]
        mine = entry["ratios"].get(relay, {})
        row += [_times(mine.get(f"{key}_to_postfix"))] * with_postfix + [_times(mine.get(f"{key}_to_ceiling"))] * with_direct
        row += [_times(mine.get("cpu_to_postfix"))] * with_postfix
        rows.append(row)
    _print_rows(rows)

    notes = [f"deliveries at a time: egret {settings['egret_connections_per_site']} per site, "
             f"postfix {settings['postfix_destination_concurrency']} (its default)",
             f"CPU by {', '.join(entry['cpu_method']) or '-'}; queues on {entry['machine']['queue_filesystem']}"]
    if len({d["runs"][0]["count"] for d in entry["relays"].values()}) > 1:
        notes.append("message counts differ so that every run lasts some seconds (--count makes them equal)")
    short = [n for n in entry["relays"] if (s := _value(entry, n, "seconds")) and s < 2]
    if short:
        notes.append(f"TOO SHORT to mean much (under 2 s): {', '.join(short)}")
    noise = max((_value(entry, n, "others_cores", "max") or 0 for n in entry["relays"]), default=0)
    if noise > NOISE:
        notes.append(f"NOISY: other programs, and the kernel on its own account, used up to {noise:.1f} cores meanwhile")
    surplus = {n: v for n in entry["relays"] if (v := _value(entry, n, "surplus", "max"))}
    for relay, number in surplus.items():
        notes.append(f"DUPLICATES: the sink got up to {number} messages too many from {relay}")
    for relay, found in entry.get("syncs", {}).items():
        if "error" not in found:
            notes.append(f"syncs: {relay} {found['syncs_per_msg']:.3f} per message ({found['syncs']} for {found['messages']})")
    for relay, found in entry.get("prove_durable", {}).items():
        notes += _durability(relay, found)
    for note in notes:
        print(f"  {note}")
    sys.stdout.flush()


def _durability(relay, found):
    if "error" in found:
        return [f"durable before 250: {relay} NOT CHECKED, its run failed"]
    text = (f"durable before 250: {relay} {'yes' if found['holds'] else 'NOT PROVEN'}, "
            f"{found['proven']} of {found['messages']} messages ({found['syncs']} syncs)")
    if found["files"]:
        text += f"; directory synced first for {found['directories_synced']} of {found['files']} new files"
    if found["io_uring"]:
        text += "; io_uring is in use, what it writes and syncs is invisible to strace"
    return [text, *("  " + p for p in found["problems"])]


def write_json(path, entries, root):
    """Written whole or not at all; owned by whoever owns the source tree, though root measured."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = path + ".new"
    with open(draft, "w") as f:
        json.dump({"scenarios": entries}, f, indent=1)
        f.write("\n")
    owner = os.stat(root)
    os.chown(draft, owner.st_uid, owner.st_gid)
    os.replace(draft, path)
    progress(f"written: {os.path.relpath(path)}")
