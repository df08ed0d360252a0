#pragma once
// The hypothesis tree of one sequence at the draft: the branches of its latest round, over the tokens that
// are known beyond the committed ones. It says which logits each branch waits for, takes them, and says what
// is news of a branch. Pure logic: no engine, no blocks, no sampling, no clock. Not thread-safe.
//
//   base ── w0 ── w1 ── ... ── w(G-1)          the window; the base is the last committed token
//     │      │                    └─ root ─ x ─ x ─ ...    branch (G, root)
//     │      └─ root ─ x ─ ...                             branch (1, root)
//     └─ root ─ x ─ ...                                    branch (0, root)
//
// A branch follows the first of the best tokens that are kept of each of its nodes, so that what another
// round computed is simply walked through.

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "common/worker_messages.h"
#include "workers/draft/token_tree.h"

namespace mirrorsd::workers {

// Branches of one sequence in one round; roots beyond it are refused.
inline constexpr int32_t kMaxBranches = 64;
// Window tokens of one round; a longer window is refused.
inline constexpr int32_t kMaxTreeWindow = 64;

struct Branch {
  int32_t num_accepted = 0;
  int32_t own_rank = -1;      // >= 0: its root is not known yet
  TokenId root_token = 0;     // once it is known
  NodeId tip = kNoNode;       // its last node; none while the root is not known
  int32_t depth = 0;          // tokens wanted after the root
  int32_t num_known = 0;
  int32_t num_said = 0;
  bool has_ended = false;     // no more of it is computed
  bool gave_way = false;      // ended, and its KV may be written over
  bool last_said = false;
  int64_t received_ns = 0;
  int64_t started_ns = 0;     // 0: nothing was computed for it yet
};

// What is known of a branch and was not said yet.
struct BranchNews {
  int32_t first_depth = 0;
  std::vector<TokenId> token_ids;
  std::vector<float> scores;
  bool last = false;
};

class BranchTree {
 public:
  // No token at or beyond position `context_length` is fed to the model.
  explicit BranchTree(int32_t context_length) : context_length_(context_length) {}

  // No round, no tokens; the base stands at `base_position`.
  void Reset(int32_t base_position);

  // A new round over a base that may have moved (tokens().MoveBase). Its roots follow; then Settle.
  void BeginRound(absl::Span<const TokenId> window);
  // Takes a root of the round. One that is there already is no second branch. False where it cannot be:
  // not a place in the window, not a token, a rank that is not kept, the context's end, or too many branches.
  // In a closed round it has ended at once.
  bool AddRoot(const RolloutRoot& root, int32_t depth, int64_t now_ns);
  // Finds roots and grows branches as far as the known ranks go. After roots and after ranks.
  void Settle();
  // Keeps what the round's window and branches lead through, and nothing else.
  void Prune();

  // Whether the model can be fed a token at this position.
  bool HasRoomAt(int32_t position) const { return position < context_length_; }
  // Whether a branch of the round has this key.
  bool HasBranch(int32_t num_accepted, TokenId token) const;
  // Whether the round's window is this one.
  bool HasWindow(absl::Span<const TokenId> window) const;
  // The node after `num_accepted` window tokens.
  NodeId Trunk(int32_t num_accepted) const;
  // Whose logits the branch waits for; none where it has ended.
  NodeId Wanted(const Branch& branch) const;
  // The nodes that branches of the round which did not give way, or roots that are not found yet, hang from
  // or consist of.
  std::vector<char> Needed() const;  // [node id]

  void SetRanks(NodeId id, absl::Span<const Candidate> ranks) { tokens_.SetRanks(id, ranks); }
  // No logits can be had of this node: whoever waits for them has ended.
  void Fail(NodeId id);
  void End(Branch* branch) { branch->has_ended = true; }
  // The last branch that comes after `branch` and did not give way yet does. False where there is none.
  bool LetLastGiveWay(const Branch& branch);
  // Ends every branch and takes no more roots in this round; tokens and KV are forgotten.
  void Close(int32_t base_position);

  bool is_closed() const { return is_closed_; }
  bool HasActive() const;
  bool HasNews() const;
  // Takes what is news of a branch; none where nothing is.
  std::optional<BranchNews> TakeNews(Branch* branch);

  TokenTree& tokens() { return tokens_; }
  const TokenTree& tokens() const { return tokens_; }
  std::vector<Branch>& branches() { return branches_; }
  const std::vector<Branch>& branches() const { return branches_; }
  absl::Span<const NodeId> window() const { return window_; }

 private:
  
  // False where the branch is none: no such rank, or another branch has the same root.
  bool FindRoot(Branch* branch);
  void Grow(Branch* branch);

  int32_t context_length_;
  TokenTree tokens_;
  std::vector<NodeId> window_;
  std::vector<Branch> branches_;  // in order of worth
  bool is_closed_ = true;
};

}  // namespace mirrorsd::workers
