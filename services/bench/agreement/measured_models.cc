#include "services/bench/agreement/measured_models.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "services/bench/prompt_file.h"
#include "services/cell/exit_code.h"
#include "services/cell/models/load_format.h"
#include "services/cell/role_options.h"
#include "workers/measure/twin_calibration.h"

namespace mirrorsd::bench {

absl::StatusOr<MeasuredModels> LoadMeasured(const config::Options& options, int32_t max_tokens,
                                            int32_t max_logits_rows) {
  MeasuredModels models;
  models.twin = cell::TwinOf(options);
  auto load = [&](bool of_draft) {
    engine::EngineOptions engine = cell::EngineOptions(options, of_draft);
    engine.num_threads = static_cast<int32_t>(options.Integer("threads"));
    engine.max_logits_rows = std::max(max_logits_rows, kMeasuredBatch);
    engine.max_rows = std::max(engine.max_rows, engine.max_logits_rows);
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

absl::StatusOr<std::vector<measure::MeasuredPrompt>> MeasuredPrompts(const config::Options& options,
                                                                     const MeasuredModels& models) {
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

}  // namespace mirrorsd::bench
