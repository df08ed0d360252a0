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
#include "services/bench/options/list_options.h"
#include "services/bench/progress.h"
#include "services/bench/prompt_file.h"
#include "services/bench/result_line.h"
#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "services/gateway/model_text.h"
#include "services/worker/model_worker.h"
#include "workers/measure/agreement.h"
#include "workers/measure/twin_calibration.h"

namespace mirrorsd::bench {
namespace {

constexpr char kProgram[] = "mirrorsd bench agreement";
constexpr int32_t kBatch = 16;
constexpr int64_t kMaxTokens = 100'000;

struct Models {
  worker::LoadedModel target;
  worker::LoadedModel draft;
  gateway::ModelText text;
  std::optional<engine::TwinSpec> twin;
};

absl::StatusOr<Models> Load(const config::Options& options, int32_t max_tokens) {
  Models models;
  models.twin = cell::TwinOf(options);
  auto load = [&](bool of_draft) {
    engine::EngineOptions engine = cell::EngineOptions(options, of_draft);
    engine.num_threads = static_cast<int32_t>(options.Integer("threads"));
    engine.max_logits_rows = kBatch;
    return worker::LoadModel(std::move(engine));
  };
  auto target = load(false);
  if (!target.ok()) return target.status();
  models.target = *std::move(target);
  auto draft = load(true);
  if (!draft.ok()) return draft.status();
  models.draft = *std::move(draft);
  if (models.target.vocabulary_fingerprint != models.draft.vocabulary_fingerprint) {
    return cell::UsageError("--draft-model", "has another vocabulary than the target");
  }
  if (max_tokens >= models.target.engine->info().context_length) {
    return cell::UsageError("--max-tokens",
                            absl::StrCat("does not fit the context of ",
                                         models.target.engine->info().context_length, " tokens"));
  }
  auto text = gateway::LoadModelText(worker::TextOf(cell::EngineOptions(options, /*of_draft=*/false)), "");
  if (!text.ok()) return text.status();
  models.text = *std::move(text);
  return models;
}

// Those of the file; of a twin without a file random tokens.
absl::StatusOr<std::vector<measure::MeasuredPrompt>> Prompts(const config::Options& options,
                                                             const Models& models) {
  std::string path = options.Text("prompts");
  if (path.empty() && models.twin.has_value()) {
    measure::CalibrationOptions like;
    return measure::RandomPrompts(models.twin->seed, like.num_prompts, like.prompt_tokens,
                                  models.target.engine->info().vocabulary_size, measure::kBenchSet);
  }
  if (path.empty()) path = options.Text("model") + "/held_out_prompts.jsonl";
  auto read = ReadPromptFile(path);
  if (!read.ok()) return read.status();
  std::vector<measure::MeasuredPrompt> prompts;
  for (const Prompt& prompt : *read) {
    const auto ids = prompt.IsChat()
                         ? gateway::EncodeChat(models.text, {{.role = "user", .content = prompt.text}}, "",
                                               /*add_generation_prompt=*/true)
                         : models.text.tokenizer->Encode(prompt.text, /*add_special_tokens=*/true, "turns[0]");
    if (!ids.ok()) return ids.status();
    prompts.push_back({prompt.category, *ids});
  }
  return prompts;
}

absl::StatusOr<AgreementRun> Measure(const config::Options& options, const Models& models,
                                     const std::vector<measure::MeasuredPrompt>& prompts,
                                     const AgreementSetting& setting, double temperature) {
  measure::AgreementOptions agreement;
  agreement.temperature = static_cast<float>(temperature);
  agreement.max_tokens = static_cast<int32_t>(options.OptionalInteger("max-tokens").value_or(64));
  agreement.window = setting.window;
  agreement.batch = kBatch;
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
  auto models = Load(options, static_cast<int32_t>(max_tokens));
  if (!models.ok()) return models.status();
  const auto prompts = Prompts(options, *models);
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
