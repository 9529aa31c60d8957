#include "relay/reputation/readiness.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <set>

#include "config/readiness.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using routing::Time;

constexpr routing::Duration forgotten_after = 14 * 24h;
constexpr routing::Duration stays_for = 1h;
constexpr std::size_t max_text = 500;

json::value time_value(const std::optional<Time>& time) {
  return time ? json::value(time->time_since_epoch().count()) : json::value();
}
std::optional<Time> time_of(const json::value& value) {
  if (value.is_null()) return std::nullopt;
  return Time(routing::Duration(value.to_number<std::int64_t>()));
}

json::object encode_trial(const Trial& trial) {
  return {{"worked", time_value(trial.worked)}, {"failed", time_value(trial.failed)}, {"text", trial.text}};
}
Trial decode_trial(const json::value& value) {
  return {time_of(value.at("worked")), time_of(value.at("failed")), json::value_to<std::string>(value.at("text"))};
}

void note(Trial& trial, bool worked, const std::string& text, Time now) {
  (worked ? trial.worked : trial.failed) = now;
  const std::string clean = smtp::printable(text);
  trial.text = smtp::cut_text(clean, max_text);
}

}  // namespace

// ---- who sends ----------------------------------------------------------------------------------------------------

void SeenSenders::add(std::string_view domain, Time now) {
  if (domain.empty()) return;
  const std::lock_guard lock(mutex_);
  if (const auto it = seen_.find(domain); it != seen_.end()) {
    it->second = std::max(it->second, now);
  } else if (smtp::valid_domain(domain, false) && (seen_.size() < most || make_room(now))) {
    seen_.emplace(domain, now);
  }
}

bool SeenSenders::make_room(Time now) {
  if (now < full_until_) return false;
  const auto oldest = std::ranges::min_element(seen_, {}, [](const auto& entry) { return entry.second; });
  if (oldest->second > now - stays_for) {
    // Made-up senders must not have everybody search the whole of it: not before the oldest can have been silent so long.
    full_until_ = oldest->second + stays_for;
    return false;
  }
  seen_.erase(oldest);
  return true;
}

std::vector<std::string> SeenSenders::recent(Time now) {
  const std::lock_guard lock(mutex_);
  std::erase_if(seen_, [&](const auto& entry) { return entry.second < now - forgotten_after; });
  std::vector<std::string> out;
  for (const auto& [domain, time] : seen_) out.push_back(domain);
  return out;
}

// ---- what is known ------------------------------------------------------------------------------------------------

ReadinessBook::ReadinessBook(std::shared_ptr<const config::Config> config, Events& events)
    : config_(std::move(config)), events_(events), hosts_(config_->smarthosts.size()), unready_(config_->smarthosts.size()) {}

void ReadinessBook::configure(std::shared_ptr<const config::Config> config) {
  for (std::size_t i = 0; i < hosts_.size(); ++i) {
    // Mended, perhaps: it is logged in to again. What is asked of domains may be another thing, too.
    if (!config->smarthosts[i].same_door(config_->smarthosts[i])) hosts_[i].login = {};
    if (config->smarthosts[i].removed) hosts_[i] = {};
    for (auto& [domain, found] : hosts_[i].domains) found.due = {};
  }
  config_ = std::move(config);
  hosts_.resize(config_->smarthosts.size());
  unready_.resize(hosts_.size());
  for (std::uint32_t i = 0; i < hosts_.size(); ++i) rebuild(i);
  changed_ = true;
}

std::vector<std::string> ReadinessBook::domains(std::uint32_t smarthost, Time now) {
  const config::Readiness& wanted = config::readiness_of(config_->smarthosts[smarthost]);
  if (!wanted.check || !wanted.records.known()) {
    if (!std::exchange(hosts_[smarthost].domains, {}).empty()) rebuild(smarthost);
    return {};
  }
  std::set<std::string> all(wanted.domains.begin(), wanted.domains.end());
  for (const auto& signer : config_->dkim) all.insert(signer.domain);
  all.merge([&] {
    const auto seen_now = seen.recent(now);
    return std::set<std::string>(seen_now.begin(), seen_now.end());
  }());
  if (std::erase_if(hosts_[smarthost].domains, [&](const auto& entry) { return !all.contains(entry.first); }) > 0)
    rebuild(smarthost);
  return {all.begin(), all.end()};
}

void ReadinessBook::checked(std::uint32_t smarthost, const std::string& domain, const routing::ReadinessVerdict& verdict,
                            Time now, Time due) {
  auto& domains = hosts_[smarthost].domains;
  changed_ = true;
  if (!verdict.ready) {
    // Nothing is known of it that was not known before.
    domains[domain].due = due;
    return;
  }
  DomainReadiness& known = domains[domain];
  const bool before = known.ready;
  known = {*verdict.ready, verdict.reason, verdict.advice, now, due};
  const std::string clean = smtp::printable(known.reason);
  known.reason = smtp::cut_text(clean, max_text);
  if (before != known.ready) tell(smarthost, domain, known);
  rebuild(smarthost);
}

void ReadinessBook::login_tried(std::uint32_t smarthost, bool worked, std::string text, Time now) {
  note(hosts_[smarthost].login, worked, text, now);
  changed_ = true;
}

void ReadinessBook::canary_returned(std::uint32_t smarthost, bool worked, std::string text, Time now) {
  Trial& canary = hosts_[smarthost].canary;
  const bool was_failing = canary.failing();
  note(canary, worked, text, now);
  if (worked) canary.worked = std::max(now, canary.failed.value_or(now));
  changed_ = true;
  if (!worked || was_failing) tell_canary(smarthost, canary);
}

void ReadinessBook::hurry(Time now) {
  hurried_ = true;
  for (auto& host : hosts_)
    for (auto& [domain, found] : host.domains) found.due = std::min(found.due, now);
}

/// The map is replaced, never changed: snapshots share it.
void ReadinessBook::rebuild(std::uint32_t smarthost) {
  auto next = std::make_shared<routing::RefusedSenders>();
  const config::Smarthost& host = config_->smarthosts[smarthost];
  if (!host.removed && config::readiness_of(host).check)
    for (const auto& [domain, found] : hosts_[smarthost].domains)
      if (!found.ready) (*next)[domain] = {found.reason, Time::max()};
  const auto& present = unready_[smarthost];
  const auto same = [](const auto& a, const auto& b) { return a.first == b.first && a.second.reason == b.second.reason; };
  if (next->empty() ? !present : present && std::ranges::equal(*present, *next, same)) return;
  unready_[smarthost] = next->empty() ? nullptr : std::move(next);
  republish_ = true;
}

void ReadinessBook::tell(std::uint32_t smarthost, const std::string& domain, const DomainReadiness& found) {
  const bool allowed = config::readiness_of(config_->smarthosts[smarthost]).allow_unready;
  Event event;
  event.kind = found.ready ? "smarthost-ready" : "smarthost-unready";
  event.smarthost = config_->topology.smarthosts[smarthost];
  event.sender = domain;
  event.rule = "readiness";
  event.from = found.ready ? "unready" : "ready";
  event.to = found.ready ? "ready" : "unready";
  if (found.ready)
    event.text = domain + " is ready at " + event.smarthost;
  else
    event.text = domain + " is not ready at " + event.smarthost + ": " + found.reason;
  if (!found.ready)
    event.action = found.advice + (allowed ? "; its mail goes by it nevertheless (unready: allow)"
                                           : "; until then its mail does not go by it, and waits where there is no other way");
  events_.add(std::move(event));
}

void ReadinessBook::tell_canary(std::uint32_t smarthost, const Trial& canary) {
  const bool failed = canary.failing();
  Event event;
  event.kind = failed ? "canary-failed" : "canary-works";
  event.smarthost = config_->topology.smarthosts[smarthost];
  event.rule = "canary";
  event.text = canary.text;
  if (failed) event.action = "nothing is lost: the message went on by a source at once. Look into it before the sources are out";
  events_.add(std::move(event));
}

// ---- state.db -----------------------------------------------------------------------------------------------------

// Not saved: when the next check is due. A restart may have brought another configuration, so all is looked at soon after.
std::string ReadinessBook::encode(std::uint32_t smarthost) const {
  const SmarthostReadiness& host = hosts_[smarthost];
  json::array domains;
  for (const auto& [domain, found] : host.domains)
    domains.push_back(json::object{{"domain", domain},
                                   {"ready", found.ready},
                                   {"reason", found.reason},
                                   {"advice", found.advice},
                                   {"checked", time_value(found.checked)}});
  return json::serialize(
      json::object{{"domains", std::move(domains)}, {"login", encode_trial(host.login)}, {"canary", encode_trial(host.canary)}});
}

void ReadinessBook::restore(std::uint32_t smarthost, std::string_view text, Time now) {
  try {
    json::parse_options options;
    options.allow_invalid_utf8 = true;
    const json::value value = json::parse(text, {}, options);
    SmarthostReadiness out;
    for (const auto& entry : value.at("domains").as_array()) {
      DomainReadiness found;
      found.ready = entry.at("ready").as_bool();
      found.reason = json::value_to<std::string>(entry.at("reason"));
      found.advice = json::value_to<std::string>(entry.at("advice"));
      found.checked = time_of(entry.at("checked"));
      auto domain = json::value_to<std::string>(entry.at("domain"));
      // Who sent before the restart is checked on as long as if there had been none.
      if (found.checked) seen.add(domain, std::min(*found.checked, now));
      out.domains.emplace(std::move(domain), std::move(found));
    }
    out.login = decode_trial(value.at("login"));
    out.canary = decode_trial(value.at("canary"));
    hosts_[smarthost] = std::move(out);
    rebuild(smarthost);
  } catch (const std::exception&) {
    // Of another version, or damaged: the next check finds out anew.
  }
}

}  // namespace egret::relay
