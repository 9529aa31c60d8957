#include "relay/doctor/smarthost_api.hpp"

#include <boost/asio/this_coro.hpp>

#include "config/http_api.hpp"
#include "relay/delivery/http_account.hpp"
#include "routing/esp_api.hpp"

namespace egret::relay::doctor {
namespace {

constexpr auto ask_time = std::chrono::seconds(10);

Check judge_ses(const std::string& subject, const std::string& place, const HttpAnswer& answer) {
  routing::SesAccount account;
  if (!routing::read_ses_account(answer.body, account))
    return make_check("smarthost", subject, Result::fail, place + "the answer is not GetAccount's", "correct endpoint");
  if (account.paused())
    return make_check("smarthost", subject, Result::fail, place + "login accepted, but sending is disabled",
                      "see the SES console");
  if (!account.production)
    return make_check("smarthost", subject, Result::warn, place + "login accepted, but the account is in the sandbox",
                      "ask Amazon for production access in this region: until then only verified recipients get mail");
  if (account.used_up())
    return make_check("smarthost", subject, Result::warn, place + "login accepted, but the quota of 24 hours is used up",
                      "ask Amazon for a higher one");
  return make_check("smarthost", subject, Result::ok, place + "login accepted, sending is enabled");
}

/// A key that may only send is good for mail: the question was refused, and not who asked.
bool only_not_allowed(const HttpAnswer& answer, config::HttpApiKind kind) {
  return answer.status == 403 && (kind != config::HttpApiKind::ses || answer.error_type.starts_with("AccessDenied"));
}

std::string advice_for(const HttpAnswer& answer, config::HttpApiKind kind) {
  if (answer.status == 401) return "correct the login: with this one no mail can go by it";
  if (only_not_allowed(answer, kind))
    return "give the key the right to look at the account (SES: ses:GetAccount), or send a test message";
  if (answer.status == 403) return "correct username and secret_key, and this host's clock";
  if (answer.status == 404) return "correct domain, or endpoint: the API does not know it";
  return "ask its operator, or try again later";
}

}  // namespace

boost::asio::awaitable<Checks> check_smarthost_api(World world, std::uint32_t smarthost) {
  const config::Smarthost& host = world.config.smarthosts[smarthost];
  const std::string subject = "smarthost " + host.name;
  const std::string place = (host.api->tls ? "https://" : "http://") + host.api->authority() + ": ";
  const auto executor = co_await boost::asio::this_coro::executor;
  Deadlines& deadlines = world.deadlines.emplace_back(executor);
  const HttpAnswer answer = co_await ask_account(&host, &world.resolver, &deadlines, in(ask_time));
  Checks out;
  if (!answer.error.empty())
    out.push_back(
        make_check("smarthost", subject, Result::fail, place + answer.error,
                   "allow the port; its certificate must name " + host.host + " and come from an authority trusted here (ca)"));
  else if (answer.status != 200)
    out.push_back(
        only_not_allowed(answer, host.api->kind)
            ? make_check("smarthost", subject, Result::warn,
                         place + "login not checked: the key may not look at the account: " + account_refusal(host, answer),
                         advice_for(answer, host.api->kind))
            : make_check("smarthost", subject, Result::fail, place + account_refusal(host, answer),
                         advice_for(answer, host.api->kind)));
  else if (host.api->kind == config::HttpApiKind::ses)
    out.push_back(judge_ses(subject, place, answer));
  else
    out.push_back(make_check("smarthost", subject, Result::ok, place + "login accepted"));
  co_return out;
}

}  // namespace egret::relay::doctor
