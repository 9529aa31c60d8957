"""Waiting for an event, with a failure text that says what was awaited and what was seen last."""

import time


def until(predicate, timeout, what, interval=0.02):
    """Calls predicate until its result is true and returns that result.

    An AssertionError or OSError from the predicate counts as "not yet": a server that is still starting refuses
    connections, and a JSON answer may not have its element yet.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            seen = predicate()
            if seen:
                return seen
        except (AssertionError, OSError, LookupError) as error:
            seen = f"{type(error).__name__}: {error}"
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {timeout} s: {what}; seen last: {seen!r}")
        time.sleep(interval)
