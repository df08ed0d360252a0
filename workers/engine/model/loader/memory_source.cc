#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/model/loader/model_source.h"
#include "workers/engine/model/loader/safetensors.h"

namespace mirrorsd::engine {
namespace {

class MemorySource : public ModelSource {
 public:
  MemorySource(std::string name, std::string config, std::vector<MemoryTensor> tensors)
      : name_(std::move(name)), config_(std::move(config)), tensors_(std::move(tensors)) {}

  const std::string& name() const override { return name_; }
  std::string config_path() const override { return absl::StrCat(name_, "/config.json"); }
  absl::StatusOr<std::string> ReadConfig() override { return config_; }

  absl::StatusOr<std::vector<StoredTensor>> OpenTensors() override {
    std::vector<StoredTensor> stored;
    for (const MemoryTensor& tensor : tensors_) {
      const StoredTypeInfo& type = GetStoredTypeInfo(tensor.type);
      const int64_t elements = NumElements(tensor.shape);
      if (elements < 0 ||
          elements * type.bytes_per_element != static_cast<int64_t>(tensor.bytes.size())) {
        return BadFile(name_,
                       absl::StrCat("tensor \"", tensor.name, "\" of shape ", ShapeText(tensor.shape),
                                    " and dtype ", type.name, " holds ", tensor.bytes.size(), " bytes"),
                       absl::StrCat(elements * type.bytes_per_element, " bytes"));
      }
      stored.push_back({tensor.name, tensor.type, type.name, tensor.shape, tensor.bytes, name_});
    }
    std::sort(stored.begin(), stored.end(),
              [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
    for (size_t i = 1; i < stored.size(); ++i) {
      if (stored[i].name == stored[i - 1].name) {
        return BadFile(name_, absl::StrCat("tensor \"", stored[i].name, "\" is there twice"), "once");
      }
    }
    return stored;
  }

 private:
  std::string name_;
  std::string config_;
  std::vector<MemoryTensor> tensors_;
};

}  // namespace

std::unique_ptr<ModelSource> MakeMemorySource(std::string name, std::string config_json,
                                              std::vector<MemoryTensor> tensors) {
  return std::make_unique<MemorySource>(std::move(name), std::move(config_json), std::move(tensors));
}

}  // namespace mirrorsd::engine
