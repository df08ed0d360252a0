#include "workers/draft/draft_sequence.h"

#include <algorithm>

namespace mirrorsd::workers {

DraftSequence::DraftSequence(const StartSequence& command, engine::BlockPool* pool)
    : id_(command.sequence_id),
      sampling_(command.sampling, command.end_token_ids, command.prompt_length),
      cache_(pool),
      total_length_(command.total_length) {}

bool DraftSequence::Append(const AppendTokens& command) {
  if (is_complete() || command.offset < length()) return true;
  const int64_t end = int64_t{command.offset} + static_cast<int64_t>(command.token_ids.size());
  if (command.offset > length() || end > total_length_) return false;
  sampling_.Append(command.token_ids);
  committed_length_ = length();
  if (is_complete()) AdoptCachedPrefix();
  return true;
}

bool DraftSequence::Reconcile(const StartRollout& command, const RolloutRoot& root) {
  const int64_t path_end =
      int64_t{command.path_offset} + static_cast<int64_t>(command.path_tokens.size());
  if (!root.token.has_value() || *root.token < 0 || root.num_accepted < 0 ||
      static_cast<size_t>(root.num_accepted) > command.window.size() || command.path_offset < 0 ||
      command.path_offset > committed_length_ || path_end != command.committed_length ||
      command.committed_length < committed_length_) {
    return false;
  }
  std::vector<TokenId> path = command.path_tokens;
  path.insert(path.end(), command.window.begin(), command.window.begin() + root.num_accepted);
  path.push_back(*root.token);

  const absl::Span<const TokenId> known = sampling_.tokens().subspan(command.path_offset);
  const auto differs = std::mismatch(path.begin(), path.end(), known.begin(), known.end());
  Cut(command.path_offset + static_cast<int32_t>(differs.first - path.begin()));
  sampling_.Append(absl::MakeConstSpan(path).subspan(differs.first - path.begin()));
  committed_length_ = command.committed_length;
  kv_length_ = std::min(kv_length_, length() - 1);
  AdvanceKv(0);
  return true;
}

void DraftSequence::Cut(int32_t length) {
  sampling_.Truncate(length);
  // Only a committed path that contradicts an earlier one reaches into what the cache holds as final.
  if (cache_.committed_length() > length) cache_.Rollback(length);
  kv_length_ = std::min(kv_length_, length);
  if (kv_length_ > cache_.capacity()) kv_length_ = cache_.committed_length();
  committed_length_ = std::min(committed_length_, length);
}

std::vector<TokenId> DraftSequence::PendingRows(int32_t num_tokens,
                                                int32_t vocabulary_size) const {
  const absl::Span<const TokenId> tokens = sampling_.tokens().subspan(kv_length_, num_tokens);
  std::vector<TokenId> rows(tokens.begin(), tokens.end());
  for (TokenId& row : rows) {
    if (row < 0 || row >= vocabulary_size) row = 0;
  }
  return rows;
}

void DraftSequence::AdvanceKv(int32_t num_tokens) {
  kv_length_ += num_tokens;
  const int32_t final_length = acknowledged_length();
  if (final_length <= cache_.committed_length()) return;
  cache_.Commit(sampling_.tokens().subspan(cache_.committed_length(),
                                           final_length - cache_.committed_length()));
}

void DraftSequence::DropKv() {
  cache_.Clear();
  sampling_.Truncate(committed_length_);
  kv_length_ = 0;
}

void DraftSequence::AdoptCachedPrefix() {
  if (num_blocks() == 0 && length() > 0) kv_length_ = cache_.Start(sampling_.tokens());
}

}  // namespace mirrorsd::workers
