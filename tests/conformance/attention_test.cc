// Purpose: KvStore, Attention and CopyKv of every backend against a plain softmax in double, and the bits
// of a row whatever the chunks, the batch, the blocks and the threads.

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tests/conformance/device.h"

namespace mirrorsd::engine::conformance {
namespace {

class AttentionConformance : public ::testing::TestWithParam<BackendCase> {};

struct HeadShape {
  int32_t num_heads;
  int32_t num_kv_heads;
  int32_t head_dim;
};
// The last one has more heads than one task takes.
const HeadShape kHeadShapes[] = {{1, 1, 32},  {4, 2, 64}, {7, 1, 80},
                                 {2, 2, 128}, {6, 2, 20}, {20, 1, 16}};

// Queries, keys and values of one sequence's tokens.
struct Tokens {
  Tokens(int64_t count, const HeadShape& shape, uint64_t seed) : count(count), shape(shape) {
    Numbers numbers(seed);
    q = numbers.Vector(count * q_width());
    k = numbers.Vector(count * kv_width());
    v = numbers.Vector(count * kv_width());
  }
  int64_t q_width() const { return int64_t{shape.num_heads} * shape.head_dim; }
  int64_t kv_width() const { return int64_t{shape.num_kv_heads} * shape.head_dim; }

  int64_t count;
  HeadShape shape;
  std::vector<float> q, k, v;
};

AttentionOptions OptionsOf(const HeadShape& shape, int32_t window = 0) {
  return {shape.num_heads, 1.0f / std::sqrt(static_cast<float>(shape.head_dim)), window};
}

// One head of one query over the given tokens' keys, and how far a float32 computation may be off.
struct Expected {
  std::vector<double> out;
  double bound = 0;
};
Expected PlainAttention(const Tokens& tokens, int64_t query, int32_t head,
                        const std::vector<int64_t>& seen, float scale) {
  const int64_t dim = tokens.shape.head_dim;
  const int32_t kv_head = head / (tokens.shape.num_heads / tokens.shape.num_kv_heads);
  const float* q = tokens.q.data() + query * tokens.q_width() + head * dim;
  std::vector<double> weights;
  double greatest = -INFINITY, score_error = 0, greatest_value = 0;
  for (const int64_t token : seen) {
    const float* key = tokens.k.data() + token * tokens.kv_width() + kv_head * dim;
    double score = 0, magnitude = 0;
    for (int64_t e = 0; e < dim; ++e) {
      score += double{q[e]} * key[e];
      magnitude += std::abs(double{q[e]} * key[e]);
    }
    weights.push_back(score * scale);
    greatest = std::max(greatest, weights.back());
    score_error = std::max(score_error, magnitude * scale * (static_cast<double>(dim) + 2) * kRoundoff);
  }
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - greatest);
  Expected expected{std::vector<double>(static_cast<size_t>(dim)), 0};
  for (size_t i = 0; i < seen.size(); ++i) {
    const float* value = tokens.v.data() + seen[i] * tokens.kv_width() + kv_head * dim;
    for (int64_t e = 0; e < dim; ++e) {
      expected.out[e] += weights[i] / sum * value[e];
      greatest_value = std::max(greatest_value, std::abs(double{value[e]}));
    }
  }
  // A weight is off by twice the score's error (its own and the maximum's), four units of exp, and three
  // roundings for each chunk of 16 or more keys that rescales it; the two sums add one per key.
  const double keys = static_cast<double>(seen.size());
  expected.bound = greatest_value * (4 * score_error + (16 + 2 * keys + keys / 4) * kRoundoff);
  return expected;
}

std::vector<int64_t> Range(int64_t begin, int64_t end) {
  std::vector<int64_t> range;
  for (int64_t i = std::max<int64_t>(0, begin); i < end; ++i) range.push_back(i);
  return range;
}

// A pool and one sequence in it, at blocks that the test chooses.
class Cache {
 public:
  Cache(Device& device, const HeadShape& shape, int32_t num_blocks, int32_t block_tokens)
      : device_(device), shape_(shape), block_tokens_(block_tokens) {
    auto pool = device->AllocateKv({2, num_blocks, block_tokens, shape.num_kv_heads, shape.head_dim});
    CHECK(pool.ok());
    pool_ = *std::move(pool);
  }
  KvPool& pool() { return *pool_; }
  int32_t Slot(const std::vector<BlockId>& table, int32_t position) const {
    return table[position / block_tokens_] * block_tokens_ + position % block_tokens_;
  }

  // One pass over rows of several sequences, without trees. Returns the outputs of all rows.
  struct Part {
    const Tokens* tokens;
    int32_t begin, end;
    const std::vector<BlockId>* table;
  };
  std::vector<float> Pass(const std::vector<Part>& parts, const AttentionOptions& options,
                          int32_t layer = 1) {
    std::vector<int32_t> positions, slots;
    std::vector<BatchSequence> sequences;
    std::vector<float> q, k, v;
    for (const Part& part : parts) {
      for (int32_t p = part.begin; p < part.end; ++p) {
        positions.push_back(p);
        slots.push_back(Slot(*part.table, p));
      }
      sequences.push_back({part.end - part.begin, *part.table});
      const Tokens& tokens = *part.tokens;
      Append(tokens.q, part.begin * tokens.q_width(), part.end * tokens.q_width(), &q);
      Append(tokens.k, part.begin * tokens.kv_width(), part.end * tokens.kv_width(), &k);
      Append(tokens.v, part.begin * tokens.kv_width(), part.end * tokens.kv_width(), &v);
    }
    return Run({positions, slots, sequences, {}, {}}, q, k, v, options, layer);
  }

  std::vector<float> Run(const BatchView& view, const std::vector<float>& q,
                         const std::vector<float>& k, const std::vector<float>& v,
                         const AttentionOptions& options, int32_t layer = 1) {
    const int64_t rows = static_cast<int64_t>(view.positions.size());
    const int64_t q_width = int64_t{shape_.num_heads} * shape_.head_dim;
    const int64_t kv_width = int64_t{shape_.num_kv_heads} * shape_.head_dim;
    const auto batch = device_->PrepareBatch(view);
    const DeviceMatrix queries = device_.Upload(q, rows, q_width);
    const DeviceMatrix keys = device_.Upload(k, rows, kv_width, 1);
    const DeviceMatrix values = device_.Upload(v, rows, kv_width, 5);
    DeviceMatrix out = device_.Empty(rows, q_width);
    device_->KvStore(*batch, keys.view, values.view, layer, *pool_);
    device_->Attention(*batch, options, queries.view, layer, *pool_, out.view);
    return device_.Download(out.view);
  }

 private:
  static void Append(const std::vector<float>& from, int64_t begin, int64_t end, std::vector<float>* to) {
    to->insert(to->end(), from.begin() + begin, from.begin() + end);
  }

  Device& device_;
  HeadShape shape_;
  int32_t block_tokens_;
  std::unique_ptr<KvPool> pool_;
};

void ExpectIsAttention(const Tokens& tokens, const std::vector<float>& got, int64_t got_row,
                       int64_t query, const std::vector<int64_t>& seen) {
  const int64_t dim = tokens.shape.head_dim;
  for (int32_t head = 0; head < tokens.shape.num_heads; ++head) {
    const Expected want = PlainAttention(tokens, query, head, seen, OptionsOf(tokens.shape).scale);
    for (int64_t e = 0; e < dim; ++e) {
      ASSERT_LE(std::abs(got[got_row * tokens.q_width() + head * dim + e] - want.out[e]), want.bound)
          << "row " << query << " head " << head << " element " << e;
    }
  }
}

TEST_P(AttentionConformance, EqualsThePlainSoftmax) {
  for (const HeadShape& shape : kHeadShapes) {
    SCOPED_TRACE(testing::Message() << shape.num_heads << "/" << shape.num_kv_heads << "x" << shape.head_dim);
    Device device(GetParam());
    const Tokens tokens(150, shape, 11);
    Cache cache(device, shape, 12, 16);
    const std::vector<BlockId> table = {3, 0, 11, 5, 4, 10, 1, 2, 9, 7};
    for (const int32_t window : {0, 1, 5, 16, 70, 200}) {
      const std::vector<float> got = cache.Pass({{&tokens, 0, 150, &table}}, OptionsOf(shape, window));
      for (int64_t t = 0; t < 150; t += t < 20 ? 1 : 13) {
        ExpectIsAttention(tokens, got, t, t, Range(window == 0 ? 0 : t + 1 - window, t + 1));
      }
    }
  }
}

TEST_P(AttentionConformance, BitsDoNotDependOnChunks) {
  for (const HeadShape& shape : kHeadShapes) {
    for (const int32_t window : {0, 19, 50}) {
      const AttentionOptions options = OptionsOf(shape, window);
      const Tokens tokens(100, shape, 12);
      const std::vector<BlockId> table = {0, 1, 2, 3, 4, 5, 6, 7, 8};
      Device device(GetParam());
      Cache whole(device, shape, 9, 16);
      const std::vector<float> want = whole.Pass({{&tokens, 0, 100, &table}}, options);
      for (const int32_t chunk : {1, 2, 7, 16, 64}) {
        Cache cut(device, shape, 9, 16);
        for (int32_t begin = 0; begin < 100; begin += chunk) {
          const int32_t end = std::min(100, begin + chunk);
          ASSERT_TRUE(SameBits(cut.Pass({{&tokens, begin, end, &table}}, options),
                               Slice(want, begin * tokens.q_width(), end * tokens.q_width())))
              << "chunk " << chunk << " at " << begin << " window " << window;
        }
      }
    }
  }
}

TEST_P(AttentionConformance, BitsDoNotDependOnBlocksThreadsOrNeighbours) {
  for (const HeadShape& shape : kHeadShapes) {
    const AttentionOptions options = OptionsOf(shape);
    const Tokens tokens(90, shape, 13), other(33, shape, 14);
    std::vector<float> want;
    for (const int32_t threads : {1, 2, 3, 4}) {
      Device device(GetParam(), threads);
      const std::vector<BlockId> in_order = {0, 1, 2, 3, 4, 5};
      const std::vector<BlockId> mixed = {7, 2, 9, 0, 5, 1};
      const std::vector<BlockId> others = {3, 8, 6};
      Cache alone(device, shape, 6, 16);
      const std::vector<float> got = alone.Pass({{&tokens, 0, 90, &in_order}}, options);
      if (want.empty()) want = got;
      ASSERT_TRUE(SameBits(got, want)) << threads << " threads";

      Cache permuted(device, shape, 10, 16);
      ASSERT_TRUE(SameBits(permuted.Pass({{&tokens, 0, 90, &mixed}}, options), want));
      Cache wide(device, shape, 4, 48);
      const std::vector<BlockId> two = {3, 1};
      ASSERT_TRUE(SameBits(wide.Pass({{&tokens, 0, 90, &two}}, options), want)) << "blocks of 48";

      Cache shared(device, shape, 10, 16);
      const std::vector<float> both =
          shared.Pass({{&other, 0, 20, &others}, {&tokens, 0, 41, &mixed}}, options);
      const std::vector<float> rest =
          shared.Pass({{&tokens, 41, 90, &mixed}, {&other, 20, 33, &others}}, options);
      const int64_t width = tokens.q_width();
      ASSERT_TRUE(SameBits(Slice(both, 20 * width, 61 * width), Slice(want, 0, 41 * width)));
      ASSERT_TRUE(SameBits(Slice(rest, 0, 49 * width), Slice(want, 41 * width, 90 * width)));
    }
  }
}

TEST_P(AttentionConformance, RejectedRowsAreOverwrittenWithoutATrace) {
  const HeadShape shape = {4, 2, 64};
  const Tokens tokens(60, shape, 15);
  Tokens wrong(60, shape, 16);
  wrong.k[50 * wrong.kv_width()] = std::numeric_limits<float>::quiet_NaN();
  wrong.v[51 * wrong.kv_width()] = std::numeric_limits<float>::infinity();
  const std::vector<BlockId> table = {1, 3, 0, 2};
  Device device(GetParam());
  Cache clean(device, shape, 4, 16), used(device, shape, 4, 16);
  const std::vector<float> want = clean.Pass({{&tokens, 0, 60, &table}}, OptionsOf(shape));
  used.Pass({{&tokens, 0, 40, &table}}, OptionsOf(shape));
  used.Pass({{&wrong, 40, 60, &table}}, OptionsOf(shape));
  // The window's tail still holds rejected rows, NaN and infinity among them.
  const std::vector<float> got = used.Pass({{&tokens, 40, 45, &table}}, OptionsOf(shape));
  EXPECT_TRUE(SameBits(got, Slice(want, 40 * tokens.q_width(), 45 * tokens.q_width())));
}

TEST_P(AttentionConformance, NanStaysInTheRowsThatSeeIt) {
  const HeadShape shape = {2, 1, 32};
  Tokens tokens(40, shape, 17);
  tokens.q[5 * tokens.q_width()] = std::numeric_limits<float>::quiet_NaN();
  tokens.v[30 * tokens.kv_width()] = std::numeric_limits<float>::quiet_NaN();
  tokens.k[35 * tokens.kv_width()] = std::numeric_limits<float>::infinity();
  const std::vector<BlockId> table = {0, 1, 2};
  Device device(GetParam());
  Cache cache(device, shape, 3, 16);
  const std::vector<float> got = cache.Pass({{&tokens, 0, 40, &table}}, OptionsOf(shape));
  for (int64_t t = 0; t < 30; ++t) {
    const bool bad = t == 5;
    EXPECT_EQ(std::isnan(got[t * tokens.q_width()]), bad) << t;
    EXPECT_FALSE(std::isnan(got[t * tokens.q_width() + 32])) << "the other head of row " << t;
  }
  EXPECT_TRUE(std::isnan(got[30 * tokens.q_width()]));
}

TEST_P(AttentionConformance, LayersAreApart) {
  const HeadShape shape = {2, 2, 20};
  const Tokens first(20, shape, 18), second(20, shape, 19);
  const std::vector<BlockId> table = {1, 0};
  Device device(GetParam());
  Cache cache(device, shape, 2, 16);
  const std::vector<float> before = cache.Pass({{&first, 0, 20, &table}}, OptionsOf(shape), 0);
  cache.Pass({{&second, 0, 20, &table}}, OptionsOf(shape), 1);
  const std::vector<float> again = cache.Pass({{&first, 19, 20, &table}}, OptionsOf(shape), 0);
  EXPECT_TRUE(SameBits(again, Slice(before, 19 * first.q_width(), 20 * first.q_width())));
}

// A committed prefix and, in slots of other blocks and in no order, a tree:
//   prefix - a0 - a1 - ... - a17      (a branch longer than a group)
//              \- b1 - b2
//   prefix - c0
struct Tree {
  static constexpr int32_t kPrefix = 37;
  // Tokens 37 .. 54 are a0 .. a17, 55 and 56 b1 and b2, 57 c0.
  static constexpr int32_t kCount = 58;

  explicit Tree(int32_t first_slot) {
    for (int32_t token = kPrefix; token < kCount; ++token) {
      slots.push_back(first_slot + (token - kPrefix) * 7 % 32);  // 7 and 32 are coprime
    }
    for (int32_t depth = 0; depth < 18; ++depth) AddRow(kPrefix + depth, Range(kPrefix, kPrefix + depth + 1));
    AddRow(55, {37, 55});
    AddRow(56, {37, 55, 56});
    AddRow(57, {57});
  }

  void AddRow(int32_t token, const std::vector<int64_t>& path) {
    tokens.push_back(token);
    positions.push_back(kPrefix + static_cast<int32_t>(path.size()) - 1);
    for (const int64_t ancestor : path) ancestors.push_back(slots[ancestor - kPrefix]);
    offsets.push_back(static_cast<int32_t>(ancestors.size()));
    std::vector<int64_t> all = Range(0, kPrefix);
    all.insert(all.end(), path.begin(), path.end());
    seen.push_back(all);
  }

  std::vector<int32_t> slots;  // of tokens 37 ..
  std::vector<int32_t> tokens, positions, ancestors, offsets = {0};
  std::vector<std::vector<int64_t>> seen;
};

TEST_P(AttentionConformance, TreeRowsSeeTheirAncestorsOnly) {
  for (const HeadShape& shape : kHeadShapes) {
    for (const int32_t window : {0, 3, 30}) {
      Device device(GetParam());
      const Tokens tokens(Tree::kCount, shape, 20);
      Cache cache(device, shape, 8, 16);
      const std::vector<BlockId> table = {4, 1, 6};
      cache.Pass({{&tokens, 0, Tree::kPrefix, &table}}, OptionsOf(shape, window));
      const Tree tree(2 * 16);  // blocks 2 and 3
      const std::vector<BatchSequence> sequences = {{static_cast<int32_t>(tree.tokens.size()), table}};
      const int64_t first = Tree::kPrefix;
      const std::vector<float> got = cache.Run(
          {tree.positions, tree.slots, sequences, tree.offsets, tree.ancestors},
          Slice(tokens.q, first * tokens.q_width(), Tree::kCount * tokens.q_width()),
          Slice(tokens.k, first * tokens.kv_width(), Tree::kCount * tokens.kv_width()),
          Slice(tokens.v, first * tokens.kv_width(), Tree::kCount * tokens.kv_width()),
          OptionsOf(shape, window));
      for (size_t row = 0; row < tree.tokens.size(); ++row) {
        std::vector<int64_t> seen = tree.seen[row];
        if (window != 0 && static_cast<int32_t>(seen.size()) > window) {
          seen.erase(seen.begin(), seen.end() - window);
        }
        ExpectIsAttention(tokens, got, static_cast<int64_t>(row), tree.tokens[row], seen);
      }
    }
  }
}

TEST_P(AttentionConformance, TreeEqualsTheSameTokensInLine) {
  const HeadShape shape = {6, 2, 20};
  Device device(GetParam());
  const Tokens tokens(Tree::kCount, shape, 21);
  const std::vector<BlockId> table = {4, 1, 6, 0};
  Cache in_line(device, shape, 8, 16), in_tree(device, shape, 8, 16);
  const std::vector<float> want = in_line.Pass({{&tokens, 0, 55, &table}}, OptionsOf(shape));
  in_tree.Pass({{&tokens, 0, Tree::kPrefix, &table}}, OptionsOf(shape));
  const Tree tree(2 * 16);
  const std::vector<BatchSequence> sequences = {{static_cast<int32_t>(tree.tokens.size()), table}};
  const std::vector<float> got = in_tree.Run(
      {tree.positions, tree.slots, sequences, tree.offsets, tree.ancestors},
      Slice(tokens.q, Tree::kPrefix * tokens.q_width(), Tree::kCount * tokens.q_width()),
      Slice(tokens.k, Tree::kPrefix * tokens.kv_width(), Tree::kCount * tokens.kv_width()),
      Slice(tokens.v, Tree::kPrefix * tokens.kv_width(), Tree::kCount * tokens.kv_width()),
      OptionsOf(shape));
  EXPECT_TRUE(SameBits(Slice(got, 0, 18 * tokens.q_width()),
                       Slice(want, 37 * tokens.q_width(), 55 * tokens.q_width())));
  // Promotion: the branch's KV goes into the block table, and what follows has the bits of a plain run.
  std::vector<SlotCopy> copies;
  for (int32_t depth = 0; depth < 18; ++depth) {
    copies.push_back({tree.slots[depth], in_tree.Slot(table, Tree::kPrefix + depth)});
  }
  device->CopyKv(copies, in_tree.pool());
  const std::vector<float> after = in_tree.Pass({{&tokens, 55, 56, &table}}, OptionsOf(shape));
  EXPECT_TRUE(SameBits(after, in_line.Pass({{&tokens, 55, 56, &table}}, OptionsOf(shape))));
}

TEST_P(AttentionConformance, CopiesRunInOrderAndInAllLayers) {
  const HeadShape shape = {1, 1, 32};
  Device device(GetParam());
  const Tokens tokens(3, shape, 22);
  Cache cache(device, shape, 2, 16);
  const std::vector<BlockId> table = {0};
  for (const int32_t layer : {0, 1}) cache.Pass({{&tokens, 0, 3, &table}}, OptionsOf(shape), layer);
  // 1 and 2 change places by way of 20, then what is now 2 goes over 0: tokens 1, 2, 1.
  device->CopyKv({{2, 20}, {1, 2}, {20, 1}, {2, 0}}, cache.pool());
  Tokens copied = tokens;
  for (std::vector<float>* values : {&copied.k, &copied.v}) {
    std::swap_ranges(values->begin() + 32, values->begin() + 64, values->begin() + 64);
    std::copy(values->begin() + 64, values->end(), values->begin());
  }
  Cache plain(device, shape, 2, 16);
  for (const int32_t layer : {0, 1}) {
    plain.Pass({{&copied, 0, 3, &table}}, OptionsOf(shape), layer);
    // Row 3 looks at the three and at itself.
    const Tokens more(4, shape, 23);
    EXPECT_TRUE(SameBits(cache.Pass({{&more, 3, 4, &table}}, OptionsOf(shape), layer),
                         plain.Pass({{&more, 3, 4, &table}}, OptionsOf(shape), layer)));
  }
  device->CopyKv({}, cache.pool());
}

TEST_P(AttentionConformance, NoRowsAndRowsWithoutASlot) {
  const HeadShape shape = {2, 1, 32};
  Device device(GetParam());
  Cache cache(device, shape, 2, 16);
  EXPECT_TRUE(cache.Run({}, {}, {}, {}, OptionsOf(shape)).empty());
  // A row with slot -1 writes nothing: what is there stays.
  const Tokens tokens(5, shape, 24), other(5, shape, 25);
  const std::vector<BlockId> table = {1};
  const std::vector<float> want = cache.Pass({{&tokens, 0, 5, &table}}, OptionsOf(shape));
  const std::vector<int32_t> positions = {4};
  const std::vector<int32_t> slots = {-1};
  const std::vector<BatchSequence> sequences = {{1, table}};
  const std::vector<float> got =
      cache.Run({positions, slots, sequences, {}, {}}, Slice(tokens.q, 4 * 64, 5 * 64),
                Slice(other.k, 0, 32), Slice(other.v, 0, 32), OptionsOf(shape));
  EXPECT_TRUE(SameBits(got, Slice(want, 4 * 64, 5 * 64)));
}

INSTANTIATE_TEST_SUITE_P(Backends, AttentionConformance, ::testing::ValuesIn(AllBackendCases()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace mirrorsd::engine::conformance
