#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/model/loader/model_source.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/tensor/mapped_file.h"

namespace mirrorsd::engine {
namespace {

constexpr int64_t kMaxConfigBytes = 1 << 20;
constexpr int64_t kMaxWeightFileBytes = int64_t{1} << 42;
constexpr size_t kMaxShards = 4096;

class FolderSource : public ModelSource {
 public:
  explicit FolderSource(std::string folder) : folder_(std::move(folder)) {
    while (folder_.size() > 1 && folder_.back() == '/') folder_.pop_back();
  }

  const std::string& name() const override { return folder_; }
  std::string config_path() const override { return Path("config.json"); }

  absl::StatusOr<std::string> ReadConfig() override {
    return ReadText(config_path(), kMaxConfigBytes);
  }

  absl::StatusOr<std::vector<StoredTensor>> OpenTensors() override {
    files_.clear();
    const std::string single = Path("model.safetensors");
    absl::StatusOr<MappedFile> file = MappedFile::Open(single, kMaxWeightFileBytes);
    if (file.ok()) {
      files_.push_back(*std::move(file));
      return ParseSafetensors(single, files_.back().bytes());
    }
    if (!absl::IsNotFound(file.status())) return file.status();
    const std::string index = Path("model.safetensors.index.json");
    absl::StatusOr<std::string> text = ReadText(index, kMaxSafetensorsHeaderBytes);
    if (absl::IsNotFound(text.status())) {
      return MissingFile(folder_, "holds neither model.safetensors nor model.safetensors.index.json");
    }
    if (!text.ok()) return text.status();
    return OpenShards(index, *text);
  }

  void DoneWith(const StoredTensor& tensor) override {
    for (const MappedFile& file : files_) {
      const int64_t offset = tensor.bytes.data() - file.bytes().data();
      if (tensor.bytes.data() < file.bytes().data() ||
          offset >= static_cast<int64_t>(file.bytes().size())) {
        continue;
      }
      file.DontNeed(offset, static_cast<int64_t>(tensor.bytes.size()));
    }
  }

 private:
  std::string Path(absl::string_view file) const { return absl::StrCat(folder_, "/", file); }

  static absl::StatusOr<std::string> ReadText(const std::string& path, int64_t max_bytes) {
    absl::StatusOr<MappedFile> file = MappedFile::Open(path, max_bytes);
    if (!file.ok()) return file.status();
    return std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size());
  }

  // The index says where each tensor lies; a tensor that it does not name is not read.
  absl::StatusOr<std::vector<StoredTensor>> OpenShards(const std::string& index,
                                                       const std::string& text) {
    auto map = ParseSafetensorsIndex(index, text);
    if (!map.ok()) return map.status();
    std::map<std::string, std::vector<StoredTensor>> shards;
    for (const auto& [tensor, shard] : *map) {
      if (shards.count(shard) != 0) continue;
      if (shards.size() == kMaxShards) {
        return BadFile(index, "names too many files", absl::StrCat(kMaxShards, " files"));
      }
      absl::StatusOr<MappedFile> file = MappedFile::Open(Path(shard), kMaxWeightFileBytes);
      if (absl::IsNotFound(file.status())) {
        return MissingFile(Path(shard), absl::StrCat("named by ", index, ", is not there"));
      }
      if (!file.ok()) return file.status();
      files_.push_back(*std::move(file));
      auto tensors = ParseSafetensors(Path(shard), files_.back().bytes());
      if (!tensors.ok()) return tensors.status();
      shards[shard] = *std::move(tensors);
    }
    std::vector<StoredTensor> found;
    for (const auto& [name, shard] : *map) {
      const std::vector<StoredTensor>& tensors = shards[shard];
      const auto it = std::lower_bound(
          tensors.begin(), tensors.end(), name,
          [](const StoredTensor& tensor, const std::string& wanted) { return tensor.name < wanted; });
      if (it == tensors.end() || it->name != name) {
        return BadFile(Path(shard), absl::StrCat("lacks the tensor \"", name.substr(0, 200),
                                                 "\", which ", index, " places there"));
      }
      found.push_back(*it);
    }
    return found;
  }

  std::string folder_;
  std::vector<MappedFile> files_;
};

}  // namespace

std::unique_ptr<ModelSource> MakeFolderSource(std::string model_dir) {
  return std::make_unique<FolderSource>(std::move(model_dir));
}

}  // namespace mirrorsd::engine
