"""Figures for people (a table) and for programs (JSON)."""

import json
import os
import sys

import scenarios
from goals import figure, number, quotient, sentence

NOISE = 0.25  # cores; above this the table says that the machine was not ours


def progress(text):
    print(text, file=sys.stderr, flush=True)


# The columns of each kind, with the keys of their figures; "p50" of a latency is its second key.
_CPU, _PEAK = ("CPU us/msg", "cpu_us_per_msg"), ("peak PSS MB", "peak_pss_mb")
_DRAINED, _ACCEPTED = ("drained msg/s", "drained_per_s"), ("accepted msg/s", "accepted_per_s")
_PLAIN = (_DRAINED, _ACCEPTED, _CPU, _PEAK)
COLUMNS = {
    scenarios.THROUGHPUT: _PLAIN,
    scenarios.LATENCY: (("MAIL-250 ms p50", "mail_ms.p50"), ("p99", "mail_ms.p99"), ("dot-250 ms p50", "dot_ms.p50"),
                        ("p99", "dot_ms.p99"), ("accepted/s", "accepted_per_s"), _CPU, _PEAK),
    scenarios.REFUSING: (_ACCEPTED, _CPU, _PEAK, ("disk MB", "disk_mb"), ("octets/msg", "octets_per_msg"),
                         ("disk per octet", "disk_per_octet")),
    scenarios.WAITING: (("greeting s", "greeting_s"), ("mail accepted s", "mail_accepted_s"), ("complete s", "complete_s"),
                        ("settled PSS MB", "settled_pss_mb"), _PEAK, ("CPU s", "cpu_s")),
    scenarios.SLOW_SYNC: (*_PLAIN, ("delayed syncs/msg", "delayed_syncs_per_msg")),
    scenarios.DISTANCE: (*_PLAIN, ("new connections", "receiver_connections")),
    scenarios.SITES: (*_PLAIN, ("sites", "sites"), ("first: msg/s", "first_drained_per_s"),
                      ("first: CPU us/msg", "first_cpu_us_per_msg"), ("first: peak PSS MB", "first_peak_pss_mb")),
    scenarios.BESIDE: (*_PLAIN, ("waiting", "waiting")),
}


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
            keys = [("drained_per_s", "drained"), ("accepted_per_s", "accepted"), ("mail_ms.p50", "mail_ms_p50"),
                    ("dot_ms.p50", "dot_ms_p50")]
            if other == "postfix":
                keys += [("cpu_us_per_msg", "cpu"), ("peak_pss_mb", "memory")]
            for key, name in keys:
                if (value := quotient(figure(entry, relay, key), figure(entry, other, key))) is not None:
                    mine[f"{name}_to_{label}"] = value
        out[relay] = mine
    return out


def columns(entry, kind):
    """The table as rows of cells, the first one its head. What no subject has a figure for is left out."""
    chosen = [c for c in COLUMNS[kind] if any(figure(entry, relay, c[1]) is not None for relay in entry["relays"])]
    lead, what = {scenarios.LATENCY: ("mail_ms_p50", "MAIL p50"), scenarios.REFUSING: ("accepted", "accepted")}.get(
        kind, ("drained", "drained"))
    quotients = [(f"{lead}_to_postfix", f"{what} to postfix"), (f"{lead}_to_ceiling", f"{what} to ceiling"),
                 ("cpu_to_postfix", "CPU to postfix")]
    quotients = [q for q in quotients if any(q[0] in mine for mine in entry["ratios"].values())]
    rows = [["relay", "messages", *(title for title, _ in chosen), *(title for _, title in quotients)]]
    for relay, data in entry["relays"].items():
        failed = sum("error" in r for r in data["runs"])
        row = [relay + (f" ({failed} FAILED)" if failed else ""), f"{data['runs'][0]['count']:,}".replace(",", " ")]
        row += [_spread(entry, relay, key) for _, key in chosen]
        row += [_times(entry["ratios"].get(relay, {}).get(key)) for key, _ in quotients]
        rows.append(row)
    return rows


def _spread(entry, relay, key):
    found = entry["relays"][relay]["median"].get(key)
    if not found:
        return number(figure(entry, relay, key))  # one of several under one name, or nothing
    text = number(found["median"])
    return text if found["min"] == found["max"] else f"{text} ({number(found['min'])}-{number(found['max'])})"


def _times(value):
    return "-" if value is None else f"{value:.2f}x"


def _print_rows(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for at, row in enumerate(rows):
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))).rstrip())
        if at == 0:
            print("  ".join("-" * w for w in widths))


def table(entry, scenario):
    print(f"\n{entry['scenario']}: {entry['title']}; " + ("one run" if entry["repeat"] == 1 else
                                                        f"medians of {entry['repeat']} runs (least-greatest)"))
    _print_rows(columns(entry, scenario.kind))
    for verdict in entry["goals"]:
        print("  " + sentence(verdict))
    for note in notes(entry, scenario):
        print(f"  {note}")
    sys.stdout.flush()


def _most(entry, relay, key):
    """The greatest of a figure's runs."""
    found = entry["relays"][relay]["median"].get(key)
    return found["max"] if found else 0


def notes(entry, scenario):
    """What the reader has to know before the figures mean something."""
    settings = entry["settings"]
    out = list(scenario.notes)
    if scenario.kind == scenarios.DISTANCE:
        out.append("the wire is a program that delays octets and new connections (far.py), not netem: "
                   "no packet is lost and no window is small")
    elif scenario.kind in (scenarios.THROUGHPUT, scenarios.LATENCY) and "postfix" in entry["relays"]:
        out.append(f"deliveries at a time: egret {settings['egret_connections_per_site']} per site, "
                   f"postfix {settings['postfix_destination_concurrency']} (its default)")
    for relay, data in entry["relays"].items():
        if error := next((r["error"] for r in data["runs"] if "error" in r), None):
            out.append(f"FAILED: {relay}: {error.splitlines()[0]}")
    out.append(f"CPU by {', '.join(entry['cpu_method']) or '-'}; queues on {entry['machine']['queue_filesystem']}")
    if len({d["runs"][0]["count"] for d in entry["relays"].values()}) > 1:
        out.append("message counts differ so that every run lasts some seconds (--count makes them equal)")
    if entry.get("quick"):
        out.append("A QUICK LOOK: --count was given, the goals are for the scenario's own counts")
    short = [n for n in entry["relays"] if (s := figure(entry, n, "seconds")) and s < 2]
    if short:
        out.append(f"TOO SHORT to mean much (under 2 s): {', '.join(short)}")
    if (noise := max((_most(entry, n, "others_cores") for n in entry["relays"]), default=0)) > NOISE:
        out.append(f"NOISY: other programs, and the kernel on its own account, used up to {noise:.1f} cores meanwhile")
    for relay in entry["relays"]:
        if surplus := _most(entry, relay, "surplus"):
            out.append(f"DUPLICATES: the sink got up to {surplus} messages too many from {relay}")
    for relay, found in entry.get("syncs", {}).items():
        if "error" not in found:
            out.append(f"syncs: {relay} {found['syncs_per_msg']:.3f} per message ({found['syncs']} for {found['messages']})")
    for relay, found in entry.get("prove_durable", {}).items():
        out += _durability(relay, found)
    return out


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


def read_json(path):
    """The entries of a file that write_json wrote; none where there is no such file."""
    try:
        with open(path) as f:
            return json.load(f)["scenarios"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise OSError(f"{path}: not a file of this bench ({e})") from None


def merged(old, new):
    """The new entries in the place of those of the same scenario, or behind all others."""
    identity = lambda e: (e.get("scenario"), e.get("case"))
    fresh = {identity(e): e for e in new}
    out = [fresh.pop(identity(e), e) for e in old]
    return out + list(fresh.values())


def write_json(path, entries, root):
    """What else is in the file stays. Written whole or not at all."""
    write_file(path, json.dumps({"scenarios": merged(read_json(path), entries)}, indent=1) + "\n", root)


def write_file(path, text, root):
    """Owned by whoever owns the source tree, though root measured."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    draft = path + ".new"
    with open(draft, "w") as f:
        f.write(text)
    owner = os.stat(root)
    os.chown(draft, owner.st_uid, owner.st_gid)
    os.replace(draft, path)
    progress(f"written: {os.path.relpath(path)}")
