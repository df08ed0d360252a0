#pragma once
// The inside of Core: one class, its functions grouped by the file that holds them. Handlers change the
// state and append actions; what a change makes possible elsewhere (a round to start, a place to fill) is
// noted in the dirty marks and done once, at the end of the step, by Settle. Not thread-safe.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "scheduler/core/core.h"
#include "scheduler/books/deadlines.h"
#include "scheduler/core/state.h"

namespace mirrorsd::scheduler {

class Machine {
 public:
  explicit Machine(CoreConfig config);
  ~Machine();

  // core.cc
  void Step(absl::Time now, const Event& event, std::vector<Action>* actions);
  absl::Time NextDeadline() const { return deadlines_.Next(); }
  bool IsDrained() const { return draining_ && sequences_.empty(); }
  CoreHealth Health(absl::Time now) const;
  CoreGauges Gauges() const;
  std::vector<ConnectionId> LateDrafts() const;
  const CoreCounters& counters() const { return counters_; }
  std::vector<Observation> TakeObservations();

  // invariants.cc
  void CheckInvariants() const;

 private:
  // core.cc
  void Dispatch(const Event& event);
  void HandleDeadline(Wait wait, uint64_t id);
  void ForgiveOwnStall(absl::Time was_due);
  void Settle();
  void Observe(ObservationKind kind, absl::Duration value, int32_t count = 1, bool has_prompt = false);
  template <typename T>
  void Act(T action) {
    actions_->emplace_back(std::in_place_type<T>, std::move(action));
  }
  void Send(Worker* worker, WorkerCommand command);
  void MarkDirty(Worker* verifier);

  // fleet.cc: workers come and go
  void HandleAttached(const WorkerAttached& event);
  std::optional<Refused> CheckHello(const Hello& hello) const;
  std::optional<Refused> CheckVerifierHello(const Hello& hello) const;
  void AdoptProfile(const Hello& hello);
  void CloseFaulty(Worker* worker, absl::string_view what);
  void CloseLost(Worker* worker, absl::string_view why);
  void RemoveWorker(Worker* worker);
  void HandleWorkerSilent(Worker* worker);
  void HandleWorkerDrain(Worker* worker);
  void SetDegraded(DegradedReason reason, bool degraded);
  bool TakeBlocks(Worker* worker, const KvBlocks& blocks);
  Worker* FindConnection(ConnectionId connection) const;

  // reports.cc: what a worker says, held against what it was asked
  void HandleReport(const WorkerReported& event);
  void HandleStarted(Worker* worker, const SequenceStarted& report);
  void HandleEnded(Worker* worker, const SequenceEnded& report);
  void HandleVerifyItem(Worker* worker, const VerifyItemReport& report);
  void HandleVerifyRoundDone(Worker* worker, const VerifyRoundDone& report);
  void HandleExitItem(Worker* worker, const EarlyExitItemReport& report);
  void HandleExitRound(Worker* worker, const EarlyExitRoundReport& report);
  void HandleProgress(Worker* worker, const RolloutProgress& report);
  void HandleDraftState(Worker* worker, const SequenceState& report);
  // The live sequence, or null after having dealt with an id that is stale (a no-op) or was never given
  // (the worker is closed).
  Sequence* FindLive(Worker* worker, SequenceId id);

  // admission.cc: from Submit to a place at a verifier
  void HandleSubmitted(const Submitted& event);
  absl::Status CheckSubmit(const SubmitRequest& request, RejectReason* reason) const;
  absl::Status CheckTokens(const SubmitRequest& request) const;
  const SpeculationPolicy* FindPolicy(SpeculationMode mode) const;
  void Reject(ConnectionId stream, RejectReason reason, const absl::Status& status);
  void Enqueue(Sequence* sequence);
  void Dequeue(Sequence* sequence);
  void PlaceWaiting();
  bool IsOpen(const std::string& numerics_id, bool never_placed) const;
  void Claim(const Sequence& sequence);
  bool MayServe(const Worker& verifier, const Sequence& sequence) const;
  Worker* FindVerifier(const Sequence& sequence) const;
  void Place(Sequence* sequence, Worker* verifier);
  void SendTokens(Worker* worker, SequenceId id, const Sequence& sequence);
  SequenceId OpenLease(Worker* worker, Sequence* sequence);

  // ends.cc: the one end of a request, and what it held
  void Finish(Sequence* sequence, Committed committed);
  void Fail(Sequence* sequence, const absl::Status& status);
  void Remove(Sequence* sequence);
  void LeaveVerifier(Sequence* sequence, bool tell);
  void LeaveDraft(Sequence* sequence, bool tell);
  void EndLease(Worker* worker, SequenceId id, Sequence* sequence);
  void CloseLease(Worker* worker, SequenceId id);
  void HandleCancelled(const Cancelled& event);

  // resume.cc: requests that lost their place
  void HoldForVerifier(Sequence* sequence);
  void HandleItemError(Sequence* sequence, const WorkerError& error);
  void StartAgainLater(Sequence* sequence);
  void Bind(Sequence* sequence, const std::string& numerics_id);
  void HandleVerifierWaitOver(Sequence* sequence);
  bool HasVerifier(const Sequence& sequence, const Worker* other_than) const;
  void CountAbsence(const Worker& leaving);

  // preemption.cc: when blocks run short
  void MakeRoom(Worker* verifier, const Cohort& cohort);
  Sequence* FindVictim(const Worker& verifier) const;
  void Preempt(Sequence* sequence);

  // rounds.cc: the loop of one verifier
  void MaybeStartRound(Worker* verifier);
  bool MustWaitForWindows(Worker* verifier, int32_t cohort_index);
  void StopWaiting(Worker* verifier, int32_t cohort_index);
  absl::Duration DraftWait(const Worker& verifier, int32_t depth) const;
  void CountMissedDeadlines(Worker* verifier, const Round& round);
  void CountMissedDeadline(Worker* draft, RoundId round_id);
  void StartRound(Worker* verifier, int32_t cohort_index);
  void AddDecoding(Worker* verifier, int32_t max_rows, Round* round);
  void AddWindows(Worker* verifier, int32_t max_rows, Round* round);
  void AddChunks(Worker* verifier, int32_t max_rows, Round* round);
  void ApplyOutcome(RoundItem* item, const VerifyItemDone& done);
  void CommitOutcome(RoundItem* item, const VerifyItemDone& done);
  void CountCommit(Sequence* sequence, const RoundItem& item, int32_t num_accepted,
                   int32_t num_committed);
  void CountBranches(Sequence* sequence, const RoundItem& item);
  int32_t ChunkReserve(const Worker& verifier, const Cohort& cohort) const;
  absl::Duration PredictRound(const Worker& verifier, int32_t num_rows) const;
  absl::Duration RoundLimit(const Round& round) const;

  // windows.cc: what each sequence's next round verifies
  void DecideWindows(Worker* verifier, const Cohort& cohort);
  void PlanPrompts(const Worker& verifier, const Round& round);
  void AskPolicies(const Worker& verifier);
  void AskPolicy(const Worker& verifier, const SpeculationPolicy& policy);
  bool WantsSerial(const Sequence& sequence) const;
  int32_t WindowCap(const Sequence& sequence) const;
  int32_t DraftCap(const Sequence& sequence) const;
  const Branch* DecidedBranch(const Sequence* sequence) const;
  void TakeWindow(const Sequence& sequence, int32_t max_window, RoundItem* item) const;

  // branching.cc: what the drafts are asked to roll out, and what they say
  void AskSerial(Sequence* sequence, int32_t depth);
  void PlantTrees(Worker* verifier);
  bool CanBranch(const Sequence& sequence) const;
  void GrowTrees(Worker* verifier, int64_t exit_sent_at_ns);
  void AskOptions(Worker* verifier, int64_t exit_sent_at_ns);
  void Ask(Sequence* sequence, BranchOrigin origin, StartRollout command);
  StartRollout BeginTree(Sequence* sequence, RoundId round_id, int32_t path_length, int32_t depth);
  StartRollout GrowTree(const Sequence& sequence) const;
  int32_t BranchDepth(const Sequence& sequence, int32_t window_size) const;
  void DropFutile(const Round& round);
  void LearnOutcome(const RoundItem& item, const VerifyItemDone& done);
  void TakeProgress(Sequence* sequence, Branch* branch, const RolloutProgress& report);
  void FinishBranch(Sequence* sequence, Branch* branch);
  void CountSilentTrees(const Worker& verifier, const Round& round);
  void StopAwaiting(Sequence* sequence);

  // drafting.cc: which draft-worker a sequence sticks to, and whether that keeps its deadlines
  void WatchDraft(Worker* draft, const Heartbeat& beat);
  void MarkLate(Worker* draft, bool late);
  void AssignDrafts();
  Worker* FindDraft(const Sequence& sequence, bool* any_room) const;
  void Assign(Sequence* sequence, Worker* draft);
  void WantDraft(Sequence* sequence);
  void RetryDraftLater(Sequence* sequence);

  Sequence* FindOrdinal(uint64_t ordinal) const;

  const CoreConfig config_;
  absl::Time now_ = absl::InfinitePast();
  std::vector<Action>* actions_ = nullptr;  // of the current step
  CoreCounters counters_;
  std::vector<Observation> observations_;
  Deadlines deadlines_;
  bool draining_ = false;
  absl::Time last_progress_ = absl::InfinitePast();  // a round ended, or work came to an idle cell

  uint64_t next_ordinal_ = 1;
  SequenceId next_sequence_id_ = 1;
  RoundId next_round_id_ = 1;
  uint64_t next_incarnation_ = 1;

  // What every verifier of the cell has in common; from the first one. Holds while any verifier or
  // request lives.
  std::optional<Hello> profile_;

  std::map<uint64_t, std::unique_ptr<Sequence>> sequences_;        // by ordinal
  absl::flat_hash_map<ConnectionId, Sequence*> by_stream_;         // look-up only
  absl::flat_hash_map<std::string, Sequence*> by_request_id_;      // look-up only
  // Who waits for a verifier, by the numerics_id that they are bound to ("": any). A line is in the order
  // of places: those that have had one first, then by ordinal.
  using PlaceKey = std::pair<bool, uint64_t>;  // never placed, ordinal
  using Line = std::map<PlaceKey, Sequence*>;
  static PlaceKey KeyOf(const Sequence& sequence) {
    return {!sequence.was_placed, sequence.ordinal};
  }
  std::map<std::string, Line> waiting_;
  int32_t num_queued_new_ = 0;  // of these, never placed
  std::map<uint64_t, Sequence*> undrafted_;  // want a draft-worker and have none, by ordinal

  std::map<uint64_t, std::unique_ptr<Worker>> workers_;       // by incarnation
  absl::flat_hash_map<ConnectionId, Worker*> by_connection_;  // look-up only
  std::vector<Worker*> verifiers_;  // in order of attachment
  std::vector<Worker*> drafts_;
  std::map<SequenceId, uint64_t> ending_;  // leases whose SequenceEnded is awaited -> incarnation

  std::array<bool, kNumDegradedReasons> degraded_{};
  int32_t num_drafts_late_ = 0;
  int32_t num_drafts_missing_ = 0;  // lost, and no other came since

  // Marks for Settle.
  std::vector<Worker*> dirty_verifiers_;
  bool placing_ = false;    // a place may have become free, or someone came to wait
  bool assigning_ = false;  // likewise at the drafts

  // What exits have said and what came of it: of greedy requests, and of those with noise.
  std::array<GapTable, 2> gaps_;

  // Scratch of DecideWindows and PlanPrompts.
  std::vector<Sequence*> candidates_;
  std::vector<Sequence*> asked_;
  std::vector<SequenceOutlook> outlooks_;
  std::vector<PolicyDecision> decisions_;
  std::vector<Sequence*> planned_;
  // Scratch of PlantTrees and GrowTrees.
  std::vector<BranchOption> options_;

  // What left in this step; kept to its end, because callers may still hold the pointer.
  std::vector<std::unique_ptr<Sequence>> gone_sequences_;
  std::vector<std::unique_ptr<Worker>> gone_workers_;
};

}  // namespace mirrorsd::scheduler
