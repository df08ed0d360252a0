#include "workers/engine/kv_cache/block_pool.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::engine {
namespace {

std::vector<TokenId> Tokens(int n, TokenId first = 0) {
  std::vector<TokenId> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

absl::Span<const TokenId> Block(const std::vector<TokenId>& tokens, int index, int size = 4) {
  return absl::MakeConstSpan(tokens).subspan(index * size, size);
}

TEST(BlockPool, HandsOutEveryBlockOnceThenNone) {
  BlockPool pool(3, 4);
  std::vector<bool> seen(3);
  for (int i = 0; i < 3; ++i) {
    const auto block = pool.Allocate();
    ASSERT_TRUE(block.has_value());
    EXPECT_FALSE(seen[*block]);
    seen[*block] = true;
  }
  EXPECT_FALSE(pool.Allocate().has_value());
  EXPECT_EQ(pool.num_referenced(), 3);
  pool.Release(1);
  EXPECT_EQ(pool.Allocate(), 1);
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(BlockPool, FindsTheLongestCachedPrefix) {
  BlockPool pool(8, 4);
  const auto tokens = Tokens(12);
  const BlockId a = *pool.Allocate(), b = *pool.Allocate();
  EXPECT_EQ(pool.Publish(a, std::nullopt, Block(tokens, 0)), a);
  EXPECT_EQ(pool.Publish(b, a, Block(tokens, 1)), b);
  EXPECT_EQ(pool.AcquirePrefix(tokens, 10), (std::vector<BlockId>{a, b}));
  EXPECT_EQ(pool.reference_count(a), 2);
  EXPECT_EQ(pool.AcquirePrefix(tokens, 1), (std::vector<BlockId>{a}));
  EXPECT_EQ(pool.AcquirePrefix(Tokens(7), 10), (std::vector<BlockId>{a}));
  EXPECT_TRUE(pool.AcquirePrefix(Tokens(8, 1), 10).empty());
  // The second block's tokens at a first block's place are another prefix.
  EXPECT_TRUE(pool.AcquirePrefix(Tokens(8, 4), 10).empty());
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(BlockPool, AnEqualBlockReplacesTheOneThatIsPublished) {
  BlockPool pool(8, 4);
  const auto tokens = Tokens(4);
  const BlockId a = *pool.Allocate(), b = *pool.Allocate();
  pool.Publish(a, std::nullopt, tokens);
  EXPECT_EQ(pool.Publish(b, std::nullopt, tokens), a);
  EXPECT_EQ(pool.reference_count(a), 2);
  EXPECT_EQ(pool.reference_count(b), 0);
  EXPECT_EQ(pool.num_free(), 7);
}

TEST(BlockPool, EvictsTheLeastRecentlyUsedTailFirst) {
  BlockPool pool(3, 4);
  const auto tokens = Tokens(8);
  const BlockId a = *pool.Allocate(), b = *pool.Allocate();
  pool.Publish(a, std::nullopt, Block(tokens, 0));
  pool.Publish(b, a, Block(tokens, 1));
  pool.Release(b);
  pool.Release(a);
  EXPECT_EQ(pool.num_evictable(), 2);
  EXPECT_EQ(pool.num_available(), 3);
  EXPECT_NE(pool.Allocate(), a);  // the free one
  EXPECT_EQ(pool.Allocate(), b);  // the tail
  EXPECT_EQ(pool.num_evictions(), 1);
  EXPECT_EQ(pool.AcquirePrefix(tokens, 10), (std::vector<BlockId>{a}));
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(BlockPool, ACollisionNeverYieldsAWrongPrefix) {
  BlockPool pool(16, 4, [](uint64_t, absl::Span<const TokenId>) { return uint64_t{7}; });
  std::vector<BlockId> blocks;
  for (int i = 0; i < 8; ++i) {
    blocks.push_back(*pool.Allocate());
    EXPECT_EQ(pool.Publish(blocks[i], std::nullopt, Tokens(4, 100 * i)), blocks[i]);
  }
  const BlockId child = *pool.Allocate();
  pool.Publish(child, blocks[3], Tokens(4, 5));
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(pool.AcquirePrefix(Tokens(4, 100 * i), 1), (std::vector<BlockId>{blocks[i]}));
  }
  EXPECT_TRUE(pool.AcquirePrefix(Tokens(4, 5), 1).empty());
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(BlockPoolDeathTest, OurOwnBugsAreCaught) {
  BlockPool pool(2, 4);
  EXPECT_DEATH(pool.Release(0), "no reference");
  EXPECT_DEATH(pool.AddReference(0), "is free");
}

}  // namespace
}  // namespace mirrorsd::engine
