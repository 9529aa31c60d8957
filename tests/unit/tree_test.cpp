#include "config/tree.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>

namespace egret::config {
namespace {

struct Parsed {
  Tree tree;
  Problems problems;
};

Parsed parse(std::string_view text) {
  Parsed out;
  out.tree = parse_yaml(text, "f", out.problems);
  return out;
}

/// "3:5 key" of the only problem.
std::string place(const Problems& problems) {
  if (problems.size() != 1) return std::to_string(problems.size()) + " problems";
  return std::to_string(problems[0].line) + ":" + std::to_string(problems[0].column) + " " + problems[0].key;
}

std::optional<std::string> no_environment(const std::string&) {
  return std::nullopt;
}

// ---- the tree ----------------------------------------------------------------------------------------------------

TEST(YamlTree, KeepsTheOrderOfKeys) {
  const Parsed parsed = parse("b: 1\na: 2\nc: 3\n");
  EXPECT_EQ(parsed.tree.keys, (std::vector<std::string>{"b", "a", "c"}));
  EXPECT_EQ(parsed.tree.find("a")->scalar, "2");
  EXPECT_EQ(parsed.tree.find("d"), nullptr);
}

TEST(YamlTree, KnowsThePlacesOfKeyAndValue) {
  const Parsed parsed = parse("a:\n  bcd:   value\n");
  const Tree* value = parsed.tree.find("a")->find("bcd");
  EXPECT_EQ(value->line, 2);
  EXPECT_EQ(value->column, 10);
  EXPECT_EQ(value->key_line, 2);
  EXPECT_EQ(value->key_column, 3);
}

TEST(YamlTree, GivesAnEmptyValueThePlaceOfItsKey) {
  const Parsed parsed = parse("a: 1\n  \nb:\n");
  const Tree* value = parsed.tree.find("b");
  EXPECT_EQ(value->kind, Tree::Kind::null);
  EXPECT_EQ(value->line, 3);
  EXPECT_EQ(value->column, 1);
}

TEST(YamlTree, IsNullForAnEmptyText) {
  EXPECT_EQ(parse("").tree.kind, Tree::Kind::null);
  EXPECT_EQ(parse("# only a comment\n").tree.kind, Tree::Kind::null);
}

TEST(YamlTree, ReportsASyntaxErrorWithItsPlace) {
  const Parsed parsed = parse("a: 1\nb: [1, 2\nc: 3\n");
  ASSERT_EQ(parsed.problems.size(), 1u);
  EXPECT_EQ(parsed.problems[0].line, 3);
  EXPECT_TRUE(parsed.problems[0].text.starts_with("YAML syntax: "));
  EXPECT_TRUE(parsed.problems[0].to_string().starts_with("f:3:")) << parsed.problems[0].to_string();
}

TEST(YamlTree, ReportsATabAsIndentation) {
  const Parsed parsed = parse("a:\n\tb: 1\n");
  ASSERT_EQ(parsed.problems.size(), 1u);
  EXPECT_EQ(parsed.problems[0].line, 2);
}

TEST(YamlTree, RefusesAKeyThatStandsTwice) {
  const Parsed parsed = parse("a: {x: 1}\nb:\n  c: 1\n  d: 2\n  c: 3\n");
  EXPECT_EQ(place(parsed.problems), "5:6 b.c");
  EXPECT_EQ(parsed.problems[0].text, "stands twice");
}

TEST(YamlTree, RefusesKeysThatAreNoWords) {
  EXPECT_EQ(parse("a: {[x, y]: 1}\n").problems.size(), 1u);
}

TEST(YamlTree, TakesThirtyTwoLevels) {
  EXPECT_TRUE(parse(std::string(32, '[') + std::string(32, ']')).problems.empty());
}

TEST(YamlTree, RefusesMoreLevels) {
  const Parsed parsed = parse(std::string(34, '[') + std::string(34, ']'));
  ASSERT_EQ(parsed.problems.size(), 1u);
  EXPECT_EQ(parsed.problems[0].text, "nested too deeply");
}

TEST(YamlTree, SurvivesNestingWithoutEnd) {
  EXPECT_FALSE(parse(std::string(20000, '[')).problems.empty());
  EXPECT_FALSE(parse(std::string(5000, '[') + std::string(5000, ']')).problems.empty());
}

TEST(YamlTree, SurvivesAnAliasOfItself) {
  EXPECT_FALSE(parse("a: &a [*a]\n").problems.empty());
}

// ---- ${...} ------------------------------------------------------------------------------------------------------

struct Expanded {
  std::string value;
  Problems problems;
};

Expanded expanded(const std::string& value, const Environment& environment) {
  Expanded out;
  Tree tree = parse_yaml("k: '" + value + "'\n", "f", out.problems);
  expand(tree, "f", "", environment, out.problems);
  out.value = tree.find("k")->scalar;
  return out;
}

TEST(Expand, PutsTheEnvironmentIn) {
  const auto environment = [](const std::string& name) { return std::optional<std::string>("<" + name + ">"); };
  EXPECT_EQ(expanded("a ${B} c ${D}", environment).value, "a <B> c <D>");
}

TEST(Expand, LeavesWhatItPutInAlone) {
  const auto environment = [](const std::string& name) { return std::optional<std::string>(name == "A" ? "${B}: [x" : "bad"); };
  EXPECT_EQ(expanded("${A}", environment).value, "${B}: [x");
}

TEST(Expand, LeavesDollarsAlone) {
  EXPECT_EQ(expanded("$5 and {x} and $(y)", no_environment).value, "$5 and {x} and $(y)");
}

TEST(Expand, NamesKeyAndVariableThatIsMissing) {
  Problems problems;
  Tree tree = parse_yaml("a:\n  b: [x, \"${EGRET_NO}\"]\n", "f", problems);
  expand(tree, "f", "", no_environment, problems);
  EXPECT_EQ(place(problems), "2:10 a.b");
  EXPECT_NE(problems[0].text.find("EGRET_NO"), std::string::npos);
}

TEST(Expand, ReportsEveryMissingOne) {
  EXPECT_EQ(expanded("${A} ${B}", no_environment).problems.size(), 2u);
}

TEST(Expand, TakesTheFirstLineOfAFile) {
  const std::string path = testing::TempDir() + "egret_tree_test_secret";
  std::ofstream(path) << "secret\r\nsecond line\n";
  EXPECT_EQ(expanded("<${file:" + path + "}>", no_environment).value, "<secret>");
  std::remove(path.c_str());
}

TEST(Expand, NamesKeyAndFileThatIsMissing) {
  const Expanded result = expanded("${file:/nonexistent/egret}", no_environment);
  EXPECT_EQ(place(result.problems), "1:4 k");
  EXPECT_NE(result.problems[0].text.find("/nonexistent/egret"), std::string::npos);
}

// ---- sections ----------------------------------------------------------------------------------------------------

/// A mapping as a section, and what it complains about.
struct Fixture {
  Problems problems;
  Tree tree;
  std::string file = "f";
  Section section;
  explicit Fixture(std::string_view text) : tree(parse_yaml(text, "f", problems)), section(&tree, "", file, problems) {}
};

TEST(SectionReader, ReportsAnUnknownKeyAtTheKey) {
  Fixture f("a: 1\nbcd:   2\n");
  std::string a;
  f.section.text("a", a);
  f.section.finish();
  EXPECT_EQ(place(f.problems), "2:1 bcd");
  EXPECT_NE(f.problems[0].text.find("known here: a"), std::string::npos);
}

TEST(SectionReader, LeavesTheDefaultWhereAKeyIsAbsent) {
  Fixture f("a:\n");
  int number = 7;
  bool flag = true;
  f.section.integer("number", number, 0, 10);
  f.section.boolean("a", flag);
  EXPECT_EQ(number, 7);
  EXPECT_TRUE(flag);
  EXPECT_TRUE(f.problems.empty());
}

TEST(SectionReader, BoundsWholeNumbers) {
  for (const char* text : {"n: 0\n", "n: 11\n", "n: 1.5\n", "n: -1\n", "n: ten\n", "n: 99999999999\n", "n: [1]\n", "n: '1 '\n"}) {
    Fixture f(text);
    int n = 5;
    f.section.integer("n", n, 1, 10);
    EXPECT_EQ(place(f.problems), "1:4 n") << text;
    EXPECT_EQ(n, 5) << text;
  }
}

TEST(SectionReader, RefusesNumbersThatAreNone) {
  for (const char* text : {"n: nan\n", "n: inf\n", "n: 1e99\n", "n: -0.1\n", "n: x\n"}) {
    Fixture f(text);
    double n = 0.5;
    f.section.number("n", n, 0, 1);
    EXPECT_EQ(f.problems.size(), 1u) << text;
    EXPECT_EQ(n, 0.5) << text;
  }
}

TEST(SectionReader, KnowsTrueAndFalse) {
  Fixture f("a: true\nb: no\nc: maybe\n");
  bool a = false, b = true, c = true;
  f.section.boolean("a", a);
  f.section.boolean("b", b);
  f.section.boolean("c", c);
  EXPECT_TRUE(a);
  EXPECT_FALSE(b);
  EXPECT_EQ(place(f.problems), "3:4 c");
}

TEST(SectionReader, TakesASingleValueAsAListOfOne) {
  Fixture f("a: x\nb: [y, z]\n");
  std::vector<std::string> a, b;
  f.section.texts("a", a);
  f.section.texts("b", b);
  EXPECT_EQ(a, std::vector<std::string>{"x"});
  EXPECT_EQ(b, (std::vector<std::string>{"y", "z"}));
}

TEST(SectionReader, WantsAMappingWhereASectionIs) {
  Fixture f("a: 5\n");
  EXPECT_FALSE(f.section.section("a").present());
  EXPECT_EQ(place(f.problems), "1:4 a");
}

TEST(SectionReader, NumbersTheItemsOfAList) {
  Fixture f("a:\n  - {x: 1}\n  - {y: 2}\n");
  f.section.sections("a", [](Section& item) { item.take("x"); });
  EXPECT_EQ(place(f.problems), "3:6 a[1].y");
}

TEST(SectionReader, GivesTheNameOfEachEntry) {
  Fixture f("a:\n  one: {x: 1}\n  two: {x: 1, z: 2}\n");
  std::vector<std::string> names;
  f.section.named("a", [&](const std::string& name, Section& item) {
    names.push_back(name);
    item.take("x");
  });
  EXPECT_EQ(names, (std::vector<std::string>{"one", "two"}));
  EXPECT_EQ(place(f.problems), "3:15 a.two.z");
}

TEST(ProblemText, IsFileLineColumnKeyAndWhat) {
  EXPECT_EQ((Problem{"f.yaml", 3, 5, "pools.bulk", "expected more"}.to_string()), "f.yaml:3:5: pools.bulk: expected more");
  EXPECT_EQ((Problem{"f.yaml", 0, 0, "", "cannot be read"}.to_string()), "f.yaml: cannot be read");
}

TEST(ParseYaml, EndsWithAnyTextThatIsMalformed) {
  // yaml-cpp's reader of several documents went round in circles here.
  Problems problems;
  parse_yaml(",(*a]\n<N4YAML15Pa=serExc<: \nb: & b [*a, *aerExc<: \nb: & b [*a, *a]\n<N4YAML15Pa=serExc<:  v\n", "f", problems);
  EXPECT_LE(problems.size(), 1u);
}

TEST(ParseYaml, RefusesASecondDocument) {
  Problems problems;
  parse_yaml("# head\n---\na: 1\n---\nb: 2\n", "f", problems);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].line, 4);
  problems.clear();
  parse_yaml("---\na: 1\nb: \"--- x\"\n", "f", problems);
  EXPECT_TRUE(problems.empty());
}

}  // namespace
}  // namespace egret::config
