// A message whose client waits for the receivers' verdict (`accept: pass-through`).
//
// The dispatchers settle each recipient instead of scheduling, holding or reporting it; when all are settled the
// session that waits gets the results and decides what the client is told.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "relay/runtime/operation.hpp"
#include "routing/route.hpp"
#include "smtp/reply.hpp"

namespace egret::relay {

/// What a message keeps to at its next attempt.
struct Keep {
  std::optional<routing::EgressRef> sticky;
  bool strict = false;     ///< also while that egress is out of service
  bool ambiguous = false;  ///< it may have been delivered
};

/// How it ended for one recipient.
struct Settled {
  enum class End { open, delivered, failed, deferred };
  End end = End::open;
  smtp::Reply reply;  ///< the receiver's, or one of our own making
  std::string host;   ///< who said it; empty for our own
  Keep keep;          ///< for `deferred`, should Egret take the rest over
};

/// What the client is told, and what Egret must take over.
struct PassThroughAnswer {
  int code = 250;
  std::string text;                     ///< lines joined by '\n', without the code
  std::vector<std::uint32_t> deferred;  ///< recipients to spool before `250`
  std::vector<std::uint32_t> failed;    ///< recipients to report to the sender
};

/// The rule of the design: one delivered makes it 250, and the rest is ours; otherwise one temporary refusal makes it
/// 4xx and the client keeps all; otherwise the first refusal's own words. A 421 becomes 451: it is not our session
/// that ends.
PassThroughAnswer answer_of(const std::vector<Settled>& results, const std::string& id);

class PassThrough {
 public:
  /// `executor` is the waiting session's.
  PassThrough(boost::asio::any_io_executor executor, std::size_t recipients)
      : executor_(std::move(executor)), results_(recipients), open_(recipients) {}

  /// From any thread. What was settled before stays as it is.
  void settle(const std::vector<std::uint32_t>& recipients, const Settled& how);
  /// Everything that is open is deferred with this reply ("451 4.3.2 ...").
  void give_up(const std::string& reply);
  /// Once, on the executor.
  boost::asio::awaitable<std::vector<Settled>> wait();

 private:
  void settle_one(std::size_t index, const Settled& how);
  void finish_if_done();

  boost::asio::any_io_executor executor_;
  std::mutex mutex_;
  std::vector<Settled> results_;
  std::size_t open_;
  OperationPtr<std::vector<Settled>> waiting_;
};

}  // namespace egret::relay
