"""The last full table, for docs/performance.md, made of the JSON files of the scenarios."""

import glob
import os

import goals
import report
import scenarios


def write(path, source, root):
    """`source`: a JSON file, or the directory with one for each scenario."""
    files = sorted(glob.glob(os.path.join(source, "*.json"))) if os.path.isdir(source) else [source]
    entries = {}
    for file in files:
        for entry in report.read_json(file):
            name = entry.get("scenario")
            if name in scenarios.ALL and entry.get("measured", "") >= entries.get(name, {}).get("measured", ""):
                entries[name] = entry
    if not entries:
        raise OSError(f"{source}: no scenario has been measured")
    report.write_file(path, render([entries[name] for name in scenarios.ALL if name in entries]), root)


def render(entries):
    out = ["| work | figure | Egret | goal | reached |", "|---|---|---:|---:|---|"]
    for entry in entries:
        out += _goals(entry)
    absent = [name for name in scenarios.ALL if name not in {e["scenario"] for e in entries}]
    if absent:
        out += ["", f"Not measured: {', '.join(absent)}."]
    for entry in entries:
        out += _details(entry)
    return "\n".join(out) + "\n"


def _goals(entry):
    """A line for each goal. Judged here, so that figures of an earlier run meet the goals of today."""
    out = []
    for verdict in goals.judged(entry, scenarios.ALL[entry["scenario"]].goals):
        unit = verdict["unit"]
        goal = f"{verdict['sign']} {verdict['goal']:g}{unit}" + (f" ({verdict['try_for']:g})" if verdict["try_for"] else "")
        reached = "**no**" if not verdict["reached"] else "yes" if verdict["try_for"] is None else \
            "yes, the better one too" if verdict["surpassed"] else "yes, not the better one"
        work = entry["scenario"] + (" (a quick look)" if entry.get("quick") else "")
        cells = [work, verdict["what"], goals.number(verdict["value"]) + unit, goal, reached]
        out.append("| " + " | ".join(cells) + " |")
    return out


def _details(entry):
    scenario = scenarios.ALL[entry["scenario"]]
    runs = "one run" if entry["repeat"] == 1 else f"medians of {entry['repeat']} runs (least-greatest)"
    head, *rows = report.columns(entry, scenario.kind)
    out = ["", f"### {scenario.name}", "", f"{scenario.title[0].upper()}{scenario.title[1:]}; {runs}, {_when(entry)}.", "",
           "| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    out += ["| " + " | ".join(row) + " |" for row in rows]
    return out + [""] + [f"- {note}" for note in report.notes(entry, scenario)]


def _when(entry):
    machine = entry["machine"]
    programs = ", ".join(f"{name} {machine[name].removeprefix(name + ' ')}" for name in ("egret", "postfix") if machine.get(name))
    hardware = f"{machine['cores']} cores ({machine['cpu']}), kernel {machine['kernel']}"
    return f"{entry.get('measured', 'no date')} UTC, {hardware}, {programs}"
