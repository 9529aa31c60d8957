#include "relay/cli/simulate.hpp"

#include <array>
#include <boost/json.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

#include "config/read_scenario.hpp"
#include "relay/cli/table.hpp"
#include "routing/simulation.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;
using routing::ClassReport;
using routing::HourCount;
using routing::SimulationReport;
using routing::TimelineEntry;

/// "02:00:31", "1d 02:00:31": since the start.
std::string since(routing::Duration elapsed) {
  const long long s = std::chrono::duration_cast<std::chrono::seconds>(elapsed).count();
  std::array<char, 48> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%02lld:%02lld:%02lld", s / 3600 % 24, s / 60 % 60, s % 60);
  return (s >= 86'400 ? std::to_string(s / 86'400) + "d " : "") + buffer.data();
}

std::string decimals(double value) {
  std::array<char, 48> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%.2f", value);
  return buffer.data();
}

double seconds(routing::Duration duration) {
  return static_cast<double>(duration.count()) / 1000;
}

/// The sources and smarthosts that carried anything of the class: the others would only be columns of zeros.
struct Columns {
  std::vector<std::size_t> sources, smarthosts;
};

Columns used(const ClassReport& report) {
  Columns out;
  for (std::size_t i = 0; i < report.total.by_source.size(); ++i)
    if (report.total.by_source[i] > 0) out.sources.push_back(i);
  for (std::size_t i = 0; i < report.total.by_smarthost.size(); ++i)
    if (report.total.by_smarthost[i] > 0) out.smarthosts.push_back(i);
  return out;
}

std::vector<std::string> cells(const std::string& name, const HourCount& hour, const Columns& columns) {
  std::vector<std::string> out{name, std::to_string(hour.accepted)};
  for (const auto i : columns.sources) out.push_back(std::to_string(hour.by_source[i]));
  for (const auto i : columns.smarthosts) out.push_back(std::to_string(hour.by_smarthost[i]));
  for (const auto n : {hour.failovers, hour.deferred, hour.held, hour.failed, hour.waiting}) out.push_back(std::to_string(n));
  return out;
}

std::string waits(const routing::Waits& waits) {
  return std::to_string(waits.messages) + " messages, on average " + routing::to_string(waits.mean()) + ", at most " +
         routing::to_string(waits.longest);
}

std::string class_text(const ClassReport& report, const routing::Topology& topology) {
  const Columns columns = used(report);
  std::vector<std::string> head{"HOUR", "ACCEPTED"};
  for (const auto i : columns.sources) head.push_back(topology.sources[i].name);
  for (const auto i : columns.smarthosts) head.push_back(topology.smarthosts[i]);
  for (const char* name : {"FAILOVER", "DEFERRED", "HELD", "FAILED", "WAITING"}) head.emplace_back(name);
  Table table(std::move(head));
  for (std::size_t i = 0; i < report.hours.size(); ++i)
    table.add(cells(since(std::chrono::hours(i)).substr(0, i < 24 ? 5 : std::string::npos), report.hours[i], columns));
  table.add(cells("total", report.total, columns));
  std::string out = "class " + report.name + "\n" + table.str() + "delivered: " + waits(report.delay) + "\n";
  if (report.held.messages > 0) out += "held: " + waits(report.held) + "\n";
  return out;
}

std::string smarthosts_text(const SimulationReport& report) {
  if (report.smarthosts.empty()) return {};
  Table table({"SMARTHOST", "MESSAGES", "RECIPIENTS", "REFUSED", "COST"});
  for (const auto& s : report.smarthosts)
    table.add({s.name, std::to_string(s.messages), std::to_string(s.recipients), std::to_string(s.refused),
               s.cost ? decimals(*s.cost) : "-"});
  return table.str() + "\n";
}

/// One line for what happened, and what it was about.
std::string subject(const TimelineEntry& e) {
  std::string out;
  for (const auto& [name, value] : {std::pair("source", &e.source), std::pair("smarthost", &e.smarthost),
                                    std::pair("provider", &e.provider), std::pair("blocklist", &e.blocklist)})
    if (!value->empty()) out += std::string(out.empty() ? "" : " ") + name + "=" + *value;
  return out;
}

std::string timeline_text(const SimulationReport& report) {
  std::string out;
  for (const TimelineEntry& e : report.timeline) {
    out += since(e.time - report.start) + (e.given ? "  * " : "    ") + e.kind + " " + subject(e);
    if (!e.from.empty()) out += " " + e.from + " -> " + e.to;
    if (!e.rule.empty()) out += " [" + e.rule + "]";
    if (!e.text.empty()) out += ": " + e.text;
    if (!e.action.empty()) out += ". " + e.action;
    out += "\n";
  }
  if (report.timeline_left_out > 0) out += "and " + std::to_string(report.timeline_left_out) + " more\n";
  return out;
}

std::string text(const SimulationReport& report, const routing::Topology& topology) {
  std::string out = routing::to_string(report.duration) + " from " + routing::to_rfc3339(report.start) + ", seed " +
                    std::to_string(report.seed) + ", " + std::to_string(report.attempts) + " attempts" +
                    (topology.observe ? "; observed only, nothing is enforced" : "") + "\n\n";
  for (const auto& message_class : report.classes) out += class_text(message_class, topology) + "\n";
  out += smarthosts_text(report);
  return out + "events (* given by the scenario)\n" + timeline_text(report);
}

json::object waits_json(const routing::Waits& waits) {
  return {{"messages", waits.messages}, {"mean_s", seconds(waits.mean())}, {"longest_s", seconds(waits.longest)}};
}

json::object hour_json(const HourCount& hour, const routing::Topology& topology) {
  json::object by_egress;
  for (std::size_t i = 0; i < hour.by_source.size(); ++i) by_egress[topology.sources[i].name] = hour.by_source[i];
  for (std::size_t i = 0; i < hour.by_smarthost.size(); ++i) by_egress[topology.smarthosts[i]] = hour.by_smarthost[i];
  return {{"accepted", hour.accepted},   {"by_egress", std::move(by_egress)},
          {"failovers", hour.failovers}, {"deferred", hour.deferred},
          {"held", hour.held},           {"failed", hour.failed},
          {"waiting", hour.waiting}};
}

json::object class_json(const ClassReport& report, const routing::Topology& topology) {
  json::array hours;
  for (const auto& hour : report.hours) hours.push_back(hour_json(hour, topology));
  json::object out = hour_json(report.total, topology);
  out["class"] = report.name;
  out["delay"] = waits_json(report.delay);
  out["held_for"] = waits_json(report.held);
  out["hours"] = std::move(hours);
  return out;
}

json::object timeline_json(const TimelineEntry& e, routing::Time start) {
  return {{"at_s", seconds(e.time - start)},
          {"time", routing::to_rfc3339(e.time)},
          {"given", e.given},
          {"kind", e.kind},
          {"source", e.source},
          {"provider", e.provider},
          {"smarthost", e.smarthost},
          {"blocklist", e.blocklist},
          {"rule", e.rule},
          {"from", e.from},
          {"to", e.to},
          {"text", e.text},
          {"action", e.action}};
}

json::object report_json(const SimulationReport& report, const routing::Topology& topology) {
  json::array classes, smarthosts, events;
  for (const auto& c : report.classes) classes.push_back(class_json(c, topology));
  for (const auto& s : report.smarthosts)
    smarthosts.push_back(json::object{{"name", s.name},
                                      {"messages", s.messages},
                                      {"recipients", s.recipients},
                                      {"refused", s.refused},
                                      {"cost", s.cost ? json::value(*s.cost) : json::value()}});
  for (const auto& e : report.timeline) events.push_back(timeline_json(e, report.start));
  return {{"start", routing::to_rfc3339(report.start)},
          {"duration_s", seconds(report.duration)},
          {"seed", report.seed},
          {"observe", topology.observe},
          {"attempts", report.attempts},
          {"classes", std::move(classes)},
          {"smarthosts", std::move(smarthosts)},
          {"events", std::move(events)},
          {"events_left_out", report.timeline_left_out}};
}

}  // namespace

int simulate_command(const std::string& scenario, const std::string& configuration, std::uint64_t seed, bool as_json) {
  config::Problems problems;
  const auto config = config::load_file(configuration, config::process_environment(), problems);
  std::ifstream in(scenario, std::ios::binary);
  std::ostringstream content;
  if (!in || !(content << in.rdbuf())) problems.push_back({scenario, 0, 0, "", "cannot be read"});
  routing::Scenario read;
  if (config && in) read = config::read_scenario(content.str(), scenario, *config, problems);
  for (const auto& problem : problems) std::cerr << problem.to_string() << "\n";
  if (!problems.empty() || !config) return 1;
  const auto report = routing::simulate(config::simulation_setup(*config), read, seed);
  if (as_json)
    std::cout << json::serialize(report_json(report, config->topology)) << "\n";
  else
    std::cout << text(report, config->topology);
  return 0;
}

}  // namespace egret::relay
