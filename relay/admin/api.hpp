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
boost::json::value blocklists(const AdminContext& context);
boost::json::value events(const AdminContext& context, std::size_t limit);
boost::json::object event(const Event& event);
boost::json::value unknown_replies(const AdminContext& context);
boost::asio::awaitable<boost::json::value> queue(const AdminContext& context, QueueFilter filter);
/// Null when nothing is known of the message.
boost::asio::awaitable<boost::json::value> message(const AdminContext& context, smtp::MessageId id);
/// Explains the route of a message. Bad input gives {"error": ...}.
boost::asio::awaitable<boost::json::value> route(const AdminContext& context, boost::json::value request);
boost::asio::awaitable<void> retry_queue(const AdminContext& context);

/// Prometheus text format.
boost::asio::awaitable<std::string> metrics(const AdminContext& context);

}  // namespace egret::relay::api
