#include "config/read_readiness.hpp"

#include <algorithm>
#include <sstream>

#include "config/config.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::config {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t max_names = 20;  // of one list
constexpr std::size_t max_domains = 1000;
constexpr double most_canaries = 0.5;  // of a pool's mail, by all of its smarthosts together

bool name_or_pattern(std::string name) {
  constexpr std::string_view mark = "{domain}";
  if (const std::size_t at = name.find(mark); at != std::string::npos) name.replace(at, mark.size(), "example.com");
  return smtp::valid_domain(name, false);
}

void check_names(Section& s, std::string_view key, const std::vector<std::string>& names, std::string_view example) {
  if (names.size() > max_names) s.problem(key, "expected at most " + std::to_string(max_names));
  for (const auto& name : names)
    if (!name_or_pattern(name)) s.problem(key, name + ": expected names such as " + std::string(example));
}

/// Either one list for all domains, or {DOMAIN: [...], ...}.
void selectors(Section& s, routing::EspRecords& out) {
  constexpr std::string_view key = "dkim_selectors";
  const Tree* tree = s.take(key);
  if (!tree) return;
  if (tree->kind != Tree::Kind::mapping) {
    std::vector<std::string> all;
    s.texts(key, all);
    check_names(s, key, all, "s1");
    out.selectors.clear();
    if (!all.empty()) out.selectors.push_back(std::move(all));
    return;
  }
  Section by_domain = s.section(key);
  if (tree->keys.size() > max_domains) s.problem(key, "expected at most " + std::to_string(max_domains) + " domains");
  for (const std::string& domain : tree->keys) {
    std::vector<std::string> mine;
    by_domain.texts(domain, mine);
    if (!smtp::valid_domain(domain, false)) by_domain.problem(domain, "expected a domain");
    if (mine.empty()) by_domain.problem(domain, "expected selectors such as [s1, s2]");
    check_names(by_domain, domain, mine, "s1");
    out.domain_selectors[smtp::lower(domain)] = std::move(mine);
  }
  by_domain.finish();
}

void schedule(Section& smarthost, Readiness& out) {
  Section s = smarthost.section("readiness");
  s.boolean("check", out.check);
  s.boolean("login", out.login);
  s.duration("interval", out.interval);
  if (out.interval < 100ms || out.interval > 30 * 24h) s.problem("interval", "expected 100ms to 30d");
  out.retry = std::min(out.retry, out.interval);
  s.duration("retry", out.retry);
  if (out.interval >= 100ms && (out.retry < 100ms || out.retry > out.interval)) s.problem("retry", "expected 100ms to interval");
  s.texts("domains", out.domains);
  if (out.domains.size() > max_domains) s.problem("domains", "expected at most " + std::to_string(max_domains));
  for (auto& domain : out.domains) {
    domain = smtp::lower(domain);
    if (!smtp::valid_domain(domain, false)) s.problem("domains", domain + ": expected a domain");
  }
  s.finish();
}

}  // namespace

const Readiness& readiness_of(const Smarthost& host) {
  static const Readiness defaults;
  return host.readiness ? *host.readiness : defaults;
}

routing::EspRecords read_esp_records(Section& preset) {
  routing::EspRecords out;
  std::vector<std::string> sets;
  preset.texts("esp_selectors", sets);
  for (const auto& set : sets) {
    std::istringstream words(set);
    auto& names = out.selectors.emplace_back();
    for (std::string name; words >> name;) names.push_back(name);
  }
  preset.texts("return_paths", out.return_paths);
  preset.text("zone", out.zone);
  preset.text("spf", out.spf);
  return out;
}

std::shared_ptr<const Readiness> read_readiness(Section& smarthost, const routing::EspRecords& preset) {
  auto out = std::make_shared<Readiness>();
  out->records = preset;
  selectors(smarthost, out->records);
  if (smarthost.take("return_path")) {
    smarthost.texts("return_path", out->records.return_paths);
    check_names(smarthost, "return_path", out->records.return_paths, "bounces.example.com");
  }
  std::string unready = "refuse";
  smarthost.text("unready", unready);
  out->allow_unready = unready == "allow";
  if (unready != "allow" && unready != "refuse") smarthost.problem("unready", "expected refuse or allow");
  schedule(smarthost, *out);
  return out;
}

void read_canary(Section& s, routing::PoolInfo& pool) {
  std::string text;
  s.text("canary", text);
  if (text.empty()) return;
  const auto share = parse_share(text);
  const double most = most_canaries / static_cast<double>(std::max<std::size_t>(pool.fallback.size(), 1));
  if (!share || *share > most)
    return s.problem("canary", "expected a share such as 0.1%, at most 50% for all smarthosts together");
  if (*share > 0 && (pool.sources.empty() || pool.when_exhausted != routing::WhenExhausted::fallback))
    return s.problem("canary", "needs sources and when_exhausted: fallback");
  pool.canary = *share;
}

}  // namespace egret::config
