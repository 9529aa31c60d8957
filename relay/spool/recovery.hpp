// What a spool directory holds: read at the start, from hints where they fit and from segments where they do not.
//
// Reading changes nothing. Damage stops it: a std::runtime_error that names segment and offset. Only settle() changes
// what is there, when everything has been understood; until then hints that were missing are files beside it.
//
// A long queue does not fit into memory twice: of each record its place is kept (16 octets), and what it says is read
// again when its message is handed out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "relay/spool/hint.hpp"
#include "relay/spool/manifest.hpp"

namespace egret::relay::spool {

struct RecoveredSegment {
  std::shared_ptr<SegmentFile> file;
  std::uint64_t end = 0;             ///< offset behind the last record
  bool carries = false;              ///< holds DONE or PROGRESS
  bool torn = false;                 ///< ends in a torn tail, which settle() cuts off
  bool hinted = false;               ///< its hint was used
  std::vector<std::uint32_t> after;  ///< segments with older copies of messages that are here
  DigestReader::Source digest;       ///< where its digest is read from again
};

/// A message that is waiting.
struct RecoveredMessage {
  std::uint32_t segment = 0;
  DigestEntry accept;
  std::vector<Progress> groups;  ///< pending recipients that wait together; empty: only its DONE is missing
};

class Recovery {
 public:
  /// Throws std::runtime_error with one line for people. `alive` is called as it goes on, for each segment or oftener.
  explicit Recovery(std::filesystem::path directory, std::function<void()> alive = {});
  ~Recovery();
  Recovery(const Recovery&) = delete;
  Recovery& operator=(const Recovery&) = delete;

  const std::vector<RecoveredSegment>& segments() const { return segments_; }
  std::uint64_t last_id() const { return last_id_; }          ///< the greatest id met
  std::uint64_t sequence() const { return sequence_; }        ///< the greatest of a PROGRESS
  std::uint32_t next_number() const { return next_number_; }  ///< for a new segment
  std::size_t waiting() const { return waiting_; }
  /// Every waiting message, in order of acceptance. Valid during the call, and free to be changed; its memory is
  /// used for the next one. Reads the hints again: until it ends they must stay where they are. Throws std::runtime_error
  /// when one cannot be read.
  void each(const std::function<void(RecoveredMessage&)>& visit) const;
  /// Cuts torn tails and unused ends off, removes what was made and never used, writes list and missing hints.
  void settle();

 private:
  /// One entry of a digest, for sorting.
  struct Event {
    std::uint64_t id = 0;
    std::uint32_t segment_type = 0;  ///< index into segments_, and the record's type in the lowest three bits
    std::uint32_t at = 0;
    std::uint32_t segment() const { return segment_type >> 3; }
    RecordType type() const { return static_cast<RecordType>(segment_type & 7); }
    auto operator<=>(const Event&) const = default;
  };
  /// What the events of one message come to.
  struct Fate {
    const Event* accept = nullptr;
    bool done = false;
  };
  void read_segments();
  void read_segment(std::uint32_t number, bool last);
  Digest read_records(RecoveredSegment& segment, const std::string& header, bool last, const ListedSegment* listed);
  void collect(std::uint32_t index, const Digest& digest);
  void judge();
  static Fate fate(const Event* begin, const Event* end);
  void read_groups(DigestReader& reader, const Event* begin, const Event* end, DigestEntry& entry, Progress& scratch,
                   RecoveredMessage& out) const;
  void read_entry(DigestReader& reader, const Event& event, DigestEntry& out) const;
  template <class Visit>
  void each_id(Visit&& visit) const;
  const ListedSegment* listed(std::uint32_t number) const;
  void drop_fresh_hints();

  std::filesystem::path directory_;
  std::function<void()> alive_;
  Manifest manifest_;
  std::vector<RecoveredSegment> segments_;
  std::vector<std::uint32_t> unused_;
  std::vector<std::uint32_t> fresh_hints_;  ///< written beside it and not yet in place, by segment
  std::vector<Event> events_;
  std::uint64_t last_id_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint32_t next_number_ = 1;
  std::size_t waiting_ = 0;
};

/// Pending recipients of a message, grouped by the record that last spoke of them.
std::vector<Progress> pending_groups(smtp::MessageId id, std::uint32_t recipients, std::vector<Progress> history);

}  // namespace egret::relay::spool
