"""Reading Egret's own log, one JSON object a line."""

import json


def lines(instance, **fields):
    """Those that have these values."""
    found = []
    for line in instance.log().splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if all(entry.get(name) == value for name, value in fields.items()):
            found.append(entry)
    return found
