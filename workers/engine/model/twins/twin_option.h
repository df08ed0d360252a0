#pragma once
// What --load-format says: "twin:SHAPE[,key=value...]". SHAPE is a name of shapes.h, a config.json, or a twin.json
// that make-twin wrote. Reads that one file and nothing else; callable from any thread.

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "workers/engine/model/twins/twin_spec.h"

namespace mirrorsd::engine {

// How many of an exit's best tokens a recall can be of: 1, 2, 4 or 8.
inline constexpr int32_t kMaxRecallTopK = 8;
inline constexpr bool IsRecallTopK(int32_t k) { return k == 1 || k == 2 || k == 4 || k == 8; }

// What a twin should be like, as measured by workers/measure; factors for it are found by calibration.
struct TwinWish {
  double agreement = 0.0;            // of the draft's greedy token with the target's, 0 to 1
  std::optional<double> exit_recall; // share of the target's greedy tokens among the exit's best, 0 to 1
  int32_t recall_top_k = 1;          // how many of the exit's best are looked at

  bool operator==(const TwinWish&) const = default;
};

struct TwinRequest {
  TwinSpec spec;                 // looked at by CheckTwin
  std::optional<TwinWish> wish;  // none: the spec's factors as they are
};

// The spec of a shape with everything else at its default. `shape` as in TwinRequest's text.
// Errors: INVALID_FIELD for a name that is none (lists the names), those of reading the file, of CheckTwin
absl::StatusOr<TwinSpec> TwinOfShape(absl::string_view shape);

// Whether the text means a twin at all.
bool IsTwinOption(absl::string_view text);

// Keys: draft-layers, exit-layer, agreement, exit-recall, recall-top-k, draft-damping, exit-damping, logit-scale,
// seed, dtype.
// Errors: INVALID_FIELD naming key and limit: an unknown key, one twice, a value that is none, factors beside
//         a wish, and a wish that no factors can fulfil
absl::StatusOr<TwinRequest> ParseTwinOption(absl::string_view text);

// The same with factors instead of a wish, as other programs take it: ParseTwinOption gives back `spec`.
// `shape` is SHAPE of the text that `spec` came from.
std::string TwinOptionText(const TwinSpec& spec, absl::string_view shape);

// Whether factors can fulfil it. Errors: INVALID_FIELD that says why not
absl::Status CheckWish(const TwinSpec& spec, const TwinWish& wish);

// SHAPE of a "twin:SHAPE,..." text.
absl::string_view ShapeOfOption(absl::string_view text);

}  // namespace mirrorsd::engine
