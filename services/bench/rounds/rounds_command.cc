#include "services/bench/rounds/rounds_command.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "common/ids.h"
#include "common/speculation_policy.h"
#include "services/bench/options/list_options.h"
#include "services/bench/options/synthetic.h"
#include "services/bench/progress.h"
#include "services/bench/result_line.h"
#include "services/bench/rounds/plots.h"
#include "services/bench/rounds/report.h"
#include "services/bench/rounds/rounds_options.h"
#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"
#include "services/cell/signals.h"

namespace mirrorsd::bench {
namespace {

constexpr char kProgram[] = "mirrorsd bench rounds";
constexpr int kMaxWindow = 64;
constexpr int kMaxBatch = 1024;

// How the cell's drafts are branched; empty where no contestant has branches.
std::string BranchSetting(const config::Options& options, const RoundsSettings& settings) {
  const auto has_branches = [](const Contestant& contestant) { return contestant.branch_top_k > 0; };
  if (std::none_of(settings.contestants.begin(), settings.contestants.end(), has_branches)) return "";
  const scheduler::CoreConfig core = cell::SchedulerOptions(options, /*has_draft=*/true).core;
  return absl::StrCat("at most ", core.branch_budget, " branches a round, after a miss ",
                      MissFallbackName(core.miss_fallback));
}

absl::StatusOr<RoundsSettings> SettingsFrom(const config::Options& options) {
  RoundsSettings settings;
  auto windows = IntegerList(options, "windows", 1, kMaxWindow);
  if (!windows.ok()) return windows.status();
  auto branch_top_ks = IntegerList(options, "branch-top-ks", 1, kMaxBranchTopK);
  if (!branch_top_ks.ok()) return branch_top_ks.status();
  auto contestants = MakeContestants(WordList(options, "modes"), *windows, *branch_top_ks);
  if (!contestants.ok()) return cell::UsageError(options.Place("modes"), contestants.status().message());
  settings.contestants = *std::move(contestants);
  if (settings.contestants.size() > 1 && !cell::HasDraft(options)) {
    return cell::UsageError("--draft-model", "is needed to speculate");
  }
  auto batches = IntegerList(options, "batches", 1, kMaxBatch);
  if (!batches.ok()) return batches.status();
  settings.batches = *std::move(batches);
  settings.branch_setting = BranchSetting(options, settings);
  settings.repeats = static_cast<int>(options.Integer("repeats"));
  settings.warm_ups = static_cast<int>(options.Integer("warm-ups"));
  if (absl::Status status = ReadRequestSettings(options, /*least_tokens=*/2, &settings); !status.ok()) {
    return status;
  }
  return settings;
}

// The last line of a file of results.
absl::StatusOr<nlohmann::json> LastLine(const std::string& path) {
  std::ifstream file(path);
  if (!file) return MissingFile(path, "cannot be opened");
  std::string line, last;
  while (std::getline(file, line)) {
    if (!line.empty()) last = line;
  }
  nlohmann::json json = nlohmann::json::parse(last, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return BadFile(path, "its last line is not JSON");
  return json;
}

cell::ExitCode RunComparison(const std::vector<std::string>& paths) {
  if (paths.size() != 2) {
    return cell::ReportFailure(kProgram, cell::UsageError("--compare", "takes two files: --compare A --compare B"));
  }
  auto a = LastLine(paths[0]);
  if (!a.ok()) return cell::ReportFailure(kProgram, a.status());
  auto b = LastLine(paths[1]);
  if (!b.ok()) return cell::ReportFailure(kProgram, b.status());
  const auto comparison = CompareRounds(*a, *b, paths[0], paths[1]);
  if (!comparison.ok()) return cell::ReportFailure(kProgram, comparison.status());
  std::fputs(comparison->table.c_str(), stdout);
  return comparison->agree ? cell::kExitDone : cell::kExitInternal;
}

absl::StatusOr<RoundsMeasurement> Measure(const config::Options& options, const RoundsSettings& settings,
                                          const std::vector<Prompt>& prompts) {
  auto cell = StartMeasuredCell(options);
  if (!cell.ok()) return cell.status();
  std::atomic<bool> stop{false};
  const cell::SignalWatch watch([&](int) {
    stop.store(true);
    (*cell)->Stop();
  });
  std::optional<Progress> progress;
  auto measurement = RunRounds(settings, prompts, cell->get(), stop,
                               [&](int64_t done, int64_t total, const std::string& now) {
                                 if (!progress.has_value()) progress.emplace("rounds", total);
                                 progress->Show(done, now);
                               });
  return measurement;
}

absl::Status Tell(const config::Options& options, const RoundsSettings& settings,
                  const RoundsMeasurement& measurement) {
  const std::vector<Figure> figures = MakeFigures(settings, measurement);
  std::fputs((RoundsTable(settings, measurement, figures) + SyntheticNote(options)).c_str(), stdout);
  if (std::fflush(stdout) != 0) return absl::InternalError("cannot write to standard output");
  const std::string label =
      RunLabel(options, absl::StrCat(cell::EngineOptions(options, /*of_draft=*/false).model_dir, " and ",
                                     cell::EngineOptions(options, /*of_draft=*/true).model_dir));
  if (options.Has("json")) {
    nlohmann::ordered_json line = ResultHead(CommandLine(), label);
    line["synthetic"] = !SyntheticParts(options).empty();
    AddRounds(settings, measurement, figures, &line);
    if (absl::Status status = AppendLine(options.Text("json"), line); !status.ok()) return status;
  }
  if (!options.Has("svg") || measurement.IsVoid()) return absl::OkStatus();  // a void run has nothing to show
  std::error_code error;
  std::filesystem::create_directories(options.Text("svg"), error);
  for (const auto& [file, svg] : RoundsPlots(figures, label)) {
    absl::Status status = WriteTextFile(options.Text("svg") + "/" + file, svg);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

cell::ExitCode RunBenchRounds(const config::Options& options) {
  if (options.Has("compare")) return RunComparison(options.TextList("compare"));
  if (!cell::HasModel(options)) {
    return cell::ReportFailure(kProgram, cell::UsageError("--model", "is needed, or --load-format"));
  }
  const auto settings = SettingsFrom(options);
  if (!settings.ok()) return cell::ReportFailure(kProgram, settings.status());
  const auto prompts = ReadChosenPrompts(options, *settings);
  if (!prompts.ok()) return cell::ReportFailure(kProgram, prompts.status());
  const auto measurement = Measure(options, *settings, *prompts);
  if (!measurement.ok()) return cell::ReportFailure(kProgram, measurement.status());
  if (absl::Status status = Tell(options, *settings, *measurement); !status.ok()) {
    return cell::ReportFailure(kProgram, status);
  }
  if (measurement->interrupted) return cell::kExitInterrupted;
  return measurement->IsVoid() ? cell::kExitInternal : cell::kExitDone;
}

}  // namespace mirrorsd::bench
