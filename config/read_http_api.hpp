// Reads what a smarthost says about its HTTP API: `transport`, `endpoint`, `domain`, `api_timeout`, `poll_account`.
#pragma once

#include <string>

#include "config/config.hpp"
#include "config/data.hpp"
#include "config/tree.hpp"

namespace egret::config {

/// True where mail goes by HTTP: host, ports, TLS, login and limits of `out` are those of the API then, and the keys of
/// the way by SMTP are refused. Else only what SES is asked about the account is read, and the caller reads the rest.
/// `out` has its name and provider.
bool read_http_api(Section& section, const SmarthostPreset& preset, const std::string& region, Smarthost& out);

}  // namespace egret::config
