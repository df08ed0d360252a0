#include "workers/engine/model/opened_model.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "common/check.h"
#include "common/error.h"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/loader/safetensors.h"

namespace mirrorsd::engine {
namespace {

bool IsWeightType(StoredType type) {
  return type == StoredType::kF32 || type == StoredType::kF16 || type == StoredType::kBf16;
}

// Finds every tensor of the family's table among `stored`, which is sorted by name. `place` names the model.
absl::StatusOr<std::vector<BoundTensor>> Bind(absl::string_view place, const Family& family,
                                              const ModelConfig& config,
                                              absl::Span<const StoredTensor> stored) {
  std::vector<BoundTensor> bound;
  for (TensorSpec& spec : family.list_tensors(config)) {
    const auto it = std::lower_bound(
        stored.begin(), stored.end(), spec.name,
        [](const StoredTensor& tensor, const std::string& name) { return tensor.name < name; });
    if (it == stored.end() || it->name != spec.name) {
      return BadFile(place, absl::StrCat("lacks the tensor \"", spec.name, "\""),
                     absl::StrCat("shape ", ShapeText(spec.shape)));
    }
    if (it->shape != spec.shape) {
      return BadFile(it->file,
                     absl::StrCat("tensor \"", spec.name, "\" has the shape ", ShapeText(it->shape),
                                  ", the config asks for ", ShapeText(spec.shape)),
                     ShapeText(spec.shape));
    }
    if (!IsWeightType(it->type)) {
      return BadFile(it->file,
                     absl::StrCat("tensor \"", spec.name, "\" has the dtype ", it->type_name),
                     "supported: F32, F16, BF16");
    }
    bound.push_back({std::move(spec), &*it});
  }
  return bound;
}

}  // namespace

absl::StatusOr<OpenedModel> OpenModel(std::unique_ptr<ModelSource> source) {
  absl::StatusOr<std::string> text = source->ReadConfig();
  if (!text.ok()) return text.status();
  absl::StatusOr<ModelConfig> config = ReadModelConfig(source->config_path(), *text);
  if (!config.ok()) return config.status();
  absl::StatusOr<std::vector<StoredTensor>> stored = source->OpenTensors();
  if (!stored.ok()) return stored.status();
  const Family* family = FindFamily(config->architecture);
  CHECK(family != nullptr);
  absl::StatusOr<std::vector<BoundTensor>> bound = Bind(source->name(), *family, *config, *stored);
  if (!bound.ok()) return bound.status();

  OpenedModel model;
  model.source = std::move(source);
  model.config = *std::move(config);
  model.stored = *std::move(stored);
  model.tensors = *std::move(bound);
  std::set<std::string> types;
  for (const BoundTensor& tensor : model.tensors) {
    model.stored_bytes += static_cast<int64_t>(tensor.stored->bytes.size());
    model.num_parameters += NumElements(tensor.stored->shape);
    types.insert(tensor.stored->type_name);
  }
  model.type_names = absl::StrJoin(types, ",");
  return model;
}

}  // namespace mirrorsd::engine
