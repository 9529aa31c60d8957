// Reads the sections about the ways in: listeners, their certificate, the users file, limits.
#pragma once

#include "config/config.hpp"
#include "config/tree.hpp"

namespace egret::config {

/// `config` holds the classes already; each reads its own section of the root.
void read_server_tls(Section& root, Config& config);
void read_users_file(Section& root, Config& config, Problems& problems);
void read_listeners(Section& root, Config& config);
void read_limits(Section& root, Config& config);

}  // namespace egret::config
