// The only clocks. Wall-clock time for what outlives the process, monotonic time for deadlines.
#pragma once

#include <chrono>

#include "routing/types.hpp"

namespace egret::relay {

/// A point in monotonic time. Deadlines are passed down; nobody restarts a timeout.
using Deadline = std::chrono::steady_clock::time_point;

inline Deadline in(std::chrono::steady_clock::duration duration) {
  return std::chrono::steady_clock::now() + duration;
}

inline routing::Time now() {
  return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
}

}  // namespace egret::relay
