"""What-if: simulate, replay, and explain for a message that waits. The first two need no network."""

import json
import pathlib

from support import egret_log, wait
from support.mail import letter, send

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "examples"

SCENARIO = """
duration: 6h
domains: {shop.test: {mx: mx.shop.test, blocklists: [bl]}}
traffic: {transactional: {per_hour: 600}}
events: [{at: 1h, source: a, listed: bl}, {at: 3h, source: a, delisted: bl}]
"""


def simulate(instance, scenario, *more):
    path = pathlib.Path(instance.directory) / "scenario.yaml"
    path.write_text(scenario, encoding="utf-8")
    return instance.command("simulate", str(path), *more)


def test_the_shipped_example_runs_with_its_configuration(egret):
    instance = egret(start=False)
    instance.write((EXAMPLES / "simulate.egret.yaml").read_text(encoding="utf-8"))
    done = instance.command("simulate", str(EXAMPLES / "simulate.scenario.yaml"))
    assert done.returncode == 0, done.stderr
    assert "class transactional" in done.stdout and "class bulk" in done.stdout and "https://check.spamhaus.org" in done.stdout
    report = json.loads(instance.command("simulate", str(EXAMPLES / "simulate.scenario.yaml"), "--json").stdout)
    assert [entry["class"] for entry in report["classes"]] == ["transactional", "bulk"]
    assert all(len(entry["hours"]) == 24 for entry in report["classes"])
    ses = report["smarthosts"][0]
    assert ses["recipients"] > 0 and abs(ses["cost"] - ses["recipients"] * 0.10 / 1000) < 1e-9
    seen = {event["kind"] for event in report["events"] if not event["given"]}
    assert {"listed", "delisted", "pool-exhausted", "blocked", "budget"} <= seen


def test_a_listing_moves_the_mail_and_a_return_is_gradual(egret):
    instance = egret(start=False, reputation={"interval": "5m", "warmup_step": "30m"})
    report = json.loads(simulate(instance, SCENARIO, "--json").stdout)
    (entry,) = report["classes"]
    by_hour = [hour["by_egress"] for hour in entry["hours"]]
    assert by_hour[0]["a"] > 200 and by_hour[2]["a"] == 0 and abs(by_hour[2]["b"] - entry["hours"][2]["accepted"]) < 5
    assert 0 < by_hour[3]["a"] < by_hour[5]["a"]
    kinds = [(event["kind"], event["source"]) for event in report["events"]]
    assert kinds.index(("listed", "a")) < kinds.index(("delisted", "a")) < kinds.index(("clean", "a"))


def test_the_same_seed_gives_the_same_report(egret):
    instance = egret(start=False)
    first, again, other = (simulate(instance, SCENARIO, "--seed", seed).stdout for seed in "778")
    assert first == again != other


def test_mistakes_in_a_scenario_are_reported_with_their_place(egret):
    done = simulate(egret(start=False), SCENARIO.replace("source: a, delisted", "source: z, delisted"))
    assert done.returncode == 1 and done.stdout == ""
    assert "scenario.yaml:5:60: events[1].source: no source is called z; expected one of a, b" in done.stderr
    missing = egret(start=False).command("simulate", "/nonexistent.yaml")
    assert missing.returncode == 1 and "/nonexistent.yaml: cannot be read" in missing.stderr


# -- replay

LOGGED = [
    {"message": "failover", "egress": "a", "provider": "mx.shop.test", "phase": "rcpt", "label": "ip_blocked",
     "rule": "spamhaus-client-listed",
     "reply": "554 5.7.1 Service unavailable; Client host [127.0.1.1] blocked using zen.spamhaus.org"},
    {"message": "failed", "egress": "a", "provider": "mx.shop.test", "phase": "rcpt", "label": "content", "rule": "of-old",
     "reply": "550 5.1.1 <x@shop.test>: Recipient address rejected: User unknown"},
    {"message": "failed", "egress": "b", "provider": "mx.shop.test", "phase": "rcpt", "label": "content", "rule": "of-old",
     "reply": "550 5.1.1 <y@shop.test>: Recipient address rejected: User unknown"},
    {"message": "delivered", "egress": "a", "reply": "250 2.0.0 Ok"},
    {"message": "deferred", "egress": "a", "reply": "connection refused", "rule": "connection"},
]


def test_replay_shows_what_would_be_judged_differently(egret):
    instance = egret(start=False)
    log = "".join(json.dumps(line) + "\n" for line in LOGGED)
    done = instance.command("replay", "-", "--json", input=log)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["replies"], result["other_label"], result["passed_over"]) == (3, 2, 2)
    (difference,) = [d for d in result["differences"] if d["old"]["label"] != d["new"]["label"]]
    assert difference["count"] == 2 and difference["old"] == {"label": "content", "rule": "of-old"}
    assert difference["new"]["label"] == "recipient" and difference["example"].startswith("550 5.1.1 <x@shop.test>")
    text = instance.command("replay", "-", input=log).stdout
    assert text.startswith("3 replies: 2 with another label") and "of-old" in text


def test_replay_of_bare_replies_compares_with_the_shipped_rules(egret):
    done = egret(start=False).command("replay", "-", "--json", input="550 5.1.1 User unknown\n\nnot a reply\n250 Ok\n")
    assert json.loads(done.stdout) == {"replies": 1, "other_label": 0, "other_rule": 0, "passed_over": 2, "differences": []}


def test_what_egret_logs_replays_without_a_difference(egret, receive_for):
    receive_for("refuses.test").on("rcpt", lambda session, to: "550-5.1.1 No such user here\n550 5.1.1 Ask the postmaster")
    instance = egret()
    receipt = send(letter(), "user@refuses.test")
    wait.until(lambda: egret_log.lines(instance, message="failed"), 10, "the message failed")
    (line,) = egret_log.lines(instance, message="failed", id=receipt.id)
    assert (line["provider"], line["phase"], line["label"]) == ("mx.refuses.test", "rcpt", "recipient")
    result = json.loads(instance.command("replay", instance.log_path, "--json").stdout)
    assert result["replies"] == 1 and result["differences"] == []


# -- explain for a message that waits

def test_explain_shows_the_route_of_a_message_that_waits(egret, receive_for):
    receive_for("grey.test").on("rcpt", lambda session, to: "450 4.2.0 Greylisted, try again later")
    instance = egret(delivery={"retry": ["1h"]})
    receipt = send(letter(), "user@grey.test")
    wait.until(lambda: instance.message(receipt.id)["attempts"], 10, "a first attempt was made")
    egress = instance.message(receipt.id)["attempts"][0]["egress"]
    route = json.loads(instance.command("explain", "--message", receipt.id, "--json").stdout)
    (part,) = route["parts"]
    assert route["id"] == receipt.id and part["recipients"] == ["user@grey.test"]
    assert (part["state"], part["attempts"], part["keeps_to"], part["provider"]) == ("scheduled", 1, egress, "mx.grey.test")
    assert [candidate["egress"] for candidate in part["candidates"]] == [egress]
    assert "keeps to source" in part["rejected"][0]["reason"] and "Greylisted" in part["last_reply"] and part["next_at"]
    text = instance.command("explain", "--message", receipt.id).stdout
    assert receipt.id in text and f"keeps to {egress}" in text
    instance.command("source", "drain", egress)
    wait.until(lambda: instance.standing(egress) == "drained", 5, "the source is drained")
    (part,) = json.loads(instance.command("explain", "--message", receipt.id, "--json").stdout)["parts"]
    assert egress not in [candidate["egress"] for candidate in part["candidates"]], "greylisting does not wait for a drain"
    assert part["candidates"]


def test_explain_refuses_a_message_that_does_not_wait(egret):
    instance = egret()
    done = instance.command("explain", "--message", "1M80SZQAN0000")
    assert done.returncode == 1 and "waits" in done.stderr
    neither = instance.command("explain")
    assert neither.returncode == 1 and "--to or --message" in neither.stderr
