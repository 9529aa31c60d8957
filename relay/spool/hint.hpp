// What a segment says about messages, without their bodies: the start reads this instead of the segment.
//
//   hint    = "EGRSHINT" version:u32 number:u32 end:u64 last:u32 classes_at:u32 header[32] last_header[32]
//             entry* classes checksum:u64
//   entry   = type:u8 id:u64 rest        one for each ACCEPT, PROGRESS and DONE of the segment, in its order
//   ACCEPT  = offset:u32 length:u32 report:u8 class:u8 recipients:u32 accepted_ms:u64 body_size:u64 count:u32 extent*
//   PROGRESS= length:u32 and the record's payload as it is;  DONE = nothing more
//   classes = count:u32 (length:u32 name)*         ACCEPT's `class` is an index into them
//   checksum = XXH3-64 of everything in front of it; numbers are little-endian
//
// A hint is bound to its segment by `number`, the segment's own header (which holds the time it was made), `end` (its
// length to the octet) and the header of its last record, which holds that record's checksum. It is used only where all
// of them fit; otherwise, and where there is none, the segment is read. So any hint may be removed at any time, but while a start
// reads it again (Recovery::each). It is not synced when written: one that did not reach the disk whole fails its checksum.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "relay/spool/segment.hpp"

namespace egret::relay::spool {

inline constexpr std::uint32_t hint_version = 1;

/// One entry; views are into the Digest.
struct DigestEntry {
  RecordType type = RecordType::done;
  std::uint64_t id = 0;
  // ACCEPT
  std::uint32_t offset = 0;  ///< of the record
  std::uint32_t length = 0;  ///< of its payload
  bool report = false;
  std::string_view class_name;
  std::uint32_t recipients = 0;
  routing::Time accepted{};
  std::uint64_t body_size = 0;
  std::vector<Extent> extents;
  // PROGRESS
  std::string_view progress;  ///< the payload
};

/// A hint in memory: built from a segment, or read from a file. Moves keep its views valid.
class Digest {
 public:
  Digest() = default;
  Digest(Digest&&) noexcept = default;
  Digest& operator=(Digest&&) noexcept = default;

  /// Nullopt when these octets are no hint (checksum included). They are copied.
  static std::optional<Digest> parse(std::string_view octets);
  /// The segment's hint file; nullopt where there is none, it cannot be read, or does not fit the segment as it is now.
  static std::optional<Digest> load(const SegmentFile& segment);

  std::uint32_t number() const { return number_; }
  std::uint64_t end() const { return end_; }
  std::string_view octets() const { return octets_; }
  /// Names that ACCEPT entries point to.
  const std::vector<std::string>& classes() const { return classes_; }
  /// Whether it speaks of this very segment: number, header, length and last record.
  bool fits(const SegmentFile& segment) const;

  /// Calls visit(position, type, id) for each entry; false when one makes no sense, which a checksum that fits excludes
  /// but for our own mistakes.
  template <class Visit>
  bool each(Visit&& visit) const {
    std::size_t at = first_entry();
    while (at < entries_end_) {
      const std::size_t size = entry_size(at);
      if (size == 0) return false;
      visit(static_cast<std::uint32_t>(at), type_at(at), id_at(at));
      at += size;
    }
    return true;
  }
  RecordType type_at(std::size_t at) const { return static_cast<RecordType>(octets_[at]); }
  std::uint64_t id_at(std::size_t at) const;
  /// `at` is a position that each() gave.
  DigestEntry entry_at(std::size_t at) const;
  /// The sequence number of the PROGRESS there.
  std::uint64_t sequence_at(std::size_t at) const;

 private:
  friend class DigestBuilder;
  static std::size_t first_entry();
  bool open(std::string_view octets);
  std::size_t entry_size(std::size_t at) const;

  std::shared_ptr<const void> owner_;
  std::string_view octets_;
  std::vector<std::string> classes_;
  std::uint32_t number_ = 0;
  std::uint64_t end_ = 0;
  std::size_t entries_end_ = 0;
};

/// Entries of many digests read again one by one, in any order, through a few megabytes of blocks: what a start needs of
/// them in the order of messages, without all of them in memory.
class DigestReader {
 public:
  /// One digest, by what it is read from.
  struct Source {
    std::filesystem::path path;        ///< the file that holds it
    std::string octets;                ///< used instead where there is no file
    std::uint32_t size = 0;            ///< octets of it
    std::vector<std::string> classes;  ///< must outlive the reader
  };
  explicit DigestReader(const std::vector<const Source*>& sources);
  ~DigestReader();
  DigestReader(const DigestReader&) = delete;
  DigestReader& operator=(const DigestReader&) = delete;

  /// The entry at a position that Digest::each() gave; false when it cannot be read. `out.progress` is valid until the
  /// next call.
  bool read(std::uint32_t source, std::uint32_t at, DigestEntry& out);
  /// Why the last read() gave nothing: an errno value, or 0 when what stands there is no entry.
  int error() const { return error_; }

 private:
  struct Block {
    std::uint32_t source = UINT32_MAX;
    std::uint32_t number = 0;
    std::uint32_t have = 0;
  };
  std::string_view view(std::uint32_t source, std::uint32_t at, std::size_t size);
  std::size_t fetch(std::uint32_t source, std::uint64_t at, char* out, std::size_t size);

  std::vector<const Source*> sources_;
  std::vector<Block> blocks_;
  std::unique_ptr<char[]> octets_;  ///< of the blocks
  std::string spanning_;            ///< an entry that is in more than one
  struct Open {
    std::uint32_t source = UINT32_MAX;
    int fd = -1;
  };
  std::vector<Open> open_;
  int error_ = 0;
};

/// Makes a Digest from the records of a segment.
class DigestBuilder {
 public:
  /// `header` is the segment's own, checked before.
  DigestBuilder(std::uint32_t number, std::string_view header)
      : number_(number), header_(header.substr(0, segment_header_size)) {}
  /// Empty, or what is wrong with the record ("an ACCEPT record that makes no sense"). It is left out then.
  std::string add(const WalkedRecord& record);
  /// `end` is the offset behind the last record.
  Digest finish(std::uint64_t end) &&;

 private:
  std::string add_accept(const WalkedRecord& record);
  std::uint32_t number_;
  std::string header_;
  std::string entries_;
  std::vector<std::string> classes_;
  std::uint32_t last_ = 0;
  std::string last_header_ = std::string(record_header_size, '\0');
};

std::filesystem::path hint_path(const std::filesystem::path& directory, std::uint32_t number);
/// Writes (or replaces) the hint file; false when that cannot be done, which does no harm.
bool write_hint(const std::filesystem::path& directory, const Digest& digest);
/// In two steps: what is to become the hint is a file with the hint's path and ".new", which no start reads.
bool write_fresh_hint(const std::filesystem::path& directory, const Digest& digest);
bool keep_fresh_hint(const std::filesystem::path& directory, std::uint32_t number);
std::filesystem::path fresh_hint_path(const std::filesystem::path& directory, std::uint32_t number);
/// Reads a sealed segment and writes its hint; nothing where the segment cannot be read to `end`. Any thread.
void make_hint(const SegmentFile& segment, std::uint64_t end);

}  // namespace egret::relay::spool
