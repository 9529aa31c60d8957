// The subjects that are checked, each by a coroutine that returns what it found. All run on one thread; what they are given by
// pointer or reference in World outlives them.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/doctor/check.hpp"
#include "relay/net/deadlines.hpp"
#include "routing/probe_schedule.hpp"

namespace egret::relay::doctor {

/// The pace of all blocklist queries together, as the prober keeps it.
class Pace {
 public:
  explicit Pace(routing::QueryRate rate) : pace_(rate, 1) {}
  /// Returns when one more query may be sent.
  boost::asio::awaitable<void> turn();
  routing::Instant instant() const;

 private:
  routing::QueryPace pace_;
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

struct World {
  const config::Config& config;
  Resolver& resolver;
  Pace& pace;
  /// Every check that connects makes one of its own here: its timer's handler may run after the check has ended, so that it
  /// must live as long as the io_context runs.
  std::deque<Deadlines>& deadlines;
};

/// Whether each DNS server answers and, where its AD bit is believed, sets it.
boost::asio::awaitable<Checks> check_dns(World world, std::vector<std::string> domains);
/// A source: its address on this host or its proxy, PTR, forward and EHLO name.
boost::asio::awaitable<Checks> check_source(World world, std::uint32_t source);
/// A blocklist's health, and every source by it.
boost::asio::awaitable<Checks> check_blocklist(World world, const routing::Blocklist* list);
/// What knocking at a smarthost's doors in turn brought.
struct Knock {
  bool ready = false;           ///< the login was accepted, or none is configured
  std::string text;             ///< what was found; the password is not in it
  std::string advice;           ///< what to do; empty when all is well
  bool dns_unanswered = false;  ///< nothing was tried
  /// The server itself said no, in this phase.
  std::optional<smtp::RecipientOutcome> refusal;
};
/// Tries them as delivery does, within ten seconds, and never says MAIL. Everything by pointer outlives the call; `deadlines` the
/// io_context's run, and nobody else uses it meanwhile.
boost::asio::awaitable<Knock> knock_at_smarthost(const config::Config* config, std::uint32_t smarthost, Resolver* resolver,
                                                 Deadlines* deadlines);
/// The way to a smarthost up to an accepted login.
boost::asio::awaitable<Checks> check_smarthost(World world, std::uint32_t smarthost);
/// A sender domain: SPF for each source and ESP, DKIM keys, DMARC, and whether it is ready at each ESP.
boost::asio::awaitable<Checks> check_domain(World world, std::string domain);

/// "source mail1 (192.0.2.1)": its public address.
std::string source_subject(const routing::SourceInfo& source);

}  // namespace egret::relay::doctor
