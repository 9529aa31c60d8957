// `egret hash-password`: what goes into the users file.
#pragma once

namespace egret::relay {

/// Reads a password from standard input (asked for twice, unseen, at a terminal) and prints its hash. Never an argument:
/// those are in `ps`. The exit code.
int hash_password_command(bool scram);

}  // namespace egret::relay
