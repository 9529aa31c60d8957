// From a recipient's domain to the site that takes its mail (RFC 5321 section 5.1, RFC 7505).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "relay/dns/resolver.hpp"
#include "relay/runtime/clock.hpp"
#include "smtp/reply.hpp"

namespace egret::relay {

/// A mail exchanger and where it can be reached.
struct Target {
  std::uint16_t preference = 0;
  std::string host;
  std::uint16_t port = 25;
  std::vector<routing::IpAddress> addresses;
};

/// Where mail for a domain goes. Immutable and shared; domains with the same MX hosts have equal keys.
struct Site {
  std::string key;
  std::string provider;
  std::vector<Target> targets;  ///< by preference; those without an address are left out
  bool ipv4 = false;
  bool ipv6 = false;
  int connections = 20;  ///< per source
  int messages_per_connection = 100;
  smtp::TlsMode tls = smtp::TlsMode::opportunistic;
};

/// A site, or why there is none: a reply of our own making, permanent or not as the DNS says.
struct SiteAnswer {
  std::shared_ptr<const Site> site;
  smtp::Reply refusal;
};

/// Looks sites up and remembers them for their TTL (1 second to 1 hour). Used from one thread only.
class Sites {
 public:
  Sites(Resolver& resolver, std::shared_ptr<const config::Config> config);

  /// What is remembered of `domain`, or nullopt.
  std::optional<SiteAnswer> cached(std::string_view domain) const;
  boost::asio::awaitable<SiteAnswer> find(std::string domain);

 private:
  struct Entry {
    SiteAnswer answer;
    Deadline fresh_until;
  };
  struct Lookup {
    SiteAnswer answer;
    std::uint32_t ttl = 60;
  };

  boost::asio::awaitable<Lookup> look_up(std::string domain);
  boost::asio::awaitable<Lookup> look_up_mx(std::string domain);
  boost::asio::awaitable<Lookup> addresses_of(std::vector<routing::MxHost> hosts, std::uint32_t ttl, bool implicit);
  Lookup literal(std::string_view text) const;
  Lookup fixed(const config::HostPort& to) const;
  std::shared_ptr<Site> make(std::vector<routing::MxHost> hosts) const;

  Resolver& resolver_;
  std::shared_ptr<const config::Config> config_;
  bool ask_ipv6_ = false;
  std::map<std::string, Entry, std::less<>> cache_;
};

}  // namespace egret::relay
