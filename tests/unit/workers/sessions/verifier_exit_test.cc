// What the verifier reports at its early exit: each row against a reference that computes the exit on an engine of
// its own and sorts everything, and the outcome of rounds with exits against rounds without.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/error.h"
#include "gtest/gtest.h"
#include "tests/support/reference_sampler.h"
#include "tests/unit/workers/sessions/session_fixtures.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/verifier/verifier_session.h"

namespace mirrorsd::workers {
namespace {

constexpr int32_t kVocabulary = 200;
constexpr int32_t kLayers = 5;
constexpr TokenId kEnd = 3;
// The exit gives noise to its largest processed logits only.
constexpr int32_t kNoiseTop = 64;
constexpr float kLowest = std::numeric_limits<float>::lowest();

testing::MicroModelOptions Model() {
  return {.vocabulary_size = kVocabulary, .num_layers = kLayers, .max_positions = 200};
}

// Every call is a microsecond later.
class TickingClock : public engine::Clock {
 public:
  int64_t NowNs() override { return now_ns_ += 1000; }

 private:
  int64_t now_ns_ = 0;
};

// What an engine did, in words.
class Recorder : public engine::StepHook {
 public:
  void OnPassBegin(const engine::PassShape&) override { log.push_back("begin"); }
  void OnLayers(int32_t begin, int32_t end) override {
    log.push_back("layers " + std::to_string(begin) + " " + std::to_string(end));
  }
  void OnHead(int32_t layers_done, int32_t num_rows) override {
    log.push_back("head " + std::to_string(layers_done) + " of " + std::to_string(num_rows));
  }
  std::vector<std::string> log;
};

// One verifier and the truth about its sequences.
struct Verifier {
  explicit Verifier(int32_t early_exit_layer, engine::EngineOptions options = {})
      : engine(testing::MakeMicroEngine(Model(), std::move(options))),
        session(engine.get(), {.early_exit_layer = early_exit_layer, .clock = &clock}) {}

  void Start(SequenceId id, const std::vector<TokenId>& prompt, const SamplingParameters& sampling) {
    const int32_t length = static_cast<int32_t>(prompt.size());
    session.Handle(StartSequence{.sequence_id = id,
                                 .sampling = sampling,
                                 .end_token_ids = {kEnd},
                                 .prompt_length = length,
                                 .total_length = length});
    session.Handle(AppendTokens{id, 0, prompt});
  }

  // Runs one round; its exit report, if there was one.
  VerifyDone Round(std::vector<VerifyItem> items, std::optional<EarlyExitReported>* exit = nullptr) {
    session.Handle(StartVerify{++round_id, std::move(items)});
    VerifyDone done;
    int num_exits = 0;
    while (session.HasWork()) {
      session.Work([&](WorkerReport report) {
        if (auto* one = std::get_if<VerifyDone>(&report)) done = std::move(*one);
        if (auto* one = std::get_if<EarlyExitReported>(&report)) {
          ++num_exits;
          EXPECT_EQ(done.round_id, 0u) << "after its VerifyDone";
          EXPECT_EQ(one->round_id, round_id);
          EXPECT_GT(one->sent_at_ns, 0);
          if (exit != nullptr) *exit = std::move(*one);
        }
      });
    }
    EXPECT_LE(num_exits, 1);
    EXPECT_EQ(done.round_id, round_id);
    return done;
  }

  TickingClock clock;
  std::unique_ptr<engine::Engine> engine;
  VerifierSession session;
  RoundId round_id = 0;
};

VerifyItem Chunk(SequenceId id, int32_t length, int32_t begin, int32_t end, int32_t top_k) {
  return {.sequence_id = id, .committed_length = length, .is_prefill = true, .begin = begin,
          .end = end, .branch_top_k = top_k};
}
VerifyItem Window(SequenceId id, int32_t length, std::vector<TokenId> window, int32_t top_k) {
  return {.sequence_id = id, .committed_length = length, .window = std::move(window),
          .branch_top_k = top_k};
}

// Exit logits of the last rows of `tokens`, from an engine that does nothing else.
class Reference {
 public:
  Reference() : engine_(testing::MakeMicroEngine(Model())) {}

  std::vector<std::vector<double>> ExitLogits(const std::vector<TokenId>& tokens, int32_t num_rows,
                                              int32_t early_exit_layer) {
    engine::SequenceCache cache(&engine_->blocks());
    CHECK(cache.Reserve(static_cast<int32_t>(tokens.size())));
    engine::SequenceRows rows{.token_ids = tokens,
                              .block_table = cache.block_table(),
                              .logits_begin = static_cast<int32_t>(tokens.size()) - num_rows};
    CHECK(engine_->BeginPass({rows}).ok());
    engine_->RunLayers(0, early_exit_layer);
    const engine::Logits logits = *engine_->Head();
    std::vector<std::vector<double>> result;
    for (int32_t r = 0; r < num_rows; ++r) result.emplace_back(logits.Row(r).begin(), logits.Row(r).end());
    return result;
  }

 private:
  std::unique_ptr<engine::Engine> engine_;
};

// Compares one row with what the reference says of `logits` after prompt and output.
void ExpectRow(const EarlyExitRow& row, std::vector<double> logits, const SamplingParameters& sampling,
               const std::vector<TokenId>& prompt, const std::vector<TokenId>& output,
               std::optional<TokenId> drafted, int32_t top_k) {
  const std::vector<double> processed =
      testing::ReferenceProcess(std::move(logits), sampling, {kEnd}, prompt, output);
  const NoiseKey key{sampling.seed, sampling.sample_index, static_cast<uint32_t>(output.size())};
  const auto score = [&](TokenId token) {
    const bool greedy = sampling.temperature == 0;
    return processed[token] + (greedy ? 0.0 : double{GumbelNoise(key, token)});
  };
  std::vector<TokenId> order;
  for (TokenId x = 0; x < kVocabulary; ++x) {
    if (std::isfinite(processed[x])) order.push_back(x);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](TokenId a, TokenId b) { return processed[a] > processed[b]; });
  order.resize(std::min<size_t>(order.size(), kNoiseTop));
  std::erase_if(order, [&](TokenId x) { return x == drafted; });
  std::stable_sort(order.begin(), order.end(), [&](TokenId a, TokenId b) { return score(a) > score(b); });

  ASSERT_EQ(row.drafted_score.has_value(), drafted.has_value());
  if (drafted.has_value()) {
    if (std::isfinite(processed[*drafted])) {
      EXPECT_NEAR(*row.drafted_score, score(*drafted), 1e-3);
    } else {
      EXPECT_EQ(*row.drafted_score, kLowest);
    }
  }
  ASSERT_EQ(row.candidates.size(), std::min<size_t>(order.size(), top_k));
  for (size_t k = 0; k < row.candidates.size(); ++k) {
    EXPECT_NEAR(row.candidates[k].score, score(order[k]), 1e-3);
    EXPECT_NEAR(row.candidates[k].score, score(row.candidates[k].token), 1e-3);
    const bool clear = k + 1 == order.size() || score(order[k]) - score(order[k + 1]) > 1e-3;
    const bool clear_before = k == 0 || score(order[k - 1]) - score(order[k]) > 1e-3;
    if (clear && clear_before) {
      EXPECT_EQ(row.candidates[k].token, order[k]) << k;
    }
  }
}

const SamplingParameters kSettings[] = {
    {.temperature = 0.0f},
    {.temperature = 0.0f, .repetition_penalty = 1.3f, .presence_penalty = 0.8f,
     .frequency_penalty = 0.5f},
    {.temperature = 1.0f},
    {.temperature = 0.7f, .repetition_penalty = 1.2f, .frequency_penalty = 1.5f,
     .logit_bias = {{5, 4.0f}, {9, -3.0f}}},
    {.temperature = 1.0f, .min_tokens = 3, .logit_bias = {{kEnd, 9.0f}}},
    {.temperature = 0.0f, .min_tokens = 4, .logit_bias = {{kEnd, 9.0f}}},
    {.temperature = 0.9f, .top_k = 5},
    {.temperature = 1.3f, .top_p = 0.8f},
    {.temperature = 0.8f, .min_p = 0.05f},
    {.temperature = 1.1f, .top_k = 30, .top_p = 0.95f, .min_p = 0.01f, .presence_penalty = 1.0f},
};

// Windows of every length, true and false tokens mixed, the end token among them; K from 1 to 8.
TEST(VerifierExitTest, EveryRowIsWhatTheReferenceSays) {
  Reference reference;
  int32_t num_windows = 0, top_k = 1, num_masked = 0;
  for (int32_t exit_layer = 1; exit_layer < kLayers; ++exit_layer) {
    Verifier verifier(exit_layer);
    for (size_t i = 0; i < std::size(kSettings); ++i) {
      SamplingParameters sampling = kSettings[i];
      sampling.seed = 40 + i;
      const std::vector<TokenId> prompt = testing::MakePrompt(i + 3, kVocabulary);
      const int32_t prompt_length = static_cast<int32_t>(prompt.size());
      const SequenceId id = 1 + i;
      verifier.Start(id, prompt, sampling);
      std::vector<TokenId> output;
      for (int32_t round = 0; round < 8; ++round) {
        const int32_t size = round == 0 ? 0 : (round + static_cast<int32_t>(i)) % 6;
        std::vector<TokenId> window;
        for (int32_t g = 0; g < size; ++g) {
          window.push_back(g == 2 ? kEnd : static_cast<TokenId>((round * 31 + g * 7 + i) % kVocabulary));
        }
        std::vector<TokenId> tokens = prompt;
        tokens.insert(tokens.end(), output.begin(), output.end());
        const int32_t length = static_cast<int32_t>(tokens.size());
        tokens.insert(tokens.end(), window.begin(), window.end());
        top_k = top_k % 8 + 1;
        std::optional<EarlyExitReported> exit;
        const VerifyDone done = verifier.Round(
            {round == 0 ? Chunk(id, prompt_length, 0, prompt_length, top_k) : Window(id, length, window, top_k)},
            &exit);
        ASSERT_TRUE(exit.has_value());
        ASSERT_EQ(exit->items.size(), 1u);
        ASSERT_EQ(exit->items[0].sequence_id, id);
        ASSERT_EQ(exit->items[0].rows.size(), static_cast<size_t>(size) + 1);
        const auto logits = reference.ExitLogits(tokens, size + 1, exit_layer);
        std::vector<TokenId> before = output;
        for (int32_t r = 0; r <= size; ++r) {
          SCOPED_TRACE(::testing::Message() << "setting " << i << " layer " << exit_layer << " round " << round
                                          << " row " << r);
          std::optional<TokenId> drafted;
          if (r < size) drafted = window[r];
          ExpectRow(exit->items[0].rows[r], logits[r], sampling, prompt, before, drafted, top_k);
          num_masked += exit->items[0].rows[r].drafted_score == kLowest;
          if (drafted.has_value()) before.push_back(*drafted);
        }
        const VerifyItemDone& item = done.items.at(0);
        ASSERT_TRUE(item.correction_token.has_value());
        output.insert(output.end(), window.begin(), window.begin() + item.num_accepted);
        output.push_back(*item.correction_token);
        ++num_windows;
      }
    }
  }
  EXPECT_EQ(num_windows, 8 * 10 * (kLayers - 1));
  EXPECT_GT(num_masked, 20);
}

// Rounds of several sequences, some of which ask: the outcomes, tokens and KV alike, are those of a verifier
// that nobody asks, and of one that is cut elsewhere.
TEST(VerifierExitTest, ExitsChangeNoOutcome) {
  Verifier plain(1), asked(1), elsewhere(kLayers - 1), alone(2);
  constexpr size_t kNum = std::size(kSettings);
  constexpr int32_t kRounds = 20;
  std::vector<std::vector<TokenId>> prompts(kNum), tokens(kNum), truth(kNum);
  std::vector<VerifyItem> items;
  for (size_t i = 0; i < kNum; ++i) {
    SamplingParameters sampling = kSettings[i];
    sampling.seed = 7 + i;
    prompts[i] = tokens[i] = testing::MakePrompt(i, kVocabulary);
    for (Verifier* one : {&plain, &asked, &elsewhere, &alone}) one->Start(1 + i, prompts[i], sampling);
    const int32_t length = static_cast<int32_t>(prompts[i].size());
    for (int32_t t = 0; t < 4 * (kRounds + 1); ++t) {
      const VerifyItem item = t == 0 ? Chunk(1 + i, length, 0, length, 0) : Window(1 + i, length + t, {}, 0);
      truth[i].push_back(alone.Round({item}).items[0].correction_token.value());
    }
    items.push_back(Chunk(1 + i, length, 0, length, 0));
  }
  int64_t num_accepted = 0, num_rejected = 0, num_exits = 0;
  for (int32_t round = 0; round < kRounds; ++round) {
    std::vector<VerifyItem> asking = items;
    for (size_t i = 0; i < kNum; ++i) asking[i].branch_top_k = (round + static_cast<int32_t>(i)) % 9;
    std::optional<EarlyExitReported> none, exit;
    const VerifyDone expected = plain.Round(items, &none);
    EXPECT_FALSE(none.has_value());
    const VerifyDone done = asked.Round(asking, &exit);
    num_exits += static_cast<int64_t>(exit.value().items.size());
    const VerifyDone other = elsewhere.Round(asking);
    for (size_t i = 0; i < kNum; ++i) {
      const VerifyItemDone& item = expected.items[i];
      ASSERT_TRUE(item.correction_token.has_value());
      for (const VerifyDone* one : {&done, &other}) {
        EXPECT_EQ(one->items[i].correction_token, item.correction_token) << round << " " << i;
        EXPECT_EQ(one->items[i].num_accepted, item.num_accepted);
        EXPECT_EQ(one->items[i].kv_length, item.kv_length);
      }
      const size_t window = items[i].window.size();
      tokens[i].insert(tokens[i].end(), items[i].window.begin(), items[i].window.begin() + item.num_accepted);
      tokens[i].push_back(*item.correction_token);
      ASSERT_EQ(tokens[i].back(), truth[i][tokens[i].size() - prompts[i].size() - 1]);
      num_accepted += item.num_accepted;
      num_rejected += static_cast<size_t>(item.num_accepted) < window;
      // The next window: what will be, but for one token in most rounds.
      const size_t at = tokens[i].size() - prompts[i].size();
      std::vector<TokenId> next(truth[i].begin() + at, truth[i].begin() + at + 3);
      const size_t wrong_at = (round + i) % 4;
      if (wrong_at < 3) next[wrong_at] = (next[wrong_at] + 1) % kVocabulary;
      items[i] = Window(1 + i, static_cast<int32_t>(tokens[i].size()), std::move(next), 0);
    }
  }
  EXPECT_GT(num_accepted, 200);
  EXPECT_GT(num_rejected, 100);
  EXPECT_GT(num_exits, 100);
}

// The report leaves before the layers after the exit run; the exit's head is for those rows alone that ask.
TEST(VerifierExitTest, OnlyRowsThatAskAreComputedAndTheReportLeavesInTheMiddle) {
  auto recorder = std::make_shared<Recorder>();
  Verifier verifier(2, {.step_hook = recorder});
  for (SequenceId id = 1; id <= 4; ++id) verifier.Start(id, testing::MakePrompt(id, kVocabulary), {});
  const auto length = [](SequenceId id) {
    return static_cast<int32_t>(testing::MakePrompt(id, kVocabulary).size());
  };
  verifier.Round({Chunk(1, length(1), 0, length(1), 0), Chunk(2, length(2), 0, length(2), 0)});

  recorder->log.clear();
  verifier.session.Handle(StartVerify{
      9,
      {Window(1, length(1) + 1, {4, 5, 6}, 0), Window(2, length(2) + 1, {7, 8}, 4),
       Chunk(3, length(3), 0, 2, 5), Window(99, 5, {1}, 3), Chunk(4, length(4), 0, length(4), 2)}});
  EarlyExitReported exit;
  VerifyDone done;
  while (verifier.session.HasWork()) {
    verifier.session.Work([&](WorkerReport report) {
      if (auto* one = std::get_if<EarlyExitReported>(&report)) {
        recorder->log.push_back("exit");
        exit = std::move(*one);
      } else if (auto* one = std::get_if<VerifyDone>(&report)) {
        recorder->log.push_back("done");
        done = std::move(*one);
      }
    });
  }
  EXPECT_EQ(recorder->log, (std::vector<std::string>{"begin", "layers 0 2", "head 2 of 4", "exit",
                                                     "layers 2 5", "head 5 of 8", "done"}));
  // The window's three rows and the prompt's last one. An inner chunk and one that failed have none.
  ASSERT_EQ(exit.items.size(), 2u);
  EXPECT_EQ(exit.items[0].sequence_id, 2u);
  ASSERT_EQ(exit.items[0].rows.size(), 3u);
  EXPECT_TRUE(exit.items[0].rows[1].drafted_score.has_value());
  EXPECT_FALSE(exit.items[0].rows[2].drafted_score.has_value());
  EXPECT_EQ(exit.items[0].rows[0].candidates.size(), 4u);
  EXPECT_EQ(exit.items[1].sequence_id, 4u);
  ASSERT_EQ(exit.items[1].rows.size(), 1u);
  EXPECT_FALSE(exit.items[1].rows[0].drafted_score.has_value());
  EXPECT_EQ(exit.items[1].rows[0].candidates.size(), 2u);
  EXPECT_EQ(done.items[3].error->reason, "UNKNOWN_SEQUENCE");

  EXPECT_GT(exit.times.queue_ns, 0);
  EXPECT_GT(exit.times.prefix_ns, 0);
  EXPECT_GT(exit.times.exit_head_ns, 0);
  EXPECT_EQ(exit.times.suffix_ns, 0);
  EXPECT_EQ(done.times.prefix_ns, exit.times.prefix_ns);
  EXPECT_EQ(done.times.exit_head_ns, exit.times.exit_head_ns);
  EXPECT_GT(done.times.suffix_ns, 0);
  EXPECT_GT(done.times.sample_ns, 0);
}

TEST(VerifierExitTest, WhoDoesNotAskPaysForNoExit) {
  auto recorder = std::make_shared<Recorder>();
  Verifier verifier(2, {.step_hook = recorder});
  verifier.Start(1, {1, 2, 3}, {});
  std::optional<EarlyExitReported> exit;
  const VerifyDone done = verifier.Round({Chunk(1, 3, 0, 3, 0)}, &exit);
  // An inner chunk asks in vain.
  verifier.Start(2, {1, 2, 3}, {});
  verifier.Round({Chunk(2, 3, 0, 2, 8)}, &exit);
  EXPECT_FALSE(exit.has_value());
  EXPECT_EQ(done.times.exit_head_ns, 0);
  EXPECT_EQ(recorder->log, (std::vector<std::string>{"begin", "layers 0 2", "layers 2 5", "head 5 of 1",
                                                     "begin", "layers 0 2", "layers 2 5", "head 5 of 0"}));
}

TEST(VerifierExitTest, LogitsThatAreNoNumbersLeaveTheirItemOutAlone) {
  Verifier verifier(2);
  verifier.Start(1, {1, 2, 3}, {.logit_bias = {{3, std::nanf("")}}});
  verifier.Start(2, {1, 2, 3}, {});
  verifier.Start(3, {1, 2, 3}, {.logit_bias = {{3, std::numeric_limits<float>::infinity()}}});
  std::optional<EarlyExitReported> exit;
  const VerifyDone done =
      verifier.Round({Chunk(1, 3, 0, 3, 4), Chunk(2, 3, 0, 3, 4), Chunk(3, 3, 0, 3, 4)}, &exit);
  ASSERT_TRUE(exit.has_value());
  ASSERT_EQ(exit->items.size(), 1u);
  EXPECT_EQ(exit->items[0].sequence_id, 2u);
  EXPECT_EQ(done.items[0].error->reason, "NAN_LOGITS");
  EXPECT_TRUE(done.items[1].correction_token.has_value());
  // Where nothing is left to tell, nothing is.
  exit.reset();
  verifier.Round({Chunk(1, 3, 0, 3, 4)}, &exit);
  EXPECT_FALSE(exit.has_value());
}

TEST(VerifierExitTest, TheExitIsWhereTheOptionTheConfigOrTheMiddleSays) {
  engine::EngineInfo info{.num_layers = 12};
  EXPECT_EQ(*ChooseEarlyExitLayer(0, info), 6);
  info.early_exit_layer = 4;
  EXPECT_EQ(*ChooseEarlyExitLayer(0, info), 4);
  info.early_exit_layer = 12;  // an exit after all layers is none
  EXPECT_EQ(*ChooseEarlyExitLayer(0, info), 6);
  EXPECT_EQ(*ChooseEarlyExitLayer(1, info), 1);
  EXPECT_EQ(*ChooseEarlyExitLayer(11, info), 11);
  for (const int32_t wrong : {-1, 12, 99}) {
    const auto error = GetErrorInfo(ChooseEarlyExitLayer(wrong, info).status());
    EXPECT_EQ(error->field, "early-exit-layer");
    EXPECT_EQ(error->limit, "1 to 11: below the target's 12 layers");
  }
  EXPECT_EQ(*ChooseEarlyExitLayer(0, {.num_layers = 1}), 0);
  EXPECT_FALSE(ChooseEarlyExitLayer(1, {.num_layers = 1}).ok());
}

// A model of one layer has no exit; who asks is answered all the same.
TEST(VerifierExitTest, AModelOfOneLayerReportsNoExit) {
  auto engine = testing::MakeMicroEngine({.num_layers = 1});
  VerifierSession session(engine.get(), {});
  session.Handle(StartSequence{.sequence_id = 1, .prompt_length = 2, .total_length = 2});
  session.Handle(AppendTokens{1, 0, {1, 2}});
  session.Handle(StartVerify{1, {Chunk(1, 2, 0, 2, 4)}});
  int num_exits = 0, num_done = 0;
  while (session.HasWork()) {
    session.Work([&](const WorkerReport& report) {
      num_exits += std::holds_alternative<EarlyExitReported>(report);
      num_done += std::holds_alternative<VerifyDone>(report);
    });
  }
  EXPECT_EQ(num_exits, 0);
  EXPECT_EQ(num_done, 1);
}

}  // namespace
}  // namespace mirrorsd::workers
