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
#include "relay/net/deadlines.hpp"
#include "relay/net/tlsa.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/tls_policy/sts_cache.hpp"
#include "smtp/reply.hpp"

namespace egret::relay {

/// A mail exchanger and where it can be reached.
struct Target {
  std::uint16_t preference = 0;
  std::string host;
  std::uint16_t port = 25;
  std::vector<routing::IpAddress> addresses;
  bool loops = false;        ///< one of its addresses is ours
  std::optional<Dane> dane;  ///< TLS is mandatory and must match; no usable record: mandatory, unauthenticated
  std::string dane_trouble;  ///< TLSA records could not be had: this host must not be used (RFC 7672 section 2.1.1)
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
  bool sts = false;        ///< the recipient domains' MTA-STS policy: TLS with a certificate for the host's name
  std::string tls_reason;  ///< which rule raised it, for people: "MTA-STS of example.com", or empty
  Deadline looked_up{};    ///< when the look-up was over
  Deadline fresh_until{};  ///< by its TTL

  /// Mail that waited with this site in hand should look it up again. Some time over its TTL, so that what was just looked
  /// up with a TTL of a second is not.
  bool stale(Deadline now) const { return now > fresh_until + std::chrono::minutes(5); }
};

/// How a host of a site is spoken to.
struct TlsPlan {
  enum class Check { none, name, dane };
  smtp::TlsMode mode = smtp::TlsMode::opportunistic;
  Check check = Check::none;
  /// "none", "opportunistic", "required", "dane", "dane (unauthenticated)", "mta-sts".
  std::string_view name() const;
  bool unusable_dane = false;
  bool sts = false;
};
TlsPlan tls_plan(const Site& site, const Target& target);

/// A site, or why there is none: a reply of our own making, permanent or not as the DNS says.
struct SiteAnswer {
  std::shared_ptr<const Site> site;
  smtp::Reply refusal;
};

/// Looks sites up and remembers them for their TTL (1 second to 1 hour). Used from one thread only.
class Sites {
 public:
  /// `sts` may be null: no MTA-STS. All must outlive it.
  Sites(Resolver& resolver, std::shared_ptr<const config::Config> config, StsCache* sts, Deadlines& deadlines);

  /// Another configuration: nothing that was looked up under the former one is remembered.
  void configure(std::shared_ptr<const config::Config> config, StsCache* sts);

  /// What is remembered of `domain`, or nullopt.
  std::optional<SiteAnswer> cached(std::string_view domain);
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
  boost::asio::awaitable<Lookup> addresses_of(std::vector<routing::MxHost> hosts, std::uint32_t ttl, bool implicit, bool secure);
  boost::asio::awaitable<bool> add_addresses(Target* target, Site* site, std::vector<std::string>* bases, std::string* trouble,
                                             std::string* refused, std::uint32_t* ttl);
  boost::asio::awaitable<void> add_dane(Target* target, std::vector<std::string> bases, std::uint32_t* ttl);
  boost::asio::awaitable<Lookup> with_sts(Lookup found, std::string domain);
  static Lookup with_next_hop(Lookup found, const std::string& domain);
  bool own(const routing::IpAddress& address) const;
  Lookup literal(std::string_view text) const;
  Lookup fixed(const config::HostPort& to) const;
  std::shared_ptr<Site> make(std::vector<routing::MxHost> hosts) const;

  Resolver& resolver_;
  std::shared_ptr<const config::Config> config_;
  StsCache* sts_ = nullptr;
  Deadlines& deadlines_;
  std::vector<routing::IpAddress> local_;  ///< of this host's interfaces
  bool ask_ipv6_ = false;
  using Cache = std::map<std::string, Entry, std::less<>>;
  void remember(std::string domain, Entry entry);

  /// When cache_ is full it becomes former_, and what is not asked for meanwhile goes with the next change.
  Cache cache_, former_;
};

}  // namespace egret::relay
