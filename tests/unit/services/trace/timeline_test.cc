#include "services/trace/timeline.h"

#include <gtest/gtest.h>

#include "tests/unit/services/trace/scene.h"

namespace mirrorsd::trace {
namespace {

using journal::Beginning;
using scheduler::BranchMissReason;

constexpr int64_t kMillisecond = 1'000'000;

// Milliseconds into the scene.
double Ms(int64_t ns) { return static_cast<double>(ns - 1000 * kMillisecond) / 1e6; }

TEST(TimelineTest, PhasesEndWhenTheRoundsReportCameIn) {
  const Timeline timeline = Scene().Make();
  ASSERT_EQ(timeline.rounds.size(), 4u);
  const TracedRound& round = timeline.rounds[1];
  EXPECT_EQ(round.id, 2u);
  EXPECT_DOUBLE_EQ(Ms(round.sent_ns), 6);
  EXPECT_DOUBLE_EQ(Ms(round.exit_ns), 8.6);
  EXPECT_DOUBLE_EQ(Ms(round.done_ns), 12);
  EXPECT_DOUBLE_EQ(Ms(round.exit_end_ns()), 8.8);
  EXPECT_DOUBLE_EQ(Ms(round.begin_ns()), 6.4);
  EXPECT_EQ(timeline.num_rounds, 4u);
  EXPECT_FALSE(timeline.is_cut);
}

TEST(TimelineTest, RoundsSayWithWhatTheyBegan) {
  const Timeline timeline = Scene().Make();
  EXPECT_TRUE(timeline.rounds[0].items[0].is_prefill);
  // Behind the prompt, whose row had no branches.
  const TracedItem& first = timeline.rounds[1].items[0];
  EXPECT_EQ(first.beginning.beginning, Beginning::kEmpty);
  EXPECT_EQ(first.beginning.miss, BranchMissReason::kNotReady);
  const TracedItem& hit = timeline.rounds[2].items[0];
  EXPECT_EQ(hit.beginning.beginning, Beginning::kHit);
  EXPECT_EQ(hit.beginning.hit_depth, 3);
  EXPECT_EQ(hit.from_round, 2u);
  EXPECT_EQ(hit.from_kind, RolloutKind::kSecond);
  EXPECT_EQ(hit.num_accepted, 1);
  const TracedItem& miss = timeline.rounds[3].items[0];
  EXPECT_EQ(miss.beginning.beginning, Beginning::kEmpty);
  EXPECT_EQ(miss.beginning.miss, BranchMissReason::kNotPredicted);
}

TEST(TimelineTest, RolloutsAreToldByKindWithTheirRelay) {
  const Timeline timeline = Scene().Make();
  ASSERT_EQ(timeline.rollouts.size(), 4u);
  const TracedRollout& first = timeline.rollouts[0];
  EXPECT_EQ(first.kind, RolloutKind::kFirst);
  EXPECT_EQ(first.round, 2u);
  EXPECT_EQ(first.num_tokens, 2);
  EXPECT_FALSE(first.relay_ns.has_value());
  const TracedRollout& second = timeline.rollouts[1];
  EXPECT_EQ(second.kind, RolloutKind::kSecond);
  EXPECT_EQ(second.num_branches, 1);
  EXPECT_EQ(second.num_tokens, 3);
  EXPECT_DOUBLE_EQ(Ms(second.computing.begin_ns), 8.7);
  EXPECT_DOUBLE_EQ(Ms(second.computing.end_ns), 11);
  ASSERT_TRUE(second.relay_ns.has_value());
  EXPECT_NEAR(static_cast<double>(*second.relay_ns), 0.2 * kMillisecond, 1);
}

TEST(TimelineTest, ADraftCatchesUpAndAVerifierWaits) {
  const Timeline timeline = Scene().Make();
  ASSERT_EQ(timeline.catch_ups.size(), 1u);
  EXPECT_EQ(timeline.catch_ups[0].worker, kDraft);
  EXPECT_DOUBLE_EQ(Ms(timeline.catch_ups[0].stretch.begin_ns), 1.2);
  EXPECT_DOUBLE_EQ(Ms(timeline.catch_ups[0].stretch.end_ns), 3);
  ASSERT_EQ(timeline.waits.size(), 1u);  // for the sequence to start
  EXPECT_DOUBLE_EQ(Ms(timeline.waits[0].stretch.end_ns), 1.5);
}

TEST(TimelineTest, ChoosesRoundsAndRequests) {
  const Timeline two = Scene().Make({.first_round = 2, .last_round = 3});
  ASSERT_EQ(two.rounds.size(), 2u);
  EXPECT_EQ(two.rounds[0].id, 2u);
  EXPECT_EQ(two.rounds[1].items[0].beginning.hit_depth, 3);
  EXPECT_EQ(two.num_rounds, 4u);
  EXPECT_EQ(Scene().Make({.request_id = "tale"}).rounds.size(), 4u);
  const Timeline none = Scene().Make({.request_id = "another"});
  EXPECT_TRUE(none.rounds.empty());
  EXPECT_TRUE(none.rollouts.empty());
  const Timeline cut = Scene().Make({.max_rounds = 2});
  EXPECT_EQ(cut.rounds.size(), 2u);
  EXPECT_TRUE(cut.is_cut);
}

TEST(TimelineTest, DescribesRounds) {
  const Timeline timeline = Scene().Make();
  EXPECT_EQ(DescribeRound(timeline.rounds[0]), "5 prompt tokens");
  EXPECT_EQ(DescribeRound(timeline.rounds[2]), "window 3, 1 accepted; began with 1 hit 3.0 deep");
  EXPECT_EQ(DescribeRound(timeline.rounds[3]),
            "window 0, 0 accepted; began with 1 miss (not_predicted: no window)");
}

}  // namespace
}  // namespace mirrorsd::trace
