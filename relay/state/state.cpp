#include "relay/state/state.hpp"

#include <charconv>
#include <stdexcept>

#include "relay/reputation/readiness.hpp"
#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

/// A source is the one that was saved only while its address is the same: reputation belongs to the address.
std::string key_of(const routing::SourceInfo& source) {
  return source.name + "@" + source.reputation.to_string();
}

/// Rows of kind "shaping": named SOURCE@ADDRESS, a line feed and the provider; used recipients of the day and the hour.
void restore_shaping(const config::Config& config, const std::string& name, const std::string& value, Shaping& shaping) {
  const std::size_t end = name.find('\n');
  long long day = 0, hour = 0;
  unsigned long long day_used = 0, hour_used = 0;
  if (end == std::string::npos || std::sscanf(value.c_str(), "%lld %llu %lld %llu", &day, &day_used, &hour, &hour_used) != 4)
    return;
  for (std::uint32_t i = 0; i < config.topology.sources.size(); ++i)
    if (key_of(config.topology.sources[i]) == name.substr(0, end))
      shaping.restore(i, name.substr(end + 1), {routing::Time(routing::Duration(day)), day_used},
                      {routing::Time(routing::Duration(hour)), hour_used});
}

std::string encode_shaping(const routing::ShapingUse& use) {
  const auto text = [](const routing::BudgetUse& u) {
    return std::to_string(u.window.time_since_epoch().count()) + " " + std::to_string(u.used);
  };
  return text(use.day) + " " + text(use.hour);
}

}  // namespace

State::State(const std::filesystem::path& directory, std::shared_ptr<const config::Config> config)
    : config_(std::move(config)), db_(directory / "state.db") {
  db_.execute("CREATE TABLE IF NOT EXISTS state(kind TEXT, name TEXT, value TEXT, PRIMARY KEY(kind, name))");
}

State::~State() = default;

void State::put(const std::string& kind, const std::string& name, const std::string& value) {
  db::Statement statement(db_, "INSERT OR REPLACE INTO state VALUES(?, ?, ?)");
  statement.bind(1, kind).bind(2, name).bind(3, value).step();
}

void State::restore(Reputation& reputation, Budgets& budgets, Guard& guard) {
  db::Statement rows(db_, "SELECT kind, name, value FROM state");
  while (rows.step()) {
    const std::string kind = rows.text(0), name = rows.text(1), value = rows.text(2);
    if (kind == "source") {
      for (std::uint32_t i = 0; i < config_->topology.sources.size(); ++i)
        if (key_of(config_->topology.sources[i]) == name)
          if (auto state = decode_state(value)) reputation.restore(i, std::move(*state));
    } else if (kind == "guard") {
      guard.restore(value);
    } else if (kind == "smarthost") {
      for (std::uint32_t i = 0; i < config_->smarthosts.size(); ++i)
        if (config_->smarthosts[i].name == name)
          if (auto state = decode_smarthost(value)) reputation.restore_smarthost(i, std::move(*state));
    } else if (kind == "readiness") {
      for (std::uint32_t i = 0; i < config_->smarthosts.size(); ++i)
        if (config_->smarthosts[i].name == name) reputation.readiness().restore(i, value, now());
    } else if (kind == "shaping") {
      restore_shaping(*config_, name, value, budgets.shaping);
    }
    for (Kept* part : kept_)
      if (part->kind() == kind) part->restore(name, value);
  }
}

void State::save(Reputation& reputation, Budgets& budgets, Guard& guard) {
  const bool again = std::exchange(unsaved_, false);  // the last time failed: what had changed then is saved now
  const bool shaped = budgets.shaping.take_changed() || again;
  const auto senders = guard.take_changed(again);
  std::vector<std::string> smarthosts;
  for (std::uint32_t i = 0; i < config_->smarthosts.size(); ++i) smarthosts.push_back(encode_smarthost(reputation.smarthost(i)));
  const bool readiness = reputation.readiness().take_changed() || again;
  std::vector<std::pair<std::string, KeptRow>> rows;
  for (Kept* part : kept_)
    for (auto& row : part->take_changed(again)) rows.emplace_back(part->kind(), std::move(row));
  if (dirty_.empty() && !shaped && !senders && !readiness && smarthosts == smarthosts_saved_ && rows.empty()) return;
  try {
    db::Transaction all(db_);
    for (const std::uint32_t source : dirty_)
      if (!config_->topology.sources[source].removed)
        put("source", key_of(config_->topology.sources[source]), encode_state(reputation.state(source)));
    for (std::uint32_t i = 0; i < config_->smarthosts.size(); ++i) {
      if (config_->smarthosts[i].removed) continue;
      put("smarthost", config_->smarthosts[i].name, smarthosts[i]);
      if (readiness) put("readiness", config_->smarthosts[i].name, reputation.readiness().encode(i));
    }
    if (senders) put("guard", "", *senders);
    for (const auto& [kind, row] : rows) put(kind, row.name, row.value);
    if (!rows.empty()) db_.execute("DELETE FROM state WHERE value = ''");
    if (shaped) {
      db_.execute("DELETE FROM state WHERE kind = 'shaping'");
      for (std::uint32_t i = 0; i < config_->topology.sources.size(); ++i)
        if (!config_->topology.sources[i].removed)
          for (const auto& [provider, use] : budgets.shaping.capped(i))
            put("shaping", key_of(config_->topology.sources[i]) + "\n" + provider, encode_shaping(use));
    }
    all.commit();
    dirty_.clear();
    smarthosts_saved_ = std::move(smarthosts);
  } catch (const std::exception& e) {
    log::error("state could not be saved", {{"reason", e.what()}});
    unsaved_ = true;
  }
}

void State::start(const boost::asio::any_io_executor& executor, Reputation& reputation, Budgets& budgets, Guard& guard) {
  timer_ = std::make_unique<boost::asio::steady_timer>(executor);
  arm(reputation, budgets, guard);
}

void State::arm(Reputation& reputation, Budgets& budgets, Guard& guard) {
  timer_->expires_after(std::chrono::seconds(1));
  timer_->async_wait([this, &reputation, &budgets, &guard](const boost::system::error_code& error) {
    if (error) return;
    save(reputation, budgets, guard);
    budgets.save(now());
    arm(reputation, budgets, guard);
  });
}

void State::stop(Reputation& reputation, Budgets& budgets, Guard& guard) {
  timer_.reset();  // it must not outlive its executor
  save(reputation, budgets, guard);
  budgets.close(now());
}

}  // namespace egret::relay
