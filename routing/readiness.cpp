#include "routing/readiness.hpp"

#include <algorithm>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

constexpr std::string_view key_part = "._domainkey.";

std::string with_domain(std::string text, std::string_view domain) {
  constexpr std::string_view mark = "{domain}";
  if (const std::size_t at = text.find(mark); at != std::string::npos) text.replace(at, mark.size(), domain);
  return smtp::lower(text);
}

EspKeyName key_name(const std::string& selector, std::string_view base) {
  const std::string name =
      selector.find(key_part) == std::string::npos ? selector + std::string(key_part) + std::string(base) : selector;
  const std::string full = with_domain(name, base);
  return {full, full.substr(full.find(key_part) + key_part.size())};
}

void add_set(std::vector<std::vector<EspKeyName>>& out, const std::vector<std::string>& selectors, std::string_view base) {
  std::vector<EspKeyName> set;
  for (const auto& selector : selectors) set.push_back(key_name(selector, base));
  const auto same = [&](const auto& other) { return std::ranges::equal(other, set, {}, &EspKeyName::name, &EspKeyName::name); };
  if (!set.empty() && std::ranges::none_of(out, same)) out.push_back(std::move(set));
}

bool below(std::string_view name, std::string_view parent) {
  return name == parent ||
         (name.size() > parent.size() && name.ends_with(parent) && name[name.size() - parent.size() - 1] == '.');
}

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : " and ") + name;
  return out;
}

/// "DMARC p=reject of example.com", with what it is strict about.
std::string describe(const DmarcPolicy& policy) {
  return "DMARC p=" + policy.policy + " of " + policy.found_at;
}

bool strict_dkim(const ReadinessFacts& facts) {
  return facts.policy && facts.policy->record.strict_dkim;
}
bool strict_spf(const ReadinessFacts& facts) {
  return facts.policy && facts.policy->record.strict_spf;
}

bool key_aligned(const ReadinessFacts& facts, const EspKeyFact& fact) {
  return aligned(fact.key.domain, facts.domain, facts.organization, strict_dkim(facts));
}

Alignment judge_dkim(const ReadinessFacts& facts) {
  if (facts.own_key == RecordState::present) return Alignment::yes;
  bool unknown = facts.own_key == RecordState::unknown;
  for (const auto& set : facts.keys) {
    const auto counts = [&](const EspKeyFact& f) { return key_aligned(facts, f) && f.state != RecordState::missing; };
    if (set.empty() || !std::ranges::all_of(set, counts)) continue;
    if (std::ranges::none_of(set, [](const EspKeyFact& f) { return f.state == RecordState::unknown; })) return Alignment::yes;
    unknown = true;
  }
  if (unknown) return Alignment::unknown;
  return facts.keys.empty() ? Alignment::untold : Alignment::no;
}

Alignment judge_spf(const ReadinessFacts& facts) {
  bool unknown = false;
  for (const auto& path : facts.return_paths) {
    if (!aligned(path.name, facts.domain, facts.organization, strict_spf(facts))) continue;
    if (path.state == RecordState::present) return Alignment::yes;
    unknown = unknown || path.state == RecordState::unknown;
  }
  return unknown ? Alignment::unknown : Alignment::no;
}

/// The set that lacks least: that is the one that the operator began to publish.
const std::vector<EspKeyFact>& nearest_set(const ReadinessFacts& facts) {
  const auto present = [](const auto& set) {
    return std::ranges::count_if(set, [](const EspKeyFact& f) { return f.state == RecordState::present; });
  };
  return *std::ranges::max_element(facts.keys, [&](const auto& a, const auto& b) { return present(a) < present(b); });
}

std::string missing_keys(const ReadinessFacts& facts) {
  const auto& set = nearest_set(facts);
  std::vector<std::string> absent, other;
  for (const auto& fact : set) {
    if (fact.state == RecordState::missing && fact.trouble.empty())
      absent.push_back(fact.key.name);
    else if (fact.state == RecordState::missing)
      other.push_back(fact.key.name + " " + fact.trouble);
    else if (!key_aligned(facts, fact))
      other.push_back(fact.key.domain + " is not " + facts.domain + " and adkim=s wants just that");
  }
  std::string out = absent.empty() ? "" : "no DKIM record at " + join(absent);
  for (const auto& text : other) out += (out.empty() ? "" : ", ") + text;
  const bool begun = std::ranges::any_of(set, [](const EspKeyFact& f) { return f.state == RecordState::present; });
  if (facts.keys.size() > 1 && !begun) out += " (nor at " + std::to_string(facts.keys.size() - 1) + " other names it may use)";
  return out;
}

std::string what_is_missing(const ReadinessFacts& facts, Alignment dkim) {
  std::string out =
      dkim == Alignment::untold ? "which DKIM records there should be is not said (dkim_selectors)" : missing_keys(facts);
  if (!facts.return_paths.empty()) {
    out += ", no return path of its own at ";
    for (std::size_t i = 0; i < facts.return_paths.size(); ++i) out += (i ? " or " : "") + facts.return_paths[i].name;
  } else {
    out += ", and its return path is not the domain's";
  }
  return out;
}

std::string advise(const ReadinessFacts& facts, const EspRecords& records, Alignment dkim) {
  if (dkim == Alignment::untold)
    return "give the selectors that the ESP shows for " + facts.domain +
           " as dkim_selectors of the smarthost, or publish a return "
           "path of your own and name it (return_path)";
  std::vector<std::string> names;
  for (const auto& fact : nearest_set(facts))
    if (fact.state == RecordState::missing) names.push_back(fact.key.name);
  if (names.empty()) return "sign with a key of " + facts.domain + " itself, or publish adkim=r";
  std::string out = "publish " + join(names) + " as the ESP shows it for this domain";
  if (!records.zone.empty()) out += " (a CNAME into " + records.zone + ", or a TXT record with its key)";
  return out;
}

}  // namespace

std::vector<std::vector<EspKeyName>> esp_key_names(const EspRecords& records, std::string_view domain,
                                                   std::string_view organization) {
  std::vector<std::vector<EspKeyName>> out;
  for (const std::string_view base : {domain, organization}) {
    if (const auto own = records.domain_selectors.find(base); own != records.domain_selectors.end()) {
      add_set(out, own->second, base);
      continue;
    }
    for (const auto& set : records.selectors) add_set(out, set, base);
  }
  return out;
}

std::vector<std::string> esp_return_paths(const EspRecords& records, std::string_view domain) {
  std::vector<std::string> out;
  for (const auto& path : records.return_paths)
    if (std::string name = with_domain(path, domain); std::ranges::find(out, name) == out.end()) out.push_back(std::move(name));
  return out;
}

std::string organizational_domain(const std::vector<std::string>& walk, const std::vector<std::optional<DmarcRecord>>& records) {
  if (walk.empty()) return {};
  std::size_t chosen = 0;
  for (std::size_t i = 0; i < records.size() && i < walk.size(); ++i) {
    if (!records[i]) continue;
    // A public suffix is nobody's domain: the name below it is the organization's.
    if (records[i]->psd == 'y' && i > 0) return walk[i - 1];
    chosen = i;
    if (records[i]->psd == 'n') break;
  }
  return walk[chosen];
}

bool aligned(std::string_view identifier, std::string_view domain, std::string_view organization, bool strict) {
  if (smtp::iequals(identifier, domain)) return true;
  return !strict && below(smtp::lower(identifier), smtp::lower(organization));
}

ReadinessVerdict judge_readiness(const ReadinessFacts& facts, const EspRecords& records) {
  ReadinessVerdict out;
  out.dkim = judge_dkim(facts);
  out.spf = judge_spf(facts);
  if (!facts.policy_known) {
    out.reason = "DNS did not say which DMARC policy it has";
    return out;
  }
  const bool enforced = facts.policy && facts.policy->policy != "none";
  const bool passes = out.dkim == Alignment::yes || out.spf == Alignment::yes;
  if (out.dkim == Alignment::no || (out.dkim == Alignment::untold && !passes)) {
    out.reason = passes ? missing_keys(facts) : what_is_missing(facts, out.dkim);
    out.advice = advise(facts, records, out.dkim);
    out.reason += passes ? "; SPF aligns by its return path"
                  : enforced
                      ? "; " + describe(*facts.policy)
                      : "; " + (facts.policy ? describe(*facts.policy) : std::string("no DMARC policy")) + " does not mind yet";
  }
  if (passes || !enforced) {
    out.ready = true;
  } else if (out.dkim == Alignment::unknown || out.spf == Alignment::unknown) {
    out.reason = "DNS did not answer for its DKIM records or return path";
    out.advice.clear();
  } else {
    out.ready = out.dkim == Alignment::untold;
  }
  return out;
}

}  // namespace egret::routing
