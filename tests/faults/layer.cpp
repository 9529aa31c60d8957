// A library for LD_PRELOAD that stands between a program and its files. It can make calls fail (a full disk, an error of
// the disk, no descriptors left, a slow sync) and it can write down everything that was written and synced, in order, so that
// tests/e2e/support/disk.py can build the disk as it is after a power cut at any moment: with what was synced, and with
// as much as it likes of what was not.
//
//   FAULT_ROOT     directory, without a slash at its end; files outside it are left alone
//   FAULT_JOURNAL  where the operations go (absent: nowhere)
//   FAULT_RULES    a file that is read again before each call (absent or empty: nothing fails); one rule a line:
//                  CALL WHAT [SUBSTRING OF THE PATH], CALL one of open read write sync allocate rename unlink accept
//                  socket, WHAT the name of an errno, "short" (only a part is written) or "delay=MILLISECONDS"
//
// Journal: records of a head and two pieces of data (head.first and head.second octets). Times are CLOCK_MONOTONIC, taken when
// the operation was over. A file is known by a number that it keeps when it is renamed.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Head {
  std::uint64_t time;  // ns
  std::uint64_t file;
  std::uint64_t offset;  // also a size
  std::uint32_t first;
  std::uint32_t second;
  char kind;  // O created, E opened for the first time, W write, T new size, A allocated up to, S sync, D sync of a directory,
              // R rename, U unlink, M directory made
  char pad[7];
};

struct Tracked {
  std::uint64_t file = 0;  // 0: not ours
  bool directory = false;
  std::string path;
};

struct Layer {
  std::string root, rules;
  int journal = -1;
  std::mutex mutex;
  std::array<Tracked, 65536> open;
  std::map<std::string, std::uint64_t> files;  // by present path
  std::uint64_t last = static_cast<std::uint64_t>(getpid()) << 32;

  Layer();
};

Layer& layer() {
  static Layer* one = new Layer;  // never destroyed: other threads write until the end
  return *one;
}

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int real_open(const char* path, int flags, mode_t mode) {
  static auto* const call = real<int(const char*, int, ...)>("open");
  return call(path, flags, mode);
}
ssize_t real_write(int fd, const void* data, std::size_t size) {
  static auto* const call = real<ssize_t(int, const void*, std::size_t)>("write");
  return call(fd, data, size);
}

Layer::Layer() {
  if (const char* value = std::getenv("FAULT_ROOT")) root = value;
  if (const char* value = std::getenv("FAULT_RULES")) rules = value;
  if (const char* value = std::getenv("FAULT_JOURNAL"))
    journal = real_open(value, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

std::string absolute(const char* path) {
  if (path[0] == '/') return path;
  char here[PATH_MAX];
  return std::string(getcwd(here, sizeof here) ? here : "") + "/" + path;
}

bool ours(const std::string& path) {
  const std::string& root = layer().root;
  return !root.empty() && path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
}

Tracked tracked(int fd) {
  if (fd < 0 || fd >= 65536) return {};
  const std::lock_guard lock(layer().mutex);
  return layer().open[static_cast<std::size_t>(fd)];
}

void record(char kind, std::uint64_t file, std::uint64_t offset, std::string_view first, std::string_view second = {}) {
  if (layer().journal < 0) return;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  Head head{};
  head.time = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
  head.file = file;
  head.offset = offset;
  head.first = static_cast<std::uint32_t>(first.size());
  head.second = static_cast<std::uint32_t>(second.size());
  head.kind = kind;
  std::string out(reinterpret_cast<const char*>(&head), sizeof head);
  out.append(first).append(second);
  if (real_write(layer().journal, out.data(), out.size()) != static_cast<ssize_t>(out.size())) abort();
}

// ---- rules

struct Fault {
  int error = 0;
  bool partial = false;
  long delay = 0;  // ms
};

int errno_named(std::string_view name) {
  static const std::map<std::string_view, int> names = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EDQUOT", EDQUOT},
                                                        {"EMFILE", EMFILE}, {"ENFILE", ENFILE}, {"EACCES", EACCES},
                                                        {"EROFS", EROFS},   {"EINTR", EINTR},   {"ENOMEM", ENOMEM}};
  const auto it = names.find(name);
  if (it == names.end()) abort();  // a test with a wrong rule must not pass
  return it->second;
}

Fault fault(const char* call, const std::string& path) {
  Fault out;
  if (layer().rules.empty()) return out;
  const int fd = real_open(layer().rules.c_str(), O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return out;
  char text[1024];
  static auto* const real_read = real<ssize_t(int, void*, std::size_t)>("read");
  const ssize_t size = real_read(fd, text, sizeof text - 1);
  real<int(int)>("close")(fd);
  text[size < 0 ? 0 : size] = 0;
  char* rest = nullptr;
  for (char* line = strtok_r(text, "\n", &rest); line != nullptr; line = strtok_r(nullptr, "\n", &rest)) {
    char name[16] = {}, what[32] = {}, where[256] = {};
    const int fields = std::sscanf(line, "%15s %31s %255s", name, what, where);
    if (fields < 2 || std::strcmp(name, call) != 0) continue;
    if (fields == 3 && path.find(where) == std::string::npos) continue;
    if (std::strcmp(what, "short") == 0)
      out.partial = true;
    else if (std::strncmp(what, "delay=", 6) == 0)
      out.delay = std::strtol(what + 6, nullptr, 10);
    else
      out.error = errno_named(what);
  }
  if (out.delay > 0) usleep(static_cast<useconds_t>(out.delay) * 1000);
  return out;
}

/// False, with errno set, where the call is to fail.
bool allowed(const char* call, const std::string& path) {
  const Fault found = fault(call, path);
  if (found.error != 0) errno = found.error;
  return found.error == 0;
}

// ---- files

int open_file(const char* name, const char* path, int flags, mode_t mode) {
  const std::string full = absolute(path);
  const auto call = [&] { return real<int(const char*, int, ...)>(name)(path, flags, mode); };
  if (!ours(full)) return call();
  if (!allowed("open", full)) return -1;
  struct stat before {};
  const bool existed = stat(path, &before) == 0;
  const int fd = call();
  if (fd < 0 || fd >= 65536) return fd;
  const std::lock_guard lock(layer().mutex);
  Tracked& entry = layer().open[static_cast<std::size_t>(fd)];
  entry.path = full;
  entry.directory = existed && S_ISDIR(before.st_mode);
  auto [it, fresh] = layer().files.try_emplace(full, 0);
  if (fresh || !existed) it->second = ++layer().last;
  entry.file = it->second;
  if (!entry.directory && (fresh || !existed)) record(existed ? 'E' : 'O', entry.file, 0, full);
  if (!entry.directory && existed && (flags & O_TRUNC) != 0) record('T', entry.file, 0, {});
  return fd;
}

void wrote(int fd, const Tracked& file, off_t offset, const iovec* parts, int count, ssize_t size) {
  if (size <= 0 || layer().journal < 0) return;
  std::string data;
  data.reserve(static_cast<std::size_t>(size));
  for (int i = 0; i < count && data.size() < static_cast<std::size_t>(size); ++i)
    data.append(static_cast<const char*>(parts[i].iov_base),
                std::min(parts[i].iov_len, static_cast<std::size_t>(size) - data.size()));
  if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - size;  // a plain write
  const std::lock_guard lock(layer().mutex);
  record('W', file.file, static_cast<std::uint64_t>(offset), data);
}

/// `call` writes these parts; a negative offset is that of the descriptor.
template <typename Call>
ssize_t write_parts(int fd, const iovec* parts, int count, off_t offset, Call call) {
  const Tracked file = tracked(fd);
  if (file.file == 0) return call(parts, count);
  const Fault found = fault("write", file.path);
  if (found.error != 0) {
    errno = found.error;
    return -1;
  }
  iovec part = parts[0];
  if (found.partial && part.iov_len > 1) {
    part.iov_len /= 2;
    parts = &part;
    count = 1;
  }
  const ssize_t size = call(parts, count);
  wrote(fd, file, offset, parts, count, size);
  return size;
}

template <typename Call>
int sync_file(int fd, Call call) {
  const Tracked file = tracked(fd);
  if (file.file == 0) return call();
  if (!allowed("sync", file.path)) return -1;
  const int result = call();
  const std::lock_guard lock(layer().mutex);
  if (result == 0) record(file.directory ? 'D' : 'S', file.file, 0, file.path);
  return result;
}

template <typename Call>
int resize(const Tracked& file, std::uint64_t size, Call call) {
  const int result = call();
  const std::lock_guard lock(layer().mutex);
  if (result == 0 && file.file != 0) record('T', file.file, size, {});
  return result;
}

template <typename Call>
int allocate(int fd, off_t offset, off_t length, Call call) {
  const Tracked file = tracked(fd);
  if (file.file == 0) return call();
  const Fault found = fault("allocate", file.path);
  if (found.error != 0) return found.error;
  const int result = call();
  const std::lock_guard lock(layer().mutex);
  if (result == 0) record('A', file.file, static_cast<std::uint64_t>(offset + length), {});
  return result;
}

template <typename Call>
int unlink_file(const char* path, Call call) {
  const std::string full = absolute(path);
  if (!ours(full)) return call();
  if (!allowed("unlink", full)) return -1;
  const int result = call();
  const std::lock_guard lock(layer().mutex);
  if (result == 0) {
    layer().files.erase(full);
    record('U', 0, 0, full);
  }
  return result;
}

}  // namespace

// The names are the C library's, so the signatures are too.
#define EXPORT extern "C" __attribute__((visibility("default")))

static mode_t mode_argument(int flags, va_list arguments) {
  return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

EXPORT int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_file("open", path, flags, mode);
}
EXPORT int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_file("open64", path, flags, mode);
}
EXPORT int close(int fd) {
  if (fd >= 0 && fd < 65536) {
    const std::lock_guard lock(layer().mutex);
    layer().open[static_cast<std::size_t>(fd)] = {};
  }
  return real<int(int)>("close")(fd);
}

EXPORT ssize_t pwrite(int fd, const void* data, size_t size, off_t offset) {
  const iovec part{const_cast<void*>(data), size};
  return write_parts(fd, &part, 1, offset, [&](const iovec* parts, int) {
    return real<ssize_t(int, const void*, size_t, off_t)>("pwrite")(fd, parts[0].iov_base, parts[0].iov_len, offset);
  });
}
EXPORT ssize_t pwrite64(int fd, const void* data, size_t size, off_t offset) {
  return pwrite(fd, data, size, offset);
}
/// Only at a place: what the spool is read with.
EXPORT ssize_t pread(int fd, void* data, size_t size, off_t offset) {
  if (const Tracked file = tracked(fd); file.file != 0 && !allowed("read", file.path)) return -1;
  return real<ssize_t(int, void*, size_t, off_t)>("pread")(fd, data, size, offset);
}
EXPORT ssize_t pread64(int fd, void* data, size_t size, off_t offset) {
  return pread(fd, data, size, offset);
}
EXPORT ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  return write_parts(fd, parts, count, offset, [&](const iovec* given, int n) {
    return real<ssize_t(int, const iovec*, int, off_t)>("pwritev")(fd, given, n, offset);
  });
}
EXPORT ssize_t pwritev64(int fd, const iovec* parts, int count, off_t offset) {
  return pwritev(fd, parts, count, offset);
}
EXPORT ssize_t write(int fd, const void* data, size_t size) {
  const iovec part{const_cast<void*>(data), size};
  return write_parts(fd, &part, 1, -1,
                     [&](const iovec* parts, int) { return real_write(fd, parts[0].iov_base, parts[0].iov_len); });
}
EXPORT ssize_t writev(int fd, const iovec* parts, int count) {
  return write_parts(fd, parts, count, -1,
                     [&](const iovec* given, int n) { return real<ssize_t(int, const iovec*, int)>("writev")(fd, given, n); });
}

EXPORT int fsync(int fd) {
  return sync_file(fd, [&] { return real<int(int)>("fsync")(fd); });
}
EXPORT int fdatasync(int fd) {
  return sync_file(fd, [&] { return real<int(int)>("fdatasync")(fd); });
}
EXPORT int ftruncate(int fd, off_t size) {
  return resize(tracked(fd), static_cast<std::uint64_t>(size), [&] { return real<int(int, off_t)>("ftruncate")(fd, size); });
}
EXPORT int ftruncate64(int fd, off_t size) {
  return ftruncate(fd, size);
}
EXPORT int truncate(const char* path, off_t size) {
  Tracked file;
  {
    const std::lock_guard lock(layer().mutex);
    if (const auto it = layer().files.find(absolute(path)); it != layer().files.end()) file.file = it->second;
  }
  if (file.file == 0 && ours(absolute(path))) {  // never opened: make it known
    const int fd = open(path, O_WRONLY);
    file = tracked(fd);
    close(fd);
  }
  return resize(file, static_cast<std::uint64_t>(size), [&] { return real<int(const char*, off_t)>("truncate")(path, size); });
}
EXPORT int truncate64(const char* path, off_t size) {
  return truncate(path, size);
}
EXPORT int posix_fallocate(int fd, off_t offset, off_t length) {
  return allocate(fd, offset, length, [&] { return real<int(int, off_t, off_t)>("posix_fallocate")(fd, offset, length); });
}
EXPORT int posix_fallocate64(int fd, off_t offset, off_t length) {
  return posix_fallocate(fd, offset, length);
}

EXPORT int mkdir(const char* path, mode_t mode) {
  const int result = real<int(const char*, mode_t)>("mkdir")(path, mode);
  const std::string full = absolute(path);
  if (result == 0 && ours(full) && full != layer().root) {
    const std::lock_guard lock(layer().mutex);
    record('M', 0, 0, full);
  }
  return result;
}

EXPORT int unlink(const char* path) {
  return unlink_file(path, [&] { return real<int(const char*)>("unlink")(path); });
}
EXPORT int remove(const char* path) {
  return unlink_file(path, [&] { return real<int(const char*)>("remove")(path); });
}
EXPORT int rename(const char* from, const char* to) {
  const std::string source = absolute(from), target = absolute(to);
  if (ours(source) && !allowed("rename", source)) return -1;
  const int result = real<int(const char*, const char*)>("rename")(from, to);
  const std::lock_guard lock(layer().mutex);
  if (result == 0 && ours(source)) {
    if (const auto it = layer().files.find(source); it != layer().files.end()) {
      layer().files[target] = it->second;
      layer().files.erase(source);
    }
    record('R', 0, 0, source, target);
  }
  return result;
}

EXPORT int accept(int fd, sockaddr* address, socklen_t* length) {
  if (!allowed("accept", {})) return -1;
  return real<int(int, sockaddr*, socklen_t*)>("accept")(fd, address, length);
}
EXPORT int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
  if (!allowed("accept", {})) return -1;
  return real<int(int, sockaddr*, socklen_t*, int)>("accept4")(fd, address, length, flags);
}
EXPORT int socket(int domain, int type, int protocol) {
  if (domain != AF_UNIX && !allowed("socket", {})) return -1;
  return real<int(int, int, int)>("socket")(domain, type, protocol);
}
