// `egret queue retry|hold|release|cancel`: the command line's side of it.
#pragma once

#include <boost/json/value.hpp>
#include <string>

#include "relay/cli/admin_client.hpp"

namespace egret::relay {

/// Asks a running egret. Throws std::runtime_error with a text for people.
boost::json::value queue_command(const AdminTarget& target, const std::string& action, const std::string& selector, bool bounce);
/// Its answer as text for people.
std::string print_queue_command(const std::string& action, const boost::json::value& value);

}  // namespace egret::relay
