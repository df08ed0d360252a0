#pragma once
// The scratch of a forward pass: one struct of named, shaped buffers in a backend's memory, allocated once
// for the largest pass. Views of the rows in use are made by slicing. Not thread-safe.

#include <cstdint>

#include "absl/status/statusor.h"
#include "workers/engine/backend/backend.h"
#include "workers/engine/model/model_config.h"

namespace mirrorsd::engine {

struct Activations {
  // [max_rows, ...]
  Matrix residual;    // hidden: the stream that every block adds to
  Matrix normed;      // hidden: what a block's two halves read
  Matrix qkv;         // heads * D + 2 * kv_heads * D
  Matrix attention;   // heads * D
  Matrix block_out;   // hidden: what a half adds to the residual
  Matrix inner;       // gate and up side by side, or up alone
  Matrix activated;   // intermediate
  Matrix rope_table;  // D: cos, sin
  // [max_logits_rows, ...]
  Matrix head_rows;   // hidden
  Matrix logits;      // vocabulary

  int64_t size_bytes = 0;
  Buffer memory;      // all of the above

  // Errors: RESOURCE_EXHAUSTED of the backend.
  static absl::StatusOr<Activations> Allocate(Backend* backend, const ModelConfig& config,
                                              int32_t max_rows, int32_t max_logits_rows);
};

}  // namespace mirrorsd::engine
