#include "tools/simulate/load/workload.h"

#include <string>

#include "common/error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mirrorsd::simulate {
namespace {

using ::testing::HasSubstr;

TEST(Lengths, Shapes) {
  const auto fixed = ParseLengths("output_tokens", "200", 1000);
  ASSERT_TRUE(fixed.ok());
  EXPECT_EQ(fixed->At(0.9, 1000), 200);
  EXPECT_EQ(fixed->At(0.9, 50), 50);
  const auto range = ParseLengths("output_tokens", "10-19", 1000);
  ASSERT_TRUE(range.ok());
  EXPECT_EQ(range->At(0, 1000), 10);
  EXPECT_EQ(range->At(0.999, 1000), 19);
  const auto mean = ParseLengths("output_tokens", "mean:50", 1000);
  ASSERT_TRUE(mean.ok());
  EXPECT_EQ(mean->At(0, 1000), 1);
  int64_t sum = 0;
  for (int i = 0; i < 10000; ++i) sum += mean->At(i / 10000.0, 1000);
  EXPECT_NEAR(sum / 10000.0, 50, 1);
}

TEST(Lengths, WrongOnesAreNamed) {
  for (const char* text : {"", "0", "x", "5-", "9-3", "1001", "mean:", "mean:0", "-4", "1-1001"}) {
    const auto lengths = ParseLengths("output_tokens", text, 1000);
    ASSERT_FALSE(lengths.ok()) << text;
    EXPECT_THAT(std::string(lengths.status().message()), HasSubstr("output_tokens")) << text;
  }
}

TEST(Workload, APoissonProcessHasItsRate) {
  Workload load;
  load.kind = Workload::Kind::kRate;
  load.rate = 20;
  double sum_s = 0;
  for (int i = 0; i < 20000; ++i) sum_s += load.GapNs(1, i) / 1e9;
  EXPECT_NEAR(20000 / sum_s, 20, 0.5);
  EXPECT_EQ(load.GapNs(1, 5), load.GapNs(1, 5));
  EXPECT_NE(load.GapNs(1, 5), load.GapNs(2, 5));
}

TEST(Trace, IsReadLineByLine) {
  const auto trace = ParseTrace("t.jsonl",
                                "{\"at_s\": 0, \"prompt_tokens\": 5, \"output_tokens\": 7}\n\n"
                                "{\"at_s\": 1.5, \"prompt_tokens\": 6, \"output_tokens\": 8}\r\n");
  ASSERT_TRUE(trace.ok()) << trace.status();
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ((*trace)[1].at_ns, 1'500'000'000);
  EXPECT_EQ((*trace)[1].prompt_tokens, 6);
  EXPECT_EQ((*trace)[1].output_tokens, 8);
}

// Each with the line, the field and the limit.
TEST(Trace, HostileLinesAreRefused) {
  const std::string good = "{\"at_s\": 1, \"prompt_tokens\": 5, \"output_tokens\": 7}\n";
  const struct {
    std::string line;
    const char* named;
  } cases[] = {
      {"{\"at_s\": 2, \"prompt_tokens\": 0, \"output_tokens\": 7}", "line 2: prompt_tokens"},
      {"{\"at_s\": 2, \"prompt_tokens\": 5, \"output_tokens\": 1e9}", "line 2: output_tokens"},
      {"{\"at_s\": 2, \"prompt_tokens\": 5.5, \"output_tokens\": 7}", "not a whole number"},
      {"{\"at_s\": -1, \"prompt_tokens\": 5, \"output_tokens\": 7}", "line 2: at_s"},
      {"{\"at_s\": 1e300, \"prompt_tokens\": 5, \"output_tokens\": 7}", "line 2: at_s"},
      {"{\"at_s\": 0.5, \"prompt_tokens\": 5, \"output_tokens\": 7}", "before the line above"},
      {"{\"at_s\": \"2\", \"prompt_tokens\": 5, \"output_tokens\": 7}", "not a number"},
      {"{\"at_s\": 2, \"prompt_tokens\": 5}", "line 2: output_tokens is missing"},
      {"{\"at_s\": 2, \"prompt_tokens\": 5, \"output_tokens\": 7, \"x\": 1}", "not known"},
      {"[1, 2]", "line 2: is not a JSON object"},
      {"{\"at_s\": 2,", "line 2: is not a JSON object"},
      {std::string(3000, '['), "line 2: is not a JSON object"},
      {std::string(5000, ' '), "line 2: is too long"},
      {std::string("\0\xff", 2), "line 2: is not a JSON object"},
  };
  for (const auto& wrong : cases) {
    const auto trace = ParseTrace("t.jsonl", good + wrong.line + "\n");
    ASSERT_FALSE(trace.ok()) << wrong.line;
    EXPECT_THAT(std::string(trace.status().message()), HasSubstr(wrong.named)) << wrong.line;
    EXPECT_THAT(std::string(trace.status().message()), HasSubstr("t.jsonl"));
    EXPECT_EQ(GetErrorInfo(trace.status())->reason, "BAD_FILE");
  }
  EXPECT_FALSE(ParseTrace("t.jsonl", "\n\n").ok());
  EXPECT_FALSE(LoadTrace("no/such/file.jsonl").ok());
}

}  // namespace
}  // namespace mirrorsd::simulate
