// What the pieces of a pass take, by a clock that the engine's own steps move.

#include "workers/measure/pass_times.h"

#include <memory>

#include "common/error.h"
#include "gtest/gtest.h"
#include "tests/support/micro_model.h"

namespace mirrorsd::measure {
namespace {

// Layer l takes l + 1 us, an exit's head 20 and the final one 30, the beginning 5; all times rows.
class Device : public engine::StepHook, public engine::Clock {
 public:
  void OnPassBegin(const engine::PassShape& shape) override {
    rows_ = shape.num_rows;
    num_layers_ = shape.num_layers;
    now_ns_ += 5000 * rows_;
  }
  void OnLayers(int32_t begin, int32_t end) override {
    for (int32_t layer = begin; layer < end; ++layer) now_ns_ += 1000 * (layer + 1) * rows_;
  }
  void OnHead(int32_t layers_done, int32_t num_rows) override {
    now_ns_ += (layers_done == num_layers_ ? 30000 : 20000) * num_rows;
  }
  int64_t NowNs() override { return now_ns_; }

 private:
  int64_t now_ns_ = 0;
  int64_t rows_ = 0;
  int32_t num_layers_ = 0;
};

std::unique_ptr<engine::Engine> MakeEngine(std::shared_ptr<Device> device) {
  engine::EngineOptions options;
  options.num_threads = 1;
  options.num_kv_blocks = 20;
  options.max_rows = 32;
  options.step_hook = std::move(device);
  return *engine::Engine::Create(
      options, testing::MakeMicroModel({.num_layers = 4, .max_positions = 128}));
}

TEST(PassTimes, EachPieceByItself) {
  auto device = std::make_shared<Device>();
  const auto engine = MakeEngine(device);
  const auto times = MeasurePassTimes(engine.get(), device.get(),
                                      {.sequences = 2, .rows = 3, .context = 40, .repeats = 3});
  ASSERT_TRUE(times.ok()) << times.status();
  EXPECT_EQ(times->begin_ns, 6 * 5000);
  EXPECT_EQ(times->layers_ns, (std::vector<int64_t>{6000, 12000, 18000, 24000}));
  EXPECT_EQ(times->exit_head_ns, 6 * 20000);
  EXPECT_EQ(times->final_head_ns, 6 * 30000);
  EXPECT_EQ(times->PrefixNs(1), 36000);
  EXPECT_EQ(times->SuffixNs(1), 54000 + 180000);
  EXPECT_EQ(times->PrefixNs(0), 30000);
  EXPECT_EQ(engine->blocks().num_referenced(), 0);
}

TEST(PassTimes, WhatDoesNotFitIsNamed) {
  auto device = std::make_shared<Device>();
  const auto engine = MakeEngine(device);
  const auto field = [&](const PassShapeWanted& wanted) {
    const auto times = MeasurePassTimes(engine.get(), device.get(), wanted);
    return times.ok() ? "" : GetErrorInfo(times.status())->field;
  };
  EXPECT_EQ(field({.sequences = 11, .rows = 3}), "rows");
  EXPECT_EQ(field({.rows = 9, .context = 120}), "context");
  EXPECT_EQ(field({.sequences = 8, .rows = 4, .context = 60}), "batch");
  EXPECT_EQ(engine->blocks().num_referenced(), 0);
}

}  // namespace
}  // namespace mirrorsd::measure
