#include "services/gateway/request_plan.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/error.h"

namespace mirrorsd::gateway {
namespace {

ModelText Model() {
  auto model = LoadModelText("tests/golden/llama3-gqa-tied-bf16/", "");
  EXPECT_TRUE(model.ok()) << model.status();
  return *std::move(model);
}

CellDescription Cell(const ModelText& model) {
  CellDescription cell;
  cell.ready = true;
  cell.vocabulary_fingerprint = model.tokenizer->VocabularyFingerprint();
  cell.context_length = 32;
  cell.vocabulary_size = 640;
  cell.default_speculation = SpeculationMode::kSerial;
  return cell;
}

wire::GenerateCommand Command(std::vector<TokenId> ids = {1, 2, 3}) {
  wire::GenerateCommand command;
  command.input = std::move(ids);
  return command;
}

absl::StatusOr<RequestPlan> Plan(const wire::GenerateCommand& command) {
  const ModelText model = Model();
  return PlanRequest(command, model, Cell(model), [] { return ~uint64_t{0}; });
}

std::string FieldOf(const wire::GenerateCommand& command) {
  const auto plan = Plan(command);
  if (plan.ok()) return "";
  return GetErrorInfo(plan.status()).value_or(ErrorInfo{.field = "none"}).field;
}

TEST(RequestPlanTest, NamesTheModelAfterItsFolder) {
  EXPECT_EQ(Model().name, "llama3-gqa-tied-bf16");
  EXPECT_EQ(LoadModelText("tests/golden/llama3-gqa-tied-bf16", "mine")->name, "mine");
}

TEST(RequestPlanTest, FillsInWhatIsNotGiven) {
  const auto plan = Plan(Command());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_LT(plan->submit.sampling.seed, uint64_t{1} << 53);
  EXPECT_EQ(plan->submit.request_id, "req-ffffffffffffffff");
  EXPECT_EQ(plan->submit.max_tokens, 29);  // what the context leaves
  EXPECT_EQ(plan->submit.end_token_ids, Model().generation.end_token_ids);
  EXPECT_EQ(plan->speculation, SpeculationMode::kSerial);
  EXPECT_EQ(plan->submit.speculation, SpeculationMode::kDefault);
  const SamplingParameters& sampling = plan->submit.sampling;
  EXPECT_EQ(sampling.top_p, Model().generation.top_p.value_or(1.0f));
  EXPECT_EQ(sampling.presence_penalty, 0.0f);
}

TEST(RequestPlanTest, WhatIsGivenWinsOverTheModelsDefaults) {
  wire::GenerateCommand command = Command();
  command.sampling.top_p = 0.25f;
  command.sampling.seed = ~uint64_t{0};
  command.request_id = "mine";
  command.ignore_eos = true;
  command.max_tokens = 5;
  const auto plan = Plan(command);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->submit.sampling.top_p, 0.25f);
  EXPECT_EQ(plan->submit.sampling.seed, ~uint64_t{0});
  EXPECT_EQ(plan->submit.request_id, "mine");
  EXPECT_TRUE(plan->submit.end_token_ids.empty());
  EXPECT_EQ(plan->submit.max_tokens, 5);
}

TEST(RequestPlanTest, TextGetsTheBeginTokenAndAChatIsRendered) {
  wire::GenerateCommand command = Command();
  command.input = std::string("hi");
  const auto text = Plan(command);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->submit.token_ids, *Model().tokenizer->Encode("hi", true));
  command.input = wire::ChatRequest{.messages = {{"user", "hi"}}};
  const auto chat = Plan(command);
  ASSERT_TRUE(chat.ok()) << chat.status();
  EXPECT_GT(chat->submit.token_ids.size(), text->submit.token_ids.size());
}

TEST(RequestPlanTest, JudgesAgainstModelAndCell) {
  EXPECT_EQ(FieldOf(Command({1, 640})), "token_ids[1]");
  EXPECT_EQ(FieldOf(Command({-1})), "token_ids[0]");
  EXPECT_EQ(FieldOf(Command(std::vector<TokenId>(31, 5))), "");
  EXPECT_EQ(FieldOf(Command(std::vector<TokenId>(32, 5))), "prompt");
  wire::GenerateCommand command = Command();
  command.sampling.logit_bias = {{640, 1.0f}};
  EXPECT_EQ(FieldOf(command), "sampling.logit_bias[640]");
  command = Command();
  command.sampling.min_tokens = 30;
  EXPECT_EQ(FieldOf(command), "sampling.min_tokens");
  command = Command();
  command.model = "another";
  EXPECT_EQ(Plan(command).status().code(), absl::StatusCode::kNotFound);
  command = Command();
  command.stop = {std::string("\xff")};
  EXPECT_EQ(FieldOf(command), "stop[0]");
}

TEST(RequestPlanTest, WaitsForAVerifierOfItsOwnVocabulary) {
  const ModelText model = Model();
  const auto random = [] { return uint64_t{1}; };
  EXPECT_EQ(PlanRequest(Command(), model, CellDescription{}, random).status().code(),
            absl::StatusCode::kUnavailable);
  CellDescription other = Cell(model);
  other.vocabulary_fingerprint = "other";
  const auto refused = PlanRequest(Command(), model, other, random);
  EXPECT_EQ(GetErrorInfo(refused.status())->reason, "VOCABULARY_MISMATCH");
}

}  // namespace
}  // namespace mirrorsd::gateway
