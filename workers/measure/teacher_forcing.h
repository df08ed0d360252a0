#pragma once
// Runs a target over prompts, many sequences in one pass, and shows of every position of its own stream three rows of
// logits: at an early exit, of the draft, of the target. The draft is a model of its own that is given the target's
// tokens, or the target's own first layers. The caller says which token each stream goes on with. No sessions, no
// speculation: nothing here can be wrong about what a window would have done. Not thread-safe.

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "common/ids.h"
#include "workers/engine/engine.h"

namespace mirrorsd::measure {

struct ForcedModels {
  engine::Engine* target = nullptr;
  engine::Engine* draft = nullptr;  // null: the first `draft_layers` of the target
  int32_t draft_layers = 0;         // unused with a draft
  int32_t exit_layer = 0;           // 1 to the target's layers
};

// One of the three rows of a position; the span is good during the call and may be written to.
enum class RowOf : uint8_t { kExit, kDraft, kTarget };
struct ForcedRow {
  size_t sequence = 0;  // index of the prompt
  int32_t position = 0; // of the token that the row is about: 0 for the first of the output
  RowOf of = RowOf::kTarget;
  absl::Span<float> logits;
};

// Told of each row; kTarget comes last of a position and returns the token that the stream goes on with, or -1 to end
// it before that token. What it returns for the others is not looked at.
using RowSink = std::function<absl::StatusOr<TokenId>(const ForcedRow& row)>;

// Streams of at most `max_tokens` for every prompt, `batch` of them at a time. Returns the outputs.
// Errors: INVALID_FIELD for an empty prompt, one beyond the context or a token that a model does not know; KV that
//         is too small for the batch; what the sink returns; what an engine failed at
absl::StatusOr<std::vector<std::vector<TokenId>>> ForceStreams(
    const ForcedModels& models, absl::Span<const std::vector<TokenId>> prompts, int32_t max_tokens,
    int32_t batch, const RowSink& sink);

}  // namespace mirrorsd::measure
