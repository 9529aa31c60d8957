// One segment file: the system calls of the spool, and nothing else.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "relay/spool/format.hpp"

namespace egret::relay::spool {

/// An open segment. The descriptor lives as long as anybody reads from it, also after the file was unlinked.
class SegmentFile {
 public:
  /// Both throw std::system_error. A created segment is preallocated and its header and name are on disk.
  static std::shared_ptr<SegmentFile> create(const std::filesystem::path& directory, std::uint32_t number, std::uint64_t now_ms,
                                             std::uint32_t preallocated = segment_size);
  static std::shared_ptr<SegmentFile> open(const std::filesystem::path& path, std::uint32_t number, bool writable);

  ~SegmentFile();
  SegmentFile(const SegmentFile&) = delete;
  SegmentFile& operator=(const SegmentFile&) = delete;

  std::uint32_t number() const { return number_; }
  const std::filesystem::path& path() const { return path_; }

  /// Writes all parts at `offset`. Returns 0 or an errno value.
  int write(std::vector<iovec>& parts, std::uint64_t offset) const;
  int sync() const;
  int truncate(std::uint64_t size) const;
  /// Reads exactly `size` octets; false on any trouble.
  bool read(std::uint64_t offset, std::size_t size, std::string& out) const;
  std::uint64_t size() const;

 private:
  SegmentFile(int fd, std::uint32_t number, std::filesystem::path path) : fd_(fd), number_(number), path_(std::move(path)) {}
  int fd_;
  std::uint32_t number_;
  std::filesystem::path path_;
};

std::filesystem::path segment_path(const std::filesystem::path& directory, std::uint32_t number);
/// Numbers of the segments in `directory`, ascending.
std::vector<std::uint32_t> list_segments(const std::filesystem::path& directory);
/// Makes created and removed names durable. Throws std::system_error.
void sync_directory(const std::filesystem::path& directory);

/// One record met while walking through a segment.
struct WalkedRecord {
  std::uint32_t offset = 0;
  RecordHeader header;
  std::string_view octets;  ///< the record's header as it is on disk; valid during the call, as is the payload
  std::string_view payload;
};

/// What walk() ended with.
struct WalkResult {
  std::uint64_t end = 0;  ///< offset behind the last good record
  bool clean = true;      ///< only zeros follow
  bool torn = false;      ///< what follows was never known to be on disk, so it was never acknowledged
  std::string problem;    ///< what was found at `end`, when not clean
};

/// Calls `visit(const WalkedRecord&)` for every record in order. Throws std::system_error when the file cannot be read.
template <class Visit>
WalkResult walk(const SegmentFile& file, Visit&& visit);

/// The non-template part: the whole segment in memory (mapped), for the duration of its life.
class MappedSegment {
 public:
  explicit MappedSegment(const SegmentFile& file);
  ~MappedSegment();
  MappedSegment(const MappedSegment&) = delete;
  MappedSegment& operator=(const MappedSegment&) = delete;
  std::string_view octets() const { return {static_cast<const char*>(data_), size_}; }
  /// The good record at `offset`, or nullopt.
  std::optional<WalkedRecord> record_at(std::uint64_t offset) const;
  /// Judges what stands at `offset`, where no good record is.
  WalkResult judge_end(std::uint64_t offset) const;
  /// What lies in front of `offset` was looked at: it need not count as memory of this program any more.
  void forget(std::uint64_t offset);

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t forgotten_ = 0;
};

template <class Visit>
WalkResult walk(const SegmentFile& file, Visit&& visit) {
  MappedSegment mapped(file);
  std::uint64_t offset = segment_header_size;
  while (const auto record = mapped.record_at(offset)) {
    visit(*record);
    offset += record_size(record->header.length);
    mapped.forget(offset);
  }
  return mapped.judge_end(offset);
}

}  // namespace egret::relay::spool
