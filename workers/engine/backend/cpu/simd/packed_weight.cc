#include "workers/engine/backend/cpu/simd/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "common/check.h"
#include "workers/engine/tensor/aligned_memory.h"

namespace mirrorsd::engine::cpu {
namespace {

// Inputs that are turned at a time, so that both sides stay in the first cache.
constexpr int64_t kTurned = 64;

// One output's elements into every panel_outputs-th place. The source may be unaligned.
template <class T>
void Scatter(const unsigned char* from, int64_t count, T* to, int64_t panel_outputs) {
  T values[kTurned];
  std::memcpy(values, from, static_cast<size_t>(count) * sizeof(T));
  for (int64_t k = 0; k < count; ++k) to[k * panel_outputs] = values[k];
}

}  // namespace

int32_t PackedWeight::PlaceInPanel(int64_t output) const {
  const int32_t index = static_cast<int32_t>(output % panel_outputs_);
  if (dtype_ != DType::kBF16) return index;
  const int32_t half = panel_outputs_ / 2;
  return index < half ? 2 * index : 2 * (index - half) + 1;
}

std::unique_ptr<PackedWeight> PackedWeight::Make(absl::Span<const HostMatrix> parts,
                                                 int32_t panel_outputs, ThreadPool* pool) {
  CHECK(!parts.empty() && panel_outputs > 0 && panel_outputs % 2 == 0);
  auto weight = std::make_unique<PackedWeight>();
  weight->dtype_ = parts[0].dtype;
  weight->num_inputs_ = parts[0].cols;
  weight->panel_outputs_ = panel_outputs;
  for (const HostMatrix& part : parts) {
    CHECK(part.dtype == weight->dtype_);
    CHECK_EQ(part.cols, weight->num_inputs_);
    weight->num_outputs_ += part.rows;
  }
  const int64_t element_bytes = static_cast<int64_t>(DTypeBytes(weight->dtype_));
  const int64_t panel_bytes = weight->num_inputs_ * panel_outputs * element_bytes;
  weight->memory_ = AllocateAligned(weight->num_panels() * panel_bytes);  // zeroed
  if (weight->memory_ == nullptr) return nullptr;

  pool->ParallelFor(weight->num_panels(), 1, [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t panel = begin; panel < end; ++panel) weight->FillPanel(parts, panel);
  });
  return weight;
}

void PackedWeight::FillPanel(absl::Span<const HostMatrix> parts, int64_t panel) {
  const int64_t element_bytes = static_cast<int64_t>(DTypeBytes(dtype_));
  const int64_t first = panel * panel_outputs_;
  const int64_t last = std::min(first + panel_outputs_, num_outputs_);
  auto* to = const_cast<unsigned char*>(Panel(panel));
  for (int64_t k = 0; k < num_inputs_; k += kTurned) {
    const int64_t count = std::min(kTurned, num_inputs_ - k);
    size_t part = 0;
    int64_t part_begin = 0;
    for (int64_t output = first; output < last; ++output) {
      while (output >= part_begin + parts[part].rows) part_begin += parts[part++].rows;
      const unsigned char* from = parts[part].RowBytes(output - part_begin) + k * element_bytes;
      unsigned char* place = to + (k * panel_outputs_ + PlaceInPanel(output)) * element_bytes;
      if (element_bytes == 2) {
        Scatter(from, count, reinterpret_cast<uint16_t*>(place), panel_outputs_);
      } else {
        Scatter(from, count, reinterpret_cast<uint32_t*>(place), panel_outputs_);
      }
    }
  }
}

}  // namespace mirrorsd::engine::cpu
