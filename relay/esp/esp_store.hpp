// What is known of mail that ESPs took, and what they said of it later: SQLite, in a file of its own (esp.db). Losing it
// loses no mail; events that come afterwards belong to no message any more.
//
// Three tables: handovers (a row for each recipient that a smarthost took), events (a row for each, known by smarthost and
// key, so that the same event is taken once), tokens (of webhooks that may be used once). What is still to be done with an
// event, a DSN or sending it on, is a mark on its row: a restart goes on where the program stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "relay/state/database.hpp"
#include "routing/esp_event.hpp"
#include "routing/types.hpp"
#include "smtp/dsn_parameters.hpp"
#include "smtp/trace.hpp"

namespace egret::relay {

/// One recipient that a smarthost took.
struct Handover {
  std::string smarthost;
  std::string esp_id;  ///< the ESP's name for the message, from its reply; may be empty
  smtp::MessageId message{};
  std::string sender;  ///< empty: the null sender
  std::string recipient;
  std::string message_class;
  std::string user;  ///< who submitted it, where he logged in
  routing::Time accepted{};
  routing::Time time{};  ///< of the handover
  std::string envid;     ///< as received (RFC 3461)
  std::string orcpt;
  bool utf8 = false;
  bool dsn = true;  ///< a failure is to be reported: neither NOTIFY=NEVER nor a report itself
};

/// An event as it is kept, with the handover it belongs to.
struct EspRecord {
  std::int64_t id = 0;
  std::string smarthost;
  routing::EspEventKind kind = routing::EspEventKind::delivered;
  std::string esp_id;
  std::string recipient;  ///< as Egret handed it over, where that is known; else as reported
  routing::Time time{};
  routing::Time received{};
  std::string diagnostic;
  std::string status;
  bool permanent = false;
  std::optional<Handover> handover;  ///< none: of mail that is not known here
};

/// What a genuine request brought.
struct EspDelivery {
  std::string smarthost;
  std::string token;  ///< may be used once; empty: none
  std::vector<routing::EspEvent> events;
  bool dsn = true;                             ///< senders may be told
  std::vector<routing::EspEventKind> forward;  ///< kinds that are to be sent on
  routing::Time received{};
};

struct EspTaken {
  bool failed = false;       ///< nothing was stored: the ESP should try again
  bool token_used = false;   ///< the token was used before: nothing was looked at
  std::size_t repeated = 0;  ///< events that were known already
  std::vector<EspRecord> fresh;
  bool work = false;  ///< something is due
};

struct EspHistory {
  std::vector<Handover> handovers;
  std::vector<EspRecord> events;  ///< oldest first
};

enum class EspWork { dsn, forward };

/// Used from one thread at a time. Everything throws std::runtime_error when the database does not do it.
class EspStore {
 public:
  explicit EspStore(const std::filesystem::path& file);

  void add(const std::vector<Handover>& handovers);
  EspTaken take(const EspDelivery& delivery);
  EspHistory history(smtp::MessageId id);
  /// Events that wait for this, oldest first.
  std::vector<EspRecord> due(EspWork work, std::size_t most);
  void done(EspWork work, const std::vector<std::int64_t>& ids);
  /// Complaints about mail of this sender since then.
  std::int64_t complaints(const std::string& sender, routing::Time since);
  /// Forgets what is older than `before` and what is over `most` handovers, a bounded number of rows at once. Tokens go by an
  /// age of their own: one that is forgotten while its request is still young enough can be used again. True when there is
  /// more to do.
  bool clean(routing::Time before, routing::Time tokens_before, std::int64_t most);

 private:
  std::optional<std::pair<std::int64_t, Handover>> find(const std::string& smarthost, const routing::EspEvent& event,
                                                        bool* reported);
  std::optional<EspRecord> insert(const EspDelivery& delivery, const routing::EspEvent& event, bool* work);

  db::Database db_;
};

}  // namespace egret::relay
