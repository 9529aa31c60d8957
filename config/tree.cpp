#include "config/tree.hpp"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <fstream>

#include "smtp/text.hpp"

namespace egret::config {
namespace {

constexpr int max_depth = 32;
constexpr int max_nodes = 200'000;

class Converter {
 public:
  Converter(const std::string& file, Problems& problems) : file_(file), problems_(problems) {}

  Tree convert(const YAML::Node& node, const std::string& key, int depth) {
    Tree out;
    out.line = node.Mark().line + 1;
    out.column = node.Mark().column + 1;
    // Aliases multiply: a few octets could stand for billions of nodes.
    if (++nodes_ > max_nodes) {
      if (nodes_ == max_nodes + 1) problem(out, key, "too many values (aliases that multiply?)");
      return out;
    }
    if (depth > max_depth) {
      problem(out, key, "nested too deeply");
    } else if (node.IsScalar()) {
      out.kind = Tree::Kind::scalar;
      out.scalar = node.Scalar();
    } else if (node.IsSequence()) {
      out.kind = Tree::Kind::sequence;
      for (const auto& item : node) out.items.push_back(convert(item, key, depth + 1));
    } else if (node.IsMap()) {
      mapping(node, key, depth, out);
    }
    return out;
  }

 private:
  void mapping(const YAML::Node& node, const std::string& key, int depth, Tree& out) {
    out.kind = Tree::Kind::mapping;
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) {
        problem(out, key, "keys must be plain words");
        continue;
      }
      const std::string name = entry.first.Scalar();
      const std::string path = key.empty() ? name : key + "." + name;
      Tree value = convert(entry.second, path, depth + 1);
      // An empty value has no place of its own; the key's is what a person looks for.
      if (value.kind == Tree::Kind::null || value.line == 0) {
        value.line = entry.first.Mark().line + 1;
        value.column = entry.first.Mark().column + 1;
      }
      value.key_line = entry.first.Mark().line + 1;
      value.key_column = entry.first.Mark().column + 1;
      if (out.find(name)) problem(value, path, "stands twice");
      out.keys.push_back(name);
      out.items.push_back(std::move(value));
    }
  }

  void problem(const Tree& where, const std::string& key, std::string text) {
    problems_.push_back({file_, where.line, where.column, key, std::move(text)});
  }

  const std::string& file_;
  Problems& problems_;
  int nodes_ = 0;
};

/// What a ${...} stands for.
std::optional<std::string> reference(const std::string& name, const Environment& environment, std::string& why) {
  if (!name.starts_with("file:")) {
    auto value = environment(name);
    if (!value) why = "the environment has no " + name;
    return value;
  }
  std::ifstream in(name.substr(5));
  std::string line;
  if (!in || !std::getline(in, line)) {
    why = "cannot read the first line of " + name.substr(5);
    return std::nullopt;
  }
  if (!line.empty() && line.back() == '\r') line.pop_back();
  return line;
}

/// The line, from 1, of a "---" that stands behind content; 0 when there is one document only.
int second_document(std::string_view text) {
  bool content = false;
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
    const std::string_view words = smtp::trim(text.substr(0, end));
    const bool marker = text.starts_with("---") && (words == "---" || words.starts_with("--- "));
    if (marker && content) return line;
    content = content || (!words.empty() && !words.starts_with('#') && !words.starts_with('%') && words != "---");
    text.remove_prefix(end);
  }
  return 0;
}

}  // namespace

const Tree* Tree::find(std::string_view key) const {
  const auto it = std::ranges::find(keys, key);
  return it == keys.end() ? nullptr : &items[static_cast<std::size_t>(it - keys.begin())];
}

Tree parse_yaml(std::string_view text, const std::string& file, Problems& problems) {
  try {
    // Not LoadAll: on some malformed texts it never ends (yaml-cpp 0.7).
    const YAML::Node document = YAML::Load(std::string(text));
    if (const int line = second_document(text); line > 0)
      problems.push_back({file, line, 1, "", "a second document (behind ---) would be ignored: one is expected"});
    if (document) return Converter(file, problems).convert(document, "", 0);
  } catch (const YAML::Exception& e) {
    problems.push_back({file, e.mark.line + 1, e.mark.column + 1, "", "YAML syntax: " + e.msg});
  }
  return {};
}

void expand(Tree& tree, const std::string& file, const std::string& key, const Environment& environment, Problems& problems) {
  for (std::size_t i = 0; i < tree.items.size(); ++i) {
    const std::string name = i < tree.keys.size() ? tree.keys[i] : std::string();
    expand(tree.items[i], file, key.empty() || name.empty() ? key + name : key + "." + name, environment, problems);
  }
  std::string out;
  std::string_view rest = tree.scalar;
  while (true) {
    const std::size_t start = rest.find("${");
    const std::size_t end = start == std::string_view::npos ? start : rest.find('}', start);
    if (end == std::string_view::npos) break;
    std::string why;
    const auto value = reference(std::string(rest.substr(start + 2, end - start - 2)), environment, why);
    if (!value) problems.push_back({file, tree.line, tree.column, key, why});
    out.append(rest.substr(0, start));
    out.append(value.value_or(""));
    rest.remove_prefix(end + 1);
  }
  out.append(rest);
  tree.scalar = std::move(out);
}

Section::Section(const Tree* tree, std::string key, const std::string& file, Problems& problems)
    : tree_(tree), key_(std::move(key)), file_(&file), problems_(&problems) {
  if (tree_ && tree_->kind != Tree::Kind::mapping) {
    if (tree_->kind != Tree::Kind::null) problem_at(*tree_, "", "expected a mapping (key: value)");
    place_ = tree_;  // an empty entry: what it lacks is reported here
    tree_ = nullptr;
  }
}

std::string Section::path(std::string_view key) const {
  if (key_.empty()) return std::string(key);
  return key.empty() ? key_ : key_ + "." + std::string(key);
}

void Section::problem_at(const Tree& where, std::string_view key, std::string text) {
  problems_->push_back({*file_, where.line, where.column, path(key), std::move(text)});
}

void Section::problem(std::string_view key, std::string text) {
  const Tree* where = tree_ ? tree_->find(key) : nullptr;
  if (!where) where = tree_ ? tree_ : place_;
  if (where) return problem_at(*where, key, std::move(text));
  problems_->push_back({*file_, 0, 0, path(key), std::move(text)});
}

const Tree* Section::take(std::string_view key) {
  known_.emplace(key);
  if (!tree_) return nullptr;
  const Tree* value = tree_->find(key);
  return value && value->kind != Tree::Kind::null ? value : nullptr;
}

Section Section::section(std::string_view key) {
  return {take(key), path(key), *file_, *problems_};
}

void Section::unavailable(std::string_view key, std::string_view why) {
  if (take(key)) problem(key, "not available in this version" + (why.empty() ? "" : ": " + std::string(why)));
}

const std::string* Section::scalar(std::string_view key) {
  const Tree* value = take(key);
  if (!value) return nullptr;
  if (value->kind == Tree::Kind::scalar) return &value->scalar;
  problem(key, "expected a single value");
  return nullptr;
}

void Section::text(std::string_view key, std::string& out) {
  if (const auto* value = scalar(key)) out = *value;
}

void Section::required_text(std::string_view key, std::string& out) {
  text(key, out);
  if (out.empty()) problem(key, "is required");
}

void Section::boolean(std::string_view key, bool& out) {
  const auto* value = scalar(key);
  if (!value) return;
  if (*value == "true" || *value == "yes" || *value == "on")
    out = true;
  else if (*value == "false" || *value == "no" || *value == "off")
    out = false;
  else
    problem(key, "expected true or false");
}

void Section::integer(std::string_view key, int& out, int least, int most) {
  const auto* value = scalar(key);
  if (!value) return;
  int parsed = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), parsed);
  if (error == std::errc{} && end == value->data() + value->size() && parsed >= least && parsed <= most) {
    out = parsed;
  } else {
    problem(key, "expected a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
}

void Section::number(std::string_view key, double& out, double least, double most) {
  const auto* value = scalar(key);
  if (!value) return;
  double parsed = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), parsed);
  if (error == std::errc{} && end == value->data() + value->size() && parsed >= least && parsed <= most) {
    out = parsed;
    return;
  }
  const auto plain = [](double v) {
    std::string s = std::to_string(v);
    s.erase(s.find_last_not_of('0') + 1);
    if (s.ends_with('.')) s.pop_back();
    return s;
  };
  problem(key, "expected a number from " + plain(least) + " to " + plain(most));
}

void Section::duration(std::string_view key, routing::Duration& out) {
  const auto* value = scalar(key);
  if (!value) return;
  if (const auto parsed = parse_duration(*value))
    out = *parsed;
  else
    problem(key, "expected a duration such as 500ms, 30s, 5m, 2h or 1d");
}

void Section::size(std::string_view key, std::uint64_t& out) {
  const auto* value = scalar(key);
  if (!value) return;
  if (const auto parsed = parse_size(*value))
    out = *parsed;
  else
    problem(key, "expected a size such as 512K, 50M or 1G");
}

void Section::texts(std::string_view key, std::vector<std::string>& out) {
  const Tree* value = take(key);
  if (!value) return;
  out.clear();
  if (value->kind == Tree::Kind::scalar) {
    out.push_back(value->scalar);
    return;
  }
  for (const Tree& item : value->items) {
    if (item.kind == Tree::Kind::scalar)
      out.push_back(item.scalar);
    else
      problem_at(item, key, "expected a single value");
  }
  if (value->kind != Tree::Kind::sequence) problem(key, "expected a list");
}

void Section::sections(std::string_view key, const std::function<void(Section&)>& each) {
  const Tree* value = take(key);
  if (!value) return;
  if (value->kind != Tree::Kind::sequence) return problem(key, "expected a list");
  for (std::size_t i = 0; i < value->items.size(); ++i) {
    Section item(&value->items[i], path(key) + "[" + std::to_string(i) + "]", *file_, *problems_);
    if (!item.present()) continue;
    each(item);
    item.finish();
  }
}

void Section::named(std::string_view key, const std::function<void(const std::string&, Section&)>& each) {
  Section outer = section(key);
  if (!outer.present()) return;
  for (std::size_t i = 0; i < outer.tree_->keys.size(); ++i) {
    const std::string& name = outer.tree_->keys[i];
    const Tree& value = outer.tree_->items[i];
    Section item(&value, outer.path(name), *file_, *problems_);
    if (!item.present() && value.kind != Tree::Kind::null) continue;
    each(name, item);
    item.finish();
  }
}

void Section::finish() {
  if (!tree_) return;
  for (std::size_t i = 0; i < tree_->keys.size(); ++i) {
    const std::string& name = tree_->keys[i];
    if (known_.contains(name)) continue;
    std::string expected;
    for (const auto& known : known_) expected += (expected.empty() ? "" : ", ") + known;
    problems_->push_back(
        {*file_, tree_->items[i].key_line, tree_->items[i].key_column, path(name), "unknown key; known here: " + expected});
  }
}

}  // namespace egret::config
