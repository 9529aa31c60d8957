#include "relay/spool/format.hpp"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <random>

namespace egret::relay::spool {
namespace {

constexpr std::uint64_t some_id = 0x0123456789abcdef;

Message full_message() {
  Message m;
  m.id = smtp::MessageId{some_id};
  m.class_name = "bulk";
  m.sender = {"\"a b\"", "example.com"};
  m.recipients = {{"u1", "example.net"},
                  {"\xc3\xbc",
                   "b\xc3\xbc"
                   "cher.example"},
                  {"postmaster", "[192.0.2.1]"}};
  m.eight_bit = m.utf8 = m.report = true;
  m.accepted = routing::Time(routing::Duration(1795316055926));
  m.header_end = 321;
  m.cuts = {{10, 20}, {1ull << 40, 7}};
  m.client = "2001:db8::25";
  m.extents = {{1, 64, 1000}, {2, 32, 24}};
  m.tail = {std::string("tail\0\r\n", 7)};
  m.body_size = 1000 + 24 + 7;
  return m;
}

std::string payload_of(const Message& m) {
  std::string out = encode_accept(m);
  for (const auto& piece : m.tail) out += piece;
  return out;
}

Progress full_progress() {
  Progress p;
  p.id = smtp::MessageId{some_id};
  p.sequence = 1ull << 50;
  p.recipients = {{0, RecipientState::pending}, {7, RecipientState::delivered}, {999, RecipientState::failed}};
  p.attempts = 12;
  p.next_at = routing::Time(routing::Duration(1795316055926));
  p.sticky = "out1";
  p.strict = p.ambiguous = p.warned = p.held = true;
  p.hold_reason = "poison: blocked through out1, out2, out3";
  p.reply = "421 4.7.0 later";
  p.reply_host = "mx.example.net";
  return p;
}

/// A record as it stands in a segment.
std::string whole_record(const std::string& payload, std::uint32_t synced_to = 4096) {
  return encode_record_header(RecordType::progress, some_id, synced_to, {payload}) + payload;
}

std::uint64_t header_checksum(const std::string& octets) {
  return XXH3_64bits(octets.data(), 24);
}

std::string random_octets(std::mt19937& random, std::size_t most) {
  std::string out(random() % (most + 1), '\0');
  for (char& c : out) c = static_cast<char>(random());
  return out;
}

// ---- ACCEPT ------------------------------------------------------------------------------------------------------

TEST(AcceptRecord, ComesBackAsItWas) {
  const Message in = full_message();
  const auto out = decode_accept(some_id, payload_of(in));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->id, in.id);
  EXPECT_EQ(out->class_name, in.class_name);
  EXPECT_EQ(out->sender, in.sender);
  EXPECT_EQ(out->recipients, in.recipients);
  EXPECT_TRUE(out->eight_bit && out->utf8 && out->report);
  EXPECT_EQ(out->accepted, in.accepted);
  EXPECT_EQ(out->header_end, in.header_end);
  EXPECT_EQ(out->cuts, in.cuts);
  EXPECT_EQ(out->client, in.client);
  EXPECT_EQ(out->body_size, in.body_size);
  EXPECT_EQ(out->extents, in.extents);
  EXPECT_EQ(out->tail, in.tail);
}

TEST(AcceptRecord, KeepsEachFlagApart) {
  for (int bit = 0; bit < 3; ++bit) {
    Message in = full_message();
    in.eight_bit = bit == 0, in.utf8 = bit == 1, in.report = bit == 2;
    const auto out = decode_accept(some_id, payload_of(in));
    ASSERT_TRUE(out);
    EXPECT_EQ(out->eight_bit, in.eight_bit);
    EXPECT_EQ(out->utf8, in.utf8);
    EXPECT_EQ(out->report, in.report);
  }
}

TEST(AcceptRecord, JoinsThePiecesOfTheTail) {
  Message in = full_message();
  in.tail = {"abc", "", "defg"};
  const auto out = decode_accept(some_id, payload_of(in));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->tail, std::vector<std::string>{"abcdefg"});
}

TEST(AcceptRecord, HoldsTheNullSenderAndAnEmptyBody) {
  Message in;
  in.recipients = {{"u", "example.net"}};
  const auto out = decode_accept(some_id, payload_of(in));
  ASSERT_TRUE(out);
  EXPECT_TRUE(out->sender.null());
  EXPECT_TRUE(out->tail.empty());
}

TEST(AcceptRecord, IsRefusedInEveryTruncation) {
  const std::string whole = payload_of(full_message());
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(decode_accept(some_id, whole.substr(0, size))) << size;
}

TEST(AcceptRecord, IsRefusedWithOctetsTooMany) {
  EXPECT_FALSE(decode_accept(some_id, payload_of(full_message()) + "x"));
}

TEST(AcceptRecord, IsRefusedWithoutRecipients) {
  Message in = full_message();
  in.recipients.clear();
  EXPECT_FALSE(decode_accept(some_id, payload_of(in)));
}

TEST(AcceptRecord, HasAnEnvelopeThatIsReadWithoutTheBody) {
  const Message in = full_message();
  const std::string whole = payload_of(in);
  const auto size = envelope_size(whole.substr(0, 4));
  ASSERT_EQ(size, encode_accept(in).size());
  const auto out = decode_envelope(some_id, whole.substr(0, *size));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->sender, in.sender);
  EXPECT_EQ(out->recipients, in.recipients);
  EXPECT_TRUE(out->tail.empty());
  for (std::size_t short_of = 0; short_of < *size; ++short_of)
    EXPECT_FALSE(decode_envelope(some_id, whole.substr(0, short_of))) << short_of;
}

TEST(AcceptRecord, SurvivesMutations) {
  std::mt19937 random(1);
  const std::string whole = payload_of(full_message());
  for (int round = 0; round < 20000; ++round) {
    std::string octets = whole;
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes)
      octets[random() % octets.size()] = static_cast<char>(random());
    if (const auto out = decode_accept(some_id, octets)) EXPECT_FALSE(out->recipients.empty());
  }
}

// ---- PROGRESS and DONE -------------------------------------------------------------------------------------------

TEST(ProgressRecord, ComesBackAsItWas) {
  const Progress in = full_progress();
  const auto out = decode_progress(some_id, encode_progress(in));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->id, in.id);
  EXPECT_EQ(out->sequence, in.sequence);
  EXPECT_EQ(out->recipients, in.recipients);
  EXPECT_EQ(out->attempts, in.attempts);
  EXPECT_EQ(out->next_at, in.next_at);
  EXPECT_EQ(out->sticky, in.sticky);
  EXPECT_TRUE(out->strict && out->ambiguous && out->warned && out->held);
  EXPECT_EQ(out->reply, in.reply);
  EXPECT_EQ(out->reply_host, in.reply_host);
  EXPECT_EQ(out->hold_reason, in.hold_reason);
}

TEST(ProgressRecord, OfVersion2HasNoReasonOfAHold) {
  Progress in = full_progress();
  const std::size_t with_reason = encode_progress(in).size();
  const std::size_t field = 4 + in.hold_reason.size();
  in.hold_reason.clear();
  const std::string octets = encode_progress(in);
  EXPECT_EQ(octets.size(), with_reason - field);
  const auto out = decode_progress(some_id, octets);
  ASSERT_TRUE(out);
  EXPECT_TRUE(out->held);
  EXPECT_EQ(out->hold_reason, "");
  EXPECT_EQ(out->recipients, in.recipients);
}

TEST(ProgressRecord, HasAReasonOnlyWhileHeld) {
  Progress in = full_progress();
  in.held = false;
  const auto out = decode_progress(some_id, encode_progress(in));
  ASSERT_TRUE(out);
  EXPECT_FALSE(out->held);
  EXPECT_EQ(out->hold_reason, "");
}

TEST(ProgressRecord, CutsALongReasonOfAHold) {
  Progress in = full_progress();
  in.hold_reason = std::string(5000, 'x');
  EXPECT_EQ(decode_progress(some_id, encode_progress(in)).value().hold_reason.size(), 1000u);
}

TEST(ProgressRecord, KeepsEachFlagApart) {
  for (int bit = 0; bit < 4; ++bit) {
    Progress in = full_progress();
    in.strict = bit == 0, in.ambiguous = bit == 1, in.warned = bit == 2, in.held = bit == 3;
    const auto out = decode_progress(some_id, encode_progress(in));
    ASSERT_TRUE(out);
    EXPECT_EQ(out->strict, in.strict);
    EXPECT_EQ(out->ambiguous, in.ambiguous);
    EXPECT_EQ(out->warned, in.warned);
    EXPECT_EQ(out->held, in.held);
  }
}

TEST(ProgressRecord, CutsALongReply) {
  Progress in = full_progress();
  in.reply = std::string(5000, 'x');
  EXPECT_EQ(decode_progress(some_id, encode_progress(in)).value().reply.size(), 1000u);
}

TEST(ProgressRecord, IsRefusedInEveryTruncation) {
  const std::string whole = encode_progress(full_progress());
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(decode_progress(some_id, whole.substr(0, size))) << size;
  EXPECT_FALSE(decode_progress(some_id, whole + "x"));
}

TEST(ProgressRecord, RefusesAStateThatDoesNotExist) {
  std::string octets = encode_progress(full_progress());
  octets.back() = 3;
  EXPECT_FALSE(decode_progress(some_id, octets));
}

TEST(DoneRecord, ComesBackAsItWas) {
  EXPECT_EQ(decode_done(encode_done(0xfffffffe)), 0xfffffffeu);
  EXPECT_EQ(decode_done(encode_done(7).substr(0, 3)), std::nullopt);
  EXPECT_EQ(decode_done(encode_done(7) + "x"), std::nullopt);
  EXPECT_EQ(decode_done(""), std::nullopt);
}

TEST(Payloads, SurviveRandomOctets) {
  std::mt19937 random(2);
  for (int round = 0; round < 50000; ++round) {
    const std::string octets = random_octets(random, 200);
    EXPECT_FALSE(decode_accept(some_id, octets));
    decode_progress(some_id, octets);
    decode_done(octets);
    EXPECT_FALSE(decode_record_header(octets));
    EXPECT_FALSE(check_segment_header(octets, 1).empty());
  }
}

// ---- record headers ----------------------------------------------------------------------------------------------

TEST(RecordHead, ComesBackAsItWas) {
  const auto out = decode_record_header(encode_record_header(RecordType::chunk, some_id, 12345, {"abc", "", "de"}));
  ASSERT_TRUE(out);
  EXPECT_EQ(out->type, RecordType::chunk);
  EXPECT_EQ(out->id, some_id);
  EXPECT_EQ(out->synced_to, 12345u);
  EXPECT_EQ(out->length, 5u);
}

TEST(RecordHead, HasTheSizeItSays) {
  EXPECT_EQ(encode_record_header(RecordType::done, 1, 0, {}).size(), record_header_size);
  EXPECT_EQ(encode_segment_header(1, 0).size(), segment_header_size);
  EXPECT_EQ(record_size(0), 32u);
  EXPECT_EQ(record_size(1), 40u);
  EXPECT_EQ(record_size(8), 40u);
  EXPECT_EQ(record_size(9), 48u);
}

TEST(RecordHead, HasOneChecksumHoweverThePayloadIsCut) {
  for (const std::size_t size : {0, 1, 100, 512, 513, 5000}) {
    const std::string payload(size, 'p');
    const std::string_view view = payload;
    const auto whole = encode_record_header(RecordType::accept, some_id, 1, {view});
    EXPECT_EQ(whole, encode_record_header(RecordType::accept, some_id, 1, {view.substr(0, size / 2), view.substr(size / 2)}))
        << size;
    EXPECT_TRUE(checksum_fits(whole, payload)) << size;
  }
}

TEST(RecordHead, NoticesEveryFlippedBit) {
  const std::string payload = encode_progress(full_progress()), whole = whole_record(payload);
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string octets = whole;
    octets[bit / 8] = static_cast<char>(octets[bit / 8] ^ (1 << bit % 8));
    const auto header = decode_record_header(octets.substr(0, record_header_size));
    const bool good = header && header->length == payload.size() &&
                      checksum_fits(octets.substr(0, record_header_size), octets.substr(record_header_size));
    EXPECT_FALSE(good) << bit;
  }
}

TEST(RecordHead, IsRefusedInEveryTruncation) {
  const std::string whole = encode_record_header(RecordType::done, 1, 0, {});
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_FALSE(decode_record_header(whole.substr(0, size))) << size;
}

// ---- segment headers ---------------------------------------------------------------------------------------------

TEST(SegmentHead, IsRightForItsOwnNumber) {
  EXPECT_EQ(check_segment_header(encode_segment_header(7, 1795316055926), 7), "");
  EXPECT_NE(check_segment_header(encode_segment_header(7, 1795316055926), 8), "");
}

TEST(SegmentHead, NamesAnotherVersion) {
  std::string octets = encode_segment_header(7, 0);
  octets[8] = 1;
  EXPECT_NE(check_segment_header(octets, 7).find("another version of egret (format 1"), std::string::npos);
}

TEST(SegmentHead, OfVersion2IsStillRead) {
  // The header as version 2 wrote it: number 7, created at 0.
  std::string octets = encode_segment_header(7, 0);
  octets[8] = 2;
  EXPECT_EQ(check_segment_header(octets, 7), "damaged segment header");  // the version is under the checksum
  const std::uint64_t checksum = header_checksum(octets);
  std::memcpy(octets.data() + 24, &checksum, sizeof checksum);
  EXPECT_EQ(check_segment_header(octets, 7), "");
}

TEST(SegmentHead, NoticesEveryFlippedBit) {
  const std::string whole = encode_segment_header(7, 1795316055926);
  for (std::size_t bit = 0; bit < whole.size() * 8; ++bit) {
    std::string octets = whole;
    octets[bit / 8] = static_cast<char>(octets[bit / 8] ^ (1 << bit % 8));
    EXPECT_NE(check_segment_header(octets, 7), "") << bit;
  }
}

TEST(SegmentHead, IsRefusedInEveryTruncation) {
  const std::string whole = encode_segment_header(7, 0);
  for (std::size_t size = 0; size < whole.size(); ++size) EXPECT_NE(check_segment_header(whole.substr(0, size), 7), "") << size;
}

}  // namespace
}  // namespace egret::relay::spool
