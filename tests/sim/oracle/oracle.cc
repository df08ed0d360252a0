#include "tests/sim/oracle/oracle.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace mirrorsd::sim {

using scheduler::DegradedReason;

Oracle::Oracle(const Plan& plan, Coverage* coverage, OnViolation on_violation)
    : plan_(plan),
      coverage_(coverage),
      on_violation_(std::move(on_violation)),
      epoch_(plan.config.scheduler_epoch) {}

void Oracle::Dialled(ConnectionId connection, SimWorker* worker) {
  auto peer = std::make_unique<Peer>();
  peer->id = connection;
  peer->hello = worker->hello();
  peer->worker = worker;
  peers_[connection] = std::move(peer);
}

Request* Oracle::Asked(ConnectionId stream, const SubmitRequest& submit,
                       const PlannedClient* client) {
  auto owned = std::make_unique<Request>();
  Request* request = owned.get();
  requests_[stream] = std::move(owned);
  request->stream = stream;
  request->ordinal = next_ordinal_++;
  request->submit = submit;
  request->client = client;
  const int64_t room = kContext - static_cast<int64_t>(submit.token_ids.size());
  request->max_tokens = static_cast<int32_t>(std::min<int64_t>(submit.max_tokens, room));
  request->prefix = PrefixOf(submit.token_ids);
  return request;
}

void Oracle::BeginLife(uint64_t epoch, absl::Time now) {
  now_ = now;
  epoch_ = epoch;
  for (auto& [stream, request] : requests_) {
    if (request->live()) Move(request.get(), Life::kEnded);
    request->verifier = request->draft = nullptr;
  }
  for (auto& [id, peer] : peers_) peer->closed = true;
  held_.clear();
  next_sequence_id_ = 1;
  next_round_id_ = 1;
  last_incarnation_ = 0;
  for (int role = 0; role < 2; ++role) num_attached_[role] = num_draining_[role] = 0;
  num_drafts_missing_ = 0;
  verifier_ever_ = false;
  drafts_late_ = 0;
  std::fill(std::begin(degraded_), std::end(degraded_), false);
  deadlines_missed_ = end_timeouts_ = num_given_up_ = 0;
  coverage_->Count(Row::kNewLife);
}

Peer* Oracle::FindPeer(ConnectionId connection) {
  const auto found = peers_.find(connection);
  return found == peers_.end() ? nullptr : found->second.get();
}

Request* Oracle::FindRequest(ConnectionId stream) {
  const auto found = requests_.find(stream);
  return found == requests_.end() ? nullptr : found->second.get();
}

Request* Oracle::FindLive(SequenceId id) {
  const auto found = held_.find(id);
  return found == held_.end() ? nullptr : found->second.request;
}

void Oracle::CoverMove(Life from, Life to) {
  static constexpr int kNone = -1;
  const auto row = [](Row r) { return static_cast<int>(r); };
  // [from][to]; what has no row may not happen.
  static const int kRows[6][6] = {
      {kNone, row(Row::kNewWaiting), kNone, kNone, kNone, row(Row::kNewRefused)},
      {kNone, kNone, row(Row::kWaitingStarting), kNone, kNone, row(Row::kWaitingEnd)},
      {kNone, row(Row::kStartingWaiting), kNone, row(Row::kStartingPrefilling), kNone,
       row(Row::kStartingEnd)},
      {kNone, row(Row::kPrefillingWaiting), kNone, row(Row::kPrefillingPrefilling),
       row(Row::kPrefillingDecoding), row(Row::kPrefillingEnd)},
      {kNone, row(Row::kDecodingWaiting), kNone, kNone, row(Row::kDecodingDecoding),
       row(Row::kDecodingEnd)},
      {kNone, kNone, kNone, kNone, kNone, kNone}};
  const int found = kRows[static_cast<int>(from)][static_cast<int>(to)];
  if (found == kNone) {
    Violation(absl::StrCat("a request goes from stage ", static_cast<int>(from), " to ",
                           static_cast<int>(to)));
  } else {
    coverage_->Count(static_cast<Row>(found));
  }
}

void Oracle::Move(Request* request, Life to) {
  const Life from = request->life;
  CoverMove(from, to);
  const auto count = [this](const Request& r, int by) {
    if (r.life == Life::kWaiting) num_waiting_ += by;
    if (r.life == Life::kWaiting && r.num_places == 0) num_waiting_new_ += by;
    if (r.placed()) num_running_ += by;
  };
  count(*request, -1);
  request->life = to;
  if (to == Life::kStarting) ++request->num_places;
  count(*request, 1);
  if (from != to) request->life_since = now_;
  request->moved_at = now_;
}

void Oracle::SetDraftState(Request* request, DraftSequenceState state, Row row) {
  request->draft_state = state;
  coverage_->Count(row);
}

// ---- the step -------------------------------------------------------------------------------------

void Oracle::BeforeStep(absl::Time now, const scheduler::Event& event, bool joined) {
  now_ = now;
  event_ = &event;
  joined_ = joined;
  num_actions_ = 0;
  expected_seen_ = false;
  expected_commit_ = item_of_ = nullptr;
  ended_.clear();
  saw_late_draft_go_ = false;
  cancel_was_live_ = false;
  reporter_ = nullptr;
  if (const auto* detached = std::get_if<scheduler::WorkerDetached>(&event)) {
    Peer* peer = FindPeer(detached->connection);
    if (peer != nullptr && !peer->closed) Lose(peer);
  } else if (const auto* cancelled = std::get_if<scheduler::Cancelled>(&event)) {
    if (Request* request = FindRequest(cancelled->stream)) {
      cancel_was_live_ = request->live();
      cancel_life_ = request->life;
      if (cancel_was_live_) request->cancelled = true;
    }
  } else if (const auto* reported = std::get_if<scheduler::WorkerReported>(&event)) {
    BeforeReport(*reported);
  } else if (const auto* submitted = std::get_if<scheduler::Submitted>(&event)) {
    FindRequest(submitted->stream)->submitted_at = now;
  }
}

void Oracle::BeforeReport(const scheduler::WorkerReported& event) {
  Peer* peer = FindPeer(event.connection);
  if (peer == nullptr || peer->closed || event.fence != peer->fence) return;
  reporter_ = peer;
  heard_before_ = std::exchange(peer->heard_at, now_);
  if (expectation_ != Expectation::kAnything) return;
  if (std::holds_alternative<Drain>(event.item)) {
    if (!peer->draining) ++num_draining_[peer->is_verifier() ? 0 : 1];
    if (!peer->draining) NoteServed(*peer);
    peer->draining = true;
    peer->drained_at = now_;
  } else if (peer->is_verifier()) {
    BeforeVerifierReport(peer, event.item);
  } else {
    BeforeDraftReport(peer, event.item);
  }
}

void Oracle::BeforeVerifierReport(Peer* peer, const ReportItem& item) {
  if (const auto* started = std::get_if<SequenceStarted>(&item)) {
    Request* request = FindLive(started->sequence_id);
    if (request == nullptr || request->life != Life::kStarting) return;
    request->prefilled = started->cached_length;
    peer->moved_at = now_;
    Move(request, Life::kPrefilling);
  } else if (const auto* ended = std::get_if<SequenceEnded>(&item)) {
    const auto found = held_.find(ended->sequence_id);
    if (found == held_.end() || found->second.request != nullptr) return;
    Release(ended->sequence_id);
    coverage_->Count(Row::kBlocksBack);
  } else if (const auto* report = std::get_if<scheduler::VerifyItemReport>(&item)) {
    if (!peer->round.has_value() || report->round_id != peer->round->round_id) return;
    for (size_t i = 0; i < peer->round->items.size(); ++i) {
      const VerifyItem& asked = peer->round->items[i];
      if (asked.sequence_id != report->item.sequence_id || peer->done[i]) continue;
      peer->done[i] = true;
      ++peer->num_done;
      Request* request = FindLive(asked.sequence_id);
      if (request == nullptr) return;
      item_of_ = request;
      request->item_accepted = report->item.num_accepted;
      request->error = report->item.error.has_value() ? report->item.error->reason : "";
      if (report->item.error.has_value()) {
        ++request->errors;
      } else if (report->item.correction_token.has_value()) {
        expected_commit_ = request;
      } else {
        request->prefilled = asked.end;
        Move(request, Life::kPrefilling);
      }
    }
  } else if (const auto* done = std::get_if<scheduler::VerifyRoundDone>(&item)) {
    if (!peer->round.has_value() || done->round_id != peer->round->round_id) return;
    peer->longest_round = std::max(peer->longest_round, now_ - peer->round_at);
    peer->last_round = done->round_id;
    peer->round.reset();
    peer->moved_at = now_;
  } else {
    TakeExit(peer, item);
  }
}

void Oracle::BeforeDraftReport(Peer* peer, const ReportItem& item) {
  if (const auto* progress = std::get_if<RolloutProgress>(&item)) {
    Request* request = FindLive(progress->sequence_id);
    if (request != nullptr) TakeProgress(request, *progress);
  } else if (const auto* state = std::get_if<SequenceState>(&item)) {
    const auto found = held_.find(state->sequence_id);
    if (found == held_.end()) return;
    if (found->second.request == nullptr) {
      if (state->state == DraftSequenceState::kAbsent) Release(state->sequence_id);
      return;
    }
    Request* request = found->second.request;
    const DraftSequenceState before = request->draft_state;
    if (state->state == DraftSequenceState::kReady) {
      if (before != DraftSequenceState::kReady) {
        SetDraftState(request, state->state, before == DraftSequenceState::kEvicted
                                                 ? Row::kEvictedReady
                                                 : Row::kCatchingUpReady);
      }
    } else if (state->state == DraftSequenceState::kEvicted) {
      SetDraftState(request, state->state, Row::kReadyEvicted);
    } else if (state->state == DraftSequenceState::kAbsent) {
      SetDraftState(request, state->state, Row::kReadyForgotten);  // EndSequence follows
    }
  }
}

void Oracle::Saw(const scheduler::Action& action) {
  ++num_actions_;
  if (const auto* send = std::get_if<scheduler::SendToWorker>(&action)) {
    SawSend(*send);
  } else if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
    SawCommit(*commit);
  } else if (const auto* fail = std::get_if<scheduler::FailRequest>(&action)) {
    SawFailure(*fail);
  } else if (const auto* welcome = std::get_if<scheduler::WelcomeWorker>(&action)) {
    SawWelcome(*welcome);
  } else if (const auto* refuse = std::get_if<scheduler::RefuseWorker>(&action)) {
    SawRefusal(*refuse);
  } else if (const auto* close = std::get_if<scheduler::CloseWorker>(&action)) {
    SawClose(*close);
  }
}

void Oracle::AfterStep(const scheduler::Core& core) {
  CheckExpectation();
  for (const Request* request : ended_) {
    if (request->verifier != nullptr || request->draft != nullptr) {
      Violation("a request has ended and a worker was not told");
    }
  }
  if (const auto* submitted = std::get_if<scheduler::Submitted>(event_)) {
    Request* request = FindRequest(submitted->stream);
    if (request->life == Life::kNew) Move(request, Life::kWaiting);
    if (request->client != nullptr && request->client->flaw != Flaw::kNone && request->live()) {
      Violation("a bad request was taken");
    }
  }
  if (const auto* cancelled = std::get_if<scheduler::Cancelled>(event_)) {
    const Request* request = FindRequest(cancelled->stream);
    if (request != nullptr && request->live()) Violation("a cancelled request lives on");
    if (!cancel_was_live_) coverage_->Count(Row::kCancelEnded);
  }
  if (expected_commit_ != nullptr && !joined_) {
    Violation(absl::StrCat("an outcome of stream ", expected_commit_->stream, " was not committed"));
  }
  CheckGauges(core);
  event_ = nullptr;
}

void Oracle::CheckExpectation() {
  const Expectation expectation = std::exchange(expectation_, Expectation::kAnything);
  if (expectation == Expectation::kNothing && num_actions_ > 0) {
    Violation("a report that must be ignored had an effect");
  }
  if (expectation == Expectation::kFaulty && !expected_seen_) {
    Violation("a lie did not close the worker");
  }
}

void Oracle::CheckGauges(const scheduler::Core& core) {
  const scheduler::CoreGauges gauges = core.Gauges();
  if (gauges.num_requests_running != num_running_ || gauges.num_requests_waiting != num_waiting_) {
    Violation(absl::StrCat("the core counts ", gauges.num_requests_running, " running and ",
                           gauges.num_requests_waiting, " waiting requests; there are ",
                           num_running_, " and ", num_waiting_));
  }
  for (int role = 0; role < 2; ++role) {
    if (gauges.workers_attached[role] != num_attached_[role] ||
        gauges.workers_draining[role] != num_draining_[role]) {
      Violation("the core counts other workers than there are");
    }
  }
  if (gauges.kv_blocks_reserved < 0 || gauges.kv_blocks_reserved > gauges.kv_blocks_total) {
    Violation("the core's books of KV blocks do not add up");
  }
  const int32_t max_queued = std::max(plan_.config.max_queued, 0);
  if (num_waiting_new_ > max_queued) Violation("more requests wait than may");
  CheckLate(gauges, core.counters());
  const int64_t end_timeouts = core.counters().end_timeouts;
  for (; end_timeouts_ < end_timeouts; ++end_timeouts_) coverage_->Count(Row::kEndTimeout);
}

void Oracle::CheckLate(const scheduler::CoreGauges& gauges,
                       const scheduler::CoreCounters& counters) {
  const int64_t missed = std::exchange(deadlines_missed_, counters.draft_deadlines_missed);
  const int32_t before = std::exchange(drafts_late_, gauges.drafts_late);
  if (drafts_late_ > before) {
    const auto* reported = std::get_if<scheduler::WorkerReported>(event_);
    if (counters.draft_deadlines_missed > missed) {
      coverage_->Count(Row::kDraftLate);
    } else if (reported != nullptr && std::holds_alternative<Heartbeat>(reported->item)) {
      coverage_->Count(Row::kDraftLateBehind);
    } else if (counters.end_timeouts > end_timeouts_) {
      coverage_->Count(Row::kDraftLateMute);
    } else if (!joined_) {
      Violation("a draft is late without a missed deadline");
    }
  } else if (drafts_late_ < before) {
    const auto* reported = std::get_if<scheduler::WorkerReported>(event_);
    if (saw_late_draft_go_) {
      coverage_->Count(Row::kDraftLateGone);
    } else if (reported != nullptr && std::holds_alternative<RolloutProgress>(reported->item)) {
      coverage_->Count(Row::kDraftOnTime);
    } else if (reported != nullptr && std::holds_alternative<Heartbeat>(reported->item)) {
      coverage_->Count(Row::kDraftOnTimeIdle);
    } else if (!joined_) {
      Violation("a draft is no longer late without having answered");
    }
  }
  const bool should[] = {drafts_late_ > 0, num_drafts_missing_ > 0};
  static constexpr Row kRows[][2] = {{Row::kLateOff, Row::kLateOn}, {Row::kLostOff, Row::kLostOn}};
  for (const DegradedReason reason : {DegradedReason::kDraftLate, DegradedReason::kDraftLost}) {
    const int i = static_cast<int>(reason);
    if (gauges.degraded[i] != should[i]) {
      Violation(absl::StrCat("degraded: ", scheduler::DegradedReasonName(reason), " should be ",
                             should[i]));
    }
    if (degraded_[i] != gauges.degraded[i]) coverage_->Count(kRows[i][gauges.degraded[i]]);
    degraded_[i] = gauges.degraded[i];
  }
}

}  // namespace mirrorsd::sim
