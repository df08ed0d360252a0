// The draft's session: states, paths, rollouts, and what it answers to commands that do not fit.

#include "workers/draft/draft_session.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/workers/sessions/session_fixtures.h"
#include "workers/engine/kv_cache/sequence_cache.h"

namespace mirrorsd::workers {
namespace {

constexpr int32_t kVocabulary = 64;

class ManualClock : public engine::Clock {
 public:
  int64_t NowNs() override { return now_ns; }
  int64_t now_ns = 1'000'000'000;
};

class DraftSessionTest : public ::testing::Test {
 protected:
  DraftSessionTest() { Restart({}, {}); }

  void Restart(engine::EngineOptions engine_options, DraftSessionOptions options) {
    session_.reset();
    engine_ = testing::MakeMicroEngine({.vocabulary_size = kVocabulary, .max_positions = 128},
                                       std::move(engine_options));
    options.clock = &clock_;
    session_ = std::make_unique<DraftSession>(engine_.get(), std::move(options));
  }

  std::vector<WorkerReport> WorkOnce() {
    std::vector<WorkerReport> reports;
    session_->Work([&](WorkerReport report) { reports.push_back(std::move(report)); });
    return reports;
  }

  std::vector<WorkerReport> Drain() {
    std::vector<WorkerReport> reports;
    for (int i = 0; session_->HasWork(); ++i) {
      EXPECT_LT(i, 1000) << "work without end";
      if (i >= 1000) break;
      for (WorkerReport& report : WorkOnce()) reports.push_back(std::move(report));
    }
    return reports;
  }

  template <typename T>
  std::vector<T> Only(const std::vector<WorkerReport>& reports) {
    std::vector<T> only;
    for (const WorkerReport& report : reports) {
      if (const T* one = std::get_if<T>(&report)) only.push_back(*one);
    }
    return only;
  }

  void Start(SequenceId id, const std::vector<TokenId>& prompt, SamplingParameters sampling = {}) {
    const int32_t length = static_cast<int32_t>(prompt.size());
    session_->Handle(StartSequence{
        .sequence_id = id, .sampling = sampling, .prompt_length = length, .total_length = length});
    session_->Handle(AppendTokens{id, 0, prompt});
  }

  // A rollout whose path is all of `tokens` from `offset`, the last of them being the root.
  StartRollout Rollout(SequenceId id, RoundId round, const std::vector<TokenId>& tokens,
                       int32_t offset, int32_t depth) {
    const int32_t committed = static_cast<int32_t>(tokens.size()) - 1;
    return {.sequence_id = id,
            .round_id = round,
            .committed_length = committed,
            .path_offset = offset,
            .path_tokens = {tokens.begin() + offset, tokens.end() - 1},
            .roots = {{.num_accepted = 0, .token = tokens.back()}},
            .depth = depth};
  }

  static std::vector<TokenId> TokensOf(const std::vector<RolloutProgress>& progress) {
    std::vector<TokenId> tokens;
    for (const RolloutProgress& one : progress) {
      tokens.insert(tokens.end(), one.token_ids.begin(), one.token_ids.end());
    }
    return tokens;
  }

  // What the model itself says after these tokens, greedily.
  std::vector<TokenId> Truth(std::vector<TokenId> tokens, int depth) {
    const size_t from = tokens.size();
    auto engine =
        testing::MakeMicroEngine({.vocabulary_size = kVocabulary, .max_positions = 128});
    for (int i = 0; i < depth; ++i) {
      engine::SequenceCache cache(&engine->blocks());
      EXPECT_TRUE(cache.Reserve(static_cast<int32_t>(tokens.size())));
      const engine::SequenceRows rows{.token_ids = tokens,
                                      .block_table = cache.block_table(),
                                      .logits_begin = static_cast<int32_t>(tokens.size()) - 1};
      const auto logits = engine->Run({rows});
      const absl::Span<float> row = logits->Row(0);
      tokens.push_back(
          static_cast<TokenId>(std::max_element(row.begin(), row.end()) - row.begin()));
    }
    return {tokens.begin() + static_cast<int64_t>(from), tokens.end()};
  }

  ManualClock clock_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<DraftSession> session_;
};

const SamplingParameters kGreedy = {.temperature = 0.0f};
const std::vector<TokenId> kPrompt = {5, 9, 1, 60, 33, 2, 2, 17, 40, 8, 51, 29,
                                      3, 3, 12, 7, 44, 21, 38, 0, 63, 15};

TEST_F(DraftSessionTest, SaysWhoItIs) {
  const Hello hello = session_->MakeHello("d0", "boot");
  EXPECT_EQ(hello.role, WorkerRole::kDraft);
  EXPECT_EQ(hello.vocabulary_size, kVocabulary);
  EXPECT_EQ(hello.limits.max_window, 16);
  EXPECT_GT(hello.blocks.free, 0);
}

TEST_F(DraftSessionTest, CatchesUpInChunksShortestFirst) {
  Restart({}, {.catch_up_chunk_tokens = 8});
  const std::vector<TokenId> shorter(kPrompt.begin(), kPrompt.begin() + 12);
  Start(1, kPrompt, kGreedy);
  Start(2, shorter, kGreedy);
  std::vector<SequenceId> ready;
  int steps = 0;
  bool said_catching_up = false;
  while (session_->HasWork()) {
    for (const SequenceState& state : Only<SequenceState>(WorkOnce())) {
      said_catching_up |= state.state == DraftSequenceState::kCatchingUp;
      if (state.state != DraftSequenceState::kReady) continue;
      ready.push_back(state.sequence_id);
      EXPECT_EQ(state.draft_kv_length, state.sequence_id == 1 ? 21 : 11);
    }
    ++steps;
  }
  EXPECT_TRUE(said_catching_up);
  EXPECT_EQ(ready, (std::vector<SequenceId>{2, 1}));
  EXPECT_GE(steps, (11 + 21) / 8);
}

TEST_F(DraftSessionTest, RollsOutDepthByDepth) {
  Start(1, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> tokens = kPrompt;
  tokens.push_back(30);
  session_->Handle(Rollout(1, 1, tokens, 21, 5));
  std::vector<RolloutProgress> progress;
  for (int depth = 0; depth < 5; ++depth) {
    clock_.now_ns += 1000;
    const auto step = Only<RolloutProgress>(WorkOnce());
    ASSERT_EQ(step.size(), 1u);
    EXPECT_EQ(step[0].round_id, 1u);
    EXPECT_EQ(step[0].num_accepted, 0);
    EXPECT_EQ(step[0].root_token, 30);
    EXPECT_EQ(step[0].first_depth, depth);
    EXPECT_EQ(step[0].token_ids.size(), 1u);
    EXPECT_EQ(step[0].scores.size(), 1u);
    EXPECT_EQ(step[0].last, depth == 4);
    EXPECT_EQ(step[0].times.queue_ns, 1000);
    EXPECT_EQ(step[0].times.rollout_ns, 1000 * depth);
    progress.push_back(step[0]);
  }
  EXPECT_EQ(TokensOf(progress), Truth(tokens, 5));
  EXPECT_TRUE(Only<RolloutProgress>(Drain()).empty());
}

// Mirror rounds always have a branch to go on with: a prompt must not wait for the end of that.
TEST_F(DraftSessionTest, CatchingUpHasItsTurnAmongRollouts) {
  Restart({}, {.catch_up_chunk_tokens = 8});
  std::vector<TokenId> tokens(kPrompt.begin(), kPrompt.begin() + 12);
  Start(1, tokens, kGreedy);
  Drain();
  tokens.push_back(7);
  session_->Handle(Rollout(1, 1, tokens, 11, 16));
  Start(2, kPrompt, kGreedy);
  int depths = 0;
  int depths_when_ready = -1;
  for (const WorkerReport& report : Drain()) {
    if (std::holds_alternative<RolloutProgress>(report)) ++depths;
    const auto* state = std::get_if<SequenceState>(&report);
    if (state != nullptr && state->sequence_id == 2 && state->state == DraftSequenceState::kReady) {
      depths_when_ready = depths;
    }
  }
  EXPECT_EQ(depths, 16);
  EXPECT_GE(depths_when_ready, 4);  // rollouts come first
  EXPECT_LT(depths_when_ready, 16);
}

// Whatever part of a rollout turns out right, the next one continues from the truth.
TEST_F(DraftSessionTest, ReconcilesAnyOutcome) {
  std::vector<TokenId> base = kPrompt;
  base.push_back(30);
  for (int accepted = 0; accepted <= 5; ++accepted) {
    for (const bool as_window : {false, true}) {
      session_->Reset();
      Start(1, kPrompt, kGreedy);
      Drain();
      session_->Handle(Rollout(1, 1, base, 22, 5));
      const std::vector<TokenId> window = TokensOf(Only<RolloutProgress>(Drain()));
      ASSERT_EQ(window.size(), 5u);
      std::vector<TokenId> tokens = base;
      tokens.insert(tokens.end(), window.begin(), window.begin() + accepted);
      tokens.push_back(11);  // the correction
      StartRollout next;
      if (as_window) {
        // The outcome as a root of the round's own window.
        next = Rollout(1, 2, base, 22, 3);
        next.committed_length = static_cast<int32_t>(base.size());
        next.path_tokens.push_back(base.back());
        next.window = window;
        next.roots = {{.num_accepted = accepted, .token = 11}};
      } else {
        next = Rollout(1, 2, tokens, 22, 3);
      }
      session_->Handle(next);
      const auto progress = Only<RolloutProgress>(Drain());
      EXPECT_EQ(TokensOf(progress), Truth(tokens, 3)) << accepted;
      EXPECT_EQ(progress.at(0).num_accepted, as_window ? accepted : 0);
    }
  }
}

// Tokens that it never proposed (n-gram windows, a time without it) are forwarded, in chunks.
TEST_F(DraftSessionTest, ForwardsWhatItNeverSaw) {
  Restart({}, {.catch_up_chunk_tokens = 8});
  Start(1, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> tokens = kPrompt;
  for (TokenId t = 0; t < 30; ++t) tokens.push_back(t * 7 % kVocabulary);
  session_->Handle(Rollout(1, 9, tokens, 21, 2));
  EXPECT_TRUE(Only<RolloutProgress>(WorkOnce()).empty());
  EXPECT_EQ(TokensOf(Only<RolloutProgress>(Drain())), Truth(tokens, 2));
}

TEST_F(DraftSessionTest, ALaterRolloutReplacesAnEarlierOne) {
  Start(1, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> tokens = kPrompt;
  tokens.push_back(30);
  session_->Handle(Rollout(1, 5, tokens, 0, 8));
  WorkOnce();
  WorkOnce();
  tokens.back() = 31;
  session_->Handle(Rollout(1, 6, tokens, 0, 2));
  session_->Handle(Rollout(1, 5, tokens, 0, 8));  // late
  session_->Handle(Rollout(1, 6, tokens, 0, 8));  // repeated
  const auto progress = Only<RolloutProgress>(Drain());
  EXPECT_EQ(progress.size(), 2u);
  for (const RolloutProgress& one : progress) EXPECT_EQ(one.round_id, 6u);
  EXPECT_EQ(TokensOf(progress), Truth(tokens, 2));
}

// Of several roots each that can be is a branch; the others end at once, those without a name in silence.
TEST_F(DraftSessionTest, EveryRootIsABranchOfItsOwn) {
  Start(1, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> tokens = kPrompt;
  tokens.push_back(30);
  StartRollout rollout = Rollout(1, 1, tokens, 0, 2);
  rollout.roots = {{.num_accepted = 0, .own_rank = 1'000'000},
                   {.num_accepted = 3, .token = 4},
                   {.num_accepted = 0, .token = 30},
                   {.num_accepted = 0, .token = 31},
                   {.num_accepted = 0, .token = 30}};
  session_->Handle(rollout);
  std::map<TokenId, std::vector<RolloutProgress>> by_root;
  for (const RolloutProgress& one : Only<RolloutProgress>(Drain())) {
    by_root[one.root_token].push_back(one);
  }
  ASSERT_EQ(by_root.size(), 3u);
  ASSERT_EQ(by_root[4].size(), 1u);
  EXPECT_TRUE(by_root[4][0].last);
  EXPECT_TRUE(by_root[4][0].token_ids.empty());
  for (const TokenId root : {30, 31}) {
    tokens.back() = root;
    EXPECT_EQ(by_root[root].size(), 2u);
    EXPECT_EQ(TokensOf(by_root[root]), Truth(tokens, 2)) << root;
  }
}

// Nobody waits for what will not come: a last progress without tokens, and the state.
TEST_F(DraftSessionTest, RolloutsThatDoNotFitAreAnsweredAtOnce) {
  Start(1, kPrompt, kGreedy);
  Drain();
  const auto expect_refused = [&](const StartRollout& rollout, DraftSequenceState state) {
    session_->Handle(rollout);
    const std::vector<WorkerReport> reports = Drain();
    const auto progress = Only<RolloutProgress>(reports);
    ASSERT_EQ(progress.size(), 1u);
    EXPECT_TRUE(progress[0].last);
    EXPECT_TRUE(progress[0].token_ids.empty());
    ASSERT_EQ(Only<SequenceState>(reports).size(), 1u);
    EXPECT_EQ(Only<SequenceState>(reports)[0].state, state);
  };
  std::vector<TokenId> tokens = kPrompt;
  tokens.push_back(30);
  expect_refused(Rollout(77, 1, tokens, 0, 3), DraftSequenceState::kAbsent);
  std::vector<TokenId> far = tokens;
  far.resize(40, 1);
  expect_refused(Rollout(1, 2, far, 30, 3), DraftSequenceState::kReady);  // a gap
  expect_refused(Rollout(1, 3, {1, 2, 3}, 0, 3), DraftSequenceState::kReady);  // shrinks
  far.resize(129, 1);
  expect_refused(Rollout(1, 4, far, 0, 3), DraftSequenceState::kReady);  // beyond the context
  StartRollout lengths = Rollout(1, 5, tokens, 0, 3);
  lengths.path_tokens.pop_back();
  expect_refused(lengths, DraftSequenceState::kReady);
  StartRollout negative = Rollout(1, 6, tokens, 0, 3);
  negative.roots[0].token = -4;  // no name that could be said
  session_->Handle(negative);
  EXPECT_TRUE(Only<RolloutProgress>(Drain()).empty());
  StartRollout below = Rollout(1, 7, tokens, 0, 3);
  below.path_offset = -1;
  expect_refused(below, DraftSequenceState::kReady);
  session_->Handle(Rollout(1, 8, tokens, 0, 3));
  EXPECT_EQ(TokensOf(Only<RolloutProgress>(Drain())), Truth(tokens, 3));
}

TEST_F(DraftSessionTest, StopsAtTheEndOfItsContext) {
  std::vector<TokenId> prompt(126, 3);
  Start(1, prompt, kGreedy);
  Drain();
  prompt.push_back(4);
  session_->Handle(Rollout(1, 1, prompt, 125, 9));
  const auto progress = Only<RolloutProgress>(Drain());
  EXPECT_EQ(TokensOf(progress).size(), 2u);
  EXPECT_TRUE(progress.back().last);
}

TEST_F(DraftSessionTest, UnknownIdsAreFedAsSomethingAndNeverProposed) {
  Restart({}, {.max_proposed_tokens = 10});
  std::vector<TokenId> prompt = {5, 900, 70, 1};
  Start(1, prompt, kGreedy);
  Drain();
  prompt.push_back(64);
  session_->Handle(Rollout(1, 1, prompt, 0, 8));
  const std::vector<TokenId> tokens = TokensOf(Only<RolloutProgress>(Drain()));
  EXPECT_EQ(tokens.size(), 8u);
  for (const TokenId token : tokens) EXPECT_LT(token, 10);
}

TEST_F(DraftSessionTest, NanEndsTheRolloutAlone) {
  SamplingParameters broken = kGreedy;
  broken.logit_bias = {{3, std::nanf("")}};
  Start(1, kPrompt, broken);
  Start(2, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> tokens = kPrompt;
  tokens.push_back(30);
  session_->Handle(Rollout(1, 1, tokens, 0, 3));
  session_->Handle(Rollout(2, 1, tokens, 0, 3));
  int broken_messages = 0;
  std::vector<TokenId> good;
  for (const RolloutProgress& one : Only<RolloutProgress>(Drain())) {
    if (one.sequence_id == 1) {
      ++broken_messages;
      EXPECT_TRUE(one.last);
      EXPECT_TRUE(one.token_ids.empty());
    } else {
      good.insert(good.end(), one.token_ids.begin(), one.token_ids.end());
    }
  }
  EXPECT_EQ(broken_messages, 1);
  EXPECT_EQ(good, Truth(tokens, 3));
}

// Four sequences of two blocks each in a pool of four: the one used longest ago makes room.
TEST_F(DraftSessionTest, FullPoolEvictsTheLeastRecentlyUsed) {
  Restart({.num_kv_blocks = 5}, {.limits = {.max_sequences = 8, .max_rows = 64, .max_window = 4}});
  std::vector<TokenId> prompts[3];
  for (SequenceId id = 0; id < 3; ++id) {
    prompts[id] = kPrompt;
    prompts[id][0] = static_cast<TokenId>(id);
  }
  Start(0, prompts[0], kGreedy);
  Drain();
  clock_.now_ns += 1000;
  Start(1, prompts[1], kGreedy);
  Drain();
  clock_.now_ns += 1000;
  Start(2, prompts[2], kGreedy);
  EXPECT_EQ(Only<SequenceState>(Drain()).at(0).state, DraftSequenceState::kCatchingUp);
  EXPECT_FALSE(session_->HasWork()) << "catching up must not drive out what was used just now";

  // A rollout may: sequence 0 was used before sequence 1.
  prompts[2].push_back(7);
  session_->Handle(Rollout(2, 1, prompts[2], 0, 3));
  const std::vector<WorkerReport> reports = Drain();
  EXPECT_EQ(TokensOf(Only<RolloutProgress>(reports)), Truth(prompts[2], 3));
  std::vector<SequenceId> evicted;
  for (const SequenceState& state : Only<SequenceState>(reports)) {
    if (state.state == DraftSequenceState::kEvicted) evicted.push_back(state.sequence_id);
  }
  EXPECT_EQ(evicted, (std::vector<SequenceId>{0}));

  // When there is room again, it comes back by itself and rolls out as before.
  session_->Handle(EndSequence{1});
  bool ready = false;
  for (const SequenceState& state : Only<SequenceState>(Drain())) {
    ready |= state.sequence_id == 0 && state.state == DraftSequenceState::kReady;
  }
  EXPECT_TRUE(ready);
  prompts[0].push_back(9);
  session_->Handle(Rollout(0, 1, prompts[0], 0, 3));
  EXPECT_EQ(TokensOf(Only<RolloutProgress>(Drain())), Truth(prompts[0], 3));
}

TEST_F(DraftSessionTest, CatchingUpDrivesOutWhatIsIdle) {
  Restart({.num_kv_blocks = 3}, {.limits = {.max_sequences = 8, .max_rows = 64, .max_window = 4}});
  Start(1, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> other = kPrompt;
  other[0] = 6;
  Start(2, other, kGreedy);
  Drain();
  EXPECT_FALSE(session_->HasWork());
  clock_.now_ns += 5'000'000'000;
  EXPECT_TRUE(session_->HasWork());
  std::vector<std::pair<SequenceId, DraftSequenceState>> states;
  for (const SequenceState& s : Only<SequenceState>(WorkOnce())) {
    states.push_back({s.sequence_id, s.state});
  }
  EXPECT_EQ(states, (std::vector<std::pair<SequenceId, DraftSequenceState>>{
                        {1, DraftSequenceState::kEvicted}, {2, DraftSequenceState::kReady}}));
}

// What is larger than the whole pool is never ready, and never in the way.
TEST_F(DraftSessionTest, SequenceLargerThanThePool) {
  Restart({.num_kv_blocks = 2}, {});
  Start(1, std::vector<TokenId>(100, 3), kGreedy);
  Drain();
  EXPECT_FALSE(session_->HasWork());
  std::vector<TokenId> tokens(100, 3);
  tokens.push_back(4);
  session_->Handle(Rollout(1, 1, tokens, 0, 3));
  const auto progress = Only<RolloutProgress>(Drain());
  ASSERT_EQ(progress.size(), 1u);
  EXPECT_TRUE(progress[0].last);
  EXPECT_EQ(engine_->blocks().num_referenced(), 0);
}

TEST_F(DraftSessionTest, EndedAndBrokenSequencesAreAbsent) {
  Start(1, kPrompt, kGreedy);
  Drain();
  session_->Handle(EndSequence{1});
  auto states = Only<SequenceState>(Drain());
  ASSERT_EQ(states.size(), 1u);
  EXPECT_EQ(states[0].state, DraftSequenceState::kAbsent);
  EXPECT_EQ(states[0].blocks.free + states[0].blocks.evictable, states[0].blocks.total);
  session_->Handle(StartSequence{.sequence_id = 2, .prompt_length = 3, .total_length = 3});
  session_->Handle(AppendTokens{2, 2, {1}});  // a gap
  session_->Handle(StartSequence{.sequence_id = 3, .prompt_length = 0, .total_length = 3});
  session_->Handle(StartSequence{.sequence_id = 4, .prompt_length = 9, .total_length = 1000});
  session_->Handle(AppendTokens{4, 0, {1}});
  std::map<SequenceId, DraftSequenceState> last;
  for (const SequenceState& state : Only<SequenceState>(Drain())) {
    last[state.sequence_id] = state.state;
  }
  EXPECT_EQ(last.size(), 3u);
  for (const auto& [id, state] : last) EXPECT_EQ(state, DraftSequenceState::kAbsent) << id;
  EXPECT_EQ(session_->progress().num_sequences(), 0);
}

TEST_F(DraftSessionTest, ResetDropsEverything) {
  Start(1, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> tokens = kPrompt;
  tokens.push_back(30);
  session_->Handle(Rollout(1, 1, tokens, 0, 8));
  WorkOnce();
  session_->Reset();
  EXPECT_FALSE(session_->HasWork());
  EXPECT_EQ(engine_->blocks().num_free(), engine_->blocks().num_blocks());
}

// The acknowledged length follows, so that paths stay short.
TEST_F(DraftSessionTest, AcknowledgesCommittedKv) {
  Start(1, kPrompt, kGreedy);
  Drain();
  std::vector<TokenId> tokens = kPrompt;
  int32_t acknowledged = 21;
  for (RoundId round = 1; round <= 20; ++round) {
    tokens.push_back(static_cast<TokenId>(round));
    session_->Handle(Rollout(1, round, tokens, acknowledged, 2));
    const std::vector<WorkerReport> reports = Drain();
    EXPECT_EQ(Only<RolloutProgress>(reports).size(), 2u);
    for (const SequenceState& state : Only<SequenceState>(reports)) {
      EXPECT_EQ(state.state, DraftSequenceState::kReady);
      EXPECT_LT(state.draft_kv_length, static_cast<int32_t>(tokens.size()));
      acknowledged = state.draft_kv_length;
    }
    EXPECT_LE(static_cast<int32_t>(tokens.size()) - acknowledged, 18);
  }
}

}  // namespace
}  // namespace mirrorsd::workers
