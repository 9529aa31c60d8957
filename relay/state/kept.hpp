// A part that has its own rows in the state file, so that the file needs to know nothing of it. Control thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace egret::relay {

struct KeptRow {
  std::string name;
  std::string value;  ///< empty: the row goes away
};

class Kept {
 public:
  virtual ~Kept() = default;
  /// The kind of its rows, no other part's.
  virtual std::string_view kind() const = 0;
  /// What was saved, once for each row, before anything runs.
  virtual void restore(const std::string& name, const std::string& value) = 0;
  /// What is to be saved now; `all`: the last time failed, so everything.
  virtual std::vector<KeptRow> take_changed(bool all) = 0;
};

}  // namespace egret::relay
