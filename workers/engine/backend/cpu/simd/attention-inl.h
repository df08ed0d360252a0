// Per-target include of kernels.cc: attention over paged keys and a tree's slots. Reference: NaiveBackend::Attention.
//
// One order for every batch: a query's softmax runs over chunks of kChunk positions, cut at absolute
// multiples of kChunk, with a running maximum; within a chunk a key's score sums over d in order, weights
// are summed per lane (position mod lanes), values are added by increasing position. A tree's keys stand at
// their positions like any others. Which queries share a tile changes nothing: each has its own sums.

#if defined(MIRRORSD_SIMD_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef MIRRORSD_SIMD_ATTENTION_INL_H_
#undef MIRRORSD_SIMD_ATTENTION_INL_H_
#else
#define MIRRORSD_SIMD_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "workers/engine/backend/cpu/cpu_memory.h"
#include "workers/engine/backend/cpu/simd/kernels.h"
#include "workers/engine/backend/cpu/simd/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace mirrorsd::engine::cpu {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr int64_t kGroup = CpuKvPool::kGroup;
inline constexpr int64_t kChunk = 64;  // positions
inline constexpr int64_t kGroupVectors = kGroup / kLanes;

// One row and head on its way through the keys.
struct Query {
  const float* q = nullptr;
  float* scores = nullptr;   // [kChunk]: of the chunk, then its weights
  float* sums = nullptr;     // [padded head_dim]: weighted values so far
  float* weights = nullptr;  // [kLanes]: sum of weights so far, per lane
  float greatest = -std::numeric_limits<float>::infinity();
  int32_t begin = 0;         // visible paged positions
  int32_t end = 0;
  int64_t chunk_begin = 0;   // and what of them lies in the current chunk, relative to it
  int64_t chunk_end = 0;
};

// The keys and values of one chunk, in groups of 16 positions.
struct Chunk {
  const float* keys[kChunk / kGroup];    // [D][16]
  const float* values[kChunk / kGroup];  // [16][value_stride]
  int64_t value_stride = 0;
  int64_t group_begin = 0;  // groups that any query sees
  int64_t group_end = 0;
};

// How many of the remaining queries go into the next tile: 6, 4, 3, 2 or 1, so that no tile is small.
inline int64_t NextTile(int64_t remaining) {
  if (remaining == 7 || remaining == 8) return 4;
  if (remaining == 5) return 3;
  return std::min<int64_t>(remaining, 6);
}

// Calls body with each tile's size as a constant and its first query.
template <class Body>
HWY_INLINE void ForTiles(int64_t num_queries, const Body& body) {
  for (int64_t i = 0; i < num_queries;) {
    const int64_t size = NextTile(num_queries - i);
    switch (size) {
      case 6: body(std::integral_constant<int64_t, 6>(), i); break;
      case 4: body(std::integral_constant<int64_t, 4>(), i); break;
      case 3: body(std::integral_constant<int64_t, 3>(), i); break;
      case 2: body(std::integral_constant<int64_t, 2>(), i); break;
      default: body(std::integral_constant<int64_t, 1>(), i); break;
    }
    i += size;
  }
}

// Scores of kGroups groups of keys from `group` on: enough sums at a time to hide an addition's latency.
template <int64_t kQueries, int64_t kGroups>
HWY_INLINE void ScoreGroups(Query* queries, const Chunk& chunk, int64_t group, int64_t head_dim,
                            float scale) {
  const DF d;
  constexpr int64_t kVectors = kGroups * kGroupVectors;
  VF sums[kQueries][kVectors];
  for (int64_t i = 0; i < kQueries; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) sums[i][j] = hn::Zero(d);
  }
  for (int64_t e = 0; e < head_dim; ++e) {
    VF key[kVectors];
    for (int64_t j = 0; j < kVectors; ++j) {
      key[j] = hn::LoadU(d, chunk.keys[group + j / kGroupVectors] + e * kGroup +
                                j % kGroupVectors * kLanes);
    }
    for (int64_t i = 0; i < kQueries; ++i) {
      const auto q = hn::Set(d, queries[i].q[e]);
      for (int64_t j = 0; j < kVectors; ++j) sums[i][j] = hn::MulAdd(q, key[j], sums[i][j]);
    }
  }
  for (int64_t i = 0; i < kQueries; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) {
      hn::StoreU(hn::Mul(sums[i][j], hn::Set(d, scale)), d,
                 queries[i].scores + group * kGroup + j * kLanes);
    }
  }
}

template <int64_t kQueries>
HWY_NOINLINE void ScoreChunk(Query* queries, const Chunk& chunk, int64_t head_dim, float scale) {
  constexpr int64_t kGroups = kQueries == 1 ? 4 : kQueries == 2 ? 2 : 1;
  int64_t group = chunk.group_begin;
  for (; group + kGroups <= chunk.group_end; group += kGroups) {
    ScoreGroups<kQueries, kGroups>(queries, chunk, group, head_dim, scale);
  }
  for (; group < chunk.group_end; ++group) {
    ScoreGroups<kQueries, 1>(queries, chunk, group, head_dim, scale);
  }
}

// Turns the chunk's scores into weights relative to the running maximum.
inline void WeighChunk(Query& query, int64_t padded_dim) {
  const DF d;
  const auto least = hn::Set(d, -std::numeric_limits<float>::infinity());
  const int64_t first = query.chunk_begin / kLanes * kLanes;
  const auto masked = [&](int64_t i) HWY_ATTR {
    const auto scores = hn::LoadU(d, query.scores + i);
    if (i >= query.chunk_begin && i + kLanes <= query.chunk_end) return scores;
    const auto place = hn::Iota(d, static_cast<float>(i));
    const auto seen = hn::And(hn::Ge(place, hn::Set(d, static_cast<float>(query.chunk_begin))),
                              hn::Lt(place, hn::Set(d, static_cast<float>(query.chunk_end))));
    return hn::IfThenElse(seen, scores, least);
  };
  auto greatest = least;
  for (int64_t i = first; i < query.chunk_end; i += kLanes) greatest = hn::Max(masked(i), greatest);
  const float new_greatest =
      std::max(query.greatest, hn::GetLane(hn::MaxOfLanes(d, greatest)));
  auto weights = hn::LoadU(d, query.weights);
  if (new_greatest != query.greatest) {  // otherwise the factor is exactly 1
    const auto factor = hn::Set(d, ExpF(query.greatest - new_greatest));
    weights = hn::Mul(weights, factor);
    for (int64_t e = 0; e < padded_dim; e += kLanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, query.sums + e), factor), d, query.sums + e);
    }
    query.greatest = new_greatest;
  }
  for (int64_t i = first; i < query.chunk_end; i += kLanes) {
    const auto weight = ExpV(hn::Sub(masked(i), hn::Set(d, new_greatest)));
    hn::StoreU(weight, d, query.scores + i);
    weights = hn::Add(weights, weight);
  }
  hn::StoreU(weights, d, query.weights);
}

// sums += weight * value over positions [begin, end) of the chunk, in order.
template <int64_t kQueries, int64_t kVectors>
HWY_INLINE void AddValuesTile(const Query* queries, const Chunk& chunk, int64_t begin, int64_t end,
                              int64_t e) {
  const DF d;
  VF sums[kQueries][kVectors];
  for (int64_t i = 0; i < kQueries; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) {
      sums[i][j] = hn::LoadU(d, queries[i].sums + e + j * kLanes);
    }
  }
  for (int64_t p = begin; p < end;) {
    const int64_t group_end = std::min(end, (p / kGroup + 1) * kGroup);
    const float* value = chunk.values[p / kGroup] + (p % kGroup) * chunk.value_stride + e;
    for (; p < group_end; ++p, value += chunk.value_stride) {
      VF values[kVectors];
      for (int64_t j = 0; j < kVectors; ++j) values[j] = hn::LoadU(d, value + j * kLanes);
      for (int64_t i = 0; i < kQueries; ++i) {
        const auto weight = hn::Set(d, queries[i].scores[p]);
        for (int64_t j = 0; j < kVectors; ++j) {
          sums[i][j] = hn::MulAdd(weight, values[j], sums[i][j]);
        }
      }
    }
  }
  for (int64_t i = 0; i < kQueries; ++i) {
    for (int64_t j = 0; j < kVectors; ++j) {
      hn::StoreU(sums[i][j], d, queries[i].sums + e + j * kLanes);
    }
  }
}

template <int64_t kQueries>
HWY_INLINE void AddValues(const Query* queries, const Chunk& chunk, int64_t begin, int64_t end,
                          int64_t padded_dim) {
  if (begin >= end) return;
  constexpr int64_t kVectors = kQueries >= 3 ? 2 : 8 / kQueries;
  int64_t e = 0;
  for (; e + kVectors * kLanes <= padded_dim; e += kVectors * kLanes) {
    AddValuesTile<kQueries, kVectors>(queries, chunk, begin, end, e);
  }
  for (; e < padded_dim; e += kLanes) {
    AddValuesTile<kQueries, 1>(queries, chunk, begin, end, e);
  }
}

// Positions that not all queries of a tile see are added query by query: a weight of zero times a value
// that is not finite would spoil a row that must not see it.
template <int64_t kQueries>
HWY_NOINLINE void AddValuesOfTile(const Query* queries, const Chunk& chunk, int64_t padded_dim) {
  int64_t begin = 0;
  int64_t end = kChunk;
  for (int64_t i = 0; i < kQueries; ++i) {
    begin = std::max(begin, queries[i].chunk_begin);
    end = std::min(end, queries[i].chunk_end);
  }
  for (int64_t i = 0; i < kQueries; ++i) {
    const int64_t own_end = begin < end ? begin : queries[i].chunk_end;
    AddValues<1>(queries + i, chunk, queries[i].chunk_begin, own_end, padded_dim);
  }
  if (begin >= end) return;
  AddValues<kQueries>(queries, chunk, begin, end, padded_dim);
  for (int64_t i = 0; i < kQueries; ++i) {
    AddValues<1>(queries + i, chunk, end, queries[i].chunk_end, padded_dim);
  }
}

// Scores, weights and values of one chunk whose ranges are set in the queries.
inline void AttendChunk(Query* queries, int64_t num_queries, const Chunk& chunk,
                        const AttentionArgs& args, int64_t padded_dim) {
  ForTiles(num_queries, [&](auto size, int64_t i) HWY_ATTR {
    ScoreChunk<size()>(queries + i, chunk, args.head_dim, args.scale);
  });
  for (int64_t i = 0; i < num_queries; ++i) {
    if (queries[i].chunk_begin < queries[i].chunk_end) WeighChunk(queries[i], padded_dim);
  }
  ForTiles(num_queries, [&](auto size, int64_t i) HWY_ATTR {
    AddValuesOfTile<size()>(queries + i, chunk, padded_dim);
  });
}

inline void AttendPaged(const AttentionArgs& args, Query* queries, int64_t num_queries,
                        int64_t padded_dim) {
  int64_t begin = std::numeric_limits<int64_t>::max();
  int64_t end = 0;
  for (int64_t i = 0; i < num_queries; ++i) {
    if (queries[i].begin >= queries[i].end) continue;
    begin = std::min<int64_t>(begin, queries[i].begin);
    end = std::max<int64_t>(end, queries[i].end);
  }
  for (int64_t start = begin / kChunk * kChunk; start < end; start += kChunk) {
    Chunk chunk;
    chunk.value_stride = args.head_dim;
    chunk.group_begin = std::max<int64_t>(0, begin - start) / kGroup;
    chunk.group_end = (std::min(end - start, kChunk) + kGroup - 1) / kGroup;
    for (int64_t group = chunk.group_begin; group < chunk.group_end; ++group) {
      const int64_t position = start + group * kGroup;
      const int64_t offset = position % args.block_tokens;
      const float* block =
          args.kv + int64_t{args.block_table[position / args.block_tokens]} * args.block_stride;
      chunk.keys[group] = block + offset * args.head_dim;
      chunk.values[group] = block + (args.block_tokens + offset) * args.head_dim;
    }
    for (int64_t i = 0; i < num_queries; ++i) {
      queries[i].chunk_begin = std::clamp<int64_t>(queries[i].begin - start, 0, kChunk);
      queries[i].chunk_end = std::clamp<int64_t>(queries[i].end - start, 0, kChunk);
    }
    AttendChunk(queries, num_queries, chunk, args, padded_dim);
  }
}

// Where paged keys end and a tree's begin: the chunk that holds that position, and what follows, goes row by row.
inline int64_t TreeChunkBegin(const AttentionArgs& args, int64_t row) {
  return args.num_paged_keys[row] / kChunk * kChunk;
}

// The group of positions from `position` on, copied into `group` from wherever they lie: the layout of a
// block's group, keys first.
inline void GatherGroup(const AttentionArgs& args, int64_t row, int64_t position, float* group) {
  const int64_t num_paged = args.num_paged_keys[row];
  const int64_t end = std::min<int64_t>(position + kGroup, args.positions[row] + 1);
  float* const values = group + args.head_dim * kGroup;
  for (int64_t p = position; p < end; ++p) {
    const int64_t slot =
        p < num_paged
            ? int64_t{args.block_table[p / args.block_tokens]} * args.block_tokens +
                  p % args.block_tokens
            : int64_t{args.ancestors[row][static_cast<size_t>(p - num_paged)]};
    const int64_t offset = slot % args.block_tokens;
    const float* kv = args.kv + slot / args.block_tokens * args.block_stride;
    const float* key = kv + offset / kGroup * kGroup * args.head_dim + offset % kGroup;
    const float* value = kv + (args.block_tokens + offset) * args.head_dim;
    const int64_t j = p - position;
    for (int64_t e = 0; e < args.head_dim; ++e) group[e * kGroup + j] = key[e * kGroup];
    std::copy(value, value + args.head_dim, values + j * args.head_dim);
  }
}

// The last chunks of one row with ancestors: groups of paged keys where they lie, the others gathered.
inline void AttendTree(const AttentionArgs& args, int64_t row, Query* queries, int64_t padded_dim,
                       float* scratch) {
  const int64_t num_paged = args.num_paged_keys[row];
  const int64_t begin = queries[0].begin;
  const int64_t end = args.positions[row] + 1;
  for (int64_t start = TreeChunkBegin(args, row); start < end; start += kChunk) {
    if (start + kChunk <= begin) continue;
    Chunk chunk;
    chunk.value_stride = args.head_dim;
    chunk.group_begin = std::max<int64_t>(0, begin - start) / kGroup;
    chunk.group_end = (std::min(end - start, kChunk) + kGroup - 1) / kGroup;
    for (int64_t group = chunk.group_begin; group < chunk.group_end; ++group) {
      const int64_t position = start + group * kGroup;
      if (position + kGroup <= num_paged) {
        const int64_t offset = position % args.block_tokens;
        const float* block =
            args.kv + int64_t{args.block_table[position / args.block_tokens]} * args.block_stride;
        chunk.keys[group] = block + offset * args.head_dim;
        chunk.values[group] = block + (args.block_tokens + offset) * args.head_dim;
        continue;
      }
      float* gathered = scratch + group * 2 * kGroup * args.head_dim;
      GatherGroup(args, row, position, gathered);
      chunk.keys[group] = gathered;
      chunk.values[group] = gathered + args.head_dim * kGroup;
    }
    for (int64_t i = 0; i < args.num_group_heads; ++i) {
      queries[i].chunk_begin = std::clamp<int64_t>(begin - start, 0, kChunk);
      queries[i].chunk_end = std::clamp<int64_t>(end - start, 0, kChunk);
    }
    AttendChunk(queries, args.num_group_heads, chunk, args, padded_dim);
  }
}

inline void Attention(const AttentionArgs& args) {
  const DF d;
  const int64_t padded_dim = (args.head_dim + kLanes - 1) / kLanes * kLanes;
  const int64_t num_queries = int64_t{args.num_rows} * args.num_group_heads;
  Query queries[kMaxQueries];
  float* scratch = args.scratch;
  for (int64_t i = 0; i < num_queries; ++i) {
    const int64_t row = i / args.num_group_heads;
    Query& query = queries[i];
    query.q = args.q + row * args.q_stride + i % args.num_group_heads * args.head_dim;
    query.scores = scratch;
    query.weights = scratch + kChunk;
    query.sums = scratch + kChunk + kLanes;
    scratch = query.sums + padded_dim;
    std::fill(query.weights, scratch, 0.0f);
    query.end = args.ancestors[row].empty() ? args.num_paged_keys[row]
                                            : static_cast<int32_t>(TreeChunkBegin(args, row));
    query.begin = args.sliding_window == 0
                      ? 0
                      : std::max(0, args.positions[row] + 1 - args.sliding_window);
  }
  AttendPaged(args, queries, num_queries, padded_dim);
  for (int64_t row = 0; row < args.num_rows; ++row) {
    if (args.ancestors[row].empty()) continue;
    AttendTree(args, row, queries + row * args.num_group_heads, padded_dim, scratch);
  }
  for (int64_t i = 0; i < num_queries; ++i) {
    const auto sum = hn::Set(d, Sum(hn::LoadU(d, queries[i].weights)));
    float* out = args.out + i / args.num_group_heads * args.out_stride +
                 i % args.num_group_heads * args.head_dim;
    for (int64_t e = 0; e < args.head_dim; e += kLanes) {
      const auto value = hn::Div(hn::LoadU(d, queries[i].sums + e), sum);
      if (e + kLanes <= args.head_dim) {
        hn::StoreU(value, d, out + e);
      } else {
        StoreSome(value, out + e, args.head_dim - e);
      }
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace mirrorsd::engine::cpu
HWY_AFTER_NAMESPACE();

#endif  // MIRRORSD_SIMD_ATTENTION_INL_H_
