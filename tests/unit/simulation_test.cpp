#include "routing/simulation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <numeric>
#include <sstream>

#include "config/read_scenario.hpp"

namespace egret {
namespace {

using namespace std::chrono_literals;
using config::Problems;
using routing::ClassReport;
using routing::HourCount;
using routing::SimulationReport;
using routing::TimelineEntry;

const std::string configuration = R"(
hostname: relay.example.com
listeners: [{address: "127.0.0.1:2525", class: main}]
classes: {main: {pool: main, max_age: 1d}, strict: {pool: strict, spill: false}}
sources:
  out1: {address: 198.51.100.10}
  out2: {address: 198.51.100.11}
  far1: {address: 198.51.100.12}
smarthosts:
  ses: {address: "smtp.example.net:587", username: u, password: p, budget: 10000/d}
pools:
  main: {sources: [out1, out2], fallback: [ses]}
  strict: {sources: [far1], when_exhausted: hold}
reputation: {interval: 5m, blocklists: {zen: {key: k}}}
)";

const std::string domains = R"(
domains:
  gmail.com: {provider: google}
  outlook.com: {provider: microsoft}
  example.net: {mx: mx.example.net, blocklists: [zen]}
)";

std::shared_ptr<const config::Config> load(const std::string& text = configuration) {
  Problems problems;
  auto out = config::load_text(
      text, "egret.yaml", [](const std::string&) { return std::nullopt; }, problems);
  for (const auto& problem : problems) ADD_FAILURE() << problem.to_string();
  return out;
}

SimulationReport run(const std::string& scenario, std::uint64_t seed = 1, const std::string& with = configuration) {
  const auto config = load(with);
  Problems problems;
  const auto read = config::read_scenario(scenario, "s.yaml", *config, problems);
  for (const auto& problem : problems) ADD_FAILURE() << problem.to_string();
  return routing::simulate(config::simulation_setup(*config), read, seed);
}

std::string problems_of(const std::string& scenario) {
  const auto config = load();
  Problems problems;
  config::read_scenario(scenario, "s.yaml", *config, problems);
  std::string out;
  for (const auto& problem : problems) out += problem.to_string() + "\n";
  return out;
}

std::uint64_t ended(const HourCount& hour) {
  return std::accumulate(hour.by_source.begin(), hour.by_source.end(), std::uint64_t{0}) +
         std::accumulate(hour.by_smarthost.begin(), hour.by_smarthost.end(), std::uint64_t{0}) + hour.failed;
}

/// When Egret (not the scenario) first said `kind` of `source` at or after `from`.
routing::Duration when(const SimulationReport& report, const std::string& kind, const std::string& source,
                       routing::Duration from = 0h) {
  const auto it = std::ranges::find_if(report.timeline, [&](const TimelineEntry& e) {
    return !e.given && e.kind == kind && e.source == source && e.time >= report.start + from;
  });
  return it == report.timeline.end() ? routing::Duration::max() : it->time - report.start;
}

const TimelineEntry* first(const SimulationReport& report, const std::string& kind) {
  const auto it = std::ranges::find_if(report.timeline, [&](const TimelineEntry& e) { return !e.given && e.kind == kind; });
  return it == report.timeline.end() ? nullptr : &*it;
}

// out1 is 0, out2 is 1, far1 is 2; ses is 0.
const std::string story = domains + R"(
traffic: {main: {per_hour: 3000}}
cost: {ses: 0.5}
events:
  - {at: 2h, source: out1, listed: zen}
  - {at: 5h, source: out2, listed: zen}
  - {at: 10h, source: out1, delisted: zen}
)";

TEST(Simulation, AQuietDayGoesBySourcesByWeight) {
  const auto report = run(domains + "traffic: {main: {per_hour: 1000}}");
  ASSERT_EQ(report.classes.size(), 1u);
  const ClassReport& main = report.classes.front();
  EXPECT_NEAR(static_cast<double>(main.total.accepted), 24'000, 60);
  EXPECT_EQ(main.total.waiting, 0u);
  EXPECT_EQ(main.total.by_source[0] + main.total.by_source[1], main.total.accepted);
  EXPECT_NEAR(static_cast<double>(main.total.by_source[0]), 12'000, 600);
  EXPECT_EQ(main.total.by_smarthost[0] + main.total.failovers + main.total.held, 0u);
  EXPECT_TRUE(report.timeline.empty());
  EXPECT_EQ(main.delay.longest, 1s);
}

TEST(Simulation, AListedSourcesMailMovesToTheOther) {
  const auto report = run(story);
  const auto& hours = report.classes.front().hours;
  EXPECT_GT(hours[1].by_source[0], 1000u);
  EXPECT_EQ(hours[3].by_source[0], 0u);
  EXPECT_NEAR(static_cast<double>(hours[3].by_source[1]), static_cast<double>(hours[3].accepted), 5) << "nothing waits for out1";
  const auto listed = when(report, "listed", "out1");
  EXPECT_GE(listed, 2h);
  EXPECT_LT(listed, 2h + 6min);
  const TimelineEntry* entry = first(report, "listed");
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->rule, "blocklist-check");
  EXPECT_NE(entry->action.find("https://check.spamhaus.org"), std::string::npos);
}

TEST(Simulation, AReceiverThatUsesTheListIsTheFirstToSeeIt) {
  const auto report = run(story);
  const auto blocked = when(report, "blocked", "out1", 2h);
  EXPECT_LT(blocked, 2h + 30s);
  EXPECT_LT(when(report, "listed", "out1"), blocked + 1s) << "the list named in the reply was asked at once";
  EXPECT_GT(report.classes.front().hours[2].failovers, 0u);
}

TEST(Simulation, TheSmarthostCarriesUntilItsBudgetIsUsedUpThenMailIsHeld) {
  const auto report = run(story);
  const ClassReport& main = report.classes.front();
  EXPECT_EQ(report.smarthosts[0].recipients, 10'000u);
  ASSERT_TRUE(report.smarthosts[0].cost);
  EXPECT_DOUBLE_EQ(*report.smarthosts[0].cost, 5.0);
  EXPECT_GT(main.hours[6].by_smarthost[0], 2900u);
  const TimelineEntry* budget = first(report, "budget");
  ASSERT_TRUE(budget);
  EXPECT_NEAR(static_cast<double>((budget->time - report.start) / 1min), 500, 20) << "5h and 10000 of 3000 an hour";
  EXPECT_GT(main.hours[9].held, 2900u);
  EXPECT_GT(main.hours[9].waiting, 4000u);
  EXPECT_EQ(first(report, "pool-exhausted")->action, "its mail goes by its smarthosts");
}

TEST(Simulation, ADelistedSourceReturnsByTrialAndWarming) {
  const auto report = run(story);
  const auto delisted = when(report, "delisted", "out1", 10h);
  ASSERT_LT(delisted, 10h + 10min);
  EXPECT_LT(when(report, "warming", "out1", 10h), delisted + 1min);
  const auto clean = when(report, "clean", "out1", 10h);
  EXPECT_GT(clean, 13h);
  EXPECT_LT(clean, 15h);
  const ClassReport& main = report.classes.front();
  EXPECT_EQ(main.total.waiting, 0u);
  EXPECT_GT(main.held.longest, 1h);
  EXPECT_GT(main.held.messages, 4000u);
  EXPECT_EQ(main.hours[16].by_source[1], 0u) << "out2 is listed to the end";
  EXPECT_GT(main.hours[16].by_source[0], 2900u);
}

TEST(Simulation, EveryMessageEndsOrWaits) {
  const auto report = run(story, 7);
  std::uint64_t before = 0;
  for (const HourCount& hour : report.classes.front().hours) {
    EXPECT_EQ(before + hour.accepted, ended(hour) + hour.waiting);
    before = hour.waiting;
  }
}

std::string everything(const SimulationReport& report) {
  std::ostringstream out;
  for (const auto& c : report.classes) {
    for (const auto& h : c.hours) {
      out << h.accepted << ' ' << h.failovers << ' ' << h.deferred << ' ' << h.held << ' ' << h.waiting;
      for (const auto n : h.by_source) out << ' ' << n;
      for (const auto n : h.by_smarthost) out << ' ' << n;
      out << '\n';
    }
    out << c.delay.total.count() << ' ' << c.held.total.count() << '\n';
  }
  for (const auto& e : report.timeline)
    out << e.time.time_since_epoch().count() << e.kind << e.source << e.text << e.action << '\n';
  return out.str();
}

TEST(Simulation, TheSameSeedGivesTheSameReport) {
  EXPECT_EQ(everything(run(story, 3)), everything(run(story, 3)));
  EXPECT_NE(everything(run(story, 3)), everything(run(story, 4)));
}

TEST(Simulation, AProvidersBlockConcernsOnlyItsMail) {
  const auto report = run(domains + R"(
traffic: {main: {per_hour: 1200}}
events: [{at: 1h, source: out1, blocked: microsoft, for: 10m}]
)");
  const TimelineEntry* blocked = first(report, "blocked");
  ASSERT_TRUE(blocked);
  EXPECT_EQ(blocked->provider, "microsoft");
  EXPECT_NE(blocked->action.find("sendersupport"), std::string::npos);
  const ClassReport& main = report.classes.front();
  EXPECT_GE(main.total.failovers, 1u);
  EXPECT_LT(main.total.failovers, 5u) << "after the first refusals nothing more is offered by out1";
  EXPECT_GT(main.hours[1].by_source[0], 300u) << "two thirds of the mail may still go by out1";
  EXPECT_LT(when(report, "trial", "out1"), 1h + 20min);
}

TEST(Simulation, WithoutSpillAThrottledMessageWaitsForItsTurn) {
  const std::string events = "events: [{at: 1h, source: far1, throttled: google, share: 50%, for: 30m}]\n";
  const auto report = run(domains + "traffic: {strict: {per_hour: 1200, to: {gmail.com: 1}}}\n" + events);
  const ClassReport& strict = report.classes.front();
  EXPECT_EQ(strict.name, "strict");
  EXPECT_GT(strict.hours[1].deferred, 200u);
  EXPECT_EQ(strict.total.failovers, 0u);
  EXPECT_EQ(strict.total.by_source[2], strict.total.accepted);
  EXPECT_GT(strict.delay.longest, 1min);
  ASSERT_TRUE(first(report, "throttled"));
}

TEST(Simulation, AHeldPoolsMailFailsWhenItIsTooOld) {
  std::string with = configuration;
  with.replace(with.find("spill: false"), 12, "max_age: 1h");
  const auto report = run(domains + R"(
duration: 4h
traffic: {strict: {per_hour: 600}}
events: [{at: 30m, drain: far1}]
)",
                          1, with);
  const ClassReport& strict = report.classes.front();
  EXPECT_NEAR(static_cast<double>(strict.hours[2].failed), 600, 5) << "as many grow too old as come";
  EXPECT_NEAR(static_cast<double>(strict.total.waiting), 600, 5);
  EXPECT_GE(strict.held.longest, 1h);
  EXPECT_LE(strict.held.longest, 1h + 2s);
}

TEST(Simulation, ARefusingSmarthostRestsAndMailIsHeld) {
  const auto report = run(domains + R"(
duration: 3h
traffic: {main: {per_hour: 600}}
events:
  - {at: 10m, drain: out1}
  - {at: 10m, drain: out2}
  - {at: 1h, smarthost-refuses: ses, for: 30m, reply: "454 4.7.0 Sending paused for this account"}
)");
  const TimelineEntry* rests = first(report, "smarthost-rests");
  ASSERT_TRUE(rests);
  EXPECT_EQ(rests->smarthost, "ses");
  EXPECT_GT(report.smarthosts[0].refused, 0u);
  const ClassReport& main = report.classes.front();
  EXPECT_GT(main.hours[1].held, 100u);
  EXPECT_EQ(main.total.waiting, 0u) << "it carries again afterwards";
}

TEST(Simulation, AListThatIsDownLosesItsListingsAfterAnInterval) {
  const auto report = run(domains + R"(
traffic: {strict: {per_hour: 60, to: {gmail.com: 1}}}
events:
  - {at: 1h, source: far1, listed: zen}
  - {at: 3h, list-down: zen}
)");
  const TimelineEntry* down = first(report, "list-down");
  ASSERT_TRUE(down);
  EXPECT_EQ(down->blocklist, "zen");
  EXPECT_EQ(down->rule, "blocklist-health");
  const TimelineEntry* back = first(report, "delisted");
  ASSERT_TRUE(back);
  EXPECT_EQ(back->rule, "blocklist-out-of-service");
  EXPECT_GE(back->time - down->time, 5min);
}

TEST(Simulation, APolicyListingIsAFaultOfTheSource) {
  const auto report = run(domains + R"(
traffic: {strict: {per_hour: 60}}
events: [{at: 1h, source: far1, listed: zen, code: 127.0.0.10}]
)");
  ASSERT_TRUE(first(report, "misconfigured"));
  EXPECT_GT(report.classes.front().total.waiting, 1300u);
}

TEST(Simulation, ObservingReportsAndMovesNothing) {
  std::string with = configuration;
  with.replace(with.find("interval: 5m"), 12, "mode: observe");
  const auto report = run(domains + R"(
traffic: {main: {per_hour: 600, to: {gmail.com: 1}}}
events: [{at: 1h, source: out1, listed: zen}]
)",
                          1, with);
  const TimelineEntry* listed = first(report, "listed");
  ASSERT_TRUE(listed);
  EXPECT_TRUE(listed->action.starts_with("observed only, not enforced"));
  EXPECT_GT(report.classes.front().hours[5].by_source[0], 200u);
}

TEST(Simulation, RecipientsBeyondWhatASmarthostTakesAreSplit) {
  const auto report = run(domains + R"(
duration: 1h
traffic: {main: {per_hour: 30, recipients: 250}}
events: [{at: 0s, drain: out1}, {at: 0s, drain: out2}]
)");
  const ClassReport& main = report.classes.front();
  EXPECT_EQ(report.smarthosts[0].messages, main.total.accepted);
  EXPECT_EQ(report.smarthosts[0].recipients, main.total.accepted * 250);
  EXPECT_EQ(report.attempts, main.total.accepted * 3);
}

TEST(Simulation, RatesByTheHourBeginAgain) {
  const auto report = run(domains + "duration: 4h\ntraffic: {main: {per_hour: [120, 0]}}");
  const auto& hours = report.classes.front().hours;
  ASSERT_EQ(hours.size(), 4u);
  EXPECT_NEAR(static_cast<double>(hours[0].accepted), 120, 1);
  EXPECT_EQ(hours[1].accepted, 0u);
  EXPECT_NEAR(static_cast<double>(hours[2].accepted), 120, 1);
  EXPECT_EQ(hours[3].accepted, 0u);
}

TEST(Simulation, TheShippedExampleRuns) {
  const auto read = [](const std::string& name) {
    std::ifstream in(std::string(EGRET_SOURCE_DIR) + "/docs/examples/" + name);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
  };
  const auto report = run(read("simulate.scenario.yaml"), 1, read("simulate.egret.yaml"));
  ASSERT_EQ(report.classes.size(), 2u);
  EXPECT_EQ(report.classes[0].total.waiting, 0u);
  EXPECT_GT(report.smarthosts[0].recipients, 10'000u);
}

// ---- what is wrong with a scenario, and where --------------------------------------------------------------------

TEST(Scenario, AnUnknownSourceIsReportedWithItsPlace) {
  EXPECT_EQ(problems_of("domains: {gmail.com: {provider: google}}\n"
                        "traffic: {main: {per_hour: 1}}\n"
                        "events:\n"
                        "  - {at: 1h, source: out9, listed: zen}\n"),
            "s.yaml:4:22: events[0].source: no source is called out9; expected one of out1, out2, far1\n");
}

TEST(Scenario, EveryProblemIsReportedAtOnce) {
  const std::string found = problems_of(R"(
duration: 1s
domains:
  gmail.com: {provider: gogle}
  both.example: {provider: google, mx: mx.example}
  listed.example: {mx: mx.example, blocklists: [nolist]}
traffic:
  main: {per_hour: many, to: {gmail.com: 0, other.example: 1}}
  nobody: {per_hour: 1}
cost: {acme: 1}
oops: 1
events:
  - {at: 1h}
  - {source: out1, listed: zen}
  - {at: 0s, source: out1, listed: zen, blocked: google}
  - {at: 0s, smarthost-refuses: sess}
  - {at: 0s, source: out1, blocked: mx.example, reply: "250 ok"}
  - {at: 0s, source: out1, listed: zen, code: 127.0.0.99}
  - {at: 0s, source: out1, throttled: mx.example, share: 2}
  - {at: 0s, drain: out1, source: out1}
)");
  for (const char* expected :
       {"2:11: duration: expected 1m to", "4:25: domains.gmail.com.provider: no provider is called gogle",
        "domains.both.example: expected either provider", "no enabled blocklist is called nolist",
        "traffic.main.per_hour: expected messages per hour", "traffic.main.to.gmail.com: expected a weight above 0",
        "traffic.main.to.other.example: this domain is not under domains", "traffic.nobody: no class is called nobody",
        "cost.acme: unknown key", "11:1: oops: unknown key", "events[0]: says nothing that happens", "events[1].at: is required",
        "events[2].blocked: one event, one thing", "no smarthost is called sess", "events[4].reply: expected a refusal",
        "events[5].code: no listing code of zen", "events[6].share: expected a share", "events[7].source: unknown key"})
    EXPECT_NE(found.find(expected), std::string::npos) << expected << "\nis not in\n" << found;
}

TEST(Scenario, AnEventMustLieBeforeTheEnd) {
  EXPECT_NE(problems_of(domains + "duration: 1h\ntraffic: {main: {per_hour: 1}}\nevents: [{at: 1h, drain: out1}]")
                .find("is not before the end"),
            std::string::npos);
}

TEST(Scenario, TooMuchTrafficIsRefused) {
  EXPECT_NE(problems_of(domains + "traffic: {main: {per_hour: 1000000}}").find("more than 20000000 messages"), std::string::npos);
}

TEST(Scenario, AnEmptyOneIsAProblem) {
  EXPECT_NE(problems_of("").find("s.yaml"), std::string::npos);
  EXPECT_NE(problems_of("duration: 1d").find("traffic"), std::string::npos);
}

TEST(Scenario, RoutesDecideThePool) {
  const auto report = run(domains + "traffic: {main: {per_hour: 60, to: {example.net: 1}}}", 1,
                          configuration + "routes: [{domain: example.net, pool: strict}]\n");
  EXPECT_EQ(report.classes.front().total.by_source[2], report.classes.front().total.accepted);
}

}  // namespace
}  // namespace egret
