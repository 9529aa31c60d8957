#include "routing/literal_filter.hpp"

#include <re2/filtered_re2.h>
#include <re2/re2.h>

#include <algorithm>
#include <map>
#include <set>

namespace egret::routing {
namespace {

/// Literals shorter than this occur in nearly every text.
constexpr int shortest_literal = 2;

/// The literals of one pattern, and whether it can still match when only some of them occur.
class Needs {
 public:
  explicit Needs(const std::string& pattern) : filter_(shortest_literal) {
    RE2::Options options;
    options.set_case_sensitive(false);
    options.set_log_errors(false);
    int id = 0;
    if (pattern.empty()) return;
    valid_ = filter_.Add(pattern, options, &id) == RE2::NoError;
    if (!valid_) return;
    filter_.Compile(&literals_);
    for (std::size_t i = 0; i < literals_.size(); ++i) order_.push_back(static_cast<int>(i));
    // Short strings are common, and say less by their absence.
    std::ranges::stable_sort(order_, {}, [&](int i) { return literals_[static_cast<std::size_t>(i)].size(); });
  }

  bool valid() const { return valid_; }
  const std::vector<std::string>& literals() const { return literals_; }

  /// A smallest set of literals without which the pattern cannot match, or nothing; `spent` ones are taken last.
  std::vector<int> set(const std::set<int>& spent) {
    std::vector<bool> in(literals_.size());
    for (std::size_t i = 0; i < literals_.size(); ++i) in[i] = ascii(literals_[i]);
    if (literals_.empty() || possible_without(in)) return {};
    const auto drop = [&](bool the_spent) {
      for (const int i : order_) {
        const auto at = static_cast<std::size_t>(i);
        if (!in[at] || spent.contains(i) != the_spent) continue;
        in[at] = false;
        if (possible_without(in)) in[at] = true;
      }
    };
    drop(true);
    drop(false);
    std::vector<int> out;
    for (const int i : order_)
      if (in[static_cast<std::size_t>(i)]) out.push_back(i);
    return out;
  }

 private:
  /// Case is folded for ASCII only: other letters must not decide.
  static bool ascii(const std::string& text) {
    return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 128; });
  }

  bool possible_without(const std::vector<bool>& absent) {
    std::vector<int> present, found;
    for (std::size_t i = 0; i < literals_.size(); ++i)
      if (!absent[i]) present.push_back(static_cast<int>(i));
    filter_.AllPotentials(present, &found);
    return !found.empty();
  }

  re2::FilteredRE2 filter_;
  std::vector<std::string> literals_;
  std::vector<int> order_;
  bool valid_ = true;
};

}  // namespace

LiteralFilter::LiteralFilter(const std::vector<std::string>& patterns, std::vector<std::size_t>& invalid) {
  words_ = (patterns.size() + 63) / 64;
  none_.assign(words_ * sets, 0);
  std::map<std::string, std::vector<std::size_t>> bits_of;
  for (std::size_t p = 0; p < patterns.size(); ++p) {
    Needs needs(patterns[p]);
    if (!needs.valid()) invalid.push_back(p);
    std::set<int> spent;
    for (std::size_t k = 0; k < sets; ++k) {
      const std::size_t bit = k * words_ * 64 + p;
      const auto set = needs.set(spent);
      const bool news = std::ranges::any_of(set, [&](int i) { return !spent.contains(i); });
      if (!news) {
        none_[bit / 64] |= std::uint64_t{1} << (bit % 64);
        continue;
      }
      for (const int i : set) {
        spent.insert(i);
        bits_of[needs.literals()[static_cast<std::size_t>(i)]].push_back(bit);
      }
    }
  }
  std::vector<Literal> literals;
  for (auto& [text, bits] : bits_of) literals.push_back({text, std::move(bits)});
  build(literals);
}

/// The textbook construction: a trie, then failure links in order of depth, folded into a full transition table.
void LiteralFilter::build(const std::vector<Literal>& literals) {
  for (const Literal& literal : literals)
    for (const char c : literal.text) {
      auto& column = class_[static_cast<unsigned char>(c)];
      if (!column) column = static_cast<std::uint8_t>(columns_++);
    }
  for (int c = 'A'; c <= 'Z'; ++c) class_[static_cast<std::size_t>(c)] = class_[static_cast<std::size_t>(c - 'A' + 'a')];

  const std::size_t plane_words = words_ * sets;
  next_.assign(columns_, 0);
  std::vector<Bits> ends(1);  // per state; empty: nothing ends here
  for (const Literal& literal : literals) {
    std::uint32_t state = 0;
    for (const char c : literal.text) {
      const std::size_t edge = state * columns_ + class_[static_cast<unsigned char>(c)];
      if (!next_[edge]) {
        next_[edge] = static_cast<std::uint32_t>(ends.size());
        next_.resize(next_.size() + columns_, 0);
        ends.emplace_back();
      }
      state = next_[edge];
    }
    ends[state].assign(plane_words, 0);
    for (const std::size_t bit : literal.bits) ends[state][bit / 64] |= std::uint64_t{1} << (bit % 64);
  }

  std::vector<std::uint32_t> queue, failure(ends.size(), 0);
  for (std::size_t c = 1; c < columns_; ++c)
    if (next_[c]) queue.push_back(next_[c]);
  for (std::size_t at = 0; at < queue.size(); ++at) {
    const std::uint32_t state = queue[at], back = failure[state];
    if (!ends[back].empty()) {
      ends[state].resize(plane_words, 0);
      for (std::size_t w = 0; w < plane_words; ++w) ends[state][w] |= ends[back][w];
    }
    for (std::size_t c = 1; c < columns_; ++c) {
      auto& to = next_[state * columns_ + c];
      const std::uint32_t by_failure = next_[back * columns_ + c];
      if (!to) {
        to = by_failure;
        continue;
      }
      failure[to] = by_failure;
      queue.push_back(to);
    }
  }

  next_.shrink_to_fit();

  mask_.assign(ends.size(), 0);
  masks_.assign(plane_words, 0);
  std::map<Bits, std::uint32_t> known;
  for (std::size_t state = 0; state < ends.size(); ++state) {
    if (ends[state].empty()) continue;
    const auto [it, fresh] = known.emplace(ends[state], static_cast<std::uint32_t>(masks_.size() / plane_words));
    if (fresh) masks_.insert(masks_.end(), ends[state].begin(), ends[state].end());
    mask_[state] = it->second;
  }
}

void LiteralFilter::possible(std::string_view text, Bits& scratch, Bits& out) const {
  scratch = none_;
  const std::size_t plane_words = words_ * sets;
  std::uint32_t state = 0;
  for (const char c : text) {
    state = next_[state * columns_ + class_[static_cast<unsigned char>(c)]];
    if (const std::uint32_t mask = mask_[state]) {
      const std::uint64_t* seen = masks_.data() + mask * plane_words;
      for (std::size_t w = 0; w < plane_words; ++w) scratch[w] |= seen[w];
    }
  }
  out.assign(words_, ~std::uint64_t{0});
  for (std::size_t k = 0; k < sets; ++k)
    for (std::size_t w = 0; w < words_; ++w) out[w] &= scratch[k * words_ + w];
}

}  // namespace egret::routing
