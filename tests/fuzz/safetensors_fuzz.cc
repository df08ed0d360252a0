// Any bytes as a safetensors file, and as an index: either an error, or tensors that lie where they say.

#include <cstdint>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/error.h"
#include "workers/engine/model/loader/safetensors.h"

namespace {

using mirrorsd::engine::StoredTensor;

void CheckRefusal(const absl::Status& status, absl::string_view path) {
  const auto info = mirrorsd::GetErrorInfo(status);
  CHECK(info.has_value() && info->reason == "BAD_FILE" && info->field == path) << status;
  CHECK_LT(status.message().size(), size_t{1024});
}

// What was read, written anew and read again, is the same.
void CheckRoundTrip(const std::vector<StoredTensor>& tensors) {
  for (const StoredTensor& tensor : tensors) {
    if (tensor.type == mirrorsd::engine::StoredType::kOther) return;  // read only, never written
  }
  std::string file = mirrorsd::engine::MakeSafetensorsHeader(tensors);
  for (const StoredTensor& tensor : tensors) {
    file.append(reinterpret_cast<const char*>(tensor.bytes.data()), tensor.bytes.size());
  }
  const auto again = mirrorsd::engine::ParseSafetensors(
      "again", {reinterpret_cast<const uint8_t*>(file.data()), file.size()});
  CHECK(again.ok()) << again.status();
  CHECK_EQ(again->size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const StoredTensor& written = (*again)[i];
    CHECK(written.name == tensors[i].name && written.shape == tensors[i].shape);
    CHECK(written.type == tensors[i].type && written.bytes == tensors[i].bytes);
  }
}

void CheckFile(absl::Span<const uint8_t> file) {
  const auto tensors = mirrorsd::engine::ParseSafetensors("fuzz.safetensors", file);
  if (!tensors.ok()) return CheckRefusal(tensors.status(), "fuzz.safetensors");
  CheckRoundTrip(*tensors);
  uint64_t sum = 0;
  const std::string* before = nullptr;
  for (const StoredTensor& tensor : *tensors) {
    CHECK(before == nullptr || *before < tensor.name);
    before = &tensor.name;
    CHECK_GE(mirrorsd::engine::NumElements(tensor.shape), 0);
    for (const uint8_t byte : tensor.bytes) sum += byte;  // all of it can be read
  }
  volatile uint64_t used = sum;
  (void)used;
}

void CheckIndex(absl::string_view text) {
  const auto shards = mirrorsd::engine::ParseSafetensorsIndex("fuzz.index.json", text);
  if (!shards.ok()) return CheckRefusal(shards.status(), "fuzz.index.json");
  for (const auto& [tensor, shard] : *shards) {
    CHECK(!shard.empty() && shard != ".." && shard.find('/') == std::string::npos);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  CheckFile({data, size});
  // The header alone, so that its length need not be guessed.
  if (size > 0 && data[0] == '{') {
    std::string file(8, '\0');
    for (int i = 0; i < 8; ++i) file[i] = static_cast<char>(size >> (8 * i) & 0xff);
    file.append(reinterpret_cast<const char*>(data), size);
    file.resize(file.size() + size % 64);
    CheckFile({reinterpret_cast<const uint8_t*>(file.data()), file.size()});
    CheckIndex({reinterpret_cast<const char*>(data), size});
  }
  return 0;
}
