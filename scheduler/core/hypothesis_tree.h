#pragma once
// What the draft was asked to roll out for a sequence, and what it has said so far: the branches of one round. In
// mirror rounds they are asked for while the round runs, by prediction; in serial speculation there is one, asked for
// once the outcome is known. Plain data; it is worth something as long as `round_id` is the round that runs or
// the latest that was decided.

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/ids.h"
#include "scheduler/core/counters.h"

namespace mirrorsd::scheduler {

// Who said that a branch is worth drafting.
enum class BranchOrigin : uint8_t {
  kOwn = 0,  // the draft's own ranking
  kExit,     // the early exit
  kOutcome,  // it is the outcome
};

// The continuation of one outcome, (num_accepted, root_token).
struct Branch {
  int32_t num_accepted = 0;
  TokenId root_token = 0;
  int32_t num_received = 0;
  std::vector<TokenId> tokens;  // as they come, from depth 0; cut at an id that the target does not have
  BranchOrigin origin = BranchOrigin::kOwn;
  bool answered = false;        // its last progress came
  absl::Time asked_at;
};

struct HypothesisTree {
  RoundId round_id = 0;     // 0: none was asked for
  int32_t path_length = 0;  // committed tokens before the round; progress acknowledges them
  int32_t depth = 0;        // tokens asked of each branch
  std::vector<Branch> branches;     // few: looked through in order
  std::vector<int32_t> own_roots;   // [num_accepted] roots by the draft's own rank, not named yet
  absl::Time asked_at;
  bool heard = false;               // any progress came
  // Trees of earlier rounds, in a row, of which nothing was heard before they were replaced, and when the first of
  // these (or, where there are none, this one) was asked for.
  int32_t num_silent = 0;
  absl::Time silent_since;
  int32_t num_answered = 0;         // branches
  int64_t exit_sent_at_ns = 0;      // of the exit report that asked for branches; 0: none, or measured
  std::optional<BranchMissReason> held;  // the cohort is held for the outcome's branch, after this miss
  bool awaited = false;             // the cohort's next round waits for it: Cohort::num_awaited

  const Branch* Find(int32_t num_accepted, TokenId root_token) const {
    for (const Branch& branch : branches) {
      if (branch.num_accepted == num_accepted && branch.root_token == root_token) return &branch;
    }
    return nullptr;
  }
  Branch* Find(int32_t num_accepted, TokenId root_token) {
    return const_cast<Branch*>(std::as_const(*this).Find(num_accepted, root_token));
  }
};

}  // namespace mirrorsd::scheduler
