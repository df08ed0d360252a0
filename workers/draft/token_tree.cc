#include "workers/draft/token_tree.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace mirrorsd::workers {

void TokenTree::Reset(int32_t base_position) {
  nodes_.clear();
  unused_.clear();
  num_live_ = 0;
  base_ = New(0, kNoNode, base_position);
}

NodeId TokenTree::New(TokenId token, NodeId parent, int32_t position) {
  NodeId id = static_cast<NodeId>(nodes_.size());
  if (unused_.empty()) {
    nodes_.emplace_back();
  } else {
    id = unused_.back();
    unused_.pop_back();
  }
  ++num_live_;
  TreeNode& node = nodes_[static_cast<size_t>(id)];
  node = {.token = token, .parent = parent, .position = position, .is_live = true};
  return id;
}

NodeId TokenTree::Find(NodeId parent, TokenId token) const {
  NodeId child = (*this)[parent].first_child;
  while (child != kNoNode && (*this)[child].token != token) child = (*this)[child].next_sibling;
  return child;
}

NodeId TokenTree::FindOrAdd(NodeId parent, TokenId token) {
  const NodeId found = Find(parent, token);
  if (found != kNoNode) return found;
  const NodeId id = New(token, parent, (*this)[parent].position + 1);
  nodes_[static_cast<size_t>(id)].next_sibling =
      std::exchange(nodes_[static_cast<size_t>(parent)].first_child, id);
  return id;
}

std::vector<NodeId> TokenTree::Match(absl::Span<const TokenId> tokens) const {
  std::vector<NodeId> path;
  NodeId at = base_;
  for (const TokenId token : tokens) {
    at = Find(at, token);
    if (at == kNoNode) break;
    path.push_back(at);
  }
  return path;
}

std::vector<NodeId> TokenTree::PathTo(NodeId id) const {
  std::vector<NodeId> path;
  for (; id != base_; id = (*this)[id].parent) path.push_back(id);
  std::reverse(path.begin(), path.end());
  return path;
}

std::vector<NodeId> TokenTree::Descendants() const {
  std::vector<NodeId> found;
  NodeId at = base_;
  for (size_t next = 0;; ++next) {
    for (NodeId child = (*this)[at].first_child; child != kNoNode;
         child = (*this)[child].next_sibling) {
      found.push_back(child);
    }
    if (next == found.size()) return found;
    at = found[next];
  }
}

void TokenTree::SetRanks(NodeId id, absl::Span<const Candidate> ranks) {
  const size_t size = std::min(ranks.size(), static_cast<size_t>(kKeptRanks));
  nodes_[static_cast<size_t>(id)].ranks.assign(ranks.begin(), ranks.begin() + size);
}

void TokenTree::ForgetKv(NodeId id) {
  // Below a node without a place there is none.
  if ((*this)[id].place == kNoPlace) return;
  nodes_[static_cast<size_t>(id)].place = kNoPlace;
  for (NodeId child = (*this)[id].first_child; child != kNoNode;
       child = (*this)[child].next_sibling) {
    ForgetKv(child);
  }
}

void TokenTree::MoveBase(NodeId id) {
  base_ = id;
  nodes_[static_cast<size_t>(id)].parent = kNoNode;
  nodes_[static_cast<size_t>(id)].place = kNoPlace;
}

void TokenTree::Prune(absl::Span<const NodeId> kept) {
  std::vector<char> stays(nodes_.size(), 0);
  stays[static_cast<size_t>(base_)] = 1;
  for (NodeId id : kept) {
    while (stays[static_cast<size_t>(id)] == 0) {
      stays[static_cast<size_t>(id)] = 1;
      id = (*this)[id].parent;
      CHECK(id != kNoNode) << "a kept node that does not descend from the base";
    }
  }
  unused_.clear();
  num_live_ = 0;
  for (size_t i = 0; i < nodes_.size(); ++i) {
    TreeNode& node = nodes_[i];
    node.first_child = node.next_sibling = kNoNode;
    if (stays[i] != 0) {
      ++num_live_;
      continue;
    }
    node.is_live = false;
    node.ranks.clear();
    unused_.push_back(static_cast<NodeId>(i));
  }
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (stays[i] == 0 || static_cast<NodeId>(i) == base_) continue;
    TreeNode& parent = nodes_[static_cast<size_t>(nodes_[i].parent)];
    nodes_[i].next_sibling = std::exchange(parent.first_child, static_cast<NodeId>(i));
  }
}

}  // namespace mirrorsd::workers
