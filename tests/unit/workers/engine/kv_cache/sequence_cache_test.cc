#include "workers/engine/kv_cache/sequence_cache.h"

#include <numeric>
#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::engine {
namespace {

std::vector<TokenId> Tokens(int n) {
  std::vector<TokenId> tokens(n);
  std::iota(tokens.begin(), tokens.end(), 1);
  return tokens;
}

// A finished sequence of `tokens` whose full blocks stay cached.
void Warm(BlockPool* pool, const std::vector<TokenId>& tokens) {
  SequenceCache sequence(pool);
  sequence.Start(tokens);
  ASSERT_TRUE(sequence.Reserve(static_cast<int32_t>(tokens.size())));
  sequence.Commit(absl::MakeConstSpan(tokens).subspan(sequence.committed_length()));
}

TEST(SequenceCache, LeavesAtLeastOneTokenToCompute) {
  BlockPool pool(16, 4);
  Warm(&pool, Tokens(12));
  for (int n = 1; n <= 12; ++n) {
    SequenceCache sequence(&pool);
    EXPECT_EQ(sequence.Start(Tokens(n)), (n - 1) / 4 * 4) << n;
    EXPECT_LT(sequence.committed_length(), n);
  }
  EXPECT_EQ(pool.num_referenced(), 0);
}

TEST(SequenceCache, ReservesAllOrNothing) {
  BlockPool pool(4, 4);
  SequenceCache a(&pool), b(&pool);
  EXPECT_TRUE(a.Reserve(9));
  EXPECT_EQ(a.capacity(), 12);
  EXPECT_FALSE(b.Reserve(5));
  EXPECT_EQ(b.capacity(), 0);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_TRUE(b.Reserve(4));
}

TEST(SequenceCache, OnlyFullBlocksBelowTheCommittedLengthAreShared) {
  BlockPool pool(16, 4);
  SequenceCache writer(&pool);
  ASSERT_TRUE(writer.Reserve(16));
  const auto tokens = Tokens(16);
  writer.Commit(absl::MakeConstSpan(tokens).subspan(0, 7));
  SequenceCache reader(&pool);
  EXPECT_EQ(reader.Start(tokens), 4);
  EXPECT_EQ(reader.block_table()[0], writer.block_table()[0]);
}

TEST(SequenceCache, RollbackNeverLeavesASharedBlockToBeWritten) {
  BlockPool pool(16, 4);
  const auto tokens = Tokens(10);
  SequenceCache sequence(&pool);
  ASSERT_TRUE(sequence.Reserve(12));
  sequence.Commit(tokens);
  EXPECT_EQ(sequence.Rollback(9), 9);
  EXPECT_EQ(sequence.capacity(), 12);
  EXPECT_EQ(sequence.Rollback(6), 4);  // block 1 is published: cut at its start
  EXPECT_EQ(sequence.capacity(), 4);
  ASSERT_TRUE(sequence.Reserve(8));
  EXPECT_FALSE(pool.is_cached(sequence.block_table()[1]));
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

TEST(SequenceCache, ForkSharesFullBlocksAndOutlivesItsOrigin) {
  BlockPool pool(16, 4);
  SequenceCache fork(&pool);
  {
    SequenceCache origin(&pool);
    ASSERT_TRUE(origin.Reserve(10));
    origin.Commit(Tokens(10));
    fork = origin.Fork();
    EXPECT_EQ(pool.reference_count(origin.block_table()[1]), 2);
  }
  EXPECT_EQ(fork.committed_length(), 8);
  EXPECT_EQ(pool.num_referenced(), 2);
  fork.Clear();
  EXPECT_EQ(pool.num_referenced(), 0);
  EXPECT_EQ(pool.num_evictable(), 2);
}

TEST(SequenceCache, TwoWritersOfOnePrefixEndUpSharingIt) {
  BlockPool pool(16, 4);
  SequenceCache a(&pool), b(&pool);
  ASSERT_TRUE(a.Reserve(8) && b.Reserve(8));
  a.Commit(Tokens(8));
  b.Commit(Tokens(8));
  EXPECT_EQ(a.block_table(), b.block_table());
  EXPECT_EQ(pool.num_referenced(), 2);
  EXPECT_TRUE(pool.CheckInvariants().ok());
}

}  // namespace
}  // namespace mirrorsd::engine
