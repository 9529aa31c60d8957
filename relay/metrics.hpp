// Counters of the whole program. Workers add with relaxed atomics; a scrape reads them.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>

namespace egret::relay {

struct Counter {
  std::atomic<std::uint64_t> value{0};
  void add(std::uint64_t n = 1) { value.fetch_add(n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value.load(std::memory_order_relaxed); }
};

/// What went through one egress, in recipients.
struct EgressCounters {
  Counter delivered;
  Counter deferred;
  Counter failed;
  Counter blamed;  ///< replies that blamed the egress
  Counter ambiguous;
};

/// What became of the alerts for one target.
struct AlertCounters {
  Counter sent;
  Counter retried;
  Counter dropped;
};

struct Metrics {
  Counter connections;          ///< accepted from clients
  Counter connections_refused;  ///< over a limit
  Counter messages_accepted;
  Counter bytes_accepted;
  Counter recipients_accepted;
  Counter logins_refused;
  Counter messages_unstored;  ///< refused for lack of space or a broken spool
  Counter attempts;
  Counter failovers;  ///< messages moved to another egress within a round
  Counter reports;    ///< DSNs made
  Counter connections_out;
  std::atomic<std::int64_t> sessions{0};
  std::atomic<std::int64_t> out_open{0};     ///< connections to receivers and smarthosts, those being opened too
  std::atomic<std::int64_t> out_waiting{0};  ///< destinations without one, for limits.connections_out is reached
  std::deque<EgressCounters> sources;        ///< by index in the topology
  std::deque<EgressCounters> smarthosts;
  std::deque<AlertCounters> alerts;  ///< by index in the configuration
  Counter alerts_folded;             ///< events that made no alert of their own
};

}  // namespace egret::relay
