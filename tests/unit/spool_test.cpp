#include "relay/spool/spool.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <ctime>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <thread>

#include "relay/spool/manifest.hpp"
#include "relay/spool/recovery.hpp"
#include "relay/spool/segment.hpp"

namespace egret::relay::spool {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using MessagePtr = std::shared_ptr<const Message>;
using namespace std::chrono_literals;

/// Runs a coroutine to its end.
template <class T>
T run(asio::awaitable<T> task) {
  asio::io_context io;
  std::optional<T> out;
  asio::co_spawn(io, std::move(task), [&](const std::exception_ptr& error, T value) {
    if (error) std::rethrow_exception(error);
    out = std::move(value);
  });
  io.run();
  return std::move(out).value();
}

std::uint64_t number(smtp::MessageId id) {
  return static_cast<std::uint64_t>(id);
}

class SpoolTest : public testing::Test {
 protected:
  SpoolTest() {
    static std::atomic<int> next{0};
    root_ = fs::path(testing::TempDir()) / ("egret-spool-test-" + std::to_string(::getpid()) + "-" + std::to_string(next++));
    fs::create_directories(root_);
    directory_ = root_ / "a";
  }
  ~SpoolTest() override {
    spool_.reset();
    fs::remove_all(root_);
  }

  // ---- a spool that is opened again and again ----

  /// Opens the spool of `directory_` and remembers what it recovers.
  void open(std::chrono::milliseconds lazy_sync = 1h, std::uint64_t reserve = 0) {
    spool_.reset();
    recovered_.clear();
    order_.clear();
    spool_ = std::make_unique<Spool>(Options{directory_, reserve, lazy_sync}, [this](Recovered r) {
      order_.push_back(number(r.id));
      recovered_[number(r.id)] = std::move(r);
    });
    // The preallocated zeros mean nothing, and reading them hundreds of times is what these tests would spend their time on.
    // What the start itself wrote (the DONE of messages that ended without one) stays.
    settle();
    const auto active = segment_path(directory_, last_segment());
    std::ifstream in(active, std::ios::binary);
    in.seekg(segment_header_size);
    if (in.get() == 0) fs::resize_file(active, segment_header_size);
  }
  /// The same with segments of 4 MB, their disk taken in steps of 1 MB.
  void open_small(std::uint64_t reserve = 0) {
    spool_.reset();
    Options options{directory_, reserve, 1h};
    options.segment_size = 4 << 20;
    options.step = 1 << 20;
    spool_ = std::make_unique<Spool>(options, [](const Recovered&) {});
  }
  /// While it lives no file of this process may become larger than 1 MB.
  class FullDisk {
   public:
    FullDisk() {
      getrlimit(RLIMIT_FSIZE, &old_);
      handler_ = signal(SIGXFSZ, SIG_IGN);
      const rlimit tight{1 << 20, old_.rlim_max};
      setrlimit(RLIMIT_FSIZE, &tight);
    }
    ~FullDisk() {
      setrlimit(RLIMIT_FSIZE, &old_);
      signal(SIGXFSZ, handler_);
    }
    FullDisk(const FullDisk&) = delete;
    FullDisk& operator=(const FullDisk&) = delete;

   private:
    rlimit old_{};
    sighandler_t handler_ = SIG_DFL;
  };
  /// What opening says when it must fail. A copy is opened: the directory itself stays as it is.
  std::string refusal() {
    const fs::path copy = copied();
    try {
      Spool spool(Options{copy, 0, 1h}, [](const Recovered&) {});
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "opened";
  }
  /// Everything handed in before is written (not synced) when this returns.
  void settle() {
    for (int i = 0; i < 2; ++i) run(spool_->read(Extent{}));
  }
  /// The directory as a killed program would leave it: what was written is there, the program's end is not.
  fs::path copied() {
    static int next = 0;
    const fs::path to = root_ / ("copy-" + std::to_string(next++));
    fs::create_directories(to);
    for (const std::uint32_t n : list_segments(directory_)) {
      const auto [octets, end] = used_part(n);
      std::ofstream(segment_path(to, n), std::ios::binary) << octets;
    }
    return to;
  }
  /// Kills the program and takes its directory over; with `end`, cuts its last segment there.
  void crash(std::optional<std::uint64_t> end = std::nullopt) {
    settle();
    const fs::path to = copied();
    if (end) fs::resize_file(segment_path(to, list_segments(to).back()), *end);
    spool_.reset();
    fs::remove_all(directory_);
    directory_ = to;
  }

  // ---- segments ----

  std::uint32_t last_segment() const { return list_segments(directory_).back(); }
  /// Octets of a segment without the zeros behind the last record, and where that is.
  std::pair<std::string, std::uint64_t> used_part(std::uint32_t n) const {
    const auto file = SegmentFile::open(segment_path(directory_, n), n, false);
    std::string octets;
    EXPECT_TRUE(file->read(0, file->size(), octets));
    SegmentReader reader(*file);
    std::uint64_t end = segment_header_size;
    while (const auto record = reader.record_at(end)) end += record_size(record->header.length);
    const std::size_t last = octets.find_last_not_of('\0');
    end = std::min<std::uint64_t>(std::max<std::uint64_t>(end, last == std::string::npos ? 0 : last + 1), octets.size());
    return {octets.substr(0, end), end};
  }
  struct Seen {
    std::uint32_t offset;
    RecordHeader header;
  };
  std::vector<Seen> records(std::uint32_t n) const {
    std::vector<Seen> out;
    const auto file = SegmentFile::open(segment_path(directory_, n), n, false);
    walk(*file, [&](const WalkedRecord& r) { out.push_back({r.offset, r.header}); });
    return out;
  }
  void flip(std::uint32_t segment, std::uint64_t offset) const {
    std::fstream file(segment_path(directory_, segment), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    const char c = static_cast<char>(file.get() ^ 0x40);
    file.seekp(static_cast<std::streamoff>(offset));
    file.put(c);
  }
  /// Waits until `segment` is gone; false after some seconds.
  bool unlinked(std::uint32_t segment) {
    for (int i = 0; i < 200; ++i) {
      settle();
      if (!fs::exists(segment_path(directory_, segment))) return true;
      std::this_thread::sleep_for(20ms);
    }
    return false;
  }

  /// Waits until deliveries can be recorded; false after some seconds.
  bool delivers() {
    for (int i = 0; i < 200 && spool_->delivery_paused(); ++i) {
      std::this_thread::sleep_for(20ms);
      settle();
    }
    return !spool_->delivery_paused();
  }

  // ---- messages ----

  Message message(const std::string& body = "Subject: x\r\n\r\nhello\r\n", std::size_t recipients = 1) {
    Message m;
    m.id = spool_->next_id();
    m.class_name = "transactional";
    m.sender = {"sender", "example.com"};
    for (std::size_t i = 0; i < recipients; ++i) m.recipients.push_back({"r" + std::to_string(i), "example.net"});
    m.accepted = routing::Time(routing::Duration(1795316055926));
    m.client = "192.0.2.77";
    m.tail = {body};
    m.body_size = body.size();
    return m;
  }
  std::uint64_t accept(Message m) {
    const auto id = number(m.id);
    EXPECT_EQ(run(spool_->accept(std::make_shared<const Message>(std::move(m)))), Trouble::none);
    return id;
  }
  std::uint64_t accept() { return accept(message()); }
  void done(std::uint64_t id) { spool_->done(smtp::MessageId{id}); }
  void progress(std::uint64_t id, std::vector<std::pair<std::uint32_t, RecipientState>> recipients, std::uint32_t attempts = 1) {
    Progress p;
    p.id = smtp::MessageId{id};
    p.recipients = std::move(recipients);
    p.attempts = attempts;
    spool_->progress(std::move(p));
  }
  MessagePtr read(std::uint64_t id) { return run(spool_->read(smtp::MessageId{id})); }
  std::string body(std::uint64_t id) {
    const MessagePtr m = read(id);
    if (!m) return "unreadable";
    std::string out;
    for (const Extent& extent : m->extents) out += run(spool_->read(extent));
    for (const auto& piece : m->tail) out += piece;
    return out;
  }

  static constexpr auto pending = RecipientState::pending, delivered = RecipientState::delivered, failed = RecipientState::failed;
  fs::path root_, directory_;
  std::unique_ptr<Spool> spool_;
  std::map<std::uint64_t, Recovered> recovered_;
  std::vector<std::uint64_t> order_;
};

// ---- what was accepted comes back --------------------------------------------------------------------------------

TEST_F(SpoolTest, StartsEmpty) {
  open();
  EXPECT_TRUE(recovered_.empty());
  EXPECT_EQ(spool_->counters().waiting, 0u);
  EXPECT_EQ(spool_->trouble(), Trouble::none);
  EXPECT_FALSE(spool_->delivery_paused());
}

TEST_F(SpoolTest, GivesAMessageBackAfterReopening) {
  open();
  Message in = message("Subject: x\r\n\r\nhello\r\n", 3);
  in.eight_bit = in.utf8 = in.report = true;
  in.header_end = 14;
  in.cuts = {{0, 12}};
  const auto id = accept(in);
  open();
  const MessagePtr out = read(id);
  ASSERT_TRUE(out);
  EXPECT_EQ(out->sender, in.sender);
  EXPECT_EQ(out->recipients, in.recipients);
  EXPECT_TRUE(out->eight_bit && out->utf8 && out->report);
  EXPECT_EQ(out->header_end, in.header_end);
  EXPECT_EQ(out->cuts, in.cuts);
  EXPECT_EQ(out->client, in.client);
  EXPECT_EQ(out->tail, in.tail);
}

TEST_F(SpoolTest, TellsWhatItRecovered) {
  open();
  const auto id = accept(message("0123456789", 2));
  open();
  const Recovered& r = recovered_.at(id);
  EXPECT_EQ(r.class_name, "transactional");
  EXPECT_EQ(r.accepted, routing::Time(routing::Duration(1795316055926)));
  EXPECT_EQ(r.body_size, 10u);
  EXPECT_FALSE(r.report);
  ASSERT_EQ(r.groups.size(), 1u);
  EXPECT_EQ(number(r.groups[0].id), id);
  EXPECT_EQ(r.groups[0].recipients, (std::vector<std::pair<std::uint32_t, RecipientState>>{{0, pending}, {1, pending}}));
  EXPECT_EQ(r.groups[0].attempts, 0u);
}

TEST_F(SpoolTest, KeepsAnAcceptedMessageThroughACrash) {
  open();
  const auto id = accept();
  crash();
  open();
  EXPECT_EQ(body(id), "Subject: x\r\n\r\nhello\r\n");
}

TEST_F(SpoolTest, RecoversInTheOrderOfAcceptance) {
  open();
  std::vector<std::uint64_t> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(accept());
  open();
  ids.push_back(accept());
  open();
  EXPECT_EQ(order_, ids);
}

TEST_F(SpoolTest, ReadsAMessageRightAfterItWasAccepted) {
  open();
  EXPECT_EQ(body(accept(message("abc"))), "abc");
}

TEST_F(SpoolTest, KnowsNothingOfOtherMessages) {
  open();
  accept();
  EXPECT_EQ(read(12345), nullptr);
  EXPECT_EQ(run(spool_->read(Extent{77, 64, 10})), "");
}

TEST_F(SpoolTest, ReadsEnvelopesWithoutBodies) {
  open();
  const auto first = accept(message("one", 2)), second = accept(message(std::string(100'000, 'x'), 100));
  const std::vector ids{smtp::MessageId{second}, smtp::MessageId{12345}, smtp::MessageId{first}};
  const auto out = run(spool_->envelopes(ids));
  ASSERT_EQ(out.size(), 3u);
  ASSERT_TRUE(out[0] && !out[1] && out[2]);
  EXPECT_EQ(out[0]->id, smtp::MessageId{second});
  EXPECT_EQ(out[0]->recipients.size(), 100u);  // more than the first read takes in
  EXPECT_EQ(out[0]->body_size, 100'000u);
  EXPECT_TRUE(out[0]->tail.empty());
  EXPECT_EQ(out[2]->recipients.size(), 2u);
}

TEST_F(SpoolTest, ForgetsWhatIsDone) {
  open();
  const auto id = accept(), other = accept();
  done(id);
  settle();
  EXPECT_EQ(read(id), nullptr);
  EXPECT_EQ(spool_->counters().waiting, 1u);
  open();
  EXPECT_EQ(order_, std::vector<std::uint64_t>{other});
}

TEST_F(SpoolTest, SyncsDoneWithinItsTime) {
  open(20ms);
  done(accept());
  const auto before = spool_->counters().syncs;
  for (int i = 0; i < 100 && spool_->counters().syncs == before; ++i) std::this_thread::sleep_for(10ms);
  EXPECT_GT(spool_->counters().syncs, before);
}

TEST_F(SpoolTest, StoresReportsWithoutWaiting) {
  open();
  Message m = message();
  m.report = true;
  const auto id = number(m.id);
  spool_->accept_internal(std::make_shared<const Message>(std::move(m)));
  open();
  EXPECT_TRUE(recovered_.at(id).report);
}

TEST_F(SpoolTest, MakesGrowingIdsAcrossRestarts) {
  open();
  std::uint64_t last = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto id = number(spool_->next_id());
    EXPECT_GT(id, last);
    last = id;
  }
  Message far = message();
  far.id = smtp::MessageId{last + (1ull << 40)};  // the clock went back since
  last = accept(far);
  open();
  EXPECT_GT(number(spool_->next_id()), last);
}

TEST_F(SpoolTest, TakesMessagesFromManyCoroutinesAtOnce) {
  open();
  asio::io_context io;
  std::set<std::uint64_t> ids;
  int good = 0;
  for (int i = 0; i < 200; ++i) {
    const auto m = std::make_shared<const Message>(message("body " + std::to_string(i)));
    ids.insert(number(m->id));
    asio::co_spawn(io, spool_->accept(m), [&](const std::exception_ptr&, Trouble trouble) { good += trouble == Trouble::none; });
  }
  io.run();
  EXPECT_EQ(good, 200);
  EXPECT_LT(spool_->counters().syncs, 200u);  // many messages to one sync
  crash();
  open();
  EXPECT_EQ(recovered_.size(), ids.size());
}

// ---- large bodies ------------------------------------------------------------------------------------------------

/// Octets that differ from place to place.
std::string pattern(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

TEST_F(SpoolTest, ReadsChunksBack) {
  open();
  const std::string first = pattern(1 << 20, 1), second = pattern((1 << 20) + 3, 2);
  Message m = message("the end");
  for (const auto& piece : {first, second}) {
    const auto stored = run(spool_->chunk(piece));
    ASSERT_EQ(stored.trouble, Trouble::none);
    EXPECT_EQ(stored.extent.length, piece.size());
    m.extents.push_back(stored.extent);
  }
  m.body_size += first.size() + second.size();
  const auto id = accept(m);
  EXPECT_EQ(body(id), first + second + "the end");
  crash();
  open();
  EXPECT_EQ(body(id), first + second + "the end");
}

TEST_F(SpoolTest, ForgetsChunksWithoutAMessage) {
  open();
  EXPECT_EQ(run(spool_->chunk(std::string(1000, 'x'))).trouble, Trouble::none);
  crash();
  open();
  EXPECT_TRUE(recovered_.empty());
}

TEST_F(SpoolTest, GivesNoChunkThatIsDamaged) {
  open();
  const auto stored = run(spool_->chunk(std::string(1000, 'x')));
  EXPECT_EQ(run(spool_->read(stored.extent)).size(), 1000u);
  flip(stored.extent.segment, stored.extent.offset + 500);
  EXPECT_EQ(run(spool_->read(stored.extent)), "");
}

TEST_F(SpoolTest, KeepsTheSegmentOfAChunkWhoseMessageIsElsewhere) {
  open();
  Message m = message("end");
  const std::string piece = pattern(5000, 3);
  m.extents = {run(spool_->chunk(piece)).extent};
  m.body_size += piece.size();
  for (int i = 0; i < 16; ++i) done(accept(message(std::string(4 << 20, 'x'))));  // on to the next segment
  const auto id = accept(m);
  ASSERT_GT(last_segment(), m.extents[0].segment);
  open();
  accept();  // a batch of work, after which space is reclaimed
  settle();
  EXPECT_TRUE(fs::exists(segment_path(directory_, m.extents[0].segment)));
  EXPECT_EQ(body(id), piece + "end");
}

TEST_F(SpoolTest, GivesTheSegmentOfAbandonedChunksBack) {
  open();
  const Extent extent = run(spool_->chunk(std::string(1000, 'x'))).extent;
  open();  // another segment is the active one now
  EXPECT_TRUE(unlinked(extent.segment));
}

// ---- progress ----------------------------------------------------------------------------------------------------

TEST_F(SpoolTest, RecoversEverythingOfAGroup) {
  open();
  const auto id = accept(message("x", 2));
  Progress in;
  in.id = smtp::MessageId{id};
  in.recipients = {{1, pending}, {0, pending}};
  in.attempts = 7;
  in.next_at = routing::Time(routing::Duration(1795316099999));
  in.sticky = "out1";
  in.strict = in.ambiguous = in.warned = in.held = true;
  in.reply = "451 4.7.1 later";
  in.reply_host = "mx.example.net";
  in.hold_reason = "sender x is held";
  spool_->progress(in);
  open();
  ASSERT_EQ(recovered_.at(id).groups.size(), 1u);
  const Progress& out = recovered_.at(id).groups[0];
  EXPECT_EQ(out.recipients.size(), 2u);
  EXPECT_EQ(out.attempts, 7u);
  EXPECT_EQ(out.next_at, in.next_at);
  EXPECT_EQ(out.sticky, "out1");
  EXPECT_TRUE(out.strict && out.ambiguous && out.warned && out.held);
  EXPECT_EQ(out.reply, in.reply);
  EXPECT_EQ(out.reply_host, in.reply_host);
  EXPECT_EQ(out.hold_reason, in.hold_reason);
}

TEST_F(SpoolTest, RecoversARecipientThatIsHeldApartFromTheOthers) {
  open();
  const auto id = accept(message("x", 2));
  progress(id, {{0, pending}, {1, pending}}, 1);
  Progress held;
  held.id = smtp::MessageId{id};
  held.recipients = {{1, pending}};
  held.held = true;
  held.hold_reason = "held by the operator";
  spool_->progress(held);
  open();
  std::map<std::uint32_t, std::string> reasons;
  for (const Progress& group : recovered_.at(id).groups)
    for (const auto& [index, state] : group.recipients) reasons[index] = group.held ? group.hold_reason : "";
  EXPECT_EQ(reasons, (std::map<std::uint32_t, std::string>{{0, ""}, {1, "held by the operator"}}));
  progress(id, {{1, pending}}, 1);  // released
  open();
  for (const Progress& group : recovered_.at(id).groups) EXPECT_FALSE(group.held);
}

TEST_F(SpoolTest, RecoversRecipientsInTheirGroups) {
  open();
  const auto id = accept(message("x", 6));
  progress(id, {{0, pending}, {1, pending}, {2, delivered}}, 1);
  progress(id, {{3, pending}, {4, failed}}, 2);
  open();
  std::map<std::uint32_t, std::vector<std::uint32_t>> groups;  // by attempts
  for (const Progress& group : recovered_.at(id).groups)
    for (const auto& [index, state] : group.recipients) groups[group.attempts].push_back(index);
  EXPECT_EQ(groups, (std::map<std::uint32_t, std::vector<std::uint32_t>>{{0, {5}}, {1, {0, 1}}, {2, {3}}}));
}

TEST_F(SpoolTest, LetsTheLatestProgressCount) {
  open();
  const auto id = accept(message("x", 2));
  progress(id, {{0, pending}, {1, pending}}, 1);
  progress(id, {{1, pending}}, 2);
  open();
  progress(id, {{0, pending}}, 3);  // and the count goes on after a restart
  open();
  std::map<std::uint32_t, std::uint32_t> attempts;
  for (const Progress& group : recovered_.at(id).groups)
    for (const auto& [index, state] : group.recipients) attempts[index] = group.attempts;
  EXPECT_EQ(attempts, (std::map<std::uint32_t, std::uint32_t>{{0, 3}, {1, 2}}));
}

TEST_F(SpoolTest, NeverRecoversWhoIsDelivered) {
  open();
  const auto id = accept(message("x", 3));
  progress(id, {{1, delivered}});
  progress(id, {{2, failed}});
  open();
  ASSERT_EQ(recovered_.at(id).groups.size(), 1u);
  EXPECT_EQ(recovered_.at(id).groups[0].recipients, (std::vector<std::pair<std::uint32_t, RecipientState>>{{0, pending}}));
}

TEST_F(SpoolTest, ForgetsAMessageWhoseEveryRecipientIsDone) {
  open();
  const auto id = accept(message("x", 2));
  progress(id, {{0, delivered}, {1, failed}});
  settle();
  crash();  // before DONE was written
  open();
  EXPECT_TRUE(recovered_.empty());
}

TEST_F(SpoolTest, ForgetsItForGoodAlsoWhenTheProgressIsReclaimed) {
  open();
  const auto id = accept(message("x", 2)), other = accept();
  open();
  progress(id, {{0, delivered}, {1, failed}});  // in another segment than the message
  settle();
  crash();
  const auto second = last_segment();
  open();
  ASSERT_TRUE(unlinked(second));
  crash();
  open();
  EXPECT_EQ(order_, std::vector<std::uint64_t>{other});
}

TEST_F(SpoolTest, IgnoresProgressOfMessagesThatAreGone) {
  open();
  const auto id = accept();
  done(id);
  progress(id, {{0, pending}});
  progress(999, {{0, pending}});
  done(id);
  done(999);
  open();
  EXPECT_TRUE(recovered_.empty());
}

// ---- torn tails --------------------------------------------------------------------------------------------------

TEST_F(SpoolTest, CutsOffATornTailWhereverItIsTorn) {
  open();
  const auto first = accept(message("first")), second = accept(message("second"));
  const auto seen = records(last_segment());
  const auto end = used_part(last_segment()).second;
  const fs::path original = copied();
  for (std::uint64_t at = seen.back().offset; at < end; at += at + 8 < end ? 9 : 1) {
    directory_ = root_ / ("cut-" + std::to_string(at));
    fs::copy(original, directory_);
    fs::resize_file(segment_path(directory_, last_segment()), at);
    open();
    const bool whole = at >= seen.back().offset + record_header_size + seen.back().header.length;  // only padding is missing
    EXPECT_TRUE(recovered_.contains(first)) << at;
    EXPECT_EQ(recovered_.contains(second), whole) << at;
    spool_.reset();
    fs::remove_all(directory_);
  }
}

TEST_F(SpoolTest, CutsOffALastRecordWithAnOctetChanged) {
  open();
  const auto first = accept(message("first"));
  accept(message("second"));
  const auto last = records(last_segment()).back();
  const fs::path original = copied();
  for (std::uint32_t at = 0; at < record_header_size + last.header.length; at += 23) {
    directory_ = root_ / ("flip-" + std::to_string(at));
    fs::copy(original, directory_);
    flip(last_segment(), last.offset + at);
    open();
    EXPECT_EQ(order_, std::vector<std::uint64_t>{first}) << at;
    spool_.reset();
    fs::remove_all(directory_);
  }
}

TEST_F(SpoolTest, KnowsAfterAQuietSecondThatTheLastRecordWasOnDisk) {
  open();
  accept(message("only"));
  const auto place = records(last_segment()).back();
  for (int i = 0; i < 500 && records(last_segment()).size() == 1; ++i) std::this_thread::sleep_for(10ms);
  ASSERT_EQ(records(last_segment()).size(), 2u);
  std::this_thread::sleep_for(1200ms);
  EXPECT_EQ(records(last_segment()).size(), 2u) << "said once";
  flip(last_segment(), place.offset + record_header_size + place.header.length - 1);
  EXPECT_NE(refusal().find("at offset " + std::to_string(place.offset) + ": damaged"), std::string::npos) << refusal();
}

TEST_F(SpoolTest, WorksOnAfterATornTail) {
  open();
  const auto first = accept(message("first"));
  accept(message("second"));
  crash(records(last_segment()).back().offset + 40);
  fs::resize_file(segment_path(directory_, last_segment()), 1 << 20);  // preallocated zeros behind it
  open();
  const auto third = accept(message("third"));
  crash();
  open();
  EXPECT_EQ(order_, (std::vector<std::uint64_t>{first, third}));
  EXPECT_EQ(body(first), "first");
  EXPECT_EQ(body(third), "third");
}

TEST_F(SpoolTest, CutsOffABatchThatWasWrittenInParts) {
  open();
  const auto id = accept(message("x", 3));
  progress(id, {{0, delivered}});
  progress(id, {{1, delivered}});
  progress(id, {{2, pending}}, 4);
  settle();
  const auto seen = records(last_segment());
  crash();
  flip(last_segment(), seen[1].offset + 40);  // the first of three that were never synced
  open();
  ASSERT_EQ(recovered_.at(id).groups.size(), 1u);
  EXPECT_EQ(recovered_.at(id).groups[0].recipients.size(), 3u);
}

TEST_F(SpoolTest, DropsASegmentThatNeverGotItsHeader) {
  open();
  const auto id = accept();
  const auto next = last_segment() + 1;
  crash();
  std::ofstream(segment_path(directory_, next)) << std::string(100, '\0');
  open();
  EXPECT_TRUE(recovered_.contains(id));
}

// ---- damage ------------------------------------------------------------------------------------------------------

TEST_F(SpoolTest, StopsAtDamageBeforeSyncedRecords) {
  open();
  accept(message("first"));
  accept(message("second"));
  accept(message("third"));
  const auto segment = last_segment();
  const auto offset = records(segment)[1].offset;
  flip(segment, offset + 50);
  const std::string before = used_part(segment).first;
  const std::string said = refusal();
  EXPECT_NE(said.find(segment_path("", segment).filename().string() + " at offset " + std::to_string(offset)), std::string::npos)
      << said;
  EXPECT_NE(said.find("nothing was changed"), std::string::npos) << said;
  EXPECT_EQ(used_part(segment).first, before);
}

TEST_F(SpoolTest, ChangesNothingWhereItStops) {
  open();
  accept();
  accept();
  crash();
  const auto segment = last_segment();
  flip(segment, records(segment)[0].offset + 8);
  const std::string before = used_part(segment).first;
  EXPECT_THROW(open(), std::runtime_error);
  EXPECT_EQ(list_segments(directory_), std::vector<std::uint32_t>{segment});
  EXPECT_EQ(used_part(segment).first, before);
}

TEST_F(SpoolTest, StopsAtEveryDamagedOctetInTheMiddle) {
  open();
  accept();
  accept();
  crash();
  const auto first = records(last_segment()).front();
  for (std::uint32_t at = 0; at < record_header_size + first.header.length; at += 13) {
    flip(last_segment(), first.offset + at);
    EXPECT_NE(refusal().find("damaged"), std::string::npos) << at;
    flip(last_segment(), first.offset + at);
  }
  EXPECT_EQ(refusal(), "opened");
}

TEST_F(SpoolTest, StopsAtATornSegmentThatIsNotTheLast) {
  open();
  accept(message("first"));
  const auto segment = last_segment();
  open();
  accept(message("second"));
  crash();
  fs::resize_file(segment_path(directory_, segment), records(segment)[0].offset + 40);
  EXPECT_NE(refusal().find(segment_path("", segment).filename().string() + " at offset 32"), std::string::npos) << refusal();
}

TEST_F(SpoolTest, StopsAtADamagedSegmentHeader) {
  open();
  accept();
  crash();
  flip(last_segment(), 20);
  EXPECT_NE(refusal().find("at offset 0: damaged segment header"), std::string::npos) << refusal();
}

TEST_F(SpoolTest, RefusesAnotherVersion) {
  open();
  accept();
  crash();
  std::fstream file(segment_path(directory_, last_segment()), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(8);
  file.put(9);
  file.close();
  EXPECT_NE(refusal().find("written by another version of egret (format 9"), std::string::npos) << refusal();
}

TEST_F(SpoolTest, RefusesASegmentUnderAnotherName) {
  open();
  accept();
  crash();
  const auto segment = last_segment();
  fs::rename(segment_path(directory_, segment), segment_path(directory_, segment + 1));
  EXPECT_NE(refusal().find("says that it is number"), std::string::npos) << refusal();
}

TEST_F(SpoolTest, RefusesADirectoryInUse) {
  open();
  try {
    Spool second(Options{directory_, 0, 1h}, [](const Recovered&) {});
    ADD_FAILURE() << "opened twice";
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("in use by another egret"), std::string::npos) << e.what();
  }
  accept();  // and the first one works on
}

TEST_F(SpoolTest, RefusesADirectoryThatCannotBe) {
  std::ofstream(root_ / "file") << "x";
  directory_ = root_ / "file" / "spool";
  EXPECT_THROW(open(), std::runtime_error);
  directory_ = "/proc/egret-spool";
  EXPECT_THROW(open(), std::runtime_error);
}

TEST_F(SpoolTest, SaysWhichHintCannotBeReadAgainAndWhy) {
  open();
  accept();
  crash();
  const Recovery recovery(directory_);
  ASSERT_EQ(recovery.waiting(), 1u);
  const fs::path hint = recovery.segments()[0].digest.path;
  ASSERT_TRUE(fs::remove(hint));
  std::string said;
  try {
    recovery.each([](RecoveredMessage&) {});
  } catch (const std::runtime_error& e) {
    said = e.what();
  }
  EXPECT_TRUE(said.starts_with("spool: " + hint.string() + " at offset ")) << said;
  EXPECT_TRUE(said.ends_with(": cannot be read again: No such file or directory")) << said;
}

// ---- space -------------------------------------------------------------------------------------------------------

TEST_F(SpoolTest, AcceptsNothingBelowTheReserve) {
  open(1h, 1ull << 62);
  const auto m = std::make_shared<const Message>(message());
  EXPECT_EQ(run(spool_->accept(m)), Trouble::no_space);
  EXPECT_EQ(run(spool_->chunk("x")).trouble, Trouble::no_space);
  EXPECT_EQ(spool_->trouble(), Trouble::no_space);
  EXPECT_NE(spool_->trouble_text().find("spool.reserve"), std::string::npos);
}

TEST_F(SpoolTest, StillStoresReportsAndEndsBelowTheReserve) {
  open();
  const auto id = accept();
  open(1h, 1ull << 62);
  EXPECT_FALSE(spool_->delivery_paused());
  done(id);
  Message m = message();
  const auto report = number(m.id);
  spool_->accept_internal(std::make_shared<const Message>(std::move(m)));
  open();
  EXPECT_EQ(order_, std::vector<std::uint64_t>{report});
}

TEST_F(SpoolTest, KeepsRoomForTheEndOfAllThatItAccepted) {
  open_small();
  const auto full = std::make_unique<FullDisk>();
  std::vector<std::uint64_t> ids;
  while (ids.size() < 1000) {
    Message m = message(pattern(4000, 1));
    const auto id = number(m.id);
    if (run(spool_->accept(std::make_shared<const Message>(std::move(m)))) != Trouble::none) break;
    ids.push_back(id);
  }
  EXPECT_GT(ids.size(), 100u);
  EXPECT_LT(ids.size(), 1000u);
  EXPECT_NE(spool_->trouble_text().find(segment_path(directory_, last_segment()).string() + " from offset 1048576"),
            std::string::npos)
      << spool_->trouble_text();
  for (const auto id : ids) done(id);
  settle();
  EXPECT_FALSE(spool_->delivery_paused());
  EXPECT_EQ(spool_->counters().waiting, 0u);
}

TEST_F(SpoolTest, EndsNoMessageBeforeItsReportIsStored) {
  open();
  const auto a = accept(), b = accept(message("b", 2));
  open_small(1ull << 62);
  auto full = std::make_unique<FullDisk>();
  Message m = message(pattern(1'500'000, 1));
  const auto report = number(m.id);
  spool_->accept_internal(std::make_shared<const Message>(std::move(m)));
  done(a);
  progress(b, {{0, pending}}, 1);
  progress(b, {{0, pending}}, 2);
  Message later = message("small");
  const auto small = number(later.id);
  spool_->accept_internal(std::make_shared<const Message>(std::move(later)));
  settle();
  EXPECT_TRUE(spool_->delivery_paused());
  EXPECT_EQ(spool_->counters().waiting, 2u);  // although there is room for the shorter ones
  EXPECT_TRUE(read(a));
  EXPECT_FALSE(read(small));
  full.reset();
  EXPECT_TRUE(delivers()) << "although still below the reserve";
  EXPECT_EQ(spool_->trouble(), Trouble::no_space);
  EXPECT_TRUE(body(report) == pattern(1'500'000, 1));
  crash();
  open();
  EXPECT_EQ(order_, (std::vector<std::uint64_t>{b, report, small}));
  ASSERT_EQ(recovered_.at(b).groups.size(), 2u);
  for (const Progress& group : recovered_.at(b).groups)
    EXPECT_EQ(group.attempts, group.recipients[0].first == 0 ? 2u : 0u) << "the later one counts";
}

TEST_F(SpoolTest, RecordsAtItsEndWhatFoundNoRoomBefore) {
  open();
  const auto a = accept();
  open_small(1ull << 62);
  auto full = std::make_unique<FullDisk>();
  Message m = message(pattern(1'500'000, 1));
  const auto report = number(m.id);
  spool_->accept_internal(std::make_shared<const Message>(std::move(m)));
  done(a);
  settle();
  EXPECT_TRUE(spool_->delivery_paused());
  full.reset();
  open();
  EXPECT_EQ(order_, std::vector<std::uint64_t>{report});
}

TEST_F(SpoolTest, AcceptsNothingInFrontOfWhatFoundNoRoom) {
  open_small();
  auto full = std::make_unique<FullDisk>();
  spool_->accept_internal(std::make_shared<const Message>(message(pattern(1'500'000, 1))));
  settle();
  std::this_thread::sleep_for(250ms);  // the disk itself is looked at again, and has room
  settle();
  EXPECT_EQ(run(spool_->accept(std::make_shared<const Message>(message("small")))), Trouble::no_space);
  full.reset();
  EXPECT_TRUE(delivers());
  std::this_thread::sleep_for(250ms);
  settle();
  accept(message("small"));
}

TEST_F(SpoolTest, IsFullUntilThereIsRoomForWhatItRefused) {
  open_small();
  auto full = std::make_unique<FullDisk>();
  EXPECT_EQ(run(spool_->accept(std::make_shared<const Message>(message(pattern(900'000, 1))))), Trouble::no_space);
  for (int i = 0; i < 2; ++i) {
    std::this_thread::sleep_for(250ms);  // the reserve is looked at again, and nothing is missing there
    settle();
    EXPECT_EQ(spool_->trouble(), Trouble::no_space);
  }
  full.reset();
  std::this_thread::sleep_for(250ms);
  settle();
  EXPECT_EQ(spool_->trouble(), Trouble::none);
  accept(message(pattern(900'000, 1)));
}

TEST_F(SpoolTest, DoesNotWaitForRoomForARecordLargerThanASegment) {
  open_small();
  const auto a = accept();
  spool_->accept_internal(std::make_shared<const Message>(message(pattern(5 << 20, 1))));
  done(a);
  settle();
  EXPECT_FALSE(spool_->delivery_paused());
  EXPECT_EQ(spool_->counters().waiting, 0u);
}

TEST_F(SpoolTest, GivesTheLargestRecordASegmentOfItsOwn) {
  open_small();
  accept();
  const std::string large = pattern((4 << 20) - 1000, 1);
  const auto first = last_segment();
  const auto id = accept(message(large));
  EXPECT_EQ(last_segment(), first + 1);
  EXPECT_TRUE(body(id) == large);
  accept();
  EXPECT_EQ(last_segment(), first + 2);
}

TEST_F(SpoolTest, StoresNothingMoreAfterAFailedWrite) {
  open();
  const auto id = accept();
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{1 << 20, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  const auto large = std::make_shared<const Message>(message(std::string(2 << 20, 'x')));
  EXPECT_EQ(run(spool_->accept(large)), Trouble::broken);
  setrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, handler);
  const auto small = std::make_shared<const Message>(message());
  EXPECT_EQ(run(spool_->accept(small)), Trouble::broken);  // although a write would work again
  EXPECT_EQ(spool_->trouble(), Trouble::broken);
  EXPECT_TRUE(spool_->delivery_paused());
  EXPECT_FALSE(spool_->trouble_text().empty());
  crash();
  open();
  EXPECT_EQ(order_, std::vector<std::uint64_t>{id});
}

TEST_F(SpoolTest, TakesTheDiskOfASegmentInStepsAndListsEach) {
  Options options{directory_, 0, 1h};
  options.step = 1 << 20;
  spool_ = std::make_unique<Spool>(options, [](const Recovered&) {});
  const auto path = segment_path(directory_, last_segment());
  EXPECT_EQ(fs::file_size(path), 1u << 20);
  const std::string body = pattern(700'000, 4);
  for (std::uint64_t megabytes = 1; megabytes <= 3; ++megabytes) {
    accept(message(body));
    const std::uint64_t used = used_part(last_segment()).second;
    const std::uint64_t length = fs::file_size(path);
    EXPECT_EQ(length % options.step, 0u);
    EXPECT_LT(length - used, options.step);
    bool damaged = false;
    EXPECT_EQ(load_manifest(directory_, damaged)->at(last_segment()).length, length) << "a cut is noticed";
  }
  EXPECT_EQ(fs::file_size(path), 3u << 20);
}

TEST_F(SpoolTest, TakesWhatCannotBeReadForDamageAndNeverForATornTail) {
  open();
  accept();
  accept(message(pattern(1 << 20, 4)));
  settle();
  const std::uint32_t n = last_segment();
  const auto file = SegmentFile::open(segment_path(directory_, n), n, false);
  const auto second = records(n)[1].offset;
  SegmentReader reader(*file);
  fs::resize_file(segment_path(directory_, n), second + 100'000);  // behind the reader's back: the rest is not to be had
  const auto first = reader.record_at(segment_header_size);
  ASSERT_TRUE(first);
  EXPECT_EQ(segment_header_size + record_size(first->header.length), second);
  EXPECT_FALSE(reader.record_at(second));
  const WalkResult end = reader.judge_end(second);
  EXPECT_EQ(end.end, second);
  EXPECT_FALSE(end.clean);
  EXPECT_FALSE(end.torn);
  EXPECT_EQ(end.problem, "cut off while it was read");
}

TEST_F(SpoolTest, TakesATornTailForOneWhateverCouldNotBeReadInFrontOfIt) {
  open();
  accept();
  accept(message(pattern(1 << 20, 4)));
  accept();
  settle();
  const std::uint32_t n = last_segment();
  const auto path = segment_path(directory_, n);
  const auto second = records(n)[1].offset, third = records(n)[2].offset;
  flip(n, third + 40);
  const auto file = SegmentFile::open(path, n, false);
  std::string octets;
  ASSERT_TRUE(file->read(0, file->size(), octets));
  SegmentReader reader(*file);
  fs::resize_file(path, second + 100'000);
  EXPECT_FALSE(reader.record_at(second));
  std::ofstream(path, std::ios::binary) << octets;  // what was not to be had is not asked for again
  EXPECT_FALSE(reader.record_at(second));
  EXPECT_FALSE(reader.judge_end(second).torn);
  EXPECT_FALSE(reader.record_at(third));
  EXPECT_TRUE(reader.judge_end(third).torn) << reader.judge_end(third).problem;
}

TEST_F(SpoolTest, FillsOneSegmentAfterTheOther) {
  open();
  const std::string megabyte = pattern(1 << 20, 4);
  const auto first = last_segment();
  std::vector<std::uint64_t> ids;
  for (int i = 0; i < 70; ++i) ids.push_back(accept(message(megabyte)));
  EXPECT_EQ(list_segments(directory_), (std::vector<std::uint32_t>{first, first + 1}));
  EXPECT_LE(fs::file_size(segment_path(directory_, first)), segment_size);
  open();
  EXPECT_EQ(order_, ids);
  for (const auto id : {ids.front(), ids[62], ids[63], ids.back()}) EXPECT_EQ(body(id), megabyte);
}

TEST_F(SpoolTest, UnlinksSegmentsWithNothingAlive) {
  open();
  const auto first = last_segment();
  for (int i = 0; i < 16; ++i) done(accept(message(std::string(4 << 20, 'x'))));
  ASSERT_GT(last_segment(), first);
  EXPECT_TRUE(unlinked(first));
  EXPECT_EQ(spool_->counters().segments, 1u);
}

TEST_F(SpoolTest, CarriesForwardWhatADeadSegmentSaysOfOthers) {
  open();
  const auto gone = accept(message("gone")), kept = accept(message("kept", 2));  // in the first segment
  const auto first = last_segment();
  open();
  const auto second = last_segment();
  done(gone);
  progress(kept, {{0, delivered}});
  progress(kept, {{1, pending}}, 5);
  open();
  ASSERT_TRUE(unlinked(second));  // nothing in it was alive, but it spoke of the first one's messages
  ASSERT_TRUE(fs::exists(segment_path(directory_, first)));
  for (int i = 0; i < 2; ++i) {
    crash();
    open();
    ASSERT_EQ(order_, std::vector<std::uint64_t>{kept});
    ASSERT_EQ(recovered_.at(kept).groups.size(), 1u);
    EXPECT_EQ(recovered_.at(kept).groups[0].recipients, (std::vector<std::pair<std::uint32_t, RecipientState>>{{1, pending}}));
    EXPECT_EQ(recovered_.at(kept).groups[0].attempts, 5u);
    settle();
  }
}

TEST_F(SpoolTest, CopiesTheFewSurvivorsOfASegmentForward) {
  open();
  const auto first = last_segment();
  const auto survivor = accept(message("the survivor", 2));
  progress(survivor, {{0, delivered}});
  for (int i = 0; i < 20; ++i) done(accept(message(std::string(1000, 'x'))));
  for (int i = 0; i < 5; ++i) {
    open();
    accept(message("lives on"));
    settle();
  }
  ASSERT_TRUE(unlinked(first));
  EXPECT_EQ(body(survivor), "the survivor");
  crash();
  open();
  ASSERT_TRUE(recovered_.contains(survivor));
  EXPECT_EQ(recovered_.size(), 6u);
  EXPECT_EQ(body(survivor), "the survivor");
  EXPECT_EQ(recovered_.at(survivor).groups.at(0).recipients,
            (std::vector<std::pair<std::uint32_t, RecipientState>>{{1, pending}}));
}

TEST_F(SpoolTest, KeepsADamagedSegmentAndWhatWasCopiedOutOfIt) {
  open();
  const auto first = last_segment();
  const auto survivor = accept(message("the survivor"));
  for (int i = 0; i < 20; ++i) done(accept(message(std::string(1000, 'x'))));
  for (int i = 0; i < 3; ++i) {
    open();
    accept(message("lives on"));
    settle();
  }
  const auto behind = records(first).at(11);
  ASSERT_EQ(behind.header.type, RecordType::accept);
  flip(first, behind.offset + record_header_size + 200);  // its hint does not show that
  for (int i = 0; i < 2; ++i) {
    open();
    accept(message("like " + std::to_string(i) + " vivor"));  // as long as the survivor, where that was copied to
    settle();
  }
  EXPECT_TRUE(fs::exists(segment_path(directory_, first)));
  EXPECT_EQ(body(survivor), "the survivor");
  crash();
  EXPECT_NE(refusal(), "opened") << "without its hint the damage shows";
}

TEST_F(SpoolTest, RemembersTheEndOfACopiedSurvivor) {
  open();
  const auto first = last_segment();
  const auto survivor = accept(message("the survivor"));
  for (int i = 0; i < 20; ++i) done(accept(message(std::string(1000, 'x'))));
  for (int i = 0; i < 5; ++i) {
    open();
    accept(message("lives on"));
    settle();
  }
  ASSERT_TRUE(unlinked(first));
  done(survivor);
  for (int i = 0; i < 3; ++i) {
    open();
    EXPECT_FALSE(recovered_.contains(survivor)) << i;
    EXPECT_EQ(recovered_.size(), 5u) << i;
    accept(message("x"));  // lets it reclaim
    settle();
    done(order_.back());
    open();
    EXPECT_EQ(recovered_.size(), 5u) << i;
  }
}

// ---- any history -------------------------------------------------------------------------------------------------

/// What a history of calls must leave behind, said in the simplest way.
struct Model {
  struct Entry {
    std::string body;
    std::map<std::uint32_t, std::uint32_t> attempts;  // of the recipients that are pending
  };
  std::map<std::uint64_t, Entry> waiting;
};

class SpoolHistory : public SpoolTest, public testing::WithParamInterface<unsigned> {
 protected:
  void step();
  void check(const char* what);
  /// Either nothing or everything that was not synced is there: both are right after a crash.
  void crash_anywhere();

  std::uint64_t any() {
    auto it = now_.waiting.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_() % now_.waiting.size()));
    return it->first;
  }

  std::mt19937 random_{GetParam()};
  Model now_;
  std::vector<Model> since_sync_;  // the state after every record that may be lost, the oldest first
};

void SpoolHistory::step() {
  const unsigned choice = random_() % 10;
  if (choice < 4 || now_.waiting.empty()) {
    const std::size_t recipients = 1 + random_() % 4;
    Message m = message(pattern(random_() % 3000, random_()), recipients);
    Model::Entry entry{m.tail[0], {}};
    if (random_() % 4 == 0) {
      const std::string piece = pattern(random_() % 20000, random_());
      m.extents = {run(spool_->chunk(piece)).extent};
      m.body_size += piece.size();
      entry.body = piece + entry.body;
    }
    for (std::uint32_t i = 0; i < recipients; ++i) entry.attempts[i] = 0;
    now_.waiting[accept(std::move(m))] = std::move(entry);
    since_sync_ = {now_};
  } else if (choice < 8) {
    const auto id = any();
    auto& attempts = now_.waiting[id].attempts;
    std::vector<std::pair<std::uint32_t, RecipientState>> changes;
    const auto round = static_cast<std::uint32_t>(1 + random_() % 1000);
    for (auto it = attempts.begin(); it != attempts.end();) {
      const unsigned fate = random_() % 4;
      if (fate == 0 && attempts.size() > 1) {
        changes.emplace_back(it->first, random_() % 2 ? delivered : failed);
        it = attempts.erase(it);
        continue;
      }
      if (fate < 3) {
        changes.emplace_back(it->first, pending);
        it->second = round;
      }
      ++it;
    }
    progress(id, changes, round);
    since_sync_.push_back(now_);
  } else {
    const auto id = any();
    done(id);
    now_.waiting.erase(id);
    since_sync_.push_back(now_);
  }
}

void SpoolHistory::check(const char* what) {
  std::map<std::uint64_t, std::map<std::uint32_t, std::uint32_t>> expected, found;
  for (const auto& [id, entry] : now_.waiting) expected[id] = entry.attempts;
  for (const auto& [id, r] : recovered_)
    for (const Progress& group : r.groups)
      for (const auto& [index, state] : group.recipients) found[id][index] = group.attempts;
  ASSERT_EQ(found, expected) << what << ", seed " << GetParam();
  for (const auto& [id, entry] : now_.waiting) ASSERT_TRUE(body(id) == entry.body) << what << ", seed " << GetParam();
}

void SpoolHistory::crash_anywhere() {
  settle();
  // What was handed in since the last acknowledged accept stands at the end of the last segment.
  const auto seen = records(last_segment());
  const auto end = used_part(last_segment()).second;
  std::size_t lost = std::min<std::size_t>(random_() % since_sync_.size(), seen.size());
  std::uint64_t cut = end;
  if (lost > 0) {
    const auto& record = seen[seen.size() - lost];
    cut = record.offset + random_() % (record_header_size + record.header.length);  // somewhere inside the first one lost
  }
  now_ = since_sync_[since_sync_.size() - 1 - lost];
  crash(cut);
}

TEST_P(SpoolHistory, IsWhatTheModelSays) {
  open();
  since_sync_ = {now_};
  for (int round = 0; round < 6; ++round) {
    for (unsigned steps = 5 + random_() % 40; steps > 0; --steps) step();
    const bool crashed = random_() % 2;
    if (crashed) crash_anywhere();
    open();
    since_sync_ = {now_};
    ASSERT_NO_FATAL_FAILURE(check(crashed ? "after a crash" : "after reopening"));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, SpoolHistory, testing::Range(1u, 5u));

// A writer that waits for a sync it will never do again once took a whole core.
TEST_F(SpoolTest, IsIdleWhileBroken) {
  open(10ms);
  accept();
  run(spool_->chunk("dirty"));
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  signal(SIGXFSZ, SIG_IGN);
  const rlimit tight{1 << 20, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  EXPECT_EQ(run(spool_->accept(std::make_shared<const Message>(message(std::string(2 << 20, 'x'))))), Trouble::broken);
  setrlimit(RLIMIT_FSIZE, &old);
  std::this_thread::sleep_for(50ms);
  const auto before = std::clock();
  std::this_thread::sleep_for(300ms);
  EXPECT_LT(double(std::clock() - before) / CLOCKS_PER_SEC, 0.1);
}

TEST_F(SpoolTest, AHalfCopiedSegmentResurrectsNothing) {
  open();
  const auto a = accept(message("a")), b = accept(message("b"));
  crash();
  // a crash in the middle of copy_survivors: the copy of a got to disk, the one of b did not
  const std::string seg1 = used_part(1).first;
  const auto recs = records(1);
  std::string seg2 = encode_segment_header(2, 0) + seg1.substr(recs[0].offset, record_size(recs[0].header.length));
  std::ofstream(segment_path(directory_, 2), std::ios::binary) << seg2;
  open();
  EXPECT_EQ(recovered_.size(), 2u);
  done(a);
  settle();
  // Each start reclaims what it can: neither copy of a may come back, whichever segment goes first.
  for (int i = 0; i < 3; ++i) {
    open();
    EXPECT_EQ(order_, std::vector<std::uint64_t>{b});
    settle();
  }
}

TEST_F(SpoolTest, AFailedStartReleasesTheLock) {
  open();
  accept();
  accept();
  crash();
  const auto off = records(1)[0].offset + 40;
  flip(1, off);
  EXPECT_THROW(open(), std::runtime_error);
  flip(1, off);
  open();
  EXPECT_EQ(recovered_.size(), 2u);
}

TEST_F(SpoolTest, ARestartGivesThePreallocationBack) {
  spool_ = std::make_unique<Spool>(Options{directory_, 0, 1h}, [](Recovered) {});
  accept();
  spool_.reset();
  spool_ = std::make_unique<Spool>(Options{directory_, 0, 1h}, [](Recovered) {});
  EXPECT_LT(fs::file_size(segment_path(directory_, 1)), 1u << 20);
}

TEST_F(SpoolTest, ATornTailBeforeASegmentWithoutHeaderIsCutOff) {
  open();
  accept(message("first"));
  accept(message("second"));
  crash(records(1).back().offset + 40);
  std::ofstream(segment_path(directory_, 2)) << std::string(100, '\0');
  EXPECT_EQ(refusal(), "opened");
}

TEST_F(SpoolTest, RefusesARecordLargerThanASegment) {
  open();
  EXPECT_NE(run(spool_->accept(std::make_shared<const Message>(message(std::string(65 << 20, 'x'))))), Trouble::none);
}

TEST_F(SpoolTest, RefusesAMessageThatDoesNotAddUp) {
  open();
  Message m = message("x");
  m.body_size = 2;
  EXPECT_NE(run(spool_->accept(std::make_shared<const Message>(m))), Trouble::none);
  EXPECT_NO_THROW(open());
}

}  // namespace
}  // namespace egret::relay::spool
