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
#include "relay/delivery/precedence.hpp"
#include "relay/metrics.hpp"
#include "relay/net/tls.hpp"
#include "relay/reputation/guard.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/reputation/unknown_replies.hpp"
#include "relay/spool/spool.hpp"
#include "relay/tls_policy/sts_cache.hpp"

namespace egret::relay {

class Brakes;   // relay/brakes/brakes.hpp
class EspMail;  // relay/esp/esp_mail.hpp

/// One message at a time through a source that is on trial with a provider, over all workers.
class TrialGate {
 public:
  bool acquire(std::uint32_t source, const std::string& provider) {
    const std::lock_guard lock(mutex_);
    return busy_.emplace(source, provider).second;
  }
  bool busy(std::uint32_t source, const std::string& provider) {
    const std::lock_guard lock(mutex_);
    return busy_.contains({source, provider});
  }
  void release(std::uint32_t source, const std::string& provider) {
    const std::lock_guard lock(mutex_);
    busy_.erase({source, provider});
  }

 private:
  std::mutex mutex_;
  std::set<std::pair<std::uint32_t, std::string>> busy_;
};

/// Octets of bodies and recipients held in memory, over all workers.
struct BodyCache {
  std::atomic<std::uint64_t> used{0};
  std::atomic<std::uint64_t> limit{256u << 20};

  bool full() const { return full(false); }
  /// For a `lesser` class three quarters are all: the rest is for mail that goes before it.
  bool full(bool lesser) const {
    const auto most = limit.load(std::memory_order_relaxed);
    return used.load(std::memory_order_relaxed) >= (lesser ? most / 4 * 3 : most);
  }
  /// Wraps a message so that its octets are counted while anybody holds it.
  std::shared_ptr<const spool::Message> count(std::shared_ptr<const spool::Message> message) {
    std::uint64_t size = 512;
    for (const auto& chunk : message->tail) size += chunk.size();
    for (std::size_t i = 0; i < message->recipients.size(); ++i)
      size += spool::memory_of(message->recipients[i], i < message->recipient_dsn.size() ? &message->recipient_dsn[i] : nullptr);
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

/// What the dispatchers have in common and change together.
struct DeliveryCommon {
  BodyCache cache;
  TrialGate trials;
  Handovers handovers;
  UnknownReplies unknown_replies;
  Precedence precedence;
};

/// TLS for connections out. Immutable; each configuration has its own.
struct DeliveryTls {
  std::shared_ptr<TlsContext> opportunistic;
  std::shared_ptr<TlsContext> verified;  ///< by the system's certification authorities, for MTA-STS
  std::shared_ptr<TlsContext> dane;
  std::vector<std::shared_ptr<TlsContext>> smarthosts;  ///< parallel to config->smarthosts; null for removed ones

  /// Throws std::runtime_error when a smarthost's certification authorities cannot be read.
  explicit DeliveryTls(const config::Config& config);
};

/// What a worker's dispatcher and sessions work with. One for each worker; its configuration is replaced only on the
/// worker's own thread, and lives on for whoever began under it (see Program).
struct DeliveryShared {
  std::shared_ptr<const config::Config> config;
  std::shared_ptr<const DeliveryTls> tls;
  spool::Spool& spool;
  Reputation& reputation;
  Metrics& metrics;
  Budgets& budgets;
  Guard& guard;
  DeliveryCommon& common;
  StsCache* sts = nullptr;                       ///< null: MTA-STS is switched off
  Brakes* brakes = nullptr;                      ///< null: nobody is slowed for what his mail causes
  EspMail* esp_mail = nullptr;                   ///< null: nobody asks later what became of mail that an ESP took
  std::vector<EgressCounters*> source_counters;  ///< parallel to the topology's
  std::vector<EgressCounters*> smarthost_counters;
};

}  // namespace egret::relay
