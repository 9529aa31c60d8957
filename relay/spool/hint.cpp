#include "relay/spool/hint.hpp"

#include <fcntl.h>
#include <sys/mman.h>
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

}  // namespace

struct Digest::Mapping {
  Mapping(void* data, std::size_t size) : data(data), size(size) {}
  ~Mapping() { munmap(data, size); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  void* data;
  std::size_t size;
};

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
  void* data = MAP_FAILED;
  if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0)
    data = mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
  ::close(fd);
  if (data == MAP_FAILED) return std::nullopt;
  const auto mapping = std::make_shared<const Mapping>(data, static_cast<std::size_t>(info.st_size));
  Digest out;
  out.owner_ = mapping;
  if (!out.open({static_cast<const char*>(data), mapping->size}) || !out.fits(segment)) return std::nullopt;
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

/// 0 when there is no entry that makes sense.
std::size_t Digest::entry_size(std::size_t at) const {
  const std::size_t left = entries_end_ - at;
  if (left < entry_head) return 0;
  switch (type_at(at)) {
    case RecordType::done:
      return entry_head;
    case RecordType::progress: {
      if (left < entry_head + 4) return 0;
      const auto length = get<std::uint32_t>(octets_, at + entry_head);
      return length >= 8 && left - entry_head - 4 >= length ? entry_head + 4 + length : 0;
    }
    case RecordType::accept: {
      if (left < accept_size) return 0;
      const auto message_class = get<std::uint8_t>(octets_, at + entry_head + 9);
      const auto extents = get<std::uint32_t>(octets_, at + accept_size - 4);
      if (message_class >= classes_.size() || extents > (left - accept_size) / extent_size) return 0;
      return accept_size + extents * extent_size;
    }
    case RecordType::chunk:
      break;
  }
  return 0;
}

std::uint64_t Digest::sequence_at(std::size_t at) const {
  return get<std::uint64_t>(octets_, at + entry_head + 4);
}

DigestEntry Digest::entry_at(std::size_t at) const {
  DigestEntry out;
  out.type = type_at(at);
  out.id = id_at(at);
  at += entry_head;
  if (out.type == RecordType::progress) out.progress = octets_.substr(at + 4, get<std::uint32_t>(octets_, at));
  if (out.type != RecordType::accept) return out;
  out.offset = get<std::uint32_t>(octets_, at);
  out.length = get<std::uint32_t>(octets_, at + 4);
  out.report = get<std::uint8_t>(octets_, at + 8) != 0;
  out.class_name = classes_[get<std::uint8_t>(octets_, at + 9)];
  out.recipients = get<std::uint32_t>(octets_, at + 10);
  out.accepted = routing::Time(routing::Duration(get<std::int64_t>(octets_, at + 14)));
  out.body_size = get<std::uint64_t>(octets_, at + 22);
  out.extents.resize(get<std::uint32_t>(octets_, at + 30));
  at += 34;
  for (Extent& extent : out.extents) {
    extent = {get<std::uint32_t>(octets_, at), get<std::uint32_t>(octets_, at + 4), get<std::uint32_t>(octets_, at + 8)};
    at += extent_size;
  }
  return out;
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

bool write_hint(const std::filesystem::path& directory, const Digest& digest) {
  const auto path = hint_path(directory, digest.number());
  const std::string fresh = path.string() + ".new";
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  std::string_view left = digest.octets();
  while (!left.empty()) {
    const ssize_t n = ::write(fd, left.data(), left.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    left.remove_prefix(static_cast<std::size_t>(n));
  }
  const bool good = ::close(fd) == 0 && left.empty() && std::rename(fresh.c_str(), path.c_str()) == 0;
  if (!good) ::unlink(fresh.c_str());
  return good;
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
