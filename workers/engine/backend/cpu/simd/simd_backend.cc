#include "workers/engine/backend/cpu/simd/simd_backend.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "workers/engine/backend/cpu/cpu_backend.h"
#include "workers/engine/backend/cpu/simd/kernels.h"
#include "workers/engine/backend/cpu/simd/packed_weight.h"
#include "workers/engine/backend/op_checks.h"
#include "workers/engine/tensor/aligned_memory.h"

namespace mirrorsd::engine::cpu {
namespace {

// Raised by every change that may change a bit of any op.
constexpr int kKernelRevision = 2;

// Multiplications that are worth a second thread.
constexpr int64_t kWorkPerThread = 32768;
int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What one call of the attention kernel computes.
struct AttentionTask {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int32_t first_head = 0;
  int32_t num_heads = 0;
  int32_t kv_head = 0;
};

class SimdBackend final : public CpuBackend {
 public:
  explicit SimdBackend(int32_t num_threads)
      : CpuBackend("cpu",
                   absl::StrCat("cpu ", ChooseKernels().isa, " f32, KV f32, kernels ", kKernelRevision),
                   num_threads),
        kernels_(ChooseKernels()) {}

  void RmsNorm(Matrix x, const Buffer& weight, float eps, const Matrix* residual,
               Matrix out) override {
    op_checks::Norm(x, weight, residual, out);
    ForRows(x.rows, x.cols, [&](int64_t t) {
      kernels_.rms_norm({x.Row(t), residual == nullptr ? nullptr : residual->Row(t), weight.f32(),
                         nullptr, out.Row(t), x.cols, weight.size_f32(), eps});
    });
  }

  void LayerNorm(Matrix x, const Buffer& weight, const Buffer& bias, float eps,
                 const Matrix* residual, Matrix out) override {
    op_checks::LayerNorm(x, weight, bias, residual, out);
    ForRows(x.rows, x.cols, [&](int64_t t) {
      kernels_.layer_norm({x.Row(t), residual == nullptr ? nullptr : residual->Row(t), weight.f32(),
                           bias.f32(), out.Row(t), x.cols, x.cols, eps});
    });
  }

  absl::StatusOr<std::unique_ptr<Weight>> LoadWeight(absl::Span<const HostMatrix> parts) override {
    std::unique_ptr<Weight> weight = PackedWeight::Make(parts, kernels_.panel_outputs, &pool());
    if (weight == nullptr) return OutOfMemory(parts[0].size_bytes(), "weights");
    return weight;
  }

  void Embedding(const Weight& table, absl::Span<const int32_t> rows, bool accumulate,
                 Matrix out) override {
    op_checks::Embedding(table, rows, out);
    const auto& packed = static_cast<const PackedWeight&>(table);
    const int64_t stride = packed.panel_outputs();
    // A panel is walked for each row.
    ForRows(out.rows, out.cols * 4, [&](int64_t t) {
      const unsigned char* panel = packed.Panel(rows[t] / stride);
      const int64_t place = packed.PlaceInPanel(rows[t]);
      float* to = out.Row(t);
      for (int64_t i = 0; i < out.cols; ++i) {
        const float value = LoadF32(panel, packed.dtype(), i * stride + place);
        to[i] = accumulate ? to[i] + value : value;
      }
    });
  }

  void Linear(Matrix x, const Weight& weight, const Buffer* bias, Matrix out) override {
    op_checks::Linear(x, weight, bias, out);
    if (out.empty()) return;
    const auto& packed = static_cast<const PackedWeight&>(weight);
    const auto kernel = kernels_.linear[static_cast<int>(packed.dtype())];
    const int64_t panel_outputs = packed.panel_outputs();
    const int64_t work_per_panel = std::max<int64_t>(1, x.rows * x.cols * panel_outputs);
    const float* inputs = PackInputs(x);
    pool().ParallelFor(packed.num_panels(), CeilDiv(kWorkPerThread, work_per_panel),
                       [&](int64_t begin, int64_t end, int32_t) {
                         const int64_t first = begin * panel_outputs;
                         const int64_t last = std::min(end * panel_outputs, out.cols);
                         kernel({inputs, packed.Panel(begin),
                                 bias == nullptr ? nullptr : bias->f32() + first, out.data + first,
                                 out.stride, x.rows, x.cols, last - first});
                       });
  }

  void Attention(const Batch& batch, const AttentionOptions& options, Matrix q, int32_t layer,
                 const KvPool& pool_of_kv, Matrix out) override {
    op_checks::Attention(batch, options, q, layer, pool_of_kv, out);
    const auto& rows = static_cast<const CpuBatch&>(batch);
    const auto& kv = static_cast<const CpuKvPool&>(pool_of_kv);
    rows.CheckAgainst(kv.shape());
    const std::vector<AttentionTask> tasks = CutAttention(rows, options, kv.shape());
    const int64_t scratch_elements = AttentionScratchElements(kv.shape().head_dim);
    ReserveScratch(scratch_elements);
    pool().ParallelFor(static_cast<int64_t>(tasks.size()), 1,
                       [&](int64_t begin, int64_t end, int32_t thread) {
                         float* scratch = scratch_[thread].get();
                         for (int64_t i = begin; i < end; ++i) {
                           RunAttention(rows, options, q, layer, kv, out, tasks[i], scratch);
                         }
                       });
  }

  void SiluMul(Matrix gate, Matrix up, Matrix out) override {
    op_checks::SameShape(gate, up);
    op_checks::SameShape(gate, out);
    ForRows(gate.rows, gate.cols * 4, [&](int64_t t) {
      kernels_.silu_mul(gate.Row(t), up.Row(t), out.Row(t), gate.cols);
    });
  }

 private:
  // The rows of x as the kernel reads them; good until the next call.
  const float* PackInputs(const Matrix& x) {
    if (x.rows == 1) return x.data;
    if (static_cast<int64_t>(packed_inputs_.size()) < x.rows * x.cols) {
      packed_inputs_.resize(static_cast<size_t>(x.rows * x.cols));
    }
    const int64_t tile_rows = kernels_.tile_rows;
    ForRows(CeilDiv(x.rows, tile_rows), x.cols * tile_rows, [&](int64_t tile) {
      kernels_.pack_inputs(x.data, x.stride, x.rows, x.cols, tile, packed_inputs_.data());
    });
    return packed_inputs_.data();
  }

  // Tasks of at most kMaxQueries queries: rows of one sequence with (a share of) one KV head's queries.
  static std::vector<AttentionTask> CutAttention(const CpuBatch& rows,
                                                 const AttentionOptions& options,
                                                 const KvShape& shape) {
    const int32_t group = options.num_heads / shape.num_kv_heads;
    const int32_t heads_per_task = std::min(group, kMaxQueries);
    const int32_t rows_per_task = std::max(1, kMaxQueries / heads_per_task);
    std::vector<AttentionTask> tasks;
    for (int32_t sequence = 0; sequence < rows.num_sequences(); ++sequence) {
      const int32_t end = rows.first_row(sequence + 1);
      for (int32_t row = rows.first_row(sequence); row < end; row += rows_per_task) {
        for (int32_t kv_head = 0; kv_head < shape.num_kv_heads; ++kv_head) {
          for (int32_t head = 0; head < group; head += heads_per_task) {
            tasks.push_back({row, std::min(rows_per_task, end - row), kv_head * group + head,
                             std::min(heads_per_task, group - head), kv_head});
          }
        }
      }
    }
    return tasks;
  }

  void RunAttention(const CpuBatch& rows, const AttentionOptions& options, const Matrix& q,
                    int32_t layer, const CpuKvPool& kv, const Matrix& out,
                    const AttentionTask& task, float* scratch) const {
    int32_t positions[kMaxQueries];
    int32_t num_paged_keys[kMaxQueries];
    absl::Span<const int32_t> ancestors[kMaxQueries];
    for (int32_t i = 0; i < task.num_rows; ++i) {
      positions[i] = rows.position(task.first_row + i);
      num_paged_keys[i] = rows.num_paged_keys(task.first_row + i);
      ancestors[i] = rows.ancestors(task.first_row + i);
    }
    const KvShape& shape = kv.shape();
    AttentionArgs args;
    args.q = q.Row(task.first_row) + int64_t{task.first_head} * shape.head_dim;
    args.q_stride = q.stride;
    args.out = out.Row(task.first_row) + int64_t{task.first_head} * shape.head_dim;
    args.out_stride = out.stride;
    args.num_rows = task.num_rows;
    args.num_group_heads = task.num_heads;
    args.head_dim = shape.head_dim;
    args.scale = options.scale;
    args.sliding_window = options.sliding_window;
    args.positions = positions;
    args.num_paged_keys = num_paged_keys;
    args.ancestors = ancestors;
    args.block_table = rows.block_table(rows.sequence(task.first_row)).data();
    args.block_tokens = shape.block_tokens;
    args.kv = kv.Keys(layer, 0, task.kv_head);
    args.block_stride = shape.BlockElements();
    args.scratch = scratch;
    kernels_.attention(args);
  }

  void ReserveScratch(int64_t elements) {
    if (elements <= scratch_elements_) return;
    scratch_.clear();
    for (int32_t thread = 0; thread < pool().num_threads(); ++thread) {
      auto memory = std::static_pointer_cast<float>(
          AllocateAligned(elements * static_cast<int64_t>(sizeof(float))));
      CHECK(memory != nullptr) << "scratch of " << elements << " floats";
      scratch_.push_back(std::move(memory));
    }
    scratch_elements_ = elements;
  }

  const Kernels& kernels_;
  std::vector<float> packed_inputs_;
  std::vector<std::shared_ptr<float>> scratch_;  // by thread
  int64_t scratch_elements_ = 0;
};

}  // namespace

std::unique_ptr<Backend> MakeSimdBackend(int32_t num_threads) {
  return std::make_unique<SimdBackend>(num_threads);
}

std::string SimdTarget() { return ChooseKernels().isa; }

}  // namespace mirrorsd::engine::cpu
