#pragma once
// The one seam between models and devices: about fifteen coarse ops over a device's memory. Model code
// is written once against it; a device is one folder that implements it, and tests/conformance says what is
// missing. Not a graph, not a tensor library: no shape inference, no autograd, no dispatch by name.
//
// Order and time: ops are enqueued and run in the order of the calls; they may return before they have
// run. Synchronize(), CopyToHost() and TopK() wait. Host spans and structs are read during the call, never after.
// Thread rule: one thread at a time uses a backend; whatever runs in parallel is inside.
//
// Contract of every op (tests/conformance):
//  - Batch invariance, bit for bit: an output row depends on that row's inputs (for Attention also on the
//    keys and values it sees) and on nothing else: not on the number of rows, their order, the
//    number of threads, how a prompt was cut into chunks, or which blocks hold it. Sums over K run
//    in one order; work is split over outputs, rows and heads only. Attention sums by absolute position.
//  - float32 activations and accumulation; bf16 and f16 weights are widened exactly.
//  - A NaN or infinity in one row stays in that row.
//  - Zero rows are fine and do nothing. Wrong shapes are our own bug (CHECK).
//  - Outputs do not overlap inputs unless an op says so.
//
// Letters: T rows of the pass, N outputs, K inputs, H query heads, H_kv key-value heads, D head size.

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/engine/tensor/tensor.h"

namespace mirrorsd::engine {

// Device memory, owned; freed when the last copy goes. May outlive nothing: the backend must outlive it.
struct Buffer {
  std::shared_ptr<void> memory;  // a device address
  int64_t size_bytes = 0;

  float* f32() const { return static_cast<float*>(memory.get()); }
  int64_t size_f32() const { return size_bytes / static_cast<int64_t>(sizeof(float)); }
  Matrix AsMatrix(int64_t rows, int64_t cols) const {
    CHECK_LE(rows * cols, size_f32());
    return Matrix::Of(f32(), rows, cols);
  }
};

// A loaded weight matrix [N, K], as the device wants it. Made by LoadWeight of the same backend.
class Weight {
 public:
  virtual ~Weight() = default;
  virtual DType dtype() const = 0;
  virtual int64_t num_outputs() const = 0;  // N
  virtual int64_t num_inputs() const = 0;   // K
  // The host view is still read by the ops and must outlive this (a CPU on a mapped file).
  virtual bool refers_to_host() const = 0;
};

// KV memory of all layers. A slot is one token's place: block * block_tokens + offset. How a block is
// laid out is the backend's own business.
struct KvShape {
  int32_t num_layers = 0;
  int32_t num_blocks = 0;
  int32_t block_tokens = 16;  // a multiple of 16
  int32_t num_kv_heads = 0;
  int32_t head_dim = 0;

  // Units: float32 elements, keys and values of one block in one layer
  int64_t BlockElements() const {
    return int64_t{2} * block_tokens * num_kv_heads * head_dim;
  }
  int64_t num_slots() const { return int64_t{num_blocks} * block_tokens; }
};

class KvPool {
 public:
  virtual ~KvPool() = default;
  virtual const KvShape& shape() const = 0;
};

// Rows of one sequence; consecutive rows of the pass belong to consecutive sequences.
struct BatchSequence {
  int32_t num_rows = 0;
  absl::Span<const BlockId> block_table;  // covers every paged position that its rows see
};

// Where the rows of one pass stand. Prepared once and used by all layers.
//
// Row t at absolute position p sees the keys of positions [0, p], its own included: without a tree all
// of them through its sequence's block table. With a tree, the last n of them,
// n = ancestor_offsets[t + 1] - ancestor_offsets[t], lie in the slots that its ancestor list names, from
// the root down, its own slot last; the first p + 1 - n through the block table. n = 0 is a row without a
// tree. Wherever its keys lie, a row has the same bits.
// Shapes: positions[T], slots[T], ancestor_offsets[T + 1] or empty, ancestor_slots[ancestor_offsets[T]];
//         the num_rows of sequences add up to T
struct BatchView {
  absl::Span<const int32_t> positions;
  absl::Span<const int32_t> slots;  // where KvStore writes each row; -1: nowhere
  absl::Span<const BatchSequence> sequences;
  absl::Span<const int32_t> ancestor_offsets;
  absl::Span<const int32_t> ancestor_slots;
};

// The device's own copy of a BatchView. Must go before the backend, may go right after the last call.
class Batch {
 public:
  virtual ~Batch() = default;
  virtual int32_t num_rows() const = 0;
};

struct AttentionOptions {
  int32_t num_heads = 0;       // H, a multiple of the pool's H_kv: query head h reads KV head h / (H / H_kv)
  float scale = 1.0f;          // of the scores, usually 1 / sqrt(D)
  int32_t sliding_window = 0;  // a row at position p sees [p - window + 1, p]; 0: [0, p]
};

// One slot's KV of all layers goes to another slot.
struct SlotCopy {
  int32_t from = 0;
  int32_t to = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // The name in backends.cc, e.g. "cpu".
  virtual const std::string& name() const = 0;
  // What decides bits, for numerics_id: device or ISA target, math revision, compute and KV types.
  // Equal texts (and equal weights): equal bits.
  virtual const std::string& numerics() const = 0;

  // ---- memory -------------------------------------------------------------------------------------

  // Zeroed. Errors: RESOURCE_EXHAUSTED with reason OUT_OF_MEMORY.
  virtual absl::StatusOr<Buffer> Allocate(int64_t size_bytes) = 0;
  virtual absl::StatusOr<std::unique_ptr<KvPool>> AllocateKv(const KvShape& shape) = 0;
  virtual void CopyToDevice(absl::Span<const float> from, float* to) = 0;
  // Waits for what was enqueued before.
  virtual void CopyToHost(const float* from, absl::Span<float> to) = 0;

  // Stacks the rows of the parts: one weight [sum of rows, K] of one dtype (q, k and v; gate and up).
  // Shapes: every part has the same cols and dtype (CHECK)
  virtual absl::StatusOr<std::unique_ptr<Weight>> LoadWeight(absl::Span<const HostMatrix> parts) = 0;
  // Concatenates the parts, widened to float32 (norms, biases, learned positions' rows are LoadWeight's).
  // Shapes: every part has one row
  virtual absl::StatusOr<Buffer> LoadVector(absl::Span<const HostMatrix> parts) = 0;

  virtual std::unique_ptr<Batch> PrepareBatch(const BatchView& view) = 0;

  // Waits for everything. Errors: what a device failed at since the last call; then results are void.
  virtual absl::Status Synchronize() = 0;

  // ---- ops ----------------------------------------------------------------------------------------

  // out[t] = table[rows[t]]; with `accumulate`, it is added (learned positions).
  // Shapes: rows[T] in [0, N) (CHECK), out[T, K]
  virtual void Embedding(const Weight& table, absl::Span<const int32_t> rows, bool accumulate,
                         Matrix out) = 0;

  // out = x / sqrt(mean(x^2) + eps) * weight, over each run of D = weight.size_f32() elements of a row: a whole
  // row, or each head of it. With `residual`, first residual += x, and the norm is of that sum.
  // Shapes: x[T, n * D], out[T, n * D], residual null or [T, n * D]; out may be x
  virtual void RmsNorm(Matrix x, const Buffer& weight, float eps, const Matrix* residual,
                       Matrix out) = 0;

  // out = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, otherwise as RmsNorm. Rows only.
  virtual void LayerNorm(Matrix x, const Buffer& weight, const Buffer& bias, float eps,
                         const Matrix* residual, Matrix out) = 0;

  // out = x * weight^T + bias.
  // Shapes: x[T, K], bias null or [N], out[T, N]
  virtual void Linear(Matrix x, const Weight& weight, const Buffer* bias, Matrix out) = 0;

  // The angles of a pass, once for all layers: columns [0, R / 2) are cos, [R / 2, R) sin, of
  // float(position) * inverse_frequencies[i], both times `scale`.
  // Shapes: inverse_frequencies[R / 2], table[T, R]
  virtual void RopeTable(const Batch& batch, const Buffer& inverse_frequencies, float scale,
                         Matrix table) = 0;

  // Rotates the first R elements of every head in place; pairs are (i, i + R / 2), Hugging Face's rotate_half.
  // Shapes: table[T, R], x[T, n * head_dim], R <= head_dim
  virtual void Rope(Matrix table, int32_t head_dim, Matrix x) = 0;

  // Writes the rows' keys and values into their slots. Later rows win where slots are equal.
  // Shapes: k[T, H_kv * D], v[T, H_kv * D]
  virtual void KvStore(const Batch& batch, Matrix k, Matrix v, int32_t layer, KvPool& pool) = 0;

  // out = softmax(q . keys * scale) . values for every row and head, over the keys that the row sees.
  // Shapes: q[T, H * D], out[T, H * D]
  virtual void Attention(const Batch& batch, const AttentionOptions& options, Matrix q, int32_t layer,
                         const KvPool& pool, Matrix out) = 0;

  // In order, each after the one before.
  virtual void CopyKv(absl::Span<const SlotCopy> copies, KvPool& pool) = 0;

  // out = silu(gate) * up, silu(x) = x / (1 + e^-x).
  // Shapes: all [T, F]; out may be gate or up
  virtual void SiluMul(Matrix gate, Matrix up, Matrix out) = 0;

  // x = max(x, 0), in place; NaN stays NaN.
  virtual void Relu(Matrix x) = 0;

  // x += y.
  virtual void Add(Matrix x, Matrix y) = 0;

  // out[t] = x[rows[t]].
  // Shapes: rows[T] in [0, x.rows) (CHECK), out[T, x.cols]
  virtual void GatherRows(Matrix x, absl::Span<const int32_t> rows, Matrix out) = 0;

  // The k greatest of each row, greatest first, ties to the lower column; NaN counts as least. Waits.
  // Shapes: x[T, V], 1 <= k <= V; columns[T * k], values[T * k] on the host
  virtual void TopK(Matrix x, int32_t k, absl::Span<int32_t> columns, absl::Span<float> values) = 0;
};

}  // namespace mirrorsd::engine
