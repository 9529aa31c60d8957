#include "relay/spool/format.hpp"

#define XXH_STATIC_LINKING_ONLY  // the state on the stack
#include <xxhash.h>

#include <cstring>

#include "smtp/text.hpp"

namespace egret::relay::spool {
namespace {

constexpr std::string_view segment_magic = "EGRSPOOL";
constexpr std::uint32_t record_magic = 0x63655245;  // "ERec"

class Writer {
 public:
  void u8(std::uint8_t v) { out_ += static_cast<char>(v); }
  void u32(std::uint32_t v) { raw(&v, sizeof v); }
  void u64(std::uint64_t v) { raw(&v, sizeof v); }
  void text(std::string_view v) {
    u32(static_cast<std::uint32_t>(v.size()));
    out_ += v;
  }
  void address(const smtp::Address& v) {
    text(v.local);
    text(v.domain);
  }
  std::string& str() { return out_; }

 private:
  void raw(const void* data, std::size_t size) { out_.append(static_cast<const char*>(data), size); }
  std::string out_;
};

/// Reads what Writer wrote; after the first thing that does not fit, everything is zero and ok() is false.
class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  std::uint8_t u8() { return fixed<std::uint8_t>(); }
  std::uint32_t u32() { return fixed<std::uint32_t>(); }
  std::uint64_t u64() { return fixed<std::uint64_t>(); }
  std::string_view view() {
    const std::uint32_t size = u32();
    if (size > in_.size()) return fail(), std::string_view();
    const std::string_view out = in_.substr(0, size);
    in_.remove_prefix(size);
    return out;
  }
  std::string text() { return std::string(view()); }
  smtp::Address address() {
    smtp::Address out;
    out.local = text();
    out.domain = text();
    return out;
  }
  /// A count of things that take at least `least` octets each.
  std::uint32_t count(std::size_t least) {
    const std::uint32_t n = u32();
    if (n > in_.size() / least) return fail(), 0;
    return n;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && in_.empty(); }

 private:
  template <class T>
  T fixed() {
    T value{};
    if (in_.size() < sizeof value) return fail(), value;
    std::memcpy(&value, in_.data(), sizeof value);
    in_.remove_prefix(sizeof value);
    return value;
  }
  void fail() {
    ok_ = false;
    in_ = {};
  }
  std::string_view in_;
  bool ok_ = true;
};

void write_dsn(Writer& out, const Message& m) {
  out.u8(static_cast<std::uint8_t>(m.dsn.ret));
  out.text(m.dsn.envid);
  out.u32(static_cast<std::uint32_t>(m.recipient_dsn.size()));
  for (const auto& r : m.recipient_dsn) {
    out.u8(static_cast<std::uint8_t>(r.never | r.success << 1 | r.failure << 2 | r.delay << 3 | r.notify_given << 4));
    out.text(r.orcpt);
  }
}

bool read_dsn(Reader& in, Message& m) {
  const std::uint8_t ret = in.u8();
  if (ret > static_cast<std::uint8_t>(smtp::DsnMail::Ret::headers)) return false;
  m.dsn.ret = static_cast<smtp::DsnMail::Ret>(ret);
  m.dsn.envid = in.text();
  m.recipient_dsn.resize(in.count(5));
  for (auto& r : m.recipient_dsn) {
    const std::uint8_t flags = in.u8();
    r.never = flags & 1;
    r.success = flags & 2;
    r.failure = flags & 4;
    r.delay = flags & 8;
    r.notify_given = flags & 16;
    r.orcpt = in.text();
  }
  return m.recipient_dsn.empty() || m.recipient_dsn.size() == m.recipients.size();
}

std::uint64_t time_value(routing::Time time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}
routing::Time to_time(std::uint64_t value) {
  return routing::Time(routing::Duration(static_cast<std::int64_t>(value)));
}

}  // namespace

std::string encode_segment_header(std::uint32_t number, std::uint64_t created_ms) {
  Writer out;
  out.str() += segment_magic;
  out.u32(format_version);
  out.u32(number);
  out.u64(created_ms);
  out.u64(XXH3_64bits(out.str().data(), out.str().size()));
  return std::move(out.str());
}

std::string check_segment_header(std::string_view octets, std::uint32_t number) {
  if (octets.size() < segment_header_size || !octets.starts_with(segment_magic)) return "not a spool segment";
  Reader in(octets.substr(segment_magic.size()));
  const std::uint32_t version = in.u32(), found = in.u32();
  in.u64();
  if (version < oldest_format_version || version > format_version)
    return "written by another version of egret (format " + std::to_string(version) + ", this program reads " +
           std::to_string(oldest_format_version) + " to " + std::to_string(format_version) + ")";
  if (in.u64() != XXH3_64bits(octets.data(), 24)) return "damaged segment header";
  if (found != number) return "the segment says that it is number " + std::to_string(found);
  return {};
}

std::string encode_record_header(RecordType type, std::uint64_t id, std::uint32_t synced_to,
                                 const std::vector<std::string_view>& payload) {
  std::size_t length = 0;
  for (const auto part : payload) length += part.size();
  Writer out;
  out.str().reserve(record_header_size);
  out.u32(record_magic);
  out.u8(static_cast<std::uint8_t>(type));
  for (int i = 0; i < 3; ++i) out.u8(0);
  out.u32(static_cast<std::uint32_t>(length));
  out.u32(synced_to);
  out.u64(id);
  if (payload.size() == 1 && length <= 512) {
    std::string flat = out.str() + std::string(payload[0]);
    out.u64(XXH3_64bits(flat.data(), flat.size()));
    return std::move(out.str());
  }
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, out.str().data(), out.str().size());
  for (const auto part : payload) XXH3_64bits_update(&state, part.data(), part.size());
  out.u64(XXH3_64bits_digest(&state));
  return std::move(out.str());
}

std::optional<RecordHeader> decode_record_header(std::string_view octets) {
  Reader in(octets);
  if (in.u32() != record_magic) return std::nullopt;
  RecordHeader out;
  const std::uint8_t type = in.u8();
  if (type < 1 || type > 4) return std::nullopt;
  out.type = static_cast<RecordType>(type);
  for (int i = 0; i < 3; ++i)
    if (in.u8() != 0) return std::nullopt;
  out.length = in.u32();
  out.synced_to = in.u32();
  out.id = in.u64();
  out.checksum = in.u64();
  if (!in.ok() || out.length > segment_size) return std::nullopt;
  return out;
}

bool checksum_fits(std::string_view header, std::string_view payload) {
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  XXH3_64bits_update(&state, header.data(), 24);
  XXH3_64bits_update(&state, payload.data(), payload.size());
  std::uint64_t stored = 0;
  std::memcpy(&stored, header.data() + 24, sizeof stored);
  return XXH3_64bits_digest(&state) == stored;
}

std::string encode_accept(const Message& m) {
  Writer out;
  out.str().reserve(256);
  out.u32(0);
  out.u8(static_cast<std::uint8_t>(m.eight_bit | m.utf8 << 1 | m.report << 2 | m.eight_bit_header << 3));
  out.text(m.class_name);
  out.address(m.sender);
  out.u32(static_cast<std::uint32_t>(m.recipients.size()));
  for (const auto& recipient : m.recipients) out.address(recipient);
  out.u64(time_value(m.accepted));
  out.u64(m.header_end);
  out.text(m.client);
  out.u64(m.body_size);
  out.u32(static_cast<std::uint32_t>(m.cuts.size()));
  for (const auto& cut : m.cuts) {
    out.u64(cut.offset);
    out.u32(cut.length);
  }
  out.u32(static_cast<std::uint32_t>(m.extents.size()));
  for (const auto& extent : m.extents) {
    out.u32(extent.segment);
    out.u32(extent.offset);
    out.u32(extent.length);
  }
  out.text(m.added);
  out.text(m.user);
  write_dsn(out, m);
  const auto length = static_cast<std::uint32_t>(out.str().size() - 4);
  std::memcpy(out.str().data(), &length, sizeof length);
  return std::move(out.str());
}

std::optional<std::size_t> envelope_size(std::string_view payload) {
  Reader in(payload);
  const std::size_t size = std::size_t{4} + in.u32();
  if (!in.ok() || size > segment_size) return std::nullopt;
  return size;
}

std::optional<Message> decode_envelope(std::uint64_t id, std::string_view payload) {
  const auto size = envelope_size(payload);
  if (!size || *size > payload.size()) return std::nullopt;
  Reader in(payload.substr(4, *size - 4));
  Message m;
  m.id = smtp::MessageId{id};
  const std::uint8_t flags = in.u8();
  m.eight_bit = flags & 1;
  m.utf8 = flags & 2;
  m.report = flags & 4;
  m.eight_bit_header = flags & 8;
  m.class_name = in.text();
  m.sender = in.address();
  m.recipients.resize(in.count(8));
  for (auto& recipient : m.recipients) recipient = in.address();
  m.accepted = to_time(in.u64());
  m.header_end = in.u64();
  m.client = in.text();
  m.body_size = in.u64();
  m.cuts.resize(in.count(12));
  for (auto& cut : m.cuts) {
    cut.offset = in.u64();
    cut.length = in.u32();
  }
  m.extents.resize(in.count(12));
  for (auto& extent : m.extents) {
    extent.segment = in.u32();
    extent.offset = in.u32();
    extent.length = in.u32();
  }
  m.added = in.text();
  m.user = in.text();
  if (!read_dsn(in, m) || !in.at_end() || m.recipients.empty()) return std::nullopt;
  return m;
}

std::optional<Message> decode_accept(std::uint64_t id, std::string_view payload) {
  auto m = decode_envelope(id, payload);
  if (!m) return std::nullopt;
  const std::string_view tail = payload.substr(*envelope_size(payload));
  std::uint64_t size = tail.size();
  for (const auto& extent : m->extents) size += extent.length;
  if (size != m->body_size) return std::nullopt;
  if (!tail.empty()) m->tail.emplace_back(tail);
  return m;
}

std::string encode_progress(const Progress& p) {
  Writer out;
  out.u64(p.sequence);
  out.u32(p.attempts);
  out.u64(time_value(p.next_at));
  const bool reason = p.held && !p.hold_reason.empty();
  out.u8(static_cast<std::uint8_t>(p.ambiguous | p.warned << 1 | p.held << 2 | p.strict << 3 | reason << 4));
  out.text(p.sticky);
  out.text(smtp::cut_text(p.reply, 1000));
  out.text(p.reply_host);
  if (reason) out.text(smtp::cut_text(p.hold_reason, 1000));
  out.u32(static_cast<std::uint32_t>(p.recipients.size()));
  for (const auto& [index, state] : p.recipients) {
    out.u32(index);
    out.u8(static_cast<std::uint8_t>(state));
  }
  return std::move(out.str());
}

std::optional<Progress> decode_progress(std::uint64_t id, std::string_view payload) {
  Progress out;
  if (!decode_progress(id, payload, out)) return std::nullopt;
  return out;
}

bool decode_progress(std::uint64_t id, std::string_view payload, Progress& out) {
  Reader in(payload);
  out.id = smtp::MessageId{id};
  out.sequence = in.u64();
  out.attempts = in.u32();
  out.next_at = to_time(in.u64());
  const std::uint8_t flags = in.u8();
  out.ambiguous = flags & 1;
  out.warned = flags & 2;
  out.held = flags & 4;
  out.strict = flags & 8;
  out.sticky = in.view();
  out.reply = in.view();
  out.reply_host = in.view();
  out.hold_reason = flags & 16 ? in.view() : std::string_view();
  out.recipients.resize(in.count(5));
  for (auto& [index, state] : out.recipients) {
    index = in.u32();
    const std::uint8_t value = in.u8();
    if (value > 2) return false;
    state = static_cast<RecipientState>(value);
  }
  return in.at_end();
}

std::string encode_done(std::uint32_t segment) {
  Writer out;
  out.u32(segment);
  return std::move(out.str());
}

std::optional<std::uint32_t> decode_done(std::string_view payload) {
  Reader in(payload);
  const std::uint32_t segment = in.u32();
  if (!in.at_end()) return std::nullopt;
  return segment;
}

}  // namespace egret::relay::spool
