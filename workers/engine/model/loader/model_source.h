#pragma once
// Where a model comes from: a folder on disk, or memory (tests, generated models). A source hands out the
// text of config.json and a table of stored tensors; it owns their bytes for as long as it lives. It does
// not judge what a family needs (families/). Not thread-safe.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace mirrorsd::engine {

// Element types that a safetensors file may hold. Weights are f32, f16 or bf16; the rest is read past.
enum class StoredType : uint8_t { kF32, kF16, kBf16, kF64, kI64, kI32, kI16, kI8, kU8, kBool, kOther };

struct StoredTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::string type_name;             // as the file says, e.g. "BF16"
  std::vector<int64_t> shape;
  absl::Span<const uint8_t> bytes;   // may be unaligned
  std::string file;                  // for error messages
};

// Told after each tensor while weights are loaded. Units: bytes as stored.
struct LoadProgress {
  int64_t bytes_done = 0;
  int64_t bytes_total = 0;
  int32_t tensors_done = 0;
  int32_t tensors_total = 0;
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  // For people and error messages: the folder, or a name in angle brackets.
  virtual const std::string& name() const = 0;
  // The file that errors about the config name.
  virtual std::string config_path() const = 0;
  virtual absl::StatusOr<std::string> ReadConfig() = 0;
  // All tensors by increasing name. Spans are good as long as the source lives.
  // Errors: BAD_FILE, MISSING_FILE naming file, tensor and limit.
  virtual absl::StatusOr<std::vector<StoredTensor>> OpenTensors() = 0;
  // Says that a tensor's bytes were copied elsewhere and need not stay in memory.
  virtual void DoneWith(const StoredTensor&) {}
};

// A Hugging Face folder: config.json and model.safetensors, or model.safetensors.index.json with shards.
// Files are mapped, not read. Nothing is opened yet.
std::unique_ptr<ModelSource> MakeFolderSource(std::string model_dir);

// Tensors in memory; shapes and byte counts are checked by OpenTensors().
struct MemoryTensor {
  std::string name;
  StoredType type = StoredType::kF32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};
std::unique_ptr<ModelSource> MakeMemorySource(std::string name, std::string config_json,
                                              std::vector<MemoryTensor> tensors);

}  // namespace mirrorsd::engine
