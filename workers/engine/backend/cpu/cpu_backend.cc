#include "workers/engine/backend/cpu/cpu_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "common/ieee_math.h"
#include "workers/engine/backend/op_checks.h"
#include "workers/engine/tensor/aligned_memory.h"

namespace mirrorsd::engine::cpu {
namespace {

// Below this many elements a loop is quicker on one thread.
constexpr int64_t kElementsPerThread = 16384;

// One row's best so far, best first.
class Best {
 public:
  Best(int32_t k, int32_t* columns, float* values) : k_(k), columns_(columns), values_(values) {}

  void Offer(int32_t column, float value) {
    if (size_ == k_ && !Before(value, values_[k_ - 1])) return;
    int32_t place = size_ < k_ ? size_++ : k_ - 1;
    for (; place > 0 && Before(value, values_[place - 1]); --place) {
      values_[place] = values_[place - 1];
      columns_[place] = columns_[place - 1];
    }
    values_[place] = value;
    columns_[place] = column;
  }

 private:
  // Columns come in increasing order, so that an equal value is never before.
  static bool Before(float a, float b) { return a > b || (std::isnan(b) && !std::isnan(a)); }

  const int32_t k_;
  int32_t size_ = 0;
  int32_t* columns_;
  float* values_;
};

}  // namespace

absl::Status OutOfMemory(int64_t size_bytes, absl::string_view what) {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("no memory for ", size_bytes, " bytes of ", what,
                                "; use a smaller model or fewer KV blocks"),
                   {"OUT_OF_MEMORY", "", absl::StrCat(size_bytes, " bytes"), false});
}

CpuBackend::CpuBackend(std::string name, std::string numerics, int32_t num_threads)
    : name_(std::move(name)), numerics_(std::move(numerics)), pool_(num_threads) {}

void CpuBackend::ForRows(int64_t rows, int64_t elements_per_row,
                         absl::FunctionRef<void(int64_t row)> body) {
  const int64_t grain = std::max<int64_t>(1, kElementsPerThread / std::max<int64_t>(1, elements_per_row));
  pool_.ParallelFor(rows, grain, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

// ---- memory -----------------------------------------------------------------------------------------

absl::StatusOr<Buffer> CpuBackend::Allocate(int64_t size_bytes) {
  Buffer buffer{AllocateAligned(size_bytes), size_bytes};
  if (buffer.memory == nullptr) return OutOfMemory(size_bytes, "activations");
  return buffer;
}

absl::StatusOr<std::unique_ptr<KvPool>> CpuBackend::AllocateKv(const KvShape& shape) {
  op_checks::KvShapeIsSound(shape);
  std::unique_ptr<KvPool> pool = CpuKvPool::Make(shape);
  if (pool == nullptr) {
    return OutOfMemory(shape.BlockElements() * shape.num_blocks * shape.num_layers * 4, "KV cache");
  }
  return pool;
}

void CpuBackend::CopyToDevice(absl::Span<const float> from, float* to) {
  if (!from.empty()) std::memcpy(to, from.data(), from.size() * sizeof(float));
}

void CpuBackend::CopyToHost(const float* from, absl::Span<float> to) {
  if (!to.empty()) std::memcpy(to.data(), from, to.size() * sizeof(float));
}

absl::StatusOr<std::unique_ptr<Weight>> CpuBackend::LoadWeight(absl::Span<const HostMatrix> parts) {
  std::unique_ptr<Weight> weight = CpuWeight::Make(parts);
  if (weight == nullptr) return OutOfMemory(parts[0].size_bytes(), "weights");
  return weight;
}

absl::StatusOr<Buffer> CpuBackend::LoadVector(absl::Span<const HostMatrix> parts) {
  int64_t size = 0;
  for (const HostMatrix& part : parts) {
    CHECK_EQ(part.rows, 1);
    size += part.cols;
  }
  absl::StatusOr<Buffer> buffer = Allocate(size * static_cast<int64_t>(sizeof(float)));
  if (!buffer.ok()) return buffer;
  float* to = buffer->f32();
  for (const HostMatrix& part : parts) {
    for (int64_t i = 0; i < part.cols; ++i) *to++ = part.At(0, i);
  }
  return buffer;
}

std::unique_ptr<Batch> CpuBackend::PrepareBatch(const BatchView& view) {
  op_checks::View(view);
  return std::make_unique<CpuBatch>(view);
}

absl::Status CpuBackend::Synchronize() { return absl::OkStatus(); }

// ---- ops --------------------------------------------------------------------------------------------

void CpuBackend::Embedding(const Weight& table, absl::Span<const int32_t> rows, bool accumulate,
                           Matrix out) {
  op_checks::Embedding(table, rows, out);
  const auto& weight = static_cast<const CpuWeight&>(table);
  ForRows(out.rows, out.cols, [&](int64_t t) {
    const unsigned char* from = weight.RowBytes(rows[t]);
    float* to = out.Row(t);
    for (int64_t i = 0; i < out.cols; ++i) {
      const float value = LoadF32(from, weight.dtype(), i);
      to[i] = accumulate ? to[i] + value : value;
    }
  });
}

void CpuBackend::RopeTable(const Batch& batch, const Buffer& inverse_frequencies, float scale,
                           Matrix table) {
  op_checks::RopeTable(batch, inverse_frequencies, table);
  const auto& rows = static_cast<const CpuBatch&>(batch);
  const int64_t half = table.cols / 2;
  ForRows(table.rows, table.cols * 16, [&](int64_t t) {
    const float position = static_cast<float>(rows.position(static_cast<int32_t>(t)));
    float* out = table.Row(t);
    for (int64_t i = 0; i < half; ++i) {
      const SinCos angle = SinCosF(position * inverse_frequencies.f32()[i]);
      out[i] = angle.cos * scale;
      out[half + i] = angle.sin * scale;
    }
  });
}

void CpuBackend::Rope(Matrix table, int32_t head_dim, Matrix x) {
  op_checks::Rope(table, head_dim, x);
  const int64_t half = table.cols / 2;
  ForRows(x.rows, x.cols, [&](int64_t t) {
    const float* cos = table.Row(t);
    const float* sin = cos + half;
    for (int64_t head = 0; head < x.cols; head += head_dim) {
      float* low = x.Row(t) + head;
      float* high = low + half;
      for (int64_t i = 0; i < half; ++i) {
        const float a = low[i];
        const float b = high[i];
        low[i] = a * cos[i] - b * sin[i];
        high[i] = b * cos[i] + a * sin[i];
      }
    }
  });
}

void CpuBackend::KvStore(const Batch& batch, Matrix k, Matrix v, int32_t layer, KvPool& kv) {
  op_checks::KvStore(batch, k, v, layer, kv);
  const auto& rows = static_cast<const CpuBatch&>(batch);
  const auto& store = static_cast<const CpuKvPool&>(kv);
  rows.CheckAgainst(store.shape());
  const int32_t head_dim = store.shape().head_dim;
  // By heads, so that rows of one slot stay in order.
  ForRows(store.shape().num_kv_heads, k.rows * head_dim * 2, [&](int64_t head_index) {
    const int32_t head = static_cast<int32_t>(head_index);
    for (int32_t t = 0; t < rows.num_rows(); ++t) {
      if (rows.slot(t) < 0) continue;
      float* key = store.Key(layer, rows.slot(t), head);
      const float* from = k.Row(t) + head_index * head_dim;
      for (int32_t d = 0; d < head_dim; ++d) key[int64_t{d} * CpuKvPool::kGroup] = from[d];
      std::memcpy(store.Value(layer, rows.slot(t), head), v.Row(t) + head_index * head_dim,
                  static_cast<size_t>(head_dim) * sizeof(float));
    }
  });
}

void CpuBackend::CopyKv(absl::Span<const SlotCopy> copies, KvPool& kv) {
  op_checks::Copies(copies, kv);
  const auto& store = static_cast<const CpuKvPool&>(kv);
  const KvShape& shape = store.shape();
  ForRows(shape.num_layers, static_cast<int64_t>(copies.size()) * shape.head_dim * shape.num_kv_heads * 2,
          [&](int64_t layer_index) {
            const int32_t layer = static_cast<int32_t>(layer_index);
            for (const SlotCopy& copy : copies) {
              if (copy.from == copy.to) continue;
              for (int32_t head = 0; head < shape.num_kv_heads; ++head) {
                const float* from = store.Key(layer, copy.from, head);
                float* to = store.Key(layer, copy.to, head);
                for (int64_t d = 0; d < shape.head_dim; ++d) {
                  to[d * CpuKvPool::kGroup] = from[d * CpuKvPool::kGroup];
                }
                std::memcpy(store.Value(layer, copy.to, head), store.Value(layer, copy.from, head),
                            static_cast<size_t>(shape.head_dim) * sizeof(float));
              }
            }
          });
}

void CpuBackend::Relu(Matrix x) {
  op_checks::IsMatrix(x);
  ForRows(x.rows, x.cols, [&](int64_t t) {
    float* row = x.Row(t);
    for (int64_t i = 0; i < x.cols; ++i) row[i] = row[i] < 0.0f ? 0.0f : row[i];
  });
}

void CpuBackend::Add(Matrix x, Matrix y) {
  op_checks::IsMatrix(x);
  op_checks::SameShape(x, y);
  ForRows(x.rows, x.cols, [&](int64_t t) {
    float* to = x.Row(t);
    const float* from = y.Row(t);
    for (int64_t i = 0; i < x.cols; ++i) to[i] += from[i];
  });
}

void CpuBackend::GatherRows(Matrix x, absl::Span<const int32_t> rows, Matrix out) {
  op_checks::GatherRows(x, rows, out);
  ForRows(out.rows, out.cols, [&](int64_t t) {
    std::memcpy(out.Row(t), x.Row(rows[t]), static_cast<size_t>(out.cols) * sizeof(float));
  });
}

void CpuBackend::TopK(Matrix x, int32_t k, absl::Span<int32_t> columns, absl::Span<float> values) {
  op_checks::TopK(x, k, columns, values);
  ForRows(x.rows, x.cols, [&](int64_t t) {
    Best best(k, columns.data() + t * k, values.data() + t * k);
    const float* row = x.Row(t);
    for (int64_t i = 0; i < x.cols; ++i) best.Offer(static_cast<int32_t>(i), row[i]);
  });
}

}  // namespace mirrorsd::engine::cpu
