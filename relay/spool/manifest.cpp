#include "relay/spool/manifest.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <system_error>

#include "relay/spool/segment.hpp"

namespace egret::relay::spool {
namespace {

constexpr std::string_view title = "egret spool segments 1\n";
constexpr std::string_view checksum_word = "checksum ";

std::string checksum_line(std::string_view lines) {
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx", static_cast<unsigned long long>(XXH3_64bits(lines.data(), lines.size())));
  return std::string(checksum_word) + hex + "\n";
}

template <class T>
bool number(std::string_view& text, T& out, char behind) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc{} || end == text.data() + text.size() || *end != behind) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()) + 1);
  return true;
}

/// Writes the file, syncs and closes it. Returns 0 or an errno value.
int write_synced(int fd, std::string_view octets) {
  int error = 0;
  while (!octets.empty() && error == 0) {
    const ssize_t n = ::write(fd, octets.data(), octets.size());
    if (n > 0)
      octets.remove_prefix(static_cast<std::size_t>(n));
    else if (n == 0 || errno != EINTR)
      error = n == 0 ? EIO : errno;
  }
  if (error == 0 && fsync(fd) != 0) error = errno;
  if (::close(fd) != 0 && error == 0) error = errno;
  return error;
}

}  // namespace

std::string encode_manifest(const Manifest& manifest) {
  std::string out(title);
  for (const auto& [number, segment] : manifest)
    out += std::to_string(number) + (segment.sealed ? " sealed " : " open ") + std::to_string(segment.length) + "\n";
  return out + checksum_line(out);
}

std::optional<Manifest> parse_manifest(std::string_view text) {
  const std::size_t line = text.rfind(checksum_word);
  if (line == std::string_view::npos || text.substr(line) != checksum_line(text.substr(0, line))) return std::nullopt;
  text = text.substr(0, line);
  if (!text.starts_with(title)) return std::nullopt;
  text.remove_prefix(title.size());
  Manifest out;
  while (!text.empty()) {
    std::uint32_t segment = 0;
    ListedSegment listed;
    if (!number(text, segment, ' ')) return std::nullopt;
    listed.sealed = text.starts_with("sealed ");
    if (!listed.sealed && !text.starts_with("open ")) return std::nullopt;
    text.remove_prefix(listed.sealed ? 7 : 5);
    if (!number(text, listed.length, '\n') || !out.emplace(segment, listed).second) return std::nullopt;
  }
  return out;
}

std::filesystem::path manifest_path(const std::filesystem::path& directory) {
  return directory / "segments";
}

std::optional<Manifest> load_manifest(const std::filesystem::path& directory, bool& damaged) {
  damaged = false;
  std::ifstream in(manifest_path(directory), std::ios::binary);
  if (!in) return std::nullopt;
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  auto out = parse_manifest(text);
  damaged = !out;
  return out;
}

Saved save_manifest(const std::filesystem::path& directory, const Manifest& manifest, int& why) {
  const std::string path = manifest_path(directory).string();
  const std::string fresh = path + ".new";
  // Everything that takes a descriptor comes first: from here on it is all or nothing.
  std::optional<Directory> names;
  try {
    names.emplace(directory);
  } catch (const std::system_error& e) {
    why = e.code().value();
    if (out_of_descriptors(e.code())) return Saved::later;
    throw;
  }
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  why = fd < 0 ? errno : write_synced(fd, encode_manifest(manifest));
  if (fd < 0 && out_of_descriptors({why, std::generic_category()})) return Saved::later;
  if (why == 0 && std::rename(fresh.c_str(), path.c_str()) != 0) why = errno;
  if (why != 0) {
    ::unlink(fresh.c_str());
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
      throw std::system_error(errno, std::generic_category(), "cannot replace " + path);
  }
  names->sync();
  return why == 0 ? Saved::yes : Saved::removed;
}

}  // namespace egret::relay::spool
