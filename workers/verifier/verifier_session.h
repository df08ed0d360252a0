#pragma once
// The verifier of one attachment: commands in, engine calls, reports out. It owns the sequences and the
// rounds in line; the engine owns memory and arithmetic. Not a server: it knows no stream, no fence (the
// process drops what is of another epoch or incarnation) and no clock but the one passed in.
//
// Commands come validated in shape (services/wire) but not against state. What does not fit the state is
// never a crash: an item of a round gets its WorkerError, anything else late or repeated is a no-op.
//
// Thread rule: one thread; only progress() may be read from others.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/worker_messages.h"
#include "workers/engine/tensor/clock.h"
#include "workers/session/session_progress.h"

namespace mirrorsd::engine {
class Engine;
struct EngineInfo;
}

namespace mirrorsd::workers {

struct VerifierSessionOptions {
  // max_rows bounds the rows of one engine pass; a larger round fails by item with TOO_MANY_ROWS.
  WorkerLimits limits{.max_sequences = 256, .max_rows = 4096, .max_window = 16};
  std::string model_name;              // for people
  std::string vocabulary_fingerprint;  // of tokenizer.json; computed by the process
  int32_t early_exit_layer = 0;        // as ChooseEarlyExitLayer takes it; one that it refuses is our bug
  StepTimes step_times;                // as MeasureStepTimes() found; zero: not measured
  bool prefix_cache = true;            // look-up and insertion of full blocks
  engine::Clock* clock = nullptr;      // outlives the session; null: the host's
};

// The layer after which a pass is cut and the exit reports: `wanted`, or where that is 0 what the model's config.json
// names, or half its layers. 0 for a model of one layer: it has no place for an exit.
// Errors: INVALID_FIELD naming early-exit-layer where it is not below the number of layers
absl::StatusOr<int32_t> ChooseEarlyExitLayer(int32_t wanted, const engine::EngineInfo& info);

class VerifierSession {
 public:
  using Emit = std::function<void(WorkerReport)>;

  // `engine` outlives the session and is used by nobody else.
  VerifierSession(engine::Engine* engine, VerifierSessionOptions options);
  ~VerifierSession();
  VerifierSession(const VerifierSession&) = delete;
  VerifierSession& operator=(const VerifierSession&) = delete;

  // Who we are, for a new Attach stream; blocks are as of now.
  Hello MakeHello(const std::string& name, const std::string& boot_id) const;

  // A new attachment: sequences, rounds in line and unsent reports are dropped, their blocks freed, and
  // the prefix cache is emptied ("a new Attach starts with empty KV").
  void Reset();

  // Takes one command: applies it at once or puts it in line. Never computes; reports come from Work().
  // StartSequence, AppendTokens and EndSequence act at once; StartVerify waits in line (bounded: a round
  // beyond kMaxRoundsInLine is answered with errors). Drain and StartRollout are ignored.
  void Handle(WorkerCommand command);

  // Whether Work() has something to do or to say.
  bool HasWork() const;

  // Emits the reports that wait, then runs at most one round: one engine pass over all its items, where an item
  // asks for candidates an EarlyExitReported in the pass's middle, the sampling of its rows, and its
  // VerifyDone. Returns between rounds, so that the caller can look at its mailbox. A round in line always ends in
  // exactly one VerifyDone with one entry per item.
  void Work(const Emit& emit);

  // Runs a few passes on scratch sequences and returns what one row and each further row cost. Call
  // before the first Handle.
  StepTimes MeasureStepTimes();
  void set_step_times(const StepTimes& times);

  // Readable from any thread.
  const SessionProgress& progress() const { return progress_; }

  static constexpr int kMaxRoundsInLine = 8;  // the scheduler sends two at most

 private:
  class State;
  SessionProgress progress_;
  std::unique_ptr<State> state_;
};

}  // namespace mirrorsd::workers
