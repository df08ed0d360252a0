#pragma once
// What the core has counted and measured, for metrics, health and tests. Plain data: names and buckets of
// metrics are the owner's business (services/telemetry). Not the journal and not a log.

#include <array>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace mirrorsd::scheduler {

enum class DegradedReason : uint8_t { kDraftLate = 0, kDraftLost = 1 };
inline constexpr int kNumDegradedReasons = 2;
const char* DegradedReasonName(DegradedReason reason);  // "draft_late", "draft_lost"

// Why a request was refused at admission, without any work done for it.
enum class RejectReason : uint8_t {
  kInvalid = 0,    // a field is wrong
  kDuplicate,      // its request_id is live
  kVocabulary,     // another vocabulary fingerprint
  kQueueFull,
  kQueueTimeout,
  kNoVerifier,     // no verifier has told its limits yet
  kDraining,
};
inline constexpr int kNumRejectReasons = 7;
const char* RejectReasonName(RejectReason reason);  // "invalid", "duplicate", "vocabulary", ...

// Why a mirror sequence had no branch's tokens when its next round was to begin.
enum class BranchMissReason : uint8_t {
  kNotPredicted = 0,  // no branch was the outcome
  kNotDrafted,        // one was, but its rollout had no token yet
  kNotReady,          // the draft had nothing to roll out from: catching up, evicted, late, absent
};
inline constexpr int kNumBranchMissReasons = 3;
const char* BranchMissReasonName(BranchMissReason reason);  // "not_predicted", ...

// Monotonic counts since the core was made. Index 0 is the verifier role, 1 the draft role.
struct CoreCounters {
  int64_t requests_submitted = 0;
  int64_t requests_finished = 0;   // CommitTokens with a finish
  int64_t requests_cancelled = 0;
  int64_t requests_failed = 0;     // FailRequest after admission
  std::array<int64_t, kNumRejectReasons> requests_rejected{};
  int64_t resumes = 0;             // sequences that moved to another verifier incarnation
  int64_t kv_retries = 0;          // sequences started again after KV_EXHAUSTED
  int64_t preemptions = 0;         // sequences that gave up their blocks to older ones: num_preemptions_total

  int64_t rounds = 0;
  int64_t prompt_tokens = 0;       // of prompts whose first token came; cached ones count
  int64_t tokens_generated = 0;
  int64_t prefix_cache_queries = 0;  // tokens
  int64_t prefix_cache_hits = 0;     // tokens

  int64_t num_drafts = 0;          // windows verified that were not empty
  int64_t draft_tokens = 0;
  int64_t accepted_tokens = 0;
  std::vector<int64_t> accepted_per_position;
  int64_t empty_windows = 0;       // while speculation was on: fallback_rounds_total{kind="empty"}

  std::vector<int64_t> branch_hits_per_depth;  // [depth - 1] rounds that began with a branch's tokens
  std::array<int64_t, kNumBranchMissReasons> branch_misses{};
  int64_t ngram_windows = 0;       // fallback_rounds_total{kind="ngram"}
  int64_t held_windows = 0;        // fallback_rounds_total{kind="hold"}
  int64_t branches_started = 0;    // roots sent to drafts, but for serial ones

  std::array<int64_t, 2> workers_attached{};  // Welcome sent
  std::array<int64_t, 2> workers_lost{};      // gone without having drained
  std::array<int64_t, 2> workers_refused{};
  std::array<int64_t, 2> workers_faulty{};    // closed for a report that cannot be true
  std::array<int64_t, kNumDegradedReasons> degraded_total{};
  int64_t draft_deadlines_missed = 0;
  int64_t stale_reports = 0;       // late, repeated or of another incarnation: no-ops
  int64_t end_timeouts = 0;        // SequenceEnded that never came
  int64_t observations_dropped = 0;
};

// The present.
struct CoreGauges {
  int32_t num_requests_running = 0;  // have a verifier
  int32_t num_requests_waiting = 0;  // queued or held for a verifier
  std::array<int32_t, 2> workers_attached{};
  std::array<int32_t, 2> workers_draining{};
  int32_t drafts_late = 0;
  std::array<bool, kNumDegradedReasons> degraded{};
  int64_t kv_blocks_total = 0;       // over the attached verifiers
  int64_t kv_blocks_reserved = 0;    // that live and ending sequences may hold
  int64_t kv_blocks_reported_free = 0;  // free and evictable, as last reported
};

struct CoreHealth {
  bool has_verifier = false;  // attached and taking new sequences
  bool stalled = false;       // there is work, and no round has ended for longer than the limit
  bool draining = false;
  bool ready() const { return has_verifier && !stalled && !draining; }
};

enum class ObservationKind : uint8_t {
  kQueueTime = 0,         // submit to first StartSequence at a verifier
  kTimeToFirstToken,      // submit to first committed token
  kInterToken,            // between commits, divided by the tokens of the later one (count of them)
  kTimePerOutputToken,    // of a finished request: first token to last, per token after the first
  kEndToEnd,              // submit to finish
  kVerifierWaitForDraft,  // of a round: verifier free to StartVerify, while a window was awaited
  kRound,                 // StartVerify to VerifyDone at the scheduler
  kRoundQueue,            // phases as the verifier reports them
  kRoundPrefix,
  kRoundExitHead,
  kRoundSuffix,
  kRoundSample,
  kDraftRollout,          // StartRollout to its last progress at the scheduler
  kEarlyExitRelay,        // exit report sent to its first rollout begun, on one host
};
inline constexpr int kNumObservationKinds = 14;

struct Observation {
  ObservationKind kind = ObservationKind::kQueueTime;
  absl::Duration value;
  int32_t count = 1;  // times that the value is to be counted
  bool has_prompt = false;  // kRound and its phases: of a round with prompt tokens
};

}  // namespace mirrorsd::scheduler
