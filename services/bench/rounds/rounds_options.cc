#include "services/bench/rounds/rounds_options.h"

#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/bench/options/list_options.h"
#include "services/cell/exit_code.h"

namespace mirrorsd::bench {
namespace {

constexpr int64_t kMostTokens = 1'000'000;

}  // namespace

absl::Status ReadRequestSettings(const config::Options& options, int least_tokens,
                                 RoundsSettings* settings) {
  auto temperatures = TemperatureList(options);
  if (!temperatures.ok()) return temperatures.status();
  settings->temperatures = *std::move(temperatures);
  settings->categories = WordList(options, "categories");
  settings->prompts_per_category = static_cast<int>(options.Integer("prompts-per-category"));
  settings->ignore_eos = options.Flag("ignore-eos");
  if (options.Has("max-tokens")) {
    const int64_t tokens = options.Integer("max-tokens");
    if (tokens < least_tokens || tokens > kMostTokens) {
      return cell::UsageError(options.Place("max-tokens"), absl::StrCat("is out of range (limit: ", least_tokens,
                                                                        " to ", kMostTokens, ")"));
    }
    settings->max_tokens = static_cast<int>(tokens);
  }
  if (options.Has("seed") && !absl::SimpleAtoi(options.Text("seed"), &settings->seed)) {
    return cell::UsageError(options.Place("seed"), "is not a whole number (limit: 0 to 2^64-1)");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Prompt>> ReadChosenPrompts(const config::Options& options,
                                                      const RoundsSettings& settings) {
  std::string path = options.Text("prompts");
  if (path.empty() && !options.Has("model")) {
    return cell::UsageError("--prompts", "is needed: a twin has no prompts of its own");
  }
  if (path.empty()) path = options.Text("model") + "/held_out_prompts.jsonl";
  auto prompts = ReadPromptFile(path);
  if (!prompts.ok()) return prompts.status();
  std::vector<Prompt> chosen = ChoosePrompts(settings, *std::move(prompts));
  if (chosen.empty()) {
    return cell::UsageError(options.Place("categories"), absl::StrCat("no prompt of ", path, " is of these"));
  }
  return chosen;
}

}  // namespace mirrorsd::bench
