#pragma once
// What a modelled draft holds of one sequence: which rows it has computed, and the branches of the latest round. Rows
// are known by the prefix they end, so promotion, unused tails and cancelled branches come out by themselves:
// what of the old tree lies on the new path, window or roots is there already. Not thread-safe.

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "common/worker_messages.h"
#include "tools/simulate/model/text_model.h"

namespace mirrorsd::simulate {

struct Branch {
  int32_t num_accepted = 0;
  int32_t own_rank = -1;  // >= 0: the root is not known before the row ahead of it is computed
  bool has_root = false;
  TokenId root = 0;
  Prefix end = 0;       // after the last known token
  int32_t known = 0;    // tokens after the root
  int32_t depth = 0;    // as many are wanted
  bool is_over = false;  // told to its end
};

class DraftTree {
 public:
  DraftTree(const TextModel* text, uint64_t request_seed, int32_t prompt_length, int32_t total_length)
      : text_(text),
        kind_(&text->KindOf(request_seed)),
        prefix_(text->Begin(request_seed)),
        prompt_length_(prompt_length),
        total_length_(total_length) {}

  // Committed tokens, in order; those known already are passed over.
  void Append(int32_t offset, const std::vector<TokenId>& tokens);
  bool is_complete() const { return length_ >= total_length_; }

  // Sets or adds to the branches. False: the command is of an older round, or its path does not join.
  bool Start(const StartRollout& command, int32_t max_depth);
  // Branches learn what the computed rows say and tell what is new of it.
  // Shapes:  appends to `progress`
  void Advance(SequenceId id, std::vector<RolloutProgress>* progress);

  // Rows that a pass may compute now, in the order of their worth: the path's and the window's that are missing, then
  // one for each branch that goes on. Takes at most `max_rows`.
  struct Rows {
    int32_t path = 0;    // committed tokens and window
    int32_t branches = 0;
    int32_t total() const { return path + branches; }
  };
  Rows TakeRows(int32_t max_rows);
  // The rows taken were computed.
  void Computed();

  bool is_rolling() const { return num_open_ > 0; }
  int32_t length() const { return length_; }
  int32_t kv_length() const { return kv_length_; }
  void set_kv_length(int32_t length) { kv_length_ = length; }
  int64_t received_ns = 0;  // of its latest StartRollout
  bool is_ready = false;

 private:
  void Push(TokenId token);
  // The nodes that the branches reach from the trunk; all others are dropped.
  void Prune();
  bool Knows(Prefix prefix) const;
  // The root and the next tokens of a branch, as far as rows are computed. True if it learnt something.
  void Learn(Branch* branch) const;
  bool IsTwin(const Branch& branch) const;

  const TextModel* text_;
  const TextKind* kind_;
  Prefix prefix_;           // after length_ tokens
  int32_t length_ = 0;      // committed tokens that it was told
  int32_t prompt_length_;
  int32_t total_length_;
  int32_t kv_length_ = 0;   // of them, those whose rows are computed
  absl::flat_hash_set<Prefix> computed_;  // rows behind them, by the prefix that each ends
  RoundId round_id_ = 0;
  std::vector<TokenId> window_;
  std::vector<Prefix> trunk_;  // [j]: after the committed tokens and j of the window
  std::vector<Branch> branches_;
  int32_t num_open_ = 0;
  // Taken, not yet computed.
  int32_t taken_committed_ = 0;
  std::vector<Prefix> taken_;
};

}  // namespace mirrorsd::simulate
