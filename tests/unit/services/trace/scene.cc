#include "tests/unit/services/trace/scene.h"

#include <cmath>
#include <utility>

namespace mirrorsd::trace {
namespace {

using scheduler::Action;
using scheduler::SendToWorker;

constexpr ConnectionId kStream = 10;
constexpr SequenceId kTargetSequence = 100;
constexpr SequenceId kDraftSequence = 200;

int64_t Nanoseconds(double ms) { return std::llround(ms * 1e6); }

scheduler::WorkerAttached Attached(ConnectionId connection, WorkerRole role, const char* name) {
  Hello hello;
  hello.role = role;
  hello.name = name;
  hello.boot_id = "boot";
  return {connection, hello};
}

Action Send(ConnectionId connection, WorkerCommand command, ConnectionId stream = 0) {
  return SendToWorker{connection, {1, connection}, std::move(command), stream};
}

Action Verify(RoundId round, std::vector<TokenId> window) {
  VerifyItem item{.sequence_id = kTargetSequence, .committed_length = 6, .window = std::move(window)};
  return Send(kVerifier, StartVerify{round, {item}});
}

Action Rollout(RoundId round, std::vector<RolloutRoot> roots, double exit_sent_ms = 0) {
  StartRollout start{.sequence_id = kDraftSequence, .round_id = round, .roots = std::move(roots), .depth = 4};
  start.exit_sent_at_ns = Nanoseconds(exit_sent_ms);
  return Send(kDraft, start);
}

VerifierPhaseTimes Times(double queue, double prefix, double exit_head, double suffix, double sample) {
  return {Nanoseconds(queue), Nanoseconds(prefix), Nanoseconds(exit_head), Nanoseconds(suffix), Nanoseconds(sample)};
}

scheduler::VerifyItemReport Outcome(RoundId round, int32_t num_accepted, TokenId correction) {
  VerifyItemDone done{.sequence_id = kTargetSequence, .num_accepted = num_accepted, .correction_token = correction};
  return {round, done};
}

}  // namespace

Scene::Scene() {
  At(0, Attached(kVerifier, WorkerRole::kVerifier, "v"));
  At(0, Attached(kDraft, WorkerRole::kDraft, "d"));
  PlayPrompt();
  PlayEmptyRound();
  PlayHit();
  PlayMiss();
}

void Scene::PlayPrompt() {
  scheduler::Submitted submitted{.stream = kStream};
  submitted.request.request_id = "tale";
  submitted.request.speculation = SpeculationMode::kMirror;
  submitted.request.max_tokens = 40;
  StartSequence target{.sequence_id = kTargetSequence, .total_length = 5};
  StartSequence draft{.sequence_id = kDraftSequence, .total_length = 5};
  At(1, submitted, {Send(kVerifier, target, kStream), Send(kDraft, draft, kStream)});
  Told(1.2, kDraft, SequenceState{.sequence_id = kDraftSequence, .state = DraftSequenceState::kCatchingUp});
  VerifyItem prompt{.sequence_id = kTargetSequence, .committed_length = 5, .is_prefill = true, .begin = 0, .end = 5};
  Told(1.5, kVerifier, SequenceStarted{.sequence_id = kTargetSequence}, {Send(kVerifier, StartVerify{1, {prompt}})});
  Told(3, kDraft, SequenceState{.sequence_id = kDraftSequence, .state = DraftSequenceState::kReady});
  Told(6, kVerifier, Outcome(1, 0, 7));
  Told(6, kVerifier, scheduler::VerifyRoundDone{1, Times(0.1, 2, 0, 2, 0.2), {}},
       {Rollout(2, {{.num_accepted = 0, .own_rank = 0}}), Verify(2, {})});
}

// Round 2: an empty window, P1 and P2 beside it.
void Scene::PlayEmptyRound() {
  TellProgress(8, 2, 0, 9, 0, {1, 2}, 1.6);
  Told(8.6, kVerifier, scheduler::EarlyExitItemReport{2, {kTargetSequence, {}}});
  Told(8.6, kVerifier, scheduler::EarlyExitRoundReport{2, Nanoseconds(8.5), Times(0.1, 2, 0.4, 0, 0)},
       {Rollout(2, {{.num_accepted = 0, .token = 9}, {.num_accepted = 0, .token = 8}}, 8.5)});
  TellProgress(10, 2, 0, 8, 0, {4, 5}, 1.3);
  TellProgress(11, 2, 0, 8, 2, {6}, 2.3);
  Told(12, kVerifier, Outcome(2, 0, 8));
  Told(12, kVerifier, scheduler::VerifyRoundDone{2, Times(0.1, 2, 0.4, 3, 0.2), {}},
       {Rollout(3, {{.num_accepted = 3, .own_rank = 0}}), Verify(3, {4, 5, 6})});
}

// Round 3 began with a branch of three tokens; one of them is accepted.
void Scene::PlayHit() {
  TellProgress(15, 3, 3, 30, 0, {31}, 2.5);
  Told(15.1, kVerifier, scheduler::EarlyExitRoundReport{3, Nanoseconds(15), Times(0.1, 2.3, 0.4, 0, 0)},
       {Rollout(3, {{.num_accepted = 0, .token = 40}}, 15)});
  TellProgress(17, 3, 0, 40, 0, {41}, 1.6);
  Told(19, kVerifier, Outcome(3, 1, 50));
  Told(19, kVerifier, scheduler::VerifyRoundDone{3, Times(0.1, 2.3, 0.4, 3.5, 0.3), {}}, {Verify(4, {})});
}

// Round 4 began with nothing: its outcome had not been predicted.
void Scene::PlayMiss() {
  Told(25, kVerifier, Outcome(4, 0, 60));
  scheduler::CommitTokens last{.stream = kStream};
  last.committed.finish = FinishReason::kLength;
  Told(25, kVerifier, scheduler::VerifyRoundDone{4, Times(0.1, 2, 0.4, 3, 0.2), {}},
       {last, Send(kVerifier, EndSequence{kTargetSequence}), Send(kDraft, EndSequence{kDraftSequence})});
}

void Scene::At(double ms, scheduler::Event event, std::vector<Action> actions) {
  const absl::Time now = absl::FromUnixNanos(Nanoseconds(1000 + ms));
  steps_.push_back({{now, std::move(event)}, std::move(actions)});
}

void Scene::Told(double ms, ConnectionId connection, scheduler::ReportItem item, std::vector<Action> actions) {
  At(ms, scheduler::WorkerReported{connection, {1, connection}, std::move(item)}, std::move(actions));
}

void Scene::TellProgress(double ms, RoundId round, int32_t num_accepted, TokenId root, int32_t first_depth,
                         std::vector<TokenId> tokens, double computing_ms) {
  RolloutProgress progress{.sequence_id = kDraftSequence, .round_id = round, .num_accepted = num_accepted,
                           .root_token = root, .first_depth = first_depth, .token_ids = std::move(tokens)};
  progress.started_at_ns = Nanoseconds(ms - computing_ms);
  progress.times.rollout_ns = Nanoseconds(computing_ms);
  Told(ms, kDraft, progress);
}

Timeline Scene::Make(TimelineOptions options) const {
  TimelineMaker maker({}, std::move(options));
  uint64_t number = 0;
  for (const Step& step : steps_) maker.See({++number, &step.recorded, step.actions});
  return maker.Finish();
}

}  // namespace mirrorsd::trace
