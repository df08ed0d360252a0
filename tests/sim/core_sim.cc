// Schedules of faults against the real scheduler core, in virtual time.
//   core_sim --seeds N [--first S] [--processes P]   N schedules; S: from the clock; P = 0: in this process
//   core_sim --seed S                                one schedule with its transcript
//   core_sim --scale S                               one schedule of 4,096 live sequences, with its costs
// --no-invariants leaves out Core::CheckInvariants: what the oracle finds alone.
// Ends with "N schedules, V violations". A failing schedule is made short and its transcript printed.
// Exit code: 0 if nothing was wrong and everything was met, else 1; 2 for wrong arguments.

#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/sim/campaign.h"
#include "tests/sim/minimiser.h"
#include "tests/sim/scale.h"
#include "tests/sim/story.h"

namespace mirrorsd::sim {
namespace {

struct Arguments {
  int64_t seeds = 1000;
  uint64_t first = 0;
  uint64_t only = 0;
  uint64_t scale = 0;
  int processes = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  int64_t max_failures = 5;
  bool minimise = true;
  bool table = true;
};

bool Parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--no-minimise") {
      arguments->minimise = false;
      continue;
    }
    if (name == "--no-invariants") {
      SkipInvariants();
      continue;
    }
    if (name == "--no-table") {
      arguments->table = false;
      continue;
    }
    if (++i == argc) return false;
    char* end = nullptr;
    const uint64_t value = std::strtoull(argv[i], &end, 10);
    const bool is_count = argv[i][0] >= '0' && argv[i][0] <= '9' && *end == 0;
    // No processes: the schedules run in this one, where a sanitizer sees them.
    if (!is_count || (value == 0 && name != "--processes") || value > INT64_MAX) return false;
    if (name == "--seeds") arguments->seeds = static_cast<int64_t>(value);
    else if (name == "--first") arguments->first = value;
    else if (name == "--seed") arguments->only = value;
    else if (name == "--scale") arguments->scale = value;
    else if (name == "--processes" && value <= 4096) arguments->processes = static_cast<int>(value);
    else if (name == "--max-failures") arguments->max_failures = static_cast<int64_t>(value);
    else return false;
  }
  return true;
}

void TellApart(const Plan& plan) {
  const pid_t child = fork();
  if (child == 0) {
    EchoStories();
    std::string story;
    Coverage coverage;
    RunHere(plan, &coverage, nullptr, &story);
    _exit(0);
  }
  waitpid(child, nullptr, 0);
}

void Explain(const Failure& failure) {
  const Minimised small = Minimise(MakePlan(failure.seed), failure.violation, RunApart);
  std::cout << "\nmade short in " << small.num_runs << " runs: " << small.violation << "\n"
            << Describe(small.plan) << std::flush;
  // Told as it happens: a CHECK ends the process.
  TellApart(small.plan);
}

int RunOne(uint64_t seed) {
  const Plan plan = MakePlan(seed);
  std::cout << Describe(plan) << std::flush;
  EchoStories();
  std::string story;
  Coverage coverage;
  const std::string violation = RunHere(plan, &coverage, nullptr, &story);
  std::cout << "1 schedules, " << (violation.empty() ? 0 : 1) << " violations"
            << (violation.empty() ? "" : ": " + violation) << "\n";
  return violation.empty() ? 0 : 1;
}

int RunMany(const Arguments& arguments) {
  using Clock = std::chrono::steady_clock;
  const auto begun = Clock::now();
  Campaign campaign;
  campaign.first_seed = arguments.first;
  if (campaign.first_seed == 0) {
    campaign.first_seed =
        static_cast<uint64_t>(std::chrono::system_clock::now().time_since_epoch().count() / 1000);
  }
  campaign.num_seeds = arguments.seeds;
  campaign.num_processes = arguments.processes;
  campaign.max_failures = arguments.max_failures;
  std::cout << "first seed " << campaign.first_seed << "\n" << std::flush;
  campaign.on_progress = [&](int64_t num_done, int64_t num_failures) {
    static int64_t calls = 0;
    if (++calls % 10 != 0) return;
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    std::cerr << num_done << " of " << arguments.seeds << " schedules, " << num_failures
              << " violations, " << static_cast<int64_t>(num_done / seconds) << " per second\n";
  };
  campaign.on_failure = [](const Failure& failure) {
    std::cerr << "seed " << failure.seed << ": " << failure.violation << "\n";
  };
  const CampaignResult result = RunCampaign(campaign);
  if (arguments.table) std::cout << result.coverage.Table(result.num_schedules);
  for (const Failure& failure : result.failures) {
    std::cout << "seed " << failure.seed << ": " << failure.violation
              << "\n  again, with its transcript: core_sim --seed " << failure.seed << "\n";
  }
  if (arguments.minimise && !result.failures.empty()) Explain(result.failures.front());
  const std::vector<std::string> missed = result.coverage.Missed(result.num_schedules);
  if (result.failures.empty()) {
    for (const std::string& row : missed) std::cout << "never met: " << row << "\n";
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
  std::cout << result.num_steps << " steps in " << seconds << " s\n"
            << result.num_schedules << " schedules, " << result.failures.size() << " violations\n";
  return result.failures.empty() && missed.empty() ? 0 : 1;
}

}  // namespace
}  // namespace mirrorsd::sim

int main(int argc, char** argv) {
  mirrorsd::sim::Arguments arguments;
  if (!mirrorsd::sim::Parse(argc, argv, &arguments)) {
    std::cerr << "usage: core_sim [--seeds N] [--first S] [--processes P] [--seed S] [--scale S] "
                 "[--max-failures N] [--no-minimise] [--no-table] [--no-invariants]\n";
    return 2;
  }
  if (arguments.scale != 0) return mirrorsd::sim::RunScale(arguments.scale);
  return arguments.only != 0 ? mirrorsd::sim::RunOne(arguments.only)
                             : mirrorsd::sim::RunMany(arguments);
}
