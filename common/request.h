#pragma once
// What the gateway hands to the scheduler and gets back: token ids only. The gateway owns text,
// templates and stop strings; the scheduler owns end tokens, lengths and deadlines. Plain data.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "common/sampling_parameters.h"

namespace mirrorsd {

// The names are those of the command line; each is registered with its policies.
enum class SpeculationMode : uint8_t { kDefault = 0, kOff, kSerial, kTwoCohorts, kMirror, kAuto };

struct SubmitRequest {
  std::string request_id;              // client's, at most kMaxRequestIdBytes, unique among live requests
  std::string vocabulary_fingerprint;  // must equal the target's
  std::vector<TokenId> token_ids;      // the prompt, not empty
  SamplingParameters sampling;
  std::vector<TokenId> end_token_ids;  // empty with ignore_eos
  int32_t max_tokens = 0;              // >= 1
  std::optional<absl::Duration> deadline;  // from admission; none: no deadline
  SpeculationMode speculation = SpeculationMode::kDefault;
  std::optional<int32_t> num_speculative_tokens;  // none: the scheduler's default
  std::optional<int32_t> branch_top_k;            // likewise; 1 to kMaxBranchTopK
};

enum class FinishReason : uint8_t {
  kNone = 0,
  kStop,      // an end token (or, at the gateway, a stop string)
  kLength,    // max_tokens or the context
  kCancelled,
  kError,
};

// Where a committed token came from.
enum class TokenOrigin : uint8_t {
  kPrefill = 0,  // the target's first token, closing the prompt
  kAccepted,     // a window token that equals the target's own
  kRecovered,    // the target's token after a reject
  kBonus,        // the target's token after a fully accepted window (an empty one too)
};

// Cumulative over the request. Rounds are verify steps without the prefill that yields the first token.
struct SpeculationStats {
  int64_t rounds = 0;
  int64_t drafted_tokens = 0;   // committed-range window tokens that were verified
  int64_t accepted_tokens = 0;  // of these, equal to the target's and committed
  std::vector<int64_t> accepted_per_position;  // [row] accepted counts; size <= largest window
  std::vector<int64_t> drafted_per_position;   // [row] drafted counts
  int64_t empty_window_rounds = 0;  // rounds that ran without a window while speculation was on
  // Mirror rounds: those that began with the tokens of a branch, how many tokens the branches had by then
  // (summed), and those whose last outcome was no branch, or one without tokens.
  int64_t branch_hits = 0;
  int64_t branch_hit_depth_sum = 0;
  int64_t branch_misses = 0;
  int64_t ngram_window_rounds = 0;  // after a miss: with an n-gram window
  int64_t held_rounds = 0;          // after a miss: with a window that the cohort was held for
  int64_t max_batch = 0;            // most sequences that shared one round with this request
  int64_t resumes = 0;              // times the request moved to another verifier incarnation
};

struct Committed {
  int32_t output_index = 0;  // of the first token below; 0 is the first generated token
  std::vector<TokenId> token_ids;
  std::vector<TokenOrigin> origins;  // one per token
  FinishReason finish = FinishReason::kNone;  // set on the last message of a stream only
  SpeculationStats stats;  // cumulative; filled on every message
  absl::Duration queue_time;  // submit to first StartSequence at a verifier
};

}  // namespace mirrorsd
