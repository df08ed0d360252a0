#include "services/bench/engine/engine_command.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/bench/engine/engine_report.h"
#include "services/bench/options/list_options.h"
#include "services/bench/options/synthetic.h"
#include "services/bench/progress.h"
#include "services/bench/result_line.h"
#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"
#include "workers/engine/tensor/thread_pool.h"

namespace mirrorsd::bench {
namespace {

constexpr char kProgram[] = "mirrorsd bench engine";
constexpr int kMaxPassRows = 4096;
constexpr int kMaxBenchContext = 1 << 20;

absl::StatusOr<EngineBenchSettings> SettingsFrom(const config::Options& options) {
  EngineBenchSettings settings;
  const struct {
    const char* name;
    std::vector<int>* values;
    int low, high;
  } lists[] = {{"rows", &settings.rows, 1, kMaxPassRows},
               {"contexts", &settings.contexts, 0, kMaxBenchContext},
               {"prefill-rows", &settings.prefill_rows, 1, kMaxPassRows}};
  for (const auto& list : lists) {
    auto values = IntegerList(options, list.name, list.low, list.high);
    if (!values.ok()) return values.status();
    *list.values = *std::move(values);
  }
  settings.repeats = static_cast<int>(options.Integer("repeats"));
  settings.warm_ups = static_cast<int>(std::min<int64_t>(options.Integer("warm-ups"), 1000));
  return settings;
}

absl::StatusOr<std::unique_ptr<engine::Engine>> Load(const config::Options& options,
                                                     const EngineBenchSettings& settings) {
  engine::EngineOptions engine_options = cell::EngineOptions(options, /*of_draft=*/false);
  engine_options.max_rows = settings.MaxRows();
  engine_options.max_logits_rows = settings.MaxLogitsRows();
  engine_options.num_kv_blocks = NumKvBlocks(settings, engine_options.block_tokens);
  return engine::Engine::Create(engine_options);
}

absl::Status Tell(const config::Options& options, const std::string& model,
                  const EngineMeasurement& measurement) {
  const std::vector<StepFigure> figures = MakeStepFigures(measurement);
  std::fputs((EngineTable(measurement, figures) + SyntheticNote(options)).c_str(), stdout);
  if (std::fflush(stdout) != 0) return absl::InternalError("cannot write to standard output");
  const std::string label = RunLabel(options, absl::StrCat("steps of ", model));
  if (options.Has("json")) {
    nlohmann::ordered_json line = ResultHead(CommandLine(), label);
    line["synthetic"] = !SyntheticParts(options).empty();
    AddEngine(measurement, figures, &line);
    if (absl::Status status = AppendLine(options.Text("json"), line); !status.ok()) return status;
  }
  if (!options.Has("svg")) return absl::OkStatus();
  std::error_code error;
  std::filesystem::create_directories(options.Text("svg"), error);
  return WriteTextFile(options.Text("svg") + "/engine_rows.svg", RowsPlot(figures, label));
}

absl::Status Run(const config::Options& options) {
  const absl::StatusOr<EngineBenchSettings> settings = SettingsFrom(options);
  if (!settings.ok()) return settings.status();
  absl::StatusOr<std::unique_ptr<engine::Engine>> engine = Load(options, *settings);
  if (!engine.ok()) return engine.status();
  const int64_t longest = settings->MaxContext() + settings->MaxRows();
  if (longest > (*engine)->info().context_length) {
    return cell::UsageError(options.Place("contexts"),
                            absl::StrCat("with their rows reach position ", longest, "; the model has ",
                                         (*engine)->info().context_length));
  }
  int num_threads = static_cast<int>(options.Integer("threads"));
  if (num_threads == 0) num_threads = engine::NumUsableProcessors();
  engine::LimitsMeter meter(num_threads);
  const int64_t num_steps =
      static_cast<int64_t>(ListCases(*settings).size()) * (settings->repeats + settings->warm_ups);
  absl::StatusOr<EngineMeasurement> measurement;
  {
    Progress progress("steps", num_steps);
    measurement = RunEngineBench(*settings, engine->get(), &meter, num_threads,
                                 [&](int64_t done, int64_t, const std::string& now) {
                                   progress.Show(done, now);
                                 });
  }
  if (!measurement.ok()) return measurement.status();
  return Tell(options, (*engine)->info().model_name, *measurement);
}

}  // namespace

cell::ExitCode RunBenchEngine(const config::Options& options) {
  if (!cell::HasModel(options)) {
    return cell::ReportFailure(kProgram, cell::UsageError("--model", "is needed, or --load-format"));
  }
  const cell::ExitOnSignal measuring;
  const absl::Status status = Run(options);
  return status.ok() ? cell::kExitDone : cell::ReportFailure(kProgram, status);
}

}  // namespace mirrorsd::bench
