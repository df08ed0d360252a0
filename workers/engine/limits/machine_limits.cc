#include "workers/engine/limits/machine_limits.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "workers/engine/limits/machine_limits.cc"
#include "hwy/foreach_target.h"  // must come before highway.h
#include "hwy/highway.h"
#include "common/check.h"
#include "hwy/cache_control.h"
#include "workers/engine/tensor/aligned_memory.h"
#include "workers/engine/tensor/clock.h"
#include "workers/engine/tensor/thread_pool.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Four runs side by side, fetched ahead: that brings more from memory than one run. `size` is a multiple of 64.

float ReadAll(const float* from, int64_t size) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kAhead = 256;  // elements
  const int64_t run = size / 4;
  auto a = hn::Zero(d), b = hn::Zero(d), c = hn::Zero(d), e = hn::Zero(d);
  for (int64_t begin = 0; begin < run; begin += 16) {
    for (int64_t r = 0; r < 4; ++r) hwy::Prefetch(from + r * run + begin + kAhead);
    for (int64_t i = begin; i < begin + 16; i += lanes) {
      a = hn::Add(a, hn::Load(d, from + i));
      b = hn::Add(b, hn::Load(d, from + run + i));
      c = hn::Add(c, hn::Load(d, from + 2 * run + i));
      e = hn::Add(e, hn::Load(d, from + 3 * run + i));
    }
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

namespace {

constexpr int64_t kPieceElements = 1 << 18;
constexpr int64_t kRoundsOfPiece = 2000000;

std::atomic<float> sink{0};  // keeps what is computed from being optimised away

double SecondsSince(int64_t start_ns) {
  return static_cast<double>(MonotonicClock().NowNs() - start_ns) * 1e-9;
}

}  // namespace

LimitsMeter::LimitsMeter(int32_t num_threads, int64_t read_bytes)
    : pool_(num_threads),
      num_elements_(std::max<int64_t>(1, read_bytes / static_cast<int64_t>(sizeof(float)) / kPieceElements) *
                    kPieceElements),
      memory_(AllocateAligned(num_elements_ * static_cast<int64_t>(sizeof(float)))) {
  CHECK(memory_ != nullptr) << "no memory to read";
  auto* data = static_cast<float*>(memory_.get());
  std::fill(data, data + num_elements_, 1.0f);
}

MachineLimits LimitsMeter::Measure() { return {ReadGbPerS(), FmaGflopPerS()}; }

double LimitsMeter::ReadGbPerS() {
  const auto* data = static_cast<const float*>(memory_.get());
  const auto read = [&](int64_t begin, int64_t end, int32_t) {
    for (int64_t piece = begin; piece < end; ++piece) {
      sink = HWY_DYNAMIC_DISPATCH(ReadAll)(data + piece * kPieceElements, kPieceElements);
    }
  };
  // Once before, so that all threads are awake and on processors of their own.
  pool_.ParallelFor(num_elements_ / kPieceElements, 1, read);
  const int64_t start = MonotonicClock().NowNs();
  pool_.ParallelFor(num_elements_ / kPieceElements, 1, read);
  return static_cast<double>(num_elements_) * sizeof(float) * 1e-9 / SecondsSince(start);
}

double LimitsMeter::FmaGflopPerS() {
  const int64_t start = MonotonicClock().NowNs();
  std::atomic<int64_t> operations{0};
  pool_.ParallelFor(pool_.num_threads() * 8, 1, [&](int64_t begin, int64_t end, int32_t) {
    float result = 0;
    operations += HWY_DYNAMIC_DISPATCH(MultiplyAdd)((end - begin) * kRoundsOfPiece, &result);
    sink = result;
  });
  return static_cast<double>(operations.load()) * 1e-9 / SecondsSince(start);
}

MachineLimits MeasureMachineLimits(int32_t num_threads) {
  LimitsMeter meter(num_threads);
  MachineLimits best;
  for (int attempt = 0; attempt < 8; ++attempt) {
    const MachineLimits limits = meter.Measure();
    best.read_gb_per_s = std::max(best.read_gb_per_s, limits.read_gb_per_s);
    best.fma_gflop_per_s = std::max(best.fma_gflop_per_s, limits.fma_gflop_per_s);
  }
  return best;
}

}  // namespace mirrorsd::engine
#endif  // HWY_ONCE
