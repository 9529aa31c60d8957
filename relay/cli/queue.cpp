#include "relay/cli/queue.hpp"

#include <boost/json.hpp>

namespace egret::relay {
namespace {

namespace json = boost::json;

std::string messages(std::uint64_t n) {
  return std::to_string(n) + (n == 1 ? " message" : " messages");
}

}  // namespace

json::value queue_command(const AdminTarget& target, const std::string& action, const std::string& selector, bool bounce) {
  json::object request{{"selector", selector}};
  if (bounce) request["bounce"] = true;
  return admin_post(target, "/api/v1/queue/" + action, request);
}

std::string print_queue_command(const std::string& action, const json::value& value) {
  const auto count = [&](const char* key) { return json::value_to<std::uint64_t>(value.at(key)); };
  const char* done = action == "hold"      ? "held"
                     : action == "release" ? "released"
                     : action == "cancel"  ? "cancelled"
                                           : "made due now";
  std::string out = messages(count("matched")) + (count("matched") == 1 ? " fits, " : " fit, ") +
                    std::to_string(count("changed")) + " " + done + "\n";
  if (count("busy") > 0) out += messages(count("busy")) + " being delivered right now: not touched\n";
  if (count("undecided") > 0) out += messages(count("undecided")) + " whose site could not be looked up in time: not touched\n";
  const auto& ids = value.at("ids").as_array();
  for (const auto& id : ids) out += "  " + json::value_to<std::string>(id) + "\n";
  if (count("matched") > ids.size()) out += "  and " + std::to_string(count("matched") - ids.size()) + " more\n";
  return out;
}

}  // namespace egret::relay
