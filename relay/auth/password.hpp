// Passwords against stored hashes, and new hashes. Everything here is slow on purpose (tens of milliseconds, and for
// yescrypt 16 MB of memory for that time): never on a thread that serves sessions.
#pragma once

#include <string>

namespace egret::relay {

/// RFC 7677 section 4 measures by 0.1 s of a modern machine: 15000 iterations when it was written, about 200000 now. Half
/// of that, because the client pays it for every connection, and because a PLAIN login against such a secret then
/// takes about as long as one against a yescrypt hash.
inline constexpr int scram_iterations = 100'000;

/// Whether `password` made the crypt(3) string `hash`. False too for what crypt cannot take: a NUL, more than 511
/// octets, a damaged hash. Which methods are good enough is decided by config/users.
bool verify_crypt(const std::string& password, const std::string& hash);

/// Takes the time of a failed verification, for users that do not exist; always false. `like` is a hash whose cost is
/// to be imitated, a crypt(3) string or a SCRAM secret; empty or unusable: what hash_password() makes.
bool verify_nothing(const std::string& password, const std::string& like = {});

/// A yescrypt string with the system's default cost and a random salt; empty if the password is empty or one that
/// verify_crypt() could never take.
std::string hash_password(const std::string& password);

/// A SCRAM-SHA-256 secret with a random salt of 16 octets; empty if the password is empty, has a NUL or is longer than
/// AUTH takes (1024 octets).
std::string hash_scram(const std::string& password);

}  // namespace egret::relay
