#include <boost/asio/redirect_error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <optional>
#include <random>

#include "relay/doctor/subjects.hpp"

namespace egret::relay::doctor {
namespace {

/// One list's turn: within the common pace, and within its own budget.
class Asker {
 public:
  Asker(World world, const routing::Blocklist& list) : world_(world) {
    if (list.queries) budget_ = routing::QueryPace::budget(*list.queries);
  }

  bool exhausted() const { return budget_ && budget_->ready() > world_.pace.instant(); }

  boost::asio::awaitable<DnsReply> ask(std::string name, DnsType type) {
    if (budget_) budget_->spend(world_.pace.instant());
    co_await world_.pace.turn();
    co_return co_await world_.resolver.query(std::move(name), type);
  }

 private:
  World world_;
  std::optional<routing::QueryPace> budget_;
};

/// A label that is no address: only a wildcard can list it.
std::string random_label() {
  std::random_device random;
  std::string out = "egret";
  for (int i = 0; i < 12; ++i) out += static_cast<char>('a' + random() % 26);
  return out;
}

boost::asio::awaitable<routing::Health> look_at_health(Asker* asker, const routing::Blocklist* list) {
  routing::HealthProbe probe;
  const DnsReply random = co_await asker->ask(random_label() + "." + list->zone, DnsType::a);
  probe.random = to_answer(random);
  if (list->test_clean) {
    const DnsReply clean = co_await asker->ask(routing::query_name(*list->test_clean, list->zone), DnsType::a);
    probe.clean = to_answer(clean);
  }
  if (list->test_listed) {
    const DnsReply listed = co_await asker->ask(routing::query_name(*list->test_listed, list->zone), DnsType::a);
    probe.listed = to_answer(listed);
  }
  co_return routing::judge_health(probe, *list);
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const auto& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

Check judge_listing(const std::string& subject, const routing::Blocklist& list, const routing::Judgement& judgement,
                    const DnsReply& reason) {
  std::string text =
      "listed by " + list.name + " (" + join(judgement.codes) + (judgement.policy ? ": a policy listing" : "") + ")";
  if (!reason.texts.empty()) text += ": " + routing::without_key(reason.texts.front(), list);
  std::string advice;
  if (judgement.policy)
    advice = "the list holds that this range should send no mail: ask the owner of the range or the list to take the address out";
  else
    advice = "find and stop the cause, then ask for removal";
  if (!list.delist.empty()) advice += " at " + list.delist;
  const Result result = list.enforced() ? Result::fail : Result::warn;
  if (result == Result::warn) advice += "; this list only informs, no mail is routed by it";
  return make_check("listing", subject, result, std::move(text), std::move(advice));
}

/// What the list says of one address; nothing when it is clean.
boost::asio::awaitable<std::optional<Check>> check_address(Asker* asker, const routing::Blocklist* list,
                                                           const routing::SourceInfo* source) {
  const std::string subject = source_subject(*source);
  const std::string name = routing::query_name(source->reputation.unmapped(), list->zone);
  const DnsReply reply = co_await asker->ask(name, DnsType::a);
  const routing::Judgement judgement = routing::judge(to_answer(reply), *list);
  if (judgement.result == routing::Judgement::Result::clean) co_return std::nullopt;
  if (judgement.result == routing::Judgement::Result::unknown)
    co_return make_check("listing", subject, Result::warn,
                         list->name + " says nothing usable: " + routing::without_key(judgement.reason, *list),
                         "it counts neither as listed nor as clean; ask again later");
  const DnsReply reason = co_await asker->ask(name, DnsType::txt);
  co_return judge_listing(subject, *list, judgement, reason);
}

}  // namespace

routing::Instant Pace::instant() const {
  return std::chrono::duration_cast<routing::Instant>(std::chrono::steady_clock::now() - started_);
}

boost::asio::awaitable<void> Pace::turn() {
  const routing::Instant at = std::max(instant(), pace_.ready());
  pace_.spend(instant());
  const auto executor = co_await boost::asio::this_coro::executor;
  boost::asio::steady_timer timer(executor, started_ + at);
  boost::system::error_code ignored;
  co_await timer.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
}

boost::asio::awaitable<Checks> check_blocklist(World world, const routing::Blocklist* list) {
  Checks out;
  std::vector<const routing::SourceInfo*> sources;
  for (const auto& source : world.config.topology.sources)
    if (!source.removed && (source.reputation.unmapped().v6 ? list->ipv6 : list->ipv4)) sources.push_back(&source);
  if (sources.empty()) co_return out;
  const std::string subject = "blocklist " + list->name;
  Asker asker(world, *list);
  const routing::Health health = co_await look_at_health(&asker, list);
  if (!health.in_service) {
    out.push_back(
        make_check("blocklist", subject, Result::warn, "cannot be believed: " + routing::without_key(health.reason, *list),
                   "its answers do not count until it passes its test points; use a resolver of your own (and the list's "
                   "key), or disable it"));
    co_return out;
  }
  std::size_t asked = 0, clean = 0;
  for (const routing::SourceInfo* source : sources) {
    if (asker.exhausted()) break;
    ++asked;
    std::optional<Check> found = co_await check_address(&asker, list, source);
    if (found)
      out.push_back(std::move(*found));
    else
      ++clean;
  }
  const std::string share = std::to_string(clean) + " of " + std::to_string(sources.size()) + " addresses not listed";
  if (asked < sources.size())
    out.push_back(
        make_check("listing", subject, Result::warn,
                   std::to_string(sources.size() - asked) + " addresses were not asked about: its query budget is used up",
                   "ask again later, or look at egret blocklists"));
  Check summary = make_check("blocklist", subject, Result::ok, "passes its test points; " + share);
  out.insert(out.begin(), std::move(summary));
  co_return out;
}

}  // namespace egret::relay::doctor
