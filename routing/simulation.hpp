// What would have happened: a day of traffic and troubles run against a configuration, without network.
//
// The functions that decide are the daemon's own: fold() and view() for the standings, judge() and judge_health() for
// blocklists, ReplyRules and blame_*() for replies, route() for the way, charge() for budgets, next_attempt() for the
// next try. What is made up here is the world around them: simulated time, receivers that refuse what the scenario
// says, and lists that answer what it says. The same scenario and seed give the same report, octet for octet.
//
// Left out: TLS, DNS trouble, message contents, and the time that connecting takes (an attempt lasts
// Scenario::attempt_time on one of the connections that its lane may have).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "routing/budget.hpp"
#include "routing/reply_rules.hpp"
#include "routing/route.hpp"
#include "routing/site.hpp"
#include "routing/standing.hpp"

namespace egret::routing {

struct SimulatedClass {
  std::string name;
  std::uint32_t pool = 0;
  Duration max_age{std::chrono::hours(24)};
  bool spill = true;
};

struct SimulatedSmarthost {
  std::optional<Budget> budget;
  int connections = 10;
  int recipients = 100;              ///< in one transaction
  std::uint64_t message_size = 0;    ///< 0: no limit known
  std::string provider = "generic";  ///< whose words its replies are
  QuotaRenewal quota = QuotaRenewal::midnight;
};

/// What the configuration says. The references must outlive the run.
struct SimulationSetup {
  const Topology& topology;
  const StandingPolicy& policy;
  const Blocklists& lists;
  const Providers& providers;
  const ReplyRules& replies;
  std::vector<SimulatedClass> classes;
  std::vector<SimulatedSmarthost> smarthosts;  ///< parallel to topology.smarthosts
  std::vector<Duration> retry;                 ///< not empty
};

/// A recipient domain and who receives for it.
struct SimulatedDomain {
  std::string name;
  std::string site;
  std::string provider;
  int connections = 20;                 ///< per source
  std::vector<std::string> blocklists;  ///< that its receivers refuse by
  bool ipv4 = true;
  bool ipv6 = false;
  std::optional<std::uint32_t> pool;  ///< in place of the class's
};

/// A share of the traffic of a class.
struct SimulatedRecipient {
  std::uint32_t domain = 0;
  double weight = 1;
};

struct SimulatedTraffic {
  std::uint32_t message_class = 0;
  std::vector<double> per_hour;        ///< messages; begins again when it is over
  std::vector<SimulatedRecipient> to;  ///< not empty, weights above 0
  std::uint32_t recipients = 1;        ///< of each message, all in one domain
  std::uint64_t size = 20 << 10;       ///< octets of each message
};

/// Something that is so from one moment to another.
struct Incident {
  enum class Kind {
    listed,             ///< `blocklist` lists `source`
    blocked,            ///< `provider` refuses `source`
    throttled,          ///< `provider` defers `share` of what `source` brings
    drained,            ///< the operator drained `source`, with `provider` where one is named
    source_down,        ///< the address or the proxy of `source` does not work
    list_down,          ///< `blocklist` answers nobody
    smarthost_refuses,  ///< `smarthost` refuses us as a customer
  };
  Kind kind = Kind::listed;
  bool begins = true;  ///< else this is its end
  Duration at{};       ///< since the start
  std::uint32_t source = 0;
  std::uint32_t smarthost = 0;
  std::string blocklist;
  std::string provider;
  IpAddress code;      ///< listed: the list's answer
  double share = 0.5;  ///< throttled: of the attempts
  std::string reply;   ///< what is answered; {ip} is the source's address. Empty: a typical one
};

struct Scenario {
  Duration duration{std::chrono::hours(24)};
  Duration attempt_time{std::chrono::seconds(1)};
  std::vector<SimulatedDomain> domains;
  std::vector<SimulatedTraffic> traffic;
  std::vector<Incident> incidents;              ///< by time
  std::map<std::uint32_t, double> cost;         ///< of 1000 recipients, by smarthost
  static constexpr double most_messages = 2e7;  ///< more is refused by the reader: memory is bounded by what waits
};

/// One class in one hour. Messages, but for `failovers` and `deferred`, which count attempts.
struct HourCount {
  std::uint64_t accepted = 0;
  std::vector<std::uint64_t> by_source;     ///< delivered
  std::vector<std::uint64_t> by_smarthost;  ///< delivered
  std::uint64_t failovers = 0;              ///< refused by one egress, offered to the next at once
  std::uint64_t deferred = 0;               ///< to be tried again by the schedule
  std::uint64_t held = 0;                   ///< began to wait because no egress was available
  std::uint64_t failed = 0;                 ///< refused for good, or too old
  std::uint64_t waiting = 0;                ///< at the end of the hour, held and deferred ones included
};

struct Waits {
  std::uint64_t messages = 0;
  Duration total{};
  Duration longest{};
  void add(Duration wait);
  Duration mean() const;
};

struct ClassReport {
  std::string name;
  std::vector<HourCount> hours;
  HourCount total;  ///< `waiting` is that of the last hour
  Waits delay;      ///< from acceptance to delivery
  Waits held;       ///< without an available egress; those still held at the end included
};

struct SmarthostReport {
  std::string name;
  std::uint64_t messages = 0;
  std::uint64_t recipients = 0;
  std::uint64_t refused = 0;   ///< attempts
  std::optional<double> cost;  ///< of the recipients, where the scenario has a price
};

/// What happened, or what Egret made of it.
struct TimelineEntry {
  Time time{};
  bool given = false;  ///< by the scenario
  std::string kind, source, provider, smarthost, blocklist, rule, from, to, text, action;
};

struct SimulationReport {
  Time start{};
  Duration duration{};
  std::uint64_t seed = 0;
  std::vector<ClassReport> classes;  ///< those with traffic, in the order of the configuration
  std::vector<SmarthostReport> smarthosts;
  std::vector<TimelineEntry> timeline;
  std::uint64_t timeline_left_out = 0;  ///< entries beyond the first 10 000
  std::uint64_t attempts = 0;
};

/// Runs the scenario. It begins at 2000-01-01T00:00Z, so that budgets renew as they would at midnight.
SimulationReport simulate(const SimulationSetup& setup, const Scenario& scenario, std::uint64_t seed);

}  // namespace egret::routing
