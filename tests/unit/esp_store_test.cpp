#include "relay/esp/esp_store.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "relay/esp/bounce_report.hpp"

namespace egret::relay {
namespace {

using routing::EspEventKind;
using routing::Time;

const Time start = Time(std::chrono::milliseconds(1'700'000'000'000));

class EspStoreTest : public testing::Test {
 protected:
  EspStoreTest() : directory_(std::filesystem::temp_directory_path() / ("egret-esp-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(directory_);
    open();
  }
  ~EspStoreTest() override {
    store.reset();
    std::filesystem::remove_all(directory_);
  }
  void open() {
    store.reset();
    store = std::make_unique<EspStore>(directory_ / "esp.db");
  }

  static Handover handover(std::uint64_t message, const std::string& recipient = "user@shop.test") {
    Handover h;
    h.smarthost = "esp";
    h.esp_id = "id-" + std::to_string(message);
    h.message = static_cast<smtp::MessageId>(message);
    h.sender = "app@sender.test";
    h.recipient = recipient;
    h.message_class = "transactional";
    h.user = "shop";
    h.accepted = h.time = start;
    return h;
  }
  static routing::EspEvent event(const std::string& key, EspEventKind kind, const std::string& id,
                                 const std::string& recipient = "user@shop.test") {
    routing::EspEvent e;
    e.kind = kind;
    e.esp_ids = {id};
    e.recipient = recipient;
    e.time = start;
    e.diagnostic = "smtp; 550 5.1.1 no such user";
    e.permanent = kind == EspEventKind::bounced || kind == EspEventKind::suppressed;
    e.key = key;
    return e;
  }
  EspTaken take(std::vector<routing::EspEvent> events, const std::string& token = "", const std::string& smarthost = "esp") {
    EspDelivery d;
    d.smarthost = smarthost;
    d.token = token;
    d.events = std::move(events);
    d.forward = {EspEventKind::bounced};
    d.received = start;
    return store->take(d);
  }

  std::unique_ptr<EspStore> store;

 private:
  std::filesystem::path directory_;
};

TEST_F(EspStoreTest, TiesAnEventByTheEspsIdAlsoAfterAStart) {
  store->add({handover(1), handover(2)});
  open();
  const auto taken = take({event("k", EspEventKind::bounced, "id-2")});
  ASSERT_EQ(taken.fresh.size(), 1u);
  ASSERT_TRUE(taken.fresh[0].handover);
  EXPECT_EQ(taken.fresh[0].handover->message, static_cast<smtp::MessageId>(2));
  EXPECT_EQ(taken.fresh[0].handover->user, "shop");
  const auto history = store->history(static_cast<smtp::MessageId>(2));
  ASSERT_EQ(history.events.size(), 1u);
  EXPECT_EQ(history.events[0].diagnostic, "smtp; 550 5.1.1 no such user");
  EXPECT_TRUE(store->history(static_cast<smtp::MessageId>(1)).events.empty());
}

TEST_F(EspStoreTest, TiesAnEventByOurOwnIdFirst) {
  store->add({handover(1), handover(2)});
  auto e = event("k", EspEventKind::delivered, "id-1");
  e.our_id = smtp::to_string(static_cast<smtp::MessageId>(2));
  EXPECT_EQ(take({e}).fresh.at(0).handover->message, static_cast<smtp::MessageId>(2));
}

TEST_F(EspStoreTest, ChoosesTheRecipientAmongSeveral) {
  store->add({handover(1, "a@shop.test"), handover(1, "B@shop.test")});
  EXPECT_EQ(take({event("k1", EspEventKind::bounced, "id-1", "b@SHOP.test")}).fresh.at(0).recipient, "B@shop.test");
  EXPECT_FALSE(take({event("k2", EspEventKind::bounced, "id-1", "c@shop.test")}).fresh.at(0).handover);
  store->add({handover(2, "one@shop.test")});
  EXPECT_EQ(take({event("k3", EspEventKind::bounced, "id-2", "forwarded@elsewhere.test")}).fresh.at(0).recipient,
            "one@shop.test");
}

TEST_F(EspStoreTest, AnotherSmarthostsEventTouchesNothing) {
  store->add({handover(1)});
  const auto taken = take({event("k", EspEventKind::bounced, "id-1")}, "", "other");
  EXPECT_FALSE(taken.fresh.at(0).handover);
  EXPECT_TRUE(store->due(EspWork::dsn, 10).empty());
}

TEST_F(EspStoreTest, TheSameEventIsTakenOnce) {
  store->add({handover(1)});
  EXPECT_EQ(take({event("k", EspEventKind::bounced, "id-1")}).fresh.size(), 1u);
  open();
  const auto again = take({event("k", EspEventKind::bounced, "id-1"), event("l", EspEventKind::delivered, "id-1")});
  EXPECT_EQ(again.repeated, 1u);
  EXPECT_EQ(again.fresh.size(), 1u);
}

TEST_F(EspStoreTest, ATokenIsUsedOnce) {
  store->add({handover(1)});
  EXPECT_FALSE(take({event("k", EspEventKind::bounced, "id-1")}, "t").token_used);
  const auto again = take({event("l", EspEventKind::bounced, "id-1")}, "t");
  EXPECT_TRUE(again.token_used);
  EXPECT_TRUE(again.fresh.empty());
  EXPECT_EQ(store->history(static_cast<smtp::MessageId>(1)).events.size(), 1u);
  EXPECT_FALSE(take({}, "t", "other").token_used);
}

TEST_F(EspStoreTest, OneReportForAMessageAndRecipient) {
  store->add({handover(1, "a@shop.test"), handover(1, "b@shop.test")});
  take({event("k1", EspEventKind::bounced, "id-1", "a@shop.test"), event("k2", EspEventKind::suppressed, "id-1", "a@shop.test"),
        event("k3", EspEventKind::bounced, "id-1", "b@shop.test")});
  const auto due = store->due(EspWork::dsn, 10);
  ASSERT_EQ(due.size(), 2u);
  EXPECT_EQ(due[0].recipient, "a@shop.test");
  EXPECT_EQ(due[1].recipient, "b@shop.test");
  store->done(EspWork::dsn, {due[0].id});
  open();
  EXPECT_EQ(store->due(EspWork::dsn, 10).size(), 1u);
}

TEST_F(EspStoreTest, NobodyIsToldWhoDoesNotWantIt) {
  Handover null = handover(1), never = handover(2);
  null.sender.clear();
  never.dsn = false;
  store->add({null, never, handover(3)});
  auto temporary = event("k4", EspEventKind::bounced, "id-3");
  temporary.permanent = false;
  take({event("k1", EspEventKind::bounced, "id-1"), event("k2", EspEventKind::bounced, "id-2"),
        event("k3", EspEventKind::complained, "id-3"), event("k5", EspEventKind::deferred, "id-3"), temporary});
  EXPECT_TRUE(store->due(EspWork::dsn, 10).empty());
}

TEST_F(EspStoreTest, OnlyTheKindsAskedForAreSentOn) {
  store->add({handover(1)});
  EXPECT_TRUE(take({event("k1", EspEventKind::bounced, "id-1")}).work);
  EXPECT_FALSE(take({event("k2", EspEventKind::delivered, "id-1")}).work);
  EXPECT_TRUE(take({event("k3", EspEventKind::bounced, "unknown")}).work) << "also of mail that is not known";
  EXPECT_EQ(store->due(EspWork::forward, 10).size(), 2u);
  EXPECT_EQ(store->due(EspWork::forward, 1).size(), 1u);
}

TEST_F(EspStoreTest, CountsComplaintsOfASender) {
  store->add({handover(1), handover(2)});
  take({event("k1", EspEventKind::complained, "id-1"), event("k2", EspEventKind::complained, "id-2")});
  EXPECT_EQ(store->complaints("app@sender.test", start), 2);
  EXPECT_EQ(store->complaints("app@sender.test", start + std::chrono::seconds(1)), 0);
  EXPECT_EQ(store->complaints("other@sender.test", start), 0);
}

TEST_F(EspStoreTest, ForgetsWhatIsOldAndWhatIsTooMuch) {
  for (std::uint64_t i = 1; i <= 10; ++i) store->add({handover(i)});
  take({event("k1", EspEventKind::bounced, "id-1")}, "t");
  EXPECT_FALSE(store->clean(start, start, 4));
  EXPECT_TRUE(store->history(static_cast<smtp::MessageId>(6)).handovers.empty());
  EXPECT_EQ(store->history(static_cast<smtp::MessageId>(7)).handovers.size(), 1u);
  store->clean(start + std::chrono::seconds(1), start + std::chrono::seconds(1), 100);
  EXPECT_TRUE(store->history(static_cast<smtp::MessageId>(10)).handovers.empty());
  EXPECT_FALSE(take({event("k1", EspEventKind::bounced, "id-1")}, "t").token_used);
}

TEST_F(EspStoreTest, ATokenOutlivesWhatItCameWith) {
  store->add({handover(1)});
  take({event("k1", EspEventKind::bounced, "id-1")}, "t");
  store->clean(start + std::chrono::hours(2), start, 100);
  EXPECT_TRUE(store->history(static_cast<smtp::MessageId>(1)).handovers.empty());
  EXPECT_TRUE(take({event("k1", EspEventKind::bounced, "id-1")}, "t").token_used);
}

TEST(BounceReport, SaysWhoWhenAndWhyWithoutTheMessage) {
  EspRecord record;
  record.smarthost = "ses";
  record.kind = EspEventKind::bounced;
  record.diagnostic = "smtp; 550 5.1.1 no such user";
  record.status = "5.1.1";
  Handover h;
  h.message = static_cast<smtp::MessageId>(77);
  h.sender = "app@sender.test";
  h.recipient = "user@shop.test";
  h.envid = "QQ1";
  h.orcpt = "rfc822;user@shop.test";
  h.accepted = start;
  EXPECT_FALSE(bounce_report(record, "relay.test", "smtp.esp.test", {}, start));
  record.handover = h;
  const auto in = bounce_report(record, "relay.test", "smtp.esp.test", static_cast<smtp::MessageId>(78), start);
  ASSERT_TRUE(in);
  const std::string text = smtp::build_dsn(*in);
  for (const char* part : {"To: <app@sender.test>\r\n", "Final-Recipient: rfc822; user@shop.test\r\n", "Action: failed\r\n",
                           "Status: 5.1.1\r\n", "Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n",
                           "Original-Envelope-Id: QQ1\r\n", "Remote-MTA: dns; smtp.esp.test\r\n",
                           "Original-Recipient: rfc822; user@shop.test\r\n", "The service ses took the message"})
    EXPECT_NE(text.find(part), std::string::npos) << part;
  EXPECT_EQ(text.find("rfc822-headers"), std::string::npos);
}

TEST(BounceReport, OfASuppressedRecipientHasNoReply) {
  EspRecord record;
  record.kind = EspEventKind::suppressed;
  record.diagnostic = "Bounced Address";
  record.handover.emplace();
  record.handover->sender = "app@sender.test";
  record.handover->recipient = "user@shop.test";
  const auto in = bounce_report(record, "relay.test", "smtp.esp.test", {}, start);
  ASSERT_TRUE(in);
  EXPECT_EQ(in->recipients.at(0).reply.code, 0);
  EXPECT_EQ(in->recipients.at(0).status, "5.0.0");
  EXPECT_NE(in->recipients.at(0).explanation.find("suppressed"), std::string::npos);
}

}  // namespace
}  // namespace egret::relay
