#pragma once
// What an answer becomes in a script: the request's own tokens and effective sampling beside the target's. Pure
// functions.

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "mirrorsd/v1/inference.pb.h"
#include "services/bench/prompt_file.h"
#include "services/gateway/model_text.h"
#include "workers/scripts/draft_script.h"

namespace mirrorsd::bench {

// A prompt as the gateway encodes it.
// Errors:  those of the tokenizer and of the chat template
absl::StatusOr<std::vector<TokenId>> EncodePrompt(const gateway::ModelText& model,
                                                  const Prompt& prompt);

// The parameters as a final message echoes them.
SamplingParameters SamplingOf(const v1::SamplingParams& effective);

// A category as the kind of a script: what a kind may not have becomes '_'.
std::string KindOf(const std::string& category);

// The whole script: requests that are the same (a prompt that is twice in a file) stand once.
std::string ScriptText(const std::string& model_name, int32_t vocabulary_size,
                       const std::vector<scripts::ScriptRecord>& records);

}  // namespace mirrorsd::bench
