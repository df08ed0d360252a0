// The draft's trees against the model alone: over rounds drawn at random, every token of every branch is what the
// model says after the branch's path, computed from nothing, whatever was promoted, added, replaced, cancelled,
// evicted or forwarded before it; scores too, bit for bit.

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/workers/sessions/draft_tree_fixtures.h"
#include "workers/draft/draft_session.h"

namespace mirrorsd::workers {
namespace {

constexpr int32_t kVocabulary = 32;
constexpr int32_t kContext = 160;
constexpr int32_t kMaxDepth = 6;
constexpr int32_t kPromptLength = 21;

using Key = std::pair<int32_t, TokenId>;  // num_accepted, root

struct Heard {
  std::vector<TokenId> tokens;
  bool last = false;
};

// One request as its scheduler sees it.
struct Request {
  SequenceId id = 0;
  std::vector<TokenId> tokens;  // committed
  std::vector<TokenId> window;
  RoundId round_id = 0;
  int32_t kv_length = 0;
  bool is_ready = false;
  bool is_absent = false;
  std::map<Key, Heard> branches;                     // of the latest round
  std::map<Key, int32_t> asked;                      // by token: the depth
  std::map<std::pair<int32_t, int32_t>, int32_t> own;  // by own rank: the depth
  bool was_evicted = false;                          // in the latest round
};

struct Setting {
  uint64_t seed = 0;
  SamplingParameters sampling;
  int32_t num_blocks = 256;
  int32_t max_rows = 1024;
  int32_t max_logits_rows = 1024;
  std::string backend = "cpu";
  bool is_ample = true;  // of rows and blocks: nothing may be refused
  int num_steps = 700;
};

class ManualClock : public engine::Clock {
 public:
  int64_t NowNs() override { return now_ns; }
  int64_t now_ns = 1'000'000'000;
};

class Driver {
 public:
  explicit Driver(const Setting& setting)
      : setting_(setting),
        random_(setting.seed),
        reference_(Model(), setting.sampling, kPromptLength, setting.backend),
        engine_(testing::MakeMicroEngine(
            Model(), {.backend = setting.backend,
                      .num_kv_blocks = setting.num_blocks,
                      .max_logits_rows = setting.max_logits_rows})),
        session_(engine_.get(), {.limits = {.max_sequences = 8,
                                            .max_rows = setting.max_rows,
                                            .max_window = kMaxDepth},
                                 .catch_up_chunk_tokens = 16,
                                 .clock = &clock_}) {}

  void Run(int num_steps) {
    for (int step = 0; step < num_steps && !::testing::Test::HasFailure(); ++step) {
      clock_.now_ns += Below(50) == 0 ? 3'000'000'000 : 1'000'000;
      Act();
      for (uint32_t i = Below(4); i > 0 && session_.HasWork(); --i) Work();
      if (step % 16 == 0) Settle();
    }
    Settle();
    for (const auto& [id, request] : requests_) session_.Handle(EndSequence{id});
    EXPECT_EQ(engine_->blocks().num_referenced(), 0);
    EXPECT_EQ(engine_->blocks().CheckInvariants(), absl::OkStatus());
  }

  int64_t num_tokens = 0, num_at_once = 0, num_hits = 0, num_evicted = 0, num_branches = 0;

 private:
  static testing::MicroModelOptions Model() {
    return {.vocabulary_size = kVocabulary, .max_positions = kContext, .seed = 5};
  }

  uint32_t Below(size_t n) { return static_cast<uint32_t>(random_() % n); }
  TokenId Token() { return static_cast<TokenId>(Below(kVocabulary)); }

  void Act() {
    if (requests_.size() < 4 && Below(4) == 0) return Start();
    if (requests_.empty()) return Start();
    auto it = requests_.begin();
    std::advance(it, Below(requests_.size()));
    Request& request = it->second;
    const size_t length = request.tokens.size() + request.window.size();
    if (length + 2 * kMaxDepth > kContext || Below(60) == 0) {
      session_.Handle(EndSequence{request.id});
      requests_.erase(it);
      return;
    }
    if (request.round_id != 0 && Below(3) == 0) return AddRoots(&request);
    NextRound(&request);
  }

  void Start() {
    Request request{.id = ++last_id_};
    for (int32_t i = 0; i < kPromptLength; ++i) {
      request.tokens.push_back(i < 16 ? static_cast<TokenId>(i * 5 % kVocabulary) : Token());
    }
    session_.Handle(StartSequence{.sequence_id = request.id,
                                  .sampling = setting_.sampling,
                                  .prompt_length = kPromptLength,
                                  .total_length = kPromptLength});
    session_.Handle(AppendTokens{request.id, 0, request.tokens});
    requests_[request.id] = std::move(request);
  }

  // What the round came to be: mostly a branch, with its tokens as the next window.
  void Decide(Request* request) {
    std::vector<std::pair<Key, Heard>> branches(request->branches.begin(), request->branches.end());
    std::vector<TokenId> window;
    if (!branches.empty() && Below(3) != 0) {
      const auto& [key, heard] = branches[Below(branches.size())];
      Commit(request, key.first, key.second);
      window.assign(heard.tokens.begin(),
                    heard.tokens.begin() + Below(heard.tokens.size() + 1));
      ++num_hits;
    } else if (Below(4) != 0) {
      Commit(request, static_cast<int32_t>(Below(request->window.size() + 1)), Token());
    }
    if (Below(4) == 0) {  // other tokens, or a part of it and others
      for (uint32_t i = Below(4); i > 0; --i) window.push_back(Token());
    }
    request->window = std::move(window);
  }

  static void Commit(Request* request, int32_t num_accepted, TokenId root) {
    request->tokens.insert(request->tokens.end(), request->window.begin(),
                           request->window.begin() + num_accepted);
    request->tokens.push_back(root);
  }

  void NextRound(Request* request) {
    Decide(request);
    ++request->round_id;
    request->branches.clear();
    request->asked.clear();
    request->own.clear();
    request->was_evicted = false;
    StartRollout rollout = Round(*request);
    rollout.roots.push_back({.num_accepted = WindowSize(*request), .own_rank = 0});
    if (Below(4) == 0) rollout.roots.clear();
    AddSomeRoots(*request, &rollout);
    Ask(request, rollout);
  }

  void AddRoots(Request* request) {
    StartRollout rollout = Round(*request);
    AddSomeRoots(*request, &rollout);
    Ask(request, rollout);
  }

  static int32_t WindowSize(const Request& request) {
    return static_cast<int32_t>(request.window.size());
  }

  StartRollout Round(const Request& request) {
    const int32_t offset =
        std::min({request.kv_length, static_cast<int32_t>(request.tokens.size())});
    return {.sequence_id = request.id,
            .round_id = request.round_id,
            .committed_length = static_cast<int32_t>(request.tokens.size()),
            .path_offset = offset,
            .path_tokens = {request.tokens.begin() + offset, request.tokens.end()},
            .window = request.window,
            .depth = 1 + static_cast<int32_t>(Below(kMaxDepth))};
  }

  void AddSomeRoots(const Request& request, StartRollout* rollout) {
    for (uint32_t i = 1 + Below(4); i > 0; --i) {
      RolloutRoot root{.num_accepted = static_cast<int32_t>(Below(request.window.size() + 1))};
      if (Below(2) == 0) {
        root.own_rank = static_cast<int32_t>(Below(4));
      } else if (Below(2) == 0) {
        const auto& ranks = reference_.Ranks(PathTo(request, root.num_accepted));
        root.token = ranks[Below(ranks.size())].token;
      } else {
        root.token = Token();
      }
      rollout->roots.push_back(root);
    }
  }

  static std::vector<TokenId> PathTo(const Request& request, int32_t num_accepted) {
    std::vector<TokenId> path = request.tokens;
    path.insert(path.end(), request.window.begin(), request.window.begin() + num_accepted);
    return path;
  }

  void Ask(Request* request, const StartRollout& rollout) {
    for (const RolloutRoot& root : rollout.roots) {
      if (root.token.has_value()) {
        request->asked.try_emplace({root.num_accepted, *root.token}, rollout.depth);
      } else {
        request->own.try_emplace({root.num_accepted, root.own_rank}, rollout.depth);
      }
    }
    session_.Handle(rollout);
  }

  void Work() {
    const int64_t rounds = session_.progress().num_rounds_done();
    session_.Work([this, rounds](const WorkerReport& report) {
      if (const auto* progress = std::get_if<RolloutProgress>(&report)) {
        const bool at_once = session_.progress().num_rounds_done() == rounds;
        num_at_once += at_once ? static_cast<int64_t>(progress->token_ids.size()) : 0;
        Hear(*progress);
      } else if (const auto* state = std::get_if<SequenceState>(&report)) {
        Hear(*state);
      }
    });
  }

  void Hear(const SequenceState& state) {
    const auto it = requests_.find(state.sequence_id);
    if (it == requests_.end()) return;
    ASSERT_NE(state.state, DraftSequenceState::kAbsent);
    it->second.kv_length = state.draft_kv_length;
    it->second.was_evicted |= state.state == DraftSequenceState::kEvicted;
    num_evicted += state.state == DraftSequenceState::kEvicted ? 1 : 0;
  }

  void Hear(const RolloutProgress& progress) {
    const auto it = requests_.find(progress.sequence_id);
    if (it == requests_.end()) return;
    Request& request = it->second;
    if (progress.round_id != request.round_id) {
      ADD_FAILURE() << "said of a replaced tree";
      return;
    }
    const Key key = {progress.num_accepted, progress.root_token};
    const auto [heard, is_new] = request.branches.try_emplace(key);
    num_branches += is_new ? 1 : 0;
    ASSERT_LE(progress.num_accepted, WindowSize(request));
    ASSERT_TRUE(is_new ? IsAsked(request, key) : true) << "nobody asked for this branch";
    ASSERT_FALSE(heard->second.last) << "after the last";
    std::vector<TokenId>& tokens = heard->second.tokens;
    ASSERT_EQ(progress.first_depth, static_cast<int32_t>(tokens.size()));
    ASSERT_TRUE(progress.last || !progress.token_ids.empty());
    heard->second.last = progress.last;
    std::vector<TokenId> path = PathTo(request, progress.num_accepted);
    path.push_back(progress.root_token);
    path.insert(path.end(), tokens.begin(), tokens.end());
    for (size_t i = 0; i < progress.token_ids.size(); ++i) {
      const Candidate& want = reference_.Ranks(path).front();
      ASSERT_EQ(progress.token_ids[i], want.token)
          << "sequence " << request.id << ", round " << request.round_id << ", branch ("
          << key.first << ", " << key.second << "), depth " << tokens.size();
      ASSERT_EQ(progress.scores[i], want.score)
          << "off by " << progress.scores[i] - want.score << ", depth " << tokens.size() << ", of "
          << progress.token_ids.size() << ", at " << path.size();
      path.push_back(want.token);
      tokens.push_back(want.token);
      ++num_tokens;
    }
  }

  // The token that an own rank means, or -1 where there is none.
  TokenId OwnToken(const Request& request, int32_t num_accepted, int32_t rank) {
    const size_t next = static_cast<size_t>(num_accepted);
    for (const Candidate& one : reference_.Ranks(PathTo(request, num_accepted))) {
      if (next < request.window.size() && request.window[next] == one.token) continue;
      if (rank-- == 0) return one.token;
    }
    return -1;
  }

  bool IsAsked(const Request& request, const Key& key) {
    if (request.asked.contains(key)) return true;
    return std::any_of(request.own.begin(), request.own.end(), [&](const auto& one) {
      return one.first.first == key.first &&
             OwnToken(request, key.first, one.first.second) == key.second;
    });
  }

  // When there is no more work, everything that was asked for is there.
  void Settle() {
    for (int i = 0; session_.HasWork(); ++i) {
      ASSERT_LT(i, 10'000) << "work without end";
      Work();
      if (::testing::Test::HasFailure()) return;
    }
    ASSERT_EQ(engine_->blocks().CheckInvariants(), absl::OkStatus());
    for (auto& [id, request] : requests_) {
      std::map<Key, int32_t> wanted = request.asked;
      for (const auto& [own, depth] : request.own) {
        const TokenId token = OwnToken(request, own.first, own.second);
        if (token >= 0) wanted.try_emplace({own.first, token}, 0);
      }
      for (const auto& [key, depth] : wanted) {
        const auto it = request.branches.find(key);
        if (it == request.branches.end() && !setting_.is_ample) continue;
        ASSERT_TRUE(it != request.branches.end())
            << "nothing of branch (" << key.first << ", " << key.second << ") of sequence " << id;
        ASSERT_TRUE(it->second.last);
        if (setting_.is_ample) {
          ASSERT_GE(it->second.tokens.size(), depth > 0 ? 1u : 0u);
          ASSERT_LE(static_cast<int32_t>(it->second.tokens.size()), kMaxDepth);
        }
      }
    }
  }

  const Setting setting_;
  std::mt19937_64 random_;
  ManualClock clock_;
  testing::DraftReference reference_;
  std::unique_ptr<engine::Engine> engine_;
  DraftSession session_;
  std::map<SequenceId, Request> requests_;
  SequenceId last_id_ = 0;
};

SamplingParameters Sampled() { return {.temperature = 0.9f, .seed = 11}; }
SamplingParameters Penalized() {
  return {.temperature = 1.0f,
          .top_k = 12,
          .repetition_penalty = 1.3f,
          .presence_penalty = 0.6f,
          .frequency_penalty = 0.4f,
          .seed = 12};
}

class DraftRollout : public ::testing::TestWithParam<Setting> {};

TEST_P(DraftRollout, SaysWhatTheModelSaysAfterEachPath) {
  Driver driver(GetParam());
  driver.Run(GetParam().num_steps);
  EXPECT_GT(driver.num_tokens, GetParam().num_steps / 2);
  EXPECT_GT(driver.num_branches, GetParam().num_steps / 3);
  EXPECT_GT(driver.num_hits, GetParam().num_steps / 7);
  EXPECT_GT(driver.num_at_once, GetParam().num_steps / 35);
  if (!GetParam().is_ample && GetParam().num_blocks < 64) {
    EXPECT_GT(driver.num_evicted, 3);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Ample, DraftRollout,
    ::testing::Values(Setting{.seed = 1, .sampling = {.temperature = 0.0f}},
                      Setting{.seed = 2, .sampling = Sampled()},
                      Setting{.seed = 3, .sampling = Penalized()},
                      Setting{.seed = 4, .sampling = {.temperature = 0.0f}, .backend = "naive",
                              .num_steps = 120}));

INSTANTIATE_TEST_SUITE_P(
    Scarce, DraftRollout,
    ::testing::Values(
        Setting{.seed = 11, .sampling = {.temperature = 0.0f}, .num_blocks = 14, .is_ample = false},
        Setting{.seed = 12, .sampling = Penalized(), .num_blocks = 10, .is_ample = false},
        Setting{.seed = 13, .sampling = Sampled(), .num_blocks = 20, .max_rows = 7,
                .max_logits_rows = 7, .is_ample = false},
        Setting{.seed = 14, .sampling = {.temperature = 0.0f}, .max_rows = 5, .max_logits_rows = 7},
        Setting{.seed = 15, .sampling = Sampled(), .max_rows = 40, .max_logits_rows = 8}));

}  // namespace
}  // namespace mirrorsd::workers
