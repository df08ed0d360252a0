#include "workers/verifier/verifier_session.h"

#include <deque>
#include <utility>
#include <variant>

#include "workers/engine/engine.h"
#include "workers/engine/sampling/sampler.h"
#include "workers/session/worker_hello.h"
#include "workers/verifier/verified_sequence.h"
#include "workers/verifier/verify_round.h"

namespace mirrorsd::workers {

class VerifierSession::State {
 public:
  State(engine::Engine* engine, VerifierSessionOptions options, SessionProgress* progress)
      : engine_(engine),
        options_(std::move(options)),
        clock_(options_.clock != nullptr ? options_.clock : &engine::MonotonicClock()),
        limits_(CapToEngine(options_.limits, engine->info())),
        progress_(progress),
        sampler_(engine->info().vocabulary_size),
        sequences_(&engine->blocks(),
                   VerifiedSequences::Limits{.max_sequences = limits_.max_sequences,
                                             .context_length = engine->info().context_length,
                                             .vocabulary_size = engine->info().vocabulary_size,
                                             .prefix_cache = options_.prefix_cache}) {
    ShowProgress();
  }

  Hello MakeHello(const std::string& name, const std::string& boot_id) const {
    Hello hello = DescribeEngine(engine_->info());
    hello.role = WorkerRole::kVerifier;
    hello.name = name;
    hello.boot_id = boot_id;
    if (!options_.model_name.empty()) hello.model_name = options_.model_name;
    hello.vocabulary_fingerprint = options_.vocabulary_fingerprint;
    hello.limits = limits_;
    hello.blocks = CountBlocks(engine_->blocks());
    hello.step_times = options_.step_times;
    return hello;
  }

  void Reset() {
    rounds_.clear();
    reports_.clear();
    sequences_.Clear();
    engine_->blocks().DropUnreferenced();
    ShowProgress();
  }

  void Apply(StartSequence& command) { sequences_.Start(command); }

  void Apply(AppendTokens& command) {
    if (std::optional<SequenceStarted> started = sequences_.Append(command)) {
      reports_.push_back(*started);
    }
  }

  void Apply(EndSequence& command) {
    sequences_.End(command.sequence_id);
    // Said for an unknown sequence too: whoever ends one waits to hear that it is gone.
    reports_.push_back(SequenceEnded{command.sequence_id, CountBlocks(engine_->blocks())});
  }

  void Apply(StartVerify& command) {
    if (rounds_.size() >= static_cast<size_t>(kMaxRoundsInLine)) {
      VerifyDone refused{.round_id = command.round_id, .sent_at_ns = clock_->NowNs()};
      for (const VerifyItem& item : command.items) {
        refused.items.push_back(
            {.sequence_id = item.sequence_id,
             .error = WorkerError{"TOO_MANY_ROUNDS", "too many rounds wait in line"}});
      }
      refused.blocks = CountBlocks(engine_->blocks());
      reports_.push_back(std::move(refused));
      return;
    }
    rounds_.push_back({std::move(command), clock_->NowNs()});
  }

  void Apply(StartRollout&) {}
  void Apply(Drain&) {}

  bool HasWork() const { return !reports_.empty() || !rounds_.empty(); }

  void Work(const Emit& emit) {
    while (!reports_.empty()) {
      WorkerReport report = std::move(reports_.front());
      reports_.pop_front();
      emit(std::move(report));
    }
    if (rounds_.empty()) return;
    const WaitingRound waiting = std::move(rounds_.front());
    rounds_.pop_front();
    const int64_t started_ns = clock_->NowNs();
    VerifyRound round(engine_, &sequences_, &sampler_, clock_, limits_, options_.early_exit_layer);
    VerifyDone done = round.Run(waiting.command);
    done.times.queue_ns = started_ns - waiting.received_ns;
    done.blocks = CountBlocks(engine_->blocks());
    progress_->CountRound();
    ShowProgress();
    done.sent_at_ns = clock_->NowNs();
    emit(std::move(done));
  }

  StepTimes Measure() {
    options_.step_times = workers::MeasureStepTimes(engine_, *clock_);
    return options_.step_times;
  }
  void set_step_times(const StepTimes& times) { options_.step_times = times; }

  void ShowProgress() {
    progress_->SetBlocks(CountBlocks(engine_->blocks()));
    progress_->SetNumSequences(static_cast<int64_t>(sequences_.size()));
  }

 private:
  struct WaitingRound {
    StartVerify command;
    int64_t received_ns = 0;
  };

  engine::Engine* engine_;
  VerifierSessionOptions options_;
  engine::Clock* clock_;
  WorkerLimits limits_;
  SessionProgress* progress_;
  engine::Sampler sampler_;
  VerifiedSequences sequences_;
  std::deque<WaitingRound> rounds_;
  std::deque<WorkerReport> reports_;
};

VerifierSession::VerifierSession(engine::Engine* engine, VerifierSessionOptions options)
    : state_(std::make_unique<State>(engine, std::move(options), &progress_)) {}

VerifierSession::~VerifierSession() = default;

Hello VerifierSession::MakeHello(const std::string& name, const std::string& boot_id) const {
  return state_->MakeHello(name, boot_id);
}

void VerifierSession::Reset() { state_->Reset(); }

void VerifierSession::Handle(WorkerCommand command) {
  std::visit([this](auto& one) { state_->Apply(one); }, command);
  state_->ShowProgress();
}

bool VerifierSession::HasWork() const { return state_->HasWork(); }

void VerifierSession::Work(const Emit& emit) { state_->Work(emit); }

StepTimes VerifierSession::MeasureStepTimes() { return state_->Measure(); }

void VerifierSession::set_step_times(const StepTimes& times) { state_->set_step_times(times); }

}  // namespace mirrorsd::workers
