#pragma once
// What `bench rounds` and `bench record` read alike of their options. Reads the prompt file, nothing else.

#include <vector>

#include "absl/status/statusor.h"
#include "services/bench/prompt_file.h"
#include "services/bench/rounds/plan.h"
#include "services/config/options.h"

namespace mirrorsd::bench {

// Temperatures, categories, prompts a category, end tokens, seed, and --max-tokens of at least `least_tokens`.
// Errors:  usage errors that name the option and its limit
absl::Status ReadRequestSettings(const config::Options& options, int least_tokens, RoundsSettings* settings);

// The prompts of --prompts, or of the model's own held_out_prompts.jsonl, that `settings` choose; not empty.
// Errors:  those of ReadPromptFile; a usage error where there is no file to read, or no prompt is of the categories
absl::StatusOr<std::vector<Prompt>> ReadChosenPrompts(const config::Options& options,
                                                      const RoundsSettings& settings);

}  // namespace mirrorsd::bench
