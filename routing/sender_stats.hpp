// Who sends what: counts of each hour by user, sender address, sender domain and client network, for the answer to "who
// was it". Values with bounded memory; not thread-safe.
//
//   Tally        what one worker counted since it was last asked: adding is a look-up and an addition
//   SenderStats  the hours; of each hour the largest senders by name, and the rest in one sum
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "routing/brakes.hpp"
#include "routing/types.hpp"

namespace egret::routing {

inline constexpr std::size_t label_count = static_cast<std::size_t>(Label::other) + 1;

struct SenderCounts {
  std::uint64_t messages = 0;    ///< accepted
  std::uint64_t recipients = 0;  ///< accepted
  std::uint64_t delivered = 0;   ///< recipients
  std::uint64_t bounced = 0;     ///< recipients that were given up
  std::uint64_t complaints = 0;
  std::array<std::uint64_t, label_count> rejects{};  ///< recipients' refusals by label, one for each attempt
  void add(const SenderCounts& more);
  std::uint64_t rejected() const;
  bool operator==(const SenderCounts&) const = default;
};

/// Whose mail it was. The domain is lower case; an empty user did not log in.
struct SenderOf {
  std::string_view user, sender, domain, network;
};

class Tally {
 public:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  template <typename T>
  using Names = std::unordered_map<std::string, T, Hash, std::equal_to<>>;
  static constexpr std::size_t max_names = 20'000;  ///< of a kind; what comes after them is counted as nobody's

  void accepted(const SenderOf& who, std::uint64_t recipients);
  /// `outcomes` is what counts against or for the user; `counts` is for the statistics.
  void outcome(const SenderOf& who, const SenderCounts& counts, const UserOutcomes& outcomes);

  bool empty() const { return by_kind[0].empty() && outcomes_of.empty() && strangers.empty(); }

  std::array<Names<SenderCounts>, sender_kinds> by_kind;
  Names<UserOutcomes> outcomes_of;                                        ///< users
  std::map<std::pair<SenderKind, std::string>, std::uint64_t> strangers;  ///< recipients of those who did not log in
};

struct SenderRow {
  std::string name;  ///< empty: those who did not log in, or the null sender
  SenderCounts total;
  std::vector<std::pair<Time, SenderCounts>> hours;  ///< those with anything in them, oldest first
};

struct SenderReport {
  std::vector<SenderRow> top;  ///< by recipients, most first
  SenderRow others;            ///< everybody else
  SenderRow all;
};

class SenderStats {
 public:
  static constexpr std::size_t hours_kept = 48;
  static constexpr std::size_t names_kept = 250;  ///< of each kind in an hour, at least; up to twice as many in the present one

  void add(const Tally& tally, Time now);
  SenderReport report(SenderKind kind, std::size_t hours, std::size_t limit, Time now) const;

  struct Hour {
    struct Kind {
      std::map<std::string, SenderCounts, std::less<>> names;
      SenderCounts others;
    };
    std::array<Kind, sender_kinds> kinds;
  };
  const std::map<Time, Hour>& hours() const { return hours_; }
  void restore(Time hour, Hour data) { hours_[hour] = std::move(data); }

 private:
  std::map<Time, Hour> hours_;
};

std::string encode_hour(const SenderStats::Hour& hour);
std::optional<SenderStats::Hour> decode_hour(std::string_view text);

}  // namespace egret::routing
