"""python3 -m unittest discover -s tests/bench"""

import unittest

import goals
import report
import scenarios
from goals import Goal
from runners import RUNNERS


def entry(**figures):
    return {"relays": {label: {"median": {k: v if isinstance(v, dict) else {"median": v, "min": v, "max": v}
                                          for k, v in values.items()}} for label, values in figures.items()}}


class Judge(unittest.TestCase):
    def test_a_rate_is_divided_by_the_other_relays(self):
        goal = Goal("x", "egret", "drained_per_s", to="postfix", at_least=8, try_for=12)
        for mine, reached, surpassed in ((799, False, False), (800, True, False), (1200, True, True)):
            found = goal.judge(entry(egret={"drained_per_s": mine}, postfix={"drained_per_s": 100}))
            self.assertEqual((found["value"], found["reached"], found["surpassed"]), (mine / 100, reached, surpassed))

    def test_a_cost_must_stay_below(self):
        goal = Goal("x", "egret", "cpu_us_per_msg", at_most=120, try_for=80)
        for mine, reached, surpassed in ((121, False, False), (120, True, False), (80, True, True)):
            found = goal.judge(entry(egret={"cpu_us_per_msg": mine}))
            self.assertEqual((found["reached"], found["surpassed"]), (reached, surpassed))

    def test_one_figure_of_several_under_a_name(self):
        goal = Goal("x", "egret", "mail_ms.p99", at_most=1.5)
        self.assertEqual(goal.judge(entry(egret={"mail_ms": {"p50": 1.0, "p99": 2.0}}))["value"], 2.0)

    def test_another_figure_of_the_other_subject(self):
        goal = Goal("x", "big", "first_cpu", to="small", to_key="cpu", at_most=1.5)
        self.assertEqual(goal.judge(entry(big={"first_cpu": 300, "cpu": 150}, small={"cpu": 100}))["value"], 3)

    def test_no_verdict_without_the_figures(self):
        goal = Goal("x", "egret", "drained_per_s", to="postfix", at_least=8)
        self.assertIsNone(goal.judge(entry(egret={"drained_per_s": 10})))
        self.assertIsNone(goal.judge(entry(postfix={"drained_per_s": 10})))
        self.assertIsNone(goal.judge(entry(egret={}, postfix={"drained_per_s": 10})))
        self.assertIsNone(goal.judge(entry(egret={"drained_per_s": 10}, postfix={"drained_per_s": 0})))

    def test_the_sentence_says_whether_it_was_reached(self):
        goal = Goal("CPU", "egret", "cpu", at_most=120, try_for=80, unit=" us")
        said = lambda value: goals.sentence(goal.judge(entry(egret={"cpu": value})))
        self.assertEqual(said(130.0), "CPU: 130 us (goal <= 120 us, NOT REACHED)")
        self.assertEqual(said(90.0), "CPU: 90.0 us (goal <= 120 us, reached; 80 us not)")
        self.assertEqual(said(70.0), "CPU: 70.0 us (goal <= 120 us, reached; 80 us too)")


class Scenarios(unittest.TestCase):
    def test_each_kind_can_be_run_and_shown(self):
        for scenario in scenarios.ALL.values():
            self.assertIn(scenario.kind, RUNNERS)
            self.assertIn(scenario.kind, report.COLUMNS)

    def test_each_goal_is_about_subjects_and_figures_that_are_shown(self):
        for scenario in scenarios.ALL.values():
            labels = {s.label for s in scenario.subjects}
            shown = {key for _, key in report.COLUMNS[scenario.kind]}
            self.assertEqual(len(labels), len(scenario.subjects), scenario.name)
            for goal in scenario.goals:
                self.assertLessEqual({goal.of, goal.to or goal.of}, labels, scenario.name)
                self.assertLessEqual({goal.key, goal.to_key or goal.key}, shown, scenario.name)
                self.assertNotEqual(goal.at_least is None, goal.at_most is None, scenario.name)


if __name__ == "__main__":
    unittest.main()
