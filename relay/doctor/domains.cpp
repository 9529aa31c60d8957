#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "config/readiness.hpp"
#include "relay/doctor/records.hpp"
#include "relay/doctor/subjects.hpp"
#include "routing/sender_records.hpp"
#include "routing/spf.hpp"
#include "smtp/text.hpp"

namespace egret::relay::doctor {
namespace {

using routing::SpfResult;

// ---- SPF ---------------------------------------------------------------------------------------------------------

Result grade(SpfResult result) {
  switch (result) {
    case SpfResult::pass:
      return Result::ok;
    case SpfResult::fail:
    case SpfResult::permerror:
      return Result::fail;
    case SpfResult::none:
    case SpfResult::neutral:
    case SpfResult::softfail:
    case SpfResult::temperror:
      break;
  }
  return Result::warn;
}

std::string describe(const routing::SpfOutcome& outcome) {
  std::string out = "SPF " + std::string(to_string(outcome.result));
  if (!outcome.reason.empty()) return out + ": " + outcome.reason;
  if (outcome.term.empty()) return out + ": no term of its record matches";
  return out + " by " + outcome.term + (outcome.record.empty() ? "" : " of " + outcome.record);
}

std::string advise(const routing::SpfOutcome& outcome, const std::vector<const routing::SourceInfo*>& sources) {
  switch (outcome.result) {
    case SpfResult::pass:
      return {};
    case SpfResult::temperror:
      return "ask again when DNS works";
    case SpfResult::permerror:
      return "mend the record: receivers count it as broken";
    case SpfResult::none:
    case SpfResult::neutral:
    case SpfResult::softfail:
    case SpfResult::fail:
      break;
  }
  std::string terms;
  for (const auto* source : sources) {
    const routing::IpAddress address = source->reputation.unmapped();
    terms += (terms.empty() ? "" : " ") + std::string(address.v6 ? "ip6:" : "ip4:") + address.to_string();
  }
  if (outcome.result == SpfResult::none) return "publish one that names every source: v=spf1 " + terms + " -all";
  return "add " + terms + " to the record";
}

/// Sources of which the record says the same are named together.
boost::asio::awaitable<Checks> check_spf_of(World world, std::string domain, routing::SpfAnswers* answers) {
  struct Group {
    routing::SpfOutcome outcome;
    std::vector<const routing::SourceInfo*> sources;
  };
  std::map<std::string, Group> groups;
  for (const auto& source : world.config.topology.sources) {
    if (source.removed) continue;
    routing::SpfSender sender;
    sender.address = source.reputation;
    sender.domain = domain;
    sender.helo = source.ehlo;
    routing::SpfOutcome outcome = co_await evaluate_spf(&world.resolver, std::move(sender), answers);
    const std::string text = describe(outcome);
    Group& group = groups[text];
    group.outcome = std::move(outcome);
    group.sources.push_back(&source);
  }
  Checks out;
  for (const auto& [text, group] : groups) {
    std::string names;
    for (const auto* source : group.sources) names += (names.empty() ? "" : ", ") + source->name;
    out.push_back(make_check("spf", "domain " + domain, grade(group.outcome.result), "from " + names + ": " + text,
                             advise(group.outcome, group.sources)));
  }
  co_return out;
}

/// An ESP mostly uses an envelope domain of its own, or a name below the sender's: a missing include is no certain failure.
boost::asio::awaitable<Checks> check_esps(World world, std::string domain, routing::SpfAnswers* answers) {
  Checks out;
  std::set<std::string_view> done;  // presets that share a company share it
  for (const auto& host : world.config.smarthosts) {
    const std::string& target = config::readiness_of(host).records.spf;
    if (host.removed || target.empty() || !done.insert(target).second) continue;
    const routing::RecordState state = co_await includes_spf(&world.resolver, domain, target, answers);
    const bool found = state == routing::RecordState::present;
    const std::string subject = "domain " + domain;
    if (found)
      out.push_back(
          make_check("spf-esp", subject, Result::ok, "SPF includes " + std::string(target) + " for smarthost " + host.name));
    else
      out.push_back(make_check("spf-esp", subject, Result::warn,
                               "SPF does not include " + std::string(target) + ", which smarthost " + host.name + " sends from",
                               "add include:" + std::string(target) +
                                   ", unless a return path of your own is set up there; and have "
                                   "the domain verified and its DKIM records published before it is needed"));
  }
  co_return out;
}

// ---- DKIM and DMARC ----------------------------------------------------------------------------------------------

boost::asio::awaitable<Check> check_key(Resolver* resolver, const config::DkimSigner* signer) {
  const std::string subject = "domain " + signer->domain;
  const std::string name = signer->selector + "._domainkey." + signer->domain;
  const std::string record = signer->key->dns_record();
  const std::string publish = "publish this TXT record there: " + record;
  const auto result = [&](Result r, const std::string& text, std::string advice = {}) {
    return make_check("dkim", subject, r, name + " " + text, std::move(advice));
  };
  const DnsReply reply = co_await resolver->query(name, DnsType::txt);
  if (reply.status == DnsReply::Status::failed)
    co_return result(Result::warn, "is unknown: " + reply.error, "ask again when DNS works");
  switch (routing::judge_dkim_records(reply.texts, record)) {
    case routing::PublishedKey::matches:
      if (signer->key->weak()) co_return result(Result::warn, "is our key, below 2048 bits", "make a new one of 2048 bits");
      co_return result(Result::ok, "is our key (" + std::string(signer->key->algorithm()) + ")");
    case routing::PublishedKey::differs:
      co_return result(Result::fail, "is not our key: every signature with it is invalid", publish);
    case routing::PublishedKey::revoked:
      co_return result(Result::fail, "is revoked (an empty p=)", publish);
    case routing::PublishedKey::missing:
      co_return result(Result::fail, "has no key record", publish);
    case routing::PublishedKey::several:
      co_return result(Result::fail, "has several key records: receivers take any of them", "leave only this one: " + record);
  }
  co_return result(Result::fail, "has no key record", publish);
}

/// How mail in this domain's name can be aligned: by our signatures, by SPF of the sources, by an ESP's own key.
std::string alignment(const config::Config& config, const std::string& domain) {
  const bool signs = std::ranges::any_of(config.dkim, [&](const auto& signer) { return smtp::iequals(signer.domain, domain); });
  std::string out = signs ? "egret signs for it" : "egret does not sign for it";
  std::string unsigned_by;
  for (const auto& host : config.smarthosts)
    if (!host.removed && (host.dkim == config::DkimRule::strip || !signs))
      unsigned_by += (unsigned_by.empty() ? "" : ", ") + host.name;
  if (!unsigned_by.empty()) out += "; by " + unsigned_by + " only the ESP's own key for this domain aligns (RFC 9989)";
  return out;
}

Check check_dmarc(const config::Config& config, const std::string& domain, const Dmarc& found) {
  const std::string subject = "domain " + domain;
  if (!found.known) return make_check("dmarc", subject, Result::warn, found.error, "ask again when DNS works");
  const auto& policy = found.policy;
  if (!policy)
    return make_check("dmarc", subject, Result::warn, "no DMARC record: " + alignment(config, domain),
                      "publish one, for instance at _dmarc." + domain +
                          ": v=DMARC1; p=none; rua=mailto:ADDRESS (large providers want it from whoever sends much)");
  std::string text = "DMARC p=" + policy->policy + " (_dmarc." + policy->found_at + ")";
  if (policy->record.strict_dkim || policy->record.strict_spf)
    text += std::string(", strict alignment of ") + (policy->record.strict_dkim ? "DKIM" : "") +
            (policy->record.strict_dkim && policy->record.strict_spf ? " and " : "") + (policy->record.strict_spf ? "SPF" : "");
  return make_check("dmarc", subject, Result::ok, text + ": " + alignment(config, domain));
}

// ---- ESPs --------------------------------------------------------------------------------------------------------

/// The ESP's DKIM records, and whether mail by it would pass the domain's DMARC policy.
void tell_readiness(Checks& out, const config::Smarthost& host, const std::string& domain,
                    const routing::ReadinessVerdict& verdict) {
  const std::string subject = "domain " + domain;
  const std::string at = " at smarthost " + host.name;
  const bool lost = verdict.ready == false;
  switch (verdict.dkim) {
    case routing::Alignment::yes:
      out.push_back(make_check("esp-dkim", subject, Result::ok, "an aligned DKIM key serves it" + at));
      break;
    case routing::Alignment::no:
      out.push_back(make_check("esp-dkim", subject, lost ? Result::fail : Result::warn, verdict.reason + at, verdict.advice));
      break;
    case routing::Alignment::untold:
      out.push_back(make_check("esp-dkim", subject, Result::warn,
                               "which DKIM records it needs" + at + " is not known: they differ for each customer",
                               "give them as dkim_selectors of " + host.name));
      break;
    case routing::Alignment::unknown:
      out.push_back(make_check("esp-dkim", subject, Result::warn, "DNS did not answer for its DKIM records" + at,
                               "ask again when DNS works"));
      break;
  }
  if (lost)
    out.push_back(make_check("esp-dmarc", subject, Result::fail, "not ready" + at + ": " + verdict.reason, verdict.advice));
  else if (!verdict.ready || (verdict.dkim != routing::Alignment::yes && verdict.spf != routing::Alignment::yes))
    out.push_back(make_check("esp-dmarc", subject, Result::warn, "nothing is known to align" + at + ": " + verdict.reason,
                             verdict.advice.empty() ? "ask again when DNS works" : verdict.advice));
  else
    out.push_back(make_check("esp-dmarc", subject, Result::ok,
                             std::string(verdict.dkim == routing::Alignment::yes ? "DKIM" : "SPF") + " aligns" + at));
}

boost::asio::awaitable<Checks> check_readiness(World world, std::string domain, const Dmarc* dmarc) {
  Checks out;
  for (std::uint32_t i = 0; i < world.config.smarthosts.size(); ++i) {
    const config::Smarthost& host = world.config.smarthosts[i];
    const routing::EspRecords& records = config::readiness_of(host).records;
    if (host.removed || !records.known()) continue;
    const routing::ReadinessFacts facts = co_await look_up_readiness(&world.config, i, &world.resolver, domain, dmarc);
    tell_readiness(out, host, domain, routing::judge_readiness(facts, records));
  }
  co_return out;
}

}  // namespace

boost::asio::awaitable<Checks> check_domain(World world, std::string domain) {
  routing::SpfAnswers answers;
  Checks out = co_await check_spf_of(world, domain, &answers);
  const Checks esps = co_await check_esps(world, domain, &answers);
  out.insert(out.end(), esps.begin(), esps.end());
  for (const auto& signer : world.config.dkim) {
    if (!smtp::iequals(signer.domain, domain)) continue;
    Check key = co_await check_key(&world.resolver, &signer);
    out.push_back(std::move(key));
  }
  const Dmarc dmarc = co_await find_dmarc_policy(&world.resolver, domain);
  out.push_back(check_dmarc(world.config, domain, dmarc));
  const Checks ready = co_await check_readiness(world, domain, &dmarc);
  out.insert(out.end(), ready.begin(), ready.end());
  co_return out;
}

}  // namespace egret::relay::doctor
