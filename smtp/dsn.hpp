// Delivery status notifications (RFC 3464, RFC 6522): the report to the sender of mail that could not be delivered.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "smtp/address.hpp"
#include "smtp/reply.hpp"
#include "smtp/trace.hpp"

namespace egret::smtp {

struct DsnRecipient {
  Address address;
  Reply reply;              ///< the final word; a code of 0 means that no server said anything
  std::string remote_host;  ///< who said it; empty for our own decisions
  std::string status;       ///< RFC 3463 code for the Status field; from the reply where it has one
  std::string explanation;  ///< one sentence for a person, e.g. "no delivery within 1d"
  std::string original;     ///< ORCPT as received ("rfc822;xtext"), or empty
};

enum class DsnAction { failed, delayed, relayed };

struct DsnInput {
  DsnAction action = DsnAction::failed;
  std::string reporting_host;  ///< our hostname
  MessageId id{};              ///< of the original message
  MessageId dsn_id{};          ///< of the report itself
  Address sender;              ///< of the original, to whom the report goes
  std::vector<DsnRecipient> recipients;
  std::string envid;     ///< ENVID as received (xtext), or empty
  std::string original;  ///< header section, or the whole message where `full`; wire form; empty: that part, which RFC 6522
                         ///< makes optional, is left out
  bool full = false;
  bool utf8 = false;  ///< original was SMTPUTF8: RFC 6533 types are used
  std::chrono::system_clock::time_point arrived;
  std::chrono::system_clock::time_point now;
  std::optional<std::chrono::system_clock::time_point> will_retry_until;
};

/// The status for a reply: its enhanced code where the class fits, else X.0.0 by its class.
std::string dsn_status(const Reply& reply);

/// The whole report in wire form (dot-stuffed, no final dot). The envelope sender of a DSN is the null address.
std::string build_dsn(const DsnInput& input);

}  // namespace egret::smtp
