"""The soak's verdict on growth (tests/soak/growth.py): what it must find, and what is none."""

import dataclasses
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "soak"))

from growth import compare  # noqa: E402
from process import Sample  # noqa: E402

STEADY = Sample(time=0, life=3, calm=True, rss=200_000, pss=150_000, descriptors=60, threads=7, segments=1, hints=0, spool=8192,
                state=900, accepted=0)


def life(minutes=30, a_minute=3000, **slopes):
    """A look each minute at a life in which what `slopes` name grows so much with each minute."""
    return [dataclasses.replace(STEADY, time=60.0 * minute, accepted=a_minute * minute,
                                **{name: getattr(STEADY, name) + round(slope * minute) for name, slope in slopes.items()})
            for minute in range(minutes + 1)]


def test_a_life_that_takes_the_same_all_the_time_has_not_grown():
    lines, bad = compare(life())
    assert bad == []
    assert any(line.startswith("rss: first 200000, second quarter 200000, last quarter 200000") for line in lines)


@pytest.mark.parametrize("name, slope", [("rss", 4000), ("pss", 3000), ("descriptors", 1), ("threads", 0.1), ("segments", 0.3),
                                         ("hints", 0.3), ("state", 400)])
def test_what_grows_all_the_time_is_named(name, slope):
    assert [text.split()[0] for text in compare(life(**{name: slope}))[1]] == [name]


def test_memory_of_messages_that_are_remembered_is_no_growth_until_enough_were_seen():
    few = life(a_minute=700, rss=700 * 2.5)      # 21 000 messages in 30 minutes, 2.5 KB each
    many = life(a_minute=20_000, rss=700 * 2.5)  # the memory of recent messages was full before the second quarter
    assert compare(few)[1] == []
    assert [text.split()[0] for text in compare(many)[1]] == ["rss"]


def test_connections_of_a_busy_moment_are_no_growth_of_descriptors():
    busy = [dataclasses.replace(look, descriptors=60 + (300 if number % 3 else 0) * (number > 15)) for number, look in enumerate(life())]
    assert compare(busy)[1] == []


def test_only_looks_in_calms_at_the_longest_life_count():
    storm = [dataclasses.replace(STEADY, time=60.0 * minute, calm=False, rss=10**6 + 50_000 * minute) for minute in range(31)]
    short = [dataclasses.replace(look, life=2, rss=look.rss + 10**6) for look in life(minutes=8, rss=50_000)]
    assert compare(short + storm + life())[1] == []


def test_a_life_that_was_too_short_is_not_judged():
    lines, bad = compare(life(minutes=9, rss=50_000))
    assert bad == []
    assert lines[-1].startswith("too short")


def test_a_soak_without_calms_is_a_violation():
    assert compare([dataclasses.replace(look, calm=False) for look in life()])[1] == ["growth was not measured"]
