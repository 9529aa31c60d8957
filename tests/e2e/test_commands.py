"""What the commands and the HTTP interface say."""

import json
import re

from support import wait
from support.egret import A, B, source
from support.mail import letter, send


def test_check_accepts_a_good_configuration(egret):
    done = egret(start=False).check()
    assert done.returncode == 0, done.stdout + done.stderr


def test_classify_judges_replies_line_by_line(egret):
    judged = egret(start=False).classify(
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        "550 5.1.1 <nobody@shop.test>: Recipient address rejected: User unknown in virtual mailbox table",
        "450 4.2.0 <user@shop.test>: Recipient address rejected: Greylisted, see http://postgrey.example/",
        "552 5.2.2 Mailbox full",
        r"550-5.7.26 This mail has been blocked because the sender is unauthenticated.\n"
        r"550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.\n550 5.7.26 gsmtp",
        "554 5.7.1 Spam message rejected",
        "451 4.3.0 Temporary lookup failure",
        "250 2.0.0 Ok")
    labels = [label for label, _, _ in judged]
    assert labels[:7] == ["ip_blocked", "recipient", "greylisted", "mailbox_full", "auth_failed", "content",
                          "temporary"]
    assert len(judged) == 8 and all(rule for _, _, rule in judged[:7])
    assert "zen" in judged[0][1] and [blocklist for _, blocklist, _ in judged[1:7]] == ["-"] * 6


def test_classify_answers_each_line_even_an_empty_one(egret):
    assert len(egret(start=False).classify("nonsense", "550 5.1.1 No such user here")) == 2


def test_classify_explains_with_the_runners_up(egret):
    done = egret(start=False).command(
        "classify", "--explain", "--json", "--ip", "192.0.2.9",
        input="554 5.7.1 Service unavailable; Client host [192.0.2.9] blocked using zen.spamhaus.org\n")
    judged = json.loads(done.stdout)
    assert (judged["label"], judged["blocklist"], judged["confidence"]) == ("ip_blocked", "zen", "high")
    assert judged["delist"].startswith("https://") and judged["runners_up"] and judged["observing"] == []
    assert judged["rule"] not in [other["rule"] for other in judged["runners_up"]]


def test_the_shipped_rules_have_nothing_for_the_linter(egret):
    done = egret(start=False).command("classify", "--lint")
    assert (done.returncode, done.stdout) == (0, "")


def test_refusals_that_no_rule_understood_are_listed(egret, shop):
    shop.on("rcpt", lambda session, to: f"550 wibble {to} 17")
    instance = egret()
    send(letter(), to="one@shop.test")
    send(letter(), to="two@shop.test")
    wait.until(lambda: [r["count"] for r in instance.api("/replies/unknown")["replies"]] == [2], 10, "the two refusals")
    (reply,) = instance.api("/replies/unknown")["replies"]
    assert reply["text"] == "550 wibble ADDRESS #" and "@shop.test" in reply["example"]
    assert reply["first_seen"] <= reply["last_seen"] and reply["provider"]
    assert "550 wibble ADDRESS #" in instance.command("replies", "unknown").stdout


def test_explain_shows_the_candidates_and_why_others_lost(egret, shop, blocklist):
    instance = egret()
    instance.until_blocklist("in-service")
    route = instance.route()
    assert (route["provider"], route["class"]) == ("mx.shop.test", "transactional") and route["site"]
    assert {candidate["egress"] for candidate in route["candidates"]} == {"a", "b"}
    assert {candidate["kind"] for candidate in route["candidates"]} == {"source"}
    assert route["rejected"] == [] and route["hold"] is None
    blocklist.list(A)
    instance.until_listed("a")
    route = instance.route()
    assert [candidate["egress"] for candidate in route["candidates"]] == ["b"]
    (rejected,) = route["rejected"]
    assert rejected["egress"] == "a" and "bl" in rejected["reason"]
    text = instance.explain()
    assert "a" in text and "b" in text and "mx.shop.test" in text and "listed" in text
    assert instance.api("/route", {"from": "app@sender.test", "to": "user@shop.test"})["rejected"] == route["rejected"]


def test_explain_says_when_and_why_mail_is_held(egret, shop, blocklist):
    instance = egret()
    blocklist.list(A, B)
    instance.until_listed("a", "b")
    route = instance.route()
    assert route["candidates"] == [] and route["hold"]["reason"]


def test_explain_takes_a_class(egret, shop):
    instance = egret(classes={"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}},
                     pools={"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"]}})
    route = instance.route("app@sender.test", "user@shop.test", "--class", "bulk")
    assert route["class"] == "bulk" and [candidate["egress"] for candidate in route["candidates"]] == ["b"]


def test_sources_are_shown_as_text_and_json(egret, blocklist):
    instance = egret()
    blocklist.list(A)
    instance.until_listed("a")
    text = instance.command("sources").stdout
    assert re.search(rf"^.*\ba\b.*{re.escape(A)}.*listed", text, re.M) and B in text
    shown = {entry["name"]: entry for entry in json.loads(instance.command("sources", "--json").stdout)}
    assert shown["a"]["standing"] == "listed"
    assert set(shown["a"]) >= {"name", "address", "pools", "standing", "score", "providers", "listings", "share",
                               "sent", "blocked"}
    assert shown["a"]["pools"] == ["transactional"]


def test_the_queue_is_shown_as_text_and_json(egret, receive_for):
    receive_for("later.test", start=False)
    instance = egret()
    receipt = send(letter(), "user@later.test")
    wait.until(lambda: len(instance.message(receipt.id)["attempts"]) >= 1, 10, "a first attempt was made")
    queue = instance.queue()
    assert set(queue) >= {"total", "by_class", "by_site", "by_egress", "held", "oldest_age_s", "messages"}
    assert (queue["total"], queue["by_class"], queue["held"]) == (1, {"transactional": 1}, 0)
    assert queue["messages"][0]["id"] == receipt.id
    assert json.loads(instance.command("queue", "--json").stdout)["total"] == 1
    assert re.search(r"\b1\b", instance.command("queue").stdout)


def test_a_messages_history_is_shown_by_its_id(egret, shop):
    instance = egret()
    receipt = send(letter())
    instance.until_state(receipt.id, "delivered")
    text = instance.command("message", receipt.id).stdout
    assert receipt.id in text and "user@shop.test" in text
    assert json.loads(instance.command("message", receipt.id, "--json").stdout)["id"] == receipt.id
    assert instance.http("/api/v1/messages/does-not-exist")[0] == 404


def test_blocklists_are_shown_with_their_health(egret):
    instance = egret()
    instance.until_blocklist("in-service")
    shown = instance.blocklists()["bl"]
    assert set(shown) >= {"name", "zone", "state", "reason", "last_checked", "listed"}
    assert (shown["zone"], shown["listed"]) == ("bl.test", [])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", shown["last_checked"])
    assert all(entry["state"] == "disabled" for name, entry in instance.blocklists().items() if name != "bl")


def test_a_commanded_recheck_asks_the_lists_at_once(egret, blocklist, dns):
    instance = egret(reputation={"interval": "1h"})
    blocklist.list(A)
    assert instance.command("recheck", "a").returncode == 0
    instance.until_listed("a")


def test_health_endpoints_answer_when_egret_is_up(egret):
    instance = egret()
    assert instance.http("/healthz")[0] == 200
    assert instance.http("/readyz")[0] == 200
    assert instance.http("/api/v1/no-such-thing")[0] == 404


def test_metrics_are_prometheus_text(egret, shop):
    instance = egret()
    send(letter())
    instance.until_queue_empty()
    status, kind, text = instance.http("/metrics")
    assert status == 200 and kind.startswith("text/plain")
    sample = re.compile(r'[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\.)*",?)*\})? '
                        r'([-+]?[0-9.]+([eE][-+]?\d+)?|[-+]?Inf|NaN)( \d+)?')
    samples = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert samples and all(sample.fullmatch(line) for line in samples), [s for s in samples if not sample.fullmatch(s)]
    typed = set(re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram|summary|untyped)$", text, re.M))
    families = {re.match(r"[a-zA-Z0-9_:]+", line).group() for line in samples}
    assert all(name in typed or re.sub(r"_(bucket|sum|count)$", "", name) in typed for name in families)
    assert any(name.startswith("egret_") for name in families)
    assert text.endswith("\n")


def test_events_are_newest_first_and_complete(egret, blocklist):
    instance = egret()
    blocklist.list(A)
    instance.until_listed("a")
    blocklist.delist(A)
    instance.until_not_listed("a")
    events = instance.events()
    assert [event["time"] for event in events] == sorted((event["time"] for event in events), reverse=True)
    assert len({event["id"] for event in events}) == len(events)
    fields = {"id", "time", "kind", "source", "provider", "smarthost", "blocklist", "sender", "message", "rule", "from",
              "to", "text", "action"}
    assert all(set(event) >= fields for event in events)
    kinds = [event["kind"] for event in events if event["source"] == "a"]
    assert "listed" in kinds and "delisted" in kinds
    assert kinds.index("delisted") < kinds.index("listed")


def test_the_log_is_one_json_object_a_line_and_tells_of_each_attempt(egret, shop):
    instance = egret(log={"level": "info", "format": "json"})
    receipt = send(letter())
    instance.until_state(receipt.id, "delivered")
    lines = [json.loads(line) for line in instance.log().splitlines()]
    about = [json.dumps(line) for line in lines if receipt.id in json.dumps(line)]
    assert any("mx.shop.test" in line for line in about), about


def test_a_second_class_is_chosen_by_header_sender_domain_or_value(egret, shop):
    instance = egret(
        classes={"transactional": {"pool": "transactional"}, "bulk": {"pool": "bulk"}},
        sources={"a": source("a"), "b": source("b")},
        pools={"transactional": {"sources": ["a"]}, "bulk": {"sources": ["b"]}},
        classify=[{"header": "Precedence", "matches": "(?i)^(bulk|list|junk)$", "class": "bulk"},
                  {"header": "List-Unsubscribe", "class": "bulk"},
                  {"sender_domain": "news.test", "class": "bulk"},
                  {"header": "X-Egret-Class", "from_value": True}])
    expected = {
        send(letter()).id: "transactional",
        send(letter(headers=["Precedence: BULK"])).id: "bulk",
        send(letter(headers=["precedence: first-class"])).id: "transactional",
        send(letter(headers=["LIST-UNSUBSCRIBE: <https://news.test/u>"])).id: "bulk",
        send(letter(), sender="weekly@News.Test").id: "bulk",
        send(letter(headers=["X-Egret-Class: bulk"])).id: "bulk",
        send(letter(headers=["X-Egret-Class: unheard-of"])).id: "transactional",
        send(letter(body=b"Precedence: bulk\r\n")).id: "transactional",  # the body is not the header
    }
    instance.until_queue_empty()
    assert {id: instance.message(id)["class"] for id in expected} == expected
    assert shop.peers() == {A: 4, B: 4}
