// What the simulation itself must be: exact to repeat, and able to make a failing schedule short. The
// schedules themselves are run by core_sim.

#include <string>

#include "gtest/gtest.h"
#include "tests/sim/campaign.h"
#include "tests/sim/minimiser.h"

namespace mirrorsd::sim {
namespace {

TEST(CoreSimulation, IsExactToRepeat) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    std::string first;
    std::string second;
    Coverage coverage;
    EXPECT_EQ(RunHere(MakePlan(seed), &coverage, nullptr, &first), "");
    RunHere(MakePlan(seed), &coverage, nullptr, &second);
    EXPECT_GT(first.size(), 1000u);
    EXPECT_EQ(first, second) << "seed " << seed;
  }
}

TEST(CoreSimulation, EverySchedulePlansEnough) {
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    const Plan plan = MakePlan(seed);
    int64_t num_good = 0;
    for (const PlannedClient& client : plan.clients) num_good += client.flaw == Flaw::kNone;
    EXPECT_GE(num_good, 8);
    EXPECT_GE(plan.verifiers.size(), 2u);
    EXPECT_GE(plan.drafts.size(), 2u);
    EXPECT_GE(plan.faults.size(), size_t{kMinFaults});
  }
}

// A made-up failure that needs one client and two faults: all else goes.
TEST(CoreSimulation, MakesAFailureShort) {
  const Plan plan = MakePlan(7);
  const uint64_t client = plan.clients[3].seed;
  const uint64_t first = plan.faults.front().seed;
  const uint64_t last = plan.faults.back().seed;
  const Minimised small = Minimise(plan, "stream 12 is wrong", [&](const Plan& some) {
    int found = 0;
    for (const PlannedClient& c : some.clients) found += c.seed == client && c.prompt_length > 0;
    for (const PlannedFault& f : some.faults) found += f.seed == first || f.seed == last;
    return found == 3 ? "stream 3 is wrong" : "";
  });
  ASSERT_EQ(small.plan.clients.size(), 1u);
  EXPECT_EQ(small.plan.clients[0].seed, client);
  EXPECT_EQ(small.plan.clients[0].prompt_length, 1);
  ASSERT_EQ(small.plan.faults.size(), 2u);
  EXPECT_EQ(small.plan.faults[0].seed, first);
  EXPECT_EQ(small.plan.faults[1].seed, last);
  EXPECT_EQ(small.violation, "stream 3 is wrong");
}

}  // namespace
}  // namespace mirrorsd::sim
