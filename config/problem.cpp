#include "config/problem.hpp"

namespace egret::config {

std::string Problem::to_string() const {
  std::string out = file;
  if (line > 0) out += ':' + std::to_string(line) + ':' + std::to_string(column);
  out += ": ";
  if (!key.empty()) out += key + ": ";
  return out + text;
}

}  // namespace egret::config
