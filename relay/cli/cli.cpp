#include "relay/cli/cli.hpp"

#include <CLI/CLI.hpp>

#include <boost/json.hpp>
#include <fstream>
#include <iostream>

#include "config/config.hpp"
#include "relay/cli/admin_client.hpp"
#include "relay/cli/classify.hpp"
#include "relay/cli/doctor.hpp"
#include "relay/cli/hash_password.hpp"
#include "relay/cli/print.hpp"
#include "relay/cli/queue.hpp"
#include "relay/cli/replay.hpp"
#include "relay/cli/simulate.hpp"
#include "relay/cli/spool.hpp"
#include "relay/esp/event_server.hpp"
#include "relay/net/tls.hpp"
#include "relay/program.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;
using Printer = std::string (*)(const json::value&);

struct Options {
  std::string file = "/etc/egret/egret.yaml";
  std::string admin;
  std::string token_file;
  bool as_json = false;
  std::string from, to, message_class, name, provider, state, message;
  std::uint64_t seed = 1;
  bool scram = false;
  std::string selector;
  bool bounce = false;
  int limit = 100;
  std::string by = "user";
  int hours = 24;
  int top = 20;
};

std::shared_ptr<const config::Config> load(const Options& o, int& code) {
  config::Problems problems;
  auto config = config::load_file(o.file, config::process_environment(), problems);
  for (const auto& problem : problems) std::cerr << problem.to_string() << "\n";
  code = config ? 0 : 1;
  return config;
}

int run(const Options& o) {
  int code = 0;
  const auto config = load(o, code);
  return config ? run_program(config) : code;
}

int run_doctor(const Options& o, const std::vector<std::string>& domains) {
  int code = 0;
  const auto config = load(o, code);
  return config ? doctor_command(*config, domains, o.as_json) : code;
}

void print_problems(const config::Problems& problems) {
  for (const auto& problem : problems) std::cerr << problem.to_string() << "\n";
}

/// Whether files of certificates and keys can be used is for the TLS library to say. A start needs all of them.
void check_tls(const config::Config& config, config::Problems& problems) {
  const auto attempt = [&](const std::string& key, const auto& load) {
    try {
      load();
    } catch (const std::exception& e) {
      problems.push_back({config.file, 0, 0, key, e.what()});
    }
  };
  const auto authority = [&](const std::string& key, const std::string& ca) {
    attempt(key, [&] { TlsContext::client(true, ca); });
  };
  if (!config.tls.certificate.empty()) attempt("tls", [&] { TlsContext::server(config.tls.certificate, config.tls.key, ""); });
  for (const auto& smarthost : config.smarthosts) authority("smarthosts." + smarthost.name + ".ca", smarthost.ca);
  for (const auto& target : config.alerts)
    if (target.webhook) authority("alerts", target.webhook->ca);
  if (!config.event_listener) return;
  attempt("esp_events.tls", [&] { EventServer::tls_of(*config.event_listener); });
  if (const auto& forward = config.event_listener->forward) authority("esp_events.forward.ca", forward->webhook.ca);
}

int check(const Options& o) {
  config::Problems problems;
  auto config = config::load_file(o.file, config::process_environment(), problems);
  if (config) check_tls(*config, problems);
  if (!problems.empty()) config = nullptr;
  if (o.as_json) {
    json::array list;
    for (const auto& p : problems)
      list.push_back(json::object{{"file", p.file}, {"line", p.line}, {"column", p.column}, {"key", p.key}, {"text", p.text}});
    std::cout << json::serialize(json::object{{"valid", config != nullptr}, {"problems", std::move(list)}}) << "\n";
  } else {
    print_problems(problems);
    if (config) std::cout << o.file << ": valid\n";
  }
  return config ? 0 : 1;
}

// ---- commands to a running egret ---------------------------------------------------------------------------------

AdminTarget target(const Options& o) {
  AdminTarget out;
  if (!o.admin.empty()) {
    out = parse_admin_url(o.admin);
  } else {
    config::Problems problems;
    const auto config = config::load_file(o.file, config::process_environment(), problems);
    if (!config) throw std::runtime_error(problems.front().to_string() + " (or give --admin URL)");
    out.host = config->admin.ip.to_string();
    if (config->admin.ip == routing::IpAddress::v4(0, 0, 0, 0)) out.host = "127.0.0.1";
    out.port = std::to_string(config->admin.port);
    out.token = config->admin.token;
  }
  if (!o.token_file.empty()) {
    std::ifstream in(o.token_file);
    if (!in || !std::getline(in, out.token)) throw std::runtime_error("cannot read " + o.token_file);
  }
  return out;
}

int show(const Options& o, const json::value& value, Printer print) {
  std::cout << (o.as_json ? json::serialize(value) + "\n" : print(value));
  return 0;
}

int get(const Options& o, const std::string& path, Printer print) {
  return show(o, admin_get(target(o), path), print);
}

int done(const Options& o, const json::value& value) {
  std::cout << (o.as_json ? json::serialize(value) : "done") << "\n";
  return 0;
}

int explain(const Options& o) {
  if (o.message.empty() == o.to.empty()) throw std::runtime_error("expected either --to or --message");
  if (!o.message.empty())
    return show(o, admin_post(target(o), "/api/v1/route", json::object{{"message", o.message}}), print_route);
  json::object request{{"from", o.from}, {"to", o.to}};
  if (!o.message_class.empty()) request["class"] = o.message_class;
  return show(o, admin_post(target(o), "/api/v1/route", request), print_route);
}

/// A name as one segment of a path (RFC 3986 section 2.3: the rest is escaped).
std::string escape_path(std::string_view name) {
  constexpr std::string_view plain = "-._~", digits = "0123456789ABCDEF";
  std::string out;
  for (const char c : name) {
    const auto octet = static_cast<unsigned char>(c);
    if ((octet < 0x80 && std::isalnum(octet)) || plain.find(c) != std::string_view::npos)
      out += c;
    else
      out += {'%', digits[octet >> 4], digits[octet & 15]};
  }
  return out;
}

int drain(const Options& o, const std::string& action) {
  json::object request;
  if (!o.provider.empty()) request["provider"] = o.provider;
  return done(o, admin_post(target(o), "/api/v1/sources/" + o.name + "/" + action, request));
}

int recheck(const Options& o) {
  json::object request;
  if (!o.name.empty()) request["source"] = o.name;
  return done(o, admin_post(target(o), "/api/v1/recheck", request));
}

/// What the running egret would refuse is refused here already, with every problem named.
int reload(const Options& o) {
  if (o.admin.empty()) {
    config::Problems problems;
    if (!config::load_file(o.file, config::process_environment(), problems)) {
      print_problems(problems);
      return 1;
    }
  }
  const json::value result = admin_post(target(o), "/api/v1/reload", json::object{});
  if (o.as_json) return show(o, result, nullptr);
  std::cout << "reloaded\n";
  for (const auto& key : result.at("restart").as_array())
    std::cout << json::value_to<std::string>(key) << ": shows only after a restart\n";
  return 0;
}

int upgrade(const Options& o) {
  const json::value result = admin_post(target(o), "/api/v1/upgrade", json::object{});
  if (o.as_json) return show(o, result, nullptr);
  std::cout << json::value_to<std::string>(result.at("program")) << " (" << json::value_to<std::string>(result.at("version"))
            << ") takes over as soon as what runs has ended\n";
  return 0;
}

int release_sender(const Options& o) {
  return done(o, admin_post(target(o), "/api/v1/senders/release", json::object{{"sender", o.name}}));
}

/// Who sends what, and whom the poison guard holds.
int senders(const Options& o) {
  json::value all = admin_get(
      target(o), "/api/v1/senders/top?by=" + o.by + "&hours=" + std::to_string(o.hours) + "&limit=" + std::to_string(o.top));
  all.as_object()["guarded"] = admin_get(target(o), "/api/v1/senders");
  return show(o, all, print_top_senders);
}

int user(const Options& o, const std::string& action) {
  return done(o, admin_post(target(o), "/api/v1/users/" + escape_path(o.name) + "/" + action, json::object{}));
}

int queue(const Options& o) {
  std::string path = "/api/v1/queue?limit=" + std::to_string(o.limit);
  if (!o.message_class.empty()) path += "&class=" + o.message_class;
  if (!o.state.empty()) path += "&state=" + o.state;
  return get(o, path, print_queue);
}

int change_queue(const Options& o, const std::string& action) {
  const json::value value = queue_command(target(o), action, o.selector, o.bounce);
  std::cout << (o.as_json ? json::serialize(value) + "\n" : print_queue_command(action, value));
  return 0;
}

}  // namespace

int run_cli(int argc, char** argv) {
  Options o;
  std::function<int()> command;
  CLI::App app{"egret: an outbound SMTP relay that routes around listed IPs"};
  app.set_version_flag("--version", std::string("egret ") + EGRET_VERSION);
  app.require_subcommand(1);
  const auto add = [&](CLI::App& parent, const char* name, const char* help, std::function<int()> what) {
    CLI::App* sub = parent.add_subcommand(name, help);
    sub->add_option("-c,--config", o.file, "configuration file")->capture_default_str();
    sub->add_flag("--json", o.as_json, "print JSON");
    // A command inside another one is called first, and means itself.
    sub->callback([&command, what = std::move(what)] {
      if (!command) command = what;
    });
    return sub;
  };
  const auto remote = [&](CLI::App& parent, const char* name, const char* help, std::function<int()> what) {
    CLI::App* sub = add(parent, name, help, std::move(what));
    sub->add_option("--admin", o.admin, "admin address of a running egret, http://HOST:PORT");
    sub->add_option("--token-file", o.token_file, "file whose first line is the admin token");
    return sub;
  };
  CLI::App* hash = app.add_subcommand("hash-password", "read a password and print its hash for the users file");
  hash->add_flag("--scram", o.scram, "a SCRAM-SHA-256 secret instead of a crypt(3) hash");
  hash->callback([&] { command = [&o] { return hash_password_command(o.scram); }; });
  add(app, "run", "run the relay", [&] { return run(o); });
  add(app, "check", "check the configuration and report every problem", [&] { return check(o); });
  std::vector<std::string> domains;
  add(app, "doctor", "check DNS, sources, blocklists, smarthosts and sender domains once", [&] {
    return run_doctor(o, domains);
  })->add_option("--domain", domains, "a sender domain to check, besides those with a DKIM key");
  ClassifyOptions judging;
  CLI::App* sub = app.add_subcommand("classify", "judge SMTP replies read from standard input, one a line");
  sub->add_option("-c,--config", judging.file, "judge by this configuration's rules, not by the shipped ones alone");
  sub->add_flag("--json", judging.as_json, "print JSON");
  sub->add_flag("--explain", judging.explain, "also show confidence, delisting link and the other rules that fit");
  sub->add_option("--ip", judging.ip, "our address on the connection that brought the reply");
  sub->add_option("--provider", judging.provider, "the provider that said it");
  sub->add_option("--phase", judging.phase, "when: connect, ehlo, tls, auth, mail, rcpt, data or final");
  sub->add_flag("--lint", judging.lint, "look at the rules instead: report those that cannot work, exit 1 if any");
  sub->callback([&] { command = [&judging] { return classify_command(judging); }; });
  sub = add(app, "simulate", "run a day of traffic and troubles against the configuration, without network",
            [&] { return simulate_command(o.name, o.file, o.seed, o.as_json); });
  sub->add_option("scenario", o.name, "scenario file (YAML)")->required();
  sub->add_option("--seed", o.seed, "of the draws: the same seed gives the same report")->capture_default_str();
  sub = add(app, "replay", "judge recorded replies again and show what changed rules change",
            [&] { return replay_command(o.name, o.file, o.file == Options{}.file, o.as_json); });
  sub->add_option("recorded", o.name, "Egret's JSON log, or replies one a line; - is standard input")->required();
  sub = remote(app, "explain", "show the route that a message would take now, and why", [&] { return explain(o); });
  sub->add_option("--from", o.from, "sender address");
  sub->add_option("--to", o.to, "recipient address");
  sub->add_option("--message", o.message, "id of a message that waits, in place of addresses");
  sub->add_option("--class", o.message_class, "traffic class");
  remote(app, "sources", "standings of all sources", [&] { return get(o, "/api/v1/sources", print_sources); });
  remote(app, "pools", "pools and their members", [&] { return get(o, "/api/v1/pools", print_pools); });
  remote(app, "smarthosts", "smarthosts, their state and budget", [&] { return get(o, "/api/v1/smarthosts", print_smarthosts); });
  remote(app, "ready", "whether logins work and sender domains are prepared at each smarthost",
         [&] { return get(o, "/api/v1/smarthosts", print_readiness); });
  remote(app, "blocklists", "blocklists and their health", [&] { return get(o, "/api/v1/blocklists", print_blocklists); });
  remote(app, "events", "what happened lately", [&] {
    return get(o, "/api/v1/events?limit=" + std::to_string(o.limit), print_events);
  })->add_option("--limit", o.limit, "how many");
  sub = remote(app, "message", "history of one message", [&] { return get(o, "/api/v1/messages/" + o.name, print_message); });
  sub->add_option("id", o.name, "message id")->required();
  sub = remote(app, "recheck", "ask all blocklists again now", [&] { return recheck(o); });
  sub->add_option("source", o.name, "only this source");
  sub = remote(app, "queue", "what is waiting", [&] { return queue(o); });
  sub->add_option("--limit", o.limit, "how many messages to list");
  sub->add_option("--class", o.message_class, "only this class");
  sub->add_option("--state", o.state, "only this state: ready, active, scheduled, held");
  for (const auto& [action, help] :
       {std::pair{"retry", "make what waits for its time due now"}, std::pair{"hold", "do not try it until it is released"},
        std::pair{"release", "end a hold: due now"}, std::pair{"cancel", "end it without a delivery"}}) {
    CLI::App* change = remote(*sub, action, help, [&o, action = std::string(action)] { return change_queue(o, action); });
    auto* selector = change->add_option("selector", o.selector,
                                        "id=, class=, user=, sender=, domain=, site=, egress=, state= (a,b: both) or all");
    const bool harmless = action == std::string("retry") || action == std::string("release");
    if (!harmless) selector->required();
    if (action == std::string("cancel")) change->add_flag("--bounce", o.bounce, "report it to the sender");
  }
  remote(app, "reload", "read the configuration file again", [&] { return reload(o); });
  remote(app, "upgrade", "let the program on disk take the place of the running one", [&] { return upgrade(o); });
  sub = remote(app, "senders", "who sends what, and whose mail is held, slowed or watched", [&] { return senders(o); });
  sub->add_option("--by", o.by, "user, sender, domain or network")
      ->check(CLI::IsMember({"user", "sender", "domain", "network"}))
      ->capture_default_str();
  sub->add_option("--hours", o.hours, "how far back")->check(CLI::Range(1, 48))->capture_default_str();
  sub->add_option("--top", o.top, "how many")->check(CLI::Range(1, 1000))->capture_default_str();
  remote(app, "users", "users, what is usual for them, and who is slowed or suspended",
         [&] { return get(o, "/api/v1/users", print_users); });
  CLI::App* account = app.add_subcommand("user", "suspend a user or let him send again");
  account->require_subcommand(1);
  for (const std::string action : {"resume", "suspend"}) {
    sub = remote(*account, action.c_str(), action == "resume" ? "his mail goes again" : "450 for his mail, and hold what waits",
                 [&o, action] { return user(o, action); });
    sub->add_option("name", o.name, "user")->required();
  }
  CLI::App* sender = app.add_subcommand("sender", "let a sender's mail go again");
  sender->require_subcommand(1);
  sub = remote(*sender, "release", "end the hold of a sender", [&] { return release_sender(o); });
  sub->add_option("sender", o.name, "envelope sender address")->required();
  CLI::App* spool = app.add_subcommand("spool", "look at a spool on disk, and save what can be saved of it");
  spool->require_subcommand(1);
  SpoolCommand on_disk;
  const auto offline = [&](const char* name, const char* help, int (*what)(const SpoolCommand&)) {
    return add(*spool, name, help, [&o, &on_disk, what] {
      on_disk.config = o.file;
      on_disk.as_json = o.as_json;
      return what(on_disk);
    });
  };
  offline("verify", "read every record and name each damage; exit 1 if there is any", spool_verify)
      ->add_option("directory", on_disk.directory, "a spool or data_dir, in place of the configuration's");
  sub = offline("dump", "list what waits, or write one message to standard output", spool_dump);
  sub->add_option("id", on_disk.id, "message id");
  sub->add_option("--directory", on_disk.directory, "a spool or data_dir, in place of the configuration's");
  sub = offline("salvage", "write what can be saved to a new spool; the old one is not changed", spool_salvage);
  sub->add_option("to", on_disk.to, "the new spool's directory")->required();
  sub->add_option("--directory", on_disk.directory, "a spool or data_dir, in place of the configuration's");
  CLI::App* replies = app.add_subcommand("replies", "what receivers said");
  replies->require_subcommand(1);
  remote(*replies, "unknown", "refusals that no rule understood, the most frequent first",
         [&] { return get(o, "/api/v1/replies/unknown", print_unknown_replies); });
  CLI::App* source = app.add_subcommand("source", "take a source out of service or bring it back");
  source->require_subcommand(1);
  for (const std::string action : {"drain", "resume"}) {
    sub = remote(*source, action.c_str(), action == "drain" ? "no new mail by this source" : "end a drain",
                 [&o, action] { return drain(o, action); });
    sub->add_option("name", o.name, "source")->required();
    sub->add_option("--provider", o.provider, "only with this provider");
  }
  try {
    app.parse(argc, argv);
    return command();
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 1;
  } catch (const std::exception& e) {
    std::cerr << "egret: " << e.what() << "\n";
    return 1;
  }
}

}  // namespace egret::relay
