// Records of the spool, damaged in any way: refused, or read as something that can be written again.
#include "relay/spool/format.hpp"

#include "tests/fuzz/fuzz.hpp"

namespace egret::fuzz {
namespace {

using namespace relay::spool;

std::string tail_of(const Message& message) {
  std::string out;
  for (const auto& part : message.tail) out += part;
  return out;
}

void check_accept(std::string_view payload) {
  const auto message = decode_accept(7, payload);
  if (!message) return;
  require(!message->recipients.empty(), "a message has recipients");
  require(message->recipient_dsn.empty() || message->recipient_dsn.size() == message->recipients.size(),
          "each recipient has its parameters or none has");
  std::uint64_t size = tail_of(*message).size();
  for (const Extent& extent : message->extents) size += extent.length;
  require(size == message->body_size, "the parts of a body are all of it");
  const std::string written = encode_accept(*message) + tail_of(*message);
  const auto again = decode_accept(7, written);
  require(again.has_value(), "a message is read as it was written");
  require(encode_accept(*again) + tail_of(*again) == written, "a message means the same when it was written again");
}

void check_progress(std::string_view payload) {
  const auto progress = decode_progress(7, payload);
  if (!progress) return;
  const std::string written = encode_progress(*progress);
  const auto again = decode_progress(7, written);
  require(again && again->recipients == progress->recipients && again->sequence == progress->sequence &&
              again->sticky == progress->sticky && again->next_at == progress->next_at,
          "progress is read as it was written");
  require(encode_progress(*again) == written, "progress means the same when it was written again");
}

void check_header(std::string_view octets) {
  check_segment_header(octets, 3);
  const auto header = decode_record_header(octets.substr(0, record_header_size));
  if (!header) return;
  require(header->length <= segment_size, "a record fits a segment");
  const std::string_view payload = octets.substr(record_header_size, header->length);
  checksum_fits(octets.substr(0, record_header_size), payload);
  const std::string written = encode_record_header(header->type, header->id, header->synced_to, {payload});
  require(checksum_fits(written, payload), "what is written fits its checksum");
  const auto again = decode_record_header(written);
  require(again && again->type == header->type && again->id == header->id && again->length == payload.size(),
          "a header is read as it was written");
  // The same in two parts, as records with a body are written.
  const std::size_t half = payload.size() / 2;
  const std::string parts =
      encode_record_header(header->type, header->id, header->synced_to, {payload.substr(0, half), payload.substr(half)});
  require(parts == written, "parts make the same record");
}

}  // namespace
}  // namespace egret::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace egret;
  const std::string octets(reinterpret_cast<const char*>(data), size);
  fuzz::check_accept(octets);
  fuzz::check_progress(octets);
  fuzz::check_header(octets);
  const auto done = relay::spool::decode_done(octets);
  fuzz::require(!done || relay::spool::encode_done(*done) == octets, "DONE is read as it was written");
  return 0;
}
