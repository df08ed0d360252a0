#include "tests/bench/machine_limits.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/bench/machine_limits.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "workers/engine/tensor/aligned_memory.h"
#include "workers/engine/tensor/clock.h"
#include "workers/engine/tensor/thread_pool.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

float ReadAll(const float* from, int64_t size) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
  for (int64_t i = 0; i + 4 * lanes <= size; i += 4 * lanes) {
    a = hn::Add(a, hn::Load(d, from + i));
    b = hn::Add(b, hn::Load(d, from + i + lanes));
    c = hn::Add(c, hn::Load(d, from + i + 2 * lanes));
    e = hn::Add(e, hn::Load(d, from + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(a, b), hn::Add(c, e))));
}

// 10 chains hide the latency of an addition on every processor of today; they start apart, for a compiler
// sees that equal ones stay equal and keeps one of them. Returns operations done.
int64_t MultiplyAdd(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999f + *sink);
  const auto term = hn::Set(d, 0.001f);
  auto a = hn::Iota(d, 0.0f), b = hn::Add(a, term), c = hn::Add(b, term), e = hn::Add(c, term);
  auto f = hn::Add(e, term), g = hn::Add(f, term), h = hn::Add(g, term), i = hn::Add(h, term);
  auto j = hn::Add(i, term), k = hn::Add(j, term);
  for (int64_t round = 0; round < rounds; ++round) {
    a = hn::MulAdd(a, factor, term);
    b = hn::MulAdd(b, factor, term);
    c = hn::MulAdd(c, factor, term);
    e = hn::MulAdd(e, factor, term);
    f = hn::MulAdd(f, factor, term);
    g = hn::MulAdd(g, factor, term);
    h = hn::MulAdd(h, factor, term);
    i = hn::MulAdd(i, factor, term);
    j = hn::MulAdd(j, factor, term);
    k = hn::MulAdd(k, factor, term);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)),
                           hn::Add(hn::Add(hn::Add(f, g), hn::Add(h, i)), hn::Add(j, k)));
  *sink = hn::GetLane(hn::SumOfLanes(d, sum)) * 1e-30f;
  return rounds * 10 * 2 * static_cast<int64_t>(hn::Lanes(d));
}

}  // namespace HWY_NAMESPACE
}  // namespace mirrorsd::engine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace mirrorsd::engine {

HWY_EXPORT(ReadAll);
HWY_EXPORT(MultiplyAdd);

MachineLimits MeasureMachineLimits(int32_t num_threads) {
  ThreadPool pool(num_threads);
  MachineLimits limits;
  constexpr int64_t kElements = int64_t{64} << 20;  // 256 MiB
  const std::shared_ptr<void> memory = AllocateAligned(kElements * static_cast<int64_t>(sizeof(float)));
  auto* data = static_cast<float*>(memory.get());
  std::fill(data, data + kElements, 1.0f);
  constexpr int64_t kPiece = 1 << 18;
  std::atomic<float> total{0};  // keeps the reads from being optimised away
  for (int attempt = 0; attempt < 8; ++attempt) {
    const int64_t start = MonotonicClock().NowNs();
    pool.ParallelFor(kElements / kPiece, 1, [&](int64_t begin, int64_t end, int32_t) {
      total = HWY_DYNAMIC_DISPATCH(ReadAll)(data + begin * kPiece, (end - begin) * kPiece);
    });
    const double seconds = static_cast<double>(MonotonicClock().NowNs() - start) * 1e-9;
    limits.read_gb_per_s = std::max(limits.read_gb_per_s, kElements * sizeof(float) * 1e-9 / seconds);
  }
  for (int attempt = 0; attempt < 8; ++attempt) {
    const int64_t start = MonotonicClock().NowNs();
    std::atomic<int64_t> operations{0};
    pool.ParallelFor(num_threads * 8, 1, [&](int64_t begin, int64_t end, int32_t) {
      float sink = 0;
      operations += HWY_DYNAMIC_DISPATCH(MultiplyAdd)((end - begin) * 400000, &sink);
      total = sink;
    });
    const double seconds = static_cast<double>(MonotonicClock().NowNs() - start) * 1e-9;
    limits.fma_gflop_per_s = std::max(limits.fma_gflop_per_s,
                                      static_cast<double>(operations.load()) * 1e-9 / seconds);
  }
  return limits;
}

}  // namespace mirrorsd::engine
#endif  // HWY_ONCE
