#include "routing/blocklist.hpp"

#include <algorithm>
#include <cctype>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

bool loopback4(const IpAddress& a) {
  return !a.v6 && a.bytes[0] == 127;
}
bool error_code(const IpAddress& a) {
  return a.bytes[1] == 255 && a.bytes[2] == 255;
}

/// The defined codes that one answered address stands for; a bit mask can hold several.
std::vector<std::pair<IpAddress, CodeMeaning>> meanings(const IpAddress& address, const Blocklist& list) {
  std::vector<std::pair<IpAddress, CodeMeaning>> out;
  if (!list.bitmask) {
    if (const auto it = list.codes.find(address); it != list.codes.end()) out.push_back(*it);
    return out;
  }
  for (unsigned bit = 1; bit < 256; bit <<= 1) {
    if (!(address.bytes[3] & bit)) continue;
    IpAddress single = address;
    single.bytes[3] = static_cast<std::uint8_t>(bit);
    if (const auto it = list.codes.find(single); it != list.codes.end()) out.push_back(*it);
  }
  return out;
}

Judgement unknown(std::string reason) {
  Judgement out;
  out.reason = std::move(reason);
  return out;
}

}  // namespace

std::optional<CodeMeaning> parse_code_meaning(std::string_view name) {
  if (name == "listed") return CodeMeaning::listed;
  if (name == "policy") return CodeMeaning::policy;
  if (name == "info") return CodeMeaning::info;
  if (name == "error") return CodeMeaning::error;
  return std::nullopt;
}

bool Blocklist::concerns_provider(std::string_view provider) const {
  return concerns.empty() || std::ranges::find(concerns, provider) != concerns.end();
}

std::string query_name(const IpAddress& given, std::string_view zone) {
  // Mapped addresses are asked for as IPv4, but for the IPv6 test points of RFC 5782 section 5, which are mapped.
  const IpAddress plain = given.unmapped();
  const bool test_point = plain == IpAddress::v4(127, 0, 0, 1) || plain == IpAddress::v4(127, 0, 0, 2);
  const IpAddress address = given.v6 && test_point ? given : plain;
  std::string out;
  if (!address.v6) {
    for (std::size_t i = 4; i-- > 0;) out += std::to_string(address.bytes[i]) + '.';
  } else {
    constexpr std::string_view hex = "0123456789abcdef";
    for (std::size_t i = 16; i-- > 0;) {
      out += hex[address.bytes[i] & 15];
      out += '.';
      out += hex[address.bytes[i] >> 4];
      out += '.';
    }
  }
  out += zone;
  return out;
}

std::string without_key(std::string text, const Blocklist& list) {
  if (list.key.empty()) return text;
  constexpr std::string_view shown = "KEY";
  const std::string key = smtp::lower(list.key);
  for (std::size_t at = 0; (at = smtp::lower(text).find(key, at)) != std::string::npos; at += shown.size())
    text.replace(at, key.size(), shown);
  return text;
}

Judgement judge(const DnsAnswer& answer, const Blocklist& list) {
  Judgement out;
  switch (answer.status) {
    case DnsAnswer::Status::failed:
      return unknown(answer.error);
    case DnsAnswer::Status::nxdomain:
    case DnsAnswer::Status::nodata:
      out.result = Judgement::Result::clean;
      return out;
    case DnsAnswer::Status::answer:
      break;
  }
  bool informed = false;
  bool listed = false;
  std::string undefined;
  for (const IpAddress& address : answer.addresses) {
    const std::string text = address.to_string();
    if (!loopback4(address)) return unknown("answer " + text + " is outside 127.0.0.0/8");
    if (error_code(address)) return unknown("the list answers " + text + ": it does not serve this resolver");
    const auto found = meanings(address, list);
    if (found.empty()) undefined = text;
    for (const auto& [code, meaning] : found) {
      if (meaning == CodeMeaning::error) return unknown("the list answers " + text + ", an error code");
      informed = informed || meaning == CodeMeaning::info;
      if (meaning == CodeMeaning::info) continue;
      listed = listed || meaning == CodeMeaning::listed;
      out.codes.push_back(code.to_string());
    }
  }
  std::ranges::sort(out.codes);
  out.codes.erase(std::unique(out.codes.begin(), out.codes.end()), out.codes.end());
  if (!out.codes.empty()) {
    out.result = Judgement::Result::listed;
    out.policy = !listed;
    return out;
  }
  if (informed) {
    out.result = Judgement::Result::clean;
    return out;
  }
  return unknown(undefined.empty() ? "empty answer" : "undefined code " + undefined);
}

Health judge_health(const HealthProbe& probe, const Blocklist& list) {
  using Status = DnsAnswer::Status;
  Health out;
  out.answered =
      probe.listed.status != Status::failed || probe.clean.status != Status::failed || probe.random.status != Status::failed;
  const auto positive = [](const DnsAnswer& a) { return a.status == Status::answer; };
  const auto fail = [&](std::string reason) {
    out.reason = std::move(reason);
    return out;
  };
  // A list's own refusal is the most telling answer, whichever probe drew it.
  for (const DnsAnswer* answer : {&probe.listed, &probe.clean, &probe.random})
    if (positive(*answer))
      for (const IpAddress& address : answer->addresses)
        if (!loopback4(address) || error_code(address)) return fail(judge(*answer, list).reason);
  if (probe.random.status == Status::failed) return fail("no answer: " + probe.random.error);
  if (positive(probe.random)) return fail("lists everything: a random name is listed");
  if (list.test_clean) {
    if (probe.clean.status == Status::failed) return fail("no answer: " + probe.clean.error);
    if (positive(probe.clean)) return fail("lists everything: the test point " + list.test_clean->to_string() + " is listed");
  }
  if (list.test_listed) {
    if (probe.listed.status == Status::failed) return fail("no answer: " + probe.listed.error);
    if (!positive(probe.listed)) return fail("the test point " + list.test_listed->to_string() + " is not listed: empty or dead");
    for (const IpAddress& address : probe.listed.addresses)
      for (const auto& [code, meaning] : meanings(address, list))
        if (meaning == CodeMeaning::error) return fail("its test point answers " + code.to_string() + ", an error code");
  }
  out.in_service = true;
  return out;
}

const Blocklist* named_in(std::string_view reply, const std::map<std::string, Blocklist, std::less<>>& lists) {
  const std::string text = smtp::lower(reply);
  const auto part_of_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.'; };
  for (const auto& [name, list] : lists) {
    if (!list.enabled || list.keyed || list.zone.empty()) continue;
    for (std::size_t at = 0; (at = text.find(list.zone, at)) != std::string::npos; at += list.zone.size()) {
      const std::size_t end = at + list.zone.size();
      const bool whole = (at == 0 || !part_of_name(text[at - 1])) &&
                         (end == text.size() || !part_of_name(text[end]) ||
                          (text[end] == '.' && (end + 1 == text.size() || !part_of_name(text[end + 1]))));
      if (whole) return &list;
    }
  }
  return nullptr;
}

const DeadZone* find_dead(const std::vector<DeadZone>& dead, std::string_view zone) {
  const std::string name = smtp::lower(zone.ends_with('.') ? zone.substr(0, zone.size() - 1) : zone);
  for (const DeadZone& candidate : dead)
    if (name == candidate.zone || name.ends_with("." + candidate.zone)) return &candidate;
  return nullptr;
}

}  // namespace egret::routing
