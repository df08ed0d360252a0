#pragma once
// What a model folder says about how the model is to be sampled: generation_config.json, and where
// it names no end token, config.json. Defaults only: a request overrides each. Plain data and pure
// parsing.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/ids.h"
#include "services/text/model_file.h"

namespace mirrorsd::text {

// An unset value is one that the file does not state (or states as null): the neutral value holds
// then, not the default of transformers' GenerationConfig (top_k 50, for one). vLLM does the same.
struct GenerationConfig {
  std::vector<TokenId> end_token_ids;  // in the file's order, without repeats
  std::optional<TokenId> begin_token_id;
  // 0 if do_sample is false. vLLM does not read do_sample; transformers, whose word it is, takes it
  // to mean greedy, and so do we where a file states it. A file without it keeps its temperature.
  std::optional<float> temperature;
  std::optional<int32_t> top_k;  // 0: off
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  std::optional<int32_t> max_new_tokens;
};

// Reads generation_config.json, which may be absent, and config.json for
// eos_token_id and bos_token_id where the former does not state them.
// Errors:  a broken file or a value outside its range, naming path, key and range
absl::StatusOr<GenerationConfig> LoadGenerationConfig(const ModelFiles& files);

// From the bytes of one of the two files; `name` stands for it in messages.
absl::StatusOr<GenerationConfig> ParseGenerationConfig(std::string_view json,
                                                       const std::string& name);

}  // namespace mirrorsd::text
