// The login to an ESP's HTTP API, tried without sending anything.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>

#include "relay/doctor/subjects.hpp"

namespace egret::relay::doctor {

/// For a smarthost that mail goes to by HTTP.
boost::asio::awaitable<Checks> check_smarthost_api(World world, std::uint32_t smarthost);

}  // namespace egret::relay::doctor
