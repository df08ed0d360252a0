#pragma once
// What the core remembers: requests, workers, and the rounds between them. Plain data; what may be done
// with it is in machine.h. Pointers between the structs are cleared before what they point at goes.
//
//   Sequence ── one live request ──────────────▶ Worker (verifier): Lease, Cohort, Round
//      └────── its tokens, drafting, deadlines ─▶ Worker (draft):    Lease

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "common/ids.h"
#include "common/request.h"
#include "common/speculation_policy.h"
#include "common/worker_messages.h"
#include "scheduler/core/counters.h"
#include "scheduler/core/hypothesis_tree.h"
#include "scheduler/books/kv_ledger.h"
#include "scheduler/odds/branch_odds.h"
#include "scheduler/odds/gap_table.h"

namespace mirrorsd::scheduler {

struct Worker;

// waiting ──▶ starting ──▶ prefilling ──▶ decoding ──▶ (end)
//    ▲ StartSequence  SequenceStarted  first token  │
//    └──── verifier lost, preempted, KV_EXHAUSTED ◀───┘
enum class Stage : uint8_t { kWaiting = 0, kStarting, kPrefilling, kDecoding };

struct Drafting {
  Worker* worker = nullptr;  // null: none assigned
  SequenceId id = 0;         // at that worker
  DraftSequenceState state = DraftSequenceState::kAbsent;
  int32_t kv_length = 0;  // acknowledged; <= committed_length
  bool retry_pending = false;
  HypothesisTree tree;
};

struct Sequence {
  uint64_t ordinal = 0;  // order of admission
  ConnectionId stream = 0;
  std::string request_id;
  SamplingParameters sampling;
  std::vector<TokenId> end_token_ids;
  const SpeculationPolicy* policy = nullptr;
  int32_t requested_window = 0;
  int32_t requested_top_k = 0;
  bool speculation_on = false;

  std::vector<TokenId> tokens;  // prompt and committed output
  int32_t prompt_length = 0;
  int32_t max_length = 0;  // prompt + max_tokens or the context, whichever is less; > tokens.size()
  int32_t committed_length() const { return static_cast<int32_t>(tokens.size()); }
  int32_t remaining_tokens() const { return max_length - committed_length(); }
  int32_t num_output_tokens() const { return committed_length() - prompt_length; }

  Stage stage = Stage::kWaiting;
  Worker* verifier = nullptr;  // null exactly while waiting
  SequenceId verifier_id = 0;  // the sequence there
  int32_t total_length = 0;    // committed_length when it was started there
  int32_t prefilled_length = 0;
  RoundId decided_round = 0;  // whose outcome ended with tokens.back(); 0: none at this verifier yet
  int32_t decided_length = 0;  // committed length before that outcome
  std::vector<TokenId> decided_window;
  int32_t decided_accepted = 0;
  PolicyDecision plan;         // for the next round
  AcceptanceRecord acceptance;
  int32_t item_index = -1;     // in the outstanding round
  KvShare kv;                  // in the verifier's ledger
  int32_t cohort_index = 0;    // of the verifier's cohorts
  std::list<Sequence*>::iterator position;  // in Cohort::prefilling or Cohort::decoding

  // While waiting: which numerics_id it is bound to ("" is any), and whether that has started.
  std::string numerics_id;
  bool was_placed = false;
  uint64_t last_incarnation = 0;  // where it was placed last
  bool queued = false;  // in the waiting lines (not: pausing before a retry)
  int32_t num_retries = 0;  // since its last token
  int32_t num_losses = 0;   // likewise

  Drafting draft;

  absl::Time submitted_at;
  absl::Time first_token_at;
  absl::Time last_commit_at;
  absl::Duration queue_time;
  SpeculationStats stats;
};

// What one worker incarnation holds for us: a sequence there, until SequenceEnded.
struct Lease {
  Sequence* sequence = nullptr;  // null: EndSequence was sent
  KvShare kv;                    // at a verifier, of one that ends; a live one has its own
};

// Where a round's window came from.
enum class WindowSource : uint8_t {
  kNone = 0,  // nothing was to be drafted, or nothing came in time
  kSerial,    // drafted after the outcome
  kBranch,    // drafted before it
  kNgram,
  kHeld,      // a miss, drafted after the outcome while the cohort was held
};

struct RoundItem {
  SequenceId id = 0;
  Sequence* sequence = nullptr;  // null once the request has left this verifier
  bool is_prefill = false;
  int32_t begin = 0;
  int32_t end = 0;
  int32_t committed_length = 0;
  std::vector<TokenId> window;
  WindowSource source = WindowSource::kNone;
  int32_t depth = 0;                     // tokens that were there, of which the window took some
  std::optional<BranchMissReason> miss;  // of a mirror sequence
  int32_t branch_top_k = 0;
  std::vector<EarlyExitRow> exit_rows;   // as reported
  bool done = false;
};

struct Round {
  RoundId id = 0;
  int32_t cohort_index = 0;
  absl::Time started_at;
  int32_t num_rows = 0;
  absl::Duration predicted;
  std::vector<RoundItem> items;
  int32_t num_done = 0;
  int32_t num_branches = 0;    // asked of the drafts so far
  size_t next_exit = 0;        // where the next item of the early exit's report is as a rule
  bool exit_reported = false;  // all of that is here
  // Reports come in the order of the items as a rule; the index is built for those that do not.
  absl::flat_hash_map<SequenceId, int32_t> index;
};

// The durations of the last rollouts by the depth that was asked for, for the wait of a cohort: rollouts of two and of
// eight tokens share one median.
class RolloutTimes {
 public:
  static constexpr int kNum = 32;
  void Add(absl::Duration duration, int32_t depth) {
    times_[num_++ % kNum] = duration / std::max(depth, 1);
  }
  int64_t num() const { return num_; }
  absl::Duration MedianPerDepth() const;

 private:
  std::array<absl::Duration, kNum> times_;
  int64_t num_ = 0;
};

// The sequences that go through rounds together. A verifier runs one, or two in turn: while one's round runs, the
// other's windows are drafted.
struct Cohort {
  std::list<Sequence*> prefilling;  // in order of arrival
  std::list<Sequence*> decoding;    // those longest without a round first
  int32_t num_sequences = 0;        // these, and those that are starting
  int32_t num_awaited = 0;          // rollouts that the next round waits for
  int32_t awaited_depth = 0;        // the deepest of them, and of those awaited since the last round
  bool waiting = false;             // a kDraftWindows deadline is set
};
inline constexpr int32_t kNumCohorts = 2;

struct Worker {
  ConnectionId connection = 0;
  Fence fence;
  Hello hello;
  bool draining = false;
  bool dirty = false;  // in Machine::dirty_verifiers_
  bool gone = false;   // removed in this step
  absl::Time heard_at;
  bool forgiven = false;  // silence was put down to ourselves once
  SequenceId first_sequence_id = 0;  // ids below are of earlier incarnations
  KvBlocks reported_blocks;

  absl::flat_hash_map<SequenceId, Lease> leases;  // look-up; also ending ones
  std::map<uint64_t, Sequence*> live;             // without the ending ones, by ordinal: oldest first
  std::set<SequenceId> ending;                    // the others

  // Verifier.
  KvLedger ledger;
  bool claimed = false;  // one that may not be overtaken waits for room here
  std::array<Cohort, kNumCohorts> cohorts;
  int32_t last_cohort = 0;          // whose round ran last
  std::optional<Round> round;       // outstanding at the worker
  absl::Time free_since;
  RolloutTimes rollout_times;
  absl::Duration recent_round;  // smoothed, for the round's time limit

  // Draft.
  int32_t num_missed = 0;  // deadlines in a row
  RoundId missed_round = 0;
  bool late = false;
  bool mute = false;  // it left an EndSequence unanswered, and has said nothing of a sequence since
  int64_t num_depths_done = -1;  // as it last reported
  absl::Time progress_at;        // when that changed, or it had nothing to catch up with
  bool pool_full = false;  // it evicted a sequence: nothing new until one ends or is ready

  // The cohort of one of its sequences.
  Cohort& CohortOf(const Sequence& sequence) { return cohorts[sequence.cohort_index]; }
  const Cohort& CohortOf(const Sequence& sequence) const { return cohorts[sequence.cohort_index]; }

  bool is_verifier() const { return hello.role == WorkerRole::kVerifier; }
  int role_index() const { return is_verifier() ? 0 : 1; }
};

}  // namespace mirrorsd::scheduler
