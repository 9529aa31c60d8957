#include "relay/esp/event_desk.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "relay/runtime/clock.hpp"

namespace egret::relay {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;

/// A desk that finds one bounce to report.
class EventDeskTest : public testing::Test {
 protected:
  EventDeskTest() : directory_(std::filesystem::temp_directory_path() / ("egret-desk-" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(directory_);
    std::filesystem::create_directories(directory_);
    mail = std::make_unique<EspMail>(directory_, config::EventListener{});
    Handover handover;
    handover.smarthost = "esp";
    handover.esp_id = "id-1";
    handover.message = static_cast<smtp::MessageId>(1);
    handover.sender = "app@sender.test";
    handover.recipient = "user@shop.test";
    handover.message_class = "transactional";
    handover.accepted = handover.time = now();
    mail->sent({handover});
    EspDelivery delivery;
    delivery.smarthost = "esp";
    delivery.received = now();
    routing::EspEvent event;
    event.kind = routing::EspEventKind::bounced;
    event.permanent = true;
    event.esp_ids = {"id-1"};
    event.recipient = handover.recipient;
    event.key = "k";
    delivery.events = {event};
    EXPECT_TRUE(run(mail->take(delivery)).work);
  }
  ~EventDeskTest() override {
    spool.reset();
    mail.reset();
    std::filesystem::remove_all(directory_);
  }

  template <class T>
  T run(asio::awaitable<T> task) {
    std::optional<T> out;
    asio::co_spawn(
        io,
        [](asio::awaitable<T> inner, std::optional<T>* to) -> asio::awaitable<void> { *to = co_await std::move(inner); }(
                                                               std::move(task), &out),
        asio::detached);
    auto waits = asio::make_work_guard(io);  // other threads answer
    io.restart();
    while (!out) io.run_one();
    return std::move(*out);
  }
  /// Opens the spool again; what it holds is in `recovered`.
  void open(std::uint64_t reserve) {
    spool.reset();
    recovered.clear();
    spool::Options options;
    options.directory = directory_ / "spool";
    options.reserve = reserve;
    spool = std::make_unique<spool::Spool>(options, [this](spool::Recovered message) { recovered.push_back(message); });
  }
  /// A desk works until `over`, or for ten seconds.
  template <class Over>
  void work_until(Over over) {
    auto config = std::make_shared<config::Config>();
    config->hostname = "relay.test";
    EventDesk desk(io.get_executor(), {config, *mail, events, *spool, metrics, {}, {}, [this](const auto& dsn) {
                                         waiting_when_submitted = spool->counters().waiting;
                                         submitted.push_back(dsn);
                                       }});
    desk.start();
    auto waits = asio::make_work_guard(io);
    io.restart();
    for (int i = 0; i < 1000 && !over(); ++i) io.run_for(10ms);
    run([](EventDesk* ends) -> asio::awaitable<bool> {
      co_await ends->stop();
      co_return true;
    }(&desk));
  }
  std::size_t due() { return run(mail->due(EspWork::dsn, 10)).size(); }

  asio::io_context io;
  std::unique_ptr<EspMail> mail;
  std::unique_ptr<spool::Spool> spool;
  Events events;
  Metrics metrics;
  std::vector<spool::Recovered> recovered;
  std::vector<std::shared_ptr<const spool::Message>> submitted;
  std::uint64_t waiting_when_submitted = 0;

 private:
  std::filesystem::path directory_;
};

TEST_F(EventDeskTest, MakesAReportDurableBeforeTheBounceIsDoneWith) {
  open(0);
  work_until([&] { return !submitted.empty(); });
  ASSERT_EQ(submitted.size(), 1u);
  EXPECT_EQ(waiting_when_submitted, 1u) << "it is in the spool before anybody delivers it";
  EXPECT_EQ(due(), 0u);
  open(0);
  ASSERT_EQ(recovered.size(), 1u);
  EXPECT_EQ(recovered[0].id, submitted[0]->id);
}

TEST_F(EventDeskTest, ABounceIsDueAsLongAsTheSpoolDoesNotTakeItsReport) {
  open(1ull << 62);
  work_until([&] { return spool->trouble() == spool::Trouble::no_space || !submitted.empty(); });
  EXPECT_TRUE(submitted.empty());
  EXPECT_EQ(due(), 1u);
  open(0);
  EXPECT_TRUE(recovered.empty());
  work_until([&] { return !submitted.empty(); });
  EXPECT_EQ(submitted.size(), 1u);
  EXPECT_EQ(due(), 0u);
}

}  // namespace
}  // namespace egret::relay
