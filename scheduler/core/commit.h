#pragma once
// Where a request ends inside what a round yields. Pure functions, callable from any thread.

#include <cstdint>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/request.h"

namespace mirrorsd::scheduler {

struct CommitCut {
  int32_t num_tokens = 0;  // of the yield that are committed, >= 1
  FinishReason finish = FinishReason::kNone;
};

// Cuts what a round yields at the first terminal condition in token order: an end token (kept, kStop) or
// the last token that the request may have (kLength). Where one token is both, it is kStop.
// Shapes:  yield[n], n >= 1: the accepted window tokens, then the correction token
// Units:   remaining_tokens: what max_tokens and the context still allow, >= 1
CommitCut CutAtEnd(absl::Span<const TokenId> yield, absl::Span<const TokenId> end_token_ids,
                   int32_t remaining_tokens);

// Adds one round to a request's statistics. Window tokens behind the cut count neither as drafted nor
// as accepted; without a cut the whole window was drafted.
// Units:   num_accepted as the verifier found it; num_committed = CommitCut::num_tokens
void CountRound(int32_t window_size, int32_t num_accepted, int32_t num_committed,
                bool speculation_on, SpeculationStats* stats);

}  // namespace mirrorsd::scheduler
