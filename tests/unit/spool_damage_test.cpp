// Random histories written through the real spool, then damaged: any octet flipped, any file cut or removed. A start
// recovers exactly what the model says, or stops and names segment and offset; salvage invents nothing and loses nothing
// that is whole. EGRET_SPOOL_HISTORIES=1000 runs longer than a build does.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdlib>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "relay/spool/inspect.hpp"
#include "relay/spool/recovery.hpp"
#include "relay/spool/spool.hpp"

namespace egret::relay::spool {
namespace {

namespace asio = boost::asio;
namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int cases_each = 30;  // damages of one history

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

using Waiting = std::map<std::uint64_t, std::map<std::uint32_t, std::uint32_t>>;  // id -> pending recipient -> attempts

Waiting waiting_in(const Recovery& recovery) {
  Waiting out;
  recovery.each([&](RecoveredMessage message) {
    for (const auto& group : message.groups)
      for (const auto& [index, state] : group.recipients) out[message.accept.id][index] = group.attempts;
  });
  return out;
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void write_file(const fs::path& path, const std::string& octets) {
  std::ofstream(path, std::ios::binary) << octets;
}

/// What was done to one file.
struct Hurt {
  fs::path file;
  std::uint64_t offset = 0;
  enum class Kind { flip, cut, remove } kind = Kind::flip;
  std::string text() const {
    static const char* const names[] = {"flip", "cut", "remove"};
    return std::string(names[static_cast<int>(kind)]) + " " + file.filename().string() + " at " + std::to_string(offset);
  }
  bool segment() const { return file.extension() == ".spool"; }
};

class SpoolDamage : public testing::TestWithParam<unsigned> {
 protected:
  SpoolDamage() {
    const fs::path memory = "/dev/shm";  // hundreds of starts would spend their time on syncs
    root_ = (::access(memory.c_str(), W_OK) == 0 ? memory : fs::path(testing::TempDir())) /
            ("egret-spool-damage-" + std::to_string(::getpid()) + "-" + std::to_string(GetParam()));
    fs::create_directories(root_);
  }
  ~SpoolDamage() override { fs::remove_all(root_); }

  std::string text(std::size_t size) {
    std::string out(size, 'x');
    for (char& c : out) c = static_cast<char>('a' + random_() % 26);
    return out;
  }

  // ---- a history ----

  void accept(Spool& spool, bool wait) {
    auto message = std::make_shared<Message>();
    message->id = spool.next_id();
    message->class_name = random_() % 2 ? "transactional" : "bulk";
    message->sender = {"sender", "example.com"};
    const auto recipients = static_cast<std::uint32_t>(1 + random_() % 3);
    std::string body;
    if (random_() % 6 == 0) {
      body = text(random_() % 3000);
      message->extents = {run(spool.chunk(body)).extent};
    }
    message->tail = {text(random_() % 1500)};
    body += message->tail[0];
    message->body_size = body.size();
    const auto id = number(message->id);
    for (std::uint32_t i = 0; i < recipients; ++i) {
      message->recipients.push_back({"r" + std::to_string(i), "example.net"});
      model_[id][i] = 0;
    }
    bodies_[id] = body;
    if (wait)
      ASSERT_EQ(run(spool.accept(message)), Trouble::none);
    else
      spool.accept_internal(message);
  }

  std::uint64_t any() {
    auto it = model_.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random_() % model_.size()));
    return it->first;
  }

  void step(Spool& spool) {
    const unsigned choice = random_() % 10;
    if (choice < 5 || model_.empty()) return accept(spool, false);
    const auto id = any();
    if (choice < 7) {
      spool.done(smtp::MessageId{id});
      model_.erase(id);
      return;
    }
    Progress progress;
    progress.id = smtp::MessageId{id};
    progress.attempts = 1 + random_() % 9;
    progress.reply = text(random_() % 100);
    auto& recipients = model_[id];
    for (auto it = recipients.begin(); it != recipients.end();) {
      const bool ends = recipients.size() > 1 && random_() % 3 == 0;
      progress.recipients.emplace_back(it->first, ends ? RecipientState::delivered : RecipientState::pending);
      if (!ends) it->second = progress.attempts;
      it = ends ? recipients.erase(it) : std::next(it);
    }
    spool.progress(std::move(progress));
  }

  /// Ends as a killed program does, everything acknowledged and synced, or with a stop. Left in root_/"whole".
  void write_history(bool killed) {
    const fs::path directory = root_ / "history";
    Options options{directory, 0, 1h};
    options.segment_size = 16384;
    options.step = 4096;
    for (int runs = 1 + static_cast<int>(random_() % 2); runs >= 0; --runs) {
      Spool spool(options, [](const Recovered&) {});
      for (unsigned steps = 10 + random_() % 50; steps > 0; --steps) step(spool);
      ASSERT_NO_FATAL_FAILURE(accept(spool, true));
      for (int i = 0; i < 2; ++i) run(spool.read(Extent{}));  // hints are written on the reading thread
      if (runs == 0 && killed) fs::copy(directory, root_ / "whole", fs::copy_options::recursive);
    }
    if (!killed) fs::copy(directory, root_ / "whole", fs::copy_options::recursive);
    fs::remove_all(directory);
    fs::remove(root_ / "whole" / "lock");
    const Recovery recovery(root_ / "whole");
    last_ = recovery.segments().back().file->number();
    recovery.each([&](const RecoveredMessage& message) { places_[message.accept.id] = {message.segment, message.accept}; });
  }

  // ---- damage ----

  Hurt hurt(const fs::path& directory) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(directory)) files.push_back(entry.path());
    std::ranges::sort(files);
    Hurt out;
    out.file = files[random_() % files.size()];
    std::string octets = read_file(out.file);
    out.offset = random_() % octets.size();
    out.kind = static_cast<Hurt::Kind>(random_() % 8 == 0 ? 2 : random_() % 3 == 0 ? 1 : 0);
    switch (out.kind) {
      case Hurt::Kind::flip:
        octets[out.offset] = static_cast<char>(octets[out.offset] ^ (1 << random_() % 8));
        write_file(out.file, octets);
        break;
      case Hurt::Kind::cut:
        fs::resize_file(out.file, out.offset);
        break;
      case Hurt::Kind::remove:
        fs::remove(out.file);
        break;
    }
    return out;
  }

  /// Where the record begins that was hit, if it may be the beginning of a torn tail: nothing that stands behind it knew it
  /// to be on disk.
  std::optional<std::uint64_t> torn_from(const Hurt& hurt) const {
    if (!hurt.segment() || hurt.kind != Hurt::Kind::flip || hurt.file.filename() != segment_path("", last_).filename())
      return std::nullopt;
    const fs::path whole = root_ / "whole" / hurt.file.filename();
    const auto file = SegmentFile::open(whole, last_, false);
    bool known = false;
    std::uint64_t start = 0;
    walk(*file, [&](const WalkedRecord& record) {
      if (record.offset <= hurt.offset) start = record.offset;
      known = known || (record.offset > start && record.header.synced_to > start);
    });
    if (known) return std::nullopt;
    return start;
  }

  /// What waits when the last segment has never been written to from `offset` on.
  Waiting waiting_without(std::uint64_t offset) const {
    const fs::path directory = root_ / "shorter";
    fs::copy(root_ / "whole", directory, fs::copy_options::recursive);
    std::string octets = read_file(segment_path(directory, last_));
    std::fill(octets.begin() + static_cast<std::ptrdiff_t>(offset), octets.end(), '\0');
    write_file(segment_path(directory, last_), octets);
    Waiting out = waiting_in(Recovery(directory));
    fs::remove_all(directory);
    return out;
  }

  void check_start(const fs::path& directory, const Hurt& hurt) {
    const std::string what = hurt.text() + ", seed " + std::to_string(GetParam());
    try {
      const Recovery recovery(directory);
      const Waiting found = waiting_in(recovery);
      if (found == model_) return;
      const auto from = torn_from(hurt);
      ASSERT_TRUE(from) << what;
      ASSERT_TRUE(recovery.segments().back().torn) << what;
      ASSERT_EQ(recovery.segments().back().end, *from) << what;
      ASSERT_EQ(found, waiting_without(*from)) << what << ": more than the torn tail is missing";
    } catch (const std::runtime_error& e) {
      const std::string said = e.what();
      ASSERT_TRUE(hurt.segment()) << what << ": " << said;
      ASSERT_NE(said.find(hurt.file.filename().string() + " at offset "), std::string::npos) << what << ": " << said;
    }
  }

  bool touched(std::uint64_t id, const Hurt& hurt) const {
    if (!hurt.segment()) return false;
    const auto& [segment, accept] = places_.at(id);
    const auto hits = [&](std::uint32_t where, std::uint64_t from, std::uint64_t to) {
      if (hurt.file.filename() != segment_path("", where).filename()) return false;
      if (hurt.kind == Hurt::Kind::remove) return true;
      return hurt.kind == Hurt::Kind::cut ? to > hurt.offset : hurt.offset >= from && hurt.offset < to;
    };
    if (hits(segment, accept.offset, accept.offset + record_size(accept.length))) return true;
    for (const Extent& e : accept.extents)
      if (hits(e.segment, e.offset - record_header_size, e.offset + e.length)) return true;
    return false;
  }

  void check_salvage(const fs::path& directory, const fs::path& to, const Hurt& hurt) {
    const std::string what = hurt.text() + ", seed " + std::to_string(GetParam());
    const Inspection inspection(directory);
    const Salvaged result = salvage(inspection, to, 1 << 16);
    const Inspection saved(to);
    EXPECT_TRUE(saved.damage().empty()) << what;
    std::set<std::uint64_t> twice, there;
    for (const auto id : result.maybe_done) twice.insert(number(id));
    saved.each_waiting([&](const Found& found) {
      const auto id = number(found.envelope.id);
      there.insert(id);
      ASSERT_TRUE(bodies_.contains(id)) << what;
      ASSERT_TRUE(model_.contains(id) || twice.contains(id)) << what << ": done, and not said to be maybe done";
      std::string body;
      ASSERT_TRUE(saved.read_body(found, [&](std::string_view piece) { body += piece; })) << what;
      ASSERT_EQ(body, bodies_.at(id)) << what;
      if (twice.contains(id)) return;
      std::map<std::uint32_t, std::uint32_t> recipients;
      for (const auto& group : found.groups)
        for (const auto& [index, state] : group.recipients) recipients[index] = group.attempts;
      ASSERT_EQ(recipients, model_.at(id)) << what;
    });
    for (const auto& [id, recipients] : model_) {
      if (!there.contains(id)) EXPECT_TRUE(touched(id, hurt)) << what << ": lost " << smtp::to_string(smtp::MessageId{id});
    }
  }

  std::mt19937 random_{GetParam()};
  fs::path root_;
  Waiting model_;
  std::map<std::uint64_t, std::string> bodies_;  // of all messages there ever were
  std::map<std::uint64_t, std::pair<std::uint32_t, DigestEntry>> places_;
  std::uint32_t last_ = 0;
};

TEST_P(SpoolDamage, IsRecoveredExactlyOrNamed) {
  write_history(GetParam() % 2 == 0);
  ASSERT_EQ(waiting_in(Recovery(root_ / "whole")), model_);
  ASSERT_TRUE(Inspection(root_ / "whole").damage().empty());
  for (int i = 0; i < cases_each; ++i) {
    const fs::path directory = root_ / "damaged";
    fs::copy(root_ / "whole", directory, fs::copy_options::recursive);
    const Hurt how = hurt(directory);
    ASSERT_NO_FATAL_FAILURE(check_start(directory, how));
    if (i % 3 == 0) ASSERT_NO_FATAL_FAILURE(check_salvage(directory, root_ / "saved", how));
    fs::remove_all(directory);
    fs::remove_all(root_ / "saved");
  }
}

TEST_P(SpoolDamage, NeedsNoHints) {
  write_history(false);
  for (const auto& entry : fs::directory_iterator(root_ / "whole"))
    if (entry.path().extension() == ".hint" && random_() % 2) fs::remove(entry.path());
  EXPECT_EQ(waiting_in(Recovery(root_ / "whole")), model_);
  {
    Recovery recovery(root_ / "whole");
    recovery.settle();
  }
  const Recovery again(root_ / "whole");
  EXPECT_EQ(waiting_in(again), model_);
  for (const auto& segment : again.segments()) EXPECT_TRUE(segment.hinted || segment.end == segment_header_size);
}

unsigned histories() {
  const char* const wanted = std::getenv("EGRET_SPOOL_HISTORIES");
  return wanted ? static_cast<unsigned>(std::strtoul(wanted, nullptr, 10)) : 12u;
}

INSTANTIATE_TEST_SUITE_P(Seeds, SpoolDamage, testing::Range(1u, 1u + histories()));

TEST(SpoolManifest, IsReadAsItWasWritten) {
  const Manifest manifest{{3, {true, 4096}}, {7, {false, 67108864}}};
  EXPECT_EQ(parse_manifest(encode_manifest(manifest)), manifest);
  EXPECT_EQ(parse_manifest(encode_manifest({})), Manifest{});
}

TEST(SpoolManifest, NoticesEveryFlippedBit) {
  const std::string whole = encode_manifest({{3, {true, 4096}}, {7, {false, 67108864}}});
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string octets = whole;
    octets[bit / 8] = static_cast<char>(octets[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(parse_manifest(octets)) << bit;
  }
}

}  // namespace
}  // namespace egret::relay::spool
