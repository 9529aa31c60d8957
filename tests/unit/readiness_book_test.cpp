// What egret knows beforehand of its smarthosts: events on changes only, a codec, bounded memory.
#include "relay/reputation/readiness.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "config/readiness.hpp"

namespace egret::relay {
namespace {

using namespace std::chrono_literals;
using routing::Time;

const Time now{std::chrono::hours(500'000)};

std::shared_ptr<const config::Config> load(const std::string& smarthost, const std::string& pool = "") {
  config::Problems problems;
  const std::string text =
      "hostname: relay.example.com\nlisteners: [{address: \"127.0.0.1:2525\"}]\nclasses: {main: {pool: main}}\n"
      "sources: {out: {address: 192.0.2.1}}\nsmarthosts: {esp: {provider: sendgrid, password: x" +
      smarthost + "}}\npools: {main: {sources: [out], fallback: [esp]" + pool + "}}\n";
  auto out = config::load_text(
      text, "f", [](const std::string&) { return std::optional<std::string>(); }, problems);
  for (const auto& problem : problems) ADD_FAILURE() << problem.to_string();
  return out;
}

std::string problem_of(const std::string& smarthost, const std::string& pool = "") {
  config::Problems problems;
  const std::string text =
      "hostname: relay.example.com\nlisteners: [{address: \"127.0.0.1:2525\"}]\nclasses: {main: {pool: main}}\n"
      "sources: {out: {address: 192.0.2.1}}\nsmarthosts: {esp: {provider: sendgrid, password: x" +
      smarthost + "}}\npools: {main: {sources: [out], fallback: [esp]" + pool + "}}\n";
  config::load_text(
      text, "f", [](const std::string&) { return std::optional<std::string>(); }, problems);
  return problems.empty() ? "" : problems.front().to_string();
}

routing::ReadinessVerdict verdict(std::optional<bool> ready, std::string reason = {}) {
  routing::ReadinessVerdict out;
  out.ready = ready;
  out.reason = std::move(reason);
  out.advice = "publish it";
  return out;
}

std::vector<std::string> kinds(const Events& events) {
  std::vector<std::string> out;
  for (const auto& event : events.all()) out.push_back(event.kind);
  std::ranges::reverse(out);
  return out;
}

TEST(ReadinessBook, OnlyChangesAreNews) {
  Events events;
  ReadinessBook book(load(""), events);
  book.checked(0, "a.test", verdict(true), now, now);
  EXPECT_TRUE(kinds(events).empty());
  book.checked(0, "a.test", verdict(false, "no record"), now, now);
  book.checked(0, "a.test", verdict(false, "no record"), now, now);
  book.checked(0, "a.test", verdict(true), now, now);
  EXPECT_EQ(kinds(events), (std::vector<std::string>{"smarthost-unready", "smarthost-ready"}));
}

TEST(ReadinessBook, WithoutAVerdictTheLastResultStays) {
  Events events;
  ReadinessBook book(load(""), events);
  book.checked(0, "a.test", verdict(false, "no record"), now, now);
  EXPECT_TRUE(book.take_republish());
  book.checked(0, "a.test", verdict(std::nullopt), now + 1h, now + 2h);
  EXPECT_FALSE(book.take_republish());
  ASSERT_TRUE(book.unready(0));
  EXPECT_EQ(book.unready(0)->at("a.test").reason, "no record");
  EXPECT_EQ(book.smarthost(0).domains.at("a.test").checked, now);
  EXPECT_EQ(book.smarthost(0).domains.at("a.test").due, now + 2h);
}

TEST(ReadinessBook, WhatItKnowsOutlivesARestart) {
  Events events;
  const auto config = load(", readiness: {domains: [a.test]}");
  ReadinessBook before(config, events), after(config, events);
  before.checked(0, "a.test", verdict(false, "no record"), now, now + 1h);
  before.login_tried(0, false, "535 no", now);
  before.canary_returned(0, true, "250 ok", now);
  after.restore(0, before.encode(0), now);
  ASSERT_TRUE(after.unready(0));
  EXPECT_EQ(after.unready(0)->at("a.test").reason, "no record");
  EXPECT_TRUE(after.smarthost(0).login.failing());
  EXPECT_EQ(after.smarthost(0).canary.worked, now);
  EXPECT_EQ(after.smarthost(0).domains.at("a.test").due, Time{}) << "it is not looked at after the restart";
  after.checked(0, "a.test", verdict(false, "no record"), now, now);
  EXPECT_EQ(kinds(events), std::vector<std::string>{"smarthost-unready"}) << "the restart made news of it";
  after.restore(0, "{\"domains\": 7}", now);
  EXPECT_TRUE(after.unready(0)) << "damaged text changed something";
}

TEST(ReadinessBook, DomainsThatAreGoneAreForgotten) {
  Events events;
  ReadinessBook book(load(", readiness: {domains: [a.test]}"), events);
  book.checked(0, "a.test", verdict(false, "no record"), now, now);
  book.checked(0, "b.test", verdict(false, "no record"), now, now);
  EXPECT_EQ(book.domains(0, now), std::vector<std::string>{"a.test"});
  EXPECT_EQ(book.unready(0)->size(), 1u);
  book.seen.add("c.test", now);
  EXPECT_EQ(book.domains(0, now), (std::vector<std::string>{"a.test", "c.test"}));
  EXPECT_EQ(book.domains(0, now + 24h * 15), std::vector<std::string>{"a.test"});
}

TEST(ReadinessBook, NothingIsAskedOfARelayOfWhichNothingIsKnown) {
  Events events;
  ReadinessBook book(load(", readiness: {check: false, domains: [a.test]}"), events);
  EXPECT_TRUE(book.domains(0, now).empty());
}

TEST(ReadinessBook, EachFailedCanaryIsNewsAndTheNextThatWorks) {
  Events events;
  ReadinessBook book(load(""), events);
  book.canary_returned(0, true, "250", now);
  book.canary_returned(0, false, "550", now + 1s);
  book.canary_returned(0, true, "250", now + 2s);
  book.canary_returned(0, true, "250", now + 3s);
  EXPECT_EQ(kinds(events), (std::vector<std::string>{"canary-failed", "canary-works"}));
}

TEST(SeenSenders, ForgedSendersDriveNobodyOut) {
  SeenSenders seen;
  seen.add("real.test", now);
  for (int i = 0; i < 3000; ++i) seen.add("forged" + std::to_string(i) + ".test", now + 1min);
  const auto known = seen.recent(now + 2min);
  EXPECT_EQ(known.size(), SeenSenders::most);
  EXPECT_NE(std::ranges::find(known, "real.test"), known.end());
  seen.add("later.test", now + 3h);
  const auto later = seen.recent(now + 3h);
  EXPECT_NE(std::ranges::find(later, "later.test"), later.end());
  seen.add("", now);
  seen.add("no domain", now + 6h);
  EXPECT_EQ(seen.recent(now + 6h).size(), SeenSenders::most);
}

TEST(ReadinessConfig, PresetsBringTheirRecordsAndTheOperatorReplacesThem) {
  const auto preset = load("");
  EXPECT_EQ(config::readiness_of(preset->smarthosts[0]).records.selectors, (std::vector<std::vector<std::string>>{{"s1", "s2"}}));
  EXPECT_EQ(config::readiness_of(preset->smarthosts[0]).interval, 24h);
  const auto own = load(", dkim_selectors: {Example.com: [x, y]}, return_path: [\"em1.{domain}\"], unready: allow");
  const auto& records = config::readiness_of(own->smarthosts[0]).records;
  EXPECT_EQ(records.domain_selectors.at("example.com"), (std::vector<std::string>{"x", "y"}));
  EXPECT_EQ(records.return_paths, std::vector<std::string>{"em1.{domain}"});
  EXPECT_TRUE(config::readiness_of(own->smarthosts[0]).allow_unready);
  EXPECT_EQ(config::readiness_of(load(", dkim_selectors: [z]")->smarthosts[0]).records.selectors,
            (std::vector<std::vector<std::string>>{{"z"}}));
}

TEST(ReadinessConfig, ProblemsAreNamedWithTheirPlace) {
  EXPECT_NE(problem_of(", unready: maybe").find("smarthosts.esp.unready: expected refuse or allow"), std::string::npos);
  EXPECT_NE(problem_of(", readiness: {interval: 1ms}").find("readiness.interval: expected 100ms to 30d"), std::string::npos);
  EXPECT_NE(problem_of(", readiness: {interval: 1h, retry: 2h}").find("readiness.retry"), std::string::npos);
  EXPECT_NE(problem_of(", readiness: {domains: [\"a b\"]}").find("a b: expected a domain"), std::string::npos);
  EXPECT_NE(problem_of(", dkim_selectors: {example.com: []}").find("expected selectors"), std::string::npos);
  EXPECT_NE(problem_of(", dkim_selectors: [\"a b\"]").find("dkim_selectors: a b: expected names"), std::string::npos);
  EXPECT_NE(problem_of("", ", canary: 60%").find("pools.main.canary: expected a share"), std::string::npos);
  EXPECT_NE(problem_of("", ", canary: 1%, when_exhausted: hold").find("canary: needs sources"), std::string::npos);
  EXPECT_EQ(load("", ", canary: 0.1%")->topology.pools[0].canary, 0.001);
}

}  // namespace
}  // namespace egret::relay
