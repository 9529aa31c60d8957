// The whole running program: builds every part, starts the threads, and stops them in order.
#pragma once

#include <memory>

#include "config/config.hpp"

namespace egret::relay {

/// Runs until SIGTERM or SIGINT, or until another program takes its place (relay/upgrade). Returns the exit code; what prevented
/// the start was logged in one line.
///   0  stopped in order
///   2  cannot start: a port in use, a directory that cannot be written, a spool that cannot be read
///   3  out of memory (relay/runtime/out_of_memory.hpp)
int run_program(std::shared_ptr<const config::Config> config);

}  // namespace egret::relay
