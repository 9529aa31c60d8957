// Budgets on disk: a table of state.db, written through a connection of its own, whose commits are synced: what commit()
// said is there after a crash of the machine too.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "routing/budget_stage.hpp"
#include "routing/spending.hpp"

struct sqlite3;

namespace egret::relay {

struct BudgetRow {
  std::string smarthost, message_class;  ///< either may be empty
  routing::Unit unit;
  routing::Duration per{};
  routing::BudgetUse use;
  routing::BudgetStage told = routing::BudgetStage::plenty;
  std::uint64_t limit = 0;  ///< that `told` is about
};

/// Not thread-safe: Budgets calls it under a lock.
class BudgetStore {
 public:
  /// Opens or creates `directory`/state.db. Throws std::runtime_error with one line for people.
  explicit BudgetStore(const std::filesystem::path& directory);
  ~BudgetStore();
  BudgetStore(const BudgetStore&) = delete;
  BudgetStore& operator=(const BudgetStore&) = delete;

  /// What is there. Periods that were over long before `now` are deleted.
  std::vector<BudgetRow> load(routing::Time now);
  /// All or none, durable. False, with a line in the log, when the disk does not take it.
  bool commit(const std::vector<BudgetRow>& rows);
  /// Whether the last commit failed. Thread-safe.
  bool failing() const { return failing_; }

 private:
  void execute(const char* sql);

  sqlite3* db_ = nullptr;
  std::atomic<bool> failing_{false};
};

}  // namespace egret::relay
