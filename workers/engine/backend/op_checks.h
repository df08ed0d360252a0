#pragma once
// The shapes that every backend asks of its ops, stated once. A failure is a bug of the model code, so
// these are CHECKs. Nothing here computes.

#include <cstdint>

#include "absl/types/span.h"
#include "common/check.h"
#include "workers/engine/backend/backend.h"

namespace mirrorsd::engine::op_checks {

inline void SameShape(const Matrix& a, const Matrix& b) {
  CHECK_EQ(a.rows, b.rows);
  CHECK_EQ(a.cols, b.cols);
}

inline void IsMatrix(const Matrix& a) {
  CHECK(a.rows >= 0 && a.cols >= 0 && a.stride >= a.cols);
  CHECK(a.data != nullptr || a.empty());
}

inline void Embedding(const Weight& table, absl::Span<const int32_t> rows, const Matrix& out) {
  IsMatrix(out);
  CHECK_EQ(static_cast<int64_t>(rows.size()), out.rows);
  CHECK_EQ(table.num_inputs(), out.cols);
  for (const int32_t row : rows) CHECK(row >= 0 && row < table.num_outputs()) << "row " << row;
}

inline void Norm(const Matrix& x, const Buffer& weight, const Matrix* residual, const Matrix& out) {
  IsMatrix(x);
  IsMatrix(out);
  SameShape(x, out);
  CHECK_GT(weight.size_f32(), 0);
  CHECK_EQ(x.cols % weight.size_f32(), 0) << "row " << x.cols << " weight " << weight.size_f32();
  if (residual != nullptr) SameShape(x, *residual);
}

inline void LayerNorm(const Matrix& x, const Buffer& weight, const Buffer& bias,
                      const Matrix* residual, const Matrix& out) {
  Norm(x, weight, residual, out);
  CHECK_EQ(x.cols, weight.size_f32());
  CHECK_EQ(x.cols, bias.size_f32());
}

inline void Linear(const Matrix& x, const Weight& weight, const Buffer* bias, const Matrix& out) {
  IsMatrix(x);
  IsMatrix(out);
  CHECK_EQ(x.rows, out.rows);
  CHECK_EQ(x.cols, weight.num_inputs());
  CHECK_EQ(out.cols, weight.num_outputs());
  if (bias != nullptr) CHECK_EQ(bias->size_f32(), out.cols);
}

inline void RopeTable(const Batch& batch, const Buffer& inverse_frequencies, const Matrix& table) {
  IsMatrix(table);
  CHECK_EQ(table.rows, batch.num_rows());
  CHECK_EQ(table.cols, 2 * inverse_frequencies.size_f32());
}

inline void Rope(const Matrix& table, int32_t head_dim, const Matrix& x) {
  IsMatrix(table);
  IsMatrix(x);
  CHECK_EQ(table.rows, x.rows);
  CHECK_GT(head_dim, 0);
  CHECK_LE(table.cols, head_dim);
  CHECK_EQ(x.cols % head_dim, 0);
}

inline void KvStore(const Batch& batch, const Matrix& k, const Matrix& v, int32_t layer,
                    const KvPool& pool) {
  const KvShape& shape = pool.shape();
  IsMatrix(k);
  IsMatrix(v);
  SameShape(k, v);
  CHECK_EQ(k.rows, batch.num_rows());
  CHECK_EQ(k.cols, int64_t{shape.num_kv_heads} * shape.head_dim);
  CHECK(layer >= 0 && layer < shape.num_layers);
}

inline void Attention(const Batch& batch, const AttentionOptions& options, const Matrix& q,
                      int32_t layer, const KvPool& pool, const Matrix& out) {
  const KvShape& shape = pool.shape();
  IsMatrix(q);
  IsMatrix(out);
  SameShape(q, out);
  CHECK_EQ(q.rows, batch.num_rows());
  CHECK_GT(options.num_heads, 0);
  CHECK_EQ(options.num_heads % shape.num_kv_heads, 0);
  CHECK_EQ(q.cols, int64_t{options.num_heads} * shape.head_dim);
  CHECK_GE(options.sliding_window, 0);
  CHECK(layer >= 0 && layer < shape.num_layers);
}

inline void KvShapeIsSound(const KvShape& shape) {
  CHECK(shape.num_layers > 0 && shape.num_blocks > 0 && shape.num_kv_heads > 0 && shape.head_dim > 0);
  CHECK(shape.block_tokens > 0 && shape.block_tokens % 16 == 0) << shape.block_tokens;
  CHECK_LE(shape.num_slots(), INT32_MAX);
}

inline void Copies(absl::Span<const SlotCopy> copies, const KvPool& pool) {
  const int64_t num_slots = pool.shape().num_slots();
  for (const SlotCopy& copy : copies) {
    CHECK(copy.from >= 0 && copy.from < num_slots && copy.to >= 0 && copy.to < num_slots);
  }
}

inline void GatherRows(const Matrix& x, absl::Span<const int32_t> rows, const Matrix& out) {
  IsMatrix(x);
  IsMatrix(out);
  CHECK_EQ(static_cast<int64_t>(rows.size()), out.rows);
  CHECK_EQ(x.cols, out.cols);
  for (const int32_t row : rows) CHECK(row >= 0 && row < x.rows) << "row " << row;
}

inline void TopK(const Matrix& x, int32_t k, absl::Span<int32_t> columns, absl::Span<float> values) {
  IsMatrix(x);
  CHECK_GE(k, 1);
  CHECK(x.rows == 0 || k <= x.cols);
  CHECK_EQ(static_cast<int64_t>(columns.size()), x.rows * k);
  CHECK_EQ(static_cast<int64_t>(values.size()), x.rows * k);
}

inline void View(const BatchView& view) {
  const int64_t rows = static_cast<int64_t>(view.positions.size());
  CHECK_EQ(static_cast<int64_t>(view.slots.size()), rows);
  int64_t rows_of_sequences = 0;
  for (const BatchSequence& sequence : view.sequences) {
    CHECK_GE(sequence.num_rows, 0);
    rows_of_sequences += sequence.num_rows;
  }
  CHECK_EQ(rows_of_sequences, rows);
  if (view.ancestor_offsets.empty()) return;
  CHECK_EQ(static_cast<int64_t>(view.ancestor_offsets.size()), rows + 1);
  CHECK_EQ(view.ancestor_offsets.front(), 0);
  CHECK_EQ(static_cast<int64_t>(view.ancestor_slots.size()), view.ancestor_offsets.back());
  for (int64_t t = 0; t < rows; ++t) {
    const int32_t n = view.ancestor_offsets[t + 1] - view.ancestor_offsets[t];
    CHECK(n >= 0 && n <= view.positions[t] + 1) << "row " << t;
  }
}

}  // namespace mirrorsd::engine::op_checks
