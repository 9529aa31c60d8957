#include "relay/dns/sites.hpp"

#include <idn2.h>

#include <algorithm>

#include "routing/message_class.hpp"
#include "smtp/address.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::size_t max_hosts = 16;
constexpr std::size_t max_addresses = 8;  // per host
constexpr std::size_t max_cached = 100'000;

SiteAnswer refuse(int code, std::string text) {
  return {nullptr, smtp::make_reply(code, std::move(text))};
}

/// The A-label form of a domain that may hold other scripts; empty when there is none.
std::string to_ascii(std::string_view domain) {
  const std::string copy(domain);
  char* out = nullptr;
  const int status = idn2_to_ascii_8z(copy.c_str(), &out, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT);
  if (status != IDN2_OK) return {};
  std::string ascii = smtp::lower(out);
  idn2_free(out);
  return ascii;
}

}  // namespace

Sites::Sites(Resolver& resolver, std::shared_ptr<const config::Config> config) : resolver_(resolver), config_(std::move(config)) {
  ask_ipv6_ = std::ranges::any_of(config_->topology.sources, [](const auto& s) { return s.address.v6; });
}

std::optional<SiteAnswer> Sites::cached(std::string_view domain) const {
  const auto it = cache_.find(domain);
  if (it == cache_.end() || it->second.fresh_until <= std::chrono::steady_clock::now()) return std::nullopt;
  return it->second.answer;
}

boost::asio::awaitable<SiteAnswer> Sites::find(std::string domain) {
  if (const auto known = cached(domain)) co_return *known;
  const Lookup found = co_await look_up(domain);
  if (cache_.size() >= max_cached) cache_.clear();
  const auto ttl = std::chrono::seconds(std::clamp<std::uint32_t>(found.ttl, 1, 3600));
  cache_[domain] = {found.answer, in(ttl)};
  co_return found.answer;
}

boost::asio::awaitable<Sites::Lookup> Sites::look_up(std::string domain) {
  for (const auto& route : config_->routes)
    if (route.to && routing::domain_matches(route.domain, domain)) {
      if (routing::IpAddress::parse(route.to->host)) co_return fixed(*route.to);
      std::vector<routing::MxHost> hosts{{0, smtp::lower(route.to->host)}};
      Lookup out = co_await addresses_of(std::move(hosts), 300, false);
      if (out.answer.site) {
        auto site = std::make_shared<Site>(*out.answer.site);
        site->key += ':' + std::to_string(route.to->port);
        for (Target& target : site->targets) target.port = route.to->port;
        out.answer.site = std::move(site);
      }
      co_return out;
    }
  if (domain.starts_with('[')) co_return literal(domain);
  const std::string ascii = to_ascii(domain);
  if (!smtp::valid_domain(ascii, false)) co_return Lookup{refuse(550, "5.1.2 (local) not a domain name: " + domain), 300};
  co_return co_await look_up_mx(ascii);
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
      co_return co_await addresses_of(std::move(implicit), 60, true);
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
  co_return co_await addresses_of(std::move(hosts), mx.ttl, false);
}

boost::asio::awaitable<Sites::Lookup> Sites::addresses_of(std::vector<routing::MxHost> hosts, std::uint32_t ttl, bool implicit) {
  auto site = make(hosts);
  std::string trouble, refused;
  const bool loop_guard = !config_->delivery.allow_private;
  for (const routing::MxHost& host : hosts) {
    Target target{host.preference, host.host, config_->delivery.port, {}};
    for (const DnsType type : {DnsType::a, DnsType::aaaa}) {
      if (type == DnsType::aaaa && !ask_ipv6_) continue;
      const DnsReply reply = co_await resolver_.query(host.host, type);
      if (reply.status == DnsReply::Status::failed) trouble = host.host + ": " + reply.error;
      if (reply.status != DnsReply::Status::ok) continue;
      ttl = std::min(ttl, reply.ttl);
      for (const auto& address : reply.addresses) {
        if (loop_guard && address.special()) {
          refused = host.host + " is " + address.to_string();
        } else if (target.addresses.size() < max_addresses) {
          target.addresses.push_back(address);
          (address.v6 ? site->ipv6 : site->ipv4) = true;
        }
      }
    }
    if (!target.addresses.empty()) site->targets.push_back(std::move(target));
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
  site->targets.push_back({0, to.host, to.port, {address}});
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
