// SQLite without its header: a database file of our own and statements on it. Each is used from one thread at a time.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace egret::relay::db {

/// Everything throws std::runtime_error with a line for people when the database does not do it.
class Database {
 public:
  /// Opens or creates the file (write-ahead log; durable over a crash of the program, the last moments not over a crash of
  /// the system).
  explicit Database(const std::filesystem::path& path);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void execute(const char* sql);
  sqlite3* handle() const { return db_; }
  std::int64_t last_row() const;
  std::int64_t changes() const;  ///< rows that the last statement changed

 private:
  sqlite3* db_ = nullptr;
};

class Statement {
 public:
  Statement(const Database& database, const char* sql);
  ~Statement();
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  /// Parameters count from 1; the text is copied.
  Statement& bind(int index, std::string_view value);
  Statement& bind(int index, std::int64_t value);
  Statement& bind_null(int index);
  /// False at the end.
  bool step();
  /// Back to the beginning, without parameters.
  void reset();
  std::string text(int column) const;  ///< columns count from 0
  std::int64_t integer(int column) const;
  bool null(int column) const;

 private:
  sqlite3_stmt* raw_ = nullptr;
};

/// All or nothing: what was not committed is rolled back.
class Transaction {
 public:
  explicit Transaction(Database& database);
  ~Transaction();
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit();

 private:
  Database& database_;
  bool open_ = true;
};

}  // namespace egret::relay::db
