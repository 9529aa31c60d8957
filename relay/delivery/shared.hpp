// What all dispatchers share. Built once in the program, before the workers start.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/budgets.hpp"
#include "relay/metrics.hpp"
#include "relay/net/tls.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/reputation/unknown_replies.hpp"
#include "relay/spool/spool.hpp"
#include "relay/tls_policy/sts_cache.hpp"

namespace egret::relay {

/// One message at a time through a source that is on trial with a provider, over all workers.
class TrialGate {
 public:
  bool acquire(std::uint32_t source, const std::string& provider) {
    const std::lock_guard lock(mutex_);
    return busy_.emplace(source, provider).second;
  }
  void release(std::uint32_t source, const std::string& provider) {
    const std::lock_guard lock(mutex_);
    busy_.erase({source, provider});
  }

 private:
  std::mutex mutex_;
  std::set<std::pair<std::uint32_t, std::string>> busy_;
};

/// Octets of bodies held in memory, over all workers.
struct BodyCache {
  std::atomic<std::uint64_t> used{0};
  std::uint64_t limit = 256u << 20;

  bool full() const { return used.load(std::memory_order_relaxed) >= limit; }
  /// Wraps a message so that its octets are counted while anybody holds it.
  std::shared_ptr<const spool::Message> count(std::shared_ptr<const spool::Message> message) {
    std::uint64_t size = 512;
    for (const auto& chunk : message->tail) size += chunk.size();
    used.fetch_add(size, std::memory_order_relaxed);
    const spool::Message* raw = message.get();
    return {raw, [this, size, message = std::move(message)](const spool::Message*) {
              used.fetch_sub(size, std::memory_order_relaxed);
            }};
  }
};

/// Jobs on their way from one dispatcher to another, which no dispatcher can count.
struct Handovers {
  std::atomic<std::uint64_t> sent{0};
  std::atomic<std::uint64_t> arrived{0};
};

struct DeliveryShared {
  std::shared_ptr<const config::Config> config;
  spool::Spool& spool;
  Reputation& reputation;
  Metrics& metrics;
  Budgets& budgets;
  BodyCache cache;
  TrialGate trials;
  Handovers handovers;
  StsCache* sts = nullptr;  ///< null: MTA-STS is switched off
  std::unique_ptr<TlsContext> opportunistic_tls;
  std::unique_ptr<TlsContext> verified_tls;  ///< by the system's certification authorities, for MTA-STS
  std::unique_ptr<TlsContext> dane_tls;
  std::vector<std::unique_ptr<TlsContext>> smarthost_tls;  ///< parallel to config->smarthosts
  UnknownReplies unknown_replies{};
};

}  // namespace egret::relay
