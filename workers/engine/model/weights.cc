#include "workers/engine/model/weights.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/check.h"

namespace mirrorsd::engine {
namespace {

DType WeightType(StoredType type) {
  switch (type) {
    case StoredType::kF32: return DType::kF32;
    case StoredType::kF16: return DType::kF16;
    case StoredType::kBf16: return DType::kBF16;
    default: break;
  }
  CHECK(false) << "not a weight's type: OpenModel let it through";
  return DType::kF32;
}

HostMatrix View(const StoredTensor& tensor) {
  const bool vector = tensor.shape.size() == 1;
  return HostMatrix::Of(tensor.bytes.data(), WeightType(tensor.type), vector ? 1 : tensor.shape[0],
                        vector ? tensor.shape[0] : tensor.shape[1]);
}

// Loads tensors by role and layer, telling progress and which mapped pages are not needed any more.
class Loader {
 public:
  Loader(Backend* backend, absl::Span<const BoundTensor> tensors, ModelSource* source,
         const std::function<void(const LoadProgress&)>& on_progress)
      : backend_(backend), source_(source), on_progress_(on_progress) {
    for (const BoundTensor& tensor : tensors) {
      std::vector<const StoredTensor*>& of_role = by_role_[static_cast<int>(tensor.spec.role)];
      const size_t index = tensor.spec.layer == kNoLayer ? 0 : tensor.spec.layer;
      if (of_role.size() <= index) of_role.resize(index + 1);
      of_role[index] = tensor.stored;
      progress_.bytes_total += static_cast<int64_t>(tensor.stored->bytes.size());
    }
    progress_.tensors_total = static_cast<int32_t>(tensors.size());
  }

  // Null where the model has no such tensor.
  const StoredTensor* Find(TensorRole role, int32_t layer) const {
    const auto& of_role = by_role_[static_cast<int>(role)];
    return layer < static_cast<int32_t>(of_role.size()) ? of_role[layer] : nullptr;
  }

  // An empty buffer where there is none.
  Buffer Vector(TensorRole role, int32_t layer = 0) { return Vectors({role}, layer); }

  // The biases of a stacked projection: all or none.
  Buffer Vectors(const std::vector<TensorRole>& roles, int32_t layer) {
    std::vector<HostMatrix> views;
    std::vector<const StoredTensor*> tensors;
    for (TensorRole role : roles) {
      const StoredTensor* tensor = Find(role, layer);
      if (tensor == nullptr) continue;
      tensors.push_back(tensor);
      views.push_back(View(*tensor));
    }
    if (views.empty() || !status_.ok()) return {};
    CHECK_EQ(views.size(), roles.size());
    absl::StatusOr<Buffer> buffer = backend_->LoadVector(views);
    if (!buffer.ok()) return Fail(buffer.status()), Buffer{};
    for (const StoredTensor* tensor : tensors) Loaded(*tensor, /*still_read=*/false);
    return *std::move(buffer);
  }

  std::unique_ptr<Weight> Matrix(const std::vector<const StoredTensor*>& tensors) {
    if (!status_.ok()) return nullptr;
    std::vector<HostMatrix> views;
    for (const StoredTensor* tensor : tensors) views.push_back(View(*tensor));
    absl::StatusOr<std::unique_ptr<Weight>> weight = backend_->LoadWeight(views);
    if (!weight.ok()) return Fail(weight.status()), nullptr;
    for (const StoredTensor* tensor : tensors) Loaded(*tensor, (*weight)->refers_to_host());
    return *std::move(weight);
  }

  std::unique_ptr<Weight> Matrix(TensorRole role, int32_t layer = 0) {
    const StoredTensor* tensor = Find(role, layer);
    return tensor == nullptr ? nullptr : Matrix(std::vector{tensor});
  }

  // The matrices of `weights` side by side: one product where their types are equal.
  Projection Stack(const std::vector<TensorRole>& weights, const std::vector<TensorRole>& biases,
                   int32_t layer) {
    Projection projection;
    std::vector<const StoredTensor*> tensors;
    for (TensorRole role : weights) {
      tensors.push_back(Find(role, layer));
      CHECK(tensors.back() != nullptr);
    }
    const bool equal = std::all_of(tensors.begin(), tensors.end(), [&](const StoredTensor* tensor) {
      return tensor->type == tensors[0]->type;
    });
    int64_t begin = 0;
    for (size_t i = 0; i < tensors.size(); ++i) {
      Projection::Part part;
      part.begin = begin;
      const size_t count = equal ? tensors.size() : 1;
      for (size_t j = i; j < i + count; ++j) begin += tensors[j]->shape[0];
      part.end = begin;
      part.weight = Matrix({tensors.begin() + i, tensors.begin() + i + count});
      part.bias = Vectors({biases.begin() + i, biases.begin() + i + count}, layer);
      projection.parts.push_back(std::move(part));
      i += count - 1;
    }
    return projection;
  }

  const absl::Status& status() const { return status_; }
  const LoadProgress& progress() const { return progress_; }

 private:
  void Fail(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }

  void Loaded(const StoredTensor& tensor, bool still_read) {
    if (!still_read) source_->DoneWith(tensor);
    progress_.bytes_done += static_cast<int64_t>(tensor.bytes.size());
    ++progress_.tensors_done;
    if (on_progress_) on_progress_(progress_);
  }

  Backend* backend_;
  ModelSource* source_;
  const std::function<void(const LoadProgress&)>& on_progress_;
  std::array<std::vector<const StoredTensor*>, kNumTensorRoles> by_role_;
  LoadProgress progress_;
  absl::Status status_;
};

LayerWeights LoadLayer(Loader* loader, const BlockConfig& block, int32_t layer) {
  using Role = TensorRole;
  LayerWeights weights;
  weights.attention_norm = loader->Vector(Role::kAttentionNorm, layer);
  weights.attention_norm_bias = loader->Vector(Role::kAttentionNormBias, layer);
  weights.qkv = loader->Stack({Role::kQuery, Role::kKey, Role::kValue},
                              {Role::kQueryBias, Role::kKeyBias, Role::kValueBias}, layer);
  weights.query_norm = loader->Vector(Role::kQueryNorm, layer);
  weights.key_norm = loader->Vector(Role::kKeyNorm, layer);
  weights.output = loader->Stack({Role::kOutput}, {Role::kOutputBias}, layer);
  weights.mlp_norm = loader->Vector(Role::kMlpNorm, layer);
  weights.mlp_norm_bias = loader->Vector(Role::kMlpNormBias, layer);
  weights.inner = block.gated_mlp ? loader->Stack({Role::kGate, Role::kUp},
                                                  {Role::kGateBias, Role::kUpBias}, layer)
                                  : loader->Stack({Role::kUp}, {Role::kUpBias}, layer);
  weights.down = loader->Stack({Role::kDown}, {Role::kDownBias}, layer);
  return weights;
}

}  // namespace

absl::StatusOr<ModelWeights> LoadWeights(
    Backend* backend, OpenedModel* model,
    const std::function<void(const LoadProgress&)>& on_progress) {
  using Role = TensorRole;
  const ModelConfig& config = model->config;
  Loader loader(backend, model->tensors, model->source.get(), on_progress);
  ModelWeights weights;
  weights.token_embedding = loader.Matrix(Role::kTokenEmbedding);
  weights.position_embedding = loader.Matrix(Role::kPositionEmbedding);
  for (int32_t layer = 0; layer < config.num_layers && loader.status().ok(); ++layer) {
    weights.layers.push_back(LoadLayer(&loader, config.block, layer));
  }
  weights.final_norm = loader.Vector(Role::kFinalNorm);
  weights.final_norm_bias = loader.Vector(Role::kFinalNormBias);
  if (!config.tied_head) weights.head = loader.Matrix(Role::kHead);
  if (!loader.status().ok()) return loader.status();
  CHECK_EQ(loader.progress().tensors_done, loader.progress().tensors_total);
  return weights;
}

}  // namespace mirrorsd::engine
