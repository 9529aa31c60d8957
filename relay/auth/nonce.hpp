// Unpredictable text.
#pragma once

#include <cstddef>
#include <string>

namespace egret::relay {

/// `count` random octets from OpenSSL's generator. Throws std::runtime_error when it has none.
std::string random_octets(std::size_t count);
/// 24 printable characters, for SCRAM.
std::string random_nonce();

}  // namespace egret::relay
