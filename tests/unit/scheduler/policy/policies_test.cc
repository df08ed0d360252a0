#include "scheduler/policy/policies.h"

#include <set>
#include <vector>

#include "absl/strings/str_split.h"
#include "gtest/gtest.h"

namespace mirrorsd::scheduler {
namespace {

std::vector<int32_t> Decide(void (*decide)(const CohortOutlook&, absl::Span<const SequenceOutlook>,
                                           absl::Span<PolicyDecision>),
                            const std::vector<SequenceOutlook>& sequences) {
  std::vector<PolicyDecision> decisions(sequences.size(), PolicyDecision{-1});
  decide(CohortOutlook{}, sequences, absl::MakeSpan(decisions));
  std::vector<int32_t> windows;
  for (const PolicyDecision& decision : decisions) windows.push_back(decision.window);
  return windows;
}

SequenceOutlook Outlook(int32_t remaining, int32_t requested, bool ready) {
  SequenceOutlook outlook;
  outlook.remaining_tokens = remaining;
  outlook.requested_window = requested;
  outlook.draft_ready = ready;
  return outlook;
}

TEST(Policies, EveryModeHasOneRow) {
  std::set<SpeculationMode> modes;
  std::set<std::string> names;
  for (const SpeculationPolicy& policy : Policies()) {
    EXPECT_TRUE(modes.insert(policy.mode).second) << policy.name;
    EXPECT_TRUE(names.insert(policy.name).second) << policy.name;
    EXPECT_NE(policy.decide, nullptr);
    EXPECT_NE(policy.mode, SpeculationMode::kDefault);
  }
  EXPECT_TRUE(modes.count(SpeculationMode::kOff) == 1 && modes.count(SpeculationMode::kSerial) == 1);
}

TEST(Policies, WhatMayBeAskedForIsTheTable) {
  std::set<std::string> rows;
  for (const SpeculationPolicy& policy : Policies()) rows.insert(SpeculationModeName(policy.mode));
  const std::string offered(kOfferedSpeculationModes);
  EXPECT_EQ(std::set<std::string>(absl::StrSplit(offered, '|')), rows);
  const std::string later(kLaterSpeculationModes);
  for (const absl::string_view mode : absl::StrSplit(later, '|')) {
    EXPECT_EQ(rows.count(std::string(mode)), 0u) << mode;
    EXPECT_TRUE(FindSpeculationMode(std::string(mode)).has_value()) << mode;
  }
  EXPECT_EQ(FindSpeculationMode("default"), std::nullopt);
  EXPECT_EQ(FindSpeculationMode(""), std::nullopt);
}

TEST(MissFallbacks, NamesAndBack) {
  const std::string names(kMissFallbackNames);
  for (const absl::string_view name : absl::StrSplit(names, '|')) {
    const auto fallback = FindMissFallback(std::string(name));
    ASSERT_TRUE(fallback.has_value()) << name;
    EXPECT_EQ(MissFallbackName(*fallback), name);
  }
  EXPECT_EQ(FindMissFallback("wait"), std::nullopt);
}

TEST(NoSpeculation, EveryWindowIsEmpty) {
  EXPECT_EQ(Decide(DecideNoSpeculation, {Outlook(9, 4, true), Outlook(1, 4, false)}),
            (std::vector<int32_t>{0, 0}));
}

TEST(FixedWindow, IsWhatWasAskedForWhereTheDraftIsReady) {
  EXPECT_EQ(Decide(DecideFixedWindow, {Outlook(100, 4, true), Outlook(100, 7, true),
                                       Outlook(100, 4, false)}),
            (std::vector<int32_t>{4, 7, 0}));
}

TEST(FixedWindow, LeavesRoomForTheCorrectionToken) {
  EXPECT_EQ(Decide(DecideFixedWindow, {Outlook(5, 4, true), Outlook(4, 4, true),
                                       Outlook(2, 4, true), Outlook(1, 4, true)}),
            (std::vector<int32_t>{4, 3, 1, 0}));
}

}  // namespace
}  // namespace mirrorsd::scheduler
