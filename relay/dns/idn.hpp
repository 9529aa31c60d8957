// Internationalised domain names (IDNA2008, libidn2): DNS, TLS and hosts without SMTPUTF8 take A-labels only.
#pragma once

#include <string>
#include <string_view>

namespace egret::relay {

/// The A-label form of a domain, lower-case; empty when there is none.
std::string to_a_labels(std::string_view domain);

}  // namespace egret::relay
