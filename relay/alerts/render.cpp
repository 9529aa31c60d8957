#include "relay/alerts/render.hpp"

#include <algorithm>
#include <boost/json.hpp>

#include "smtp/scram.hpp"
#include "smtp/text.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;

constexpr std::size_t max_text = 1000;  // of one field: remote words may be long

std::string one_line(std::string_view text, std::size_t limit = max_text) {
  return std::string(smtp::cut_text(smtp::printable(text), limit));
}

std::string join(const std::vector<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

std::string counted(const std::map<std::string, std::uint64_t>& counts) {
  std::string out;
  for (const auto& [kind, n] : counts)
    out += (out.empty() ? "" : ", ") + kind + ' ' + std::to_string(n) + (n == 1 ? " time" : " times");
  return out;
}

std::string summarize(const Alert& alert) {
  const Event& e = alert.event;
  std::string out = e.kind, about;
  const auto part = [&](std::string_view word, const std::string& value) {
    if (!value.empty()) about += (about.empty() ? "" : ", ") + std::string(word) + ' ' + value;
  };
  part("source", e.source);
  part("pool", e.pool);
  part("smarthost", e.smarthost);
  part("provider", e.provider);
  part("blocklist", e.blocklist);
  part("sender", e.sender);
  part("message", e.message);
  if (!about.empty()) out += ": " + about;
  switch (alert.phase) {
    case Alert::Phase::opened:
    case Alert::Phase::changed:
      break;
    case Alert::Phase::flapping:
      out += " (goes back and forth)";
      break;
    case Alert::Phase::repeated:
      out += " (again: " + counted(alert.counts) + ")";
      break;
    case Alert::Phase::settled:
      out += " (quiet again: " + counted(alert.counts) + ")";
      break;
  }
  return one_line(out, 300);
}

/// What follows from the standing that a source has now; empty where `to` is none.
std::string did_to_source(const Event& e, const config::Config& config, const std::vector<std::string>& pools) {
  const std::string with = e.provider.empty() ? "" : " to " + e.provider;
  const bool out = e.to == "listed" || e.to == "blocked" || e.to == "misconfigured" || e.to == "drained";
  if (out && config.reputation.observe) return "nothing: reputation.mode is observe";
  if (out) {
    std::string text = "this source carries no mail" + with;
    if (!pools.empty()) text += "; what its pools (" + join(pools) + ") have goes by their other ways out";
    return text;
  }
  if (e.to == "trial") return "one message at a time goes" + with + " by this source until enough are delivered";
  if (e.to == "warming") return "the share of this source" + with + " grows in steps";
  if (e.to == "clean" || e.to == "unknown") return "this source has its full share again" + with;
  if (e.to == "throttled") return "fewer connections of this source" + with + " until it recovers";
  return {};
}

/// These events say under `action` what Egret did by itself.
bool action_is_ours(std::string_view kind) {
  return kind == "pool-exhausted" || kind == "smarthost-rests" || kind == "smarthost-login" || kind == "smarthost-sender" ||
         kind == "list-down";
}

std::string advice(const Event& e) {
  if (e.kind == "pool-exhausted")
    return "see `egret sources` for what keeps each source out; a pool with fallback smarthosts goes on sending";
  if (e.kind == "smarthost-rests") return "see the reason and the account at the provider";
  if (e.kind == "smarthost-login")
    return "the password was changed there, or the account is closed: see the login in the configuration";
  if (e.kind == "smarthost-sender") return "verify the sender's domain at the provider, or mail of it does not go that way";
  if (e.kind == "list-down") return "see whether the list still works and answers this resolver; `egret blocklists` shows all";
  return {};
}

bool concerns(const Event& e, const routing::PoolInfo& pool, const routing::Topology& topology) {
  if (!e.pool.empty()) return pool.name == e.pool;
  if (!e.source.empty())
    return std::ranges::any_of(pool.sources, [&](std::uint32_t s) { return topology.sources[s].name == e.source; });
  if (!e.smarthost.empty())
    return std::ranges::any_of(pool.fallback, [&](std::uint32_t s) { return topology.smarthosts[s] == e.smarthost; });
  return false;
}

void add_line(std::string& out, std::string_view label, const std::string& text) {
  if (text.empty()) return;
  std::string line = "  " + std::string(label) + ":";
  line.resize(std::max<std::size_t>(line.size() + 1, 14), ' ');
  out += line + one_line(text, 900) + "\r\n";  // below the 998 octets of RFC 5322 section 2.1.1
}

std::string queue_text(const Notice& n) {
  std::string out;
  for (const auto& [name, count] : n.queue) out += (out.empty() ? "" : ", ") + name + ' ' + std::to_string(count);
  return out;
}

std::string paragraph(const Notice& n) {
  const Alert& a = n.alert;
  std::string out = n.summary + "\r\n";
  add_line(out, "Time", routing::to_rfc3339(a.event.time));
  add_line(out, "Seen", a.event.text);
  add_line(out, "Rule", a.event.rule);
  if (!a.event.from.empty()) add_line(out, "Standing", a.event.from + " -> " + a.event.to);
  add_line(out, "Egret did", n.did);
  add_line(out, "Pools", join(n.pools));
  add_line(out, "Classes", join(n.classes));
  add_line(out, "Waiting", queue_text(n));
  add_line(out, "You can", n.action);
  add_line(out, "Removal", n.delist);
  if (a.phase != Alert::Phase::opened)
    add_line(out, "So far", counted(a.counts) + " from " + routing::to_rfc3339(a.first) + " to " + routing::to_rfc3339(a.last));
  if (a.phase == Alert::Phase::flapping) add_line(out, "Note", "further turns are counted and summed up once it is quiet");
  add_line(out, "Alert", a.id + '/' + std::to_string(a.sequence));
  return out;
}

std::string ascii(std::string text) {
  std::ranges::replace_if(
      text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; }, '?');
  return text;
}

}  // namespace

Notice describe(const Alert& alert, const config::Config& config, const QueueCounts& queue) {
  const Event& e = alert.event;
  Notice out;
  out.alert = alert;
  out.summary = summarize(alert);
  for (std::size_t i = 0; i < config.topology.pools.size(); ++i) {
    const auto& pool = config.topology.pools[i];
    if (!concerns(e, pool, config.topology)) continue;
    out.pools.push_back(pool.name);
    for (std::uint32_t c = 0; c < config.classes.size(); ++c) {
      if (config.classes[c].pool != i) continue;
      out.classes.push_back(config.classes[c].name);
      const auto waiting = queue.find(c);
      out.queue[config.classes[c].name] = waiting == queue.end() ? 0 : waiting->second;
    }
  }
  if (const auto list = config.blocklists.find(e.blocklist); list != config.blocklists.end() && e.kind == "listed")
    out.delist = list->second.delist;
  if (!e.source.empty()) {
    out.did = did_to_source(e, config, out.pools);
    out.action = e.action;
  } else {
    out.did = action_is_ours(e.kind) ? e.action : "";
    out.action = action_is_ours(e.kind) ? advice(e) : e.action;
  }
  return out;
}

std::string to_json(const Notice& n, const std::string& hostname) {
  const Event& e = n.alert.event;
  const auto text = [](const std::string& value) { return json::value(one_line(value)); };
  json::object counts, queue;
  for (const auto& [kind, count] : n.alert.counts) counts[kind] = count;
  for (const auto& [name, count] : n.queue) queue[name] = count;
  return json::serialize(json::object{
      {"version", 1},
      {"alert", n.alert.id},
      {"sequence", n.alert.sequence},
      {"phase", to_string(n.alert.phase)},
      {"host", hostname},
      {"time", routing::to_rfc3339(e.time)},
      {"kind", e.kind},
      {"summary", n.summary},
      {"source", text(e.source)},
      {"provider", text(e.provider)},
      {"smarthost", text(e.smarthost)},
      {"blocklist", text(e.blocklist)},
      {"sender", text(e.sender)},
      {"message", text(e.message)},
      {"from", e.from},
      {"to", e.to},
      {"seen", text(e.text)},
      {"rule", text(e.rule)},
      {"did", text(n.did)},
      {"action", text(n.action)},
      {"delist", text(n.delist)},
      {"concerns",
       json::object{{"pools", json::value_from(n.pools)}, {"classes", json::value_from(n.classes)}, {"queue", queue}}},
      {"counts", counts},
      {"first", routing::to_rfc3339(n.alert.first)},
      {"last", routing::to_rfc3339(n.alert.last)},
  });
}

std::string webhook_signature(std::string_view secret, std::string_view timestamp, std::string_view body) {
  const std::string mac = smtp::hmac_sha256(secret, std::string(timestamp) + '.' + std::string(body));
  std::string out = "sha256=";
  for (const unsigned char c : mac) {
    out += "0123456789abcdef"[c >> 4];
    out += "0123456789abcdef"[c & 15];
  }
  return out;
}

std::string to_mail(const std::vector<Notice>& notices, const AlertMessage& message) {
  std::string text = "This is the mail relay at " + message.hostname + ".\r\n";
  // No line begins with a dot: labels are indented, and a summary begins with a kind.
  for (const auto& notice : notices) text += "\r\n" + paragraph(notice);
  if (message.left_out > 0)
    text += "\r\n" + std::to_string(message.left_out) + " more alerts are not shown: see `egret events`.\r\n";
  std::string subject = "[" + message.hostname + "] " + (notices.empty() ? "alerts" : notices.front().summary);
  const std::uint64_t more = notices.size() + message.left_out - std::min<std::uint64_t>(1, notices.size());
  if (more > 0) subject += " (and " + std::to_string(more) + " more)";
  const bool eight_bit = std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
  std::string out = "From: Egret <" + message.from + ">\r\n";
  out += "To: <" + message.to + ">\r\n";
  out += "Subject: " + ascii(one_line(subject, 700)) + "\r\n";
  out += "Date: " + smtp::rfc5322_date(message.time) + "\r\n";
  out += "Message-ID: <" + smtp::to_string(message.id) + "@" + message.hostname + ">\r\n";
  out += "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n";
  if (eight_bit) out += "Content-Transfer-Encoding: 8bit\r\n";
  return out + "\r\n" + text;
}

}  // namespace egret::relay
