// Per-target include of kernels.cc: x times a packed weight. Reference: NaiveBackend::Linear.
//
// One order for every row count, and the same on every vector width: inputs are cut into blocks of kInputBlock;
// a block's sum starts at 0 and takes x[k] * w[k] by increasing k, one multiply-add each; the sums of the
// blocks are added in order, then the bias. Tiles, groups and row blocks below only say which outputs are
// in registers or in the caches at the same time; none of them rounds.

#if defined(MIRRORSD_SIMD_LINEAR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MIRRORSD_SIMD_LINEAR_INL_H_
#undef MIRRORSD_SIMD_LINEAR_INL_H_
#else
#define MIRRORSD_SIMD_LINEAR_INL_H_
#endif

#include <cstdint>
#include <type_traits>

#include "hwy/cache_control.h"
#include "workers/engine/backend/cpu/simd/kernels.h"
#include "workers/engine/backend/cpu/simd/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Registers: 32 with AVX-512, else 16.
inline constexpr bool kManyRegisters = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86;
inline constexpr int64_t kMaxTileRows = kManyRegisters ? 12 : 6;
inline constexpr int64_t kPanelOutputs = 2 * kLanes;
inline constexpr int64_t kInputBlock = 256;
// Rows whose inputs stay in the second cache while all outputs are computed.
inline constexpr int64_t kBlockTiles = 96 / kMaxTileRows;
inline constexpr int64_t kCachedInputBytes = 192 * 1024;
inline constexpr int64_t kLineBytes = 64;
// How far ahead weights are fetched where they are used once, all panels of a tile together.
inline constexpr int64_t kNearInputs = 128;

// Panels of a tile of `rows` rows: enough sums at a time to hide a multiply-add's latency.
constexpr int64_t TilePanels(int64_t rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

// Rows in tiles of as equal a height as possible.
struct RowTiles {
  explicit RowTiles(int64_t num_rows)
      : count((num_rows + kMaxTileRows - 1) / kMaxTileRows),
        least(count == 0 ? 0 : num_rows / count),
        num_higher(count == 0 ? 0 : num_rows % count) {}
  int64_t Begin(int64_t tile) const { return tile * least + HWY_MIN(tile, num_higher); }
  int64_t Rows(int64_t tile) const { return least + (tile < num_higher ? 1 : 0); }
  int64_t count, least, num_higher;
};

// A tile's inputs side by side, [K][rows of the tile]: read in order, from one cache line at a time. (Rows that
// lie a multiple of 64 bytes apart cost a load port each cycle: 93 % of the multiply-adds instead of 99 %.)
template <int64_t kRows>
HWY_INLINE void PackTile(const float* HWY_RESTRICT x, int64_t x_stride, int64_t num_inputs,
                         float* HWY_RESTRICT to) {
  for (int64_t k = 0; k < num_inputs; ++k) {
    for (int64_t m = 0; m < kRows; ++m) to[k * kRows + m] = x[m * x_stride + k];
  }
}

// Inputs [begin, end) for one tile of rows and outputs from `output` on, a multiple of kPanelOutputs.
struct TilePlace {
  int64_t row = 0;
  int64_t output = 0;
  int64_t begin = 0;
  int64_t end = 0;
  // Weights to fetch meanwhile: how many inputs ahead (0: near), a cache line of each panel every so many inputs.
  int64_t fetch_ahead = 0;
  int64_t fetch_period = 0;
};

// Adds a row's block sums to what is in `out`, or starts it; the bias comes with the last block.
HWY_INLINE void StoreSums(const LinearArgs& args, const TilePlace& place, int64_t row,
                          const float* sums, int64_t num_sums) {
  const bool first = place.begin == 0;
  const float* bias = place.end == args.num_inputs && args.bias != nullptr
                          ? args.bias + place.output : nullptr;
  float* out = args.out + row * args.out_stride + place.output;
  const int64_t valid = HWY_MIN(num_sums, args.num_outputs - place.output);
  for (int64_t n = 0; n < valid; n += kLanes) {
    VF sum = hn::Load(DF(), sums + n);
    if (!first) sum = hn::Add(LoadUpTo(out + n, valid - n), sum);
    if (bias != nullptr) sum = hn::Add(sum, LoadUpTo(bias + n, valid - n));
    StoreUpTo(sum, out + n, valid - n);
  }
}

// The sums of a tile, in registers: every loop over them has constant bounds.
template <class Read, int64_t kRows, int64_t kPanels>
struct Tile {
  using W = typename Read::T;
  static constexpr int64_t kVectors = 2 * kPanels;
  VF sums[kRows][kVectors];

  HWY_INLINE void Clear() {
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < kVectors; ++n) sums[m][n] = hn::Zero(DF());
    }
  }

  // One input.
  HWY_INLINE void Step(const float* HWY_RESTRICT x, const W* HWY_RESTRICT w, int64_t panel_stride) {
    for (int64_t p = 0; p < kPanels; ++p) {
      VF low, high;
      Read::Load(w + p * panel_stride, &low, &high);
      for (int64_t m = 0; m < kRows; ++m) {
        const VF input = hn::Set(DF(), x[m]);
        sums[m][2 * p] = hn::MulAdd(input, low, sums[m][2 * p]);
        sums[m][2 * p + 1] = hn::MulAdd(input, high, sums[m][2 * p + 1]);
      }
    }
  }

  HWY_INLINE void Store(float* HWY_RESTRICT to) const {
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < kVectors; ++n) {
        hn::Store(sums[m][n], DF(), to + (m * kVectors + n) * kLanes);
      }
    }
  }
};

template <class Read, int64_t kRows, int64_t kPanels>
HWY_NOINLINE void RunTile(const LinearArgs& args, const TilePlace& place) {
  using W = typename Read::T;
  const int64_t panel_stride = args.num_inputs * kPanelOutputs;
  const float* x = args.x + place.row * args.num_inputs + place.begin * kRows;
  const W* w = static_cast<const W*>(args.weight) + place.output * args.num_inputs +
               place.begin * kPanelOutputs;
  const int64_t fetch_ahead = place.fetch_ahead != 0 ? place.fetch_ahead : kNearInputs / kPanels;
  const W* ahead = w + fetch_ahead * kPanelOutputs;
  // Beyond the end of a panel lies the next: not that of this tile, which is read already.
  if (place.begin + fetch_ahead >= args.num_inputs) ahead += (kPanels - 1) * panel_stride;
  Tile<Read, kRows, kPanels> tile;
  tile.Clear();
  int64_t left = place.end - place.begin;
  for (; left >= place.fetch_period; left -= place.fetch_period) {
    for (int64_t p = 0; p < kPanels; ++p) hwy::Prefetch(ahead + p * panel_stride);
    ahead += kLineBytes / static_cast<int64_t>(sizeof(W));
    for (int64_t i = 0; i < place.fetch_period; ++i, x += kRows, w += kPanelOutputs) {
      tile.Step(x, w, panel_stride);
    }
  }
  for (; left > 0; --left, x += kRows, w += kPanelOutputs) tile.Step(x, w, panel_stride);
  HWY_ALIGN float sums[kRows * kPanels * kPanelOutputs];
  tile.Store(sums);
  for (int64_t m = 0; m < kRows; ++m) {
    StoreSums(args, place, place.row + m, sums + m * kPanels * kPanelOutputs, kPanels * kPanelOutputs);
  }
}

// Outputs of whole panels [place.output, output_end).
template <class Read, int64_t kRows>
HWY_INLINE void RunRowTile(const LinearArgs& args, TilePlace place, int64_t output_end) {
  constexpr int64_t kPanels = TilePanels(kRows);
  for (; place.output + kPanels * kPanelOutputs <= output_end;
       place.output += kPanels * kPanelOutputs) {
    RunTile<Read, kRows, kPanels>(args, place);
  }
  for (; place.output < output_end; place.output += kPanelOutputs) {
    RunTile<Read, kRows, 1>(args, place);
  }
}

// Calls body with the number of rows of a tile as a constant.
template <class Body>
HWY_INLINE void ForTileRows(int64_t rows, const Body& body) {
  switch (rows) {
    case 1: return body(std::integral_constant<int64_t, 1>());
    case 2: return body(std::integral_constant<int64_t, 2>());
    case 3: return body(std::integral_constant<int64_t, 3>());
    case 4: return body(std::integral_constant<int64_t, 4>());
    case 5: return body(std::integral_constant<int64_t, 5>());
    case 6: return body(std::integral_constant<int64_t, 6>());
    default: break;
  }
  if constexpr (kMaxTileRows > 6) {
    switch (rows) {
      case 7: return body(std::integral_constant<int64_t, 7>());
      case 8: return body(std::integral_constant<int64_t, 8>());
      case 9: return body(std::integral_constant<int64_t, 9>());
      case 10: return body(std::integral_constant<int64_t, 10>());
      case 11: return body(std::integral_constant<int64_t, 11>());
      default: return body(std::integral_constant<int64_t, 12>());
    }
  }
}

// Row tiles [tile_begin, tile_end), inputs [k_begin, k_end).
template <class Read>
void RunTiles(const LinearArgs& args, const RowTiles& tiles, int64_t tile_begin, int64_t tile_end,
              int64_t k_begin, int64_t k_end) {
  const int64_t num_tiles = tile_end - tile_begin;
  // One tile goes through memory as it lies; several use a panel's block in turn, while it is in the first cache.
  const int64_t group = (num_tiles == 1 ? TilePanels(tiles.Rows(tile_begin)) : 1) * kPanelOutputs;
  constexpr int64_t kInputBytes = kPanelOutputs * static_cast<int64_t>(sizeof(typename Read::T));
  for (int64_t n = 0; n < args.num_outputs; n += group) {
    const int64_t n_end = HWY_MIN(n + group, args.num_outputs);
    for (int64_t k = k_begin; k < k_end; k += kInputBlock) {
      TilePlace place{0, n, k, HWY_MIN(k + kInputBlock, k_end)};
      place.fetch_period = HWY_MAX(1, kLineBytes / kInputBytes) * num_tiles;
      for (int64_t tile = tile_begin; tile < tile_end; ++tile) {
        place.row = tiles.Begin(tile);
        // The tiles share the next block among them.
        if (num_tiles > 1) {
          place.fetch_ahead = kInputBlock + kInputBlock / num_tiles * (tile - tile_begin);
        }
        ForTileRows(tiles.Rows(tile), [&](auto rows) HWY_ATTR {
          RunRowTile<Read, rows()>(args, place, n_end);
        });
      }
    }
  }
}

template <class Read>
void Linear(const LinearArgs& args) {
  const RowTiles tiles(args.num_rows);
  for (int64_t begin = 0; begin < tiles.count; begin += kBlockTiles) {
    const int64_t end = HWY_MIN(begin + kBlockTiles, tiles.count);
    const int64_t input_bytes = (end - begin) * kMaxTileRows * kInputBlock * static_cast<int64_t>(sizeof(float));
    const int64_t inputs = HWY_MAX(1, kCachedInputBytes / input_bytes) * kInputBlock;
    for (int64_t k = 0; k < args.num_inputs; k += inputs) {
      RunTiles<Read>(args, tiles, begin, end, k, HWY_MIN(k + inputs, args.num_inputs));
    }
  }
}

inline void PackInputs(const float* x, int64_t x_stride, int64_t num_rows, int64_t num_inputs,
                       int64_t tile, float* packed) {
  const RowTiles tiles(num_rows);
  const float* from = x + tiles.Begin(tile) * x_stride;
  float* to = packed + tiles.Begin(tile) * num_inputs;
  ForTileRows(tiles.Rows(tile), [&](auto rows) HWY_ATTR {
    PackTile<rows()>(from, x_stride, num_inputs, to);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace mirrorsd::engine::cpu
HWY_AFTER_NAMESPACE();

#endif  // MIRRORSD_SIMD_LINEAR_INL_H_
