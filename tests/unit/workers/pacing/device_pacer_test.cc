// Pacing over a clock of our own: sleeping is the only thing that takes time, unless a test says otherwise.

#include "workers/pacing/device_pacer.h"

#include <memory>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/micro_model.h"
#include "workers/engine/engine.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/session/worker_hello.h"

namespace mirrorsd::pacing {
namespace {

class ManualClock final : public PacingClock {
 public:
  int64_t NowNs() override { return now_ns; }
  void SleepUntilNs(int64_t deadline_ns) override {
    sleeps.push_back(deadline_ns);
    if (now_ns < deadline_ns) now_ns = deadline_ns + oversleep_ns;
  }
  int64_t now_ns = 1'000'000'000;
  int64_t oversleep_ns = 0;
  std::vector<int64_t> sleeps;
};

// 80 layers of 1 ms and 10 us for each further row; 50 us to begin, heads of 2 and 3 ms.
DeviceProfile Profile() {
  DeviceProfile profile;
  profile.num_layers = 80;
  profile.pass_s = 20e-6;
  profile.embedding_s = 10e-6;
  profile.transfer_in = {.base_s = 20e-6};
  profile.transfer_out = {.base_s = 30e-6};
  profile.layer = RowTable({{1, 1e-3}, {101, 2e-3}});
  profile.head = RowTable({{1, 2e-3}});
  profile.exit_head = RowTable({{1, 3e-3}});
  return profile;
}

class DevicePacerTest : public ::testing::Test {
 protected:
  int64_t Since(int64_t start_ns) const { return clock_.now_ns - start_ns; }

  ManualClock clock_;
  DevicePacer pacer_{Profile(), &clock_};
  const engine::PassShape shape_{
      .num_rows = 1, .num_logits_rows = 1, .num_kv_tokens = 1, .num_layers = 8};
};

TEST_F(DevicePacerTest, EightLayersStandForEightyByFractions) {
  const int64_t start_ns = clock_.now_ns;
  pacer_.OnPassBegin(shape_);
  EXPECT_EQ(Since(start_ns), 0);  // what a pass costs to begin is slept with its first layers
  pacer_.OnLayers(0, 3);
  EXPECT_EQ(Since(start_ns), 50'000 + 30'000'000);
  pacer_.OnLayers(3, 8);  // one step with the head
  pacer_.OnHead(8, 1);
  EXPECT_EQ(Since(start_ns), 50'000 + 82'000'000 + 30'000);
  EXPECT_EQ(pacer_.counts().num_steps, 2);
  EXPECT_EQ(pacer_.counts().num_overruns, 0);
  EXPECT_EQ(pacer_.counts().emulated_ns, 50'000 + 82'000'000 + 30'000);
}

// The layers after an exit head follow it on the device; its transfer and the host's work hide behind them.
TEST_F(DevicePacerTest, AnExitBetweenTwoLayersIsPacedWhereItIs) {
  const int64_t start_ns = clock_.now_ns;
  pacer_.OnPassBegin(shape_);
  pacer_.OnLayers(0, 4);
  pacer_.OnHead(4, 1);
  EXPECT_EQ(Since(start_ns), 50'000 + 40'000'000 + 3'000'000 + 30'000);
  clock_.now_ns += 500'000;  // the host reports
  pacer_.OnLayers(4, 6);
  EXPECT_EQ(Since(start_ns), 50'000 + 63'000'000);
  pacer_.OnLayers(6, 8);
  pacer_.OnHead(8, 1);
  EXPECT_EQ(Since(start_ns), 50'000 + 85'000'000 + 30'000);
  EXPECT_EQ(pacer_.counts().num_overruns, 0);
  EXPECT_EQ(pacer_.counts().num_steps, 4);
}

TEST_F(DevicePacerTest, RowsAndKvTokensCost) {
  DeviceProfile profile = Profile();
  profile.kv_token_s = 1e-6;
  DevicePacer pacer(profile, &clock_);
  const int64_t start_ns = clock_.now_ns;
  pacer.OnPassBegin({.num_rows = 51, .num_logits_rows = 0, .num_kv_tokens = 500, .num_layers = 2});
  pacer.OnLayers(0, 2);
  EXPECT_EQ(Since(start_ns), 50'000 + 80 * (1'500'000 + 500'000));
  pacer.OnHead(2, 0);  // no row asks: nothing to compute, nothing to transfer
  EXPECT_EQ(Since(start_ns), 50'000 + 80 * 2'000'000);
  EXPECT_EQ(pacer.counts().num_steps, 1);
}

TEST_F(DevicePacerTest, ComputeCountsTowardsTheStep) {
  const int64_t start_ns = clock_.now_ns;
  pacer_.OnPassBegin(shape_);
  clock_.now_ns += 79'000'000;
  pacer_.OnLayers(0, 8);
  clock_.now_ns += 3'000'000;  // a head of more than its 2 ms, where the layers left time
  pacer_.OnHead(8, 1);
  EXPECT_EQ(Since(start_ns), 50'000 + 82'000'000 + 30'000);
  EXPECT_EQ(pacer_.counts().num_overruns, 0);
}

TEST_F(DevicePacerTest, AStepThatTakesTooLongIsAnOverrunAndTheNextOnesCatchUp) {
  const int64_t start_ns = clock_.now_ns;
  pacer_.OnPassBegin(shape_);
  clock_.now_ns += 45'000'000;
  pacer_.OnLayers(0, 4);  // should have ended at 40.05 ms
  EXPECT_EQ(Since(start_ns), 45'000'000);
  EXPECT_EQ(pacer_.counts().num_overruns, 1);
  EXPECT_EQ(pacer_.counts().overrun_ns, 4'950'000);
  pacer_.OnLayers(4, 7);
  EXPECT_EQ(Since(start_ns), 50'000 + 70'000'000);
  EXPECT_EQ(pacer_.counts().num_overruns, 1);
}

TEST_F(DevicePacerTest, ErrorsOfTheSleepDoNotAddUp) {
  clock_.oversleep_ns = 70'000;
  const int64_t start_ns = clock_.now_ns;
  pacer_.OnPassBegin(shape_);
  for (int layer = 0; layer < 8; ++layer) pacer_.OnLayers(layer, layer + 1);
  pacer_.OnHead(8, 1);
  EXPECT_EQ(Since(start_ns), 50'000 + 82'000'000 + 30'000 + 70'000);
  EXPECT_EQ(pacer_.counts().late_ns, 8 * 70'000);
  EXPECT_EQ(pacer_.counts().max_late_ns, 70'000);
  EXPECT_EQ(pacer_.counts().num_late_wakes, 0);
  clock_.oversleep_ns = 300'000;
  pacer_.OnPassBegin(shape_);
  pacer_.OnLayers(0, 7);
  EXPECT_EQ(pacer_.counts().num_late_wakes, 1);
}

// A short step after a sleep that was a little too long has not computed too long; after one that was far too
// long, its figures are wrong all the same.
TEST_F(DevicePacerTest, ALateWakeAloneIsNoOverrunUnlessItIsFarTooLate) {
  DeviceProfile profile = Profile();
  profile.exit_head = RowTable({{1, 50e-6}});
  DevicePacer pacer(profile, &clock_);
  for (const auto& [oversleep_ns, overruns] : {std::pair{150'000, 0}, std::pair{300'000, 1}}) {
    clock_.oversleep_ns = oversleep_ns;
    pacer.OnPassBegin(shape_);
    pacer.OnLayers(0, 4);
    clock_.now_ns += 10'000;
    pacer.OnHead(4, 1);
    EXPECT_EQ(pacer.counts().num_overruns, overruns);
  }
  clock_.oversleep_ns = 0;
  pacer.OnPassBegin(shape_);
  pacer.OnLayers(0, 4);
  clock_.now_ns += 90'000;  // of 50 us and a transfer of 30
  pacer.OnHead(4, 1);
  EXPECT_EQ(pacer.counts().num_overruns, 2);
}

TEST_F(DevicePacerTest, APassMayEndAnywhere) {
  pacer_.OnPassBegin(shape_);
  pacer_.OnLayers(0, 2);
  clock_.now_ns += 1'000'000'000;
  const int64_t start_ns = clock_.now_ns;
  pacer_.OnPassBegin(shape_);
  pacer_.OnLayers(0, 4);
  EXPECT_EQ(Since(start_ns), 50'000 + 40'000'000);
  EXPECT_EQ(pacer_.counts().num_passes, 2);
}

TEST_F(DevicePacerTest, JitterIsOneFactorOfAPass) {
  DeviceProfile profile = Profile();
  profile.jitter = {.sigma = 0.1, .seed = 3};
  DevicePacer whole(profile, &clock_);
  std::vector<int64_t> passes;
  for (int pass = 0; pass < 3; ++pass) {
    const int64_t start_ns = clock_.now_ns;
    whole.OnPassBegin(shape_);
    whole.OnLayers(0, 8);
    whole.OnHead(8, 1);
    passes.push_back(Since(start_ns));
    EXPECT_NEAR(static_cast<double>(passes.back()),
                82.08e6 * JitterFactor(profile.jitter, static_cast<uint64_t>(pass)), 2);
  }
  EXPECT_NE(passes[0], passes[1]);
  // However it is cut, it takes the same.
  DevicePacer cut(profile, &clock_);
  for (int pass = 0; pass < 3; ++pass) {
    const int64_t start_ns = clock_.now_ns;
    cut.OnPassBegin(shape_);
    for (int layer = 0; layer < 8; ++layer) cut.OnLayers(layer, layer + 1);
    cut.OnHead(8, 1);
    EXPECT_NEAR(static_cast<double>(Since(start_ns)), static_cast<double>(passes[pass]), 1);
  }
}

TEST(PacingCounts, MoreThanOneOverrunInAThousandIsVoid) {
  PacingCounts counts{.num_steps = 2000, .num_overruns = 2};
  EXPECT_FALSE(counts.IsVoid());
  counts.num_overruns = 3;
  EXPECT_TRUE(counts.IsVoid());
  EXPECT_NE(counts.Describe().find("VOID"), std::string::npos);
  const PacingCounts before{.num_steps = 1000, .num_overruns = 2};
  EXPECT_EQ(Difference(counts, before).num_steps, 1000);
  EXPECT_FALSE(Difference(counts, before).IsVoid());
  EXPECT_FALSE(PacingCounts{}.IsVoid());
}

// An engine that is paced computes what it computes, and what it tells of its times is the device's.
TEST_F(DevicePacerTest, AnEngineIsPacedAndItsStepTimesAreTheProfiles) {
  engine::EngineOptions options;
  options.num_threads = 1;
  options.num_kv_blocks = 32;
  options.max_rows = 64;
  const auto plain = engine::Engine::Create(options, testing::MakeMicroModel({})).value();
  options.step_hook = std::make_shared<DevicePacer>(Profile(), &clock_);
  const auto paced = engine::Engine::Create(options, testing::MakeMicroModel({})).value();
  const std::vector<TokenId> tokens = {1, 2, 3};
  engine::SequenceCache plain_cache(&plain->blocks()), paced_cache(&paced->blocks());
  ASSERT_TRUE(plain_cache.Reserve(3) && paced_cache.Reserve(3));
  const auto expected =
      plain->Run({{.token_ids = tokens, .block_table = plain_cache.block_table()}}).value();
  const int64_t start_ns = clock_.now_ns;
  const auto logits =
      paced->Run({{.token_ids = tokens, .block_table = paced_cache.block_table()}}).value();
  EXPECT_EQ(Since(start_ns), 50'000 + 80 * 1'020'000 + 2'000'000 + 30'000);
  for (int32_t row = 0; row < 3; ++row) EXPECT_EQ(logits.Row(row), expected.Row(row));

  const StepTimes times = workers::MeasureStepTimes(paced.get(), clock_);
  EXPECT_EQ(times.base_ns, 50'000 + 80'000'000 + 2'000'000 + 30'000);
  EXPECT_EQ(times.per_row_ns, 80 * 10'000);
}

}  // namespace
}  // namespace mirrorsd::pacing
