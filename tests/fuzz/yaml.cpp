// The configuration file: any text gives a configuration that holds together, or problems with their places.
//
// A configuration names files, which loading reads (it writes none). Inputs that name devices are left alone.
#include "config/config.hpp"
#include "config/shipped.hpp"
#include "smtp/address.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::config {

// In the place of the shipped files, which are as trusted as code and a hundred times as long: loading reads them each time.
const std::string_view shipped_blocklists = R"(
blocklists:
  zen: {zone: zen.example.org, keyed_zone: "{key}.zen.example.net", codes: {"127.0.0.2": listed}}
  keyed: {zone: keyed.example.org, keyed_zone: "{key}.example.net", needs_key: true, codes: {"127.0.0.2": listed}, weight: 0.5}
dead:
  - {zone: dead.example.org, since: "2024-06-05", reason: "decommissioned"}
)";
const std::string_view shipped_providers = "providers: {google: {mx: [.google.com], connections: 5, tls: required}}\n";
const std::string_view shipped_replies = "rules: [{name: other, priority: 300, label: other}]\n";
const std::string_view shipped_smarthosts = R"(
smarthosts:
  generic: {ports: [587, 465], tls: {"465": implicit}}
  ses:
    {host: "smtp.{region}.example.com", needs: [region, username, password], ports: [587], tls: {"587": implicit}, dkim: sign}
)";

}  // namespace egret::config

namespace egret::fuzz {
namespace {

using namespace config;

bool harmless_scalar(const std::string& scalar) {
  for (const char* place : {"/dev", "/proc", "/sys", "/run"})
    if (scalar.find(place) != std::string::npos) return false;
  return true;
}

bool harmless_tree(const Tree& tree) {
  return harmless_scalar(tree.scalar) && std::ranges::all_of(tree.items, harmless_tree);
}

std::optional<std::string> environment(const std::string& name) {
  if (name != "KEY") return std::nullopt;
  return "s3cret";
}

/// Whether every file that loading would read may be read: before and after references are replaced, as both name files.
bool harmless(std::string_view text) {
  Problems ignored;
  Tree tree = parse_yaml(text, "f", ignored);
  if (!harmless_tree(tree)) return false;
  expand(tree, "f", "", environment, ignored);
  return harmless_tree(tree);
}

void check_topology(const Config& config) {
  const auto& t = config.topology;
  require(!t.pools.empty() && !config.classes.empty() && !config.listeners.empty(), "nothing that is required is missing");
  require(config.smarthosts.size() == t.smarthosts.size() && config.via.size() == t.sources.size(), "lists are parallel");
  for (const auto& pool : t.pools) {
    require(!pool.sources.empty() || !pool.fallback.empty(), "a pool has a way out");
    for (const auto source : pool.sources) require(source < t.sources.size(), "a pool's sources exist");
    for (const auto host : pool.fallback) require(host < t.smarthosts.size(), "a pool's smarthosts exist");
  }
  for (const auto& c : config.classes) require(c.pool < t.pools.size() && c.max_age.count() > 0, "a class has a pool and an age");
  for (const auto& l : config.listeners) require(l.message_class < config.classes.size(), "a listener's class exists");
  for (const auto& r : config.routes) require(r.pool.value_or(0) < t.pools.size() && (r.pool || r.to), "a route leads somewhere");
}

void check_values(const Config& config) {
  require(smtp::valid_domain(config.hostname, false), "the host name is one");
  require(config.classifier && config.replies, "what was compiled is there");
  require(!config.delivery.retry.empty() && config.reputation.warmup.back() >= 1, "schedules are not empty and end");
  for (const auto d : config.delivery.retry) require(d.count() > 0, "retries take time");
  require(config.dns.timeout.count() >= 10 && config.reputation.interval.count() >= 10, "nothing is done without pause");
  for (const auto& host : config.smarthosts) {
    require(!host.host.empty() && !host.ports.empty(), "a smarthost has an address");
    require(!host.credentials || host.tls != smtp::TlsMode::none, "no password is sent without TLS");
  }
  for (const auto& [name, list] : config.blocklists)
    require(!list.enabled || (smtp::valid_domain(list.zone, false) && list.zone.size() <= 180), "a list has a zone");
  for (const auto& signer : config.dkim) require(signer.key != nullptr, "a signer has a key");
}

void check(const Problem& problem, int lines) {
  require(!problem.text.empty(), "a problem says what is wrong");
  require(problem.line >= 0 && problem.column >= 0, "a problem has a place");
  require(problem.file != "f" || problem.line <= lines + 1, "and one in the file");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret::fuzz;
  const std::string text(reinterpret_cast<const char*>(data), size);
  if (!harmless(text)) return 0;
  Problems problems;
  const auto config = load_text(text, "f", environment, problems);
  require((config == nullptr) == !problems.empty(), "there is a configuration or there are problems");
  const auto lines = std::ranges::count_if(text, [](char c) { return c == '\n' || c == '\r'; });
  for (const auto& problem : problems) check(problem, static_cast<int>(lines) + 1);
  if (!config) return 0;
  check_topology(*config);
  check_values(*config);
  return 0;
}
