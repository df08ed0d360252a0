// Sessions under commands drawn at random, most of which do not fit the state: no crash, one VerifyDone for
// every round with one entry for every item, blocks that add up, and everything free at the end.

#include <algorithm>
#include <map>
#include <random>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/workers/sessions/session_fixtures.h"

namespace mirrorsd::workers {
namespace {

constexpr int32_t kVocabulary = 48;
constexpr int kCommands = 4000;

class Hostile {
 public:
  explicit Hostile(uint64_t seed) : random_(seed) {}

  WorkerCommand Next() {
    switch (Below(12)) {
      case 0: case 1: return Start();
      case 2: case 3: case 4: return Append();
      case 5: case 6: case 7: return Verify();
      case 8: case 9: case 10: return Rollout();
      default: return Below(8) == 0 ? WorkerCommand(Drain{}) : WorkerCommand(EndSequence{Id()});
    }
  }

  // What a well-behaved peer would have learned: used half of the time, so that much does fit.
  std::map<SequenceId, int32_t> committed;
  std::map<SequenceId, int32_t> totals;

  uint32_t Below(uint32_t n) { return static_cast<uint32_t>(random_() % n); }

 private:
  SequenceId Id() { return 1 + Below(6); }
  int32_t Length() { return static_cast<int32_t>(Below(70)) - 4; }
  TokenId Token() {
    return Below(600) == 0 ? static_cast<TokenId>(Below(200)) - 60
                          : static_cast<TokenId>(Below(kVocabulary));
  }
  std::vector<TokenId> Tokens(uint32_t most) {
    std::vector<TokenId> tokens(Below(most + 1));
    for (TokenId& token : tokens) token = Token();
    return tokens;
  }
  int32_t Known(const std::map<SequenceId, int32_t>& map, SequenceId id) {
    const auto it = map.find(id);
    return it != map.end() && Below(5) != 0 ? it->second : Length();
  }

  WorkerCommand Start() {
    const SequenceId id = Id();
    const int32_t total = Below(10) == 0 ? Length() : 1 + static_cast<int32_t>(Below(60));
    StartSequence start{.sequence_id = id,
                        .prompt_length = Below(10) == 0 ? Length() : std::min(total, 5),
                        .total_length = total};
    start.sampling.temperature = static_cast<float>(Below(3));
    start.sampling.top_k = static_cast<int32_t>(Below(5));
    start.sampling.presence_penalty = static_cast<float>(Below(3));
    start.sampling.min_tokens = static_cast<int32_t>(Below(9));
    start.end_token_ids = Tokens(3);
    if (totals.emplace(id, total).second) committed[id] = 0;
    return start;
  }
  WorkerCommand Append() {
    const SequenceId id = Id();
    const int32_t at = Known(committed, id);
    const int32_t total = Known(totals, id);
    AppendTokens append{id, at, {}};
    const int32_t count = Below(4) == 0 ? std::max(Length(), 0) : std::max(total - at, 0);
    for (int32_t i = 0; i < count; ++i) append.token_ids.push_back(Token());
    if (at == committed[id]) committed[id] = at + count;
    return append;
  }
  WorkerCommand Verify() {
    StartVerify verify{.round_id = Below(1000)};
    for (uint32_t i = Below(5); i > 0; --i) {
      const SequenceId id = Id();
      VerifyItem item{.sequence_id = id,
                      .committed_length = Known(committed, id),
                      .is_prefill = Below(2) == 0,
                      .window = Below(3) == 0 ? Tokens(20) : std::vector<TokenId>{}};
      item.begin = Below(2) == 0 ? 0 : Length();
      item.end = Below(2) == 0 ? item.committed_length : Length();
      verify.items.push_back(std::move(item));
    }
    return verify;
  }
  WorkerCommand Rollout() {
    const SequenceId id = Id();
    // Mostly the sequence's latest round again, or the next one.
    RoundId& latest = rounds_[id];
    if (Below(3) != 0) ++latest;
    StartRollout rollout{.sequence_id = id, .round_id = Below(8) == 0 ? Below(1000) : latest};
    rollout.committed_length = Known(committed, id);
    rollout.path_offset = Below(2) == 0 ? 0 : Length();
    const int32_t path = rollout.committed_length - rollout.path_offset;
    rollout.path_tokens = Tokens(30);
    if (Below(4) != 0) rollout.path_tokens.resize(static_cast<size_t>(std::clamp(path, 0, 90)), 3);
    if (Below(2) == 0) windows_[id] = Tokens(Below(20) == 0 ? 90 : 5);
    rollout.window = windows_[id];
    for (uint32_t i = Below(Below(30) == 0 ? 300 : 8); i > 0; --i) {
      RolloutRoot root{.num_accepted = static_cast<int32_t>(Below(7)) - 1};
      if (Below(4) != 0) root.token = Token();
      if (Below(3) == 0) root.own_rank = static_cast<int32_t>(Below(12)) - 2;
      rollout.roots.push_back(root);
    }
    rollout.depth = Length();
    return rollout;
  }

  std::mt19937_64 random_;
  std::map<SequenceId, RoundId> rounds_;
  std::map<SequenceId, std::vector<TokenId>> windows_;
};

TEST(HostileCommandsTest, VerifierAnswersEveryRoundOnce) {
  int64_t good_items = 0, bad_items = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    auto engine = testing::MakeMicroEngine({.vocabulary_size = kVocabulary, .max_positions = 96},
                                           {.num_kv_blocks = 8});
    VerifierSession session(engine.get(), {.limits = {4, 80, 10}});
    Hostile hostile(seed);
    std::vector<std::pair<RoundId, size_t>> asked, answered;
    const auto hear = [&](const WorkerReport& report) {
      if (const auto* done = std::get_if<VerifyDone>(&report)) {
        answered.push_back({done->round_id, done->items.size()});
        for (const VerifyItemDone& item : done->items) {
          ++(item.error.has_value() ? bad_items : good_items);
          if (item.correction_token.has_value()) {
            hostile.committed[item.sequence_id] += item.num_accepted + 1;
          }
        }
      }
    };
    for (int i = 0; i < kCommands; ++i) {
      WorkerCommand command = hostile.Next();
      if (const auto* verify = std::get_if<StartVerify>(&command)) {
        asked.push_back({verify->round_id, verify->items.size()});
      }
      if (const auto* end = std::get_if<EndSequence>(&command)) {
        hostile.committed.erase(end->sequence_id);
        hostile.totals.erase(end->sequence_id);
      }
      session.Handle(std::move(command));
      if (session.HasWork() && hostile.Below(3) != 0) session.Work(hear);
      if (i % 50 == 0) {
        ASSERT_EQ(engine->blocks().CheckInvariants(), absl::OkStatus());
      }
    }
    while (session.HasWork()) session.Work(hear);
    std::sort(asked.begin(), asked.end());
    std::sort(answered.begin(), answered.end());
    EXPECT_EQ(asked, answered);
    for (SequenceId id = 1; id <= 6; ++id) session.Handle(EndSequence{id});
    EXPECT_EQ(engine->blocks().num_referenced(), 0);
  }
  EXPECT_GT(good_items, 200);
  EXPECT_GT(bad_items, 200);
}

TEST(HostileCommandsTest, DraftNeverHangsOrLeaks) {
  int64_t proposed = 0, refused = 0, evicted = 0;
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    auto engine = testing::MakeMicroEngine({.vocabulary_size = kVocabulary, .max_positions = 96},
                                           {.num_kv_blocks = 8});
    DraftSession session(engine.get(), {.limits = {4, 64, 6}, .catch_up_chunk_tokens = 16});
    Hostile hostile(seed + 100);
    const auto hear = [&](const WorkerReport& report) {
      if (const auto* progress = std::get_if<RolloutProgress>(&report)) {
        proposed += static_cast<int64_t>(progress->token_ids.size());
        refused += progress->token_ids.empty() ? 1 : 0;
        for (const TokenId token : progress->token_ids) {
          ASSERT_GE(token, 0);
          ASSERT_LT(token, kVocabulary);
        }
      } else if (const auto* state = std::get_if<SequenceState>(&report)) {
        evicted += state->state == DraftSequenceState::kEvicted ? 1 : 0;
        ASSERT_GE(state->draft_kv_length, 0);
      }
    };
    for (int i = 0; i < kCommands; ++i) {
      WorkerCommand command = hostile.Next();
      if (const auto* end = std::get_if<EndSequence>(&command)) {
        hostile.committed.erase(end->sequence_id);
        hostile.totals.erase(end->sequence_id);
      }
      session.Handle(std::move(command));
      if (session.HasWork() && hostile.Below(3) != 0) session.Work(hear);
      if (i % 50 == 0) {
        ASSERT_EQ(engine->blocks().CheckInvariants(), absl::OkStatus());
      }
    }
    int steps = 0;
    for (; session.HasWork() && steps < 1000; ++steps) session.Work(hear);
    EXPECT_LT(steps, 1000);
    for (SequenceId id = 1; id <= 6; ++id) session.Handle(EndSequence{id});
    EXPECT_EQ(engine->blocks().num_referenced(), 0);
  }
  EXPECT_GT(proposed, 200);
  EXPECT_GT(refused, 200);
  EXPECT_GT(evicted, 10);
}

}  // namespace
}  // namespace mirrorsd::workers
