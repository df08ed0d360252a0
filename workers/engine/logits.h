#pragma once
// The logits of a whole prompt, final and at an early exit: what `mirrorsd logits` writes and what goldens
// compare. Not a step of serving. Uses the engine's thread rule.

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/engine/engine.h"

namespace mirrorsd::engine {

struct PromptLogits {
  int32_t num_tokens = 0;
  int32_t vocabulary_size = 0;
  std::vector<float> logits;       // [tokens, vocabulary]
  std::vector<float> exit_logits;  // the same, final norm and head applied after layer early_exit_layer
};

// Units: early_exit_layer is a number of layers, 1 to num_layers
// Errors: INVALID_FIELD naming prompt_ids, early_exit_layer or the limit that was met.
absl::StatusOr<PromptLogits> ComputePromptLogits(Engine* engine,
                                                 absl::Span<const TokenId> prompt_ids,
                                                 int32_t early_exit_layer);

// Loads the model and writes a safetensors file with the tensors `logits` and `exit_logits`, both f32
// [tokens, vocabulary].
absl::Status WritePromptLogits(const EngineOptions& options, absl::Span<const TokenId> prompt_ids,
                               int32_t early_exit_layer, absl::string_view out_path);

}  // namespace mirrorsd::engine
