#pragma once
// The rows of a chosen pass as the engine takes them. What lies in a line with the sequence's committed tokens
// goes as ordinary rows, in one run where it can; the other nodes of a sequence go as one tree over its committed
// tokens. Lays out, computes nothing. Not thread-safe.

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/types/span.h"
#include "workers/draft/draft_batch.h"
#include "workers/engine/pass_rows.h"

namespace mirrorsd::workers {

// Whose logits a row of the result is.
struct LogitsOwner {
  size_t part = 0;
  NodeId node = kNoNode;  // the tree's base for the last committed token
};

class DraftPass {
 public:
  // Ids at or beyond `vocabulary_size` are fed as id 0: the model does not know them.
  DraftPass(absl::Span<const BatchPart> parts, int32_t vocabulary_size);
  DraftPass(const DraftPass&) = delete;
  DraftPass& operator=(const DraftPass&) = delete;

  // Good as long as this and as the parts' sequences are not touched.
  absl::Span<const engine::SequenceRows> rows() const { return rows_; }
  // [rows with logits], in the order of the pass
  absl::Span<const LogitsOwner> owners() const { return owners_; }

 private:
  struct Row {
    NodeId node = kNoNode;  // none: a committed token
    TokenId token = 0;
    int32_t position = 0;
    bool wants_logits = false;
  };
  // Memory behind a SequenceRows.
  struct Run {
    std::vector<TokenId> tokens;
    std::vector<int32_t> slots, ancestor_offsets, ancestor_slots;
    engine::TreeRows tree;
  };

  void AddPart(size_t index, const BatchPart& part);
  void AddLine(size_t index, const BatchPart& part, absl::Span<const Row> line);
  void AddTree(size_t index, const BatchPart& part, absl::Span<const Row> nodes);
  // Its rows with logits are the last ones.
  int32_t Begin(size_t index, absl::Span<const Row> rows, Run* run);

  int32_t vocabulary_size_;
  std::deque<Run> runs_;
  std::vector<engine::SequenceRows> rows_;
  std::vector<LogitsOwner> owners_;
};

}  // namespace mirrorsd::workers
