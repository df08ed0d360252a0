#include "services/bench/rounds/plan.h"

#include <map>
#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mirrorsd::bench {
namespace {

using ::testing::ElementsAre;

std::vector<Prompt> FivePrompts() {
  return {{"1", "story", "a"}, {"2", "story", "b"}, {"3", "story", "c"}, {"4", "json", "d"}, {"5", "json", "e"}};
}

TEST(Plan, ContestantsAreModesTimesWindowsWithPlainFirst) {
  const auto contestants = MakeContestants({"serial", "off"}, {2, 8, 2});
  ASSERT_TRUE(contestants.ok());
  EXPECT_THAT(*contestants, ElementsAre(Contestant{"off", 0}, Contestant{"serial", 2}, Contestant{"serial", 8}));
  EXPECT_EQ((*contestants)[2].Name(), "serial 8");
  EXPECT_TRUE((*contestants)[0].IsPlain());
  EXPECT_FALSE(MakeContestants({"mirrored"}, {2}).ok());
}

TEST(Plan, EveryModeThatMayBeAskedForCanBeMeasured) {
  ASSERT_GE(Modes().size(), 2u);
  EXPECT_EQ(Modes().front().name, "off");
  for (const Mode& mode : Modes()) {
    const auto contestants = MakeContestants({mode.name}, {2, 4}, {1, 8});
    ASSERT_TRUE(contestants.ok()) << mode.name;
    const size_t others = (mode.has_window ? 2 : 0) * (mode.has_branches ? 2 : 1);
    EXPECT_EQ(contestants->size(), 1 + others) << mode.name;
  }
  EXPECT_EQ((Contestant{"mirror", 4, 8}).Name(), "mirror 4 k8");
}

TEST(Plan, ABatchIsFullEvenWherePromptsAreFew) {
  RoundsSettings settings{.batches = {1, 2, 4}};
  const auto workloads = MakeWorkloads(settings, FivePrompts());
  std::map<int, std::map<std::string, int>> counts;
  for (const Workload& workload : workloads) {
    EXPECT_EQ(workload.prompts.size(), static_cast<size_t>(workload.batch));
    ++counts[workload.batch][workload.category];
    std::set<std::pair<int, int>> asked;  // the same prompt twice is another sample
    for (const WorkloadPrompt& prompt : workload.prompts) {
      EXPECT_TRUE(asked.insert({prompt.prompt_index, prompt.sample}).second);
      EXPECT_EQ(FivePrompts()[prompt.prompt_index].category, workload.category);
    }
  }
  EXPECT_EQ(counts[1]["story"], 3);
  EXPECT_EQ(counts[2]["story"], 2);
  EXPECT_EQ(counts[4]["story"], 1);
  EXPECT_EQ(counts[4]["json"], 1);
}

TEST(Plan, EveryRepeatAsksEverythingOnceAndContestantsOfAWorkloadFollowEachOther) {
  RoundsSettings settings{.contestants = *MakeContestants({"serial"}, {2, 4}), .temperatures = {0, 1}, .repeats = 3};
  const auto workloads = MakeWorkloads(settings, FivePrompts());
  const auto steps = MakeSteps(settings, workloads);
  std::map<std::tuple<int, int, int>, int> counts;
  std::vector<Step> counted;
  for (const Step& step : steps) {
    if (step.repeat >= 0) counted.push_back(step);
    ++counts[{step.repeat, step.workload_index, step.contestant_index}];
  }
  ASSERT_EQ(counted.size(), 3 * workloads.size() * 3);
  for (const Step& step : counted) {
    EXPECT_EQ((counts[{step.repeat, step.workload_index, step.contestant_index}]), 1);
  }
  for (size_t i = 0; i < counted.size(); i += 3) {
    EXPECT_EQ(counted[i].workload_index, counted[i + 1].workload_index);
    EXPECT_EQ(counted[i].workload_index, counted[i + 2].workload_index);
  }
  // Plain decoding has been through all workloads before anything is counted.
  for (size_t i = 0; i < workloads.size(); ++i) EXPECT_EQ((counts[{-1, static_cast<int>(i), 0}]), 1);
}

TEST(Plan, OrderIsTheSeedsAndChangesFromRepeatToRepeat) {
  RoundsSettings settings{.contestants = *MakeContestants({"serial"}, {2, 4, 8}), .repeats = 4};
  const auto workloads = MakeWorkloads(settings, FivePrompts());
  const auto order = [&](uint64_t seed) {
    settings.seed = seed;
    std::vector<std::pair<int, int>> order;
    for (const Step& step : MakeSteps(settings, workloads)) {
      order.emplace_back(step.workload_index, step.contestant_index);
    }
    return order;
  };
  EXPECT_EQ(order(1), order(1));
  EXPECT_NE(order(1), order(2));
  // Each contestant is first at times: none always meets the machine in the same state.
  std::set<int> first;
  const auto steps = MakeSteps(settings, workloads);
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps[i].repeat >= 0 && (i == 0 || steps[i - 1].workload_index != steps[i].workload_index)) {
      first.insert(steps[i].contestant_index);
    }
  }
  EXPECT_EQ(first.size(), settings.contestants.size());
}

TEST(Plan, PromptsAreChosenByCategoryAndNumber) {
  RoundsSettings settings{.categories = {"story"}, .prompts_per_category = 2};
  const auto chosen = ChoosePrompts(settings, FivePrompts());
  EXPECT_THAT(chosen, ElementsAre(FivePrompts()[0], FivePrompts()[1]));
}

}  // namespace
}  // namespace mirrorsd::bench
