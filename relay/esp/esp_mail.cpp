#include "relay/esp/esp_mail.hpp"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

constexpr auto gather = 100ms;  // notes that are written together
constexpr auto clean_every = 10min;
constexpr auto tokens_kept = 73h;  // more than any events.max_age, and the makers' clocks that are ahead

template <class Result, class Call>
asio::awaitable<Result> call_it(Call call) {
  co_return call();
}

}  // namespace

EspMail::EspMail(const std::filesystem::path& directory, const config::EventListener& options) : store_(directory / "esp.db") {
  configure(options);
}

EspMail::~EspMail() {
  asio::post(thread_, [this] {
    flush();
    timer_.cancel();
  });
  thread_.join();
}

void EspMail::configure(const config::EventListener& options) {
  const std::lock_guard lock(mutex_);
  retention_ = options.retention;
  most_ = options.max_recipients;
}

void EspMail::sent(std::vector<Handover> handovers) {
  std::size_t dropped = 0;
  {
    const std::lock_guard lock(mutex_);
    for (auto& handover : handovers) {
      if (queue_.size() < max_queue)
        queue_.push_back(std::move(handover));
      else
        ++dropped;
    }
    if (!armed_) asio::post(thread_, [this] { arm(); });
    armed_ = true;
  }
  if (dropped > 0) metrics_.total([&](auto& totals) { totals.handovers_dropped += dropped; });
}

void EspMail::arm() {
  timer_.expires_after(gather);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) flush();
  });
}

/// On the database's thread.
void EspMail::flush() {
  std::vector<Handover> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(queue_);
    armed_ = false;
  }
  try {
    if (!batch.empty()) store_.add(batch);
    clean_when_due();
  } catch (const std::exception& e) {
    log::error("what smarthosts took could not be noted", {{"reason", e.what()}, {"recipients", std::to_string(batch.size())}});
    metrics_.total([&](auto& totals) { totals.handovers_dropped += batch.size(); });
  }
}

void EspMail::clean_when_due() {
  if (now() - cleaned_ < clean_every) return;
  routing::Time before{};
  std::int64_t most = 0;
  {
    const std::lock_guard lock(mutex_);
    before = now() - retention_;
    most = most_;
  }
  // As long as there is more, each time that something is written.
  if (!store_.clean(before, std::min<routing::Time>(before, now() - tokens_kept), most)) cleaned_ = now();
}

template <class Result, class Call>
asio::awaitable<Result> EspMail::on_thread(Result otherwise, Call call) {
  const auto guarded = [this, otherwise = std::move(otherwise), call = std::move(call)]() mutable -> Result {
    flush();
    try {
      return call();
    } catch (const std::exception& e) {
      log::error("esp.db does not do what it should", {{"reason", e.what()}});
      return otherwise;
    }
  };
  co_return co_await asio::co_spawn(thread_, call_it<Result>(guarded), asio::use_awaitable);
}

asio::awaitable<EspTaken> EspMail::take(EspDelivery delivery) {
  EspTaken failed;
  failed.failed = true;
  return on_thread(std::move(failed), [this, delivery = std::move(delivery)] { return store_.take(delivery); });
}

asio::awaitable<EspHistory> EspMail::history(smtp::MessageId id) {
  return on_thread(EspHistory{}, [this, id] { return store_.history(id); });
}

asio::awaitable<std::vector<EspRecord>> EspMail::due(EspWork work, std::size_t most) {
  return on_thread(std::vector<EspRecord>{}, [this, work, most] { return store_.due(work, most); });
}

asio::awaitable<bool> EspMail::done(EspWork work, std::vector<std::int64_t> ids) {
  return on_thread(false, [this, work, ids = std::move(ids)] {
    store_.done(work, ids);
    return true;
  });
}

asio::awaitable<std::int64_t> EspMail::complaints(std::string sender, routing::Time since) {
  return on_thread(std::int64_t{0}, [this, sender = std::move(sender), since] { return store_.complaints(sender, since); });
}

}  // namespace egret::relay
