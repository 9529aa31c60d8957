#include "relay/cli/replay.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <tuple>
#include <vector>

#include "relay/cli/table.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;

/// What is known of one recorded reply.
struct Recorded {
  std::string reply;  ///< as Reply::to_string writes it
  std::string label, rule;
  std::string egress, provider, phase;
  bool judged = false;  ///< the line says what it was taken for
};

/// Replies that were judged differently in the same way.
struct Difference {
  std::uint64_t count = 0;
  std::string example;
};
using DifferenceKey = std::tuple<std::string, std::string, std::string, std::string>;  // old label and rule, new ones

/// The two characters "\n" stand for a line break of the reply, in the log as for `egret classify`.
std::string with_line_breaks(std::string_view line) {
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const bool escape = line[i] == '\\' && i + 1 < line.size() && line[i + 1] == 'n';
    if (escape) ++i;
    if (line[i] != '\r') out += escape ? '\n' : line[i];
  }
  return out;
}

/// Nothing for a line of the log that is no judged reply: another message, a delivery, trouble without an answer.
std::optional<Recorded> from_log(const json::object& line) {
  const auto text = [&](const char* key) -> std::string {
    const auto* value = line.if_contains(key);
    return value && value->is_string() ? json::value_to<std::string>(*value) : std::string();
  };
  const std::string message = text("message");
  if (message != "failed" && message != "deferred" && message != "failover") return std::nullopt;
  Recorded out{
      with_line_breaks(text("reply")), text("label"), text("rule"), text("egress"), text("provider"), text("phase"), true};
  if (out.label.empty() || out.reply.empty()) return std::nullopt;
  return out;
}

std::optional<Recorded> recorded_in(const std::string& line) {
  const std::string_view trimmed = smtp::trim(line);
  if (trimmed.empty()) return std::nullopt;
  if (trimmed.front() == '{') {
    boost::system::error_code error;
    const json::value value = json::parse(trimmed, error);
    return !error && value.is_object() ? from_log(value.as_object()) : std::nullopt;
  }
  Recorded out;
  out.reply = with_line_breaks(trimmed);
  const int code = smtp::reply_text(out.reply).code;
  if (code < 400 || code > 599) return std::nullopt;
  return out;
}

class Replay {
 public:
  Replay(const config::Config* config, const routing::ReplyRules& shipped)
      : config_(config), shipped_(shipped), rules_(config ? *config->replies : shipped) {}

  void add(const std::string& line) {
    if (smtp::trim(line).empty()) return;
    auto recorded = recorded_in(line);
    if (!recorded) {
      ++passed_over_;
      return;
    }
    ++replies_;
    const auto text = smtp::reply_text(recorded->reply);
    const routing::ReplyContext context = context_of(*recorded);
    if (!recorded->judged) {
      const routing::Verdict before = shipped_.classify(text, context);
      recorded->label = to_string(before.label);
      recorded->rule = before.rule;
    }
    const routing::Verdict now = rules_.classify(text, context);
    if (recorded->label == to_string(now.label) && recorded->rule == now.rule) return;
    const bool relabeled = recorded->label != to_string(now.label);
    (relabeled ? relabeled_ : same_label_) += 1;
    Difference& difference =
        differences_[{recorded->label, recorded->rule, std::string(to_string(now.label)), std::string(now.rule)}];
    if (difference.count++ == 0) difference.example = recorded->reply;
  }

  void print_text() const {
    std::cout << replies_ << " replies: " << relabeled_ << " with another label, " << same_label_
              << " with the same label by another rule"
              << (passed_over_ ? "; " + std::to_string(passed_over_) + " other lines" : "") << "\n";
    if (differences_.empty()) return;
    Table table({"COUNT", "WAS", "BY RULE", "IS", "BY RULE", "EXAMPLE"});
    for (const auto& [key, difference] : sorted()) {
      const auto& [old_label, old_rule, new_label, new_rule] = key;
      std::string example = difference.example;
      std::ranges::replace(example, '\n', ' ');
      table.add({std::to_string(difference.count), old_label, old_rule.empty() ? "-" : old_rule, new_label, new_rule,
                 smtp::printable(smtp::cut_text(example, 160))});
    }
    std::cout << table.str();
  }

  void print_json() const {
    json::array list;
    for (const auto& [key, difference] : sorted()) {
      const auto& [old_label, old_rule, new_label, new_rule] = key;
      list.push_back(json::object{{"count", difference.count},
                                  {"old", json::object{{"label", old_label}, {"rule", old_rule}}},
                                  {"new", json::object{{"label", new_label}, {"rule", new_rule}}},
                                  {"example", smtp::printable(difference.example)}});
    }
    std::cout << json::serialize(json::object{{"replies", replies_},
                                              {"other_label", relabeled_},
                                              {"other_rule", same_label_},
                                              {"passed_over", passed_over_},
                                              {"differences", std::move(list)}})
              << "\n";
  }

 private:
  routing::ReplyContext context_of(const Recorded& recorded) const {
    routing::ReplyContext out{smtp::parse_phase(recorded.phase), recorded.provider, {}};
    if (config_)
      for (const auto& source : config_->topology.sources)
        if (source.name == recorded.egress) out.egress = source.reputation;
    return out;
  }

  /// Other labels before other rules, frequent ones first.
  std::vector<std::pair<DifferenceKey, Difference>> sorted() const {
    std::vector<std::pair<DifferenceKey, Difference>> out(differences_.begin(), differences_.end());
    std::ranges::stable_sort(
        out, {}, [](const auto& d) { return std::tuple(std::get<0>(d.first) == std::get<2>(d.first), ~d.second.count); });
    return out;
  }

  const config::Config* config_;
  const routing::ReplyRules& shipped_;
  const routing::ReplyRules& rules_;
  std::uint64_t replies_ = 0, relabeled_ = 0, same_label_ = 0, passed_over_ = 0;
  std::map<DifferenceKey, Difference> differences_;
};

}  // namespace

int replay(std::istream& in, const config::Config* config, bool as_json) {
  config::Problems problems;
  const auto shipped = config::shipped_reply_rules(problems);
  Replay replay(config, *shipped);
  for (std::string line; std::getline(in, line);) replay.add(line);
  as_json ? replay.print_json() : replay.print_text();
  return 0;
}

int replay_command(const std::string& recorded, const std::string& configuration, bool is_default, bool as_json) {
  std::shared_ptr<const config::Config> config;
  if (!is_default || std::filesystem::exists(configuration)) {
    config::Problems problems;
    config = config::load_file(configuration, config::process_environment(), problems);
    for (const auto& problem : problems) std::cerr << problem.to_string() << "\n";
    if (!config) return 1;
  }
  if (recorded == "-") return replay(std::cin, config.get(), as_json);
  std::ifstream in(recorded);
  if (!in) {
    std::cerr << recorded << ": cannot be read\n";
    return 1;
  }
  return replay(in, config.get(), as_json);
}

}  // namespace egret::relay
