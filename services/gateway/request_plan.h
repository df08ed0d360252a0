#pragma once
// What becomes of a public request: tokens, every parameter effective, end tokens and limits, judged against
// the model and the cell. Decides everything before any work; submits nothing. Pure but for the random
// words that it is handed.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/request.h"
#include "services/gateway/model_text.h"
#include "services/wire/cell_description.h"
#include "services/wire/inference_wire.h"

namespace mirrorsd::gateway {

struct RequestPlan {
  SubmitRequest submit;
  SpeculationMode speculation = SpeculationMode::kOff;  // as it takes effect
  std::vector<std::string> stop;
  bool skip_special_tokens = true;
};

// `random` gives uniform 64-bit words, for the seed and the id where the request has none.
// Errors:  InvalidField naming the field and the limit; NOT_FOUND for another model; UNAVAILABLE where no
//          verifier has told its limits yet
absl::StatusOr<RequestPlan> PlanRequest(const wire::GenerateCommand& command,
                                        const ModelText& model, const CellDescription& cell,
                                        const std::function<uint64_t()>& random);

// Errors:  NOT_FOUND unless `name` is empty or the model's
absl::Status CheckModelName(const std::string& name, const ModelText& model);

}  // namespace mirrorsd::gateway
