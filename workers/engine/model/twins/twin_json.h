#pragma once
// twin.json, which lies beside a twin's weights or by itself: what makes it again, what was asked for and what was
// measured of it. Pure functions over text.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "workers/engine/model/twins/twin_option.h"
#include "workers/engine/model/twins/twin_spec.h"

namespace mirrorsd::engine {

// Of the target's greedy stream, teacher-forced. Units: shares, 0 to 1
struct TwinMeasured {
  double agreement = 0.0;
  double exit_recall = 0.0;  // at recall_top_k
  double exit_recall_given_reject = 0.0;  // of the target's token among the exit's best but the draft's own
  int32_t recall_top_k = 1;
  int64_t num_tokens = 0;    // that the shares are of
  int64_t num_rejects = 0;
  int64_t num_prompts = 0;
  int64_t num_distinct_tokens = 0;
  double share_of_distinct_runs = 0.0;  // of runs of eight tokens: near 1 where the stream does not go in circles
};

struct TwinRecord {
  TwinSpec spec;
  std::optional<TwinWish> wish;
  std::optional<TwinMeasured> measured;
};

// Whether the text means to be a twin.json rather than a config.json.
bool LooksLikeTwinJson(absl::string_view text);

// Errors: BAD_FILE naming the field and its limit; those of CheckTwin
absl::StatusOr<TwinRecord> ReadTwinJson(absl::string_view path, absl::string_view text);

std::string TwinJson(const TwinRecord& record);

}  // namespace mirrorsd::engine
