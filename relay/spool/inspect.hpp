// A spool directory looked at from outside: what is damaged, what waits, and what can be saved of it. Nothing here
// changes the directory that is looked at.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "relay/spool/hint.hpp"
#include "relay/spool/manifest.hpp"

namespace egret::relay::spool {

/// Something that cannot be read, or is not there.
struct Damage {
  std::string file;
  std::uint32_t segment = 0;
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  ///< octets; 0 when that is not known (a segment that is missing)
  std::string what;
};

struct Extant {
  std::uint64_t segments = 0, hints = 0;
  std::uint64_t accepts = 0, chunks = 0, progress = 0, dones = 0;
  std::uint64_t waiting = 0;
};

/// A message that is not done, as far as can be read.
struct Found {
  Message envelope;                                   ///< without a body
  std::uint32_t segment = 0, offset = 0, length = 0;  ///< of its ACCEPT
  std::vector<Progress> groups;                       ///< pending recipients; empty: only its DONE is missing
  bool body_lost = false;                             ///< a CHUNK that it needs cannot be read
  bool maybe_done = false;                            ///< its DONE, or what became of recipients, may have been in what is lost
};

/// A message of which nothing can be saved; what is said of it comes from a damaged record, a hint or its PROGRESS.
struct Lost {
  smtp::MessageId id{};
  std::string sender;                   ///< empty where unknown
  std::vector<std::string> recipients;  ///< empty where unknown
  std::string why;
};

/// Reads every record of a spool. Throws std::runtime_error where the directory itself cannot be read.
class Inspection {
 public:
  explicit Inspection(std::filesystem::path directory);

  const std::filesystem::path& directory() const { return directory_; }
  const std::vector<Damage>& damage() const { return damage_; }
  /// What is odd and does no harm: a torn tail, a hint that does not fit.
  const std::vector<std::string>& notes() const { return notes_; }
  const Extant& counts() const { return counts_; }
  /// In order of acceptance. Read back from disk one by one.
  void each_waiting(const std::function<void(const Found&)>& visit) const;
  std::optional<Found> find(smtp::MessageId id) const;
  const std::vector<Lost>& lost() const { return lost_; }

  /// Hands the stored octets (dot-stuffed) of the body in pieces; false when one cannot be read.
  bool read_body(const Found& found, const std::function<void(std::string_view)>& take) const;

 private:
  struct State {
    std::uint32_t segment = 0, offset = 0, length = 0;
    bool accepted = false;
    bool done = false;
    std::vector<std::string> progress;  ///< payloads
  };
  void read_segment(std::uint32_t number, bool last, const ListedSegment* listed);
  void scan(const SegmentFile& file, bool last, const ListedSegment* listed);
  void take(std::uint32_t segment, const WalkedRecord& record);
  void take_hint(const SegmentFile& file, const std::vector<std::pair<std::uint64_t, std::uint64_t>>& holes);
  void suspect(const SegmentFile& file, std::uint64_t from, std::uint64_t to, std::string what);
  void add_damage(std::uint32_t segment, std::uint64_t offset, std::uint64_t length, std::string what);
  void conclude();
  std::optional<Found> found(std::uint64_t id, const State& state) const;
  bool chunk_good(const Extent& extent) const;
  bool after_loss(std::uint64_t id, const State& state) const;
  std::filesystem::path path_of(std::uint32_t segment) const { return segment_path(directory_, segment); }

  std::filesystem::path directory_;
  std::map<std::uint64_t, State> messages_;
  std::map<std::uint64_t, Lost> suspects_;                            ///< of ACCEPT records that cannot be read
  std::optional<std::pair<std::uint32_t, std::uint64_t>> last_loss_;  ///< where the last lost records were: (segment, offset)
  std::map<std::uint32_t, std::uint64_t> created_ms_;                 ///< of the segments, by their headers
  std::vector<Damage> damage_;
  std::vector<std::string> notes_;
  std::vector<Lost> lost_;
  Extant counts_;
};

/// Keeps an egret away while it lives; held() says that one runs.
class InspectionLock {
 public:
  explicit InspectionLock(const std::filesystem::path& directory);
  ~InspectionLock();
  InspectionLock(const InspectionLock&) = delete;
  InspectionLock& operator=(const InspectionLock&) = delete;
  bool in_use() const { return in_use_; }

 private:
  int fd_ = -1;
  bool in_use_ = false;
};

struct Salvaged {
  std::uint64_t saved = 0;
  std::vector<smtp::MessageId> maybe_done;  ///< saved, and perhaps delivered before
  std::vector<Lost> lost;
};

/// Writes what waits and can be read into a new spool. `to` must not exist, or be empty. Throws std::runtime_error
/// where it cannot be written.
Salvaged salvage(const Inspection& from, const std::filesystem::path& to, std::uint32_t new_segment_size = segment_size);

}  // namespace egret::relay::spool
