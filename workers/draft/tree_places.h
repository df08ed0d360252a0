#pragma once
// Where the KV of a tree's nodes lies: in the part of the sequence's block table that its committed tokens
// do not use. A node's home is the place of its own position; a line of nodes at home needs no copy when it
// becomes the committed path, and is computed like any other text. One line at a time can be at home (in
// serial drafting everything is); the rest lies above. Ids only, no memory, no blocks. Not thread-safe.
//
//   place   0 ... committed | home of window, root and the first branch | other branches ...   | capacity

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "workers/draft/branch_tree.h"
#include "workers/draft/token_tree.h"

namespace mirrorsd::workers {

// KV of one token goes from place to place of a table.
struct PlaceMove {
  int32_t from = 0;
  int32_t to = 0;

  bool operator==(const PlaceMove&) const = default;
};

// Whether the node and all its ancestors are at home: its row is an ordinary one of the sequence.
bool IsAtHome(const TokenTree& tokens, NodeId id);

class TreePlaces {
 public:
  // For as long as nobody else gives or takes places. `tree` outlives it; places below `begin` are the
  // committed path's.
  TreePlaces(BranchTree* tree, int32_t begin);

  // A place for the node, whose ancestors have theirs: its home where that can be had, else one from
  // `home_end` on. False where a table of `capacity` does not suffice; a larger one may.
  bool Give(NodeId id, int32_t home_end, int32_t capacity);
  // Any place of the table. False where every one holds what a branch needs.
  bool GiveAny(NodeId id, int32_t capacity);

  // After a branch gave way.
  void LookAgain() { needed_ = tree_->Needed(); }

  // One above the highest place in use.
  int32_t End() const;

 private:
  NodeId HolderOf(int32_t place) const;
  bool TakeFirst(NodeId id, int32_t from, int32_t capacity, bool also_unneeded);
  void Take(int32_t place, NodeId id);

  BranchTree* tree_;
  int32_t begin_;
  std::vector<NodeId> holders_;  // [place - begin]
  std::vector<char> needed_;     // [node id]
};

struct HomeComing {
  std::vector<PlaceMove> moves;  // to be done in this order
  int32_t num_home = 0;          // tokens of the path that are at home afterwards, from its first on
};

// Brings what became path home, and the round's window as far as that goes. `path[i]` is the place of the
// token at position begin + i as it was in the tree (kNoPlace: not there, and so all that follow). The places of
// the tree's nodes are those after the moves. Where nothing can be put aside, what is in the way is forgotten.
HomeComing BringHome(BranchTree* tree, int32_t begin, absl::Span<const int32_t> path,
                     int32_t capacity);

}  // namespace mirrorsd::workers
