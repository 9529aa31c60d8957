// Which waiting mail an operator's command concerns: `egret queue retry|hold|release|cancel SELECTOR`.
//
//   SELECTOR = "all" / condition *("," condition)            all conditions must hold
//   condition = id=ID / class=NAME / user=NAME / sender=ADDRESS / domain=DOMAIN / site=KEY / egress=NAME / state=STATE
//
// A comma inside a quoted string of an address separates nothing. Pure: what has to be read from disk or asked of the
// DNS is found by the caller and passed in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/config.hpp"
#include "routing/types.hpp"
#include "smtp/address.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {

/// What is in memory of recipients that wait together.
struct SelectorFacts {
  smtp::MessageId id{};
  std::uint32_t message_class = 0;
  std::string_view state;                    ///< ready, active, scheduled, held
  std::optional<routing::EgressRef> egress;  ///< in whose ready queue it is, or that it must keep to
  std::optional<std::string_view> site;      ///< its key; nullopt while nobody knows
};

struct Selector {
  std::string text;  ///< as it was given, for events
  std::optional<smtp::MessageId> id;
  std::optional<std::uint32_t> message_class;
  std::optional<std::string> user;      ///< who logged in to send it
  std::optional<smtp::Address> sender;  ///< the null address: mail from <>
  std::optional<std::string> domain;    ///< of a recipient, as comparable_domain() gives it
  std::optional<std::string> site;
  std::optional<routing::EgressRef> egress;
  std::optional<std::string> state;

  /// Of these recipients alone, whatever their envelope and an unknown site may say.
  bool fits(const SelectorFacts& facts) const;
  bool fits_sender(const smtp::Address& address) const;
  bool fits_user(std::string_view name) const { return !user || *user == name; }
  bool fits_domain(std::string_view recipient_domain) const;
  /// Whether the envelope has a say: it may have to be read from disk.
  bool wants_envelope() const { return user || sender || domain; }
};

/// A domain in the form in which equal ones are equal: lower-case, A-labels.
std::string comparable_domain(std::string_view domain);
/// As SMTP compares: the local part to the octet, the domain without case (RFC 5321 section 2.4).
bool same_address(const smtp::Address& a, const smtp::Address& b);

/// The selector, or what is wrong with it in words that begin with the key: "class: no class is called x". The empty
/// text is an error; "all" is everything.
std::variant<Selector, std::string> parse_selector(std::string_view text, const config::Config& config);

}  // namespace egret::relay
