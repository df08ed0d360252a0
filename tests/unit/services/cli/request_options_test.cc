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
