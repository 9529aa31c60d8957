// Reads the configuration file into a Config and checks its meaning. Every problem is reported, none is fixed silently.
#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>

#include "config/config.hpp"
#include "config/data.hpp"
#include "config/read_alerts.hpp"
#include "config/read_brakes.hpp"
#include "config/read_esp_events.hpp"
#include "config/read_http_api.hpp"
#include "config/read_ingress.hpp"
#include "config/read_readiness.hpp"
#include "config/read_spending.hpp"
#include "config/replies.hpp"
#include "config/shipped.hpp"
#include "smtp/address.hpp"
#include "smtp/ses_password.hpp"
#include "smtp/text.hpp"

namespace egret::config {
namespace {

using routing::IpAddress;

bool valid_name(std::string_view name) {
  const auto ok = [](unsigned char c) { return std::isalnum(c) || c == '-' || c == '_' || c == '.'; };
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, ok);
}

std::string replace_all(std::string text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

class Loader {
 public:
  Loader(const std::string& file, const Environment& environment, Problems& problems)
      : file_(file), environment_(environment), problems_(problems), config_(std::make_shared<Config>()) {}

  std::shared_ptr<const Config> load(std::string_view text) {
    const std::size_t before = problems_.size();
    Tree tree = parse_yaml(text, file_, problems_);
    if (tree.kind == Tree::Kind::null && problems_.size() == before) problems_.push_back({file_, 0, 0, "", "the file is empty"});
    if (tree.kind == Tree::Kind::null) return nullptr;
    expand(tree, file_, "", environment_, problems_);
    config_->file = file_;
    Section root(&tree, "", file_, problems_);
    read(root);
    root.finish();
    return problems_.size() == before ? config_ : nullptr;
  }

 private:
  void read(Section& root) {
    root.required_text("hostname", config_->hostname);
    if (!config_->hostname.empty() && !smtp::valid_domain(config_->hostname, false))
      root.problem("hostname", "expected a host name such as relay.example.com");
    root.text("data_dir", config_->data_dir);
    if (config_->data_dir.empty()) root.problem("data_dir", "must not be empty");
    root.integer("threads", config_->threads, 0, 256);
    // Names first, so that what refers to them can be checked in one pass.
    sources(root);
    smarthosts(root);
    pools(root);
    classes(root);
    classify(root);
    read_server_tls(root, *config_);
    read_users_file(root, *config_, problems_);
    read_listeners(root, *config_);
    read_limits(root, *config_);
    spool(root);
    delivery(root);
    routes(root);
    headers(root);
    dns(root);
    reputation(root);
    admin(root);
    log(root);
    dkim(root);
    read_alerts(root, *config_);
    read_event_listener(root, *config_);
    read_brakes(root, *config_);
  }

  // ---- egresses --------------------------------------------------------------------------------------------------

  void sources(Section& root) {
    config_->providers = routing::Providers(
        read_providers(parse_yaml(shipped_providers, "providers.yaml", problems_), "providers.yaml", problems_));
    root.named("sources", [&](const std::string& name, Section& s) {
      routing::SourceInfo source;
      source.name = name;
      if (!valid_name(name)) s.problem("", "names are letters, digits, '.', '-' and '_'");
      source.address = ip(s, "address", true);
      source.reputation = s.take("public") ? ip(s, "public", false) : source.address;
      source.ehlo = config_->hostname;
      s.text("ehlo", source.ehlo);
      if (!smtp::valid_domain(source.ehlo, false)) s.problem("ehlo", "expected a host name");
      s.number("weight", source.weight, 0, 1000);
      s.boolean("shared", source.shared);
      config_->via.push_back(via(s));
      const auto same = [&](const routing::SourceInfo& o) {
        return o.address.unmapped() == source.address.unmapped() || o.reputation.unmapped() == source.reputation.unmapped();
      };
      if (std::ranges::any_of(config_->topology.sources, same))
        s.problem("address", "another source has this address: a source's reputation is its own");
      config_->topology.sources.push_back(std::move(source));
    });
  }

  /// "socks5://[user:password@]host:port" or "haproxy://host:port".
  std::optional<Via> via(Section& s) {
    std::string text;
    s.text("via", text);
    if (text.empty()) return std::nullopt;
    const auto out = parse_via(text);
    if (!out) s.problem("via", "expected socks5://[user:password@]ADDRESS:PORT or haproxy://ADDRESS:PORT");
    return out;
  }

  void smarthosts(Section& root) {
    const auto presets =
        read_smarthosts(parse_yaml(shipped_smarthosts, "smarthosts.yaml", problems_), "smarthosts.yaml", problems_);
    root.named("smarthosts", [&](const std::string& name, Section& s) {
      if (!valid_name(name)) s.problem("", "names are letters, digits, '.', '-' and '_'");
      config_->topology.smarthosts.push_back(name);
      config_->smarthosts.push_back(smarthost(name, s, presets));
    });
  }

  Smarthost smarthost(const std::string& name, Section& s, const std::map<std::string, SmarthostPreset>& presets) {
    Smarthost out;
    out.name = name;
    out.provider = "generic";
    s.text("provider", out.provider);
    SmarthostPreset preset;
    if (const auto it = presets.find(out.provider); it != presets.end()) {
      preset = it->second;
    } else {
      std::string known;
      for (const auto& [preset_name, p] : presets) known += (known.empty() ? "" : ", ") + preset_name;
      s.problem("provider", "expected one of " + known);
    }
    std::string region;
    s.text("region", region);
    const bool by_http = read_http_api(s, preset, region, out);
    if (!by_http) {
      smtp_door(s, preset, region, out);
      login(s, preset, region, out);
    }
    s.text("ca", out.ca);
    if (!out.ca.empty() && !std::ifstream(out.ca)) s.problem("ca", "cannot be read");
    read_spending(s, preset.cost, out);
    out.recipients = by_http ? preset.api_recipients : preset.recipients;
    out.message_size = preset.message_size;
    out.connections = preset.connections;
    out.messages_per_connection = by_http ? 100 : preset.messages_per_connection;
    s.integer("connections", out.connections, 1, 10000);
    out.dkim = preset.dkim;
    out.rewrites = preset.dkim_unsigned;
    std::string rule;
    s.text("dkim", rule);
    if (!rule.empty()) {
      if (const auto parsed = parse_dkim_rule(rule))
        out.dkim = *parsed;
      else
        s.problem("dkim", "expected keep, strip or sign");
    }
    out.quota = preset.quota;
    Section fields = s.section("headers");
    own_headers(fields, out);
    fields.finish();
    out.readiness = read_readiness(s, preset.records);
    out.events = read_esp_events(s, out.provider);
    s.unavailable("canary", "it is a key of pools");
    return out;
  }

  void smtp_door(Section& s, const SmarthostPreset& preset, const std::string& region, Smarthost& out) {
    std::string address, tls;
    s.text("address", address);
    out.host = replace_all(preset.host, "{region}", region);
    out.ports = preset.ports;
    out.implicit_tls = preset.implicit_tls;
    if (!address.empty()) own_address(s, address, out);
    if (out.host.empty() || out.ports.empty())
      s.problem("address", "is required: host:port");
    else if (!smtp::valid_domain(out.host, false) && !IpAddress::parse(out.host))
      s.problem(address.empty() ? "region" : "address", out.host + " is not a host name");
    s.text("tls", tls);
    if (tls == "implicit")
      out.implicit_tls = out.ports;
    else if (tls == "starttls")
      out.implicit_tls.clear();
    else if (tls == "none")
      out.tls = smtp::TlsMode::none;
    else if (!tls.empty())
      s.problem("tls", "expected starttls, implicit or none");
  }

  /// Orders to the ESP travel in fields of its own; whatever else a message says is its author's.
  static bool order_field(std::string_view name) {
    const auto ok = [](unsigned char c) { return std::isalnum(c) || c == '-'; };
    const bool own = smtp::iequals(name.substr(0, 8), "X-Egret-");
    return name.size() <= 70 && std::ranges::all_of(name, ok) && !own &&
           ((name.size() > 2 && smtp::iequals(name.substr(0, 2), "X-")) || smtp::iequals(name, "Feedback-ID"));
  }

  void own_headers(Section& s, Smarthost& out) {
    if (const Tree* add = s.take("add"); add && add->kind == Tree::Kind::mapping) {
      for (std::size_t i = 0; i < add->keys.size(); ++i) {
        const std::string& value = add->items[i].scalar;
        const bool printable = std::ranges::all_of(value, [](unsigned char c) { return c >= ' ' && c < 0x7f; });
        if (!order_field(add->keys[i]))
          s.problem_at(add->items[i], "add", add->keys[i] + ": expected a field such as X-SES-CONFIGURATION-SET");
        else if (value.empty() || value.size() > 900 || !printable)
          s.problem_at(add->items[i], "add", add->keys[i] + ": expected a value of 1 to 900 printable ASCII characters");
        else
          out.add_headers.emplace_back(add->keys[i], value);
      }
    } else if (add) {
      s.problem("add", "expected {NAME: value, ...}");
    }
    s.texts("keep", out.keep_headers);
    for (std::string name : out.keep_headers) {
      std::erase(name, '*');
      if (name != "X-" && !order_field(name)) s.problem("keep", "expected fields such as X-SES-MESSAGE-TAGS or X-PM-*");
    }
  }

  void own_address(Section& s, const std::string& address, Smarthost& out) {
    const auto parsed = parse_host_port(address);
    if (!parsed || parsed->port == 0) return s.problem("address", "expected host:port, e.g. smtp.example.net:587");
    out.host = parsed->host;
    out.ports = {parsed->port};
    if (parsed->port != 465 && parsed->port != 2465)
      out.implicit_tls.clear();
    else
      out.implicit_tls = {parsed->port};
  }

  void login(Section& s, const SmarthostPreset& preset, const std::string& region, Smarthost& out) {
    smtp::Credentials login;
    login.username = preset.username;
    s.text("username", login.username);
    s.text("password", login.password);
    derive_password(s, region, out, login);
    login.username = replace_all(login.username, "{password}", login.password);
    if (!preset.auth.empty()) login.mechanisms = preset.auth;
    for (const auto& need : preset.needs) {
      const bool given = need == "region"     ? !region.empty()
                         : need == "username" ? !login.username.empty()
                         : need == "password" ? !login.password.empty() || s.take("secret_key")
                                              : true;
      if (!given) s.problem(need, "is required for " + out.provider);
    }
    if (login.username.empty() != login.password.empty()) s.problem("password", "user name and password go together");
    if (login.username.empty()) return;
    if (out.tls == smtp::TlsMode::none) s.problem("tls", "no password is sent without TLS");
    out.credentials = std::move(login);
  }

  /// SES takes an IAM user's access key id as the user name and a password made from its secret access key.
  static void derive_password(Section& s, const std::string& region, const Smarthost& out, smtp::Credentials& login) {
    std::string secret;
    s.text("secret_key", secret);
    if (secret.empty()) return;
    if (out.provider != "ses") return s.problem("secret_key", "is for the provider ses only");
    if (!login.password.empty()) return s.problem("secret_key", "password and secret_key exclude each other");
    if (!region.empty()) login.password = smtp::ses_smtp_password(secret, region);
  }

  void pools(Section& root) {
    root.named("pools", [&](const std::string& name, Section& s) {
      routing::PoolInfo pool;
      pool.name = name;
      std::vector<std::string> names;
      s.texts("sources", names);
      for (const auto& source : names) {
        const auto it = std::ranges::find(config_->topology.sources, source, &routing::SourceInfo::name);
        if (it == config_->topology.sources.end())
          s.problem("sources", "no source is called " + source);
        else if (std::ranges::count(names, source) > 1)
          s.problem("sources", source + " stands twice: use its weight");
        else
          pool.sources.push_back(static_cast<std::uint32_t>(it - config_->topology.sources.begin()));
      }
      names.clear();
      s.texts("fallback", names);
      for (const auto& host : names) {
        const auto it = std::ranges::find(config_->topology.smarthosts, host);
        if (it == config_->topology.smarthosts.end())
          s.problem("fallback", "no smarthost is called " + host);
        else
          pool.fallback.push_back(static_cast<std::uint32_t>(it - config_->topology.smarthosts.begin()));
      }
      if (pool.sources.empty() && pool.fallback.empty()) s.problem("sources", "a pool needs a source or a smarthost");
      when_exhausted(s, pool);
      read_canary(s, pool);
      config_->topology.pools.push_back(std::move(pool));
    });
    if (config_->topology.pools.empty()) root.problem("pools", "is required: at least one pool");
  }

  void when_exhausted(Section& s, routing::PoolInfo& pool) {
    std::string text = pool.fallback.empty() ? "hold" : "fallback";
    s.text("when_exhausted", text);
    if (text == "hold")
      pool.when_exhausted = routing::WhenExhausted::hold;
    else if (text == "send-anyway")
      pool.when_exhausted = routing::WhenExhausted::send_anyway;
    else if (text == "fallback")
      pool.when_exhausted = routing::WhenExhausted::fallback;
    else
      s.problem("when_exhausted", "expected fallback, hold or send-anyway");
    if (text == "fallback" && pool.fallback.empty()) s.problem("when_exhausted", "fallback needs smarthosts under fallback");
  }

  // ---- classes ---------------------------------------------------------------------------------------------------

  void classes(Section& root) {
    root.named("classes", [&](const std::string& name, Section& s) {
      MessageClass out;
      out.name = name;
      if (!valid_name(name)) s.problem("", "names are letters, digits, '.', '-' and '_'");
      std::string pool = name;
      s.text("pool", pool);
      if (const auto index = config_->pool_named(pool))
        out.pool = *index;
      else
        s.problem("pool", "no pool is called " + pool);
      s.duration("max_age", out.max_age);
      if (out.max_age.count() <= 0) s.problem("max_age", "expected a duration above 0");
      s.boolean("spill", out.spill);
      out.weight = name == "transactional" ? 10 : 1;
      s.integer("weight", out.weight, 1, 1000);
      read_class_budget(s, *config_, out);
      never_mix(s, out);
      config_->classes.push_back(std::move(out));
    });
    if (config_->classes.empty()) root.problem("classes", "is required: at least one class");
  }

  /// Two classes never share a source, nor a pool, unless every source they share says so.
  void never_mix(Section& s, const MessageClass& mine) {
    const auto& topology = config_->topology;
    if (mine.pool >= topology.pools.size()) return;
    for (const MessageClass& other : config_->classes) {
      if (other.pool == mine.pool && topology.pools[mine.pool].sources.empty())
        s.problem("pool", "classes " + other.name + " and " + mine.name + " share pool " + topology.pools[mine.pool].name +
                              ": give each its own");
      for (const std::uint32_t source : topology.pools[mine.pool].sources) {
        const auto& theirs = topology.pools[other.pool].sources;
        if (std::ranges::find(theirs, source) == theirs.end() || topology.sources[source].shared) continue;
        s.problem("pool", "classes " + other.name + " and " + mine.name + " share source " + topology.sources[source].name +
                              ": one's bad mail would cost the other its reputation (shared: true on the source allows it)");
      }
    }
  }

  void classify(Section& root) {
    std::vector<routing::ClassRule> rules;
    root.sections("classify", [&](Section& s) {
      routing::ClassRule rule;
      s.text("user", rule.user);
      s.text("header", rule.header);
      s.text("matches", rule.matches);
      s.text("sender_domain", rule.sender_domain);
      s.text("class", rule.class_name);
      s.boolean("from_value", rule.from_value);
      if (rule.user.empty() && rule.header.empty() && rule.sender_domain.empty())
        s.problem("", "needs a condition: user, header or sender_domain");
      if (rule.header.empty() && !rule.matches.empty()) s.problem("matches", "needs a header");
      if (rule.from_value && rule.header.empty()) s.problem("from_value", "needs a header");
      if (rule.from_value == !rule.class_name.empty()) s.problem("class", "either class or from_value: true");
      if (!rule.class_name.empty() && !config_->class_named(rule.class_name))
        s.problem("class", "no class is called " + rule.class_name);
      std::vector<std::string> bad;
      routing::MessageClassifier({rule}, {}, bad);
      for (const auto& text : bad) s.problem("matches", text);
      rules.push_back(std::move(rule));
    });
    std::vector<std::string> names, ignored;
    for (const auto& c : config_->classes) names.push_back(c.name);
    config_->classifier = std::make_shared<routing::MessageClassifier>(std::move(rules), std::move(names), ignored);
  }

  void spool(Section& root) {
    Section s = root.section("spool");
    s.size("reserve", config_->spool.reserve);
    s.size("cache", config_->spool.cache);
    s.finish();
  }

  // ---- the ways out ----------------------------------------------------------------------------------------------

  void delivery(Section& root) {
    using namespace std::chrono_literals;
    Delivery& d = config_->delivery;
    Section s = root.section("delivery");
    int port = d.port;
    s.integer("port", port, 1, 65535);
    d.port = static_cast<std::uint16_t>(port);
    d.retry = {1min, 5min, 15min, 30min, 1h, 2h, 4h};
    std::vector<std::string> texts;
    if (s.take("retry")) {
      s.texts("retry", texts);
      d.retry.clear();
      for (const auto& text : texts) {
        const auto parsed = parse_duration(text);
        if (parsed && parsed->count() > 0)
          d.retry.push_back(*parsed);
        else
          s.problem("retry", text + ": expected durations such as 1m, 5m");
      }
      if (texts.empty()) s.problem("retry", "expected at least one duration");
    }
    s.integer("connections_per_site", d.connections_per_site, 1, 10000);
    s.integer("messages_per_connection", d.messages_per_connection, 1, 1000000);
    s.duration("warn_after", d.warn_after);
    s.boolean("allow_private", d.allow_private);
    std::string tls = "opportunistic";
    s.text("tls", tls);
    s.boolean("mta_sts", d.mta_sts);
    if (tls == "none")
      d.tls = smtp::TlsMode::none;
    else if (tls == "required")
      d.tls = smtp::TlsMode::required;
    else if (tls != "opportunistic")
      s.problem("tls", "expected opportunistic, required or none");
    s.finish();
  }

  void routes(Section& root) {
    root.sections("routes", [&](Section& s) {
      RouteOverride out;
      s.required_text("domain", out.domain);
      const std::string_view plain = std::string_view(out.domain).substr(out.domain.starts_with("*.") ? 2 : 0);
      if (!out.domain.empty() && !smtp::valid_domain(plain, false)) s.problem("domain", "expected a domain or *.domain");
      std::string to, pool;
      s.text("to", to);
      s.text("pool", pool);
      if (!to.empty()) {
        out.to = parse_host_port(to);
        if (!out.to || out.to->port == 0) s.problem("to", "expected host:port");
      }
      if (!pool.empty()) {
        out.pool = config_->pool_named(pool);
        if (!out.pool) s.problem("pool", "no pool is called " + pool);
      }
      if (to.empty() && pool.empty()) s.problem("to", "a route needs to or pool");
      config_->routes.push_back(std::move(out));
    });
  }

  void dkim(Section& root) {
    root.sections("dkim", [&](Section& s) {
      DkimSigner out;
      std::string file;
      s.required_text("domain", out.domain);
      s.required_text("selector", out.selector);
      s.required_text("key", file);
      out.domain = smtp::lower(out.domain);
      if (!out.domain.empty() && !smtp::valid_domain(out.domain, false)) s.problem("domain", "expected a domain");
      if (!out.selector.empty() && !smtp::valid_domain(out.selector, false)) s.problem("selector", "expected a DNS label");
      if (file.empty()) return;
      std::ifstream in(file, std::ios::binary);
      std::ostringstream pem;
      if (in) pem << in.rdbuf();
      std::string error = file + " cannot be read";
      if (in) out.key = smtp::DkimKey::load(pem.str(), error);
      if (!out.key) return s.problem("key", error);
      const auto same = [&](const DkimSigner& o) { return o.domain == out.domain && o.selector == out.selector; };
      if (std::ranges::any_of(config_->dkim, same)) s.problem("selector", "stands twice for " + out.domain);
      config_->dkim.push_back(std::move(out));
    });
  }

  void headers(Section& root) {
    config_->strip = {"X-SES-*", "X-SMTPAPI", "X-Mailgun-*", "X-MSYS-API", "X-PM-*", "X-MJ-*", "X-Mailjet-*", "X-Mailin-*"};
    Section s = root.section("headers");
    if (s.take("strip")) s.texts("strip", config_->strip);
    s.finish();
    config_->strip.emplace_back("X-Egret-Class");
  }

  void dns(Section& root) {
    Section s = root.section("dns");
    std::vector<std::string> texts;
    s.texts("servers", texts);
    for (const auto& text : texts) {
      auto parsed = parse_host_port(text);
      if (!parsed && IpAddress::parse(text)) parsed = HostPort{text, 53};
      if (parsed && IpAddress::parse(parsed->host))
        config_->dns.servers.push_back(*parsed);
      else
        s.problem("servers", text + ": expected an IP address with a port, e.g. 127.0.0.1:53");
    }
    s.duration("timeout", config_->dns.timeout);
    if (config_->dns.timeout.count() < 10) s.problem("timeout", "expected at least 10ms");
    s.integer("tries", config_->dns.tries, 1, 10);
    s.boolean("dnssec", config_->dns.dnssec);
    s.finish();
  }

  // ---- reputation ------------------------------------------------------------------------------------------------

  void reputation(Section& root) {
    routing::StandingPolicy& p = config_->reputation;
    Section s = root.section("reputation");
    std::string mode = "enforce";
    s.text("mode", mode);
    p.observe = mode == "observe";
    if (mode != "observe" && mode != "enforce") s.problem("mode", "expected enforce or observe");
    config_->topology.observe = p.observe;
    s.duration("interval", p.interval);
    s.duration("confirm_interval", p.confirm_interval);
    for (const char* key : {"interval", "confirm_interval"})
      if ((key[0] == 'i' ? p.interval : p.confirm_interval).count() < 10) s.problem(key, "expected at least 10ms");
    s.number("threshold", p.threshold, 0.01, 1000);
    s.integer("confirm", p.confirm, 1, 100);
    Section cooldown = s.section("cooldown");
    cooldown.duration("first", p.cooldown_first);
    cooldown.duration("max", p.cooldown_max);
    if (p.cooldown_max < p.cooldown_first) cooldown.problem("max", "must not be less than first");
    cooldown.finish();
    warmup(s, p);
    s.duration("warmup_step", p.warmup_step);
    warmup_caps(s, p);
    s.integer("returning", config_->topology.returning, 1, 1000);
    poison(s);
    if (const auto rate = read_query_rate(s, "queries")) config_->blocklist_queries = *rate;
    blocklists(s);
    config_->replies = read_own_replies(s, config_->blocklists, problems_);
    s.finish();
  }

  void poison(Section& s) {
    routing::PoisonPolicy& p = config_->poison;
    s.integer("poison_after", p.poison_after, 0, 1000);
    if (p.poison_after == 1) s.problem("poison_after", "expected 2 or more sources, or 0: never");
    Section content = s.section("content");
    content.integer("slow_after", p.slow_after, 0, 1'000'000);
    content.integer("hold_after", p.hold_after, 0, 1'000'000);
    if (p.hold_after > 0 && p.hold_after < p.slow_after) content.problem("hold_after", "must not be less than slow_after");
    content.finish();
  }

  void warmup(Section& s, routing::StandingPolicy& p) {
    if (!s.take("warmup")) return;
    std::vector<std::string> texts;
    s.texts("warmup", texts);
    p.warmup.clear();
    for (const auto& text : texts) {
      const auto share = parse_share(text);
      if (!share || *share <= 0 || (!p.warmup.empty() && *share < p.warmup.back()))
        s.problem("warmup", text + ": expected rising shares such as 10%, 50%, 100%");
      else
        p.warmup.push_back(*share);
    }
    if (p.warmup.empty() || p.warmup.back() < 1.0) p.warmup.push_back(1.0);
  }

  void warmup_caps(Section& s, routing::StandingPolicy& p) {
    const Tree* caps = s.take("warmup_caps");
    if (!caps) return;
    std::vector<std::string> texts;
    s.texts("warmup_caps", texts);
    for (const auto& text : texts) {
      std::uint64_t cap = 0;
      const auto parsed = std::from_chars(text.data(), text.data() + text.size(), cap);
      if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || cap == 0 ||
          (!p.warmup_caps.empty() && cap < p.warmup_caps.back()))
        s.problem("warmup_caps", text + ": expected rising numbers of recipients a day such as 500, 2000, 10000");
      else
        p.warmup_caps.push_back(cap);
    }
    if (p.warmup_caps.size() > p.warmup.size())
      s.problem("warmup_caps", "has more entries than warmup has steps (" + std::to_string(p.warmup.size()) + ")");
  }

  void blocklists(Section& reputation_section) {
    auto data = read_blocklists(parse_yaml(shipped_blocklists, "blocklists.yaml", problems_), "blocklists.yaml", problems_);
    reputation_section.named("blocklists", [&](const std::string& name, Section& s) {
      if (!valid_name(name)) s.problem("", "names are letters, digits, '.', '-' and '_'");
      const bool fresh = !data.lists.contains(name);
      BlocklistEntry& entry = data.lists[name];
      entry.list.name = name;
      if (fresh) entry.list.codes[IpAddress::v4(127, 0, 0, 2)] = routing::CodeMeaning::listed;
      read_blocklist(s, entry);
      if (entry.list.zone.empty())
        s.problem("zone", "is required");
      else if (!smtp::valid_domain(entry.list.zone, false) || entry.list.zone.size() > 180)
        s.problem("zone", "expected a DNS zone");
      if (const auto* dead = routing::find_dead(data.dead, entry.list.zone); dead && entry.list.enabled)
        s.problem("zone", entry.list.zone + " is dead (" + dead->since + "): " + dead->reason);
      take_key_from_zone(entry);
      if (entry.list.names && entry.list.enabled)
        s.problem("enabled", "this list holds names, not addresses: it is known for what replies say and never asked");
      check_key(s, entry, data.dead);
      for (const auto& provider : entry.list.concerns)
        if (!config_->providers.named(provider) && provider.find('.') == std::string::npos)
          s.problem("concerns",
                    "no provider is called " + provider + " (a site of no known provider has its first MX host's name)");
    });
    for (auto& [name, entry] : data.lists) config_->blocklists.emplace(name, finished(std::move(entry)));
  }

  /// A zone written with the key inside, KEY.zen.dq.spamhaus.net for one, means the same as `key`, and is as secret.
  static void take_key_from_zone(BlocklistEntry& entry) {
    constexpr std::string_view mark = "{key}";
    if (!entry.key.empty() || !entry.keyed_zone.starts_with(mark)) return;
    const std::string rest = smtp::lower(std::string_view(entry.keyed_zone).substr(mark.size()));
    if (rest.size() < 2 || !entry.list.zone.ends_with(rest) || entry.list.zone.size() == rest.size()) return;
    entry.key = entry.list.zone.substr(0, entry.list.zone.size() - rest.size());
  }

  static void check_key(Section& s, const BlocklistEntry& entry, const std::vector<routing::DeadZone>& dead) {
    if (s.take("key") && entry.key.empty()) s.problem("key", "must not be empty");
    if (entry.key.empty()) return;
    if (entry.keyed_zone.empty()) return s.problem("key", "this list has no keyed zone");
    const std::string zone = replace_all(entry.keyed_zone, "{key}", entry.key);
    if (!smtp::valid_domain(zone, false) || zone.size() > 180) s.problem("key", "does not make a DNS zone");
    if (const auto* gone = routing::find_dead(dead, zone))
      s.problem("keyed_zone", "is dead (" + gone->since + "): " + gone->reason);
  }

  static routing::Blocklist finished(BlocklistEntry entry) {
    routing::Blocklist list = std::move(entry.list);
    list.public_zone = list.zone;
    if (!entry.key.empty() && !entry.keyed_zone.empty()) {
      list.zone = replace_all(entry.keyed_zone, "{key}", entry.key);
      list.public_zone = replace_all(entry.keyed_zone, "{key}", "KEY");
      list.keyed = true;
      list.key = entry.key;
    } else if (entry.needs_key && list.enabled) {
      list.enabled = false;
      list.disabled_reason = "needs a key";
    }
    if (list.names) list.disabled_reason = "lists names, not addresses";
    if (!list.enabled && list.disabled_reason.empty()) list.disabled_reason = "not enabled";
    return list;
  }

  // ---- the rest --------------------------------------------------------------------------------------------------

  void admin(Section& root) {
    Admin& a = config_->admin;
    Section s = root.section("admin");
    s.text("address", a.address);
    const auto parsed = parse_host_port(a.address);
    const auto address = parsed ? IpAddress::parse(parsed->host) : std::nullopt;
    if (address) {
      a.ip = *address;
      a.port = parsed->port;
    } else {
      s.problem("address", "expected an IP address and a port, e.g. 127.0.0.1:8025");
    }
    const bool given = s.take("token") != nullptr;
    s.text("token", a.token);
    if (given && a.token.empty()) s.problem("token", "must not be empty");
    const bool local = routing::Network::parse("127.0.0.0/8")->contains(a.ip) || a.ip == *IpAddress::parse("::1");
    if (a.token.empty() && !local) s.problem("token", "is required when the address is not a loopback one");
    s.finish();
  }

  void log(Section& root) {
    Section s = root.section("log");
    s.text("level", config_->log.level);
    const std::vector<std::string> levels{"debug", "info", "warn", "error"};
    if (std::ranges::find(levels, config_->log.level) == levels.end()) s.problem("level", "expected debug, info, warn or error");
    s.text("format", config_->log.format);
    if (config_->log.format != "json" && config_->log.format != "text") s.problem("format", "expected json or text");
    s.finish();
  }

  IpAddress ip(Section& s, std::string_view key, bool required) {
    std::string text;
    s.text(key, text);
    const auto parsed = IpAddress::parse(text);
    if (!parsed && (required || !text.empty())) s.problem(key, text + ": expected an IP address");
    const bool any = parsed && (parsed->unmapped() == IpAddress::v4(0, 0, 0, 0) || *parsed == *IpAddress::parse("::"));
    if (any) s.problem(key, "a source is one address: its reputation is what counts");
    return parsed.value_or(IpAddress{});
  }

  const std::string& file_;
  const Environment& environment_;
  Problems& problems_;
  std::shared_ptr<Config> config_;
};

template <class T>
std::optional<std::uint32_t> index_of(const std::vector<T>& all, std::string_view name) {
  const auto it = std::ranges::find_if(all, [&](const T& one) { return !one.removed && one.name == name; });
  if (it == all.end()) return std::nullopt;
  return static_cast<std::uint32_t>(it - all.begin());
}

}  // namespace

std::optional<std::uint32_t> Config::class_named(std::string_view name) const {
  return index_of(classes, name);
}

std::uint32_t Config::first_class() const {
  return static_cast<std::uint32_t>(std::ranges::find(classes, false, &MessageClass::removed) - classes.begin());
}

std::optional<std::uint32_t> Config::pool_named(std::string_view name) const {
  return index_of(topology.pools, name);
}

std::optional<std::uint32_t> Config::smarthost_named(std::string_view name) const {
  return index_of(smarthosts, name);
}

bool Config::has(routing::EgressRef egress) const {
  return egress.kind == routing::EgressKind::source ? !topology.sources[egress.index].removed : !smarthosts[egress.index].removed;
}

std::shared_ptr<const Config> load_text(std::string_view text, const std::string& file, const Environment& environment,
                                        Problems& problems) {
  return Loader(file, environment, problems).load(text);
}

std::shared_ptr<const Config> load_file(const std::string& path, const Environment& environment, Problems& problems) {
  std::ifstream in(path, std::ios::binary);
  if (!in) {
    problems.push_back({path, 0, 0, "", "cannot be read"});
    return nullptr;
  }
  std::ostringstream text;
  text << in.rdbuf();
  if (text.str().size() > (4u << 20)) {
    problems.push_back({path, 0, 0, "", "larger than 4 MB: not a configuration"});
    return nullptr;
  }
  return load_text(text.str(), path, environment, problems);
}

Environment process_environment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (!value) return std::nullopt;
    return value;
  };
}

}  // namespace egret::config
