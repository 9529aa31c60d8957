#include "relay/runtime/log.hpp"

#include <spdlog/async.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <boost/json/value.hpp>
#include <memory>

#include "relay/runtime/clock.hpp"
#include "smtp/text.hpp"

namespace egret::relay::log {
namespace {

std::atomic<Level> least{Level::info};
std::atomic<bool> json{false};
std::shared_ptr<spdlog::logger> logger;

std::string_view name(Level level) {
  switch (level) {
    case Level::debug:
      return "debug";
    case Level::info:
      return "info";
    case Level::warn:
      return "warn";
    case Level::error:
      return "error";
  }
  return "info";
}

/// Replies of several lines stay one line here, with the two characters "\n" as `egret classify` reads them.
std::string one_line(std::string_view text) {
  std::string out;
  for (std::size_t end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    out += smtp::printable(text.substr(0, end)) + "\\n";
    text.remove_prefix(end + 1);
  }
  return out + smtp::printable(text);
}

std::string json_string(std::string_view text) {
  return boost::json::serialize(boost::json::value(one_line(text)));
}

std::string json_line(Level level, std::string_view message, const std::vector<Field>& fields) {
  std::string out = R"({"time":")" + routing::to_rfc3339(now()) + R"(","level":")" + std::string(name(level)) +
                    R"(","message":)" + json_string(message);
  for (const auto& [key, value] : fields) out += ",\"" + std::string(key) + "\":" + json_string(value);
  return out + "}";
}

std::string text_line(Level level, std::string_view message, const std::vector<Field>& fields) {
  std::string out = routing::to_rfc3339(now()) + ' ' + std::string(name(level)) + ' ' + std::string(message);
  for (const auto& [key, value] : fields) {
    out += ' ';
    out += key;
    out += '=';
    const bool quote = value.empty() || value.find_first_of(" \"=\n\t") != std::string::npos;
    out += quote ? json_string(value) : one_line(value);
  }
  return out;
}

}  // namespace

void set_level(std::string_view level) {
  least = level == "debug" ? Level::debug : level == "warn" ? Level::warn : level == "error" ? Level::error : Level::info;
}

void start(std::string_view level, std::string_view format) {
  set_level(level);
  json = format == "json";
  spdlog::init_thread_pool(8192, 1);
  logger = std::make_shared<spdlog::async_logger>("egret", std::make_shared<spdlog::sinks::stderr_sink_mt>(),
                                                  spdlog::thread_pool(), spdlog::async_overflow_policy::block);
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);
}

void stop() {
  if (!logger) return;
  logger->flush();
  spdlog::shutdown();  // ends the writing thread: from here on nobody else holds the logger
  logger.reset();
}

bool enabled(Level level) {
  return level >= least.load(std::memory_order_relaxed);
}

void write(Level level, std::string_view message, const std::vector<Field>& fields) {
  if (!enabled(level)) return;
  const std::string line = json ? json_line(level, message, fields) : text_line(level, message, fields);
  if (logger) {
    logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
}

}  // namespace egret::relay::log
