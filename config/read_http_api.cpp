#include "config/read_http_api.hpp"

#include <algorithm>

#include "config/alerts.hpp"
#include "config/http_api.hpp"
#include "smtp/address.hpp"

namespace egret::config {
namespace {

using namespace std::chrono_literals;

constexpr routing::Duration default_poll = 5min;
constexpr routing::Duration least_poll = 1min;  // one request a second is allowed for the whole account, over all programs

std::string with_region(std::string host, const std::string& region) {
  constexpr std::string_view mark = "{region}";
  if (const std::size_t at = host.find(mark); at != std::string::npos) host.replace(at, mark.size(), region);
  return host;
}

HttpApiKind kind_of(const std::string& provider) {
  if (provider.starts_with("mailgun")) return HttpApiKind::mailgun;
  return provider.starts_with("sparkpost") ? HttpApiKind::sparkpost : HttpApiKind::ses;
}

/// The preset's, or the operator's own: "https://api.example.net:8443".
void endpoint(Section& s, const SmarthostPreset& preset, HttpApi& api) {
  api.host = with_region(preset.api, api.region);
  std::string text;
  s.text("endpoint", text);
  if (text.empty()) return;
  std::string why;
  const auto url = parse_webhook_url(text, why);
  if (!url || url->target != "/") {
    const bool clear = !url && why.starts_with("http is");
    return s.problem("endpoint", clear ? why : "expected https://HOST or https://HOST:PORT, without user and path");
  }
  api.tls = url->tls;
  api.host = url->host == "localhost" && !url->tls ? "127.0.0.1" : url->host;  // never asked of the DNS (RFC 6761 section 6.3)
  api.port = url->port;
}

void timeout(Section& s, HttpApi& api) {
  s.duration("api_timeout", api.timeout);
  if (api.timeout < 1s || api.timeout > 10min) s.problem("api_timeout", "expected 1s to 10m");
}

void poll(Section& s, HttpApi& api, bool by_default) {
  if (by_default) api.poll_account = default_poll;
  s.duration("poll_account", api.poll_account);
  const bool in_bounds = api.poll_account >= least_poll && api.poll_account <= 24h;
  if (api.poll_account.count() != 0 && !in_bounds) s.problem("poll_account", "expected 1m to 1d, or 0s for never");
}

void require(Section& s, const char* key, const std::string& value, const std::string& provider) {
  if (value.empty()) s.problem(key, "is required for " + provider + " with transport: http");
}

/// Fit for a header field and for a signature, and no accident of quoting.
void printable(Section& s, const char* key, const std::string& value) {
  const auto ok = [](unsigned char c) { return c > ' ' && c < 0x7f; };
  if (value.size() > 500 || !std::ranges::all_of(value, ok)) s.problem(key, "expected up to 500 printable ASCII characters");
}

void login(Section& s, const std::string& provider, HttpApi& api) {
  s.text("username", api.user);
  const bool ses = api.kind == HttpApiKind::ses;
  const char* const key = ses ? "secret_key" : "password";
  s.text(key, api.secret);
  require(s, key, api.secret, provider);
  printable(s, key, api.secret);
  printable(s, "username", api.user);
  if (s.take(ses ? "password" : "secret_key"))
    s.problem(ses ? "password" : "secret_key",
              ses ? "is for SMTP: the API wants the secret_key" : "is for the provider ses only");
  if (ses) {
    require(s, "region", api.region, provider);
    if (!api.region.empty() && !smtp::valid_domain(api.region + ".test", false))
      s.problem("region", "expected one such as eu-west-1");
    require(s, "username", api.user, provider);
  }
  if (api.kind == HttpApiKind::mailgun) {
    if (api.user.empty()) api.user = "api";
    if (api.user.find(':') != std::string::npos) s.problem("username", "must not hold a colon");
    s.text("domain", api.domain);
    require(s, "domain", api.domain, provider);
    if (!api.domain.empty() && !smtp::valid_domain(api.domain, false))
      s.problem("domain", "expected a domain such as mg.example.com");
  }
}

/// By SMTP the API serves for one thing only.
void ask_account_only(Section& s, const SmarthostPreset& preset, const std::string& region, Smarthost& out) {
  for (const char* key : {"domain", "api_timeout"})
    if (s.take(key)) s.problem(key, "is for transport: http only");
  std::string secret;
  s.text("secret_key", secret);
  if (out.provider != "ses" || secret.empty()) {
    for (const char* key : {"endpoint", "poll_account"})
      if (s.take(key)) s.problem(key, "is for transport: http, and for ses with a secret_key");
    return;
  }
  HttpApi api;
  api.region = region;
  api.secret = secret;
  s.text("username", api.user);
  endpoint(s, preset, api);
  // Who sends somewhere else than to Amazon has his own reasons, and perhaps no way to Amazon.
  poll(s, api, !s.take("address") || s.take("endpoint"));
  if (api.poll_account.count() > 0 && !region.empty() && !api.user.empty())
    out.api = std::make_shared<const HttpApi>(std::move(api));
}

}  // namespace

bool read_http_api(Section& s, const SmarthostPreset& preset, const std::string& region, Smarthost& out) {
  std::string transport = "smtp";
  s.text("transport", transport);
  if (transport != "smtp" && transport != "http") s.problem("transport", "expected smtp or http");
  if (transport == "http" && preset.api.empty())
    s.problem("transport", out.provider + " has no HTTP API that takes a message as it is: only smtp");
  if (transport != "http" || preset.api.empty()) {
    ask_account_only(s, preset, region, out);
    return false;
  }
  for (const char* key : {"address", "tls"})
    if (s.take(key)) s.problem(key, "is for transport: smtp; an API has an endpoint, https://HOST:PORT");
  HttpApi api;
  api.kind = kind_of(out.provider);
  api.delivers = true;
  api.region = region;
  login(s, out.provider, api);
  endpoint(s, preset, api);
  timeout(s, api);
  if (api.kind == HttpApiKind::ses)
    poll(s, api, true);
  else if (s.take("poll_account"))
    s.problem("poll_account", "is for the provider ses only");
  out.host = api.host;
  out.ports = {api.port};
  if (api.tls) out.implicit_tls = out.ports;
  if (!api.tls) out.tls = smtp::TlsMode::none;
  // Whoever asks whether anything of the login changed, or must not be printed, looks here.
  out.credentials = smtp::Credentials{api.user + (api.domain.empty() ? "" : '@' + api.domain), api.secret, {}};
  out.api = std::make_shared<const HttpApi>(std::move(api));
  return true;
}

}  // namespace egret::config
