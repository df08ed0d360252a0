#include "services/gateway/request_plan.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/error.h"
#include "services/text/stop_strings.h"

namespace mirrorsd::gateway {
namespace {

constexpr uint64_t kSeedLimit = uint64_t{1} << 53;  // every JSON reader holds a seed below exactly

absl::StatusOr<std::vector<TokenId>> PromptTokens(const wire::GenerateCommand& command,
                                                  const ModelText& model) {
  if (const auto* prompt = std::get_if<std::string>(&command.input)) {
    return model.tokenizer->Encode(*prompt, /*add_special_tokens=*/true, "prompt");
  }
  if (const auto* ids = std::get_if<std::vector<TokenId>>(&command.input)) return *ids;
  const auto& chat = std::get<wire::ChatRequest>(command.input);
  std::vector<text::ChatMessage> messages;
  for (const auto& [role, content] : chat.messages) messages.push_back({role, content});
  return EncodeChat(model, messages, chat.tools_json, chat.add_generation_prompt);
}

absl::Status CheckTokenRange(const std::vector<TokenId>& ids, int32_t vocabulary_size) {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] >= 0 && ids[i] < vocabulary_size) continue;
    return InvalidField(absl::StrCat("token_ids[", i, "]"), absl::StrCat("is ", ids[i]),
                        absl::StrCat("0 to ", vocabulary_size - 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<SamplingParameters> EffectiveSampling(const wire::SamplingOverrides& given,
                                                     const text::GenerationConfig& defaults,
                                                     int32_t vocabulary_size,
                                                     const std::function<uint64_t()>& random) {
  const SamplingParameters neutral;
  SamplingParameters sampling;
  const auto pick = [](const auto& first, const auto& second, auto third) {
    return first.has_value() ? *first : second.value_or(third);
  };
  const std::optional<float> none;
  sampling.temperature = pick(given.temperature, defaults.temperature, neutral.temperature);
  sampling.top_k = pick(given.top_k, defaults.top_k, neutral.top_k);
  sampling.top_p = pick(given.top_p, defaults.top_p, neutral.top_p);
  sampling.min_p = pick(given.min_p, defaults.min_p, neutral.min_p);
  sampling.repetition_penalty =
      pick(given.repetition_penalty, defaults.repetition_penalty, neutral.repetition_penalty);
  sampling.presence_penalty = pick(given.presence_penalty, none, neutral.presence_penalty);
  sampling.frequency_penalty = pick(given.frequency_penalty, none, neutral.frequency_penalty);
  sampling.min_tokens = given.min_tokens.value_or(0);
  sampling.seed = given.seed.has_value() ? *given.seed : random() % kSeedLimit;
  sampling.sample_index = given.sample_index;
  sampling.logit_bias = given.logit_bias;
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (token < vocabulary_size) continue;
    return InvalidField(absl::StrCat("sampling.logit_bias[", token, "]"), "is no token",
                        absl::StrCat("0 to ", vocabulary_size - 1));
  }
  return sampling;
}

// What may be generated: what was asked for, cut to what the context leaves.
absl::StatusOr<int32_t> EffectiveMaxTokens(const wire::GenerateCommand& command,
                                           const ModelText& model, int32_t context_length,
                                           int32_t prompt_length) {
  if (prompt_length >= context_length) {
    return InvalidField("prompt", absl::StrCat("has ", prompt_length, " tokens"),
                        absl::StrCat("1 to ", context_length - 1,
                                     " tokens, so that one fits into the context of ",
                                     context_length));
  }
  const int32_t left = context_length - prompt_length;
  const int32_t wanted = command.max_tokens.value_or(model.generation.max_new_tokens.value_or(left));
  const int32_t max_tokens = std::clamp(wanted, 1, left);
  if (command.sampling.min_tokens.value_or(0) > max_tokens) {
    return InvalidField("sampling.min_tokens",
                        absl::StrCat("is ", *command.sampling.min_tokens,
                                     ", above what the context or the model's default leaves"),
                        absl::StrCat("0 to ", max_tokens));
  }
  return max_tokens;
}

absl::Status CheckCell(const ModelText& model, const CellDescription& cell) {
  if (cell.context_length <= 0 || cell.vocabulary_size <= 0) {
    return Unavailable("NO_VERIFIER", "no verifier has attached yet");
  }
  if (cell.vocabulary_fingerprint != model.tokenizer->VocabularyFingerprint()) {
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     absl::StrCat("the gateway's tokenizer (", model.name,
                                  ") is not the one of the verifier's model (", cell.model_name, ")"),
                     {.reason = "VOCABULARY_MISMATCH", .field = "model"});
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckModelName(const std::string& name, const ModelText& model) {
  if (name.empty() || name == model.name) return absl::OkStatus();
  return MakeError(absl::StatusCode::kNotFound,
                   absl::StrCat("model: '", name, "' is not served here (limit: ", model.name, ")"),
                   {.reason = "UNKNOWN_MODEL", .field = "model", .limit = model.name});
}

absl::StatusOr<RequestPlan> PlanRequest(const wire::GenerateCommand& command,
                                        const ModelText& model, const CellDescription& cell,
                                        const std::function<uint64_t()>& random) {
  if (absl::Status status = CheckModelName(command.model, model); !status.ok()) return status;
  if (absl::Status status = text::ValidateStopStrings(command.stop); !status.ok()) return status;
  if (absl::Status status = CheckCell(model, cell); !status.ok()) return status;

  auto tokens = PromptTokens(command, model);
  if (!tokens.ok()) return tokens.status();
  if (tokens->empty()) return InvalidField("prompt", "has no tokens", "at least 1 token");
  absl::Status in_range = CheckTokenRange(*tokens, cell.vocabulary_size);
  if (!in_range.ok()) return in_range;

  auto max_tokens = EffectiveMaxTokens(command, model, cell.context_length,
                                       static_cast<int32_t>(tokens->size()));
  if (!max_tokens.ok()) return max_tokens.status();
  auto sampling =
      EffectiveSampling(command.sampling, model.generation, cell.vocabulary_size, random);
  if (!sampling.ok()) return sampling.status();

  RequestPlan plan;
  plan.submit.request_id = command.request_id.empty()
                               ? absl::StrFormat("req-%016x", random())
                               : command.request_id;
  plan.submit.vocabulary_fingerprint = model.tokenizer->VocabularyFingerprint();
  plan.submit.token_ids = *std::move(tokens);
  plan.submit.sampling = *std::move(sampling);
  plan.submit.max_tokens = *max_tokens;
  if (!command.ignore_eos) {
    for (const TokenId id : model.generation.end_token_ids) {
      if (id >= 0 && id < cell.vocabulary_size) plan.submit.end_token_ids.push_back(id);
    }
  }
  plan.submit.speculation = command.speculation;
  plan.submit.num_speculative_tokens = command.num_speculative_tokens;
  plan.submit.branch_top_k = command.branch_top_k;
  plan.speculation = command.speculation == SpeculationMode::kDefault ? cell.default_speculation
                                                                      : command.speculation;
  plan.stop = command.stop;
  plan.skip_special_tokens = command.skip_special_tokens;
  return plan;
}

}  // namespace mirrorsd::gateway
