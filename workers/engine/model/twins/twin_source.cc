#include "workers/engine/model/twins/twin_source.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/model/twins/twin_weights.h"
#include "workers/engine/tensor/aligned_memory.h"
#include "workers/engine/tensor/thread_pool.h"

namespace mirrorsd::engine {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;

class TwinSource : public ModelSource {
 public:
  TwinSource(TwinModel model, TwinSourceOptions options)
      : model_(std::move(model)), options_(std::move(options)), name_(TwinName(model_)) {}

  const std::string& name() const override { return name_; }
  std::string config_path() const override { return absl::StrCat(name_, "/config.json"); }

  absl::StatusOr<std::string> ReadConfig() override {
    if (absl::Status checked = Check(); !checked.ok()) return checked;
    return TwinConfigJson(model_);
  }

  absl::StatusOr<std::vector<StoredTensor>> OpenTensors() override {
    if (absl::Status checked = Check(); !checked.ok()) return checked;
    const int64_t total = TwinBytes(model_);
    const int64_t memory = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGE_SIZE);
    if (total > memory) return TooLarge(total, memory);
    // Spreads follow the target's config; which tensors there are, the model's own.
    const ModelConfig target = *ReadTwinConfig(model_.spec);
    ModelConfig config = target;
    if (model_.role == TwinRole::kDraft) config.num_layers = model_.spec.draft_layers;
    std::vector<TensorSpec> specs = FindFamily(config.architecture)->list_tensors(config);
    std::sort(specs.begin(), specs.end(),
              [](const TensorSpec& a, const TensorSpec& b) { return a.name < b.name; });
    ThreadPool pool(options_.num_threads);
    LoadProgress progress{.bytes_total = total, .tensors_total = static_cast<int32_t>(specs.size())};
    const StoredTypeInfo& type = GetStoredTypeInfo(model_.spec.type);
    std::vector<StoredTensor> stored;
    for (const TensorSpec& spec : specs) {
      const int64_t elements = NumElements(spec.shape);
      const int64_t size = elements * type.bytes_per_element;
      std::shared_ptr<void> bytes = AllocateAligned(size);
      if (bytes == nullptr) return TooLarge(total, memory);
      auto* const out = static_cast<uint8_t*>(bytes.get());
      pool.ParallelFor(elements, kChunkElements, [&](int64_t begin, int64_t end, int32_t) {
        FillTwinTensor(model_.spec, target, spec, begin,
                       {out + begin * type.bytes_per_element,
                        static_cast<size_t>((end - begin) * type.bytes_per_element)});
      });
      stored.push_back({spec.name, model_.spec.type, type.name, spec.shape,
                        {out, static_cast<size_t>(size)}, name_});
      memory_[out] = std::move(bytes);
      progress.bytes_done += size;
      ++progress.tensors_done;
      if (options_.on_progress) options_.on_progress(progress);
    }
    return stored;
  }

  void DoneWith(const StoredTensor& tensor) override { memory_.erase(tensor.bytes.data()); }

 private:
  absl::Status Check() const {
    if (model_.role == TwinRole::kDraft && model_.spec.draft_layers == 0) {
      return InvalidField("draft-layers", "is 0: this twin has no draft", "at least 1");
    }
    return CheckTwin(model_.spec);
  }

  absl::Status TooLarge(int64_t total, int64_t memory) const {
    return MakeError(absl::StatusCode::kResourceExhausted,
                     absl::StrCat(name_, ": its weights take ", total >> 20, " MiB, this machine has ",
                                  memory >> 20, " MiB: a smaller shape, or fewer layers"),
                     {.reason = "MODEL_TOO_LARGE", .field = name_,
                      .limit = absl::StrCat(memory, " bytes"), .retryable = false});
  }

  TwinModel model_;
  TwinSourceOptions options_;
  std::string name_;
  std::map<const uint8_t*, std::shared_ptr<void>> memory_;  // by where it begins
};

}  // namespace

std::unique_ptr<ModelSource> MakeTwinSource(TwinModel model, TwinSourceOptions options) {
  return std::make_unique<TwinSource>(std::move(model), std::move(options));
}

}  // namespace mirrorsd::engine
