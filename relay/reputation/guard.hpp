// The poison guard at work: one memory for all workers. What it decides (routing/poison.hpp) is carried out here: the
// evidence is taken back from the sources, and the operator is told. Holding the mail is the dispatchers' part.
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "relay/reputation/events.hpp"
#include "relay/reputation/owner.hpp"
#include "routing/poison.hpp"

namespace egret::relay {

/// A sender of whom something is remembered, for the API.
struct GuardedSender {
  std::string sender;
  std::string state;  ///< held, slowed, watched
  std::string reason;
  std::optional<routing::Time> since;  ///< of a hold
  std::size_t poison = 0;              ///< his poison messages
  std::size_t content = 0;             ///< messages refused for content in the present window
};

class Guard {
 public:
  /// `control` is the control thread's. All must outlive it.
  Guard(const boost::asio::any_io_executor& control, const config::Config& config, Reputation& reputation, Events& events);

  // Any thread.

  /// A message was blocked through an egress. The reason when it is to be held, now and by every worker.
  std::optional<std::string> blocked(const routing::BlockedMessage& seen);
  void refused_for_content(std::uint64_t message, std::string_view sender);
  /// One atomic read while nobody is suspect.
  void delivered(const smtp::Address& sender);
  /// Whether the sender's next message may be tried. One atomic read while nobody is suspect.
  routing::Admission admit(const smtp::Address& sender);
  /// The message was released by the operator.
  void forget(std::uint64_t message);

  // Control thread.

  void configure(const config::Config& config);
  /// False: the sender was neither held nor slowed.
  bool release(std::string_view sender);
  std::vector<GuardedSender> senders() const;
  /// What is to be saved, if anything changed since the last call, or in any case.
  std::optional<std::string> take_changed(bool in_any_case);
  void restore(std::string_view saved);

 private:
  void tell(Event event);
  void changed();

  boost::asio::any_io_executor control_;
  Reputation& reputation_;
  Events& events_;
  mutable std::mutex mutex_;
  routing::PoisonGuard guard_;
  std::atomic<bool> enforce_;
  std::atomic<std::size_t> senders_{0};  ///< of whom something is remembered
  std::atomic<bool> changed_{false};
};

}  // namespace egret::relay
