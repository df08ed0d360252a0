// Promise 1: the tokens of a request do not depend on speculation, window, draft or batch. Verifier and
// draft sessions over micro models, against each request run alone without speculation; a pairwise cover
// of {window, batch, temperature, filter or penalty, draft}. With MIRRORSD_FULL_PRODUCT set, the product.

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/local_cell.h"
#include "tests/unit/workers/sessions/session_fixtures.h"

namespace mirrorsd {
namespace {

using testing::CellOptions;
using testing::CellRequest;
using testing::CellStats;
using testing::LocalCell;
using testing::MicroModelOptions;

constexpr int32_t kVocabulary = 160;
constexpr int32_t kMaxTokens = 48;
const std::vector<int> kWindows = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
const std::vector<int> kBatches = {1, 2, 3, 5, 8, 16, 32};
const std::vector<std::string> kFilters = {
    "none",     "top_k",    "top_p",     "min_p",      "repetition_penalty", "presence_penalty",
    "frequency_penalty", "logit_bias", "min_tokens", "everything"};
enum DraftKind { kSame, kNoisy, kUnrelated };

MicroModelOptions TargetModel() {
  return {.vocabulary_size = kVocabulary, .seed = 11};
}

MicroModelOptions DraftModel(int kind) {
  MicroModelOptions model = TargetModel();
  if (kind == kNoisy) model.noise = 0.02f;
  if (kind == kUnrelated) {
    model.seed = 12345;
    model.num_layers = 1;
  }
  return model;
}

SamplingParameters Sampling(int temperature, const std::string& filter) {
  SamplingParameters p{.temperature = static_cast<float>(temperature)};
  const bool all = filter == "everything";
  if (all || filter == "top_k") p.top_k = 20;
  if (all || filter == "top_p") p.top_p = 0.9f;
  if (all || filter == "min_p") p.min_p = 0.02f;
  if (all || filter == "repetition_penalty") p.repetition_penalty = 1.3f;
  if (all || filter == "presence_penalty") p.presence_penalty = 0.7f;
  if (all || filter == "frequency_penalty") p.frequency_penalty = 0.4f;
  if (all || filter == "logit_bias") p.logit_bias = {{4, 3.0f}, {17, -100.0f}, {90, 2.0f}};
  if (all || filter == "min_tokens") p.min_tokens = 20;
  return p;
}

struct Setting {
  int window = 0, batch = 0, temperature = 0, filter = 0, draft = 0;
};

// Every pair of values of two dimensions, in some row: greedily, the row that covers most new pairs.
std::vector<Setting> PairwiseCover() {
  const int sizes[5] = {static_cast<int>(kWindows.size()), static_cast<int>(kBatches.size()), 2,
                        static_cast<int>(kFilters.size()), 3};
  std::map<std::pair<int, int>, bool> covered;  // (dimension, value) twice, packed
  const auto key = [](int d, int v) { return d * 100 + v; };
  int missing = 0;
  for (int a = 0; a < 5; ++a) {
    for (int b = a + 1; b < 5; ++b) missing += sizes[a] * sizes[b];
  }
  std::vector<Setting> rows;
  uint32_t draw = 0;
  while (missing > 0) {
    int best[5] = {}, best_gain = -1;
    for (int candidate = 0; candidate < 60; ++candidate) {
      int row[5];
      const PhiloxBlock r0 = NoiseWords({.seed = 1}, draw++), r1 = NoiseWords({.seed = 2}, draw++);
      const uint32_t words[5] = {r0.word[0], r0.word[1], r0.word[2], r0.word[3], r1.word[0]};
      for (int d = 0; d < 5; ++d) row[d] = static_cast<int>(words[d] % sizes[d]);
      int gain = 0;
      for (int a = 0; a < 5; ++a) {
        for (int b = a + 1; b < 5; ++b) {
          gain += !covered.count({key(a, row[a]), key(b, row[b])});
        }
      }
      if (gain > best_gain) {
        best_gain = gain;
        std::copy(row, row + 5, best);
      }
    }
    if (best_gain == 0) continue;
    missing -= best_gain;
    for (int a = 0; a < 5; ++a) {
      for (int b = a + 1; b < 5; ++b) covered[{key(a, best[a]), key(b, best[b])}] = true;
    }
    rows.push_back({best[0], best[1], best[2], best[3], best[4]});
  }
  // Rejects deep in a window are rare: more of the longest windows on a draft that is nearly right.
  for (int filter = 0; filter < static_cast<int>(kFilters.size()); ++filter) {
    const int longest = static_cast<int>(kWindows.size()) - 1;
    rows.push_back({longest, static_cast<int>(kBatches.size()) - 1, filter % 2, filter, kNoisy});
  }
  return rows;
}

std::vector<Setting> FullProduct() {
  std::vector<Setting> rows;
  for (int w = 0; w < static_cast<int>(kWindows.size()); ++w) {
    for (int b = 0; b < static_cast<int>(kBatches.size()); ++b) {
      for (int t = 0; t < 2; ++t) {
        for (int f = 0; f < static_cast<int>(kFilters.size()); ++f) {
          for (int d = 0; d < 3; ++d) rows.push_back({w, b, t, f, d});
        }
      }
    }
  }
  return rows;
}

class LosslessnessTest : public ::testing::Test {
 protected:
  LosslessnessTest() : target_(testing::MakeMicroEngine(TargetModel())) {
    for (int kind = 0; kind < 3; ++kind) {
      drafts_.push_back(testing::MakeMicroEngine(DraftModel(kind)));
      draft_sessions_.push_back(
          std::make_unique<workers::DraftSession>(drafts_.back().get(), workers::DraftSessionOptions{}));
    }
    verifier_ = std::make_unique<workers::VerifierSession>(target_.get(),
                                                           workers::VerifierSessionOptions{});
  }

  CellRequest Request(size_t i, const Setting& setting) {
    const std::string& filter = kFilters[setting.filter];
    CellRequest request = testing::MakeRequest(i, Sampling(setting.temperature, filter),
                                               kVocabulary, kMaxTokens);
    if (filter == "min_tokens" || filter == "everything") {
      for (TokenId end = 0; end < 12; ++end) request.end_token_ids.push_back(end);
    }
    return request;
  }

  // The request alone, without a draft.
  const std::vector<TokenId>& Alone(size_t i, const Setting& setting) {
    const auto key = std::make_tuple(setting.temperature, setting.filter, i);
    auto it = alone_.find(key);
    if (it == alone_.end()) {
      LocalCell cell(verifier_.get(), nullptr);
      it = alone_.emplace(key, cell.Run({Request(i, setting)}, {})[0]).first;
      verifier_->Reset();
    }
    return it->second;
  }

  void Check(const Setting& setting) {
    const int batch = kBatches[setting.batch];
    SCOPED_TRACE(::testing::Message()
                 << "window " << kWindows[setting.window] << ", batch " << batch
                 << ", temperature " << setting.temperature << ", " << kFilters[setting.filter]
                 << ", draft " << setting.draft);
    std::vector<CellRequest> requests;
    for (int i = 0; i < batch; ++i) requests.push_back(Request(i, setting));
    LocalCell cell(verifier_.get(), draft_sessions_[setting.draft].get());
    const auto outputs = cell.Run(
        requests, {.window = kWindows[setting.window],
                   .batch = batch,
                   .prefill_chunk = 1 + 7 * setting.window % 23});
    ASSERT_EQ(cell.error(), "");
    for (int i = 0; i < batch; ++i) ASSERT_EQ(outputs[i], Alone(i, setting)) << "request " << i;
    EXPECT_EQ(cell.stats().max_items_in_round, batch);
    EXPECT_GT(cell.stats().windows, 0);
    // At temperature 1 the noise of a token below the draft's largest 64 may win at the target alone.
    if (setting.draft == kSame && setting.temperature == 0) {
      EXPECT_TRUE(cell.stats().rejected_at.empty()) << "the target's twin was rejected";
    }
    if (batch == 32) widest_windows_ = std::max(widest_windows_, cell.stats().max_windows_in_round);
    stats_.Add(cell.stats());
    EXPECT_EQ(target_->blocks().num_referenced(), 0);
    EXPECT_EQ(drafts_[setting.draft]->blocks().num_referenced(), 0);
  }

  std::unique_ptr<engine::Engine> target_;
  std::vector<std::unique_ptr<engine::Engine>> drafts_;
  std::unique_ptr<workers::VerifierSession> verifier_;
  std::vector<std::unique_ptr<workers::DraftSession>> draft_sessions_;
  std::map<std::tuple<int, int, size_t>, std::vector<TokenId>> alone_;
  CellStats stats_;
  int64_t widest_windows_ = 0;
};

TEST_F(LosslessnessTest, TokensDoNotDependOnWindowBatchFilterOrDraft) {
  const std::vector<Setting> rows =
      std::getenv("MIRRORSD_FULL_PRODUCT") != nullptr ? FullProduct() : PairwiseCover();
  for (const Setting& setting : rows) {
    Check(setting);
    if (HasFatalFailure()) return;
  }
  // The set exercised what it claims: an accept and a reject at every row, and 32 windows in one round.
  ASSERT_EQ(stats_.accepted_at.size(), 16u);
  ASSERT_EQ(stats_.rejected_at.size(), 16u);
  for (int row = 0; row < 16; ++row) {
    EXPECT_GT(stats_.accepted_at[row], 0) << "no accept at row " << row;
    EXPECT_GT(stats_.rejected_at[row], 0) << "no reject at row " << row;
  }
  EXPECT_EQ(widest_windows_, 32);
  EXPECT_GT(stats_.mixed_rounds, 0);
  EXPECT_GT(stats_.cached_tokens, 0);
  for (int row = 0; row < 16; ++row) {
    std::cout << "row " << row << ": " << stats_.accepted_at[row] << " accepts, "
              << stats_.rejected_at[row] << " rejects\n";
  }
  std::cout << rows.size() << " settings, " << stats_.rounds << " rounds\n";
}

// Sequences of different requests: greedy and sampled, filtered and plain, in one batch that others join
// and leave.
TEST_F(LosslessnessTest, MixedBatchesThatRequestsJoinAndLeave) {
  std::vector<CellRequest> requests;
  std::vector<std::vector<TokenId>> alone;
  for (size_t i = 0; i < 40; ++i) {
    const Setting setting{.temperature = static_cast<int>(i % 2),
                          .filter = static_cast<int>(i % kFilters.size())};
    requests.push_back(Request(i, setting));
    requests.back().max_tokens = 1 + static_cast<int32_t>(i * 7 % kMaxTokens);
    alone.push_back(Alone(i, setting));
    alone.back().resize(
        std::min<size_t>(alone.back().size(), static_cast<size_t>(requests.back().max_tokens)));
  }
  for (const int batch : {3, 11, 32}) {
    LocalCell cell(verifier_.get(), draft_sessions_[kNoisy].get());
    const auto outputs =
        cell.Run(requests, {.window = 5, .batch = batch, .prefill_chunk = 9, .max_rows = 120});
    ASSERT_EQ(cell.error(), "");
    for (size_t i = 0; i < requests.size(); ++i) EXPECT_EQ(outputs[i], alone[i]) << i;
    EXPECT_GT(cell.stats().mixed_rounds, 0);
  }
}

// The bits do not depend on how memory is cut or on an exit between the layers.
TEST_F(LosslessnessTest, BlockSizeAndTheCutOfThePassChangeNothing) {
  for (const int block_tokens : {16, 64}) {
    for (const int early_exit_layer : {0, 1}) {
      auto engine = testing::MakeMicroEngine(TargetModel(), {.block_tokens = block_tokens});
      workers::VerifierSession verifier(engine.get(), {.early_exit_layer = early_exit_layer});
      LocalCell cell(&verifier, draft_sessions_[kNoisy].get());
      for (int temperature = 0; temperature < 2; ++temperature) {
        const Setting setting{.temperature = temperature, .filter = 9};
        const auto outputs =
            cell.Run({Request(0, setting), Request(1, setting)}, {.window = 4, .batch = 2});
        EXPECT_EQ(outputs[0], Alone(0, setting));
        EXPECT_EQ(outputs[1], Alone(1, setting));
      }
    }
  }
}

// A draft of a smaller and of a larger vocabulary, and one whose context is shorter than the texts.
TEST_F(LosslessnessTest, DraftsOfAnotherShape) {
  for (const int vocabulary : {100, 224}) {
    for (const int max_positions : {48, 512}) {
      auto engine = testing::MakeMicroEngine(
          {.vocabulary_size = vocabulary, .max_positions = max_positions, .seed = 11});
      workers::DraftSession draft(engine.get(), {.max_proposed_tokens = kVocabulary});
      for (int temperature = 0; temperature < 2; ++temperature) {
        const Setting setting{.temperature = temperature};
        LocalCell cell(verifier_.get(), &draft);
        std::vector<CellRequest> requests;
        for (size_t i = 0; i < 6; ++i) requests.push_back(Request(i, setting));
        const auto outputs = cell.Run(requests, {.window = 6, .batch = 6});
        EXPECT_EQ(cell.error(), "");
        EXPECT_GT(cell.stats().windows, 0);
        for (size_t i = 0; i < 6; ++i) EXPECT_EQ(outputs[i], Alone(i, setting)) << i;
      }
    }
  }
}

// A draft pool far too small for the batch: sequences are driven out, rollouts end early, nothing fails.
TEST_F(LosslessnessTest, DraftPoolMuchTooSmall) {
  auto engine = testing::MakeMicroEngine(DraftModel(kSame), {.num_kv_blocks = 12});
  workers::DraftSession draft(engine.get(), {});
  const Setting setting{.temperature = 1};
  std::vector<CellRequest> requests;
  for (size_t i = 0; i < 12; ++i) requests.push_back(Request(i, setting));
  LocalCell cell(verifier_.get(), &draft);
  const auto outputs = cell.Run(requests, {.window = 8, .batch = 12});
  EXPECT_EQ(cell.error(), "");
  EXPECT_GT(cell.stats().windows, 0);
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(outputs[i], Alone(i, setting)) << i;
  EXPECT_EQ(engine->blocks().num_referenced(), 0);
  EXPECT_TRUE(engine->blocks().CheckInvariants().ok());
}

// Windows that no draft would send: random tokens, long repeats, and the true continuation cut anywhere.
TEST_F(LosslessnessTest, HostileWindows) {
  for (int temperature = 0; temperature < 2; ++temperature) {
    const Setting setting{.temperature = temperature, .filter = 9};
    std::vector<CellRequest> requests;
    std::vector<std::vector<TokenId>> alone;
    for (size_t i = 0; i < 8; ++i) {
      requests.push_back(Request(i, setting));
      alone.push_back(Alone(i, setting));
    }
    uint32_t calls = 0;
    const auto propose = [&](size_t request, const std::vector<TokenId>& tokens) {
      const PhiloxBlock r = NoiseWords({.seed = 9}, ++calls);
      const size_t length = 1 + r.word[0] % 16;
      const size_t done = tokens.size() - requests[request].prompt.size();
      std::vector<TokenId> window;
      for (size_t t = 0; t < length; ++t) {
        const bool truth = r.word[1] % 3 != 0 && t < r.word[2] % 17 &&
                           done + t < alone[request].size();
        window.push_back(truth ? alone[request][done + t]
                               : static_cast<TokenId>((r.word[3] + 31 * t) % kVocabulary));
      }
      return window;
    };
    LocalCell cell(verifier_.get(), nullptr);
    const auto outputs = cell.Run(requests, {.window = 16, .batch = 8, .propose = propose});
    EXPECT_EQ(cell.error(), "");
    EXPECT_EQ(outputs, alone);
    EXPECT_FALSE(cell.stats().accepted_at.empty());
    EXPECT_FALSE(cell.stats().rejected_at.empty());
  }
}

}  // namespace
}  // namespace mirrorsd
