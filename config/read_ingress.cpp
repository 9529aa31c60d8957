#include "config/read_ingress.hpp"

#include <algorithm>
#include <array>
#include <fstream>
#include <sstream>

namespace egret::config {
namespace {

using routing::IpAddress;

/// Reads a word of a fixed set into the value that stands beside it.
template <class T, std::size_t N>
void choice(Section& s, std::string_view key, T& out, const std::array<std::pair<std::string_view, T>, N>& words) {
  std::string text, expected;
  s.text(key, text);
  if (text.empty()) return;
  for (std::size_t i = 0; i < N; ++i) {
    if (words[i].first == text) {
      out = words[i].second;
      return;
    }
    expected += (i == 0 ? "" : i + 1 == N ? " or " : ", ") + std::string(words[i].first);
  }
  s.problem(key, "expected " + expected);
}

void networks(Section& s, std::string_view key, std::vector<routing::Network>& out, bool trusted) {
  if (!s.take(key)) return;
  std::vector<std::string> texts;
  s.texts(key, texts);
  out.clear();
  for (const auto& text : texts) {
    std::string why;
    const auto network = routing::Network::parse(text, &why);
    if (!network)
      s.problem(key, text + ": " + why);
    else if (trusted && network->prefix < (network->base.v6 ? 7u : 8u))
      s.problem(key, text + " would make an open relay");
    else
      out.push_back(*network);
  }
}

void check_tls_and_auth(Section& s, const Config& config, const Listener& listener) {
  if (listener.tls != ListenerTls::none && config.tls.certificate.empty())
    s.problem("tls", "needs a certificate: the section tls of the configuration");
  if (listener.auth == smtp::AuthRule::required && config.users_file.empty())
    s.problem("auth", "required needs users: the key users of the configuration");
}

Listener read_listener(Section& s, const Config& config) {
  Listener out;
  s.required_text("address", out.address);
  const auto parsed = parse_host_port(out.address);
  const auto address = parsed ? IpAddress::parse(parsed->host) : std::nullopt;
  if (address) {
    out.ip = *address;
    out.port = parsed->port;
  } else if (!out.address.empty()) {
    s.problem("address", "expected an IP address and a port, e.g. 127.0.0.1:2525 or [::1]:2525");
  }
  using TlsWord = std::pair<std::string_view, ListenerTls>;
  using AuthWord = std::pair<std::string_view, smtp::AuthRule>;
  using AcceptWord = std::pair<std::string_view, bool>;
  choice(s, "accept", out.pass_through, std::array{AcceptWord{"queue", false}, AcceptWord{"pass-through", true}});
  choice(s, "tls", out.tls,
         std::array{TlsWord{"none", ListenerTls::none}, TlsWord{"starttls", ListenerTls::starttls},
                    TlsWord{"implicit", ListenerTls::implicit}});
  choice(s, "auth", out.auth,
         std::array{AuthWord{"none", smtp::AuthRule::none}, AuthWord{"optional", smtp::AuthRule::optional},
                    AuthWord{"required", smtp::AuthRule::required}});
  check_tls_and_auth(s, config, out);
  s.boolean("submission", out.submission);
  out.allow = {*routing::Network::parse("127.0.0.0/8"), *routing::Network::parse("::1/128")};
  networks(s, "allow", out.allow, true);
  networks(s, "normalize", out.normalize, false);
  networks(s, "xclient", out.xclient, true);
  networks(s, "proxy_protocol", out.proxy_protocol, true);
  std::string name = config.classes.empty() ? "" : config.classes.front().name;
  s.text("class", name);
  if (const auto index = config.class_named(name))
    out.message_class = *index;
  else if (!config.classes.empty())
    s.problem("class", "no class is called " + name);
  return out;
}

}  // namespace

void read_server_tls(Section& root, Config& config) {
  Section s = root.section("tls");
  if (!s.present()) return;
  s.required_text("certificate", config.tls.certificate);
  s.required_text("key", config.tls.key);
  for (const char* key : {"certificate", "key"}) {
    const std::string& path = key[0] == 'c' ? config.tls.certificate : config.tls.key;
    if (!path.empty() && !std::ifstream(path)) s.problem(key, path + " cannot be read");
  }
  s.finish();
}

void read_users_file(Section& root, Config& config, Problems& problems) {
  root.text("users", config.users_file);
  if (config.users_file.empty()) return;
  if (!std::ifstream(config.users_file)) return root.problem("users", config.users_file + " cannot be read");
  config.users = load_users(config, problems);
}

std::shared_ptr<const Users> load_users(const Config& config, Problems& problems) {
  std::ifstream in(config.users_file, std::ios::binary);
  if (!in) {
    problems.push_back({config.users_file, 0, 0, "", "cannot be read"});
    return nullptr;
  }
  std::ostringstream text;
  text << in.rdbuf();
  std::vector<std::string> classes;
  for (const auto& message_class : config.classes) classes.push_back(message_class.name);
  const std::size_t before = problems.size();
  Users users = read_users(text.str(), config.users_file, classes, problems);
  return problems.size() == before ? std::make_shared<const Users>(std::move(users)) : nullptr;
}

void read_listeners(Section& root, Config& config) {
  root.sections("listeners", [&](Section& s) {
    Listener out = read_listener(s, config);
    const auto same = [&](const Listener& o) { return o.ip == out.ip && o.port == out.port && out.port != 0; };
    if (std::ranges::any_of(config.listeners, same)) s.problem("address", "another listener has this address");
    config.listeners.push_back(std::move(out));
  });
  if (config.listeners.empty()) root.problem("listeners", "is required: at least one listener");
}

void read_limits(Section& root, Config& config) {
  Limits& limits = config.limits;
  Section s = root.section("limits");
  s.size("message_size", limits.message_size);
  if (limits.message_size < 1024 || limits.message_size > (1ull << 30))
    s.problem("message_size", "expected a size from 1K to 1G");
  s.integer("recipients", limits.recipients, 1, 100000);
  s.integer("connections", limits.connections, 1, 1000000);
  s.integer("connections_per_client", limits.connections_per_client, 1, 1000000);
  s.integer("connections_out", limits.connections_out, 1, 1000000);
  std::string rate;
  s.text("rate_per_client", rate);
  if (!rate.empty()) {
    limits.rate_per_client = parse_budget(rate);
    if (!limits.rate_per_client) s.problem("rate_per_client", "expected recipients in a period, e.g. 500/h");
  }
  s.finish();
}

}  // namespace egret::config
