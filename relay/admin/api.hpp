// The API's answers as JSON (design: "Admin HTTP"). No HTTP here.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/json.hpp>
#include <optional>
#include <string>

#include "relay/admin/admin.hpp"

namespace egret::relay::api {

boost::json::value sources(const AdminContext& context);
boost::json::value pools(const AdminContext& context);
boost::json::value smarthosts(const AdminContext& context);
/// Senders of whom something is remembered: held, slowed, watched.
boost::json::value senders(const AdminContext& context);
/// False: the sender was neither held nor slowed.
bool release_sender(const AdminContext& context, const std::string& sender);
/// Users of whom something is known, the restricted first (brakes_api.cpp).
boost::json::value users(const AdminContext& context, std::size_t limit);
/// POST /users/NAME/suspend|resume: null when that is done, else what is wrong.
std::optional<std::string> user_command(const AdminContext& context, const std::string& user, const std::string& action);
/// Who sends what: `by` is user, sender, domain or network. Bad input gives {"error": ...}.
boost::json::value top_senders(const AdminContext& context, const std::string& by, std::size_t hours, std::size_t limit);
boost::json::value blocklists(const AdminContext& context);
boost::json::value events(const AdminContext& context, std::size_t limit);
boost::json::object event(const Event& event);
boost::json::value unknown_replies(const AdminContext& context);
boost::asio::awaitable<boost::json::value> queue(const AdminContext& context, QueueFilter filter);
/// Null when nothing is known of the message.
boost::asio::awaitable<boost::json::value> message(const AdminContext& context, smtp::MessageId id);
/// Explains the route of a message: a hypothetical one, or what waits of a live one ({"message": ID}: an array `parts` of
/// routes, each with its recipients and state). Bad input gives {"error": ...}.
boost::asio::awaitable<boost::json::value> route(const AdminContext& context, boost::json::value request);
/// POST /queue/retry|hold|release|cancel {"selector": TEXT, "bounce": BOOL}; `who` is for the event. Bad input gives
/// {"error": ...}, null an unknown action.
boost::asio::awaitable<boost::json::value> queue_command(const AdminContext& context, std::string action,
                                                         boost::json::object request, std::string who);

/// Prometheus text format.
boost::asio::awaitable<std::string> metrics(const AdminContext& context);

}  // namespace egret::relay::api
