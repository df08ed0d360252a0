#pragma once
// The scheduler's state machine: everything that decides and nothing that acts. Events go in, actions
// come out; time is an argument. It has no clock, thread, lock, log, random number or protobuf, so the same
// events give the same actions in every run. It owns requests from admission to their one end, the fleet
// of workers, the rounds of each verifier and what the drafts roll out for them.
//
// Not thread-safe: one actor owns it. The owner calls Step for each event in the order of arrival, and with
// TimePassed once NextDeadline() is reached; it performs the actions in order and never calls back from them.
//
// What the owner may rely on:
//  * A stream (Submitted.stream) gets CommitTokens in order of output_index and exactly one last action:
//    CommitTokens with a finish, or FailRequest. That holds for a cancelled stream too (CANCELLED).
//  * A connection gets WelcomeWorker or RefuseWorker first. CloseWorker (or RefuseWorker after a Welcome, when
//    the first verifier turns out to speak another vocabulary) is the last action that names it; a
//    WorkerDetached that follows is a no-op.
//  * EndSequence may be sent to a verifier while a round with that sequence is outstanding. Workers
//    handle commands in order, so the round's VerifyDone still names the sequence; the core ignores it.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/request.h"
#include "common/speculation_policy.h"
#include "scheduler/core/counters.h"
#include "scheduler/core/events.h"

namespace mirrorsd::scheduler {

struct CoreConfig {
  uint64_t scheduler_epoch = 1;  // differs from every earlier life of this scheduler
  // What workers must have; empty: the first verifier decides, for as long as verifiers or requests live.
  std::string vocabulary_fingerprint;
  std::string model_fingerprint;
  bool allow_other_numerics = false;  // resume on a verifier of another numerics_id

  // The table of scheduler/policy: one row per mode that may be asked for.
  std::vector<SpeculationPolicy> policies;
  SpeculationMode speculation = SpeculationMode::kSerial;  // what kDefault means
  int32_t num_speculative_tokens = 4;
  int32_t branch_top_k = 4;    // K: candidates that the early exit reports of each row; 1 to kMaxBranchTopK
  int32_t branch_budget = 64;  // branches of one round's cohort
  MissFallback miss_fallback = MissFallback::kEmpty;

  int32_t max_num_seqs = 256;      // live sequences of one verifier, below the worker's own limit
  int32_t max_queued = 1024;       // requests that wait for a verifier; beyond: RESOURCE_EXHAUSTED
  int32_t max_prefill_rows_per_round = 256;
  absl::Duration queue_timeout = absl::Seconds(60);

  absl::Duration worker_timeout = absl::Seconds(5);            // without a message
  absl::Duration verifier_loss_timeout = absl::Seconds(30);    // a request waits for another verifier
  absl::Duration min_round_timeout = absl::Seconds(10);        // else 10 x predicted
  absl::Duration end_timeout = absl::Seconds(10);              // SequenceEnded
  absl::Duration stall_timeout = absl::Seconds(10);            // work, but no round ended: not ready
  absl::Duration min_draft_wait = absl::Milliseconds(5);       // of a cohort; else 2 x median
  absl::Duration max_draft_wait = absl::Seconds(2);
  int32_t max_missed_deadlines = 3;                            // in a row; then the draft is late
};

class Machine;  // scheduler/core/machine.h

class Core {
 public:
  explicit Core(CoreConfig config);
  ~Core();
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;

  // Handles deadlines that `now` has reached, then the event; appends to `actions`. `now` is monotonic (a
  // smaller one than before is taken as the one before).
  void Step(absl::Time now, const Event& event, std::vector<Action>* actions);

  // When Step wants to be called with TimePassed at the latest; InfiniteFuture if never.
  absl::Time NextDeadline() const;

  // CHECKs what must hold between steps. Costs time in proportion to everything that lives: for tests.
  void CheckInvariants() const;

  // After DrainRequested: no request lives any more.
  bool IsDrained() const;

  CoreHealth Health(absl::Time now) const;
  const CoreCounters& counters() const;
  CoreGauges Gauges() const;
  std::vector<ConnectionId> LateDrafts() const;  // in order of attachment

  // Measurements since the last call. At most 65,536 are kept; the rest is dropped and counted.
  std::vector<Observation> TakeObservations();

 private:
  std::unique_ptr<Machine> machine_;
};

}  // namespace mirrorsd::scheduler
