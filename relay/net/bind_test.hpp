// Whether an address is one of this host's: the only sure way to know is to bind to it.
#pragma once

#include <string>

#include "routing/address.hpp"

namespace egret::relay {

/// Empty when a socket can be bound to `address` here, or when nobody can tell (no socket to be had); else why not.
std::string bind_fault(const routing::IpAddress& address);

}  // namespace egret::relay
