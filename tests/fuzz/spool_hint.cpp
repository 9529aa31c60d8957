// Hints, lists of segments and whole segments, damaged in any way: refused, or read without leaving their bounds. The
// first octet says which it is and whether the checksum is made to fit, so that what lies behind it is reached too.
#include "relay/spool/hint.hpp"

#include <xxhash.h>

#include <cstring>

#include "relay/spool/manifest.hpp"
#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace relay::spool;

void check_hint(std::string octets, bool sealed) {
  if (sealed && octets.size() >= 8) {
    const auto checksum = static_cast<std::uint64_t>(XXH3_64bits(octets.data(), octets.size() - 8));
    std::memcpy(octets.data() + octets.size() - 8, &checksum, sizeof checksum);
  }
  const auto digest = Digest::parse(octets);
  if (!digest) return;
  require(digest->octets() == octets, "a hint is what was read");
  const bool whole = digest->each([&](std::uint32_t at, RecordType type, std::uint64_t id) {
    const DigestEntry entry = digest->entry_at(at);
    require(entry.type == type && entry.id == id, "an entry is what each() says");
    require(type != RecordType::chunk, "bodies are in no hint");
    if (type == RecordType::progress) digest->sequence_at(at);
  });
  require(whole, "a hint that was parsed makes sense to its end");
}

void check_manifest(const std::string& text) {
  const auto manifest = parse_manifest(text);
  if (!manifest) return;
  require(parse_manifest(encode_manifest(*manifest)) == manifest, "a list is read as it was written");
}

/// Records from a segment make a hint that says the same.
void check_segment(const std::string& octets) {
  DigestBuilder builder(3, encode_segment_header(3, 0));
  std::size_t at = 0, kept = 0;
  while (at + record_header_size <= octets.size()) {
    const std::string_view header = std::string_view(octets).substr(at, record_header_size);
    const auto decoded = decode_record_header(header);
    if (!decoded || decoded->length > octets.size() - at - record_header_size) break;
    const std::string_view payload = std::string_view(octets).substr(at + record_header_size, decoded->length);
    const WalkedRecord record{static_cast<std::uint32_t>(at), *decoded, header, payload};
    if (builder.add(record).empty() && decoded->type != RecordType::chunk) ++kept;
    at += record_size(decoded->length);
  }
  const Digest digest = std::move(builder).finish(segment_header_size + at);
  std::size_t found = 0;
  require(digest.each([&](std::uint32_t, RecordType, std::uint64_t) { ++found; }), "a hint that was made makes sense");
  require(found == kept, "a hint has an entry for each record");
  require(Digest::parse(digest.octets()).has_value(), "a hint that was made can be read");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret;
  fuzz::Input input(data, size);
  const unsigned kind = input.octet() % 4;
  const std::string rest(input.rest());
  if (kind <= 1)
    fuzz::check_hint(rest, kind == 1);
  else if (kind == 2)
    fuzz::check_manifest(rest);
  else
    fuzz::check_segment(rest);
  return 0;
}
