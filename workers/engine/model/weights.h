#pragma once
// A model's weights on a backend. Matrices that read the same input (q, k, v; gate, up) are stacked where
// their types are equal, so that a layer is four products. Not thread-safe.

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/engine/backend/backend.h"
#include "workers/engine/model/loader/model_source.h"
#include "workers/engine/model/opened_model.h"

namespace mirrorsd::engine {

// y = x W^T + b, W's rows perhaps lying in several weights: part i yields columns [begin, end).
struct Projection {
  struct Part {
    std::unique_ptr<Weight> weight;
    Buffer bias;  // empty: none
    int64_t begin = 0;
    int64_t end = 0;
  };
  std::vector<Part> parts;
};

struct LayerWeights {
  Buffer attention_norm, attention_norm_bias;
  Projection qkv;
  Buffer query_norm, key_norm;
  Projection output;
  Buffer mlp_norm, mlp_norm_bias;
  Projection inner;  // gate and up side by side, or up alone
  Projection down;
};

struct ModelWeights {
  std::unique_ptr<Weight> token_embedding;
  std::unique_ptr<Weight> position_embedding;  // null: RoPE
  std::vector<LayerWeights> layers;
  Buffer final_norm, final_norm_bias;
  std::unique_ptr<Weight> head;  // null: the token embedding
};

// `model` must stay as long as a weight refers to its bytes. Errors: RESOURCE_EXHAUSTED of the backend.
absl::StatusOr<ModelWeights> LoadWeights(
    Backend* backend, OpenedModel* model,
    const std::function<void(const LoadProgress&)>& on_progress);

}  // namespace mirrorsd::engine
