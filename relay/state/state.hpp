// What is small and must outlive the program: standings and what is used of budgets, in SQLite beside the spool.
// Losing it loses no mail. Budgets have a table of their own (budget_store). Written from the control thread, at most once a
// second.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/budgets.hpp"
#include "relay/reputation/guard.hpp"
#include "relay/reputation/owner.hpp"
#include "relay/state/database.hpp"
#include "relay/state/kept.hpp"

namespace egret::relay {

class State {
 public:
  /// Opens or creates `directory`/state.db. Throws std::runtime_error with one line for people.
  State(const std::filesystem::path& directory, std::shared_ptr<const config::Config> config);
  ~State();

  /// A part whose rows are kept too, from before restore() until the end of stop().
  void keep(Kept& part) { kept_.push_back(&part); }
  /// Puts back what was saved, for sources and smarthosts that still exist by name and address.
  void restore(Reputation& reputation, Budgets& budgets, Guard& guard);
  /// Another configuration (config::succeed).
  void configure(std::shared_ptr<const config::Config> config) { config_ = std::move(config); }
  void changed(std::uint32_t source) { dirty_.insert(source); }
  void start(const boost::asio::any_io_executor& executor, Reputation& reputation, Budgets& budgets, Guard& guard);
  void stop(Reputation& reputation, Budgets& budgets, Guard& guard);

 private:
  void save(Reputation& reputation, Budgets& budgets, Guard& guard);
  void put(const std::string& kind, const std::string& name, const std::string& value);
  void arm(Reputation& reputation, Budgets& budgets, Guard& guard);

  std::shared_ptr<const config::Config> config_;
  db::Database db_;
  std::set<std::uint32_t> dirty_;
  std::vector<Kept*> kept_;
  bool unsaved_ = false;
  std::vector<std::string> smarthosts_saved_;  ///< their states as last written
  std::unique_ptr<boost::asio::steady_timer> timer_;
};

/// A source's state as JSON text, and back; nullopt when the text is none of ours.
std::string encode_state(const routing::SourceState& state);
std::optional<routing::SourceState> decode_state(std::string_view text);

/// A smarthost's rest as JSON text, and back.
std::string encode_smarthost(const routing::SmarthostState& state);
std::optional<routing::SmarthostState> decode_smarthost(std::string_view text);

}  // namespace egret::relay
