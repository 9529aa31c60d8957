// What is known beforehand of smarthosts: which sender domains are prepared there, whether the login works, and what became of
// the canaries. It is filled by readiness_watch, published with the snapshot by the owner of the standings, and saved in
// state.db, so that a restart forgets nothing and no login is tried again for it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "relay/reputation/events.hpp"
#include "routing/account.hpp"
#include "routing/readiness.hpp"

namespace egret::relay {

/// The domains that send, by the envelope: the one name of a sender that routing knows. Bounded: while it is full of
/// domains that sent within the hour, new ones are not taken in, so that forged senders drive nobody out.
class SeenSenders {
 public:
  static constexpr std::size_t most = 1000;

  /// Any thread; some nanoseconds for a domain that is known.
  void add(std::string_view domain, routing::Time now);
  /// Those that sent within the last fourteen days.
  std::vector<std::string> recent(routing::Time now);

 private:
  bool make_room(routing::Time now);

  std::mutex mutex_;
  std::map<std::string, routing::Time, std::less<>> seen_;
  routing::Time full_until_{};
};

struct DomainReadiness {
  bool ready = true;
  std::string reason;  ///< what is missing; may be there for a ready one, too: it does not matter yet
  std::string advice;
  std::optional<routing::Time> checked;  ///< when DNS last answered
  routing::Time due{};                   ///< the next check
};

/// A canary or a login: the last one of each outcome.
struct Trial {
  std::optional<routing::Time> worked;
  std::optional<routing::Time> failed;
  std::string text;  ///< of the last one

  bool failing() const { return failed && (!worked || *worked < *failed); }
};

struct SmarthostReadiness {
  std::map<std::string, DomainReadiness, std::less<>> domains;
  Trial login;
  Trial canary;
};

/// Control thread, but for `seen`.
class ReadinessBook {
 public:
  ReadinessBook(std::shared_ptr<const config::Config> config, Events& events);

  SeenSenders seen;

  void configure(std::shared_ptr<const config::Config> config);
  const SmarthostReadiness& smarthost(std::uint32_t index) const { return hosts_[index]; }
  /// What is to be checked: domains that are signed for, configured, or seen. Those that are gone are forgotten.
  std::vector<std::string> domains(std::uint32_t smarthost, routing::Time now);
  /// The outcome of a check; without a verdict the last one stays. Changes are events. `due` is the next check.
  void checked(std::uint32_t smarthost, const std::string& domain, const routing::ReadinessVerdict& verdict, routing::Time now,
               routing::Time due);
  void login_tried(std::uint32_t smarthost, bool worked, std::string text, routing::Time now);
  void canary_returned(std::uint32_t smarthost, bool worked, std::string text, routing::Time now);
  /// All domains are due. Logins are not: tries lock accounts.
  void hurry(routing::Time now);
  /// Somebody asked for a check since the start: it does not wait for the time after the start that is kept free of them.
  bool hurried() const { return hurried_; }

  /// For the snapshot: domains that are not ready. Null: none.
  std::shared_ptr<const routing::RefusedSenders> unready(std::uint32_t smarthost) const { return unready_[smarthost]; }
  /// True once after each change of what unready() says.
  bool take_republish() { return std::exchange(republish_, false); }

  /// Whether there is something to be saved since the last call.
  bool take_changed() { return std::exchange(changed_, false); }
  std::string encode(std::uint32_t smarthost) const;
  /// Text that is none of ours is passed over.
  void restore(std::uint32_t smarthost, std::string_view text, routing::Time now);

 private:
  void rebuild(std::uint32_t smarthost);
  void tell(std::uint32_t smarthost, const std::string& domain, const DomainReadiness& found);
  void tell_canary(std::uint32_t smarthost, const Trial& canary);

  std::shared_ptr<const config::Config> config_;
  Events& events_;
  std::vector<SmarthostReadiness> hosts_;
  std::vector<std::shared_ptr<const routing::RefusedSenders>> unready_;
  bool hurried_ = false;
  bool republish_ = false;
  bool changed_ = false;
};

}  // namespace egret::relay
