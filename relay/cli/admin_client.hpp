// The command line's side of the admin API.
#pragma once

#include <boost/json/value.hpp>
#include <string>

namespace egret::relay {

/// Where a running egret answers.
struct AdminTarget {
  std::string host = "127.0.0.1";
  std::string port = "8025";
  std::string token;
};

/// "http://127.0.0.1:8025" taken apart. Throws std::runtime_error when it is none.
AdminTarget parse_admin_url(const std::string& url);

/// One request. Throws std::runtime_error with a text for people: nobody answers, or what the server's error says.
boost::json::value admin_get(const AdminTarget& target, const std::string& path);
boost::json::value admin_post(const AdminTarget& target, const std::string& path, const boost::json::value& body);

}  // namespace egret::relay
