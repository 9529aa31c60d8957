#include "routing/spf.hpp"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "smtp/text.hpp"

namespace egret::routing {
namespace {

using Status = DnsAnswer::Status;

constexpr int max_lookups = 10;  // RFC 7208 section 4.6.4, as are the next two
constexpr int max_void = 2;
constexpr std::size_t max_hosts = 10;
constexpr std::size_t max_name = 253;
constexpr std::size_t max_terms = 200;          // of one record: more do not fit into any that DNS carries
constexpr std::size_t max_records_walked = 20;  // twice what an evaluation could reach

enum class Kind { all, include, a, mx, ptr, ip4, ip6, exists };

struct Mechanism {
  SpfResult qualifier = SpfResult::pass;
  Kind kind = Kind::all;
  std::string spec;  ///< domain-spec, empty: the current domain
  Network network;   ///< ip4, ip6
  unsigned prefix4 = 32;
  unsigned prefix6 = 128;
  std::string text;  ///< as written
};

struct Record {
  std::vector<Mechanism> mechanisms;
  std::optional<std::string> redirect;
  std::string problem;  ///< syntax error: nothing else counts then
};

bool alpha(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool digit(char c) {
  return c >= '0' && c <= '9';
}

std::optional<unsigned> number(std::string_view text, unsigned max) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty() || value > max) return std::nullopt;
  if (text.size() > 1 && text.front() == '0') return std::nullopt;
  return value;
}

std::optional<Kind> kind_named(std::string_view name) {
  using enum Kind;
  static constexpr std::pair<std::string_view, Kind> kinds[] = {
      {"all", all}, {"include", include}, {"a", a}, {"mx", mx}, {"ptr", ptr}, {"ip4", ip4}, {"ip6", ip6}, {"exists", exists}};
  for (const auto& [known, kind] : kinds)
    if (smtp::iequals(known, name)) return kind;
  return std::nullopt;
}

/// Cuts "/24", "//64" or "/24//64" off the end of what follows the name of an a or mx (section 5: dual-cidr-length). A slash
/// inside braces is a delimiter of a macro.
bool take_prefixes(std::string_view& rest, Mechanism& out) {
  const std::size_t brace = rest.rfind('}');
  const std::size_t slash = rest.find('/', brace == std::string_view::npos ? 0 : brace);
  if (slash == std::string_view::npos) return true;
  std::string_view lengths = rest.substr(slash);
  rest = rest.substr(0, slash);
  if (const std::size_t six = lengths.find("//"); six != std::string_view::npos) {
    const auto prefix = number(lengths.substr(six + 2), 128);
    if (!prefix) return false;
    out.prefix6 = *prefix;
    lengths = lengths.substr(0, six);
  }
  if (lengths.empty()) return true;
  const auto prefix = number(lengths.substr(1), 32);
  if (prefix) out.prefix4 = *prefix;
  return prefix.has_value();
}

/// The address of an ip4 or ip6 with its prefix. Host bits are allowed here: "ip4:192.0.2.1/24" is common.
bool parse_network(std::string_view text, Mechanism& out) {
  const bool six = out.kind == Kind::ip6;
  const std::size_t slash = text.find('/');
  const auto base = IpAddress::parse(text.substr(0, slash));
  if (!base || base->v6 != six) return false;
  out.network = {*base, six ? 128u : 32u};
  if (slash == std::string_view::npos) return true;
  const auto prefix = number(text.substr(slash + 1), six ? 128 : 32);
  if (prefix) out.network.prefix = *prefix;
  return prefix.has_value();
}

/// Whether the first `prefix` bits are the same. Unlike Network::contains it takes host bits for what they are: ignored.
bool same_network(const IpAddress& one, const IpAddress& other, unsigned prefix) {
  if (one.v6 != other.v6) return false;
  for (unsigned bit = 0; bit < prefix; ++bit) {
    const unsigned mask = 0x80u >> (bit % 8);
    if ((one.bytes[bit / 8] & mask) != (other.bytes[bit / 8] & mask)) return false;
  }
  return true;
}

bool parse_mechanism(std::string_view term, Mechanism& out) {
  out.text = std::string(term);
  if (const std::size_t sign = std::string_view("+-~?").find(term.front()); sign != std::string_view::npos) {
    static constexpr SpfResult results[] = {SpfResult::pass, SpfResult::fail, SpfResult::softfail, SpfResult::neutral};
    out.qualifier = results[sign];
    term.remove_prefix(1);
  }
  const std::size_t end = std::min(term.find_first_of(":/"), term.size());
  const auto kind = kind_named(term.substr(0, end));
  if (!kind) return false;
  out.kind = *kind;
  std::string_view rest = term.substr(end);
  const bool colon = rest.starts_with(':');
  if (*kind == Kind::ip4 || *kind == Kind::ip6) return colon && parse_network(rest.substr(1), out);
  if (*kind == Kind::a || *kind == Kind::mx) {
    if (!take_prefixes(rest, out)) return false;
  }
  if (rest.empty()) return *kind != Kind::include && *kind != Kind::exists;
  out.spec = std::string(rest.substr(1));
  return colon && *kind != Kind::all && !out.spec.empty();
}

/// The name of a modifier ("redirect" of "redirect=..."), or empty when the term is a mechanism.
std::string_view modifier_name(std::string_view term) {
  const std::size_t equals = term.find('=');
  if (equals == std::string_view::npos || equals == 0 || !alpha(term.front())) return {};
  const std::string_view name = term.substr(0, equals);
  const bool valid = std::ranges::all_of(name, [](char c) { return alpha(c) || digit(c) || c == '-' || c == '_' || c == '.'; });
  return valid ? name : std::string_view{};
}

Record parse_record(std::string_view text) {
  Record out;
  bool exp = false;
  const auto broken = [&](std::string_view term) { out.problem = "cannot be understood: " + std::string(term); };
  text.remove_prefix(std::string_view("v=spf1").size());
  for (std::size_t terms = 0; !text.empty(); ++terms) {
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view term = text.substr(0, end);
    text.remove_prefix(std::min(text.size(), end + 1));
    if (term.empty()) continue;
    if (terms >= max_terms) return broken("too many terms"), out;
    const std::string_view name = modifier_name(term);
    if (name.empty()) {
      if (!parse_mechanism(term, out.mechanisms.emplace_back())) return broken(term), out;
      continue;
    }
    const std::string_view value = term.substr(name.size() + 1);
    if (smtp::iequals(name, "redirect")) {
      if (out.redirect || value.empty()) return broken(term), out;
      out.redirect = std::string(value);
    } else if (smtp::iequals(name, "exp")) {
      if (std::exchange(exp, true)) return broken(term), out;
    }
  }
  return out;
}

bool is_record(std::string_view text) {
  return smtp::istarts_with(text, "v=spf1") && (text.size() == 6 || text[6] == ' ');
}

/// Something that DNS can be asked for.
bool askable(std::string_view name) {
  if (name.empty() || name.size() > max_name) return false;
  while (true) {
    const std::size_t dot = name.find('.');
    const std::string_view label = name.substr(0, dot);
    if (label.empty() || label.size() > 63) return false;
    if (!std::ranges::all_of(label, [](char c) { return c > ' ' && c < 127; })) return false;
    if (dot == std::string_view::npos) return true;
    name.remove_prefix(dot + 1);
  }
}

// ---- macros (section 7) ------------------------------------------------------------------------------------------

/// %{i}: dotted octets, or dotted nibbles.
std::string dotted(const IpAddress& address) {
  if (!address.v6) return address.to_string();
  constexpr std::string_view hex = "0123456789abcdef";
  std::string out;
  for (const std::uint8_t octet : address.bytes) {
    if (!out.empty()) out += '.';
    out += hex[octet >> 4];
    out += '.';
    out += hex[octet & 15];
  }
  return out;
}

std::optional<std::string> macro_value(char letter, const SpfSender& sender, std::string_view domain) {
  const IpAddress address = sender.address.unmapped();
  switch (letter) {
    case 's':
      return sender.local + "@" + sender.domain;
    case 'l':
      return sender.local;
    case 'o':
      return sender.domain;
    case 'd':
      return std::string(domain);
    case 'i':
      return dotted(address);
    case 'p':
      return "unknown";
    case 'v':
      return address.v6 ? "ip6" : "in-addr";
    case 'h':
      return sender.helo;
    default:
      return std::nullopt;  // c, r and t belong into explanations only
  }
}

std::string url_escaped(std::string_view text) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (alpha(c) || digit(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      out += '%';
      out += hex[octet >> 4];
      out += hex[octet & 15];
    }
  }
  return out;
}

/// `inside` is what stands between the braces: a letter, a number of parts to keep, 'r', delimiters.
std::optional<std::string> expand_macro(std::string_view inside, const SpfSender& sender, std::string_view domain) {
  if (inside.empty() || !alpha(inside.front())) return std::nullopt;
  const char letter = inside.front();
  const bool escaped = letter < 'a';
  auto value = macro_value(escaped ? static_cast<char>(letter + 32) : letter, sender, domain);
  if (!value) return std::nullopt;
  inside.remove_prefix(1);
  const auto digits = static_cast<std::size_t>(std::ranges::find_if_not(inside, digit) - inside.begin());
  std::size_t keep = max_name;
  if (digits > 0) {
    const auto wanted = number(inside.substr(0, digits), 128);
    if (!wanted || *wanted == 0) return std::nullopt;
    keep = *wanted;
  }
  inside.remove_prefix(digits);
  const bool reverse = !inside.empty() && (inside.front() == 'r' || inside.front() == 'R');
  if (reverse) inside.remove_prefix(1);
  constexpr std::string_view allowed = ".-+,/_=";
  if (inside.find_first_not_of(allowed) != std::string_view::npos) return std::nullopt;
  const std::string_view delimiters = inside.empty() ? std::string_view(".") : inside;
  std::vector<std::string> parts(1);
  for (const char c : *value) {
    if (delimiters.find(c) != std::string_view::npos)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  if (reverse) std::ranges::reverse(parts);
  std::string out;
  for (std::size_t i = parts.size() - std::min(keep, parts.size()); i < parts.size(); ++i) {
    out += parts[i];
    if (i + 1 < parts.size()) out += '.';
  }
  return escaped ? url_escaped(out) : out;
}

// ---- evaluation --------------------------------------------------------------------------------------------------

class Evaluation {
 public:
  Evaluation(const SpfSender& sender, const SpfAnswers& answers)
      : sender_(sender), address_(sender.address.unmapped()), answers_(answers) {}

  SpfOutcome run() {
    out_.result = check(smtp::lower(sender_.domain));
    out_.lookups = lookups_;
    if (!out_.reason.empty()) out_.term.clear();
    return std::move(out_);
  }

 private:
  enum class Match { yes, no, temperror, permerror };

  /// Null ends the evaluation: the answer is needed, or DNS has failed.
  const SpfAnswer* ask(std::string name, SpfQuestion::Type type) {
    SpfQuestion question{std::move(name), type};
    const auto known = answers_.find(question);
    if (known == answers_.end()) {
      out_.needs = std::move(question);
      return nullptr;
    }
    if (known->second.status != Status::failed) return &known->second;
    out_.reason = "DNS did not answer for " + question.name;
    return nullptr;
  }

  SpfResult error(std::string reason) {
    out_.reason = std::move(reason);
    return SpfResult::permerror;
  }

  /// check_host() of one domain (section 4).
  SpfResult check(const std::string& domain) {
    if (!askable(domain) || domain.find('.') == std::string::npos) {
      out_.reason = "not a domain: " + domain;
      return SpfResult::none;
    }
    const SpfAnswer* answer = ask(domain, SpfQuestion::Type::txt);
    if (!answer) return SpfResult::temperror;
    const std::string* text = nullptr;
    for (const std::string& candidate : answer->texts) {
      if (!is_record(candidate)) continue;
      if (text) return error(domain + " has several SPF records");
      text = &candidate;
    }
    if (!text) {
      out_.reason = domain + " has no SPF record";
      return SpfResult::none;
    }
    const Record record = parse_record(*text);
    if (!record.problem.empty()) return error("the SPF record of " + domain + " " + record.problem);
    return evaluate(record, domain);
  }

  SpfResult evaluate(const Record& record, const std::string& domain) {
    for (const Mechanism& mechanism : record.mechanisms) {
      const Match match = matches(mechanism, domain);
      if (match == Match::no) continue;
      if (match == Match::temperror) return SpfResult::temperror;
      if (match == Match::permerror) return SpfResult::permerror;
      out_.term = mechanism.text;
      out_.record = domain;
      return mechanism.qualifier;
    }
    // An "all" would have matched: whoever is here has none, so the redirect counts (section 6.1).
    if (record.redirect) return follow(*record.redirect, domain);
    out_.term.clear();
    out_.record = domain;
    return SpfResult::neutral;
  }

  SpfResult follow(const std::string& spec, const std::string& domain) {
    if (!count()) return SpfResult::permerror;
    const auto target = expand_spf(spec, sender_, domain);
    if (!target) return error("redirect=" + spec + " cannot be understood");
    const SpfResult result = check(smtp::lower(*target));
    return result == SpfResult::none ? SpfResult::permerror : result;
  }

  /// One more term that looks something up.
  bool count() {
    if (++lookups_ <= max_lookups) return true;
    out_.reason = "more than " + std::to_string(max_lookups) + " lookups";
    return false;
  }

  bool found_nothing() {
    if (++void_ <= max_void) return false;
    out_.reason = "more than " + std::to_string(max_void) + " lookups that find nothing";
    return true;
  }

  Match matches(const Mechanism& mechanism, const std::string& domain) {
    if (mechanism.kind == Kind::all) return Match::yes;
    if (mechanism.kind == Kind::ip4 || mechanism.kind == Kind::ip6)
      return same_network(address_, mechanism.network.base, mechanism.network.prefix) ? Match::yes : Match::no;
    if (!count()) return Match::permerror;
    const auto target = mechanism.spec.empty() ? std::optional(domain) : expand_spf(mechanism.spec, sender_, domain);
    if (!target) {
      out_.reason = mechanism.text + " cannot be understood";
      return Match::permerror;
    }
    const std::string name = smtp::lower(*target);
    if (mechanism.kind == Kind::include) return include(name);
    if (!askable(name)) return Match::no;
    switch (mechanism.kind) {
      case Kind::a:
        return host_matches(name, address_type(), mechanism);
      case Kind::mx:
        return mx(name, mechanism);
      case Kind::exists:
        return host_matches(name, SpfQuestion::Type::a, mechanism);
      case Kind::ptr:
      case Kind::all:
      case Kind::include:
      case Kind::ip4:
      case Kind::ip6:
        break;
    }
    return Match::no;
  }

  /// Section 5.2: only a pass of the other record matches; one that is not there is the operator's mistake.
  Match include(const std::string& name) {
    switch (check(name)) {
      case SpfResult::pass:
        return Match::yes;
      case SpfResult::fail:
      case SpfResult::softfail:
      case SpfResult::neutral:
        return Match::no;
      case SpfResult::temperror:
        return Match::temperror;
      case SpfResult::none:
      case SpfResult::permerror:
        break;
    }
    return Match::permerror;
  }

  SpfQuestion::Type address_type() const { return address_.v6 ? SpfQuestion::Type::aaaa : SpfQuestion::Type::a; }

  /// `exists` is satisfied by any address.
  Match host_matches(const std::string& name, SpfQuestion::Type type, const Mechanism& mechanism) {
    const SpfAnswer* answer = ask(name, type);
    if (!answer) return Match::temperror;
    if (answer->addresses.empty()) return found_nothing() ? Match::permerror : Match::no;
    if (mechanism.kind == Kind::exists) return Match::yes;
    const unsigned prefix = address_.v6 ? mechanism.prefix6 : mechanism.prefix4;
    const auto same = [&](const IpAddress& other) { return same_network(address_, other, prefix); };
    return std::ranges::any_of(answer->addresses, same) ? Match::yes : Match::no;
  }

  Match mx(const std::string& name, const Mechanism& mechanism) {
    const SpfAnswer* answer = ask(name, SpfQuestion::Type::mx);
    if (!answer) return Match::temperror;
    if (answer->hosts.empty()) return found_nothing() ? Match::permerror : Match::no;
    if (answer->hosts.size() > max_hosts) {
      out_.reason = name + " has more than " + std::to_string(max_hosts) + " MX records";
      return Match::permerror;
    }
    for (const std::string& host : answer->hosts) {
      if (!askable(host)) continue;
      const Match match = host_matches(host, address_type(), mechanism);
      if (match != Match::no) return match;
    }
    return Match::no;
  }

  const SpfSender& sender_;
  const IpAddress address_;
  const SpfAnswers& answers_;
  SpfOutcome out_;
  int lookups_ = 0;
  int void_ = 0;
};

}  // namespace

std::string_view to_string(SpfResult result) {
  switch (result) {
    case SpfResult::none:
      return "none";
    case SpfResult::neutral:
      return "neutral";
    case SpfResult::pass:
      return "pass";
    case SpfResult::fail:
      return "fail";
    case SpfResult::softfail:
      return "softfail";
    case SpfResult::temperror:
      return "temperror";
    case SpfResult::permerror:
      return "permerror";
  }
  return "none";
}

std::optional<std::string> expand_spf(std::string_view spec, const SpfSender& sender, std::string_view domain) {
  std::string out;
  while (!spec.empty()) {
    const std::size_t percent = std::min(spec.find('%'), spec.size());
    out += spec.substr(0, percent);
    spec.remove_prefix(percent);
    if (spec.empty()) break;
    if (spec.size() < 2) return std::nullopt;
    const char next = spec[1];
    if (next == '%' || next == '_' || next == '-') {
      out += next == '%' ? "%" : next == '_' ? " " : "%20";
      spec.remove_prefix(2);
      continue;
    }
    const std::size_t close = spec.find('}');
    if (next != '{' || close == std::string_view::npos) return std::nullopt;
    const auto value = expand_macro(spec.substr(2, close - 2), sender, domain);
    if (!value) return std::nullopt;
    out += *value;
    spec.remove_prefix(close + 1);
  }
  if (out.ends_with('.')) out.pop_back();
  // Section 7.3: a name that is too long loses labels on the left.
  while (out.size() > max_name) {
    const std::size_t dot = out.find('.');
    if (dot == std::string::npos) return std::nullopt;
    out.erase(0, dot + 1);
  }
  return out;
}

SpfOutcome check_spf(const SpfSender& sender, const SpfAnswers& answers) {
  return Evaluation(sender, answers).run();
}

SpfInclusion spf_includes(std::string_view domain, std::string_view target, const SpfAnswers& answers) {
  SpfInclusion out;
  std::vector<std::string> waiting{smtp::lower(domain)};
  std::set<std::string> seen;
  while (!waiting.empty() && seen.size() < max_records_walked) {
    const std::string name = std::move(waiting.back());
    waiting.pop_back();
    if (!askable(name) || !seen.insert(name).second) continue;
    SpfQuestion question{name, SpfQuestion::Type::txt};
    const auto answer = answers.find(question);
    if (answer == answers.end()) {
      out.needs = std::move(question);
      return out;
    }
    const auto text = std::ranges::find_if(answer->second.texts, is_record);
    if (text == answer->second.texts.end()) continue;
    const Record record = parse_record(*text);
    if (record.redirect) waiting.push_back(smtp::lower(*record.redirect));
    for (const Mechanism& mechanism : record.mechanisms)
      if (mechanism.kind == Kind::include && mechanism.qualifier == SpfResult::pass)
        waiting.push_back(smtp::lower(mechanism.spec));
    if (std::ranges::find(waiting, target) != waiting.end()) {
      out.found = true;
      return out;
    }
  }
  return out;
}

}  // namespace egret::routing
