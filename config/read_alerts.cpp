#include "config/read_alerts.hpp"

#include <algorithm>
#include <charconv>
#include <fstream>

#include "routing/address.hpp"
#include "routing/event_kinds.hpp"
#include "smtp/text.hpp"

namespace egret::config {
namespace {

using namespace std::chrono_literals;
using routing::IpAddress;

constexpr std::size_t max_url = 2048;
constexpr std::size_t max_targets = 32;

bool loopback(const std::string& host) {
  if (host == "localhost") return true;
  const auto address = IpAddress::parse(host);
  if (!address) return false;
  const IpAddress plain = address->unmapped();
  return plain.v6 ? plain == *IpAddress::parse("::1") : plain.bytes[0] == 127;
}

/// RFC 3986: what may stand in a path or query; everything else is percent-encoded.
bool url_octet(unsigned char c) {
  return std::isalnum(c) || std::string_view("-._~!$&'()*+,;=:@/?%").find(static_cast<char>(c)) != std::string_view::npos;
}

/// "host", "host:port", "[::1]:port" into `url`.
bool read_authority(std::string_view text, WebhookUrl& url) {
  std::string_view port;
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return false;
    url.host = text.substr(1, end - 1);
    const auto address = IpAddress::parse(url.host);
    if (!address || !address->v6) return false;
    port = text.substr(end + 1);
  } else {
    const auto colon = text.find(':');
    url.host = smtp::lower(text.substr(0, colon));
    if (!smtp::valid_domain(url.host, false)) return false;
    port = colon == std::string_view::npos ? std::string_view{} : text.substr(colon);
  }
  if (port.empty()) return true;
  const auto [end, error] = std::from_chars(port.data() + 1, port.data() + port.size(), url.port);
  return port.front() == ':' && error == std::errc{} && end == port.data() + port.size() && url.port > 0;
}

std::optional<smtp::Address> address(Section& s, std::string_view key, const std::string& text) {
  auto out = smtp::parse_mailbox(text, false);
  if (!out) s.problem(key, "expected an address such as ops@example.com");
  return out;
}

AlertMail read_mail(Section& s, const std::string& to, const Config& config) {
  AlertMail out;
  if (const auto parsed = address(s, "mail", to)) out.to = *parsed;
  std::string from, name;
  s.text("from", from);
  if (!from.empty()) out.from = address(s, "from", from);
  s.text("class", name);
  if (name.empty()) return out;
  if (const auto index = config.class_named(name))
    out.message_class = *index;
  else
    s.problem("class", "no class is called " + name);
  return out;
}

void read_kinds(Section& s, AlertTarget& out) {
  if (!s.take("on")) {
    for (const auto& kind : routing::event_kinds())
      if (kind.alerts) out.on.emplace(kind.name);
    return;
  }
  std::vector<std::string> names;
  s.texts("on", names);
  for (const auto& name : names) {
    if (routing::find_event_kind(name)) {
      out.on.insert(name);
      continue;
    }
    std::string known;
    for (const auto& kind : routing::event_kinds()) known += (known.empty() ? "" : ", ") + std::string(kind.name);
    s.problem("on", "no event is called " + name + ": expected some of " + known);
  }
  if (names.empty()) s.problem("on", "expected at least one kind of event");
}

}  // namespace

std::string WebhookUrl::authority() const {
  std::string out = host.find(':') == std::string::npos ? host : '[' + host + ']';
  if (port != (tls ? 443 : 80)) out += ':' + std::to_string(port);
  return out;
}

std::optional<WebhookUrl> parse_webhook_url(std::string_view text, std::string& why) {
  WebhookUrl out;
  why = "expected an address such as https://hooks.example.com/egret";
  if (text.size() > max_url) return std::nullopt;
  if (smtp::istarts_with(text, "https://")) {
    text.remove_prefix(8);
  } else if (smtp::istarts_with(text, "http://")) {
    text.remove_prefix(7);
    out.tls = false;
    out.port = 80;
  } else {
    return std::nullopt;
  }
  const auto slash = std::min(text.find_first_of("/?#"), text.size());
  const std::string_view authority = text.substr(0, slash);
  const std::string_view target = text.substr(slash);
  if (authority.find('@') != std::string_view::npos) {
    why = "a user name is not supported: the signature tells the receiver who it is";
    return std::nullopt;
  }
  if (!read_authority(authority, out)) return std::nullopt;
  if (!std::ranges::all_of(target, url_octet)) {
    why = "expected a path and query without fragment, other characters percent-encoded";
    return std::nullopt;
  }
  if (!out.tls && !loopback(out.host)) {
    why = "http is for loopback addresses only: use https";
    return std::nullopt;
  }
  out.target = (target.starts_with('/') ? "" : "/") + std::string(target);
  return out;
}

Webhook read_webhook(Section& s, const std::string& url) {
  Webhook out;
  std::string why;
  // The text may hold a secret, so the problem does not repeat it.
  if (const auto parsed = parse_webhook_url(url, why))
    out.url = *parsed;
  else
    s.problem("webhook", why);
  s.required_text("secret", out.secret);
  s.text("ca", out.ca);
  if (!out.ca.empty() && !out.url.tls) s.problem("ca", "plain http has no certificate");
  if (!out.ca.empty() && !std::ifstream(out.ca)) s.problem("ca", "cannot be read");
  s.duration("timeout", out.timeout);
  if (out.timeout < 100ms || out.timeout > 1min) s.problem("timeout", "expected 100ms to 1m");
  s.duration("max_age", out.max_age);
  if (out.max_age < 1s || out.max_age > 24h) s.problem("max_age", "expected 1s to 1d");
  return out;
}

void read_alerts(Section& root, Config& config) {
  root.sections("alerts", [&](Section& s) {
    AlertTarget out;
    std::string webhook, mail;
    s.text("webhook", webhook);
    s.text("mail", mail);
    read_kinds(s, out);
    if (webhook.empty() == mail.empty()) s.problem("", "expected either webhook or mail");
    if (!webhook.empty()) out.webhook = read_webhook(s, webhook);
    if (!mail.empty()) out.mail = read_mail(s, mail, config);
    config.alerts.push_back(std::move(out));
  });
  if (config.alerts.size() > max_targets) root.problem("alerts", "expected at most " + std::to_string(max_targets));
}

}  // namespace egret::config
