// What a spool directory holds: read at the start, from hints where they fit and from segments where they do not.
//
// Reading changes nothing. Damage stops it: a std::runtime_error that names segment and offset. Only settle() writes,
// when everything has been understood.
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
  Digest digest;
};

/// A message that is waiting.
struct RecoveredMessage {
  std::uint32_t segment = 0;
  DigestEntry accept;
  std::vector<Progress> groups;  ///< pending recipients that wait together; empty: only its DONE is missing
};

class Recovery {
 public:
  /// Throws std::runtime_error with one line for people.
  explicit Recovery(std::filesystem::path directory);

  const std::vector<RecoveredSegment>& segments() const { return segments_; }
  std::uint64_t last_id() const { return last_id_; }          ///< the greatest id met
  std::uint64_t sequence() const { return sequence_; }        ///< the greatest of a PROGRESS
  std::uint32_t next_number() const { return next_number_; }  ///< for a new segment
  std::size_t waiting() const { return waiting_; }
  /// Every waiting message, in order of acceptance.
  void each(const std::function<void(RecoveredMessage)>& visit) const;
  /// Cuts torn tails and unused ends off, removes what was made and never used, writes list and missing hints.
  void settle();

 private:
  /// One entry of a digest, for sorting.
  struct Event {
    std::uint64_t id = 0;
    std::uint32_t segment = 0;  ///< index into segments_
    std::uint32_t at = 0;
  };
  /// What the events of one message come to.
  struct Fate {
    const Event* accept = nullptr;
    bool done = false;
  };
  void read_segment(std::uint32_t number, bool last);
  void read_records(RecoveredSegment& segment, const std::string& header, bool last, const ListedSegment* listed);
  void collect(std::uint32_t index);
  Fate fate(const Event* begin, const Event* end) const;
  template <class Visit>
  void each_id(Visit&& visit) const;
  const ListedSegment* listed(std::uint32_t number) const;

  std::filesystem::path directory_;
  Manifest manifest_;
  std::vector<RecoveredSegment> segments_;
  std::vector<std::uint32_t> unused_;
  std::vector<Event> events_;
  std::uint64_t last_id_ = 0;
  std::uint64_t sequence_ = 0;
  std::uint32_t next_number_ = 1;
  std::size_t waiting_ = 0;
};

/// Pending recipients of a message, grouped by the record that last spoke of them.
std::vector<Progress> pending_groups(smtp::MessageId id, std::uint32_t recipients, std::vector<Progress> history);

}  // namespace egret::relay::spool
