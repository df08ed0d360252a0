#include "workers/engine/model/forward_pass.h"

#include <cmath>
#include <utility>

#include "absl/status/status.h"
#include "common/check.h"
#include "common/error.h"
#include "workers/engine/model/rope_frequencies.h"
#include "workers/engine/tensor/aligned_memory.h"

namespace mirrorsd::engine {

absl::StatusOr<std::unique_ptr<ForwardPass>> ForwardPass::Create(
    Backend* backend, const ModelConfig& config, ModelWeights weights, const KvShape& kv_shape,
    int32_t max_rows, int32_t max_logits_rows) {
  absl::StatusOr<Activations> activations =
      Activations::Allocate(backend, config, max_rows, max_logits_rows);
  if (!activations.ok()) return activations.status();
  absl::StatusOr<std::unique_ptr<KvPool>> kv = backend->AllocateKv(kv_shape);
  if (!kv.ok()) return kv.status();
  Buffer inverse_frequencies;
  if (config.block.positions == PositionKind::kRope) {
    const std::vector<float> frequencies = RopeInverseFrequencies(config.rope, config.head_dim);
    absl::StatusOr<Buffer> buffer = backend->LoadVector({HostMatrix::Of(
        frequencies.data(), DType::kF32, 1, static_cast<int64_t>(frequencies.size()))});
    if (!buffer.ok()) return buffer.status();
    inverse_frequencies = *std::move(buffer);
  }
  const int64_t logits_bytes =
      int64_t{max_logits_rows} * config.vocabulary_size * static_cast<int64_t>(sizeof(float));
  std::shared_ptr<float> host_logits = std::static_pointer_cast<float>(AllocateAligned(logits_bytes));
  if (host_logits == nullptr) {
    return Overloaded("OUT_OF_MEMORY", "no memory for logits on the host");
  }
  return std::unique_ptr<ForwardPass>(
      new ForwardPass(backend, config, std::move(weights), *std::move(activations), *std::move(kv),
                      std::move(inverse_frequencies), std::move(host_logits)));
}

ForwardPass::ForwardPass(Backend* backend, const ModelConfig& config, ModelWeights weights,
                         Activations activations, std::unique_ptr<KvPool> kv,
                         Buffer inverse_frequencies, std::shared_ptr<float> host_logits)
    : backend_(backend),
      config_(config),
      weights_(std::move(weights)),
      activations_(std::move(activations)),
      kv_(std::move(kv)),
      inverse_frequencies_(std::move(inverse_frequencies)),
      host_logits_(std::move(host_logits)) {
  attention_.num_heads = config.num_heads;
  attention_.scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
  attention_.sliding_window = config.block.sliding_window;
}

void ForwardPass::Begin(absl::Span<const TokenId> token_ids, const BatchView& view) {
  num_rows_ = static_cast<int64_t>(token_ids.size());
  block_out_pending_ = false;
  batch_ = backend_->PrepareBatch(view);
  backend_->Embedding(*weights_.token_embedding, token_ids, /*accumulate=*/false,
                      Rows(activations_.residual));
  if (config_.block.positions == PositionKind::kRope) {
    backend_->RopeTable(*batch_, inverse_frequencies_, 1.0f, Rows(activations_.rope_table));
  } else {
    std::vector<int32_t> rows(view.positions.begin(), view.positions.end());
    for (int32_t& row : rows) row += config_.position_offset;
    backend_->Embedding(*weights_.position_embedding, rows, /*accumulate=*/true,
                        Rows(activations_.residual));
  }
}

void ForwardPass::RunLayers(int32_t begin, int32_t end) {
  CHECK(batch_ != nullptr);
  for (int32_t layer = begin; layer < end; ++layer) {
    AttentionHalf(weights_.layers[layer], layer);
    MlpHalf(weights_.layers[layer]);
  }
  if (block_out_pending_) backend_->Add(Rows(activations_.residual), Rows(activations_.block_out));
  block_out_pending_ = false;
}

void ForwardPass::AttentionHalf(const LayerWeights& weights, int32_t layer) {
  const int64_t head_dim = config_.head_dim;
  const int64_t query_end = config_.num_heads * head_dim;
  const int64_t key_end = query_end + config_.num_kv_heads * head_dim;
  const Matrix residual = Rows(activations_.residual), normed = Rows(activations_.normed);
  const Matrix qkv = Rows(activations_.qkv), attention = Rows(activations_.attention);
  const Matrix block_out = Rows(activations_.block_out);

  if (block_out_pending_) {
    Norm(block_out, weights.attention_norm, weights.attention_norm_bias, &residual, normed);
  } else {
    Norm(residual, weights.attention_norm, weights.attention_norm_bias, nullptr, normed);
  }
  Project(normed, weights.qkv, qkv);
  const Matrix query = qkv.Cols(0, query_end), key = qkv.Cols(query_end, key_end);
  const Matrix value = qkv.Cols(key_end, qkv.cols);
  if (config_.block.qk_norm) {
    backend_->RmsNorm(query, weights.query_norm, config_.norm_eps, nullptr, query);
    backend_->RmsNorm(key, weights.key_norm, config_.norm_eps, nullptr, key);
  }
  if (config_.block.positions == PositionKind::kRope) {
    backend_->Rope(Rows(activations_.rope_table), config_.head_dim, qkv.Cols(0, key_end));
  }
  backend_->KvStore(*batch_, key, value, layer, *kv_);
  backend_->Attention(*batch_, attention_, query, layer, *kv_, attention);
  Project(attention, weights.output, block_out);
  block_out_pending_ = true;
}

void ForwardPass::MlpHalf(const LayerWeights& weights) {
  const Matrix residual = Rows(activations_.residual), normed = Rows(activations_.normed);
  const Matrix inner = Rows(activations_.inner), activated = Rows(activations_.activated);
  const Matrix block_out = Rows(activations_.block_out);
  const int64_t size = config_.intermediate_size;

  Norm(block_out, weights.mlp_norm, weights.mlp_norm_bias, &residual, normed);
  if (config_.block.gated_mlp) {
    CHECK(config_.block.activation == Activation::kSilu);
    Project(normed, weights.inner, inner);
    backend_->SiluMul(inner.Cols(0, size), inner.Cols(size, 2 * size), activated);
  } else {
    CHECK(config_.block.activation == Activation::kRelu);
    Project(normed, weights.inner, activated);
    backend_->Relu(activated);
  }
  Project(activated, weights.down, block_out);
}

absl::StatusOr<absl::Span<float>> ForwardPass::Head(absl::Span<const int32_t> logits_rows) {
  const int64_t num_logits = static_cast<int64_t>(logits_rows.size());
  const absl::Span<float> host(host_logits_.get(), num_logits * config_.vocabulary_size);
  if (num_logits > 0) {
    CHECK_LE(num_logits, activations_.head_rows.rows);
    const Matrix rows = activations_.head_rows.Rows(0, num_logits);
    const Matrix logits = activations_.logits.Rows(0, num_logits);
    backend_->GatherRows(Rows(activations_.residual), logits_rows, rows);
    Norm(rows, weights_.final_norm, weights_.final_norm_bias, nullptr, rows);
    const Weight& head = weights_.head ? *weights_.head : *weights_.token_embedding;
    backend_->Linear(rows, head, nullptr, logits);
    backend_->CopyToHost(logits.data, host);
  }
  const absl::Status status = backend_->Synchronize();
  if (!status.ok()) return status;
  return host;
}

void ForwardPass::Norm(Matrix x, const Buffer& weight, const Buffer& bias, const Matrix* residual,
                       Matrix out) {
  if (config_.block.norm == NormKind::kRmsNorm) {
    backend_->RmsNorm(x, weight, config_.norm_eps, residual, out);
  } else {
    backend_->LayerNorm(x, weight, bias, config_.norm_eps, residual, out);
  }
}

void ForwardPass::Project(Matrix x, const Projection& projection, Matrix out) {
  for (const Projection::Part& part : projection.parts) {
    const Buffer* bias = part.bias.memory == nullptr ? nullptr : &part.bias;
    backend_->Linear(x, *part.weight, bias, out.Cols(part.begin, part.end));
  }
}

}  // namespace mirrorsd::engine
