#include "relay/admin/api.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cmath>

#include "config/http_api.hpp"
#include "config/readiness.hpp"
#include "relay/admin/spending.hpp"
#include "relay/esp/esp_feedback.hpp"
#include "relay/reputation/readiness.hpp"
#include "relay/runtime/clock.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::relay::api {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

json::value time_or_null(const std::optional<routing::Time>& time) {
  return time ? json::value(routing::to_rfc3339(*time)) : json::value();
}

double share_of(const AdminContext& c, std::uint32_t source) {
  const auto view = c.reputation.view(source, "");
  if (!routing::in_service(view.standing)) return 0;
  return view.share;
}

json::object listing(const AdminContext& c, const std::string& name, const routing::Listing& l) {
  const auto list = c.config->blocklists.find(name);
  return {{"blocklist", name},
          {"codes", json::value_from(l.codes)},
          {"text", l.text},
          {"first_seen", routing::to_rfc3339(l.first_seen)},
          {"last_seen", routing::to_rfc3339(l.last_seen)},
          {"confirmed", l.confirmed},
          {"delist", list == c.config->blocklists.end() ? "" : list->second.delist}};
}

json::value known_or_null(const std::optional<bool>& value) {
  return value ? json::value(*value) : json::value();
}

/// What DNS says of the source; null before it was asked.
json::value dns_of(const AdminContext& c, std::uint32_t source) {
  const auto& found = c.prober->source_checks().result(source);
  if (!found) return nullptr;
  return json::object{{"ptr", json::value_from(found->ptr)},
                      {"forward", known_or_null(found->forward)},
                      {"ehlo", known_or_null(found->ehlo)},
                      {"problems", json::value_from(found->problems)}};
}

json::array consulted_by(const AdminContext& c, std::string_view list) {
  json::array out;
  for (const auto name : c.config->providers.consulting(list)) out.emplace_back(name);
  return out;
}

json::object source(const AdminContext& c, std::uint32_t i) {
  const auto& info = c.config->topology.sources[i];
  const auto& state = c.reputation.state(i);
  const auto view = c.reputation.view(i, "");
  json::array pools, listings;
  for (const auto& pool : c.config->topology.pools)
    if (std::ranges::find(pool.sources, i) != pool.sources.end()) pools.emplace_back(pool.name);
  json::object providers;
  for (const auto& [name, provider] : state.providers) {
    const auto with = c.reputation.view(i, name);
    providers[name] = {{"standing", to_string(with.standing)},
                       {"until", time_or_null(with.until)},
                       {"reason", with.reason},
                       {"share", with.share}};
  }
  for (const auto& [name, l] : state.listings) listings.push_back(listing(c, name, l));
  const EgressCounters& counters = c.metrics.sources[i];
  return {{"name", info.name},
          {"address", info.address.to_string()},
          {"public", info.reputation.to_string()},
          {"ehlo", info.ehlo},
          {"dns", dns_of(c, i)},
          {"weight", info.weight},
          {"pools", std::move(pools)},
          {"standing", to_string(view.standing)},
          {"until", time_or_null(view.until)},
          {"reason", view.reason},
          {"score", c.reputation.score(i)},
          {"providers", std::move(providers)},
          {"listings", std::move(listings)},
          {"share", share_of(c, i)},
          {"sent", counters.delivered.get()},
          {"blocked", counters.blamed.get()}};
}

std::string_view to_string(ListStatus::State state) {
  switch (state) {
    case ListStatus::State::unknown:
      return "unknown";
    case ListStatus::State::in_service:
      return "in-service";
    case ListStatus::State::out_of_service:
      return "out-of-service";
    case ListStatus::State::disabled:
      return "disabled";
  }
  return "unknown";
}

/// Runs `work` on a dispatcher's own thread.
template <class T, class Work>
asio::awaitable<T> on_worker(Dispatcher* dispatcher, Work work) {
  const auto run = [](Work task) -> asio::awaitable<T> { co_return task(); };
  co_return co_await asio::co_spawn(dispatcher->executor(), run(std::move(work)), asio::use_awaitable);
}

json::object row(const AdminContext& c, const QueueRow& r) {
  return {{"id", smtp::to_string(r.id)},
          {"class", c.config->classes[r.message_class].name},
          {"sender", r.sender},
          {"recipients", r.recipients},
          {"site", r.site},
          {"egress", r.egress},
          {"state", r.state},
          {"attempts", r.attempts},
          {"age_s", std::chrono::duration_cast<std::chrono::seconds>(now() - r.accepted).count()},
          {"next_at", r.state == "scheduled" ? json::value(routing::to_rfc3339(r.next_at)) : json::value()},
          {"reason", r.reason}};
}

/// What is still known of a message that the history has forgotten: what smarthosts took of it.
void recall(const EspHistory& esp, MessageHistory& history) {
  for (const Handover& h : esp.handovers) {
    history.message_class = h.message_class;
    history.sender = h.sender;
    history.accepted = h.accepted;
    AttemptRecord& attempt = history.attempts.emplace_back();
    attempt.time = h.time;
    attempt.egress = h.smarthost;
    attempt.outcome = "delivered";
    attempt.esp_id = h.esp_id;
    attempt.recipients = {h.recipient};
  }
}

json::array esp_events(const EspHistory& esp) {
  json::array out;
  for (const EspRecord& e : esp.events)
    out.push_back(json::object{{"time", routing::to_rfc3339(e.time)},
                               {"kind", routing::to_string(e.kind)},
                               {"smarthost", e.smarthost},
                               {"esp_id", e.esp_id},
                               {"recipient", e.recipient},
                               {"diagnostic", e.diagnostic},
                               {"status", e.status},
                               {"permanent", e.permanent},
                               {"received", routing::to_rfc3339(e.received)}});
  return out;
}

}  // namespace

json::value sources(const AdminContext& c) {
  json::array out;
  for (std::uint32_t i = 0; i < c.config->topology.sources.size(); ++i)
    if (!c.config->topology.sources[i].removed) out.push_back(source(c, i));
  return out;
}

json::value pools(const AdminContext& c) {
  json::array out;
  for (std::uint32_t p = 0; p < c.config->topology.pools.size(); ++p) {
    const auto& pool = c.config->topology.pools[p];
    if (pool.removed) continue;
    json::array members, fallback, classes;
    bool exhausted = !pool.sources.empty();
    for (const auto i : pool.sources) {
      const auto view = c.reputation.view(i, "");
      exhausted = exhausted && !routing::in_service(view.standing);
      members.push_back(json::object{{"source", c.config->topology.sources[i].name},
                                     {"weight", c.config->topology.sources[i].weight},
                                     {"standing", routing::to_string(view.standing)},
                                     {"share", share_of(c, i)}});
    }
    for (const auto i : pool.fallback) fallback.emplace_back(c.config->topology.smarthosts[i]);
    for (const auto& message_class : c.config->classes)
      if (message_class.pool == p && !message_class.removed) classes.emplace_back(message_class.name);
    const char* when = pool.when_exhausted == routing::WhenExhausted::fallback ? "fallback"
                       : pool.when_exhausted == routing::WhenExhausted::hold   ? "hold"
                                                                               : "send-anyway";
    out.push_back(json::object{{"name", pool.name},
                               {"classes", std::move(classes)},
                               {"sources", std::move(members)},
                               {"fallback", std::move(fallback)},
                               {"when_exhausted", when},
                               {"exhausted", exhausted}});
    add_pool_spending(c, p, out.back().as_object());
  }
  return out;
}

json::array refused_senders(const routing::SmarthostState& state) {
  json::array out;
  if (!state.senders) return out;
  for (const auto& [domain, refused] : *state.senders)
    if (now() < refused.until)
      out.push_back(json::object{{"domain", domain}, {"reason", refused.reason}, {"until", routing::to_rfc3339(refused.until)}});
  return out;
}

/// What each sender domain's mail would meet there, known beforehand. `ready` is null until DNS has answered once.
json::array readiness_of(const AdminContext& c, std::uint32_t smarthost) {
  json::array out;
  for (const auto& [domain, found] : c.reputation.readiness().smarthost(smarthost).domains)
    out.push_back(json::object{{"domain", domain},
                               {"ready", found.checked ? json::value(found.ready) : json::value()},
                               {"reason", found.reason},
                               {"checked", time_or_null(found.checked)},
                               {"advice", found.advice}});
  return out;
}

json::object trial_of(const Trial& trial) {
  return {{"worked", time_or_null(trial.worked)}, {"failed", time_or_null(trial.failed)}, {"text", trial.text}};
}

/// Without a fraction where there is none: people read it.
json::value number(double value) {
  const bool integral = value == std::floor(value) && std::abs(value) < 1e15;
  return integral ? json::value(static_cast<std::int64_t>(value)) : json::value(value);
}

/// What the ESP says of the account; null where it is not asked, or has not answered yet.
json::value account_of(const AdminContext& c, std::uint32_t smarthost) {
  const AccountStatus* status = c.accounts ? c.accounts->status(smarthost) : nullptr;
  if (!status) return nullptr;
  json::object out{{"checked", time_or_null(status->checked)}, {"error", status->error}};
  const auto& account = status->account;
  const bool limited = account && account->max_24h >= 0;
  out["sending"] = account ? json::value(account->sending) : json::value();
  out["production"] = account ? json::value(account->production) : json::value();
  out["enforcement"] = account ? json::value(account->enforcement) : json::value();
  out["quota_24h"] = limited ? number(account->max_24h) : json::value();
  out["sent_24h"] = account ? number(account->sent_24h) : json::value();
  out["left_24h"] = limited ? number(std::max(0.0, account->max_24h - account->sent_24h)) : json::value();
  out["max_rate"] = account ? number(account->max_rate) : json::value();
  return out;
}

json::value smarthosts(const AdminContext& c) {
  json::array out;
  for (std::uint32_t i = 0; i < c.config->smarthosts.size(); ++i) {
    const auto& host = c.config->smarthosts[i];
    if (host.removed) continue;
    const auto& state = c.reputation.smarthost(i);
    const bool resting = state.resting_until && *state.resting_until > now();
    const EgressCounters& counters = c.metrics.smarthosts[i];
    out.push_back(json::object{{"name", host.name},
                               {"provider", host.provider},
                               {"state", resting ? "resting" : "ready"},
                               {"until", resting ? time_or_null(state.resting_until) : json::value()},
                               {"reason", state.reason},
                               {"trouble", resting ? json::value(to_string(state.trouble)) : json::value()},
                               {"refused_senders", refused_senders(state)},
                               {"transport", host.api && host.api->delivers ? "http" : "smtp"},
                               {"account", account_of(c, i)},
                               {"sent", counters.delivered.get()},
                               {"refused", counters.blamed.get()},
                               {"readiness", readiness_of(c, i)},
                               {"unready", config::readiness_of(host).allow_unready ? "allow" : "refuse"},
                               {"login", trial_of(c.reputation.readiness().smarthost(i).login)},
                               {"canary", trial_of(c.reputation.readiness().smarthost(i).canary)}});
    add_spending(c, i, out.back().as_object());
  }
  return out;
}

json::value senders(const AdminContext& c) {
  json::array out;
  for (const auto& sender : c.guard.senders())
    out.push_back(json::object{{"sender", sender.sender},
                               {"state", sender.state},
                               {"reason", sender.reason},
                               {"since", time_or_null(sender.since)},
                               {"poison", sender.poison},
                               {"content", sender.content}});
  return out;
}

bool release_sender(const AdminContext& c, const std::string& sender) {
  if (!c.guard.release(sender)) return false;
  for (Dispatcher* dispatcher : c.dispatchers)
    asio::post(dispatcher->executor(), [dispatcher, sender] { dispatcher->release_sender(sender); });
  return true;
}

json::value blocklists(const AdminContext& c) {
  json::array out;
  for (const auto& [name, status] : c.prober->status()) {
    const auto& list = c.config->blocklists.at(name);
    json::array listed;
    for (std::uint32_t i = 0; i < c.config->topology.sources.size(); ++i) {
      const auto& listings = c.reputation.state(i).listings;
      if (!c.config->topology.sources[i].removed && listings.contains(name))
        listed.emplace_back(c.config->topology.sources[i].name);
    }
    out.push_back(json::object{{"name", name},
                               {"zone", list.public_zone},
                               {"state", to_string(status.state)},
                               {"reason", status.reason},
                               {"last_checked", time_or_null(status.last_checked)},
                               {"weight", list.weight},
                               {"role", list.inform_only ? "inform" : "route"},
                               {"mode", list.observe ? "observe" : "enforce"},
                               {"delist", list.delist},
                               {"queries", status.queries},
                               {"every", status.every ? json::value(routing::to_string(*status.every)) : json::value()},
                               {"consulted_by", consulted_by(c, name)},
                               {"listed", std::move(listed)}});
  }
  return out;
}

json::object event(const Event& e) {
  return {{"id", e.id},
          {"time", routing::to_rfc3339(e.time)},
          {"kind", e.kind},
          {"source", e.source},
          {"provider", e.provider},
          {"smarthost", e.smarthost},
          {"blocklist", e.blocklist},
          {"sender", e.sender},
          {"message", e.message},
          {"rule", e.rule},
          {"from", e.from},
          {"to", e.to},
          {"text", e.text},
          {"action", e.action}};
}

json::value events(const AdminContext& c, std::size_t limit) {
  json::array out;
  for (const Event& e : c.events.all()) {
    if (out.size() >= limit) break;
    out.push_back(event(e));
  }
  return json::object{{"events", std::move(out)}};
}

json::value unknown_replies(const AdminContext& c) {
  json::array out;
  for (const UnknownReply& r : c.unknown_replies.all())
    out.push_back(json::object{{"text", r.text},
                               {"count", r.count},
                               {"first_seen", routing::to_rfc3339(r.first_seen)},
                               {"last_seen", routing::to_rfc3339(r.last_seen)},
                               {"provider", r.provider},
                               {"example", r.example}});
  return json::object{{"replies", std::move(out)}};
}

asio::awaitable<QueueSummary> queue_of_all(const AdminContext& c, QueueFilter filter) {
  QueueSummary all;
  for (Dispatcher* dispatcher : c.dispatchers) {
    QueueSummary part = co_await on_worker<QueueSummary>(dispatcher, [dispatcher, filter] { return dispatcher->queue(filter); });
    all.total += part.total;
    all.held += part.held;
    for (const auto& [key, n] : part.by_class) all.by_class[key] += n;
    for (const auto& [key, n] : part.by_site) all.by_site[key] += n;
    for (const auto& [key, n] : part.by_egress) all.by_egress[key] += n;
    if (part.oldest && (!all.oldest || *part.oldest < *all.oldest)) all.oldest = part.oldest;
    for (auto& r : part.rows)
      if (all.rows.size() < filter.limit) all.rows.push_back(std::move(r));
  }
  co_return all;
}

asio::awaitable<json::value> queue(const AdminContext& c, QueueFilter filter) {
  // A job that moves to another worker meanwhile would be counted twice or not at all: look again. Under load there
  // is always one, so the last look is taken as it is.
  QueueSummary all;
  for (int look = 0; look < 5; ++look) {
    const std::uint64_t before = c.handovers.arrived.load();
    all = co_await queue_of_all(c, filter);
    if (c.handovers.sent.load() == before) break;
  }
  json::object by_class, by_site, by_egress;
  for (const auto& message_class : c.config->classes)
    if (!message_class.removed) by_class[message_class.name] = 0;
  for (const auto& [index, n] : all.by_class) by_class[c.config->classes[index].name] = n;
  for (const auto& [site, n] : all.by_site) by_site[site] = n;
  for (const auto& [egress, n] : all.by_egress) by_egress[egress] = n;
  json::array rows;
  for (const auto& r : all.rows) rows.push_back(row(c, r));
  const auto age = all.oldest ? std::chrono::duration_cast<std::chrono::seconds>(now() - *all.oldest).count() : 0;
  // Messages that are being taken over this very moment are on disk already and in no list yet.
  co_return json::object{{"total", all.total},
                         {"by_class", std::move(by_class)},
                         {"by_site", std::move(by_site)},
                         {"by_egress", std::move(by_egress)},
                         {"held", all.held},
                         {"oldest_age_s", age},
                         {"messages", std::move(rows)}};
}

asio::awaitable<json::value> message(const AdminContext& c, smtp::MessageId id) {
  MessageHistory merged;
  bool known = false;
  for (Dispatcher* dispatcher : c.dispatchers) {
    auto part =
        co_await on_worker<std::optional<MessageHistory>>(dispatcher, [dispatcher, id] { return dispatcher->history(id); });
    if (!part) continue;
    known = true;
    if (merged.message_class.empty()) merged.message_class = part->message_class;
    if (merged.sender.empty()) merged.sender = part->sender;
    if (merged.accepted == routing::Time{}) merged.accepted = part->accepted;
    std::ranges::move(part->attempts, std::back_inserter(merged.attempts));
  }
  const auto content = co_await c.spool.read(id);
  EspHistory esp;
  if (EspMail* memory = c.esp_feedback ? c.esp_feedback->memory() : nullptr) esp = co_await memory->history(id);
  if (!known && !content && esp.handovers.empty()) co_return nullptr;
  if (!known) recall(esp, merged);
  std::ranges::stable_sort(merged.attempts, {}, &AttemptRecord::time);
  std::map<std::string, std::pair<std::string, std::string>> recipients;
  if (content)
    for (const auto& recipient : content->recipients) recipients[recipient.to_string()] = {"pending", ""};
  json::array attempts;
  for (const auto& a : merged.attempts) {
    attempts.push_back(json::object{{"time", routing::to_rfc3339(a.time)},
                                    {"egress", a.egress},
                                    {"site", a.site},
                                    {"host", a.host},
                                    {"outcome", a.outcome},
                                    {"reply", a.reply},
                                    {"label", a.label},
                                    {"rule", a.rule},
                                    {"route", a.route},
                                    {"esp_id", a.esp_id}});
    const bool final = a.outcome == "delivered" || a.outcome == "failed" || a.outcome == "cancelled";
    for (const auto& recipient : a.recipients) recipients[recipient] = {final ? a.outcome : "pending", a.reply};
  }
  json::array listed;
  for (const auto& [address, state] : recipients)
    listed.push_back(json::object{{"address", address}, {"state", state.first}, {"reply", state.second}});
  const bool pending = std::ranges::any_of(recipients, [](const auto& r) { return r.second.first == "pending"; });
  if (content && merged.sender.empty()) merged.sender = content->sender.to_string();
  if (content && merged.message_class.empty()) merged.message_class = content->class_name;
  co_return json::object{{"id", smtp::to_string(id)},       {"class", merged.message_class},
                         {"sender", merged.sender},         {"state", content && pending ? "waiting" : "done"},
                         {"recipients", std::move(listed)}, {"attempts", std::move(attempts)},
                         {"events", esp_events(esp)}};
}

/// The blocklists that the provider is known to consult.
json::array consults(const AdminContext& c, std::string_view provider) {
  json::array out;
  if (const auto* known = c.config->providers.named(provider))
    for (const auto& list : known->blocklists) out.emplace_back(list);
  return out;
}

/// By which rule each host would be spoken to.
json::array tls_rules(const Site& site) {
  json::array out;
  for (const Target& target : site.targets)
    out.push_back(json::object{{"host", target.host},
                               {"policy", target.dane_trouble.empty() ? tls_plan(site, target).name() : "unusable"},
                               {"reason", target.dane_trouble.empty() ? site.tls_reason : target.dane_trouble}});
  return out;
}

namespace {

/// A decision as JSON; `found` is what Dispatcher::explain said.
json::object route_json(const AdminContext& c, const std::pair<routing::Route, SiteAnswer>& found, std::uint32_t message_class) {
  const auto& topology = c.config->topology;
  if (!found.second.site)
    return json::object{{"site", nullptr},
                        {"provider", nullptr},
                        {"class", c.config->classes[message_class].name},
                        {"candidates", json::array{}},
                        {"rejected", json::array{}},
                        {"hold", json::object{{"reason", found.second.refusal.to_string()}, {"until", nullptr}}}};
  json::array candidates, rejected;
  for (const auto& candidate : found.first.candidates)
    candidates.push_back(json::object{{"egress", topology.name(candidate.egress)},
                                      {"kind", candidate.egress.kind == routing::EgressKind::source ? "source" : "smarthost"},
                                      {"share", candidate.share}});
  for (const auto& r : found.first.rejected)
    rejected.push_back(json::object{{"egress", topology.name(r.egress)}, {"reason", r.reason}, {"until", time_or_null(r.until)}});
  json::value hold;
  if (found.first.hold)
    hold = json::object{{"reason", found.first.hold->reason}, {"until", time_or_null(found.first.hold->until)}};
  return json::object{{"site", found.second.site->key},
                      {"provider", found.second.site->provider},
                      {"class", c.config->classes[message_class].name},
                      {"candidates", std::move(candidates)},
                      {"rejected", std::move(rejected)},
                      {"hold", std::move(hold)},
                      {"notes", json::value_from(found.first.notes)},
                      {"consults", consults(c, found.second.site->provider)},
                      {"tls", tls_rules(*found.second.site)}};
}

/// The routes that what waits of a message would take now: one for each group of recipients in a domain.
asio::awaitable<json::value> message_route(const AdminContext& c, const std::string& wanted) {
  const auto id = smtp::parse_message_id(wanted);
  if (!id) co_return json::object{{"error", "message: not a message id"}};
  const auto content = co_await c.spool.read(*id);
  std::vector<WaitingJob> jobs;
  if (content)
    for (Dispatcher* dispatcher : c.dispatchers) {
      auto some = co_await on_worker<std::vector<WaitingJob>>(dispatcher, [dispatcher, id] { return dispatcher->jobs_of(*id); });
      std::ranges::move(some, std::back_inserter(jobs));
    }
  if (jobs.empty()) co_return json::object{{"error", "message: nothing of " + wanted + " waits"}};
  json::array parts;
  for (const WaitingJob& job : jobs) {
    std::map<std::string, json::array> by_domain;
    for (const auto index : job.recipients)
      by_domain[content->recipients[index].domain].emplace_back(content->recipients[index].to_string());
    for (auto& [domain, recipients] : by_domain) {
      Dispatcher* dispatcher = c.dispatchers.front();
      const auto found = co_await asio::co_spawn(
          dispatcher->executor(),
          dispatcher->explain(domain, c.config->classes[job.message_class].pool, job, smtp::lower(content->sender.domain)),
          asio::use_awaitable);
      json::object part = route_json(c, found, job.message_class);
      part["recipients"] = std::move(recipients);
      part["state"] = job.state;
      part["attempts"] = job.attempts;
      part["next_at"] = job.state == "scheduled" ? json::value(routing::to_rfc3339(job.next_at)) : json::value();
      part["keeps_to"] = job.sticky ? json::value(c.config->topology.name(*job.sticky)) : json::value();
      part["last_reply"] = job.last_reply;
      parts.push_back(std::move(part));
    }
  }
  co_return json::object{{"id", wanted}, {"sender", content->sender.to_string()}, {"parts", std::move(parts)}};
}

}  // namespace

asio::awaitable<json::value> route(const AdminContext& c, json::value request) {
  const auto text = [&](const char* key) -> std::string {
    const auto* object = request.if_object();
    const auto* value = object ? object->if_contains(key) : nullptr;
    return value && value->is_string() ? json::value_to<std::string>(*value) : std::string();
  };
  if (const std::string id = text("message"); !id.empty()) co_return co_await message_route(c, id);
  const auto to = smtp::parse_mailbox(text("to"), true);
  if (!to) co_return json::object{{"error", "to: expected a recipient address"}};
  const std::string from = text("from"), wanted = text("class");
  const auto sender = smtp::parse_mailbox(from, true);
  if (!from.empty() && !sender) co_return json::object{{"error", "from: expected a sender address"}};
  std::uint32_t index = c.config->listeners.front().message_class;
  if (!wanted.empty()) {
    const auto named = c.config->class_named(wanted);
    if (!named) co_return json::object{{"error", "class: no class is called " + wanted}};
    index = *named;
  } else if (sender) {
    routing::MessageFacts facts;
    facts.sender_domain = sender->domain;
    const auto classified = c.config->classifier->classify(facts);
    if (classified.class_name) index = c.config->class_named(*classified.class_name).value_or(index);
  }
  Dispatcher* dispatcher = c.dispatchers.front();
  std::optional<std::string> sender_domain;
  if (sender) sender_domain = smtp::lower(sender->domain);
  const auto found = co_await asio::co_spawn(dispatcher->executor(),
                                             dispatcher->explain(to->domain, c.config->classes[index].pool, {}, sender_domain),
                                             asio::use_awaitable);
  co_return route_json(c, found, index);
}

}  // namespace egret::relay::api
