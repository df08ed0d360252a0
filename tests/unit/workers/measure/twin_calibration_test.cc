#include "workers/measure/twin_calibration.h"

#include "gtest/gtest.h"
#include "common/error.h"
#include "workers/engine/model/twins/twin_option.h"

namespace mirrorsd::measure {
namespace {

CalibrationOptions Quick() {
  CalibrationOptions options;
  options.num_prompts = 32;
  options.max_tokens = 64;
  options.batch = 32;
  options.tolerance = 0.008;
  options.engine.num_threads = 1;
  return options;
}


class CalibrationTest : public ::testing::TestWithParam<const char*> {};

TEST_P(CalibrationTest, WhatIsMeasuredOnOtherPromptsIsWhatWasAskedFor) {
  const auto request = engine::ParseTwinOption(GetParam());
  ASSERT_TRUE(request.ok()) << request.status();
  CalibrationOptions options = Quick();
  std::string lines;
  options.on_progress = [&](const std::string& line) { lines += line + "\n"; };
  const auto record = CalibrateTwin(request->spec, *request->wish, options);
  ASSERT_TRUE(record.ok()) << record.status() << "\n" << lines;
  ASSERT_TRUE(record->measured.has_value());
  // 2,048 tokens of each set: a standard error of 0.01 in each share.
  EXPECT_NEAR(record->measured->agreement, request->wish->agreement, 0.04) << lines;
  if (request->wish->exit_recall.has_value()) {
    EXPECT_NEAR(record->measured->exit_recall, *request->wish->exit_recall, 0.04) << lines;
  }
  EXPECT_EQ(record->measured->num_tokens, 32 * 64);
  EXPECT_GT(record->measured->share_of_distinct_runs, 0.9) << "streams go in circles";
}

INSTANTIATE_TEST_SUITE_P(Wishes, CalibrationTest,
                         ::testing::Values("twin:micro,agreement=0.6,exit-recall=0.8",
                                           "twin:micro,agreement=0.8,exit-recall=0.85",
                                           "twin:micro,agreement=0.35,exit-recall=0.8,recall-top-k=4",
                                           "twin:micro,draft-layers=6,agreement=0.9,exit-recall=0.7",
                                           "twin:micro,agreement=0.75"));

TEST(CalibrateTwinTest, TheSameFactorsTwice) {
  const auto request = engine::ParseTwinOption("twin:micro,agreement=0.7,exit-recall=0.9");
  CalibrationOptions options = Quick();
  options.num_prompts = 16;
  options.tolerance = 0.05;
  const auto one = CalibrateTwin(request->spec, *request->wish, options);
  options.engine.num_threads = 2;
  const auto two = CalibrateTwin(request->spec, *request->wish, options);
  ASSERT_TRUE(one.ok()) << one.status();
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(one->spec, two->spec);
}

TEST(CalibrateTwinTest, SaysWhatWasReachedWhereTheWishIsNot) {
  const auto request = engine::ParseTwinOption("twin:micro,agreement=0.7,exit-recall=0.9");
  CalibrationOptions options = Quick();
  options.max_measurements = 1;
  options.tolerance = 1e-6;
  const absl::Status status = CalibrateTwin(request->spec, *request->wish, options).status();
  EXPECT_EQ(GetErrorInfo(status)->reason, "INVALID_FIELD");
  EXPECT_NE(status.message().find("1 measurements were not enough"), absl::string_view::npos) << status;
}

TEST(MeasureTwinTest, DampedToNothingAllAgree) {
  auto request = engine::ParseTwinOption("twin:micro,draft-damping=0,exit-damping=0");
  CalibrationOptions options = Quick();
  options.num_prompts = 4;
  const auto measured = MeasureTwin(request->spec, 1, options);
  ASSERT_TRUE(measured.ok()) << measured.status();
  EXPECT_EQ(measured->agreement, 1.0);
  EXPECT_EQ(measured->exit_recall, 1.0);
  EXPECT_EQ(measured->num_rejects, 0);
  EXPECT_FALSE(MeasureTwin(request->spec, 3, options).ok());
}

}  // namespace
}  // namespace mirrorsd::measure
