#pragma once
// The messages of the Attach streams as plain structs: what the scheduler core and the worker sessions
// speak. services/wire converts them to and from mirrorsd.internal.v1 and validates; nothing here knows
// protobuf. Times are CLOCK_MONOTONIC nanoseconds of the host that the sender's boot_id names.
//
// Token ranges are half-open and count from the first prompt token. A sequence's `committed_length` counts
// prompt and output tokens that are final; once prefilled, the verifier's KV covers all but the last.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/ids.h"
#include "common/sampling_parameters.h"

namespace mirrorsd {

// ---- fleet ----------------------------------------------------------------------------------------

enum class WorkerRole : uint8_t { kVerifier = 1, kDraft = 2 };

struct WorkerLimits {
  int32_t max_sequences = 0;       // live sequences
  int32_t max_rows = 0;            // rows of one StartVerify (verifier) or of one depth (draft)
  int32_t max_window = 0;          // G: window tokens of one sequence in one round
};

// Times measured by the worker at start; they seed the policies' estimates.
struct StepTimes {
  int64_t base_ns = 0;     // a step of one row
  int64_t per_row_ns = 0;  // each further row
};

struct KvBlocks {
  int64_t total = 0;
  int64_t free = 0;       // neither referenced nor cached
  int64_t evictable = 0;  // cached, unreferenced: count as free

  bool operator==(const KvBlocks&) const = default;
};

struct Hello {
  uint32_t schema_revision = kSchemaRevision;
  WorkerRole role = WorkerRole::kVerifier;
  std::string name;
  std::string boot_id;
  std::string model_name;               // for people: the model folder's last component
  std::string model_fingerprint;
  std::string vocabulary_fingerprint;
  std::string numerics_id;
  int32_t context_length = 0;           // tokens, prompt and output
  int32_t vocabulary_size = 0;          // rows of the embedding; ids below are valid
  int32_t num_layers = 0;
  int32_t kv_block_tokens = 0;          // tokens per KV block
  WorkerLimits limits;
  KvBlocks blocks;
  StepTimes step_times;
  int64_t process_id = 0;               // for people
};

struct Welcome {
  uint64_t scheduler_epoch = 0;
  uint64_t incarnation = 0;
};

struct Refused {
  std::string reason;      // a stable word: VOCABULARY_MISMATCH, SCHEMA_MISMATCH, ...
  std::string message;     // for people
  bool retryable = false;  // false: the worker should exit rather than dial again
};

struct Heartbeat {
  int64_t sent_at_ns = 0;
  int64_t num_rounds_done = 0;  // rounds (verifier) or depths (draft) since start: progress
  KvBlocks blocks;
};

struct Drain {};  // either way: no new sequences; live ones go on

// ---- both workers ---------------------------------------------------------------------------------

// `prompt_length` is the original prompt's, also on a resume: output positions count from it.
struct StartSequence {
  SequenceId sequence_id = 0;
  SamplingParameters sampling;
  std::vector<TokenId> end_token_ids;
  int32_t prompt_length = 0;
  int32_t total_length = 0;  // tokens that AppendTokens will bring; committed_length at the start
};

struct AppendTokens {
  SequenceId sequence_id = 0;
  int32_t offset = 0;
  std::vector<TokenId> token_ids;  // at most kMaxTokensPerAppend
};

// May come while a round with the sequence is outstanding; its VerifyDone still names the sequence.
// Answered by SequenceEnded (verifier) or SequenceState{kAbsent} (draft).
struct EndSequence {
  SequenceId sequence_id = 0;
};

// ---- verifier -------------------------------------------------------------------------------------

struct SequenceStarted {
  SequenceId sequence_id = 0;
  int32_t cached_length = 0;  // tokens whose KV the prefix cache already holds; < total_length
};

// One sequence of a round: a prefill chunk (is_prefill) or a window.
//   prefill: rows are the tokens [begin, end); with end == total_length the last row is an empty-window
//            row and yields the correction token, otherwise the chunk is an inner one and yields none.
//   window:  rows are the last committed token and window[0..G): G + 1 rows.
struct VerifyItem {
  SequenceId sequence_id = 0;
  int32_t committed_length = 0;
  bool is_prefill = false;
  int32_t begin = 0;
  int32_t end = 0;
  std::vector<TokenId> window;
  // K: candidates wanted of each of its rows at the early exit, at most kMaxBranchTopK; 0: no report of
  // this item. An inner chunk has none.
  int32_t branch_top_k = 0;
};

struct StartVerify {
  RoundId round_id = 0;
  std::vector<VerifyItem> items;
};

struct Candidate {
  TokenId token = 0;
  float score = 0;  // processed logit plus noise
};

// One row as the exit sees it, under the request's own processing and noise. A token that the processing
// masks is no candidate; a drafted token that it masks scores the lowest finite float.
struct EarlyExitRow {
  std::optional<float> drafted_score;  // none in the last row
  std::vector<Candidate> candidates;   // at most K, best first, the drafted token left out
};

struct EarlyExitItem {
  SequenceId sequence_id = 0;
  std::vector<EarlyExitRow> rows;  // [G + 1]
};

struct VerifierPhaseTimes {
  int64_t queue_ns = 0;      // received to started
  int64_t prefix_ns = 0;     // layers [0, early_exit_layer)
  int64_t exit_head_ns = 0;
  int64_t suffix_ns = 0;     // layers [early_exit_layer, L) and the final head
  int64_t sample_ns = 0;
};

// Sent while the layer suffix runs, at most once a round and before its VerifyDone. It names the items that
// asked for it, in their order; one that failed, or whose exit logits are not numbers, is left out.
struct EarlyExitReported {
  RoundId round_id = 0;
  int64_t sent_at_ns = 0;
  std::vector<EarlyExitItem> items;
  VerifierPhaseTimes times;
};

struct WorkerError {
  std::string reason;   // a stable word: NAN_LOGITS, KV_EXHAUSTED, UNKNOWN_SEQUENCE, ...
  std::string message;  // for people
};

struct VerifyItemDone {
  SequenceId sequence_id = 0;
  int32_t kv_length = 0;      // tokens whose KV is valid after this round
  int32_t num_accepted = 0;
  std::optional<TokenId> correction_token;  // none for an inner chunk or an error
  std::optional<WorkerError> error;
};

struct VerifyDone {
  RoundId round_id = 0;
  int64_t sent_at_ns = 0;
  std::vector<VerifyItemDone> items;
  VerifierPhaseTimes times;
  KvBlocks blocks;
};

struct SequenceEnded {
  SequenceId sequence_id = 0;
  KvBlocks blocks;
};

// ---- draft ----------------------------------------------------------------------------------------

// A root is a predicted (or, in serial speculation, the decided) outcome of the round. Either `token`
// is set, or `own_rank` r >= 0 names the draft's own r-th best token after the accepted window tokens; where
// a window token follows there, that one is left out, for it would be no outcome.
struct RolloutRoot {
  int32_t num_accepted = 0;
  std::optional<TokenId> token;
  int32_t own_rank = -1;
};

// Asks for the continuation of each root: `depth` tokens after the path
//   committed tokens [0, committed_length), window[0..num_accepted), root token.
// path_tokens are the committed tokens [path_offset, committed_length); path_offset is at most the
// draft's acknowledged draft_kv_length.
//
// A branch is keyed by (num_accepted, root token). The same round_id adds roots to the tree (path and window
// are the same then; a root that is there already is not begun again); a later round_id replaces it: what
// of the old tree lies on the new path, window or roots is kept, the rest is cancelled between depths. Roots
// come in order of worth: where rows or memory do not suffice, the first are served first.
struct StartRollout {
  SequenceId sequence_id = 0;
  RoundId round_id = 0;
  int32_t committed_length = 0;
  int32_t path_offset = 0;
  std::vector<TokenId> path_tokens;
  std::vector<TokenId> window;
  std::vector<RolloutRoot> roots;
  int32_t depth = 0;
  int64_t exit_sent_at_ns = 0;  // EarlyExitReported.sent_at, for relay time; 0 if none
};

struct DraftPhaseTimes {
  int64_t queue_ns = 0;    // received to first row computed
  int64_t rollout_ns = 0;  // computing, up to this message
};

// Tokens of one branch, depth by depth. What the draft has already when a branch is asked for is said at once. A
// branch that cannot be rolled out, or that is cancelled while its round is still the latest, ends with `last`;
// of a replaced tree nothing more is said.
struct RolloutProgress {
  SequenceId sequence_id = 0;
  RoundId round_id = 0;
  int32_t num_accepted = 0;
  TokenId root_token = 0;
  int32_t first_depth = 0;          // depth of token_ids[0]; 0 is the token right after the root
  std::vector<TokenId> token_ids;
  std::vector<float> scores;        // one per token, or empty
  bool last = false;                // no more tokens will come for this branch
  int64_t started_at_ns = 0;
  DraftPhaseTimes times;
};

enum class DraftSequenceState : uint8_t { kAbsent = 0, kCatchingUp, kReady, kEvicted };

struct SequenceState {
  SequenceId sequence_id = 0;
  DraftSequenceState state = DraftSequenceState::kAbsent;
  int32_t draft_kv_length = 0;
  KvBlocks blocks;
};

// ---- what a stream carries ------------------------------------------------------------------------

// Scheduler to worker. A verifier takes StartSequence, AppendTokens, StartVerify, EndSequence, Drain;
// a draft StartSequence, AppendTokens, StartRollout, EndSequence, Drain.
using WorkerCommand =
    std::variant<StartSequence, AppendTokens, StartVerify, StartRollout, EndSequence, Drain>;

// Worker to scheduler, after Hello.
using WorkerReport = std::variant<Heartbeat, SequenceStarted, EarlyExitReported, VerifyDone,
                                  SequenceEnded, RolloutProgress, SequenceState, Drain>;

}  // namespace mirrorsd
