// What recording costs the scheduler's thread per event, its actions included: with the ring alone, as
// always, and with a journal's file. The life is that of 64 sequences with serial speculation, recorded
// once; the core itself is not part of the time.

#include <cstdlib>
#include <deque>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "benchmark/benchmark.h"
#include "common/check.h"
#include "scheduler/core/core.h"
#include "scheduler/policy/policies.h"
#include "services/journal/recorder.h"

namespace mirrorsd::journal {
namespace {

using namespace scheduler;  // NOLINT: its events

constexpr int kSequences = 64;
constexpr size_t kEvents = 50'000;
constexpr ConnectionId kVerifier = 1;
constexpr ConnectionId kDraft = 2;

struct Step {
  Event event;
  std::vector<Action> actions;
};

Hello HelloOf(WorkerRole role, std::string name) {
  return {.role = role,
          .name = std::move(name),
          .vocabulary_fingerprint = "vocabulary",
          .context_length = 1 << 20,
          .vocabulary_size = 100,
          .kv_block_tokens = 16,
          .limits = {kSequences, kSequences * 20, 16},
          .blocks = {1 << 24, 1 << 24, 0}};
}

// A core with a verifier and a draft that answer at once and agree for all tokens but the last.
class ScriptedLife {
 public:
  ScriptedLife() {
    config_.policies.assign(Policies().begin(), Policies().end());
    core_ = std::make_unique<Core>(config_);
    Take(WorkerAttached{kVerifier, HelloOf(WorkerRole::kVerifier, "v")});
    Take(WorkerAttached{kDraft, HelloOf(WorkerRole::kDraft, "d")});
    for (int i = 0; i < kSequences; ++i) {
      SubmitRequest request;
      request.request_id = absl::StrCat("request-", i);
      request.vocabulary_fingerprint = "vocabulary";
      request.token_ids.assign(100, 7);
      request.max_tokens = 1 << 19;
      Take(Submitted{1000 + static_cast<ConnectionId>(i), request});
    }
    while (steps_.size() < kEvents) {
      CHECK(!answers_.empty());
      const Event next = std::move(answers_.front());
      answers_.pop_front();
      Take(next);
    }
  }

  const CoreConfig& config() const { return config_; }
  const std::vector<Step>& steps() const { return steps_; }

 private:
  void Take(const Event& event) {
    now_ += absl::Nanoseconds(500);
    Step& step = steps_.emplace_back();
    step.event = event;
    core_->Step(now_, event, &step.actions);
    core_->TakeObservations();
    for (const Action& action : steps_.back().actions) {
      if (const auto* send = std::get_if<SendToWorker>(&action)) Answer(*send);
    }
  }

  void Report(const SendToWorker& send, ReportItem item) {
    answers_.push_back(WorkerReported{send.connection, send.fence, std::move(item)});
  }

  void Answer(const SendToWorker& send) {
    if (const auto* start = std::get_if<StartSequence>(&send.command)) {
      if (send.connection == kVerifier) return Report(send, SequenceStarted{start->sequence_id, 0});
      return Report(send, SequenceState{start->sequence_id, DraftSequenceState::kReady,
                                        start->total_length, {}});
    }
    if (const auto* verify = std::get_if<StartVerify>(&send.command)) {
      for (const VerifyItem& item : verify->items) {
        VerifyItemDone done;
        done.sequence_id = item.sequence_id;
        done.num_accepted = std::max<int32_t>(0, static_cast<int32_t>(item.window.size()) - 1);
        done.kv_length = item.is_prefill ? item.end : item.committed_length + done.num_accepted;
        done.correction_token = 6;
        if (item.is_prefill && item.end != item.committed_length) done.correction_token.reset();
        Report(send, VerifyItemReport{verify->round_id, done});
      }
      return Report(send, VerifyRoundDone{verify->round_id, {1000, 2000, 0, 3000, 400}, {}});
    }
    if (const auto* rollout = std::get_if<StartRollout>(&send.command)) {
      for (int32_t depth = 0; depth < rollout->depth; ++depth) {
        RolloutProgress progress;
        progress.sequence_id = rollout->sequence_id;
        progress.round_id = rollout->round_id;
        progress.num_accepted = rollout->roots[0].num_accepted;
        progress.root_token = *rollout->roots[0].token;
        progress.first_depth = depth;
        progress.token_ids = {5};
        progress.last = depth + 1 == rollout->depth;
        Report(send, std::move(progress));
      }
    }
  }

  CoreConfig config_;
  std::unique_ptr<Core> core_;
  absl::Time now_ = absl::UnixEpoch();
  std::deque<Event> answers_;
  std::vector<Step> steps_;
};

void Run(benchmark::State& state, bool with_file) {
  static const ScriptedLife* const life = new ScriptedLife;
  std::string folder = "/tmp/mirrorsd-journal-bench-XXXXXX";
  CHECK(mkdtemp(folder.data()) != nullptr);
  RecorderOptions options;
  options.limit_bytes = int64_t{8} << 30;
  if (with_file) options.path = folder + "/life";
  auto recorder = Recorder::Create(life->config(), options);
  CHECK(recorder.ok()) << recorder.status();
  int64_t num_actions = 0;
  absl::Time now = absl::UnixEpoch();
  for (auto _ : state) {
    for (const Step& step : life->steps()) {
      (*recorder)->Record(now, step.event);
      (*recorder)->RecordActions(step.actions);
      num_actions += static_cast<int64_t>(step.actions.size());
    }
    now += absl::Seconds(1);
  }
  (*recorder)->Stop();
  const auto num_events = static_cast<double>(life->steps().size()) * state.iterations();
  state.counters["s_per_event"] = benchmark::Counter(
      num_events, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["actions_per_event"] = static_cast<double>(num_actions) / num_events;
  if (with_file) {
    state.counters["bytes_per_event"] =
        static_cast<double>(std::filesystem::file_size(options.path)) / num_events;
  }
  std::filesystem::remove_all(folder);
}

void BM_RingAlone(benchmark::State& state) { Run(state, false); }
void BM_RingAndFile(benchmark::State& state) { Run(state, true); }
BENCHMARK(BM_RingAlone)->Unit(benchmark::kMillisecond);
BENCHMARK(BM_RingAndFile)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace mirrorsd::journal
