#include "relay/esp/esp_store.hpp"

#include <algorithm>

namespace egret::relay {
namespace {

using db::Statement;
using routing::EspEventKind;

constexpr std::int64_t cleaned_at_once = 5000;
constexpr std::int64_t history_kept = 1000;  // rows of one message that are shown

constexpr const char* schema = R"(
CREATE TABLE IF NOT EXISTS handover(
  id INTEGER PRIMARY KEY AUTOINCREMENT, smarthost TEXT NOT NULL, esp_id TEXT NOT NULL, message INTEGER NOT NULL,
  sender TEXT NOT NULL, recipient TEXT NOT NULL, class TEXT NOT NULL, user TEXT NOT NULL, accepted INTEGER NOT NULL,
  time INTEGER NOT NULL, envid TEXT NOT NULL, orcpt TEXT NOT NULL, utf8 INTEGER NOT NULL, dsn INTEGER NOT NULL,
  reported INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS handover_message ON handover(message, recipient COLLATE NOCASE);
CREATE INDEX IF NOT EXISTS handover_esp_id ON handover(esp_id, recipient COLLATE NOCASE) WHERE esp_id <> '';
CREATE TABLE IF NOT EXISTS event(
  id INTEGER PRIMARY KEY AUTOINCREMENT, smarthost TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL,
  esp_id TEXT NOT NULL, handover INTEGER, message INTEGER, sender TEXT NOT NULL, recipient TEXT NOT NULL,
  time INTEGER NOT NULL, received INTEGER NOT NULL, diagnostic TEXT NOT NULL, status TEXT NOT NULL,
  permanent INTEGER NOT NULL, dsn INTEGER NOT NULL, forward INTEGER NOT NULL, UNIQUE(smarthost, key));
CREATE INDEX IF NOT EXISTS event_message ON event(message);
CREATE INDEX IF NOT EXISTS event_received ON event(received);
CREATE INDEX IF NOT EXISTS event_dsn ON event(id) WHERE dsn = 1;
CREATE INDEX IF NOT EXISTS event_forward ON event(id) WHERE forward = 1;
CREATE INDEX IF NOT EXISTS event_complaint ON event(sender, received) WHERE kind = 'complained';
CREATE TABLE IF NOT EXISTS token(
  smarthost TEXT NOT NULL, token TEXT NOT NULL, received INTEGER NOT NULL, PRIMARY KEY(smarthost, token)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS token_received ON token(received);
)";

constexpr const char* handover_columns =
    "h.id, h.smarthost, h.esp_id, h.message, h.sender, h.recipient, h.class, h.user, h.accepted, h.time, h.envid, h.orcpt, "
    "h.utf8, h.dsn, h.reported";
constexpr int handover_width = 15;

std::int64_t number(routing::Time time) {
  return time.time_since_epoch().count();
}

routing::Time time_of(std::int64_t value) {
  return routing::Time(routing::Duration(value));
}

Handover read_handover(const Statement& row, int at) {
  Handover out;
  out.smarthost = row.text(at + 1);
  out.esp_id = row.text(at + 2);
  out.message = static_cast<smtp::MessageId>(row.integer(at + 3));
  out.sender = row.text(at + 4);
  out.recipient = row.text(at + 5);
  out.message_class = row.text(at + 6);
  out.user = row.text(at + 7);
  out.accepted = time_of(row.integer(at + 8));
  out.time = time_of(row.integer(at + 9));
  out.envid = row.text(at + 10);
  out.orcpt = row.text(at + 11);
  out.utf8 = row.integer(at + 12) != 0;
  out.dsn = row.integer(at + 13) != 0;
  return out;
}

/// SELECT of events with what they belong to; `rest` is WHERE and what follows.
std::string select_events(std::string_view rest) {
  return std::string("SELECT ") + handover_columns +
         ", e.id, e.smarthost, e.kind, e.esp_id, e.recipient, e.time, e.received, e.diagnostic, e.status, e.permanent "
         "FROM event e LEFT JOIN handover h ON h.id = e.handover " +
         std::string(rest);
}

EspRecord read_event(const Statement& row) {
  EspRecord out;
  if (!row.null(0)) out.handover = read_handover(row, 0);
  const int at = handover_width;
  out.id = row.integer(at);
  out.smarthost = row.text(at + 1);
  out.kind = routing::parse_esp_event_kind(row.text(at + 2)).value_or(EspEventKind::delivered);
  out.esp_id = row.text(at + 3);
  out.recipient = row.text(at + 4);
  out.time = time_of(row.integer(at + 5));
  out.received = time_of(row.integer(at + 6));
  out.diagnostic = row.text(at + 7);
  out.status = row.text(at + 8);
  out.permanent = row.integer(at + 9) != 0;
  return out;
}

std::vector<EspRecord> read_events(Statement& rows) {
  std::vector<EspRecord> out;
  while (rows.step()) out.push_back(read_event(rows));
  return out;
}

/// A DSN is for what never arrives: not for complaints, not for delays.
bool is_failure(const routing::EspEvent& event) {
  return event.permanent && (event.kind == EspEventKind::bounced || event.kind == EspEventKind::suppressed);
}

}  // namespace

EspStore::EspStore(const std::filesystem::path& file) : db_(file) {
  db_.execute(schema);
}

void EspStore::add(const std::vector<Handover>& handovers) {
  db::Transaction transaction(db_);
  Statement insert(db_,
                   "INSERT INTO handover(smarthost, esp_id, message, sender, recipient, class, user, accepted, time, envid, "
                   "orcpt, utf8, dsn) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  for (const Handover& h : handovers) {
    insert.reset();
    insert.bind(1, h.smarthost).bind(2, h.esp_id).bind(3, static_cast<std::int64_t>(h.message)).bind(4, h.sender);
    insert.bind(5, h.recipient).bind(6, h.message_class).bind(7, h.user).bind(8, number(h.accepted)).bind(9, number(h.time));
    insert.bind(10, h.envid).bind(11, h.orcpt).bind(12, std::int64_t{h.utf8}).bind(13, std::int64_t{h.dsn});
    insert.step();
  }
  transaction.commit();
}

/// By our own id first, then by the ESP's. A message with several recipients needs the right one; of a message with one it
/// is that one, however the ESP spells it. The latest handover wins: a message may have been handed over more than once.
std::optional<std::pair<std::int64_t, Handover>> EspStore::find(const std::string& smarthost, const routing::EspEvent& event,
                                                                bool* reported) {
  const auto first = [&](const std::string& condition, const auto& key) -> std::optional<std::pair<std::int64_t, Handover>> {
    for (const char* choice :
         {"h.recipient = ?3 COLLATE NOCASE",
          "?3 <> '' AND NOT EXISTS(SELECT 1 FROM handover o WHERE o.message = h.message AND o.smarthost = h.smarthost AND "
          "o.recipient <> h.recipient)"}) {
      Statement rows(db_, (std::string("SELECT ") + handover_columns + " FROM handover h WHERE " + condition +
                           " AND h.smarthost = ?2 AND " + choice + " ORDER BY h.id DESC LIMIT 1")
                              .c_str());
      rows.bind(1, key).bind(2, smarthost).bind(3, event.recipient);
      if (!rows.step()) continue;
      *reported = rows.integer(14) != 0;
      return std::pair{rows.integer(0), read_handover(rows, 0)};
    }
    return std::nullopt;
  };
  if (const auto ours = smtp::parse_message_id(event.our_id))
    if (auto found = first("h.message = ?1", static_cast<std::int64_t>(*ours))) return found;
  for (const std::string& id : event.esp_ids)
    if (auto found = first("h.esp_id = ?1 AND h.esp_id <> ''", id)) return found;
  return std::nullopt;
}

/// Nullopt when the event is known already.
std::optional<EspRecord> EspStore::insert(const EspDelivery& delivery, const routing::EspEvent& event, bool* work) {
  bool reported = false;
  const auto tie = find(delivery.smarthost, event, &reported);
  EspRecord out;
  out.smarthost = delivery.smarthost;
  out.kind = event.kind;
  out.esp_id = event.esp_ids.empty() ? "" : event.esp_ids.front();
  out.recipient = tie ? tie->second.recipient : event.recipient;
  out.time = event.time;
  out.received = delivery.received;
  out.diagnostic = event.diagnostic;
  out.status = event.status;
  out.permanent = event.permanent;
  if (tie) out.handover = tie->second;
  const bool dsn = delivery.dsn && tie && is_failure(event) && !reported && tie->second.dsn && !tie->second.sender.empty();
  const bool forward = std::ranges::find(delivery.forward, event.kind) != delivery.forward.end();
  Statement insert(db_,
                   "INSERT OR IGNORE INTO event(smarthost, key, kind, esp_id, handover, message, sender, recipient, time, "
                   "received, diagnostic, status, permanent, dsn, forward) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
  insert.bind(1, out.smarthost).bind(2, event.key).bind(3, to_string(out.kind)).bind(4, out.esp_id);
  if (tie)
    insert.bind(5, tie->first).bind(6, static_cast<std::int64_t>(tie->second.message)).bind(7, tie->second.sender);
  else
    insert.bind_null(5).bind_null(6).bind(7, "");
  insert.bind(8, out.recipient).bind(9, number(out.time)).bind(10, number(out.received)).bind(11, out.diagnostic);
  insert.bind(12, out.status).bind(13, std::int64_t{out.permanent}).bind(14, std::int64_t{dsn});
  insert.bind(15, std::int64_t{forward});
  insert.step();
  if (db_.changes() == 0) return std::nullopt;
  out.id = db_.last_row();
  if (dsn) {
    Statement mark(db_, "UPDATE handover SET reported = 1 WHERE message = ? AND recipient = ?");
    mark.bind(1, static_cast<std::int64_t>(tie->second.message)).bind(2, tie->second.recipient).step();
  }
  *work = *work || dsn || forward;
  return out;
}

EspTaken EspStore::take(const EspDelivery& delivery) {
  EspTaken out;
  db::Transaction transaction(db_);
  if (!delivery.token.empty()) {
    Statement token(db_, "INSERT OR IGNORE INTO token VALUES(?, ?, ?)");
    token.bind(1, delivery.smarthost).bind(2, delivery.token).bind(3, number(delivery.received)).step();
    out.token_used = db_.changes() == 0;
    if (out.token_used) return out;
  }
  for (const auto& event : delivery.events) {
    if (auto record = insert(delivery, event, &out.work))
      out.fresh.push_back(std::move(*record));
    else
      ++out.repeated;
  }
  transaction.commit();
  return out;
}

EspHistory EspStore::history(smtp::MessageId id) {
  EspHistory out;
  Statement rows(
      db_, (std::string("SELECT ") + handover_columns + " FROM handover h WHERE h.message = ? ORDER BY h.id LIMIT ?").c_str());
  rows.bind(1, static_cast<std::int64_t>(id)).bind(2, history_kept);
  while (rows.step()) out.handovers.push_back(read_handover(rows, 0));
  Statement events(db_, select_events("WHERE e.message = ? ORDER BY e.time, e.id LIMIT ?").c_str());
  events.bind(1, static_cast<std::int64_t>(id)).bind(2, history_kept);
  out.events = read_events(events);
  return out;
}

std::vector<EspRecord> EspStore::due(EspWork work, std::size_t most) {
  Statement rows(db_, select_events(work == EspWork::dsn ? "WHERE e.dsn = 1 ORDER BY e.id LIMIT ?"
                                                         : "WHERE e.forward = 1 ORDER BY e.id LIMIT ?")
                          .c_str());
  rows.bind(1, static_cast<std::int64_t>(most));
  return read_events(rows);
}

void EspStore::done(EspWork work, const std::vector<std::int64_t>& ids) {
  db::Transaction transaction(db_);
  Statement mark(db_,
                 work == EspWork::dsn ? "UPDATE event SET dsn = 0 WHERE id = ?" : "UPDATE event SET forward = 0 WHERE id = ?");
  for (const std::int64_t id : ids) {
    mark.reset();
    mark.bind(1, id).step();
  }
  transaction.commit();
}

std::int64_t EspStore::complaints(const std::string& sender, routing::Time since) {
  Statement count(db_, "SELECT COUNT(*) FROM event WHERE kind = 'complained' AND sender = ? AND received >= ?");
  count.bind(1, sender).bind(2, number(since)).step();
  return count.integer(0);
}

bool EspStore::clean(routing::Time before, routing::Time tokens_before, std::int64_t most) {
  bool more = false;
  db::Transaction transaction(db_);
  const auto forget = [&](const char* sql, std::int64_t limit) {
    Statement statement(db_, sql);
    statement.bind(1, limit).bind(2, cleaned_at_once).step();
    more = more || db_.changes() >= cleaned_at_once;
  };
  // Handovers are numbered in order, and so nearly in the order of time.
  forget("DELETE FROM handover WHERE id IN (SELECT id FROM (SELECT id, time FROM handover ORDER BY id LIMIT ?2) WHERE time < ?1)",
         number(before));
  forget(
      "DELETE FROM handover WHERE id IN (SELECT id FROM handover WHERE id <= (SELECT MAX(id) FROM handover) - ? ORDER BY id "
      "LIMIT ?)",
      most);
  forget("DELETE FROM event WHERE id IN (SELECT id FROM event WHERE received < ? LIMIT ?)", number(before));
  // An event for each of five kinds and recipient is more than anybody reports.
  forget("DELETE FROM event WHERE id IN (SELECT id FROM event WHERE id <= (SELECT MAX(id) FROM event) - ? ORDER BY id LIMIT ?)",
         most * 5);
  forget("DELETE FROM token WHERE (smarthost, token) IN (SELECT smarthost, token FROM token WHERE received < ? LIMIT ?)",
         number(tokens_before));
  transaction.commit();
  return more;
}

}  // namespace egret::relay
