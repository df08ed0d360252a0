// What a sequence-item costs in the scheduler core: VerifyDone to StartVerify, and a whole round with a
// rollout per sequence. One verifier and one draft that answer at once, all sequences in one cohort. And what
// memory a live sequence takes.
// Budget (DESIGN section 12): 2 us per sequence from VerifyDone to StartVerify, 5 us per sequence-round.

#include <malloc.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "scheduler/core/core.h"
#include "scheduler/policy/policies.h"

namespace mirrorsd::scheduler {
namespace {

constexpr int32_t kContext = 1 << 29;
constexpr TokenId kToken = 5;

// A fleet that agrees with everything: the draft proposes kToken, the target takes all but the last.
class Fleet {
 public:
  Fleet(int num_sequences, int32_t window, int32_t prompt_length = 1,
        SpeculationMode mode = SpeculationMode::kSerial)
      : window_(window) {
    CoreConfig config;
    for (const SpeculationPolicy& policy : Policies()) config.policies.push_back(policy);
    config.num_speculative_tokens = window;
    config.speculation = window > 0 ? mode : SpeculationMode::kOff;
    config.branch_budget = 4 * num_sequences;
    config.max_num_seqs = num_sequences;
    config.max_queued = num_sequences + 1;
    config.max_prefill_rows_per_round = num_sequences * prompt_length;
    config.worker_timeout = absl::Hours(10);
    core_ = std::make_unique<Core>(config);
    Hello hello;
    hello.role = WorkerRole::kVerifier;
    hello.name = "v";
    hello.vocabulary_fingerprint = "vocabulary";
    hello.context_length = kContext;
    hello.vocabulary_size = 100;
    hello.kv_block_tokens = 16;
    hello.limits = {num_sequences, num_sequences * (20 + prompt_length), 16};
    hello.blocks = {int64_t{kContext} * num_sequences / 16 + 1, 0, 0};
    Step(WorkerAttached{1, hello});
    hello.role = WorkerRole::kDraft;
    hello.name = std::string("d");
    Step(WorkerAttached{2, hello});
    for (int i = 0; i < num_sequences; ++i) {
      SubmitRequest request;
      request.request_id = absl::StrCat("r", i);
      request.vocabulary_fingerprint = "vocabulary";
      request.token_ids.assign(prompt_length, 1);
      request.max_tokens = kContext - prompt_length;
      Step(Submitted{1000 + static_cast<ConnectionId>(i), request});
    }
    // Start everything: the starts and catch-ups are answered in order.
    const std::vector<Action> sent = std::exchange(actions_, {});
    for (const Action& action : sent) {
      const auto* send = std::get_if<SendToWorker>(&action);
      if (send == nullptr) continue;
      const auto* start = std::get_if<StartSequence>(&send->command);
      if (start == nullptr) continue;
      if (send->connection == 1) {
        Report(1, SequenceStarted{start->sequence_id, 0});
      } else {
        Report(2, SequenceState{start->sequence_id, DraftSequenceState::kReady, prompt_length, {}});
      }
    }
    for (int i = 0; i < 8 || !Steady(num_sequences); ++i) Round();
  }

  // Answers the rollouts that were asked for; in serial rounds the last one starts the next round. The draft's own
  // tokens are its first ids.
  void AnswerDraft() {
    for (const StartRollout& rollout : rollouts_) {
      for (const RolloutRoot& root : rollout.roots) {
        RolloutProgress progress;
        progress.sequence_id = rollout.sequence_id;
        progress.round_id = rollout.round_id;
        progress.num_accepted = root.num_accepted;
        progress.root_token = root.token.value_or(root.own_rank);
        progress.token_ids.assign(rollout.depth, kToken);
        progress.last = true;
        Report(2, std::move(progress));
      }
    }
    rollouts_.clear();
  }

  // The early exit's candidates: the correction token is the best of the row where it comes.
  void AnswerExit() {
    for (const VerifyItem& item : verify_.items) {
      if (item.branch_top_k == 0) continue;
      EarlyExitItemReport report{verify_.round_id, {item.sequence_id, {}}};
      for (size_t row = 0; row <= item.window.size(); ++row) {
        EarlyExitRow& out = report.item.rows.emplace_back();
        const bool rejected = row + 1 >= item.window.size();
        if (row < item.window.size()) out.drafted_score = rejected ? 1.0f : 3.0f;
        for (int32_t k = 0; k < item.branch_top_k; ++k) {
          out.candidates.push_back({kToken + 1 + k, (rejected ? 2.0f : 0.0f) - static_cast<float>(k)});
        }
      }
      Report(1, std::move(report));
    }
    Report(1, EarlyExitRoundReport{verify_.round_id, 1, {}});
  }

  void MirrorRound() {
    Collect();
    AnswerDraft();
    AnswerExit();
    Collect();
    AnswerDraft();
    AnswerVerifier();
  }

  void AnswerVerifier() {
    const StartVerify round = std::move(verify_);
    for (const VerifyItem& item : round.items) {
      VerifyItemDone done;
      done.sequence_id = item.sequence_id;
      done.num_accepted = std::max<int32_t>(0, static_cast<int32_t>(item.window.size()) - 1);
      done.kv_length = item.is_prefill ? item.end : item.committed_length + done.num_accepted;
      done.correction_token = kToken + 1;
      Report(1, VerifyItemReport{round.round_id, std::move(done)});
    }
    Report(1, VerifyRoundDone{round.round_id, {}, {}});
    core_->TakeObservations();
  }

  void Round() {
    Collect();
    AnswerVerifier();
    Collect();
    AnswerDraft();
  }

  // Takes what was sent to the workers.
  void Collect() {
    for (Action& action : actions_) {
      auto* send = std::get_if<SendToWorker>(&action);
      if (send == nullptr) continue;
      if (auto* verify = std::get_if<StartVerify>(&send->command)) verify_ = std::move(*verify);
      if (auto* rollout = std::get_if<StartRollout>(&send->command)) {
        rollouts_.push_back(std::move(*rollout));
      }
    }
    actions_.clear();
  }

  // Throws the core away; what that gave back.
  int64_t ReleaseCore() {
    Collect();
    actions_ = {};
    core_->TakeObservations();
    const auto used = [] {
      const struct mallinfo2 info = mallinfo2();
      return static_cast<int64_t>(info.uordblks + info.hblkhd);
    };
    const int64_t before = used();
    core_.reset();
    return before - used();
  }

  bool Steady(int num_sequences) {
    Collect();
    return static_cast<int>(verify_.items.size()) == num_sequences;
  }

  int64_t num_hits() const {
    int64_t hits = 0;
    for (const int64_t num : core_->counters().branch_hits_per_depth) hits += num;
    return hits;
  }

 private:
  void Report(ConnectionId connection, ReportItem item) {
    Step(WorkerReported{connection, Fence{1, connection}, std::move(item)});
  }
  void Step(const Event& event) {
    now_ += absl::Nanoseconds(100);
    core_->Step(now_, event, &actions_);
  }

  int32_t window_;
  absl::Time now_ = absl::UnixEpoch();
  std::unique_ptr<Core> core_;
  std::vector<Action> actions_;
  StartVerify verify_;
  std::vector<StartRollout> rollouts_;
};

// VerifyDone to StartVerify, without drafts.
void BM_VerifyDoneToStartVerify(benchmark::State& state) {
  Fleet fleet(static_cast<int>(state.range(0)), 0);
  for (auto _ : state) {
    fleet.AnswerVerifier();
    state.PauseTiming();
    fleet.Collect();
    state.ResumeTiming();
  }
  state.counters["s_per_item"] =
      benchmark::Counter(static_cast<double>(state.range(0)) * state.iterations(),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_VerifyDoneToStartVerify)->Arg(1)->Arg(64)->Arg(4096);

// Everything that a sequence costs in one round: outcome, StartRollout of depth 4, progress, StartVerify.
void BM_SerialRound(benchmark::State& state) {
  Fleet fleet(static_cast<int>(state.range(0)), 4);
  for (auto _ : state) fleet.Round();
  state.counters["s_per_item"] =
      benchmark::Counter(static_cast<double>(state.range(0)) * state.iterations(),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_SerialRound)->Arg(1)->Arg(64)->Arg(4096);

// The same with the branches of a mirror round: two StartRollouts, an exit of four candidates a row, and the progress
// of four branches a sequence.
void BM_MirrorRound(benchmark::State& state) {
  Fleet fleet(static_cast<int>(state.range(0)), 4, 16, SpeculationMode::kMirror);
  for (int i = 0; i < 4; ++i) fleet.MirrorRound();
  const int64_t hits_before = fleet.num_hits();
  for (auto _ : state) fleet.MirrorRound();
  state.counters["s_per_item"] =
      benchmark::Counter(static_cast<double>(state.range(0)) * state.iterations(),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["hits"] = benchmark::Counter(
      static_cast<double>(fleet.num_hits() - hits_before) /
      (static_cast<double>(state.range(0)) * static_cast<double>(state.iterations())));
}
BENCHMARK(BM_MirrorRound)->Arg(1)->Arg(64)->Arg(4096);

// What the core holds for a live sequence: prompt length beside it; its tokens are 4 bytes each.
void BM_MemoryPerSequence(benchmark::State& state) {
  const int num_sequences = static_cast<int>(state.range(0));
  int64_t bytes = 0;
  for (auto _ : state) {
    Fleet fleet(num_sequences, 4, static_cast<int32_t>(state.range(1)));
    bytes = fleet.ReleaseCore();
  }
  state.counters["bytes_per_sequence"] = static_cast<double>(bytes) / num_sequences;
}
BENCHMARK(BM_MemoryPerSequence)->Args({4096, 16})->Args({4096, 1024})->Iterations(1);

}  // namespace
}  // namespace mirrorsd::scheduler
