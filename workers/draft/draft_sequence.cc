#include "workers/draft/draft_sequence.h"

#include <algorithm>

namespace mirrorsd::workers {

DraftSequence::DraftSequence(const StartSequence& command, int32_t context_length,
                             engine::BlockPool* pool)
    : id_(command.sequence_id),
      sampling_(command.sampling, command.end_token_ids, command.prompt_length),
      cache_(pool),
      tree_(context_length),
      total_length_(command.total_length) {}

bool DraftSequence::Append(const AppendTokens& command) {
  if (is_complete() || command.offset < committed_length_) return true;
  const int64_t end = int64_t{command.offset} + static_cast<int64_t>(command.token_ids.size());
  if (command.offset > committed_length_ || end > total_length_) return false;
  StandAtPath();
  sampling_.Append(command.token_ids);
  committed_length_ = sampling_.length();
  tree_.Close(committed_length_ - 1);
  if (is_complete()) AdoptCachedPrefix();
  return true;
}

bool DraftSequence::Joins(const StartRollout& command) const {
  const int64_t path_end =
      int64_t{command.path_offset} + static_cast<int64_t>(command.path_tokens.size());
  return command.path_offset >= 0 && command.path_offset <= committed_length_ &&
         path_end == command.committed_length && command.committed_length >= committed_length_ &&
         command.committed_length >= 1 && tree_.HasRoomAt(command.committed_length) &&
         command.window.size() <= static_cast<size_t>(kMaxTreeWindow);
}

std::optional<std::vector<engine::SlotCopy>> DraftSequence::BeginRound(
    const StartRollout& command, int32_t depth, int64_t now_ns,
    std::vector<RolloutRoot>* refused) {
  if (!Joins(command)) return std::nullopt;
  StandAtPath();
  const absl::Span<const TokenId> known = sampling_.tokens().subspan(command.path_offset);
  const auto differs = std::mismatch(known.begin(), known.end(), command.path_tokens.begin());
  if (differs.first != known.end()) {
    Cut(command.path_offset + static_cast<int32_t>(differs.first - known.begin()));
  }
  const int32_t old_length = committed_length_;
  const auto extension =
      absl::MakeConstSpan(command.path_tokens).subspan(old_length - command.path_offset);
  const std::vector<NodeId> matched = tree_.tokens().Match(extension);
  std::vector<int32_t> places;
  for (const NodeId id : matched) places.push_back(tree_.tokens()[id].place);
  sampling_.Append(extension);
  committed_length_ = command.committed_length;
  if (matched.size() < extension.size()) {
    tree_.Reset(committed_length_ - 1);
  } else if (!matched.empty()) {
    tree_.tokens().MoveBase(matched.back());
  }
  tree_.BeginRound(command.window);
  home_end_ = committed_length_ + static_cast<int32_t>(command.window.size()) + 1 + depth;
  for (const RolloutRoot& root : command.roots) {
    if (!tree_.AddRoot(root, depth, now_ns)) refused->push_back(root);
  }
  tree_.Settle();
  tree_.Prune();

  const auto first_missing = std::find(places.begin(), places.end(), kNoPlace);
  if (first_missing != places.begin()) {
    Reserve(old_length + static_cast<int32_t>(first_missing - places.begin()));
  }
  const HomeComing coming = BringHome(&tree_, old_length, places, cache_.capacity());
  std::vector<engine::SlotCopy> copies;
  for (const PlaceMove& move : coming.moves) copies.push_back({SlotOf(move.from), SlotOf(move.to)});
  if (kv_length_ == old_length) kv_length_ += coming.num_home;
  cache_.ReleaseAbove(
      std::max(committed_length_, TreePlaces(&tree_, committed_length_).End()));
  AdvanceKv(0);
  return copies;
}

void DraftSequence::AddRoots(const StartRollout& command, int32_t depth, int64_t now_ns,
                             std::vector<RolloutRoot>* refused) {
  bool fits = tree_.is_closed() ||
              (Joins(command) && command.committed_length == committed_length_ &&
               tree_.HasWindow(command.window));
  if (fits && !tree_.is_closed()) {
    const absl::Span<const TokenId> known =
        StandAtPath().tokens().subspan(command.path_offset);
    fits = std::equal(known.begin(), known.end(), command.path_tokens.begin());
  }
  for (const RolloutRoot& root : command.roots) {
    if (root.token.has_value() && tree_.HasBranch(root.num_accepted, *root.token)) continue;
    if (!fits || !tree_.AddRoot(root, depth, now_ns)) refused->push_back(root);
  }
  tree_.Settle();
}

void DraftSequence::Cut(int32_t length) {
  sampling_.Truncate(length);
  // A committed path that contradicts an earlier one reaches into what the cache holds as final.
  if (cache_.committed_length() > length) cache_.Rollback(length);
  kv_length_ = std::min(kv_length_, length);
  if (kv_length_ > cache_.capacity()) kv_length_ = cache_.committed_length();
  committed_length_ = length;
  tree_.Reset(length - 1);
}

int32_t DraftSequence::SlotOf(int32_t place) const {
  const int32_t block_tokens = cache_.capacity() / num_blocks();
  return cache_.block_table()[static_cast<size_t>(place / block_tokens)] * block_tokens +
         place % block_tokens;
}

void DraftSequence::AdvanceKv(int32_t num_tokens) {
  kv_length_ += num_tokens;
  if (kv_length_ <= cache_.committed_length()) return;
  cache_.Commit(sampling_.tokens().subspan(cache_.committed_length(),
                                           kv_length_ - cache_.committed_length()));
}

const engine::SamplingState& DraftSequence::StandAt(NodeId id) {
  const std::vector<NodeId> path = tree_.tokens().PathTo(id);
  const absl::Span<const TokenId> standing = sampling_.tokens().subspan(committed_length_);
  size_t common = 0;
  while (common < path.size() && common < standing.size() &&
         tree_.tokens()[path[common]].token == standing[common]) {
    ++common;
  }
  sampling_.Truncate(committed_length_ + static_cast<int32_t>(common));
  for (; common < path.size(); ++common) sampling_.Append(tree_.tokens()[path[common]].token);
  return sampling_;
}

void DraftSequence::DropKv() {
  cache_.Clear();
  tree_.Close(committed_length_ - 1);
  StandAtPath();
  kv_length_ = 0;
}

void DraftSequence::AdoptCachedPrefix() {
  if (num_blocks() > 0 || committed_length_ == 0) return;
  kv_length_ = cache_.Start(StandAtPath().tokens());
}

}  // namespace mirrorsd::workers
