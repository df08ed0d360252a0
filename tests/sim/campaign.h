#pragma once
// Many schedules: one after the other in this process, or shared out to child processes, so that a failed
// CHECK or an endless loop of the core ends one schedule and not the run. Not thread-safe.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "tests/sim/oracle/coverage.h"
#include "tests/sim/plan/plan.h"

namespace mirrorsd::sim {

// From now on Core::CheckInvariants is not called: shows what the oracle finds alone.
void SkipInvariants();

// One schedule in this process. Appends its transcript to `story` if given.
std::string RunHere(const Plan& plan, Coverage* coverage, int64_t* num_steps, std::string* story);

// One schedule in a child process: what was wrong; for a CHECK, its message.
std::string RunApart(const Plan& plan);

struct Failure {
  uint64_t seed = 0;
  std::string violation;
};

struct Campaign {
  uint64_t first_seed = 1;
  int64_t num_seeds = 1;
  int num_processes = 1;  // 0: in this process
  int64_t max_failures = 5;
  std::function<void(int64_t num_done, int64_t num_failures)> on_progress;  // about once a second
  std::function<void(const Failure&)> on_failure;
};

struct CampaignResult {
  int64_t num_schedules = 0;
  int64_t num_steps = 0;
  Coverage coverage;
  std::vector<Failure> failures;
};

CampaignResult RunCampaign(const Campaign& campaign);

}  // namespace mirrorsd::sim
