#include "services/wire/scheduling_wire.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/unit/services/wire/messages.h"

namespace mirrorsd::wire {
namespace {

namespace pb = ::mirrorsd::internal::v1;

TEST(SchedulingWireTest, SubmitSurvivesTheWire) {
  pb::SubmitRequest message;
  Write(FullSubmit(), &message);
  const auto request = Parse(message);
  ASSERT_TRUE(request.ok()) << request.status();
  const SubmitRequest expected = FullSubmit();
  EXPECT_EQ(request->request_id, expected.request_id);
  EXPECT_EQ(request->vocabulary_fingerprint, expected.vocabulary_fingerprint);
  EXPECT_EQ(request->token_ids, expected.token_ids);
  EXPECT_EQ(request->sampling, expected.sampling);
  EXPECT_EQ(request->end_token_ids, expected.end_token_ids);
  EXPECT_EQ(request->max_tokens, expected.max_tokens);
  EXPECT_EQ(request->deadline, expected.deadline);
  EXPECT_EQ(request->speculation, expected.speculation);
  EXPECT_EQ(request->num_speculative_tokens, 0);  // zero is not "unset"
  EXPECT_EQ(request->branch_top_k, expected.branch_top_k);
}

TEST(SchedulingWireTest, UnsetStaysUnsetAndAPassedDeadlineStaysADeadline) {
  SubmitRequest request = FullSubmit();
  request.deadline.reset();
  request.num_speculative_tokens.reset();
  request.branch_top_k.reset();
  request.speculation = SpeculationMode::kDefault;
  pb::SubmitRequest message;
  Write(request, &message);
  auto parsed = Parse(message);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->deadline, std::nullopt);
  EXPECT_EQ(parsed->num_speculative_tokens, std::nullopt);
  EXPECT_EQ(parsed->branch_top_k, std::nullopt);
  EXPECT_EQ(parsed->speculation, SpeculationMode::kDefault);

  request.deadline = absl::ZeroDuration();
  message.Clear();
  Write(request, &message);
  parsed = Parse(message);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->deadline, absl::Nanoseconds(1));
}

TEST(SchedulingWireTest, CommittedSurvivesTheWire) {
  pb::Committed message;
  Write(FullCommitted(), &message);
  const auto committed = Parse(message);
  ASSERT_TRUE(committed.ok()) << committed.status();
  const Committed expected = FullCommitted();
  EXPECT_EQ(committed->output_index, expected.output_index);
  EXPECT_EQ(committed->token_ids, expected.token_ids);
  EXPECT_EQ(committed->origins, expected.origins);
  EXPECT_EQ(committed->finish, expected.finish);
  EXPECT_EQ(committed->queue_time, expected.queue_time);
  EXPECT_EQ(committed->stats.rounds, expected.stats.rounds);
  EXPECT_EQ(committed->stats.drafted_tokens, expected.stats.drafted_tokens);
  EXPECT_EQ(committed->stats.accepted_tokens, expected.stats.accepted_tokens);
  EXPECT_EQ(committed->stats.accepted_per_position, expected.stats.accepted_per_position);
  EXPECT_EQ(committed->stats.drafted_per_position, expected.stats.drafted_per_position);
  EXPECT_EQ(committed->stats.empty_window_rounds, expected.stats.empty_window_rounds);
  EXPECT_EQ(committed->stats.branch_hits, expected.stats.branch_hits);
  EXPECT_EQ(committed->stats.branch_hit_depth_sum, expected.stats.branch_hit_depth_sum);
  EXPECT_EQ(committed->stats.branch_misses, expected.stats.branch_misses);
  EXPECT_EQ(committed->stats.ngram_window_rounds, expected.stats.ngram_window_rounds);
  EXPECT_EQ(committed->stats.held_rounds, expected.stats.held_rounds);
  EXPECT_EQ(committed->stats.max_batch, expected.stats.max_batch);
  EXPECT_EQ(committed->stats.resumes, expected.stats.resumes);
}

TEST(SchedulingWireTest, CellSurvivesTheWire) {
  pb::DescribeCellResponse message;
  Write(FullCell(), &message);
  const auto cell = Parse(message);
  ASSERT_TRUE(cell.ok()) << cell.status();
  EXPECT_EQ(*cell, FullCell());
}

}  // namespace
}  // namespace mirrorsd::wire
