#include "services/config/yaml_file.h"

#include <gtest/gtest.h>

#include <string>

#include "common/error.h"

namespace mirrorsd::config {
namespace {

std::string ErrorOf(std::string_view text) {
  const auto entries = ParseYaml(text, "cell.yaml");
  return entries.ok() ? "OK" : std::string(entries.status().message());
}

TEST(YamlFileTest, ReadsScalarsAndListsWithTheirLines) {
  const auto entries = ParseYaml("# a cell\nmodel: dir\n\nstop: [a, 'b c']\nseed: 12\n", "cell.yaml");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 3u);
  EXPECT_EQ((*entries)[0].key, "model");
  EXPECT_EQ((*entries)[0].line, 2);
  EXPECT_EQ((*entries)[1].texts, (std::vector<std::string>{"a", "b c"}));
  EXPECT_TRUE((*entries)[1].is_list);
  EXPECT_EQ((*entries)[1].line, 4);
  EXPECT_EQ((*entries)[2].texts, std::vector<std::string>{"12"});
}

TEST(YamlFileTest, EmptyFileHasNoOptions) {
  const auto entries = ParseYaml("# nothing\n", "cell.yaml");
  ASSERT_TRUE(entries.ok()) << entries.status();
  EXPECT_TRUE(entries->empty());
}

TEST(YamlFileTest, RefusesWithFileAndLine) {
  EXPECT_NE(ErrorOf("model: a\nmodel: b\n").find("cell.yaml:2"), std::string::npos);
  EXPECT_NE(ErrorOf("model:\n  name: a\n").find("cell.yaml:1"), std::string::npos);
  EXPECT_NE(ErrorOf("seed: 1\nmodel:\n").find("cell.yaml:2"), std::string::npos);
  EXPECT_NE(ErrorOf("seed: 1\nstop: [[a]]\n").find("cell.yaml:2"), std::string::npos);
  EXPECT_NE(ErrorOf("- model\n").find("must be a mapping"), std::string::npos);
  EXPECT_NE(ErrorOf("model: [a\n").find("not YAML"), std::string::npos);
  EXPECT_NE(ErrorOf("[a, b]: c\n").find("a key must be"), std::string::npos);
}

TEST(YamlFileTest, RefusesAFileAboveTheLimitAndAMissingOne) {
  EXPECT_NE(ErrorOf(std::string(kMaxYamlFileBytes + 1, ' ')).find("too large"), std::string::npos);
  const auto missing = ReadYamlFile("/no/such/cell.yaml");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetErrorInfo(missing.status())->field, "/no/such/cell.yaml");
}

// A few bytes may stand for a long list, again and again.
TEST(YamlFileTest, AliasesDoNotMultiply) {
  std::string bomb = "stop: &a [";
  for (int i = 0; i < 3000; ++i) bomb += "x,";
  bomb += "x]\n";
  for (int i = 0; i < 10000; ++i) bomb += "k" + std::to_string(i) + ": *a\n";
  const auto refused = ParseYaml(bomb, "f.yaml");
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(GetErrorInfo(refused.status())->field, "f.yaml:2");
  EXPECT_EQ(GetErrorInfo(refused.status())->limit, "4096 values");
  EXPECT_TRUE(ParseYaml("a: &a [x, y]\nb: *a\n", "f.yaml").ok());
}

TEST(YamlFileTest, DeepNestingIsAnError) {
  for (const char* open : {"[", "{a: ", "- ", "? "}) {
    std::string text;
    while (text.size() < (1 << 20) - 8) text += open;
    EXPECT_FALSE(ParseYaml(text, "f.yaml").ok()) << open;
  }
}

// What a message quotes of the file is cut.
TEST(YamlFileTest, LongKeysDoNotFillTheMessage) {
  const std::string key(1 << 19, 'k');
  const auto twice = ParseYaml(key + ": 1\n" + key + ": 2\n", "f.yaml");
  ASSERT_FALSE(twice.ok());
  EXPECT_LT(twice.status().message().size(), 400u);
}

}  // namespace
}  // namespace mirrorsd::config
