#pragma once
// The tokens that a draft knows beyond a sequence's committed ones, as a tree under the last committed
// token (the base): the round's window, the roots that were asked for and what follows them. A node may
// have its KV at a place of the sequence's block table, and the draft's best next tokens where its logits
// were computed once; one can be there without the other. Pure data: it knows no round, no block and no
// engine. Not thread-safe. Ids of nodes are good until the node is pruned.
//
// KV of a node means nothing without that of its ancestors: a node with a place has ancestors with places.

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "common/ids.h"
#include "common/worker_messages.h"

namespace mirrorsd::workers {

using NodeId = int32_t;
inline constexpr NodeId kNoNode = -1;
inline constexpr int32_t kNoPlace = -1;
// Next tokens kept of each node whose logits were computed; own ranks are below it.
inline constexpr int32_t kKeptRanks = 8;

struct TreeNode {
  TokenId token = 0;
  NodeId parent = kNoNode;  // none: the base
  NodeId first_child = kNoNode;
  NodeId next_sibling = kNoNode;
  int32_t position = 0;            // of the token in the sequence; also the place that is its home
  int32_t place = kNoPlace;        // where its KV is: an index into the sequence's table, in tokens
  std::vector<Candidate> ranks;    // best next tokens, best first; empty: not computed
  bool is_live = false;
};

class TokenTree {
 public:
  TokenTree() { Reset(-1); }

  // Forgets everything; the base's token stands at `base_position`.
  void Reset(int32_t base_position);

  NodeId base() const { return base_; }
  const TreeNode& operator[](NodeId id) const { return nodes_[static_cast<size_t>(id)]; }
  int32_t num_nodes() const { return num_live_; }  // the base included
  int32_t num_ids() const { return static_cast<int32_t>(nodes_.size()); }  // every id is below it

  // None where there is no such child.
  NodeId Find(NodeId parent, TokenId token) const;
  NodeId FindOrAdd(NodeId parent, TokenId token);
  // The nodes that `tokens` lead through from the base, as far as there are any.
  std::vector<NodeId> Match(absl::Span<const TokenId> tokens) const;
  // From the base's child down to `id`; empty for the base.
  std::vector<NodeId> PathTo(NodeId id) const;
  // Every node but the base, parents before children.
  std::vector<NodeId> Descendants() const;

  void SetRanks(NodeId id, absl::Span<const Candidate> ranks);
  void SetPlace(NodeId id, int32_t place) { nodes_[static_cast<size_t>(id)].place = place; }
  // Of the node and of all that descends from it. Ranks stay: they are as true as before.
  void ForgetKv(NodeId id);

  // Makes `id` the base: its token is committed now. Follow it by Prune: what does not descend from it stays
  // until then, without a way to it.
  void MoveBase(NodeId id);
  // Keeps of what descends from the base the nodes in `kept` and their ancestors.
  void Prune(absl::Span<const NodeId> kept);

 private:
  NodeId New(TokenId token, NodeId parent, int32_t position);

  std::vector<TreeNode> nodes_;
  std::vector<NodeId> unused_;
  NodeId base_ = 0;
  int32_t num_live_ = 0;
};

}  // namespace mirrorsd::workers
