#pragma once
// The models and prompts that teacher-forced measurements look at, as the command line names them. Loading blocks; the
// rest is pure.

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "services/config/options.h"
#include "services/gateway/model_text.h"
#include "services/worker/model_worker.h"
#include "workers/engine/model/twins/twin_spec.h"
#include "workers/measure/agreement.h"

namespace mirrorsd::bench {

inline constexpr int32_t kMeasuredBatch = 16;  // streams at a time

struct MeasuredModels {
  worker::LoadedModel target;
  worker::LoadedModel draft;
  gateway::ModelText text;
  std::optional<engine::TwinSpec> twin;
};

// Errors:  those of loading; a usage error for a draft of another vocabulary, for more tokens than the context holds
absl::StatusOr<MeasuredModels> LoadMeasured(const config::Options& options, int32_t max_tokens,
                                            int32_t max_logits_rows = kMeasuredBatch);

// Those of the file; of a twin without a file random tokens.
// Errors:  those of the file and of encoding it
absl::StatusOr<std::vector<measure::MeasuredPrompt>> MeasuredPrompts(const config::Options& options,
                                                                     const MeasuredModels& models);

}  // namespace mirrorsd::bench
