// Names that a power cut does not take back: a file is on disk with its directory's sync only.
#pragma once

#include <filesystem>

namespace egret::relay {

/// A directory held open, so that what was begun in it can be synced also when there are no descriptors left.
class Directory {
 public:
  /// Throws std::system_error.
  explicit Directory(const std::filesystem::path& path);
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  /// Makes created and removed names durable. Throws std::system_error.
  void sync() const;

 private:
  std::filesystem::path path_;
  int fd_;
};

/// The same in one step. Throws std::system_error.
void sync_directory(const std::filesystem::path& directory);
/// Creates the directory, and those above it that are missing, with durable names. Throws std::system_error.
void create_durably(const std::filesystem::path& directory);

}  // namespace egret::relay
