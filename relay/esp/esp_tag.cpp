#include "relay/esp/esp_tag.hpp"

#include <algorithm>

#include "config/esp_events.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

std::pair<std::string, std::string> field(routing::EspFormat format, const std::string& id) {
  switch (format) {
    case routing::EspFormat::ses:
      return {"X-SES-MESSAGE-TAGS", "egret=" + id};
    case routing::EspFormat::sendgrid:
      return {"X-SMTPAPI", R"({"unique_args":{"egret":")" + id + R"("}})"};
    case routing::EspFormat::mailgun:
      return {"X-Mailgun-Variables", R"({"egret":")" + id + R"("})"};
    case routing::EspFormat::postmark:
      return {"X-PM-Metadata-egret", id};
    case routing::EspFormat::sparkpost:
      return {"X-MSYS-API", R"({"metadata":{"egret":")" + id + R"("}})"};
  }
  return {};
}

}  // namespace

std::optional<std::pair<std::string, std::string>> esp_tag(const config::Smarthost& host, const std::vector<std::string>& strip,
                                                           smtp::MessageId id) {
  if (!host.events || !host.events->tag) return std::nullopt;
  auto out = field(host.events->format, smtp::to_string(id));
  const auto matches = [&](const std::string& glob) { return smtp::glob_match(glob, out.first); };
  const bool added = std::ranges::any_of(host.add_headers, [&](const auto& own) { return smtp::iequals(own.first, out.first); });
  if (added || std::ranges::any_of(host.keep_headers, matches) || std::ranges::none_of(strip, matches)) return std::nullopt;
  return out;
}

}  // namespace egret::relay
