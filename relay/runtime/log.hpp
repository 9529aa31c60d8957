// Structured log lines: a message and fields, as text or JSON, written by a thread of their own. Thread-safe.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace egret::relay::log {

enum class Level { debug, info, warn, error };

using Field = std::pair<std::string_view, std::string>;

/// Starts the logger; `format` is "json" or "text". Before that, lines go to standard error as text.
void start(std::string_view level, std::string_view format);
/// Any thread.
void set_level(std::string_view level);
/// Writes what is pending. Called once, at the end.
void stop();

bool enabled(Level level);
void write(Level level, std::string_view message, const std::vector<Field>& fields);

inline void debug(std::string_view message, const std::vector<Field>& fields = {}) {
  write(Level::debug, message, fields);
}
inline void info(std::string_view message, const std::vector<Field>& fields = {}) {
  write(Level::info, message, fields);
}
inline void warn(std::string_view message, const std::vector<Field>& fields = {}) {
  write(Level::warn, message, fields);
}
inline void error(std::string_view message, const std::vector<Field>& fields = {}) {
  write(Level::error, message, fields);
}

}  // namespace egret::relay::log
