#include "routing/site.hpp"

#include <algorithm>
#include <tuple>

namespace egret::routing {
namespace {

bool suffix_fits(std::string_view suffix, std::string_view host) {
  if (suffix.starts_with('.')) return host.size() > suffix.size() && host.ends_with(suffix);
  return host == suffix ||
         (host.size() > suffix.size() && host.ends_with(suffix) && host[host.size() - suffix.size() - 1] == '.');
}

}  // namespace

const Provider* Providers::find(std::string_view host) const {
  const Provider* best = nullptr;
  std::size_t length = 0;
  for (const Provider& provider : providers_)
    for (const std::string& suffix : provider.mx)
      if (suffix.size() > length && suffix_fits(suffix, host)) {
        best = &provider;
        length = suffix.size();
      }
  return best;
}

const Provider* Providers::named(std::string_view name) const {
  const auto it = std::ranges::find(providers_, name, &Provider::name);
  return it == providers_.end() ? nullptr : &*it;
}

std::vector<std::string_view> Providers::consulting(std::string_view blocklist) const {
  std::vector<std::string_view> out;
  for (const Provider& provider : providers_)
    if (std::ranges::find(provider.blocklists, blocklist) != provider.blocklists.end()) out.push_back(provider.name);
  return out;
}

void sort_hosts(std::vector<MxHost>& hosts) {
  std::ranges::sort(hosts, {}, [](const MxHost& h) { return std::tie(h.preference, h.host); });
}

std::string site_key(std::span<const MxHost> hosts) {
  std::string key;
  for (const MxHost& host : hosts) {
    if (!key.empty()) key += ',';
    key += host.host;
  }
  return key;
}

std::string provider_of(std::span<const MxHost> hosts, const Providers& providers) {
  if (hosts.empty()) return {};
  const Provider* known = providers.find(hosts.front().host);
  return known ? known->name : hosts.front().host;
}

}  // namespace egret::routing
