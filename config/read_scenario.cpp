#include "config/read_scenario.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "config/tree.hpp"
#include "smtp/text.hpp"

namespace egret::config {
namespace {

using routing::Duration;
using routing::Incident;
using routing::Scenario;
using Kind = routing::Incident::Kind;

constexpr Duration longest{std::chrono::days(31)};

/// What an event's key says, and of what its value is the name.
struct EventWord {
  std::string_view key;
  Kind kind;
  bool begins;
  enum class Names { blocklist, provider, source, smarthost } names;
};
constexpr std::array<EventWord, 14> words{{
    {"listed", Kind::listed, true, EventWord::Names::blocklist},
    {"delisted", Kind::listed, false, EventWord::Names::blocklist},
    {"blocked", Kind::blocked, true, EventWord::Names::provider},
    {"unblocked", Kind::blocked, false, EventWord::Names::provider},
    {"throttled", Kind::throttled, true, EventWord::Names::provider},
    {"unthrottled", Kind::throttled, false, EventWord::Names::provider},
    {"drain", Kind::drained, true, EventWord::Names::source},
    {"resume", Kind::drained, false, EventWord::Names::source},
    {"source-down", Kind::source_down, true, EventWord::Names::source},
    {"source-up", Kind::source_down, false, EventWord::Names::source},
    {"list-down", Kind::list_down, true, EventWord::Names::blocklist},
    {"list-up", Kind::list_down, false, EventWord::Names::blocklist},
    {"smarthost-refuses", Kind::smarthost_refuses, true, EventWord::Names::smarthost},
    {"smarthost-accepts", Kind::smarthost_refuses, false, EventWord::Names::smarthost},
}};

std::string joined(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out.empty() ? "(there is none)" : out;
}

std::optional<double> parse_number(const std::string& text) {
  double out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(out)) return std::nullopt;
  return out;
}

class Reader {
 public:
  Reader(const std::string& file, const Config& config, Problems& problems)
      : file_(file), config_(config), problems_(problems), count_(problems.size()) {
    for (const auto& source : config.topology.sources) sources_.push_back(source.name);
    for (const auto& message_class : config.classes) classes_.push_back(message_class.name);
    for (const auto& [name, list] : config.blocklists)
      if (list.enabled) lists_.push_back(name);
  }

  Scenario read(const Tree& tree) {
    if (tree.kind == Tree::Kind::null && problems_.size() == count_)
      problems_.push_back({file_, 1, 1, "", "the scenario is empty"});
    Section top(&tree, "", file_, problems_);
    top.duration("duration", out_.duration);
    bounded(top, "duration", out_.duration, std::chrono::minutes(1), longest);
    top.duration("attempt_time", out_.attempt_time);
    bounded(top, "attempt_time", out_.attempt_time, std::chrono::milliseconds(1), std::chrono::minutes(10));
    top.named("domains", [&](const std::string& name, Section& section) { domain(name, section); });
    top.named("traffic", [&](const std::string& name, Section& section) { traffic(name, section); });
    if (out_.traffic.empty() && top.present() && problems_.size() == count_)
      top.problem("traffic", "is required: a class, its messages per hour and where they go");
    costs(top);
    top.sections("events", [&](Section& section) { event(section); });
    top.finish();
    std::ranges::stable_sort(out_.incidents, {}, &Incident::at);
    bound_messages(top);
    return std::move(out_);
  }

 private:
  void bounded(Section& section, std::string_view key, Duration value, Duration least, Duration most) {
    if (value < least || value > most)
      section.problem(key, "expected " + routing::to_string(least) + " to " + routing::to_string(most));
  }

  std::optional<std::uint32_t> index_of(const std::vector<std::string>& names, std::string_view name, Section& section,
                                        std::string_view key, const char* what) {
    const auto it = std::ranges::find(names, name);
    if (it != names.end()) return static_cast<std::uint32_t>(it - names.begin());
    section.problem(key, "no " + std::string(what) + " is called " + std::string(name) + "; expected one of " + joined(names));
    return std::nullopt;
  }

  // ---- domains and traffic

  void domain(const std::string& name, Section& section) {
    routing::SimulatedDomain domain;
    domain.name = smtp::lower(name);
    domain.connections = config_.delivery.connections_per_site;
    std::string provider;
    std::vector<std::string> mx;
    section.text("provider", provider);
    section.texts("mx", mx);
    section.texts("blocklists", domain.blocklists);
    section.boolean("ipv6", domain.ipv6);
    for (const auto& list : domain.blocklists) index_of(lists_, list, section, "blocklists", "enabled blocklist");
    if (provider.empty() == mx.empty()) section.problem("", "expected either provider (of providers.yaml) or mx (host names)");
    place(domain, provider, mx);
    if (const auto* known = config_.providers.named(domain.provider)) {
      domain.connections = known->connections.value_or(domain.connections);
      for (const auto& list : known->blocklists)
        if (std::ranges::find(domain.blocklists, list) == domain.blocklists.end()) domain.blocklists.push_back(list);
    } else if (!provider.empty()) {
      std::vector<std::string> names;
      for (const auto& p : config_.providers.all()) names.push_back(p.name);
      index_of(names, provider, section, "provider", "provider");
    }
    if (out_.domains.size() >= 1000) return section.problem("", "more than 1000 domains");
    if (std::ranges::find(receivers_, domain.provider) == receivers_.end()) receivers_.push_back(domain.provider);
    out_.domains.push_back(std::move(domain));
  }

  /// Site, provider and pool, as the relay finds them: `routes` first.
  void place(routing::SimulatedDomain& domain, const std::string& provider, const std::vector<std::string>& mx) {
    std::vector<routing::MxHost> hosts;
    for (const auto& host : mx) hosts.push_back({10, smtp::lower(host)});
    bool routed = false;
    for (const auto& route : config_.routes) {
      if (!routing::domain_matches(route.domain, domain.name)) continue;
      if (route.to && !routed) hosts = {{0, smtp::lower(route.to->host)}};
      routed = routed || route.to.has_value();
      if (route.pool && !domain.pool) domain.pool = route.pool;
    }
    routing::sort_hosts(hosts);
    domain.site = hosts.empty() ? "provider " + provider : routing::site_key(hosts);
    domain.provider = hosts.empty() ? provider : routing::provider_of(hosts, config_.providers);
  }

  std::optional<std::uint32_t> domain_named(const std::string& name) const {
    const auto it = std::ranges::find(out_.domains, smtp::lower(name), &routing::SimulatedDomain::name);
    if (it == out_.domains.end()) return std::nullopt;
    return static_cast<std::uint32_t>(it - out_.domains.begin());
  }

  void traffic(const std::string& name, Section& section) {
    routing::SimulatedTraffic traffic;
    traffic.message_class = index_of(classes_, name, section, "", "class").value_or(0);
    rates(section, traffic.per_hour);
    int recipients = 1;
    section.integer("recipients", recipients, 1, 100'000);
    traffic.recipients = static_cast<std::uint32_t>(recipients);
    section.size("size", traffic.size);
    recipients_of(section, traffic);
    if (!traffic.to.empty() && !traffic.per_hour.empty()) out_.traffic.push_back(std::move(traffic));
  }

  /// `per_hour: 500`, or a list with one number for each hour.
  void rates(Section& section, std::vector<double>& out) {
    const Tree* value = section.take("per_hour");
    if (!value) return section.problem("per_hour", "is required: messages per hour, or a list with a number for each hour");
    const auto add = [&](const Tree& item) {
      const auto number = item.kind == Tree::Kind::scalar ? parse_number(item.scalar) : std::nullopt;
      if (number && *number >= 0 && *number <= Scenario::most_messages)
        out.push_back(*number);
      else
        section.problem_at(item, "per_hour", "expected messages per hour, 0 to 20000000");
    };
    if (value->kind != Tree::Kind::sequence) return add(*value);
    if (value->items.empty() || value->items.size() > 24 * 31) return section.problem("per_hour", "expected 1 to 744 numbers");
    for (const Tree& item : value->items) add(item);
  }

  /// `to: {gmail.com: 5, example.net: 2}`; without it, every domain alike.
  void recipients_of(Section& section, routing::SimulatedTraffic& traffic) {
    const Tree* value = section.take("to");
    if (!value) {
      for (std::uint32_t i = 0; i < out_.domains.size(); ++i) traffic.to.push_back({i, 1});
      if (out_.domains.empty()) section.problem("to", "there is no domain to send to: name some under domains");
      return;
    }
    if (value->kind != Tree::Kind::mapping)
      return section.problem("to", "expected domains with weights, such as {example.net: 2}");
    for (std::size_t i = 0; i < value->keys.size(); ++i) {
      const Tree& item = value->items[i];
      const auto domain = domain_named(value->keys[i]);
      const auto weight = item.kind == Tree::Kind::scalar ? parse_number(item.scalar) : std::nullopt;
      if (!domain)
        section.problem_at(item, "to." + value->keys[i], "this domain is not under domains");
      else if (!weight || *weight <= 0)
        section.problem_at(item, "to." + value->keys[i], "expected a weight above 0");
      else
        traffic.to.push_back({*domain, *weight});
    }
    if (value->keys.empty()) section.problem("to", "expected domains with weights");
  }

  void costs(Section& top) {
    Section section = top.section("cost");
    for (std::uint32_t i = 0; i < config_.topology.smarthosts.size(); ++i) {
      double price = -1;
      section.number(config_.topology.smarthosts[i], price, 0, 1e6);
      if (price >= 0) out_.cost[i] = price;
    }
    section.finish();
  }

  /// Not more messages than a run should take; memory grows with what waits.
  void bound_messages(Section& top) {
    double sum = 0;
    for (const auto& traffic : out_.traffic) {
      double rates = 0;
      for (const double rate : traffic.per_hour) rates += rate;
      sum += rates / static_cast<double>(traffic.per_hour.size()) *
             std::chrono::duration<double, std::ratio<3600>>(out_.duration).count();
    }
    if (sum > Scenario::most_messages) top.problem("traffic", "more than 20000000 messages in all: scale it down");
  }

  // ---- events

  void event(Section& section) {
    Incident incident;
    section.duration("at", incident.at);
    if (!section.take("at")) section.problem("at", "is required: when, since the start");
    if (incident.at >= out_.duration)
      section.problem("at", "is not before the end (duration " + routing::to_string(out_.duration) + ")");
    const EventWord* what = nullptr;
    std::string name;
    for (const EventWord& word : words) {
      if (!section.take(word.key)) continue;
      if (what) {
        know_all(section);
        return section.problem(word.key, "one event, one thing: it says " + std::string(what->key) + " already");
      }
      what = &word;
      section.text(word.key, name);
    }
    if (!what) {
      std::string expected;
      for (const EventWord& word : words) expected += (expected.empty() ? "" : ", ") + std::string(word.key);
      know_all(section);
      return section.problem("", "says nothing that happens; expected one of " + expected);
    }
    incident.kind = what->kind;
    incident.begins = what->begins;
    if (!subject(section, *what, name, incident)) return know_all(section);
    details(section, incident);
    add(section, incident);
  }

  /// Of an event that is wrong already, its other keys need no complaint.
  static void know_all(Section& section) {
    for (const char* key : {"source", "provider", "code", "share", "reply", "for"}) section.take(key);
  }

  /// Whom it concerns. False, with the problem reported, when there is no such one.
  bool subject(Section& section, const EventWord& what, const std::string& name, Incident& incident) {
    const auto source = [&](std::string_view key, const std::string& called) {
      const auto index = index_of(sources_, called, section, key, "source");
      incident.source = index.value_or(0);
      return index.has_value();
    };
    bool good = true;
    switch (what.names) {
      case EventWord::Names::source:
        return source(what.key, name);
      case EventWord::Names::smarthost: {
        const auto index = index_of(config_.topology.smarthosts, name, section, what.key, "smarthost");
        incident.smarthost = index.value_or(0);
        return index.has_value();
      }
      case EventWord::Names::blocklist:
        good = index_of(lists_, name, section, what.key, "enabled blocklist").has_value();
        incident.blocklist = name;
        if (what.kind == Kind::list_down) return good;
        break;
      case EventWord::Names::provider:
        good = known_provider(section, what.key, name);
        incident.provider = name;
        break;
    }
    std::string called;
    section.required_text("source", called);
    return (called.empty() || source("source", called)) && !called.empty() && good;
  }

  /// One that some domain of the scenario belongs to: of another, nothing could be seen.
  bool known_provider(Section& section, std::string_view key, const std::string& name) {
    return index_of(receivers_, name, section, key, "provider of these domains").has_value();
  }

  void details(Section& section, Incident& incident) {
    if (incident.kind == Kind::drained) {
      section.text("provider", incident.provider);
      if (!incident.provider.empty()) known_provider(section, "provider", incident.provider);
    }
    if (!incident.begins) return;
    if (incident.kind == Kind::listed) code(section, incident);
    if (incident.kind == Kind::throttled) {
      std::string share;
      section.text("share", share);
      const auto parsed = share.empty() ? std::optional<double>(incident.share) : parse_share(share);
      if (!parsed) section.problem("share", "expected a share such as 25%");
      incident.share = parsed.value_or(incident.share);
    }
    if (incident.kind == Kind::blocked || incident.kind == Kind::throttled || incident.kind == Kind::smarthost_refuses) {
      section.text("reply", incident.reply);
      const int reply = smtp::reply_text(incident.reply).code;
      if (!incident.reply.empty() && (reply < 400 || reply > 599))
        section.problem("reply", "expected a refusal such as '550 5.7.1 ...'; {ip} stands for the source's address");
    }
  }

  /// The list's answer: the one given, else its first that means listed.
  void code(Section& section, Incident& incident) {
    const auto& codes = config_.blocklists.at(incident.blocklist).codes;
    const auto lists = [](routing::CodeMeaning m) {
      return m == routing::CodeMeaning::listed || m == routing::CodeMeaning::policy;
    };
    std::string given;
    section.text("code", given);
    if (given.empty()) {
      const auto first = std::ranges::find_if(codes, [](const auto& c) { return c.second == routing::CodeMeaning::listed; });
      if (first == codes.end()) return section.problem("listed", "no code of this list means listed; expected code");
      incident.code = first->first;
      return;
    }
    const auto address = routing::IpAddress::parse(given);
    const auto found = address ? codes.find(*address) : codes.end();
    if (found == codes.end() || !lists(found->second)) return section.problem("code", "no listing code of " + incident.blocklist);
    incident.code = *address;
  }

  void add(Section& section, const Incident& incident) {
    if (out_.incidents.size() >= 10'000) return section.problem("", "more than 10000 beginnings and ends");
    out_.incidents.push_back(incident);
    if (!incident.begins) return;
    Duration length{0};
    section.duration("for", length);
    if (!section.take("for")) return;
    if (length <= Duration{0} || length > longest) return section.problem("for", "expected a duration, at most 31d");
    Incident end = incident;
    end.begins = false;
    end.at += length;
    if (end.at < out_.duration) out_.incidents.push_back(std::move(end));
  }

  const std::string& file_;
  const Config& config_;
  Problems& problems_;
  std::size_t count_;
  std::vector<std::string> sources_, classes_, lists_;
  std::vector<std::string> receivers_;  ///< the providers of the scenario's domains
  Scenario out_;
};

}  // namespace

routing::SimulationSetup simulation_setup(const Config& config) {
  routing::SimulationSetup out{
      config.topology, config.reputation, config.blocklists, config.providers, *config.replies, {}, {}, config.delivery.retry};
  for (const auto& c : config.classes) out.classes.push_back({c.name, c.pool, c.max_age, c.spill});
  for (const auto& s : config.smarthosts)
    out.smarthosts.push_back({s.budget, s.connections, s.recipients, s.message_size, s.provider, s.quota});
  return out;
}

routing::Scenario read_scenario(std::string_view text, const std::string& file, const Config& config, Problems& problems) {
  const Tree tree = parse_yaml(text, file, problems);
  return Reader(file, config, problems).read(tree);
}

}  // namespace egret::config
