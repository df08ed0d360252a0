#include "workers/engine/model/loader/safetensors_writer.h"

#include <cstdio>
#include <fstream>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/error.h"
#include "workers/engine/model/loader/safetensors.h"

namespace mirrorsd::engine {

absl::Status WriteSafetensors(absl::string_view path, absl::Span<const StoredTensor> tensors) {
  std::set<std::string> names;
  for (const StoredTensor& tensor : tensors) {
    const int64_t bytes = NumElements(tensor.shape) * GetStoredTypeInfo(tensor.type).bytes_per_element;
    if (bytes != static_cast<int64_t>(tensor.bytes.size()) || !names.insert(tensor.name).second) {
      return BadFile(path, absl::StrCat("tensor \"", tensor.name, "\" of shape ",
                                        ShapeText(tensor.shape), " has ", tensor.bytes.size(),
                                        " bytes, or is there twice"),
                     absl::StrCat(bytes, " bytes, once"));
    }
  }
  const std::string beside = absl::StrCat(path, ".partial");
  std::ofstream out(beside, std::ios::binary | std::ios::trunc);
  const std::string header = MakeSafetensorsHeader(tensors);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  for (const StoredTensor& tensor : tensors) {
    out.write(reinterpret_cast<const char*>(tensor.bytes.data()),
              static_cast<std::streamsize>(tensor.bytes.size()));
  }
  out.close();
  if (!out || std::rename(beside.c_str(), std::string(path).c_str()) != 0) {
    std::remove(beside.c_str());
    return BadFile(path, "cannot be written: no such folder, no permission, or no room");
  }
  return absl::OkStatus();
}

}  // namespace mirrorsd::engine
