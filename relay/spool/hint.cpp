#include "relay/spool/hint.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

namespace egret::relay::spool {
namespace {

constexpr std::string_view magic = "EGRSHINT";
constexpr std::size_t head_size = 8 + 4 + 4 + 8 + 4 + 4 + segment_header_size + record_header_size;
constexpr std::size_t entry_head = 1 + 8;
constexpr std::size_t accept_size = entry_head + 4 + 4 + 1 + 1 + 4 + 8 + 8 + 4;
constexpr std::size_t extent_size = 12;
constexpr std::size_t most_classes = 256;

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
/// The caller has checked that it lies inside.
template <class T>
T get(std::string_view in, std::size_t at) {
  T value{};
  std::memcpy(&value, in.data() + at, sizeof value);
  return value;
}

constexpr std::size_t block_size = 8u << 10;  // of a DigestReader: some 80 entries
constexpr std::size_t block_count = 1024;
constexpr std::size_t open_count = 16;

/// Fewer than `size` where there are no more, or they cannot be read: then `error` is set.
std::size_t read_whole(int fd, std::uint64_t offset, char* out, std::size_t size, int& error) {
  std::size_t at = 0;
  while (at < size) {
    const ssize_t got = pread(fd, out + at, size - at, static_cast<off_t>(offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) error = errno;
    if (got <= 0) break;
    at += static_cast<std::size_t>(got);
  }
  return at;
}

/// Of the entry that these octets begin with; 0 when there is none that makes sense. `whole`: they hold all of it.
std::size_t size_of_entry(std::string_view octets, std::size_t classes, bool whole = true) {
  const std::size_t left = whole ? octets.size() : UINT32_MAX;
  if (octets.size() < entry_head) return 0;
  switch (static_cast<RecordType>(octets[0])) {
    case RecordType::done:
      return entry_head;
    case RecordType::progress: {
      if (octets.size() < entry_head + 4) return 0;
      const auto length = get<std::uint32_t>(octets, entry_head);
      return length >= 8 && left - entry_head - 4 >= length ? entry_head + 4 + length : 0;
    }
    case RecordType::accept: {
      if (octets.size() < accept_size) return 0;
      const auto message_class = get<std::uint8_t>(octets, entry_head + 9);
      const auto extents = get<std::uint32_t>(octets, accept_size - 4);
      if (message_class >= classes || extents > (left - accept_size) / extent_size) return 0;
      return accept_size + extents * extent_size;
    }
    case RecordType::chunk:
      break;
  }
  return 0;
}

/// `octets` begin with an entry that size_of_entry() found whole. Everything in `out` is set.
void parse_entry(std::string_view octets, const std::vector<std::string>& classes, DigestEntry& out) {
  out.type = static_cast<RecordType>(octets[0]);
  out.id = get<std::uint64_t>(octets, 1);
  out.extents.clear();
  out.progress = {};
  const std::string_view rest = octets.substr(entry_head);
  if (out.type == RecordType::progress) out.progress = rest.substr(4, get<std::uint32_t>(rest, 0));
  if (out.type != RecordType::accept) return;
  out.offset = get<std::uint32_t>(rest, 0);
  out.length = get<std::uint32_t>(rest, 4);
  out.report = get<std::uint8_t>(rest, 8) != 0;
  out.class_name = classes[get<std::uint8_t>(rest, 9)];
  out.recipients = get<std::uint32_t>(rest, 10);
  out.accepted = routing::Time(routing::Duration(get<std::int64_t>(rest, 14)));
  out.body_size = get<std::uint64_t>(rest, 22);
  out.extents.resize(get<std::uint32_t>(rest, 30));
  std::size_t at = 34;
  for (Extent& extent : out.extents) {
    extent = {get<std::uint32_t>(rest, at), get<std::uint32_t>(rest, at + 4), get<std::uint32_t>(rest, at + 8)};
    at += extent_size;
  }
}

}  // namespace

std::size_t Digest::first_entry() {
  return head_size;
}

bool Digest::open(std::string_view octets) {
  if (octets.size() < head_size + 4 + 8 || octets.size() > UINT32_MAX || !octets.starts_with(magic)) return false;
  const std::string_view covered = octets.substr(0, octets.size() - 8);
  if (get<std::uint32_t>(octets, 8) != hint_version) return false;
  if (XXH3_64bits(covered.data(), covered.size()) != get<std::uint64_t>(octets, covered.size())) return false;
  octets_ = octets;
  number_ = get<std::uint32_t>(octets, 12);
  end_ = get<std::uint64_t>(octets, 16);
  entries_end_ = get<std::uint32_t>(octets, 28);
  if (entries_end_ < head_size || entries_end_ + 4 > covered.size()) return false;
  std::size_t at = entries_end_ + 4;
  const auto count = get<std::uint32_t>(octets, entries_end_);
  if (count > most_classes) return false;
  for (std::uint32_t i = 0; i < count; ++i) {
    if (covered.size() - at < 4) return false;
    const auto length = get<std::uint32_t>(octets, at);
    at += 4;
    if (covered.size() - at < length) return false;
    classes_.emplace_back(octets.substr(at, length));
    at += length;
  }
  return at == covered.size();
}

std::optional<Digest> Digest::parse(std::string_view octets) {
  Digest out;
  const auto copy = std::make_shared<const std::string>(octets);
  out.owner_ = copy;
  if (!out.open(*copy) || !out.each([](std::uint32_t, RecordType, std::uint64_t) {})) return std::nullopt;
  return out;
}

std::optional<Digest> Digest::load(const SegmentFile& segment) {
  const auto path = hint_path(segment.path().parent_path(), segment.number());
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  struct stat info {};
  std::shared_ptr<char[]> octets;
  std::size_t size = 0;
  int error = 0;  // whatever it is: the segment is read instead
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0 && info.st_size <= UINT32_MAX) {
    octets = std::make_shared_for_overwrite<char[]>(static_cast<std::size_t>(info.st_size));
    size = read_whole(fd, 0, octets.get(), static_cast<std::size_t>(info.st_size), error);
  }
  ::close(fd);
  if (!octets || size != static_cast<std::size_t>(info.st_size)) return std::nullopt;
  Digest out;
  out.owner_ = octets;
  if (!out.open({octets.get(), size}) || !out.fits(segment)) return std::nullopt;
  if (!out.each([](std::uint32_t, RecordType, std::uint64_t) {})) return std::nullopt;
  return out;
}

bool Digest::fits(const SegmentFile& segment) const {
  if (segment.number() != number_ || segment.size() != end_) return false;
  std::string octets;
  if (!segment.read(0, segment_header_size, octets) || octets != octets_.substr(32, segment_header_size)) return false;
  const auto last = get<std::uint32_t>(octets_, 24);
  if (last == 0) return end_ == segment_header_size;
  return segment.read(last, record_header_size, octets) && octets == octets_.substr(32 + segment_header_size, record_header_size);
}

std::uint64_t Digest::id_at(std::size_t at) const {
  return get<std::uint64_t>(octets_, at + 1);
}

std::size_t Digest::entry_size(std::size_t at) const {
  return size_of_entry(octets_.substr(at, entries_end_ - at), classes_.size());
}

std::uint64_t Digest::sequence_at(std::size_t at) const {
  return get<std::uint64_t>(octets_, at + entry_head + 4);
}

DigestEntry Digest::entry_at(std::size_t at) const {
  DigestEntry out;
  parse_entry(octets_.substr(at), classes_, out);
  return out;
}

// ---- reading entries again ---------------------------------------------------------------------------------------

DigestReader::DigestReader(const std::vector<const Source*>& sources)
    : sources_(sources),
      blocks_(block_count),
      octets_(std::make_unique_for_overwrite<char[]>(block_count * block_size)),
      open_(open_count) {}

DigestReader::~DigestReader() {
  for (const Open& open : open_)
    if (open.fd >= 0) ::close(open.fd);
}

/// Fewer than `size` at the end, or where they cannot be read.
std::size_t DigestReader::fetch(std::uint32_t source, std::uint64_t at, char* out, std::size_t size) {
  const Source& from = *sources_[source];
  if (at >= from.size) return 0;
  size = std::min<std::size_t>(size, from.size - at);
  if (!from.octets.empty()) return std::memcpy(out, from.octets.data() + at, size), size;
  Open& open = open_[source % open_.size()];
  if (open.source != source) {
    const int fd = ::open(from.path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return error_ = errno, 0;
    if (open.fd >= 0) ::close(open.fd);
    open = {source, fd};
  }
  return read_whole(open.fd, at, out, size, error_);
}

/// Up to `size` octets from there.
std::string_view DigestReader::view(std::uint32_t source, std::uint32_t at, std::size_t size) {
  const std::uint32_t number = at / block_size;
  const std::size_t slot = (source * 977u + number) % block_count, inside = at % block_size;
  Block& block = blocks_[slot];
  char* const octets = octets_.get() + slot * block_size;
  if (block.source != source || block.number != number) {
    block = {source, number, static_cast<std::uint32_t>(fetch(source, std::uint64_t{number} * block_size, octets, block_size))};
    if (error_ != 0) return block = {}, std::string_view{};
  }
  if (inside + size <= block.have || block.have < block_size)
    return std::string_view(octets, block.have).substr(std::min<std::size_t>(inside, block.have), size);
  spanning_.resize(size);
  spanning_.resize(fetch(source, at, spanning_.data(), size));
  return spanning_;
}

bool DigestReader::read(std::uint32_t source, std::uint32_t at, DigestEntry& out) {
  error_ = 0;
  const auto& classes = sources_[source]->classes;
  const std::size_t size = size_of_entry(view(source, at, accept_size), classes.size(), false);
  if (size == 0) return false;
  const std::string_view octets = view(source, at, size);
  if (octets.size() < size) return false;
  parse_entry(octets, classes, out);
  return true;
}

// ---- making one --------------------------------------------------------------------------------------------------

std::string DigestBuilder::add(const WalkedRecord& record) {
  last_ = record.offset;
  last_header_ = record.octets;
  switch (record.header.type) {
    case RecordType::chunk:
      return {};
    case RecordType::accept:
      return add_accept(record);
    case RecordType::progress:
      if (!decode_progress(record.header.id, record.payload)) return "a PROGRESS record that makes no sense";
      put(entries_, record.header.type);
      put(entries_, record.header.id);
      put(entries_, record.header.length);
      entries_ += record.payload;
      return {};
    case RecordType::done:
      put(entries_, record.header.type);
      put(entries_, record.header.id);
      return {};
  }
  return {};
}

std::string DigestBuilder::add_accept(const WalkedRecord& record) {
  constexpr const char* nonsense = "an ACCEPT record that makes no sense";
  const auto message = decode_envelope(record.header.id, record.payload);
  if (!message) return nonsense;
  std::uint64_t size = record.payload.size() - *envelope_size(record.payload);
  for (const Extent& extent : message->extents) size += extent.length;
  if (size != message->body_size) return nonsense;
  auto found = std::ranges::find(classes_, message->class_name);
  if (found == classes_.end()) {
    if (classes_.size() == most_classes) return "more traffic classes than a segment can have";
    found = classes_.insert(classes_.end(), message->class_name);
  }
  put(entries_, record.header.type);
  put(entries_, record.header.id);
  put(entries_, record.offset);
  put(entries_, record.header.length);
  put(entries_, static_cast<std::uint8_t>(message->report));
  put(entries_, static_cast<std::uint8_t>(found - classes_.begin()));
  put(entries_, static_cast<std::uint32_t>(message->recipients.size()));
  put(entries_, static_cast<std::int64_t>(message->accepted.time_since_epoch().count()));
  put(entries_, message->body_size);
  put(entries_, static_cast<std::uint32_t>(message->extents.size()));
  for (const Extent& extent : message->extents) {
    put(entries_, extent.segment);
    put(entries_, extent.offset);
    put(entries_, extent.length);
  }
  return {};
}

Digest DigestBuilder::finish(std::uint64_t end) && {
  std::string out(magic);
  put(out, hint_version);
  put(out, number_);
  put(out, end);
  put(out, last_);
  put(out, static_cast<std::uint32_t>(head_size + entries_.size()));
  out += header_;
  out += last_header_;
  out += entries_;
  entries_ = {};
  put(out, static_cast<std::uint32_t>(classes_.size()));
  for (const auto& name : classes_) {
    put(out, static_cast<std::uint32_t>(name.size()));
    out += name;
  }
  put(out, static_cast<std::uint64_t>(XXH3_64bits(out.data(), out.size())));
  Digest digest;
  const auto owned = std::make_shared<const std::string>(std::move(out));
  digest.owner_ = owned;
  digest.open(*owned);
  return digest;
}

// ---- files -------------------------------------------------------------------------------------------------------

std::filesystem::path hint_path(const std::filesystem::path& directory, std::uint32_t number) {
  return segment_path(directory, number).replace_extension(".hint");
}

std::filesystem::path fresh_hint_path(const std::filesystem::path& directory, std::uint32_t number) {
  return hint_path(directory, number).string() + ".new";
}

bool write_fresh_hint(const std::filesystem::path& directory, const Digest& digest) {
  const auto fresh = fresh_hint_path(directory, digest.number());
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  std::string_view left = digest.octets();
  while (!left.empty()) {
    const ssize_t n = ::write(fd, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    left.remove_prefix(static_cast<std::size_t>(n));
  }
  const bool good = ::close(fd) == 0 && left.empty();
  if (!good) ::unlink(fresh.c_str());
  return good;
}

bool keep_fresh_hint(const std::filesystem::path& directory, std::uint32_t number) {
  return std::rename(fresh_hint_path(directory, number).c_str(), hint_path(directory, number).c_str()) == 0;
}

bool write_hint(const std::filesystem::path& directory, const Digest& digest) {
  if (!write_fresh_hint(directory, digest)) return false;
  if (keep_fresh_hint(directory, digest.number())) return true;
  ::unlink(fresh_hint_path(directory, digest.number()).c_str());
  return false;
}

void make_hint(const SegmentFile& segment, std::uint64_t end) {
  try {
    std::string header;
    if (end <= segment_header_size || !segment.read(0, segment_header_size, header)) return;
    DigestBuilder builder(segment.number(), header);
    bool sound = true;
    const WalkResult result = walk(segment, [&](const WalkedRecord& record) { sound = builder.add(record).empty() && sound; });
    if (!sound || !result.clean || result.end != end) return;
    const auto directory = segment.path().parent_path();
    write_hint(directory, std::move(builder).finish(end));
    // The segment may have been removed meanwhile; its hint must not outlive it.
    std::error_code error;
    if (!std::filesystem::exists(segment.path(), error)) std::filesystem::remove(hint_path(directory, segment.number()), error);
  } catch (const std::system_error&) {
    // The segment will be read at the next start.
  }
}

}  // namespace egret::relay::spool
