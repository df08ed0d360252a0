#include "workers/draft/draft_pass.h"

#include <algorithm>

namespace mirrorsd::workers {

DraftPass::DraftPass(absl::Span<const BatchPart> parts, int32_t vocabulary_size)
    : vocabulary_size_(vocabulary_size) {
  for (size_t i = 0; i < parts.size(); ++i) AddPart(i, parts[i]);
}

void DraftPass::AddPart(size_t index, const BatchPart& part) {
  const DraftSequence& sequence = *part.sequence;
  const TokenTree& tokens = sequence.tree().tokens();
  std::vector<Row> line, branching;
  for (const TokenId token : sequence.Pending(part.num_path_rows)) {
    line.push_back({.token = token,
                    .position = sequence.kv_length() + static_cast<int32_t>(line.size())});
  }
  if (part.path_wants_logits) {
    line.back().node = tokens.base();
    line.back().wants_logits = true;
  }
  const size_t num_path = line.size();
  for (const NodeRow& row : part.nodes) {
    std::vector<Row>& rows = IsAtHome(tokens, row.node) ? line : branching;
    rows.push_back({row.node, tokens[row.node].token, tokens[row.node].position, row.wants_logits});
  }
  std::sort(line.begin() + static_cast<int64_t>(num_path), line.end(),
            [](const Row& a, const Row& b) { return a.position < b.position; });
  // A run ends before a gap, and after its rows with logits.
  for (size_t begin = 0, end = 1; begin < line.size(); begin = end++) {
    while (end < line.size() && line[end].position == line[end - 1].position + 1 &&
           (line[end].wants_logits || !line[end - 1].wants_logits)) {
      ++end;
    }
    AddLine(index, part, absl::MakeConstSpan(line).subspan(begin, end - begin));
  }
  if (branching.empty()) return;
  std::stable_partition(branching.begin(), branching.end(),
                        [](const Row& row) { return !row.wants_logits; });
  AddTree(index, part, branching);
}

int32_t DraftPass::Begin(size_t index, absl::Span<const Row> rows, Run* run) {
  int32_t logits_begin = 0;
  for (const Row& row : rows) {
    const bool is_known = row.token >= 0 && row.token < vocabulary_size_;
    run->tokens.push_back(is_known ? row.token : 0);
    if (row.wants_logits) {
      owners_.push_back({index, row.node});
    } else {
      ++logits_begin;
    }
  }
  return logits_begin;
}

void DraftPass::AddLine(size_t index, const BatchPart& part, absl::Span<const Row> line) {
  Run& run = runs_.emplace_back();
  const int32_t logits_begin = Begin(index, line, &run);
  rows_.push_back({.token_ids = run.tokens,
                   .begin = line.front().position,
                   .block_table = part.sequence->block_table(),
                   .logits_begin = logits_begin});
}

void DraftPass::AddTree(size_t index, const BatchPart& part, absl::Span<const Row> nodes) {
  const DraftSequence& sequence = *part.sequence;
  const TokenTree& tokens = sequence.tree().tokens();
  Run& run = runs_.emplace_back();
  const int32_t logits_begin = Begin(index, nodes, &run);
  run.ancestor_offsets.push_back(0);
  for (const Row& row : nodes) {
    for (const NodeId id : tokens.PathTo(row.node)) {
      run.ancestor_slots.push_back(sequence.SlotOf(tokens[id].place));
    }
    run.slots.push_back(run.ancestor_slots.back());
    run.ancestor_offsets.push_back(static_cast<int32_t>(run.ancestor_slots.size()));
  }
  run.tree = {.prefix_length = sequence.committed_length(),
              .slots = run.slots,
              .ancestor_offsets = run.ancestor_offsets,
              .ancestor_slots = run.ancestor_slots};
  rows_.push_back({.token_ids = run.tokens,
                   .block_table = sequence.block_table(),
                   .logits_begin = logits_begin,
                   .tree = &run.tree});
}

}  // namespace mirrorsd::workers
