#include "services/bench/engine/step_cases.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace mirrorsd::bench {
namespace {

int Max(const std::vector<int>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

// Elements of one layer's matrices.
double LayerElements(const engine::ModelConfig& config) {
  const double hidden = config.hidden_size;
  const double query = static_cast<double>(config.num_heads) * config.head_dim;
  const double key = static_cast<double>(config.num_kv_heads) * config.head_dim;
  const double products = config.block.gated_mlp ? 3 : 2;
  return hidden * (2 * query + 2 * key) + products * hidden * config.intermediate_size;
}

double EmbeddingElements(const engine::ModelConfig& config) {
  return static_cast<double>(config.vocabulary_size) * config.hidden_size;
}

// As stored, on the average: norms and biases are too few to matter.
double BytesPerElement(const engine::ModelConfig& config, const engine::EngineInfo& info) {
  double elements = config.num_layers * LayerElements(config) +
                    EmbeddingElements(config) * (config.tied_head ? 1 : 2);
  if (config.block.positions != engine::PositionKind::kRope) {
    elements += static_cast<double>(config.max_positions) * config.hidden_size;
  }
  return static_cast<double>(info.weight_bytes) / elements;
}

}  // namespace

int EngineBenchSettings::MaxContext() const { return Max(contexts); }

int EngineBenchSettings::MaxRows() const { return std::max({1, Max(rows), Max(prefill_rows)}); }

int EngineBenchSettings::MaxLogitsRows() const { return std::max(1, Max(rows)); }

std::string StepCase::Name() const {
  switch (kind) {
    case StepKind::kVerify: return rows == 1 ? "decode" : absl::StrCat("verify ", rows);
    case StepKind::kPrefill: return absl::StrCat("prefill ", rows);
    case StepKind::kHead: return absl::StrCat("exit head ", rows);
    case StepKind::kKvCopy: return absl::StrCat("copy KV of ", rows);
  }
  return "";
}

std::vector<StepCase> ListCases(const EngineBenchSettings& settings) {
  std::vector<StepCase> cases;
  for (const int context : settings.contexts) {
    for (const int rows : settings.rows) cases.push_back({StepKind::kVerify, rows, context});
  }
  for (const int rows : settings.prefill_rows) cases.push_back({StepKind::kPrefill, rows, 0});
  for (const int rows : settings.rows) cases.push_back({StepKind::kHead, rows, settings.contexts[0]});
  cases.push_back({StepKind::kKvCopy, settings.copied_tokens, 0});
  return cases;
}

StepCost CostOf(const StepCase& step, const engine::ModelConfig& config, const engine::EngineInfo& info) {
  const double bytes_per_element = BytesPerElement(config, info);
  const double kv_bytes_per_token = static_cast<double>(info.kv_block_bytes) / info.block_tokens;
  const double rows = step.rows;
  StepCost cost;
  if (step.kind == StepKind::kKvCopy) {
    cost.kv_bytes = 2 * rows * kv_bytes_per_token;
    return cost;
  }
  const double logits_rows = step.kind == StepKind::kPrefill ? 1 : rows;
  cost.weight_bytes = EmbeddingElements(config) * bytes_per_element;
  cost.flops = 2 * logits_rows * EmbeddingElements(config);
  if (step.kind == StepKind::kHead) return cost;

  const double layers = config.num_layers;
  cost.weight_bytes += layers * LayerElements(config) * bytes_per_element;
  cost.flops += 2 * rows * layers * LayerElements(config);
  // Rows are written, read again by those behind them, and see themselves.
  cost.kv_bytes = (step.context + 2 * rows) * kv_bytes_per_token;
  const double keys = rows * step.context + rows * (rows + 1) / 2;
  cost.flops += 4 * layers * keys * config.num_heads * config.head_dim;
  return cost;
}

}  // namespace mirrorsd::bench
