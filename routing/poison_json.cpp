// The poison guard's memory as JSON text. Message ids are texts: JSON's numbers are not sure to hold 64 bits.
#include <algorithm>
#include <boost/json.hpp>
#include <charconv>
#include <stdexcept>

#include "routing/poison.hpp"

namespace egret::routing {
namespace {

namespace json = boost::json;
using Noted = std::vector<std::pair<std::uint64_t, Time>>;

json::value encode(Time time) {
  return time.time_since_epoch().count();
}

Time decode_time(const json::value& value, Time now) {
  return std::min(now, Time(Duration(value.to_number<std::int64_t>())));
}

std::uint64_t decode_id(std::string_view text) {
  std::uint64_t out = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), out);
  if (result.ec != std::errc{} || result.ptr != text.data() + text.size()) throw std::invalid_argument("no message id");
  return out;
}

json::array encode(const Noted& messages) {
  json::array out;
  for (const auto& [id, time] : messages) out.push_back(json::array{std::to_string(id), encode(time)});
  return out;
}

Noted decode_noted(const json::value& value, Time now) {
  Noted out;
  for (const json::value& entry : value.as_array())
    out.emplace_back(decode_id(entry.as_array().at(0).as_string()), decode_time(entry.as_array().at(1), now));
  return out;
}

json::object encode(const PoisonMemory::Message& message) {
  json::array concerned;
  for (const Concerned& c : message.concerned) concerned.push_back(json::array{c.source, c.provider});
  return {{"sender", message.sender},
          {"concerned", std::move(concerned)},
          {"touched", encode(message.touched)},
          {"poison", message.poison}};
}

PoisonMemory::Message decode_message(const json::value& value, Time now) {
  PoisonMemory::Message out;
  out.sender = json::value_to<std::string>(value.at("sender"));
  for (const json::value& entry : value.at("concerned").as_array())
    out.concerned.push_back(
        {json::value_to<std::string>(entry.as_array().at(0)), json::value_to<std::string>(entry.as_array().at(1))});
  std::ranges::sort(out.concerned);
  out.touched = decode_time(value.at("touched"), now);
  out.poison = value.at("poison").as_bool();
  return out;
}

json::object encode(const PoisonMemory::Sender& s) {
  return {
      {"poison", encode(s.poison)},         {"content", encode(s.content)}, {"refused", s.refused},   {"delivered", s.delivered},
      {"counted", encode(s.counted)},       {"slowed", s.slowed},           {"next", encode(s.next)}, {"held", s.held},
      {"held_since", encode(s.held_since)}, {"touched", encode(s.touched)}};
}

PoisonMemory::Sender decode_sender(const json::value& v, Time now) {
  PoisonMemory::Sender out;
  out.poison = decode_noted(v.at("poison"), now);
  out.content = decode_noted(v.at("content"), now);
  out.refused = v.at("refused").to_number<std::uint64_t>();
  out.delivered = v.at("delivered").to_number<std::uint64_t>();
  out.counted = decode_time(v.at("counted"), now);
  out.slowed = v.at("slowed").as_bool();
  out.next = Time(Duration(v.at("next").to_number<std::int64_t>()));  // lies ahead; admit() bounds it
  out.held = json::value_to<std::string>(v.at("held"));
  out.held_since = decode_time(v.at("held_since"), now);
  out.touched = decode_time(v.at("touched"), now);
  return out;
}

}  // namespace

std::string encode_poison(const PoisonMemory& memory) {
  json::object messages, senders;
  for (const auto& [id, message] : memory.messages) messages[std::to_string(id)] = encode(message);
  for (const auto& [name, sender] : memory.senders) senders[name] = encode(sender);
  return json::serialize(json::object{{"messages", std::move(messages)}, {"senders", std::move(senders)}});
}

std::optional<PoisonMemory> decode_poison(std::string_view text, Time now) {
  try {
    json::parse_options options;
    options.allow_invalid_utf8 = true;  // senders' addresses are octets
    const json::value value = json::parse(text, {}, options);
    PoisonMemory out;
    for (const auto& [id, message] : value.at("messages").as_object()) out.messages[decode_id(id)] = decode_message(message, now);
    for (const auto& [name, sender] : value.at("senders").as_object()) out.senders[name] = decode_sender(sender, now);
    return out;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace egret::routing
