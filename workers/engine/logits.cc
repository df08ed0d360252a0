#include "workers/engine/logits.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/kv_cache/sequence_cache.h"
#include "workers/engine/model/loader/safetensors_writer.h"

namespace mirrorsd::engine {
namespace {

constexpr int64_t kMaxLogitsBytes = int64_t{8} << 30;

absl::Status CheckPrompt(const EngineInfo& info, absl::Span<const TokenId> prompt_ids,
                         int32_t early_exit_layer) {
  const int64_t length = static_cast<int64_t>(prompt_ids.size());
  if (length == 0 || length > info.context_length) {
    return InvalidField("prompt_ids", absl::StrCat("has ", length, " tokens"),
                        absl::StrCat("1 to ", info.context_length, " tokens"));
  }
  const int64_t bytes = 2 * length * info.vocabulary_size * static_cast<int64_t>(sizeof(float));
  if (bytes > kMaxLogitsBytes) {
    return InvalidField("prompt_ids", absl::StrCat("has ", length, " tokens: ", bytes, " bytes of logits"),
                        absl::StrCat(kMaxLogitsBytes, " bytes"));
  }
  for (TokenId token : prompt_ids) {
    if (token < 0 || token >= info.vocabulary_size) {
      return InvalidField("prompt_ids", absl::StrCat("holds ", token),
                          absl::StrCat("0 to ", info.vocabulary_size - 1));
    }
  }
  if (early_exit_layer < 1 || early_exit_layer > info.num_layers) {
    return InvalidField("early_exit_layer", absl::StrCat("is ", early_exit_layer),
                        absl::StrCat("1 to ", info.num_layers));
  }
  return absl::OkStatus();
}

absl::StatusOr<Logits> AppendHead(Engine* engine, std::vector<float>* out) {
  absl::StatusOr<Logits> logits = engine->Head();
  if (!logits.ok()) return logits;
  out->insert(out->end(), logits->data,
              logits->data + int64_t{logits->num_rows} * logits->vocabulary_size);
  return logits;
}

StoredTensor AsTensor(const std::string& name, const PromptLogits& logits,
                      const std::vector<float>& values) {
  StoredTensor tensor;
  tensor.name = name;
  tensor.type = StoredType::kF32;
  tensor.shape = {logits.num_tokens, logits.vocabulary_size};
  tensor.bytes = {reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)};
  return tensor;
}

}  // namespace

absl::StatusOr<PromptLogits> ComputePromptLogits(Engine* engine,
                                                 absl::Span<const TokenId> prompt_ids,
                                                 int32_t early_exit_layer) {
  const EngineInfo& info = engine->info();
  absl::Status checked = CheckPrompt(info, prompt_ids, early_exit_layer);
  if (!checked.ok()) return checked;
  SequenceCache cache(&engine->blocks());
  const int32_t length = static_cast<int32_t>(prompt_ids.size());
  if (!cache.Reserve(length)) {
    return InvalidField("prompt_ids", absl::StrCat("has ", length, " tokens"),
                        absl::StrCat(info.num_kv_blocks * info.block_tokens, " tokens of KV"));
  }
  PromptLogits result;
  result.num_tokens = length;
  result.vocabulary_size = info.vocabulary_size;
  const int32_t chunk = std::min(info.max_rows, info.max_logits_rows);
  for (int32_t begin = 0; begin < length; begin += chunk) {
    SequenceRows rows;
    rows.token_ids = prompt_ids.subspan(begin, chunk);
    rows.begin = begin;
    rows.block_table = cache.block_table();
    absl::Status begun = engine->BeginPass({rows});
    if (!begun.ok()) return begun;
    engine->RunLayers(0, early_exit_layer);
    absl::StatusOr<Logits> exit = AppendHead(engine, &result.exit_logits);
    if (!exit.ok()) return exit.status();
    engine->RunLayers(early_exit_layer, info.num_layers);
    absl::StatusOr<Logits> last = AppendHead(engine, &result.logits);
    if (!last.ok()) return last.status();
  }
  return result;
}

absl::Status WritePromptLogits(const EngineOptions& options, absl::Span<const TokenId> prompt_ids,
                               int32_t early_exit_layer, absl::string_view out_path) {
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  if (!engine.ok()) return engine.status();
  absl::StatusOr<PromptLogits> logits =
      ComputePromptLogits(engine->get(), prompt_ids, early_exit_layer);
  if (!logits.ok()) return logits.status();
  return WriteSafetensors(out_path, {AsTensor("logits", *logits, logits->logits),
                                     AsTensor("exit_logits", *logits, logits->exit_logits)});
}

}  // namespace mirrorsd::engine
