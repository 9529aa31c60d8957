#include "config/data.hpp"

#include <charconv>

#include "config/read_readiness.hpp"
#include "config/read_spending.hpp"
#include "config/units.hpp"
#include "smtp/text.hpp"

namespace egret::config {
namespace {

std::optional<std::uint16_t> port_number(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) return std::nullopt;
  return port;
}

/// "127.0.0.2" is one code, "127.0.4.0-69" all from 127.0.4.0 to 127.0.4.69. Empty when it is neither.
std::vector<routing::IpAddress> codes_of(std::string_view text) {
  const std::size_t dash = text.find('-');
  const auto first = routing::IpAddress::parse(text.substr(0, dash));
  if (!first || first->v6 || first->bytes[0] != 127) return {};
  unsigned last = first->bytes[3];
  if (dash != std::string_view::npos) {
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data() + dash + 1, end, last);
    if (error != std::errc{} || stop != end || last > 255 || last < first->bytes[3]) return {};
  }
  std::vector<routing::IpAddress> out;
  for (unsigned octet = first->bytes[3]; octet <= last; ++octet)
    out.push_back(routing::IpAddress::v4(127, first->bytes[1], first->bytes[2], static_cast<std::uint8_t>(octet)));
  return out;
}

void read_codes(Section& section, routing::Blocklist& list) {
  const Tree* codes = section.take("codes");
  if (!codes) return;
  if (codes->kind != Tree::Kind::mapping) return section.problem("codes", "expected {\"127.0.0.2\": listed, ...}");
  list.codes.clear();
  for (std::size_t i = 0; i < codes->keys.size(); ++i) {
    const auto addresses = codes_of(codes->keys[i]);
    const auto meaning = routing::parse_code_meaning(codes->items[i].scalar);
    if (addresses.empty()) {
      section.problem_at(codes->items[i], "codes", "expected an address in 127.0.0.0/8, not " + codes->keys[i]);
    } else if (!meaning) {
      section.problem_at(codes->items[i], "codes", "expected listed, policy, info or error");
    } else {
      for (const auto& address : addresses) list.codes[address] = *meaning;
    }
  }
}

void read_test_point(Section& test, std::string_view key, std::optional<routing::IpAddress>& out) {
  std::string text;
  test.text(key, text);
  if (text.empty()) return;
  out = text == "none" ? std::nullopt : routing::IpAddress::parse(text);
  if (!out && text != "none") test.problem(key, "expected an IP address or none");
}

smtp::Phase phase_or_problem(Section& section, const std::string& name) {
  const auto phase = smtp::parse_phase(name);
  if (!phase) section.problem("phase", "expected connect, ehlo, tls, auth, mail, rcpt, data or final");
  return phase.value_or(smtp::Phase::connect);
}

/// "550", "4xx", "5xx".
bool valid_code(std::string_view code) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return code.size() == 3 && (code[0] == '4' || code[0] == '5') && (code.substr(1) == "xx" || (digit(code[1]) && digit(code[2])));
}

/// "5.7.1", "x.7.25", "4.2.x".
bool valid_enhanced(std::string_view code) {
  int parts = 0;
  for (; parts < 3; ++parts) {
    const std::string_view part = code.substr(0, code.find('.'));
    const bool digits = !part.empty() && part.size() <= 3 && part.find_first_not_of("0123456789") == std::string_view::npos;
    if (part != "x" && !digits) return false;
    if (part.size() == code.size()) break;
    code.remove_prefix(part.size() + 1);
  }
  return parts == 2;
}

}  // namespace

std::vector<std::uint16_t> read_ports(Section& section, std::string_view key) {
  std::vector<std::string> texts;
  section.texts(key, texts);
  std::vector<std::uint16_t> out;
  for (const auto& text : texts) {
    if (const auto port = port_number(text))
      out.push_back(*port);
    else
      section.problem(key, "expected port numbers from 1 to 65535");
  }
  return out;
}

std::optional<routing::QueryRate> read_query_rate(Section& section, std::string_view key) {
  std::string text;
  section.text(key, text);
  if (text.empty()) return std::nullopt;
  const auto rate = parse_budget(text);
  if (rate && rate->recipients > 0 && rate->recipients <= 1'000'000'000) return routing::QueryRate{rate->recipients, rate->per};
  section.problem(key, "expected queries in a period, e.g. 300000/d or 50/s");
  return std::nullopt;
}

void read_blocklist(Section& section, BlocklistEntry& entry) {
  routing::Blocklist& list = entry.list;
  std::string zone;
  section.text("zone", zone);
  if (!zone.empty()) list.zone = smtp::lower(zone.ends_with('.') ? zone.substr(0, zone.size() - 1) : zone);
  section.text("keyed_zone", entry.keyed_zone);
  section.boolean("needs_key", entry.needs_key);
  section.text("key", entry.key);
  section.boolean("enabled", list.enabled);
  section.boolean("ipv4", list.ipv4);
  section.boolean("ipv6", list.ipv6);
  section.boolean("bitmask", list.bitmask);
  read_codes(section, list);
  section.number("weight", list.weight, 0, 100);
  std::string role;
  section.text("role", role);
  if (role == "inform" || role == "route")
    list.inform_only = role == "inform";
  else if (!role.empty())
    section.problem("role", "expected route or inform");
  std::string mode;
  section.text("mode", mode);
  if (mode == "observe" || mode == "enforce")
    list.observe = mode == "observe";
  else if (!mode.empty())
    section.problem("mode", "expected enforce or observe");
  Section test = section.section("test");
  read_test_point(test, "listed", list.test_listed);
  read_test_point(test, "clean", list.test_clean);
  test.finish();
  section.duration("settle", list.settle);
  routing::Duration interval{0};
  section.duration("interval", interval);
  if (interval.count() > 0) list.interval = interval;
  if (const auto rate = read_query_rate(section, "queries")) list.queries = rate;
  std::string about;
  section.text("about", about);
  if (about == "names" || about == "addresses")
    list.names = about == "names";
  else if (!about.empty())
    section.problem("about", "expected addresses or names");
  section.texts("concerns", list.concerns);
  section.text("delist", list.delist);
}

BlocklistData read_blocklists(const Tree& tree, const std::string& file, Problems& problems) {
  BlocklistData out;
  Section root(&tree, "", file, problems);
  root.named("blocklists", [&](const std::string& name, Section& section) {
    BlocklistEntry entry;
    entry.list.name = name;
    read_blocklist(section, entry);
    out.lists.emplace(name, std::move(entry));
  });
  root.sections("dead", [&](Section& section) {
    routing::DeadZone dead;
    section.required_text("zone", dead.zone);
    section.text("since", dead.since);
    section.text("reason", dead.reason);
    out.dead.push_back(std::move(dead));
  });
  root.finish();
  return out;
}

std::vector<routing::Provider> read_providers(const Tree& tree, const std::string& file, Problems& problems) {
  std::vector<routing::Provider> out;
  Section root(&tree, "", file, problems);
  root.named("providers", [&](const std::string& name, Section& section) {
    routing::Provider provider;
    provider.name = name;
    section.texts("mx", provider.mx);
    int connections = 0, messages = 0;
    section.integer("connections", connections, 1, 10000);
    section.integer("messages_per_connection", messages, 1, 100000);
    if (connections) provider.connections = connections;
    if (messages) provider.messages_per_connection = messages;
    std::string tls;
    section.text("tls", tls);
    provider.tls_required = tls == "required";
    section.texts("blocklists", provider.blocklists);
    section.text("postmaster", provider.postmaster);
    out.push_back(std::move(provider));
  });
  root.finish();
  return out;
}

std::optional<DkimRule> parse_dkim_rule(std::string_view text) {
  if (text == "keep") return DkimRule::keep;
  if (text == "strip") return DkimRule::strip;
  if (text == "sign") return DkimRule::sign;
  return std::nullopt;
}

std::map<std::string, SmarthostPreset> read_smarthosts(const Tree& tree, const std::string& file, Problems& problems) {
  std::map<std::string, SmarthostPreset> out;
  Section root(&tree, "", file, problems);
  root.named("smarthosts", [&](const std::string& name, Section& section) {
    SmarthostPreset preset;
    section.text("host", preset.host);
    section.texts("needs", preset.needs);
    section.text("username", preset.username);
    preset.ports = read_ports(section, "ports");
    Section tls = section.section("tls");
    for (const std::uint16_t port : preset.ports) {
      std::string mode;
      tls.text(std::to_string(port), mode);
      if (mode == "implicit") preset.implicit_tls.push_back(port);
    }
    tls.finish();
    section.texts("auth", preset.auth);
    section.integer("recipients", preset.recipients, 1, 100000);
    section.size("message_size", preset.message_size);
    section.integer("messages_per_connection", preset.messages_per_connection, 1, 100000);
    section.integer("connections", preset.connections, 1, 10000);
    std::string dkim = "keep";
    section.text("dkim", dkim);
    if (const auto rule = parse_dkim_rule(dkim))
      preset.dkim = *rule;
    else
      section.problem("dkim", "expected keep, strip or sign");
    std::string quota = "midnight";
    section.text("quota", quota);
    if (quota == "rolling")
      preset.quota = routing::QuotaRenewal::rolling;
    else if (quota != "midnight")
      section.problem("quota", "expected midnight or rolling");
    std::string cost;
    section.text("cost", cost);
    if (!cost.empty() && !(preset.cost = parse_price(cost))) section.problem("cost", "expected a price, e.g. 0.10/1000");
    section.texts("dkim_unsigned", preset.dkim_unsigned);
    for (auto& field : preset.dkim_unsigned) field = smtp::lower(field);
    preset.records = read_esp_records(section);
    section.text("api", preset.api);
    section.integer("api_recipients", preset.api_recipients, 1, 100000);
    out.emplace(name, std::move(preset));
  });
  root.finish();
  return out;
}

routing::ReplyRule read_reply_rule(Section& section) {
  routing::ReplyRule rule;
  section.required_text("name", rule.name);
  section.integer("priority", rule.priority, 0, 100000);
  section.text("match", rule.match);
  section.text("not", rule.not_match);
  section.texts("code", rule.codes);
  for (const auto& code : rule.codes)
    if (!valid_code(code)) section.problem("code", "expected codes such as 550 or 4xx, not " + code);
  section.texts("enhanced", rule.enhanced);
  for (const auto& code : rule.enhanced)
    if (!valid_enhanced(code)) section.problem("enhanced", "expected codes such as 5.7.1 or 4.2.x, not " + code);
  std::vector<std::string> phases;
  section.texts("phase", phases);
  for (const auto& name : phases) rule.phases.push_back(phase_or_problem(section, name));
  section.texts("provider", rule.providers);
  std::string ip = "any", label, confidence = "high";
  section.text("ip", ip);
  if (ip == "own")
    rule.ip = routing::IpCondition::own;
  else if (ip == "other")
    rule.ip = routing::IpCondition::other;
  else if (ip == "none")
    rule.ip = routing::IpCondition::none;
  else if (ip != "any")
    section.problem("ip", "expected own, other, none or any");
  section.required_text("label", label);
  if (const auto parsed = routing::parse_label(label))
    rule.label = *parsed;
  else
    section.problem("label", "expected a reply label such as ip_blocked");
  section.text("confidence", confidence);
  if (confidence == "medium")
    rule.confidence = routing::Confidence::medium;
  else if (confidence == "low")
    rule.confidence = routing::Confidence::low;
  else if (confidence != "high")
    section.problem("confidence", "expected high, medium or low");
  std::string account;
  section.text("account", account);
  if (const auto trouble = routing::parse_account_trouble(account))
    rule.account = *trouble;
  else if (!account.empty())
    section.problem("account",
                    "expected rate, quota, hourly-quota, authentication, authentication-temporary, sender, paused, "
                    "recipient or content");
  std::string mode = "enforce";
  section.text("mode", mode);
  rule.observe = mode == "observe";
  if (mode != "observe" && mode != "enforce") section.problem("mode", "expected enforce or observe");
  section.text("blocklist", rule.blocklist);
  section.text("delist", rule.delist);
  section.texts("matches", rule.matches);
  section.texts("rejects", rule.rejects);
  return rule;
}

ReplyData read_replies(const Tree& tree, const std::string& file, Problems& problems) {
  ReplyData out;
  Section root(&tree, "", file, problems);
  root.texts("lists", out.lists);
  root.sections("rules", [&](Section& section) { out.rules.push_back(read_reply_rule(section)); });
  root.finish();
  return out;
}

}  // namespace egret::config
