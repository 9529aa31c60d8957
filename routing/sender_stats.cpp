#include "routing/sender_stats.hpp"

#include <algorithm>
#include <boost/json.hpp>
#include <exception>
#include <numeric>

namespace egret::routing {
namespace {

namespace json = boost::json;

/// The count of a name; of nobody, where there are too many names.
template <typename T>
T& slot(Tally::Names<T>& names, std::string_view name) {
  const auto it = names.find(name);
  if (it != names.end()) return it->second;
  if (names.size() >= Tally::max_names) name = "(others)";
  return names[std::string(name)];
}

std::array<std::string_view, sender_kinds> names_of(const SenderOf& who) {
  return {who.user, who.sender, who.domain, who.network};
}

std::uint64_t rank(const SenderCounts& c) {
  return c.recipients + c.delivered + c.bounced + c.rejected() + c.complaints;
}

/// The small ones of a full hour become one sum.
void fold_small(SenderStats::Hour::Kind& kind) {
  if (kind.names.size() <= 2 * SenderStats::names_kept) return;
  std::vector<std::uint64_t> ranks;
  for (const auto& [name, counts] : kind.names) ranks.push_back(rank(counts));
  std::ranges::nth_element(ranks, ranks.begin() + SenderStats::names_kept, std::greater{});
  const std::uint64_t limit = ranks[SenderStats::names_kept];
  std::size_t kept = 0;
  for (auto it = kind.names.begin(); it != kind.names.end();) {
    if (rank(it->second) > limit && kept < SenderStats::names_kept) {
      ++kept;
      ++it;
      continue;
    }
    kind.others.add(it->second);
    it = kind.names.erase(it);
  }
}

json::array encode(const SenderCounts& c) {
  json::array out{c.messages, c.recipients, c.delivered, c.bounced, c.complaints};
  for (const auto n : c.rejects) out.emplace_back(n);
  return out;
}

SenderCounts decode_counts(const json::value& value) {
  const json::array& a = value.as_array();
  const auto at = [&](std::size_t i) { return a.at(i).to_number<std::uint64_t>(); };
  SenderCounts out{at(0), at(1), at(2), at(3), at(4), {}};
  for (std::size_t i = 0; i < std::min(label_count, a.size() - 5); ++i) out.rejects[i] = at(5 + i);
  return out;
}

void add_hour(SenderRow& row, Time hour, const SenderCounts& counts) {
  row.total.add(counts);
  if (!row.hours.empty() && row.hours.back().first == hour)
    row.hours.back().second.add(counts);
  else
    row.hours.emplace_back(hour, counts);
}

}  // namespace

void SenderCounts::add(const SenderCounts& more) {
  messages += more.messages;
  recipients += more.recipients;
  delivered += more.delivered;
  bounced += more.bounced;
  complaints += more.complaints;
  for (std::size_t i = 0; i < label_count; ++i) rejects[i] += more.rejects[i];
}

std::uint64_t SenderCounts::rejected() const {
  return std::accumulate(rejects.begin(), rejects.end(), std::uint64_t{0});
}

void Tally::accepted(const SenderOf& who, std::uint64_t recipients) {
  const auto names = names_of(who);
  for (std::size_t i = 0; i < sender_kinds; ++i) {
    SenderCounts& counts = slot(by_kind[i], names[i]);
    ++counts.messages;
    counts.recipients += recipients;
  }
  if (!who.user.empty() || strangers.size() >= max_names) return;
  strangers[{SenderKind::network, std::string(who.network)}] += recipients;
  if (!who.domain.empty()) strangers[{SenderKind::domain, std::string(who.domain)}] += recipients;
}

void Tally::outcome(const SenderOf& who, const SenderCounts& counts, const UserOutcomes& outcomes) {
  const auto names = names_of(who);
  for (std::size_t i = 0; i < sender_kinds; ++i) slot(by_kind[i], names[i]).add(counts);
  if (who.user.empty() || outcomes == UserOutcomes{}) return;
  if (outcomes_of.size() < max_names || outcomes_of.contains(who.user)) slot(outcomes_of, who.user).add(outcomes);
}

void SenderStats::add(const Tally& tally, Time now) {
  const Time present = std::chrono::floor<std::chrono::hours>(now);
  Hour& hour = hours_[present];
  for (std::size_t i = 0; i < sender_kinds; ++i) {
    for (const auto& [name, counts] : tally.by_kind[i]) hour.kinds[i].names[name].add(counts);
    fold_small(hour.kinds[i]);
  }
  while (hours_.size() > hours_kept) hours_.erase(hours_.begin());
}

SenderReport SenderStats::report(SenderKind kind, std::size_t hours, std::size_t limit, Time now) const {
  const Time first = std::chrono::floor<std::chrono::hours>(now) - std::chrono::hours(std::max<std::size_t>(hours, 1) - 1);
  std::map<std::string_view, SenderRow> rows;
  SenderReport out;
  for (const auto& [hour, data] : hours_) {
    if (hour < first) continue;
    const Hour::Kind& of = data.kinds[static_cast<std::size_t>(kind)];
    for (const auto& [name, counts] : of.names) {
      add_hour(rows[name], hour, counts);
      add_hour(out.all, hour, counts);
    }
    if (of.others == SenderCounts{}) continue;
    add_hour(out.others, hour, of.others);
    add_hour(out.all, hour, of.others);
  }
  for (auto& [name, row] : rows) {
    row.name = name;
    out.top.push_back(std::move(row));
  }
  std::ranges::stable_sort(out.top, std::greater{}, [](const SenderRow& row) { return rank(row.total); });
  for (std::size_t i = limit; i < out.top.size(); ++i) out.others.total.add(out.top[i].total);
  if (out.top.size() > limit) out.top.resize(limit);
  return out;
}

std::string encode_hour(const SenderStats::Hour& hour) {
  json::array kinds;
  for (const auto& kind : hour.kinds) {
    json::object names;
    for (const auto& [name, counts] : kind.names) names[name] = encode(counts);
    kinds.push_back(json::array{std::move(names), encode(kind.others)});
  }
  return json::serialize(kinds);
}

std::optional<SenderStats::Hour> decode_hour(std::string_view text) {
  try {
    json::parse_options options;
    options.allow_invalid_utf8 = true;  // addresses are octets
    const json::value value = json::parse(text, {}, options);
    SenderStats::Hour out;
    for (std::size_t i = 0; i < sender_kinds; ++i) {
      const json::array& kind = value.as_array().at(i).as_array();
      for (const auto& [name, counts] : kind.at(0).as_object()) out.kinds[i].names[std::string(name)] = decode_counts(counts);
      out.kinds[i].others = decode_counts(kind.at(1));
    }
    return out;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace egret::routing
