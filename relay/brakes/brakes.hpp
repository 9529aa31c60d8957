// The brakes at work: what routing/brakes.hpp decides is fed, carried out, told and saved here.
//
// Workers only count (into tallies of their own, which the control thread collects four times a second) and ask, which
// is one atomic read while nobody is restricted. All deciding is the control thread's.
#pragma once

#include <array>
#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "config/brakes.hpp"
#include "relay/reputation/events.hpp"
#include "relay/spool/format.hpp"
#include "relay/state/kept.hpp"
#include "routing/brakes.hpp"
#include "routing/poison.hpp"
#include "routing/sender_stats.hpp"

namespace egret::relay {

/// A user of whom something is known, for the API.
struct BrakesUser {
  std::string name;
  routing::UserState state = routing::UserState::free;
  bool observed = false;  ///< the state is only what it would be: nothing is enforced
  bool manual = false;    ///< an operator's order
  std::string reason;
  std::optional<routing::Time> since;
  routing::UserOutcomes hour, day;
  std::uint64_t recipients = 0;  ///< accepted in this hour
  double usual_peak = 0;         ///< recipients in an hour
  double usual_mean = 0;
};

class Brakes final : public Kept {
 public:
  /// Somebody's state is another. On the control thread; `reason` is that of a hold.
  using Listener = std::function<void(const std::string& user, routing::UserState state, const std::string& reason)>;

  /// `control` is the control thread's. All must outlive it.
  Brakes(const boost::asio::any_io_executor& control, const config::Config& config, Events& events);

  // Any thread.

  /// What stands between a user and his next message: state and reason. Nullopt, after one atomic read, for most.
  struct Barrier {
    routing::UserState state = routing::UserState::free;
    std::string reason;
  };
  std::optional<Barrier> barrier(std::string_view user) const;
  /// Whether a waiting message of the user may be tried now; a slowed user's turn is taken by asking.
  routing::Admission admit(std::string_view user);
  /// The reason of a hold while the user is suspended.
  std::optional<std::string> suspended(std::string_view user) const;

  void accepted(const spool::Message& message);
  /// `counts` is for "who sends what", `outcomes` what speaks for or against the user.
  void outcome(const spool::Message& message, const routing::SenderCounts& counts, const routing::UserOutcomes& outcomes);
  /// A recipient called a delivered message spam. `user` and `sender` as in its envelope, empty where they are not known.
  void complained(std::string_view user, std::string_view sender, std::uint64_t recipients = 1);
  /// A smarthost took a message and found out later that there is no such recipient.
  void bounced_later(std::string_view user, std::string_view sender, std::uint64_t recipients = 1);
  /// A rate is exceeded until then: told once for each name, rate and period. `what` is "user joe may send to ...".
  void over_rate(std::string_view rule, std::string_view name, const std::string& what, routing::Time until, bool enforced);

  // Control thread.

  void on_change(Listener listener) { listener_ = std::move(listener); }
  void configure(const config::Config& config);
  void start();
  /// Collects what was counted last; what is saved after this is everything.
  void stop();
  /// False: he is suspended already.
  bool suspend(const std::string& user);
  /// False: he was neither slowed nor suspended.
  bool resume(const std::string& user);
  /// By state, the worst first; then by name.
  std::vector<BrakesUser> users(std::size_t limit) const;
  routing::SenderReport report(routing::SenderKind kind, std::size_t hours, std::size_t limit) const;

  std::string_view kind() const override { return "brakes"; }
  void restore(const std::string& name, const std::string& value) override;
  std::vector<KeptRow> take_changed(bool all) override;

  /// The reason of holds of a suspended user's mail begins with this.
  static std::string hold_reason(std::string_view user);

 private:
  struct Shard {
    std::mutex mutex;
    routing::Tally tally;
  };
  struct Restricted {
    routing::UserState state = routing::UserState::free;
    std::string reason;
    routing::Time next{};    ///< when slowed: the next turn
    routing::Time queued{};  ///< turns were promised up to here
  };

  void heard_of(std::string_view user, std::string_view sender, const routing::SenderCounts& counts,
                const routing::UserOutcomes& outcomes);
  template <typename Count>
  void count(std::string_view user, std::string_view sender, std::string_view domain, std::string_view client, Count add);
  void look();
  void collect();
  void rise(routing::SenderKind kind, const std::string& name, const routing::Rise& rise);
  void changed(const routing::UserChange& change, std::string rule);
  void enforce(const std::string& user, const routing::JudgedUser* judged);
  void enforce_all();
  bool bites(const routing::JudgedUser& judged) const {
    return judged.state != routing::UserState::free && (!config_.observe || judged.manual);
  }
  void tell(Event event);

  boost::asio::any_io_executor control_;
  Events& events_;
  boost::asio::steady_timer timer_;
  config::Brakes config_;
  Listener listener_;
  routing::Usual usual_;
  routing::Judge judge_;
  routing::SenderStats stats_;
  std::array<Shard, 16> shards_;

  mutable std::mutex mutex_;  ///< guards what follows
  std::map<std::string, Restricted, std::less<>> restricted_;
  routing::Budget slow_rate_;
  std::map<std::string, routing::Time> told_;  ///< rates that were told to be exceeded, until when

  std::atomic<std::size_t> restrictions_{0};
  bool users_changed_ = false;
  bool counted_ = false;
  bool last_ = false;
  std::set<routing::Time> hours_changed_;
  std::set<std::string> hours_saved_;
  routing::Time saved_{}, usual_saved_{};
};

}  // namespace egret::relay
