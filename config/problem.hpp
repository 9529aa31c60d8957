// What is wrong with a configuration: all of it at once, each with its place.
#pragma once

#include <string>
#include <vector>

namespace egret::config {

struct Problem {
  std::string file;
  int line = 0;      ///< from 1; 0: the file as a whole
  int column = 0;    ///< from 1
  std::string key;   ///< e.g. "pools.bulk.sources"
  std::string text;  ///< what was expected

  /// "file:line:column: key: what was expected"
  std::string to_string() const;
};

using Problems = std::vector<Problem>;

}  // namespace egret::config
