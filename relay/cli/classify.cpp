#include "relay/cli/classify.hpp"

#include <boost/json.hpp>
#include <iostream>
#include <stdexcept>

#include "config/config.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;

struct Rules {
  std::shared_ptr<const routing::ReplyRules> rules;
  routing::Blocklists blocklists;
};

/// Null rules, with the problems told, when they cannot be used.
Rules load_rules(const std::string& file) {
  Rules out;
  config::Problems problems;
  if (file.empty()) {
    out.rules = config::shipped_reply_rules(problems);
  } else if (const auto config = config::load_file(file, config::process_environment(), problems)) {
    out.rules = config->replies;
    out.blocklists = config->blocklists;
  }
  for (const auto& problem : problems) std::cerr << problem.to_string() << "\n";
  if (!problems.empty()) out.rules = nullptr;
  return out;
}

/// The two characters "\n" in a line stand for a line break of the reply.
std::string unescape(const std::string& line) {
  std::string out;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\' && i + 1 < line.size() && line[i + 1] == 'n') {
      out += '\n';
      ++i;
    } else if (line[i] != '\r') {
      out += line[i];
    }
  }
  return out;
}

json::value text_or_null(std::string_view text) {
  return text.empty() ? json::value() : json::value(text);
}

json::object to_json(const routing::Verdict& v) {
  return {{"label", to_string(v.label)},
          {"blocklist", text_or_null(v.blocklist)},
          {"rule", v.rule},
          {"confidence", to_string(v.confidence)},
          {"delist", text_or_null(v.delist)}};
}

/// The rules that hold and did not judge: an observing one ahead of the winner first, then the runners-up.
std::vector<routing::Verdict> others(const std::vector<routing::Verdict>& all, const routing::Verdict& winner) {
  std::vector<routing::Verdict> out;
  for (const routing::Verdict& verdict : all)
    if (verdict.rule != winner.rule) out.push_back(verdict);
  return out;
}

void print(const routing::Verdict& v, const std::vector<routing::Verdict>* explained) {
  std::cout << to_string(v.label) << '\t' << (v.blocklist.empty() ? "-" : v.blocklist) << '\t' << v.rule << "\n";
  if (!explained) return;
  const auto line = [](const char* what, const routing::Verdict& verdict) {
    std::cout << "  " << what << '\t' << to_string(verdict.label) << '\t' << verdict.rule << '\t' << to_string(verdict.confidence)
              << '\t' << (verdict.delist.empty() ? "-" : verdict.delist) << "\n";
  };
  line("judged", v);
  for (const routing::Verdict& verdict : others(*explained, v))
    line(verdict.observe.empty() ? "runner-up" : "observing", verdict);
}

void print_json(const routing::Verdict& v, const std::vector<routing::Verdict>* explained) {
  json::object out = to_json(v);
  if (explained) {
    json::array runners_up, observing;
    for (const routing::Verdict& verdict : others(*explained, v))
      (verdict.observe.empty() ? runners_up : observing).push_back(to_json(verdict));
    out["runners_up"] = std::move(runners_up);
    out["observing"] = std::move(observing);
  }
  std::cout << json::serialize(out) << "\n";
}

int lint(const Rules& rules, bool as_json) {
  const auto findings = config::lint_replies(*rules.rules, rules.blocklists);
  if (as_json) {
    json::array list;
    for (const auto& finding : findings)
      list.push_back(json::object{{"rule", finding.rule}, {"what", finding.what}, {"impossible", finding.impossible}});
    std::cout << json::serialize(json::object{{"rules", rules.rules->rules().size()}, {"findings", std::move(list)}}) << "\n";
  } else {
    for (const auto& finding : findings) std::cout << "rule " << finding.rule << ": " << finding.what << "\n";
  }
  return findings.empty() ? 0 : 1;
}

}  // namespace

int classify_command(const ClassifyOptions& options) {
  routing::ReplyContext context;
  context.provider = options.provider;
  if (!options.ip.empty()) {
    context.egress = routing::IpAddress::parse(options.ip);
    if (!context.egress) throw std::runtime_error("--ip: expected an IP address");
  }
  if (!options.phase.empty()) {
    context.phase = smtp::parse_phase(options.phase);
    if (!context.phase) throw std::runtime_error("--phase: expected connect, ehlo, tls, auth, mail, rcpt, data or final");
  }
  const Rules rules = load_rules(options.file);
  if (!rules.rules) return 1;
  if (options.lint) return lint(rules, options.as_json);
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto reply = smtp::reply_text(unescape(line));
    const routing::Verdict verdict = rules.rules->classify(reply, context);
    std::vector<routing::Verdict> all;
    if (options.explain) all = rules.rules->candidates(reply, context);
    (options.as_json ? print_json : print)(verdict, options.explain ? &all : nullptr);
  }
  return 0;
}

}  // namespace egret::relay
