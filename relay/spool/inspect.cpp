#include "relay/spool/inspect.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <cstring>
#include <stdexcept>
#include <system_error>
#include <tuple>

#include "relay/spool/recovery.hpp"
#include "relay/spool/spool.hpp"

namespace egret::relay::spool {
namespace {

/// The addresses of a record whose checksum does not fit, for people: they may be wrong.
std::optional<Lost> envelope_of(std::uint64_t id, std::string_view payload, const std::string& why) {
  const auto message = decode_envelope(id, payload);
  if (!message) return std::nullopt;
  Lost out{message->id, message->sender.to_string(), {}, why};
  for (const auto& recipient : message->recipients) out.recipients.push_back(recipient.to_string());
  return out;
}

Lost lost_of(const Found& found, const std::string& why) {
  Lost out{found.envelope.id, found.envelope.sender.to_string(), {}, why};
  for (const auto& recipient : found.envelope.recipients) out.recipients.push_back(recipient.to_string());
  return out;
}

}  // namespace

InspectionLock::InspectionLock(const std::filesystem::path& directory) {
  fd_ = ::open((directory / "lock").c_str(), O_RDONLY | O_CLOEXEC);
  in_use_ = fd_ >= 0 && flock(fd_, LOCK_EX | LOCK_NB) != 0;
}

InspectionLock::~InspectionLock() {
  if (fd_ >= 0) ::close(fd_);
}

Inspection::Inspection(std::filesystem::path directory) : directory_(std::move(directory)) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory_, error)) throw std::runtime_error(directory_.string() + " is no directory");
  try {
    bool damaged = false;
    const auto manifest = load_manifest(directory_, damaged);
    if (damaged) damage_.push_back({manifest_path(directory_).string(), 0, 0, 0, "the list of segments cannot be read"});
    const auto numbers = list_segments(directory_);
    const auto listed = [&](std::uint32_t number) -> const ListedSegment* {
      if (!manifest) return nullptr;
      const auto it = manifest->find(number);
      return it == manifest->end() ? nullptr : &it->second;
    };
    if (manifest)
      for (const auto& [number, segment] : *manifest)
        if (!std::ranges::binary_search(numbers, number)) add_damage(number, 0, 0, "the segment is missing");
    for (const std::uint32_t number : numbers) read_segment(number, number == numbers.back(), listed(number));
  } catch (const std::system_error& e) {
    throw std::runtime_error(e.what());
  }
  conclude();
}

void Inspection::add_damage(std::uint32_t segment, std::uint64_t offset, std::uint64_t length, std::string what) {
  damage_.push_back({path_of(segment).string(), segment, offset, length, std::move(what)});
  last_loss_ = std::max(last_loss_.value_or(std::pair{segment, offset}), std::pair{segment, offset});
}

void Inspection::read_segment(std::uint32_t number, bool last, const ListedSegment* listed) {
  const auto file = SegmentFile::open(path_of(number), number, false);
  std::string header;
  const std::uint64_t size = file->size();
  ++counts_.segments;
  if (listed && size < listed->length)
    add_damage(number, size, listed->length - size, "cut off: it had " + std::to_string(listed->length) + " octets");
  if (size < segment_header_size) {
    if (!listed) notes_.push_back(file->path().string() + ": made and never used");
    return;
  }
  const bool readable = file->read(0, segment_header_size, header);
  if (!readable) add_damage(number, 0, segment_header_size, "the header cannot be read");
  if (const auto problem = readable ? check_segment_header(header, number) : ""; !problem.empty()) {
    const bool empty = header.find_first_not_of('\0') == std::string::npos && !listed && last;
    if (empty) return notes_.push_back(file->path().string() + ": made and never used");
    damage_.push_back({file->path().string(), number, 0, segment_header_size, problem});  // its records may still be read
  }
  std::memcpy(&created_ms_[number], header.data() + 16, sizeof(std::uint64_t));
  scan(*file, last, listed);
}

/// Reads on behind whatever cannot be read, at the next record that can. A sender cannot put one into a body: a record's
/// header holds NULs, which no stored message does. A running program may seal the file meanwhile, which cuts it.
void Inspection::scan(const SegmentFile& file, bool last, const ListedSegment* listed) {
  std::optional<SegmentReader> reader(std::in_place, file);
  std::vector<std::pair<std::uint64_t, std::uint64_t>> holes;
  std::uint64_t at = segment_header_size;
  while (true) {
    while (const auto record = reader->record_at(at)) {
      take(file.number(), *record);
      at += record_size(record->header.length);
    }
    const WalkResult end = reader->judge_end(at);
    if (!end.clean && file.size() != reader->size()) {  // at most as often as a segment grows
      reader.emplace(file);
      continue;
    }
    const std::uint64_t size = reader->size();
    const bool sealed_here = listed && listed->sealed && at < listed->length;
    if (end.clean && !sealed_here) break;
    if (at >= size) break;  // cut off: said already
    std::uint64_t next = (at + 8) & ~std::uint64_t{7};
    while (next < size && !reader->record_at(next)) next += 8;
    next = std::min(next, size);
    holes.emplace_back(at, next);
    if (end.torn && last && !sealed_here)
      notes_.push_back(file.path().string() + ": a torn tail at offset " + std::to_string(at) +
                       ", never acknowledged: the start cuts it off" +
                       (next < size ? "; salvage saves what can be read behind it" : ""));
    else
      suspect(file, at, next, end.problem);
    if (next == size) break;
    at = next;
  }
  take_hint(file, holes);
}

/// What an unreadable stretch may have been.
void Inspection::suspect(const SegmentFile& file, std::uint64_t from, std::uint64_t to, std::string what) {
  std::string octets;
  if (what.empty()) what = "a record that cannot be read";
  if (to - from >= record_header_size && file.read(from, record_header_size, octets)) {
    const auto header = decode_record_header(octets);
    if (header && header->type == RecordType::accept && record_size(header->length) <= to - from &&
        file.read(from + record_header_size, header->length, octets)) {
      what = "an ACCEPT record that cannot be read";
      Lost lost{smtp::MessageId{header->id}, {}, {}, "its ACCEPT record is damaged"};
      if (auto known = envelope_of(header->id, octets, "its ACCEPT record is damaged: the addresses may be wrong"))
        lost = std::move(*known);
      suspects_.emplace(header->id, std::move(lost));
    }
  }
  damage_.push_back({file.path().string(), file.number(), from, to - from, what});
}

void Inspection::take(std::uint32_t segment, const WalkedRecord& record) {
  const std::uint64_t id = record.header.id;
  switch (record.header.type) {
    case RecordType::chunk:
      ++counts_.chunks;
      return;
    case RecordType::accept: {
      ++counts_.accepts;
      State& state = messages_[id];
      state.accepted = true;
      std::tie(state.segment, state.offset, state.length) = std::tuple(segment, record.offset, record.header.length);
      return;
    }
    case RecordType::progress:
      ++counts_.progress;
      messages_[id].progress.emplace_back(record.payload);
      return;
    case RecordType::done:
      ++counts_.dones;
      messages_[id].done = true;
      messages_[id].progress = {};
      return;
  }
}

/// A hint that fits says what the lost records were; without one, anything may have been among them.
void Inspection::take_hint(const SegmentFile& file, const std::vector<std::pair<std::uint64_t, std::uint64_t>>& holes) {
  std::error_code error;
  if (!std::filesystem::exists(hint_path(directory_, file.number()), error)) {
    if (!holes.empty())
      last_loss_ =
          std::max(last_loss_.value_or(std::pair{file.number(), holes.back().first}), {file.number(), holes.back().first});
    return;
  }
  ++counts_.hints;
  const auto hint = Digest::load(file);
  if (!hint) {
    notes_.push_back(hint_path(directory_, file.number()).string() + ": does not fit its segment, and is not used");
    if (!holes.empty())
      last_loss_ =
          std::max(last_loss_.value_or(std::pair{file.number(), holes.back().first}), {file.number(), holes.back().first});
    return;
  }
  if (holes.empty()) return;
  hint->each([&](std::uint32_t at, RecordType type, std::uint64_t id) {
    State& state = messages_[id];
    if (type == RecordType::done) state.done = true;
    if (type == RecordType::progress) state.progress.emplace_back(hint->entry_at(at).progress);
    const auto lost_at = [&](std::uint32_t offset) {
      return std::ranges::any_of(holes, [&](const auto& hole) { return offset >= hole.first && offset < hole.second; });
    };
    if (type == RecordType::accept && lost_at(hint->entry_at(at).offset))
      suspects_.emplace(id, Lost{smtp::MessageId{id}, {}, {}, "its ACCEPT record is damaged"});
  });
}

void Inspection::conclude() {
  std::vector<std::uint64_t> unusable;
  for (const auto& [id, state] : messages_) {
    if (state.done || !state.accepted) continue;
    const auto message = found(id, state);
    if (!message) {
      add_damage(state.segment, state.offset, record_size(state.length), "an ACCEPT record that makes no sense");
      suspects_.emplace(id, Lost{smtp::MessageId{id}, {}, {}, "its ACCEPT record makes no sense"});
      unusable.push_back(id);
      continue;
    }
    ++counts_.waiting;
    if (!message->body_lost) continue;
    damage_.push_back({path_of(state.segment).string(), state.segment, state.offset, record_size(state.length),
                       "message " + smtp::to_string(smtp::MessageId{id}) + ": a part of its body cannot be read"});
    lost_.push_back(lost_of(*message, "a part of its body cannot be read"));
  }
  for (const auto id : unusable) messages_.erase(id);
  for (const auto& [id, lost] : suspects_) {
    const auto it = messages_.find(id);
    if (it == messages_.end() || (!it->second.accepted && !it->second.done)) lost_.push_back(lost);
  }
  for (const auto& [id, state] : messages_)
    if (!state.accepted && !state.done && !state.progress.empty() && !suspects_.contains(id))
      lost_.push_back({smtp::MessageId{id}, {}, {}, "only a record of an attempt is left of it"});
  std::ranges::sort(lost_, {}, &Lost::id);
}

/// Whether something was lost that may have spoken of the message: behind its ACCEPT, or in front of it when that may be
/// a copy from an older segment. An id begins with the time of the message, which tells how old it is.
bool Inspection::after_loss(std::uint64_t id, const State& state) const {
  if (!last_loss_) return false;
  if (*last_loss_ > std::pair<std::uint32_t, std::uint64_t>(state.segment, state.offset)) return true;
  const auto next = created_ms_.upper_bound(last_loss_->first);
  return next != created_ms_.end() && id >> 20 <= next->second;
}

/// Whether the CHUNK record is there as a whole.
bool Inspection::chunk_good(const Extent& extent) const {
  std::error_code error;
  if (extent.offset < record_header_size || !std::filesystem::exists(path_of(extent.segment), error)) return false;
  std::string header, payload;
  const auto file = SegmentFile::open(path_of(extent.segment), extent.segment, false);
  return file->read(extent.offset - record_header_size, record_header_size, header) &&
         file->read(extent.offset, extent.length, payload) && decode_record_header(header) && checksum_fits(header, payload);
}

std::optional<Found> Inspection::found(std::uint64_t id, const State& state) const {
  const auto file = SegmentFile::open(path_of(state.segment), state.segment, false);
  std::string payload;
  if (!file->read(state.offset + record_header_size, state.length, payload)) return std::nullopt;
  auto envelope = decode_envelope(id, payload);
  if (!envelope) return std::nullopt;
  std::uint64_t size = payload.size() - *envelope_size(payload);
  for (const Extent& extent : envelope->extents) size += extent.length;
  if (size != envelope->body_size) return std::nullopt;
  Found out{std::move(*envelope), state.segment, state.offset, state.length, {}, false, after_loss(id, state)};
  std::vector<Progress> history;
  for (const auto& record : state.progress)
    if (auto progress = decode_progress(id, record)) history.push_back(std::move(*progress));
  out.groups = pending_groups(out.envelope.id, static_cast<std::uint32_t>(out.envelope.recipients.size()), std::move(history));
  out.body_lost = !std::ranges::all_of(out.envelope.extents, [&](const Extent& extent) { return chunk_good(extent); });
  return out;
}

void Inspection::each_waiting(const std::function<void(const Found&)>& visit) const {
  for (const auto& [id, state] : messages_)
    if (state.accepted && !state.done)
      if (const auto message = found(id, state)) visit(*message);
}

std::optional<Found> Inspection::find(smtp::MessageId id) const {
  const auto it = messages_.find(static_cast<std::uint64_t>(id));
  if (it == messages_.end() || !it->second.accepted || it->second.done) return std::nullopt;
  return found(it->first, it->second);
}

bool Inspection::read_body(const Found& message, const std::function<void(std::string_view)>& take) const {
  std::string octets;
  for (const Extent& extent : message.envelope.extents) {
    if (!chunk_good(extent)) return false;
    const auto file = SegmentFile::open(path_of(extent.segment), extent.segment, false);
    if (!file->read(extent.offset, extent.length, octets)) return false;
    take(octets);
  }
  const auto file = SegmentFile::open(path_of(message.segment), message.segment, false);
  if (!file->read(message.offset + record_header_size, message.length, octets)) return false;
  const auto size = envelope_size(octets);
  if (!size || *size > octets.size()) return false;
  take(std::string_view(octets).substr(*size));
  return true;
}

// ---- salvage -----------------------------------------------------------------------------------------------------

namespace {

/// Stores one message as it was, with its id, and what is known of its recipients.
boost::asio::awaitable<Trouble> store(const Inspection* from, Spool* to, const Found* found) {
  auto message = std::make_shared<Message>(found->envelope);
  std::vector<std::string> pieces;
  if (!from->read_body(*found, [&](std::string_view piece) { pieces.emplace_back(piece); })) co_return Trouble::broken;
  message->extents.clear();
  for (std::size_t i = 0; i + 1 < pieces.size(); ++i) {
    const auto stored = co_await to->chunk(std::move(pieces[i]));
    if (stored.trouble != Trouble::none) co_return stored.trouble;
    message->extents.push_back(stored.extent);
  }
  message->tail.clear();
  if (!pieces.back().empty()) message->tail.push_back(std::move(pieces.back()));
  const auto recipients = static_cast<std::uint32_t>(message->recipients.size());
  const smtp::MessageId id = message->id;
  const Trouble trouble = co_await to->accept(std::move(message));
  if (trouble != Trouble::none) co_return trouble;
  // Those that are spoken of in no group are done, delivered or failed: one is as good as the other.
  std::vector<bool> waits(recipients, false);
  for (const Progress& group : found->groups)
    for (const auto& [index, state] : group.recipients) waits[index] = true;
  Progress ended;
  ended.id = id;
  for (std::uint32_t i = 0; i < recipients; ++i)
    if (!waits[i]) ended.recipients.emplace_back(i, RecipientState::delivered);
  if (!ended.recipients.empty()) to->progress(std::move(ended));
  for (const Progress& group : found->groups)
    if (group.sequence != 0) to->progress(group);
  co_return Trouble::none;
}

}  // namespace

Salvaged salvage(const Inspection& from, const std::filesystem::path& to, std::uint32_t new_segment_size) {
  std::error_code error;
  if (std::filesystem::exists(to, error) && !(std::filesystem::is_directory(to) && std::filesystem::is_empty(to)))
    throw std::runtime_error(to.string() + " is there already: salvage writes into a new directory");
  Salvaged out;
  out.lost = from.lost();
  Options options{to, 0};
  options.segment_size = new_segment_size;
  Spool spool(options, [](const Recovered&) {});
  boost::asio::io_context io;
  constexpr std::size_t at_once = 500;  // they share a sync
  std::vector<std::unique_ptr<Found>> batch;
  Trouble worst = Trouble::none;
  const auto flush = [&] {
    for (const auto& one : batch)
      boost::asio::co_spawn(io, store(&from, &spool, one.get()), [&](const std::exception_ptr& failure, Trouble trouble) {
        if (failure) std::rethrow_exception(failure);
        if (trouble == Trouble::none)
          ++out.saved;
        else
          worst = trouble;
      });
    io.restart();
    io.run();
    batch.clear();
    if (worst != Trouble::none) throw std::runtime_error("cannot write " + to.string() + ": " + spool.trouble_text());
  };
  std::uint64_t octets = 0;
  from.each_waiting([&](const Found& found) {
    if (found.body_lost || found.groups.empty()) return;
    if (found.maybe_done) out.maybe_done.push_back(found.envelope.id);
    batch.push_back(std::make_unique<Found>(found));
    octets += found.envelope.body_size;
    if (batch.size() < at_once && octets < (32u << 20)) return;
    octets = 0;
    flush();
  });
  flush();
  return out;
}

}  // namespace egret::relay::spool
