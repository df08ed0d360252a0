#include "workers/engine/model/fingerprint.h"

#include <vector>

#include "absl/base/casts.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/sha256.h"
#include "workers/engine/model/loader/safetensors.h"

namespace mirrorsd::engine {
namespace {

constexpr int64_t kNumRuns = 32;
constexpr int64_t kRunBytes = 128;

}  // namespace

std::string ConfigText(const ModelConfig& config) {
  const BlockConfig& block = config.block;
  const RopeConfig& rope = config.rope;
  const auto number = [](auto value) { return absl::StrCat(static_cast<int64_t>(value)); };
  // Exact for every double, and the same on every machine.
  const auto real = [](double value) {
    return absl::StrCat(absl::Hex(absl::bit_cast<uint64_t>(value), absl::kZeroPad16));
  };
  const std::vector<std::string> fields = {
      "architecture=" + config.architecture,
      "hidden_size=" + number(config.hidden_size),
      "num_layers=" + number(config.num_layers),
      "num_heads=" + number(config.num_heads),
      "num_kv_heads=" + number(config.num_kv_heads),
      "head_dim=" + number(config.head_dim),
      "intermediate_size=" + number(config.intermediate_size),
      "vocabulary_size=" + number(config.vocabulary_size),
      "max_positions=" + number(config.max_positions),
      "position_offset=" + number(config.position_offset),
      "norm_eps=" + real(config.norm_eps),
      "tied_head=" + number(config.tied_head),
      "norm=" + number(block.norm),
      "activation=" + number(block.activation),
      "positions=" + number(block.positions),
      "gated_mlp=" + number(block.gated_mlp),
      "qkv_bias=" + number(block.qkv_bias),
      "output_bias=" + number(block.output_bias),
      "mlp_bias=" + number(block.mlp_bias),
      "qk_norm=" + number(block.qk_norm),
      "sliding_window=" + number(block.sliding_window),
      "rope=" + number(rope.kind),
      "rope_theta=" + real(rope.theta),
      "rope_factor=" + real(rope.factor),
      "rope_low=" + real(rope.low_freq_factor),
      "rope_high=" + real(rope.high_freq_factor),
      "rope_original=" + number(rope.original_max_positions),
      "eos=" + absl::StrJoin(config.eos_token_ids, ","),
  };
  return absl::StrJoin(fields, " ");
}

std::string ModelFingerprint(const OpenedModel& model) {
  Sha256 digest;
  digest.Update("mirrorsd model 1\n");
  digest.Update(ConfigText(model.config));
  for (const BoundTensor& bound : model.tensors) {
    const StoredTensor& tensor = *bound.stored;
    digest.Update(
        absl::StrCat("\n", tensor.name, " ", tensor.type_name, " ", ShapeText(tensor.shape), "\n"));
    const int64_t size = static_cast<int64_t>(tensor.bytes.size());
    if (size <= kNumRuns * kRunBytes) {
      digest.Update(tensor.bytes.data(), tensor.bytes.size());
      continue;
    }
    for (int64_t run = 0; run < kNumRuns; ++run) {
      // The last run ends with the tensor.
      const int64_t begin = (size - kRunBytes) / (kNumRuns - 1) * run +
                            (size - kRunBytes) % (kNumRuns - 1) * run / (kNumRuns - 1);
      digest.Update(tensor.bytes.data() + begin, kRunBytes);
    }
  }
  return digest.FinishHex();
}

}  // namespace mirrorsd::engine
