// Sites and providers: where a domain's mail goes, and whose opinion of our sources counts there.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace egret::routing {

/// One MX record; `host` lower-case, without the trailing dot.
struct MxHost {
  std::uint16_t preference = 0;
  std::string host;
  bool operator==(const MxHost&) const = default;
};

/// A known operator of mail exchangers, from config/providers.yaml.
struct Provider {
  std::string name;
  std::vector<std::string> mx;     ///< suffixes: ".google.com" is any host below, "x.y" that host or below
  std::optional<int> connections;  ///< per source
  std::optional<int> messages_per_connection;
  bool tls_required = false;
  std::vector<std::string> blocklists;  ///< lists it is known to consult
  std::string postmaster;
};

class Providers {
 public:
  Providers() = default;
  explicit Providers(std::vector<Provider> providers) : providers_(std::move(providers)) {}
  /// The provider whose longest suffix fits `host`, or null.
  const Provider* find(std::string_view host) const;
  const Provider* named(std::string_view name) const;
  /// The names of those that are known to consult a blocklist.
  std::vector<std::string_view> consulting(std::string_view blocklist) const;
  std::span<const Provider> all() const { return providers_; }

 private:
  std::vector<Provider> providers_;
};

/// Sorts by preference, then by name: the form in which equal MX sets are equal.
void sort_hosts(std::vector<MxHost>& hosts);

/// The key of the site with these MX hosts (sorted): the host names joined by commas.
std::string site_key(std::span<const MxHost> hosts);

/// The provider of a site: the known one of its first host, else that host's own name.
std::string provider_of(std::span<const MxHost> hosts, const Providers& providers);

}  // namespace egret::routing
