#pragma once
// The oracle's books of branches: what a draft was asked for and said, and what rounds began with. Plain data.

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

#include "common/ids.h"

namespace mirrorsd::sim {

// What the draft was asked to roll out of one round, and what it said so far; worth something until the outcome of
// another round is known.
struct AskedBranch {
  int32_t num_accepted = 0;
  TokenId root_token = 0;
  bool own = false;             // the draft named it
  bool after_exit = false;
  int32_t num_received = 0;
  std::vector<TokenId> usable;  // of the target's vocabulary, from depth 0 without a gap
  bool answered = false;        // no more will come
};

struct AskedTree {
  RoundId round_id = 0;
  int32_t committed_length = 0;
  int32_t depth = 0;
  std::vector<TokenId> window;
  std::vector<AskedBranch> branches;
  std::map<int32_t, std::vector<int32_t>> own_ranks;  // [num_accepted] asked for
  std::map<int32_t, int32_t> own_roots;               // of them, not named yet

  AskedBranch* Find(int32_t num_accepted, TokenId root_token) {
    for (AskedBranch& branch : branches) {
      if (branch.num_accepted == num_accepted && branch.root_token == root_token) return &branch;
    }
    return nullptr;
  }
  bool is_busy() const {
    return std::any_of(branches.begin(), branches.end(),
                       [](const AskedBranch& branch) { return !branch.answered; });
  }
};

// What rounds with branches began with, by the oracle's own count.
struct MirrorBooks {
  int64_t rounds = 0;       // with a window or without
  int64_t branch_windows = 0;
  int64_t branch_depths = 0;
  int64_t ngram_windows = 0;
};

}  // namespace mirrorsd::sim
