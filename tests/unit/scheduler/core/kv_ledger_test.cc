#include "scheduler/books/kv_ledger.h"

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

TEST(KvLedger, CountsWholeBlocks) {
  const KvLedger ledger(16, 10);
  EXPECT_EQ(ledger.BlocksFor(0), 0);
  EXPECT_EQ(ledger.BlocksFor(1), 1);
  EXPECT_EQ(ledger.BlocksFor(16), 1);
  EXPECT_EQ(ledger.BlocksFor(17), 2);
}

TEST(KvLedger, LetsInWhatFitsToItsEndWithoutAnyHeadroom) {
  KvLedger ledger(16, 10);
  ledger.Open(16, 96);  // up to 6 blocks
  EXPECT_TRUE(ledger.Fits(64, 64));
  EXPECT_TRUE(ledger.CanEverHold(160));
  EXPECT_FALSE(ledger.CanEverHold(161));
}

TEST(KvLedger, LetsInWhatMayNotFitToItsEndOnlyWithHeadroom) {
  KvLedger ledger(16, 10);
  ledger.Open(16, 160);
  // One block for each of the two, and a 64th of the pool is none: 1 + 7 + 2.
  EXPECT_TRUE(ledger.Fits(7 * 16, 160));
  EXPECT_FALSE(ledger.Fits(7 * 16 + 1, 160));
  EXPECT_FALSE(ledger.Fits(16, 161)) << "it could never end there";
}

TEST(KvLedger, OneThatIsAloneAlwaysFits) {
  KvLedger ledger(16, 10);
  EXPECT_TRUE(ledger.Fits(159, 160));
  KvShare share = ledger.Open(159, 160);
  EXPECT_EQ(ledger.free_blocks(), 0);
  EXPECT_FALSE(ledger.Fits(1, 16));
  ledger.BeginClose(&share);
  EXPECT_FALSE(ledger.Fits(1, 16)) << "until the worker has said that it ended";
  EXPECT_EQ(ledger.closing_blocks(), 10);
  ledger.Close(share);
  EXPECT_TRUE(ledger.Fits(159, 160));
  EXPECT_EQ(ledger.free_blocks(), 10);
  EXPECT_EQ(ledger.num_shares(), 0);
}

TEST(KvLedger, APromptHoldsWhatIsWrittenAndWantsTheRest) {
  KvLedger ledger(16, 10);
  KvShare share = ledger.Open(80, 96);
  EXPECT_EQ(ledger.used_blocks(), 5) << "the prefix cache may hold all of it";
  ledger.Start(&share, 32);
  EXPECT_EQ(ledger.used_blocks(), 2);
  EXPECT_EQ(ledger.wanted_blocks(), 5);
  EXPECT_EQ(ledger.spare_blocks(), 5) << "for windows";
  EXPECT_EQ(ledger.free_blocks(), 8) << "for rows that must be";
  ledger.Grow(&share, 48);
  EXPECT_EQ(share.held, 3);
  EXPECT_EQ(share.wanted, 5);
  ledger.Grow(&share, 80);
  ledger.Rest(&share, 81);
  EXPECT_EQ(share.held, 5) << "the new token has no KV yet";
  EXPECT_EQ(share.wanted, 5);
}

TEST(KvLedger, ARoundGrowsAShareAndWhatIsRejectedIsLetGo) {
  KvLedger ledger(16, 10);
  KvShare share = ledger.Open(30, 96);
  EXPECT_EQ(ledger.Missing(share, 32), 0);
  EXPECT_EQ(ledger.Missing(share, 33), 1);
  EXPECT_EQ(ledger.Reach(share, 1), 48);
  ledger.Grow(&share, 40);
  EXPECT_EQ(ledger.used_blocks(), 3);
  ledger.Rest(&share, 31);
  EXPECT_EQ(ledger.used_blocks(), 2);
  EXPECT_EQ(ledger.wanted_blocks(), 2);
  ledger.BeginClose(&share);
  EXPECT_EQ(ledger.limit_blocks(), 2);
}

TEST(KvLedger, WindowsGetNothingThatAPromptWants) {
  KvLedger ledger(16, 10);
  KvShare decoding = ledger.Open(16, 160);
  KvShare prompt = ledger.Open(96, 160);
  ledger.Start(&prompt, 0);
  ledger.Grow(&decoding, 70);  // rows that must be, beyond the headroom
  EXPECT_EQ(ledger.free_blocks(), 5);
  EXPECT_EQ(ledger.wanted_blocks(), 11);
  EXPECT_EQ(ledger.spare_blocks(), 0);
}

TEST(KvLedger, DoesNotOverflowOnTheLongestLengths) {
  const KvLedger ledger(16, 10);
  EXPECT_EQ(ledger.BlocksFor(INT32_MAX), (int64_t{INT32_MAX} + 15) / 16);
  EXPECT_FALSE(ledger.Fits(INT32_MAX, INT32_MAX));
}

}  // namespace
}  // namespace mirrorsd::scheduler
