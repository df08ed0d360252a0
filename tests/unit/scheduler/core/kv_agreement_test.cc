// The ledger of the core against the blocks of a real verifier session: what the core grants, the worker has.
// A pool far too small for its requests: they are preempted and computed again, no round ever runs short,
// and every token is what the request yields alone.

#include <algorithm>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "gtest/gtest.h"
#include "scheduler/core/core.h"
#include "scheduler/policy/policies.h"
#include "tests/unit/workers/sessions/session_fixtures.h"
#include "workers/draft/draft_session.h"
#include "workers/verifier/verifier_session.h"

namespace mirrorsd::scheduler {
namespace {

constexpr int32_t kVocabulary = 64;
constexpr ConnectionId kVerifier = 1;
constexpr ConnectionId kDraft = 2;

testing::MicroModelOptions Model(float noise) {
  return {.vocabulary_size = kVocabulary, .max_positions = 512, .seed = 5, .noise = noise};
}

// One verifier and one draft, real sessions without streams: messages arrive in order, time stands still
// unless somebody waits.
class LocalFleet {
 public:
  LocalFleet(int num_blocks, bool prefix_cache, int window)
      : target_(testing::MakeMicroEngine(Model(0), {.num_kv_blocks = num_blocks})),
        draft_model_(testing::MakeMicroEngine(Model(0.1f))),
        verifier_(target_.get(), {.prefix_cache = prefix_cache}),
        draft_(draft_model_.get(), {}) {
    CoreConfig config;
    for (const SpeculationPolicy& policy : Policies()) config.policies.push_back(policy);
    config.num_speculative_tokens = window;
    config.speculation = window > 0 ? SpeculationMode::kSerial : SpeculationMode::kOff;
    config.max_prefill_rows_per_round = 24;
    config.queue_timeout = absl::Hours(1);
    core_ = std::make_unique<Core>(config);
    Step(WorkerAttached{kVerifier, verifier_.MakeHello("v", "boot")});
    Step(WorkerAttached{kDraft, draft_.MakeHello("d", "boot")});
  }

  void Submit(ConnectionId stream, const std::vector<TokenId>& prompt, int32_t max_tokens) {
    SubmitRequest request;
    request.request_id = std::to_string(stream);
    request.token_ids = prompt;
    request.max_tokens = max_tokens;
    request.sampling.temperature = stream % 2 == 0 ? 0.0f : 1.0f;
    request.sampling.seed = stream;
    if (outputs.size() <= stream) outputs.resize(stream + 1);
    ++num_live_;
    Step(Submitted{stream, request});
  }

  // Until every request has ended.
  void Run() {
    for (int steps = 0; num_live_ > 0 && steps < 200000; ++steps) {
      if (!inbox_.empty()) {
        const SendToWorker send = std::move(inbox_.front());
        inbox_.erase(inbox_.begin());
        if (send.connection == kVerifier) verifier_.Handle(send.command);
        if (send.connection == kDraft) draft_.Handle(send.command);
      } else if (draft_.HasWork()) {
        draft_.Work([this](WorkerReport report) { Tell(kDraft, std::move(report)); });
      } else if (verifier_.HasWork()) {
        verifier_.Work([this](WorkerReport report) { Tell(kVerifier, std::move(report)); });
      } else {
        now_ = std::max(now_, core_->NextDeadline());
        Tell(kVerifier, Heartbeat{});
        Tell(kDraft, Heartbeat{});
      }
      CheckBooks();
    }
    ASSERT_EQ(num_live_, 0) << "they make no progress";
    while (!inbox_.empty() || verifier_.HasWork()) {
      if (!inbox_.empty() && inbox_[0].connection == kVerifier) verifier_.Handle(inbox_[0].command);
      if (!inbox_.empty()) inbox_.erase(inbox_.begin());
      verifier_.Work([this](WorkerReport report) { Tell(kVerifier, std::move(report)); });
    }
    EXPECT_EQ(core_->Gauges().kv_blocks_reserved, 0);
    EXPECT_EQ(target_->blocks().num_referenced(), 0);
  }

  const CoreCounters& counters() const { return core_->counters(); }
  std::vector<std::vector<TokenId>> outputs;  // by stream
  int64_t max_referenced = 0;
  int num_item_errors = 0;

 private:
  void CheckBooks() {
    const int64_t referenced = target_->blocks().num_referenced();
    max_referenced = std::max(max_referenced, referenced);
    ASSERT_LE(referenced, core_->Gauges().kv_blocks_reserved);
  }

  void Tell(ConnectionId connection, WorkerReport report) {
    std::visit([&](auto& item) { TellItem(connection, std::move(item)); }, report);
  }
  template <typename T>
  void TellItem(ConnectionId connection, T item) {
    Step(WorkerReported{connection, Fence{1, connection}, std::move(item)});
  }
  void TellItem(ConnectionId connection, VerifyDone done) {
    for (VerifyItemDone& item : done.items) {
      // One that was ended or preempted while the round was on its way is unknown by then.
      if (item.error.has_value() && item.error->reason != "UNKNOWN_SEQUENCE") ++num_item_errors;
      TellItem(connection, VerifyItemReport{done.round_id, std::move(item)});
    }
    TellItem(connection, VerifyRoundDone{done.round_id, done.times, done.blocks});
  }
  void TellItem(ConnectionId, EarlyExitReported) {}

  void Step(const Event& event) {
    now_ += absl::Microseconds(1);
    std::vector<Action> actions;
    core_->Step(now_, event, &actions);
    core_->CheckInvariants();
    core_->TakeObservations();
    for (Action& action : actions) {
      if (auto* send = std::get_if<SendToWorker>(&action)) inbox_.push_back(std::move(*send));
      if (const auto* close = std::get_if<CloseWorker>(&action)) ADD_FAILURE() << close->reason;
      if (const auto* refuse = std::get_if<RefuseWorker>(&action)) {
        ADD_FAILURE() << refuse->refused.message;
      }
      if (const auto* commit = std::get_if<CommitTokens>(&action)) {
        std::vector<TokenId>& output = outputs[commit->stream];
        EXPECT_EQ(commit->committed.output_index, static_cast<int64_t>(output.size()));
        output.insert(output.end(), commit->committed.token_ids.begin(),
                      commit->committed.token_ids.end());
        if (commit->committed.finish != FinishReason::kNone) --num_live_;
      }
      if (const auto* fail = std::get_if<FailRequest>(&action)) {
        ADD_FAILURE() << fail->status.ToString();
        --num_live_;
      }
    }
  }

  std::unique_ptr<engine::Engine> target_;
  std::unique_ptr<engine::Engine> draft_model_;
  workers::VerifierSession verifier_;
  workers::DraftSession draft_;
  std::unique_ptr<Core> core_;
  absl::Time now_ = absl::UnixEpoch();
  std::vector<SendToWorker> inbox_;
  int num_live_ = 0;
};

struct Case {
  int num_blocks;
  bool prefix_cache;
  int window;
};

class KvAgreement : public ::testing::TestWithParam<Case> {};

TEST_P(KvAgreement, ASmallPoolPreemptsAndNoRoundEverRunsShort) {
  constexpr int kRequests = 8;
  constexpr int32_t kMaxTokens = 100;
  // Half of them begin with the same two blocks.
  const auto prompt = [](int i) {
    std::vector<TokenId> tokens = testing::MakePrompt(static_cast<size_t>(i), kVocabulary);
    if (i % 2 == 0) tokens.insert(tokens.begin(), 32, TokenId{9});
    return tokens;
  };
  std::vector<std::vector<TokenId>> alone;
  for (int i = 0; i < kRequests; ++i) {
    LocalFleet fleet(64, true, 0);
    fleet.Submit(i, prompt(i), kMaxTokens);
    fleet.Run();
    ASSERT_EQ(fleet.outputs[i].size(), static_cast<size_t>(kMaxTokens));
    alone.push_back(fleet.outputs[i]);
  }
  LocalFleet fleet(GetParam().num_blocks, GetParam().prefix_cache, GetParam().window);
  for (int i = 0; i < kRequests; ++i) fleet.Submit(i, prompt(i), kMaxTokens);
  fleet.Run();
  for (int i = 0; i < kRequests; ++i) EXPECT_EQ(fleet.outputs[i], alone[i]) << i;
  EXPECT_EQ(fleet.num_item_errors, 0);
  EXPECT_EQ(fleet.counters().kv_retries, 0);
  EXPECT_GT(fleet.counters().preemptions, 0);
  EXPECT_LT(fleet.counters().preemptions, 8 * kRequests) << "thrash";
  // The pool is used nearly whole, between rounds too: the ledger is no excuse for idle blocks.
  if (!GetParam().prefix_cache) {
    EXPECT_GE(fleet.max_referenced, GetParam().num_blocks * 8 / 10);
  }
  RecordProperty("preemptions", static_cast<int>(fleet.counters().preemptions));
  RecordProperty("rounds", static_cast<int>(fleet.counters().rounds));
}

INSTANTIATE_TEST_SUITE_P(Pools, KvAgreement,
                         ::testing::Values(Case{12, false, 0}, Case{12, true, 4},
                                           Case{20, false, 4}, Case{20, true, 0},
                                           Case{30, false, 7}, Case{30, true, 4}));

}  // namespace
}  // namespace mirrorsd::scheduler
