#include "relay/runtime/out_of_memory.hpp"

#include <unistd.h>

#include <cstdlib>
#include <new>
#include <string_view>

namespace egret::relay {

void end_when_out_of_memory() {
  std::set_new_handler([] {
    // The log would need memory.
    constexpr std::string_view text = "egret: out of memory; what was accepted is on disk and goes on with the next start\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), text.size());
    std::_Exit(out_of_memory_code);
  });
}

}  // namespace egret::relay
