// What the brakes remember as JSON text.
#include <algorithm>
#include <boost/json.hpp>
#include <exception>

#include "routing/brakes.hpp"

namespace egret::routing {
namespace {

namespace json = boost::json;

json::value encode(Time time) {
  return time.time_since_epoch().count();
}

Time decode_time(const json::value& value, Time now) {
  return std::min(now, Time(Duration(value.to_number<std::int64_t>())));
}

json::array encode(const UserOutcomes& o) {
  return {o.delivered, o.unknown, o.content, o.blocked, o.other, o.complaints};
}

UserOutcomes decode_outcomes(const json::value& value) {
  const auto at = [&](std::size_t i) { return value.as_array().at(i).to_number<std::uint64_t>(); };
  return {at(0), at(1), at(2), at(3), at(4), at(5)};
}

json::array encode(const OutcomeWindow& w) {
  return {encode(w.start), encode(w.current), encode(w.previous)};
}

OutcomeWindow decode_window(const json::value& value, Time now) {
  const json::array& a = value.as_array();
  return {decode_time(a.at(0), now), decode_outcomes(a.at(1)), decode_outcomes(a.at(2))};
}

json::value parse(std::string_view text) {
  json::parse_options options;
  options.allow_invalid_utf8 = true;  // domains and user names are octets
  return json::parse(text, {}, options);
}

}  // namespace

std::string encode_usual(const UsualMemory& memory) {
  json::array entries;
  entries.reserve(memory.entries.size());
  for (const auto& [key, e] : memory.entries)
    entries.push_back(
        json::array{static_cast<int>(key.first), key.second, encode(e.hour), e.recipients, e.mean, e.peak, encode(e.told)});
  return json::serialize(json::object{{"since", encode(memory.since)}, {"entries", std::move(entries)}});
}

std::optional<UsualMemory> decode_usual(std::string_view text, Time now) {
  try {
    const json::value value = parse(text);
    UsualMemory out;
    out.since = decode_time(value.at("since"), now);
    for (const json::value& row : value.at("entries").as_array()) {
      const json::array& a = row.as_array();
      const auto kind = a.at(0).to_number<std::uint8_t>();
      if (kind >= sender_kinds) return std::nullopt;
      out.entries[{static_cast<SenderKind>(kind), json::value_to<std::string>(a.at(1))}] = {
          decode_time(a.at(2), now), a.at(3).to_number<std::uint64_t>(), std::max(0.0, a.at(4).to_number<double>()),
          std::max(0.0, a.at(5).to_number<double>()), decode_time(a.at(6), now)};
    }
    return out;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

std::string encode_users(const Judge::Users& users) {
  json::object out;
  for (const auto& [name, u] : users)
    out[name] = json::array{encode(u.hour), encode(u.day),   static_cast<int>(u.state), u.reason,
                            u.manual,       encode(u.since), encode(u.reason_seen),     encode(u.touched)};
  return json::serialize(out);
}

std::optional<Judge::Users> decode_users(std::string_view text, Time now) {
  try {
    const json::value value = parse(text);
    Judge::Users out;
    for (const auto& [name, row] : value.as_object()) {
      const json::array& a = row.as_array();
      const auto state = a.at(2).to_number<std::uint8_t>();
      if (state > static_cast<std::uint8_t>(UserState::suspended)) return std::nullopt;
      out[std::string(name)] = {decode_window(a.at(0), now),
                                decode_window(a.at(1), now),
                                static_cast<UserState>(state),
                                json::value_to<std::string>(a.at(3)),
                                a.at(4).as_bool(),
                                decode_time(a.at(5), now),
                                decode_time(a.at(6), now),
                                decode_time(a.at(7), now)};
    }
    return out;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace egret::routing
