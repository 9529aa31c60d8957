#include "relay/doctor/records.hpp"

#include <algorithm>
#include <utility>

#include "config/readiness.hpp"
#include "smtp/text.hpp"

namespace egret::relay::doctor {
namespace {

using routing::EspKeyFact;
using routing::RecordState;
using routing::SpfQuestion;
using Status = DnsReply::Status;

constexpr int max_questions = 300;  // of one domain: no evaluation within the limits of RFC 7208 comes near it

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

bool in_zone(std::string_view name, std::string_view zone) {
  return !zone.empty() && name.size() > zone.size() && name.ends_with(zone) && name[name.size() - zone.size() - 1] == '.';
}

/// Our own keys of the domain, or of one that it is below: those that sign its mail.
std::vector<const config::DkimSigner*> signers_of(const config::Config& config, const std::string& domain) {
  std::vector<const config::DkimSigner*> out;
  for (const auto& signer : config.dkim)
    if (domain == signer.domain || in_zone(domain, signer.domain)) out.push_back(&signer);
  return out;
}

/// A key at the ESP's selector that is ours says nothing about the ESP.
EspKeyFact judge_key(const config::Config& config, routing::EspKeyName key, const DnsReply& reply) {
  EspKeyFact out{std::move(key), RecordState::missing, {}};
  if (reply.status == Status::failed) {
    out.state = RecordState::unknown;
    return out;
  }
  for (const auto& signer : config.dkim)
    if (smtp::iequals(signer.selector + "._domainkey." + signer.domain, out.key.name) &&
        routing::judge_dkim_records(reply.texts, signer.key->dns_record()) == routing::PublishedKey::matches) {
      out.trouble = "holds our own key, not the ESP's";
      return out;
    }
  switch (routing::judge_dkim_records(reply.texts, "")) {
    case routing::PublishedKey::matches:
    case routing::PublishedKey::differs:
      out.state = RecordState::present;
      break;
    case routing::PublishedKey::revoked:
      out.trouble = "is revoked (an empty p=)";
      break;
    case routing::PublishedKey::several:
      out.trouble = "has several key records";
      break;
    case routing::PublishedKey::missing:
      break;
  }
  return out;
}

/// Our signature counts at an ESP that leaves it as it is, and only with its key published.
boost::asio::awaitable<RecordState> own_key(const config::Config* config, const config::Smarthost* host, Resolver* resolver,
                                            std::string domain, bool strict) {
  RecordState out = RecordState::missing;
  if (host->dkim == config::DkimRule::strip) co_return out;
  for (const auto* signer : signers_of(*config, domain)) {
    if (strict && signer->domain != domain) continue;
    const DnsReply reply = co_await resolver->query(signer->selector + "._domainkey." + signer->domain, DnsType::txt);
    if (reply.status == Status::failed)
      out = RecordState::unknown;
    else if (routing::judge_dkim_records(reply.texts, signer->key->dns_record()) == routing::PublishedKey::matches)
      co_return RecordState::present;
  }
  co_return out;
}

/// An alias into the ESP's zone, or an SPF record that includes the ESP's.
boost::asio::awaitable<RecordState> return_path(Resolver* resolver, const routing::EspRecords* records, std::string name) {
  const DnsReply reply = co_await resolver->query(name, DnsType::txt);
  if (reply.status == Status::failed) co_return RecordState::unknown;
  if (in_zone(reply.canonical, records->zone)) co_return RecordState::present;
  if (records->spf.empty()) co_return RecordState::missing;
  routing::SpfAnswers answers;
  co_return co_await includes_spf(resolver, std::move(name), records->spf, &answers);
}

}  // namespace

boost::asio::awaitable<routing::SpfOutcome> evaluate_spf(Resolver* resolver, routing::SpfSender sender,
                                                         routing::SpfAnswers* answers) {
  routing::SpfOutcome out = check_spf(sender, *answers);
  for (int i = 0; out.needs && i < max_questions; ++i) {
    co_await learn(resolver, *out.needs, answers);
    out = check_spf(sender, *answers);
  }
  co_return out;
}

boost::asio::awaitable<RecordState> includes_spf(Resolver* resolver, std::string domain, std::string target,
                                                 routing::SpfAnswers* answers) {
  routing::SpfInclusion out = spf_includes(domain, target, *answers);
  for (int i = 0; out.needs && i < max_questions; ++i) {
    co_await learn(resolver, *out.needs, answers);
    out = spf_includes(domain, target, *answers);
  }
  if (out.found) co_return RecordState::present;
  const bool unanswered =
      std::ranges::any_of(*answers, [](const auto& entry) { return entry.second.status == routing::DnsAnswer::Status::failed; });
  co_return unanswered ? RecordState::unknown : RecordState::missing;
}

boost::asio::awaitable<Dmarc> find_dmarc_policy(Resolver* resolver, std::string domain) {
  Dmarc out;
  const std::vector<std::string> walk = routing::dmarc_walk(domain);
  std::vector<std::optional<routing::DmarcRecord>> records;
  for (const auto& name : walk) {
    const DnsReply reply = co_await resolver->query("_dmarc." + name, DnsType::txt);
    if (reply.status == Status::failed) {
      out.error = "_dmarc." + name + " is unknown: " + reply.error;
      co_return out;
    }
    records.push_back(routing::find_dmarc(reply.texts));
    if (records.back() && records.back()->psd != 'u') break;
  }
  out.known = true;
  out.policy = routing::discover_dmarc(walk, records);
  out.organization = routing::organizational_domain(walk, records);
  co_return out;
}

boost::asio::awaitable<routing::ReadinessFacts> look_up_readiness(const config::Config* config, std::uint32_t smarthost,
                                                                  Resolver* resolver, std::string domain, const Dmarc* dmarc) {
  const config::Smarthost& host = config->smarthosts[smarthost];
  const routing::EspRecords& records = config::readiness_of(host).records;
  routing::ReadinessFacts out;
  out.domain = domain;
  out.organization = dmarc->organization.empty() ? domain : dmarc->organization;
  out.policy_known = dmarc->known;
  out.policy = dmarc->policy;
  for (const auto& set : routing::esp_key_names(records, domain, out.organization)) {
    std::vector<EspKeyFact> facts;
    for (const auto& key : set) {
      const DnsReply reply = co_await resolver->query(key.name, DnsType::txt);
      facts.push_back(judge_key(*config, key, reply));
    }
    out.keys.push_back(std::move(facts));
  }
  const bool strict = out.policy && out.policy->record.strict_dkim;
  out.own_key = co_await own_key(config, &host, resolver, domain, strict);
  for (const auto& name : routing::esp_return_paths(records, domain)) {
    const RecordState state = co_await return_path(resolver, &records, name);
    out.return_paths.push_back({name, state});
  }
  co_return out;
}

}  // namespace egret::relay::doctor
