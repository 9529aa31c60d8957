// The command line.
#pragma once

namespace egret::relay {

/// Runs one command. 0: done; 1: bad input (configuration, arguments) or a command that a running egret refused;
/// 2: cannot start.
int run_cli(int argc, char** argv);

}  // namespace egret::relay
