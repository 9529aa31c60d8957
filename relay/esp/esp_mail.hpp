// The memory of what smarthosts took, and of what they said later, on a thread of its own: deliveries only put a note into
// a queue. Notes are written together, a tenth of a second later at most; those of the last moment are lost in a crash, and
// with them no mail, only the tie of an event to its message.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>
#include <filesystem>
#include <mutex>
#include <vector>

#include "config/esp_events.hpp"
#include "relay/esp/esp_metrics.hpp"
#include "relay/esp/esp_store.hpp"

namespace egret::relay {

class EspMail {
 public:
  static constexpr std::size_t max_queue = 100'000;  ///< notes that wait to be written; further ones are dropped

  /// Opens or creates `directory`/esp.db. Throws std::runtime_error with one line for people.
  EspMail(const std::filesystem::path& directory, const config::EventListener& options);
  /// Writes what waits.
  ~EspMail();

  /// Another configuration. Any thread.
  void configure(const config::EventListener& options);
  /// Any thread; never blocks on the database.
  void sent(std::vector<Handover> handovers);

  // Awaited from any thread; the coroutine goes on where it was. None of them throws.
  boost::asio::awaitable<EspTaken> take(EspDelivery delivery);
  boost::asio::awaitable<EspHistory> history(smtp::MessageId id);
  boost::asio::awaitable<std::vector<EspRecord>> due(EspWork work, std::size_t most);
  /// False: it could not be noted, and they are due still.
  boost::asio::awaitable<bool> done(EspWork work, std::vector<std::int64_t> ids);
  boost::asio::awaitable<std::int64_t> complaints(std::string sender, routing::Time since);

  EspMetrics& metrics() { return metrics_; }

 private:
  template <class Result, class Call>
  boost::asio::awaitable<Result> on_thread(Result otherwise, Call call);
  void arm();
  void flush();
  void clean_when_due();

  EspStore store_;
  EspMetrics metrics_;
  std::mutex mutex_;  ///< of the next four
  std::vector<Handover> queue_;
  bool armed_ = false;
  routing::Duration retention_{};
  std::int64_t most_ = 0;
  routing::Time cleaned_{};
  boost::asio::thread_pool thread_{1};
  boost::asio::steady_timer timer_{thread_};
};

}  // namespace egret::relay
