#include "workers/draft/tree_places.h"

#include <algorithm>
#include <utility>

namespace mirrorsd::workers {
namespace {

// What has a place: tokens of the path and nodes of the tree.
class Pieces {
 public:
  Pieces(TokenTree* tokens, int32_t begin, absl::Span<const int32_t> path, int32_t capacity)
      : tokens_(tokens), begin_(begin), holders_(static_cast<size_t>(std::max(0, capacity - begin)), -1) {
    for (const int32_t place : path) {
      if (place == kNoPlace) break;
      Add({kNoNode, place});
    }
    num_path_ = static_cast<int32_t>(pieces_.size());
    for (const NodeId id : tokens->Descendants()) {
      if ((*tokens)[id].place != kNoPlace) Add({id, (*tokens)[id].place});
    }
  }

  int32_t num_path() const { return num_path_; }
  // None where it has no place, or lost it.
  int32_t Find(NodeId id) const {
    for (size_t i = static_cast<size_t>(num_path_); i < pieces_.size(); ++i) {
      if (pieces_[i].node == id && (*tokens_)[id].place != kNoPlace) return static_cast<int32_t>(i);
    }
    return -1;
  }

  // False where what is there can neither be put aside nor be forgotten.
  bool Move(int32_t index, int32_t to, bool may_forget) {
    if (to - begin_ >= static_cast<int32_t>(holders_.size())) return false;
    if (At(index).place == to) return true;
    const int32_t in_the_way = Holder(to);
    if (in_the_way >= 0) {
      const int32_t aside = FindFree();
      if (aside >= 0) {
        Put(in_the_way, aside);
      } else if (may_forget && At(in_the_way).node != kNoNode) {
        Forget(At(in_the_way).node);
      } else {
        return false;
      }
    }
    Put(index, to);
    return true;
  }

  std::vector<PlaceMove> TakeMoves() { return std::move(moves_); }

 private:
  struct Piece {
    NodeId node = kNoNode;  // none: of the path
    int32_t place = 0;
  };

  const Piece& At(int32_t index) const { return pieces_[static_cast<size_t>(index)]; }
  int32_t& Holder(int32_t place) { return holders_[static_cast<size_t>(place - begin_)]; }

  void Add(Piece piece) {
    Holder(piece.place) = static_cast<int32_t>(pieces_.size());
    pieces_.push_back(piece);
  }

  int32_t FindFree() const {
    for (size_t i = holders_.size(); i > 0; --i) {
      if (holders_[i - 1] < 0) return begin_ + static_cast<int32_t>(i - 1);
    }
    return -1;
  }

  void Put(int32_t index, int32_t to) {
    Piece& piece = pieces_[static_cast<size_t>(index)];
    moves_.push_back({piece.place, to});
    Holder(piece.place) = -1;
    Holder(to) = index;
    piece.place = to;
    if (piece.node != kNoNode) tokens_->SetPlace(piece.node, to);
  }

  void Forget(NodeId id) {
    tokens_->ForgetKv(id);
    for (int32_t& holder : holders_) {
      if (holder < 0) continue;
      const NodeId node = At(holder).node;
      if (node != kNoNode && (*tokens_)[node].place == kNoPlace) holder = -1;
    }
  }

  TokenTree* tokens_;
  int32_t begin_;
  std::vector<int32_t> holders_;  // [place - begin]: piece, or -1
  std::vector<Piece> pieces_;     // the path's first
  int32_t num_path_ = 0;
  std::vector<PlaceMove> moves_;
};

}  // namespace

bool IsAtHome(const TokenTree& tokens, NodeId id) {
  for (; id != tokens.base(); id = tokens[id].parent) {
    if (tokens[id].place != tokens[id].position) return false;
  }
  return true;
}

TreePlaces::TreePlaces(BranchTree* tree, int32_t begin)
    : tree_(tree), begin_(begin), needed_(tree->Needed()) {
  for (const NodeId id : tree->tokens().Descendants()) {
    if (tree->tokens()[id].place != kNoPlace) Take(tree->tokens()[id].place, id);
  }
}

NodeId TreePlaces::HolderOf(int32_t place) const {
  const size_t index = static_cast<size_t>(place - begin_);
  const NodeId id = index < holders_.size() ? holders_[index] : kNoNode;
  // What gave way took what descends from it along.
  return id != kNoNode && tree_->tokens()[id].place == place ? id : kNoNode;
}

void TreePlaces::Take(int32_t place, NodeId id) {
  const size_t index = static_cast<size_t>(place - begin_);
  if (index >= holders_.size()) holders_.resize(index + 1, kNoNode);
  const NodeId before = HolderOf(place);
  if (before != kNoNode && before != id) tree_->tokens().ForgetKv(before);
  holders_[index] = id;
  tree_->tokens().SetPlace(id, place);
}

bool TreePlaces::TakeFirst(NodeId id, int32_t from, int32_t capacity, bool also_unneeded) {
  for (int32_t place = std::max(from, begin_); place < capacity; ++place) {
    const NodeId holder = HolderOf(place);
    if (holder != kNoNode && !(also_unneeded && needed_[static_cast<size_t>(holder)] == 0)) continue;
    Take(place, id);
    return true;
  }
  return false;
}

bool TreePlaces::Give(NodeId id, int32_t home_end, int32_t capacity) {
  const TreeNode& node = tree_->tokens()[id];
  if (IsAtHome(tree_->tokens(), node.parent)) {
    const NodeId holder = HolderOf(node.position);
    if (holder == kNoNode || needed_[static_cast<size_t>(holder)] == 0) {
      if (node.position >= capacity) return false;
      Take(node.position, id);
      return true;
    }
  }
  return TakeFirst(id, home_end, capacity, false);
}

bool TreePlaces::GiveAny(NodeId id, int32_t capacity) {
  return TakeFirst(id, begin_, capacity, false) || TakeFirst(id, begin_, capacity, true);
}

int32_t TreePlaces::End() const {
  int32_t end = begin_;
  for (size_t i = 0; i < holders_.size(); ++i) {
    const int32_t place = begin_ + static_cast<int32_t>(i);
    if (HolderOf(place) != kNoNode) end = place + 1;
  }
  return end;
}

HomeComing BringHome(BranchTree* tree, int32_t begin, absl::Span<const int32_t> path,
                     int32_t capacity) {
  TokenTree& tokens = tree->tokens();
  HomeComing coming;
  Pieces pieces(&tokens, begin, path, capacity);
  while (coming.num_home < pieces.num_path() &&
         pieces.Move(coming.num_home, begin + coming.num_home, true)) {
    ++coming.num_home;
  }
  for (const NodeId id : tree->window()) {
    const int32_t piece = pieces.Find(id);
    if (piece < 0 || !pieces.Move(piece, tokens[id].position, false)) break;
  }
  coming.moves = pieces.TakeMoves();
  return coming;
}

}  // namespace mirrorsd::workers
