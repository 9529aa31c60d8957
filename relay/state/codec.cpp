// Standings as JSON text.
#include <boost/json.hpp>
#include <charconv>
#include <stdexcept>

#include "relay/state/state.hpp"

namespace egret::relay {
namespace {

namespace json = boost::json;
using routing::Time;

std::int64_t ms(Time time) {
  return time.time_since_epoch().count();
}
Time time_of(const json::value& value) {
  return Time(routing::Duration(value.to_number<std::int64_t>()));
}

json::value optional_time(const std::optional<Time>& time) {
  return time ? json::value(ms(*time)) : json::value();
}
std::optional<Time> to_optional(const json::value& value) {
  if (value.is_null()) return std::nullopt;
  return time_of(value);
}

json::object encode(const routing::Ramp& ramp) {
  return {{"phase", static_cast<int>(ramp.phase)}, {"step", ramp.step}, {"since", ms(ramp.since)}, {"successes", ramp.successes}};
}

routing::Ramp decode_ramp(const json::value& value) {
  routing::Ramp out;
  const int phase = value.at("phase").to_number<int>();
  if (phase >= 0 && phase <= 2) out.phase = static_cast<routing::Ramp::Phase>(phase);
  out.step = value.at("step").to_number<std::size_t>();
  out.since = time_of(value.at("since"));
  out.successes = value.at("successes").to_number<int>();
  return out;
}

/// A key that states saved by earlier versions do not have.
template <typename T>
T value_or(const json::value& object, std::string_view key, T otherwise) {
  const json::value* value = object.as_object().if_contains(key);
  return value ? json::value_to<T>(*value) : otherwise;
}

json::object encode(const routing::Listing& l) {
  return {{"codes", json::value_from(l.codes)},
          {"text", l.text},
          {"first_seen", ms(l.first_seen)},
          {"last_seen", ms(l.last_seen)},
          {"policy", l.policy},
          {"confirmed", l.confirmed},
          {"listed_in_a_row", l.listed_in_a_row},
          {"clean_in_a_row", l.clean_in_a_row},
          {"clean_since", optional_time(l.clean_since)},
          {"on_word", l.on_word}};
}

routing::Listing decode_listing(const json::value& v) {
  routing::Listing l;
  l.codes = json::value_to<std::vector<std::string>>(v.at("codes"));
  l.text = json::value_to<std::string>(v.at("text"));
  l.first_seen = time_of(v.at("first_seen"));
  l.last_seen = time_of(v.at("last_seen"));
  l.policy = v.at("policy").as_bool();
  l.confirmed = v.at("confirmed").as_bool();
  l.listed_in_a_row = v.at("listed_in_a_row").to_number<int>();
  l.clean_in_a_row = v.at("clean_in_a_row").to_number<int>();
  l.clean_since = to_optional(v.at("clean_since"));
  l.on_word = value_or(v, "on_word", false);
  return l;
}

// Message ids are texts: not every reader of JSON holds 64 bits in a number.
std::uint64_t id_of(const json::value& value) {
  const std::string_view text = value.as_string();
  std::uint64_t out = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  if (result.ec != std::errc{} || result.ptr != text.data() + text.size()) throw std::invalid_argument("no message id");
  return out;
}

json::object encode(const routing::Block& b) {
  json::array refusals;
  for (const auto& r : b.refusals)
    refusals.push_back(json::object{
        {"message", std::to_string(r.message)}, {"at", ms(r.at)}, {"jitter", r.jitter}, {"config_fault", r.config_fault}});
  return {{"refusals", std::move(refusals)}, {"firm", b.firm},     {"strikes", b.strikes},
          {"last_block", ms(b.last_block)},  {"reason", b.reason}, {"ramp", encode(b.ramp)},
          {"calm_since", ms(b.calm_since)}};
}

routing::Block decode_block(const json::value& v) {
  routing::Block b;
  for (const json::value& r : v.at("refusals").as_array())
    b.refusals.push_back(
        {id_of(r.at("message")), time_of(r.at("at")), r.at("jitter").to_number<double>(), r.at("config_fault").as_bool()});
  b.firm = v.at("firm").as_bool();
  b.strikes = v.at("strikes").to_number<int>();
  b.last_block = time_of(v.at("last_block"));
  b.calm_since = time_of(v.at("calm_since"));
  b.reason = json::value_to<std::string>(v.at("reason"));
  b.ramp = decode_ramp(v.at("ramp"));
  return b;
}

json::object encode(const routing::Vouch& v) {
  return {{"blocklist", v.blocklist}, {"provider", v.provider}, {"message", std::to_string(v.message)}, {"at", ms(v.at)}};
}

/// Earlier versions saved an object of times by list.
std::vector<routing::Vouch> decode_vouched(const json::value& value) {
  std::vector<routing::Vouch> out;
  if (const json::object* old = value.if_object()) {
    for (const auto& [name, time] : *old) out.push_back({name, {}, 0, time_of(time)});
    return out;
  }
  for (const json::value& v : value.as_array())
    out.push_back({json::value_to<std::string>(v.at("blocklist")), json::value_to<std::string>(v.at("provider")),
                   id_of(v.at("message")), time_of(v.at("at"))});
  return out;
}

json::object encode(const routing::ProviderState& p) {
  json::array blocks;
  for (const auto& block : p.blocks) blocks.push_back(encode(block));
  return {{"blocked_until", optional_time(p.blocked_until)},
          {"config_fault", p.config_fault},
          {"strikes", p.strikes},
          {"last_block", ms(p.last_block)},
          {"reason", p.reason},
          {"ramp", encode(p.ramp)},
          {"throttle", p.throttle},
          {"throttled_at", ms(p.throttled_at)},
          {"drained", p.drained},
          {"calm_since", ms(p.calm_since)},
          {"observed_until", optional_time(p.observed_until)},
          {"blocks", std::move(blocks)}};
}

routing::ProviderState decode_provider(const json::value& v) {
  routing::ProviderState p;
  p.blocked_until = to_optional(v.at("blocked_until"));
  p.config_fault = v.at("config_fault").as_bool();
  p.strikes = v.at("strikes").to_number<int>();
  p.last_block = time_of(v.at("last_block"));
  p.reason = json::value_to<std::string>(v.at("reason"));
  p.ramp = decode_ramp(v.at("ramp"));
  p.throttle = v.at("throttle").to_number<double>();
  p.throttled_at = time_of(v.at("throttled_at"));
  p.drained = v.at("drained").as_bool();
  p.calm_since = p.last_block;
  if (const json::value* calm = v.as_object().if_contains("calm_since")) p.calm_since = time_of(*calm);
  if (const json::value* until = v.as_object().if_contains("observed_until")) p.observed_until = to_optional(*until);
  if (const json::value* blocks = v.as_object().if_contains("blocks"))
    for (const json::value& block : blocks->as_array()) p.blocks.push_back(decode_block(block));
  return p;
}

}  // namespace

// Not saved: a source's rest. Whether an address works is found out anew at every start.
std::string encode_state(const routing::SourceState& state) {
  json::object listings, providers;
  json::array vouched;
  for (const auto& [name, listing] : state.listings) listings[name] = encode(listing);
  for (const auto& [name, provider] : state.providers) providers[name] = encode(provider);
  for (const auto& v : state.vouched) vouched.push_back(encode(v));
  return json::serialize(json::object{{"listings", std::move(listings)},
                                      {"providers", std::move(providers)},
                                      {"vouched", std::move(vouched)},
                                      {"ramp", encode(state.ramp)},
                                      {"checked", state.checked},
                                      {"drained", state.drained}});
}

std::optional<routing::SourceState> decode_state(std::string_view text) {
  try {
    json::parse_options options;
    options.allow_invalid_utf8 = true;  // remote texts are cleaned, but one octet must not cost a whole state
    const json::value value = json::parse(text, {}, options);
    routing::SourceState out;
    for (const auto& [name, listing] : value.at("listings").as_object()) out.listings[name] = decode_listing(listing);
    for (const auto& [name, provider] : value.at("providers").as_object()) out.providers[name] = decode_provider(provider);
    out.vouched = decode_vouched(value.at("vouched"));
    out.ramp = decode_ramp(value.at("ramp"));
    out.checked = value.at("checked").as_bool();
    out.drained = value.at("drained").as_bool();
    return out;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::string encode_smarthost(const routing::SmarthostState& state) {
  json::object out{{"resting_until", optional_time(state.resting_until)}, {"rests", state.rests}, {"reason", state.reason}};
  if (state.trouble != routing::AccountTrouble::none) out["trouble"] = to_string(state.trouble);
  if (state.senders && !state.senders->empty()) {
    json::array senders;
    for (const auto& [domain, refused] : *state.senders)
      senders.push_back(json::object{{"domain", domain}, {"reason", refused.reason}, {"until", optional_time(refused.until)}});
    out["senders"] = std::move(senders);
  }
  return json::serialize(out);
}

std::optional<routing::SmarthostState> decode_smarthost(std::string_view text) {
  try {
    json::parse_options options;
    options.allow_invalid_utf8 = true;
    const json::value value = json::parse(text, {}, options);
    routing::SmarthostState out{to_optional(value.at("resting_until")),
                                value.at("rests").to_number<int>(),
                                json::value_to<std::string>(value.at("reason")),
                                {},
                                {}};
    // States of earlier versions have neither.
    if (const auto* trouble = value.as_object().if_contains("trouble"))
      out.trouble =
          routing::parse_account_trouble(std::string_view(trouble->as_string())).value_or(routing::AccountTrouble::none);
    if (const auto* senders = value.as_object().if_contains("senders")) {
      auto refused = std::make_shared<routing::RefusedSenders>();
      for (const auto& entry : senders->as_array())
        if (const auto until = to_optional(entry.at("until")); until && refused->size() < routing::max_refused_senders)
          (*refused)[json::value_to<std::string>(entry.at("domain"))] = {json::value_to<std::string>(entry.at("reason")), *until};
      out.senders = std::move(refused);
    }
    return out;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace egret::relay
