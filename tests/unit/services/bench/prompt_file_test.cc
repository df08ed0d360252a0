#include "services/bench/prompt_file.h"

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mirrorsd::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Line(const std::string& id, const std::string& category, const std::string& turns) {
  return absl::StrCat("{\"question_id\": ", id, ", \"category\": ", category, ", \"turns\": ", turns, "}\n");
}

// What is refused says the line and the field.
void ExpectRefused(const std::string& text, const std::string& place, const std::string& what) {
  const auto prompts = ParsePrompts(text, "p.jsonl");
  ASSERT_FALSE(prompts.ok()) << text.substr(0, 100);
  const auto info = GetErrorInfo(prompts.status());
  ASSERT_TRUE(info.has_value());
  EXPECT_EQ(info->reason, "BAD_FILE");
  EXPECT_EQ(info->field, place);
  EXPECT_THAT(std::string(prompts.status().message()), HasSubstr(what));
}

TEST(PromptFile, ReadsSpecBenchLines) {
  const auto prompts = ParsePrompts(Line("81", "\"writing\"", "[\"Compose a post.\", \"Again.\"]") + "\n \r\n" +
                                        Line("\"q2\"", "\"chat_story\"", "[\"\\u00e9\\n\"]"),
                                    "p.jsonl");
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_THAT(*prompts, ElementsAre(Prompt{"81", "writing", "Compose a post."},
                                    Prompt{"q2", "chat_story", "\xc3\xa9\n"}));
  EXPECT_FALSE((*prompts)[0].IsChat());
  EXPECT_TRUE((*prompts)[1].IsChat());
}

TEST(PromptFile, TheLastLineNeedsNoEnd) {
  std::string text = Line("1", "\"a\"", "[\"b\"]");
  text.pop_back();
  EXPECT_EQ(ParsePrompts(text, "p.jsonl")->size(), 1u);
}

TEST(PromptFile, WhatIsWrongIsNamedByLineAndField) {
  const std::string good = Line("1", "\"a\"", "[\"b\"]");
  ExpectRefused("", "p.jsonl", "no prompt");
  ExpectRefused("\n\n", "p.jsonl", "no prompt");
  ExpectRefused(good + "{", "p.jsonl:2", "JSON");
  ExpectRefused(good + "\n[1]", "p.jsonl:3", "object");
  ExpectRefused(good + "\"\xff\"", "p.jsonl:2", "UTF-8");
  ExpectRefused("{\"category\": \"a\", \"turns\": [\"b\"]}", "p.jsonl:1", "`question_id`");
  ExpectRefused(Line("1.5", "\"a\"", "[\"b\"]"), "p.jsonl:1", "`question_id`");
  ExpectRefused(Line("\"\"", "\"a\"", "[\"b\"]"), "p.jsonl:1", "`question_id`");
  ExpectRefused(Line("1", "7", "[\"b\"]"), "p.jsonl:1", "`category`");
  ExpectRefused(Line("1", absl::StrCat("\"", std::string(129, 'x'), "\""), "[\"b\"]"), "p.jsonl:1",
                "`category`");
  ExpectRefused(Line("1", "\"a\"", "\"b\""), "p.jsonl:1", "`turns`");
  ExpectRefused(Line("1", "\"a\"", "[]"), "p.jsonl:1", "`turns`");
  ExpectRefused(Line("1", "\"a\"", "[3]"), "p.jsonl:1", "`turns[0]`");
  ExpectRefused(Line("1", "\"a\"", "[\"\"]"), "p.jsonl:1", "`turns[0]`");
  ExpectRefused(Line("1", "\"a\"", absl::StrCat("[\"", std::string(kMaxPromptBytes + 1, 'x'), "\"]")),
                "p.jsonl:1", "`turns[0]`");
}

TEST(PromptFile, BoundsAreRefusedBeforeMuchWork) {
  ExpectRefused(std::string(1 << 20, '['), "p.jsonl:1", "nested");
  std::string many;
  for (size_t i = 0; i <= kMaxPrompts; ++i) many += Line("1", "\"a\"", "[\"b\"]");
  ExpectRefused(many, absl::StrCat("p.jsonl:", kMaxPrompts + 1), "too many");
}

TEST(PromptFile, AFileThatIsNotThere) {
  EXPECT_EQ(GetErrorInfo(ReadPromptFile("no/such/file.jsonl").status())->reason, "MISSING_FILE");
  EXPECT_FALSE(ReadPromptFile("tests").ok());
}

TEST(PromptFile, TheBundledOnesAreGood) {
  const auto prompts = ReadPromptFile("models/demo-target/held_out_prompts.jsonl");
  ASSERT_TRUE(prompts.ok()) << prompts.status();
  EXPECT_GE(prompts->size(), 10u);
}

}  // namespace
}  // namespace mirrorsd::bench
