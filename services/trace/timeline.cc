#include "services/trace/timeline.h"

#include <algorithm>
#include <tuple>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "common/speculation_policy.h"

namespace mirrorsd::trace {
namespace {

using journal::Beginning;
using scheduler::SendToWorker;
using scheduler::WorkerReported;

// A life that lasted longer than that has a clock that jumped; nothing is drawn across.
constexpr int64_t kLongestPhaseNs = int64_t{3600} * 1'000'000'000;

int64_t Bounded(int64_t ns) { return std::clamp<int64_t>(ns, 0, kLongestPhaseNs); }

}  // namespace

int64_t TracedRound::begin_ns() const { return exit_end_ns() - times.exit_head_ns - times.prefix_ns; }
int64_t TracedRound::exit_end_ns() const { return done_ns - times.sample_ns - times.suffix_ns; }

class TimelineMaker::State {
 public:
  State(const wire::RecordedLife& life, TimelineOptions options)
      : options_(std::move(options)), default_mode_(life.config.speculation),
        holds_(life.config.miss_fallback == MissFallback::kHold) {}

  void See(const journal::ReplayStep& step) {
    now_ns_ = absl::ToUnixNanos(step.recorded->now);
    if (timeline_.first_event_ns == 0) timeline_.first_event_ns = now_ns_;
    const scheduler::Event& event = step.recorded->event;
    if (const auto* submitted = std::get_if<scheduler::Submitted>(&event)) {
      SeeSubmitted(*submitted);
    } else if (const auto* attached = std::get_if<scheduler::WorkerAttached>(&event)) {
      const bool is_draft = attached->hello.role == WorkerRole::kDraft;
      boot_ids_[attached->connection] = attached->hello.boot_id;
      timeline_.workers.push_back(
          {attached->connection, is_draft, attached->hello.name, attached->hello.boot_id});
    } else if (const auto* detached = std::get_if<scheduler::WorkerDetached>(&event)) {
      Leave(detached->connection);
    } else if (const auto* reported = std::get_if<WorkerReported>(&event)) {
      SeeReported(*reported);
    }
    for (const scheduler::Action& action : step.actions) SeeAction(action);
  }

  Timeline Finish() {
    for (auto& [key, rollout] : open_rollouts_) timeline_.rollouts.push_back(std::move(rollout));
    open_rollouts_.clear();
    std::sort(timeline_.rollouts.begin(), timeline_.rollouts.end(), [](const auto& a, const auto& b) {
      return std::tie(a.round, a.kind, a.draft) < std::tie(b.round, b.kind, b.draft);
    });
    return std::move(timeline_);
  }

 private:
  using Key = std::pair<int32_t, TokenId>;

  // A request that lives.
  struct Request {
    journal::BranchWatch branches;
    RoundId rollout_round = 0;
    std::map<Key, RolloutKind> kinds;  // of the roots of rollout_round
    std::map<Key, RolloutKind> kinds_before;  // likewise: the next round's may be asked for before it is sent
    RoundId decided_round = 0;
    std::optional<Key> outcome;        // of decided_round
  };
  struct Worker {
    std::map<RoundId, size_t> open;  // rounds that are out, by their place in the timeline
    std::set<RoundId> out;           // likewise, selected or not
    std::set<SequenceId> sequences;
    int64_t free_since_ns = 0;       // 0: busy, or without requests
  };
  using RolloutKey = std::tuple<RoundId, RolloutKind, ConnectionId>;

  bool IsWanted(ConnectionId stream) const { return wanted_streams_.count(stream) > 0; }
  bool IsWantedRound(RoundId round) const {
    return round >= options_.first_round && round <= options_.last_round && !timeline_.is_cut;
  }

  void SeeSubmitted(const scheduler::Submitted& submitted) {
    const SubmitRequest& request = submitted.request;
    const SpeculationMode mode =
        request.speculation == SpeculationMode::kDefault ? default_mode_ : request.speculation;
    requests_.insert_or_assign(submitted.stream,
                               Request{.branches = journal::BranchWatch(
                                           {.is_mirror = mode == SpeculationMode::kMirror, .holds = holds_,
                                            .max_tokens = request.max_tokens})});
    if (!options_.request_id.empty() && request.request_id != options_.request_id) return;
    wanted_streams_.insert(submitted.stream);
    names_[submitted.stream] = request.request_id;
  }

  Request* RequestOf(SequenceId sequence) {
    const auto stream = streams_.find(sequence);
    if (stream == streams_.end()) return nullptr;
    const auto request = requests_.find(stream->second);
    return request != requests_.end() ? &request->second : nullptr;
  }

  void SeeReported(const WorkerReported& reported) {
    if (const auto* item = std::get_if<scheduler::VerifyItemReport>(&reported.item)) {
      SeeOutcome(reported.connection, *item);
    } else if (const auto* done = std::get_if<scheduler::VerifyRoundDone>(&reported.item)) {
      SeeRoundDone(reported.connection, *done);
    } else if (const auto* exit = std::get_if<scheduler::EarlyExitRoundReport>(&reported.item)) {
      if (TracedRound* round = OpenRound(reported.connection, exit->round_id)) round->exit_ns = now_ns_;
    } else if (const auto* progress = std::get_if<RolloutProgress>(&reported.item)) {
      SeeProgress(reported.connection, *progress);
    } else if (const auto* state = std::get_if<SequenceState>(&reported.item)) {
      SeeDraftState(reported.connection, *state);
    }
  }

  TracedRound* OpenRound(ConnectionId connection, RoundId id) {
    Worker& verifier = workers_[connection];
    const auto found = verifier.open.find(id);
    return found != verifier.open.end() ? &timeline_.rounds[found->second] : nullptr;
  }

  void SeeOutcome(ConnectionId connection, const scheduler::VerifyItemReport& report) {
    const VerifyItemDone& done = report.item;
    if (TracedRound* round = OpenRound(connection, report.round_id)) {
      const auto stream = streams_.find(done.sequence_id);
      for (TracedItem& item : round->items) {
        if (stream != streams_.end() && item.stream == stream->second) item.num_accepted = done.num_accepted;
      }
    }
    Request* request = RequestOf(done.sequence_id);
    if (request == nullptr || !done.correction_token.has_value()) return;
    request->decided_round = report.round_id;
    request->outcome = Key{done.num_accepted, *done.correction_token};
    request->branches.SeeOutcome(report.round_id, done.num_accepted, *done.correction_token);
  }

  void SeeRoundDone(ConnectionId connection, const scheduler::VerifyRoundDone& done) {
    Worker& verifier = workers_[connection];
    verifier.out.erase(done.round_id);
    if (TracedRound* round = OpenRound(connection, done.round_id)) {
      round->done_ns = now_ns_;
      round->times = {Bounded(done.times.queue_ns), Bounded(done.times.prefix_ns),
                      Bounded(done.times.exit_head_ns), Bounded(done.times.suffix_ns),
                      Bounded(done.times.sample_ns)};
      verifier.open.erase(done.round_id);
    }
    if (verifier.out.empty()) verifier.free_since_ns = now_ns_;
  }

  void SeeProgress(ConnectionId connection, const RolloutProgress& progress) {
    Request* request = RequestOf(progress.sequence_id);
    if (request == nullptr) return;
    request->branches.SeeProgress(progress);
    if (progress.round_id != request->rollout_round) return;
    const auto kind = request->kinds.try_emplace({progress.num_accepted, progress.root_token},
                                                 RolloutKind::kFirst).first;  // else one of its own rank
    const auto found = open_rollouts_.find({progress.round_id, kind->second, connection});
    if (found == open_rollouts_.end()) return;
    TracedRollout& rollout = found->second;
    const int64_t began = now_ns_ - Bounded(progress.times.rollout_ns);
    rollout.computing.begin_ns = rollout.answered ? std::min(rollout.computing.begin_ns, began) : began;
    rollout.computing.end_ns = now_ns_;
    rollout.answered = true;
    rollout.num_branches += progress.first_depth == 0 ? 1 : 0;
    rollout.num_tokens += static_cast<int64_t>(progress.token_ids.size());
    const auto sent = exit_sent_ns_.find(progress.round_id);
    if (kind->second == RolloutKind::kSecond && sent != exit_sent_ns_.end() &&
        boot_ids_[sent->second.first] == boot_ids_[connection] && progress.started_at_ns >= sent->second.second) {
      const int64_t relay = progress.started_at_ns - sent->second.second;
      if (relay < kLongestPhaseNs) rollout.relay_ns = std::min(rollout.relay_ns.value_or(relay), relay);
    }
  }

  void SeeDraftState(ConnectionId connection, const SequenceState& state) {
    const auto stream = streams_.find(state.sequence_id);
    if (stream == streams_.end()) return;
    const auto behind = catching_up_.find(state.sequence_id);
    const bool is_behind = state.state == DraftSequenceState::kCatchingUp;
    if (is_behind && behind == catching_up_.end()) catching_up_[state.sequence_id] = {connection, now_ns_};
    if (!is_behind && behind != catching_up_.end()) {
      if (IsWanted(stream->second) && !timeline_.is_cut) {
        timeline_.catch_ups.push_back({connection, {behind->second.second, now_ns_}});
      }
      catching_up_.erase(behind);
    }
  }

  void SeeAction(const scheduler::Action& action) {
    if (const auto* send = std::get_if<SendToWorker>(&action)) {
      if (const auto* start = std::get_if<StartSequence>(&send->command)) {
        SeeStarted(*send, *start);
      } else if (const auto* verify = std::get_if<StartVerify>(&send->command)) {
        SeeVerify(send->connection, *verify);
      } else if (const auto* rollout = std::get_if<StartRollout>(&send->command)) {
        SeeRollout(send->connection, *rollout);
      } else if (const auto* end = std::get_if<EndSequence>(&send->command)) {
        Worker& verifier = workers_[send->connection];
        verifier.sequences.erase(end->sequence_id);
        if (verifier.sequences.empty()) verifier.free_since_ns = 0;
        streams_.erase(end->sequence_id);
        catching_up_.erase(end->sequence_id);
      }
    } else if (const auto* commit = std::get_if<scheduler::CommitTokens>(&action)) {
      SeeCommit(commit->stream, commit->committed);
    } else if (const auto* failed = std::get_if<scheduler::FailRequest>(&action)) {
      requests_.erase(failed->stream);
    } else if (const auto* close = std::get_if<scheduler::CloseWorker>(&action)) {
      Leave(close->connection);
    }
  }

  void SeeCommit(ConnectionId stream, const Committed& committed) {
    const auto request = requests_.find(stream);
    if (request == requests_.end()) return;
    const int32_t num_tokens = static_cast<int32_t>(committed.token_ids.size());
    request->second.branches.SeeCommitted(committed.output_index + num_tokens);
    if (committed.finish != FinishReason::kNone) requests_.erase(request);
  }

  void SeeStarted(const SendToWorker& send, const StartSequence& start) {
    streams_[start.sequence_id] = send.stream;
    Worker& verifier = workers_[send.connection];
    if (verifier.sequences.empty() && verifier.out.empty()) verifier.free_since_ns = now_ns_;
    verifier.sequences.insert(start.sequence_id);
  }

  void SeeVerify(ConnectionId connection, const StartVerify& verify) {
    ++timeline_.num_rounds;
    Worker& verifier = workers_[connection];
    TracedRound round{.verifier = connection, .id = verify.round_id, .sent_ns = now_ns_};
    bool is_wanted = false;
    for (const VerifyItem& item : verify.items) {
      Request* request = RequestOf(item.sequence_id);
      if (request == nullptr) continue;
      round.items.push_back(ItemOf(item, request));
      is_wanted = is_wanted || IsWanted(round.items.back().stream);
    }
    const int64_t free_since = std::exchange(verifier.free_since_ns, 0);
    verifier.out.insert(verify.round_id);
    if (!is_wanted || !IsWantedRound(verify.round_id)) return;
    if (timeline_.rounds.size() >= options_.max_rounds) {
      timeline_.is_cut = true;
      return;
    }
    if (free_since > 0 && now_ns_ > free_since) {
      timeline_.waits.push_back({connection, {free_since, now_ns_}});
    }
    for (const TracedItem& item : round.items) {
      if (IsWanted(item.stream)) timeline_.requests[item.stream] = names_[item.stream];
    }
    verifier.open[verify.round_id] = timeline_.rounds.size();
    timeline_.rounds.push_back(std::move(round));
  }

  TracedItem ItemOf(const VerifyItem& item, Request* request) {
    TracedItem traced{.stream = streams_[item.sequence_id], .is_prefill = item.is_prefill};
    if (item.is_prefill) {
      traced.rows = item.end - item.begin;
      return traced;
    }
    traced.window = static_cast<int32_t>(item.window.size());
    const std::optional<Key> outcome = request->outcome;
    traced.beginning = request->branches.SeeRound(traced.window);
    request->outcome.reset();
    const Beginning beginning = traced.beginning.beginning;
    if (beginning == Beginning::kHit || beginning == Beginning::kSerial || beginning == Beginning::kHeld) {
      traced.from_round = request->decided_round;
      const auto& kinds =
          request->decided_round == request->rollout_round ? request->kinds : request->kinds_before;
      const auto kind = outcome.has_value() ? kinds.find(*outcome) : kinds.end();
      if (kind != kinds.end()) traced.from_kind = kind->second;
    }
    return traced;
  }

  void SeeRollout(ConnectionId connection, const StartRollout& start) {
    const auto stream = streams_.find(start.sequence_id);
    Request* request = RequestOf(start.sequence_id);
    if (request == nullptr) return;
    request->branches.SeeRollout(start.round_id, start.roots);
    const RolloutKind kind = start.exit_sent_at_ns > 0                         ? RolloutKind::kSecond
                             : start.round_id == request->decided_round ? RolloutKind::kSerial
                                                                        : RolloutKind::kFirst;
    if (request->rollout_round != start.round_id) {
      request->rollout_round = start.round_id;
      request->kinds_before = std::exchange(request->kinds, {});
    }
    for (const RolloutRoot& root : start.roots) {
      if (!root.token.has_value()) continue;
      const Key key{root.num_accepted, *root.token};
      // A held draft asks anew for what was asked for before; what the draft has, it has.
      if (kind == RolloutKind::kSerial) {
        request->kinds.insert_or_assign(key, kind);
      } else {
        request->kinds.try_emplace(key, kind);
      }
    }
    if (kind == RolloutKind::kSecond) RememberExit(start);
    if (!IsWanted(stream->second) || !IsWantedRound(start.round_id)) return;
    TracedRollout& rollout = open_rollouts_[{start.round_id, kind, connection}];
    if (rollout.sequences.empty()) {
      rollout.draft = connection;
      rollout.round = start.round_id;
      rollout.kind = kind;
      rollout.asked_ns = now_ns_;
    }
    rollout.sequences.insert(start.sequence_id);
  }

  // Which verifier sent that report: the one whose round it is.
  void RememberExit(const StartRollout& start) {
    for (const auto& [connection, verifier] : workers_) {
      if (verifier.out.count(start.round_id) == 0) continue;
      exit_sent_ns_[start.round_id] = {connection, start.exit_sent_at_ns};
    }
    while (exit_sent_ns_.size() > kMostExits) exit_sent_ns_.erase(exit_sent_ns_.begin());
  }

  void Leave(ConnectionId connection) { workers_.erase(connection); }

  static constexpr size_t kMostExits = 1024;  // rounds that are out at a time

  const TimelineOptions options_;
  const SpeculationMode default_mode_;
  const bool holds_;
  Timeline timeline_;
  int64_t now_ns_ = 0;
  std::map<ConnectionId, Request> requests_;
  std::set<ConnectionId> wanted_streams_;
  std::map<ConnectionId, std::string> names_;  // of those
  std::map<SequenceId, ConnectionId> streams_;
  std::map<ConnectionId, std::string> boot_ids_;
  std::map<ConnectionId, Worker> workers_;
  std::map<SequenceId, std::pair<ConnectionId, int64_t>> catching_up_;
  std::map<RoundId, std::pair<ConnectionId, int64_t>> exit_sent_ns_;
  std::map<RolloutKey, TracedRollout> open_rollouts_;
};

TimelineMaker::TimelineMaker(const wire::RecordedLife& life, TimelineOptions options)
    : state_(std::make_unique<State>(life, std::move(options))) {}
TimelineMaker::~TimelineMaker() = default;
void TimelineMaker::See(const journal::ReplayStep& step) { state_->See(step); }
Timeline TimelineMaker::Finish() { return state_->Finish(); }

absl::StatusOr<Timeline> ReadTimeline(journal::JournalReader* reader, const TimelineOptions& options) {
  TimelineMaker maker(reader->head().life, options);
  const auto report = journal::Replay(reader, [&](const journal::ReplayStep& step) { maker.See(step); });
  if (!report.ok()) return report.status();
  if (!report->difference.empty()) {
    return BadFile("life", absl::StrCat("this build does something else, and the trace would not be what "
                                        "happened: ", report->difference));
  }
  Timeline timeline = maker.Finish();
  if (timeline.rounds.empty()) {
    const char* const field = options.request_id.empty() ? "--rounds" : "--request";
    return MakeError(absl::StatusCode::kNotFound,
                     absl::StrCat(field, ": none of the ", timeline.num_rounds, " rounds of this life is of these"),
                     {.reason = "NO_ROUNDS", .field = field});
  }
  return timeline;
}

const char* RolloutKindName(RolloutKind kind) {
  constexpr const char* kNames[] = {"P1", "P2", "serial"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace mirrorsd::trace
