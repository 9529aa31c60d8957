#include "routing/mta_sts.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <charconv>

#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::routing {
namespace {

namespace json = boost::json;

constexpr std::chrono::seconds max_life{31'557'600};
// A shorter life, zero above all, would mean a fetch for every message.
constexpr std::chrono::minutes min_life{5};
constexpr std::chrono::hours refresh_after{24};
constexpr std::size_t max_mx = 256;
constexpr std::size_t max_id = 32;
constexpr std::size_t max_key = 32;

bool alnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool valid_id(std::string_view id) {
  return !id.empty() && id.size() <= max_id && std::ranges::all_of(id, alnum);
}

/// sts-ext-name of both forms; the names of known fields are such, too.
bool valid_key(std::string_view key) {
  return !key.empty() && key.size() <= max_key && alnum(key.front()) &&
         std::ranges::all_of(key, [](char c) { return alnum(c) || c == '_' || c == '-' || c == '.'; });
}

std::string_view trim_blanks(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// Takes what is before the next `delimiter` off the front of `text`.
std::string_view next_part(std::string_view& text, char delimiter) {
  const std::size_t end = text.find(delimiter);
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return part;
}

/// The id of one record behind its "v=STSv1;", or empty when it is malformed.
std::string_view id_in(std::string_view fields) {
  std::string_view id;
  while (!fields.empty()) {
    const std::string_view field = trim_blanks(next_part(fields, ';'));
    if (field.empty() && trim_blanks(fields).empty()) break;  // the delimiter at the end
    const std::size_t equals = field.find('=');
    if (equals == std::string_view::npos || !valid_key(field.substr(0, equals))) return {};
    const std::string_view value = field.substr(equals + 1);
    const auto visible = [](char c) { return c > 0x20 && c < 0x7f && c != '='; };
    if (value.empty() || !std::ranges::all_of(value, visible)) return {};
    if (field.substr(0, equals) != "id" || !id.empty()) continue;
    if (!valid_id(value)) return {};
    id = value;
  }
  return id;
}

bool valid_pattern(std::string_view pattern) {
  if (pattern.starts_with("*.")) pattern.remove_prefix(2);
  return smtp::valid_domain(pattern, false);
}

std::optional<StsMode> parse_mode(std::string_view text) {
  for (const StsMode mode : {StsMode::none, StsMode::testing, StsMode::enforce})
    if (text == to_string(mode)) return mode;
  return std::nullopt;
}

std::optional<std::chrono::seconds> parse_age(std::string_view text) {
  if (text.empty() || !std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  std::int64_t seconds = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), seconds).ec != std::errc{}) return max_life;
  return std::min<std::chrono::seconds>(std::chrono::seconds(seconds), max_life);
}

/// The fields of a policy file while it is read. Of a repeated field the first counts, but for "mx".
struct PolicyFields {
  std::optional<std::string_view> version, mode, max_age;
  std::vector<std::string> mx;
};

/// Adds one line; what is wrong with it, or null.
const char* add_line(std::string_view line, PolicyFields& out) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos || !valid_key(line.substr(0, colon))) return "a line is not \"key: value\"";
  const std::string_view key = line.substr(0, colon), value = trim_blanks(line.substr(colon + 1));
  const auto control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  if (std::ranges::any_of(value, control) || !smtp::valid_utf8(value)) return "a value holds control characters or is not UTF-8";
  if (key == "mx") {
    if (!valid_pattern(value)) return "an mx is not a host name";
    if (out.mx.size() == max_mx) return "too many mx";
    out.mx.push_back(smtp::lower(value));
  } else if (key == "version" && !out.version) {
    out.version = value;
  } else if (key == "mode" && !out.mode) {
    out.mode = value;
  } else if (key == "max_age" && !out.max_age) {
    out.max_age = value;
  }
  return nullptr;
}

json::object encode(const std::string& domain, const StsCached& cached) {
  return {{"domain", domain},
          {"id", cached.id},
          {"fetched", cached.fetched.time_since_epoch().count()},
          {"mode", to_string(cached.policy.mode)},
          {"max_age", cached.policy.max_age.count()},
          {"mx", json::value_from(cached.policy.mx)}};
}

std::optional<std::pair<std::string, StsCached>> decode(const json::value& value, Time now) {
  StsCached out;
  const auto domain = json::value_to<std::string>(value.at("domain"));
  const auto mode = parse_mode(json::value_to<std::string>(value.at("mode")));
  out.id = json::value_to<std::string>(value.at("id"));
  out.fetched = std::min(Time(Duration(value.at("fetched").to_number<std::int64_t>())), now);
  out.policy.max_age = std::chrono::seconds(value.at("max_age").to_number<std::int64_t>());
  out.policy.mx = json::value_to<std::vector<std::string>>(value.at("mx"));
  if (!mode || !valid_id(out.id) || !smtp::valid_domain(domain, false) || out.fetched < Time{}) return std::nullopt;
  if (out.policy.max_age < std::chrono::seconds(0) || out.policy.max_age > max_life) return std::nullopt;
  if (out.policy.mx.size() > max_mx || !std::ranges::all_of(out.policy.mx, valid_pattern)) return std::nullopt;
  out.policy.mode = *mode;
  return std::pair{smtp::lower(domain), std::move(out)};
}

}  // namespace

std::string_view to_string(StsMode mode) {
  switch (mode) {
    case StsMode::none:
      return "none";
    case StsMode::testing:
      return "testing";
    case StsMode::enforce:
      return "enforce";
  }
  return "none";
}

std::optional<std::string> sts_record_id(std::span<const std::string> texts) {
  constexpr std::string_view version = "v=STSv1;";
  std::string_view only;
  for (const std::string_view text : texts) {
    if (!text.starts_with(version)) continue;
    if (!only.empty()) return std::nullopt;
    only = text;
  }
  if (only.empty()) return std::nullopt;
  const std::string_view id = id_in(only.substr(version.size()));
  if (id.empty()) return std::nullopt;
  return std::string(id);
}

std::optional<StsPolicy> parse_sts_policy(std::string_view text, std::string* why) {
  const auto fail = [&](const char* reason) {
    if (why) *why = reason;
    return std::nullopt;
  };
  if (text.size() > max_sts_policy_size) return fail("longer than 64 KB");
  PolicyFields fields;
  while (!text.empty()) {
    std::string_view line = next_part(text, '\n');
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (trim_blanks(line).empty()) continue;  // not in the grammar, but common at the end, and harmless
    if (const char* wrong = add_line(line, fields)) return fail(wrong);
  }
  if (fields.version != "STSv1") return fail("no \"version: STSv1\"");
  const auto mode = parse_mode(fields.mode.value_or(""));
  if (!mode) return fail("no valid mode");
  const auto max_age = parse_age(fields.max_age.value_or(""));
  if (!max_age) return fail("no valid max_age");
  if (fields.mx.empty() && *mode != StsMode::none) return fail("no mx");
  return StsPolicy{*mode, *max_age, std::move(fields.mx)};
}

bool mx_matches(const StsPolicy& policy, std::string_view mx_host) {
  const std::size_t dot = mx_host.find('.');
  const std::string_view parent = dot == std::string_view::npos || dot == 0 ? std::string_view{} : mx_host.substr(dot);
  return std::ranges::any_of(policy.mx, [&](const std::string& pattern) {
    if (pattern.starts_with("*.")) return !parent.empty() && smtp::iequals(std::string_view(pattern).substr(1), parent);
    return smtp::iequals(pattern, mx_host);
  });
}

bool sts_fresh(const StsCached& cached, Time now) {
  return now < cached.fetched + std::max<std::chrono::seconds>(cached.policy.max_age, min_life);
}

void note_failure(StsFailures& failures, const std::string& id, Time now) {
  if (failures.id != id) failures = {id, 0, {}};
  constexpr std::chrono::minutes first{5}, longest{60};
  failures.retry_at = now + std::min<std::chrono::minutes>(first * (1 << std::min(failures.count, 4)), longest);
  failures.count = std::min(failures.count + 1, 1000);
}

StsAction decide_sts(const StsCached* cached, const StsFailures& failures, const StsRecord& record, Time now) {
  const bool fresh = cached && sts_fresh(*cached, now);
  const StsAction without_fetch = fresh ? StsAction::use_cached : StsAction::none;
  if (record.status != StsRecord::Status::found) return without_fetch;
  if (failures.count > 0 && failures.id == record.id && now < failures.retry_at) return without_fetch;
  if (!fresh || cached->id != record.id) return StsAction::fetch;
  const Duration age = now - cached->fetched;
  const Duration due = std::min<Duration>(refresh_after, std::max<Duration>(cached->policy.max_age, min_life) / 2);
  return age < Duration(0) || age >= due ? StsAction::fetch : StsAction::use_cached;
}

std::string encode_sts(std::span<const std::pair<std::string, StsCached>> policies) {
  std::string out = "[";
  for (const auto& [domain, cached] : policies) {
    out += out.size() > 1 ? ",\n" : "\n";
    out += json::serialize(encode(domain, cached));
  }
  return out + "\n]\n";
}

std::optional<std::vector<std::pair<std::string, StsCached>>> decode_sts(std::string_view text, Time now) {
  try {
    const json::value parsed = json::parse(text);
    std::vector<std::pair<std::string, StsCached>> out;
    for (const json::value& value : parsed.as_array()) {
      auto entry = decode(value, now);
      if (!entry) return std::nullopt;
      out.push_back(std::move(*entry));
    }
    return out;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace egret::routing
