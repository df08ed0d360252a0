#pragma once
// Writes one of a twin's models as a Hugging Face folder: config.json, model.safetensors, the text files,
// twin.json. The weights are generated a piece at a time, so that a model larger than memory can be written. Blocks
// on the disk.

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "workers/engine/model/twins/twin_json.h"
#include "workers/engine/model/twins/twin_spec.h"

namespace mirrorsd::engine {

struct TwinFilesOptions {
  bool force = false;       // write into a folder that is not empty, over what is there
  int32_t num_threads = 0;  // 0: the machine's
  std::function<void(const LoadProgress&)> on_progress;
};

// Whether the folder can take the model: it is empty or not there (or `force`), and there is room on its disk.
// Nothing is written. Errors: INVALID_FIELD naming the folder and what is in the way, or the room that is needed
absl::Status CheckTwinFolder(const TwinModel& model, const std::string& folder, bool force);

// The same check, then all files, weights last: to a name beside it and renamed, so that a folder that was not finished
// holds no model.
// Errors: those of CheckTwin and CheckTwinFolder; BAD_FILE naming a file that cannot be written
absl::Status WriteTwinFolder(const TwinRecord& record, TwinRole role, const std::string& folder,
                             const TwinFilesOptions& options);

}  // namespace mirrorsd::engine
