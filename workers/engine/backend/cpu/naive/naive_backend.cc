#include "workers/engine/backend/cpu/naive/naive_backend.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "workers/engine/backend/cpu/cpu_backend.h"
#include "workers/engine/backend/op_checks.h"

namespace mirrorsd::engine::cpu {
namespace {

void AddResidual(Matrix x, const Matrix* residual, int64_t t) {
  if (residual == nullptr) return;
  for (int64_t i = 0; i < x.cols; ++i) residual->Row(t)[i] += x.Row(t)[i];
}

class NaiveBackend final : public CpuBackend {
 public:
  explicit NaiveBackend(int32_t num_threads)
      : CpuBackend("naive", "naive f32 activations, f64 sums, libm, kernels 1", num_threads) {}

  void RmsNorm(Matrix x, const Buffer& weight, float eps, const Matrix* residual,
               Matrix out) override {
    op_checks::Norm(x, weight, residual, out);
    const int64_t size = weight.size_f32();
    ForRows(x.rows, x.cols, [&](int64_t t) {
      AddResidual(x, residual, t);
      for (int64_t begin = 0; begin < x.cols; begin += size) {
        const float* from = (residual != nullptr ? *residual : x).Row(t) + begin;
        double sum = 0;
        for (int64_t i = 0; i < size; ++i) sum += double{from[i]} * from[i];
        const double inverse = 1.0 / std::sqrt(sum / static_cast<double>(size) + double{eps});
        for (int64_t i = 0; i < size; ++i) {
          out.Row(t)[begin + i] = static_cast<float>(from[i] * inverse) * weight.f32()[i];
        }
      }
    });
  }

  void LayerNorm(Matrix x, const Buffer& weight, const Buffer& bias, float eps,
                 const Matrix* residual, Matrix out) override {
    op_checks::LayerNorm(x, weight, bias, residual, out);
    ForRows(x.rows, x.cols, [&](int64_t t) {
      AddResidual(x, residual, t);
      const float* from = (residual != nullptr ? *residual : x).Row(t);
      double sum = 0;
      for (int64_t i = 0; i < x.cols; ++i) sum += from[i];
      const double mean = sum / static_cast<double>(x.cols);
      double squares = 0;
      for (int64_t i = 0; i < x.cols; ++i) squares += (from[i] - mean) * (from[i] - mean);
      const double inverse =
          1.0 / std::sqrt(squares / static_cast<double>(x.cols) + double{eps});
      for (int64_t i = 0; i < x.cols; ++i) {
        out.Row(t)[i] = static_cast<float>((from[i] - mean) * inverse * weight.f32()[i] +
                                           bias.f32()[i]);
      }
    });
  }

  void Linear(Matrix x, const Weight& weight, const Buffer* bias, Matrix out) override {
    op_checks::Linear(x, weight, bias, out);
    const auto& stored = static_cast<const CpuWeight&>(weight);
    ForRows(out.cols, x.cols * std::max<int64_t>(1, x.rows), [&](int64_t n) {
      const unsigned char* row = stored.RowBytes(n);
      std::vector<double> widened(static_cast<size_t>(x.cols));
      for (int64_t i = 0; i < x.cols; ++i) widened[i] = LoadF32(row, stored.dtype(), i);
      for (int64_t t = 0; t < x.rows; ++t) {
        double sum = bias != nullptr ? bias->f32()[n] : 0.0;
        for (int64_t i = 0; i < x.cols; ++i) sum += x.Row(t)[i] * widened[i];
        out.Row(t)[n] = static_cast<float>(sum);
      }
    });
  }

  void Attention(const Batch& batch, const AttentionOptions& options, Matrix q, int32_t layer,
                 const KvPool& pool, Matrix out) override {
    op_checks::Attention(batch, options, q, layer, pool, out);
    const auto& rows = static_cast<const CpuBatch&>(batch);
    const auto& kv = static_cast<const CpuKvPool&>(pool);
    rows.CheckAgainst(kv.shape());
    ForRows(q.rows, q.cols * 64, [&](int64_t t) {
      for (int32_t head = 0; head < options.num_heads; ++head) {
        AttendOne(rows, options, q, layer, kv, static_cast<int32_t>(t), head, out);
      }
    });
  }

  void SiluMul(Matrix gate, Matrix up, Matrix out) override {
    op_checks::SameShape(gate, up);
    op_checks::SameShape(gate, out);
    ForRows(gate.rows, gate.cols, [&](int64_t t) {
      for (int64_t i = 0; i < gate.cols; ++i) {
        const double g = gate.Row(t)[i];
        out.Row(t)[i] = static_cast<float>(g / (1.0 + std::exp(-g)) * up.Row(t)[i]);
      }
    });
  }

 private:
  static void AttendOne(const CpuBatch& rows, const AttentionOptions& options, Matrix q,
                        int32_t layer, const CpuKvPool& kv, int32_t t, int32_t head, Matrix out) {
    const KvShape& shape = kv.shape();
    const int32_t kv_head = head / (options.num_heads / shape.num_kv_heads);
    const int64_t head_dim = shape.head_dim;
    const float* query = q.Row(t) + head * head_dim;
    float* result = out.Row(t) + head * head_dim;

    const std::vector<int32_t> slots = VisibleSlots(rows, options, shape, t);
    std::vector<double> weights;
    double greatest = -INFINITY;
    for (const int32_t slot : slots) {
      const float* key = kv.Key(layer, slot, kv_head);
      double score = 0;
      for (int64_t d = 0; d < head_dim; ++d) score += double{query[d]} * key[d * CpuKvPool::kGroup];
      weights.push_back(score * options.scale);
      greatest = std::max(greatest, weights.back());
    }
    double sum = 0;
    for (double& weight : weights) sum += weight = std::exp(weight - greatest);
    for (int64_t d = 0; d < head_dim; ++d) {
      double value = 0;
      for (size_t i = 0; i < slots.size(); ++i) {
        value += weights[i] * kv.Value(layer, slots[i], kv_head)[d];
      }
      result[d] = static_cast<float>(value / sum);
    }
  }

  // The slots of the keys that row t sees, by increasing position.
  static std::vector<int32_t> VisibleSlots(const CpuBatch& rows, const AttentionOptions& options,
                                           const KvShape& shape, int32_t t) {
    const int32_t position = rows.position(t);
    const int32_t first =
        options.sliding_window == 0 ? 0 : std::max(0, position + 1 - options.sliding_window);
    const int32_t num_paged = rows.num_paged_keys(t);
    const absl::Span<const BlockId> table = rows.block_table(rows.sequence(t));
    std::vector<int32_t> slots;
    for (int32_t p = first; p <= position; ++p) {
      slots.push_back(p < num_paged
                          ? table[p / shape.block_tokens] * shape.block_tokens + p % shape.block_tokens
                          : rows.ancestors(t)[p - num_paged]);
    }
    return slots;
  }
};

}  // namespace

std::unique_ptr<Backend> MakeNaiveBackend(int32_t num_threads) {
  return std::make_unique<NaiveBackend>(num_threads);
}

}  // namespace mirrorsd::engine::cpu
