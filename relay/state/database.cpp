#include "relay/state/database.hpp"

#include <sqlite3.h>

#include <stdexcept>
#include <system_error>

#include "relay/runtime/directory.hpp"

namespace egret::relay::db {

Database::Database(const std::filesystem::path& path) {
  std::error_code error;
  try {
    create_durably(path.parent_path());
  } catch (const std::system_error& e) {
    error = e.code();
  }
  if (error || sqlite3_open(path.c_str(), &db_) != SQLITE_OK) {
    const std::string why = error ? error.message() : sqlite3_errmsg(db_);
    sqlite3_close(db_);
    throw std::runtime_error("cannot open " + path.string() + ": " + why);
  }
  try {
    sqlite3_busy_timeout(db_, 1000);
    execute("PRAGMA journal_mode=WAL");
    execute("PRAGMA synchronous=NORMAL");
  } catch (const std::exception& e) {
    sqlite3_close(db_);
    throw std::runtime_error("cannot use " + path.string() + ": " + e.what());
  }
}

Database::~Database() {
  sqlite3_close(db_);
}

void Database::execute(const char* sql) {
  char* message = nullptr;
  if (sqlite3_exec(db_, sql, nullptr, nullptr, &message) == SQLITE_OK) return;
  const std::string text = message ? message : "unknown error";
  sqlite3_free(message);
  throw std::runtime_error(text);
}

std::int64_t Database::last_row() const {
  return sqlite3_last_insert_rowid(db_);
}

std::int64_t Database::changes() const {
  return sqlite3_changes64(db_);
}

Statement::Statement(const Database& database, const char* sql) {
  if (sqlite3_prepare_v2(database.handle(), sql, -1, &raw_, nullptr) != SQLITE_OK)
    throw std::runtime_error(sqlite3_errmsg(database.handle()));
}

Statement::~Statement() {
  sqlite3_finalize(raw_);
}

Statement& Statement::bind(int index, std::string_view value) {
  sqlite3_bind_text(raw_, index, value.empty() ? "" : value.data(), static_cast<int>(value.size()), SQLITE_TRANSIENT);
  return *this;
}

Statement& Statement::bind(int index, std::int64_t value) {
  sqlite3_bind_int64(raw_, index, value);
  return *this;
}

Statement& Statement::bind_null(int index) {
  sqlite3_bind_null(raw_, index);
  return *this;
}

bool Statement::step() {
  const int result = sqlite3_step(raw_);
  if (result != SQLITE_ROW && result != SQLITE_DONE) throw std::runtime_error(sqlite3_errmsg(sqlite3_db_handle(raw_)));
  return result == SQLITE_ROW;
}

void Statement::reset() {
  sqlite3_reset(raw_);
  sqlite3_clear_bindings(raw_);
}

std::string Statement::text(int column) const {
  const auto* data = reinterpret_cast<const char*>(sqlite3_column_text(raw_, column));
  return data ? std::string(data, static_cast<std::size_t>(sqlite3_column_bytes(raw_, column))) : std::string();
}

std::int64_t Statement::integer(int column) const {
  return sqlite3_column_int64(raw_, column);
}

bool Statement::null(int column) const {
  return sqlite3_column_type(raw_, column) == SQLITE_NULL;
}

Transaction::Transaction(Database& database) : database_(database) {
  database_.execute("BEGIN IMMEDIATE");
}

Transaction::~Transaction() {
  if (!open_) return;
  try {
    database_.execute("ROLLBACK");
  } catch (const std::exception&) {  // a failed statement may have ended the transaction already
  }
}

void Transaction::commit() {
  database_.execute("COMMIT");
  open_ = false;
}

}  // namespace egret::relay::db
