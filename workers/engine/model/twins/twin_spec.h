#pragma once
// What makes a twin: a synthetic pair of models for measuring, its weights drawn from the counter noise. The
// target has the shape of a config.json; the draft is the target's first layers under the same norm and head. Layers
// above a cut count for less: the outputs that they add to the residual stream are scaled by a factor, so that
// the draft agrees more often with the target, or the early exit foresees it more often.
//
//   layers   [0, low)   [low, high)         [high, L)            low, high: draft_layers and exit_layer by size
//   factor   1          of the lower cut    of the higher cut    draft_damping, exit_damping
//
// Its text means nothing and every report of it says "synthetic". Plain data and pure functions.

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "workers/engine/model/loader/model_source.h"
#include "workers/engine/model/model_config.h"

namespace mirrorsd::engine {

inline constexpr double kMaxDamping = 64.0;
inline constexpr double kDefaultDamping = 0.25;  // where nobody says or measures another

struct TwinSpec {
  std::string name;             // of the shape, for people: "0.5b"
  std::string config_json;      // of the target; only the fields of its family are looked at
  int32_t draft_layers = 0;     // of the draft; 0: there is none
  int32_t exit_layer = 0;       // layers before the early exit that the factors are meant for
  double draft_damping = 1.0;   // 0 to kMaxDamping
  double exit_damping = 1.0;
  double logit_scale = 4.0;     // standard deviation of the logits, roughly
  uint64_t seed = 1;
  StoredType type = StoredType::kBf16;  // kBf16 or kF32

  bool operator==(const TwinSpec&) const = default;
};

// One of a twin's two models.
enum class TwinRole : uint8_t { kTarget, kDraft };
struct TwinModel {
  TwinSpec spec;
  TwinRole role = TwinRole::kTarget;
};

// Draft depth and exit of a target where nothing else is said: a sixth of the layers, at least two, and half.
int32_t DefaultDraftLayers(int32_t num_layers);
int32_t DefaultExitLayer(int32_t num_layers);

// The config of the target as the engine reads it.
// Errors: BAD_FILE naming the field, and for an architecture that the engine cannot run
absl::StatusOr<ModelConfig> ReadTwinConfig(const TwinSpec& spec);

// Looks at every number of a spec. Errors: INVALID_FIELD, those of ReadTwinConfig, a vocabulary without 256 bytes
absl::Status CheckTwin(const TwinSpec& spec);

// The config.json of one of the two models, without end tokens: a twin never ends by itself.
// `spec` was looked at by CheckTwin.
std::string TwinConfigJson(const TwinModel& model);

// What the outputs of layer `layer` of the target are scaled by.
double LayerDamping(const TwinSpec& spec, int32_t layer);

// Bytes of one of the two models as stored.
int64_t TwinBytes(const TwinModel& model);

// "<twin 0.5b>", "<twin 0.5b draft>"
std::string TwinName(const TwinModel& model);

}  // namespace mirrorsd::engine
