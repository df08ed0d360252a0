#include "services/cli/request_options.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/error.h"
#include "services/cell/exit_code.h"

namespace mirrorsd::cli {
namespace {

TEST(RequestOptionsTest, TokenIds) {
  EXPECT_EQ(*ParseTokenIds("1,2,-3", "--prompt-ids"), (std::vector<TokenId>{1, 2, -3}));
  EXPECT_TRUE(ParseTokenIds("", "--prompt-ids")->empty());
  for (const std::string bad : {"1,,2", "1 2", "x", "99999999999", "1,"}) {
    EXPECT_EQ(cell::ExitCodeFor(ParseTokenIds(bad, "--prompt-ids").status()), cell::kExitUsage)
        << bad;
  }
}

TEST(RequestOptionsTest, ChatFiles) {
  v1::Chat chat;
  EXPECT_TRUE(ParseChat(R"([{"role": "user", "content": "hi"}])", "f", &chat).ok());
  EXPECT_EQ(chat.messages(0).content(), "hi");
  chat.Clear();
  EXPECT_TRUE(ParseChat(R"({"messages": [], "tools": [{"a": 1}]})", "f", &chat).ok());
  EXPECT_EQ(chat.tools_json(), R"([{"a":1}])");
  for (const std::string bad : {"", "1", "{}", "[1]", R"([{"role": 1, "content": "x"}])",
                                R"([{"role": "user", "content": null}])",
                                R"({"messages": [], "tools": 1})", "[\"\xff\"]"}) {
    const absl::Status status = ParseChat(bad, "f", &chat);
    EXPECT_EQ(GetErrorInfo(status).value_or(ErrorInfo{}).field, "f") << bad;
  }
}

TEST(RequestOptionsTest, AnswerJsonWritesFloatsAsPeopleDo) {
  v1::GenerateFinal final;
  final.mutable_parameters()->set_temperature(0.7f);
  final.mutable_parameters()->set_top_p(1.0f / 3.0f);
  final.mutable_parameters()->set_seed(~uint64_t{0});
  const std::string text = AnswerJson("r\n", {1, 2}, "a\"\n", final);
  EXPECT_NE(text.find("\"temperature\": 0.7,"), std::string::npos) << text;
  const nlohmann::json json = nlohmann::json::parse(text);
  EXPECT_EQ(json["seed"].get<uint64_t>(), ~uint64_t{0});
  EXPECT_EQ(json["parameters"]["top_p"].get<float>(), 1.0f / 3.0f);
  EXPECT_EQ(json["request_id"], "r\n");
  EXPECT_EQ(json["text"], "a\"\n");
  EXPECT_EQ(json["token_ids"], (std::vector<int>{1, 2}));
}

TEST(RequestOptionsTest, StatisticsTellBranchesWhereThereWereAny) {
  v1::GenerateFinal final;
  final.mutable_usage()->set_completion_tokens(48);
  final.mutable_timing()->set_total_seconds(0.5);
  v1::SpeculationStatistics* speculation = final.mutable_speculation();
  speculation->set_rounds(11);
  EXPECT_EQ(StatisticsLine(final), "48 tokens in 0.50 s, 96 tokens/s, 11 rounds");
  speculation->set_drafted_tokens(40);
  speculation->set_accepted_tokens(35);
  speculation->set_mean_acceptance_length(4.18);
  EXPECT_EQ(StatisticsLine(final),
            "48 tokens in 0.50 s, 96 tokens/s, 11 rounds, acceptance length 4.18 (35 of 40 drafted tokens)");
  speculation->set_branch_hits(9);
  speculation->set_branch_hit_depth(3.75);
  speculation->set_branch_misses(2);
  speculation->mutable_fallbacks()->set_ngram(1);
  speculation->mutable_fallbacks()->set_empty(1);
  EXPECT_EQ(StatisticsLine(final),
            "48 tokens in 0.50 s, 96 tokens/s, 11 rounds, acceptance length 4.18 (35 of 40 drafted tokens), "
            "9 branch hits 3.8 deep, 2 misses (empty 1, ngram 1, held 0)");
}

TEST(RequestOptionsTest, AnswerJsonTellsBranchesAndFallbacks) {
  v1::GenerateFinal final;
  final.mutable_speculation()->set_branch_hits(9);
  final.mutable_speculation()->set_branch_misses(2);
  final.mutable_speculation()->set_branch_hit_depth(3.75);
  final.mutable_speculation()->mutable_fallbacks()->set_held(2);
  const nlohmann::json json = nlohmann::json::parse(AnswerJson("r", {1}, "", final))["speculation"];
  EXPECT_EQ(json["branch_hits"], 9);
  EXPECT_EQ(json["branch_misses"], 2);
  EXPECT_EQ(json["branch_hit_depth"], 3.75);
  EXPECT_EQ(json["fallbacks"], (nlohmann::json{{"empty", 0}, {"ngram", 0}, {"held", 2}}));
}

TEST(ExitCodeTest, EveryStatusHasItsCode) {
  using cell::ExitCodeFor;
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeFor(absl::InternalError("x")), 1);
  EXPECT_EQ(ExitCodeFor(cell::UsageError("--a", "x")), 2);
  EXPECT_EQ(ExitCodeFor(InvalidField("a", "x")), 3);
  EXPECT_EQ(ExitCodeFor(MissingFile("a", "x")), 3);
  EXPECT_EQ(ExitCodeFor(Unavailable("A", "x")), 4);
  EXPECT_EQ(ExitCodeFor(Overloaded("A", "x")), 4);
  EXPECT_EQ(ExitCodeFor(absl::ResourceExhaustedError("message larger than max")), 3);
  EXPECT_EQ(ExitCodeFor(absl::CancelledError("x")), 130);
}

}  // namespace
}  // namespace mirrorsd::cli
