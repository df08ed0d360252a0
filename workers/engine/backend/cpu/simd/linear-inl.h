// Per-target include of kernels.cc: x times a stored weight. Reference: NaiveBackend::Linear.
//
// One order for every row count: out[m][n] has one vector of partial sums; its lane l adds x[k] * w[k] for
// k = l, l + lanes, l + 2 lanes, ... in that order, one fused multiply-add each, and in the end the lanes are
// added in one tree. Tiles and blocks below only say which outputs are in registers at the same time and
// when a vector of partial sums waits in memory; neither rounds.

#if defined(MIRRORSD_SIMD_LINEAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MIRRORSD_SIMD_LINEAR_INL_H_
#undef MIRRORSD_SIMD_LINEAR_INL_H_
#else
#define MIRRORSD_SIMD_LINEAR_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/cache_control.h"
#include "workers/engine/backend/cpu/simd/kernels.h"
#include "workers/engine/backend/cpu/simd/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Registers: 32 with AVX-512, else 16.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86;
inline constexpr int64_t kMaxTileRows = kManyRegisters ? 6 : 4;
// Outputs of a tile of `rows` rows; each divides kPanel.
constexpr int64_t TileOutputs(int64_t rows) {
  if (kManyRegisters) return rows <= 4 ? 6 : 4;
  return rows <= 2 ? 6 : rows == 3 ? 4 : 3;
}
inline constexpr int64_t kPanel = 12;      // outputs whose partial sums wait in memory
inline constexpr int64_t kRowBlock = 64;   // rows likewise
// Inputs of a row block are cut only where they exceed both.
inline constexpr int64_t kInputBlock = 1024;
inline constexpr int64_t kWholeInputBytes = 24 * 1024;

// A range of k, in elements; `tail` elements follow after the last full vector (last block only).
struct InputRange {
  int64_t begin = 0;
  int64_t end = 0;  // end - begin is a multiple of kLanes
  int64_t tail = 0;
};

// Which weights to fetch while others are multiplied: rows read side by side hide from the processor's own
// prefetching that they follow each other. Long rows are fetched a panel ahead, row by row; of short ones
// the next tile, as the one run of bytes that it is. (Decoding rows of 896 bf16: 9 GB/s without, 16 with.)
template <class W>
struct FetchAhead {
  const W* from = nullptr;
  int64_t output_stride = 0;
  int64_t input_stride = 1;

  static FetchAhead Of(const W* w, int64_t w_stride, int64_t num_outputs) {
    constexpr int64_t kShortRowBytes = 2048;
    constexpr int64_t kSize = static_cast<int64_t>(sizeof(W));
    if (w_stride * kSize > kShortRowBytes) return {w + kPanel * w_stride, w_stride, 1};
    return {w + num_outputs * w_stride, 64 / kSize, num_outputs};
  }
};

template <class Read, int64_t kRows, int64_t kOutputs>
struct Tile {
  using W = typename Read::T;
  VF sums[kRows][kOutputs];

  HWY_INLINE void Clear() {
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < kOutputs; ++n) sums[m][n] = hn::Zero(DF());
    }
  }

  HWY_INLINE void Load(const float* partial, int64_t row_stride) {
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < kOutputs; ++n) {
        sums[m][n] = hn::LoadU(DF(), partial + m * row_stride + n * kLanes);
      }
    }
  }

  HWY_INLINE void Store(float* partial, int64_t row_stride) const {
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < kOutputs; ++n) {
        hn::StoreU(sums[m][n], DF(), partial + m * row_stride + n * kLanes);
      }
    }
  }

  // One vector of inputs.
  HWY_INLINE void Step(const float* x, int64_t x_stride, const W* w, int64_t w_stride) {
    VF xs[kRows];
    for (int64_t m = 0; m < kRows; ++m) xs[m] = hn::LoadU(DF(), x + m * x_stride);
    for (int64_t n = 0; n < kOutputs; ++n) {
      const VF wn = Read::Load(w + n * w_stride);
      for (int64_t m = 0; m < kRows; ++m) sums[m][n] = hn::MulAdd(xs[m], wn, sums[m][n]);
    }
  }

  // As many cache lines of `ahead` are fetched on the way as are read; none where it is null.
  HWY_INLINE void Accumulate(const float* x, int64_t x_stride, const W* w, int64_t w_stride,
                             int64_t size, const FetchAhead<W>& ahead) {
    constexpr int64_t kStepsOfLine = HWY_MAX(1, 64 / (kLanes * static_cast<int64_t>(sizeof(W))));
    int64_t k = 0;
    for (; k + kStepsOfLine * kLanes <= size; k += kStepsOfLine * kLanes) {
      if (ahead.from != nullptr) {
        for (int64_t n = 0; n < kOutputs; ++n) {
          hwy::Prefetch(ahead.from + n * ahead.output_stride + k * ahead.input_stride);
        }
      }
      for (int64_t step = 0; step < kStepsOfLine; ++step) {
        Step(x + k + step * kLanes, x_stride, w + k + step * kLanes, w_stride);
      }
    }
    for (; k < size; k += kLanes) Step(x + k, x_stride, w + k, w_stride);
  }

  HWY_INLINE void Finish(const float* bias, float* out, int64_t out_stride) const {
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < kOutputs; ++n) {
        const float sum = Sum(sums[m][n]);
        out[m * out_stride + n] = bias != nullptr ? sum + bias[n] : sum;
      }
    }
  }
};

// What a tile does with its sums before and after a range of inputs.
struct TilePlan {
  InputRange range;
  float* partial = nullptr;  // null: all inputs are in the range
  bool first = true;
  bool last = true;
  bool fetch = false;  // the weights of the next panel
};

// The inputs after the last full vector, padded with zeros. Not inlined, so that a tile's sums stay in registers.
template <class Read, int64_t kRows, int64_t kOutputs>
struct PaddedTail {
  HWY_ALIGN float x[kRows * kLanes];
  HWY_ALIGN typename Read::T w[kOutputs * kLanes];

  HWY_NOINLINE void Fill(const float* from_x, int64_t x_stride, const typename Read::T* from_w,
                         int64_t w_stride, int64_t count) {
    std::memset(x, 0, sizeof(x));
    std::memset(w, 0, sizeof(w));
    for (int64_t m = 0; m < kRows; ++m) {
      std::memcpy(x + m * kLanes, from_x + m * x_stride, static_cast<size_t>(count) * sizeof(x[0]));
    }
    for (int64_t n = 0; n < kOutputs; ++n) {
      std::memcpy(w + n * kLanes, from_w + n * w_stride, static_cast<size_t>(count) * sizeof(w[0]));
    }
  }
};

template <class Read, int64_t kRows, int64_t kOutputs>
HWY_NOINLINE void RunTile(const LinearArgs& args, int64_t m, int64_t n, const TilePlan& plan) {
  constexpr int64_t kPartialStride = kPanel * kLanes;
  const InputRange& range = plan.range;
  const float* x = args.x + m * args.x_stride;
  const auto* w = static_cast<const typename Read::T*>(args.weight) + n * args.weight_stride;
  PaddedTail<Read, kRows, kOutputs> tail;
  if (range.tail != 0) {
    tail.Fill(x + range.end, args.x_stride, w + range.end, args.weight_stride, range.tail);
  }
  Tile<Read, kRows, kOutputs> tile;
  if (plan.first) {
    tile.Clear();
  } else {
    tile.Load(plan.partial, kPartialStride);
  }
  const int64_t size = range.end - range.begin;
  x += range.begin;
  w += range.begin;
  FetchAhead<typename Read::T> ahead;
  if (plan.fetch) ahead = ahead.Of(w, args.weight_stride, kOutputs);
  tile.Accumulate(x, args.x_stride, w, args.weight_stride, size, ahead);
  if (range.tail != 0) tile.Step(tail.x, kLanes, tail.w, kLanes);
  if (plan.last) {
    tile.Finish(args.bias == nullptr ? nullptr : args.bias + n, args.out + m * args.out_stride + n,
                args.out_stride);
  } else {
    tile.Store(plan.partial, kPartialStride);
  }
}

// Rows [m, m + kRows) and outputs [n_begin, n_end). `plan.partial` is that of (m, n_begin).
template <class Read, int64_t kRows>
HWY_INLINE void RunRowTile(const LinearArgs& args, int64_t m, int64_t n_begin, int64_t n_end,
                           TilePlan plan) {
  constexpr int64_t kOutputs = TileOutputs(kRows);
  int64_t n = n_begin;
  for (; n + kOutputs <= n_end; n += kOutputs) {
    RunTile<Read, kRows, kOutputs>(args, m, n, plan);
    if (plan.partial != nullptr) plan.partial += kOutputs * kLanes;
  }
  for (; n < n_end; ++n) {
    RunTile<Read, kRows, 1>(args, m, n, plan);
    if (plan.partial != nullptr) plan.partial += kLanes;
  }
}

// Rows [m_begin, m_end) in tiles of as equal a height as possible.
template <class Read>
HWY_INLINE void RunRows(const LinearArgs& args, int64_t m_begin, int64_t m_end, int64_t n_begin,
                        int64_t n_end, const TilePlan& block_plan) {
  int64_t num_tiles = (m_end - m_begin + kMaxTileRows - 1) / kMaxTileRows;
  for (int64_t m = m_begin; m < m_end; --num_tiles) {
    const int64_t rows = (m_end - m + num_tiles - 1) / num_tiles;
    TilePlan plan = block_plan;
    if (plan.partial != nullptr) plan.partial += (m - m_begin) * kPanel * kLanes;
    plan.fetch = m == m_begin;
    switch (rows) {
      case 1: RunRowTile<Read, 1>(args, m, n_begin, n_end, plan); break;
      case 2: RunRowTile<Read, 2>(args, m, n_begin, n_end, plan); break;
      case 3: RunRowTile<Read, 3>(args, m, n_begin, n_end, plan); break;
      case 4: RunRowTile<Read, 4>(args, m, n_begin, n_end, plan); break;
      case 5: RunRowTile<Read, HWY_MIN(5, kMaxTileRows)>(args, m, n_begin, n_end, plan); break;
      default: RunRowTile<Read, HWY_MIN(6, kMaxTileRows)>(args, m, n_begin, n_end, plan); break;
    }
    m += rows;
  }
}

template <class Read>
void Linear(const LinearArgs& args) {
  HWY_ALIGN float partial[kRowBlock * kPanel * kLanes];
  const int64_t full = args.num_inputs / kLanes * kLanes;
  const int64_t tail = args.num_inputs - full;
  // Blocks of as equal a height as possible.
  int64_t num_blocks = (args.num_rows + kRowBlock - 1) / kRowBlock;
  for (int64_t m = 0, m_end = 0; m < args.num_rows; m = m_end, --num_blocks) {
    m_end = m + (args.num_rows - m + num_blocks - 1) / num_blocks;
    const bool whole =
        (m_end - m) * args.num_inputs * static_cast<int64_t>(sizeof(float)) <= kWholeInputBytes;
    for (int64_t n = 0; n < args.num_outputs; n += kPanel) {
      const int64_t n_end = HWY_MIN(n + kPanel, args.num_outputs);
      if (whole || full <= kInputBlock) {
        RunRows<Read>(args, m, m_end, n, n_end, {{0, full, tail}});
        continue;
      }
      for (int64_t k = 0; k < full; k += kInputBlock) {
        const bool last = k + kInputBlock >= full;
        const InputRange range{k, last ? full : k + kInputBlock, last ? tail : 0};
        RunRows<Read>(args, m, m_end, n, n_end, {range, partial, k == 0, last});
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mirrorsd::engine::cpu
HWY_AFTER_NAMESPACE();

#endif  // MIRRORSD_SIMD_LINEAR_INL_H_
