#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <utility>

#include "relay/doctor/subjects.hpp"
#include "routing/sender_records.hpp"
#include "routing/spf.hpp"
#include "smtp/text.hpp"

namespace egret::relay::doctor {
namespace {

using routing::SpfQuestion;
using routing::SpfResult;

constexpr int max_questions = 300;  // of one domain: no evaluation within the limits of RFC 7208 comes near it

/// What each ESP asks its customers to include. Presets that share a company share it.
constexpr std::array<std::pair<std::string_view, std::string_view>, 7> esp_includes{{{"ses", "amazonses.com"},
                                                                                     {"sendgrid", "sendgrid.net"},
                                                                                     {"mailgun", "mailgun.org"},
                                                                                     {"postmark", "spf.mtasv.net"},
                                                                                     {"sparkpost", "sparkpostmail.com"},
                                                                                     {"brevo", "spf.brevo.com"},
                                                                                     {"mailjet", "spf.mailjet.com"}}};

/// Empty for presets that nobody includes: a generic relay's addresses are not known here.
std::string_view include_of(std::string_view provider) {
  for (const auto& [preset, include] : esp_includes)
    if (provider == preset || (provider.starts_with(preset) && provider[preset.size()] == '-')) return include;
  return {};
}

DnsType dns_type(SpfQuestion::Type type) {
  switch (type) {
    case SpfQuestion::Type::txt:
      return DnsType::txt;
    case SpfQuestion::Type::a:
      return DnsType::a;
    case SpfQuestion::Type::aaaa:
      return DnsType::aaaa;
    case SpfQuestion::Type::mx:
      return DnsType::mx;
  }
  return DnsType::txt;
}

boost::asio::awaitable<void> learn(Resolver* resolver, SpfQuestion question, routing::SpfAnswers* answers) {
  const DnsReply reply = co_await resolver->query(question.name, dns_type(question.type));
  routing::SpfAnswer answer;
  answer.status = to_answer(reply).status;
  answer.addresses = reply.addresses;
  answer.texts = reply.texts;
  for (const auto& mx : reply.mx) answer.hosts.push_back(mx.host);
  answers->emplace(std::move(question), std::move(answer));
}

boost::asio::awaitable<routing::SpfOutcome> evaluate(Resolver* resolver, routing::SpfSender sender,
                                                     routing::SpfAnswers* answers) {
  routing::SpfOutcome out = check_spf(sender, *answers);
  for (int i = 0; out.needs && i < max_questions; ++i) {
    co_await learn(resolver, *out.needs, answers);
    out = check_spf(sender, *answers);
  }
  co_return out;
}

boost::asio::awaitable<bool> includes(Resolver* resolver, std::string domain, std::string_view target,
                                      routing::SpfAnswers* answers) {
  routing::SpfInclusion out = spf_includes(domain, target, *answers);
  for (int i = 0; out.needs && i < max_questions; ++i) {
    co_await learn(resolver, *out.needs, answers);
    out = spf_includes(domain, target, *answers);
  }
  co_return out.found;
}

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
    routing::SpfOutcome outcome = co_await evaluate(&world.resolver, std::move(sender), answers);
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
  std::set<std::string_view> done;
  for (const auto& host : world.config.smarthosts) {
    const std::string_view target = include_of(host.provider);
    if (host.removed || target.empty() || !done.insert(target).second) continue;
    const bool found = co_await includes(&world.resolver, domain, target, answers);
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

boost::asio::awaitable<Check> check_dmarc(World world, std::string domain) {
  const std::string subject = "domain " + domain;
  const std::vector<std::string> walk = routing::dmarc_walk(domain);
  std::vector<std::optional<routing::DmarcRecord>> records;
  for (const auto& name : walk) {
    const DnsReply reply = co_await world.resolver.query("_dmarc." + name, DnsType::txt);
    if (reply.status == DnsReply::Status::failed)
      co_return make_check("dmarc", subject, Result::warn, "_dmarc." + name + " is unknown: " + reply.error,
                           "ask again when DNS works");
    records.push_back(routing::find_dmarc(reply.texts));
    if (records.back() && (records.size() == 1 || records.back()->psd != 'u')) break;
  }
  const auto policy = routing::discover_dmarc(walk, records);
  if (!policy)
    co_return make_check("dmarc", subject, Result::warn, "no DMARC record: " + alignment(world.config, domain),
                         "publish one, for instance at _dmarc." + domain +
                             ": v=DMARC1; p=none; rua=mailto:ADDRESS (large providers want it from whoever sends much)");
  std::string text = "DMARC p=" + policy->policy + " (_dmarc." + policy->found_at + ")";
  if (policy->record.strict_dkim || policy->record.strict_spf)
    text += std::string(", strict alignment of ") + (policy->record.strict_dkim ? "DKIM" : "") +
            (policy->record.strict_dkim && policy->record.strict_spf ? " and " : "") + (policy->record.strict_spf ? "SPF" : "");
  co_return make_check("dmarc", subject, Result::ok, text + ": " + alignment(world.config, domain));
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
  Check dmarc = co_await check_dmarc(world, domain);
  out.push_back(std::move(dmarc));
  co_return out;
}

}  // namespace egret::relay::doctor
