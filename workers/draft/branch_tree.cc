#include "workers/draft/branch_tree.h"

#include <algorithm>

#include "common/check.h"

namespace mirrorsd::workers {

void BranchTree::Reset(int32_t base_position) {
  tokens_.Reset(base_position);
  window_.clear();
  branches_.clear();
  is_closed_ = true;
}

void BranchTree::BeginRound(absl::Span<const TokenId> window) {
  CHECK_LE(window.size(), static_cast<size_t>(kMaxTreeWindow));
  window_.clear();
  branches_.clear();
  is_closed_ = false;
  NodeId at = tokens_.base();
  for (const TokenId token : window) {
    at = tokens_.FindOrAdd(at, token);
    window_.push_back(at);
  }
}

bool BranchTree::HasWindow(absl::Span<const TokenId> window) const {
  return std::equal(window.begin(), window.end(), window_.begin(), window_.end(),
                    [this](TokenId token, NodeId id) { return tokens_[id].token == token; });
}

NodeId BranchTree::Trunk(int32_t num_accepted) const {
  return num_accepted == 0 ? tokens_.base() : window_[static_cast<size_t>(num_accepted) - 1];
}

bool BranchTree::HasBranch(int32_t num_accepted, TokenId token) const {
  return std::any_of(branches_.begin(), branches_.end(), [&](const Branch& branch) {
    return branch.own_rank < 0 && branch.num_accepted == num_accepted &&
           branch.root_token == token;
  });
}

bool BranchTree::AddRoot(const RolloutRoot& root, int32_t depth, int64_t now_ns) {
  const int32_t window_size = static_cast<int32_t>(window_.size());
  if (root.num_accepted < 0) return false;
  if (root.token.has_value() && HasBranch(root.num_accepted, *root.token)) return true;
  if (is_closed_ && root.token.has_value() && *root.token >= 0 &&
      branches_.size() < static_cast<size_t>(kMaxBranches)) {
    branches_.push_back(
        {.num_accepted = root.num_accepted, .root_token = *root.token, .has_ended = true});
    return true;
  }
  if (is_closed_ || root.num_accepted > window_size) return false;
  Branch branch{.num_accepted = root.num_accepted, .depth = depth, .received_ns = now_ns};
  if (!HasRoomAt(tokens_[Trunk(root.num_accepted)].position + 1)) return false;
  if (root.token.has_value()) {
    if (*root.token < 0) return false;
    branch.root_token = *root.token;
  } else {
    if (root.own_rank < 0 || root.own_rank >= kKeptRanks) return false;
    const auto same = [&](const Branch& other) {
      return other.num_accepted == root.num_accepted && other.own_rank == root.own_rank;
    };
    if (std::any_of(branches_.begin(), branches_.end(), same)) return true;
    branch.own_rank = root.own_rank;
  }
  if (branches_.size() >= static_cast<size_t>(kMaxBranches)) return false;
  if (branch.own_rank < 0) {
    branch.tip = tokens_.FindOrAdd(Trunk(root.num_accepted), branch.root_token);
  }
  branches_.push_back(branch);
  return true;
}

bool BranchTree::FindRoot(Branch* branch) {
  const NodeId trunk = Trunk(branch->num_accepted);
  const size_t next = static_cast<size_t>(branch->num_accepted);
  const NodeId after = next < window_.size() ? window_[next] : kNoNode;
  int32_t rank = branch->own_rank;
  for (const Candidate& candidate : tokens_[trunk].ranks) {
    if (after != kNoNode && candidate.token == tokens_[after].token) continue;
    if (rank-- > 0) continue;
    if (HasBranch(branch->num_accepted, candidate.token)) return false;
    branch->own_rank = -1;
    branch->root_token = candidate.token;
    branch->tip = tokens_.FindOrAdd(trunk, candidate.token);
    return true;
  }
  return false;
}

void BranchTree::Grow(Branch* branch) {
  while (!branch->has_ended) {
    const TreeNode& tip = tokens_[branch->tip];
    branch->has_ended = branch->num_known >= branch->depth || !HasRoomAt(tip.position);
    if (branch->has_ended || tip.ranks.empty()) return;
    branch->tip = tokens_.FindOrAdd(branch->tip, tip.ranks.front().token);
    ++branch->num_known;
  }
}

void BranchTree::Settle() {
  for (size_t i = 0; i < branches_.size();) {
    Branch& branch = branches_[i];
    if (branch.has_ended || (branch.own_rank >= 0 && Wanted(branch) != kNoNode &&
                             tokens_[Wanted(branch)].ranks.empty())) {
      ++i;
      continue;
    }
    if (branch.own_rank >= 0 && !FindRoot(&branch)) {
      branches_.erase(branches_.begin() + static_cast<int64_t>(i));
      continue;
    }
    Grow(&branch);
    ++i;
  }
}

void BranchTree::Prune() {
  std::vector<NodeId> kept(window_.begin(), window_.end());
  for (const Branch& branch : branches_) {
    if (branch.tip != kNoNode) kept.push_back(branch.tip);
  }
  tokens_.Prune(kept);
}

NodeId BranchTree::Wanted(const Branch& branch) const {
  if (branch.has_ended) return kNoNode;
  return branch.own_rank >= 0 ? Trunk(branch.num_accepted) : branch.tip;
}

std::vector<char> BranchTree::Needed() const {
  std::vector<char> needed(static_cast<size_t>(tokens_.num_ids()), 0);
  const auto mark = [&](NodeId id) {
    while (id != kNoNode && needed[static_cast<size_t>(id)] == 0) {
      needed[static_cast<size_t>(id)] = 1;
      id = tokens_[id].parent;
    }
  };
  for (const Branch& branch : branches_) {
    if (branch.gave_way) continue;
    if (branch.tip != kNoNode) {
      mark(branch.tip);
    } else if (!branch.has_ended) {
      mark(Trunk(branch.num_accepted));
    }
  }
  return needed;
}

bool BranchTree::LetLastGiveWay(const Branch& branch) {
  for (size_t i = branches_.size(); i > 0 && &branches_[i - 1] != &branch; --i) {
    Branch& last = branches_[i - 1];
    if (last.gave_way) continue;
    last.has_ended = last.gave_way = true;
    return true;
  }
  return false;
}

void BranchTree::Fail(NodeId id) {
  for (Branch& branch : branches_) {
    if (Wanted(branch) == id) branch.has_ended = true;
  }
}

void BranchTree::Close(int32_t base_position) {
  tokens_.Reset(base_position);
  window_.clear();
  for (Branch& branch : branches_) {
    branch.has_ended = branch.last_said = true;
    branch.tip = kNoNode;
  }
  is_closed_ = true;
}

bool BranchTree::HasActive() const {
  return std::any_of(branches_.begin(), branches_.end(),
                     [](const Branch& branch) { return !branch.has_ended; });
}

bool BranchTree::HasNews() const {
  return std::any_of(branches_.begin(), branches_.end(), [](const Branch& branch) {
    return branch.own_rank < 0 && !branch.last_said &&
           (branch.num_said < branch.num_known || branch.has_ended);
  });
}

std::optional<BranchNews> BranchTree::TakeNews(Branch* branch) {
  if (branch->own_rank >= 0 || branch->last_said ||
      (branch->num_said == branch->num_known && !branch->has_ended)) {
    return std::nullopt;
  }
  BranchNews news{.first_depth = branch->num_said, .last = branch->has_ended};
  NodeId id = branch->tip;
  for (int32_t depth = branch->num_known; depth > branch->num_said; --depth) {
    const TreeNode& node = tokens_[id];
    news.token_ids.push_back(node.token);
    news.scores.push_back(tokens_[node.parent].ranks.front().score);
    id = node.parent;
  }
  std::reverse(news.token_ids.begin(), news.token_ids.end());
  std::reverse(news.scores.begin(), news.scores.end());
  branch->num_said = branch->num_known;
  branch->last_said = news.last;
  return news;
}

}  // namespace mirrorsd::workers
