#include "relay/runtime/directory.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <vector>

namespace egret::relay {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

}  // namespace

Directory::Directory(const std::filesystem::path& path)
    : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (fd_ < 0) fail("cannot open " + path.string());
}

Directory::~Directory() {
  ::close(fd_);
}

void Directory::sync() const {
  if (fsync(fd_) != 0) fail("cannot sync " + path_.string());
}

void sync_directory(const std::filesystem::path& directory) {
  Directory(directory).sync();
}

void create_durably(const std::filesystem::path& directory) {
  std::filesystem::path present = directory;
  std::vector<std::filesystem::path> above;  // of each that is missing
  while (!present.empty() && !std::filesystem::exists(present)) {
    present = present.parent_path();
    above.push_back(present.empty() ? "." : present);
  }
  std::filesystem::create_directories(directory);
  for (const auto& parent : above) sync_directory(parent);
}

}  // namespace egret::relay
