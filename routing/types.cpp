#include "routing/types.hpp"

#include <array>
#include <cstdio>
#include <utility>

namespace egret::routing {
namespace {

constexpr std::array<std::pair<Label, std::string_view>, 12> labels{{{Label::ip_blocked, "ip_blocked"},
                                                                     {Label::ip_throttled, "ip_throttled"},
                                                                     {Label::ip_config, "ip_config"},
                                                                     {Label::auth_failed, "auth_failed"},
                                                                     {Label::domain_blocked, "domain_blocked"},
                                                                     {Label::content, "content"},
                                                                     {Label::recipient, "recipient"},
                                                                     {Label::mailbox_full, "mailbox_full"},
                                                                     {Label::greylisted, "greylisted"},
                                                                     {Label::policy_other, "policy_other"},
                                                                     {Label::temporary, "temporary"},
                                                                     {Label::other, "other"}}};

}  // namespace

std::string to_rfc3339(Time time) {
  using namespace std::chrono;
  const auto day = floor<days>(time);
  const year_month_day date{day};
  const hh_mm_ss clock{time - day};
  std::array<char, 40> buffer{};
  std::snprintf(buffer.data(), buffer.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()),
                static_cast<int>(clock.subseconds().count()));
  return buffer.data();
}

std::string to_string(Duration duration) {
  auto rest = duration.count();
  if (rest < 1000) return std::to_string(rest) + "ms";
  std::string out;
  const std::array<std::pair<std::int64_t, char>, 4> units{{{86400000, 'd'}, {3600000, 'h'}, {60000, 'm'}, {1000, 's'}}};
  for (const auto& [unit, letter] : units) {
    if (rest >= unit) out += std::to_string(rest / unit) + letter;
    rest %= unit;
  }
  return out;
}

std::string_view to_string(Label label) {
  return labels[static_cast<std::size_t>(label)].second;
}

bool blames_egress(Label label) {
  return label == Label::ip_blocked || label == Label::ip_throttled || label == Label::ip_config;
}

std::optional<Label> parse_label(std::string_view name) {
  for (const auto& [label, text] : labels)
    if (text == name) return label;
  return std::nullopt;
}

std::string_view to_string(Standing standing) {
  switch (standing) {
    case Standing::clean:
      return "clean";
    case Standing::trial:
      return "trial";
    case Standing::warming:
      return "warming";
    case Standing::throttled:
      return "throttled";
    case Standing::blocked:
      return "blocked";
    case Standing::listed:
      return "listed";
    case Standing::misconfigured:
      return "misconfigured";
    case Standing::drained:
      return "drained";
    case Standing::unknown:
      return "unknown";
  }
  return "unknown";
}

bool in_service(Standing standing) {
  switch (standing) {
    case Standing::clean:
    case Standing::trial:
    case Standing::warming:
    case Standing::throttled:
    case Standing::unknown:
      return true;
    case Standing::blocked:
    case Standing::listed:
    case Standing::misconfigured:
    case Standing::drained:
      return false;
  }
  return false;
}

}  // namespace egret::routing
