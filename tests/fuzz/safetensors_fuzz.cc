// Any bytes as a safetensors file, and as an index: either an error, or tensors that lie where they say.

#include <cstdint>
#include <string>

#include "common/check.h"
#include "workers/engine/model/loader/safetensors.h"

namespace {

using mirrorsd::engine::StoredTensor;

void CheckFile(absl::Span<const uint8_t> file) {
  const auto tensors = mirrorsd::engine::ParseSafetensors("fuzz.safetensors", file);
  if (!tensors.ok()) return;
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
  if (!shards.ok()) return;
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
