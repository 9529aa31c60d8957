// The API's answers as text for people.
#pragma once

#include <boost/json/value.hpp>
#include <string>

namespace egret::relay {

std::string print_sources(const boost::json::value& value);
std::string print_pools(const boost::json::value& value);
std::string print_smarthosts(const boost::json::value& value);
/// From the same answer as print_smarthosts(): what is known beforehand of each of them.
std::string print_readiness(const boost::json::value& value);
std::string print_blocklists(const boost::json::value& value);
std::string print_senders(const boost::json::value& value);
std::string print_users(const boost::json::value& value);
/// The answer of /senders/top with that of /senders as `guarded`.
std::string print_top_senders(const boost::json::value& value);
std::string print_queue(const boost::json::value& value);
std::string print_message(const boost::json::value& value);
std::string print_events(const boost::json::value& value);
std::string print_unknown_replies(const boost::json::value& value);
std::string print_route(const boost::json::value& value);

}  // namespace egret::relay
