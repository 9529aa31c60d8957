// An alert in the words and forms in which it goes out: what was seen, which rule, what Egret did, what it concerns, and
// what the operator can do; as JSON for webhooks and as text for mail.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.hpp"
#include "relay/alerts/fold.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {

/// Messages waiting, by class (index into the configuration's).
using QueueCounts = std::map<std::uint32_t, std::uint64_t>;

/// An alert and everything that is said of it.
struct Notice {
  Alert alert;
  std::string summary;  ///< one line
  std::string did;      ///< what Egret did
  std::string action;   ///< what the operator can do; may be empty
  std::string delist;   ///< where removal is asked for; may be empty
  std::vector<std::string> pools;
  std::vector<std::string> classes;
  std::map<std::string, std::uint64_t> queue;  ///< waiting messages of these classes
};

Notice describe(const Alert& alert, const config::Config& config, const QueueCounts& queue);

/// The body of a webhook's request. Its form is documented in docs/alerts.md; `version` changes when it does.
std::string to_json(const Notice& notice, const std::string& hostname);

/// "sha256=" and HMAC-SHA256 in hexadecimal over timestamp "." body.
std::string webhook_signature(std::string_view secret, std::string_view timestamp, std::string_view body);

struct AlertMessage {
  smtp::MessageId id{};
  std::string hostname;
  std::string from;  ///< address of the From field
  std::string to;
  std::chrono::system_clock::time_point time;
  std::uint64_t left_out = 0;  ///< alerts that did not fit
};
/// A whole message in wire form (dot-stuffed, no final dot) about one or more alerts. Header fields are ASCII.
std::string to_mail(const std::vector<Notice>& notices, const AlertMessage& message);

}  // namespace egret::relay
