// A library for LD_PRELOAD that makes a fast disk slow at syncing, and nothing else: each sync of a file takes some time
// more, in whatever process. (tests/faults/layer.cpp can do that too, but looks at every write, which costs a relay of many
// processes more than one of one.)
//
//   BENCH_SYNC_DELAY_US  the time
//   BENCH_SYNC_COUNT     a file of 8 octets, shared by all processes: the syncs that were delayed, so that the bench knows
//                        that the library is where it should be
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <ctime>

namespace {

struct Shared {
  long delay_us = 0;
  std::atomic<std::uint64_t>* count = nullptr;

  Shared() {
    if (const char* value = std::getenv("BENCH_SYNC_DELAY_US")) delay_us = std::strtol(value, nullptr, 10);
    const char* path = std::getenv("BENCH_SYNC_COUNT");
    const int fd = path == nullptr ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void* place = mmap(nullptr, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (place != MAP_FAILED) count = static_cast<std::atomic<std::uint64_t>*>(place);
    close(fd);
  }
};

template <typename... Arguments>
int delayed(const char* name, Arguments... arguments) {
  static Shared shared;
  timespec left{shared.delay_us / 1'000'000, shared.delay_us % 1'000'000 * 1000};
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
  if (shared.count != nullptr) shared.count->fetch_add(1, std::memory_order_relaxed);
  return reinterpret_cast<int (*)(Arguments...)>(dlsym(RTLD_NEXT, name))(arguments...);
}

}  // namespace

// The names are the C library's.
extern "C" {
int fsync(int fd) {
  return delayed("fsync", fd);
}
int fdatasync(int fd) {
  return delayed("fdatasync", fd);
}
int syncfs(int fd) noexcept {
  return delayed("syncfs", fd);
}
int msync(void* address, size_t length, int flags) {
  return delayed("msync", address, length, flags);
}
}
