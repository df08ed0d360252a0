#include "tools/simulate/fleet/draft_tree.h"

#include <algorithm>
#include <utility>

namespace mirrorsd::simulate {

void DraftTree::Push(TokenId token) {
  const bool is_output = length_++ >= prompt_length_;
  if (is_output) prefix_ = Extend(prefix_, token);
  // What a branch computed of the path stays: its rows are the path's now.
  if (is_output && kv_length_ == length_ - 1 && computed_.contains(prefix_)) kv_length_ = length_;
}

void DraftTree::Append(int32_t offset, const std::vector<TokenId>& tokens) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (offset + static_cast<int32_t>(i) == length_) Push(tokens[i]);
  }
}

bool DraftTree::Start(const StartRollout& command, int32_t max_depth) {
  if (command.round_id < round_id_ || command.path_offset > length_ ||
      command.committed_length < length_) {
    return false;
  }
  const bool adds = command.round_id == round_id_;
  if (!adds) {
    Append(command.path_offset, command.path_tokens);
    if (length_ != command.committed_length) return false;
    round_id_ = command.round_id;
    window_ = command.window;
    branches_.clear();
    num_open_ = 0;
    trunk_.assign(1, prefix_);
    for (const TokenId token : window_) trunk_.push_back(Extend(trunk_.back(), token));
  }
  for (const RolloutRoot& root : command.roots) {
    if (root.num_accepted < 0 || root.num_accepted >= static_cast<int32_t>(trunk_.size())) continue;
    Branch branch;
    branch.num_accepted = root.num_accepted;
    branch.own_rank = root.own_rank;
    branch.depth = std::clamp(command.depth, 1, max_depth);
    if (root.token.has_value()) {
      branch.has_root = true;
      branch.root = *root.token;
      branch.end = Extend(trunk_[root.num_accepted], *root.token);
    }
    if (IsTwin(branch)) continue;
    branches_.push_back(branch);
    ++num_open_;
  }
  if (!adds) Prune();
  return true;
}

bool DraftTree::IsTwin(const Branch& branch) const {
  for (const Branch& other : branches_) {
    if (&other == &branch || other.num_accepted != branch.num_accepted) continue;
    if (branch.has_root ? other.has_root && other.root == branch.root
                        : other.own_rank == branch.own_rank && branch.own_rank >= 0) {
      return true;
    }
  }
  return false;
}

bool DraftTree::Knows(Prefix prefix) const {
  return (prefix == trunk_[0] && kv_length_ >= length_) || computed_.contains(prefix);
}

void DraftTree::Prune() {
  absl::flat_hash_set<Prefix> kept;
  for (const Prefix prefix : trunk_) {
    if (computed_.contains(prefix)) kept.insert(prefix);
  }
  for (Branch branch : branches_) {
    if (!branch.has_root && !Knows(trunk_[branch.num_accepted])) continue;
    if (!branch.has_root) {
      Learn(&branch);
      branch.end = Extend(trunk_[branch.num_accepted], branch.root);
    }
    Prefix end = branch.end;
    for (int32_t depth = 0; computed_.contains(end); ++depth) {
      kept.insert(end);
      end = Extend(end, text_->Draft(*kind_, end, depth, 0));
    }
  }
  computed_ = std::move(kept);
}

void DraftTree::Learn(Branch* branch) const {
  if (!branch->has_root) {
    const size_t row = branch->num_accepted;
    if (!Knows(trunk_[row])) return;
    // A window token that follows there is left out: it would be no outcome.
    int32_t rank = 0;
    int32_t left = branch->own_rank;
    while (true) {
      branch->root = text_->Draft(*kind_, trunk_[row], static_cast<int32_t>(row), rank++);
      if (row < window_.size() && branch->root == window_[row]) continue;
      if (left-- == 0) break;
    }
    branch->has_root = true;
    branch->end = Extend(trunk_[row], branch->root);
  }
  while (branch->known < branch->depth && computed_.contains(branch->end)) {
    branch->end = Extend(branch->end, text_->Draft(*kind_, branch->end, branch->known, 0));
    ++branch->known;
  }
}

void DraftTree::Advance(SequenceId id, std::vector<RolloutProgress>* progress) {
  for (Branch& branch : branches_) {
    if (branch.is_over) continue;
    const int32_t known_before = branch.known;
    const bool had_root = branch.has_root;
    Prefix end = branch.end;
    Learn(&branch);
    if (!had_root && branch.has_root) {
      if (IsTwin(branch)) {  // another branch has this root: it tells
        branch.is_over = true;
        --num_open_;
        continue;
      }
      end = Extend(trunk_[branch.num_accepted], branch.root);
    }
    if (branch.known == known_before) continue;
    RolloutProgress told;
    told.sequence_id = id;
    told.round_id = round_id_;
    told.num_accepted = branch.num_accepted;
    told.root_token = branch.root;
    told.first_depth = known_before;
    for (int32_t depth = known_before; depth < branch.known; ++depth) {
      told.token_ids.push_back(text_->Draft(*kind_, end, depth, 0));
      end = Extend(end, told.token_ids.back());
    }
    told.last = branch.known == branch.depth;
    if (told.last) {
      branch.is_over = true;
      --num_open_;
    }
    progress->push_back(std::move(told));
  }
}

DraftTree::Rows DraftTree::TakeRows(int32_t max_rows) {
  Rows rows;
  taken_.clear();
  taken_committed_ = std::min(max_rows, length_ - kv_length_);
  rows.path = taken_committed_;
  if (!is_rolling()) return rows;
  int32_t reach = 0;  // window rows that a branch stands on
  for (const Branch& branch : branches_) {
    if (!branch.is_over) reach = std::max(reach, branch.num_accepted);
  }
  bool is_whole = taken_committed_ == length_ - kv_length_;
  for (int32_t j = 1; j <= reach && is_whole; ++j) {
    if (computed_.contains(trunk_[j])) continue;
    is_whole = rows.path < max_rows;
    if (!is_whole) break;
    taken_.push_back(trunk_[j]);
    ++rows.path;
  }
  if (!is_whole) return rows;
  for (const Branch& branch : branches_) {
    if (branch.is_over || !branch.has_root || branch.known >= branch.depth) continue;
    if (rows.total() >= max_rows) break;
    taken_.push_back(branch.end);
    ++rows.branches;
  }
  return rows;
}

void DraftTree::Computed() {
  kv_length_ += taken_committed_;
  taken_committed_ = 0;
  computed_.insert(taken_.begin(), taken_.end());
  taken_.clear();
}

}  // namespace mirrorsd::simulate
