#pragma once
// One round: every item checked against the state, one engine pass over what is left, what the early exit
// foresees of the items that ask, the target's own token at each row in order, and what of each window
// equals it. The exit's view changes nothing of the outcome. Not thread-safe.

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "common/worker_messages.h"
#include "workers/engine/engine.h"
#include "workers/engine/sampling/sampler.h"
#include "workers/engine/tensor/clock.h"
#include "workers/verifier/verified_sequence.h"

namespace mirrorsd::workers {

class VerifyRound {
 public:
  using OnExit = std::function<void(EarlyExitReported)>;

  // All outlive it. `early_exit_layer`: 1 to L - 1; 0: the pass is not cut, and nothing is foreseen.
  VerifyRound(engine::Engine* engine, VerifiedSequences* sequences, engine::Sampler* sampler,
              engine::Clock* clock, const WorkerLimits& limits, int32_t early_exit_layer);

  // Runs it whole: exactly one entry per item, in order. queue_ns and blocks are the caller's to fill. `on_exit`
  // is called before the layers after the exit run, at most once, where an item asked and has rows to tell of;
  // queue_ns and sent_at_ns are the caller's to fill.
  VerifyDone Run(const StartVerify& command, const OnExit& on_exit);

 private:
  // An item that takes part in the pass.
  struct Part {
    size_t index = 0;  // of the item
    VerifiedSequence* sequence = nullptr;
    const VerifyItem* item = nullptr;
    int32_t begin = 0;         // position of the first row
    bool yields_token = false;  // has rows whose target token is wanted
    int32_t first_logits_row = 0;
    std::vector<TokenId> row_tokens;

    int32_t num_rows() const { return static_cast<int32_t>(row_tokens.size()); }
    int32_t num_logits_rows() const {
      return yields_token ? static_cast<int32_t>(item->window.size()) + 1 : 0;
    }
    bool asks() const { return item->branch_top_k > 0 && num_rows() > 0 && yields_token; }
  };

  // What is wrong with the item, or none, and then the part it plays.
  std::optional<WorkerError> Plan(const VerifyItem& item, Part* part) const;
  std::optional<WorkerError> PlanPrefill(const VerifyItem& item, Part* part) const;
  std::optional<WorkerError> PlanWindow(const VerifyItem& item, Part* part) const;
  // Takes the item into the pass if rows and blocks are to be had.
  std::optional<WorkerError> Admit(Part part);
  absl::StatusOr<engine::Logits> RunPass(EarlyExitReported* exit, const OnExit& on_exit,
                                         VerifierPhaseTimes* times);
  // Head and noise for the rows of the items that ask; fills `exit->items`.
  absl::Status RunExit(EarlyExitReported* exit);
  // None where the exit's logits are not numbers.
  std::optional<EarlyExitItem> Foresee(const Part& part, const engine::Logits& logits,
                                       int32_t first_row);
  void Finish(const Part& part, const engine::Logits& logits, VerifyItemDone* done);

  engine::Engine* engine_;
  VerifiedSequences* sequences_;
  engine::Sampler* sampler_;
  engine::Clock* clock_;
  WorkerLimits limits_;
  int32_t early_exit_layer_;
  std::vector<Part> parts_;
  int32_t num_rows_ = 0;
  int32_t num_logits_rows_ = 0;
};

}  // namespace mirrorsd::workers
