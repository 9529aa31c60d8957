#include "relay/state/budget_store.hpp"

#include <sqlite3.h>

#include <algorithm>
#include <stdexcept>

#include "relay/runtime/directory.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

constexpr int busy_ms = 2000;
constexpr auto kept = std::chrono::hours(24 * 40);  // a clock that was wrong for a while deletes nothing that still counts

struct Finalize {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using Statement = std::unique_ptr<sqlite3_stmt, Finalize>;

Statement prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* raw = nullptr;
  if (sqlite3_prepare_v2(db, sql, -1, &raw, nullptr) != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(db));
  return Statement(raw);
}

void bind_to(const Statement& statement, int index, std::string_view text) {
  sqlite3_bind_text(statement.get(), index, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}

/// SQLite's integers are signed; amounts are far below.
void bind_to(const Statement& statement, int index, std::uint64_t number) {
  sqlite3_bind_int64(statement.get(), index, static_cast<sqlite3_int64>(std::min<std::uint64_t>(number, INT64_MAX)));
}

std::string text(const Statement& statement, int column) {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(statement.get(), column));
  return data ? data : "";
}

std::uint64_t number(const Statement& statement, int column) {
  return static_cast<std::uint64_t>(std::max<sqlite3_int64>(0, sqlite3_column_int64(statement.get(), column)));
}

}  // namespace

BudgetStore::BudgetStore(const std::filesystem::path& directory) {
  const auto path = directory / "state.db";
  try {
    create_durably(directory);
    if (sqlite3_open(path.c_str(), &db_) != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(db_));
    sqlite3_busy_timeout(db_, busy_ms);
    execute("PRAGMA journal_mode=WAL");
    execute("PRAGMA synchronous=FULL");
    execute(
        "CREATE TABLE IF NOT EXISTS budgets(smarthost TEXT, class TEXT, unit TEXT, per INTEGER, start INTEGER, used INTEGER, "
        "told INTEGER, amount INTEGER, PRIMARY KEY(smarthost, class, unit, per))");
  } catch (const std::exception& e) {
    sqlite3_close(db_);
    throw std::runtime_error("cannot use " + path.string() + ": " + e.what());
  }
}

BudgetStore::~BudgetStore() {
  sqlite3_close(db_);
}

void BudgetStore::execute(const char* sql) {
  if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) throw std::runtime_error(sqlite3_errmsg(db_));
}

std::vector<BudgetRow> BudgetStore::load(routing::Time now) {
  const Statement old = prepare(db_, "DELETE FROM budgets WHERE start + per < ?");
  sqlite3_bind_int64(old.get(), 1, routing::Time(now - kept).time_since_epoch().count());
  if (sqlite3_step(old.get()) != SQLITE_DONE) throw std::runtime_error(std::string("state: ") + sqlite3_errmsg(db_));
  std::vector<BudgetRow> out;
  const Statement rows = prepare(db_, "SELECT smarthost, class, unit, per, start, used, told, amount FROM budgets");
  int step = 0;
  while ((step = sqlite3_step(rows.get())) == SQLITE_ROW) {
    const auto unit = routing::Unit::of_code(text(rows, 2));
    const std::uint64_t per = number(rows, 3);
    if (!unit || per == 0) continue;
    BudgetRow& row = out.emplace_back();
    row.smarthost = text(rows, 0);
    row.message_class = text(rows, 1);
    row.unit = *unit;
    row.per = routing::Duration(static_cast<std::int64_t>(per));
    row.use = {routing::Time(routing::Duration(static_cast<std::int64_t>(number(rows, 4)))), number(rows, 5)};
    row.told = static_cast<routing::BudgetStage>(std::min<std::uint64_t>(number(rows, 6), 3));
    row.limit = number(rows, 7);
  }
  // Budgets that cannot be read must not start again at nothing.
  if (step != SQLITE_DONE) throw std::runtime_error(std::string("state: ") + sqlite3_errmsg(db_));
  return out;
}

bool BudgetStore::commit(const std::vector<BudgetRow>& rows) {
  try {
    execute("BEGIN IMMEDIATE");
    const Statement put = prepare(db_, "INSERT OR REPLACE INTO budgets VALUES(?, ?, ?, ?, ?, ?, ?, ?)");
    for (const BudgetRow& row : rows) {
      bind_to(put, 1, row.smarthost);
      bind_to(put, 2, row.message_class);
      bind_to(put, 3, row.unit.code());
      bind_to(put, 4, static_cast<std::uint64_t>(row.per.count()));
      bind_to(put, 5, static_cast<std::uint64_t>(row.use.window.time_since_epoch().count()));
      bind_to(put, 6, row.use.used);
      bind_to(put, 7, static_cast<std::uint64_t>(row.told));
      bind_to(put, 8, row.limit);
      if (sqlite3_step(put.get()) != SQLITE_DONE) throw std::runtime_error(sqlite3_errmsg(db_));
      sqlite3_reset(put.get());
    }
    execute("COMMIT");
    failing_ = false;
    return true;
  } catch (const std::exception& e) {
    // Every job would say so again.
    if (!failing_.exchange(true)) log::error("budgets could not be saved", {{"reason", e.what()}});
    sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
    return false;
  }
}

}  // namespace egret::relay
