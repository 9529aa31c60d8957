// The spool's format on disk. This file and format.cpp are all that knows the log; beside it lie hints (hint.hpp) and the
// list of segments (manifest.hpp), which say nothing that the segments do not say.
//
//   segment  = header record*  (zeros up to the preallocated size)
//   header   = "EGRSPOOL" version:u32 number:u32 created_ms:u64 checksum:u64          (32 octets)
//   record   = magic:u32 type:u8 0:u8[3] length:u32 synced_to:u32 id:u64 checksum:u64 payload[length] zeros to 8
//   checksum = XXH3-64 of the header's first 24 octets followed by the payload
//   numbers are little-endian
//
//   ACCEPT   = meta_length:u32 meta body...        a message exists; `body` is the end of it, `meta` the envelope and
//                                                  the places of CHUNK records that hold the beginning of the body
//   CHUNK    = octets of a body; means nothing until an ACCEPT names it
//   PROGRESS = what became of some recipients; the highest sequence number counts for each
//   DONE     = segment:u32                         nothing is left to do; `segment` holds the message's ACCEPT
//
// `synced_to` is the offset up to which the segment was known to be on disk when the record was written. A record
// that cannot be read is a torn tail when nothing behind it was written in the knowledge that it was on disk; else it
// is damage. In a segment that is listed as sealed nothing is torn, for all of it was synced.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "routing/types.hpp"
#include "smtp/address.hpp"
#include "smtp/body.hpp"
#include "smtp/dsn_parameters.hpp"
#include "smtp/trace.hpp"

namespace egret::relay::spool {

inline constexpr std::uint32_t format_version = 3;
/// What this program still reads. Version 3 added the reason of a hold to PROGRESS, behind a flag of its own: what
/// version 2 wrote is read as it is.
inline constexpr std::uint32_t oldest_format_version = 2;
inline constexpr std::size_t segment_header_size = 32;
inline constexpr std::size_t record_header_size = 32;
inline constexpr std::uint32_t segment_size = 64u << 20;

enum class RecordType : std::uint8_t { accept = 1, chunk = 2, progress = 3, done = 4 };

/// The octets of a CHUNK record's payload.
struct Extent {
  std::uint32_t segment = 0;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
  bool operator==(const Extent&) const = default;
};

/// A message as accepted. Immutable from then on.
struct Message {
  smtp::MessageId id{};
  std::string class_name;
  smtp::Address sender;
  std::vector<smtp::Address> recipients;
  smtp::DsnMail dsn;                         ///< what the client asked for (RFC 3461)
  std::vector<smtp::DsnRcpt> recipient_dsn;  ///< parallel to the recipients, or empty when none asked for anything
  std::string user;                          ///< authenticated, or empty
  bool eight_bit = false;                    ///< octets above 127 in header or body
  bool utf8 = false;                         ///< MAIL carried SMTPUTF8
  bool eight_bit_header = false;             ///< octets above 127 in the header
  bool report = false;                       ///< a DSN of our own
  routing::Time accepted{};
  std::uint64_t header_end = 0;  ///< octets of the header section
  std::vector<smtp::Cut> cuts;
  std::string added;   ///< goes out at header_end: fields that a submission lacked, or a separator line
  std::string client;  ///< address of the client, for logs
  std::uint64_t body_size = 0;
  std::vector<Extent> extents;    ///< the beginning of the body, on disk
  std::vector<std::string> tail;  ///< the rest, in memory

  /// What was asked for a recipient.
  smtp::DsnRcpt notify(std::uint32_t recipient) const {
    return recipient < recipient_dsn.size() ? recipient_dsn[recipient] : smtp::DsnRcpt{};
  }
  /// Octets that go out.
  std::uint64_t sent_size() const {
    std::uint64_t size = body_size + added.size();
    for (const auto& cut : cuts) size -= cut.length;
    return size;
  }
};

enum class RecipientState : std::uint8_t { pending = 0, delivered = 1, failed = 2 };

/// What became of some recipients of a message in one attempt round.
struct Progress {
  smtp::MessageId id{};
  std::uint64_t sequence = 0;                                        ///< set by the spool
  std::vector<std::pair<std::uint32_t, RecipientState>> recipients;  ///< by index
  std::uint32_t attempts = 0;
  routing::Time next_at{};
  std::string sticky;   ///< egress that the pending ones keep to, or empty
  bool strict = false;  ///< keeps to it also while it is out of service
  bool ambiguous = false;
  bool warned = false;
  bool held = false;        ///< not tried until it is released, by the operator or a guard
  std::string hold_reason;  ///< why, for people, cut to 1000 octets; empty unless held
  std::string reply;        ///< the last one, cut to 1000 octets
  std::string reply_host;
};

/// Octets that a recipient takes in memory, roughly; `dsn` may be null.
inline std::uint64_t memory_of(const smtp::Address& recipient, const smtp::DsnRcpt* dsn) {
  const std::uint64_t size = sizeof recipient + recipient.local.size() + recipient.domain.size();
  return dsn ? size + sizeof *dsn + dsn->orcpt.size() : size;
}

struct RecordHeader {
  RecordType type = RecordType::done;
  std::uint32_t length = 0;
  std::uint32_t synced_to = 0;
  std::uint64_t id = 0;
  std::uint64_t checksum = 0;
};

std::string encode_segment_header(std::uint32_t number, std::uint64_t created_ms);
/// Empty when the header is right; else what is wrong with it ("written by another version (2)").
std::string check_segment_header(std::string_view octets, std::uint32_t number);

/// Writes a header whose checksum covers the payload parts in order.
std::string encode_record_header(RecordType type, std::uint64_t id, std::uint32_t synced_to,
                                 const std::vector<std::string_view>& payload);
/// Nullopt when these octets are no record header (the payload is not looked at).
std::optional<RecordHeader> decode_record_header(std::string_view octets);
bool checksum_fits(std::string_view header, std::string_view payload);

/// Payload of ACCEPT up to where the body's tail begins.
std::string encode_accept(const Message& message);
/// Nullopt when the payload is not an ACCEPT of this format.
std::optional<Message> decode_accept(std::uint64_t id, std::string_view payload);
/// The same without a body, from at least envelope_size() octets at the front of the payload.
std::optional<Message> decode_envelope(std::uint64_t id, std::string_view payload);
/// Octets of an ACCEPT payload in front of the body's tail; nullopt when these 4 or more octets do not say.
std::optional<std::size_t> envelope_size(std::string_view payload);
std::string encode_progress(const Progress& progress);
std::optional<Progress> decode_progress(std::uint64_t id, std::string_view payload);
/// The same into `out`, whose memory is used again; false when the payload makes no sense.
bool decode_progress(std::uint64_t id, std::string_view payload, Progress& out);
std::string encode_done(std::uint32_t segment);
std::optional<std::uint32_t> decode_done(std::string_view payload);

/// Octets a record takes in a segment, padding included.
inline std::uint64_t record_size(std::uint64_t payload) {
  return record_header_size + ((payload + 7) & ~std::uint64_t{7});
}

}  // namespace egret::relay::spool
