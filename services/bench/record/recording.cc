#include "services/bench/record/recording.h"

#include <algorithm>
#include <set>

namespace mirrorsd::bench {

absl::StatusOr<std::vector<TokenId>> EncodePrompt(const gateway::ModelText& model,
                                                  const Prompt& prompt) {
  if (!prompt.IsChat()) {
    return model.tokenizer->Encode(prompt.text, /*add_special_tokens=*/true, "prompt");
  }
  return gateway::EncodeChat(model, {{"user", prompt.text}}, "", /*add_generation_prompt=*/true);
}

SamplingParameters SamplingOf(const v1::SamplingParams& effective) {
  SamplingParameters sampling{.temperature = effective.temperature(),
                              .top_k = effective.top_k(),
                              .top_p = effective.top_p(),
                              .min_p = effective.min_p(),
                              .repetition_penalty = effective.repetition_penalty(),
                              .presence_penalty = effective.presence_penalty(),
                              .frequency_penalty = effective.frequency_penalty(),
                              .min_tokens = effective.min_tokens(),
                              .seed = effective.seed(),
                              .sample_index = effective.sample_index()};
  sampling.logit_bias.assign(effective.logit_bias().begin(), effective.logit_bias().end());
  std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end());
  return sampling;
}

std::string KindOf(const std::string& category) {
  std::string kind = category.substr(0, 64);
  for (char& c : kind) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    if (!good) c = '_';
  }
  return kind.empty() ? "_" : kind;
}

std::string ScriptText(const std::string& model_name, int32_t vocabulary_size,
                       const std::vector<scripts::ScriptRecord>& records) {
  std::string text = scripts::ScriptHeaderLine(model_name, vocabulary_size);
  std::set<scripts::RequestKey> written;
  for (const scripts::ScriptRecord& record : records) {
    if (!written.insert(scripts::KeyOf(record.prompt_ids, record.sampling)).second) continue;
    text += scripts::ScriptRecordLine(record);
  }
  return text;
}

}  // namespace mirrorsd::bench
