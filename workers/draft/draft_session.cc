#include "workers/draft/draft_session.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "common/check.h"
#include "workers/draft/draft_batch.h"
#include "workers/draft/draft_pass.h"
#include "workers/draft/draft_sequence.h"
#include "workers/draft/proposer.h"
#include "workers/engine/engine.h"
#include "workers/session/session_face.h"

namespace mirrorsd::workers {
namespace {

// Not used for so long, a sequence may be driven out by another that catches up.
constexpr int64_t kIdleNs = 2'000'000'000;

// Depths of rollouts after which a chunk of catching up comes first. In mirror rounds there is always a branch to go on
// with: without its turn a prompt would never be caught up with.
constexpr int kDepthsBetweenChunks = 4;

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
        proposer_({.vocabulary_size = engine->info().vocabulary_size,
                   .max_proposed_tokens = options_.max_proposed_tokens,
                   .noise_top = options_.noise_top},
                  options_.script.get()),
        batch_(&sequences_, &engine->blocks(),
               BatchLimits{
                   .max_rows = face_.limits().max_rows,
                   .max_logits_rows = engine->info().max_logits_rows,
                   .catch_up_chunk_tokens = std::max(1, options_.catch_up_chunk_tokens),
                   .context_length = engine->info().context_length,
                   .max_depth = MaxDepth()},
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
  int32_t MaxDepth() const { return std::max(1, face_.limits().max_window); }

  void Report(DraftSequence* sequence);
  void ReportAbsent(SequenceId sequence_id);
  void SetState(DraftSequence* sequence, DraftSequenceState state);
  void Evict(DraftSequence* sequence);
  // Tells that nothing will come of a root, so that nobody waits. One without a token has no name yet: nobody can.
  void Refuse(const StartRollout& command, const RolloutRoot& root);
  void SayNews(DraftSequence* sequence);
  void EndRollouts(DraftSequence* sequence);
  // No branch goes on: nothing is computed for it until it is told more.
  void Rest(DraftSequence* sequence);
  // The scheduler sends paths from what it was last told: a block's worth of staleness is cheap.
  bool IsAckStale(const DraftSequence& sequence) const {
    return sequence.kv_length() >= sequence.reported_length + engine_->info().block_tokens;
  }
  std::vector<BatchPart> NextParts();
  void RunPass(const std::vector<BatchPart>& parts);
  void Settle(const BatchPart& part);

  engine::Engine* engine_;
  DraftSessionOptions options_;
  SessionFace face_;
  Proposer proposer_;
  DraftSequences sequences_;
  DraftBatch batch_;
  int depths_in_a_row_ = 0;  // of rollouts, since the last chunk of catching up
};

// ---- commands -------------------------------------------------------------------------------------

void DraftSession::State::Apply(StartSequence& command) {
  if (Find(command.sequence_id) != nullptr) return;
  const int32_t context_length = engine_->info().context_length;
  if (static_cast<int32_t>(sequences_.size()) >= face_.limits().max_sequences ||
      command.prompt_length < 1 || command.total_length < command.prompt_length ||
      command.total_length > context_length) {
    return ReportAbsent(command.sequence_id);
  }
  DraftSequence sequence(command, context_length, &engine_->blocks());
  sequence.last_used_ns = face_.NowNs();
  Report(&sequences_.emplace(command.sequence_id, std::move(sequence)).first->second);
}

void DraftSession::State::Apply(AppendTokens& command) {
  DraftSequence* sequence = Find(command.sequence_id);
  if (sequence == nullptr) return;
  // Asked before the prompt was whole: a rollout ends where its path goes on otherwise.
  if (!sequence->is_complete() && command.offset >= sequence->committed_length()) {
    EndRollouts(sequence);
  }
  if (sequence->Append(command)) return;
  sequences_.erase(command.sequence_id);
  ReportAbsent(command.sequence_id);
}

void DraftSession::State::Apply(StartRollout& command) {
  DraftSequence* sequence = Find(command.sequence_id);
  if (sequence == nullptr) {
    for (const RolloutRoot& root : command.roots) Refuse(command, root);
    return ReportAbsent(command.sequence_id);
  }
  if (command.round_id < sequence->last_round_id) return;  // late
  const int64_t now_ns = face_.NowNs();
  const int32_t depth = std::clamp(command.depth, 1, MaxDepth());
  std::vector<RolloutRoot> refused;
  if (command.round_id == sequence->last_round_id) {
    sequence->AddRoots(command, depth, now_ns, &refused);
  } else if (const auto copies = sequence->BeginRound(command, depth, now_ns, &refused)) {
    sequence->last_round_id = command.round_id;
    sequence->round_received_ns = now_ns;
    face_.TakeBack<RolloutProgress>([&](const RolloutProgress& waiting) {
      return waiting.sequence_id == command.sequence_id;
    });
    if (!copies->empty()) {
      const absl::Status copied = engine_->CopyKv(*copies);
      CHECK(copied.ok()) << copied;
    }
    if (sequence->state == DraftSequenceState::kReady && IsAckStale(*sequence)) Report(sequence);
  } else {
    // Say what we know, so that the next path can begin there.
    for (const RolloutRoot& root : command.roots) Refuse(command, root);
    return Report(sequence);
  }
  sequence->last_used_ns = now_ns;
  for (const RolloutRoot& root : refused) Refuse(command, root);
  const BranchTree& tree = sequence->tree();
  if (!refused.empty() && !tree.HasActive() && !tree.HasNews()) Report(sequence);
}

void DraftSession::State::Refuse(const StartRollout& command, const RolloutRoot& root) {
  if (!root.token.has_value() || *root.token < 0 || root.num_accepted < 0) return;
  face_.Say(RolloutProgress{.sequence_id = command.sequence_id,
                            .round_id = command.round_id,
                            .num_accepted = root.num_accepted,
                            .root_token = *root.token,
                            .last = true});
}

void DraftSession::State::Apply(EndSequence& command) {
  sequences_.erase(command.sequence_id);
  ReportAbsent(command.sequence_id);
}

// ---- state ----------------------------------------------------------------------------------------

void DraftSession::State::Report(DraftSequence* sequence) {
  sequence->reported_length = sequence->kv_length();
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
  EndRollouts(sequence);
  sequence->DropKv();
  SetState(sequence, DraftSequenceState::kEvicted);
}

void DraftSession::State::EndRollouts(DraftSequence* sequence) {
  for (Branch& branch : sequence->tree().branches()) branch.has_ended = true;
  SayNews(sequence);
}

void DraftSession::State::SayNews(DraftSequence* sequence) {
  const int64_t now_ns = face_.NowNs();
  for (Branch& branch : sequence->tree().branches()) {
    std::optional<BranchNews> news = sequence->tree().TakeNews(&branch);
    if (!news.has_value()) continue;
    if (branch.started_ns == 0 && !news->token_ids.empty()) branch.started_ns = now_ns;
    RolloutProgress progress{.sequence_id = sequence->id(),
                             .round_id = sequence->last_round_id,
                             .num_accepted = branch.num_accepted,
                             .root_token = branch.root_token,
                             .first_depth = news->first_depth,
                             .token_ids = std::move(news->token_ids),
                             .scores = std::move(news->scores),
                             .last = news->last,
                             .started_at_ns = branch.started_ns};
    if (branch.started_ns != 0) {
      progress.times.queue_ns = branch.started_ns - branch.received_ns;
      progress.times.rollout_ns = now_ns - branch.started_ns;
    }
    face_.Say(std::move(progress));
  }
}

// ---- work -----------------------------------------------------------------------------------------

bool DraftSession::State::HasWork() const {
  if (face_.has_reports()) return true;
  for (const auto& [id, sequence] : sequences_) {
    if (sequence.tree().HasActive() || sequence.tree().HasNews()) return true;
  }
  return batch_.CanCatchUp(face_.NowNs() - kIdleNs);
}

void DraftSession::State::Work(const Emit& emit) {
  // What was there already when it was asked for.
  for (auto& [id, sequence] : sequences_) {
    if (sequence.tree().HasNews()) SayNews(&sequence);
  }
  face_.SendReports(emit);
  std::vector<BatchPart> parts = NextParts();
  face_.SendReports(emit);  // evictions, before what they made room for
  if (!parts.empty()) RunPass(parts);
  ShowProgress();
  face_.SendReports(emit);
}

std::vector<BatchPart> DraftSession::State::NextParts() {
  const int64_t idle_before_ns = face_.NowNs() - kIdleNs;
  std::vector<BatchPart> parts;
  if (depths_in_a_row_ >= kDepthsBetweenChunks) parts = batch_.NextCatchUp(idle_before_ns);
  depths_in_a_row_ = parts.empty() ? depths_in_a_row_ + 1 : 0;
  if (parts.empty()) parts = batch_.NextRollouts(face_.NowNs());
  if (parts.empty()) {
    depths_in_a_row_ = 0;
    parts = batch_.NextCatchUp(idle_before_ns);
  }
  return parts;
}

void DraftSession::State::RunPass(const std::vector<BatchPart>& parts) {
  const DraftPass pass(parts, engine_->info().vocabulary_size);
  absl::StatusOr<engine::Logits> logits = engine::Logits{};
  if (!pass.rows().empty()) logits = engine_->Run(pass.rows());
  face_.CountRound();
  if (!logits.ok()) {
    // The pass is void: nothing that it wrote may be believed.
    for (const BatchPart& part : parts) Evict(part.sequence);
    return;
  }
  for (const BatchPart& part : parts) part.sequence->AdvanceKv(part.num_path_rows);
  for (size_t i = 0; i < pass.owners().size(); ++i) {
    const LogitsOwner& owner = pass.owners()[i];
    DraftSequence* sequence = parts[owner.part].sequence;
    const auto ranks = proposer_.Rank(sequence, owner.node, logits->Row(static_cast<int32_t>(i)));
    if (ranks.ok()) {
      sequence->tree().SetRanks(owner.node, *ranks);
    } else {
      sequence->tree().Fail(owner.node);
    }
  }
  for (const BatchPart& part : parts) Settle(part);
}

void DraftSession::State::Settle(const BatchPart& part) {
  DraftSequence* sequence = part.sequence;
  const bool rolls_out = sequence->tree().HasActive() || sequence->tree().HasNews();
  if (!rolls_out) {
    return SetState(sequence, sequence->num_pending() <= 1 ? DraftSequenceState::kReady
                                                           : DraftSequenceState::kCatchingUp);
  }
  sequence->tree().Settle();
  SayNews(sequence);
  if (!sequence->tree().HasActive()) Rest(sequence);
}

void DraftSession::State::Rest(DraftSequence* sequence) {
  sequence->last_used_ns = face_.NowNs();
  const bool was_ready = sequence->state == DraftSequenceState::kReady;
  sequence->state = DraftSequenceState::kReady;
  if (!was_ready || IsAckStale(*sequence)) Report(sequence);
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
