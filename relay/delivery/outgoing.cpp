#include "relay/delivery/outgoing.hpp"

#include <algorithm>

#include "relay/runtime/clock.hpp"
#include "smtp/dkim.hpp"
#include "smtp/dkim_canonical.hpp"
#include "smtp/mime_convert.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

constexpr std::uint64_t max_converted = 16u << 20;  // conversion holds the message three times in memory

/// Calls `emit` for the stored octets from `from` on, piece by piece. False when they cannot be read.
template <class Emit>
boost::asio::awaitable<bool> read_body(std::shared_ptr<const spool::Message> message, std::uint64_t from, spool::Spool* spool,
                                       Emit emit) {
  std::uint64_t offset = 0;
  for (const auto& extent : message->extents) {
    const std::string piece = co_await spool->read(extent);
    if (piece.size() != extent.length) co_return false;
    if (offset + piece.size() > from) emit(std::string_view(piece).substr(from > offset ? from - offset : 0));
    offset += piece.size();
  }
  for (const auto& piece : message->tail) {
    if (offset + piece.size() > from) emit(std::string_view(piece).substr(from > offset ? from - offset : 0));
    offset += piece.size();
  }
  co_return true;
}

/// The header section as it goes out, and whether an empty line follows it.
struct Head {
  std::string text;
  bool separated = false;
  bool read = false;  ///< it could be
};

boost::asio::awaitable<Head> read_head(std::shared_ptr<const spool::Message> message, spool::Spool* spool) {
  std::string stored;
  const std::uint64_t wanted = message->header_end + 2;
  const auto take = [&](std::string_view piece) {
    if (stored.size() < wanted) stored += piece.substr(0, wanted - stored.size());
  };
  Head out;
  out.read = co_await read_body(message, 0, spool, take);
  out.separated =
      stored.size() == wanted && stored.ends_with("\r\n") && !message->added.ends_with("\r\n\r\n") && message->added != "\r\n";
  stored.resize(std::min<std::size_t>(stored.size(), message->header_end));
  smtp::without_cuts(stored, 0, message->cuts, [&](std::string_view piece) { out.text += piece; });
  out.text += message->added;
  co_return out;
}

/// Calls `emit` for every field of a header section, folded lines and CRLF included.
template <class Emit>
void each_field(std::string_view head, Emit emit) {
  while (!head.empty()) {
    std::size_t end = head.find('\n');
    while (end != std::string_view::npos && end + 1 < head.size() && (head[end + 1] == ' ' || head[end + 1] == '\t'))
      end = head.find('\n', end + 1);
    const std::string_view field = head.substr(0, end == std::string_view::npos ? head.size() : end + 1);
    emit(smtp::trim(field.substr(0, field.find(':'))), field);
    head.remove_prefix(field.size());
  }
}

/// The header section without the fields of which `drop(name)` is true.
template <class Drop>
std::string without_fields(std::string_view head, Drop drop) {
  std::string out;
  each_field(head, [&](std::string_view name, std::string_view field) {
    if (!drop(name)) out += field;
  });
  return out;
}

/// Of the fields that were cut, those that this next hop may see; none when they cannot be read.
boost::asio::awaitable<std::optional<std::string>> kept_fields(std::shared_ptr<const spool::Message> message,
                                                               const std::vector<std::string>* keep, spool::Spool* spool) {
  std::string stored, out;
  const bool read = co_await read_body(message, 0, spool, [&](std::string_view piece) {
    if (stored.size() < message->header_end) stored += piece.substr(0, message->header_end - stored.size());
  });
  if (!read) co_return std::nullopt;
  for (const auto& cut : message->cuts) {
    if (cut.offset >= stored.size()) continue;
    each_field(std::string_view(stored).substr(cut.offset, cut.length), [&](std::string_view name, std::string_view field) {
      const bool ours = smtp::iequals(name.substr(0, 8), "X-Egret-");
      if (!ours && std::ranges::any_of(*keep, [&](const auto& glob) { return smtp::glob_match(glob, name); })) out += field;
    });
  }
  co_return out;
}

/// Signatures to put above the message; empty when nobody signs for it, none when it cannot be read.
boost::asio::awaitable<std::optional<std::string>> sign(std::shared_ptr<const spool::Message> message, const Head* head,
                                                        const OutgoingOptions* options, spool::Spool* spool) {
  std::string out;
  if (!head->separated) co_return out;
  const auto domain = smtp::from_domain(head->text);
  if (!domain) co_return out;
  const auto signers = signers_for(*options->signers, *domain);
  if (signers.empty()) co_return out;
  smtp::DkimBodyHash hash;
  const bool read =
      co_await read_body(message, message->header_end + 2, spool, [&](std::string_view piece) { hash.update(piece); });
  if (!read) co_return std::nullopt;
  const std::string digest = hash.finish();
  for (const auto* signer : signers) {
    smtp::DkimOptions dkim{signer->domain, signer->selector, options->rewrites,
                           std::chrono::duration_cast<std::chrono::seconds>(now().time_since_epoch()).count()};
    out += smtp::dkim_field(*signer->key, dkim, head->text, digest);
  }
  co_return out;
}

std::string stuff(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 64);
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end == std::string_view::npos ? text.size() : end + 1);
    if (line.front() == '.') out += '.';
    out += line;
    text.remove_prefix(line.size());
  }
  if (!out.ends_with("\r\n")) out += "\r\n";
  return out;
}

/// A message of its own that holds the 7-bit form; null and `why` when there is none.
boost::asio::awaitable<std::shared_ptr<const spool::Message>> convert(std::shared_ptr<const spool::Message> message,
                                                                      spool::Spool* spool, Outgoing* problem) {
  std::string* const why = &problem->problem;
  if (message->body_size > max_converted) {
    *why = "too large to be converted";
    co_return nullptr;
  }
  std::string wire;
  wire.reserve(message->sent_size());
  std::uint64_t offset = 0;
  const auto take = [&](std::string_view piece) {
    smtp::as_sent(piece, offset, message->cuts, message->header_end, message->added,
                  [&](std::string_view part) { wire += part; });
    offset += piece.size();
  };
  const bool read = co_await read_body(message, 0, spool, take);
  if (!read) {
    problem->unreadable = true;
    co_return nullptr;
  }
  auto seven = smtp::to_seven_bit(smtp::unstuff(wire), *why);
  if (!seven) co_return nullptr;
  auto out = std::make_shared<spool::Message>(*message);
  out->extents.clear();
  out->cuts.clear();
  out->added.clear();
  out->tail = {stuff(*seven)};
  out->body_size = out->tail.front().size();
  const std::size_t end = out->tail.front().find("\r\n\r\n");
  out->header_end = end == std::string::npos ? out->body_size : end + 2;
  out->eight_bit = false;
  co_return out;
}

}  // namespace

std::vector<const config::DkimSigner*> signers_for(const std::vector<config::DkimSigner>& signers, std::string_view from_domain) {
  std::vector<const config::DkimSigner*> out;
  while (!from_domain.empty() && out.empty()) {
    for (const auto& signer : signers)
      if (smtp::iequals(signer.domain, from_domain)) out.push_back(&signer);
    const std::size_t dot = from_domain.find('.');
    from_domain = dot == std::string_view::npos ? std::string_view{} : from_domain.substr(dot + 1);
  }
  return out;
}

std::optional<smtp::Reply> refusal_of(const Outgoing& outgoing) {
  if (!outgoing.problem.empty()) return smtp::make_reply(554, "5.6.3 (local) " + outgoing.problem);
  return std::nullopt;
}

boost::asio::awaitable<Outgoing> prepare_outgoing(std::shared_ptr<const spool::Message> message, OutgoingOptions options,
                                                  spool::Spool& spool) {
  Outgoing out;
  const auto stored = message;
  if (message->eight_bit && !options.eight_bit_mime) {
    auto converted = co_await convert(message, &spool, &out);
    if (!converted) {
      out.message = stored;
      if (out.unreadable) co_return out;
      out.problem = "the receiver takes 7-bit mail only, and this message cannot be converted: " + out.problem;
      co_return out;
    }
    message = std::move(converted);
  }
  out.message = message;
  out.eight_bit = message->eight_bit;
  out.size = message->sent_size();
  const bool signing = options.dkim == config::DkimRule::sign && options.signers && !options.signers->empty();
  const bool stripping = options.dkim == config::DkimRule::strip;
  if (message->header_end == 0) co_return out;  // no header section to put anything into
  const bool keeping = !options.keep.empty() && !stored->cuts.empty();
  if (!signing && !stripping && !keeping && options.add.empty()) co_return out;
  // Orders to the next hop stand above everything, outside of any signature.
  std::string orders;
  for (const auto& [name, value] : options.add) orders += name + ": " + value + "\r\n";
  const auto replaced = [&](std::string_view name) {
    return std::ranges::any_of(options.add, [&](const auto& field) { return smtp::iequals(field.first, name); });
  };
  const auto kept = keeping ? co_await kept_fields(stored, &options.keep, &spool) : std::string();
  Head head = co_await read_head(message, &spool);
  out.unreadable = !kept || !head.read;
  if (out.unreadable) co_return out;
  orders += without_fields(*kept, replaced);
  const std::size_t before = head.text.size();
  head.text = without_fields(
      head.text, [&](std::string_view name) { return (stripping && smtp::iequals(name, "DKIM-Signature")) || replaced(name); });
  const bool changed = head.text.size() != before;
  if (signing) {
    const auto signatures = co_await sign(message, &head, &options, &spool);
    out.unreadable = !signatures;
    if (out.unreadable) co_return out;
    orders += *signatures;
  }
  if (!changed && orders.empty()) co_return out;
  head.text = orders + head.text;
  out.size = out.size - before + head.text.size();
  out.head = std::move(head.text);
  out.body_from = message->header_end;
  co_return out;
}

}  // namespace egret::relay
