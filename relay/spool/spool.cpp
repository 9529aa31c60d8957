#include "relay/spool/spool.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <variant>

#include "relay/runtime/clock.hpp"
#include "relay/runtime/log.hpp"
#include "relay/spool/hint.hpp"
#include "relay/spool/index.hpp"
#include "relay/spool/manifest.hpp"
#include "relay/spool/recovery.hpp"

namespace egret::relay::spool {
namespace {

namespace asio = boost::asio;

struct SegmentInfo {
  std::shared_ptr<SegmentFile> file;
  std::uint64_t used = segment_header_size;
  std::uint64_t live_bytes = 0;
  std::uint32_t live = 0;         // waiting messages with a record here that they need (ACCEPT or CHUNK)
  std::uint32_t live_chunks = 0;  // those of them that need a CHUNK: such a segment is never copied forward
  bool carries = false;           // holds DONE or PROGRESS of messages that may be stored elsewhere
  bool carried = false;           // those were written again, and are on disk: it has only to go
  bool damaged = false;           // found while reading it again: it stays, whatever is alive in it
  // Segments with older copies of messages that are here (a crash interrupted copying them forward). They must be
  // gone before this one may go, or the old copies would come back without their DONE.
  std::vector<std::uint32_t> after;
};

/// The lock that keeps two programs from one spool. Released when the object goes, whatever the reason.
class DirectoryLock {
 public:
  ~DirectoryLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  void take(const std::filesystem::path& directory) {
    const auto path = directory / "lock";
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) throw std::runtime_error("cannot write in " + directory.string() + ": " + std::strerror(errno));
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0)
      throw std::runtime_error("the spool " + directory.string() + " is in use by another egret");
  }

 private:
  int fd_ = -1;
};

template <class T>
struct Waiting {
  asio::any_io_executor home;
  OperationPtr<T> operation;
};

struct AcceptItem {
  std::shared_ptr<const Message> message;
  Waiting<Trouble> waiting;  // empty for internal ones
};
struct ChunkItem {
  std::string octets;
  Waiting<Spool::StoredChunk> waiting;
};
struct ProgressItem {
  Progress progress;
};
struct DoneItem {
  smtp::MessageId id;
};
struct ReadItem {
  smtp::MessageId id;
  Waiting<std::shared_ptr<const Message>> waiting;
};
struct EnvelopesItem {
  std::vector<smtp::MessageId> ids;
  Waiting<std::vector<std::shared_ptr<const Message>>> waiting;
};
struct ExtentItem {
  Extent extent;
  Waiting<std::string> waiting;
};
struct AbandonItem {
  std::vector<Extent> extents;
};
using Item = std::variant<AcceptItem, ChunkItem, ProgressItem, DoneItem, ReadItem, EnvelopesItem, ExtentItem, AbandonItem>;

/// What an ACCEPT record says in front of the body. Its checksum covers the body too, which is not read for this.
/// Another message's record is never taken for it, whatever the index says.
bool is_accept_of(std::string_view header, std::uint64_t id, const Place& place) {
  const auto known = decode_record_header(header);
  return known && known->type == RecordType::accept && known->id == id && known->length == place.length;
}

std::shared_ptr<const Message> read_envelope(const SegmentFile& file, const Place& place, std::uint64_t id) {
  constexpr std::size_t usual = 1024;
  const std::size_t start = place.offset + record_header_size;
  std::string header, octets;
  if (!file.read(place.offset, record_header_size, header) || !is_accept_of(header, id, place)) return nullptr;
  if (!file.read(start, std::min<std::size_t>(usual, place.length), octets)) return nullptr;
  const auto size = envelope_size(octets);
  if (!size || *size > place.length) return nullptr;
  if (*size > octets.size() && !file.read(start, *size, octets)) return nullptr;
  auto message = decode_envelope(id, octets);
  return message ? std::make_shared<const Message>(std::move(*message)) : nullptr;
}

const void* context_of(const asio::any_io_executor& e) {
  return &asio::query(e, asio::execution::context);
}

/// Completions of one batch, handed to each thread in one piece.
class Completions {
 public:
  void add(Waiting<Trouble> waiting, Trouble value) {
    if (waiting.operation) of(waiting.home).accepts.emplace_back(std::move(waiting.operation), value);
  }
  void add(Waiting<Spool::StoredChunk> waiting, Spool::StoredChunk value) {
    if (waiting.operation) of(waiting.home).chunks.emplace_back(std::move(waiting.operation), value);
  }
  void send() {
    for (Home& home : homes_) {
      const asio::any_io_executor executor = home.executor;
      asio::post(executor, [home = std::move(home)] {
        for (const auto& [operation, value] : home.accepts) operation->complete(value);
        for (const auto& [operation, value] : home.chunks) operation->complete(value);
      });
    }
    homes_.clear();
  }

 private:
  struct Home {
    asio::any_io_executor executor;
    std::vector<std::pair<OperationPtr<Trouble>, Trouble>> accepts;
    std::vector<std::pair<OperationPtr<Spool::StoredChunk>, Spool::StoredChunk>> chunks;
  };
  /// There are as many as workers: few.
  Home& of(const asio::any_io_executor& executor) {
    const void* context = context_of(executor);
    for (Home& home : homes_)
      if (context_of(home.executor) == context) return home;
    return homes_.emplace_back(Home{executor, {}, {}});
  }
  std::vector<Home> homes_;
};

/// Nobody waits for these: they can ride along with what comes next.
bool lazy(const Item& item) {
  return std::holds_alternative<DoneItem>(item) || std::holds_alternative<ProgressItem>(item) ||
         std::holds_alternative<AbandonItem>(item);
}

/// It can be waited for: no room (a limit on the process among that), no descriptors. Anything else (EIO, EROFS) needs somebody
/// to look after the disk.
bool passes(const std::error_code& error) {
  return out_of_space(error) || out_of_descriptors(error) || error == std::errc::file_too_large ||
         error == std::errc::interrupted;
}

/// What became of a record that was to be written.
enum class Appended {
  yes,
  no_room,    ///< there may be some later
  too_large,  ///< for any segment
};

constexpr auto no_descriptors_pause = std::chrono::seconds(10);
constexpr auto list_pause = std::chrono::seconds(1);
constexpr std::uint32_t small_step = 64 * 1024;  // disk taken at a time where there is hardly any left
constexpr auto retry_pause = std::chrono::milliseconds(100);
constexpr auto lazy_write = std::chrono::milliseconds(10);  // the longest that they wait for company

}  // namespace

class Spool::Impl : public std::enable_shared_from_this<Spool::Impl> {
 public:
  explicit Impl(Options options);
  ~Impl();

  void start(const std::function<void(const Recovered&)>& recovered);

  void end_waiting();
  void push(Item item);
  void push_soon(Item item, const asio::any_io_executor& home);
  smtp::MessageId next_id();

  std::atomic<Trouble> trouble{Trouble::none};
  std::atomic<bool> deferring{false}, low{false};
  mutable std::mutex text_mutex;
  std::string trouble_text;
  std::atomic<std::uint64_t> waiting{0}, segments_count{0}, syncs{0}, records{0};
  SyncTimes sync_times;

 private:
  struct Batch {
    std::vector<iovec> parts;
    std::deque<std::string> owned;                  // headers and metadata, addresses stable
    std::vector<std::shared_ptr<const void>> keep;  // messages and chunks being written
    std::vector<std::pair<Waiting<Trouble>, Trouble>> accepts;
    std::vector<std::pair<Waiting<StoredChunk>, StoredChunk>> chunks;
    std::uint64_t start = 0;  // offset in the active segment
    std::uint64_t end = 0;
    bool urgent = false;
    std::size_t safe_accepts = 0, safe_chunks = 0;  // those in front are on disk, whatever comes behind them
  };

  void recover(const std::function<void(const Recovered&)>& recovered);
  std::shared_ptr<SegmentFile> new_segment(std::uint32_t number, bool needed);
  std::uint32_t first_step() const;
  bool save_segments(std::optional<std::uint32_t> without = {}, bool closing = false);
  bool preallocate(Batch& batch, std::uint64_t upto, bool needed);
  void seal(SegmentInfo& segment);
  void run();
  bool next_batch(std::vector<Item>& items);
  void cover(Batch& batch);
  void handle(Item& item, Batch& batch);
  void on(AcceptItem& item, Batch& batch);
  void on(ChunkItem& item, Batch& batch);
  void on(ProgressItem& item, Batch& batch);
  void on(DoneItem& item, Batch& batch);
  void on(ReadItem& item, Batch& batch);
  void on(EnvelopesItem& item, Batch& batch);
  void on(ExtentItem& item, Batch& batch);
  void on(AbandonItem& item, Batch& batch);
  Appended append(Batch& batch, RecordType type, std::uint64_t id, const std::vector<std::string_view>& payload, Place& place,
                  std::uint64_t ahead = 0);
  bool make_room(Batch& batch, std::uint64_t size, std::uint64_t ahead);
  std::uint64_t margin() const;
  void defer(Item item);
  void take_deferred(std::vector<Item>& items, bool last);
  void note_deferred(bool some);
  void note_left_behind() const;
  void flush(Batch& batch);
  bool write(Batch& batch);
  void sync(Batch& batch);
  bool sync_active();
  void save_due_list();
  void complete(Batch& batch);
  void fail(const std::string& what, int error);
  void set_trouble(Trouble value, std::string text);
  void check_reserve(Batch* batch = nullptr);
  void note_live(const std::vector<Extent>& extents, const Place& place, int sign);
  void keep_damaged(SegmentInfo& segment, std::uint64_t offset);
  void forget(std::uint64_t id, const Place& place);
  void reclaim();
  bool carry_forward(SegmentInfo& segment, Batch& batch);
  bool copy_survivors(SegmentInfo& segment, Batch& batch);
  bool remove(std::uint32_t number);

  Options options_;
  DirectoryLock lock_;
  Index index_;
  boost::unordered_flat_map<std::uint64_t, std::vector<Extent>> extents_;  // of waiting messages that have any
  std::map<std::uint32_t, SegmentInfo> segments_;
  std::uint32_t active_ = 0;
  std::uint64_t allocated_ = 0;  // length of the active segment
  bool list_due_ = false;        // it grew, and the list does not say so yet
  bool list_missing_ = false;    // it could not be written
  Deadline list_retry_{};        // not before this
  std::uint64_t refused_ = 0;    // the largest record that found no room since there was some
  std::uint64_t synced_to_ = 0;
  std::uint64_t covered_ = segment_header_size;  // the end of the log when a record that says so was last written
  std::uint64_t sequence_ = 0;
  std::atomic<std::uint64_t> last_id_{0};
  // What nobody waits for and that found no room, in its order: DONE, PROGRESS, ACCEPT of reports. Bounded by the deliveries
  // under way when it began, for no new ones start; besides there are the mails of alerts, which keep their distance, and what
  // operators do to messages by hand.
  std::vector<Item> deferred_;
  bool dirty_ = false;
  Deadline dirty_since_{};
  Deadline handed_in_{};  // when the oldest lazy item of the present batch came, else its beginning
  Deadline reserve_checked_{};
  Deadline reclaimed_{};
  Deadline retried_{};  // when what is deferred was last tried

  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<Item> queue_;
  Deadline first_lazy_ = Deadline::max();  ///< when the oldest item of the queue that nobody waits for was handed in
  bool urgent_ = false;                    ///< the queue holds something that somebody waits for
  bool stop_ = false;
  bool ending_ = false;
  bool sleeping_ = false;
  bool lazy_wakes_ = false;            ///< the writer sleeps for longer than lazy items may wait
  std::vector<const void*> promised_;  ///< contexts that will wake the writer
  asio::thread_pool readers_{1};
  std::thread writer_;
};

// ---- start and recovery ------------------------------------------------------------------------------------------

Spool::Impl::Impl(Options options) : options_(std::move(options)) {
  try {
    create_durably(options_.directory);
  } catch (const std::system_error& e) {
    throw std::runtime_error("cannot create " + options_.directory.string() + ": " + e.code().message());
  }
  lock_.take(options_.directory);
}

Spool::Impl::~Impl() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (writer_.joinable()) writer_.join();
  readers_.join();
}

void Spool::Impl::start(const std::function<void(const Recovered&)>& recovered) {
  try {
    recover(recovered);
    // A fresh segment: what a crash left behind in the last one is never written to again.
    segments_[active_].file = new_segment(active_, true);
    if (!save_segments()) throw std::system_error(EMFILE, std::generic_category(), "cannot write the list of segments");
    synced_to_ = segment_header_size;
  } catch (const std::system_error& e) {  // std::filesystem's among them
    throw std::runtime_error(std::string("spool: ") + e.what());
  }
  waiting = index_.size();
  segments_count = segments_.size();
  check_reserve();
  writer_ = std::thread([this] { run(); });
}

void Spool::Impl::recover(const std::function<void(const Recovered&)>& recovered) {
  Recovery recovery(options_.directory, options_.alive);
  recovery.settle();
  active_ = recovery.next_number();
  last_id_ = recovery.last_id();
  sequence_ = recovery.sequence();
  for (const RecoveredSegment& segment : recovery.segments()) {
    SegmentInfo& info = segments_[segment.file->number()];
    info.file = segment.file;
    info.used = segment.end;
    info.carries = segment.carries;
    info.after = segment.after;
  }
  index_.reserve(recovery.waiting());
  Recovered known;
  recovery.each([&](RecoveredMessage& message) {
    const DigestEntry& accept = message.accept;
    const Place place{message.segment, accept.offset, accept.length};
    index_.add(accept.id, place);
    note_live(accept.extents, place, +1);
    if (!accept.extents.empty()) extents_[accept.id] = accept.extents;
    known.id = smtp::MessageId{accept.id};
    // Every recipient is done and only DONE was not written any more: it must be, before PROGRESS is forgotten.
    if (message.groups.empty()) return push(DoneItem{known.id});
    known.class_name = accept.class_name;
    known.accepted = accept.accepted;
    known.body_size = accept.body_size;
    known.report = accept.report;
    known.groups.swap(message.groups);  // so that the memory of both goes round
    recovered(known);
  });
  index_.close();
}

/// Sets allocated_. Throws std::system_error, and then nothing is left of it. `needed`: for a start, or for what cannot be
/// refused, a little disk is better than none.
std::shared_ptr<SegmentFile> Spool::Impl::new_segment(std::uint32_t number, bool needed) {
  const auto time = static_cast<std::uint64_t>(now().time_since_epoch().count());
  const auto create = [&](std::uint32_t size) {
    auto file = SegmentFile::create(options_.directory, number, time, size);
    allocated_ = size;
    return file;
  };
  try {
    return create(first_step());
  } catch (const std::system_error& e) {
    if (!needed || !out_of_space(e.code()) || first_step() <= small_step) throw;
    return create(small_step);
  }
}

std::uint32_t Spool::Impl::first_step() const {
  return std::min(options_.step, options_.segment_size);
}

/// Writes the list of segments. Those but the active one are sealed. False: nothing changed, and later it can be done.
bool Spool::Impl::save_segments(std::optional<std::uint32_t> without, bool closing) {
  Manifest manifest;
  for (const auto& [number, segment] : segments_) {
    const bool open = number == active_ && !closing;
    if (number != without) manifest[number] = {!open, open ? allocated_ : segment.used};
  }
  int why = 0;
  const Saved saved = save_manifest(options_.directory, manifest, why);
  if (saved == Saved::later) return false;
  list_due_ = saved == Saved::removed;
  list_retry_ = std::chrono::steady_clock::now() + list_pause;
  if (std::exchange(list_missing_, list_due_) != list_due_) {
    if (list_due_)
      log::error("spool: the list of segments cannot be written: without it a start would not miss one that was removed",
                 {{"reason", std::strerror(why)}, {"action", "tried again each second"}});
    else
      log::info("spool: the list of segments is written again");
  }
  return true;
}

void Spool::Impl::end_waiting() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
}

// ---- handing in --------------------------------------------------------------------------------------------------

/// The end of a delivery does not wake the writer while it will wake soon: under load that saves a wake-up and a write
/// for each message.
void Spool::Impl::push(Item item) {
  const bool can_wait = lazy(item);
  bool notify = false;
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(item));
    if (!can_wait)
      urgent_ = true;
    else if (first_lazy_ == Deadline::max())
      first_lazy_ = std::chrono::steady_clock::now();
    notify = sleeping_ && (!can_wait || lazy_wakes_);
    if (notify) sleeping_ = false;
  }
  if (notify) wake_.notify_one();
}

/// Messages of sessions that were ready in one turn of a worker's loop share a batch: the writer is woken behind all of them,
/// not by the first, whom it would write and sync alone.
void Spool::Impl::push_soon(Item item, const asio::any_io_executor& home) {
  const void* context = context_of(home);
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(item));
    urgent_ = true;
    if (!sleeping_ || std::ranges::find(promised_, context) != promised_.end()) return;
    promised_.push_back(context);
  }
  asio::post(home, [weak = weak_from_this(), context] {
    const auto self = weak.lock();
    if (!self) return;
    bool notify = false;
    {
      const std::lock_guard lock(self->mutex_);
      std::erase(self->promised_, context);
      notify = std::exchange(self->sleeping_, false);
    }
    if (notify) self->wake_.notify_one();
  });
}

smtp::MessageId Spool::Impl::next_id() {
  const auto base = static_cast<std::uint64_t>(now().time_since_epoch().count()) << 20;
  std::uint64_t last = last_id_.load(std::memory_order_relaxed), next = 0;
  do {
    next = std::max(base, last + 1);
  } while (!last_id_.compare_exchange_weak(last, next, std::memory_order_relaxed));
  return smtp::MessageId{next};
}

// ---- the writer --------------------------------------------------------------------------------------------------

/// Waits until there is something to write, or to sync, or a second has passed. `items` holds the batch before.
bool Spool::Impl::next_batch(std::vector<Item>& items) {
  bool busy = !items.empty();  // more will come soon: short naps, out of which nobody has to wake the writer
  items.clear();
  std::unique_lock lock(mutex_);
  const Deadline begun = std::chrono::steady_clock::now();
  const Deadline end =
      dirty_ && trouble.load() != Trouble::broken ? dirty_since_ + options_.lazy_sync : begun + std::chrono::seconds(1);
  for (Deadline time = begun; !stop_ && !urgent_ && time < end; time = std::chrono::steady_clock::now()) {
    if (!queue_.empty() && time >= first_lazy_ + lazy_write) break;
    Deadline until = end;
    if (!queue_.empty())
      until = std::min(until, first_lazy_ + lazy_write);
    else if (busy)
      until = std::min(until, time + lazy_write);
    lazy_wakes_ = queue_.empty() && !busy;
    sleeping_ = true;
    busy = wake_.wait_until(lock, until) == std::cv_status::no_timeout;
    sleeping_ = false;
  }
  items.swap(queue_);
  urgent_ = false;
  handed_in_ = std::min(std::exchange(first_lazy_, Deadline::max()), std::chrono::steady_clock::now());
  return !(stop_ && items.empty());
}

void Spool::Impl::run() {
  std::vector<Item> items;
  while (true) {
    const bool more = next_batch(items);
    Batch batch;
    batch.start = batch.end = segments_.at(active_).used;
    check_reserve(&batch);
    take_deferred(items, !more);
    for (Item& item : items) handle(item, batch);
    if (items.empty()) cover(batch);
    note_deferred(!deferred_.empty());
    flush(batch);
    const bool lazy_due = dirty_ && std::chrono::steady_clock::now() >= dirty_since_ + options_.lazy_sync;
    if (batch.urgent || lazy_due || !more) sync(batch);
    complete(batch);
    save_due_list();
    if (!more) break;
    reclaim();
  }
  note_left_behind();
  SegmentInfo& last = segments_.at(active_);
  if (trouble.load() == Trouble::broken) return;
  try {
    if (save_segments({}, true)) seal(last);
  } catch (const std::system_error& e) {
    log::warn("spool: the last segment is left as after a crash", {{"reason", e.what()}});
  }
}

/// Nothing will be written to it any more, and all of it is on disk: what was preallocated and not used goes back, and
/// a hint spares the next start reading it.
void Spool::Impl::seal(SegmentInfo& segment) {
  segment.file->truncate(segment.used);  // failing costs space only
  asio::post(readers_, [file = segment.file, end = segment.used] { make_hint(*file, end); });
}

/// A record at the end of the log that cannot be read is taken for a torn tail, for nothing says that it was on the disk. What
/// stands behind it says so: with nothing else to write, a record that means nothing.
void Spool::Impl::cover(Batch& batch) {
  static constexpr std::string_view payload = "synced";
  if (dirty_ || batch.end == covered_ || trouble.load() != Trouble::none) return;
  if (batch.end + record_size(payload.size()) > allocated_) return;
  Place place;
  if (append(batch, RecordType::chunk, 0, {payload}, place) == Appended::yes) covered_ = batch.end;
}

void Spool::Impl::handle(Item& item, Batch& batch) {
  std::visit([&](auto& i) { on(i, batch); }, item);
}

/// Keeps what found no room. All that comes later and that nobody waits for must stay behind it: a message must not end
/// before the report about it is stored, and the last PROGRESS of a message is the one that counts.
void Spool::Impl::defer(Item item) {
  deferred_.push_back(std::move(item));
}

/// Tries it again in front of what came now, also below the reserve: that is kept for these. Not with each batch, for asking
/// a full disk takes time.
void Spool::Impl::take_deferred(std::vector<Item>& items, bool last) {
  if (deferred_.empty() || trouble.load() == Trouble::broken) return;
  const Deadline time = std::chrono::steady_clock::now();
  if (!last && time - retried_ < retry_pause) return;
  retried_ = time;
  items.insert(items.begin(), std::make_move_iterator(deferred_.begin()), std::make_move_iterator(deferred_.end()));
  deferred_.clear();
}

void Spool::Impl::note_deferred(bool some) {
  if (some != deferring.load() && trouble.load() != Trouble::broken) {
    if (some)
      log::warn("spool: the end of deliveries cannot be recorded yet, and no new ones begin", {{"reason", trouble_text}});
    else
      log::info("spool: the end of deliveries is recorded again");
  }
  deferring = some;
}

/// At the end of the program.
void Spool::Impl::note_left_behind() const {
  if (deferred_.empty()) return;
  const auto ends = std::ranges::count_if(deferred_, [](const Item& item) { return std::holds_alternative<DoneItem>(item); });
  log::error("spool: the end of deliveries could not be recorded: after the next start they are made again",
             {{"messages", std::to_string(ends)}, {"records", std::to_string(deferred_.size())}, {"reason", trouble_text}});
}

/// Of the disk that was taken, what new messages leave for that which cannot be refused: DONE, PROGRESS and reports.
std::uint64_t Spool::Impl::margin() const {
  return first_step() / 4;
}

/// Makes sure that a record of `size` octets fits into the active segment with `ahead` octets left behind it, starting a new
/// one where it does not. The largest records have a new segment for themselves.
bool Spool::Impl::make_room(Batch& batch, std::uint64_t size, std::uint64_t ahead) {
  if (trouble.load() == Trouble::broken) return false;
  const bool fresh = batch.end == segment_header_size;
  if (batch.end + size + (fresh ? 0 : ahead) <= options_.segment_size)
    return preallocate(batch, batch.end + size + ahead, ahead == 0);
  flush(batch);
  sync(batch);
  if (trouble.load() == Trouble::broken) return false;
  SegmentInfo& old = segments_.at(active_);
  const std::uint32_t next = active_ + 1;
  const std::uint64_t before = allocated_;
  try {
    segments_[next].file = new_segment(next, ahead == 0);
  } catch (const std::system_error& e) {  // nothing is left of it, and the next attempt makes it again
    segments_.erase(next);
    set_trouble(passes(e.code()) ? Trouble::no_space : Trouble::broken, e.what());
    return false;
  }
  active_ = next;
  try {
    if (!save_segments()) {
      ::unlink(segments_.at(next).file->path().c_str());
      segments_.erase(next);
      active_ = old.file->number();
      allocated_ = before;
      set_trouble(Trouble::no_space, "no descriptors left for " + manifest_path(options_.directory).string());
      return false;
    }
  } catch (const std::system_error& e) {  // which list is on the disk cannot be known
    set_trouble(Trouble::broken, e.what());
    return false;
  }
  seal(old);
  synced_to_ = covered_ = segment_header_size;
  batch.start = batch.end = segment_header_size;
  segments_count = segments_.size();
  return preallocate(batch, batch.end + size + ahead, ahead == 0);
}

/// Takes disk for the active segment step by step, so that the last one is not mostly zeros. A full disk is found here,
/// in front of a record. The list says so behind the next sync, for only then the length is on disk: until that a cut
/// is not noticed behind the length it says.
bool Spool::Impl::preallocate(Batch& batch, std::uint64_t upto, bool needed) {
  upto = std::min<std::uint64_t>(upto, options_.segment_size);
  if (upto <= allocated_) return true;
  const auto in_steps = [&](std::uint64_t step) {
    return std::min<std::uint64_t>((upto + step - 1) / step * step, options_.segment_size);
  };
  const SegmentFile& file = *segments_.at(active_).file;
  std::uint64_t length = in_steps(options_.step);
  int error = file.preallocate(allocated_, length);
  if (needed && out_of_space({error, std::generic_category()}) && small_step < options_.step) {
    length = in_steps(small_step);
    error = file.preallocate(allocated_, length);
  }
  if (error != 0) {
    const bool waits = passes({error, std::generic_category()});
    if (!waits) {  // the last that is done with this file: there is room for what stands in front of it
      flush(batch);
      sync(batch);
    }
    set_trouble(waits ? Trouble::no_space : Trouble::broken, "cannot preallocate " + file.path().string() + " from offset " +
                                                                 std::to_string(allocated_) + " to " + std::to_string(length) +
                                                                 ": " + std::strerror(error));
    return false;
  }
  allocated_ = length;
  list_due_ = true;
  return true;
}

Appended Spool::Impl::append(Batch& batch, RecordType type, std::uint64_t id, const std::vector<std::string_view>& payload,
                             Place& place, std::uint64_t ahead) {
  std::size_t length = 0;
  for (const auto part : payload) length += part.size();
  if (record_size(length) > options_.segment_size - segment_header_size) {
    log::error("spool: a record is larger than a segment", {{"size", std::to_string(length)}});
    return Appended::too_large;
  }
  if (!make_room(batch, record_size(length), ahead)) {
    if (ahead > 0) refused_ = std::max<std::uint64_t>(refused_, record_size(length));
    return Appended::no_room;
  }
  place = {active_, static_cast<std::uint32_t>(batch.end), static_cast<std::uint32_t>(length)};
  const auto part = [&](std::string_view octets) {
    if (!octets.empty()) batch.parts.push_back({const_cast<char*>(octets.data()), octets.size()});
  };
  batch.owned.push_back(encode_record_header(type, id, static_cast<std::uint32_t>(synced_to_), payload));
  part(batch.owned.back());
  for (const auto octets : payload) part(octets);
  static constexpr char zeros[8] = {};
  part({zeros, record_size(length) - record_header_size - length});
  batch.end += record_size(length);
  records.fetch_add(1, std::memory_order_relaxed);
  return Appended::yes;
}

void Spool::Impl::on(AcceptItem& item, Batch& batch) {
  const Message& m = *item.message;
  const bool internal = !item.waiting.operation;
  if (!internal && trouble.load() != Trouble::none) {
    batch.accepts.emplace_back(std::move(item.waiting), trouble.load());
    return;
  }
  if (internal && !deferred_.empty()) return defer(std::move(item));
  std::uint64_t size = 0;
  for (const auto& extent : m.extents) size += extent.length;
  for (const auto& chunk : m.tail) size += chunk.size();
  if (m.recipients.empty() || size != m.body_size) {
    // It could not be read back: our own mistake, and no reason to lose the messages of others.
    log::error("spool: a message that does not add up is refused", {{"id", smtp::to_string(m.id)}});
    batch.accepts.emplace_back(std::move(item.waiting), Trouble::no_space);
    return;
  }
  batch.owned.push_back(encode_accept(m));
  std::vector<std::string_view> payload{batch.owned.back()};
  for (const auto& chunk : m.tail) payload.emplace_back(chunk);
  Place place;
  const auto id = static_cast<std::uint64_t>(m.id);
  if (const auto result = append(batch, RecordType::accept, id, payload, place, internal ? 0 : margin());
      result != Appended::yes) {
    if (internal && result == Appended::no_room) return defer(std::move(item));
    const Trouble why = trouble.load() == Trouble::none ? Trouble::no_space : trouble.load();
    if (internal) log::error("a report could not be stored", {{"id", smtp::to_string(m.id)}});
    batch.accepts.emplace_back(std::move(item.waiting), why);
    return;
  }
  index_.add(id, place);
  if (!m.extents.empty()) extents_[id] = m.extents;
  note_live(m.extents, place, +1);
  batch.keep.push_back(item.message);
  batch.accepts.emplace_back(std::move(item.waiting), Trouble::none);
  batch.urgent = true;
  waiting.store(index_.size(), std::memory_order_relaxed);
}

void Spool::Impl::on(ChunkItem& item, Batch& batch) {
  StoredChunk result;
  result.trouble = trouble.load();
  if (result.trouble == Trouble::none) {
    auto octets = std::make_shared<const std::string>(std::move(item.octets));
    Place place;
    if (append(batch, RecordType::chunk, 0, {*octets}, place, margin()) == Appended::yes) {
      result.extent = {place.segment, place.offset + static_cast<std::uint32_t>(record_header_size), place.length};
      // Pins the segment until the message is done, or for good in this run when it never comes to be.
      ++segments_.at(place.segment).live_chunks;
      batch.keep.push_back(octets);
    } else {
      result.trouble = trouble.load() == Trouble::none ? Trouble::no_space : trouble.load();
    }
  }
  batch.chunks.emplace_back(std::move(item.waiting), result);
}

void Spool::Impl::on(ProgressItem& item, Batch& batch) {
  if (!deferred_.empty()) return defer(std::move(item));  // perhaps the message itself is among them
  if (!index_.contains(static_cast<std::uint64_t>(item.progress.id))) return;
  item.progress.sequence = ++sequence_;
  batch.owned.push_back(encode_progress(item.progress));
  Place place;
  const std::string_view payload = batch.owned.back();
  const auto result = append(batch, RecordType::progress, static_cast<std::uint64_t>(item.progress.id), {payload}, place);
  if (result == Appended::no_room) return defer(std::move(item));
  if (result != Appended::yes) return;
  segments_.at(place.segment).carries = true;
}

void Spool::Impl::on(DoneItem& item, Batch& batch) {
  if (!deferred_.empty()) return defer(item);
  const auto id = static_cast<std::uint64_t>(item.id);
  const Place* const known = index_.find(id);
  if (!known) return;
  const Place accepted = *known;
  batch.owned.push_back(encode_done(accepted.segment));
  Place place;
  const std::string_view payload = batch.owned.back();
  if (append(batch, RecordType::done, id, {payload}, place) != Appended::yes) return defer(item);
  segments_.at(place.segment).carries = true;
  forget(id, accepted);
}

void Spool::Impl::on(ReadItem& item, Batch& batch) {
  const Place* const known = index_.find(static_cast<std::uint64_t>(item.id));
  std::shared_ptr<SegmentFile> file;
  Place place;
  if (known) {
    place = *known;
    if (place.segment == active_) flush(batch);  // it may be in this very batch
    file = segments_.at(place.segment).file;
  }
  asio::post(readers_, [file, place, id = static_cast<std::uint64_t>(item.id), waiting = std::move(item.waiting)]() mutable {
    std::shared_ptr<const Message> out;
    std::string header, payload;
    if (file && file->read(place.offset, record_header_size, header) && is_accept_of(header, id, place) &&
        file->read(place.offset + record_header_size, place.length, payload) && checksum_fits(header, payload))
      if (auto message = decode_accept(id, payload)) out = std::make_shared<const Message>(std::move(*message));
    if (!out && file) log::error("spool: a waiting message cannot be read", {{"id", smtp::to_string(smtp::MessageId{id})}});
    asio::post(waiting.home, [operation = std::move(waiting.operation), out = std::move(out)]() mutable {
      operation->complete(std::move(out));
    });
  });
}

void Spool::Impl::on(EnvelopesItem& item, Batch& batch) {
  struct Found {
    std::uint64_t id = 0;
    std::shared_ptr<SegmentFile> file;
    Place place;
  };
  flush(batch);  // some may be in this very batch
  std::vector<Found> found;
  for (const auto id : item.ids) {
    Found& one = found.emplace_back();
    one.id = static_cast<std::uint64_t>(id);
    const Place* const known = index_.find(one.id);
    if (!known) continue;
    one.place = *known;
    one.file = segments_.at(one.place.segment).file;
  }
  asio::post(readers_, [found = std::move(found), waiting = std::move(item.waiting)]() mutable {
    std::vector<std::shared_ptr<const Message>> out;
    for (const Found& one : found) {
      out.push_back(one.file ? read_envelope(*one.file, one.place, one.id) : nullptr);
      if (one.file && !out.back())
        log::error("spool: a waiting message cannot be read", {{"id", smtp::to_string(smtp::MessageId{one.id})}});
    }
    asio::post(waiting.home, [operation = std::move(waiting.operation), out = std::move(out)]() mutable {
      operation->complete(std::move(out));
    });
  });
}

void Spool::Impl::on(ExtentItem& item, Batch& batch) {
  const auto it = segments_.find(item.extent.segment);
  std::shared_ptr<SegmentFile> file;
  if (it != segments_.end()) {
    if (item.extent.segment == active_) flush(batch);
    file = it->second.file;
  }
  asio::post(readers_, [file, extent = item.extent, waiting = std::move(item.waiting)]() mutable {
    std::string header, payload;
    const bool good = file && extent.offset >= record_header_size &&
                      file->read(extent.offset - record_header_size, record_header_size, header) &&
                      file->read(extent.offset, extent.length, payload) && checksum_fits(header, payload);
    if (!good) payload.clear();
    asio::post(waiting.home, [operation = std::move(waiting.operation), payload = std::move(payload)]() mutable {
      operation->complete(std::move(payload));
    });
  });
}

void Spool::Impl::on(AbandonItem& item, Batch&) {
  for (const Extent& extent : item.extents)
    if (const auto it = segments_.find(extent.segment); it != segments_.end() && it->second.live_chunks > 0)
      --it->second.live_chunks;
}

// ---- durability --------------------------------------------------------------------------------------------------

void Spool::Impl::flush(Batch& batch) {
  if (batch.parts.empty() || trouble.load() == Trouble::broken) return;  // what failed is never written again
  if (!write(batch)) return;
  batch.parts.clear();
  batch.start = batch.end;
  segments_.at(active_).used = batch.end;
  if (!dirty_) dirty_since_ = handed_in_;
  dirty_ = true;
}

/// The disk was taken before, yet a file system that writes elsewhere each time (copy on write, thin provisioning) may find
/// none. Then all wait where they are, for records have an order, and the index knows these already: who waits for his 250 does
/// so, whoever comes later is refused, and nothing new is delivered.
bool Spool::Impl::write(Batch& batch) {
  const SegmentFile& file = *segments_.at(active_).file;
  std::uint64_t offset = batch.start;
  bool last = false;  // the program ends
  while (const int error = file.write(batch.parts, offset)) {
    if (last || !out_of_space({error, std::generic_category()})) {
      fail("cannot write", error);
      return false;
    }
    set_trouble(Trouble::no_space, "cannot write " + file.path().string() + ": " + std::strerror(error));
    note_deferred(true);
    std::unique_lock lock(mutex_);
    last = wake_.wait_for(lock, retry_pause, [this] { return stop_ || ending_; });
  }
  return true;
}

void Spool::Impl::sync(Batch& batch) {
  if (trouble.load() == Trouble::broken) return;
  if (dirty_ && !sync_active()) return;
  if (!batch.parts.empty()) return;
  batch.safe_accepts = batch.accepts.size();
  batch.safe_chunks = batch.chunks.size();
}

bool Spool::Impl::sync_active() {
  SegmentInfo& segment = segments_.at(active_);
  // A failed sync is never repeated on this file: the kernel may have dropped the pages and would report success.
  sync_times.begin(std::chrono::steady_clock::now());
  const int error = segment.file->sync();
  sync_times.end(std::chrono::steady_clock::now());
  if (error != 0) {
    fail("cannot sync", error);
    return false;
  }
  synced_to_ = segment.used;
  dirty_ = false;
  syncs.fetch_add(1, std::memory_order_relaxed);
  if (!list_missing_) save_due_list();
  return true;
}

/// Only with all of the active segment on disk: the list says how long that is.
void Spool::Impl::save_due_list() {
  if (!list_due_ || dirty_ || trouble.load() == Trouble::broken) return;
  if (list_missing_ && std::chrono::steady_clock::now() < list_retry_) return;
  try {
    save_segments();
  } catch (const std::system_error& e) {
    set_trouble(Trouble::broken, e.what());
  }
}

void Spool::Impl::complete(Batch& batch) {
  const bool broken = trouble.load() == Trouble::broken;
  Completions completions;
  for (std::size_t i = 0; i < batch.accepts.size(); ++i) {
    auto& [waiter, result] = batch.accepts[i];
    completions.add(std::move(waiter), broken && i >= batch.safe_accepts ? Trouble::broken : result);
  }
  for (std::size_t i = 0; i < batch.chunks.size(); ++i) {
    auto& [waiter, result] = batch.chunks[i];
    if (broken && i >= batch.safe_chunks) result.trouble = Trouble::broken;
    completions.add(std::move(waiter), result);
  }
  completions.send();
}

void Spool::Impl::fail(const std::string& what, int error) {
  set_trouble(Trouble::broken, what + " " + segments_.at(active_).file->path().string() + ": " + std::strerror(error));
}

void Spool::Impl::set_trouble(Trouble value, std::string text) {
  if (trouble.load() == Trouble::broken) return;
  if (trouble.load() != value || value == Trouble::broken) {
    if (value == Trouble::none)
      log::info("spool: accepting again");
    else
      log::error("spool: not accepting", {{"reason", text}});
  }
  {
    const std::lock_guard lock(text_mutex);
    trouble_text = std::move(text);
  }
  trouble.store(value);
}

/// With a batch in which nothing is yet, it also finds out whether there is room again: for what found none, and behind what
/// is deferred. Otherwise it would accept and refuse in turns.
void Spool::Impl::check_reserve(Batch* batch) {
  const Deadline time = std::chrono::steady_clock::now();
  if (time - reserve_checked_ < std::chrono::milliseconds(200)) return;
  reserve_checked_ = time;
  struct statvfs info {};
  if (statvfs(options_.directory.c_str(), &info) != 0) return;
  const std::uint64_t available = static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
  // Left again only well above its bound: a message more or less is no news.
  const std::uint64_t edge = options_.reserve + (low.load(std::memory_order_relaxed) ? options_.reserve / 16 : 0);
  low.store(available / 2 < edge, std::memory_order_relaxed);
  if (available < options_.reserve) {
    set_trouble(Trouble::no_space, "only " + std::to_string(available >> 20) + " MB of disk are free, spool.reserve keeps " +
                                       std::to_string(options_.reserve >> 20) + " MB");
  } else if (batch && trouble.load() == Trouble::no_space && deferred_.empty() && make_room(*batch, refused_, margin())) {
    refused_ = 0;
    set_trouble(Trouble::none, "");
  }
}

// ---- space -------------------------------------------------------------------------------------------------------

/// Counts a waiting message where it is stored.
void Spool::Impl::note_live(const std::vector<Extent>& extents, const Place& place, int sign) {
  SegmentInfo& home = segments_.at(place.segment);
  home.live += static_cast<std::uint32_t>(sign);
  home.live_bytes += static_cast<std::uint64_t>(sign) * record_size(place.length);
  if (sign > 0 && writer_.joinable()) return;  // its chunks were counted when they were stored
  for (const Extent& extent : extents)
    if (const auto it = segments_.find(extent.segment); it != segments_.end())
      it->second.live_chunks += static_cast<std::uint32_t>(sign);
}

void Spool::Impl::forget(std::uint64_t id, const Place& place) {
  std::vector<Extent> extents;
  if (const auto it = extents_.find(id); it != extents_.end()) {
    extents = std::move(it->second);
    extents_.erase(it);
  }
  note_live(extents, place, -1);
  index_.erase(id);
  waiting.store(index_.size(), std::memory_order_relaxed);
}

void Spool::Impl::reclaim() {
  const Deadline time = std::chrono::steady_clock::now();
  if (trouble.load() == Trouble::broken || time - reclaimed_ < std::chrono::milliseconds(500)) return;
  reclaimed_ = time;
  for (auto it = segments_.begin(); it != segments_.end();) {
    const std::uint32_t number = it->first;
    SegmentInfo& segment = (it++)->second;
    if (number == active_ || segment.live_chunks > 0 || segment.damaged) continue;
    const auto exists = [&](std::uint32_t other) { return segments_.contains(other); };
    if (std::any_of(segment.after.begin(), segment.after.end(), exists)) continue;
    const bool sparse = segment.live > 0 && segments_.size() > 4 && segment.live_bytes < segment.used / 4;
    if (segment.live > 0 && !sparse) continue;
    Batch batch;
    batch.start = batch.end = segments_.at(active_).used;
    const bool speaks = segment.carries && !segment.carried;
    const bool walked = sparse || speaks;
    const bool whole = (!sparse || copy_survivors(segment, batch)) && (!speaks || carry_forward(segment, batch));
    flush(batch);  // also when something was in the way: the index points at what was copied before
    sync(batch);
    if (trouble.load() == Trouble::broken) return;
    if (!whole) continue;
    segment.carried = true;  // should it have to wait for descriptors
    if (!remove(number)) {
      reclaimed_ += no_descriptors_pause;
      break;
    }
    if (walked) break;  // that takes a while, and senders wait for their 250
  }
  segments_count = segments_.size();
}

/// Writes again what the segment says about messages that are stored elsewhere and still there.
bool Spool::Impl::carry_forward(SegmentInfo& segment, Batch& batch) {
  const std::uint32_t number = segment.file->number();
  bool good = true;
  const WalkResult result = walk(*segment.file, [&](const WalkedRecord& record) {
    bool needed = false;
    if (record.header.type == RecordType::progress) {
      needed = index_.contains(record.header.id);
    } else if (record.header.type == RecordType::done) {
      const auto target = decode_done(record.payload);
      needed = target && *target != number && segments_.contains(*target);
    }
    if (!needed || !good) return;
    batch.owned.emplace_back(record.payload);
    Place place;
    const std::string_view payload = batch.owned.back();
    good = append(batch, record.header.type, record.header.id, {payload}, place) == Appended::yes;
    if (good) segments_.at(place.segment).carries = true;
  });
  if (result.end < segment.used) keep_damaged(segment, result.end);
  return good && !segment.damaged;
}

/// What it says behind the damage cannot be written again, so it may not go.
void Spool::Impl::keep_damaged(SegmentInfo& segment, std::uint64_t offset) {
  segment.damaged = true;
  log::error("spool: a segment is damaged, and is kept",
             {{"segment", segment.file->path().string()}, {"offset", std::to_string(offset)}, {"action", "egret spool verify"}});
}

/// Moves the few waiting messages of a segment to the active one.
bool Spool::Impl::copy_survivors(SegmentInfo& segment, Batch& batch) {
  const std::uint32_t number = segment.file->number();
  bool good = true;
  const WalkResult result = walk(*segment.file, [&](const WalkedRecord& record) {
    if (!good || record.header.type != RecordType::accept) return;
    Place* const known = index_.find(record.header.id);
    if (!known || known->segment != number || known->offset != record.offset) return;
    batch.owned.emplace_back(record.payload);
    Place place;
    const std::string_view payload = batch.owned.back();
    good = append(batch, RecordType::accept, record.header.id, {payload}, place, margin()) == Appended::yes;
    if (!good) return;
    SegmentInfo& target = segments_.at(place.segment);
    ++target.live;
    target.live_bytes += record_size(place.length);
    --segment.live;
    segment.live_bytes -= record_size(known->length);
    *known = place;
    // While the old copy is on disk, what ends the message must not go.
    if (target.after.empty() || target.after.back() != number) target.after.push_back(number);
  });
  if (result.end < segment.used) keep_damaged(segment, result.end);
  return good && !segment.damaged;
}

/// False: there are no descriptors for it now.
bool Spool::Impl::remove(std::uint32_t number) {
  const auto it = segments_.find(number);
  std::error_code error;
  try {
    const Directory names(options_.directory);  // before anything is removed, or it could not be synced
    if (!save_segments(number)) return false;
    std::filesystem::remove(hint_path(options_.directory, number), error);
    std::filesystem::remove(it->second.file->path(), error);
    if (error) throw std::system_error(error, "cannot unlink " + it->second.file->path().string());
    // The name must be gone for good before the DONE records of its messages may go.
    names.sync();
  } catch (const std::system_error& e) {
    if (out_of_descriptors(e.code())) return false;
    set_trouble(Trouble::broken, e.what());
    return true;
  }
  segments_.erase(it);
  return true;
}

// ---- the public face ---------------------------------------------------------------------------------------------

Spool::Spool(Options options, const std::function<void(const Recovered&)>& recovered) : Spool(std::move(options)) {
  start(recovered);
}
Spool::Spool(Options options) : impl_(std::make_shared<Impl>(std::move(options))) {}
Spool::~Spool() = default;

void Spool::end_waiting() {
  impl_->end_waiting();
}

void Spool::start(const std::function<void(const Recovered&)>& recovered) {
  impl_->start(recovered);
}

asio::awaitable<Trouble> Spool::accept(std::shared_ptr<const Message> message) {
  const auto home = co_await asio::this_coro::executor;
  Impl* impl = impl_.get();
  co_return co_await await_operation<Trouble>([impl, message = std::move(message), home](OperationPtr<Trouble> operation) {
    impl->push_soon(AcceptItem{message, {home, std::move(operation)}}, home);
  });
}

void Spool::accept_internal(std::shared_ptr<const Message> message) {
  impl_->push(AcceptItem{std::move(message), {}});
}

asio::awaitable<Spool::StoredChunk> Spool::chunk(std::string octets) {
  const auto home = co_await asio::this_coro::executor;
  Impl* impl = impl_.get();
  auto shared = std::make_shared<std::string>(std::move(octets));
  co_return co_await await_operation<StoredChunk>([impl, shared, home](OperationPtr<StoredChunk> operation) {
    impl->push(ChunkItem{std::move(*shared), {home, std::move(operation)}});
  });
}

void Spool::abandon(std::vector<Extent> extents) {
  if (!extents.empty()) impl_->push(AbandonItem{std::move(extents)});
}

void Spool::progress(Progress progress) {
  impl_->push(ProgressItem{std::move(progress)});
}
void Spool::done(smtp::MessageId id) {
  impl_->push(DoneItem{id});
}

asio::awaitable<std::shared_ptr<const Message>> Spool::read(smtp::MessageId id) {
  using Result = std::shared_ptr<const Message>;
  const auto home = co_await asio::this_coro::executor;
  Impl* impl = impl_.get();
  co_return co_await await_operation<Result>([impl, id, home](OperationPtr<Result> operation) {
    impl->push(ReadItem{id, {home, std::move(operation)}});
  });
}

asio::awaitable<std::vector<std::shared_ptr<const Message>>> Spool::envelopes(std::vector<smtp::MessageId> ids) {
  using Result = std::vector<std::shared_ptr<const Message>>;
  const auto home = co_await asio::this_coro::executor;
  Impl* impl = impl_.get();
  auto shared = std::make_shared<std::vector<smtp::MessageId>>(std::move(ids));
  co_return co_await await_operation<Result>([impl, shared, home](OperationPtr<Result> operation) {
    impl->push(EnvelopesItem{std::move(*shared), {home, std::move(operation)}});
  });
}

asio::awaitable<std::string> Spool::read(Extent extent) {
  const auto home = co_await asio::this_coro::executor;
  Impl* impl = impl_.get();
  co_return co_await await_operation<std::string>([impl, extent, home](OperationPtr<std::string> operation) {
    impl->push(ExtentItem{extent, {home, std::move(operation)}});
  });
}

smtp::MessageId Spool::next_id() {
  return impl_->next_id();
}
Trouble Spool::trouble() const {
  return impl_->trouble.load();
}

bool Spool::low() const {
  return impl_->low.load(std::memory_order_relaxed);
}

bool Spool::delivery_paused() const {
  return impl_->deferring.load() || impl_->trouble.load() == Trouble::broken;
}

std::string Spool::trouble_text() const {
  const std::lock_guard lock(impl_->text_mutex);
  return impl_->trouble_text;
}

SyncTimes& Spool::sync_times() const {
  return impl_->sync_times;
}

Counters Spool::counters() const {
  return {impl_->waiting.load(), impl_->segments_count.load(), impl_->syncs.load(), impl_->records.load()};
}

}  // namespace egret::relay::spool
