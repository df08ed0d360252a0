#include "services/bench/tune/tune_command.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/bench/agreement/measured_models.h"
#include "services/bench/options/list_options.h"
#include "services/bench/progress.h"
#include "services/bench/result_line.h"
#include "services/bench/tune/tune_report.h"
#include "services/cell/models/load_format.h"
#include "services/cell/signals.h"
#include "workers/engine/tensor/clock.h"
#include "workers/measure/pass_times.h"
#include "workers/session/worker_hello.h"

namespace mirrorsd::bench {
namespace {

constexpr char kProgram[] = "mirrorsd tune";
constexpr int32_t kMaxBatch = 256;
constexpr int32_t kContext = 64;  // tokens before the rows whose times are measured

// Agreement and recall at one exit layer.
absl::StatusOr<ExitLayer> MeasureExit(const config::Options& options, const MeasuredModels& models,
                                      const std::vector<measure::MeasuredPrompt>& prompts, int32_t layer,
                                      double temperature) {
  measure::AgreementOptions agreement;
  agreement.temperature = static_cast<float>(temperature);
  agreement.max_tokens = static_cast<int32_t>(options.OptionalInteger("max-tokens").value_or(64));
  agreement.batch = kMeasuredBatch;
  agreement.end_token_ids = models.text.generation.end_token_ids;
  if (options.Has("seed") && !absl::SimpleAtoi(options.Text("seed"), &agreement.seed)) {
    return cell::UsageError(options.Place("seed"), "is not a whole number (limit: 0 to 2^64-1)");
  }
  const auto report = measure::MeasureAgreement(
      {models.target.engine.get(), models.draft.engine.get(), 0, layer}, prompts, agreement);
  if (!report.ok()) return report.status();
  ExitLayer exit{.layer = layer, .agreement = report->all.agreement.value()};
  for (size_t k = 0; k < measure::kRecallTopKs.size(); ++k) {
    exit.recall[k] = report->all.exit_recall[k].value();
    exit.recall_given_reject[k] = report->all.exit_recall_given_reject[k].value();
  }
  return exit;
}

// What the passes of both models take; fills the setting, and the exits of every run.
absl::Status MeasureTimes(const MeasuredModels& models, TuneSetting* setting, std::vector<TuneRun>* runs) {
  engine::Engine* target = models.target.engine.get();
  engine::Clock& clock = engine::MonotonicClock();
  const auto window = measure::MeasurePassTimes(
      target, &clock, {.sequences = setting->batch, .rows = setting->window + 1, .context = kContext});
  if (!window.ok()) return window.status();
  const auto plain =
      measure::MeasurePassTimes(target, &clock, {.sequences = setting->batch, .context = kContext});
  if (!plain.ok()) return plain.status();
  setting->plain_pass = absl::Nanoseconds(plain->PrefixNs(0) + plain->SuffixNs(0));
  setting->draft_step = workers::MeasureStepTimes(models.draft.engine.get(), clock);
  if (setting->draft_step.base_ns == 0) return absl::InternalError("a step of the draft could not be measured");
  for (TuneRun& run : *runs) {
    for (ExitLayer& exit : run.exits) {
      exit.prefix = absl::Nanoseconds(window->PrefixNs(exit.layer));
      exit.exit_head = absl::Nanoseconds(window->exit_head_ns);
      exit.suffix = absl::Nanoseconds(window->SuffixNs(exit.layer));
    }
  }
  return absl::OkStatus();
}

absl::Status Run(const config::Options& options) {
  if (!cell::HasModel(options) || !cell::HasDraft(options)) {
    return cell::UsageError("--model", "and --draft-model are needed, or --load-format");
  }
  const auto temperatures = TemperatureList(options);
  if (!temperatures.ok()) return temperatures.status();
  const int32_t max_tokens = static_cast<int32_t>(options.OptionalInteger("max-tokens").value_or(64));
  if (max_tokens < 1) return cell::UsageError(options.Place("max-tokens"), "is below 1");
  const auto batches = IntegerList(options, "batches", 1, kMaxBatch);
  if (!batches.ok()) return batches.status();
  TuneSetting setting;
  setting.window = static_cast<int32_t>(options.OptionalInteger("num-speculative-tokens").value_or(4));
  if (options.Takes("branch-budget")) {
    setting.branch_budget = static_cast<int32_t>(options.Integer("branch-budget"));
  }
  if (setting.window < 1) return cell::UsageError(options.Place("num-speculative-tokens"), "is below 1");
  const int32_t most = *std::max_element(batches->begin(), batches->end());
  auto models = LoadMeasured(options, max_tokens, most * (setting.window + 1));
  if (!models.ok()) return models.status();
  const int32_t num_layers = models->target.engine->info().num_layers;
  if (num_layers < 2) return cell::UsageError("--model", "has one layer: no place for an exit");
  const auto prompts = MeasuredPrompts(options, *models);
  if (!prompts.ok()) return prompts.status();
  std::vector<TuneRun> runs;
  Progress progress("exit layers", static_cast<int64_t>(temperatures->size()) * (num_layers - 1));
  for (const double temperature : *temperatures) {
    TuneRun& run = runs.emplace_back();
    run.temperature = temperature;
    for (int32_t layer = 1; layer < num_layers; ++layer) {
      auto exit = MeasureExit(options, *models, *prompts, layer, temperature);
      if (!exit.ok()) return exit.status();
      run.exits.push_back(*exit);
      progress.Show(static_cast<int64_t>(runs.size() - 1) * (num_layers - 1) + layer, "layers");
    }
  }
  progress.Finish();
  const std::string label = options.Has("label")
                                ? options.Text("label")
                                : absl::StrCat(models->target.engine->info().model_name, " and ",
                                               models->draft.engine->info().model_name,
                                               models->twin.has_value() ? " (synthetic)" : "");
  nlohmann::ordered_json line = ResultHead(CommandLine(), label);
  for (const int batch : *batches) {
    setting.batch = batch;
    if (absl::Status timed = MeasureTimes(*models, &setting, &runs); !timed.ok()) return timed;
    std::fputs(TuneTables(label, setting, runs).c_str(), stdout);
    if (std::fflush(stdout) != 0) return absl::InternalError("cannot write to standard output");
    line["figures"].push_back(TuneFiguresJson(setting, runs));
  }
  return options.Has("json") ? AppendLine(options.Text("json"), line) : absl::OkStatus();
}

}  // namespace

cell::ExitCode RunTune(const config::Options& options) {
  const cell::ExitOnSignal measuring;
  const absl::Status status = Run(options);
  return status.ok() ? cell::kExitDone : cell::ReportFailure(kProgram, status);
}

}  // namespace mirrorsd::bench
