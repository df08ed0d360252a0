#pragma once
// What CPU backends keep: stored weights (the host's own bytes, never widened in memory), the KV pool and
// the pass's metadata. Plain holders with address arithmetic; no op is computed here.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/types/span.h"
#include "workers/engine/backend/backend.h"

namespace mirrorsd::engine::cpu {

// Parts stacked by rows. Refers to the host's bytes where they are aligned to their element, else copies.
class CpuWeight final : public Weight {
 public:
  // Null where memory for a copy is not to be had.
  static std::unique_ptr<CpuWeight> Make(absl::Span<const HostMatrix> parts);

  DType dtype() const override { return dtype_; }
  int64_t num_outputs() const override { return num_outputs_; }
  int64_t num_inputs() const override { return num_inputs_; }
  bool refers_to_host() const override { return refers_to_host_; }

  absl::Span<const HostMatrix> parts() const { return parts_; }
  const unsigned char* RowBytes(int64_t row) const;

 private:
  DType dtype_ = DType::kF32;
  int64_t num_outputs_ = 0;
  int64_t num_inputs_ = 0;
  bool refers_to_host_ = false;
  std::vector<HostMatrix> parts_;
  std::vector<std::shared_ptr<void>> copies_;
};

// Layout of one layer: [block][KV head], and there first the keys, transposed in groups of 16 tokens so
// that a vector holds one element of consecutive keys, then the values as rows:
//   keys   [block_tokens / 16][D][16]
//   values [block_tokens][D]
class CpuKvPool final : public KvPool {
 public:
  static constexpr int32_t kGroup = 16;  // tokens

  // Null where memory is not to be had.
  static std::unique_ptr<CpuKvPool> Make(const KvShape& shape);

  const KvShape& shape() const override { return shape_; }

  // keys[group][D][16] of one block and head.
  float* Keys(int32_t layer, int64_t block, int32_t head) const {
    return layers_[layer] + (block * shape_.num_kv_heads + head) * head_elements_;
  }
  // values[block_tokens][D] of one block and head.
  float* Values(int32_t layer, int64_t block, int32_t head) const {
    return Keys(layer, block, head) + head_elements_ / 2;
  }
  // The key of one slot; its elements lie kGroup apart.
  float* Key(int32_t layer, int32_t slot, int32_t head) const {
    const int32_t offset = slot % shape_.block_tokens;
    return Keys(layer, slot / shape_.block_tokens, head) +
           int64_t{offset / kGroup} * kGroup * shape_.head_dim + offset % kGroup;
  }
  // The value of one slot; contiguous.
  float* Value(int32_t layer, int32_t slot, int32_t head) const {
    return Values(layer, slot / shape_.block_tokens, head) +
           int64_t{slot % shape_.block_tokens} * shape_.head_dim;
  }

 private:
  KvShape shape_;
  int64_t head_elements_ = 0;  // of one block and head, keys and values
  std::vector<float*> layers_;
  std::vector<std::shared_ptr<void>> memory_;
};

class CpuBatch final : public Batch {
 public:
  explicit CpuBatch(const BatchView& view);

  int32_t num_rows() const override { return static_cast<int32_t>(positions_.size()); }
  int32_t num_sequences() const { return static_cast<int32_t>(first_rows_.size()) - 1; }

  int32_t position(int32_t row) const { return positions_[row]; }
  int32_t slot(int32_t row) const { return slots_[row]; }
  // Rows [first_row(s), first_row(s + 1)) belong to sequence s.
  int32_t first_row(int32_t sequence) const { return first_rows_[sequence]; }
  int32_t sequence(int32_t row) const { return sequences_[row]; }
  absl::Span<const BlockId> block_table(int32_t sequence) const {
    return absl::MakeConstSpan(block_tables_)
        .subspan(table_offsets_[sequence], table_offsets_[sequence + 1] - table_offsets_[sequence]);
  }
  // The tail of the row's keys that lies in tree slots, by increasing position; empty without a tree.
  absl::Span<const int32_t> ancestors(int32_t row) const {
    if (ancestor_offsets_.empty()) return {};
    return absl::MakeConstSpan(ancestor_slots_)
        .subspan(ancestor_offsets_[row], ancestor_offsets_[row + 1] - ancestor_offsets_[row]);
  }
  // The row sees positions [0, num_paged_keys) through its block table, the rest through ancestors().
  int32_t num_paged_keys(int32_t row) const {
    return positions_[row] + 1 - static_cast<int32_t>(ancestors(row).size());
  }

  // That every table covers its rows' keys and every id exists in the pool (CHECK).
  void CheckAgainst(const KvShape& shape) const;

 private:
  std::vector<int32_t> positions_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> sequences_;
  std::vector<int32_t> first_rows_;
  std::vector<BlockId> block_tables_;
  std::vector<size_t> table_offsets_;
  std::vector<int32_t> ancestor_offsets_;
  std::vector<int32_t> ancestor_slots_;
};

}  // namespace mirrorsd::engine::cpu
