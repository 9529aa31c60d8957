"""What a figure is measured against: the goals of the speed table, and whether one was reached."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A bound for a figure (`key` of the subject `of`), or for its quotient with the one of the subject `to`."""

    what: str
    of: str
    key: str         # "drained_per_s", or "mail_ms.p50" for one of several
    to: str = ""
    to_key: str = ""  # the same unless given
    at_least: float | None = None
    at_most: float | None = None
    try_for: float | None = None  # better than reached
    unit: str = ""

    def judge(self, entry):
        """What became of it, for the table and the JSON; None where the run does not have the figures for it."""
        value = figure(entry, self.of, self.key)
        if self.to:
            value = quotient(value, figure(entry, self.to, self.to_key or self.key))
        if value is None:
            return None
        limit, rising = (self.at_most, False) if self.at_least is None else (self.at_least, True)
        within = lambda bound: value >= bound if rising else value <= bound
        return {"what": self.what, "value": value, "unit": self.unit, "sign": ">=" if rising else "<=", "goal": limit,
                "try_for": self.try_for, "reached": within(limit),
                "surpassed": self.try_for is not None and within(self.try_for)}


def figure(entry, label, key):
    """The median of a figure, or None."""
    outer, _, inner = key.partition(".")
    found = entry["relays"].get(label, {}).get("median", {}).get(outer)
    return found.get(inner or "median") if found else None


def quotient(a, b):
    return a / b if a is not None and b else None


def judged(entry, scenario_goals):
    return [verdict for goal in scenario_goals if (verdict := goal.judge(entry)) is not None]


def number(value):
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    return f"{value:,.0f}".replace(",", " ") if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def sentence(verdict):
    """`drained to postfix: 11.6x (goal >= 8x, reached; 12x not)`."""
    unit = verdict["unit"]
    text = f"goal {verdict['sign']} {verdict['goal']:g}{unit}, {'reached' if verdict['reached'] else 'NOT REACHED'}"
    if verdict["try_for"] is not None and verdict["reached"]:
        text += f"; {verdict['try_for']:g}{unit} {'too' if verdict['surpassed'] else 'not'}"
    return f"{verdict['what']}: {number(verdict['value'])}{unit} ({text})"
