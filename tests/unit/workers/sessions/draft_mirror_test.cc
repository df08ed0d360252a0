// The draft's side of mirror rounds, step by step: branches at own ranks and at candidates, one pass per depth,
// promotion without a pass, what a later round keeps and cancels, and limits.

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/workers/sessions/draft_tree_fixtures.h"
#include "workers/draft/draft_session.h"

namespace mirrorsd::workers {
namespace {

constexpr int32_t kVocabulary = 64;
const SamplingParameters kGreedy = {.temperature = 0.0f};
const std::vector<TokenId> kPrompt = {5, 9, 1, 60, 33, 2, 2, 17, 40, 8, 51, 29,
                                      3, 3, 12, 7, 44, 21, 38, 0, 63, 15};

class RowCounter : public engine::StepHook {
 public:
  void OnPassBegin(const engine::PassShape& shape) override { passes.push_back(shape); }
  void OnLayers(int32_t, int32_t) override {}
  void OnHead(int32_t, int32_t) override {}
  std::vector<engine::PassShape> passes;
};

class DraftMirrorTest : public ::testing::Test {
 protected:
  DraftMirrorTest() : reference_(Model(), kGreedy, static_cast<int32_t>(kPrompt.size())) {
    Restart({}, {});
  }

  static testing::MicroModelOptions Model() {
    return {.vocabulary_size = kVocabulary, .max_positions = 256};
  }

  void Restart(engine::EngineOptions engine_options, DraftSessionOptions options) {
    session_.reset();
    engine_options.step_hook = counter_;
    engine_ = testing::MakeMicroEngine(Model(), std::move(engine_options));
    session_ = std::make_unique<DraftSession>(engine_.get(), std::move(options));
  }

  void Start(SequenceId id, const std::vector<TokenId>& prompt) {
    const int32_t length = static_cast<int32_t>(prompt.size());
    session_->Handle(StartSequence{
        .sequence_id = id, .sampling = kGreedy, .prompt_length = length, .total_length = length});
    session_->Handle(AppendTokens{id, 0, prompt});
    Drain();
    counter_->passes.clear();
  }

  std::vector<RolloutProgress> WorkOnce() {
    std::vector<RolloutProgress> progress;
    session_->Work([&](const WorkerReport& report) {
      if (const auto* one = std::get_if<RolloutProgress>(&report)) progress.push_back(*one);
    });
    return progress;
  }

  std::vector<RolloutProgress> Drain() {
    std::vector<RolloutProgress> progress;
    for (int i = 0; session_->HasWork() && i < 1000; ++i) {
      for (RolloutProgress& one : WorkOnce()) progress.push_back(std::move(one));
    }
    EXPECT_FALSE(session_->HasWork());
    return progress;
  }

  static StartRollout Round(RoundId round, const std::vector<TokenId>& tokens,
                            const std::vector<TokenId>& window, std::vector<RolloutRoot> roots,
                            int32_t depth) {
    return {.sequence_id = 1,
            .round_id = round,
            .committed_length = static_cast<int32_t>(tokens.size()),
            .path_tokens = tokens,
            .window = window,
            .roots = std::move(roots),
            .depth = depth};
  }

  using Branches = std::map<std::pair<int32_t, TokenId>, std::vector<TokenId>>;
  static Branches Collect(const std::vector<RolloutProgress>& progress) {
    Branches branches;
    for (const RolloutProgress& one : progress) {
      std::vector<TokenId>& tokens = branches[{one.num_accepted, one.root_token}];
      EXPECT_EQ(one.first_depth, static_cast<int32_t>(tokens.size()));
      tokens.insert(tokens.end(), one.token_ids.begin(), one.token_ids.end());
    }
    return branches;
  }

  int32_t NumRows() const {
    int32_t rows = 0;
    for (const engine::PassShape& pass : counter_->passes) rows += pass.num_rows;
    return rows;
  }

  std::vector<TokenId> Joined(std::vector<TokenId> a, const std::vector<TokenId>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  std::shared_ptr<RowCounter> counter_ = std::make_shared<RowCounter>();
  testing::DraftReference reference_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<DraftSession> session_;
};

// P1 with three own ranks: one pass for the window (it names the roots), then one per depth for all branches.
TEST_F(DraftMirrorTest, AllBranchesGoThroughOnePassPerDepth) {
  Start(1, kPrompt);
  const std::vector<TokenId> window = {7, 30, 11};
  session_->Handle(Round(1, kPrompt, window,
                         {{.num_accepted = 3, .own_rank = 0},
                          {.num_accepted = 3, .own_rank = 1},
                          {.num_accepted = 1, .own_rank = 0}},
                         4));
  const Branches branches = Collect(Drain());
  ASSERT_EQ(branches.size(), 3u);
  ASSERT_EQ(counter_->passes.size(), 5u);
  // The last token of the prompt and the window; logits of two of its rows alone.
  EXPECT_EQ(counter_->passes[0].num_rows, 4);
  EXPECT_EQ(counter_->passes[0].num_logits_rows, 2);
  for (size_t depth = 1; depth < 5; ++depth) {
    EXPECT_EQ(counter_->passes[depth].num_rows, 3);
    EXPECT_EQ(counter_->passes[depth].num_logits_rows, 3);
  }
  const std::vector<TokenId> all = Joined(kPrompt, window);
  for (const int rank : {0, 1}) {
    const TokenId root = reference_.Ranks(all)[rank].token;
    ASSERT_TRUE(branches.contains({3, root}));
    EXPECT_EQ(branches.at({3, root}), reference_.Continue(Joined(all, {root}), 4));
  }
}

// The window's own next token is no outcome: own ranks count without it.
TEST_F(DraftMirrorTest, OwnRanksLeaveTheWindowsNextTokenOut) {
  Start(1, kPrompt);
  const TokenId best = reference_.Ranks(kPrompt)[0].token;
  session_->Handle(Round(1, kPrompt, {best}, {{.num_accepted = 0, .own_rank = 0}}, 2));
  const Branches branches = Collect(Drain());
  ASSERT_EQ(branches.size(), 1u);
  EXPECT_EQ(branches.begin()->first.second, reference_.Ranks(kPrompt)[1].token);
}

// Two names of one key are one branch, whichever came first.
TEST_F(DraftMirrorTest, OneBranchPerKey) {
  Start(1, kPrompt);
  const TokenId best = reference_.Ranks(kPrompt)[0].token;
  session_->Handle(Round(1, kPrompt, {},
                         {{.num_accepted = 0, .own_rank = 0},
                          {.num_accepted = 0, .token = best},
                          {.num_accepted = 0, .own_rank = 0},
                          {.num_accepted = 0, .token = best}},
                         3));
  std::vector<RolloutProgress> progress = WorkOnce();
  session_->Handle(Round(1, kPrompt, {}, {{.num_accepted = 0, .token = best}}, 6));
  session_->Handle(Round(1, kPrompt, {}, {{.num_accepted = 0, .own_rank = 0}}, 6));
  for (RolloutProgress& one : Drain()) progress.push_back(std::move(one));
  const Branches branches = Collect(progress);
  ASSERT_EQ(branches.size(), 1u);
  EXPECT_EQ(branches.begin()->second.size(), 3u) << "not begun again";
}

// The branch that hit becomes path and window; its unused tail is said at once, and nothing is computed.
TEST_F(DraftMirrorTest, PromotionRunsNoPass) {
  Start(1, kPrompt);
  std::vector<RolloutRoot> roots = {{.num_accepted = 2, .own_rank = 0}};
  for (TokenId root = 20; root < 28; ++root) roots.push_back({.num_accepted = 1, .token = root});
  const std::vector<TokenId> window = {7, 30};
  session_->Handle(Round(1, kPrompt, window, roots, 6));
  const Branches branches = Collect(Drain());
  // A branch that lies away from the line at home.
  const std::vector<TokenId> rollout = branches.at({1, 25});
  ASSERT_EQ(rollout.size(), 6u);
  counter_->passes.clear();

  const std::vector<TokenId> path = Joined(kPrompt, {7, 25});
  const std::vector<TokenId> next(rollout.begin(), rollout.begin() + 3);
  session_->Handle(Round(2, path, next, {{.num_accepted = 3, .own_rank = 0}}, 2));
  const std::vector<RolloutProgress> progress = Drain();
  EXPECT_TRUE(counter_->passes.empty());
  ASSERT_EQ(progress.size(), 1u);
  EXPECT_EQ(progress[0].root_token, rollout[3]);
  EXPECT_EQ(progress[0].token_ids, (std::vector<TokenId>{rollout[4], rollout[5]}));
  EXPECT_TRUE(progress[0].last);

  // What goes on from there stands on copied KV: one row per token, the one at the rollout's end first.
  session_->Handle(Round(3, Joined(path, Joined(next, {rollout[3]})), {rollout[4]},
                         {{.num_accepted = 1, .own_rank = 0}}, 4));
  const Branches more = Collect(Drain());
  EXPECT_EQ(more.begin()->second, reference_.Continue(Joined(path, rollout), 4));
  EXPECT_EQ(NumRows(), 4);
  session_->Handle(EndSequence{1});
  EXPECT_EQ(engine_->blocks().num_referenced(), 0);
}

// P2 joins branches that are under way: they go on in the same passes.
TEST_F(DraftMirrorTest, CandidatesJoinARunningRound) {
  Start(1, kPrompt);
  const std::vector<TokenId> window = {7, 30};
  session_->Handle(Round(1, kPrompt, window, {{.num_accepted = 2, .own_rank = 0}}, 5));
  std::vector<RolloutProgress> progress = WorkOnce();
  for (RolloutProgress& one : WorkOnce()) progress.push_back(std::move(one));
  session_->Handle(Round(1, kPrompt, window,
                         {{.num_accepted = 0, .token = 40}, {.num_accepted = 1, .token = 41}}, 3));
  counter_->passes.clear();
  for (RolloutProgress& one : Drain()) progress.push_back(std::move(one));
  const Branches branches = Collect(progress);
  ASSERT_EQ(branches.size(), 3u);
  EXPECT_EQ(branches.at({0, 40}), reference_.Continue(Joined(kPrompt, {40}), 3));
  EXPECT_EQ(branches.at({1, 41}), reference_.Continue(Joined(kPrompt, {7, 41}), 3));
  ASSERT_EQ(counter_->passes.size(), 4u);
  EXPECT_EQ(counter_->passes[0].num_rows, 3);
  EXPECT_EQ(counter_->passes[3].num_rows, 1);
}

// What contradicts the round's path or window is refused by name and changes nothing.
TEST_F(DraftMirrorTest, ContradictionsOfARoundAreRefused) {
  Start(1, kPrompt);
  session_->Handle(Round(1, kPrompt, {7, 30}, {{.num_accepted = 2, .token = 8}}, 3));
  WorkOnce();
  StartRollout other = Round(1, kPrompt, {7, 31}, {{.num_accepted = 1, .token = 9}}, 3);
  session_->Handle(other);
  other = Round(1, Joined(kPrompt, {1}), {7, 30}, {{.num_accepted = 1, .token = 9}}, 3);
  session_->Handle(other);
  other = Round(1, kPrompt, {7, 30}, {{.num_accepted = 1, .token = 9}}, 3);
  other.path_tokens[3] = 2;
  session_->Handle(other);
  int refused = 0;
  const std::vector<TokenId> first = reference_.Continue(Joined(kPrompt, {7, 30, 8}), 1);
  std::vector<TokenId> tokens;
  for (const RolloutProgress& one : Drain()) {
    refused += one.root_token == 9 && one.last && one.token_ids.empty() ? 1 : 0;
    if (one.root_token == 8) tokens.insert(tokens.end(), one.token_ids.begin(), one.token_ids.end());
  }
  EXPECT_EQ(refused, 3);
  EXPECT_EQ(Joined(first, tokens),
            reference_.Continue(Joined(kPrompt, {7, 30, 8}), 3));
}

TEST_F(DraftMirrorTest, LimitsOfFoolishRounds) {
  Start(1, kPrompt);
  std::vector<RolloutRoot> roots;
  for (int i = 0; i < 1000; ++i) roots.push_back({.num_accepted = 0, .token = i});
  session_->Handle(Round(1, kPrompt, {}, roots, 1'000'000'000));
  const std::vector<RolloutProgress> progress = Drain();
  int refused = 0;
  for (const RolloutProgress& one : progress) refused += one.last && one.token_ids.empty() ? 1 : 0;
  EXPECT_EQ(refused, 1000 - 64);
  const Branches branches = Collect(progress);
  EXPECT_EQ(branches.at({0, 63}).size(), 16u);

  session_->Handle(Round(2, kPrompt, std::vector<TokenId>(65, 1), {{.num_accepted = 0, .token = 3}}, 3));
  session_->Handle(Round(3, kPrompt, {1'000'000, -7},
                         {{.num_accepted = 2, .token = 2'000'000'000},
                          {.num_accepted = 2, .own_rank = -5},
                          {.num_accepted = -1, .token = 4},
                          {.num_accepted = 2'000'000'000, .token = 4},
                          {.num_accepted = 1, .token = -4}},
                         -1));
  for (const RolloutProgress& one : Drain()) {
    EXPECT_TRUE(one.last);
    EXPECT_GE(one.root_token, 0);
    EXPECT_EQ(one.token_ids.size(), one.root_token == 2'000'000'000 ? 1u : 0u);
  }
}

// Four sequences ask at once; rows are for six: each has its first branch before any has its second.
TEST_F(DraftMirrorTest, TheFirstBranchesComeFirst) {
  Restart({}, {.limits = {.max_sequences = 8, .max_rows = 6, .max_window = 8}});
  for (SequenceId id = 1; id <= 4; ++id) Start(id, kPrompt);
  for (SequenceId id = 1; id <= 4; ++id) {
    StartRollout rollout = Round(1, Joined(kPrompt, {static_cast<TokenId>(id)}), {},
                                 {{.num_accepted = 0, .token = 30}, {.num_accepted = 0, .token = 31}}, 3);
    rollout.sequence_id = id;
    session_->Handle(rollout);
  }
  std::vector<std::pair<TokenId, int32_t>> order;
  while (session_->HasWork()) {
    for (const RolloutProgress& one : WorkOnce()) order.push_back({one.root_token, one.first_depth});
  }
  ASSERT_EQ(order.size(), 24u);
  // Two pending tokens and a root each: three sequences in the first pass were nine rows, so two; then all.
  EXPECT_EQ(std::count(order.begin(), order.begin() + 4, std::pair<TokenId, int32_t>{31, 2}), 0);
  const auto first_last = std::find(order.begin(), order.end(), std::pair<TokenId, int32_t>{30, 2});
  const auto second_last = std::find(order.begin(), order.end(), std::pair<TokenId, int32_t>{31, 2});
  EXPECT_LT(first_last - order.begin(), second_last - order.begin());
}

// A pool of four blocks holds the prompt and two more: branches beyond that end, the first goes on to its end.
TEST_F(DraftMirrorTest, ShortOfBlocksFewerBranches) {
  Restart({.num_kv_blocks = 4}, {});
  Start(1, kPrompt);
  std::vector<RolloutRoot> roots;
  for (TokenId root = 0; root < 12; ++root) roots.push_back({.num_accepted = 0, .token = root});
  session_->Handle(Round(1, kPrompt, {}, roots, 8));
  const std::vector<RolloutProgress> progress = Drain();
  const Branches branches = Collect(progress);
  EXPECT_EQ(branches.size(), 12u);
  EXPECT_EQ(branches.at({0, 0}), reference_.Continue(Joined(kPrompt, {0}), 8));
  size_t num_tokens = 0, num_last = 0;
  for (const auto& [key, tokens] : branches) num_tokens += tokens.size();
  for (const RolloutProgress& one : progress) num_last += one.last ? 1 : 0;
  EXPECT_EQ(num_last, 12u);
  EXPECT_LT(num_tokens, 12u * 8u);
  EXPECT_GE(num_tokens, 4u * 16u - kPrompt.size());
}

}  // namespace
}  // namespace mirrorsd::workers
