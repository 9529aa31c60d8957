#include "relay/delivery/selector.hpp"

#include <algorithm>
#include <array>

#include "relay/dns/idn.hpp"
#include "smtp/sasl_server.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_length = 2000;
constexpr std::array<std::string_view, 4> states{"ready", "active", "scheduled", "held"};

/// Splits at commas outside of quoted strings.
std::vector<std::string_view> conditions(std::string_view text) {
  std::vector<std::string_view> out;
  std::size_t start = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (quoted && text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      quoted = !quoted;
    else if (text[i] == ',' && !quoted) {
      out.push_back(text.substr(start, i - start));
      start = i + 1;
    }
  }
  out.push_back(text.substr(start));
  return out;
}

std::optional<routing::EgressRef> egress_named(const config::Config& config, std::string_view name) {
  const auto& topology = config.topology;
  for (std::uint32_t i = 0; i < topology.sources.size(); ++i)
    if (topology.sources[i].name == name) return routing::EgressRef{routing::EgressKind::source, i};
  for (std::uint32_t i = 0; i < topology.smarthosts.size(); ++i)
    if (topology.smarthosts[i] == name) return routing::EgressRef{routing::EgressKind::smarthost, i};
  return std::nullopt;
}

std::optional<smtp::Address> sender_address(std::string_view value) {
  if (value == "<>") return smtp::Address{};
  if (value.starts_with('<') && value.ends_with('>')) value = value.substr(1, value.size() - 2);
  return smtp::parse_mailbox(value, true);
}

bool is_domain(std::string_view value) {
  return smtp::valid_domain(value, true) || smtp::valid_address_literal(value);
}

/// Sets one condition; what is wrong with its value, or empty.
std::string set(Selector& out, std::string_view key, std::string_view value, const config::Config& config) {
  bool twice = false;
  const auto put = [&](auto& field, auto what) {
    twice = field.has_value();
    field = std::move(what);
  };
  if (key == "id") {
    const auto id = smtp::parse_message_id(value);
    if (!id) return "expected a message id";
    put(out.id, *id);
  } else if (key == "class") {
    const auto index = config.class_named(value);
    if (!index) return "no class is called " + std::string(value);
    put(out.message_class, *index);
  } else if (key == "user") {
    if (!smtp::valid_username(value)) return "expected the name of a user";
    put(out.user, std::string(value));
  } else if (key == "sender") {
    const auto address = sender_address(value);
    if (!address) return "expected an address, or <> for the null sender";
    put(out.sender, *address);
  } else if (key == "domain") {
    if (!is_domain(value)) return "expected a recipient domain";
    put(out.domain, comparable_domain(value));
  } else if (key == "site") {
    if (value.empty()) return "expected a site as the queue shows it";
    put(out.site, std::string(value));
  } else if (key == "egress") {
    const auto egress = egress_named(config, value);
    if (!egress) return "no source or smarthost is called " + std::string(value);
    put(out.egress, *egress);
  } else if (key == "state") {
    if (std::ranges::find(states, value) == states.end()) return "expected held, ready, active or scheduled";
    put(out.state, std::string(value));
  } else {
    return "no such key; there are id, class, user, sender, domain, site, egress and state";
  }
  return twice ? "given twice" : "";
}

}  // namespace

std::string comparable_domain(std::string_view domain) {
  std::string lower = smtp::lower(domain);
  if (std::ranges::all_of(lower, [](char c) { return static_cast<unsigned char>(c) < 0x80; })) return lower;
  std::string labels = to_a_labels(domain);
  return labels.empty() ? lower : labels;
}

bool same_address(const smtp::Address& a, const smtp::Address& b) {
  return a.local == b.local && (a.domain == b.domain || comparable_domain(a.domain) == comparable_domain(b.domain));
}

bool Selector::fits(const SelectorFacts& facts) const {
  return (!id || *id == facts.id) && (!message_class || *message_class == facts.message_class) &&
         (!state || *state == facts.state) && (!egress || egress == facts.egress) &&
         (!site || !facts.site || *site == *facts.site);
}

bool Selector::fits_sender(const smtp::Address& address) const {
  return !sender || same_address(*sender, address);
}

bool Selector::fits_domain(std::string_view recipient_domain) const {
  return !domain || *domain == comparable_domain(recipient_domain);
}

std::variant<Selector, std::string> parse_selector(std::string_view text, const config::Config& config) {
  if (text.empty()) return "selector: expected KEY=VALUE,... or all";
  if (text.size() > max_length) return "selector: longer than " + std::to_string(max_length) + " octets";
  Selector out;
  out.text = text;
  if (text == "all") return out;
  for (const std::string_view condition : conditions(text)) {
    const std::size_t equals = condition.find('=');
    const std::string key(condition.substr(0, equals));
    if (equals == std::string_view::npos) return (key.empty() ? "selector" : key) + ": expected KEY=VALUE";
    const std::string wrong = set(out, key, condition.substr(equals + 1), config);
    if (!wrong.empty()) return (key.empty() ? "selector" : key) + ": " + wrong;
  }
  return out;
}

}  // namespace egret::relay
