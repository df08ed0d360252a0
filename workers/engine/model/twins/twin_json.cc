#include "workers/engine/model/twins/twin_json.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "nlohmann/json.hpp"
#include "workers/engine/model/loader/config_fields.h"
#include "workers/engine/model/loader/strict_json.h"

namespace mirrorsd::engine {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kMark[] = "mirrorsd_twin";
constexpr int32_t kRevision = 1;
constexpr int32_t kMaxCount = 2'000'000'000;

TwinMeasured ReadMeasured(ConfigFields* fields) {
  TwinMeasured measured;
  measured.agreement = fields->Number("agreement", 0, 1);
  measured.recall_top_k = fields->Int("recall_top_k", 1, kMaxRecallTopK);
  measured.exit_recall = fields->Number("exit_recall", 0, 1);
  measured.exit_recall_given_reject = fields->NumberOr("exit_recall_given_reject", 0, 0, 1);
  measured.num_tokens = fields->Int("tokens", 0, kMaxCount);
  measured.num_rejects = fields->IntOr("rejects", 0, 0, kMaxCount);
  measured.num_prompts = fields->IntOr("prompts", 0, 0, kMaxCount);
  measured.num_distinct_tokens = fields->IntOr("distinct_tokens", 0, 0, kMaxCount);
  measured.share_of_distinct_runs = fields->NumberOr("distinct_runs_of_8", 0, 0, 1);
  return measured;
}

TwinWish ReadWish(ConfigFields* fields) {
  TwinWish wish;
  wish.agreement = fields->Number("agreement", 0, 1);
  if (fields->Has("exit_recall")) wish.exit_recall = fields->Number("exit_recall", 0, 1);
  wish.recall_top_k = fields->IntOr("recall_top_k", 1, 1, kMaxRecallTopK);
  return wish;
}

}  // namespace

bool LooksLikeTwinJson(absl::string_view text) {
  return absl::StrContains(text, absl::StrCat("\"", kMark, "\""));
}

absl::StatusOr<TwinRecord> ReadTwinJson(absl::string_view path, absl::string_view text) {
  absl::StatusOr<nlohmann::json> parsed = ParseStrictJson(path, text);
  if (!parsed.ok()) return parsed.status();
  if (!parsed->is_object()) return BadFile(path, "is not a JSON object");
  absl::Status status;
  ConfigFields fields(path, *parsed, &status);
  fields.Int(kMark, kRevision, kRevision);
  TwinRecord record;
  TwinSpec& spec = record.spec;
  spec.name = fields.StringOr("shape", "unnamed");
  spec.draft_layers = fields.Int("draft_layers", 0, 1024);
  spec.exit_layer = fields.Int("exit_layer", 1, 1024);
  spec.draft_damping = fields.Number("draft_damping", 0, kMaxDamping);
  spec.exit_damping = fields.Number("exit_damping", 0, kMaxDamping);
  spec.logit_scale = fields.NumberOr("logit_scale", 4.0, 0.01, 100);
  // As text: a JSON number holds 53 bits.
  const std::string seed = fields.StringOr("seed", "");
  if (status.ok() && !absl::SimpleAtoi(seed, &spec.seed)) {
    fields.Fail("seed", absl::StrCat("is \"", seed.substr(0, 60), "\""), "a string, 0 to 2^64-1");
  }
  const std::string dtype = fields.StringOr("dtype", "bf16");
  if (dtype != "bf16" && dtype != "f32") {
    fields.Fail("dtype", absl::StrCat("is \"", dtype.substr(0, 60), "\""), "bf16 or f32");
  }
  spec.type = dtype == "f32" ? StoredType::kF32 : StoredType::kBf16;
  if (std::optional<ConfigFields> asked = fields.Object("asked_for")) record.wish = ReadWish(&*asked);
  if (std::optional<ConfigFields> found = fields.Object("measured")) {
    record.measured = ReadMeasured(&*found);
  }
  if (!status.ok()) return status;
  const auto config = parsed->find("config");
  if (config == parsed->end() || !config->is_object()) {
    return BadFile(path, "lacks \"config\"", "the target's config.json as an object");
  }
  spec.config_json = config->dump();
  if (absl::Status checked = CheckTwin(spec); !checked.ok()) return checked;
  return record;
}

std::string TwinJson(const TwinRecord& record) {
  const TwinSpec& spec = record.spec;
  Json json = {
      {kMark, kRevision},
      {"synthetic", true},
      {"shape", spec.name},
      {"draft_layers", spec.draft_layers},
      {"exit_layer", spec.exit_layer},
      {"draft_damping", spec.draft_damping},
      {"exit_damping", spec.exit_damping},
      {"logit_scale", spec.logit_scale},
      {"seed", absl::StrCat(spec.seed)},
      {"dtype", spec.type == StoredType::kF32 ? "f32" : "bf16"},
  };
  if (record.wish.has_value()) {
    Json& asked = json["asked_for"] = {{"agreement", record.wish->agreement}};
    if (record.wish->exit_recall.has_value()) {
      asked["exit_recall"] = *record.wish->exit_recall;
      asked["recall_top_k"] = record.wish->recall_top_k;
    }
  }
  if (record.measured.has_value()) {
    const TwinMeasured& measured = *record.measured;
    json["measured"] = {{"agreement", measured.agreement},
                        {"exit_recall", measured.exit_recall},
                        {"recall_top_k", measured.recall_top_k},
                        {"exit_recall_given_reject", measured.exit_recall_given_reject},
                        {"tokens", measured.num_tokens},
                        {"rejects", measured.num_rejects},
                        {"prompts", measured.num_prompts},
                        {"distinct_tokens", measured.num_distinct_tokens},
                        {"distinct_runs_of_8", measured.share_of_distinct_runs}};
  }
  // By name, so that a record that was read is written as it was.
  json["config"] = nlohmann::json::parse(spec.config_json, nullptr, /*allow_exceptions=*/false);
  return json.dump(2) + "\n";
}

}  // namespace mirrorsd::engine
