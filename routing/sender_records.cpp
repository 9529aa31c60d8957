#include "routing/sender_records.hpp"

#include <algorithm>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

constexpr std::size_t max_tags = 50;
constexpr std::size_t max_steps = 8;  // of the tree walk

std::string tag_or(const std::map<std::string, std::string>& tags, const std::string& name, std::string otherwise) {
  const auto found = tags.find(name);
  return found == tags.end() ? otherwise : found->second;
}

std::string without_blanks(std::string text) {
  std::erase_if(text, [](char c) { return c == ' ' || c == '\t'; });
  return text;
}

bool known_policy(std::string_view text) {
  return text == "none" || text == "quarantine" || text == "reject";
}

std::string parent_of(std::string_view domain) {
  const std::size_t dot = domain.find('.');
  return dot == std::string_view::npos ? std::string() : std::string(domain.substr(dot + 1));
}

}  // namespace

std::optional<std::map<std::string, std::string>> parse_tags(std::string_view text) {
  std::map<std::string, std::string> out;
  while (!smtp::trim(text).empty()) {
    const std::size_t end = std::min(text.find(';'), text.size());
    const std::string_view tag = smtp::trim(text.substr(0, end));
    text.remove_prefix(std::min(text.size(), end + 1));
    const std::size_t equals = tag.find('=');
    if (equals == std::string_view::npos || equals == 0 || out.size() >= max_tags) return std::nullopt;
    std::string name = smtp::lower(smtp::trim(tag.substr(0, equals)));
    if (!out.emplace(std::move(name), smtp::trim(tag.substr(equals + 1))).second) return std::nullopt;
  }
  return out;
}

PublishedKey judge_dkim_records(const std::vector<std::string>& texts, std::string_view expected) {
  const auto ours = parse_tags(expected);
  std::vector<std::map<std::string, std::string>> keys;
  for (const std::string& text : texts) {
    const auto tags = parse_tags(text);
    if (tags && tags->contains("p") && tag_or(*tags, "v", "DKIM1") == "DKIM1") keys.push_back(*tags);
  }
  if (keys.empty()) return PublishedKey::missing;
  if (keys.size() > 1) return PublishedKey::several;
  const auto& key = keys.front();
  const std::string published = without_blanks(key.at("p"));
  if (published.empty()) return PublishedKey::revoked;
  const bool same = ours && published == tag_or(*ours, "p", "") && tag_or(key, "k", "rsa") == tag_or(*ours, "k", "rsa");
  return same ? PublishedKey::matches : PublishedKey::differs;
}

std::optional<DmarcRecord> find_dmarc(const std::vector<std::string>& texts) {
  std::optional<DmarcRecord> out;
  for (const std::string& text : texts) {
    // The version comes first, and its case counts.
    const std::size_t end = std::min(text.find(';'), text.size());
    const std::string version = without_blanks(text.substr(0, end));
    if (version != "v=DMARC1") continue;
    const auto tags = parse_tags(text);
    if (!tags) continue;
    if (out) return std::nullopt;
    DmarcRecord record;
    record.policy = smtp::lower(tag_or(*tags, "p", "none"));
    if (!known_policy(record.policy)) record.policy = "none";
    record.subdomain_policy = smtp::lower(tag_or(*tags, "sp", record.policy));
    if (!known_policy(record.subdomain_policy)) record.subdomain_policy = record.policy;
    record.strict_dkim = smtp::iequals(tag_or(*tags, "adkim", "r"), "s");
    record.strict_spf = smtp::iequals(tag_or(*tags, "aspf", "r"), "s");
    const std::string psd = smtp::lower(tag_or(*tags, "psd", "u"));
    if (psd == "y" || psd == "n") record.psd = psd.front();
    out = record;
  }
  return out;
}

std::vector<std::string> dmarc_walk(std::string_view domain) {
  std::vector<std::string> out{smtp::lower(domain)};
  std::string name = parent_of(out.front());
  // A domain of more than eight labels: the walk goes on with the last seven.
  while (std::ranges::count(name, '.') > static_cast<std::ptrdiff_t>(max_steps) - 2) name = parent_of(name);
  for (; !name.empty() && out.size() < max_steps; name = parent_of(name)) out.push_back(name);
  return out;
}

std::optional<DmarcPolicy> discover_dmarc(const std::vector<std::string>& walk,
                                          const std::vector<std::optional<DmarcRecord>>& records) {
  if (!records.empty() && records.front()) return DmarcPolicy{records.front()->policy, walk.front(), *records.front()};
  // The organizational domain: one that says so, else the one with the fewest labels that has a record. A public suffix's own
  // record is for the domains below it that have none.
  std::optional<std::size_t> chosen;
  for (std::size_t i = 1; i < records.size() && i < walk.size(); ++i) {
    if (!records[i]) continue;
    if (records[i]->psd == 'y' && chosen) break;
    chosen = i;
    if (records[i]->psd != 'u') break;
  }
  if (!chosen) return std::nullopt;
  const DmarcRecord& record = *records[*chosen];
  return DmarcPolicy{record.subdomain_policy, walk[*chosen], record};
}

}  // namespace egret::routing
