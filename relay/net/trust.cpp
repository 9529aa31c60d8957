#include "relay/net/trust.hpp"

#include <openssl/err.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <sys/stat.h>

#include <cerrno>
#include <compare>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <mutex>
#include <stdexcept>
#include <system_error>

namespace egret::relay {
namespace {

/// What tells one state of a file from another.
struct FileState {
  std::uint64_t device = 0, inode = 0, size = 0;
  std::int64_t seconds = 0, nanoseconds = 0;
  auto operator<=>(const FileState&) const = default;
};

FileState state_of(const std::string& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return {};
  return {found.st_dev, found.st_ino, static_cast<std::uint64_t>(found.st_size), found.st_mtim.tv_sec, found.st_mtim.tv_nsec};
}

/// Where OpenSSL finds the system's certificates: all in a file, or by hashed names in a directory, of which it keeps those
/// that it met.
struct Places {
  FileState file, directory;
  auto operator<=>(const Places&) const = default;
};

Places places_of(const std::string& ca) {
  if (!ca.empty()) return {state_of(ca), {}};
  const char* const file = std::getenv(X509_get_default_cert_file_env());
  const char* const directory = std::getenv(X509_get_default_cert_dir_env());
  return {state_of(file ? file : X509_get_default_cert_file()), state_of(directory ? directory : X509_get_default_cert_dir())};
}

std::shared_ptr<X509_STORE> read(const std::string& ca) {
  std::shared_ptr<X509_STORE> out(X509_STORE_new(), X509_STORE_free);
  ERR_clear_error();
  const int good = !out ? 0 : ca.empty() ? X509_STORE_set_default_paths(out.get()) : X509_STORE_load_file(out.get(), ca.c_str());
  if (good == 1) return out;
  const unsigned long error = ERR_get_error();
  const char* const reason = ERR_reason_error_string(error);
  throw std::runtime_error(
      "cannot load certificates from " + (ca.empty() ? "the system's store" : ca) + ": " +
      (reason ? reason : std::generic_category().message(ERR_SYSTEM_ERROR(error) ? ERR_GET_REASON(error) : ENOMEM)));
}

}  // namespace

std::shared_ptr<X509_STORE> trusted(const std::string& ca) {
  static std::mutex mutex;
  static std::map<std::pair<std::string, Places>, std::weak_ptr<X509_STORE>> known;
  const std::lock_guard lock(mutex);
  std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  auto& its = known[{ca, places_of(ca)}];
  auto out = its.lock();
  if (!out) its = out = read(ca);
  return out;
}

}  // namespace egret::relay
