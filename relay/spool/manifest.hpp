// The list of segments that the spool consists of, so that a segment which somebody removed or cut is missed at the
// start, and not taken for one that was never there.
//
//   egret spool segments 1
//   NUMBER sealed LENGTH          LENGTH octets are in use, and no more will be
//   NUMBER open LENGTH            being written, and at least LENGTH octets long: preallocated
//   checksum HEX                  XXH3-64 of the lines above
//
// The file `segments` is replaced as a whole and synced: with a segment's creation, before anything is stored in it; behind
// the sync after each step that one grows; before a segment is cut to its length or unlinked. So a listed segment must be there;
// one that is not listed was just made, or was to be unlinked when the program died. Without the file nothing is checked.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace egret::relay::spool {

struct ListedSegment {
  bool sealed = false;
  std::uint64_t length = 0;
  bool operator==(const ListedSegment&) const = default;
};
using Manifest = std::map<std::uint32_t, ListedSegment>;

std::string encode_manifest(const Manifest& manifest);
/// Nullopt when the text is no such list, or its checksum does not fit.
std::optional<Manifest> parse_manifest(std::string_view text);

std::filesystem::path manifest_path(const std::filesystem::path& directory);
/// Nullopt where there is none; `damaged` is set when there is one that cannot be read.
std::optional<Manifest> load_manifest(const std::filesystem::path& directory, bool& damaged);
/// What became of a list that was to be saved.
enum class Saved {
  yes,      ///< it is durable
  removed,  ///< it cannot be written (a full disk: and unlinking a segment is what makes room), and the old one, which is
            ///< wrong by now, is gone: a start would check nothing
  later,    ///< there were no descriptors left, and nothing was changed
};
/// Throws std::system_error when what is on the disk cannot be known. `why` is set to an errno value where it is not saved.
[[nodiscard]] Saved save_manifest(const std::filesystem::path& directory, const Manifest& manifest, int& why);

}  // namespace egret::relay::spool
