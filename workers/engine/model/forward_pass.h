#pragma once
// The one forward pass: embedding, layers [begin, end), head, for every family and every device. It goes by
// ModelConfig and knows ops only through the backend. It trusts its caller: whatever came from outside was
// looked at by the engine. A device that wants whole graphs stands beside this class, behind the engine.
// Not thread-safe.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "workers/engine/backend/backend.h"
#include "workers/engine/model/activations.h"
#include "workers/engine/model/model_config.h"
#include "workers/engine/model/weights.h"

namespace mirrorsd::engine {

// Counts changes of the pass that change bits; part of numerics_id.
inline constexpr int kForwardPassRevision = 1;

class ForwardPass {
 public:
  // `backend` must outlive it. Errors: RESOURCE_EXHAUSTED of the backend.
  static absl::StatusOr<std::unique_ptr<ForwardPass>> Create(Backend* backend,
                                                             const ModelConfig& config,
                                                             ModelWeights weights,
                                                             const KvShape& kv_shape,
                                                             int32_t max_rows,
                                                             int32_t max_logits_rows);

  // Embeds the rows of `view`; the spans may go afterwards.
  // Shapes: token_ids[T], T <= max_rows
  void Begin(absl::Span<const TokenId> token_ids, const BatchView& view);

  // Layers [begin, end), in order; afterwards the residual stream is complete, so that the pass may be
  // cut anywhere and the bits do not know it.
  void RunLayers(int32_t begin, int32_t end);

  // Final norm and head of `logits_rows` of the pass, copied to host memory that is good until the next call.
  // Shapes: logits_rows[R], R <= max_logits_rows; result [R, V]
  // Errors: what the device failed at since Begin().
  absl::StatusOr<absl::Span<float>> Head(absl::Span<const int32_t> logits_rows);

  void CopyKv(absl::Span<const SlotCopy> copies) { backend_->CopyKv(copies, *kv_); }

  int64_t scratch_bytes() const { return activations_.size_bytes; }

 private:
  ForwardPass(Backend* backend, const ModelConfig& config, ModelWeights weights,
              Activations activations, std::unique_ptr<KvPool> kv, Buffer inverse_frequencies,
              std::shared_ptr<float> host_logits);

  void AttentionHalf(const LayerWeights& weights, int32_t layer);
  void MlpHalf(const LayerWeights& weights);
  // out = norm(x), or residual += x and out = norm(residual).
  void Norm(Matrix x, const Buffer& weight, const Buffer& bias, const Matrix* residual, Matrix out);
  void Project(Matrix x, const Projection& projection, Matrix out);
  Matrix Rows(const Matrix& matrix) const { return matrix.Rows(0, num_rows_); }

  Backend* backend_;
  ModelConfig config_;
  ModelWeights weights_;
  Activations activations_;
  std::unique_ptr<KvPool> kv_;
  Buffer inverse_frequencies_;  // empty: learned positions
  std::shared_ptr<float> host_logits_;
  AttentionOptions attention_;

  // Of the pass.
  std::unique_ptr<Batch> batch_;
  int64_t num_rows_ = 0;
  bool block_out_pending_ = false;  // block_out is still to be added to the residual
};

}  // namespace mirrorsd::engine
