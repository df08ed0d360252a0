#include "workers/engine/model/twins/twin_files.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/model/families/families.h"
#include "workers/engine/model/loader/safetensors.h"
#include "workers/engine/model/twins/twin_text.h"
#include "workers/engine/model/twins/twin_weights.h"
#include "workers/engine/tensor/thread_pool.h"

namespace mirrorsd::engine {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kPieceElements = int64_t{1} << 24;
constexpr int64_t kChunkElements = int64_t{1} << 20;
constexpr int64_t kTextBytes = int64_t{16} << 20;  // room for the small files

absl::Status WriteText(const fs::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  return out ? absl::OkStatus() : BadFile(path.string(), "cannot be written");
}

absl::Status WriteWeights(const TwinModel& model, const fs::path& path,
                          const TwinFilesOptions& options) {
  const ModelConfig target = *ReadTwinConfig(model.spec);
  ModelConfig config = target;
  if (model.role == TwinRole::kDraft) config.num_layers = model.spec.draft_layers;
  const StoredTypeInfo& type = GetStoredTypeInfo(model.spec.type);
  const std::vector<TensorSpec> specs = FindFamily(config.architecture)->list_tensors(config);
  std::vector<StoredTensor> tensors;
  for (const TensorSpec& spec : specs) {
    tensors.push_back({spec.name, model.spec.type, type.name, spec.shape, {}, ""});
  }
  const std::string beside = path.string() + ".partial";
  std::ofstream out(beside, std::ios::binary | std::ios::trunc);
  const std::string header = MakeSafetensorsHeader(tensors);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  ThreadPool pool(options.num_threads);
  std::vector<uint8_t> piece;
  LoadProgress progress{.bytes_total = TwinBytes(model), .tensors_total = static_cast<int32_t>(specs.size())};
  for (const TensorSpec& spec : specs) {
    const int64_t elements = NumElements(spec.shape);
    for (int64_t begin = 0; begin < elements && out; begin += kPieceElements) {
      const int64_t size = std::min(kPieceElements, elements - begin);
      piece.resize(static_cast<size_t>(size * type.bytes_per_element));
      pool.ParallelFor(size, kChunkElements, [&](int64_t from, int64_t to, int32_t) {
        FillTwinTensor(model.spec, target, spec, begin + from,
                       absl::MakeSpan(piece).subspan(static_cast<size_t>(from * type.bytes_per_element),
                                                     static_cast<size_t>((to - from) *
                                                                         type.bytes_per_element)));
      });
      out.write(reinterpret_cast<const char*>(piece.data()), static_cast<std::streamsize>(piece.size()));
      progress.bytes_done += static_cast<int64_t>(piece.size());
      if (options.on_progress) options.on_progress(progress);
    }
    ++progress.tensors_done;
  }
  out.close();
  if (!out || std::rename(beside.c_str(), path.c_str()) != 0) {
    std::remove(beside.c_str());
    return BadFile(path.string(), "cannot be written: no permission, or no room");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTwinFolder(const TwinModel& model, const std::string& folder, bool force) {
  std::error_code error;
  if (folder.empty()) return InvalidField("out", "is empty", "a folder");
  if (fs::exists(folder, error) && !fs::is_directory(folder, error)) {
    return InvalidField("out", absl::StrCat(folder, " is there and no folder"), "a folder");
  }
  if (!force && fs::is_directory(folder, error) && !fs::is_empty(folder, error)) {
    return InvalidField("out", absl::StrCat(folder, " is not empty"), "an empty folder, or --force");
  }
  // The nearest parent that is there says how much room there is.
  fs::path place = fs::absolute(folder, error);
  while (!fs::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  const fs::space_info space = fs::space(place, error);
  const int64_t needed = TwinBytes(model) + kTextBytes;
  if (!error && space.available < static_cast<uint64_t>(needed)) {
    return InvalidField("out", absl::StrCat(folder, " needs ", needed >> 20, " MiB, its disk has ",
                                            space.available >> 20, " MiB free"),
                        "enough room");
  }
  return absl::OkStatus();
}

absl::Status WriteTwinFolder(const TwinRecord& record, TwinRole role, const std::string& folder,
                             const TwinFilesOptions& options) {
  if (absl::Status checked = CheckTwin(record.spec); !checked.ok()) return checked;
  const TwinModel model{record.spec, role};
  if (role == TwinRole::kDraft && record.spec.draft_layers == 0) {
    return InvalidField("draft-layers", "is 0: this twin has no draft", "at least 1");
  }
  if (absl::Status checked = CheckTwinFolder(model, folder, options.force); !checked.ok()) return checked;
  std::error_code error;
  fs::create_directories(folder, error);
  const fs::path to(folder);
  for (const auto& [name, text] : TwinTextFiles(record.spec)) {
    const std::string& content = name == "config.json" ? TwinConfigJson(model) : text;
    if (absl::Status written = WriteText(to / name, content); !written.ok()) return written;
  }
  if (absl::Status written = WriteText(to / "twin.json", TwinJson(record)); !written.ok()) return written;
  return WriteWeights(model, to / "model.safetensors", options);
}

}  // namespace mirrorsd::engine
