#include "scheduler/books/deadlines.h"

#include <vector>

#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

absl::Time At(int64_t ms) { return absl::UnixEpoch() + absl::Milliseconds(ms); }

TEST(Deadlines, NextIsTheEarliestAndInfiniteWhereThereIsNone) {
  Deadlines deadlines;
  EXPECT_EQ(deadlines.Next(), absl::InfiniteFuture());
  deadlines.Set(Wait::kRound, 1, At(20));
  deadlines.Set(Wait::kWorkerSilent, 1, At(10));
  EXPECT_EQ(deadlines.Next(), At(10));
}

TEST(Deadlines, SetMovesAndClearRemoves) {
  Deadlines deadlines;
  deadlines.Set(Wait::kRound, 1, At(10));
  deadlines.Set(Wait::kRound, 1, At(30));
  EXPECT_EQ(deadlines.size(), 1u);
  EXPECT_EQ(deadlines.Next(), At(30));
  deadlines.Clear(Wait::kRound, 1);
  deadlines.Clear(Wait::kRound, 1);
  EXPECT_EQ(deadlines.size(), 0u);
  EXPECT_FALSE(deadlines.Has(Wait::kRound, 1));
}

TEST(Deadlines, PopsOnlyWhatIsDueAndInExactOrder) {
  Deadlines deadlines;
  deadlines.Set(Wait::kVerifier, 2, At(10));
  deadlines.Set(Wait::kVerifier, 1, At(10));
  deadlines.Set(Wait::kRound, 9, At(10));
  deadlines.Set(Wait::kRound, 3, At(5));
  deadlines.Set(Wait::kRound, 4, At(11));
  std::vector<Deadlines::Key> popped;
  while (const auto due = deadlines.PopDue(At(10))) popped.push_back(*due);
  EXPECT_EQ(popped, (std::vector<Deadlines::Key>{{Wait::kRound, 3},
                                                 {Wait::kRound, 9},
                                                 {Wait::kVerifier, 1},
                                                 {Wait::kVerifier, 2}}));
  EXPECT_EQ(deadlines.Next(), At(11));
}

TEST(Deadlines, ForEverIsNoDeadline) {
  Deadlines deadlines;
  deadlines.Set(Wait::kRound, 1, absl::InfiniteFuture());
  EXPECT_EQ(deadlines.size(), 0u);
}

}  // namespace
}  // namespace mirrorsd::scheduler
