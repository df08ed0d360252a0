#pragma once
// What `bench rounds` measures and in which order: contestants (a mode, its window and K) side by side on workloads
// (some prompts asked at once). Within each repeat every workload meets all contestants in a row, in random seeded
// order, so that what disturbs the machine for a while disturbs all of them. Pure functions.

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "services/bench/prompt_file.h"

namespace mirrorsd::bench {

// A way to run rounds, by its name on the command line; whether it takes a window, and candidates of an early exit.
struct Mode {
  std::string name;
  bool has_window = false;
  bool has_branches = false;
};
// What may be asked for (common/speculation_policy.h); the first is plain decoding, against which the others are
// measured.
const std::vector<Mode>& Modes();

struct Contestant {
  std::string mode;
  int window = 0;        // 0 where the mode has none
  int branch_top_k = 0;  // likewise

  bool IsPlain() const { return mode == Modes().front().name; }
  std::string Name() const;  // "off", "serial 4", "mirror 4 k8"
  bool operator==(const Contestant&) const = default;
};

struct RoundsSettings {
  std::vector<Contestant> contestants;  // plain decoding first
  std::vector<int> batches = {1};       // prompts asked at once
  std::vector<double> temperatures = {0};
  std::vector<std::string> categories;  // empty: all
  int prompts_per_category = 0;         // 0: all
  int repeats = 7;
  int warm_ups = 1;  // passes of plain decoding, with one workload of the others, before anything is counted
  int max_tokens = 128;
  bool ignore_eos = false;
  uint64_t seed = 1;  // of the order and of the requests' noise
  std::string branch_setting;          // of the cell, for people: "budget 64, after a miss empty, exit after layer 3"
};

// "off,serial", "2,4,8" and "1,4" into contestants; plain decoding is always among them.
// Errors:  INVALID_ARGUMENT for a mode that is not in the table
absl::StatusOr<std::vector<Contestant>> MakeContestants(const std::vector<std::string>& modes,
                                                        const std::vector<int>& windows,
                                                        const std::vector<int>& branch_top_ks = {4});

// One of the prompts of a workload; the sample tells apart the same prompt asked twice at once.
struct WorkloadPrompt {
  int prompt_index = 0;
  int sample = 0;
};

// Prompts of one category asked at once; always as many as the batch says, some twice where they are few.
struct Workload {
  int batch = 1;
  double temperature = 0;
  std::string category;
  std::vector<WorkloadPrompt> prompts;
};

std::vector<Workload> MakeWorkloads(const RoundsSettings& settings,
                                    const std::vector<Prompt>& prompts);

struct Step {
  int repeat = 0;  // -1: a warm-up, which is not counted, but whose tokens are the others' measure
  int workload_index = 0;
  int contestant_index = 0;
};

std::vector<Step> MakeSteps(const RoundsSettings& settings, const std::vector<Workload>& workloads);

// The categories and the number of prompts that the settings leave.
std::vector<Prompt> ChoosePrompts(const RoundsSettings& settings, std::vector<Prompt> prompts);

}  // namespace mirrorsd::bench
