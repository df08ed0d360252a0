#pragma once
// The vector kernels of one instruction set as a table of functions, chosen once when a backend is made.
// Highway compiles kernels.cc once per target; this header is all that the rest of the program sees of it.
// Pure functions of their arguments: every call from any thread, on disjoint outputs.

#include <cstdint>

#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/engine/tensor/dtype.h"

namespace mirrorsd::engine::cpu {

// out[m][n] = sum over k of x[m][k] * weight[n][k], + bias[n].
struct LinearArgs {
  const float* x = nullptr;      // as pack_inputs leaves it
  const void* weight = nullptr;  // panels of a PackedWeight, of panel_outputs
  const float* bias = nullptr;   // or null
  float* out = nullptr;
  int64_t out_stride = 0;
  int64_t num_rows = 0;
  int64_t num_inputs = 0;
  int64_t num_outputs = 0;
};

struct NormArgs {
  const float* x = nullptr;
  float* residual = nullptr;     // or null; x is added to it, and the norm is of the sum
  const float* weight = nullptr;
  const float* bias = nullptr;   // LayerNorm only
  float* out = nullptr;
  int64_t num_columns = 0;       // of the row
  int64_t size = 0;              // of what is normalized; num_columns is a multiple
  float eps = 0;
};

// Rows [first_row, first_row + num_rows) of one sequence, with all query heads of one KV head.
// Keys and values are laid out as CpuKvPool says.
struct AttentionArgs {
  const float* q = nullptr;       // of the first row and the first head of the group
  int64_t q_stride = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  int32_t num_rows = 0;
  int32_t num_group_heads = 0;
  int32_t head_dim = 0;
  float scale = 1;
  int32_t sliding_window = 0;
  const int32_t* positions = nullptr;      // [num_rows]
  const int32_t* num_paged_keys = nullptr; // [num_rows]
  const absl::Span<const int32_t>* ancestors = nullptr;  // [num_rows]
  const BlockId* block_table = nullptr;
  int32_t block_tokens = 0;
  const float* kv = nullptr;      // of block 0 in this layer and KV head: keys, then values
  int64_t block_stride = 0;       // elements from a block to the next
  float* scratch = nullptr;       // AttentionScratchElements
};

// Rows and heads that one AttentionArgs may hold.
inline constexpr int32_t kMaxQueries = 16;
int64_t AttentionScratchElements(int32_t head_dim);

struct Kernels {
  const char* isa;  // "AVX2"
  // Of the packed weights that `linear` reads.
  int32_t panel_outputs;
  // By DType.
  void (*linear[3])(const LinearArgs& args);
  // Rows are taken in ceil(num_rows / tile_rows) tiles; brings one tile of x into the order in which
  // `linear` reads it. Shapes: packed[num_rows * num_inputs], all tiles together
  int64_t tile_rows;
  void (*pack_inputs)(const float* x, int64_t x_stride, int64_t num_rows, int64_t num_inputs,
                      int64_t tile, float* packed);
  void (*rms_norm)(const NormArgs& args);
  void (*layer_norm)(const NormArgs& args);
  // out = silu(gate) * up
  void (*silu_mul)(const float* gate, const float* up, float* out, int64_t size);
  void (*attention)(const AttentionArgs& args);
  // out[i] = ExpF(x[i]), for tests.
  void (*exp)(const float* x, float* out, int64_t size);
};

// The widest instruction set of this processor.
const Kernels& ChooseKernels();

}  // namespace mirrorsd::engine::cpu
