#include "workers/engine/model/loader/rope_fields.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"

namespace mirrorsd::engine {
namespace {

constexpr double kMinTheta = 1.0;
constexpr double kMaxTheta = 1e12;
constexpr double kMaxFactor = 1e6;
constexpr int32_t kMaxPositions = 1 << 24;

}  // namespace

RopeConfig ReadRope(ConfigFields* fields, int32_t max_positions) {
  RopeConfig rope;
  rope.theta = fields->NumberOr("rope_theta", 10000.0, kMinTheta, kMaxTheta);
  if (fields->NumberOr("partial_rotary_factor", 1.0, 0.0, 1.0) != 1.0) {
    fields->Fail("partial_rotary_factor", "rotates a part of each head", "1");
  }
  std::optional<ConfigFields> details = fields->Object("rope_parameters");
  if (!details) details = fields->Object("rope_scaling");
  if (!details) return rope;
  rope.theta = details->NumberOr("rope_theta", rope.theta, kMinTheta, kMaxTheta);
  if (details->NumberOr("partial_rotary_factor", 1.0, 0.0, 1.0) != 1.0) {
    details->Fail("partial_rotary_factor", "rotates a part of each head", "1");
  }
  // Older folders say "type".
  const std::string type = details->StringOr("rope_type", details->StringOr("type", "default"));
  if (type == "default") return rope;
  if (type != "linear" && type != "llama3") {
    details->Fail("rope_type", absl::StrCat("is \"", type.substr(0, 60), "\""),
                  "supported: default, linear, llama3");
    return rope;
  }
  rope.kind = type == "linear" ? RopeKind::kLinear : RopeKind::kLlama3;
  rope.factor = details->Number("factor", 1.0, kMaxFactor);
  if (rope.kind == RopeKind::kLinear) return rope;
  rope.low_freq_factor = details->Number("low_freq_factor", 1e-6, kMaxFactor);
  rope.high_freq_factor = details->Number("high_freq_factor", 1e-6, kMaxFactor);
  if (rope.high_freq_factor <= rope.low_freq_factor) {
    details->Fail("high_freq_factor", absl::StrCat("is ", rope.high_freq_factor),
                  absl::StrCat("more than low_freq_factor, ", rope.low_freq_factor));
  }
  rope.original_max_positions =
      details->IntOr("original_max_position_embeddings", max_positions, 1, kMaxPositions);
  return rope;
}

}  // namespace mirrorsd::engine
