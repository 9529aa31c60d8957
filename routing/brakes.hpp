// The brakes: what a listing usually starts with is one compromised account, and this is where it is told from others.
//
// Two memories, both values with bounded size and time as an argument; not thread-safe, each has one owner.
//   Usual  what is usual for a user (or, where nobody logged in, a client network and a sender domain), in recipients an
//          hour: mean and peak, both weighted exponentially; and what is an unusual rise.
//   Judge  what became of each user's mail: who is slowed, and who is suspended. Counts and shares have to be reached
//          both, so that three bad addresses of a small sender mean nothing; and trouble that most users share (a
//          receiver's outage, a listed source) is not held against any of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "routing/budget.hpp"
#include "routing/types.hpp"

namespace egret::routing {

/// Who sends, in the ways in which it is counted. `user` is who logged in, `sender` an envelope address.
enum class SenderKind : std::uint8_t { user, sender, domain, network };
inline constexpr std::size_t sender_kinds = 4;
std::string_view to_string(SenderKind kind);
std::optional<SenderKind> parse_sender_kind(std::string_view name);

/// The /24 or /64 of a client's address as text; the text itself where it is no address.
std::string network_of(std::string_view client);

// ---- what is usual -----------------------------------------------------------------------------------------------

struct UsualPolicy {
  enum class Action { alert, slow, suspend };
  double factor = 5;                             ///< times the usual peak hour
  std::uint64_t least = 100;                     ///< recipients in an hour below which nothing is a rise; 0: never look
  Duration learn{std::chrono::hours(7 * 24)};    ///< nothing is unusual to whoever has just begun to watch
  Duration memory{std::chrono::hours(14 * 24)};  ///< time constant of mean and peak
  Action action = Action::alert;
  std::size_t max_keys = 100'000;
};
std::optional<UsualPolicy::Action> parse_usual_action(std::string_view name);

/// A sudden rise. Told once a day for each key.
struct Rise {
  std::uint64_t recipients = 0;  ///< in this hour so far
  double peak = 0;               ///< usual
  double mean = 0;
};

struct UsualMemory {
  struct Entry {
    Time hour{};                   ///< that `recipients` is of; aligned to 1970-01-01T00:00Z
    std::uint64_t recipients = 0;  ///< in it so far
    double mean = 0;               ///< of the hours before
    double peak = 0;
    Time told{};
    bool operator==(const Entry&) const = default;
  };
  Time since{};  ///< when watching began
  std::map<std::pair<SenderKind, std::string>, Entry> entries;
  bool operator==(const UsualMemory&) const = default;
};

class Usual {
 public:
  explicit Usual(UsualPolicy policy = {}, UsualMemory memory = {}) : policy_(policy), memory_(std::move(memory)) {}

  /// Recipients were accepted. What rises is learned with a limit: an attack does not become what is usual.
  std::optional<Rise> count(SenderKind kind, const std::string& name, std::uint64_t recipients, Time now);
  const UsualMemory::Entry* find(SenderKind kind, const std::string& name) const;
  const UsualMemory& memory() const { return memory_; }

 private:
  void turn(UsualMemory::Entry& entry, Time now) const;
  void make_room();

  UsualPolicy policy_;
  UsualMemory memory_;
};

// ---- what became of it -------------------------------------------------------------------------------------------

/// What receivers said to a user's mail, in recipients. Each counts once, not once an attempt.
struct UserOutcomes {
  std::uint64_t delivered = 0;
  std::uint64_t unknown = 0;     ///< no such recipient or domain (label `recipient`)
  std::uint64_t content = 0;     ///< refused for what is in it (label `content`)
  std::uint64_t blocked = 0;     ///< after DATA: the source was blamed for it (label `ip_blocked`)
  std::uint64_t other = 0;       ///< refused for good for any other reason
  std::uint64_t complaints = 0;  ///< recipients who called it spam; they had been delivered

  std::uint64_t bad() const { return unknown + content + blocked; }
  std::uint64_t total() const { return delivered + bad() + other; }
  void add(const UserOutcomes& more);
  bool operator==(const UserOutcomes&) const = default;
};

/// Both the share and one of the counts have to be reached. A count of 0: never.
struct BrakeStep {
  double share = 0;              ///< of a user's recipients that are bad()
  std::uint64_t hour = 0;        ///< such recipients within an hour
  std::uint64_t day = 0;         ///< within a day
  double complaint_share = 0;    ///< of those delivered
  std::uint64_t complaints = 0;  ///< within a day
};

struct JudgePolicy {
  BrakeStep slow{0.10, 50, 250, 0.003, 20};
  BrakeStep suspend{0.30, 200, 1000, 0.01, 100};
  Duration slow_for{std::chrono::hours(1)};  ///< without a further reason, after which a slowed user is free again
  std::size_t max_users = 100'000;
};

enum class UserState : std::uint8_t { free, slowed, suspended };
std::string_view to_string(UserState state);

/// Counts of the period that runs and of the one before it: what lies within the last `per` is their weighted sum.
struct OutcomeWindow {
  Time start{};
  UserOutcomes current, previous;
  void turn(Duration per, Time now);
  UserOutcomes within(Duration per, Time now) const;
  bool operator==(const OutcomeWindow&) const = default;
};

struct JudgedUser {
  OutcomeWindow hour, day;
  UserState state = UserState::free;
  std::string reason;   ///< of the state
  bool manual = false;  ///< an operator's order: holds also where the brakes only observe
  Time since{};
  Time reason_seen{};  ///< the last time that there was reason to slow him
  Time touched{};
  bool operator==(const JudgedUser&) const = default;
};

struct UserChange {
  std::string user;
  UserState from = UserState::free;
  UserState to = UserState::free;
  std::string reason;
};

class Judge {
 public:
  using Users = std::map<std::string, JudgedUser, std::less<>>;
  explicit Judge(JudgePolicy policy = {}, Users users = {}) : policy_(policy), users_(std::move(users)) {}

  /// What came of some of the user's mail, and what that changes for him.
  std::optional<UserChange> count(std::string_view user, const UserOutcomes& outcomes, Time now);
  /// Slows or suspends him in any case (an operator, an unusual rise); nullopt when he is so already, or worse.
  std::optional<UserChange> restrict(std::string_view user, UserState state, std::string reason, bool manual, Time now);
  /// Lets him go; what came of his mail is forgotten. Nullopt: he was free.
  std::optional<UserChange> resume(std::string_view user, Time now);
  /// Slowed users who gave no further reason for long enough are free again.
  std::vector<UserChange> age(Time now);

  const Users& users() const { return users_; }

 private:
  JudgedUser& user_of(std::string_view user, Time now);
  std::optional<std::string> reaches(const std::string& user, JudgedUser& judged, const BrakeStep& step, Time now) const;
  std::optional<std::string> too_bad(const std::string& user, const UserOutcomes& seen, std::uint64_t least, double share,
                                     bool within_hour, Time now) const;
  void make_room();

  JudgePolicy policy_;
  Users users_;
};

/// As JSON text, and back; nullopt when the text is none of ours. Points in the future are read as `now`.
std::string encode_usual(const UsualMemory& memory);
std::optional<UsualMemory> decode_usual(std::string_view text, Time now);
std::string encode_users(const Judge::Users& users);
std::optional<Judge::Users> decode_users(std::string_view text, Time now);

}  // namespace egret::routing
