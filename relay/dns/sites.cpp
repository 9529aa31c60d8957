#include "relay/dns/sites.hpp"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "relay/dns/idn.hpp"
#include "relay/runtime/log.hpp"
#include "routing/message_class.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_hosts = 16;
constexpr std::size_t max_addresses = 8;     // per host
constexpr std::size_t max_cached = 100'000;  // domains in each half of the cache

SiteAnswer refuse(int code, std::string text) {
  return {nullptr, smtp::make_reply(code, std::move(text))};
}

/// The addresses of this host's interfaces.
std::vector<routing::IpAddress> local_addresses() {
  std::vector<routing::IpAddress> out;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return out;
  for (const ifaddrs* item = list; item; item = item->ifa_next) {
    if (!item->ifa_addr) continue;
    routing::IpAddress address;
    if (item->ifa_addr->sa_family == AF_INET) {
      std::memcpy(address.bytes.data(), &reinterpret_cast<const sockaddr_in*>(item->ifa_addr)->sin_addr, 4);
    } else if (item->ifa_addr->sa_family == AF_INET6) {
      address.v6 = true;
      std::memcpy(address.bytes.data(), &reinterpret_cast<const sockaddr_in6*>(item->ifa_addr)->sin6_addr, 16);
    } else {
      continue;
    }
    out.push_back(address);
  }
  freeifaddrs(list);
  return out;
}

}  // namespace

std::string_view TlsPlan::name() const {
  if (check == Check::dane) return "dane";
  if (unusable_dane) return "dane (unauthenticated)";
  if (sts) return "mta-sts";
  switch (mode) {
    case smtp::TlsMode::none:
      return "none";
    case smtp::TlsMode::opportunistic:
      return "opportunistic";
    case smtp::TlsMode::required:
      return "required";
  }
  return "none";
}

TlsPlan tls_plan(const Site& site, const Target& target) {
  TlsPlan out;
  out.mode = site.tls;
  if (target.dane) {
    // DANE beats MTA-STS (RFC 8461 section 2). Records that nobody can use still say that there is TLS.
    out.mode = smtp::TlsMode::required;
    out.check = target.dane->records.empty() ? TlsPlan::Check::none : TlsPlan::Check::dane;
    out.unusable_dane = target.dane->records.empty();
  } else if (site.sts) {
    out.mode = smtp::TlsMode::required;
    out.check = TlsPlan::Check::name;
    out.sts = true;
  }
  return out;
}

Sites::Sites(Resolver& resolver, std::shared_ptr<const config::Config> config, StsCache* sts, Deadlines& deadlines)
    : resolver_(resolver), deadlines_(deadlines) {
  configure(std::move(config), sts);
}

void Sites::configure(std::shared_ptr<const config::Config> config, StsCache* sts) {
  config_ = std::move(config);
  sts_ = sts;
  local_ = local_addresses();
  ask_ipv6_ = std::ranges::any_of(config_->topology.sources, [](const auto& s) { return s.address.v6 && !s.removed; });
  cache_.clear();
  former_.clear();
}

std::optional<SiteAnswer> Sites::cached(std::string_view domain) {
  const Deadline time = std::chrono::steady_clock::now();
  if (const auto it = cache_.find(domain); it != cache_.end())
    return it->second.fresh_until > time ? std::optional(it->second.answer) : std::nullopt;
  const auto it = former_.find(domain);
  if (it == former_.end() || it->second.fresh_until <= time) return std::nullopt;
  SiteAnswer answer = it->second.answer;
  remember(it->first, it->second);
  return answer;
}

void Sites::remember(std::string domain, Entry entry) {
  if (cache_.size() >= max_cached && !cache_.contains(domain)) former_ = std::exchange(cache_, Cache());
  cache_[std::move(domain)] = std::move(entry);
}

boost::asio::awaitable<SiteAnswer> Sites::find(std::string domain) {
  if (const auto known = cached(domain)) co_return *known;
  const std::uint64_t version = config_->version;
  Lookup found = co_await look_up(domain);
  if (version != config_->version) co_return found.answer;  // its asker looks again
  const Deadline fresh_until = in(std::chrono::seconds(std::clamp<std::uint32_t>(found.ttl, 1, 3600)));
  if (found.answer.site) {
    auto site = std::make_shared<Site>(*found.answer.site);
    site->looked_up = std::chrono::steady_clock::now();
    site->fresh_until = fresh_until;
    found.answer.site = std::move(site);
  }
  remember(domain, {found.answer, fresh_until});
  co_return found.answer;
}

boost::asio::awaitable<Sites::Lookup> Sites::look_up(std::string domain) {
  if (std::string ascii = to_a_labels(domain); !ascii.empty()) domain = std::move(ascii);
  for (const auto& route : config_->routes)
    if (route.to && routing::domain_matches(route.domain, domain)) {
      if (routing::IpAddress::parse(route.to->host)) co_return fixed(*route.to);
      std::vector<routing::MxHost> hosts{{0, smtp::lower(route.to->host)}};
      Lookup out = co_await addresses_of(std::move(hosts), 300, false, false);
      if (out.answer.site) {
        auto site = std::make_shared<Site>(*out.answer.site);
        site->key += ':' + std::to_string(route.to->port);
        for (Target& target : site->targets) target.port = route.to->port;
        out.answer.site = std::move(site);
      }
      co_return out;
    }
  if (domain.starts_with('[')) co_return literal(domain);
  if (!smtp::valid_domain(domain, false)) co_return Lookup{refuse(550, "5.1.2 (local) not a domain name: " + domain), 300};
  Lookup found = co_await look_up_mx(domain);
  if (!found.answer.site) co_return found;
  found = with_next_hop(std::move(found), domain);
  if (!sts_) co_return found;
  co_return co_await with_sts(std::move(found), domain);
}

/// With DANE-TA the certificate may also be for the domain whose MX it is (RFC 7672 section 3.2.2), so that such a site is
/// one domain's and no other's.
Sites::Lookup Sites::with_next_hop(Lookup found, const std::string& domain) {
  const auto anchored = [](const Target& t) {
    return t.dane && std::ranges::any_of(t.dane->records, [](const auto& r) { return r.usage == 2; });
  };
  if (std::ranges::none_of(found.answer.site->targets, anchored)) return found;
  auto site = std::make_shared<Site>(*found.answer.site);
  for (Target& target : site->targets)
    if (target.dane) target.dane->names.push_back(domain);
  site->key += "+" + domain;
  found.answer.site = std::move(site);
  return found;
}

/// The policy of the recipient's domain (RFC 8461 section 5): hosts that it does not name are not used, the others only
/// with a verified certificate. A host with DANE keeps to that.
boost::asio::awaitable<Sites::Lookup> Sites::with_sts(Lookup found, std::string domain) {
  const auto policy = co_await sts_->find(domain, resolver_, deadlines_, in(std::chrono::seconds(60)));
  if (!policy) co_return found;
  auto site = std::make_shared<Site>(*found.answer.site);
  const auto mismatch = [&](const Target& t) {
    return !t.dane && t.dane_trouble.empty() && !routing::mx_matches(*policy, t.host);
  };
  if (policy->mode == routing::StsMode::testing) {
    for (const Target& target : site->targets)
      if (mismatch(target))
        log::warn("MTA-STS in testing: this host is not in the policy", {{"domain", domain}, {"host", target.host}});
    co_return found;
  }
  std::erase_if(site->targets, mismatch);
  if (site->targets.empty()) {
    found.answer = refuse(451, "4.7.5 (local) no mail exchanger of " + domain + " is in its MTA-STS policy");
    found.ttl = 60;
    co_return found;
  }
  site->ipv4 = site->ipv6 = false;
  for (const Target& target : site->targets)
    for (const auto& address : target.addresses) (address.v6 ? site->ipv6 : site->ipv4) = true;
  site->sts = true;
  site->tls_reason = "MTA-STS of " + domain;
  // Domains that share their hosts may differ in policy: a connection made without it must not serve this one.
  std::vector<routing::MxHost> left;
  for (const Target& target : site->targets) left.push_back({target.preference, target.host});
  site->key = routing::site_key(left) + "+sts";
  found.answer.site = std::move(site);
  co_return found;
}

boost::asio::awaitable<Sites::Lookup> Sites::look_up_mx(std::string domain) {
  DnsReply mx = co_await resolver_.query(domain, DnsType::mx);
  switch (mx.status) {
    case DnsReply::Status::failed:
      co_return Lookup{refuse(451, "4.4.3 (local) MX look-up of " + domain + " failed: " + mx.error), 5};
    case DnsReply::Status::nxdomain:
      co_return Lookup{refuse(550, "5.1.2 (local) the domain " + domain + " does not exist"), 60};
    case DnsReply::Status::nodata: {
      std::vector<routing::MxHost> implicit{{0, domain}};
      co_return co_await addresses_of(std::move(implicit), 60, true, mx.secure);
    }
    case DnsReply::Status::ok:
      break;
  }
  std::vector<routing::MxHost> hosts = mx.mx;
  const auto null_mx = [](const routing::MxHost& h) { return h.host.empty(); };
  if (hosts.size() == 1 && null_mx(hosts[0]))
    co_return Lookup{refuse(556, "5.1.10 (local) " + domain + " accepts no mail (null MX)"), mx.ttl};
  std::erase_if(hosts, null_mx);  // beside other records it is a mistake in the zone
  routing::sort_hosts(hosts);
  if (hosts.size() > max_hosts) hosts.resize(max_hosts);
  co_return co_await addresses_of(std::move(hosts), mx.ttl, false, mx.secure);
}

/// An address by which this host sends: mail that goes there comes back (RFC 5321 section 5.1). What only listens here
/// counts where it listens on the port that is delivered to.
bool Sites::own(const routing::IpAddress& address) const {
  const auto any = [](const routing::IpAddress& ip) { return ip.bytes == std::array<std::uint8_t, 16>{}; };
  const bool local = std::ranges::find(local_, address) != local_.end() || (!address.v6 && address.bytes[0] == 127);
  const auto& sources = config_->topology.sources;
  const auto sends = [&](const auto& s) {
    return !s.removed && (s.address.unmapped() == address || s.reputation.unmapped() == address);
  };
  const auto listens = [&](const auto& l) {
    const bool here = any(l.ip) ? local && l.ip.v6 == address.v6 : l.ip.unmapped() == address;
    return here && l.port == config_->delivery.port;
  };
  return std::ranges::any_of(sources, sends) || std::ranges::any_of(config_->listeners, listens);
}

/// Looks a host's addresses up; true when every answer came with DNSSEC's word.
boost::asio::awaitable<bool> Sites::add_addresses(Target* target, Site* site, std::vector<std::string>* bases,
                                                  std::string* trouble, std::string* refused, std::uint32_t* ttl) {
  bool secure = true;
  for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
    if (type == DnsType::aaaa && !ask_ipv6_) continue;
    const DnsReply reply = co_await resolver_.query(target->host, type);
    if (reply.status == DnsReply::Status::failed) *trouble = target->host + ": " + reply.error;
    if (reply.status != DnsReply::Status::ok) continue;
    secure = secure && reply.secure;
    if (!reply.canonical.empty() && reply.canonical != target->host) bases->insert(bases->begin(), reply.canonical);
    *ttl = std::min(*ttl, reply.ttl);
    for (const auto& address : reply.addresses) {
      target->loops = target->loops || own(address);
      if (!config_->delivery.allow_private && address.special()) {
        *refused = target->host + " is " + address.to_string();
      } else if (target->addresses.size() < max_addresses) {
        target->addresses.push_back(address);
        (address.v6 ? site->ipv6 : site->ipv4) = true;
      }
    }
  }
  co_return secure;
}

/// TLSA records of a host whose addresses are vouched for: at the name at the end of its aliases first, then at its own
/// (RFC 7672 section 2.2.2).
boost::asio::awaitable<void> Sites::add_dane(Target* target, std::vector<std::string> bases, std::uint32_t* ttl) {
  bases.push_back(target->host);
  for (const std::string& base : bases) {
    const DnsReply reply = co_await resolver_.query("_" + std::to_string(target->port) + "._tcp." + base, DnsType::tlsa);
    if (reply.status == DnsReply::Status::failed) {
      target->dane_trouble = "TLSA look-up failed: " + reply.error;
      co_return;
    }
    if (reply.status != DnsReply::Status::ok || !reply.secure) continue;
    *ttl = std::min(*ttl, reply.ttl);
    Dane dane;
    dane.base = base;
    dane.names = bases;
    for (const auto& record : reply.tlsa)
      if (usable(record)) dane.records.push_back(record);
    target->dane = std::move(dane);
    co_return;
  }
}

boost::asio::awaitable<Sites::Lookup> Sites::addresses_of(std::vector<routing::MxHost> hosts, std::uint32_t ttl, bool implicit,
                                                          bool secure) {
  auto site = make(hosts);
  std::string trouble, refused;
  std::optional<std::uint16_t> loop;
  for (const routing::MxHost& host : hosts) {
    Target target{host.preference, host.host, config_->delivery.port, {}, false, {}, {}};
    std::vector<std::string> bases;
    const bool vouched = co_await add_addresses(&target, site.get(), &bases, &trouble, &refused, &ttl);
    if (target.loops) loop = std::min(loop.value_or(host.preference), host.preference);
    if (target.addresses.empty()) continue;
    if (secure && vouched) co_await add_dane(&target, std::move(bases), &ttl);
    site->targets.push_back(std::move(target));
  }
  if (loop) {
    // Only hosts that are preferred to ourselves bring the mail nearer to where it goes (RFC 5321 section 5.1).
    std::erase_if(site->targets, [&](const Target& t) { return t.preference >= *loop; });
    if (site->targets.empty())
      co_return Lookup{refuse(554, "5.4.6 (local) mail for " + site->key + " loops back to this host"), 60};
  }
  if (!site->targets.empty()) co_return Lookup{{std::move(site), {}}, ttl};
  if (!trouble.empty()) co_return Lookup{refuse(451, "4.4.3 (local) address look-up failed: " + trouble), 5};
  if (!refused.empty()) co_return Lookup{refuse(550, "5.4.4 (local) refusing to deliver to a private address: " + refused), 60};
  co_return Lookup{refuse(550, implicit ? "5.1.2 (local) the domain " + hosts[0].host + " has neither MX nor address"
                                        : "5.4.4 (local) no mail exchanger of " + site->key + " has an address"),
                   60};
}

Sites::Lookup Sites::literal(std::string_view text) const {
  std::string_view inside = text.substr(1, text.size() - 2);
  if (smtp::istarts_with(inside, "IPv6:")) inside.remove_prefix(5);
  const auto address = routing::IpAddress::parse(inside);
  if (!address) return {refuse(550, "5.1.2 (local) not an address literal"), 300};
  if (address->special() && !config_->delivery.allow_private)
    return {refuse(550, "5.4.4 (local) refusing to deliver to a private address"), 300};
  return fixed({address->to_string(), config_->delivery.port});
}

Sites::Lookup Sites::fixed(const config::HostPort& to) const {
  auto site = make({{0, to.host}});
  const auto address = *routing::IpAddress::parse(to.host);
  site->key = to.host + ":" + std::to_string(to.port);
  site->targets.push_back({0, to.host, to.port, {address}, false, {}, {}});
  (address.v6 ? site->ipv6 : site->ipv4) = true;
  return {{std::move(site), {}}, 3600};
}

std::shared_ptr<Site> Sites::make(std::vector<routing::MxHost> hosts) const {
  auto site = std::make_shared<Site>();
  site->key = routing::site_key(hosts);
  site->provider = routing::provider_of(hosts, config_->providers);
  site->connections = config_->delivery.connections_per_site;
  site->messages_per_connection = config_->delivery.messages_per_connection;
  site->tls = config_->delivery.tls;
  if (const routing::Provider* known = config_->providers.named(site->provider)) {
    site->connections = known->connections.value_or(site->connections);
    site->messages_per_connection = known->messages_per_connection.value_or(site->messages_per_connection);
    if (known->tls_required && site->tls == smtp::TlsMode::opportunistic) site->tls = smtp::TlsMode::required;
  }
  return site;
}

}  // namespace egret::relay
