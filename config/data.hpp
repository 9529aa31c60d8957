// Readers of the shipped data files and of the operator's entries laid over them.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "config/config.hpp"
#include "config/tree.hpp"
#include "routing/blocklist.hpp"
#include "routing/readiness.hpp"
#include "routing/reply_rules.hpp"
#include "routing/site.hpp"
#include "routing/spending.hpp"

namespace egret::config {

/// A blocklist entry before the key is known: what `blocklists.yaml` says and the operator may override.
struct BlocklistEntry {
  routing::Blocklist list;
  std::string keyed_zone;  ///< with {key}
  bool needs_key = false;
  std::string key;  ///< a secret
};

struct BlocklistData {
  std::map<std::string, BlocklistEntry> lists;
  std::vector<routing::DeadZone> dead;
};

/// A smarthost preset.
struct SmarthostPreset {
  std::string host;  ///< may hold {region}
  std::vector<std::string> needs;
  std::string username;
  std::vector<std::uint16_t> ports;
  std::vector<std::uint16_t> implicit_tls;
  std::vector<std::string> auth;
  int recipients = 100;
  std::uint64_t message_size = 0;
  int messages_per_connection = 100;
  int connections = 10;
  DkimRule dkim = DkimRule::keep;
  routing::QuotaRenewal quota = routing::QuotaRenewal::midnight;
  std::optional<routing::Price> cost;      ///< an order of magnitude
  std::vector<std::string> dkim_unsigned;  ///< lower-case names of header fields that the ESP writes itself
  routing::EspRecords records;
  std::string api;                         ///< host of the HTTP API, may hold {region}; empty: none that takes a message as it is
  int api_recipients = 1;                  ///< in one request to it
};

std::optional<DkimRule> parse_dkim_rule(std::string_view text);

/// Reads the keys of one blocklist entry over what `entry` holds already.
void read_blocklist(Section& section, BlocklistEntry& entry);

BlocklistData read_blocklists(const Tree& tree, const std::string& file, Problems& problems);
std::vector<routing::Provider> read_providers(const Tree& tree, const std::string& file, Problems& problems);
std::map<std::string, SmarthostPreset> read_smarthosts(const Tree& tree, const std::string& file, Problems& problems);

/// The shipped reply rules, and the names of lists that replies speak of and nobody can ask.
struct ReplyData {
  std::vector<routing::ReplyRule> rules;
  std::vector<std::string> lists;
};
ReplyData read_replies(const Tree& tree, const std::string& file, Problems& problems);

/// Reads the keys of one reply rule.
routing::ReplyRule read_reply_rule(Section& section);

/// "300000/d", "50/s"; nothing when the key is absent or wrong.
std::optional<routing::QueryRate> read_query_rate(Section& section, std::string_view key);

/// Reads a list of port numbers.
std::vector<std::uint16_t> read_ports(Section& section, std::string_view key);

}  // namespace egret::config
