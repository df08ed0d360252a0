#include "services/bench/agreement/agreement_command.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "services/bench/agreement/agreement_report.h"
#include "services/bench/agreement/measured_models.h"
#include "services/bench/options/list_options.h"
#include "services/bench/progress.h"
#include "services/bench/result_line.h"
#include "services/cell/models/load_format.h"
#include "services/cell/signals.h"
#include "workers/measure/agreement.h"

namespace mirrorsd::bench {
namespace {

constexpr char kProgram[] = "mirrorsd bench agreement";
constexpr int64_t kMaxTokens = 100'000;

absl::StatusOr<AgreementRun> Measure(const config::Options& options, const MeasuredModels& models,
                                     const std::vector<measure::MeasuredPrompt>& prompts,
                                     const AgreementSetting& setting, double temperature) {
  measure::AgreementOptions agreement;
  agreement.temperature = static_cast<float>(temperature);
  agreement.max_tokens = static_cast<int32_t>(options.OptionalInteger("max-tokens").value_or(64));
  agreement.window = setting.window;
  agreement.batch = kMeasuredBatch;
  agreement.end_token_ids = models.text.generation.end_token_ids;
  if (options.Has("seed") && !absl::SimpleAtoi(options.Text("seed"), &agreement.seed)) {
    return cell::UsageError(options.Place("seed"), "is not a whole number (limit: 0 to 2^64-1)");
  }
  Progress progress(absl::StrCat("temperature ", temperature),
                    static_cast<int64_t>(prompts.size()) * agreement.max_tokens);
  agreement.on_progress = [&](int64_t done, int64_t) { progress.Show(done, "tokens"); };
  auto report = measure::MeasureAgreement(
      {models.target.engine.get(), models.draft.engine.get(), 0, setting.exit_layer}, prompts, agreement);
  progress.Finish();
  if (!report.ok()) return report.status();
  return AgreementRun{temperature, *std::move(report)};
}

absl::Status Tell(const config::Options& options, const AgreementSetting& setting,
                  const std::vector<AgreementRun>& runs) {
  std::fputs(AgreementTables(setting, runs).c_str(), stdout);
  if (std::fflush(stdout) != 0) return absl::InternalError("cannot write to standard output");
  if (options.Has("json")) {
    nlohmann::ordered_json line = ResultHead(CommandLine(), setting.label);
    line["figures"] = AgreementFiguresJson(setting, runs);
    if (absl::Status status = AppendLine(options.Text("json"), line); !status.ok()) return status;
  }
  if (!options.Has("svg")) return absl::OkStatus();
  std::error_code error;
  std::filesystem::create_directories(options.Text("svg"), error);
  for (const auto& [file, svg] : AgreementPlots(setting, runs)) {
    absl::Status status = WriteTextFile(options.Text("svg") + "/" + file, svg);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Run(const config::Options& options) {
  if (!cell::HasModel(options) || !cell::HasDraft(options)) {
    return cell::UsageError("--model", "and --draft-model are needed, or --load-format");
  }
  const auto temperatures = TemperatureList(options);
  if (!temperatures.ok()) return temperatures.status();
  const int64_t max_tokens = options.OptionalInteger("max-tokens").value_or(64);
  if (max_tokens < 1 || max_tokens > kMaxTokens) {
    return cell::UsageError(options.Place("max-tokens"), absl::StrCat("is not 1 to ", kMaxTokens));
  }
  auto models = LoadMeasured(options, static_cast<int32_t>(max_tokens));
  if (!models.ok()) return models.status();
  const auto prompts = MeasuredPrompts(options, *models);
  if (!prompts.ok()) return prompts.status();
  AgreementSetting setting;
  setting.synthetic = models->twin.has_value();
  setting.num_layers = models->target.engine->info().num_layers;
  const int32_t named = models->target.engine->info().early_exit_layer;
  setting.exit_layer = named > 0 ? named : engine::DefaultExitLayer(setting.num_layers);
  if (options.Has("early-exit-layer")) {
    setting.exit_layer = static_cast<int32_t>(options.Integer("early-exit-layer"));
  }
  setting.window = static_cast<int32_t>(options.OptionalInteger("num-speculative-tokens").value_or(4));
  setting.label = options.Has("label") ? options.Text("label")
                                       : absl::StrCat(models->target.engine->info().model_name, " and ",
                                                      models->draft.engine->info().model_name);
  std::vector<AgreementRun> runs;
  for (const double temperature : *temperatures) {
    auto run = Measure(options, *models, *prompts, setting, temperature);
    if (!run.ok()) return run.status();
    runs.push_back(*std::move(run));
  }
  return Tell(options, setting, runs);
}

}  // namespace

cell::ExitCode RunBenchAgreement(const config::Options& options) {
  const cell::ExitOnSignal measuring;
  const absl::Status status = Run(options);
  return status.ok() ? cell::kExitDone : cell::ReportFailure(kProgram, status);
}

}  // namespace mirrorsd::bench
