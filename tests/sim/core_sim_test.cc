// Thousands of schedules of faults against the real core in virtual time. The environment variable
// MIRRORSD_SIM_SEEDS sets how many, MIRRORSD_SIM_SEED runs one and prints its story.

#include <cstdlib>
#include <iostream>
#include <string>

#include "gtest/gtest.h"
#include "tests/sim/cell.h"

namespace mirrorsd::sim {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

TEST(CoreSimulation, HoldsItsPromisesUnderFaults) {
  const uint64_t only = FromEnvironment("MIRRORSD_SIM_SEED", 0);
  const uint64_t first = only != 0 ? only : 1;
  const uint64_t last = only != 0 ? only : FromEnvironment("MIRRORSD_SIM_SEEDS", 400);
  Tally tally;
  int64_t num_steps = 0;
  int num_violations = 0;
  for (uint64_t seed = first; seed <= last; ++seed) {
    Cell cell(seed);
    const std::vector<std::string> violations = cell.Run();
    num_steps += cell.num_steps();
    for (const auto& [what, times] : cell.tally()) tally[what] += times;
    if (only != 0) std::cout << cell.story();
    if (violations.empty()) continue;
    ADD_FAILURE() << "seed " << seed << ": " << violations.front()
                  << "\nagain with its story: MIRRORSD_SIM_SEED=" << seed;
    if (++num_violations == 5) break;
  }
  for (const auto& [what, times] : tally) std::cout << times << "\t" << what << "\n";
  std::cout << (last - first + 1) << " schedules, " << num_violations << " violations, " << num_steps
            << " steps\n";
  if (only != 0) return;
  // What was never tried was not tested.
  for (const char* what :
       {"end: stop", "end: length", "end: CANCELLED", "end: DEADLINE_EXCEEDED", "end: NAN_LOGITS",
        "end: finished after a resume", "end inside a window", "recovered",
        "fault: kill verifier", "fault: kill draft", "fault: hang verifier", "fault: hang draft",
        "fault: lie verifier", "fault: lie draft", "fault: stale fence", "fault: report repeated",
        "fault: queue full draft", "fault: drain verifier", "refused VOCABULARY_MISMATCH",
        "refused SCHEMA_MISMATCH", "refused MODEL_MISMATCH"}) {
    EXPECT_GT(tally[what], 0) << what;
  }
}

TEST(CoreSimulation, IsExactToRepeat) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Cell first(seed);
    Cell second(seed);
    first.Run();
    second.Run();
    EXPECT_EQ(first.story(), second.story()) << "seed " << seed;
    EXPECT_EQ(first.num_steps(), second.num_steps()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace mirrorsd::sim
