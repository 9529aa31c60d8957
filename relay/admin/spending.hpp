// What mail by smarthosts has used of its budgets and what failover costs, as the API shows it.
#pragma once

#include <boost/json.hpp>
#include <cstdint>

#include "relay/admin/admin.hpp"

namespace egret::relay::api {

/// Adds used, budget, limits, left, cost, rate and today to what /api/v1/smarthosts says of one.
void add_spending(const AdminContext& c, std::uint32_t smarthost, boost::json::object& out);

/// Adds the budgets of its classes, and what its classes' mail cost today by its smarthosts, to what /api/v1/pools says.
void add_pool_spending(const AdminContext& c, std::uint32_t pool, boost::json::object& out);

}  // namespace egret::relay::api
