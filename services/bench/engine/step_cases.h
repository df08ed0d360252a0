#pragma once
// What `mirrorsd bench engine` measures: kinds of steps of one loaded model, and what each touches and computes at
// least, so that a time becomes a share of what the machine can do. Pure functions.

#include <cstdint>
#include <string>
#include <vector>

#include "workers/engine/engine.h"

namespace mirrorsd::bench {

struct EngineBenchSettings {
  std::vector<int> rows = {1, 2, 4, 8, 16, 32, 64};  // of a verify step; 1 is a decode step
  std::vector<int> contexts = {128, 1024};           // tokens before the step's rows
  std::vector<int> prefill_rows = {256};             // tokens of a prompt's chunk
  int repeats = 9;
  int warm_ups = 1;
  int copied_tokens = 64;  // of the KV copy

  int MaxContext() const;
  int MaxRows() const;  // of any pass
  int MaxLogitsRows() const;
};

enum class StepKind { kVerify, kPrefill, kHead, kKvCopy };

struct StepCase {
  StepKind kind = StepKind::kVerify;
  int rows = 1;  // tokens, of a KV copy
  int context = 0;

  // "decode", "verify 8", "prefill 256", "exit head 1", "copy KV of 64".
  std::string Name() const;
  bool operator==(const StepCase&) const = default;
};

// In the order of the report. A prompt's chunk stands at the first context.
std::vector<StepCase> ListCases(const EngineBenchSettings& settings);

// What a step cannot do without: weights once, the KV that its rows see once, and what they write. Activations
// are not counted.
struct StepCost {
  double weight_bytes = 0;
  double kv_bytes = 0;
  double flops = 0;  // of products and attention

  double Bytes() const { return weight_bytes + kv_bytes; }
};
StepCost CostOf(const StepCase& step, const engine::ModelConfig& config, const engine::EngineInfo& info);

}  // namespace mirrorsd::bench
