#include "relay/cli/print.hpp"

#include <algorithm>
#include <array>
#include <boost/json.hpp>
#include <cstdio>
#include <vector>

#include "relay/cli/table.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;

std::string text(const json::value& value) {
  if (value.is_string()) return json::value_to<std::string>(value);
  if (value.is_null()) return "-";
  if (value.is_array()) {
    std::string out;
    for (const auto& item : value.as_array()) out += (out.empty() ? "" : ",") + text(item);
    return out.empty() ? "-" : out;
  }
  if (value.is_double()) {
    std::array<char, 32> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "%.2f", value.as_double());
    return buffer.data();
  }
  return json::serialize(value);
}

std::string get(const json::value& row, const char* key) {
  const auto* object = row.if_object();
  const auto* value = object ? object->if_contains(key) : nullptr;
  if (!value) return "-";
  const std::string out = text(*value);
  return out.empty() ? "-" : out;
}

std::string table(const json::value& rows, const std::vector<std::pair<std::string, const char*>>& columns) {
  std::vector<std::string> head;
  for (const auto& [title, key] : columns) head.push_back(title);
  Table out(std::move(head));
  for (const auto& row : rows.as_array()) {
    std::vector<std::string> line;
    for (const auto& [title, key] : columns) line.push_back(get(row, key));
    out.add(std::move(line));
  }
  return out.str();
}

/// {"USD": 1.2}: for people.
std::string money(const json::value& cost) {
  std::string out;
  for (const auto& [currency, amount] : cost.as_object()) {
    std::array<char, 48> buffer{};
    std::snprintf(buffer.data(), buffer.size(), "%.6g", amount.to_number<double>());
    out += (out.empty() ? "" : " + ") + std::string(buffer.data()) + " " + std::string(currency);
  }
  return out.empty() ? "-" : out;
}

std::string spent(const json::value& value) {
  const std::string cost = money(value.at("cost"));
  return get(value, "recipients") + " recipients" + (cost == "-" ? "" : ", " + cost);
}

std::string limits(const json::value& value) {
  std::string out;
  for (const auto& limit : value.as_array())
    out += (out.empty() ? "" : "; ") + get(limit, "budget") + " (used " + get(limit, "used") + ", left " + get(limit, "left") +
           " until " + get(limit, "period_ends") + ")";
  return out;
}

}  // namespace

std::string print_sources(const json::value& value) {
  std::string out = table(value, {{"SOURCE", "name"},
                                  {"ADDRESS", "address"},
                                  {"POOLS", "pools"},
                                  {"STANDING", "standing"},
                                  {"SHARE", "share"},
                                  {"SCORE", "score"},
                                  {"SENT", "sent"},
                                  {"BLOCKED", "blocked"},
                                  {"REASON", "reason"}});
  for (const auto& source : value.as_array()) {
    for (const auto& [name, provider] : source.at("providers").as_object())
      out += "  " + get(source, "name") + " with " + std::string(name) + ": " + get(provider, "standing") + " until " +
             get(provider, "until") + " (" + get(provider, "reason") + ")\n";
    for (const auto& listing : source.at("listings").as_array())
      out += "  " + get(source, "name") + " listed by " + get(listing, "blocklist") + " " + get(listing, "codes") + " since " +
             get(listing, "first_seen") + " removal: " + get(listing, "delist") + "\n";
    if (const auto* dns = source.as_object().if_contains("dns"); dns && dns->is_object())
      for (const auto& problem : dns->at("problems").as_array())
        out += "  " + get(source, "name") + " DNS: " + text(problem) + "\n";
  }
  return out;
}

std::string print_pools(const json::value& value) {
  std::string out;
  for (const auto& pool : value.as_array()) {
    out += get(pool, "name") + " (classes: " + get(pool, "classes") + "; when exhausted: " + get(pool, "when_exhausted") +
           "; fallback: " + get(pool, "fallback") + ")" + (pool.at("exhausted").as_bool() ? " EXHAUSTED" : "") + "\n";
    for (const auto& source : pool.at("sources").as_array())
      out += "  " + get(source, "source") + " weight " + get(source, "weight") + " share " + get(source, "share") + " " +
             get(source, "standing") + "\n";
    const auto& today = pool.at("failover_today");
    for (const auto& [name, host] : today.at("by_smarthost").as_object()) {
      out += "  " + std::string(name) + " today: " + spent(host);
      const auto& left = host.at("left");
      if (left.is_object()) out += "; left: " + get(left, "recipients") + " recipients until " + get(left, "period_ends");
      out += "\n";
    }
    for (const auto& [name, budget] : pool.at("class_budgets").as_object())
      out += "  budget of class " + std::string(name) + ": " + limits(budget) + "\n";
    if (!today.at("by_smarthost").as_object().empty()) out += "  today's failover cost: " + spent(today) + "\n";
  }
  return out;
}

std::string print_smarthosts(const json::value& value) {
  Table out({"SMARTHOST", "PROVIDER", "STATE", "UNTIL", "USED", "LEFT", "BUDGET", "RATE", "COST", "TODAY", "ACCOUNT", "SENT",
             "REFUSED", "REASON"});
  for (const auto& host : value.as_array()) {
    std::string budget;
    for (const auto& limit : host.at("limits").as_array()) budget += (budget.empty() ? "" : ", ") + get(limit, "budget");
    const bool asked = host.at("account").is_object() && !host.at("account").at("quota_24h").is_null();
    out.add({get(host, "name"), get(host, "provider"), get(host, "state"), get(host, "until"), get(host.at("used"), "recipients"),
             get(host.at("left"), "recipients"), budget.empty() ? "-" : budget, get(host, "rate"), get(host, "cost"),
             money(host.at("today").at("cost")),
             asked ? get(host.at("account"), "sent_24h") + "/" + get(host.at("account"), "quota_24h") : "-", get(host, "sent"),
             get(host, "refused"), get(host, "reason")});
  }
  return out.str();
}

std::string print_readiness(const json::value& value) {
  Table out({"SMARTHOST", "DOMAIN", "READY", "CHECKED", "REASON"});
  for (const auto& host : value.as_array()) {
    const auto trial = [&](const char* what) {
      const json::value& found = host.at(what);
      const bool tried = !found.at("worked").is_null() || !found.at("failed").is_null();
      if (!tried) return;
      const std::string worked = get(found, "worked"), failed = get(found, "failed");
      const bool good = found.at("failed").is_null() || (!found.at("worked").is_null() && worked >= failed);
      out.add({get(host, "name"), std::string("(") + what + ")", good ? "true" : "false", good ? worked : failed,
               get(found, "text")});
    };
    trial("login");
    trial("canary");
    for (const auto& entry : host.at("readiness").as_array())
      out.add({get(host, "name"), get(entry, "domain"), get(entry, "ready"), get(entry, "checked"), get(entry, "reason")});
  }
  return out.str();
}

std::string print_blocklists(const json::value& value) {
  return table(value, {{"LIST", "name"},
                       {"ZONE", "zone"},
                       {"STATE", "state"},
                       {"ROLE", "role"},
                       {"WEIGHT", "weight"},
                       {"LISTED", "listed"},
                       {"EVERY", "every"},
                       {"QUERIES", "queries"},
                       {"CHECKED", "last_checked"},
                       {"REASON", "reason"}});
}

std::string print_senders(const json::value& value) {
  return table(value, {{"SENDER", "sender"},
                       {"STATE", "state"},
                       {"SINCE", "since"},
                       {"POISON", "poison"},
                       {"CONTENT", "content"},
                       {"REASON", "reason"}});
}

std::string print_users(const json::value& value) {
  Table out({"USER", "STATE", "SINCE", "THIS HOUR", "USUAL PEAK", "DELIVERED", "UNKNOWN", "CONTENT", "BLOCKED", "COMPLAINTS",
             "REASON"});
  for (const auto& user : value.as_array()) {
    const auto& day = user.at("day");
    const bool observed = user.at("observed").as_bool();
    out.add({get(user, "user"), get(user, "state") + (observed ? " (observed)" : ""), get(user, "since"), get(user, "recipients"),
             get(user, "usual_peak"), get(day, "delivered"), get(day, "unknown"), get(day, "content"), get(day, "blocked"),
             get(day, "complaints"), get(user, "reason")});
  }
  return out.str();
}

namespace {

std::vector<std::string> sender_line(std::string name, const json::value& counts) {
  std::string labels;
  for (const auto& [label, n] : counts.at("rejects").as_object())
    labels += (labels.empty() ? "" : ", ") + std::string(label) + ' ' + text(n);
  return {std::move(name),        get(counts, "messages"),   get(counts, "recipients"),    get(counts, "delivered"),
          get(counts, "bounced"), get(counts, "complaints"), labels.empty() ? "-" : labels};
}

}  // namespace

std::string print_top_senders(const json::value& value) {
  const std::string by = get(value, "by");
  const std::vector<std::string> columns{"MESSAGES", "RECIPIENTS", "DELIVERED", "BOUNCED", "COMPLAINTS", "REJECTS"};
  const auto head = [&](const std::string& first) {
    std::vector<std::string> out{first};
    out.insert(out.end(), columns.begin(), columns.end());
    return out;
  };
  Table senders(head(by == "user" ? "USER" : by == "sender" ? "SENDER" : by == "domain" ? "DOMAIN" : "NETWORK"));
  for (const auto& row : value.at("senders").as_array()) {
    const std::string name = text(row.at("name"));
    senders.add(sender_line(!name.empty() ? name : by == "user" ? "(no log-in)" : "<>", row));
  }
  senders.add(sender_line("(others)", value.at("others")));
  senders.add(sender_line("(all)", value.at("all")));
  Table hours(head("HOUR"));
  for (const auto& hour : value.at("all").at("hourly").as_array()) hours.add(sender_line(get(hour, "hour"), hour));
  std::string out = senders.str() + "\n" + hours.str();
  if (const auto* guarded = value.as_object().if_contains("guarded"); guarded && !guarded->as_array().empty())
    out += "\n" + print_senders(*guarded);
  return out;
}

std::string print_queue(const json::value& value) {
  std::string out =
      get(value, "total") + " waiting, " + get(value, "held") + " held, oldest " + get(value, "oldest_age_s") + " s\n";
  const auto counts = [&](const char* title, const char* key) {
    for (const auto& [name, n] : value.at(key).as_object())
      out += std::string(title) + " " + std::string(name) + ": " + text(n) + "\n";
  };
  counts("class", "by_class");
  counts("site", "by_site");
  counts("egress", "by_egress");
  if (!value.at("messages").as_array().empty())
    out += table(value.at("messages"), {{"ID", "id"},
                                        {"CLASS", "class"},
                                        {"STATE", "state"},
                                        {"AGE", "age_s"},
                                        {"TRIES", "attempts"},
                                        {"SENDER", "sender"},
                                        {"SITE", "site"},
                                        {"EGRESS", "egress"},
                                        {"NEXT", "next_at"},
                                        {"REASON", "reason"}});
  return out;
}

std::string print_message(const json::value& value) {
  std::string out =
      get(value, "id") + " class " + get(value, "class") + " from " + get(value, "sender") + ": " + get(value, "state") + "\n";
  for (const auto& r : value.at("recipients").as_array())
    out += "  " + get(r, "address") + ": " + get(r, "state") + " " + get(r, "reply") + "\n";
  for (const auto& a : value.at("attempts").as_array())
    out += "  " + get(a, "time") + " " + get(a, "outcome") + " by " + get(a, "egress") + " at " + get(a, "host") + ": " +
           get(a, "reply") + " [" + get(a, "label") + " " + get(a, "rule") + "] route: " + get(a, "route") + "\n";
  return out;
}

std::string print_events(const json::value& value) {
  return table(value.at("events"), {{"TIME", "time"},
                                    {"KIND", "kind"},
                                    {"SOURCE", "source"},
                                    {"PROVIDER", "provider"},
                                    {"LIST", "blocklist"},
                                    {"FROM", "from"},
                                    {"TO", "to"},
                                    {"RULE", "rule"},
                                    {"TEXT", "text"},
                                    {"ACTION", "action"}});
}

std::string print_unknown_replies(const json::value& value) {
  return table(value.at("replies"), {{"COUNT", "count"}, {"LAST SEEN", "last_seen"}, {"PROVIDER", "provider"}, {"TEXT", "text"}});
}

std::string print_route(const json::value& value) {
  if (const auto* parts = value.as_object().if_contains("parts")) {
    std::string all = "message " + get(value, "id") + " from " + get(value, "sender") + "\n";
    for (const auto& part : parts->as_array()) {
      all += "to " + get(part, "recipients") + ": " + get(part, "state") + ", " + get(part, "attempts") + " attempts";
      if (!part.at("next_at").is_null()) all += ", next at " + get(part, "next_at");
      if (!part.at("keeps_to").is_null()) all += ", keeps to " + get(part, "keeps_to");
      all += (get(part, "last_reply") == "-" ? "" : ", last reply " + get(part, "last_reply")) + "\n" + print_route(part);
    }
    return all;
  }
  std::string out =
      "site " + get(value, "site") + " (provider " + get(value, "provider") + "), class " + get(value, "class") + "\n";
  int rank = 1;
  for (const auto& c : value.at("candidates").as_array())
    out += "  " + std::to_string(rank++) + ". " + get(c, "egress") + " (" + get(c, "kind") + ", share " + get(c, "share") + ")\n";
  for (const auto& r : value.at("rejected").as_array())
    out += "  not " + get(r, "egress") + ": " + get(r, "reason") + (r.at("until").is_null() ? "" : " until " + get(r, "until")) +
           "\n";
  if (value.at("hold").is_object())
    out += "  hold: " + get(value.at("hold"), "reason") +
           (value.at("hold").at("until").is_null() ? "" : " until " + get(value.at("hold"), "until")) + "\n";
  if (const auto* notes = value.as_object().if_contains("notes"))
    for (const auto& note : notes->as_array()) out += "  note: " + text(note) + "\n";
  if (const auto* lists = value.as_object().if_contains("consults"); lists && !lists->as_array().empty())
    out += "  the provider is known to consult: " + text(*lists) + "\n";
  if (const auto* tls = value.as_object().if_contains("tls"))
    for (const auto& t : tls->as_array())
      out += "  tls to " + get(t, "host") + ": " + get(t, "policy") + (get(t, "reason") == "-" ? "" : ", " + get(t, "reason")) +
             "\n";
  return out;
}

}  // namespace egret::relay
