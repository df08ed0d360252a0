#pragma once
// What the CPU backends share: memory, and the ops that only move data or whose arithmetic has one obvious
// order (no sum, no exp). The others, where naive and SIMD differ, stay abstract.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "workers/engine/backend/backend.h"
#include "workers/engine/backend/cpu/cpu_memory.h"
#include "workers/engine/tensor/thread_pool.h"

namespace mirrorsd::engine::cpu {

// RESOURCE_EXHAUSTED with reason OUT_OF_MEMORY.
absl::Status OutOfMemory(int64_t size_bytes, absl::string_view what);

class CpuBackend : public Backend {
 public:
  CpuBackend(std::string name, std::string numerics, int32_t num_threads);

  const std::string& name() const override { return name_; }
  const std::string& numerics() const override { return numerics_; }

  absl::StatusOr<Buffer> Allocate(int64_t size_bytes) override;
  absl::StatusOr<std::unique_ptr<KvPool>> AllocateKv(const KvShape& shape) override;
  void CopyToDevice(absl::Span<const float> from, float* to) override;
  void CopyToHost(const float* from, absl::Span<float> to) override;
  absl::StatusOr<std::unique_ptr<Weight>> LoadWeight(absl::Span<const HostMatrix> parts) override;
  absl::StatusOr<Buffer> LoadVector(absl::Span<const HostMatrix> parts) override;
  std::unique_ptr<Batch> PrepareBatch(const BatchView& view) override;
  absl::Status Synchronize() override;

  void Embedding(const Weight& table, absl::Span<const int32_t> rows, bool accumulate,
                 Matrix out) override;
  void RopeTable(const Batch& batch, const Buffer& inverse_frequencies, float scale,
                 Matrix table) override;
  void Rope(Matrix table, int32_t head_dim, Matrix x) override;
  void KvStore(const Batch& batch, Matrix k, Matrix v, int32_t layer, KvPool& pool) override;
  void CopyKv(absl::Span<const SlotCopy> copies, KvPool& pool) override;
  void Relu(Matrix x) override;
  void Add(Matrix x, Matrix y) override;
  void GatherRows(Matrix x, absl::Span<const int32_t> rows, Matrix out) override;
  void TopK(Matrix x, int32_t k, absl::Span<int32_t> columns, absl::Span<float> values) override;

 protected:
  ThreadPool& pool() { return pool_; }
  // Runs body(row) for all rows, on several threads where the work (elements in all) is worth it.
  void ForRows(int64_t rows, int64_t elements_per_row, absl::FunctionRef<void(int64_t row)> body);

 private:
  std::string name_;
  std::string numerics_;
  ThreadPool pool_;
};

}  // namespace mirrorsd::engine::cpu
