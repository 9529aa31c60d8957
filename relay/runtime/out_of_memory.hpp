// What happens when memory runs out: the program ends at once, and a start recovers whatever was acknowledged.
#pragma once

namespace egret::relay {

/// The exit code then, so that a service manager starts the program again.
inline constexpr int out_of_memory_code = 3;

/// To be called once, early. Going on after a failed allocation would leave deliveries half done and mail that nobody
/// tries any more; the spool makes ending safe.
void end_when_out_of_memory();

}  // namespace egret::relay
