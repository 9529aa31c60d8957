#include "relay/cli/cli.hpp"

extern "C" {
/// Read by jemalloc (jemalloc(3), "TUNING"); nobody's where it is not linked. Few arenas: there are few threads. What a burst
/// took goes back to the system within seconds, by a thread of jemalloc's own, also when nothing happens any more.
extern const char* const malloc_conf;
const char* const malloc_conf = "narenas:4,background_thread:true,dirty_decay_ms:2000,muzzy_decay_ms:0";
}

int main(int argc, char** argv) {
  return egret::relay::run_cli(argc, argv);
}
