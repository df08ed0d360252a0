#include "workers/engine/backend/cpu/cpu_memory.h"

#include <cstring>
#include <memory>
#include <utility>

#include "common/check.h"
#include "workers/engine/tensor/aligned_memory.h"

namespace mirrorsd::engine::cpu {
namespace {

bool IsAligned(const HostMatrix& part) {
  return reinterpret_cast<uintptr_t>(part.data) % DTypeBytes(part.dtype) == 0;
}

// A copy with rows side by side, or a null `data`.
HostMatrix CopyPart(const HostMatrix& part, std::vector<std::shared_ptr<void>>* copies) {
  std::shared_ptr<void> memory = AllocateAligned(part.size_bytes());
  HostMatrix copy = HostMatrix::Of(memory.get(), part.dtype, part.rows, part.cols);
  if (memory == nullptr) return copy;
  const size_t row_bytes = static_cast<size_t>(part.cols) * DTypeBytes(part.dtype);
  for (int64_t row = 0; row < part.rows; ++row) {
    std::memcpy(const_cast<unsigned char*>(copy.RowBytes(row)), part.RowBytes(row), row_bytes);
  }
  copies->push_back(std::move(memory));
  return copy;
}

}  // namespace

std::unique_ptr<CpuWeight> CpuWeight::Make(absl::Span<const HostMatrix> parts) {
  CHECK(!parts.empty());
  auto weight = std::make_unique<CpuWeight>();
  weight->dtype_ = parts[0].dtype;
  weight->num_inputs_ = parts[0].cols;
  for (const HostMatrix& part : parts) {
    CHECK(part.dtype == weight->dtype_);
    CHECK_EQ(part.cols, weight->num_inputs_);
    weight->num_outputs_ += part.rows;
    if (IsAligned(part)) {
      weight->refers_to_host_ = true;
      weight->parts_.push_back(part);
      continue;
    }
    weight->parts_.push_back(CopyPart(part, &weight->copies_));
    if (weight->parts_.back().data == nullptr) return nullptr;
  }
  return weight;
}

const unsigned char* CpuWeight::RowBytes(int64_t row) const {
  for (const HostMatrix& part : parts_) {
    if (row < part.rows) return part.RowBytes(row);
    row -= part.rows;
  }
  CHECK(false) << "row beyond the weight";
  return nullptr;
}

std::unique_ptr<CpuKvPool> CpuKvPool::Make(const KvShape& shape) {
  auto pool = std::make_unique<CpuKvPool>();
  pool->shape_ = shape;
  pool->head_elements_ = int64_t{2} * shape.block_tokens * shape.head_dim;
  const int64_t layer_bytes =
      shape.BlockElements() * shape.num_blocks * static_cast<int64_t>(sizeof(float));
  for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
    std::shared_ptr<void> memory = AllocateAligned(layer_bytes);
    if (memory == nullptr) return nullptr;
    pool->layers_.push_back(static_cast<float*>(memory.get()));
    pool->memory_.push_back(std::move(memory));
  }
  return pool;
}

CpuBatch::CpuBatch(const BatchView& view)
    : positions_(view.positions.begin(), view.positions.end()),
      slots_(view.slots.begin(), view.slots.end()),
      ancestor_offsets_(view.ancestor_offsets.begin(), view.ancestor_offsets.end()),
      ancestor_slots_(view.ancestor_slots.begin(), view.ancestor_slots.end()) {
  first_rows_.push_back(0);
  table_offsets_.push_back(0);
  for (const BatchSequence& sequence : view.sequences) {
    const int32_t index = static_cast<int32_t>(first_rows_.size()) - 1;
    sequences_.insert(sequences_.end(), static_cast<size_t>(sequence.num_rows), index);
    first_rows_.push_back(first_rows_.back() + sequence.num_rows);
    block_tables_.insert(block_tables_.end(), sequence.block_table.begin(),
                         sequence.block_table.end());
    table_offsets_.push_back(block_tables_.size());
  }
}

void CpuBatch::CheckAgainst(const KvShape& shape) const {
  for (int32_t row = 0; row < num_rows(); ++row) {
    const int64_t covered =
        static_cast<int64_t>(block_table(sequences_[row]).size()) * shape.block_tokens;
    CHECK_LE(num_paged_keys(row), covered) << "row " << row;
    CHECK_LT(slots_[row], shape.num_slots()) << "row " << row;
  }
  for (const BlockId block : block_tables_) CHECK(block >= 0 && block < shape.num_blocks) << block;
  for (const int32_t slot : ancestor_slots_) CHECK(slot >= 0 && slot < shape.num_slots()) << slot;
}

}  // namespace mirrorsd::engine::cpu
