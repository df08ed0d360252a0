#pragma once
// Makes a failing schedule short: leaves out clients and faults, shortens requests and straightens the cell
// for as long as it still fails in the same way. Not thread-safe: it runs schedules.

#include <cstdint>
#include <functional>
#include <string>

#include "tests/sim/plan/plan.h"

namespace mirrorsd::sim {

// Runs a plan; what was wrong, or nothing.
using RunPlan = std::function<std::string(const Plan&)>;

// Two violations are of a kind if they differ in numbers only.
std::string KindOf(const std::string& violation);

struct Minimised {
  Plan plan;
  std::string violation;
  int num_runs = 0;
};
Minimised Minimise(const Plan& failing, const std::string& violation, const RunPlan& run);

}  // namespace mirrorsd::sim
