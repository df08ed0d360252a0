#include "scheduler/core/kv_ledger.h"

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

TEST(KvLedger, CountsWholeBlocks) {
  const KvLedger ledger(16, 10);
  EXPECT_EQ(ledger.BlocksFor(1), 1);
  EXPECT_EQ(ledger.BlocksFor(16), 1);
  EXPECT_EQ(ledger.BlocksFor(17), 2);
}

TEST(KvLedger, LetsInWhatFitsBesideTheOthersAndTakesItBack) {
  KvLedger ledger(16, 10);
  const int64_t first = ledger.Reserve(96);
  EXPECT_EQ(first, 6);
  EXPECT_TRUE(ledger.Fits(64));
  EXPECT_FALSE(ledger.Fits(65));
  EXPECT_TRUE(ledger.CanEverHold(160));
  EXPECT_FALSE(ledger.CanEverHold(161));
  ledger.Release(first);
  EXPECT_EQ(ledger.reserved_blocks(), 0);
  EXPECT_TRUE(ledger.Fits(160));
}

TEST(KvLedger, DoesNotOverflowOnTheLongestLengths) {
  const KvLedger ledger(16, 10);
  EXPECT_EQ(ledger.BlocksFor(INT32_MAX), (int64_t{INT32_MAX} + 15) / 16);
}

}  // namespace
}  // namespace mirrorsd::scheduler
