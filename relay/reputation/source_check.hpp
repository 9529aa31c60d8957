// Whether DNS agrees with what a source says it is: FCrDNS (the address has a PTR record whose name leads back to it) and
// the EHLO name. Receivers judge both (RFC 5321 section 4.1.4, RFC 8601 section 2.7.3 for the term), so operators want to
// know; it is information only and never takes a source out of service, because receivers say so themselves when they mind.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/reputation/events.hpp"
#include "relay/runtime/task_group.hpp"

namespace egret::relay {

/// What DNS said. A name's `status` is failed when nobody knows.
struct SourceFacts {
  routing::IpAddress address;  ///< the public one
  std::string ehlo;
  DnsReply ptr;                                            ///< of the address
  std::vector<std::pair<std::string, DnsReply>> forwards;  ///< A or AAAA of each PTR name, by the address's family
  DnsReply ehlo_addresses;                                 ///< A or AAAA of the EHLO name
};

/// What follows from it. A part that DNS failed to answer is unknown, and no problem.
struct SourceDns {
  std::vector<std::string> ptr;
  std::optional<bool> forward;  ///< a PTR name leads back to the address
  std::optional<bool> ehlo;     ///< the EHLO name leads to the address
  std::vector<std::string> problems;
  bool operator==(const SourceDns&) const = default;
};

SourceDns judge_source(const SourceFacts& facts);

/// Asks DNS for what judge_source() judges. Ends early, with parts unknown, when `stop` (may be null) becomes true.
boost::asio::awaitable<SourceFacts> look_up_source(Resolver* resolver, routing::SourceInfo source, const bool* stop);

/// A name as providers give to lines and rented machines: the address spelled out in it, or a label such as "dhcp".
bool generic_name(std::string_view name, const routing::IpAddress& address);

/// Checks every source at the start and hourly, spread out. Lives on the control thread.
class SourceChecks {
 public:
  SourceChecks(const boost::asio::any_io_executor& executor, std::shared_ptr<const config::Config> config, Events& events);

  /// What was found under the configuration before (config::succeed): only what differs from it is news.
  void inherit(const SourceChecks& former);
  void start();
  boost::asio::awaitable<void> stop();
  /// Nothing before the first check.
  std::optional<SourceDns> result(std::uint32_t source) const {
    return source < results_.size() ? results_[source] : std::nullopt;
  }

 private:
  boost::asio::awaitable<void> run();
  boost::asio::awaitable<void> check(std::uint32_t source);
  boost::asio::awaitable<bool> sleep(routing::Duration duration);
  void tell(std::uint32_t source, const SourceDns& found);

  std::shared_ptr<const config::Config> config_;
  Events& events_;
  Resolver resolver_;
  std::vector<std::optional<SourceDns>> results_;
  std::vector<SourceFacts> facts_;  ///< of the last check
  boost::asio::steady_timer timer_;
  std::mt19937_64 random_;
  bool stopping_ = false;
  TaskGroup tasks_;
};

}  // namespace egret::relay
