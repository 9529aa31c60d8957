// Mail addresses as they stand in MAIL FROM and RCPT TO (RFC 5321 section 4.1.2, RFC 6531).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace egret::smtp {

/// An address: the local part verbatim (quotes kept), the domain as the client wrote it. The null reverse-path is
/// the empty address.
struct Address {
  std::string local;
  std::string domain;

  bool null() const { return local.empty() && domain.empty(); }
  bool ascii() const;
  /// "local@domain", or empty for the null reverse-path.
  std::string to_string() const;
  bool operator==(const Address&) const = default;
};

/// Parses the inside of `<...>`: a mailbox, with limits 64 / 255 / 254 octets; a source route is accepted and
/// dropped (RFC 5321 appendix C). `utf8` allows non-ASCII (RFC 6531). The empty string is not a mailbox.
std::optional<Address> parse_mailbox(std::string_view text, bool utf8);

/// Parses a path "<...>" at the front of `text` and leaves what follows it in `text`. "<>" gives the null address.
/// White space between the colon and the "<" is tolerated, as every MTA does.
std::optional<Address> parse_path(std::string_view& text, bool utf8);

/// A host name by RFC 5321 "Domain": labels of letters, digits, '-' and '_' (seen in practice), 63 octets each, 253
/// in all. With `utf8` non-ASCII letters too.
bool valid_domain(std::string_view text, bool utf8);

/// The inside of an address literal "[192.0.2.1]" or "[IPv6:2001:db8::1]": only the form is checked.
bool valid_address_literal(std::string_view text);

}  // namespace egret::smtp
