#include "workers/verifier/verifier_session.h"

#include <deque>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/engine.h"
#include "workers/engine/sampling/sampler.h"
#include "workers/session/session_face.h"
#include "workers/verifier/verified_sequence.h"
#include "workers/verifier/verify_round.h"

namespace mirrorsd::workers {

class VerifierSession::State {
 public:
  State(engine::Engine* engine, VerifierSessionOptions options, SessionProgress* progress)
      : engine_(engine),
        options_(std::move(options)),
        early_exit_layer_(*ChooseEarlyExitLayer(options_.early_exit_layer, engine->info())),
        face_(engine, options_.clock,
              {.role = WorkerRole::kVerifier,
               .model_name = options_.model_name,
               .vocabulary_fingerprint = options_.vocabulary_fingerprint,
               .limits = options_.limits,
               .step_times = options_.step_times},
              progress),
        sampler_(engine->info().vocabulary_size),
        sequences_(&engine->blocks(),
                   VerifiedSequences::Limits{.max_sequences = face_.limits().max_sequences,
                                             .context_length = engine->info().context_length,
                                             .vocabulary_size = engine->info().vocabulary_size,
                                             .prefix_cache = options_.prefix_cache}) {
    ShowProgress();
  }

  SessionFace& face() { return face_; }

  void Reset() {
    rounds_.clear();
    face_.DropReports();
    sequences_.Clear();
    engine_->blocks().DropUnreferenced();
    ShowProgress();
  }

  void Apply(StartSequence& command) { sequences_.Start(command); }

  void Apply(AppendTokens& command) {
    if (std::optional<SequenceStarted> started = sequences_.Append(command)) {
      face_.Say(*started);
    }
  }

  void Apply(EndSequence& command) {
    sequences_.End(command.sequence_id);
    // Said for an unknown sequence too: whoever ends one waits to hear that it is gone.
    face_.Say(SequenceEnded{command.sequence_id, face_.blocks()});
  }

  void Apply(StartVerify& command) {
    if (rounds_.size() >= static_cast<size_t>(kMaxRoundsInLine)) {
      VerifyDone refused{.round_id = command.round_id, .sent_at_ns = face_.NowNs()};
      for (const VerifyItem& item : command.items) {
        refused.items.push_back(
            {.sequence_id = item.sequence_id,
             .error = WorkerError{"TOO_MANY_ROUNDS", "too many rounds wait in line"}});
      }
      refused.blocks = face_.blocks();
      face_.Say(std::move(refused));
      return;
    }
    rounds_.push_back({std::move(command), face_.NowNs()});
  }

  void Apply(StartRollout&) {}
  void Apply(Drain&) {}

  bool HasWork() const { return face_.has_reports() || !rounds_.empty(); }

  void Work(const Emit& emit) {
    face_.SendReports(emit);
    if (rounds_.empty()) return;
    const WaitingRound waiting = std::move(rounds_.front());
    rounds_.pop_front();
    const int64_t started_ns = face_.NowNs();
    const int64_t queue_ns = started_ns - waiting.received_ns;
    VerifyRound round(engine_, &sequences_, &sampler_, face_.clock(), face_.limits(),
                      early_exit_layer_);
    VerifyDone done = round.Run(waiting.command, [&](EarlyExitReported exit) {
      exit.times.queue_ns = queue_ns;
      exit.sent_at_ns = face_.NowNs();
      emit(std::move(exit));
    });
    done.times.queue_ns = queue_ns;
    done.blocks = face_.blocks();
    face_.CountRound();
    ShowProgress();
    done.sent_at_ns = face_.NowNs();
    emit(std::move(done));
  }

  void ShowProgress() { face_.ShowProgress(sequences_.size()); }

 private:
  struct WaitingRound {
    StartVerify command;
    int64_t received_ns = 0;
  };

  engine::Engine* engine_;
  VerifierSessionOptions options_;
  int32_t early_exit_layer_;
  SessionFace face_;
  engine::Sampler sampler_;
  VerifiedSequences sequences_;
  std::deque<WaitingRound> rounds_;
};

absl::StatusOr<int32_t> ChooseEarlyExitLayer(int32_t wanted, const engine::EngineInfo& info) {
  const int32_t last = info.num_layers - 1;
  if (wanted != 0 && (wanted < 1 || wanted > last)) {
    return InvalidField("early-exit-layer", absl::StrCat("is ", wanted),
                        absl::StrCat("1 to ", last, ": below the target's ", info.num_layers, " layers"));
  }
  if (wanted != 0) return wanted;
  if (info.early_exit_layer >= 1 && info.early_exit_layer <= last) return info.early_exit_layer;
  return info.num_layers / 2;
}

VerifierSession::VerifierSession(engine::Engine* engine, VerifierSessionOptions options)
    : state_(std::make_unique<State>(engine, std::move(options), &progress_)) {}

VerifierSession::~VerifierSession() = default;

Hello VerifierSession::MakeHello(const std::string& name, const std::string& boot_id) const {
  return state_->face().MakeHello(name, boot_id);
}

void VerifierSession::Reset() { state_->Reset(); }

void VerifierSession::Handle(WorkerCommand command) {
  std::visit([this](auto& one) { state_->Apply(one); }, command);
  state_->ShowProgress();
}

bool VerifierSession::HasWork() const { return state_->HasWork(); }

void VerifierSession::Work(const Emit& emit) { state_->Work(emit); }

StepTimes VerifierSession::MeasureStepTimes() { return state_->face().MeasureStepTimes(); }

void VerifierSession::set_step_times(const StepTimes& times) {
  state_->face().set_step_times(times);
}

}  // namespace mirrorsd::workers
