#include "tools/simulate/options.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tools/simulate/model/text_options.h"

namespace mirrorsd::simulate {
namespace {

using ::testing::HasSubstr;

std::string Wrong(const std::vector<std::string>& arguments) {
  const auto command = ParseCommand(arguments);
  return command.ok() ? "" : std::string(command.status().message());
}

TEST(Options, DefaultsAreWhatHelpSays) {
  const auto command = ParseCommand({});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->modes, (std::vector{SpeculationMode::kOff, SpeculationMode::kSerial}));
  EXPECT_EQ(command->settings.verifier.profile.name, "mirror-sd-target-qwen3-14b");
  EXPECT_EQ(command->settings.verifier.exit_layer, 20);
  EXPECT_EQ(command->settings.workload.requests, 32);
  EXPECT_THAT(HelpText(), HasSubstr("--num-speculative-tokens N"));
}

TEST(Options, BothWaysOfGivingAValue) {
  const auto command = ParseCommand({"--modes=serial", "--acceptance", "0.9,0.8", "--concurrency=16", "--jitter",
                                     "off", "--early-exit-layer", "10", "--output-tokens", "10-20"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->modes, std::vector{SpeculationMode::kSerial});
  EXPECT_EQ(command->settings.kinds[0].acceptance, (std::vector{0.9, 0.8}));
  EXPECT_EQ(command->settings.workload.concurrency, 16);
  EXPECT_EQ(command->settings.verifier.profile.jitter.sigma, 0);
  EXPECT_EQ(command->settings.verifier.exit_layer, 10);
}

TEST(Options, WrongOnesAreNamedWithWhatIsAllowed) {
  const struct {
    std::vector<std::string> arguments;
    const char* named;
    const char* limit;
  } cases[] = {
      {{"--acceptances", "1"}, "--acceptances", "--help"},
      {{"word"}, "word", "--help"},
      {{"--acceptance"}, "--acceptance", "LIST"},
      {{"--acceptance="}, "--acceptance", "LIST"},
      {{"--acceptance", "1.5"}, "--acceptance", "0 to 1"},
      {{"--acceptance", "0.5,,0.5"}, "--acceptance", "0 to 1"},
      {{"--acceptance", "nan"}, "--acceptance", "0 to 1"},
      {{"--exit-recall", "4:0.5,1:0.7"}, "--exit-recall", "rising"},
      {{"--exit-recall", "1:0.5,4:0.4"}, "--exit-recall", "do not fall"},
      {{"--own-rank-recall", "0:0.5"}, "--own-rank-recall", "1023"},
      {{"--modes", "off,fast"}, "'fast'", "serial"},
      {{"--miss-fallback", "wait"}, "--miss-fallback", "ngram"},
      {{"--verifiers", "0"}, "--verifiers", "1 to 4096"},
      {{"--verifiers", "1x"}, "--verifiers", "1 to 4096"},
      {{"--rate", "-1"}, "--rate", "1e-06 to 1e+06"},
      {{"--rate", "inf"}, "--rate", "1e-06 to 1e+06"},
      {{"--seed", "-1"}, "--seed", "2^64"},
      {{"--jitter", "maybe"}, "--jitter", "on or off"},
      {{"--drafts", "0"}, "--drafts", "at least 1"},
      {{"--early-exit-layer", "40"}, "--early-exit-layer", "1 to 39"},
      {{"--requests", "1", "--requests", "2"}, "--requests", "once"},
      {{"--rate", "1", "--concurrency", "2"}, "exclude", "one of them"},
      {{"--rate", "1", "--load-from-journal", "x"}, "exclude", "one of them"},
      {{"--device-profile", "no-such-device"}, "no-such-device", ""},
      {{"--trace", "no/such.jsonl"}, "no/such.jsonl", ""},
      {{"--text-from", "no/such.jsonl"}, "no/such.jsonl", ""},
      {{"--prompt-tokens", "5-2"}, "--prompt-tokens", "LOW-HIGH"},
  };
  for (const auto& wrong : cases) {
    const std::string message = Wrong(wrong.arguments);
    EXPECT_THAT(message, HasSubstr(wrong.named));
    EXPECT_THAT(message, HasSubstr(wrong.limit)) << wrong.named;
  }
}

TEST(Options, PlainDecodingNeedsNoDraft) {
  EXPECT_EQ(Wrong({"--modes", "off", "--drafts", "0"}), "");
}

constexpr char kLine[] =
    R"({"what": "pair", "figures": {"exit_layer": 6, "temperature 0": {
    "all": {"prompts": 3},
    "story": {"prompts": 2, "agreement": {"value": 0.9}, "exit_recall": {"1": {"value": 0.8}, "4": {"value": 0.95}},
              "exit_recall_given_reject": {"1": {"value": 0.5}, "2": {"value": 0.4}}},
    "json": {"prompts": 1, "agreement": {"value": 0.7}, "exit_recall": {"1": {"value": 0.6}},
             "exit_recall_given_reject": {"1": {"value": 0.3}}}}}})";

std::string OneLine(std::string text) {
  std::erase(text, '\n');
  return text + "\n";
}

TEST(TextFromResults, KindsWithTheirShares) {
  const auto kinds = ParseKinds("r.jsonl", OneLine(R"({"what": "other"})") + OneLine(kLine), "pair", "0");
  ASSERT_TRUE(kinds.ok()) << kinds.status();
  ASSERT_EQ(kinds->size(), 2u);
  const TextKind& story = (*kinds)[0].name == "story" ? (*kinds)[0] : (*kinds)[1];
  EXPECT_EQ(story.weight, 2);
  EXPECT_EQ(story.acceptance, std::vector{0.9});
  EXPECT_DOUBLE_EQ(story.exit_all.At(4), 0.95);
  EXPECT_DOUBLE_EQ(story.exit_given_reject.At(2), 0.5);  // 0.4 is noise: more candidates recall no less
}

TEST(TextFromResults, WhatIsWrongIsNamedByLine) {
  const auto message = [](const std::string& text, const char* temperature = "0") {
    return std::string(ParseKinds("r.jsonl", text, "pair", temperature).status().message());
  };
  EXPECT_THAT(message(OneLine(kLine) + "{"), HasSubstr("line 2"));
  EXPECT_THAT(message("{}\n"), HasSubstr("no line whose"));
  EXPECT_THAT(message(OneLine(kLine), "1"), HasSubstr("temperature 1"));
  EXPECT_THAT(message("{\"what\": \"pair\"}\n"), HasSubstr("line 1: has no figures"));
  std::string broken = OneLine(kLine);
  broken.replace(broken.find("0.9"), 3, "9.9");
  EXPECT_THAT(message(broken), HasSubstr("story: has an agreement beyond 0 to 1"));
  std::string missing = OneLine(kLine);
  missing.replace(missing.find("exit_recall_given_reject"), 4, "exot");
  EXPECT_THAT(message(missing), HasSubstr("has no exit_recall_given_reject"));
}

}  // namespace
}  // namespace mirrorsd::simulate
