#include "workers/draft/draft_session.h"

#include <algorithm>
#include <utility>
#include <variant>
#include <vector>

#include "workers/draft/draft_batch.h"
#include "workers/draft/draft_sequence.h"
#include "workers/engine/engine.h"
#include "workers/engine/sampling/sampler.h"
#include "workers/session/session_face.h"

namespace mirrorsd::workers {
namespace {

// Not used for so long, a sequence may be driven out by another that catches up.
constexpr int64_t kIdleNs = 2'000'000'000;

}  // namespace

class DraftSession::State {
 public:
  State(engine::Engine* engine, DraftSessionOptions options, SessionProgress* progress)
      : engine_(engine),
        options_(std::move(options)),
        face_(engine, options_.clock,
              {.role = WorkerRole::kDraft,
               .model_name = options_.model_name,
               .vocabulary_fingerprint = options_.vocabulary_fingerprint,
               .limits = options_.limits,
               .step_times = options_.step_times},
              progress),
        sampler_(engine->info().vocabulary_size, 1),
        batch_(&sequences_, &engine->blocks(),
               BatchLimits{
                   .max_rows = face_.limits().max_rows,
                   .max_logits_rows = engine->info().max_logits_rows,
                   .catch_up_chunk_tokens = std::max(1, options_.catch_up_chunk_tokens),
                   .context_length = engine->info().context_length,
                   .max_depth = face_.limits().max_window},
               [this](DraftSequence* sequence) { Evict(sequence); }) {
    ShowProgress();
  }

  SessionFace& face() { return face_; }
  const scripts::ScriptedDraft* script() const { return options_.script.get(); }

  void Reset() {
    sequences_.clear();
    face_.DropReports();
    engine_->blocks().DropUnreferenced();
    ShowProgress();
  }

  void Apply(StartSequence& command);
  void Apply(AppendTokens& command);
  void Apply(StartRollout& command);
  void Apply(EndSequence& command);
  void Apply(StartVerify&) {}
  void Apply(Drain&) {}

  bool HasWork() const;
  void Work(const Emit& emit);

  void ShowProgress() { face_.ShowProgress(sequences_.size()); }

 private:
  DraftSequence* Find(SequenceId sequence_id) {
    const auto it = sequences_.find(sequence_id);
    return it == sequences_.end() ? nullptr : &it->second;
  }

  void Report(DraftSequence* sequence);
  void ReportAbsent(SequenceId sequence_id);
  void SetState(DraftSequence* sequence, DraftSequenceState state);
  void Evict(DraftSequence* sequence);
  // Tells that nothing will come, so that nobody waits.
  void RefuseRollout(const StartRollout& command);
  RolloutProgress MakeProgress(const DraftSequence& sequence) const;
  void RunPass(const std::vector<BatchPart>& parts, const Emit& emit);
  void Propose(DraftSequence* sequence, absl::Span<float> row, const Emit& emit);
  // What the script says instead of `own`, if it says anything. `row` is processed.
  Candidate Scripted(DraftSequence* sequence, absl::Span<const float> row, Candidate own);

  engine::Engine* engine_;
  DraftSessionOptions options_;
  SessionFace face_;
  engine::Sampler sampler_;
  DraftSequences sequences_;
  DraftBatch batch_;
};

// ---- commands -------------------------------------------------------------------------------------

void DraftSession::State::Apply(StartSequence& command) {
  if (Find(command.sequence_id) != nullptr) return;
  if (static_cast<int32_t>(sequences_.size()) >= face_.limits().max_sequences ||
      command.prompt_length < 1 || command.total_length < command.prompt_length ||
      command.total_length > engine_->info().context_length) {
    return ReportAbsent(command.sequence_id);
  }
  DraftSequence sequence(command, &engine_->blocks());
  sequence.last_used_ns = face_.NowNs();
  Report(&sequences_.emplace(command.sequence_id, std::move(sequence)).first->second);
}

void DraftSession::State::Apply(AppendTokens& command) {
  DraftSequence* sequence = Find(command.sequence_id);
  if (sequence == nullptr || sequence->Append(command)) return;
  sequences_.erase(command.sequence_id);
  ReportAbsent(command.sequence_id);
}

void DraftSession::State::Apply(StartRollout& command) {
  DraftSequence* sequence = Find(command.sequence_id);
  if (sequence == nullptr) {
    RefuseRollout(command);
    return ReportAbsent(command.sequence_id);
  }
  // The same round adds roots, of which serial rollouts follow one; an older round is late.
  if (command.round_id <= sequence->last_round_id) return;
  const int64_t now_ns = face_.NowNs();
  sequence->last_used_ns = now_ns;
  for (const RolloutRoot& root : command.roots) {
    const int64_t path_length = int64_t{command.committed_length} + root.num_accepted + 1;
    if (path_length > engine_->info().context_length) continue;
    sequence->rollout.reset();
    if (!sequence->Reconcile(command, root)) continue;
    sequence->last_round_id = command.round_id;
    sequence->rollout =
        ActiveRollout{.round_id = command.round_id,
                      .num_accepted = root.num_accepted,
                      .root_token = *root.token,
                      .depth = std::clamp(command.depth, 1, std::max(1, face_.limits().max_window)),
                      .received_ns = now_ns};
    return;
  }
  // No root fits what we know; say what that is, so that the next path can begin there.
  RefuseRollout(command);
  Report(sequence);
}

void DraftSession::State::RefuseRollout(const StartRollout& command) {
  for (const RolloutRoot& root : command.roots) {
    if (!root.token.has_value()) continue;
    face_.Say(RolloutProgress{.sequence_id = command.sequence_id,
                                       .round_id = command.round_id,
                                       .num_accepted = root.num_accepted,
                                       .root_token = *root.token,
                                       .last = true});
    return;
  }
}

void DraftSession::State::Apply(EndSequence& command) {
  sequences_.erase(command.sequence_id);
  ReportAbsent(command.sequence_id);
}

// ---- state ----------------------------------------------------------------------------------------

void DraftSession::State::Report(DraftSequence* sequence) {
  sequence->reported_length = sequence->acknowledged_length();
  face_.Say(SequenceState{sequence->id(), sequence->state, sequence->reported_length,
                                   face_.blocks()});
}

void DraftSession::State::ReportAbsent(SequenceId sequence_id) {
  face_.Say(SequenceState{.sequence_id = sequence_id,
                                   .state = DraftSequenceState::kAbsent,
                                   .blocks = face_.blocks()});
}

void DraftSession::State::SetState(DraftSequence* sequence, DraftSequenceState state) {
  if (sequence->state == state) return;
  sequence->state = state;
  Report(sequence);
}

void DraftSession::State::Evict(DraftSequence* sequence) {
  if (sequence->rollout.has_value()) {
    RolloutProgress progress = MakeProgress(*sequence);
    progress.last = true;
    face_.Say(std::move(progress));
    sequence->rollout.reset();
  }
  sequence->DropKv();
  SetState(sequence, DraftSequenceState::kEvicted);
}

// ---- work -----------------------------------------------------------------------------------------

bool DraftSession::State::HasWork() const {
  if (face_.has_reports()) return true;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.rollout.has_value()) return true;
  }
  return batch_.CanCatchUp(face_.NowNs() - kIdleNs);
}

void DraftSession::State::Work(const Emit& emit) {
  face_.SendReports(emit);
  std::vector<BatchPart> parts = batch_.NextRollouts();
  if (parts.empty()) parts = batch_.NextCatchUp(face_.NowNs() - kIdleNs);
  face_.SendReports(emit);  // evictions, before what they made room for
  if (!parts.empty()) RunPass(parts, emit);
  ShowProgress();
  face_.SendReports(emit);
}

void DraftSession::State::RunPass(const std::vector<BatchPart>& parts, const Emit& emit) {
  const int64_t now_ns = face_.NowNs();
  std::vector<std::vector<TokenId>> tokens;
  tokens.reserve(parts.size());
  std::vector<engine::SequenceRows> rows;
  for (const BatchPart& part : parts) {
    DraftSequence* sequence = part.sequence;
    if (sequence->rollout.has_value() && sequence->rollout->started_ns == 0) {
      sequence->rollout->started_ns = now_ns;
    }
    if (part.num_rows == 0) continue;
    tokens.push_back(sequence->PendingRows(part.num_rows, engine_->info().vocabulary_size));
    rows.push_back({.token_ids = tokens.back(),
                    .begin = sequence->kv_length(),
                    .block_table = sequence->block_table(),
                    .logits_begin = part.wants_token ? part.num_rows - 1 : part.num_rows});
  }
  absl::StatusOr<engine::Logits> logits = engine::Logits{};
  if (!rows.empty()) logits = engine_->Run(rows);
  face_.CountRound();
  int32_t logits_row = 0;
  for (const BatchPart& part : parts) {
    DraftSequence* sequence = part.sequence;
    if (!logits.ok()) {
      // The pass is void: nothing that it wrote may be believed.
      Evict(sequence);
      continue;
    }
    sequence->AdvanceKv(part.num_rows);
    if (part.wants_token) {
      Propose(sequence, logits->Row(logits_row++), emit);
    } else if (!sequence->rollout.has_value() && sequence->num_pending() <= 1) {
      SetState(sequence, DraftSequenceState::kReady);
    } else if (!sequence->rollout.has_value()) {
      SetState(sequence, DraftSequenceState::kCatchingUp);
    }
  }
}

RolloutProgress DraftSession::State::MakeProgress(const DraftSequence& sequence) const {
  const ActiveRollout& rollout = *sequence.rollout;
  RolloutProgress progress{.sequence_id = sequence.id(),
                           .round_id = rollout.round_id,
                           .num_accepted = rollout.num_accepted,
                           .root_token = rollout.root_token,
                           .first_depth = rollout.num_done,
                           .started_at_ns = rollout.started_ns};
  if (rollout.started_ns != 0) {
    progress.times.queue_ns = rollout.started_ns - rollout.received_ns;
    progress.times.rollout_ns = face_.NowNs() - rollout.started_ns;
  }
  return progress;
}

Candidate DraftSession::State::Scripted(DraftSequence* sequence, absl::Span<const float> row,
                                        Candidate own) {
  const engine::SamplingState& sampling = sequence->sampling();
  // A scheduler may ask before it has told the whole prompt.
  if (options_.script == nullptr || sampling.length() < sampling.prompt_length()) return own;
  const absl::Span<const TokenId> prompt = sampling.tokens().first(sampling.prompt_length());
  if (!sequence->script_stream.has_value()) {
    sequence->script_stream = options_.script->Find(prompt, sampling.parameters());
  }
  const std::optional<TokenId> token =
      options_.script->Propose(*sequence->script_stream, sampling.tokens().subspan(prompt.size()),
                               static_cast<int32_t>(row.size()));
  if (!token.has_value() || *token == own.token) return own;
  return {.token = *token, .score = row[*token]};
}

void DraftSession::State::Propose(DraftSequence* sequence, absl::Span<float> row,
                                  const Emit& emit) {
  const size_t proposed_ids =
      options_.max_proposed_tokens > 0
          ? std::min<size_t>(row.size(), static_cast<size_t>(options_.max_proposed_tokens))
          : row.size();
  const int32_t noise_top =
      sequence->sampling().is_greedy() ? 1 : std::max(1, options_.noise_top);
  const absl::StatusOr<absl::Span<const Candidate>> ranked =
      sampler_.Rank(sequence->sampling(), row.first(proposed_ids), noise_top);
  RolloutProgress progress = MakeProgress(*sequence);
  ActiveRollout& rollout = *sequence->rollout;
  if (ranked.ok()) {
    const Candidate best = Scripted(sequence, row.first(proposed_ids), ranked->front());
    progress.token_ids = {best.token};
    progress.scores = {best.score};
    sequence->AppendGuess(best.token);
    ++rollout.num_done;
  }
  progress.last = !ranked.ok() || rollout.num_done == rollout.depth ||
                  sequence->length() > engine_->info().context_length;
  const bool last = progress.last;
  emit(std::move(progress));
  if (!last) return;
  sequence->rollout.reset();
  sequence->last_used_ns = face_.NowNs();
  const bool was_ready = sequence->state == DraftSequenceState::kReady;
  sequence->state = DraftSequenceState::kReady;
  // The scheduler sends paths from what it was last told: a block's worth of staleness is cheap.
  if (!was_ready || sequence->acknowledged_length() >=
                        sequence->reported_length + engine_->info().block_tokens) {
    Report(sequence);
  }
}

// ---- the public face ------------------------------------------------------------------------------

DraftSession::DraftSession(engine::Engine* engine, DraftSessionOptions options)
    : state_(std::make_unique<State>(engine, std::move(options), &progress_)) {}

DraftSession::~DraftSession() = default;

const scripts::ScriptedDraft* DraftSession::script() const { return state_->script(); }

Hello DraftSession::MakeHello(const std::string& name, const std::string& boot_id) const {
  return state_->face().MakeHello(name, boot_id);
}

void DraftSession::Reset() { state_->Reset(); }

void DraftSession::Handle(WorkerCommand command) {
  std::visit([this](auto& one) { state_->Apply(one); }, command);
  state_->ShowProgress();
}

bool DraftSession::HasWork() const { return state_->HasWork(); }

void DraftSession::Work(const Emit& emit) { state_->Work(emit); }

StepTimes DraftSession::MeasureStepTimes() { return state_->face().MeasureStepTimes(); }

void DraftSession::set_step_times(const StepTimes& times) {
  state_->face().set_step_times(times);
}

}  // namespace mirrorsd::workers
