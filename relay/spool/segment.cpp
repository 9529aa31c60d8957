#include "relay/spool/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
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

void sync_directory(const std::filesystem::path& directory) {
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("cannot open " + directory.string());
  const int result = fsync(fd);
  const int saved = errno;
  ::close(fd);
  errno = saved;
  if (result != 0) fail("cannot sync " + directory.string());
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
  if (const int error = posix_fallocate(fd, 0, preallocated)) {
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

int SegmentFile::write(std::vector<iovec>& parts, std::uint64_t offset) const {
  std::size_t at = 0;
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

std::uint64_t SegmentFile::size() const {
  struct stat info {};
  if (fstat(fd_, &info) != 0) fail("cannot stat " + path_.string());
  return static_cast<std::uint64_t>(info.st_size);
}

MappedSegment::MappedSegment(const SegmentFile& file) : size_(file.size()) {
  if (size_ == 0) return;
  const int fd = ::open(file.path().c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail("cannot open " + file.path().string());
  data_ = mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
  const int saved = errno;
  ::close(fd);
  errno = saved;
  if (data_ == MAP_FAILED) fail("cannot map " + file.path().string());
  madvise(data_, size_, MADV_SEQUENTIAL);
}

MappedSegment::~MappedSegment() {
  if (data_) munmap(data_, size_);
}

std::optional<WalkedRecord> MappedSegment::record_at(std::uint64_t offset) const {
  if (offset + record_header_size > size_) return std::nullopt;
  const std::string_view header = octets().substr(offset, record_header_size);
  const auto decoded = decode_record_header(header);
  if (!decoded || offset + record_header_size + decoded->length > size_) return std::nullopt;
  const std::string_view payload = octets().substr(offset + record_header_size, decoded->length);
  if (!checksum_fits(header, payload)) return std::nullopt;
  return WalkedRecord{static_cast<std::uint32_t>(offset), *decoded, header, payload};
}

void MappedSegment::forget(std::uint64_t offset) {
  constexpr std::size_t step = 4u << 20;
  const std::size_t upto = offset / step * step;
  if (upto <= forgotten_) return;
  madvise(static_cast<char*>(data_) + forgotten_, upto - forgotten_, MADV_DONTNEED);
  forgotten_ = upto;
}

WalkResult MappedSegment::judge_end(std::uint64_t offset) const {
  WalkResult out;
  out.end = offset;
  if (offset >= size_) return out;
  const std::string_view rest = octets().substr(offset);
  if (rest.front() == '\0' && std::memcmp(rest.data(), rest.data() + 1, rest.size() - 1) == 0) return out;  // all zeros
  out.clean = false;
  out.problem = "a record that cannot be read";
  for (std::uint64_t at = (offset + 7) & ~std::uint64_t{7}; at + record_header_size <= size_; at += 8)
    if (const auto record = record_at(at); record && record->header.synced_to > offset) return out;
  out.torn = true;
  return out;
}

}  // namespace egret::relay::spool
