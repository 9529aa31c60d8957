#include "routing/brakes.hpp"

#include <algorithm>
#include <cmath>

#include "routing/address.hpp"

namespace egret::routing {
namespace {

using namespace std::chrono_literals;

constexpr Duration hour = 1h, day = 24h;
constexpr std::array<std::string_view, sender_kinds> kind_names{"user", "sender", "domain", "network"};
constexpr std::array<std::string_view, 3> action_names{"alert", "slow", "suspend"};
constexpr double learned_rise = 2;               // times the peak: the most that one unusual hour adds to it
constexpr std::uint64_t enough_to_compare = 20;  // outcomes of another user within an hour or day that make him a witness
constexpr std::size_t most_witnesses = 1000;
constexpr std::size_t witnesses = 2;  // that it takes to call a trouble everybody's

Time hour_of(Time now) {
  return std::chrono::floor<std::chrono::hours>(now);
}

double share_of(std::uint64_t part, std::uint64_t whole) {
  return whole == 0 ? 0 : static_cast<double>(part) / static_cast<double>(whole);
}

/// Forgets a tenth of a full map's entries: the least by `rank`.
template <typename Map, typename Rank>
void forget_tenth(Map& map, Rank rank) {
  using Key = decltype(rank(*map.begin()));
  std::vector<Key> ranks;
  ranks.reserve(map.size());
  for (const auto& entry : map) ranks.push_back(rank(entry));
  const auto limit = ranks.begin() + static_cast<std::ptrdiff_t>(ranks.size() / 10);
  std::ranges::nth_element(ranks, limit);
  std::size_t most = map.size() / 10 + 1;
  for (auto it = map.begin(); it != map.end() && most > 0;) {
    if (*limit < rank(*it)) {
      ++it;
      continue;
    }
    it = map.erase(it);
    --most;
  }
}

void append_count(std::string& out, std::uint64_t n, std::string_view what) {
  if (n == 0) return;
  out += (out.empty() ? "" : ", ") + std::to_string(n) + ' ' + std::string(what);
}

std::string describe(const UserOutcomes& seen, bool within_hour) {
  std::string parts;
  append_count(parts, seen.unknown, "do not exist");
  append_count(parts, seen.content, "refused the content");
  append_count(parts, seen.blocked, "blocked the source");
  return std::to_string(seen.bad()) + " of " + std::to_string(seen.total()) + " recipients within " +
         (within_hour ? "an hour" : "a day") + " were refused: " + parts;
}

UserOutcomes scaled(const UserOutcomes& o, double by) {
  const auto part = [by](std::uint64_t n) { return static_cast<std::uint64_t>(static_cast<double>(n) * by); };
  return {part(o.delivered), part(o.unknown), part(o.content), part(o.blocked), part(o.other), part(o.complaints)};
}

}  // namespace

std::string_view to_string(SenderKind kind) {
  return kind_names[static_cast<std::size_t>(kind)];
}

std::optional<SenderKind> parse_sender_kind(std::string_view name) {
  const auto it = std::ranges::find(kind_names, name);
  if (it == kind_names.end()) return std::nullopt;
  return static_cast<SenderKind>(it - kind_names.begin());
}

std::optional<UsualPolicy::Action> parse_usual_action(std::string_view name) {
  const auto it = std::ranges::find(action_names, name);
  if (it == action_names.end()) return std::nullopt;
  return static_cast<UsualPolicy::Action>(it - action_names.begin());
}

std::string_view to_string(UserState state) {
  constexpr std::array<std::string_view, 3> names{"free", "slowed", "suspended"};
  return names[static_cast<std::size_t>(state)];
}

std::string network_of(std::string_view client) {
  const auto address = IpAddress::parse(client);
  if (!address) return std::string(client);
  IpAddress base = address->unmapped().customer();
  if (!base.v6) base.bytes[3] = 0;
  return base.to_string() + (base.v6 ? "/64" : "/24");
}

// ---- what is usual -----------------------------------------------------------------------------------------------

/// Closes the hours that have ended since the entry was last counted.
void Usual::turn(UsualMemory::Entry& entry, Time now) const {
  const Time present = hour_of(now);
  if (entry.hour == present) return;
  if (entry.hour > present || entry.hour == Time{}) {  // new, or the clock was set back
    entry.hour = present;
    entry.recipients = 0;
    return;
  }
  const double keep = std::exp(-1.0 / std::max(1.0, static_cast<double>(policy_.memory / hour)));
  const double most = std::max(entry.peak * learned_rise, static_cast<double>(policy_.least));
  const double seen = std::min(static_cast<double>(entry.recipients), most);
  entry.mean = keep * entry.mean + (1 - keep) * seen;
  entry.peak = std::max(seen, keep * entry.peak);
  const double idle = std::pow(keep, static_cast<double>((present - entry.hour) / hour - 1));
  entry.mean *= idle;
  entry.peak *= idle;
  entry.hour = present;
  entry.recipients = 0;
}

std::optional<Rise> Usual::count(SenderKind kind, const std::string& name, std::uint64_t recipients, Time now) {
  if (policy_.least == 0 || recipients == 0) return std::nullopt;
  if (memory_.since == Time{} || memory_.since > now) memory_.since = now;
  if (memory_.entries.size() >= policy_.max_keys && !memory_.entries.contains({kind, name})) make_room();
  UsualMemory::Entry& entry = memory_.entries[{kind, name}];
  turn(entry, now);
  entry.recipients += recipients;
  const double limit = std::max(static_cast<double>(policy_.least), policy_.factor * std::max(entry.peak, entry.mean));
  if (static_cast<double>(entry.recipients) < limit || now - memory_.since < policy_.learn) return std::nullopt;
  if (entry.told != Time{} && entry.told <= now && now - entry.told < day) return std::nullopt;
  entry.told = now;
  return Rise{entry.recipients, entry.peak, entry.mean};
}

const UsualMemory::Entry* Usual::find(SenderKind kind, const std::string& name) const {
  const auto it = memory_.entries.find({kind, name});
  return it == memory_.entries.end() ? nullptr : &it->second;
}

/// Those who never sent much go first, so that invented names do not push out the ones that matter; then the longest quiet.
void Usual::make_room() {
  const double much = std::max(1.0, static_cast<double>(policy_.least) / 10);
  forget_tenth(memory_.entries, [much](const auto& e) {
    return std::pair(e.second.peak >= much || static_cast<double>(e.second.recipients) >= much, e.second.hour);
  });
}

// ---- what became of it -------------------------------------------------------------------------------------------

void UserOutcomes::add(const UserOutcomes& more) {
  delivered += more.delivered;
  unknown += more.unknown;
  content += more.content;
  blocked += more.blocked;
  other += more.other;
  complaints += more.complaints;
}

void OutcomeWindow::turn(Duration per, Time now) {
  if (start <= now && now < start + per) return;
  const bool next = start <= now && now < start + 2 * per;
  previous = next ? current : UserOutcomes{};
  current = {};
  start = next ? start + per : now;
}

UserOutcomes OutcomeWindow::within(Duration per, Time now) const {
  OutcomeWindow present = *this;
  present.turn(per, now);
  const double passed = static_cast<double>((now - present.start).count()) / static_cast<double>(per.count());
  UserOutcomes out = present.current;
  out.add(scaled(present.previous, std::clamp(1 - passed, 0.0, 1.0)));
  return out;
}

JudgedUser& Judge::user_of(std::string_view user, Time now) {
  auto it = users_.find(user);
  if (it == users_.end()) {
    if (users_.size() >= policy_.max_users) make_room();
    it = users_.emplace(std::string(user), JudgedUser{}).first;
  }
  it->second.touched = now;
  return it->second;
}

/// The longest quiet of those who are free: nobody gets away by being forgotten, unless all are restricted.
void Judge::make_room() {
  forget_tenth(users_, [](const auto& e) { return std::pair(e.second.state, e.second.touched); });
}

std::optional<UserChange> Judge::count(std::string_view name, const UserOutcomes& outcomes, Time now) {
  if (name.empty()) return std::nullopt;
  JudgedUser& user = user_of(name, now);
  user.hour.turn(hour, now);
  user.day.turn(day, now);
  user.hour.current.add(outcomes);
  user.day.current.add(outcomes);
  if (user.state == UserState::suspended || (outcomes.bad() == 0 && outcomes.complaints == 0)) return std::nullopt;
  const std::string key(name);
  if (auto reason = reaches(key, user, policy_.suspend, now))
    return restrict(name, UserState::suspended, std::move(*reason), false, now);
  if (auto reason = reaches(key, user, policy_.slow, now))
    return restrict(name, UserState::slowed, std::move(*reason), false, now);
  return std::nullopt;
}

/// Why the step is reached; nullopt when it is not.
std::optional<std::string> Judge::reaches(const std::string& name, JudgedUser& user, const BrakeStep& step, Time now) const {
  const UserOutcomes in_hour = user.hour.within(hour, now), in_day = user.day.within(day, now);
  if (auto why = too_bad(name, in_hour, step.hour, step.share, true, now)) return why;
  if (auto why = too_bad(name, in_day, step.day, step.share, false, now)) return why;
  if (step.complaints == 0 || in_day.complaints < step.complaints) return std::nullopt;
  if (share_of(in_day.complaints, std::max(in_day.delivered, in_day.complaints)) < step.complaint_share) return std::nullopt;
  return std::to_string(in_day.complaints) + " of " + std::to_string(std::max(in_day.delivered, in_day.complaints)) +
         " recipients within a day complained of spam";
}

std::optional<std::string> Judge::too_bad(const std::string& name, const UserOutcomes& seen, std::uint64_t least, double share,
                                          bool within_hour, Time now) const {
  const auto enough = [&](const UserOutcomes& o) { return o.bad() >= least && share_of(o.bad(), o.total()) >= share; };
  if (least == 0 || !enough(seen)) return std::nullopt;
  std::size_t others = 0, as_bad = 0, as_blocked = 0;
  for (const auto& [other, judged] : users_) {
    if (other == name) continue;
    const UserOutcomes o = within_hour ? judged.hour.within(hour, now) : judged.day.within(day, now);
    if (o.total() < enough_to_compare) continue;
    if (others == most_witnesses) break;
    ++others;
    if (share_of(o.bad(), o.total()) >= share) ++as_bad;
    if (share_of(o.blocked, o.total()) >= share) ++as_blocked;
  }
  if (others >= witnesses && as_bad * 2 > others) return std::nullopt;
  // A block blames the source. Only where the others' mail goes through is it the user who gets it blocked.
  if (others > 0 && as_blocked * 2 < others) return describe(seen, within_hour);
  UserOutcomes own = seen;
  own.blocked = 0;
  own.other += seen.blocked;
  if (!enough(own)) return std::nullopt;
  return describe(own, within_hour);
}

std::optional<UserChange> Judge::restrict(std::string_view name, UserState state, std::string reason, bool manual, Time now) {
  JudgedUser& user = user_of(name, now);
  user.reason_seen = now;
  if (user.state >= state) {
    user.manual = user.manual || (manual && user.state == state);
    return std::nullopt;
  }
  const UserState from = std::exchange(user.state, state);
  user.reason = std::move(reason);
  user.manual = manual;
  user.since = now;
  return UserChange{std::string(name), from, state, user.reason};
}

std::optional<UserChange> Judge::resume(std::string_view name, Time now) {
  const auto it = users_.find(name);
  if (it == users_.end() || it->second.state == UserState::free) return std::nullopt;
  const UserState from = it->second.state;
  it->second = {};
  it->second.touched = now;
  return UserChange{std::string(name), from, UserState::free, ""};
}

std::vector<UserChange> Judge::age(Time now) {
  std::vector<UserChange> out;
  for (auto& [name, user] : users_) {
    if (user.state != UserState::slowed || user.manual) continue;
    if (user.reason_seen > now) user.reason_seen = now;
    if (now - user.reason_seen < policy_.slow_for) continue;
    user.state = UserState::free;
    user.reason.clear();
    out.push_back({name, UserState::slowed, UserState::free, "no further reason for " + to_string(policy_.slow_for)});
  }
  return out;
}

}  // namespace egret::routing
