// The verifier's session: what each command does, and what it answers to commands that do not fit.

#include "workers/verifier/verifier_session.h"

#include <cmath>
#include <memory>
#include <utility>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include "tests/unit/workers/sessions/session_fixtures.h"

namespace mirrorsd::workers {
namespace {

constexpr int32_t kVocabulary = 64;

class VerifierSessionTest : public ::testing::Test {
 protected:
  VerifierSessionTest() { Restart({}, {}); }

  void Restart(engine::EngineOptions engine_options, VerifierSessionOptions options) {
    session_.reset();
    engine_ = testing::MakeMicroEngine({.vocabulary_size = kVocabulary, .max_positions = 128},
                                       std::move(engine_options));
    session_ = std::make_unique<VerifierSession>(engine_.get(), std::move(options));
  }

  // Runs to the end of all work; what was said, in order.
  std::vector<WorkerReport> Drain() {
    std::vector<WorkerReport> reports;
    while (session_->HasWork()) {
      session_->Work([&](WorkerReport report) { reports.push_back(std::move(report)); });
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

  VerifyItemDone Round(VerifyItem item) {
    session_->Handle(StartVerify{++round_id_, {std::move(item)}});
    const auto done = Only<VerifyDone>(Drain());
    EXPECT_EQ(done.size(), 1u);
    EXPECT_EQ(done[0].round_id, round_id_);
    EXPECT_EQ(done[0].items.size(), 1u);
    return done[0].items[0];
  }

  std::string ErrorOf(VerifyItem item) {
    const VerifyItemDone done = Round(std::move(item));
    EXPECT_FALSE(done.correction_token.has_value() && done.error.has_value());
    return done.error.has_value() ? done.error->reason : "";
  }

  VerifyItem Prefill(SequenceId id, int32_t length, int32_t begin, int32_t end) {
    return {.sequence_id = id, .committed_length = length, .is_prefill = true, .begin = begin,
            .end = end};
  }
  VerifyItem Window(SequenceId id, int32_t length, std::vector<TokenId> window) {
    return {.sequence_id = id, .committed_length = length, .window = std::move(window)};
  }

  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<VerifierSession> session_;
  RoundId round_id_ = 0;
};

const std::vector<TokenId> kPrompt = {5, 9, 1, 60, 33, 2, 2, 17, 40, 8, 51, 29,
                                      3, 3, 12, 7, 44, 21, 38, 0, 63, 15};
constexpr int32_t kLength = 22;

TEST_F(VerifierSessionTest, SaysWhoItIs) {
  Restart({.num_kv_blocks = 40}, {.limits = {.max_sequences = 7, .max_rows = 100000, .max_window = 9},
                                  .model_name = "micro",
                                  .vocabulary_fingerprint = "abc",
                                  .step_times = {.base_ns = 5, .per_row_ns = 3}});
  const Hello hello = session_->MakeHello("v0", "boot");
  EXPECT_EQ(hello.role, WorkerRole::kVerifier);
  EXPECT_EQ(hello.name, "v0");
  EXPECT_EQ(hello.boot_id, "boot");
  EXPECT_EQ(hello.model_name, "micro");
  EXPECT_EQ(hello.vocabulary_fingerprint, "abc");
  EXPECT_FALSE(hello.numerics_id.empty());
  EXPECT_EQ(hello.context_length, 128);
  EXPECT_EQ(hello.vocabulary_size, kVocabulary);
  EXPECT_EQ(hello.limits.max_sequences, 7);
  EXPECT_EQ(hello.limits.max_rows, engine_->info().max_rows);
  EXPECT_EQ(hello.limits.max_window, 9);
  EXPECT_EQ(hello.blocks.total, 40);
  EXPECT_EQ(hello.blocks.free, 40);
  EXPECT_EQ(hello.step_times.per_row_ns, 3);
}

TEST_F(VerifierSessionTest, MeasuresItsSteps) {
  const StepTimes times = session_->MeasureStepTimes();
  EXPECT_GT(times.base_ns, 0);
  EXPECT_GE(times.per_row_ns, 0);
  EXPECT_EQ(session_->MakeHello("", "").step_times.base_ns, times.base_ns);
  EXPECT_EQ(engine_->blocks().num_referenced(), 0);
}

TEST_F(VerifierSessionTest, ChunksOfAnySplitYieldTheSameToken) {
  Start(1, kPrompt);
  const TokenId token = Round(Prefill(1, kLength, 0, kLength)).correction_token.value();
  for (int32_t cut = 1; cut < kLength; ++cut) {
    session_->Reset();
    Start(1, kPrompt);
    const VerifyItemDone inner = Round(Prefill(1, kLength, 0, cut));
    EXPECT_FALSE(inner.error.has_value());
    EXPECT_FALSE(inner.correction_token.has_value());
    EXPECT_EQ(inner.kv_length, cut);
    const VerifyItemDone last = Round(Prefill(1, kLength, cut, kLength));
    EXPECT_EQ(last.correction_token, token);
    EXPECT_EQ(last.num_accepted, 0);
    EXPECT_EQ(last.kv_length, kLength);
  }
}

TEST_F(VerifierSessionTest, AcceptsWhatEqualsItsOwnTokens) {
  Start(1, kPrompt);
  std::vector<TokenId> truth = {Round(Prefill(1, kLength, 0, kLength)).correction_token.value()};
  for (int32_t i = 1; i < 7; ++i) {
    truth.push_back(Round(Window(1, kLength + i, {})).correction_token.value());
  }
  for (int32_t wrong_at = 0; wrong_at <= 4; ++wrong_at) {
    const SequenceId id = 10 + wrong_at;
    Start(id, kPrompt);
    Round(Prefill(id, kLength, 0, kLength));
    std::vector<TokenId> window(truth.begin() + 1, truth.begin() + 5);
    if (wrong_at < 4) window[wrong_at] = (window[wrong_at] + 1) % kVocabulary;
    const VerifyItemDone done = Round(Window(id, kLength + 1, window));
    EXPECT_EQ(done.num_accepted, wrong_at);
    EXPECT_EQ(done.correction_token, truth[wrong_at + 1]);
    EXPECT_EQ(done.kv_length, kLength + 1 + wrong_at);
    // And on from there, over the rows of the rejected tokens.
    const VerifyItemDone next = Round(Window(id, kLength + 2 + wrong_at, {}));
    EXPECT_EQ(next.correction_token, truth[wrong_at + 2]);
  }
}

TEST_F(VerifierSessionTest, StartedTellsWhatThePrefixCacheHolds) {
  Start(1, kPrompt);
  EXPECT_EQ(Only<SequenceStarted>(Drain()).at(0).cached_length, 0);
  const TokenId token = Round(Prefill(1, kLength, 0, kLength)).correction_token.value();
  session_->Handle(EndSequence{1});
  const auto ended = Only<SequenceEnded>(Drain());
  ASSERT_EQ(ended.size(), 1u);
  EXPECT_EQ(ended[0].blocks.evictable, 1);
  EXPECT_EQ(ended[0].blocks.free + ended[0].blocks.evictable, ended[0].blocks.total);

  Start(2, kPrompt);
  EXPECT_EQ(Only<SequenceStarted>(Drain()).at(0).cached_length, 16);
  // A range that begins before what is cached is not computed twice.
  EXPECT_EQ(Round(Prefill(2, kLength, 0, 10)).kv_length, 16);
  EXPECT_EQ(Round(Prefill(2, kLength, 3, kLength)).correction_token, token);
}

TEST_F(VerifierSessionTest, CacheHitsChangeNoToken) {
  std::vector<std::vector<TokenId>> outputs;
  for (const bool prefix_cache : {false, true}) {
    Restart({}, {.prefix_cache = prefix_cache});
    testing::LocalCell cell(session_.get(), nullptr);
    std::vector<testing::CellRequest> requests;
    for (size_t i = 0; i < 6; ++i) {
      // Prompts that share their first tokens with a longer one.
      std::vector<TokenId> prompt = testing::MakePrompt(12, kVocabulary);
      prompt.resize(std::min<size_t>(prompt.size(), 17 + 4 * i));
      requests.push_back({.prompt = prompt, .sampling = {.seed = 4}, .max_tokens = 20});
      requests.push_back(requests.back());
    }
    for (auto& output : cell.Run(requests, {.batch = 2})) outputs.push_back(std::move(output));
    EXPECT_EQ(cell.stats().cached_tokens > 0, prefix_cache);
  }
  ASSERT_EQ(outputs.size(), 24u);
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(outputs[i], outputs[i + 12]) << i;
}

// A request that was lost in the middle goes on as if nothing had been.
TEST_F(VerifierSessionTest, ResumeContinuesTheSameTokens) {
  const SamplingParameters sampling{.presence_penalty = 1.5f, .seed = 8};
  testing::LocalCell cell(session_.get(), nullptr);
  const auto whole =
      cell.Run({{.prompt = kPrompt, .sampling = sampling, .max_tokens = 30}}, {})[0];
  for (const size_t lost_at : {1u, 7u, 29u}) {
    session_->Reset();
    std::vector<TokenId> tokens = kPrompt;
    tokens.insert(tokens.end(), whole.begin(), whole.begin() + lost_at);
    const int32_t total = static_cast<int32_t>(tokens.size());
    session_->Handle(StartSequence{.sequence_id = 3,
                                   .sampling = sampling,
                                   .prompt_length = kLength,
                                   .total_length = total});
    session_->Handle(AppendTokens{3, 0, tokens});
    EXPECT_EQ(Round(Prefill(3, total, 0, total)).correction_token, whole[lost_at]);
  }
}

TEST_F(VerifierSessionTest, TokensMayComeInPieces) {
  session_->Handle(
      StartSequence{.sequence_id = 4, .prompt_length = kLength, .total_length = kLength});
  session_->Handle(AppendTokens{4, 0, {kPrompt.begin(), kPrompt.begin() + 5}});
  EXPECT_TRUE(Drain().empty());
  EXPECT_EQ(ErrorOf(Prefill(4, kLength, 0, 5)), "NOT_STARTED");
  session_->Handle(AppendTokens{4, 0, {kPrompt.begin(), kPrompt.begin() + 5}});  // repeated
  session_->Handle(AppendTokens{4, 5, {kPrompt.begin() + 5, kPrompt.end()}});
  EXPECT_EQ(Only<SequenceStarted>(Drain()).size(), 1u);
  session_->Handle(AppendTokens{4, 5, {kPrompt.begin() + 5, kPrompt.end()}});  // repeated
  EXPECT_TRUE(Drain().empty());
  EXPECT_TRUE(Round(Prefill(4, kLength, 0, kLength)).correction_token.has_value());
}

TEST_F(VerifierSessionTest, RefusedSequencesSayWhy) {
  const auto start = [&](SequenceId id, int32_t prompt, int32_t total) {
    session_->Handle(
        StartSequence{.sequence_id = id, .prompt_length = prompt, .total_length = total});
  };
  start(1, 0, 3);
  start(2, 5, 3);
  start(3, 3, 129);
  start(4, -7, -9);
  for (SequenceId id = 1; id <= 4; ++id) {
    session_->Handle(AppendTokens{id, 0, {1, 2, 3}});
    EXPECT_EQ(ErrorOf(Prefill(id, 3, 0, 3)), "BAD_LENGTH");
  }
  start(5, 3, 3);
  session_->Handle(AppendTokens{5, 1, {1, 2}});
  EXPECT_EQ(ErrorOf(Prefill(5, 3, 0, 3)), "TOKEN_GAP");
  start(6, 3, 3);
  session_->Handle(AppendTokens{6, 0, {1, 2, 3, 4}});
  EXPECT_EQ(ErrorOf(Prefill(6, 3, 0, 3)), "BAD_LENGTH");
  for (const TokenId bad : {-1, kVocabulary}) {
    start(7, 3, 3);
    session_->Handle(AppendTokens{7, 0, {1, bad, 3}});
    EXPECT_EQ(ErrorOf(Prefill(7, 3, 0, 3)), "BAD_TOKEN");
    session_->Handle(EndSequence{7});
  }
  Drain();
  EXPECT_EQ(engine_->blocks().num_referenced(), 0);
}

TEST_F(VerifierSessionTest, ItemsThatDoNotFitTheStateFailAlone) {
  Restart({}, {.limits = {.max_sequences = 8, .max_rows = 40, .max_window = 4}});
  Start(1, kPrompt);
  EXPECT_EQ(ErrorOf(Window(99, 5, {})), "UNKNOWN_SEQUENCE");
  EXPECT_EQ(ErrorOf(Window(1, kLength, {1})), "NOT_PREFILLED");
  EXPECT_EQ(ErrorOf(Prefill(1, kLength + 1, 0, 5)), "WRONG_LENGTH");
  EXPECT_EQ(ErrorOf(Prefill(1, kLength, 5, 9)), "BAD_RANGE");
  EXPECT_EQ(ErrorOf(Prefill(1, kLength, -1, 9)), "BAD_RANGE");
  EXPECT_EQ(ErrorOf(Prefill(1, kLength, 4, 4)), "BAD_RANGE");
  EXPECT_EQ(ErrorOf(Prefill(1, kLength, 0, kLength + 1)), "BAD_RANGE");
  EXPECT_EQ(ErrorOf(Prefill(1, kLength, 0, kLength)), "");
  EXPECT_EQ(ErrorOf(Window(1, kLength, {})), "WRONG_LENGTH");
  EXPECT_EQ(ErrorOf(Window(1, kLength + 1, {1, 2, 3, 4, 5})), "WINDOW_TOO_LONG");
  EXPECT_EQ(ErrorOf(Window(1, kLength + 1, {kVocabulary})), "BAD_TOKEN");
  EXPECT_EQ(ErrorOf(Window(1, kLength + 1, {-5})), "BAD_TOKEN");
  const std::vector<TokenId> long_prompt(128, 3);
  Start(2, long_prompt);
  EXPECT_EQ(ErrorOf(Prefill(2, 128, 0, 128)), "TOO_MANY_ROWS");
  for (int32_t at = 0; at < 128; at += 32) EXPECT_EQ(ErrorOf(Prefill(2, 128, at, at + 32)), "");
  EXPECT_EQ(ErrorOf(Window(2, 129, {})), "CONTEXT_EXCEEDED");

  // Good items beside bad ones are not touched.
  session_->Handle(StartVerify{
      500, {Window(99, 1, {}), Window(1, kLength + 1, {1}), Window(1, kLength + 1, {1})}});
  const auto done = Only<VerifyDone>(Drain());
  ASSERT_EQ(done.size(), 1u);
  ASSERT_EQ(done[0].items.size(), 3u);
  EXPECT_EQ(done[0].items[0].error->reason, "UNKNOWN_SEQUENCE");
  EXPECT_FALSE(done[0].items[1].error.has_value());
  EXPECT_EQ(done[0].items[2].error->reason, "REPEATED_SEQUENCE");
}

TEST_F(VerifierSessionTest, RoundsRunInOrderAndEndedSequencesAreSkipped) {
  Start(1, kPrompt);
  Start(2, kPrompt);
  session_->Handle(StartVerify{1, {Prefill(1, kLength, 0, kLength)}});
  session_->Handle(StartVerify{2, {Prefill(1, kLength, 0, kLength), Prefill(2, kLength, 0, 4)}});
  session_->Handle(EndSequence{1});
  const std::vector<WorkerReport> reports = Drain();
  const auto done = Only<VerifyDone>(reports);
  ASSERT_EQ(done.size(), 2u);
  EXPECT_EQ(done[0].round_id, 1u);
  EXPECT_EQ(done[0].items[0].error->reason, "UNKNOWN_SEQUENCE");
  EXPECT_EQ(done[1].items[0].error->reason, "UNKNOWN_SEQUENCE");
  EXPECT_EQ(done[1].items[1].kv_length, 4);
  EXPECT_EQ(Only<SequenceEnded>(reports).size(), 1u);
}

TEST_F(VerifierSessionTest, OneRoundPerWork) {
  Start(1, kPrompt);
  for (RoundId round = 1; round <= 3; ++round) {
    session_->Handle(StartVerify{round, {Prefill(1, kLength, 0, 3)}});
  }
  int done = 0;
  const auto count = [&](const WorkerReport& r) { done += std::holds_alternative<VerifyDone>(r); };
  for (int i = 1; i <= 3; ++i) {
    session_->Work(count);
    EXPECT_EQ(done, i);
    EXPECT_EQ(session_->progress().num_rounds_done(), i);
  }
  EXPECT_FALSE(session_->HasWork());
}

TEST_F(VerifierSessionTest, TooManyRoundsInLineAreAnsweredWithErrors) {
  Start(1, kPrompt);
  for (RoundId round = 1; round <= VerifierSession::kMaxRoundsInLine + 2; ++round) {
    session_->Handle(StartVerify{round, {Prefill(1, kLength, 0, 3)}});
  }
  int refused = 0, ran = 0;
  for (const VerifyDone& done : Only<VerifyDone>(Drain())) {
    ASSERT_EQ(done.items.size(), 1u);
    if (done.items[0].error.has_value()) {
      EXPECT_EQ(done.items[0].error->reason, "TOO_MANY_ROUNDS");
      ++refused;
    } else {
      ++ran;
    }
  }
  EXPECT_EQ(refused, 2);
  EXPECT_EQ(ran, VerifierSession::kMaxRoundsInLine);
}

TEST_F(VerifierSessionTest, ExhaustedPoolFailsTheItemAndHealsWhenBlocksComeBack) {
  Restart({.num_kv_blocks = 3}, {});
  Start(1, kPrompt);
  Start(2, testing::MakePrompt(3, kVocabulary));
  EXPECT_EQ(ErrorOf(Prefill(1, kLength, 0, kLength)), "");
  const int32_t other = static_cast<int32_t>(testing::MakePrompt(3, kVocabulary).size());
  ASSERT_GT(other, 16);
  EXPECT_EQ(ErrorOf(Prefill(2, other, 0, other)), "KV_EXHAUSTED");
  session_->Handle(EndSequence{1});
  EXPECT_EQ(ErrorOf(Prefill(2, other, 0, other)), "");
  session_->Handle(EndSequence{2});
  const auto ended = Only<SequenceEnded>(Drain());
  EXPECT_EQ(ended.at(0).blocks.free + ended.at(0).blocks.evictable, 3);
  EXPECT_TRUE(engine_->blocks().CheckInvariants().ok());
}

TEST_F(VerifierSessionTest, NanIsTheErrorOfItsSequenceAlone) {
  SamplingParameters broken;
  broken.logit_bias = {{3, std::nanf("")}};
  Start(1, kPrompt, broken);
  Start(2, kPrompt);
  session_->Handle(StartVerify{1, {Prefill(1, kLength, 0, kLength), Prefill(2, kLength, 0, kLength)}});
  const auto done = Only<VerifyDone>(Drain());
  ASSERT_EQ(done.size(), 1u);
  EXPECT_EQ(done[0].items[0].error->reason, "NAN_LOGITS");
  EXPECT_FALSE(done[0].items[0].correction_token.has_value());
  EXPECT_TRUE(done[0].items[1].correction_token.has_value());
}

TEST_F(VerifierSessionTest, ResetDropsEverything) {
  Start(1, kPrompt);
  Round(Prefill(1, kLength, 0, kLength));
  session_->Handle(StartVerify{7, {Window(1, kLength + 1, {})}});
  session_->Handle(EndSequence{55});
  session_->Reset();
  EXPECT_FALSE(session_->HasWork());
  EXPECT_EQ(engine_->blocks().num_free(), engine_->blocks().num_blocks());
  EXPECT_EQ(session_->progress().blocks().free, session_->progress().blocks().total);
  EXPECT_EQ(session_->progress().num_sequences(), 0);
  EXPECT_EQ(ErrorOf(Window(1, kLength + 1, {})), "UNKNOWN_SEQUENCE");
}

TEST_F(VerifierSessionTest, SequencesBeyondTheLimitAreUnknown) {
  Restart({}, {.limits = {.max_sequences = 2, .max_rows = 100, .max_window = 4}});
  for (SequenceId id = 1; id <= 3; ++id) Start(id, kPrompt);
  EXPECT_EQ(Only<SequenceStarted>(Drain()).size(), 2u);
  EXPECT_EQ(ErrorOf(Prefill(3, kLength, 0, 3)), "UNKNOWN_SEQUENCE");
  Start(1, {1, 2, 3});  // repeated: the first one stays
  EXPECT_EQ(ErrorOf(Prefill(1, kLength, 0, kLength)), "");
}

}  // namespace
}  // namespace mirrorsd::workers
