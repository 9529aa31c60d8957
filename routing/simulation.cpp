#include "routing/simulation.hpp"

#include <algorithm>
#include <random>

#include "routing/simulated_delivery.hpp"
#include "routing/simulated_reputation.hpp"

namespace egret::routing {
namespace {

using std::chrono::hours;
using std::chrono::minutes;

constexpr Time start_time{std::chrono::sys_days{std::chrono::year{2000} / 1 / 1}};
constexpr Duration last_attempts = minutes(10);  // what is under way at the end may end

std::string describe(const Incident& incident) {
  switch (incident.kind) {
    case Incident::Kind::listed:
      return incident.begins ? "listed" : "delisted";
    case Incident::Kind::blocked:
      return incident.begins ? "blocked" : "unblocked";
    case Incident::Kind::throttled:
      return incident.begins ? "throttled" : "unthrottled";
    case Incident::Kind::drained:
      return incident.begins ? "drain" : "resume";
    case Incident::Kind::source_down:
      return incident.begins ? "source-down" : "source-up";
    case Incident::Kind::list_down:
      return incident.begins ? "list-down" : "list-up";
    case Incident::Kind::smarthost_refuses:
      return incident.begins ? "smarthost-refuses" : "smarthost-accepts";
  }
  return {};
}

struct Arrival {
  Time at{};
  const SimulatedTraffic* traffic = nullptr;
  std::uint32_t domain = 0;
};

/// Draws the messages of one minute after another.
class Arrivals {
 public:
  Arrivals(const Scenario& scenario, Time start, std::mt19937_64& random)
      : scenario_(scenario), random_(random), start_(start), minute_(start), end_(start + scenario.duration) {
    fill();
  }
  Time next() const { return at_ < pending_.size() ? pending_[at_].at : Time::max(); }
  Arrival take() {
    const Arrival out = pending_[at_++];
    if (at_ == pending_.size()) fill();
    return out;
  }

 private:
  void fill() {
    pending_.clear();
    at_ = 0;
    for (; pending_.empty() && minute_ < end_; minute_ += minutes(1))
      for (const SimulatedTraffic& traffic : scenario_.traffic) draw(traffic);
    std::ranges::stable_sort(pending_, {}, &Arrival::at);
  }

  void draw(const SimulatedTraffic& traffic) {
    const Duration length = std::min<Duration>(minutes(1), end_ - minute_);
    const auto hour = static_cast<std::size_t>((minute_ - start_) / hours(1));
    const double rate = traffic.per_hour[hour % traffic.per_hour.size()];
    const double expected = rate * static_cast<double>(length.count()) / static_cast<double>(Duration(hours(1)).count());
    const auto count = static_cast<std::uint64_t>(expected + draw_share(random_));
    for (std::uint64_t i = 0; i < count; ++i) {
      const Duration offset(static_cast<std::int64_t>(draw_share(random_) * static_cast<double>(length.count())));
      pending_.push_back({minute_ + offset, &traffic, domain_of(traffic)});
    }
  }

  std::uint32_t domain_of(const SimulatedTraffic& traffic) {
    double sum = 0;
    for (const auto& to : traffic.to) sum += to.weight;
    double at = draw_share(random_) * sum;
    for (const auto& to : traffic.to)
      if ((at -= to.weight) < 0) return to.domain;
    return traffic.to.back().domain;
  }

  const Scenario& scenario_;
  std::mt19937_64& random_;
  Time start_, minute_, end_;
  std::vector<Arrival> pending_;
  std::size_t at_ = 0;
};

class Run {
 public:
  Run(const SimulationSetup& setup, const Scenario& scenario, std::uint64_t seed)
      : setup_(setup),
        scenario_(scenario),
        random_(seed),
        class_report_(prepare(seed)),
        reputation_(setup, report_, random_, start_time),
        delivery_(setup, scenario, reputation_, report_, class_report_, random_),
        arrivals_(scenario, start_time, random_) {}

  SimulationReport run() {
    const Time end = start_time + scenario_.duration;
    for (Time now = next(); now < end; now = next()) {
      close_hours(now);
      step(now);
    }
    delivery_.stop();
    for (Time now = delivery_.next_end(); now <= end + last_attempts; now = delivery_.next_end()) delivery_.advance(now);
    close_hours(Time::max());
    delivery_.finish(end);
    sum_up();
    return std::move(report_);
  }

 private:
  std::vector<std::size_t> prepare(std::uint64_t seed) {
    report_.start = start_time;
    report_.duration = scenario_.duration;
    report_.seed = seed;
    HourCount empty;
    empty.by_source.resize(setup_.topology.sources.size());
    empty.by_smarthost.resize(setup_.topology.smarthosts.size());
    const auto count = static_cast<std::size_t>((scenario_.duration + hours(1) - Duration(1)) / hours(1));
    std::vector<std::size_t> out(setup_.classes.size());
    for (std::uint32_t i = 0; i < setup_.classes.size(); ++i) {
      if (std::ranges::find(scenario_.traffic, i, &SimulatedTraffic::message_class) == scenario_.traffic.end()) continue;
      out[i] = report_.classes.size();
      report_.classes.push_back(
          {setup_.classes[i].name, std::vector<HourCount>(std::max<std::size_t>(1, count), empty), empty, {}, {}});
    }
    for (const auto& name : setup_.topology.smarthosts) report_.smarthosts.push_back({name, 0, 0, 0, {}});
    return out;
  }

  Time next() const {
    Time out = std::min({arrivals_.next(), reputation_.next(), delivery_.next()});
    if (incident_ < scenario_.incidents.size()) out = std::min(out, start_time + scenario_.incidents[incident_].at);
    return out;
  }

  void step(Time now) {
    for (; incident_ < scenario_.incidents.size() && start_time + scenario_.incidents[incident_].at <= now; ++incident_) {
      tell(scenario_.incidents[incident_], now);
      reputation_.apply(scenario_.incidents[incident_], now);
    }
    reputation_.advance(now);
    delivery_.settle(now);
    delivery_.advance(now);
    while (arrivals_.next() <= now) {
      const Arrival arrival = arrivals_.take();
      delivery_.submit(*arrival.traffic, arrival.domain, now);
    }
  }

  void tell(const Incident& incident, Time now) {
    TimelineEntry entry;
    entry.time = now;
    entry.given = true;
    entry.kind = describe(incident);
    const bool of_smarthost = incident.kind == Incident::Kind::smarthost_refuses;
    if (of_smarthost) entry.smarthost = setup_.topology.smarthosts[incident.smarthost];
    if (!of_smarthost && incident.kind != Incident::Kind::list_down) entry.source = setup_.topology.sources[incident.source].name;
    entry.provider = incident.provider;
    entry.blocklist = incident.blocklist;
    reputation_.note(std::move(entry));
  }

  /// Notes what waited when the hours before `now` ended.
  void close_hours(Time now) {
    for (; closed_ < hour_count() && start_time + hours(closed_ + 1) <= now; ++closed_)
      for (std::size_t i = 0; i < report_.classes.size(); ++i) report_.classes[i].hours[closed_].waiting = delivery_.waiting(i);
  }
  std::size_t hour_count() const { return report_.classes.empty() ? 0 : report_.classes.front().hours.size(); }

  void sum_up() {
    for (ClassReport& report : report_.classes) {
      for (const HourCount& hour : report.hours) {
        report.total.accepted += hour.accepted;
        report.total.failovers += hour.failovers;
        report.total.deferred += hour.deferred;
        report.total.held += hour.held;
        report.total.failed += hour.failed;
        for (std::size_t i = 0; i < hour.by_source.size(); ++i) report.total.by_source[i] += hour.by_source[i];
        for (std::size_t i = 0; i < hour.by_smarthost.size(); ++i) report.total.by_smarthost[i] += hour.by_smarthost[i];
      }
      report.total.waiting = report.hours.back().waiting;
    }
    for (const auto& [index, price] : scenario_.cost)
      report_.smarthosts[index].cost = price * static_cast<double>(report_.smarthosts[index].recipients) / 1000;
  }

  const SimulationSetup& setup_;
  const Scenario& scenario_;
  std::mt19937_64 random_;
  SimulationReport report_;
  std::vector<std::size_t> class_report_;
  SimulatedReputation reputation_;
  SimulatedDelivery delivery_;
  Arrivals arrivals_;
  std::size_t incident_ = 0;
  std::size_t closed_ = 0;
};

}  // namespace

void Waits::add(Duration wait) {
  ++messages;
  total += wait;
  longest = std::max(longest, wait);
}

Duration Waits::mean() const {
  return messages == 0 ? Duration{0} : total / static_cast<std::int64_t>(messages);
}

SimulationReport simulate(const SimulationSetup& setup, const Scenario& scenario, std::uint64_t seed) {
  return Run(setup, scenario, seed).run();
}

}  // namespace egret::routing
