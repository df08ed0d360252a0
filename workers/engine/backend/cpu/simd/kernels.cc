#include "workers/engine/backend/cpu/simd/kernels.h"

// Highway compiles this file once per target. SSSE3 adds nothing over SSE4, and no processor that lacks
// SSE4.2 will run a model; EMU128 stays as the portable baseline.
#ifndef HWY_DISABLED_TARGETS
#define HWY_DISABLED_TARGETS HWY_SSSE3
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "workers/engine/backend/cpu/simd/kernels.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "workers/engine/backend/cpu/simd/attention-inl.h"
#include "workers/engine/backend/cpu/simd/linear-inl.h"
#include "workers/engine/backend/cpu/simd/rowwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine::cpu {
namespace HWY_NAMESPACE {

const Kernels* TableOfTarget() {
  static const Kernels kernels = {
      hwy::TargetName(HWY_TARGET),
      static_cast<int32_t>(kPanelOutputs),
      {&Linear<ReadF32>, &Linear<ReadF16>, &Linear<ReadBF16>},
      kMaxTileRows,
      &PackInputs,
      &RmsNorm,
      &LayerNorm,
      &SiluMul,
      &Attention,
      &ExpOf,
  };
  return &kernels;
}

}  // namespace HWY_NAMESPACE
}  // namespace mirrorsd::engine::cpu
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mirrorsd::engine::cpu {

HWY_EXPORT(TableOfTarget);

const Kernels& ChooseKernels() { return *HWY_DYNAMIC_DISPATCH(TableOfTarget)(); }

int64_t AttentionScratchElements(int32_t head_dim) {
  constexpr int64_t kMaxLanes = 16;
  const int64_t padded_dim = (head_dim + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
  const int64_t per_query = 64 + kMaxLanes + padded_dim;  // scores, sum of weights, values
  constexpr int64_t kGathered = 64 * 2;  // keys and values of a chunk
  return kMaxQueries * per_query + kGathered * padded_dim + kMaxLanes;
}

}  // namespace mirrorsd::engine::cpu
#endif  // HWY_ONCE
