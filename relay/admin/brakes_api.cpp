// The API's answers about the brakes: users and their states, and who sends what.
#include <boost/json.hpp>
#include <string>

#include "relay/admin/api.hpp"
#include "relay/brakes/brakes.hpp"
#include "smtp/sasl_server.hpp"
#include "smtp/text.hpp"

namespace egret::relay::api {
namespace {

namespace json = boost::json;

json::object outcomes(const routing::UserOutcomes& o) {
  return {{"delivered", o.delivered}, {"unknown", o.unknown}, {"content", o.content},
          {"blocked", o.blocked},     {"other", o.other},     {"complaints", o.complaints}};
}

json::object counts(const routing::SenderCounts& c) {
  json::object rejects;
  for (std::size_t i = 0; i < routing::label_count; ++i)
    if (c.rejects[i] > 0) rejects[routing::to_string(static_cast<routing::Label>(i))] = c.rejects[i];
  return {{"messages", c.messages},     {"recipients", c.recipients}, {"delivered", c.delivered},     {"bounced", c.bounced},
          {"complaints", c.complaints}, {"rejected", c.rejected()},   {"rejects", std::move(rejects)}};
}

json::object row(const routing::SenderRow& r) {
  json::array hourly;
  for (const auto& [hour, of] : r.hours) {
    json::object one = counts(of);
    one["hour"] = routing::to_rfc3339(hour);
    hourly.push_back(std::move(one));
  }
  json::object out = counts(r.total);
  out["hourly"] = std::move(hourly);
  return out;
}

}  // namespace

json::value users(const AdminContext& c, std::size_t limit) {
  json::array out;
  for (const auto& u : c.brakes->users(limit))
    out.push_back(json::object{{"user", smtp::printable(u.name)},
                               {"state", routing::to_string(u.state)},
                               {"observed", u.observed},
                               {"manual", u.manual},
                               {"reason", u.reason},
                               {"since", u.since ? json::value(routing::to_rfc3339(*u.since)) : json::value(nullptr)},
                               {"recipients", u.recipients},
                               {"usual_peak", u.usual_peak},
                               {"usual_mean", u.usual_mean},
                               {"hour", outcomes(u.hour)},
                               {"day", outcomes(u.day)}});
  return out;
}

std::optional<std::string> user_command(const AdminContext& c, const std::string& user, const std::string& action) {
  if (!smtp::valid_username(user)) return "expected the name of a user";
  if (action == "suspend") {
    if (!c.brakes->suspend(user)) return user + " is suspended already";
  } else if (!c.brakes->resume(user)) {
    return user + " is neither slowed nor suspended";
  }
  return std::nullopt;
}

json::value top_senders(const AdminContext& c, const std::string& by, std::size_t hours, std::size_t limit) {
  const auto kind = routing::parse_sender_kind(by.empty() ? "user" : by);
  if (!kind) return json::object{{"error", "by: expected user, sender, domain or network"}};
  if (hours < 1 || hours > routing::SenderStats::hours_kept) return json::object{{"error", "hours: expected 1 to 48"}};
  const routing::SenderReport report = c.brakes->report(*kind, hours, limit);
  json::array senders;
  for (const auto& sender : report.top) {
    json::object one = row(sender);
    one["name"] = smtp::printable(sender.name);
    senders.push_back(std::move(one));
  }
  json::object others = counts(report.others.total);
  return json::object{{"by", routing::to_string(*kind)},
                      {"hours", hours},
                      {"senders", std::move(senders)},
                      {"others", std::move(others)},
                      {"all", row(report.all)}};
}

}  // namespace egret::relay::api
