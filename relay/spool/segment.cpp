#include "relay/spool/segment.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <climits>
#include <cstdio>
#include <cstring>
#include <system_error>

namespace egret::relay::spool {
namespace {

constexpr std::size_t block_size = 256u << 10;  // read at once
constexpr std::size_t page = 4096;              // the least that a disk fails to give back

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

std::filesystem::path segment_path(const std::filesystem::path& directory, std::uint32_t number) {
  std::array<char, 40> name{};
  std::snprintf(name.data(), name.size(), "segment-%010u.spool", number);
  return directory / name.data();
}

std::vector<std::uint32_t> list_segments(const std::filesystem::path& directory) {
  std::vector<std::uint32_t> out;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("segment-") || !name.ends_with(".spool")) continue;
    std::uint32_t number = 0;
    const char* end = name.data() + name.size() - 6;
    if (std::from_chars(name.data() + 8, end, number).ptr == end) out.push_back(number);
  }
  std::ranges::sort(out);
  return out;
}

bool out_of_descriptors(const std::error_code& error) {
  return error == std::errc::too_many_files_open || error == std::errc::too_many_files_open_in_system;
}

bool out_of_space(const std::error_code& error) {
  return error == std::errc::no_space_on_device || error == std::error_code(EDQUOT, std::generic_category());
}

std::shared_ptr<SegmentFile> SegmentFile::create(const std::filesystem::path& directory, std::uint32_t number,
                                                 std::uint64_t now_ms, std::uint32_t preallocated) {
  const auto path = segment_path(directory, number);
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) fail("cannot create " + path.string());
  std::shared_ptr<SegmentFile> file(new SegmentFile(fd, number, path));
  const auto give_up = [&](const std::string& what) {
    const int saved = errno;
    ::unlink(path.c_str());
    errno = saved;
    fail(what + " " + path.string());
  };
  // Preallocated, so that a full disk is found here and not in the middle of a message.
  if (const int error = file->preallocate(0, preallocated)) {
    errno = error;
    give_up("cannot preallocate");
  }
  const std::string header = encode_segment_header(number, now_ms);
  if (pwrite(fd, header.data(), header.size(), 0) != static_cast<ssize_t>(header.size())) give_up("cannot write");
  if (fsync(fd) != 0) give_up("cannot sync");
  try {
    sync_directory(directory);
  } catch (const std::system_error&) {
    ::unlink(path.c_str());
    throw;
  }
  return file;
}

std::shared_ptr<SegmentFile> SegmentFile::open(const std::filesystem::path& path, std::uint32_t number, bool writable) {
  const int fd = ::open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) fail("cannot open " + path.string());
  return std::shared_ptr<SegmentFile>(new SegmentFile(fd, number, path));
}

SegmentFile::~SegmentFile() {
  ::close(fd_);
}

int SegmentFile::write(std::vector<iovec>& parts, std::uint64_t& offset) const {
  std::size_t at = 0;
  while (at < parts.size() && parts[at].iov_len == 0) ++at;
  while (at < parts.size()) {
    const auto count = static_cast<int>(std::min<std::size_t>(parts.size() - at, IOV_MAX));
    ssize_t written = pwritev(fd_, &parts[at], count, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    if (written == 0) return EIO;
    offset += static_cast<std::uint64_t>(written);
    while (written > 0 && at < parts.size()) {
      const auto n = std::min<std::size_t>(static_cast<std::size_t>(written), parts[at].iov_len);
      parts[at].iov_base = static_cast<char*>(parts[at].iov_base) + n;
      parts[at].iov_len -= n;
      written -= static_cast<ssize_t>(n);
      if (parts[at].iov_len == 0) ++at;
    }
    while (at < parts.size() && parts[at].iov_len == 0) ++at;
  }
  return 0;
}

int SegmentFile::sync() const {
  return fdatasync(fd_) == 0 ? 0 : errno;
}
int SegmentFile::truncate(std::uint64_t size) const {
  return ftruncate(fd_, static_cast<off_t>(size)) == 0 ? 0 : errno;
}

int SegmentFile::preallocate(std::uint64_t from, std::uint64_t size) const {
  return posix_fallocate(fd_, static_cast<off_t>(from), static_cast<off_t>(size - from));
}

bool SegmentFile::read(std::uint64_t offset, std::size_t size, std::string& out) const {
  out.resize(size);
  for (std::size_t at = 0; at < size;) {
    const ssize_t got = pread(fd_, out.data() + at, size - at, static_cast<off_t>(offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    at += static_cast<std::size_t>(got);
  }
  return true;
}

std::size_t SegmentFile::read_some(std::uint64_t offset, char* out, std::size_t size, int& error) const {
  error = 0;
  std::size_t at = 0;
  while (at < size) {
    const ssize_t got = pread(fd_, out + at, size - at, static_cast<off_t>(offset + at));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && at == 0) error = errno;
    if (got <= 0) break;
    at += static_cast<std::size_t>(got);
  }
  return at;
}

std::uint64_t SegmentFile::size() const {
  struct stat info {};
  if (fstat(fd_, &info) != 0) fail("cannot stat " + path_.string());
  return static_cast<std::uint64_t>(info.st_size);
}

// ---- reading records ---------------------------------------------------------------------------------------------

SegmentReader::SegmentReader(const SegmentFile& file) : file_(file), size_(file.size()) {}

bool SegmentReader::known_bad(std::uint64_t offset, std::size_t size) const {
  const auto it = bad_.lower_bound(offset / page * page);
  return it != bad_.end() && it->first < offset + size;
}

/// These octets, or none where they cannot be read. Inside of the file.
std::string_view SegmentReader::view(std::uint64_t offset, std::size_t size) {
  if (offset >= start_ && offset + size <= start_ + have_) return {block_.data() + (offset - start_), size};
  if (known_bad(offset, size)) return {};
  const auto want = static_cast<std::size_t>(std::min<std::uint64_t>(std::max(size, block_size), size_ - offset));
  if (block_.size() < want) block_.resize(want);
  start_ = offset;
  int error = 0;
  have_ = file_.read_some(offset, block_.data(), want, error);
  if (have_ >= size) return {block_.data(), size};
  // The page behind what there is, or the file was cut while it was read.
  if (error == 0) file_.read_some(offset + have_, block_.data() + have_, 1, error);
  bad_.emplace((offset + have_) / page * page, error);
  return {};
}

std::optional<WalkedRecord> SegmentReader::record_at(std::uint64_t offset) {
  if (offset + record_header_size > size_) return std::nullopt;
  const auto decoded = decode_record_header(view(offset, record_header_size));
  if (!decoded || offset + record_header_size + decoded->length > size_) return std::nullopt;
  const std::string_view whole = view(offset, record_header_size + decoded->length);
  if (whole.empty()) return std::nullopt;
  const std::string_view header = whole.substr(0, record_header_size), payload = whole.substr(record_header_size);
  if (!checksum_fits(header, payload)) return std::nullopt;
  return WalkedRecord{static_cast<std::uint32_t>(offset), *decoded, header, payload};
}

/// Behind `offset` is what cannot be read. Whatever it held may have been known to be on disk: never a torn tail.
WalkResult SegmentReader::unreadable(std::uint64_t offset) const {
  const int error = bad_.lower_bound(offset / page * page)->second;
  return {offset, false, false,
          error == 0 ? "cut off while it was read" : std::string("cannot be read: ") + std::strerror(error)};
}

WalkResult SegmentReader::judge_end(std::uint64_t offset) {
  WalkResult out;
  out.end = offset;
  if (offset >= size_) return out;
  for (std::uint64_t at = offset; out.clean && at < size_; at += page) {
    const std::string_view octets = view(at, static_cast<std::size_t>(std::min<std::uint64_t>(page, size_ - at)));
    if (octets.empty()) return unreadable(offset);
    out.clean = octets.front() == '\0' && std::memcmp(octets.data(), octets.data() + 1, octets.size() - 1) == 0;
  }
  if (out.clean) return out;
  out.problem = "a record that cannot be read";
  for (std::uint64_t at = (offset + 7) & ~std::uint64_t{7}; at + record_header_size <= size_; at += 8)
    if (const auto record = record_at(at); record && record->header.synced_to > offset) return out;
  if (known_bad(offset, size_ - offset)) return unreadable(offset);  // what was in front of it says nothing
  out.torn = true;
  return out;
}

}  // namespace egret::relay::spool
