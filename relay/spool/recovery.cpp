#include "relay/spool/recovery.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <stdexcept>
#include <system_error>

#include "relay/runtime/log.hpp"

namespace egret::relay::spool {
namespace {

[[noreturn]] void stop(const std::filesystem::path& segment, std::uint64_t offset, const std::string& what) {
  throw std::runtime_error("spool segment " + segment.string() + " at offset " + std::to_string(offset) + ": " + what +
                           "; nothing was changed (egret spool verify shows all damage)");
}

/// What the system refused when all had been understood, and something was changed already.
[[noreturn]] void give_up(const std::filesystem::path& file, std::uint64_t offset, const char* what, int error) {
  throw std::runtime_error("spool: " + file.string() + " at offset " + std::to_string(offset) + ": " + what + ": " +
                           std::strerror(error));
}

/// Created, and then not used: its header had not reached the disk, or nothing stands behind it.
bool never_used(const std::filesystem::path& path, std::uint32_t number) {
  const auto file = SegmentFile::open(path, number, false);
  if (file->size() < segment_header_size) return true;
  std::string header;
  if (!file->read(0, segment_header_size, header)) return false;
  if (header.find_first_not_of('\0') == std::string::npos) return true;
  if (!check_segment_header(header, number).empty()) return false;
  const WalkResult result = walk(*file, [](const WalkedRecord&) {});
  return result.clean && result.end == segment_header_size;
}

}  // namespace

Recovery::Recovery(std::filesystem::path directory, std::function<void()> alive)
    : directory_(std::move(directory)), alive_(alive ? std::move(alive) : [] {}) {
  try {
    read_segments();
    judge();
  } catch (...) {
    drop_fresh_hints();
    throw;
  }
}

Recovery::~Recovery() {
  drop_fresh_hints();
}

void Recovery::drop_fresh_hints() {
  std::error_code ignored;
  for (const std::uint32_t number : fresh_hints_) std::filesystem::remove(fresh_hint_path(directory_, number), ignored);
  fresh_hints_.clear();
}

void Recovery::read_segments() {
  bool damaged = false;
  if (auto manifest = load_manifest(directory_, damaged)) manifest_ = std::move(*manifest);
  if (damaged)
    log::warn("spool: the list of segments cannot be read; whether one is missing is not known",
              {{"file", manifest_path(directory_).string()}});
  auto numbers = list_segments(directory_);
  for (const auto& [number, segment] : manifest_)
    if (!std::ranges::binary_search(numbers, number)) stop(segment_path(directory_, number), 0, "the segment is missing");
  while (!numbers.empty() && !listed(numbers.back()) && never_used(segment_path(directory_, numbers.back()), numbers.back())) {
    unused_.push_back(numbers.back());
    numbers.pop_back();
  }
  segments_.reserve(numbers.size());
  for (const std::uint32_t number : numbers) {
    read_segment(number, number == numbers.back());
    alive_();
  }
  if (!numbers.empty()) next_number_ = numbers.back() + 1;
}

const ListedSegment* Recovery::listed(std::uint32_t number) const {
  const auto it = manifest_.find(number);
  return it == manifest_.end() ? nullptr : &it->second;
}

void Recovery::read_segment(std::uint32_t number, bool last) {
  RecoveredSegment& segment = segments_.emplace_back();
  segment.file = SegmentFile::open(segment_path(directory_, number), number, true);
  const auto& path = segment.file->path();
  const std::uint64_t size = segment.file->size();
  const ListedSegment* known = listed(number);
  if (known && size < known->length) stop(path, size, "cut off: it had " + std::to_string(known->length) + " octets");
  std::string header;
  if (!segment.file->read(0, segment_header_size, header)) stop(path, 0, "cannot be read");
  if (const auto problem = check_segment_header(header, number); !problem.empty()) stop(path, 0, problem);
  auto digest = Digest::load(*segment.file);
  segment.hinted = digest && (!known || !known->sealed || known->length == digest->end());
  if (!segment.hinted) digest = read_records(segment, header, last, known);
  segment.end = digest->end();
  segment.digest.size = static_cast<std::uint32_t>(digest->octets().size());
  segment.digest.classes = digest->classes();
  segment.digest.path = hint_path(directory_, number);
  if (!segment.hinted) {
    segment.digest.path = fresh_hint_path(directory_, number);
    if (write_fresh_hint(directory_, *digest))
      fresh_hints_.push_back(number);
    else
      segment.digest.octets = digest->octets();
  }
  collect(static_cast<std::uint32_t>(segments_.size() - 1), *digest);
}

Digest Recovery::read_records(RecoveredSegment& segment, const std::string& header, bool last, const ListedSegment* known) {
  const auto& path = segment.file->path();
  DigestBuilder builder(segment.file->number(), header);
  const WalkResult result = walk(*segment.file, [&](const WalkedRecord& record) {
    if (const auto problem = builder.add(record); !problem.empty()) stop(path, record.offset, problem);
  });
  const bool sealed = known && known->sealed;
  if (sealed && result.end < known->length)
    stop(path, result.end, "damaged: " + (result.problem.empty() ? "a record that cannot be read" : result.problem));
  if (!result.clean && (!last || !result.torn)) stop(path, result.end, "damaged: " + result.problem);
  segment.torn = !result.clean;
  return std::move(builder).finish(result.end);
}

void Recovery::collect(std::uint32_t index, const Digest& digest) {
  RecoveredSegment& segment = segments_[index];
  digest.each([&](std::uint32_t at, RecordType type, std::uint64_t id) {
    events_.push_back({id, index << 3 | static_cast<std::uint32_t>(type), at});
    last_id_ = std::max(last_id_, id);
    if (type != RecordType::accept) segment.carries = true;
    if (type == RecordType::progress) sequence_ = std::max(sequence_, digest.sequence_at(at));
  });
}

/// Brings together what is said of each message; what is over is forgotten.
void Recovery::judge() {
  std::ranges::sort(events_);
  Event* kept = events_.data();
  each_id([&](const Event* begin, const Event* end) {
    const Fate what = fate(begin, end);
    const Event* before = nullptr;
    for (const Event* e = begin; e != end; ++e) {
      if (e->type() != RecordType::accept) continue;
      if (before && before->segment() != e->segment())
        segments_[e->segment()].after.push_back(segments_[before->segment()].file->number());
      before = e;
    }
    if (!what.accept || what.done) return;
    ++waiting_;
    kept = std::copy(begin, end, kept);  // to the front of where they are
  });
  events_.resize(static_cast<std::size_t>(kept - events_.data()));
  if (events_.size() < events_.capacity() / 2) events_.shrink_to_fit();
}

/// Events in order, those of a message at a time. `visit` may overwrite what it was given, and what was in front of it.
template <class Visit>
void Recovery::each_id(Visit&& visit) const {
  const Event* const all = events_.data() + events_.size();
  for (const Event* begin = events_.data(); begin != all;) {
    const Event* end = begin;
    while (end != all && end->id == begin->id) ++end;
    visit(begin, end);
    begin = end;
  }
}

Recovery::Fate Recovery::fate(const Event* begin, const Event* end) {
  Fate out;
  for (const Event* e = begin; e != end; ++e) {
    if (e->type() == RecordType::accept) out.accept = e;
    if (e->type() == RecordType::done) out.done = true;
  }
  return out;
}

void Recovery::read_entry(DigestReader& reader, const Event& event, DigestEntry& out) const {
  if (!reader.read(event.segment(), event.at, out) || out.id != event.id || out.type != event.type())
    give_up(segments_[event.segment()].digest.path, event.at, "cannot be read again", reader.error() ? reader.error() : EBADMSG);
}

void Recovery::each(const std::function<void(RecoveredMessage&)>& visit) const {
  std::vector<const DigestReader::Source*> sources;
  for (const auto& segment : segments_) sources.push_back(&segment.digest);
  DigestReader reader(sources);
  RecoveredMessage out;
  DigestEntry entry;
  Progress scratch;
  std::size_t visited = 0;
  each_id([&](const Event* begin, const Event* end) {
    const Event& accept = *fate(begin, end).accept;  // judge() left no other
    out.segment = segments_[accept.segment()].file->number();
    read_entry(reader, accept, out.accept);
    read_groups(reader, begin, end, entry, scratch, out);
    visit(out);
    if (++visited % 4096 == 0) alive_();
  });
}

/// With one recipient, which is nearly all of a long queue, nothing is allocated.
void Recovery::read_groups(DigestReader& reader, const Event* begin, const Event* end, DigestEntry& entry, Progress& scratch,
                           RecoveredMessage& out) const {
  std::vector<Progress> history;
  const bool alone = out.accept.recipients == 1;
  bool spoken = false, over = false;
  if (alone) out.groups.resize(1);
  for (const Event* e = begin; e != end; ++e) {
    if (e->type() != RecordType::progress) continue;
    read_entry(reader, *e, entry);
    if (!decode_progress(e->id, entry.progress, scratch))
      give_up(segments_[e->segment()].digest.path, e->at, "a PROGRESS that makes no sense when read again", EBADMSG);
    if (!alone) {
      history.push_back(std::move(scratch));
      continue;
    }
    for (const auto& [index, state] : scratch.recipients)
      if (index == 0 && state != RecipientState::pending) over = true;
    const bool speaks = std::ranges::any_of(scratch.recipients, [](const auto& recipient) { return recipient.first == 0; });
    if (!speaks || (spoken && out.groups.front().sequence >= scratch.sequence)) continue;
    std::swap(out.groups.front(), scratch);
    spoken = true;
  }
  const smtp::MessageId id{begin->id};
  if (!alone) {
    out.groups = pending_groups(id, out.accept.recipients, std::move(history));
  } else if (over) {
    out.groups.clear();
  } else {
    Progress& only = out.groups.front();
    if (!spoken) only = {};
    only.id = id;
    only.recipients.assign(1, {0, RecipientState::pending});
  }
}

void Recovery::settle() {
  for (const std::uint32_t number : unused_) std::filesystem::remove(segment_path(directory_, number));
  // Before the list says how much of it there is.
  if (!segments_.empty() && !segments_.back().hinted)
    if (const int error = segments_.back().file->sync())
      give_up(segments_.back().file->path(), segments_.back().end, "cannot be synced", error);
  Manifest manifest;
  for (const auto& segment : segments_) manifest[segment.file->number()] = {true, segment.end};
  if (int why = 0; save_manifest(directory_, manifest, why) == Saved::later)
    throw std::system_error(EMFILE, std::generic_category(), "cannot write the list of segments");
  std::set<std::filesystem::path> hints;
  for (auto& segment : segments_) {
    const bool last = &segment == &segments_.back();
    alive_();
    if (segment.torn)
      log::warn("spool: cut off a torn tail that was never acknowledged",
                {{"segment", segment.file->path().string()}, {"offset", std::to_string(segment.end)}});
    // The unused rest of the preallocation goes back. What a killed program had written but not synced counts from
    // now on, so it must be on disk before anything builds on it.
    if (segment.file->size() != segment.end || (last && !segment.hinted)) {
      int error = segment.file->truncate(segment.end);
      if (error == 0) error = segment.file->sync();
      if (error != 0) give_up(segment.file->path(), segment.end, "cannot be truncated and synced", error);
    }
    if (segment.end == segment_header_size) continue;
    const std::uint32_t number = segment.file->number();
    if (std::ranges::find(fresh_hints_, number) != fresh_hints_.end() && keep_fresh_hint(directory_, number)) {
      std::erase(fresh_hints_, number);
      segment.digest.path = hint_path(directory_, number);
    }
    hints.insert(hint_path(directory_, number));
    hints.insert(segment.digest.path);  // one that could not be put in place is read until this object goes
  }
  // Hints of segments that are gone, and what a crash left of files that were being written.
  std::vector<std::filesystem::path> stale;
  for (const auto& entry : std::filesystem::directory_iterator(directory_)) {
    const auto extension = entry.path().extension();
    if ((extension == ".new" || extension == ".hint") && !hints.contains(entry.path())) stale.push_back(entry.path());
  }
  std::error_code ignored;
  for (const auto& path : stale) std::filesystem::remove(path, ignored);
}

std::vector<Progress> pending_groups(smtp::MessageId id, std::uint32_t recipients, std::vector<Progress> history) {
  if (recipients == 1 && history.size() <= 1) {  // nearly all of a long queue
    if (history.empty()) history.emplace_back();
    Progress& only = history.front();
    const bool speaks = !only.recipients.empty() && only.recipients.front().first == 0;
    if (speaks && only.recipients.front().second != RecipientState::pending) return {};
    if (!speaks) only = {};
    only.id = id;
    only.recipients.assign(1, {0, RecipientState::pending});
    return history;
  }
  std::vector<const Progress*> latest(recipients, nullptr);
  std::vector<RecipientState> states(recipients, RecipientState::pending);
  for (const Progress& p : history)
    for (const auto& [index, state] : p.recipients) {
      if (index >= latest.size() || states[index] != RecipientState::pending) continue;
      if (state != RecipientState::pending)
        states[index] = state;
      else if (!latest[index] || latest[index]->sequence < p.sequence)
        latest[index] = &p;
    }
  std::map<const Progress*, Progress> grouped;
  for (std::uint32_t i = 0; i < latest.size(); ++i) {
    if (states[i] != RecipientState::pending) continue;
    Progress& group = grouped[latest[i]];
    if (group.recipients.empty() && latest[i]) group = *latest[i], group.recipients.clear();
    group.id = id;
    group.recipients.emplace_back(i, RecipientState::pending);
  }
  std::vector<Progress> out;
  for (auto& [key, group] : grouped) out.push_back(std::move(group));
  return out;
}

}  // namespace egret::relay::spool
