"""Whether the program takes more and more: the looks at its longest life, the second quarter's compared with the last quarter's."""

import statistics

# What a median may be above an earlier one. Memory: heaps fragment, and sanitizers keep shadow memory of every page that was ever
# touched. Each worker remembers its last 10 000 messages with their attempts, 2 to 3 KB each: until a life has seen FILLED messages,
# that much more for each is no leak; behind that, 100 octets a message would be 10 MB in 100 000 messages.
MEMORY_SHARE, MEMORY_KB = 0.10, 12 * 1024
FILLED, HISTORY_KB = 25_000, 3
ALLOWED = {"descriptors": 8, "threads": 0, "segments": 2, "hints": 2, "state": 4096}
# Connections come and go with the mail of the moment; what leaks is still there in the quietest one. Of the rest the median counts.
TYPICAL = {"descriptors": min}
LONG_ENOUGH = 600  # seconds of one life; a shorter one still fills its caches
ENOUGH_LOOKS = 8


def longest_life(samples):
    """The looks in calms at the life that lasted longest, in their order."""
    lives = {}
    for sample in samples:
        if sample.calm:
            lives.setdefault(sample.life, []).append(sample)
    return max(lives.values(), key=lambda found: found[-1].time - found[0].time, default=[])


def quarters(looks):
    """(those of the second quarter of the time, those of the last). Calms can miss the second: then the first half."""
    start, span = looks[0].time, looks[-1].time - looks[0].time
    early = [s for s in looks if start + span / 4 <= s.time <= start + span / 2] or looks[:len(looks) // 2]
    return early, [s for s in looks if s.time >= start + span * 3 / 4]


def compare(samples):
    """(lines with all figures, violations) of the longest life."""
    looks = longest_life(samples)
    if len(looks) < ENOUGH_LOOKS:
        return ["too few calms for a comparison"], ["growth was not measured"]
    span = looks[-1].time - looks[0].time
    parts = quarters(looks)
    seen = [statistics.median(s.accepted for s in part) - looks[0].accepted for part in parts]
    history = max(0, min(seen[1], FILLED) - seen[0]) * HISTORY_KB
    lines, bad = [f"the longest life: {span / 60:.1f} minutes, {len(looks)} looks in calms, messages until the second quarter's "
                  f"and the last quarter's: {seen[0]:.0f}, {seen[1]:.0f}; {history / 1024:.0f} MB of history more"], []
    for name in ("rss", "pss", *ALLOWED):
        typical = TYPICAL.get(name, statistics.median)
        before, after = (typical(getattr(s, name) for s in part) for part in parts)
        more = ALLOWED.get(name, max(before * MEMORY_SHARE, MEMORY_KB) + history)
        lines.append(f"{name}: first {getattr(looks[0], name)}, second quarter {before:.0f}, last quarter {after:.0f}, "
                     f"last {getattr(looks[-1], name)}")
        if after > before + more and span >= LONG_ENOUGH:
            bad.append(f"{name} has grown from {before:.0f} to {after:.0f}")
    if span < LONG_ENOUGH:
        lines.append("too short a life to say whether anything grows")
    return lines, bad
