#include "config/succession.hpp"

#include <algorithm>
#include <cstdint>

namespace egret::config {
namespace {

/// Where each entry of the next configuration stands in the merged one.
using Places = std::vector<std::uint32_t>;

/// Lays `next` over `previous`: equals keep their place, new ones follow at the end, the rest is marked removed.
template <class T, class Same>
Places lay_over(std::vector<T>& merged, const std::vector<T>& next, Same same) {
  const std::size_t before = merged.size();
  for (T& old : merged) old.removed = true;
  Places out;
  for (const T& entry : next) {
    std::size_t at = 0;
    while (at < before && !same(merged[at], entry)) ++at;
    out.push_back(static_cast<std::uint32_t>(at < before ? at : merged.size()));
    if (at < before)
      merged[at] = entry;
    else
      merged.push_back(entry);
  }
  return out;
}

void move_to(std::vector<std::uint32_t>& indices, const Places& places) {
  for (auto& index : indices) index = places[index];
}

Places sources(Config& out, const Config& previous, const Config& next) {
  out.topology.sources = previous.topology.sources;
  const Places places = lay_over(out.topology.sources, next.topology.sources,
                                 [](const auto& a, const auto& b) { return a.name == b.name && a.reputation == b.reputation; });
  out.via = previous.via;
  out.via.resize(out.topology.sources.size());
  for (std::size_t i = 0; i < places.size(); ++i) out.via[places[i]] = next.via[i];
  return places;
}

Places smarthosts(Config& out, const Config& previous, const Config& next) {
  out.smarthosts = previous.smarthosts;
  const Places places = lay_over(out.smarthosts, next.smarthosts, [](const auto& a, const auto& b) {
    return a.name == b.name && a.provider == b.provider && a.host == b.host;
  });
  out.topology.smarthosts.clear();
  for (const auto& host : out.smarthosts) out.topology.smarthosts.push_back(host.name);
  return places;
}

Places pools(Config& out, const Config& previous, const Config& next, const Places& source_places, const Places& host_places) {
  out.topology.pools = previous.topology.pools;
  const Places places =
      lay_over(out.topology.pools, next.topology.pools, [](const auto& a, const auto& b) { return a.name == b.name; });
  for (auto& pool : out.topology.pools) {
    if (pool.removed) {
      pool.sources.clear();
      pool.fallback.clear();
      continue;
    }
    move_to(pool.sources, source_places);
    move_to(pool.fallback, host_places);
  }
  return places;
}

Places classes(Config& out, const Config& previous, const Config& next, const Places& pool_places) {
  out.classes = previous.classes;
  const Places places = lay_over(out.classes, next.classes, [](const auto& a, const auto& b) { return a.name == b.name; });
  for (auto& one : out.classes)
    if (!one.removed) one.pool = pool_places[one.pool];
  for (auto& one : out.classes)
    if (one.removed) one.pool = out.classes[places.front()].pool;
  return places;
}

}  // namespace

std::shared_ptr<const Config> succeed(const Config& previous, const Config& next) {
  auto out = std::make_shared<Config>(next);
  out->version = previous.version + 1;
  const Places source_places = sources(*out, previous, next);
  const Places host_places = smarthosts(*out, previous, next);
  const Places pool_places = pools(*out, previous, next, source_places, host_places);
  const Places class_places = classes(*out, previous, next, pool_places);
  for (auto& listener : out->listeners) listener.message_class = class_places[listener.message_class];
  for (auto& target : out->alerts)
    if (target.mail) target.mail->message_class = class_places[target.mail->message_class];
  for (auto& route : out->routes)
    if (route.pool) route.pool = pool_places[*route.pool];
  return out;
}

std::vector<std::string> needing_restart(const Config& previous, const Config& next) {
  std::vector<std::string> out;
  if (previous.data_dir != next.data_dir) out.emplace_back("data_dir");
  if (previous.threads != next.threads) out.emplace_back("threads");
  if (previous.spool.reserve != next.spool.reserve) out.emplace_back("spool.reserve");
  if (previous.admin.address != next.admin.address) out.emplace_back("admin.address");
  if (previous.log.format != next.log.format) out.emplace_back("log.format");
  return out;
}

}  // namespace egret::config
