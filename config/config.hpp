// The configuration as one immutable value. Loading reports every problem at once; a Config that was returned is
// valid. Sessions and messages keep the Config they started with.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "config/alerts.hpp"
#include "config/problem.hpp"
#include "config/tree.hpp"
#include "config/users.hpp"
#include "routing/budget.hpp"
#include "routing/message_class.hpp"
#include "routing/poison.hpp"
#include "routing/reply_lint.hpp"
#include "routing/reply_rules.hpp"
#include "routing/route.hpp"
#include "routing/site.hpp"
#include "routing/standing.hpp"
#include "smtp/client_session.hpp"
#include "smtp/dkim.hpp"
#include "smtp/server_session.hpp"
#include "smtp/socks5.hpp"

namespace egret::config {

// What only a few files read stands behind a pointer, in a header of its own: a change there recompiles only those.
struct Brakes;         // config/brakes.hpp
struct EspEvents;      // config/esp_events.hpp
struct EventListener;  // config/esp_events.hpp
struct HttpApi;        // config/http_api.hpp
struct Readiness;      // config/readiness.hpp
struct Spending;       // config/spending.hpp

enum class ListenerTls { none, starttls, implicit };

struct Listener {
  std::string address;  ///< as written, for logs
  routing::IpAddress ip;
  std::uint16_t port = 0;
  bool pass_through = false;  ///< the client waits for the receiver's verdict; else the message is queued
  ListenerTls tls = ListenerTls::none;
  smtp::AuthRule auth = smtp::AuthRule::optional;
  bool submission = false;                       ///< RFC 6409 fixes
  std::vector<routing::Network> allow;           ///< clients that may relay
  std::vector<routing::Network> normalize;       ///< clients whose bare CR and LF are repaired
  std::vector<routing::Network> xclient;         ///< peers whose XCLIENT and XFORWARD are believed
  std::vector<routing::Network> proxy_protocol;  ///< peers that send a PROXY header, always
  std::uint32_t message_class = 0;               ///< index into classes
};

/// The listeners' certificate; both empty where no listener speaks TLS.
struct ServerTls {
  std::string certificate;  ///< PEM file, chain included
  std::string key;          ///< PEM file
};

struct Limits {
  std::uint64_t message_size = 50u << 20;
  int recipients = 1000;
  int connections = 10000;
  int connections_per_client = 200;
  int connections_out = 2000;  ///< to receivers and smarthosts together, over all workers
  std::optional<routing::Budget> rate_per_client;  ///< recipients that one client address may send to; not for users
};

struct SpoolLimits {
  std::uint64_t reserve = 1u << 30;  ///< octets of free disk kept
  std::uint64_t cache = 256u << 20;  ///< octets of bodies held in memory
};

struct MessageClass {
  std::string name;
  std::uint32_t pool = 0;
  routing::Duration max_age{std::chrono::hours(24)};
  bool spill = true;
  int weight = 1;                            ///< its part of the service where classes meet
  std::shared_ptr<const Spending> spending;  ///< of all smarthosts together; null: no limit
  bool removed = false;                      ///< of an earlier configuration: only messages from then are in it
};

/// What is signed in the name of a domain; a domain may have several keys.
struct DkimSigner {
  std::string domain;
  std::string selector;
  std::shared_ptr<const smtp::DkimKey> key;
};

enum class DkimRule { keep, strip, sign };

/// A proxy through which a source's address is reached: the address is the proxy's, not this host's.
struct Via {
  enum class Kind { socks5, haproxy };
  Kind kind = Kind::socks5;
  routing::IpAddress ip;
  std::uint16_t port = 0;
  std::optional<smtp::Socks5Login> login;
};
/// "socks5://[user:password@]10.0.0.5:1080" or "haproxy://10.0.0.5:8125"; user and password percent-encoded where they
/// hold '@', ':' or '/'.
std::optional<Via> parse_via(std::string_view text);

struct Smarthost {
  std::string name;
  std::string provider;  ///< preset, "generic" where none
  std::string host;
  std::vector<std::uint16_t> ports;         ///< tried in order
  std::vector<std::uint16_t> implicit_tls;  ///< those of them that start with TLS
  smtp::TlsMode tls = smtp::TlsMode::required;
  std::optional<smtp::Credentials> credentials;
  std::string ca;  ///< PEM file; empty: the system's store
  std::optional<routing::Budget> budget;
  int connections = 10;
  int messages_per_connection = 100;
  int recipients = 100;            ///< in one transaction
  std::uint64_t message_size = 0;  ///< 0: no limit known
  DkimRule dkim = DkimRule::keep;
  std::vector<std::string> rewrites;  ///< lower-case names of header fields that it replaces: left out of signatures
  routing::QuotaRenewal quota = routing::QuotaRenewal::midnight;
  std::vector<std::pair<std::string, std::string>> add_headers;  ///< name and value; they replace fields of the same name
  std::vector<std::string> keep_headers;                         ///< globs of fields that are stripped elsewhere
  std::shared_ptr<const HttpApi> api;                            ///< its HTTP API is used; null: by SMTP only
  std::shared_ptr<const Spending> spending;                      ///< cost, budget in money, rate; null: none is given
  std::shared_ptr<const Readiness> readiness;                    ///< what is asked of sender domains; null: the defaults
  std::shared_ptr<const EspEvents> events;                       ///< its webhooks are taken; null: they are not
  bool removed = false;                                          ///< of an earlier configuration: nothing new goes by it

  /// Whether it is reached and logged in to in the same way.
  bool same_door(const Smarthost& other) const {
    return host == other.host && ports == other.ports && implicit_tls == other.implicit_tls && tls == other.tls &&
           ca == other.ca && credentials == other.credentials;
  }
};

struct Delivery {
  std::uint16_t port = 25;
  std::vector<routing::Duration> retry;
  int connections_per_site = 20;  ///< per source
  int messages_per_connection = 100;
  routing::Duration warn_after{std::chrono::hours(4)};
  bool allow_private = false;
  smtp::TlsMode tls = smtp::TlsMode::opportunistic;
  bool mta_sts = true;  ///< recipient domains' policies are looked up and obeyed (RFC 8461)
};

struct RouteOverride {
  std::string domain;  ///< "example.com" or "*.example.com"
  std::optional<HostPort> to;
  std::optional<std::uint32_t> pool;
};

struct Dns {
  std::vector<HostPort> servers;  ///< empty: the system's
  routing::Duration timeout{std::chrono::seconds(2)};
  int tries = 3;
  bool dnssec = false;  ///< the servers validate DNSSEC and their AD bit is believed
  bool operator==(const Dns&) const = default;
};

struct Admin {
  std::string address = "127.0.0.1:8025";
  routing::IpAddress ip = routing::IpAddress::v4(127, 0, 0, 1);
  std::uint16_t port = 8025;
  std::string token;
};

struct Log {
  std::string level = "info";
  std::string format = "text";
};

struct Config {
  std::uint64_t version = 0;  ///< one more with each reload
  std::string file;
  std::string hostname;
  std::string data_dir = "/var/lib/egret";
  int threads = 0;  ///< 0: one per core
  std::vector<Listener> listeners;
  ServerTls tls;
  std::string users_file;              ///< empty: nobody can log in
  std::shared_ptr<const Users> users;  ///< as read at the start; the file is watched
  Limits limits;
  SpoolLimits spool;
  std::vector<MessageClass> classes;
  std::shared_ptr<const routing::MessageClassifier> classifier;
  std::vector<DkimSigner> dkim;
  std::vector<std::string> strip;       ///< globs of header fields that do not travel on
  std::vector<std::optional<Via>> via;  ///< parallel to topology.sources
  routing::Topology topology;           ///< sources, smarthost names, pools
  std::vector<Smarthost> smarthosts;    ///< parallel to topology.smarthosts
  Delivery delivery;
  std::vector<RouteOverride> routes;
  Dns dns;
  routing::StandingPolicy reputation;
  routing::PoisonPolicy poison;
  routing::Blocklists blocklists;
  routing::QueryRate blocklist_queries{50, std::chrono::seconds(1)};  ///< all lists together
  std::shared_ptr<const routing::ReplyRules> replies;
  routing::Providers providers;
  Admin admin;
  Log log;
  std::vector<AlertTarget> alerts;
  std::shared_ptr<const Brakes> brakes;                 ///< null: the defaults
  std::shared_ptr<const EventListener> event_listener;  ///< where ESPs' webhooks arrive; null: nowhere

  /// The classes that a pool serves, by index.
  std::optional<std::uint32_t> class_named(std::string_view name) const;
  /// The one that takes the messages of a class that is gone.
  std::uint32_t first_class() const;
  std::optional<std::uint32_t> pool_named(std::string_view name) const;
  std::optional<std::uint32_t> smarthost_named(std::string_view name) const;
  /// Whether the configuration still has this egress.
  bool has(routing::EgressRef egress) const;
};

/// Reads a configuration file. Null, with at least one problem, when it cannot be used.
std::shared_ptr<const Config> load_file(const std::string& path, const Environment& environment, Problems& problems);

/// The same from text; `file` is what problems name.
std::shared_ptr<const Config> load_text(std::string_view text, const std::string& file, const Environment& environment,
                                        Problems& problems);

/// Reads the users file again. Null, with at least one problem, when it cannot be used.
std::shared_ptr<const Users> load_users(const Config& config, Problems& problems);

/// The process's environment.
Environment process_environment();

/// What the linter finds in `rules`: names are checked against the shipped providers and blocklists, and against
/// `blocklists` (those of a configuration).
std::vector<routing::LintFinding> lint_replies(const routing::ReplyRules& rules, const routing::Blocklists& blocklists);

/// The shipped reply rules, compiled. Problems in them are ours: they go to `problems` too.
std::shared_ptr<const routing::ReplyRules> shipped_reply_rules(Problems& problems);

}  // namespace egret::config
