// Promise 1 with mirror rounds: the real core, a verifier and drafts, in an order of steps that is drawn, against each
// request run alone without speculation. Settings are drawn too: window, candidates, exit layer, budget, fallback,
// mode, batch, temperature, filters, drafts; with MIRRORSD_FULL_PRODUCT set, twenty times as many.

#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/core_cell.h"
#include "tests/unit/workers/sessions/session_fixtures.h"

namespace mirrorsd {
namespace {

using testing::CellRequest;
using testing::CoreCell;
using testing::CoreCellOptions;
using testing::MicroModelOptions;

constexpr int32_t kVocabulary = 96;
constexpr int32_t kMaxTokens = 40;
constexpr int32_t kNumLayers = 4;

MicroModelOptions TargetModel() {
  return {.vocabulary_size = kVocabulary, .num_layers = kNumLayers, .seed = 21};
}

// 0: the target itself; nearly right; half right; another model altogether.
MicroModelOptions DraftModel(int kind) {
  MicroModelOptions model = TargetModel();
  if (kind == 1) model.noise = 0.02f;
  if (kind == 2) model.noise = 0.1f;
  if (kind == 3) {
    model.seed = 4711;
    model.num_layers = 1;
  }
  return model;
}

SamplingParameters Sampling(int kind) {
  SamplingParameters sampling{.temperature = kind % 2 == 0 ? 0.0f : 1.0f};
  if (kind >= 2) sampling.repetition_penalty = 1.2f;
  if (kind >= 4) {
    sampling.top_k = 20;
    sampling.top_p = 0.9f;
    sampling.min_tokens = 12;
    sampling.logit_bias = {{4, 3.0f}, {17, -100.0f}};
    sampling.frequency_penalty = 0.3f;
  }
  return sampling;
}

struct Setting {
  SpeculationMode mode = SpeculationMode::kMirror;
  int window = 4;
  int top_k = 4;
  int exit_layer = 2;
  int budget = 32;
  MissFallback fallback = MissFallback::kEmpty;
  int batch = 4;
  int draft = 1;
  int draft_steps = 12;
  double kills = 0;
};

class MirrorLosslessnessTest : public ::testing::Test {
 protected:
  MirrorLosslessnessTest() : target_(testing::MakeMicroEngine(TargetModel())) {
    for (int kind = 0; kind < 4; ++kind) {
      for (int twin = 0; twin < 2; ++twin) {
        drafts_.push_back(testing::MakeMicroEngine(DraftModel(kind)));
      }
    }
  }

  static CellRequest Request(size_t i) {
    CellRequest request =
        testing::MakeRequest(i, Sampling(static_cast<int>(i % 6)), kVocabulary, kMaxTokens);
    request.max_tokens = 1 + static_cast<int32_t>((i * 17 + 23) % kMaxTokens);
    if (i % 5 == 0) request.end_token_ids = {1, 2, 3};
    return request;
  }

  const std::vector<TokenId>& Alone(size_t i) {
    auto it = alone_.find(i);
    if (it == alone_.end()) {
      workers::VerifierSession verifier(target_.get(), {});
      testing::LocalCell cell(&verifier, nullptr);
      it = alone_.emplace(i, cell.Run({Request(i)}, {})[0]).first;
      verifier.Reset();
    }
    return it->second;
  }

  void Check(const Setting& setting, uint64_t seed) {
    SCOPED_TRACE(::testing::Message()
                 << SpeculationModeName(setting.mode) << ", window " << setting.window << ", top_k "
                 << setting.top_k << ", exit " << setting.exit_layer << ", budget "
                 << setting.budget << ", " << MissFallbackName(setting.fallback) << ", batch "
                 << setting.batch << ", draft " << setting.draft << ", draft steps "
                 << setting.draft_steps << ", kills " << setting.kills << ", seed " << seed);
    workers::VerifierSession verifier(target_.get(), {.early_exit_layer = setting.exit_layer});
    std::vector<std::unique_ptr<workers::DraftSession>> sessions;
    std::vector<workers::DraftSession*> drafts;
    for (int twin = 0; twin < 2; ++twin) {
      sessions.push_back(std::make_unique<workers::DraftSession>(
          drafts_[2 * setting.draft + twin].get(), workers::DraftSessionOptions{}));
      drafts.push_back(sessions.back().get());
    }
    CoreCellOptions options{.seed = seed,
                            .draft_steps = setting.draft_steps,
                            .kill_draft = setting.kills,
                            .kill_verifier = setting.kills / 3};
    options.config.speculation = setting.mode;
    options.config.num_speculative_tokens = setting.window;
    options.config.branch_top_k = setting.top_k;
    options.config.branch_budget = setting.budget;
    options.config.miss_fallback = setting.fallback;
    options.config.max_prefill_rows_per_round = 1 + static_cast<int32_t>(seed % 24);
    CoreCell cell(&verifier, drafts, options);
    std::vector<CellRequest> requests;
    for (int i = 0; i < setting.batch; ++i) requests.push_back(Request(i));
    const auto outputs = cell.Run(requests);
    ASSERT_EQ(cell.error(), "");
    for (int i = 0; i < setting.batch; ++i) ASSERT_EQ(outputs[i], Alone(i)) << "request " << i;
    EXPECT_EQ(target_->blocks().num_referenced(), 0);
    for (workers::DraftSession* draft : drafts) draft->Reset();
    for (const auto& draft : drafts_) EXPECT_EQ(draft->blocks().num_referenced(), 0);
    Add(cell);
  }

  void Add(const CoreCell& cell) {
    const scheduler::CoreCounters& counters = cell.counters();
    std::vector<int64_t>& per_depth = total_.branch_hits_per_depth;
    per_depth.resize(std::max(per_depth.size(), counters.branch_hits_per_depth.size()));
    for (size_t i = 0; i < counters.branch_hits_per_depth.size(); ++i) {
      per_depth[i] += counters.branch_hits_per_depth[i];
    }
    for (int i = 0; i < scheduler::kNumBranchMissReasons; ++i) {
      total_.branch_misses[i] += counters.branch_misses[i];
    }
    total_.ngram_windows += counters.ngram_windows;
    total_.held_windows += counters.held_windows;
    total_.accepted_tokens += counters.accepted_tokens;
    total_.draft_tokens += counters.draft_tokens;
    total_.resumes += counters.resumes;
    total_.rounds += counters.rounds;
    num_kills_ += cell.num_kills();
  }

  std::unique_ptr<engine::Engine> target_;
  std::vector<std::unique_ptr<engine::Engine>> drafts_;  // two of each kind
  std::map<size_t, std::vector<TokenId>> alone_;
  scheduler::CoreCounters total_;
  int num_kills_ = 0;
};

Setting Draw(std::mt19937_64* random) {
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(*random);
  };
  Setting setting;
  const int mode = draw(0, 9);
  setting.mode = mode == 0   ? SpeculationMode::kSerial
                 : mode <= 2 ? SpeculationMode::kTwoCohorts
                             : SpeculationMode::kMirror;
  setting.window = draw(1, 8);
  setting.top_k = draw(1, 8);
  setting.exit_layer = draw(1, kNumLayers - 1);
  setting.budget = std::vector<int>{2, 8, 32, 128}[draw(0, 3)];
  setting.fallback = static_cast<MissFallback>(draw(0, 2));
  setting.batch = std::vector<int>{1, 2, 3, 6, 12}[draw(0, 4)];
  setting.draft = draw(0, 3);
  setting.draft_steps = std::vector<int>{0, 3, 12, 40}[draw(0, 3)];
  setting.kills = draw(0, 3) == 0 ? 0.1 : 0;
  return setting;
}

TEST_F(MirrorLosslessnessTest, TokensDoNotDependOnBranchesExitsFallbacksOrKills) {
  const int num_settings = std::getenv("MIRRORSD_FULL_PRODUCT") != nullptr ? 2400 : 120;
  std::mt19937_64 random(5);
  for (int i = 0; i < num_settings; ++i) {
    Check(Draw(&random), 100 + i);
    if (HasFatalFailure()) return;
  }
  // What was claimed did occur: hits of the whole depth and of part of it, every kind of miss and of
  // fallback, kills that were survived.
  ASSERT_GE(total_.branch_hits_per_depth.size(), 9u);
  for (size_t i = 0; i < total_.branch_hits_per_depth.size(); ++i) {
    EXPECT_GT(total_.branch_hits_per_depth[i], 0) << "no hit of depth " << i + 1;
  }
  for (int i = 0; i < scheduler::kNumBranchMissReasons; ++i) {
    EXPECT_GT(total_.branch_misses[i], 0)
        << BranchMissReasonName(static_cast<scheduler::BranchMissReason>(i));
  }
  EXPECT_GT(total_.ngram_windows, 0);
  EXPECT_GT(total_.held_windows, 0);
  EXPECT_GT(total_.resumes, 0);
  EXPECT_GT(num_kills_, 0);
  int64_t hits = 0;
  for (const int64_t num : total_.branch_hits_per_depth) hits += num;
  std::cout << num_settings << " settings, " << total_.rounds << " rounds, " << hits << " hits, "
            << total_.branch_misses[0] << " not predicted, " << total_.branch_misses[1]
            << " not drafted, " << total_.branch_misses[2] << " not ready, "
            << total_.ngram_windows << " n-gram windows, " << total_.held_windows << " held, "
            << total_.accepted_tokens << " of " << total_.draft_tokens << " accepted, "
            << num_kills_ << " kills\n";
}

// A draft that is the target, with all the time it wants and every outcome a branch: after the first rounds there are
// next to no misses, or the branches are not what the outcomes are looked up by.
TEST_F(MirrorLosslessnessTest, ADraftWithAllTheTimeIsHardlyEverMissed) {
  for (int i = 0; i < 8; ++i) Alone(i);
  Setting setting{.window = 3, .top_k = 8, .exit_layer = 3, .budget = 256, .batch = 4, .draft = 0};
  setting.draft_steps = 400;
  Check(setting, 1);
  int64_t hits = 0;
  for (const int64_t num : total_.branch_hits_per_depth) hits += num;
  EXPECT_GT(hits, 0);
  EXPECT_LT(total_.branch_misses[0] + total_.branch_misses[1], hits / 4);
}

}  // namespace
}  // namespace mirrorsd
