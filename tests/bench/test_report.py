"""python3 -m unittest discover -s tests/bench"""

import json
import os
import tempfile
import unittest
from unittest import mock

import markdown
import report
import scenarios

MACHINE = {"cpu": "Example", "cores": 2, "kernel": "6.1", "queue_filesystem": "ext4", "egret": "egret 1", "postfix": "3.7"}


def same(value):
    return {"median": value, "min": value, "max": value}


def measured(drained, cpu=None, count=1000, seconds=5.0):
    figures = {"count": same(count), "seconds": same(seconds), "drained_per_s": same(drained), "accepted_per_s": same(drained),
               "others_cores": same(0.0), "surplus": same(0)}
    return {"median": figures | ({"cpu_us_per_msg": same(cpu)} if cpu else {}), "runs": [{"count": count}]}


def entry(name="queue-4k-100", **relays):
    out = {"scenario": name, "title": scenarios.ALL[name].title, "machine": MACHINE, "repeat": 3, "measured": "2026-01-01 00:00",
           "settings": {"egret_connections_per_site": 20, "postfix_destination_concurrency": 20}, "cpu_method": ["cgroup"],
           "relays": relays}
    return out | {"ratios": report.ratios(out)}


FULL = entry(egret=measured(6000.0, 100.0), postfix=measured(500.0, 4000.0), direct=measured(9000.0))


class Table(unittest.TestCase):
    def test_ratios_are_to_postfix_and_to_the_ceiling(self):
        self.assertEqual(FULL["ratios"]["egret"]["drained_to_postfix"], 12)
        self.assertEqual(FULL["ratios"]["egret"]["cpu_to_postfix"], 0.025)
        self.assertEqual(FULL["ratios"]["postfix"]["drained_to_ceiling"], 500 / 9000)
        self.assertNotIn("direct", FULL["ratios"])

    def test_columns_without_figures_are_left_out(self):
        head, *rows = report.columns(FULL, scenarios.THROUGHPUT)
        self.assertIn("drained to postfix", head)
        self.assertNotIn("peak PSS MB", head)
        self.assertTrue(all(len(row) == len(head) for row in rows))
        alone, _ = report.columns(entry(egret=measured(6000.0)), scenarios.THROUGHPUT)
        self.assertNotIn("drained to postfix", alone)
        self.assertNotIn("CPU us/msg", alone)

    def test_a_failed_relay_has_a_row_that_says_so(self):
        failed = {"median": {}, "runs": [{"count": 10, "error": "it ended"}]}
        _, _, row = report.columns(entry(egret=measured(6000.0), postfix=failed), scenarios.THROUGHPUT)
        self.assertEqual(row[0], "postfix (1 FAILED)")
        self.assertIn("FAILED: postfix: it ended", report.notes(entry(postfix=failed), scenarios.ALL["queue-4k-100"]))
        self.assertEqual(set(row[2:]), {"-"})

    def test_short_and_noisy_runs_and_duplicates_are_named(self):
        bad = measured(6000.0, seconds=1.0)
        bad["median"] |= {"others_cores": same(1.5), "surplus": same(2)}
        text = " ".join(report.notes(entry(egret=bad), scenarios.ALL["queue-4k-100"]))
        for word in ("TOO SHORT", "NOISY", "DUPLICATES"):
            self.assertIn(word, text)
            self.assertNotIn(word, " ".join(report.notes(FULL, scenarios.ALL["queue-4k-100"])))


@mock.patch("report.progress", lambda text: None)
class Json(unittest.TestCase):
    def test_a_new_entry_takes_the_place_of_the_old_one(self):
        old = [{"scenario": "a", "v": 1}, {"scenario": "b", "v": 1}, {"case": "c"}]
        new = [{"scenario": "b", "v": 2}, {"scenario": "d"}]
        self.assertEqual(report.merged(old, new), [{"scenario": "a", "v": 1}, {"scenario": "b", "v": 2}, {"case": "c"},
                                                   {"scenario": "d"}])

    def test_a_file_of_something_else_is_not_overwritten(self):
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "x.json")
            for text in ("[1, 2]", "{}", "no json"):
                with open(path, "w") as f:
                    f.write(text)
                with self.assertRaises(OSError):
                    report.write_json(path, [{"scenario": "a"}], place)
                with open(path) as f:
                    self.assertEqual(f.read(), text)

    def test_what_else_is_in_the_file_stays(self):
        with tempfile.TemporaryDirectory() as place:
            path = os.path.join(place, "x.json")
            report.write_json(path, [{"scenario": "a"}], place)
            report.write_json(path, [{"scenario": "b"}], place)
            with open(path) as f:
                self.assertEqual(json.load(f)["scenarios"], [{"scenario": "a"}, {"scenario": "b"}])


@mock.patch("report.progress", lambda text: None)
class Markdown(unittest.TestCase):
    def test_goals_come_first_and_what_is_absent_is_named(self):
        text = markdown.render([FULL])
        self.assertIn("| queue-4k-100 | drained to postfix | 12.0x | >= 8x (12) | yes, the better one too |", text)
        self.assertIn("| queue-4k-100 | CPU per message | 100 us | <= 120 us (80) | yes, not the better one |", text)
        self.assertIn("Not measured: queue-4k-20,", text)
        self.assertIn("### queue-4k-100\n", text)
        self.assertIn("kernel 6.1, egret 1, postfix 3.7.", text)

    def test_a_quick_look_is_marked(self):
        self.assertIn("| queue-4k-100 (a quick look) |", markdown.render([FULL | {"quick": True}]))
        self.assertNotIn("quick", markdown.render([FULL]))

    def test_a_goal_that_is_not_reached_stands_out(self):
        text = markdown.render([entry(egret=measured(100.0, 200.0), postfix=measured(500.0, 4000.0))])
        self.assertIn("| 0.20x | >= 8x (12) | **no** |", text)

    def test_the_newest_figures_of_a_scenario_count(self):
        with tempfile.TemporaryDirectory() as place:
            for name, when, rate in (("a", "2026-01-02 00:00", 7000.0), ("b", "2026-01-01 00:00", 5000.0)):
                found = entry(egret=measured(rate), direct=measured(9000.0)) | {"measured": when}
                report.write_json(os.path.join(place, name + ".json"), [found], place)
            markdown.write(os.path.join(place, "out.md"), place, place)
            with open(os.path.join(place, "out.md")) as f:
                self.assertIn("| 7 000 |", f.read())

    def test_a_directory_without_figures_is_an_error(self):
        with tempfile.TemporaryDirectory() as place, self.assertRaises(OSError):
            markdown.write(os.path.join(place, "out.md"), place, place)


if __name__ == "__main__":
    unittest.main()
