// One segment file: the system calls of the spool, and nothing else.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "relay/runtime/directory.hpp"
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

  /// Writes all parts at `offset`. Returns 0 or an errno value; then `parts` and `offset` stand at what was not written, to
  /// go on with.
  int write(std::vector<iovec>& parts, std::uint64_t& offset) const;
  int sync() const;
  int truncate(std::uint64_t size) const;
  /// Makes the file `size` octets long with disk for all of them. Returns 0 or an errno value.
  int preallocate(std::uint64_t from, std::uint64_t size) const;
  /// Reads exactly `size` octets; false on any trouble.
  bool read(std::uint64_t offset, std::size_t size, std::string& out) const;
  /// Reads up to `size` octets, fewer at the end of the file or in front of what cannot be read; `error` is an errno
  /// value when there was nothing to be had but an error.
  std::size_t read_some(std::uint64_t offset, char* out, std::size_t size, int& error) const;
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
/// The process or the machine has no descriptors left: a trouble that passes.
bool out_of_descriptors(const std::error_code& error);
/// The disk is full, or what the user may take of it is used up: a trouble that passes, too.
bool out_of_space(const std::error_code& error);

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

/// Reads the records of a segment, front to back, in blocks of bounded size. What the disk does not give back is no
/// record, and said: nothing is mapped, for an unreadable sector would end the program. The file must outlive it.
class SegmentReader {
 public:
  /// Throws std::system_error when the file's size cannot be found out.
  explicit SegmentReader(const SegmentFile& file);
  std::uint64_t size() const { return size_; }
  /// The good record at `offset`, or nullopt. Its views are valid until the next call.
  std::optional<WalkedRecord> record_at(std::uint64_t offset);
  /// Judges what stands at `offset`, where no good record is.
  WalkResult judge_end(std::uint64_t offset);

 private:
  std::string_view view(std::uint64_t offset, std::size_t size);
  bool known_bad(std::uint64_t offset, std::size_t size) const;
  WalkResult unreadable(std::uint64_t offset) const;

  const SegmentFile& file_;
  std::uint64_t size_ = 0;
  std::vector<char> block_;
  std::uint64_t start_ = 0;  ///< of what is in block_
  std::size_t have_ = 0;
  std::map<std::uint64_t, int> bad_;  ///< pages that cannot be read, asked for once: the errno value, or 0 where the file ended
};

/// Calls `visit(const WalkedRecord&)` for every record in order. Throws std::system_error when the file is out of reach.
template <class Visit>
WalkResult walk(const SegmentFile& file, Visit&& visit) {
  SegmentReader reader(file);
  std::uint64_t offset = segment_header_size;
  while (const auto record = reader.record_at(offset)) {
    visit(*record);
    offset += record_size(record->header.length);
  }
  return reader.judge_end(offset);
}

}  // namespace egret::relay::spool
