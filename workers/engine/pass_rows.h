#pragma once
// The rows of one pass: what a caller asks for, looked at and laid out as the backend wants it. Whatever is
// wrong with a request's ids, positions or blocks ends here as a status. Not thread-safe.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/engine/backend/backend.h"

namespace mirrorsd::engine {

// Rows of one sequence that form a tree over its committed prefix (drafts only). Row t attends to
// positions [0, prefix_length) through the block table and, of the tree, to the KV slots that its ancestor
// list names, from the root down, its own slot last. Its position is prefix_length + depth, the root's
// depth being 0. A slot is block * block_tokens + offset, in a block that the caller holds.
// Shapes: slots[T], ancestor_offsets[T + 1], ancestor_slots[ancestor_offsets[T]]
struct TreeRows {
  int32_t prefix_length = 0;
  absl::Span<const int32_t> slots;
  absl::Span<const int32_t> ancestor_offsets;
  absl::Span<const int32_t> ancestor_slots;
};

// What one sequence adds to a pass. Without a tree, row t is the token at position begin + t, attends to
// [0, begin + t] and its KV is written at begin + t. The KV of [0, begin) must be valid already.
// Shapes: token_ids[T], T >= 1; block_table[>= ceil((begin + T) / block_tokens)]
struct SequenceRows {
  absl::Span<const TokenId> token_ids;
  int32_t begin = 0;
  absl::Span<const BlockId> block_table;
  int32_t logits_begin = 0;        // rows [logits_begin, T) get logits; T: none
  const TreeRows* tree = nullptr;  // if set, `begin` is not used
};

struct PassLimits {
  int32_t max_rows = 0;
  int32_t max_logits_rows = 0;
  int32_t vocabulary_size = 0;
  int32_t context_length = 0;
  int32_t num_kv_blocks = 0;
  int32_t block_tokens = 0;
};

class PassRows {
 public:
  explicit PassRows(const PassLimits& limits);

  // Replaces what was gathered before; nothing is allocated after the first passes.
  // Errors: INVALID_FIELD naming the sequence, the field and the limit.
  absl::Status Gather(absl::Span<const SequenceRows> sequences);

  absl::Span<const TokenId> token_ids() const { return token_ids_; }
  absl::Span<const int32_t> logits_rows() const { return logits_rows_; }
  // Its block tables are the caller's spans.
  BatchView view() const;

 private:
  absl::Status Add(const SequenceRows& rows, const std::string& field);
  absl::Status AddPlain(const SequenceRows& rows, const std::string& field);
  absl::Status AddTree(const SequenceRows& rows, const std::string& field);
  absl::Status CheckTree(const SequenceRows& rows, const std::string& field) const;
  absl::Status CheckBlocks(const SequenceRows& rows, int32_t num_positions,
                           const std::string& field) const;

  PassLimits limits_;
  std::vector<TokenId> token_ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> slots_;
  std::vector<BatchSequence> sequences_;
  std::vector<int32_t> ancestor_offsets_;
  std::vector<int32_t> ancestor_slots_;
  std::vector<int32_t> logits_rows_;
};

}  // namespace mirrorsd::engine
