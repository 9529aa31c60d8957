#include "config/read_esp_events.hpp"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <sstream>

#include "config/esp_events.hpp"
#include "config/read_alerts.hpp"
#include "smtp/text.hpp"

namespace egret::config {
namespace {

using namespace std::chrono_literals;
using routing::EspEventKind;
using routing::EspFormat;
using routing::IpAddress;

constexpr std::size_t max_topics = 16;
constexpr std::size_t min_secret = 8;

/// "mailgun-eu" speaks as "mailgun" does.
std::optional<EspFormat> format_of(const std::string& preset) {
  return routing::parse_esp_format(preset.substr(0, preset.find('-')));
}

void format(Section& s, const std::string& preset, EspEvents& out) {
  std::string name;
  s.text("format", name);
  const auto parsed = name.empty() ? format_of(preset) : routing::parse_esp_format(name);
  if (parsed)
    out.format = *parsed;
  else if (name.empty())
    s.problem("format", "is required where the provider is " + preset + ": ses, sendgrid, mailgun, postmark or sparkpost");
  else
    s.problem("format", "expected ses, sendgrid, mailgun, postmark or sparkpost");
}

void ses(Section& s, EspEvents& out) {
  s.texts("topic", out.topics);
  if (out.topics.empty()) s.problem("topic", "is required: the ARN of the SNS topic, or several");
  if (out.topics.size() > max_topics) s.problem("topic", "expected at most " + std::to_string(max_topics));
  for (const auto& topic : out.topics)
    if (smtp::sns_topic_region(topic).empty()) s.problem("topic", topic + ": expected arn:aws:sns:REGION:ACCOUNT:NAME");
  std::string file, error;
  s.text("certificate", file);
  if (file.empty()) return;
  std::ifstream in(file, std::ios::binary);
  std::ostringstream pem;
  if (!in) return s.problem("certificate", "cannot be read");
  pem << in.rdbuf();
  out.certificate = pem.str();
  out.key = smtp::VerifyingKey::certificate(out.certificate, error);
  if (!out.key) s.problem("certificate", error);
}

/// ESPs that sign nothing show a secret: a user name and password, or a field of the header.
void shown_secret(Section& s, EspEvents& out) {
  s.text("username", out.username);
  s.text("password", out.password);
  s.text("header", out.header);
  s.text("secret", out.secret);
  if (out.username.empty() != out.password.empty()) s.problem("password", "user name and password go together");
  if (out.header.empty() != out.secret.empty()) s.problem("secret", "header and secret go together");
  if (out.password.empty() == out.secret.empty())
    s.problem("", "expected username and password, or header and secret: without them anybody could report bounces");
  if (out.username.find(':') != std::string::npos) s.problem("username", "must not contain ':'");
  const auto token = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_'; };
  if (!std::ranges::all_of(out.header, token)) s.problem("header", "expected a field name such as X-Egret-Secret");
  for (const char* key : {"password", "secret"}) {
    const std::string& value = key[0] == 'p' ? out.password : out.secret;
    if (!value.empty() && value.size() < min_secret) s.problem(key, "expected at least 8 characters");
  }
}

void own_keys(Section& s, EspEvents& out) {
  std::string text, error;
  switch (out.format) {
    case EspFormat::ses:
      out.max_age = 1h;
      return ses(s, out);
    case EspFormat::sendgrid:
      s.required_text("public_key", text);
      if (!text.empty()) out.key = smtp::VerifyingKey::p256(text, error);
      if (!text.empty() && !out.key) s.problem("public_key", error);
      return;
    case EspFormat::mailgun:
      return s.required_text("signing_key", out.signing_key);
    case EspFormat::postmark:
    case EspFormat::sparkpost:
      return shown_secret(s, out);
  }
}

void allow(Section& s, EspEvents& out) {
  std::vector<std::string> texts;
  s.texts("allow", texts);
  for (const auto& text : texts) {
    std::string why;
    if (const auto network = routing::Network::parse(text, &why))
      out.allow.push_back(*network);
    else
      s.problem("allow", text + ": " + why);
  }
}

bool loopback(const IpAddress& address) {
  const IpAddress plain = address.unmapped();
  return plain.v6 ? plain == *IpAddress::parse("::1") : plain.bytes[0] == 127;
}

void tls(Section& s, EventListener& out) {
  Section t = s.section("tls");
  if (!t.present()) {
    if (out.port != 0 && !loopback(out.ip)) s.problem("tls", "is required: without TLS only a loopback address may listen");
    return;
  }
  t.required_text("certificate", out.certificate);
  t.required_text("key", out.key);
  for (const char* key : {"certificate", "key"}) {
    const std::string& path = key[0] == 'c' ? out.certificate : out.key;
    if (!path.empty() && !std::ifstream(path)) t.problem(key, path + " cannot be read");
  }
  t.finish();
}

void forward(Section& s, EventListener& out) {
  Section f = s.section("forward");
  if (!f.present()) return;
  EventForward to;
  std::string url;
  f.required_text("webhook", url);
  if (!url.empty()) to.webhook = read_webhook(f, url);
  std::vector<std::string> names;
  const bool chosen = f.take("on") != nullptr;
  f.texts("on", names);
  if (!chosen) names = {"bounced", "complained", "suppressed"};
  for (const auto& name : names) {
    if (const auto kind = routing::parse_esp_event_kind(name))
      to.on.insert(*kind);
    else
      f.problem("on", name + ": expected delivered, bounced, complained, suppressed or deferred");
  }
  if (names.empty()) f.problem("on", "expected at least one kind of event");
  f.finish();
  out.forward = std::move(to);
}

}  // namespace

std::shared_ptr<const EspEvents> read_esp_events(Section& smarthost, const std::string& preset) {
  Section s = smarthost.section("events");
  if (!s.present()) return nullptr;
  auto out = std::make_shared<EspEvents>();
  format(s, preset, *out);
  own_keys(s, *out);
  allow(s, *out);
  s.duration("max_age", out->max_age);
  if (out->max_age < 10s || out->max_age > 72h) s.problem("max_age", "expected 10s to 3d");
  s.boolean("tag", out->tag);
  s.boolean("dsn", out->dsn);
  s.finish();
  return out;
}

void read_event_listener(Section& root, Config& config) {
  Section s = root.section("esp_events");
  if (!s.present()) {
    for (const auto& host : config.smarthosts)
      if (host.events) root.problem("esp_events", "is required: smarthost " + host.name + " has events");
    return;
  }
  auto out = std::make_shared<EventListener>();
  s.required_text("address", out->address);
  const auto parsed = parse_host_port(out->address);
  const auto address = parsed ? IpAddress::parse(parsed->host) : std::nullopt;
  if (address && parsed->port != 0) {
    out->ip = *address;
    out->port = parsed->port;
  } else if (!out->address.empty()) {
    s.problem("address", "expected an IP address and a port, e.g. 0.0.0.0:8443 or [::]:8443");
  }
  if (out->address == config.admin.address) s.problem("address", "is the admin address: events have one of their own");
  tls(s, *out);
  s.duration("retention", out->retention);
  if (out->retention < 1h || out->retention > 24h * 90) s.problem("retention", "expected 1h to 90d");
  s.integer("max_recipients", out->max_recipients, 1000, 100'000'000);
  forward(s, *out);
  s.finish();
  config.event_listener = std::move(out);
}

}  // namespace egret::config
