#include "services/journal/branches/branch_watch.h"

#include <gtest/gtest.h>

namespace mirrorsd::journal {
namespace {

using scheduler::BranchMissReason;

RolloutProgress Progress(RoundId round, int32_t num_accepted, TokenId root, int32_t first_depth, int num_tokens) {
  RolloutProgress progress{.round_id = round, .num_accepted = num_accepted, .root_token = root};
  progress.first_depth = first_depth;
  progress.token_ids.assign(num_tokens, 1);
  return progress;
}

TEST(BranchWatchTest, SerialRoundsHaveNoMisses) {
  BranchWatch watch;
  EXPECT_EQ(watch.SeeRound(0).beginning, Beginning::kPlain);  // nothing decided yet
  watch.SeeOutcome(1, 0, 5);
  watch.SeeRollout(1, {{.num_accepted = 0, .token = 5}});
  watch.SeeProgress(Progress(1, 0, 5, 0, 4));
  const RoundBeginning drafted = watch.SeeRound(4);
  EXPECT_EQ(drafted.beginning, Beginning::kSerial);
  EXPECT_FALSE(drafted.miss.has_value());
  watch.SeeOutcome(2, 4, 6);
  EXPECT_EQ(watch.SeeRound(0).beginning, Beginning::kPlain);
}

TEST(BranchWatchTest, AHitIsAsDeepAsWhatCameBeforeTheRound) {
  BranchWatch watch({.is_mirror = true});
  watch.SeeRollout(7, {{.num_accepted = 2, .token = 9}, {.num_accepted = 3, .own_rank = 0}});
  watch.SeeProgress(Progress(7, 2, 9, 0, 2));
  watch.SeeProgress(Progress(7, 2, 9, 3, 1));  // does not follow
  watch.SeeProgress(Progress(6, 2, 9, 2, 1));  // of another round
  watch.SeeOutcome(7, 2, 9);
  watch.SeeProgress(Progress(7, 2, 9, 2, 1));  // decided, but the round has not begun
  watch.SeeRollout(8, {{.num_accepted = 0, .own_rank = 0}});  // the next round's, asked for before it is sent
  const RoundBeginning beginning = watch.SeeRound(3);
  EXPECT_EQ(beginning.beginning, Beginning::kHit);
  EXPECT_EQ(beginning.hit_depth, 3);
  EXPECT_EQ(Describe(beginning), "a branch that hit, 3 deep");
}

TEST(BranchWatchTest, MissesHaveReasonsAndFallbacks) {
  BranchWatch watch({.is_mirror = true});
  watch.SeeOutcome(1, 0, 5);
  RoundBeginning beginning = watch.SeeRound(0);
  EXPECT_EQ(beginning.beginning, Beginning::kEmpty);
  EXPECT_EQ(beginning.miss, BranchMissReason::kNotReady);

  watch.SeeRollout(2, {{.num_accepted = 0, .token = 5}});
  watch.SeeOutcome(2, 0, 5);
  beginning = watch.SeeRound(3);
  EXPECT_EQ(beginning.beginning, Beginning::kNgram);
  EXPECT_EQ(beginning.miss, BranchMissReason::kNotDrafted);

  watch.SeeRollout(3, {{.num_accepted = 0, .token = 5}});
  watch.SeeProgress(Progress(3, 0, 5, 0, 4));
  watch.SeeOutcome(3, 0, 6);
  watch.SeeRollout(3, {{.num_accepted = 0, .token = 6}});  // the round is held for it
  watch.SeeProgress(Progress(3, 0, 6, 0, 4));
  beginning = watch.SeeRound(4);
  EXPECT_EQ(beginning.beginning, Beginning::kHeld);
  EXPECT_EQ(beginning.miss, BranchMissReason::kNotPredicted);
  EXPECT_EQ(Describe(beginning), "a miss (not_predicted), a held draft");
}

TEST(BranchWatchTest, ARoundIsHeldForWhatWasAskedForAndHadNoToken) {
  for (const bool holds : {false, true}) {
    BranchWatch watch({.is_mirror = true, .holds = holds});
    watch.SeeRollout(1, {{.num_accepted = 0, .token = 5}});
    watch.SeeOutcome(1, 0, 5);
    watch.SeeProgress(Progress(1, 0, 5, 0, 2));
    const RoundBeginning beginning = watch.SeeRound(2);
    EXPECT_EQ(beginning.beginning, holds ? Beginning::kHeld : Beginning::kHit);
    EXPECT_EQ(beginning.miss.has_value(), holds);
  }
}

TEST(BranchWatchTest, TheLastTokenHasNoWindowAndMissesNone) {
  BranchWatch watch({.is_mirror = true, .max_tokens = 9});
  watch.SeeOutcome(1, 0, 5);
  watch.SeeCommitted(8);
  EXPECT_EQ(watch.SeeRound(0).beginning, Beginning::kPlain);
}

TEST(BranchWatchTest, ARolloutBesideARoundTellsTheMode) {
  BranchWatch watch;  // of a request that was submitted before the ring begins
  watch.SeeRollout(4, {{.num_accepted = 0, .own_rank = 1}});
  watch.SeeOutcome(4, 0, 1);
  EXPECT_EQ(watch.SeeRound(0).miss, BranchMissReason::kNotPredicted);
}

}  // namespace
}  // namespace mirrorsd::journal
