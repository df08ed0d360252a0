#include "workers/engine/pass_rows.h"

#include "absl/strings/str_cat.h"
#include "common/error.h"

namespace mirrorsd::engine {

PassRows::PassRows(const PassLimits& limits) : limits_(limits) {
  for (auto* rows : {&token_ids_, &positions_, &slots_}) rows->reserve(limits.max_rows);
  ancestor_offsets_.reserve(limits.max_rows + 1);
  sequences_.reserve(limits.max_rows);
  logits_rows_.reserve(limits.max_logits_rows);
}

absl::Status PassRows::Gather(absl::Span<const SequenceRows> sequences) {
  for (auto* rows : {&token_ids_, &positions_, &slots_, &ancestor_slots_, &logits_rows_}) {
    rows->clear();
  }
  ancestor_offsets_.assign(1, 0);
  sequences_.clear();
  for (size_t i = 0; i < sequences.size(); ++i) {
    absl::Status added = Add(sequences[i], absl::StrCat("sequences[", i, "]"));
    if (!added.ok()) return added;
  }
  if (token_ids_.empty()) return InvalidField("sequences", "holds no rows", "at least 1 row");
  return absl::OkStatus();
}

BatchView PassRows::view() const {
  BatchView view;
  view.positions = positions_;
  view.slots = slots_;
  view.sequences = sequences_;
  if (!ancestor_slots_.empty()) {
    view.ancestor_offsets = ancestor_offsets_;
    view.ancestor_slots = ancestor_slots_;
  }
  return view;
}

absl::Status PassRows::Add(const SequenceRows& rows, const std::string& field) {
  const int64_t count = static_cast<int64_t>(rows.token_ids.size());
  const int64_t rows_so_far = static_cast<int64_t>(token_ids_.size());
  if (count == 0) return InvalidField(field, "holds no rows", "at least 1 row");
  if (rows_so_far + count > limits_.max_rows) {
    return InvalidField(field, "brings the pass over its rows",
                        absl::StrCat(limits_.max_rows, " rows"));
  }
  for (TokenId token : rows.token_ids) {
    if (token >= 0 && token < limits_.vocabulary_size) continue;
    return InvalidField(absl::StrCat(field, ".token_ids"), absl::StrCat("holds ", token),
                        absl::StrCat("0 to ", limits_.vocabulary_size - 1));
  }
  if (rows.logits_begin < 0 || rows.logits_begin > count) {
    return InvalidField(absl::StrCat(field, ".logits_begin"),
                        absl::StrCat("is ", rows.logits_begin), absl::StrCat("0 to ", count));
  }
  const int64_t num_logits = static_cast<int64_t>(logits_rows_.size()) + count - rows.logits_begin;
  if (num_logits > limits_.max_logits_rows) {
    return InvalidField(field, "brings the pass over its rows with logits",
                        absl::StrCat(limits_.max_logits_rows, " rows"));
  }
  absl::Status added = rows.tree == nullptr ? AddPlain(rows, field)
                                            : AddTree(rows, absl::StrCat(field, ".tree"));
  if (!added.ok()) return added;
  token_ids_.insert(token_ids_.end(), rows.token_ids.begin(), rows.token_ids.end());
  for (int64_t t = rows.logits_begin; t < count; ++t) {
    logits_rows_.push_back(static_cast<int32_t>(rows_so_far + t));
  }
  sequences_.push_back({static_cast<int32_t>(count), rows.block_table});
  return absl::OkStatus();
}

absl::Status PassRows::AddPlain(const SequenceRows& rows, const std::string& field) {
  const int64_t end = rows.begin + static_cast<int64_t>(rows.token_ids.size());
  if (rows.begin < 0 || end > limits_.context_length) {
    return InvalidField(absl::StrCat(field, ".begin"),
                        absl::StrCat("positions ", rows.begin, " to ", end),
                        absl::StrCat("a context of ", limits_.context_length));
  }
  absl::Status blocks = CheckBlocks(rows, static_cast<int32_t>(end), field);
  if (!blocks.ok()) return blocks;
  for (int32_t position = rows.begin; position < end; ++position) {
    const BlockId block = rows.block_table[position / limits_.block_tokens];
    positions_.push_back(position);
    slots_.push_back(block * limits_.block_tokens + position % limits_.block_tokens);
    ancestor_offsets_.push_back(static_cast<int32_t>(ancestor_slots_.size()));
  }
  return absl::OkStatus();
}

absl::Status PassRows::AddTree(const SequenceRows& rows, const std::string& field) {
  absl::Status checked = CheckTree(rows, field);
  if (!checked.ok()) return checked;
  const TreeRows& tree = *rows.tree;
  for (size_t t = 0; t < rows.token_ids.size(); ++t) {
    const int32_t begin = tree.ancestor_offsets[t], end = tree.ancestor_offsets[t + 1];
    positions_.push_back(tree.prefix_length + (end - begin) - 1);
    slots_.push_back(tree.slots[t]);
    ancestor_slots_.insert(ancestor_slots_.end(), tree.ancestor_slots.begin() + begin,
                           tree.ancestor_slots.begin() + end);
    ancestor_offsets_.push_back(static_cast<int32_t>(ancestor_slots_.size()));
  }
  return absl::OkStatus();
}

absl::Status PassRows::CheckTree(const SequenceRows& rows, const std::string& field) const {
  const TreeRows& tree = *rows.tree;
  const size_t count = rows.token_ids.size();
  const int64_t num_ancestors = static_cast<int64_t>(tree.ancestor_slots.size());
  if (tree.slots.size() != count || tree.ancestor_offsets.size() != count + 1 ||
      tree.ancestor_offsets[0] != 0 || tree.ancestor_offsets[count] != num_ancestors) {
    return InvalidField(field, "has lists that do not fit its rows", absl::StrCat(count, " rows"));
  }
  absl::Status blocks = CheckBlocks(rows, tree.prefix_length, field);
  if (!blocks.ok()) return blocks;
  const int32_t num_slots = limits_.num_kv_blocks * limits_.block_tokens;
  for (int32_t slot : tree.ancestor_slots) {
    if (slot >= 0 && slot < num_slots) continue;
    return InvalidField(field, absl::StrCat("names the slot ", slot),
                        absl::StrCat("0 to ", num_slots - 1));
  }
  for (size_t t = 0; t < count; ++t) {
    const int32_t begin = tree.ancestor_offsets[t], end = tree.ancestor_offsets[t + 1];
    if (begin >= end || end > num_ancestors || tree.ancestor_slots[end - 1] != tree.slots[t]) {
      return InvalidField(field, absl::StrCat("row ", t, " does not end its own ancestors"),
                          "each row's list ends with its own slot");
    }
    const int64_t position = int64_t{tree.prefix_length} + (end - begin) - 1;
    if (position >= limits_.context_length) {
      return InvalidField(field, absl::StrCat("reaches position ", position),
                          absl::StrCat("a context of ", limits_.context_length));
    }
  }
  return absl::OkStatus();
}

absl::Status PassRows::CheckBlocks(const SequenceRows& rows, int32_t num_positions,
                                   const std::string& field) const {
  const int64_t needed =
      (int64_t{num_positions} + limits_.block_tokens - 1) / limits_.block_tokens;
  if (num_positions < 0 || static_cast<int64_t>(rows.block_table.size()) < needed) {
    return InvalidField(absl::StrCat(field, ".block_table"),
                        absl::StrCat("has ", rows.block_table.size(), " blocks for ",
                                     num_positions, " positions"),
                        absl::StrCat(needed, " blocks"));
  }
  for (BlockId block : rows.block_table.subspan(0, needed)) {
    if (block >= 0 && block < limits_.num_kv_blocks) continue;
    return InvalidField(absl::StrCat(field, ".block_table"), absl::StrCat("holds ", block),
                        absl::StrCat("0 to ", limits_.num_kv_blocks - 1));
  }
  return absl::OkStatus();
}

}  // namespace mirrorsd::engine
