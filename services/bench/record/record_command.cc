#include "services/bench/record/record_command.h"

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "services/bench/progress.h"
#include "services/bench/record/recording.h"
#include "services/bench/result_line.h"
#include "services/bench/rounds/measured_cell.h"
#include "services/bench/rounds/plan.h"
#include "services/bench/rounds/rounds_options.h"
#include "services/bench/rounds/run.h"
#include "services/cell/cell.h"
#include "services/cell/models/load_format.h"
#include "services/cell/signals.h"

namespace mirrorsd::bench {
namespace {

constexpr char kProgram[] = "mirrorsd bench record";
constexpr size_t kTogether = 8;  // requests asked at once

// Asks for prompts [begin, end) at one temperature and adds what was said.
absl::Status RecordSome(const RoundsSettings& settings, const std::vector<Prompt>& prompts, double temperature,
                        size_t begin, size_t end, MeasuredCell* cell,
                        std::vector<scripts::ScriptRecord>* records) {
  const Workload workload{.temperature = temperature};
  std::vector<v1::GenerateRequest> requests;
  for (size_t i = begin; i < end; ++i) {
    requests.push_back(RequestOf(settings, prompts[i], workload,
                                 {.prompt_index = static_cast<int>(i)}, {.mode = Modes().front().name}));
  }
  auto answers = cell->Ask(requests);
  if (!answers.ok()) return answers.status();
  for (size_t i = begin; i < end; ++i) {
    Answer& answer = (*answers)[i - begin];
    auto prompt_ids = EncodePrompt(cell->cell()->gateway().model(), prompts[i]);
    if (!prompt_ids.ok()) return prompt_ids.status();
    if (answer.token_ids.empty()) continue;
    records->push_back({.kind = KindOf(prompts[i].category),
                        .prompt_ids = *std::move(prompt_ids),
                        .sampling = SamplingOf(answer.final.parameters()),
                        .token_ids = std::move(answer.token_ids)});
  }
  return absl::OkStatus();
}

absl::Status Record(const config::Options& options, const RoundsSettings& settings,
                    const std::vector<Prompt>& prompts) {
  auto cell = StartMeasuredCell(options);
  if (!cell.ok()) return cell.status();
  const cell::SignalWatch watch([&](int) { (*cell)->Stop(); });
  std::vector<scripts::ScriptRecord> records;
  Progress progress("requests", static_cast<int64_t>(prompts.size() * settings.temperatures.size()));
  for (const double temperature : settings.temperatures) {
    for (size_t begin = 0; begin < prompts.size(); begin += kTogether) {
      absl::Status status = RecordSome(settings, prompts, temperature, begin,
                                       std::min(begin + kTogether, prompts.size()), cell->get(), &records);
      if (!status.ok()) return status;
      progress.Show(static_cast<int64_t>(records.size()), prompts[begin].category);
    }
  }
  progress.Finish();
  size_t num_tokens = 0;
  for (const scripts::ScriptRecord& record : records) num_tokens += record.token_ids.size();
  const engine::EngineInfo& info = (*cell)->cell()->verifier().engine_info();
  absl::Status written = WriteTextFile(options.Text("record"),
                                       ScriptText(info.model_name, info.vocabulary_size, records));
  if (!written.ok()) return written;
  std::printf("%zu streams of %zu tokens in %s\n", records.size(), num_tokens,
              options.Text("record").c_str());
  return absl::OkStatus();
}

}  // namespace

cell::ExitCode RunBenchRecord(const config::Options& options) {
  if (!cell::HasModel(options)) {
    return cell::ReportFailure(kProgram, cell::UsageError("--model", "is needed, or --load-format"));
  }
  if (!options.Has("record")) {
    return cell::ReportFailure(kProgram, cell::UsageError("--record", "is needed"));
  }
  RoundsSettings settings;
  const absl::Status read = ReadRequestSettings(options, /*least_tokens=*/1, &settings);
  if (!read.ok()) return cell::ReportFailure(kProgram, read);
  const auto prompts = ReadChosenPrompts(options, settings);
  if (!prompts.ok()) return cell::ReportFailure(kProgram, prompts.status());
  const absl::Status status = Record(options, settings, *prompts);
  return status.ok() ? cell::kExitDone : cell::ReportFailure(kProgram, status);
}

}  // namespace mirrorsd::bench
