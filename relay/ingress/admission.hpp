// Who may come in, and how much: connections in all and of each client, recipients of each client and user. Over all
// workers; thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "routing/address.hpp"
#include "routing/budget.hpp"

namespace egret::relay {

class Admission {
 public:
  explicit Admission(const config::Limits& limits) { configure(limits); }

  /// Other limits from now on; who is in stays.
  void configure(const config::Limits& limits) {
    connections_ = limits.connections;
    connections_per_client_ = limits.connections_per_client;
  }

  /// A connection: empty when it may come in, else the text of the 421. `passing`: its client will wait for receivers, however
  /// slow they are, beside listeners that queue; a quarter of all connections is left to those.
  std::string enter(bool passing = false);
  void leave(bool passing = false);
  /// Its client, once known. IPv6 clients are counted by their /64: that is what one customer gets.
  std::string enter(const routing::IpAddress& client);
  void leave(const routing::IpAddress& client);

  /// Leaves at the end of a scope.
  class Place {
   public:
    Place(Admission& admission, const routing::IpAddress& client) : admission_(admission), client_(client) {}
    ~Place() { admission_.leave(client_); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    Admission& admission_;
    routing::IpAddress client_;
  };
  /// Nine tenths of all connections are taken: who is slow or idle must make room.
  bool stressed() const { return total_.load(std::memory_order_relaxed) * 10 >= connections_ * 9; }

 private:
  std::atomic<int> connections_{0};
  std::atomic<int> connections_per_client_{0};
  std::mutex mutex_;
  std::atomic<int> total_{0};
  int passing_ = 0;
  std::map<routing::IpAddress, int> clients_;
};

/// So many recipients, or messages, in a period.
struct RateClaim {
  std::string who;           ///< "user joe", "client 192.0.2.1"
  routing::Budget rate;      ///< Budget::recipients counts what is claimed
  std::uint64_t amount = 0;  ///< 0 only asks whether there is room for one
  bool messages = false;     ///< counts messages, not recipients
};

/// What fits no more.
struct RateRefusal {
  std::size_t claim = 0;  ///< index
  routing::Duration wait{};
};

/// Messages and recipients in a period that begins with the first one after the period before it.
class Rates {
 public:
  /// Takes all claims, or none of them when one does not fit.
  std::optional<RateRefusal> take(const std::vector<RateClaim>& claims, routing::Time now);
  /// One claim; how long to wait when it does not fit.
  std::optional<routing::Duration> take(const std::string& who, const routing::Budget& rate, std::uint64_t recipients,
                                        routing::Time now) {
    const auto refusal = take({RateClaim{who, rate, recipients, false}}, now);
    return refusal ? std::optional(refusal->wait) : std::nullopt;
  }

 private:
  struct Window {
    routing::Time start;
    std::uint64_t used = 0;
    routing::Duration per{};
  };
  Window& open(const RateClaim& claim, routing::Time now);

  std::mutex mutex_;
  std::map<std::string, Window> windows_;
};

}  // namespace egret::relay
