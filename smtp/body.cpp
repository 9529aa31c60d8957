#include "smtp/body.hpp"

#include <algorithm>

namespace egret::smtp {

void Body::reserve(std::uint64_t expected) {
  // The trace header comes on top of what the client counts.
  if (expected > 0) next_chunk_ = static_cast<std::size_t>(std::clamp<std::uint64_t>(expected + 512, 1024, max_chunk));
}

void Body::append(std::string_view bytes) {
  size_ += bytes.size();
  if (!chunks_.empty() && bytes.size() <= chunks_.back().capacity() - chunks_.back().size()) {
    chunks_.back().append(bytes);
    return;
  }
  while (!bytes.empty()) {
    if (chunks_.empty() || chunks_.back().size() == chunks_.back().capacity()) {
      chunks_.emplace_back();
      chunks_.back().reserve(next_chunk_);
      next_chunk_ = std::min(next_chunk_ * 2, max_chunk);
    }
    std::string& chunk = chunks_.back();
    const std::size_t n = std::min(bytes.size(), chunk.capacity() - chunk.size());
    chunk.append(bytes.substr(0, n));
    bytes.remove_prefix(n);
  }
}

std::vector<std::string> Body::release_chunks() {
  std::vector<std::string> out = std::move(chunks_);
  // A message may wait long: what the last chunk was given in advance goes back.
  if (!out.empty() && out.back().capacity() > out.back().size() + 256) out.back().shrink_to_fit();
  chunks_.clear();
  return out;
}

std::string Body::flat() const {
  std::string out;
  for (const auto& chunk : chunks_) out += chunk;
  return out;
}

}  // namespace egret::smtp
