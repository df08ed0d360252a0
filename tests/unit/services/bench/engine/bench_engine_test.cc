// Purpose: what `bench engine` counts is what a step touches, every step is run in every repeat, and the figures
// are the measurement's.

#include <memory>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "services/bench/engine/engine_report.h"
#include "tests/support/micro_model.h"

namespace mirrorsd::bench {
namespace {

using ::testing::HasSubstr;

engine::ModelConfig SmallConfig() {
  engine::ModelConfig config;
  config.hidden_size = 8;
  config.num_layers = 2;
  config.num_heads = 4;
  config.num_kv_heads = 2;
  config.head_dim = 2;
  config.intermediate_size = 16;
  config.vocabulary_size = 100;
  config.tied_head = true;
  config.block.gated_mlp = true;
  return config;
}

engine::EngineInfo SmallInfo() {
  engine::EngineInfo info;
  // Two layers of 8 * 8 + 2 * 8 * 4 + 8 * 8 and 3 * 8 * 16 weights, the embedding of 100 * 8, two bytes each.
  info.weight_bytes = 2 * (2 * (192 + 384) + 800);
  info.block_tokens = 16;
  info.kv_block_bytes = 16 * 64;  // 2 layers, keys and values of 2 heads of 2 floats
  return info;
}

TEST(StepCost, OfAVerifyStep) {
  const StepCost cost = CostOf({StepKind::kVerify, 3, 10}, SmallConfig(), SmallInfo());
  EXPECT_DOUBLE_EQ(cost.weight_bytes, 2 * (2 * (192 + 384) + 800));
  EXPECT_DOUBLE_EQ(cost.kv_bytes, (10 + 3 + 3) * 64);
  const double products = 2.0 * 3 * (2 * (192 + 384) + 800);
  const double attention = 2.0 * 4 * (11 + 12 + 13) * 8;  // layers; score and value of every key; H * D
  EXPECT_DOUBLE_EQ(cost.flops, products + attention);
}

TEST(StepCost, OfPrefillHeadAndCopy) {
  // One row of a prompt gets logits.
  const StepCost prefill = CostOf({StepKind::kPrefill, 4, 0}, SmallConfig(), SmallInfo());
  EXPECT_DOUBLE_EQ(prefill.flops, 2.0 * (4 * 2 * (192 + 384) + 800) + 2.0 * 4 * (1 + 2 + 3 + 4) * 8);
  const StepCost head = CostOf({StepKind::kHead, 2, 10}, SmallConfig(), SmallInfo());
  EXPECT_DOUBLE_EQ(head.Bytes(), 2 * 800);
  EXPECT_DOUBLE_EQ(head.flops, 2.0 * 2 * 800);
  const StepCost copy = CostOf({StepKind::kKvCopy, 5, 0}, SmallConfig(), SmallInfo());
  EXPECT_DOUBLE_EQ(copy.Bytes(), 2 * 5 * 64);
  EXPECT_DOUBLE_EQ(copy.flops, 0);
}

TEST(StepCost, AnUntiedEmbeddingIsNotRead) {
  engine::ModelConfig config = SmallConfig();
  config.tied_head = false;
  engine::EngineInfo info = SmallInfo();
  info.weight_bytes += 2 * 800;
  EXPECT_DOUBLE_EQ(CostOf({StepKind::kVerify, 1, 0}, config, info).weight_bytes,
                   2 * (2 * (192 + 384) + 800));
}

EngineBenchSettings Quick() {
  EngineBenchSettings settings;
  settings.rows = {1, 3};
  settings.contexts = {5, 40};
  settings.prefill_rows = {8};
  settings.repeats = 3;
  settings.copied_tokens = 4;
  return settings;
}

TEST(EngineBench, RunsEveryStepInEveryRepeat) {
  const EngineBenchSettings settings = Quick();
  engine::EngineOptions options;
  options.num_threads = 1;
  options.max_rows = settings.MaxRows();
  options.max_logits_rows = settings.MaxLogitsRows();
  options.num_kv_blocks = NumKvBlocks(settings, options.block_tokens);
  auto engine = engine::Engine::Create(options, testing::MakeMicroModel({}));
  ASSERT_TRUE(engine.ok()) << engine.status();
  engine::LimitsMeter meter(1, /*read_bytes=*/1 << 20);
  std::set<std::string> told;
  const auto measurement =
      RunEngineBench(settings, engine->get(), &meter, 1,
                     [&](int64_t done, int64_t total, const std::string& now) {
                       EXPECT_LT(done, total);
                       told.insert(now);
                     });
  ASSERT_TRUE(measurement.ok()) << measurement.status();
  ASSERT_EQ(measurement->steps.size(), ListCases(settings).size());
  for (const MeasuredStep& step : measurement->steps) {
    EXPECT_EQ(step.seconds.size(), 3u) << step.step.Name();
    for (const double seconds : step.seconds) EXPECT_GT(seconds, 0) << step.step.Name();
  }
  EXPECT_GT(measurement->BestLimits().read_gb_per_s, 0);
  EXPECT_GT(measurement->BestLimits().fma_gflop_per_s, 0);
  EXPECT_TRUE(told.contains("decode") && told.contains("verify 3") && told.contains("prefill 8"));
}

TEST(EngineBench, TooLittleKvIsAnError) {
  const EngineBenchSettings settings = Quick();
  engine::EngineOptions options;
  options.num_threads = 1;
  options.num_kv_blocks = 2;
  auto engine = engine::Engine::Create(options, testing::MakeMicroModel({}));
  ASSERT_TRUE(engine.ok()) << engine.status();
  engine::LimitsMeter meter(1, /*read_bytes=*/1 << 20);
  const auto measurement =
      RunEngineBench(settings, engine->get(), &meter, 1, [](int64_t, int64_t, const std::string&) {});
  EXPECT_EQ(measurement.status().code(), absl::StatusCode::kResourceExhausted);
}

EngineMeasurement Measured() {
  EngineMeasurement measurement;
  measurement.num_threads = 2;
  measurement.limits = {{10, 100}, {20, 80}};
  const StepCost cost{.weight_bytes = 1e9, .kv_bytes = 0.2e9, .flops = 2e9};
  measurement.steps.push_back({{StepKind::kVerify, 1, 7}, cost, {0.1, 0.2, 0.1}});
  measurement.steps.push_back({{StepKind::kVerify, 4, 7}, cost, {0.3, 0.4, 0.3}});
  measurement.steps.push_back({{StepKind::kPrefill, 9, 0}, cost, {1, 1, 1}});
  return measurement;
}

TEST(EngineFigures, AreSharesOfTheBestLimits) {
  const std::vector<StepFigure> figures = MakeStepFigures(Measured());
  ASSERT_EQ(figures.size(), 3u);
  EXPECT_DOUBLE_EQ(figures[0].milliseconds.value, 100);
  EXPECT_DOUBLE_EQ(figures[0].gb_per_s, 12);
  EXPECT_DOUBLE_EQ(figures[0].of_read, 0.6);
  EXPECT_DOUBLE_EQ(figures[0].gflop_per_s, 20);
  EXPECT_DOUBLE_EQ(figures[0].of_fma, 0.2);
  EXPECT_DOUBLE_EQ(figures[1].of_one_row.value, 3);  // 3, 2, 3
  EXPECT_EQ(figures[2].of_one_row.count, 0);
}

TEST(EngineFigures, TableJsonAndPlot) {
  const EngineMeasurement measurement = Measured();
  const std::vector<StepFigure> figures = MakeStepFigures(measurement);
  const std::string table = EngineTable(measurement, figures);
  EXPECT_THAT(table, HasSubstr("decode"));
  EXPECT_THAT(table, HasSubstr("verify 4"));
  EXPECT_THAT(table, HasSubstr("3.00 x"));
  EXPECT_THAT(table, HasSubstr("60 %"));
  nlohmann::ordered_json line;
  AddEngine(measurement, figures, &line);
  EXPECT_EQ(line["limits"]["read_GB/s"], 20);
  EXPECT_EQ(line["figures"][1]["of_one_row"], 3);
  EXPECT_EQ(line["figures"][2].count("of_one_row"), 0u);
  EXPECT_THAT(RowsPlot(figures, "a <label>"), HasSubstr("a &lt;label&gt;"));
}

}  // namespace
}  // namespace mirrorsd::bench
