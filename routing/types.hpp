// Words that all of routing shares. Time is wall-clock time, because standings and schedules outlive the process; it
// is always an argument, never read here.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace egret::routing {

using Duration = std::chrono::milliseconds;
using Time = std::chrono::sys_time<std::chrono::milliseconds>;

/// RFC 3339 in UTC with milliseconds: "2026-11-22T03:14:15.926Z".
std::string to_rfc3339(Time time);

/// "1m30s", "2h", "350ms": for people.
std::string to_string(Duration duration);

/// What a negative reply means for the relay (design: "Reply labels").
enum class Label {
  ip_blocked,
  ip_throttled,
  ip_config,
  auth_failed,
  domain_blocked,
  content,
  recipient,
  mailbox_full,
  greylisted,
  policy_other,
  temporary,
  other,
};
std::string_view to_string(Label label);
std::optional<Label> parse_label(std::string_view name);
/// Whether the reply is about the egress: another one would help.
bool blames_egress(Label label);

/// What a source's evidence adds up to (design: "Vocabulary").
enum class Standing { clean, trial, warming, throttled, blocked, listed, misconfigured, drained, unknown };
std::string_view to_string(Standing standing);
/// True for the standings in which a source carries mail at all.
bool in_service(Standing standing);

}  // namespace egret::routing
