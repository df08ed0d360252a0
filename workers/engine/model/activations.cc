#include "workers/engine/model/activations.h"

#include <utility>

namespace mirrorsd::engine {

absl::StatusOr<Activations> Activations::Allocate(Backend* backend, const ModelConfig& config,
                                                  int32_t max_rows, int32_t max_logits_rows) {
  constexpr int64_t kAlignElements = 16;  // a cache line of float32
  const int64_t hidden = config.hidden_size, inner = config.intermediate_size;
  const int64_t query = int64_t{config.num_heads} * config.head_dim;
  const int64_t key = int64_t{config.num_kv_heads} * config.head_dim;
  Activations a;
  struct Piece {
    Matrix* matrix;
    int64_t rows, cols;
  };
  const Piece pieces[] = {
      {&a.residual, max_rows, hidden},
      {&a.normed, max_rows, hidden},
      {&a.qkv, max_rows, query + 2 * key},
      {&a.attention, max_rows, query},
      {&a.block_out, max_rows, hidden},
      {&a.inner, max_rows, config.block.gated_mlp ? 2 * inner : inner},
      {&a.activated, max_rows, inner},
      {&a.rope_table, max_rows, config.head_dim},
      {&a.head_rows, max_logits_rows, hidden},
      {&a.logits, max_logits_rows, config.vocabulary_size},
  };
  const auto aligned = [](const Piece& piece) {
    return (piece.rows * piece.cols + kAlignElements - 1) / kAlignElements * kAlignElements;
  };
  int64_t elements = 0;
  for (const Piece& piece : pieces) elements += aligned(piece);
  a.size_bytes = elements * static_cast<int64_t>(sizeof(float));
  absl::StatusOr<Buffer> memory = backend->Allocate(a.size_bytes);
  if (!memory.ok()) return memory.status();
  a.memory = *std::move(memory);
  float* next = a.memory.f32();
  for (const Piece& piece : pieces) {
    *piece.matrix = Matrix::Of(next, piece.rows, piece.cols);
    next += aligned(piece);
  }
  return a;
}

}  // namespace mirrorsd::engine
