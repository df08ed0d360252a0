#pragma once
// A model that was looked at but not loaded: its config read, its files mapped, every tensor that its
// family needs found and fitting. What loading, fingerprints and a check of a folder start from. Weights are not
// touched. Not thread-safe.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "workers/engine/model/families/family.h"
#include "workers/engine/model/loader/model_source.h"
#include "workers/engine/model/model_config.h"

namespace mirrorsd::engine {

// A tensor that the family asks for and the stored one that fulfils it.
struct BoundTensor {
  TensorSpec spec;
  const StoredTensor* stored = nullptr;
};

struct OpenedModel {
  std::unique_ptr<ModelSource> source;  // owns the bytes
  ModelConfig config;
  std::vector<StoredTensor> stored;     // by name, also what no one asks for
  std::vector<BoundTensor> tensors;     // points into `stored`; move, never copy
  int64_t stored_bytes = 0;             // of `tensors`
  int64_t num_parameters = 0;
  std::string type_names;               // the distinct ones, sorted: "BF16,F32"
};

// Errors: BAD_FILE, MISSING_FILE naming the file, the tensor and the limit.
absl::StatusOr<OpenedModel> OpenModel(std::unique_ptr<ModelSource> source);

}  // namespace mirrorsd::engine
