// What goes over the wire for one message on one route: stripped or signed (DKIM), converted for receivers without
// 8BITMIME, and otherwise the stored octets as they are.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "relay/spool/spool.hpp"
#include "smtp/reply.hpp"

namespace egret::relay {

struct OutgoingOptions {
  config::DkimRule dkim = config::DkimRule::sign;
  const std::vector<config::DkimSigner>* signers = nullptr;  ///< the configuration's
  std::vector<std::string> rewrites;                         ///< lower-case names of fields that the next hop replaces
  std::vector<std::pair<std::string, std::string>> add;      ///< fields for the next hop; they replace those of the same name
  std::vector<std::string> keep;                             ///< globs of cut fields that travel on here
  bool eight_bit_mime = true;                                ///< the receiver takes 8-bit content
};

struct Outgoing {
  std::shared_ptr<const spool::Message> message;
  std::string head;             ///< replaces the first `body_from` octets of the stored body
  std::uint64_t body_from = 0;  ///< 0: everything goes out as it is stored (cuts and additions apart)
  std::uint64_t size = 0;       ///< octets that go out, final dot apart
  bool eight_bit = false;
  std::string problem;      ///< why it cannot go to this receiver, for a 5.6.3; else empty
  bool unreadable = false;  ///< what was needed of it could not be read
};

inline constexpr const char* unreadable_text = "the message cannot be read from the spool";

/// What this relay itself says to a message that cannot go out; none for one that can.
std::optional<smtp::Reply> refusal_of(const Outgoing& outgoing);

/// Reads what it needs from the spool.
boost::asio::awaitable<Outgoing> prepare_outgoing(std::shared_ptr<const spool::Message> message, OutgoingOptions options,
                                                  spool::Spool& spool);

/// The signers for a From domain: those of the domain itself, or of the nearest domain above it that has any
/// (RFC 7489 section 3.1.1, relaxed alignment).
std::vector<const config::DkimSigner*> signers_for(const std::vector<config::DkimSigner>& signers, std::string_view from_domain);

}  // namespace egret::relay
