#pragma once
// A weight as the vector kernels read it: copied once at load into panels of a fixed number of outputs, inputs
// outermost, so that one load brings the same input of neighbouring outputs and a panel is read from its
// first byte to its last. As wide in memory as stored; outputs beyond the last are zeros.
// Immutable after Make: any thread reads.

#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "workers/engine/backend/backend.h"
#include "workers/engine/tensor/thread_pool.h"

namespace mirrorsd::engine::cpu {

// Layout: panels[ceil(N / P)][K][P] elements. Of bf16, element 2 i is output i of the panel and 2 i + 1
// is output P / 2 + i: 32 bits hold one of each vector, and widening is a shift or a mask. The other
// types are in order.
class PackedWeight final : public Weight {
 public:
  // Stacks the parts by rows. `panel_outputs` is P, even. Null where memory is not to be had.
  static std::unique_ptr<PackedWeight> Make(absl::Span<const HostMatrix> parts, int32_t panel_outputs,
                                            ThreadPool* pool);

  DType dtype() const override { return dtype_; }
  int64_t num_outputs() const override { return num_outputs_; }
  int64_t num_inputs() const override { return num_inputs_; }
  bool refers_to_host() const override { return false; }

  int64_t num_panels() const { return (num_outputs_ + panel_outputs_ - 1) / panel_outputs_; }
  int32_t panel_outputs() const { return panel_outputs_; }
  const unsigned char* Panel(int64_t panel) const {
    return static_cast<const unsigned char*>(memory_.get()) +
           panel * num_inputs_ * panel_outputs_ * static_cast<int64_t>(DTypeBytes(dtype_));
  }
  // Where an output's elements lie among the P of each input.
  int32_t PlaceInPanel(int64_t output) const;

 private:
  void FillPanel(absl::Span<const HostMatrix> parts, int64_t panel);

  DType dtype_ = DType::kF32;
  int64_t num_outputs_ = 0;
  int64_t num_inputs_ = 0;
  int32_t panel_outputs_ = 0;
  std::shared_ptr<void> memory_;
};

}  // namespace mirrorsd::engine::cpu
